"""Health checks: each is found in records that have the fault, with numbers and a mend, and none in a clean study."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from studies.records import Arm, Texts, alpha_arms, application_arms, write_records

from invitro.studies.health import findings
from invitro.studies.health.predictions import (
    Flatness,
    GroupScore,
    Magnitudes,
    ccc_below_pcc,
    constant_predictions,
    labels_apart,
    negative_in_groups,
)
from invitro.studies.health.runs import Course, Finding, early_stopping, half_scale, replaced_too_much
from invitro.studies.runs import read_runs
from invitro.studies.study import Study
from invitro.studies.summary import summarise

CLEAN = {
    "runs", "number of seeds", "comparison", "labels changed", "spread over seeds", "early stopping", "CCC and PCC",
    "constant predictions", "groups", "label distributions",
}  # fmt: skip


def checked(
    folder: Path, arms: Sequence[Arm] | None = None, baseline: dict[str, str] | None = None, **records: Any
) -> dict[str, Finding]:
    """Write records and return the findings on them by check."""
    arms = application_arms() if arms is None else arms
    write_records(folder, arms, **records)
    factors = tuple(arms[0].overrides)
    wanted = {"application": "none"} if baseline is None else baseline
    study = Study("study", "A study", "What?", factors=factors, baseline=wanted)
    runs = read_runs(folder, factors)
    return {one.check: one for one in findings(study, runs, summarise(study, runs, 300))}


def plain(text: str) -> str:
    """Return a text without the spaces that keep numbers and signs on one line."""
    return text.replace("\N{NO-BREAK SPACE}", " ")


def two(**fault: Any) -> list[Arm]:
    """Return crowd labels alone, and both with a fault."""
    return [Arm({"application": "none"}, skill=0.6), Arm({"application": "both"}, **({"skill": 0.7} | fault))]


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Finding]:
    return checked(tmp_path_factory.mktemp("clean") / "runs", texts=Texts(test=400))


def test_a_clean_study_has_no_warning_and_says_what_was_looked_at(clean: dict[str, Finding]) -> None:
    assert {name: one.what for name, one in clean.items() if one.level != "good"} == {}
    assert set(clean) == CLEAN
    assert all(one.what.endswith(".") and not one.do for one in clean.values())


@pytest.mark.parametrize(
    ("arms", "check", "told", "mend"),
    [
        (two(failed=(42, 7)), "runs", ["1 of 10 jobs failed", "both", "TrainingError", "4 to 5"], "error.txt"),
        (two(seeds=(0, 42, 100)), "runs", ["3 to 5", "the fewest both"], "Run the seeds that are missing"),
        (two(bias=1.5), "CCC and PCC", ["CCC is 0.", "(both, test)", "predictions have mean 5."], "too high by 1."),
        (two(bias=-1.5), "CCC and PCC", ["predictions have mean 2."], "too low by 1."),
        (two(gain=0.2), "CCC and PCC", ["1 configuration"], "fit.loss=ccc"),
        (two(gain=3.0), "CCC and PCC", ["1 configuration"], "lower plm.lr"),
        (two(gain=0.01), "constant predictions", ["1 configuration, both"], "raise plm.lr"),
        (two(gain=0.0), "constant predictions", ["SD is 0.000"], "learned only the mean"),
        (two(seed_sd=0.25), "spread over seeds", ["SD over runs of up to 0.", "(both; its runs ended after 8, 9, 10"],
         "add seeds"),
        ([Arm({"application": "none"}, epochs=(20,)), Arm({"application": "both"}, epochs=(20,))], "early stopping",
         ["20 of at most 20", "never ended a run"], "Raise fit.epochs"),
        (two(reversed_group=("gender", "2")), "groups", ["gender 2 −0.", "texts; both"], "Do not use these models"),
        (two(train_shift=2.5), "label distributions", ["1 configuration", "points (Wasserstein)", "KS D 0."], "biased"),
    ],
)  # fmt: skip
def test_a_fault_is_found(tmp_path: Path, arms: list[Arm], check: str, told: list[str], mend: str) -> None:
    found = checked(tmp_path / "runs", arms, texts=Texts(test=400))
    assert found[check].level == "warning", found[check]
    for part in told:
        assert part in found[check].what
    assert mend in found[check].do
    others = {name for name, one in found.items() if one.level == "warning"} - {check}
    allowed = {"CCC and PCC", "groups", "spread over seeds"}  # constant or shifted models show in these as well
    assert others <= (allowed if check in ("constant predictions", "groups", "label distributions") else set())


def test_a_study_without_factors_is_looked_at_too(tmp_path: Path) -> None:
    arms = [Arm({}, reversed_group=("gender", "2"))]
    found = checked(tmp_path / "runs", arms, baseline={}, texts=Texts(test=400))
    assert found["groups"].level == "warning"
    assert "gender 2" in found["groups"].what
    assert "narrowest predictions have 0." in found["constant predictions"].what


def test_nothing_is_good_that_was_not_looked_at() -> None:
    assert constant_predictions([], 2) is None
    assert negative_in_groups([], "test", 2) is None
    assert labels_apart([], "test", 2) is None
    untouched = pd.DataFrame({"application": ["none"], "replaced_share": [0.0], "val_ccc_mean": [0.5]})
    assert replaced_too_much(untouched, 3.0) is None
    assert ccc_below_pcc([Magnitudes("none", 0.05, 0.04, 4, 1, 4, 1)], "test", 2) is None
    close = ccc_below_pcc([Magnitudes("none", 0.5, 0.45, 4, 1, 4, 1)], "test", 3)
    group = negative_in_groups([GroupScore("none", "gender 1", 40, 0.3, 0.5)], "val", 3)
    flat = constant_predictions([Flatness("none", 0.4)], 3)
    assert close is not None
    assert group is not None
    assert flat is not None
    assert close.what.endswith("Looked at: 1 of 3 configurations, those with PCC above 0.1.")
    assert "CCC on validation is positive in every group" in group.what
    assert group.what.endswith("Only 1 of 3 configurations could be looked at.")
    assert flat.what.endswith("Only 1 of 3 configurations could be looked at.")


def test_folds_are_looked_at_together(tmp_path: Path) -> None:
    """A fold's test is too small for its groups; all folds together are not."""
    write_records(tmp_path / "runs", [Arm({}, reversed_group=("gender", "2"))], seeds=range(4), texts=Texts(test=240))
    for fold, directory in enumerate(sorted((tmp_path / "runs").iterdir())):
        table = pd.read_csv(directory / "predictions.csv", dtype={"text_id": str})
        mine = (table["split"] != "test") | (pd.to_numeric(table["text_id"]) % 4 == fold)
        table[mine].to_csv(directory / "predictions.csv", index=False)
    runs = read_runs(tmp_path / "runs", ())
    study = Study("study", "A study", "What?")
    found = {one.check: one for one in findings(study, runs, summarise(study, runs, 300))}
    assert found["groups"].level == "warning"
    assert "gender 2 −0." in found["groups"].what


@pytest.mark.parametrize(
    ("one", "advice"),
    [
        (Magnitudes("m", 0.5, 0.3, 4, 0.4, 4, 1, exact=False), "fit.loss=ccc, or more epochs"),
        (Magnitudes("m", 0.5, 0.3, 4, 0.4, 4, 1, exact=True), "stretch predictions to the spread"),
        (Magnitudes("m", 0.5, 0.3, 6, 1, 4, 1, by_llm=True), "a biased LLM"),
        (Magnitudes("m", 0.5, 0.3, 6, 1, 4, 1, by_llm=False), "which are all the crowd's"),
    ],
)
def test_advice_fits_the_model_and_its_labels(one: Magnitudes, advice: str) -> None:
    found = ccc_below_pcc([one], "test", 1)
    assert found is not None
    assert advice in found.do
    assert ("epochs" in found.do) == (advice.startswith("fit.loss"))


@pytest.mark.parametrize(
    ("seeds", "level", "told"),
    [
        ((0,), "warning", "One run only"),
        ((0, 1), "warning", "2 runs per configuration"),
        ((0, 1, 2, 3), "note", "4 runs per configuration"),
        ((0, 1, 2, 3, 4), "good", "5 runs per configuration or more"),
    ],
)
def test_few_seeds(tmp_path: Path, seeds: tuple[int, ...], level: str, told: str) -> None:
    found = checked(tmp_path / "runs", two(), seeds=seeds)["number of seeds"]
    assert found.level == level
    assert told in found.what


def test_results_that_fall_below_alpha_3(tmp_path: Path) -> None:
    low = Arm({"application": "correction", "alpha": "0.0"}, skill=0.2)
    arms = [low, *alpha_arms((3.0, 4.0, 4.5, 6.0))]
    found = checked(tmp_path / "runs", arms, baseline={"alpha": "6.0"})["labels changed"]
    assert found.level == "warning"
    assert "Results fall below alpha 3" in found.what
    assert "where 99.5 %" in plain(found.what)  # share replaced at alpha 0
    assert "Keep alpha at 3" in found.do


@pytest.mark.parametrize(
    ("ccc", "level"),
    [([0.2, 0.5, 0.5, 0.4], "warning"), ([0.49, 0.5, 0.5, 0.4], "good"), ([0.6, 0.5, 0.5, 0.4], "good")],
)
def test_the_fall_is_measured_where_something_is_replaced(ccc: list[float], level: str) -> None:
    groups = pd.DataFrame({"alpha": [1.0, 3.0, 4.0, 6.0], "replaced_share": [0.7, 0.2, 0.1, 0.0], "val_ccc_mean": ccc})
    found = replaced_too_much(groups, 3.0)
    assert found is not None
    assert found.level == level
    assert "from there on (10.0 % to 20.0 %)" in plain(found.what)


def test_one_alpha_that_replaces_most_labels_is_noted() -> None:
    groups = pd.DataFrame({"application": ["both"], "replaced_share": [0.8], "val_ccc_mean": [0.5]})
    found = replaced_too_much(groups, 3.0)
    assert found is not None
    assert found.level == "note"
    assert "80.0 %" in plain(found.what)


@pytest.mark.parametrize(
    ("scale", "expected"),
    [
        ({"low": 1, "high": 7, "aggregation": "mean", "items": [1, 2, 3]}, 3),
        ({"low": 0, "high": 3, "aggregation": "sum", "items": [{}] * 7}, 10.5),
        ({}, 3),
    ],
)
def test_half_the_scale(scale: dict[str, Any], expected: float) -> None:
    assert half_scale(scale) == expected


@pytest.mark.parametrize(
    ("courses", "level", "told"),
    [
        ([Course(20, 5, 2, 9, 7), Course(20, 5, 2, 14, 12)], "good", "Early stopping ended 2 of 2"),
        ([Course(20, 5, 2, 20, 15), Course(20, 5, 2, 20, 12)], "warning", "never ended a run"),
        ([Course(3, 0, 2, 3, 3), Course(3, 0, 2, 3, 3)], "warning", "best in the very last epoch"),
        ([Course(20, 5, 2, 8, 6), Course(20, 5, 2, 8, 3)], "note", "stopped as early as possible"),
        ([Course(12, 0, None, 12, 7), Course(12, 0, None, 12, 12)], "good", "Early stopping is off"),
        ([Course(12, 0, None, 12, 12)], "warning", "best in the very last epoch"),
    ],
)
def test_when_runs_stopped(courses: list[Course], level: str, told: str) -> None:
    found = early_stopping(courses)
    assert found is not None
    assert found.level == level
    assert told in found.what
    assert bool(found.do) == (level != "good")


def test_shared_results_are_named(tmp_path: Path) -> None:
    arms = [
        Arm({"application": "correction", "alpha": "inf"}, skill=0.6),
        Arm({"application": "correction", "alpha": "6.0"}, shared_with=0),
    ]
    found = checked(tmp_path / "runs", arms, baseline={"alpha": "inf"})["shared results"]
    assert found.level == "note"
    assert "10 jobs share 5 results" in found.what
    assert "alpha 6" in found.what
    assert "not tested" in found.do


def test_a_baseline_that_is_missing_or_cannot_be_compared(tmp_path: Path) -> None:
    arms = [Arm({"application": "both"}), Arm({"application": "correction"})]
    found = checked(tmp_path / "none", arms)["comparison"]
    assert (found.level, "application=none" in found.what) == ("warning", True)
    arms = [Arm({"application": "none"}, seeds=(0, 1, 2)), Arm({"application": "both"}, seeds=(3, 4, 5))]
    found = checked(tmp_path / "apart", arms)["comparison"]
    assert (found.level, "no seed in common" in found.what) == ("warning", True)


def test_without_any_result_only_jobs_are_looked_at(tmp_path: Path) -> None:
    arms = [Arm({"application": name}, failed=(0, 1)) for name in ("none", "both")]
    found = checked(tmp_path / "runs", arms, seeds=(0, 1))
    assert found["runs"].level == "warning"
    assert "4 of 4 jobs failed" in found["runs"].what
    assert "CCC and PCC" not in found


def test_negative_by_chance_is_a_note(tmp_path: Path) -> None:
    # Eleven texts a race or so in a corpus of 60: some CCC of models that are nearly blind is below 0.
    arms = [Arm({"application": "none"}, skill=0.02), Arm({"application": "both"}, skill=0.02)]
    found = checked(tmp_path / "runs", arms, texts=Texts(test=120))["groups"]
    assert found.level == "note"
    assert "may be chance" in found.what
