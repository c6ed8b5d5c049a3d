"""Figures with one row per configuration: its difference from the baseline, and its metrics, with intervals."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import altair as alt
import pandas as pd

from invitro.studies.runs import Runs
from invitro.studies.study import Study
from invitro.studies.summary import Summary
from invitro.studies.wording import (
    LOWER_IS_BETTER,
    METRIC_AXES,
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

_captioned = partial(figure, Path(__file__).with_name("captions.j2"))

LONGEST = 18
"""The most letters of a configuration's name on one line."""
ROW_STEP = 15
"""Height of a row, in points."""


def metrics_by_configuration(study: Study, runs: Runs, summary: Summary) -> list[Figure]:
    """Draw metrics by configuration on `Summary.split`, and against the truth; nothing for a study with an axis."""
    if study.axis is not None and study.axis in summary.groups and summary.groups[study.axis].nunique() > 1:
        return []
    figures = []
    for split in summary.judged:
        if not measured(summary, study, split):
            continue
        means, seeds, paper = _points(study, runs, summary, split)
        drawn_names = {row["name"] for row in (*means, *paper)}
        all_names = (configuration(group, runs.factors) for group in records(summary.groups))
        names = [name for name in all_names if name in drawn_names]
        layers = [_layers(means, seeds, paper, names, metric, metric == study.metrics[0]) for metric in study.metrics]
        drawn = _beside(layers, names, 12, f"Metrics by configuration on {SPLIT_NAMES[split]}")
        facts = SPLIT_NAMES[split], bool(summary.baseline), bool(paper)
        title = f"Metrics: {SPLIT_NAMES[split]}"
        figures.append(_captioned(f"metrics_{split}", title, "by_configuration", drawn, *facts))
    return figures


VERDICTS = ("better", "worse", "not shown to differ")
"""After Holm's correction."""


def differences_by_configuration(study: Study, runs: Runs, summary: Summary) -> list[Figure]:
    """Draw the differences from the baseline on `Summary.split`, one panel per metric; better is to the right."""
    rows: list[Row] = []
    for test in records(summary.differences):
        if test["split"] == summary.split and not pd.isna(test["p"]):
            better = (test["difference"] > 0) != (test["metric"] in LOWER_IS_BETTER)
            verdict = VERDICTS[2] if test["p_holm"] >= SIGNIFICANT else VERDICTS[0 if better else 1]
            kept = {column: test[column] for column in ("metric", "difference", "low", "high", "p_holm", "texts")}
            name = name_as_tested(summary, test, runs.factors)
            rows.append(kept | {"name": name, "series": verdict, "chosen": mark(summary, test) == "chosen"})
    if not rows:
        return []
    names = list(dict.fromkeys(row["name"] for row in sorted(rows, key=lambda row: not row["chosen"])))
    metrics = [metric for metric in study.metrics if any(row["metric"] == metric for row in rows)]
    layers = [_forest(rows, names, metric, metric == metrics[0]) for metric in metrics]
    description = f"Differences from the baseline on {SPLIT_NAMES[summary.split]}, with 95 % intervals"
    drawn = _beside(layers, names, 20, description)
    facts = SPLIT_NAMES[summary.split], "rmse" in metrics, bool(summary.chosen)
    return [_captioned("differences", "Differences from the baseline", "forest", drawn, *facts)]


def _forest(rows: Sequence[Row], names: list[str], metric: str, first: bool) -> list[alt.Chart]:
    """Return a metric's line at 0, intervals and differences; RMSE's axis is reversed: better is to the right."""
    rows = [row for row in rows if row["metric"] == metric]
    y = alt.Y("name:N", scale=alt.Scale(domain=names), axis=named_axis(names, LONGEST, shown=first))
    domain = padded([0.0, *(row[key] for row in rows for key in ("difference", "low", "high"))])
    scale = alt.Scale(domain=domain, nice=False, zero=False, reverse=metric in LOWER_IS_BETTER)
    form = "datum.value == 0 ? '0' : format(datum.value, '+.2~f')"
    axis = alt.Axis(title=METRIC_AXES[metric], tickCount=3, labelExpr=form, labelOverlap=True, labelSeparation=5)
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


def _beside(panels: Sequence[list[alt.Chart]], names: list[str], margin: int, description: str) -> alt.HConcatChart:
    """Draw panels, given by their layers, side by side, with the rows' names next to the first."""
    lines = [line for name in names for line in wrapped(name, LONGEST)]
    room, step = 6 + 3.5 * max(map(len, lines)), ROW_STEP + 4 * (len(lines) > len(names))
    width = (COLUMN - margin - room - 9 * (len(panels) - 1)) / len(panels)
    charts = [layered(*layers, width=width, height=step * len(names)) for layers in panels]
    return alt.hconcat(*charts, spacing=9).properties(description=description)


def _points(study: Study, runs: Runs, summary: Summary, split: str) -> tuple[list[Row], list[Row], list[Row]]:
    """Return the means of each configuration and metric, the single runs, and, on test, the paper's medians."""
    means, seeds, paper = [], [], []
    for group in records(summary.groups):
        jobs = [runs.table.loc[job] for job in rows_of(runs, group)]
        for metric in study.metrics:
            key = {"name": configuration(group, runs.factors), "metric": metric}
            parts = {part: group.get(f"{split}_{metric}_{part}") for part in ("mean", "low", "high")}
            if not pd.isna(parts["mean"]):
                means.append(key | parts | {"seeds": group["seeds"], "mark": mark(summary, group)})
            for job in jobs:
                value = job.get(f"{split}_{metric}")
                if not pd.isna(value):
                    run = ", ".join(f"{name} {job[name]}" for name in runs.replicates)
                    seeds.append(key | {"value": value, "run": run})
            published = published_for(summary, group, metric) if split == "test" else None
            if published is not None:
                paper.append(key | {"value": published["median"]})
    return means, seeds, paper


def _layers(
    rows: Sequence[Row], seeds: Sequence[Row], paper: Sequence[Row], names: list[str], metric: str, first: bool
) -> list[alt.Chart]:
    """Return a metric's reference line, runs, intervals, means and the paper's numbers."""
    rows, seeds, paper = ([row for row in part if row["metric"] == metric] for part in (rows, seeds, paper))
    y = alt.Y("name:N", scale=alt.Scale(domain=names), axis=named_axis(names, LONGEST, shown=first))
    values = [row[key] for row in rows for key in ("mean", "low", "high")] + [row["value"] for row in (*seeds, *paper)]
    scale = alt.Scale(domain=padded(values), nice=False, zero=False)
    x_axis = alt.Axis(
        title=METRIC_AXES[metric],
        tickCount=3,
        format=".2~f",
        labelOverlap=True,
        labelSeparation=5,
    )
    x, title = alt.X("mean:Q", scale=scale, axis=x_axis), METRIC_NAMES[metric]
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
