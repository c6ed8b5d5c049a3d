"""The verdict: use the labels, do not, or too few texts to tell; what it rests on, and what comes next."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from studies.records import Arm
from studies.reported import Reported, reported

from invitro.errors import command_line
from invitro.studies.report.page import overview_table
from invitro.studies.report.verdict import Judgement, judgement

NAN = float("nan")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Reported:
    arms = [Arm({"application": "none"}, skill=0.5), Arm({"application": "both"}, skill=0.5)]
    return reported("applications", tmp_path_factory.mktemp("verdict") / "runs", arms)


def judged(study: Reported, **gains: tuple[float, float, float, float]) -> Judgement:
    """Judge the study with these differences, intervals and p of `both`, by metric."""
    rows: list[dict[str, Any]] = [
        {"application": "both", "split": "test", "metric": metric, "difference": value, "low": low, "high": high,
         "p": p, "p_holm": p, "effect": 0.1, "seeds": 3, "texts": 240, "authors": 120, "left": NAN, "left_low": NAN,
         "left_high": NAN}
        for metric, (value, low, high, p) in gains.items()
    ]  # fmt: skip
    columns = study.summary.differences.columns
    differences = type(study.summary.differences)(rows)[columns]
    return judgement(study.study, study.runs, type(study.summary)(**vars(study.summary) | {"differences": differences}))


SMALL, WIDE = (0.004, -0.005, 0.013, 0.4), (0.01, -0.03, 0.05, 0.6)
BETTER, WORSE = (0.05, 0.02, 0.08, 0.001), (-0.05, -0.08, -0.02, 0.001)


@pytest.mark.parametrize(
    ("gains", "kind", "told"),
    [
        ({"pcc": BETTER}, "use", ["Use the LLM's labels: both.", "+0.050, 95 % interval [+0.020, +0.080]"]),
        ({"pcc": SMALL}, "not", ["Do not use the LLM's labels like this.", "rule out a gain of 0.02 or more"]),
        ({"pcc": WORSE}, "not", ["Do not use", "Both is worse: PCC −0.050 [−0.080, −0.020]"]),
        ({"pcc": WIDE}, "unclear", ["240 test texts are too few to tell", "takes about 1,000 test texts"]),
        ({"pcc": WIDE, "ccc": WORSE}, "not", ["Both is worse in CCC −0.050"]),
        ({"pcc": SMALL, "ccc": BETTER}, "not", ["predictions are merely more spread out"]),
        ({"pcc": BETTER, "rmse": (0.2, 0.1, 0.3, 0.001)}, "use", ["use it to rank texts, not for scores"]),
    ],
)
def test_it_follows_from_the_tests(study: Reported, gains: dict[str, Any], kind: str, told: Sequence[str]) -> None:
    found = judged(study, **gains)
    text = " ".join([found.headline, *found.reasons])
    assert found.kind == kind
    for part in told:
        assert part in text
    assert found.rests.startswith("240 test texts by 120 authors of simulated, which are simulated")
    assert "The 240 test texts: no model was trained, stopped or chosen on them" in found.held_back
    assert found.steps


def test_the_table_has_the_llm_itself_and_guessing_the_mean(study: Reported) -> None:
    table = overview_table(study.study, study.runs, study.summary)
    assert table is not None
    rows = {row[0].text: [cell.text.split(" ")[0] for cell in row[1:]] for row in table.rows}
    assert list(rows) == ["crowd labels alone", "both", "guessing the mean"]  # test texts have no LLM label here
    assert rows["guessing the mean"][:2] == ["undefined", "0.000"]
    assert "The LLM itself" not in table.caption
    labels = study.runs.predictions(0).query("split == 'test'")["crowd_label"]
    errors = labels - study.runs.labels(0)["crowd_label"].mean()
    assert float(rows["guessing the mean"][2]) == pytest.approx((errors**2).mean() ** 0.5, abs=0.001)


def test_labels_of_the_llm_are_scored_where_records_have_them(tmp_path: Path) -> None:
    import pandas as pd

    found = reported("applications", tmp_path / "runs", [Arm({"application": "none"}), Arm({"application": "both"})])
    for path in (tmp_path / "runs").glob("*/predictions.csv"):
        table = pd.read_csv(path, dtype={"text_id": str, "group_id": str})
        table.assign(llm_label=table["crowd_label"] + 1).to_csv(path, index=False)
    table = overview_table(found.study, found.runs, found.summary)
    assert table is not None
    row = next(row for row in table.rows if row[0].text.startswith("the LLM itself"))
    assert "The LLM itself: its labels as scores" in table.caption
    assert row[1].value == pytest.approx(1.0)
    assert row[3].value == pytest.approx(1.0)


def test_the_next_command_names_the_table_and_its_columns(study: Reported) -> None:
    table = ["data=table", "data.path=my.csv", "data.columns.text=essay", "llm.column=gpt4", "plm=minilm"]
    command = " ".join(["train.py", *table, "plm.train=frozen", "application.pool=set_aside", "data/split=holdout"])
    runs = dataclasses.replace(study.runs, commands=(command,))
    steps = judged(dataclasses.replace(study, runs=runs), pcc=WORSE).steps
    assert steps[-1].command.endswith(" ".join(["sweep.py", "study=worth", *table]))


def test_a_command_is_quoted_as_people_do() -> None:
    words = ["train.py", "group='my runs'", "seed=0"]
    assert command_line(words) == "train.py \"group='my runs'\" seed=0"
    assert command_line([*words, "data.path=C:\\a b.csv"], posix=False) == (
        'train.py "group=\'my runs\'" seed=0 "data.path=C:\\a b.csv"'
    )
