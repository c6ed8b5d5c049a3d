"""What a study found, in plain words: this module decides what may be said, ``sentences.j2`` has the words."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from invitro.studies.study import matches
from invitro.studies.wording import (
    LOWER_IS_BETTER,
    METRIC_NAMES,
    SIGNIFICANT,
    configuration,
    factor,
    leading,
    mark,
    measured,
    records,
    reference,
)
from invitro.templates import paragraphs, said
from invitro.writing.words import missing, number, plain

if TYPE_CHECKING:
    from invitro.studies.runs import Runs
    from invitro.studies.study import Study
    from invitro.studies.summary import Summary

SENTENCES = Path(__file__).with_name("sentences.j2")
Decided = dict[str, Any]


def conclusion(study: "Study", runs: "Runs", summary: "Summary") -> str:
    """Return one paragraph: what ran, what was chosen, how it differs from the baseline, and how certain that is."""
    seeds = [int(row) for row in summary.groups["seeds"] if row] if len(summary.groups) else []
    outcomes, finished = runs.table["outcome"], len(runs.finished())
    failed = int((outcomes == "failed").sum())
    jobs = {
        "jobs": len(outcomes), "finished": finished, "failed": failed, "idle": len(outcomes) - finished - failed,
        "configurations": len(summary.groups), "fewest": min(seeds, default=0), "most": max(seeds, default=0),
    }  # fmt: skip
    splits = [split for split in ("test", "truth_test") if finished and measured(summary, study, split)]
    return said(
        SENTENCES,
        "conclusion",
        jobs,
        choice=_choice(runs, summary),
        comparisons=[one for split in splits if (one := _compared(study, runs, summary, split))],
        best=_best(study, runs, summary) if not summary.baseline and not summary.chosen else None,
        plateaus=_plateaus(study, summary),
        one_run=bool(seeds) and min(seeds) < 2,
    )


def method(study: "Study", runs: "Runs", summary: "Summary") -> list[str]:
    """Return how the numbers were computed, a paragraph each."""
    return paragraphs(
        SENTENCES,
        "method",
        metrics=study.metrics,
        replicates=[factor(name) for name in runs.replicates],
        chosen=bool(summary.chosen),
        margin=summary.plateau[0].margin if summary.plateau else None,
        simulated=measured(summary, study, "truth_test"),
    )


def _choice(runs: "Runs", summary: "Summary") -> Decided | None:
    """Return what was chosen on validation, and the next best; None where nothing was chosen."""
    rows: list[Any] = [row for row in records(summary.groups) if mark(summary, row) != "baseline"]
    rows = [row for row in rows if summary.chosen and not missing(row["val_ccc_mean"])]
    rows.sort(key=lambda row: -row["val_ccc_mean"])
    chosen = next((row for row in rows if matches(row, summary.chosen)), None)
    if chosen is None:
        return None
    other = next((row for row in rows if not matches(row, summary.chosen)), None)
    return {
        "value": " and ".join(f"{factor(key)} = {plain(value)}" for key, value in (summary.chosen or {}).items()),
        "ccc": chosen["val_ccc_mean"],
        "next": configuration(other, runs.factors, full=True) if other else None,
        "next_ccc": other["val_ccc_mean"] if other else None,
    }


def _compared(study: "Study", runs: "Runs", summary: "Summary", split: str) -> Decided | None:
    """Return how the chosen configuration, or every one on the leading metric, differs from the baseline."""
    rows: list[Any] = [row for row in records(summary.differences) if row["split"] == split]
    truth, metric = split != "test", _leading_metric(study)
    chosen = [_comparison(row, runs, summary) for row in rows if mark(summary, row) == "chosen"]
    if chosen:
        chosen.sort(key=lambda one: one["metric"] != METRIC_NAMES[metric])
        return {"truth": truth, "first": chosen[0], "others": [] if truth else chosen[1 : len(study.metrics)]}
    tested = [_comparison(row, runs, summary) for row in rows if row["metric"] == metric and not missing(row["p_holm"])]
    if not tested:
        return None
    by_size = sorted(tested, key=lambda one: -abs(one["difference"]))
    return {
        "truth": truth, "first": None, "metric": METRIC_NAMES[metric], "tested": len(tested),
        "better": [one for one in by_size if one["verdict"] == "better"],
        "worse": [one for one in by_size if one["verdict"] == "worse"],
        "closest": min(tested, key=lambda one: one["p_holm"]),
    }  # fmt: skip


def _comparison(row: Mapping[str, Any], runs: "Runs", summary: "Summary") -> Decided:
    """Return one comparison with its verdict: a difference that may be chance is not reported as one."""
    metric, p = str(row["metric"]), row["p_holm"]
    wanted = {name: row[name] for name in runs.factors if name in row}
    column = f"{row['split']}_{metric}_mean"
    if missing(p):
        verdict = "same" if row["difference"] == 0 else "untestable"
    elif p >= SIGNIFICANT:
        verdict = "uncorrected" if row["p"] < SIGNIFICANT else "none"
    else:
        verdict = "better" if (row["difference"] > 0) != (metric in LOWER_IS_BETTER) else "worse"
    return dict(row) | {
        "metric": METRIC_NAMES[metric],
        "name": configuration(row, runs.factors, full=True),
        "verdict": verdict,
        "own": next((one[column] for one in records(summary.groups) if matches(one, wanted)), None),
        "base": (reference(summary, wanted) or {}).get(column),
        "seeds": int(row["seeds"]),
        "texts": int(row["texts"]),
    }


def _best(study: "Study", runs: "Runs", summary: "Summary") -> Decided | None:
    """Return, where there is no baseline, the configuration that is best on validation, with its result on test."""
    metric = _leading_metric(study)
    row = next(iter(leading(study, summary, 1)), {})
    value, low, high = (row.get(f"test_{metric}_{part}") for part in ("mean", "low", "high"))
    if pd.isna(value):
        return None
    name = configuration(row, runs.factors, full=True)
    alone = len(summary.groups) == 1
    return {"metric": METRIC_NAMES[metric], "name": name, "value": value, "low": low, "high": high, "alone": alone}


def _plateaus(study: "Study", summary: "Summary") -> list[Decided]:
    """Return whether the leading metric still grows from the study's plateau on, by the other factors."""
    percent = str(study.axis).endswith("portion")

    def at(value: float) -> str:
        return f"{number(100 * value, 0)} %" if percent else plain(value)

    return [
        {
            "verdict": one.verdict, "metric": METRIC_NAMES[one.metric], "gain": one.after, "margin": one.margin,
            "where": configuration(one.where, one.where, full=True) if one.where else "",
            "start": at(one.start), "end": at(one.end), "most": one.most,
        }
        for one in summary.plateau or ()
        if one.metric == _leading_metric(study)
    ]  # fmt: skip


def _leading_metric(study: "Study") -> str:
    return "ccc" if "ccc" in study.metrics else study.metrics[0]
