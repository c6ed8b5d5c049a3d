"""What a table is made of: columns, cells, and rows of them, whatever they are written as."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from invitro.studies.wording import NONE, is_number, plain


@dataclass(frozen=True)
class Column:
    """A column: its key, its heading, the heading it stands under with others, whether a printed table has it."""

    key: str
    head: str
    group: str = ""
    printed: bool = True


@dataclass(frozen=True)
class Cell:
    """A cell: what is read, what it is sorted by (None: last), whether it is the best of its column, a remark."""

    text: str
    value: float | str | None = None
    best: bool = False
    tag: str = ""


@dataclass(frozen=True)
class Table:
    """A table.

    Args:
        name: its key on the page.
        caption: what it shows and how to read it.
        columns: in order.
        rows: cells in the order of the columns.
    """

    name: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]

    @property
    def groups(self) -> list[tuple[str, int]]:
        """Return the headings above columns, with the number of columns each spans."""
        spans: list[tuple[str, int]] = []
        for column in self.columns:
            if spans and spans[-1][0] == column.group:
                spans[-1] = (column.group, spans[-1][1] + 1)
            else:
                spans.append((column.group, 1))
        return spans

    def is_numeric(self, place: int) -> bool:
        """Whether a column holds numbers, which stand at the right."""
        values = [row[place].value for row in self.rows if row[place].value is not None]
        return bool(values) and all(is_number(value) for value in values)

    def printed(self) -> "Table":
        """Return the table without the columns that a printed one has no room for."""
        kept = [place for place, column in enumerate(self.columns) if column.printed]
        rows = tuple(tuple(row[place] for place in kept) for row in self.rows)
        return replace(self, columns=tuple(self.columns[place] for place in kept), rows=rows)


def cell_of(value: Any, text: str | None = None) -> Cell:
    """Return a cell that sorts as a number where its value is one."""
    if value is None or pd.isna(value):
        return Cell(NONE)
    return Cell(text if text is not None else plain(value), float(value) if is_number(value) else str(value))


def table_of(name: str, caption: str, columns: Iterable[Column], rows: Iterable[Mapping[str, Cell]]) -> Table:
    """Lay out rows of cells by column key."""
    columns = tuple(columns)
    return Table(name, caption, columns, tuple(tuple(row.get(one.key, Cell(NONE)) for one in columns) for row in rows))
