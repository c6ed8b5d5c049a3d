"""The figure of learning curves: mean over runs, with the range between them."""

from typing import TYPE_CHECKING

import altair as alt
import pandas as pd

from invitro.studies.figures.base import (
    WIDTH,
    Figure,
    Row,
    chart,
    colour,
    dash,
    figure,
    layered,
    left_axis,
    shape,
    tooltip,
)
from invitro.studies.wording import configuration, leading, rows_of

if TYPE_CHECKING:
    from invitro.studies.runs import Runs
    from invitro.studies.study import Study
    from invitro.studies.summary import Summary

MOST_CURVES = 3
"""Configurations that are drawn: their bands would cover each other."""
CURVES = {"val_ccc": "validation CCC", "train_loss": "training loss"}


def learning_curves(study: "Study", runs: "Runs", summary: "Summary") -> list[Figure]:
    """Draw validation CCC and training loss by epoch for the leading configurations."""
    rows: list[Row] = []
    for group in leading(study, summary, MOST_CURVES):
        tables = [runs.history(number) for number in rows_of(runs, group)]
        if tables:
            rows += _curves(pd.concat(tables, ignore_index=True), configuration(group, runs.factors))
    if len({row["epoch"] for row in rows}) < 2:
        return []
    series = list(dict.fromkeys(row["series"] for row in rows))
    names = [name for name in CURVES if any(row["curve"] == name for row in rows)]
    panels = [_panel([row for row in rows if row["curve"] == name], name, series, name == names[-1]) for name in names]
    drawn = alt.vconcat(*panels, spacing=7).properties(description="Validation CCC and training loss by epoch")
    facts = len(series), len(summary.groups)
    return [figure("learning_curves", "Learning curves", "learning_curves", drawn, *facts)]


def _curves(history: pd.DataFrame, name: str) -> list[Row]:
    """Return mean, lowest and highest of each curve by epoch, counted from 1."""
    rows = []
    for curve in CURVES:
        if curve not in history or history[curve].isna().all():
            continue
        by_epoch = history.groupby("epoch")[curve].agg(["mean", "min", "max", "count"])
        for epoch, row in by_epoch[by_epoch["count"] > 0].iterrows():
            figures = {"value": row["mean"], "low": row["min"], "high": row["max"], "runs": int(row["count"])}
            rows.append({"epoch": int(str(epoch)) + 1, "curve": curve, "series": name} | figures)
    return rows


def _panel(rows: list[Row], curve: str, series: list[str], last: bool) -> alt.LayerChart:
    """Draw one curve of every configuration."""
    x_axis = alt.Axis(title="epoch" if last else None, labels=last, ticks=last, tickMinStep=1, format="d")
    x = alt.X("epoch:Q", scale=alt.Scale(nice=False, zero=False, padding=7), axis=x_axis)
    y = alt.Y("value:Q", scale=alt.Scale(zero=False), axis=left_axis(CURVES[curve]))
    hint = tooltip(
        ("series:N", "configuration", ""), ("epoch:Q", "epoch", "d"), ("value:Q", CURVES[curve], ".3f"),
        ("low:Q", "lowest", ".3f"), ("high:Q", "highest", ".3f"), ("runs:Q", "runs", "d"),
    )  # fmt: skip
    data = chart(rows)
    return layered(
        data.mark_area(opacity=0.15).encode(x, alt.Y("low:Q"), alt.Y2("high:Q"), colour(series)),
        data.mark_line().encode(x, y, colour(series), dash(series)),
        data.mark_point(filled=True, size=14, opacity=1).encode(x, y, colour(series), shape(series), tooltip=hint),
        width=WIDTH,
        height=72,
    )
