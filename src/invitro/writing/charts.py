"""Charts: one look for all of them, and their files. One specification (Vega-Lite) serves both page and paper.

Sizes are in points, 72 an inch: a PDF has exactly these sizes, and a page scales the whole drawing.
"""

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from invitro.errors import InputError
from invitro.files import whole_or_absent

if TYPE_CHECKING:
    import altair as alt

COLUMN, PAGE = 245, 516
"""Widths of one column and of a page of two, in points (3.4 and 7.16 inches)."""
FONT = "Arial, Liberation Sans, Helvetica, sans-serif"
"""Their letters are equally wide, so text takes the same space in each of them."""
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
    """Return why charts cannot be drawn here, and how to fix it; None where they can."""
    missing = [name for name in ("altair", "vl_convert") if importlib.util.find_spec(name) is None]
    if not missing:
        return None
    return f'Charts need {" and ".join(missing)}; install what is missing by: pip install "invitro[report]"'


def specification(chart: "alt.TopLevelMixin", hidden: str | None = None) -> dict[str, Any]:
    """Return a chart's Vega-Lite specification in the common style; the chart's own configuration takes precedence.

    Args:
        chart: any chart.
        hidden: a field that neither its data nor what it shows shall have.
    """
    spec: dict[str, Any] = chart.to_dict()
    spec["config"] = _merged(STYLE, spec.get("config", {}), without=("view",))
    return spec if hidden is None else without_field(spec, hidden)


def without_field(spec: Any, field: str) -> Any:
    """Return a Vega-Lite specification without a field: neither in its data nor in what it shows."""
    if isinstance(spec, dict):
        return {name: without_field(one, field) for name, one in spec.items() if name != field and not _is(one, field)}
    return [without_field(one, field) for one in spec if not _is(one, field)] if isinstance(spec, list) else spec


def _is(channel: Any, field: str) -> bool:
    return isinstance(channel, dict) and channel.get("field") == field


def script() -> str:
    """Return Vega, Vega-Lite and Vega-Embed as one script (0.9 MB) that fetches nothing."""
    import vl_convert

    bundle: Any = vl_convert.javascript_bundle  # its first argument, of no use here, has a default
    return str(bundle(vl_version=_version()))


def save(chart: "alt.TopLevelMixin", path: Path, hidden: str | None = None) -> list[Path]:
    """Write ``path.png`` (300 dpi), ``path.svg`` and ``path.pdf``, each whole or not at all; return their paths.

    The same chart gives the same specification and the same PNG. SVG and PDF look the same but need not be equal byte
    for byte: Vega numbers clips from drawing to drawing, and the order of a PDF's resources is left to chance. No
    network is used.

    Args:
        chart: without data from elsewhere.
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
    import altair as alt

    return ".".join(alt.SCHEMA_VERSION.removeprefix("v").split(".")[:2])


def _merged(style: Mapping[str, Any], own: Mapping[str, Any], without: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return `style` overlaid by `own`, one level deep; entries `without` are Altair's defaults and do not count."""
    merged = dict(style)
    for name, value in own.items():
        if name not in without:
            known = merged.get(name)
            merged[name] = known | value if isinstance(known, dict) and isinstance(value, dict) else value
    return merged
