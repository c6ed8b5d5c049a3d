"""Figures with a row for each configuration: its difference from the baseline, and its metrics, with intervals."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import altair as alt
import pandas as pd

from invitro.studies.wording import (
    LOWER_IS_BETTER,
    METRIC_NAMES,
    SIGNIFICANT,
    SPLIT_NAMES,
    configuration,
    mark,
    measured,
    name_as_tested,
    published_for,
    records,
    rows_of,
)
from invitro.writing.charts import (
    COLOURS,
    COLUMN,
    INK,
    POINT,
    SOFT,
    Figure,
    Row,
    chart,
    figure,
    layered,
    named_axis,
    padded,
    rule,
    tooltip,
    wrapped,
)

if TYPE_CHECKING:
    from invitro.studies.runs import Runs
    from invitro.studies.study import Study
    from invitro.studies.summary import Summary

_captioned = partial(figure, Path(__file__).with_name("captions.j2"))

LONGEST = 18
"""Letters of a configuration's name on one line."""
ROW_STEP = 15
"""Height of a row, in points."""


def metrics_by_configuration(study: "Study", runs: "Runs", summary: "Summary") -> list[Figure]:
    """Draw metrics by configuration on `Summary.split`, and against the truth; with an axis nothing is drawn."""
    if study.axis is not None and study.axis in summary.groups and summary.groups[study.axis].nunique() > 1:
        return []
    figures = []
    for split in summary.judged:
        if not measured(summary, study, split):
            continue
        rows, seeds = _rows(study, runs, summary, split), _seeds(study, runs, summary, split)
        paper = _paper(study, runs, summary) if split == "test" else []
        there = {row["name"] for row in (*rows, *paper)}
        every = (configuration(group, runs.factors) for group in records(summary.groups))
        names = [name for name in every if name in there]
        drawn = _drawn(study, names, rows, seeds, paper, f"Metrics by configuration on {SPLIT_NAMES[split]}")
        facts = SPLIT_NAMES[split], bool(summary.baseline), bool(paper)
        title = f"Metrics: {SPLIT_NAMES[split]}"
        figures.append(_captioned(f"metrics_{split}", title, "by_configuration", drawn, *facts))
    return figures


VERDICTS = ("better", "worse", "not shown to differ")
"""After Holm's correction."""


def differences_by_configuration(study: "Study", runs: "Runs", summary: "Summary") -> list[Figure]:
    """Draw the differences from the baseline on `Summary.split`, a panel for each metric; better is at the right."""
    found: list[Row] = []
    for row in records(summary.differences):
        if row["split"] == summary.split and not pd.isna(row["p"]):
            better = (row["difference"] > 0) != (row["metric"] in LOWER_IS_BETTER)
            verdict = VERDICTS[2] if row["p_holm"] >= SIGNIFICANT else VERDICTS[0 if better else 1]
            kept = {name: row[name] for name in ("metric", "difference", "low", "high", "p_holm", "texts")}
            name = name_as_tested(summary, row, runs.factors)
            found.append(kept | {"name": name, "series": verdict, "chosen": mark(summary, row) == "chosen"})
    if not found:
        return []
    names = list(dict.fromkeys(row["name"] for row in sorted(found, key=lambda row: not row["chosen"])))
    room, step = _room(names, LONGEST)
    metrics = [metric for metric in study.metrics if any(row["metric"] == metric for row in found)]
    width = (COLUMN - 20 - room - 9 * (len(metrics) - 1)) / len(metrics)
    panels = [
        layered(*_forest([row for row in found if row["metric"] == metric], names, metric, place == 0),
                width=width, height=step * len(names))
        for place, metric in enumerate(metrics)
    ]  # fmt: skip
    drawn = alt.hconcat(*panels, spacing=9).properties(
        description=f"Differences from the baseline on {SPLIT_NAMES[summary.split]}, with 95 % intervals"
    )
    facts = SPLIT_NAMES[summary.split], "rmse" in metrics, bool(summary.chosen)
    return [_captioned("differences", "Differences from the baseline", "forest", drawn, *facts)]


def _forest(rows: Sequence[Row], names: list[str], metric: str, first: bool) -> list[alt.Chart]:
    """Return a panel's line at 0, intervals and differences; for RMSE the axis is reversed, so that better is right."""
    y = alt.Y("name:N", scale=alt.Scale(domain=names), axis=named_axis(names, LONGEST, shown=first))
    domain = padded([0.0, *(row[key] for row in rows for key in ("difference", "low", "high"))])
    scale = alt.Scale(domain=domain, nice=False, zero=False, reverse=metric in LOWER_IS_BETTER)
    title = METRIC_NAMES[metric] + (" (points)" if metric == "rmse" else "")
    form = "datum.value == 0 ? '0' : format(datum.value, '+.2~f')"
    axis = alt.Axis(title=title, tickCount=3, labelExpr=form, labelOverlap=True, labelSeparation=5)
    hint = tooltip(
        ("name:N", "configuration", ""), ("difference:Q", f"{METRIC_NAMES[metric]}, difference", "+.3f"),
        ("low:Q", "95 % from", "+.3f"), ("high:Q", "95 % to", "+.3f"), ("p_holm:Q", "p, Holm", ".3f"),
        ("texts:Q", "texts", "d"),
    )  # fmt: skip
    hue = alt.Color("series:N", scale=alt.Scale(domain=list(VERDICTS), range=[COLOURS[2], COLOURS[1], SOFT]),
                    legend=alt.Legend(title=None, orient="top", direction="horizontal", symbolOpacity=1))  # fmt: skip
    look = alt.Shape(
        "series:N", scale=alt.Scale(domain=list(VERDICTS), range=["triangle-right", "triangle-left", "circle"])
    )
    data = chart(rows)
    return [
        rule(0.0, "x", color=INK, strokeDash=[1, 0]),
        data.mark_rule(strokeWidth=1.6).encode(alt.X("low:Q", scale=scale), alt.X2("high:Q"), y, hue),
        data.mark_point(filled=True, size=POINT + 6, opacity=1).encode(
            alt.X("difference:Q", scale=scale, axis=axis), y, hue, look, tooltip=hint
        ),
    ]


def _room(names: Sequence[str], longest: int) -> tuple[float, int]:
    """Return the width that names need beside a panel, and the height of their rows, in points."""
    lines = [line for name in names for line in wrapped(name, longest)]
    return 6 + 3.5 * max(map(len, lines)), ROW_STEP + 4 * (len(lines) > len(names))


def _rows(study: "Study", runs: "Runs", summary: "Summary", split: str) -> list[Row]:
    """Return one row per configuration and metric."""
    found = []
    for group in records(summary.groups):
        for metric in study.metrics:
            parts = {part: group.get(f"{split}_{metric}_{part}") for part in ("mean", "low", "high")}
            if not pd.isna(parts["mean"]):
                name = configuration(group, runs.factors)
                found.append(
                    parts | {"name": name, "metric": metric, "seeds": group["seeds"], "mark": mark(summary, group)}
                )
    return found


def _seeds(study: "Study", runs: "Runs", summary: "Summary", split: str) -> list[Row]:
    """Return one row per run and metric."""
    found = []
    for group in records(summary.groups):
        for number in rows_of(runs, group):
            row = runs.table.loc[number]
            which = ", ".join(f"{name} {row[name]}" for name in runs.replicates if name in row)
            for metric in study.metrics:
                value = row.get(f"{split}_{metric}")
                if not pd.isna(value):
                    found.append(
                        {"name": configuration(group, runs.factors), "metric": metric, "value": value, "run": which}
                    )
    return found


def _paper(study: "Study", runs: "Runs", summary: "Summary") -> list[Row]:
    """Return the paper's medians for these configurations."""
    found = []
    for group in records(summary.groups):
        for metric in study.metrics:
            number = published_for(summary, group, metric)
            if number is not None:
                found.append({"name": configuration(group, runs.factors), "metric": metric, "value": number["median"]})
    return found


def _drawn(
    study: "Study",
    names: list[str],
    rows: Sequence[Row],
    seeds: Sequence[Row],
    paper: Sequence[Row],
    description: str,
) -> alt.HConcatChart:
    """Draw one panel per metric, with the names beside the first."""
    room, step = _room(names, LONGEST)
    width = (COLUMN - 12 - room - 9 * (len(study.metrics) - 1)) / len(study.metrics)
    panels = []
    for number, metric in enumerate(study.metrics):
        panels.append(
            layered(
                *_layers(
                    [row for row in rows if row["metric"] == metric],
                    [row for row in seeds if row["metric"] == metric],
                    [row for row in paper if row["metric"] == metric],
                    names, METRIC_NAMES[metric], first=number == 0,
                ),
                width=width, height=step * len(names),
            )
        )  # fmt: skip
    return alt.hconcat(*panels, spacing=9).properties(description=description)


def _layers(
    rows: Sequence[Row], seeds: Sequence[Row], paper: Sequence[Row], names: list[str], title: str, first: bool
) -> list[alt.Chart]:
    """Return a panel's reference line, runs, intervals, means and the paper's numbers."""
    y = alt.Y("name:N", scale=alt.Scale(domain=names), axis=named_axis(names, LONGEST, shown=first))
    every = [row[key] for row in rows for key in ("mean", "low", "high")] + [row["value"] for row in (*seeds, *paper)]
    scale = alt.Scale(domain=padded(every), nice=False, zero=False)
    x_axis = alt.Axis(
        title=title + (" (points)" if title == "RMSE" else ""),
        tickCount=3,
        format=".2~f",
        labelOverlap=True,
        labelSeparation=5,
    )
    x = alt.X("mean:Q", scale=scale, axis=x_axis)
    hint = tooltip(
        ("name:N", "configuration", ""), ("mean:Q", f"{title}, mean", ".3f"), ("low:Q", "95 % from", ".3f"),
        ("high:Q", "95 % to", ".3f"), ("seeds:Q", "runs", "d"),
    )  # fmt: skip
    data = chart(rows)
    layers = [rule(row["mean"], "x") for row in rows if row["mark"] == "baseline"][:1]
    single = tooltip(("name:N", "configuration", ""), ("run:N", "run", ""), ("value:Q", title, ".3f"))
    marks = chart(seeds).mark_point(filled=True, size=9, color=SOFT, opacity=0.45, yOffset=4)
    layers.append(marks.encode(alt.X("value:Q", scale=scale), y, tooltip=single))
    lines = data.mark_rule(color=COLOURS[0], strokeWidth=1.4)
    layers.append(lines.encode(alt.X("low:Q", scale=scale), alt.X2("high:Q"), y))
    layers.append(data.mark_point(filled=True, size=POINT, color=COLOURS[0], opacity=1).encode(x, y, tooltip=hint))
    if paper:
        hint = tooltip(("name:N", "configuration", ""), ("value:Q", f"{title}, the paper's median", ".3f"))
        marks = chart(paper).mark_point(shape="diamond", filled=False, size=30, color=INK, strokeWidth=1)
        layers.append(marks.encode(alt.X("value:Q", scale=scale), y, tooltip=hint))
    return layers
