"""One kind of table for everything that people read, in every format: page, Markdown, LaTeX, terminal, CSV.

A page (HTML) is written by the macro in ``tables.html.j2``.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any, Literal

import numpy as np
import pandas as pd

from invitro.writing.words import (
    DASH,
    MINUS,
    SPACE,
    estimate,
    interval,
    is_number,
    markdown_text,
    missing,
    number,
    plain,
)

Medium = Literal["paper", "page", "file"]
"""Media whose columns differ: LaTeX for a paper; pages, Markdown and terminals; CSV files, which have plain numbers."""

LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": "$<$", ">": "$>$", "±": r"$\pm$",
    MINUS: "$-$", "–": "--", "→": r"$\to$", "α": r"$\alpha$", "∞": r"$\infty$", SPACE: "~",
}  # fmt: skip


@dataclass(frozen=True)
class Column:
    """A column.

    Args:
        key: its name in a file, and of its cells.
        head: its heading.
        group: the heading above it, which it shares with its neighbours.
        hidden: the media that leave it out.
    """

    key: str
    head: str
    group: str = ""
    hidden: tuple[Medium, ...] = ()


@dataclass(frozen=True)
class Cell:
    """A cell.

    Args:
        text: for readers.
        value: for sorting and for files; None comes last.
        low: the lower end of the value's 95 % interval, if it has one.
        high: the upper end.
        best: whether it is the best of its column.
        tag: a remark, such as ``baseline``.
    """

    text: str
    value: float | str | None = None
    low: float | None = None
    high: float | None = None
    best: bool = False
    tag: str = ""

    @property
    def tagged(self) -> str:
        """The text with its remark in brackets."""
        return f"{self.text} ({self.tag})" if self.tag else self.text


@dataclass(frozen=True)
class ReportTable:
    """A table.

    Args:
        name: its key on a page, and the name of its file.
        title: its heading.
        columns: in order.
        rows: cells in the order of the columns.
        notes: what it shows and how to read it, one or more sentences each.
    """

    name: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()

    @property
    def caption(self) -> str:
        """The notes as one paragraph."""
        return " ".join(self.notes)

    @property
    def groups(self) -> list[tuple[str, int]]:
        """The headings above columns, with the number of columns that each spans."""
        return [(group, len([*columns])) for group, columns in groupby(self.columns, lambda column: column.group)]

    def is_numeric(self, index: int) -> bool:
        """Whether a column has numbers, which are right-aligned."""
        values = [row[index].value for row in self.rows if row[index].value is not None]
        return bool(values) and all(is_number(value) for value in values)

    def on(self, medium: Medium) -> "ReportTable":
        """Return the table without the columns that a medium leaves out."""
        kept = [index for index, column in enumerate(self.columns) if medium not in column.hidden]
        rows = tuple(tuple(row[index] for index in kept) for row in self.rows)
        return replace(self, columns=tuple(self.columns[index] for index in kept), rows=rows)

    def markdown(self) -> str:
        """Return the table as GitHub's Markdown; headings of groups join those of their columns."""
        shown = self.on("page")
        heads = [markdown_text(f"{column.group} {column.head}".strip()) for column in shown.columns]
        sides = ["--:" if shown.is_numeric(index) else ":--" for index in range(len(shown.columns))]
        rows = [
            [f"**{markdown_text(cell.tagged)}**" if cell.best else markdown_text(cell.tagged) for cell in row]
            for row in shown.rows
        ]
        return "\n".join(f"| {' | '.join(cells)} |" for cells in (heads, sides, *rows))

    def terminal(self) -> list[str]:
        """Return lines of plain text in columns: heads, then rows."""
        shown = self.on("page")
        lines = [[column.head for column in shown.columns], *([cell.tagged for cell in row] for row in shown.rows)]
        lines = [[text.replace(MINUS, "-").replace(SPACE, " ") for text in line] for line in lines]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        return ["  ".join(map(str.ljust, line, widths)).rstrip() for line in lines]

    def latex(self, label: str) -> str:
        """Return a floating table across two columns, with booktabs' rules; the best of a column is bold."""
        shown = self.on("paper")
        sides = "".join("r" if shown.is_numeric(index) else "l" for index in range(len(shown.columns)))
        top, rules, at = [], [], 1
        for group, width in shown.groups:
            top.append(rf"\multicolumn{{{width}}}{{c}}{{{escaped(group)}}}" if group else " & " * (width - 1))
            rules += [rf"\cmidrule(lr){{{at}-{at + width - 1}}}"] if group else []
            at += width
        cells = [[escaped(cell.tagged) for cell in row] for row in shown.rows]
        for row, texts in zip(shown.rows, cells, strict=True):
            texts[:] = [rf"\textbf{{{text}}}" if cell.best else text for cell, text in zip(row, texts, strict=True)]
        lines = [
            "% needs \\usepackage{booktabs}",
            r"\begin{table*}[t]",
            r"\centering",
            rf"\caption{{{escaped(shown.caption)}}}",
            rf"\label{{{label}}}",
            rf"\begin{{tabular}}{{{sides}}}",
            r"\toprule",
            *([" & ".join(top) + r" \\", " ".join(rules)] if rules else []),
            " & ".join(escaped(column.head) for column in shown.columns) + r" \\",
            r"\midrule",
            *(" & ".join(texts) + r" \\" for texts in cells),
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table*}",
        ]
        return "\n".join(lines) + "\n"

    def frame(self) -> pd.DataFrame:
        """Return the values as a table for files; an estimate's interval follows it as ``KEY_low`` and ``KEY_high``."""
        shown, columns = self.on("file"), {}
        for index, column in enumerate(shown.columns):
            cells = [row[index] for row in shown.rows]
            columns[column.key] = [cell.value for cell in cells]
            if any(cell.low is not None for cell in cells):
                columns[f"{column.key}_low"] = [np.nan if cell.low is None else cell.low for cell in cells]
                columns[f"{column.key}_high"] = [np.nan if cell.high is None else cell.high for cell in cells]
        return pd.DataFrame(columns)


def table_of(
    name: str, title: str, columns: Iterable[Column], rows: Iterable[Mapping[str, Cell]], *notes: str
) -> ReportTable:
    """Lay out rows of cells by column key; a missing cell is written as a dash."""
    columns = tuple(columns)
    cells = tuple(tuple(row.get(column.key, Cell(DASH)) for column in columns) for row in rows)
    return ReportTable(name, title, columns, cells, notes)


def text_table(name: str, title: str, rows: Sequence[Mapping[str, str]], *notes: str) -> ReportTable:
    """Return a table of strings whose keys are the headings; a missing one is empty."""
    heads = dict.fromkeys(head for row in rows for head in row)
    cells = tuple(tuple(Cell(row.get(head, ""), row.get(head)) for head in heads) for row in rows)
    return ReportTable(name, title, tuple(Column(head, head) for head in heads), cells, notes)


def cell_of(value: Any, text: str | None = None, tag: str = "") -> Cell:
    """Return a cell that sorts as a number if its value is one; a missing value is written as a dash."""
    if missing(value):
        return Cell(DASH, tag=tag)
    sorted_by = (value if isinstance(value, int) else float(value)) if is_number(value) else str(value)
    return Cell(plain(value) if text is None else text, sorted_by, tag=tag)


def number_cell(value: Any, digits: int = 3, sign: bool = False) -> Cell:
    """Return a cell with a number of `digits` decimals."""
    return cell_of(value, number(value, digits, sign))


def interval_cell(low: Any, high: Any, sign: bool = False) -> Cell:
    """Return a cell with only an interval, which sorts by its lower end."""
    return cell_of(low, interval(low, high, sign=sign))


def estimate_cell(value: Any, low: Any, high: Any, digits: int = 3, sign: bool = False) -> Cell:
    """Return a cell with an estimate and its interval, for readers and files."""
    return replace(cell_of(value, estimate(value, low, high, digits, sign)), low=low, high=high)


def escaped(text: str) -> str:
    """Escape text for LaTeX."""
    return re.sub("|".join(map(re.escape, LATEX)), lambda match: LATEX[match[0]], text)
