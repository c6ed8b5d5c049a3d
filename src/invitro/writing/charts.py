"""Charts: their common style, their parts, and their files.

One specification (Vega-Lite) serves both page and paper.

Sizes are in points, 72 per inch: a PDF has exactly these sizes, and a page scales the whole drawing.
"""

import importlib.util
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import altair as alt
import numpy as np
import pandas as pd

from invitro.errors import InputError
from invitro.files import whole_or_absent
from invitro.writing.words import said

COLUMN, PAGE = 245, 516
"""Widths of one column and of a page of two, in points (3.4 and 7.16 inches)."""
FONT = "Arial, Liberation Sans, Helvetica, sans-serif"
"""These fonts have equal letter widths, so text takes the same space in each."""
INK, SOFT, FAINT = "#222222", "#666666", "#dcdcdc"
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's, distinct for any colour vision; shapes and dashes distinguish the same series in grey."""
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right")
DASHES = ([1, 0], [4, 2], [1, 1.5], [6, 2, 1, 2], [3, 1], [2, 3], [8, 3])
DPI = 300
FORMATS = ("png", "svg", "pdf")

_TEXT = {"labelFont": FONT, "titleFont": FONT, "labelColor": INK, "titleColor": INK, "titleFontWeight": "normal"}
STYLE: dict[str, Any] = {
    "background": "white",
    "font": FONT,
    "view": {"stroke": None, "continuousWidth": 200, "continuousHeight": 80},
    "axis": _TEXT
    | {
        "labelFontSize": 7, "titleFontSize": 7.5, "titlePadding": 4, "labelPadding": 2, "tickSize": 3,
        "domainColor": SOFT, "tickColor": SOFT, "domainWidth": 0.6, "tickWidth": 0.6, "gridColor": FAINT,
        "gridWidth": 0.4, "labelLimit": 220, "titleLimit": 300,
    },
    "axisX": {"grid": False},
    "legend": _TEXT
    | {
        "labelFontSize": 7, "titleFontSize": 7, "symbolSize": 32, "symbolStrokeWidth": 1.2, "labelLimit": 220,
        "rowPadding": 1, "columnPadding": 8, "padding": 0, "offset": 4, "titlePadding": 3,
    },
    "header": _TEXT | {"labelFontSize": 7, "titleFontSize": 7.5, "labelPadding": 3},
    "title": {
        "font": FONT, "fontSize": 7.5, "fontWeight": "normal", "color": INK, "anchor": "start", "offset": 4,
        "subtitleFont": FONT, "subtitleFontSize": 6.5, "subtitleColor": SOFT, "subtitlePadding": 2,
    },
    "text": {"font": FONT, "fontSize": 6.5, "color": INK},
    "line": {"strokeWidth": 1.2},
    "rule": {"strokeWidth": 0.8},
    "concat": {"spacing": 6},
}  # fmt: skip


def problem() -> str | None:
    """Return why charts cannot be drawn here, and how to fix it; None if they can."""
    missing = [name for name in ("altair", "vl_convert") if importlib.util.find_spec(name) is None]
    if not missing:
        return None
    return f'Charts need {" and ".join(missing)}; run: pip install "invitro[report]"'


def specification(chart: alt.TopLevelMixin, hidden: str | None = None) -> dict[str, Any]:
    """Return a chart's Vega-Lite specification in the common style; the chart's own configuration takes precedence.

    Args:
        chart: any chart.
        hidden: a field to leave out of its data and of everything shown.
    """
    spec: dict[str, Any] = chart.to_dict()
    configured = {
        name: value for name, value in spec.get("config", {}).items() if name != "view"
    }  # Altair's, not the chart's
    spec["config"] = STYLE | {
        name: STYLE.get(name, {}) | value if isinstance(value, dict) else value for name, value in configured.items()
    }
    return spec if hidden is None else without_field(spec, hidden)


def without_field(spec: Any, field: str) -> Any:
    """Return a Vega-Lite specification without a field, in its data and in everything shown."""
    if isinstance(spec, dict):
        return {
            name: without_field(part, field) for name, part in spec.items() if name != field and not _is(part, field)
        }
    return [without_field(part, field) for part in spec if not _is(part, field)] if isinstance(spec, list) else spec


def _is(channel: Any, field: str) -> bool:
    return isinstance(channel, dict) and channel.get("field") == field


def script() -> str:
    """Return Vega, Vega-Lite and Vega-Embed as one script (0.9 MB) that fetches nothing."""
    import vl_convert

    bundle: Any = vl_convert.javascript_bundle  # its first argument is optional and not needed here
    return str(bundle(vl_version=_version()))


def save(chart: alt.TopLevelMixin, path: Path, hidden: str | None = None) -> list[Path]:
    """Write ``path.png`` (300 dpi), ``path.svg`` and ``path.pdf``, each whole or not at all; return their paths.

    The same chart gives the same specification and the same PNG. SVG and PDF look the same but need not be equal byte
    for byte: Vega numbers clips from drawing to drawing, and the order of a PDF's resources is arbitrary. No network is
    used.

    Args:
        chart: with all its data inside.
        path: without a suffix.
        hidden: as for `specification`.

    Raises:
        InputError: a library is missing.
    """
    missing = problem()
    if missing:
        raise InputError(missing)
    import vl_convert

    svg = vl_convert.vegalite_to_svg(specification(chart, hidden), vl_version=_version(), allowed_base_urls=[])
    files = {"png": vl_convert.svg_to_png(svg, ppi=DPI), "svg": _in_points(svg), "pdf": vl_convert.svg_to_pdf(svg)}
    written = []
    for suffix, content in files.items():
        written.append(path.with_name(f"{path.name}.{suffix}"))
        with whole_or_absent(written[-1]) as temporary:
            temporary.write_bytes(content)
    return written


def _in_points(svg: str) -> bytes:
    """Give the drawing its size in points, as in the PDF; without a unit, pixels would make it a quarter smaller."""
    ElementTree.register_namespace("", "http://www.w3.org/2000/svg")
    ElementTree.register_namespace("xlink", "http://www.w3.org/1999/xlink")
    root = ElementTree.fromstring(svg)
    for name in ("width", "height"):
        root.set(name, f"{root.attrib[name]}pt")
    drawn: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return drawn


def _version() -> str:
    """Return the Vega-Lite version that the specifications are written for, such as ``6.4``."""
    return ".".join(alt.SCHEMA_VERSION.removeprefix("v").split(".")[:2])


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


def colour(series: Sequence[str], room: float = 0) -> alt.Color:
    """Return the colours of series; their legend is above if there are several, `room` points from the left."""
    return alt.Color("series:N", scale=_scale(series, COLOURS), sort=list(series), legend=_legend(series, room))


def shape(series: Sequence[str], room: float = 0) -> alt.Shape:
    """Return the shapes of series' points; the legend is that of `colour`."""
    return alt.Shape("series:N", scale=_scale(series, SHAPES), sort=list(series), legend=_legend(series, room))


def dash(series: Sequence[str]) -> alt.StrokeDash:
    """Return the dashes of series' lines; the legend is that of `colour`."""
    return alt.StrokeDash("series:N", scale=_scale(series, DASHES), sort=list(series), legend=_legend(series))


def _scale(series: Sequence[str], values: Sequence[Any]) -> alt.Scale:
    return alt.Scale(domain=list(series), range=[values[number % len(values)] for number in range(len(series))])


def _legend(series: Sequence[str], room: float = 0) -> alt.Legend | None:
    if len(series) < 2:
        return None
    longest = max(len(name) for name in series)
    columns = max(1, min(len(series), int(COLUMN - room) // (22 + 4 * longest)))
    return alt.Legend(
        title=None, orient="top", columns=columns, direction="horizontal", symbolOpacity=1, symbolStrokeWidth=0
    )


def left_axis(title: str, form: str = "", ticks: int = 4) -> alt.Axis:
    """Return a y axis whose labels and title always take `LEFT` points, so that stacked panels line up."""
    options: dict[str, Any] = {"format": form} if form else {}
    return alt.Axis(title=title, tickCount=ticks, minExtent=LEFT - 12, maxExtent=LEFT - 12, **options)


def tooltip(*fields: tuple[str, str, str]) -> list[alt.Tooltip]:
    """Return tooltip lines from (field with type, title, number format); an empty format formats nothing."""
    return [
        alt.Tooltip(field, title=title, format=form) if form else alt.Tooltip(field, title=title)
        for field, title, form in fields
    ]


def wrapped(name: str, longest: int) -> list[str]:
    """Return a name in one line, or a long one in two: cut at a comma, another sign or a space, near the middle."""
    signs = (r", ", r"[_/-]", r" ")
    ends = ([match.end() for match in re.finditer(sign, name)] for sign in signs)
    places: list[int] = next(filter(None, ends), [])
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
    """Return a domain that contains all finite values with some margin."""
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
    assert isinstance(drawn, alt.LayerChart)  # a facet only if a layer is a facet
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
        caption: what is drawn, from which data, and anything left out; a paper can use it unchanged.
        chart: its specification; ``description`` says what is drawn, for readers who cannot see it.
    """

    name: str
    title: str
    caption: str
    chart: alt.TopLevelMixin


def figure(template: Path, name: str, title: str, macro: str, chart: alt.TopLevelMixin, *facts: Any) -> Figure:
    """Return a figure whose caption a macro of `template` makes from `facts`."""
    return Figure(name, title, said(template, macro, *facts), chart)
