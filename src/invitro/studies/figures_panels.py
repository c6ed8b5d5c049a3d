"""Panels above each other that share a study's axis: lines with bands, the baseline's line, what was chosen."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import altair as alt

from invitro.charts import SOFT
from invitro.studies.figures_parts import (
    POINT,
    WIDTH,
    Row,
    chart,
    colour,
    dash,
    layered,
    left_axis,
    padded,
    rule,
    shape,
    tooltip,
)
from invitro.studies.wording import AXES, factor, position

if TYPE_CHECKING:
    from invitro.studies.study import Study
    from invitro.studies.summary import Summary


@dataclass(frozen=True)
class Panel:
    """One of several charts above each other.

    Args:
        title: of the y axis, with its unit.
        rows: ``x``, ``series``, ``value``, ``low``, ``high`` (NaN without an interval) and ``seeds``.
        reference: where the baseline's line lies; None draws none.
        height: in points.
        form: how numbers are written, as d3-format has it.
        ticks: about so many on the y axis.
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
    study: "Study", summary: "Summary", panels: Sequence[Panel], description: str, reference: str
) -> alt.VConcatChart:
    """Draw panels above each other, with one x axis below the last."""
    series = list(dict.fromkeys(row["series"] for panel in panels for row in panel.rows))
    values = sorted({row["x"] for panel in panels for row in panel.rows})
    drawn = []
    for number, panel in enumerate(panels):
        layers = _references(study, summary, panel, values, reference, first=number == 0)
        layers += _layers(study, panel, series, values, last=number == len(panels) - 1)
        drawn.append(layered(*layers, width=WIDTH, height=panel.height))
    return alt.vconcat(*drawn, spacing=7).properties(description=description)


def _layers(
    study: "Study", panel: Panel, series: Sequence[str], values: Sequence[float], last: bool
) -> list[alt.Chart]:
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
    told = tooltip(*lines, ("x:Q", label, "~g"), ("value:Q", panel.title, panel.form), *ends, ("seeds:Q", "seeds", "d"))
    data = chart(panel.rows)
    layers = (
        [data.mark_area(opacity=0.18).encode(x, alt.Y("low:Q"), alt.Y2("high:Q"), colour(series))] if banded else []
    )
    return [
        *layers,
        data.mark_line().encode(x, y, colour(series), dash(series)),
        data.mark_point(filled=True, size=POINT, opacity=1).encode(x, y, colour(series), shape(series), tooltip=told),
    ]


def _references(
    study: "Study", summary: "Summary", panel: Panel, values: Sequence[float], name: str, first: bool
) -> list[alt.Chart]:
    """Return the lines of the baseline and of the chosen value, named in the first panel."""
    layers = []
    if panel.reference is not None:
        layers.append(rule(panel.reference, "y"))
        if first:
            layers.append(_named(panel, panel.reference, name))
    chosen = position((summary.chosen or {}).get(str(study.axis)))
    if chosen is not None:
        at = chosen * unit(study)
        layers.append(rule(at, "x", strokeDash=[1, 1.5]))
        if first:
            layers.append(_at_top(at, "chosen", values))
    if study.plateau is not None:
        layers.append(rule(study.plateau * unit(study), "x", strokeDash=[1, 1.5]))
        if first:
            layers.append(_at_top(study.plateau * unit(study), "no more gain?", values))
    return layers


def _at_top(at: float, text: str, values: Sequence[float]) -> alt.Chart:
    """Return the name of a vertical line, on the side where there is room."""
    left = at <= (values[0] + 3 * values[-1]) / 4
    drawn: alt.Chart = (
        chart([{"at": at, "text": text}])
        .mark_text(align="left" if left else "right", baseline="top", dx=2 if left else -2, color=SOFT)
        .encode(x=alt.X("at:Q"), y=alt.value(1), text=alt.Text("text:N"))
    )
    return drawn


def _named(panel: Panel, reference: float, name: str) -> alt.Chart:
    """Return the name of a panel's reference line, at the end where the data are further off, on their other side."""
    by_x: dict[float, float] = {}
    for row in panel.rows:
        gap = row["value"] - reference
        if abs(gap) <= abs(by_x.get(row["x"], float("inf"))):
            by_x[row["x"]] = gap
    end = max((min(by_x), max(by_x)), key=lambda x: abs(by_x[x]))
    above = by_x[end] < 0
    drawn: alt.Chart = (
        chart([{"x": end, "value": reference, "text": name}])
        .mark_text(
            align="left" if end == min(by_x) else "right", baseline="bottom" if above else "top",
            dy=-1.5 if above else 2, color=SOFT,
        )
        .encode(alt.X("x:Q"), alt.Y("value:Q"), alt.Text("text:N"))
    )  # fmt: skip
    return drawn


def unit(study: "Study") -> int:
    """Return what the axis's values are multiplied by: portions are drawn in per cent."""
    return 100 if str(study.axis).endswith("portion") else 1
