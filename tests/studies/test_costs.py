"""Gains beside what they cost: from records with and without costs, shared ones, and what is unknown."""

import json
import math
from pathlib import Path

import pytest
from studies.records import Arm
from studies.reported import reported

from invitro.studies.costs import cost_of, costs_table, encoder_hours

ARMS = [
    Arm({"application": "none", "alpha": "4.0"}, skill=0.5),
    Arm({"application": "correction", "alpha": "4.0"}, skill=0.8),
    Arm({"application": "both", "alpha": "4.0"}, skill=0.8),
]


def with_costs(folder: Path) -> None:
    """Write costs into the records: the baseline's without an LLM, correction's with a bill, both's unknown."""
    of = {
        "none": {"labels": 0, "prompt_tokens": 0, "completion_tokens": 0, "dollars": 0},
        "correction": {"labels": 300, "prompt_tokens": 120_000, "completion_tokens": 6_000, "dollars": 0.5},
        "both": {"labels": 400, "prompt_tokens": None, "completion_tokens": None, "dollars": None},
    }
    for path in folder.rglob("metrics.json"):
        job = json.loads((path.parent / "job.json").read_text())
        metrics = json.loads(path.read_text())
        metrics["train"]["seconds"] = 36.0
        metrics["cost"] = {"processor_seconds": 72.0, "device": "cpu", "llm": of[job["overrides"]["application"]]}
        path.write_text(json.dumps(metrics))


def rows(table) -> dict[str, dict[str, object]]:
    keys = [column.key for column in table.columns]
    return {row[0].text: dict(zip(keys, row, strict=True)) for row in table.rows}


def test_costs_of_a_configuration(tmp_path: Path) -> None:
    made = reported("applications", tmp_path, ARMS)
    with_costs(tmp_path)
    cost = cost_of(made.runs, {"application": "correction"})
    assert (cost.hours, cost.processor_hours, cost.device) == (pytest.approx(0.01), pytest.approx(0.02), "cpu")
    assert (cost.labels, cost.prompt_tokens, cost.completion_tokens, cost.dollars) == (300, 120_000, 6_000, 0.5)
    unknown = cost_of(made.runs, {"application": "both"})
    assert unknown.labels == 400
    assert all(math.isnan(value) for value in (unknown.prompt_tokens, unknown.completion_tokens, unknown.dollars))


def test_gains_are_shown_next_to_costs(tmp_path: Path) -> None:
    made = reported("applications", tmp_path, ARMS)
    with_costs(tmp_path)
    cells_of = rows(costs_table(made.study, made.runs, made.summary))
    differences = made.summary.differences.query("split == 'test' and application == 'correction'").set_index("metric")
    gained, ccc = cells_of["correction"], differences.loc["ccc", "difference"]
    assert ccc > 0.1
    assert gained["ccc"].value == pytest.approx(ccc)
    assert gained["rmse"].value == pytest.approx(-differences.loc["rmse", "difference"])
    low, high = -differences.loc["rmse", "high"], -differences.loc["rmse", "low"]
    assert f"[{low:+.3f}, {high:+.3f}]" in gained["rmse"].text
    assert gained["per_hour"].value == pytest.approx(ccc / 0.01)
    assert gained["per_dollar"].value == pytest.approx(ccc / 0.5)
    baseline = cells_of["none"]
    assert (baseline["ccc"].text, baseline["labels"].value, baseline["dollars"].value) == ("–", 0, 0)
    assert (baseline["ccc"].value, baseline["per_dollar"].text) == (None, "–")
    assert [cells_of["both"][name].text for name in ("labels", "dollars", "per_dollar")] == ["400", "unknown", "–"]


def test_an_increment_is_what_the_next_cheaper_one_does_not_cost_and_gain(tmp_path: Path) -> None:
    made = reported("applications", tmp_path, ARMS)
    with_costs(tmp_path)
    cells_of = rows(costs_table(made.study, made.runs, made.summary))
    assert "more_than" not in cells_of["none"] or cells_of["none"]["more_than"].value is None
    first, second = cells_of["correction"], cells_of["both"]
    assert (first["more_than"].text, second["more_than"].text) == ("none", "correction")
    assert (first["more_labels"].value, first["more_dollars"].value) == (300, 0.5)
    assert (second["more_labels"].value, second["more_dollars"].text) == (100, "unknown")
    assert first["more_hours"].value == pytest.approx(0)
    means = made.summary.groups.set_index("application")["test_ccc_mean"]
    assert first["more_ccc"].value == pytest.approx(means["correction"] - means["none"])
    assert second["more_ccc"].value == pytest.approx(means["both"] - means["correction"])


def test_the_encoder_s_pass_is_counted_once_and_apart(tmp_path: Path) -> None:
    """Whoever ran first computed the features; all runs cost the same without them."""
    made = reported("applications", tmp_path, ARMS)
    with_costs(tmp_path)
    first = tmp_path / "0" / "metrics.json"
    metrics = json.loads(first.read_text())
    metrics["train"]["seconds"] += 180.0
    metrics["cost"] |= {"encoder": {"seconds": 180.0, "processor_seconds": 0.0}}
    first.write_text(json.dumps(metrics))
    assert cost_of(made.runs, {"application": "none"}).hours == pytest.approx(0.01)
    assert encoder_hours(made.runs) == pytest.approx(0.05)
    assert "took 3 min 0 s in all" in costs_table(made.study, made.runs, made.summary).caption


def test_no_gain_an_hour_where_there_may_be_no_gain(tmp_path: Path) -> None:
    made = reported("applications", tmp_path, [ARMS[0], Arm({"application": "both", "alpha": "4.0"}, skill=0.5)])
    with_costs(tmp_path)
    cells = rows(costs_table(made.study, made.runs, made.summary))["both"]
    assert cells["ccc"].value is not None
    assert cells["per_hour"].text == "–"


def test_records_from_before_costs_were_noted_are_unknown(tmp_path: Path) -> None:
    made = reported("applications", tmp_path, ARMS)
    cells = rows(costs_table(made.study, made.runs, made.summary))["correction"]
    assert [cells[name].text for name in ("labels", "dollars", "device", "processor_hours")] == ["unknown"] * 4
    assert cells["hours"].value == pytest.approx(12 * 10 / 3600, rel=0.3)


def test_a_shared_run_costs_what_its_training_cost(tmp_path: Path) -> None:
    shared = [*ARMS[:2], Arm({"application": "both", "alpha": "4.0"}, shared_with=1)]
    made = reported("applications", tmp_path, shared)
    with_costs(tmp_path)
    assert cost_of(made.runs, {"application": "both"}) == cost_of(made.runs, {"application": "correction"})
