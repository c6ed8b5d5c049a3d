"""The reliability report's heat map: every two raters in one square, legible in one column of a two-column page."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from invitro.files import whole_or_absent
from invitro.labels.agreement import Agreement, Estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMN, PAGE = 3.5, 7.16
"""Widths in inches of one column, and of a page of two."""
NARROW, ROOMY = 4, 8
"""Most raters that one column takes, and a page, with intervals in the cells."""
STYLE: Any = {
    "font.size": 7, "hatch.linewidth": 0.4, "hatch.color": "#c4c4c4", "pdf.fonttype": 42, "svg.fonttype": "none",
    "svg.hashsalt": "invitro",
}  # fmt: skip
UNDATED: dict[str, Any] = {"png": {}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}
"""Formats, and what keeps the same figure the same file."""
NEUTRAL = "#f2f2f2"

Cells = list[list[Estimate | None]]


def heat_map(names: Sequence[str], pairs: Sequence[Agreement], path: Path) -> list[Path]:
    """Draw PCC above and Krippendorff's alpha below the diagonal; return the files ``path.png``, ``.svg``, ``.pdf``.

    The colours (cividis) differ in lightness too: readers with colour-blindness and printers without colour see the
    same order. Cells that are not measurable are hatched, so that no colour suggests a figure.

    Args:
        names: raters, in order.
        pairs: agreement of every two of them, in the order of `names`.
        path: without a suffix.
    """
    import matplotlib as mpl

    with mpl.rc_context(STYLE):
        figure = _drawn(names, _cells(names, pairs))
        written = []
        for suffix, metadata in UNDATED.items():
            written.append(path.with_name(f"{path.name}.{suffix}"))
            with whole_or_absent(written[-1]) as temporary:
                figure.savefig(temporary, dpi=300, metadata=metadata)
    return written


def _cells(names: Sequence[str], pairs: Sequence[Agreement]) -> Cells:
    """Lay the pairs out as a square."""
    place = {name: number for number, name in enumerate(names)}
    cells: Cells = [[None] * len(names) for _ in names]
    for pair in pairs:
        a, b = place[pair.a], place[pair.b]
        cells[a][b], cells[b][a] = pair.pcc, pair.alpha
    return cells


def _drawn(names: Sequence[str], cells: Cells) -> "Figure":
    """Draw the square, its colour bar and its names."""
    from matplotlib.figure import Figure

    size, wide = len(names), len(names) > NARROW
    width, points = PAGE if wide else COLUMN, {2: 7.0, 3: 7.0, NARROW: 5.5}.get(len(names), 6.0)
    figure = Figure(figsize=(width, 0.8 * width), layout="constrained")
    axes = figure.add_subplot()
    coloured = [[cell.value if cell and cell.measurable else np.nan for cell in row] for row in cells]
    image = axes.imshow(np.array(coloured), cmap="cividis", vmin=0, vmax=1)
    axes.set_facecolor(NEUTRAL)
    for row, line in enumerate(cells):
        for column, cell in enumerate(line):
            if cell:
                _write(axes, column, row, cell, points, intervals=size <= ROOMY)
            else:
                _fill(axes, column, row, facecolor="white")
    labels = [_wrapped(name) for name in names]
    axes.set_xticks(range(size), labels)
    axes.set_yticks(range(size), labels)
    axes.tick_params(length=0)
    if size > 3:
        axes.tick_params(axis="x", rotation=90)
    axes.set_xticks(np.arange(size - 1) + 0.5, minor=True)
    axes.set_yticks(np.arange(size - 1) + 0.5, minor=True)
    axes.tick_params(which="minor", length=0)
    axes.grid(which="minor", color="white", linewidth=1.5)
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(image, ax=axes, aspect=30, pad=0.02)
    bar.outline.set_visible(False)
    bar.set_label("PCC above the diagonal, α below")
    return figure


def _write(axes: "Axes", column: int, row: int, cell: Estimate, points: float, intervals: bool) -> None:
    """Write a figure into its cell, with its interval where there is room."""
    lines = ["–" if np.isnan(cell.value) else f"{cell.value:z.2f}"]
    if intervals and not np.isnan(cell.low):
        lines.append(f"[{cell.low:z.2f}, {cell.high:z.2f}]")
    if not cell.measurable:
        lines.append("n.m.")
        _fill(axes, column, row, fill=False, hatch="/////")
    colour = "white" if cell.measurable and cell.value < 0.5 else "black"
    text = "\n".join(lines).replace("-", "\N{MINUS SIGN}")
    axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=points)


def _fill(axes: "Axes", column: int, row: int, **style: Any) -> None:
    from matplotlib.patches import Rectangle

    axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, linewidth=0, **style))


def _wrapped(name: str, width: int = 12) -> str:
    """Break a long name in two, as near to its middle as its parts allow: after a slash, or else after another sign."""
    if len(name) <= width:
        return name
    breaks = [match.end() for match in re.finditer(r"/(?=.)", name)]
    breaks = breaks or [match.end() for match in re.finditer(r"[_\- ](?=.)", name)]
    middle = min(breaks, key=lambda place: abs(place - len(name) / 2), default=len(name))
    return f"{name[:middle]}\n{name[middle:]}".strip()
