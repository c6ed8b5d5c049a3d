"""The reliability report's heat map: every pair of raters in one square, legible in one column of a page with two."""

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from invitro.stats.agreement import Agreement
from invitro.stats.intervals import Estimate
from invitro.writing import charts

if TYPE_CHECKING:
    import altair as alt

NARROW, ROOMY = 4, 8
"""How many raters fit in one column, and on a page, with intervals in the cells."""
NEUTRAL, HATCH, LINES = "#f2f2f2", "#c4c4c4", 5
"""Colours of the ground and hatching of a cell that is not measurable, and its lines on each side of the diagonal."""

Cells = list[list[Estimate | None]]


def heat_map(names: Sequence[str], pairs: Sequence[Agreement], path: Path) -> list[Path]:
    """Draw PCC above and Krippendorff's alpha below the diagonal; return the files ``path.png``, ``.svg``, ``.pdf``.

    The colours (cividis) differ in lightness too: colour-blind readers see the same order, and so does anyone who
    prints without colour. Cells that are not measurable are hatched, so that no colour suggests a figure.

    Args:
        names: raters, in order.
        pairs: agreement of every pair of raters, in the order of `names`.
        path: without a suffix.
    """
    return charts.save(_drawn(names, _cells(names, pairs)), path)


def _cells(names: Sequence[str], pairs: Sequence[Agreement]) -> Cells:
    """Lay the pairs out as a square."""
    place = {name: number for number, name in enumerate(names)}
    cells: Cells = [[None] * len(names) for _ in names]
    for pair in pairs:
        a, b = place[pair.a], place[pair.b]
        cells[a][b], cells[b][a] = pair.pcc, pair.alpha
    return cells


def _drawn(names: Sequence[str], cells: Cells) -> "alt.TopLevelMixin":
    """Draw the square, its colour bar and its names; a cell spans 1 on each axis."""
    import altair as alt

    size = len(names)
    points = {2: 8.0, 3: 7.0, NARROW: 5.5}.get(size, 6.0)
    rows = [
        _cell(column, row, cell, size) for row, line in enumerate(cells) for column, cell in enumerate(line) if cell
    ]
    x, x2 = alt.X("column:Q", **_axis(names, turned=size > 3)), alt.X2("right:Q")
    y, y2 = alt.Y("row:Q", **_axis(names, turned=False), sort="descending"), alt.Y2("below:Q")
    colour = alt.Color(
        "value:Q",
        scale=alt.Scale(scheme="cividis", domain=[0, 1], clamp=True),
        legend=alt.Legend(
            title="PCC above the diagonal, α below", orient="right", titleOrient="right", gradientThickness=6,
            gradientLength={"expr": "height"}, titleAlign="center", titleAnchor="middle",
        ),
    )  # fmt: skip
    data = alt.Chart({"values": rows})
    square: Any = {"stroke": "white", "strokeWidth": 1.5}
    layers = [
        data.transform_filter("datum.measurable").mark_rect(**square).encode(x, y, x2, y2, colour),
        data.transform_filter("!datum.measurable").mark_rect(fill=NEUTRAL, **square).encode(x, y, x2, y2),
        alt.Chart({"values": list(_hatching(rows))}).mark_rule(color=HATCH, strokeWidth=0.4).encode(x, y, x2, y2),
        data.mark_text(fontSize=points, lineHeight=1.2 * points, baseline="middle", lineBreak="\n").encode(
            alt.X("middle:Q"),
            alt.Y("centre:Q"),
            alt.Text("text:N"),
            color=alt.condition("datum.measurable && datum.value < 0.5", alt.value("white"), alt.value("black")),
        ),
    ]
    width = charts.PAGE if size > NARROW else charts.COLUMN
    return alt.layer(*layers).properties(
        width=width, height=round(0.8 * width), autosize=alt.AutoSizeParams(type="fit", contains="padding")
    )


def _cell(column: int, row: int, cell: Estimate, size: int) -> dict[str, Any]:
    """Return a cell's position, its figure and, if there is room, the interval."""
    lines = ["–" if np.isnan(cell.value) else f"{cell.value:z.2f}"]
    if size <= ROOMY and not np.isnan(cell.low):
        lines.append(f"[{cell.low:z.2f}, {cell.high:z.2f}]")
    if not cell.measurable:
        lines.append("n.m.")
    text = "\n".join(lines).replace("-", "\N{MINUS SIGN}")
    middle = row + 0.5 - 0.075 * (len(lines) - 1)  # with several lines, the position is that of the first
    return {
        "column": column, "right": column + 1, "middle": column + 0.5, "row": row, "below": row + 1, "centre": middle,
        "value": None if np.isnan(cell.value) else cell.value, "measurable": cell.measurable, "text": text,
    }  # fmt: skip


def _hatching(cells: Sequence[dict[str, Any]]) -> Iterator[dict[str, float]]:
    """Yield lines at 45 degrees through the cells that are not measurable."""
    for cell in cells:
        if cell["measurable"]:
            continue
        for shift in np.linspace(-1, 1, 2 * LINES + 1)[1:-1]:  # the line y = 1 - x + shift, clipped to the unit square
            left, right = max(0.0, float(shift)), min(1.0, 1 + float(shift))
            yield {
                "column": cell["column"] + left, "right": cell["column"] + right,
                "row": cell["row"] + 1 - left + float(shift), "below": cell["row"] + 1 - right + float(shift),
            }  # fmt: skip


def _axis(names: Sequence[str], turned: bool) -> dict[str, Any]:
    """Return scale and axis of one side: names in the middle of their cells, no ticks, no line."""
    import altair as alt

    lines = json.dumps({i + 0.5: _wrapped(name).splitlines() for i, name in enumerate(names)})
    raised: Any = {"condition": {"test": f"({lines})[datum.value].length > 1", "value": -4}, "value": 0}
    return {
        "scale": alt.Scale(domain=[0, len(names)], nice=False, zero=False),
        "axis": alt.Axis(
            values=[i + 0.5 for i in range(len(names))], labelExpr=f"({lines})[datum.value]", labelAngle=-90 * turned,
            labelOffset=raised, labelLineHeight=8,
            title=None, ticks=False, domain=False, grid=False, labelOverlap=False, labelLimit=120,
        ),
    }  # fmt: skip


def _wrapped(name: str, width: int = 12) -> str:
    """Break a long name in two as near to its middle as possible: after a slash, otherwise after another sign."""
    if len(name) <= width:
        return name
    breaks = [match.end() for match in re.finditer(r"/(?=.)", name)]
    breaks = breaks or [match.end() for match in re.finditer(r"[_\- ](?=.)", name)]
    middle = min(breaks, key=lambda place: abs(place - len(name) / 2), default=len(name))
    return f"{name[:middle]}\n{name[middle:]}".strip()
