"""Figures over a study's axis: metrics with intervals, the share of changed labels, and distances between labels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import altair as alt

from invitro.studies.distributions import alignment
from invitro.studies.runs import Runs
from invitro.studies.study import Study, matches
from invitro.studies.summary import Summary
from invitro.studies.wording import (
    AXES,
    METRIC_AXES,
    SPLIT_NAMES,
    configuration,
    factor,
    measured,
    position,
    records,
    reference,
)
from invitro.writing.charts import (
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
    padded,
    rule,
    shape,
    tooltip,
)
from invitro.writing.words import plain

_captioned = partial(figure, Path(__file__).with_name("captions.j2"))


@dataclass(frozen=True)
class Panel:
    """One of several stacked charts.

    Args:
        title: the y axis's title, with the unit.
        rows: ``x``, ``series``, ``value``, ``low``, ``high`` (NaN without an interval) and ``seeds``.
        reference: the y value of the baseline's line; None draws no line.
        height: in points.
        form: the number format, in the notation of d3-format.
        ticks: about how many ticks the y axis has.
        zero: whether the y axis starts at 0.
    """

    title: str
    rows: Sequence[Row]
    reference: float | None = None
    height: int = 66
    form: str = ".3f"
    ticks: int = 4
    zero: bool = False


def stacked(
    study: Study, summary: Summary, panels: Sequence[Panel], description: str, reference: str
) -> alt.VConcatChart:
    """Stack panels vertically, with one x axis below the last."""
    series = list(dict.fromkeys(row["series"] for panel in panels for row in panel.rows))
    values = sorted({row["x"] for panel in panels for row in panel.rows})
    charts = []
    for number, panel in enumerate(panels):
        lines, names = _references(study, summary, panel, values, reference, first=number == 0)
        layers = [*lines, *_layers(study, panel, series, values, last=number == len(panels) - 1), *names]
        charts.append(layered(*layers, width=WIDTH, height=panel.height))
    return alt.vconcat(*charts, spacing=7).properties(description=description)


def _layers(study: Study, panel: Panel, series: Sequence[str], values: Sequence[float], last: bool) -> list[alt.Chart]:
    """Return a panel's band, line and points."""
    axis = str(study.axis)
    label = AXES.get(axis, factor(axis))
    x = alt.X(
        "x:Q",
        scale=alt.Scale(domain=[values[0], values[-1]], nice=False, zero=False, padding=7),
        axis=alt.Axis(title=label if last else None, labels=last, ticks=last, tickCount=min(len(values), 8)),
    )
    spread = [row[key] for row in panel.rows for key in ("value", "low", "high")]
    domain = padded([*spread, *([] if panel.reference is None else [panel.reference]), *([0.0] if panel.zero else [])])
    if panel.zero:
        domain[0] = 0.0
    form = {".3f": ".2f", ".1f": ".0f"}[panel.form]
    y = alt.Y(
        "value:Q",
        scale=alt.Scale(domain=domain, nice=False, zero=False),
        axis=left_axis(panel.title, form, panel.ticks),
    )
    lines = [("series:N", "configuration", "")] if len(series) > 1 else []
    banded = any(row["low"] is not None and row["low"] == row["low"] for row in panel.rows)
    ends = [("low:Q", "95 % from", panel.form), ("high:Q", "95 % to", panel.form)] if banded else []
    hint = tooltip(*lines, ("x:Q", label, "~g"), ("value:Q", panel.title, panel.form), *ends, ("seeds:Q", "runs", "d"))
    data = chart(panel.rows)
    layers = (
        [data.mark_area(opacity=0.18).encode(x, alt.Y("low:Q"), alt.Y2("high:Q"), colour(series))] if banded else []
    )
    return [
        *layers,
        data.mark_line().encode(x, y, colour(series), dash(series)),
        data.mark_point(filled=True, size=POINT, opacity=1).encode(x, y, colour(series), shape(series), tooltip=hint),
    ]


def _references(
    study: Study, summary: Summary, panel: Panel, values: Sequence[float], name: str, first: bool
) -> tuple[list[alt.Chart], list[alt.Chart]]:
    """Return the lines of the baseline, the chosen value and the plateau, and, in the first panel, their names."""
    layers: list[alt.Chart] = []
    names: list[alt.Chart] = []
    if panel.reference is not None:
        layers.append(rule(panel.reference, "y"))
        names += _named(panel, panel.reference, name)
    for value, text in (((summary.chosen or {}).get(str(study.axis)), "chosen"), (study.plateau, "no more gain?")):
        at = position(value)
        if at is not None:
            layers.append(rule(unit(study) * at, "x", strokeDash=[1, 1.5]))
            names += _at_top(unit(study) * at, text, values)
    return layers, names if first else []


LOOKS: tuple[dict[str, Any], ...] = ({"stroke": "white", "strokeWidth": 3, "strokeJoin": "round"}, {})
"""How a name in a panel is drawn: first its halo, so that curves do not strike it through."""


def _at_top(at: float, text: str, values: Sequence[float]) -> list[alt.Chart]:
    """Return the name of a vertical line, on the side with room for it."""
    left = at <= (values[0] + 3 * values[-1]) / 4
    return [
        chart([{"at": at, "text": text}])
        .mark_text(align="left" if left else "right", baseline="top", dx=2 if left else -2, color=SOFT, **look)
        .encode(x=alt.X("at:Q"), y=alt.value(1), text=alt.Text("text:N"))
        for look in LOOKS
    ]


def _named(panel: Panel, reference: float, name: str) -> list[alt.Chart]:
    """Return the name of a panel's reference line, at the end and on the side that are further from the data."""
    by_x: dict[float, float] = {}
    for row in panel.rows:
        gap = row["value"] - reference
        if abs(gap) <= abs(by_x.get(row["x"], float("inf"))):
            by_x[row["x"]] = gap
    end = max((min(by_x), max(by_x)), key=lambda x: abs(by_x[x]))
    above = by_x[end] < 0
    return [
        chart([{"x": end, "value": reference, "text": name}])
        .mark_text(
            align="left" if end == min(by_x) else "right", baseline="bottom" if above else "top",
            dy=-1.5 if above else 2, color=SOFT, **look,
        )
        .encode(alt.X("x:Q"), alt.Y("value:Q"), alt.Text("text:N"))
        for look in LOOKS
    ]  # fmt: skip


def unit(study: Study) -> int:
    """Return the factor that the axis's values are multiplied by: portions are drawn in per cent."""
    return 100 if str(study.axis).endswith("portion") else 1


def metrics_over_axis(study: Study, runs: Runs, summary: Summary) -> list[Figure]:
    """Draw metrics over the axis: on validation if the study chooses there, then on test, then against the truth.

    Without a labelled test set, validation takes its place.
    """
    points = _points(study, runs, summary)
    if points is None:
        return []
    figures: list[Figure] = []
    baseline = reference(summary, {})
    for split in dict.fromkeys((*(("val",) if study.choose else ()), *summary.judged)):
        if not measured(summary, study, split):
            continue
        panels = [
            Panel(
                METRIC_AXES[metric],
                [
                    _row(point, *(point[f"{split}_{metric}_{part}"] for part in ("mean", "low", "high")))
                    for point in points
                ],
                None if baseline is None else float(baseline[f"{split}_{metric}_mean"]),
            )
            for metric in study.metrics
        ]
        replaced = [_row(point, 100 * point["replaced_share"]) for point in points]
        if not figures and any(row["value"] for row in replaced):
            panels.append(Panel("Changed (%)", replaced, None, 30, ".1f", 3, zero=True))
        name, changed = factor(str(study.axis)), len(panels) > len(study.metrics)
        baseline_name = ", ".join(f"{factor(key)} {plain(value)}" for key, value in (summary.baseline or {}).items())
        chosen = (summary.chosen or {}).get(str(study.axis))
        drawn = stacked(study, summary, panels, f"Metrics over {name} on {SPLIT_NAMES[split]}", "baseline")
        facts = (name, SPLIT_NAMES[split], baseline_name, chosen, split == "val", study.plateau is not None, changed)
        title = f"Metrics over {name}: {SPLIT_NAMES[split]}"
        figures.append(_captioned(f"metrics_over_{name}_{split}", title, "over_axis", drawn, *facts))
    return figures


def alignment_over_axis(study: Study, runs: Runs, summary: Summary) -> list[Figure]:
    """Draw the distance of training labels from validation's over the axis, if any label was changed."""
    points = _points(study, runs, summary)
    if points is None or not any(point["replaced_share"] for point in points):
        return []
    table = alignment(runs, summary)
    rows: list[Any] = records(table)
    distances = {point["key"]: row for point in points for row in rows if matches(row, point["factors"])}
    panels = [
        Panel(
            title,
            [_row(point, distances[point["key"]][f"after_{measure}"]) for point in points if point["key"] in distances],
            float(table[f"before_{measure}"].mean()),
            zero=True,
        )
        for measure, title in (("wasserstein", "Wasserstein (points)"), ("ks", "KS distance D"))
    ]
    name = factor(str(study.axis))
    drawn = stacked(study, summary, panels, "Distance of training labels from validation labels", "before correction")
    title = f"Distribution alignment over {name}"
    return [_captioned(f"alignment_over_{name}", title, "alignment", drawn, name, "validation")]


def _points(study: Study, runs: Runs, summary: Summary) -> list[Row] | None:
    """Return configurations with a number on the axis, in order; None if there are fewer than two different numbers.

    A baseline that names no value of the axis, or an infinite one, is drawn as a line and not as a point.
    """
    if study.axis is None or study.axis not in summary.groups:
        return None
    others = [name for name in runs.factors if name != study.axis]
    off_axis = bool(summary.baseline) and study.axis not in (summary.baseline or {})
    points: list[Row] = []
    for number, row in enumerate(records(summary.groups)):
        at = position(row[study.axis])
        if at is not None and not (off_axis and matches(row, summary.baseline)):
            series = configuration(row, others) if others else "all"
            place = {"x": unit(study) * at, "series": series, "key": number}
            points.append(row | place | {"factors": {name: row[name] for name in runs.factors}})
    points.sort(key=lambda row: (row["series"], row["x"]))
    return points if len({point["x"] for point in points}) > 1 else None


def _row(point: Mapping[str, Any], value: Any, low: Any = None, high: Any = None) -> Row:
    """Return one configuration's row of a panel."""
    seeds = point.get("seeds")
    return {"x": point["x"], "series": point["series"], "value": value, "low": low, "high": high, "seeds": seeds}
