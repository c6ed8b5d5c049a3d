"""Figures of runs: learning curves with the range over runs; predictions against labels; residuals by group of people,
which show whom a model scores too high or too low; and training labels before and after correction.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from invitro.data.corpus import LEAST_IN_GROUP
from invitro.stats.moments import measured
from invitro.studies.distributions import after, before, bounds, distance, histogram, labels_of
from invitro.studies.groups import people_groups
from invitro.studies.runs import Runs, labelled
from invitro.studies.study import Study
from invitro.studies.summary import Summary
from invitro.studies.wording import METRIC_NAMES, SPLIT_NAMES, configuration, leading, mark, position, records, rows_of
from invitro.writing.charts import (
    COLOURS,
    COLUMN,
    FAINT,
    LEFT,
    POINT,
    SOFT,
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
from invitro.writing.words import number

_captioned = partial(figure, Path(__file__).with_name("captions.j2"))


MOST_CURVES = 3
"""The most configurations that are drawn: the bands of more would cover each other."""
CURVES = {"val_ccc": "validation CCC", "train_loss": "training loss"}
"""Columns of ``history.csv``; each kind of loss has its own panel."""
MOST_PANELS = 4
"""The most configurations that are drawn; the panels of more would be too small to read."""
BINS = 12
SERIES = ("before correction", "after correction")


def learning_curves(study: Study, runs: Runs, summary: Summary) -> list[Figure]:
    """Draw validation CCC and training loss by epoch for the leading configurations."""
    rows: list[Row] = []
    for group in leading(study, summary, MOST_CURVES):
        jobs = rows_of(runs, group)
        loss = (runs.config(jobs[0]).get("fit") or {}).get("loss", "")
        history = pd.concat(map(runs.history, jobs), ignore_index=True)
        rows += _curves(history, configuration(group, runs.factors), loss)
    if len({row["epoch"] for row in rows}) < 2:
        return []
    series = list(dict.fromkeys(row["series"] for row in rows))
    titles = dict.fromkeys(row["curve"] for row in rows)
    names = sorted(titles, key=lambda title: not title.startswith(CURVES["val_ccc"]))
    panels = [_curve([row for row in rows if row["curve"] == name], name, series, name == names[-1]) for name in names]
    drawn = alt.vconcat(*panels, spacing=7).properties(description="Validation CCC and training loss by epoch")
    facts = len(series), len(summary.groups)
    return [_captioned("learning_curves", "Learning curves", "learning_curves", drawn, *facts)]


def _curves(history: pd.DataFrame, name: str, loss: str) -> list[Row]:
    """Return each curve's mean, minimum and maximum by epoch, counted from 1."""
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
    """Draw one curve for every configuration."""
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
"""The most texts that are drawn in a panel."""


def leading_predictions(study: Study, runs: Runs, summary: Summary) -> Iterator[tuple[dict[str, Any], pd.DataFrame]]:
    """Yield the two leading configurations with their mean predictions on `Summary.split`, if they have any."""
    for group in leading(study, summary):
        table = mean_predictions(runs, rows_of(runs, group), summary.split)
        if len(table):
            yield group, table


def mean_predictions(runs: Runs, rows: list[int], split: str) -> pd.DataFrame:
    """Return one row per text with a crowd label: the columns of ``predictions.csv``, with mean predictions over runs.

    Args:
        runs: the study's runs.
        rows: the runs of one configuration; if they are folds, each predicts its own texts.
        split: ``val`` or ``test``.
    """
    table = pd.concat([labelled(runs.predictions(row), split) for row in rows], ignore_index=True)
    means = table.groupby("text_id", sort=False)["prediction"].agg(["mean", "size"])
    first = table.drop_duplicates("text_id").set_index("text_id").drop(columns="prediction")
    return first.assign(prediction=means["mean"], runs=means["size"]).reset_index()


def predicted_against_labelled(study: Study, runs: Runs, summary: Summary) -> list[Figure]:
    """Draw mean predictions against crowd labels for the two leading configurations, on `Summary.split`."""
    drawn, split = list(leading_predictions(study, runs, summary)), SPLIT_NAMES[summary.split]
    if not drawn:
        return []
    values = pd.concat([table[name] for _, table in drawn for name in ("crowd_label", "prediction")])
    low, high = padded([float(values.min()), float(values.max())], 0.03, 0.1)
    panels = [_panel(runs, summary, group, table, (low, high), index) for index, (group, table) in enumerate(drawn)]
    chart_ = alt.hconcat(*panels, spacing=10).properties(
        description=f"Scatter plots of predicted scores against crowd labels on {split}, with the line of identity"
    )
    texts = max(len(table) for _, table in drawn)
    facts = split, texts, MOST_TEXTS
    return [_captioned("predicted_against_labelled", "Predicted against labelled", "predicted", chart_, *facts)]


def _panel(
    runs: Runs, summary: Summary, group: dict[str, Any], table: pd.DataFrame, ends: tuple[float, float], index: int
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
    title = "predicted (points)" if index == 0 else None
    y = alt.Y(
        "prediction:Q", scale=scale,
        axis=alt.Axis(title=title, tickCount=6, minExtent=LEFT - 20, maxExtent=LEFT - 20),
    )  # fmt: skip
    line = chart([{"at": ends[0]}, {"at": ends[1]}]).mark_line(color=SOFT, strokeDash=[3, 2], strokeWidth=0.8)
    look: Any = {"size": 9, "strokeWidth": 0.6, "opacity": 1, "color": COLOURS[1 if index else 0]}
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
"""The most letters of a group's name on one line, and the height of a row, in points."""


def residuals_by_group(study: Study, runs: Runs, summary: Summary) -> list[Figure]:
    """Draw the mean residual by demographic group for the two leading configurations, on `Summary.split`."""
    rows: list[Row] = []
    series: list[str] = []
    small: set[str] = set()
    for group, table in leading_predictions(study, runs, summary):
        series.append(configuration(group, runs.factors))
        for attribute, groups in people_groups(table):
            for name, positions in groups.items():
                part = table.iloc[positions]
                if len(part) < LEAST_IN_GROUP:
                    small.add(f"{attribute} {name}")
                    continue
                mean, low, high = mean_with_interval(part["prediction"] - part["crowd_label"], part.get("group_id"))
                key = {"attribute": attribute, "group": f"{attribute} {name} ({len(part)})", "n": len(part)}
                rows.append(key | {"series": series[-1], "value": mean, "low": low, "high": high})
    if not rows:
        return []
    facts = SPLIT_NAMES[summary.split], LEAST_IN_GROUP, len(small)
    return [_captioned("residuals_by_group", "Residuals by group", "residuals", _drawn(rows, series), *facts)]


def mean_with_interval(values: "pd.Series[float]", groups: "pd.Series[Any] | None") -> tuple[float, float, float]:
    """Return a mean and its 95 % interval, clustered by author; the bounds are NaN for fewer than two authors.

    The standard error is cluster-robust, ``sqrt(G / (G - 1) * sum_g (sum_{i in g} (x_i - mean))^2) / n``, and the
    interval uses Student's t with G - 1 degrees of freedom, for G authors.
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
    """Draw one panel per attribute, all with the same scale of residuals."""
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


def label_distributions(study: Study, runs: Runs, summary: Summary) -> list[Figure]:
    """Draw label distributions for up to four configurations whose training labels differ from the crowd's."""
    changed = _changed(runs, summary)
    groups = _selected(study, runs, summary, changed)
    if not groups:
        return []
    low, high = _bounds(runs, rows_of(runs, groups[0])[0])
    room = COLUMN - 10 - LEFT if len(groups) == 1 else (COLUMN - 10 - 2 * (LEFT - 4) - 12 - 8) / 2
    panels = [
        _distribution(runs, group, low, high, index).properties(width=room, height=62)
        for index, group in enumerate(groups)
    ]
    pairs = [alt.hconcat(*panels[start : start + 2], spacing=12) for start in range(0, len(panels), 2)]
    drawn = alt.vconcat(*pairs, spacing=8).resolve_scale(color="shared", strokeDash="shared")
    description = "Histograms of training labels before and after correction, and of validation labels"
    facts = BINS, (high - low) / BINS, len(changed) - len(groups)
    drawn = drawn.properties(description=description)
    return [_captioned("label_distributions", "Label distributions", "label_distributions", drawn, *facts)]


def _changed(runs: Runs, summary: Summary) -> list[dict[str, Any]]:
    """Return the configurations whose labels are not the crowd's alone; of several with equal labels, the first.

    Configurations that differ only in the encoder train on the same labels. A chosen configuration replaces the first.
    """
    by_labels: dict[bytes, dict[str, Any]] = {}
    for row in records(summary.groups):
        rows = rows_of(runs, row) if (row.get("replaced") or 0) + (row.get("augmented") or 0) > 0 else []
        if rows:
            key = np.sort(after(runs.labels(rows[0]))).tobytes()
            if key not in by_labels or mark(summary, row) == "chosen":
                by_labels[key] = dict(row)
    return list(by_labels.values())


def _selected(study: Study, runs: Runs, summary: Summary, groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the configurations to draw: the chosen one and others evenly along the axis, or else the leading ones."""
    if len(groups) <= MOST_PANELS:
        return groups
    if study.axis is not None and all(position(row.get(study.axis)) is not None for row in groups):
        groups.sort(key=lambda row: float(row[str(study.axis)]))
        chosen = [index for index, row in enumerate(groups) if mark(summary, row) == "chosen"][:1]
        indices = {0, len(groups) - 1, *chosen}
        for index in np.linspace(0, len(groups) - 1, MOST_PANELS).round().astype(int):
            if len(indices) < MOST_PANELS:
                indices.add(int(index))
        return [groups[index] for index in sorted(indices)]
    names = {configuration(row, runs.factors) for row in groups}
    first = leading(study, summary, len(summary.groups))
    return [row for row in first if configuration(row, runs.factors) in names][:MOST_PANELS]


def _bounds(runs: Runs, row: int) -> tuple[float, float]:
    """Return the scale's bounds, or those of the labels if the configuration does not name a scale."""
    of_scale = bounds(runs.config(row))
    if of_scale is not None:
        return of_scale
    labels = np.concatenate([after(runs.labels(row)), labels_of(runs.predictions(row), "val")])
    return float(np.floor(labels.min())), float(np.ceil(labels.max()))


def _distribution(runs: Runs, group: dict[str, Any], low: float, high: float, index: int) -> alt.LayerChart:
    """Draw one configuration: validation labels as bars, training labels as steps."""
    row = rows_of(runs, group)[0]
    labels, reference = runs.labels(row), labels_of(runs.predictions(row), "val")
    samples = {"validation": reference, SERIES[0]: before(labels), SERIES[1]: after(labels)}
    shares = {name: 100 * histogram(values, low, high, BINS) for name, values in samples.items()}
    edges = np.linspace(low, high, BINS + 1)
    bars = records(pd.DataFrame({"from": edges[:-1], "to": edges[1:], **shares}))
    steps: list[Row] = [
        {"from": edge, "share": shares[name][min(bin_, BINS - 1)], "series": name}
        for name in SERIES
        for bin_, edge in enumerate(edges)
    ]
    return _histograms(bars, steps, samples, configuration(group, runs.factors), index)


def _histograms(
    bars: Sequence[Row], steps: Sequence[Row], samples: dict[str, Any], name: str, index: int
) -> alt.LayerChart:
    """Draw steps over bars, and on top a transparent layer, so that the whole height of a bin shows its tooltip."""
    old, new = (distance(samples[series], samples["validation"]) for series in SERIES)
    wasserstein, ks = (number(old.wasserstein, 2), number(new.wasserstein, 2)), (number(old.ks, 2), number(new.ks, 2))
    subtitle = f"W {' → '.join(wasserstein)}, D {' → '.join(ks)}"
    x = alt.X(
        "from:Q",
        scale=alt.Scale(domain=[bars[0]["from"], bars[-1]["to"]], nice=False, zero=False),
        axis=alt.Axis(title="label (points)", tickCount=6),
    )
    title = "share (%)" if index % 2 == 0 else None
    y_axis = alt.Axis(title=title, tickCount=3, minExtent=LEFT - 14, maxExtent=LEFT - 14)
    legend = alt.Legend(title=None, orient="top", symbolType="stroke", symbolSize=120)
    colours = alt.Scale(domain=list(SERIES), range=[COLOURS[1], COLOURS[0]])
    dashes = alt.Scale(domain=list(SERIES), range=[[3, 1.5], [1, 0]])
    hint = tooltip(
        ("from:Q", "labels from", ".2f"), ("to:Q", "to", ".2f"), ("validation:Q", "validation (%)", ".1f"),
        *((f"{series}:Q", f"{series} (%)", ".1f") for series in SERIES),
    )  # fmt: skip
    data, stretch = chart(bars), alt.X2("to:Q")
    filled = data.mark_rect(fill=FAINT, stroke=SOFT, strokeWidth=0.3)
    lines = chart(steps).mark_line(interpolate="step-after")
    return layered(
        filled.encode(x, stretch, alt.Y("validation:Q", axis=y_axis), alt.Y2Datum(0)),
        lines.encode(
            x,
            alt.Y("share:Q"),
            alt.Color("series:N", scale=colours, legend=legend),
            alt.StrokeDash("series:N", scale=dashes, legend=legend),
        ),
        data.mark_rect(opacity=0).encode(x, stretch, y=alt.value(0), y2=alt.value("height"), tooltip=hint),
        title=alt.TitleParams(wrapped(name, 28), subtitle=subtitle),
    )
