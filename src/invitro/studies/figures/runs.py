"""What is drawn of runs: learning curves, with the range between runs; and residuals by group of people, which show
whom a model scores too high or too low.
"""

from typing import TYPE_CHECKING, Any

import altair as alt
import numpy as np
import pandas as pd

from invitro.data.corpus import LEAST_IN_GROUP, banded
from invitro.stats.moments import measured
from invitro.studies.figures.base import (
    LEFT,
    POINT,
    WIDTH,
    Figure,
    Row,
    chart,
    colour,
    dash,
    figure,
    layered,
    left_axis,
    named_axis,
    padded,
    rule,
    shape,
    thinned,
    tooltip,
    wrapped,
)
from invitro.studies.groups import known_attributes
from invitro.studies.wording import METRIC_NAMES, SPLIT_NAMES, configuration, leading, mark, records, rows_of
from invitro.writing.charts import COLOURS, COLUMN, SOFT
from invitro.writing.words import number

if TYPE_CHECKING:
    from invitro.studies.runs import Runs
    from invitro.studies.study import Study
    from invitro.studies.summary import Summary


MOST_CURVES = 3
"""Configurations that are drawn: their bands would cover each other."""
CURVES = {"val_ccc": "validation CCC", "train_loss": "training loss"}
"""Columns of ``history.csv``; losses of different kinds have panels of their own."""


def learning_curves(study: "Study", runs: "Runs", summary: "Summary") -> list[Figure]:
    """Draw validation CCC and training loss by epoch for the leading configurations."""
    rows: list[Row] = []
    for group in leading(study, summary, MOST_CURVES):
        numbers = rows_of(runs, group)
        if numbers:
            loss = (runs.config(numbers[0]).get("fit") or {}).get("loss", "")
            history = pd.concat([runs.history(number) for number in numbers], ignore_index=True)
            rows += _curves(history, configuration(group, runs.factors), loss)
    if len({row["epoch"] for row in rows}) < 2:
        return []
    series = list(dict.fromkeys(row["series"] for row in rows))
    titles = dict.fromkeys(row["curve"] for row in rows)
    names = sorted(titles, key=lambda title: not title.startswith(CURVES["val_ccc"]))
    panels = [_curve([row for row in rows if row["curve"] == name], name, series, name == names[-1]) for name in names]
    drawn = alt.vconcat(*panels, spacing=7).properties(description="Validation CCC and training loss by epoch")
    facts = len(series), len(summary.groups)
    return [figure("learning_curves", "Learning curves", "learning_curves", drawn, *facts)]


def _curves(history: pd.DataFrame, name: str, loss: str) -> list[Row]:
    """Return mean, lowest and highest of each curve by epoch, counted from 1."""
    rows = []
    for curve, title in CURVES.items():
        kind = f" ({loss})" if loss and curve == "train_loss" else ""
        if curve not in history or history[curve].isna().all():
            continue
        by_epoch = history.groupby("epoch")[curve].agg(["mean", "min", "max", "count"])
        for epoch, row in by_epoch[by_epoch["count"] > 0].iterrows():
            figures = {"value": row["mean"], "low": row["min"], "high": row["max"], "runs": int(row["count"])}
            rows.append({"epoch": int(str(epoch)) + 1, "curve": title + kind, "series": name} | figures)
    return rows


def _curve(rows: list[Row], curve: str, series: list[str], last: bool) -> alt.LayerChart:
    """Draw one curve of every configuration."""
    x_axis = alt.Axis(title="epoch" if last else None, labels=last, ticks=last, tickMinStep=1, format="d")
    x = alt.X("epoch:Q", scale=alt.Scale(nice=False, zero=False, padding=7), axis=x_axis)
    y = alt.Y("value:Q", scale=alt.Scale(zero=False), axis=left_axis(curve))
    hint = tooltip(
        ("series:N", "configuration", ""), ("epoch:Q", "epoch", "d"), ("value:Q", curve, ".3f"),
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


MOST_TEXTS = 500
"""Texts that are drawn in a panel."""


def mean_predictions(runs: "Runs", rows: list[int], split: str = "test") -> pd.DataFrame:
    """Return one row per text with a crowd label: the columns of ``predictions.csv``, predictions are means over runs.

    Args:
        runs: of the study.
        rows: the runs of one configuration; of folds, each predicts its own texts.
        split: ``val`` or ``test``.
    """
    table = pd.concat([runs.predictions(row) for row in rows], ignore_index=True)
    table = table.loc[(table["split"] == split) & table["crowd_label"].notna()]
    means = table.groupby("text_id", sort=False)["prediction"].agg(["mean", "size"])
    first = table.drop_duplicates("text_id").set_index("text_id").drop(columns="prediction")
    return first.assign(prediction=means["mean"], runs=means["size"]).reset_index()


def predicted_against_labelled(study: "Study", runs: "Runs", summary: "Summary") -> list[Figure]:
    """Draw mean predictions against crowd labels for the two leading configurations, on `Summary.split`."""
    drawn, split = [], SPLIT_NAMES[summary.split]
    for group in leading(study, summary):
        rows = rows_of(runs, group)
        table = mean_predictions(runs, rows, summary.split) if rows else pd.DataFrame()
        if len(table):
            drawn.append((group, table))
    if not drawn:
        return []
    values = pd.concat([table[name] for _, table in drawn for name in ("crowd_label", "prediction")])
    low, high = padded([float(values.min()), float(values.max())], 0.03, 0.1)
    panels = [_panel(runs, summary, group, table, (low, high), place) for place, (group, table) in enumerate(drawn)]
    chart_ = alt.hconcat(*panels, spacing=10).properties(
        description=f"Scatter plots of predicted scores against crowd labels on {split}, with the line of identity"
    )
    texts = max(len(table) for _, table in drawn)
    facts = split, texts, MOST_TEXTS
    return [figure("predicted_against_labelled", "Predicted against labelled", "predicted", chart_, *facts)]


def _panel(
    runs: "Runs", summary: "Summary", group: dict[str, Any], table: pd.DataFrame, ends: tuple[float, float], place: int
) -> alt.LayerChart:
    """Draw one configuration's texts."""
    scores = measured(table["prediction"], table["crowd_label"])
    metrics = ", ".join(f"{METRIC_NAMES[name]} {number(scores[name], 2)}" for name in ("ccc", "rmse"))
    subtitle = f"{mark(summary, group)}: {metrics}" if mark(summary, group) else metrics
    size = (COLUMN - 10 - 2 * 24 - 12) / 2
    scale = alt.Scale(domain=list(ends), nice=False, zero=False)
    rows = thinned(table, MOST_TEXTS, "crowd_label")
    truth = [("truth:Q", "truth", ".2f")] if "truth" in rows else []
    kept = ["text_id", "crowd_label", "prediction", "runs", *(["truth"] if truth else [])]
    lines = tooltip(
        ("text_id:N", "text", ""), ("crowd_label:Q", "crowd label", ".2f"), ("prediction:Q", "predicted", ".2f"),
        *truth, ("runs:Q", "runs", "d"),
    )  # fmt: skip
    x = alt.X("crowd_label:Q", scale=scale, axis=alt.Axis(title="crowd label (points)", tickCount=6))
    title = "predicted (points)" if place == 0 else None
    y = alt.Y(
        "prediction:Q", scale=scale,
        axis=alt.Axis(title=title, tickCount=6, minExtent=LEFT - 20, maxExtent=LEFT - 20),
    )  # fmt: skip
    line = chart([{"at": ends[0]}, {"at": ends[1]}]).mark_line(color=SOFT, strokeDash=[3, 2], strokeWidth=0.8)
    look: Any = {"size": 9, "strokeWidth": 0.6, "opacity": 1, "color": COLOURS[1 if place else 0]}
    dots = chart(records(rows[kept])).mark_point(filled=False, **look)
    name = wrapped(configuration(group, runs.factors), 28)
    return layered(
        line.encode(alt.X("at:Q", scale=scale), alt.Y("at:Q", scale=scale)),
        dots.encode(x, y, tooltip=lines),
        width=size,
        height=size,
        title=alt.TitleParams(name, subtitle=subtitle),
    )


LONGEST_GROUP, GROUP_STEP = 25, 13
"""Letters of a group's name on one line, and the height of a row, in points."""


def residuals_by_group(study: "Study", runs: "Runs", summary: "Summary") -> list[Figure]:
    """Draw the mean residual by demographic group for the two leading configurations, on `Summary.split`."""
    rows: list[Row] = []
    series: list[str] = []
    small: set[str] = set()
    for group in leading(study, summary):
        numbers = rows_of(runs, group)
        table = mean_predictions(runs, numbers, summary.split) if numbers else pd.DataFrame()
        if table.empty:
            continue
        series.append(configuration(group, runs.factors))
        for attribute in known_attributes(table):
            for name, part in table.groupby(banded(table[attribute], attribute), observed=True, sort=True):
                if len(part) < LEAST_IN_GROUP:
                    small.add(f"{attribute} {name}")
                    continue
                mean, low, high = mean_with_interval(part["prediction"] - part["crowd_label"], part.get("group_id"))
                own = {"attribute": attribute, "group": f"{attribute} {name} ({len(part)})", "n": len(part)}
                rows.append(own | {"series": series[-1], "value": mean, "low": low, "high": high})
    if not rows:
        return []
    facts = SPLIT_NAMES[summary.split], LEAST_IN_GROUP, len(small)
    return [figure("residuals_by_group", "Residuals by group", "residuals", _drawn(rows, series), *facts)]


def mean_with_interval(values: "pd.Series[float]", groups: "pd.Series[Any] | None") -> tuple[float, float, float]:
    """Return a mean and its 95 % interval, texts of one author counted whole; NaN bounds for fewer than two authors.

    The standard error is robust to clusters: ``sqrt(G / (G - 1) * sum_g (sum_{i in g} (x_i - mean))^2) / n``, and the
    interval is Student's with G - 1 degrees of freedom, for G authors.
    """
    from scipy import stats

    array = values.to_numpy(dtype="float64")
    mean = float(array.mean())
    codes = np.asarray(range(len(array)) if groups is None else pd.factorize(groups)[0])
    sums = np.asarray(np.bincount(codes, weights=array - mean))
    if len(sums) < 2:
        return mean, float("nan"), float("nan")
    error = float(np.sqrt(len(sums) / (len(sums) - 1) * (sums**2).sum())) / len(array)
    half = float(stats.t.ppf(0.975, len(sums) - 1) * error)
    return mean, mean - half, mean + half


def _drawn(rows: list[Row], series: list[str]) -> alt.VConcatChart:
    """Draw one panel per attribute, all on one scale of residuals."""
    domain = padded([0.0, *(row[key] for row in rows for key in ("value", "low", "high"))])
    attributes = list(dict.fromkeys(row["attribute"] for row in rows))
    written = [wrapped(row["group"], LONGEST_GROUP) for row in rows]
    room = 8 + 3.5 * max(len(line) for lines in written for line in lines)
    step = GROUP_STEP + 4 * any(len(lines) > 1 for lines in written)
    panels = []
    for attribute in attributes:
        part = [row for row in rows if row["attribute"] == attribute]
        names = list(dict.fromkeys(row["group"] for row in part))
        last = attribute == attributes[-1]
        x_axis = alt.Axis(
            title="mean residual (points)" if last else None, labels=last, ticks=last, domain=last, tickCount=6,
            labelSeparation=4,
        )  # fmt: skip
        x = alt.X("value:Q", scale=alt.Scale(domain=domain, nice=False, zero=False), axis=x_axis)
        y_axis = named_axis(names, LONGEST_GROUP, grid=False, minExtent=room, maxExtent=room)
        y = alt.Y("group:N", sort=names, axis=y_axis, scale=alt.Scale(paddingInner=0.1, paddingOuter=0.1))
        offset = alt.YOffset("series:N", sort=series, scale=alt.Scale(domain=series, paddingOuter=0.3))
        hint = tooltip(
            ("group:N", "group", ""), ("series:N", "configuration", ""), ("value:Q", "mean residual", "+.3f"),
            ("low:Q", "95 % from", "+.3f"), ("high:Q", "95 % to", "+.3f"), ("n:Q", "texts", "d"),
        )  # fmt: skip
        data = chart(part)
        hue, form = colour(series, room=room), shape(series, room=room)
        lines = data.mark_rule(strokeWidth=1.2).encode(alt.X("low:Q"), alt.X2("high:Q"), y, offset, hue)
        points = data.mark_point(filled=True, size=POINT - 8, opacity=1)
        points = points.encode(x, y, offset, hue, form, tooltip=hint)
        panels.append(layered(rule(0.0, "x"), lines, points, width=COLUMN - room - 30, height=step * len(names)))
    description = "Mean residuals by demographic group, with intervals"
    return alt.vconcat(*panels, spacing=5).properties(description=description)
