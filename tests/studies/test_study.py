"""A study as a value: what it refuses, and when two values of an override are one."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from invitro.errors import InputError
from invitro.studies import Study
from invitro.studies.study import canonical, matches

CONF = Path(__file__).parents[2] / "conf"
PLAIN: dict[str, Any] = {"name": "x", "title": "X", "question": "What?"}


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"metrics": ["pcc", "mae"]}, "study.metrics: expected a list, each pcc, ccc or rmse, found ['pcc', 'mae']"),
        (
            {"factors": ["alpha"], "baseline": {"application": "none"}},
            "study.baseline: expected one of the factors alpha",
        ),
        ({"factors": ["alpha"], "choose": "plm"}, "study.choose: expected one of the factors alpha, found 'plm'"),
        ({"factors": ["plm"], "axis": "alpha"}, "study.axis: expected one of the factors plm, found 'alpha'"),
        ({"plateau": 0.3}, "study.plateau is a value on study.axis, which is null"),
        ({"sweeper": {"n_trials": 3}}, "study.sweeper: expected the sweeper's name"),
        ({"partial": "yes"}, "study.partial: expected true or false, found 'yes'"),
    ],
)
def test_what_contradicts_itself_is_refused(settings: dict[str, Any], problem: str) -> None:
    with pytest.raises(InputError, match="study") as caught:
        Study(**PLAIN, **settings)
    assert problem in str(caught.value)


def test_all_problems_are_told_together() -> None:
    with pytest.raises(InputError) as caught:
        Study(**PLAIN, metrics=("mae",), costs="no")  # type: ignore[arg-type]
    assert len(caught.value.problems) == 2


def test_it_survives_json() -> None:
    study = Study(**PLAIN, params={"alpha": 4.0}, baseline={"alpha": float("inf")}, factors=["alpha"], axis="alpha")  # type: ignore[dict-item, arg-type]
    assert study.params == {"alpha": "4.0"}
    assert study.baseline == {"alpha": "inf"}
    assert study.factors == ("alpha",)
    assert Study(**asdict(study)) == study


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("4", 4.0, True),
        ("4.0", "4", True),
        ("1e-3", 0.001, True),
        ("inf", float("inf"), True),
        ("'a'", "a", True),
        (4, "4.0", True),
        (True, "true", True),
        (False, "False", True),
        ("TRUE", np.True_, True),
        (None, "null", True),
        (None, float("nan"), True),
        (None, 4, False),
        (True, 1, False),
        (True, "false", False),
        ("3.5", "3.50001", False),
        ("none", None, False),
        ("'4'", "4", False),  # quoted: a text
    ],
)
def test_equal_values_are_one(one: object, other: object, same: bool) -> None:
    assert (canonical(one) == canonical(other)) is same
    assert matches({"x": one, "y": 1}, {"x": other}) is same


def test_a_baseline_matches_by_all_its_values_and_none_matches_nothing() -> None:
    row = {"application": "both", "clean": "false"}
    assert matches(row, {"application": "both", "clean": False})
    assert not matches(row, {"application": "both", "alpha": 4.0})
    assert matches(row, {})
    assert not matches(row, None)


@pytest.mark.parametrize("file", sorted((CONF / "study").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_study_runs_its_baseline(file: Path) -> None:
    config = yaml.safe_load(file.read_text("utf-8"))
    params = {
        key: {canonical(value) for value in str(of).split(",")} for key, of in (config.get("params") or {}).items()
    }
    for key, value in (config.get("baseline") or {}).items():
        assert canonical(value) in params[key]
