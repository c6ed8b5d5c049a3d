"""The figure of label distributions: before and after correction, beside validation's."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import altair as alt
import numpy as np

from invitro.studies.distributions import after, before, bounds, distance, histogram, validation
from invitro.studies.figures.base import LEFT, Figure, Row, chart, figure, layered, tooltip, wrapped
from invitro.studies.wording import configuration, leading, mark, position, records, rows_of
from invitro.writing.charts import COLOURS, COLUMN, FAINT, SOFT
from invitro.writing.words import number

if TYPE_CHECKING:
    from invitro.studies.runs import Runs
    from invitro.studies.study import Study
    from invitro.studies.summary import Summary

MOST_PANELS = 4
"""Configurations that are drawn; more would be too small to read."""
BINS = 12
SERIES = ("before correction", "after correction")


def label_distributions(study: "Study", runs: "Runs", summary: "Summary") -> list[Figure]:
    """Draw the distributions for up to four configurations whose labels differ from the crowd's."""
    changed = _changed(runs, summary)
    groups = _selected(study, summary, changed)
    if not groups:
        return []
    low, high = _bounds(runs, rows_of(runs, groups[0])[0])
    room = COLUMN - 10 - LEFT if len(groups) == 1 else (COLUMN - 10 - 2 * (LEFT - 4) - 12 - 8) / 2
    panels = [
        _panel(runs, group, low, high, number).properties(width=room, height=62) for number, group in enumerate(groups)
    ]
    below = [alt.hconcat(*panels[at : at + 2], spacing=12) for at in range(0, len(panels), 2)]
    drawn = alt.vconcat(*below, spacing=8).resolve_scale(color="shared", strokeDash="shared")
    description = "Histograms of training labels before and after correction, and of validation labels"
    facts = BINS, (high - low) / BINS, len(changed) - len(groups)
    made = drawn.properties(description=description)
    return [figure("label_distributions", "Label distributions", "label_distributions", made, *facts)]


def _changed(runs: "Runs", summary: "Summary") -> list[dict[str, Any]]:
    """Return the configurations whose labels are not the crowd's alone, the first of those with equal labels.

    Configurations that differ in the encoder train on the same labels.
    """
    found: dict[bytes, dict[str, Any]] = {}
    for row in records(summary.groups):
        rows = rows_of(runs, row) if (row.get("replaced") or 0) + (row.get("augmented") or 0) > 0 else []
        if rows:
            key = np.sort(after(runs.labels(rows[0]))).tobytes()
            if key not in found or mark(summary, row) == "chosen":
                found[key] = dict(row)
    return list(found.values())


def _selected(study: "Study", summary: "Summary", groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the configurations to draw: what was chosen and, with an axis, others evenly along it."""
    if len(groups) <= MOST_PANELS:
        return groups
    if study.axis is not None and all(position(row.get(study.axis)) is not None for row in groups):
        groups.sort(key=lambda row: float(row[str(study.axis)]))
        chosen = [place for place, row in enumerate(groups) if mark(summary, row) == "chosen"][:1]
        places = {0, len(groups) - 1, *chosen}
        for place in np.linspace(0, len(groups) - 1, MOST_PANELS).round().astype(int):
            if len(places) < MOST_PANELS:
                places.add(int(place))
        return [groups[place] for place in sorted(places)]
    first = [row for row in leading(study, summary, len(summary.groups)) if row in groups]
    return (first or groups)[:MOST_PANELS]


def _bounds(runs: "Runs", row: int) -> tuple[float, float]:
    """Return the scale's bounds, or those of the labels where the configuration names no scale."""
    found = bounds(runs.config(row))
    if found is not None:
        return found
    every = np.concatenate([after(runs.labels(row)), validation(runs.predictions(row))])
    return float(np.floor(every.min())), float(np.ceil(every.max()))


def _panel(runs: "Runs", group: dict[str, Any], low: float, high: float, place: int) -> alt.LayerChart:
    """Draw one configuration: validation as bars, the others as steps."""
    row = rows_of(runs, group)[0]
    labels, reference = runs.labels(row), validation(runs.predictions(row))
    samples = {"validation": reference, SERIES[0]: before(labels), SERIES[1]: after(labels)}
    shares = {name: 100 * histogram(values, low, high, BINS) for name, values in samples.items()}
    edges = np.linspace(low, high, BINS + 1)
    bars = [
        {"from": edges[at], "to": edges[at + 1], **{name: values[at] for name, values in shares.items()}}
        for at in range(BINS)
    ]
    steps: list[Row] = [
        {"from": edges[at], "share": shares[name][min(at, BINS - 1)], "series": name}
        for name in SERIES
        for at in range(BINS + 1)
    ]
    return _layered(bars, steps, samples, configuration(group, runs.factors), place)


def _layered(
    bars: Sequence[Row], steps: Sequence[Row], samples: dict[str, Any], name: str, place: int
) -> alt.LayerChart:
    """Lay the steps over the bars, and over both what reacts to the mouse: a whole bin, even where its bar is low."""
    old, new = (distance(samples[series], samples["validation"]) for series in SERIES)
    moved = ((old.wasserstein, new.wasserstein, "W"), (old.ks, new.ks, "D"))
    subtitle = ", ".join(f"{sign} {number(one, 2)} → {number(other, 2)}" for one, other, sign in moved)
    x = alt.X(
        "from:Q",
        scale=alt.Scale(domain=[bars[0]["from"], bars[-1]["to"]], nice=False, zero=False),
        axis=alt.Axis(title="label (points)", tickCount=6),
    )
    title = "share (%)" if place % 2 == 0 else None
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
