"""How studies are put into words: names of factors and configurations, and which row is the baseline or the choice."""

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from invitro.studies.runs import Runs
from invitro.studies.study import Study, canonical, matches
from invitro.studies.summary import Summary
from invitro.writing.words import DASH, is_number, plain

METRIC_NAMES = {"pcc": "PCC", "ccc": "CCC", "rmse": "RMSE"}
METRIC_AXES = METRIC_NAMES | {"rmse": "RMSE (points)"}
SPLIT_NAMES = {
    "val": "validation",
    "test": "test",
    "truth_val": "validation, against the truth",
    "truth_test": "test, against the truth",
}
"""Splits, and the labels that predictions are compared with; the truth is known for simulated corpora only."""
LOWER_IS_BETTER = ("rmse",)
SIGNIFICANT = 0.05
"""A difference is reported as significant if its Holm-corrected p is below this."""
AXES = {"alpha": "alpha (scale points)", "application.portion": "portion of the pool (%)"}
PUBLISHED = ("label", "metric", "median", "peak")
"""Columns of published numbers that are not factors."""


def factor(name: str) -> str:
    """Return a factor's short name: the last part of its key."""
    return name.rsplit(".", 1)[-1].rsplit("/", 1)[-1]


def configuration(values: Mapping[str, Any], factors: Iterable[str], full: bool = False) -> str:
    """Name a configuration by its values: ``both, alpha 4``; a choice needs no name, a number does.

    In sentences (`full`) every value has its name: ``application both, alpha 4``.
    """
    parts = []
    for name in factors:
        value = values.get(name)
        text = plain(value).rsplit("/", 1)[-1] if name in ("experiment", "row") else plain(value)
        if text == DASH:
            continue
        bare = not full and not is_number(value) and text not in ("True", "False", "true", "false")
        parts.append(text if bare else f"{factor(name)} {text}")
    return ", ".join(parts) or "all runs"


def name_as_tested(summary: Summary, row: Mapping[str, Any], factors: Iterable[str], full: bool = False) -> str:
    """Name a configuration as `configuration` does, but without the value of a choice that each fold made."""
    if not summary.by_fold or mark(summary, row) != "chosen":
        return configuration(row, factors, full)
    others = [name for name in factors if name not in (summary.chosen or ())]
    chosen = [f" of {factor(name)}" for name in summary.chosen or () if name != "row"]
    choice = f"each fold's own choice{''.join(chosen)}"
    return ", ".join([choice, *([configuration(row, others, full)] if others else [])])


def llm_name(llm: Mapping[str, Any]) -> str:
    """Name the LLM of a configuration; a mean of several LLMs by all their names.

    Example:
        >>> llm_name({"name": "ensemble", "members": ["llama", "gpt"]})
        'llama + gpt'
    """
    return " + ".join(map(str, llm.get("members") or ())) or str(llm.get("name"))


def corpus_name(data: Mapping[str, Any]) -> str:
    """Name a configuration's corpus; a table by its file, unless it has a name.

    Example:
        >>> corpus_name({"name": "table", "path": "data/essays.csv"}), corpus_name({"name": "newsemp18"})
        ('essays.csv', 'newsemp18')
    """
    path = data.get("path") if data.get("name") == "table" else None
    return Path(str(path)).name if path else str(data.get("name") or "")


def position(value: Any) -> float | None:
    """Return a value's position on an axis; None for text, a missing value and infinity (alpha without correction)."""
    return float(value) if is_number(value) and math.isfinite(float(value)) else None


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return a table's rows as values by column name."""
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]


def mark(summary: Summary, row: Mapping[str, Any]) -> str:
    """Return ``baseline`` or ``chosen`` for these configurations, and an empty string for the others."""
    if matches(row, summary.baseline):
        return "baseline"
    return "chosen" if matches(row, summary.chosen) else ""


def measured(summary: Summary, study: Study, split: str) -> bool:
    """Whether any configuration has results on `split`."""
    names = [f"{split}_{metric}_mean" for metric in study.metrics]
    return any(name in summary.groups and summary.groups[name].notna().any() for name in names)


def repeated(runs: Runs) -> str:
    """Return what the runs of a configuration differ in: ``seeds``, ``folds``, or ``runs`` for anything else."""
    varied = [name for name in runs.replicates if runs.table[name].nunique() > 1]
    names = {"seed": "seeds", "fold": "folds"}
    replicates = varied or [name for name in runs.replicates if factor(name) in names][:1]
    return names.get(factor(replicates[0]), "runs") if len(replicates) == 1 else "runs"


def rows_of(runs: Runs, values: Mapping[str, Any]) -> list[int]:
    """Return the numbers of the jobs of one configuration that have a result."""
    wanted = {name: values[name] for name in runs.factors}
    finished = runs.finished()
    rows: list[Any] = records(finished)
    return [int(index) for index, row in zip(finished.index, rows, strict=True) if matches(row, wanted)]


def leading(study: Study, summary: Summary, most: int = 2) -> list[dict[str, Any]]:
    """Return the configurations that matter most, as rows of ``summary.groups``: at most `most`.

    The baseline comes first, then the chosen one, then the others by mean validation CCC, best first (by the study's
    first metric if CCC is not among its metrics).
    """
    metric = "ccc" if "ccc" in study.metrics else study.metrics[0]
    sign = 1 if metric in LOWER_IS_BETTER else -1
    column = f"val_{metric}_mean"
    rank = {"baseline": 0, "chosen": 1, "": 2}

    def order(row: Mapping[str, Any]) -> tuple[int, float]:
        value = row.get(column, float("nan"))
        return rank[mark(summary, row)], math.inf if pd.isna(value) else sign * float(value)

    rows = sorted((row for row in records(summary.groups) if row.get("seeds", 1)), key=order)
    baselines = sum(mark(summary, row) == "baseline" for row in rows)
    return rows[max(baselines - 1, 0) :][:most]


def published_for(summary: Summary, row: Mapping[str, Any], metric: str) -> dict[str, Any] | None:
    """Return the paper's ``median`` and ``peak`` of a metric for one configuration; None if the paper has none.

    A published row belongs to a configuration that names the same ``experiment``, or else to one that has the values of
    all factors that the row names; a row that names a factor unknown here belongs to none.
    """
    if summary.published is None:
        return None
    for published in records(summary.published):
        if published["metric"] != metric:
            continue
        named = {name: value for name, value in published.items() if name not in PUBLISHED and not pd.isna(value)}
        experiment = named.pop("experiment", None)
        wanted = {"experiment": experiment} if "experiment" in row else named
        if wanted and matches(row, wanted):
            return published
    return None


def reference(summary: Summary, row: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the baseline's row of ``summary.groups`` that a configuration is compared with: the one most like it."""
    baselines: list[Any] = [group for group in records(summary.groups) if matches(group, summary.baseline)]
    return max(
        baselines,
        key=lambda group: sum(name in row and canonical(group[name]) == canonical(row[name]) for name in group),
        default=None,
    )
