"""What the figures of a study have in common: colours and shapes of series, axes, intervals, thinning."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from invitro.writing.charts import COLOURS, COLUMN, DASHES, SHAPES, SOFT
from invitro.writing.words import said

FIGURE_CAPTIONS = Path(__file__).with_name("captions.j2")
LEFT, RIGHT = 34, 6
"""Room for the labels and title of a y axis, and at the right edge, in points."""
WIDTH = COLUMN - LEFT - RIGHT - 10
"""Width of a panel that fills one column; 5 points of padding on either side."""
POINT = 26
"""Area of a point, in square points."""
Row = dict[str, Any]


def chart(rows: Sequence[Mapping[str, Any]]) -> alt.Chart:
    """Return a chart of these rows, whose NaN become null."""
    return alt.Chart({"values": [{key: _json(value) for key, value in row.items()} for row in rows]})


def _json(value: Any) -> Any:
    """Return a value as JSON represents it."""
    if isinstance(value, (np.floating, float)):
        return float(value) if np.isfinite(value) else None
    if isinstance(value, np.integer):
        return int(value)
    return None if value is pd.NA or value is None else value


def colour(series: Sequence[str], title: str | None = None, room: float = 0) -> alt.Color:
    """Return the colours of series; their legend stands above when there are several, `room` points from the left."""
    return alt.Color("series:N", scale=_scale(series, COLOURS), sort=list(series), legend=_legend(series, title, room))


def shape(series: Sequence[str], title: str | None = None, room: float = 0) -> alt.Shape:
    """Return the shapes of series' points; the legend is that of `colour`."""
    return alt.Shape("series:N", scale=_scale(series, SHAPES), sort=list(series), legend=_legend(series, title, room))


def dash(series: Sequence[str], title: str | None = None) -> alt.StrokeDash:
    """Return the dashes of series' lines; the legend is that of `colour`."""
    return alt.StrokeDash("series:N", scale=_scale(series, DASHES), sort=list(series), legend=_legend(series, title))


def _scale(series: Sequence[str], values: Sequence[Any]) -> alt.Scale:
    return alt.Scale(domain=list(series), range=[values[number % len(values)] for number in range(len(series))])


def _legend(series: Sequence[str], title: str | None, room: float = 0) -> alt.Legend | None:
    if len(series) < 2:
        return None
    longest = max(len(name) for name in series)
    columns = max(1, min(len(series), int(COLUMN - room) // (22 + 4 * longest)))
    return alt.Legend(
        title=title, orient="top", columns=columns, direction="horizontal", symbolOpacity=1, symbolStrokeWidth=0
    )


def left_axis(title: str, form: str = "", ticks: int = 4) -> alt.Axis:
    """Return a y axis whose labels and title always take `LEFT` points, so that stacked panels line up."""
    options: dict[str, Any] = {"format": form} if form else {}
    return alt.Axis(title=title, tickCount=ticks, minExtent=LEFT - 12, maxExtent=LEFT - 12, **options)


def tooltip(*fields: tuple[str, str, str]) -> list[alt.Tooltip]:
    """Return tooltip lines from (field with type, title, number format); an empty format leaves the value alone."""
    return [
        alt.Tooltip(field, title=title, format=form) if form else alt.Tooltip(field, title=title)
        for field, title, form in fields
    ]


def wrapped(name: str, longest: int) -> list[str]:
    """Return a name in one line, or a long one in two: cut at a comma, another sign or a space, near the middle."""
    signs = (r", ", r"[_/-]", r" ")
    found = ([match.end() for match in re.finditer(sign, name)] for sign in signs)
    places: list[int] = next(filter(None, found), [])
    if len(name) <= longest or not places:
        return [name]
    cuts = [[name[:at].strip(), name[at:].strip()] for at in places]
    return min(cuts, key=lambda lines: max(map(len, lines)))


def named_axis(names: Sequence[str], longest: int, shown: bool = True, **options: Any) -> alt.Axis:
    """Return a y axis of configurations, long names in two lines centred on their row; no ticks, no line."""
    lines = {name: wrapped(name, longest) for name in names}
    expression = f"({json.dumps(lines)})[datum.value]"
    raised: Any = {"condition": {"test": f"{expression}.length > 1", "value": -4}, "value": 0}
    look: dict[str, Any] = {"labels": shown, "ticks": False, "domain": False, "grid": True, "labelLineHeight": 8}
    return alt.Axis(title=None, labelExpr=expression, labelOffset=raised, **(look | options))


def padded(values: Sequence[float], share: float = 0.06, least: float = 0.02) -> list[float]:
    """Return a domain that holds all finite values with some margin."""
    finite = [value for value in values if value is not None and np.isfinite(value)]
    low, high = (min(finite), max(finite)) if finite else (0.0, 1.0)
    air = max((high - low) * share, least)
    return [float(low - air), float(high + air)]


def rule(value: float, axis: str, **style: Any) -> alt.Chart:
    """Return a straight line across a panel at `value` of ``x`` or ``y``."""
    encoding: Any = alt.X("at:Q") if axis == "x" else alt.Y("at:Q")
    look: dict[str, Any] = {"color": SOFT, "strokeDash": [3, 2], "strokeWidth": 0.8} | style
    drawn: alt.Chart = chart([{"at": value}]).mark_rule(**look).encode(encoding)
    return drawn


def layered(*layers: alt.Chart, **properties: Any) -> alt.LayerChart:
    """Return charts on top of each other, the last in front, with their size and title."""
    drawn = alt.layer(*layers).properties(**properties)
    assert isinstance(drawn, alt.LayerChart)  # a facet only where a layer is one
    return drawn


def thinned(table: pd.DataFrame, most: int, by: str) -> pd.DataFrame:
    """Return at most `most` rows, drawn evenly along the column `by`, so that the cloud keeps its shape."""
    if len(table) <= most:
        return table
    order = table.sort_values([by, *[name for name in ("text_id",) if name in table]], kind="stable")
    places = np.unique(np.linspace(0, len(order) - 1, most).round().astype(int))
    return order.iloc[places]


@dataclass(frozen=True)
class Figure:
    """One figure.

    Args:
        name: of its files, without a suffix.
        title: above it on the page.
        caption: what is drawn, from which data, and what was left out; a paper can use it as it is.
        chart: its specification; ``description`` says what is drawn, for readers who cannot see it.
    """

    name: str
    title: str
    caption: str
    chart: "alt.TopLevelMixin"


def figure(name: str, title: str, macro: str, chart: "alt.TopLevelMixin", *facts: Any) -> Figure:
    """Return a figure whose caption a macro of ``captions.j2`` words from `facts`."""
    return Figure(name, title, said(FIGURE_CAPTIONS, macro, *facts), chart)
