"""Tables by group of people, and the sentences that go with them."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from invitro.stats.moments import MEASURES
from invitro.studies.groups import COMPARED, GroupRow, GroupTable
from invitro.studies.wording import METRIC_NAMES, SIGNIFICANT
from invitro.templates import said
from invitro.writing.tables import Cell, Column, ReportTable, cell_of, estimate_cell, number_cell, table_of
from invitro.writing.words import p_value

GROUPS_TEMPLATE = Path(__file__).with_name("groups.j2")
NAMES = METRIC_NAMES | {"bias": "bias"}


class GroupSection(NamedTuple):
    """What the page and ``table.md`` show of one comparison: the table, what differs, what is left out."""

    table: ReportTable
    verdict: str
    left_out: str


def group_section(made: GroupTable) -> GroupSection:
    """Return a comparison as it is shown."""
    rows = made.found.rows
    tests = [(row, name) for row in rows for name in row.apart if not row.mirrored]
    different = [(row, name) for row, name in tests if row.apart[name].p_holm < SIGNIFICANT]
    different.sort(key=lambda one: one[0].apart[one[1]].p_holm)
    several = len({row.series for row in rows}) > 1
    named = [
        said(GROUPS_TEMPLATE, "different", NAMES[name], f"{row.attribute} {row.group}", row.series if several else "",
             row.apart[name].difference, row.apart[name].p_holm)
        for row, name in different
    ]  # fmt: skip
    reasons: dict[str, dict[str, None]] = {}
    for one in made.found.suppressed:
        reasons.setdefault(one.why, {})[f"{one.attribute} {one.group}"] = None
    verdict = said(GROUPS_TEMPLATE, "verdict", len(tests), named, f"{SIGNIFICANT:g}")
    return GroupSection(_table(made, rows), verdict, said(GROUPS_TEMPLATE, "left_out", reasons))


def _table(made: GroupTable, rows: Sequence[GroupRow]) -> ReportTable:
    """Return one row per series and group."""
    columns = [
        Column("series", "LLM labels" if made.kind == "labels" else "configuration"),
        Column("attribute", "by"),
        *(Column(name, name) for name in ("group", "texts", "authors")),
        *(Column(name, f"{NAMES[name]} [95 %]") for name in MEASURES),
        *(
            Column(f"{name}_{part}", head, f"{NAMES[name]}, group minus rest")
            for name in COMPARED
            for part, head in (("apart", "difference"), ("p", "p"), ("holm", "p, Holm"))
        ),
    ]
    caption = said(GROUPS_TEMPLATE, "caption", made.kind, made.series, made.of, made.pooled)
    return table_of(
        f"groups_{made.kind}",
        said(GROUPS_TEMPLATE, "heading", made.kind),
        columns,
        [_cells(row) for row in rows],
        caption,
    )


def _cells(row: GroupRow) -> dict[str, Cell]:
    # A group's code is a name and not a number.
    cells = {name: Cell(text, text) for name in ("series", "attribute", "group") for text in (getattr(row, name),)}
    cells |= {"texts": number_cell(row.texts, 0), "authors": number_cell(row.authors, 0)}
    for name, one in row.measures.items():
        cells[name] = estimate_cell(one.value, one.low, one.high, sign=name == "bias")
    for name, apart in row.apart.items():
        cells |= {
            f"{name}_apart": number_cell(apart.difference, sign=True),
            f"{name}_p": cell_of(apart.p, p_value(apart.p)),
            f"{name}_holm": cell_of(apart.p_holm, p_value(apart.p_holm)),
        }
    return cells
