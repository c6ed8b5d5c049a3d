"""Tables by group of people, and the sentences that go with them."""

from collections.abc import Sequence
from typing import NamedTuple

from invitro.stats.intervals import LEVEL
from invitro.stats.moments import MEASURES
from invitro.studies.groups import COMPARED, GroupRow, GroupTable
from invitro.studies.report.table import Cell, Column, Table, cell_of, table_of
from invitro.studies.wording import METRICS, count, interval, listed, number, p_value

HEADINGS = {
    "labels": "Crowd labels against LLM labels, by group",
    "test": "Predictions against crowd labels on test, by group",
    "truth_test": "Predictions against the truth on test, by group",
}
WHAT = {
    "labels": "Crowd labels against LLM labels of the training texts that have both; bias is the mean crowd label less "
    "the mean LLM label. Neither is the truth: a group in which both disagree may be rated worse by either.",
    "test": "Predictions on the test texts against their crowd labels; bias is the mean prediction less the mean "
    "label. Metrics are means over runs.",
    "truth_test": "Predictions on the test texts against the simulator's truth; bias is the mean prediction less the "
    "mean true score. Metrics are means over runs.",
}
NAMES = METRICS | {"bias": "bias"}
SHOWN = 6
"""Differing groups that are named in a sentence; the table has all."""


class GroupSection(NamedTuple):
    """What the page and ``table.md`` show of one comparison: heading, table, what differs, what is left out."""

    heading: str
    table: Table
    verdict: str
    left_out: str


def group_section(made: GroupTable) -> GroupSection:
    """Return a comparison as it is shown."""
    return GroupSection(HEADINGS[made.kind], _table(made), _verdict(made.found.rows), _left_out(made))


def _table(made: GroupTable) -> Table:
    """Return one row a series and group."""
    columns = [
        Column("series", "LLM labels" if made.kind == "labels" else "configuration"),
        Column("attribute", "by"),
        Column("group", "group"),
        Column("texts", "texts"),
        Column("authors", "authors"),
        *(Column(name, f"{NAMES[name]} [95 %]") for name in MEASURES),
    ]
    for name in COMPARED:
        columns += [
            Column(f"{name}_apart", "difference", f"{NAMES[name]}, group less rest"),
            Column(f"{name}_p", "p", f"{NAMES[name]}, group less rest"),
            Column(f"{name}_holm", "p, Holm", f"{NAMES[name]}, group less rest"),
        ]
    rows = [_cells(row) for row in made.found.rows]
    caption = (
        f"{WHAT[made.kind]} Intervals are over texts, authors counted whole, for the runs at hand. "
        "Rest: all other texts whose group is known. p is two-sided, by a bootstrap over authors, CCC on Fisher's "
        "scale; Holm's correction is over all comparisons of this table. Codes are the corpus's own; incomes are in "
        "thirds of the texts."
    )
    if made.kind == "labels" and made.series < made.of:
        caption += f" {made.series} of {made.of} sets of LLM labels are shown, the first."
    if made.kind != "labels" and made.series < made.of:
        caption += (
            f" {made.series} of {count(made.of, 'configuration')} are shown: the baseline and the chosen one, or where "
            "there is none the best on validation."
        )
    if made.pooled:
        caption += " Where runs predicted different texts, as folds do, each text has the mean of its predictions."
    return table_of(f"groups_{made.kind}", caption, columns, rows)


def _cells(row: GroupRow) -> dict[str, Cell]:
    cells = {
        "series": Cell(row.series, row.series),
        "attribute": Cell(row.attribute, row.attribute),
        "group": Cell(row.group, row.group),  # a code is a name, not a number
        "texts": cell_of(row.texts, number(row.texts, 0)),
        "authors": cell_of(row.authors, number(row.authors, 0)),
    }
    for name, found in row.measures.items():
        sign = name == "bias"
        text = f"{number(found.value, sign=sign)} {interval(found.low, found.high, sign=sign)}".rstrip()
        cells[name] = cell_of(found.value, text)
    for name, apart in row.apart.items():
        cells |= {
            f"{name}_apart": cell_of(apart.difference, number(apart.difference, sign=True)),
            f"{name}_p": cell_of(apart.p, p_value(apart.p)),
            f"{name}_holm": cell_of(apart.p_holm, p_value(apart.p_holm)),
        }
    return cells


def _verdict(rows: Sequence[GroupRow]) -> str:
    """Tell which groups differ from the rest once corrected."""
    tests = [(row, name) for row in rows for name in row.apart if not row.mirrored]
    sure = sorted(
        ((row, name) for row, name in tests if row.apart[name].p_holm < 1 - LEVEL),
        key=lambda one: one[0].apart[one[1]].p_holm,
    )
    if not tests:
        return "No group could be compared with the rest."
    if not sure:
        return (
            f"No group differs from the rest (p < {1 - LEVEL:.2g} after Holm's correction over "
            f"{count(len(tests), 'test')}). That is no proof that all are measured alike: the intervals say how large "
            "a difference may be."
        )
    several = len({row.series for row in rows}) > 1
    told = [
        f"{NAMES[name]} of {row.attribute} {row.group}{f' ({row.series})' if several else ''} by "
        f"{number(row.apart[name].difference, sign=True)} (p {_p(row.apart[name].p_holm)})"
        for row, name in sure[:SHOWN]
    ]
    more = [f"{len(sure) - SHOWN} more"] if len(sure) > SHOWN else []
    return f"Different from the rest, after Holm's correction over {count(len(tests), 'test')}: {listed(told + more)}."


def _p(value: float) -> str:
    text = p_value(value)
    return text if text.startswith("<") else f"= {text}"


def _left_out(made: GroupTable) -> str:
    """Name the groups that are not shown, by reason; an empty string where there are none."""
    reasons: dict[str, dict[str, None]] = {}
    for one in made.found.suppressed:
        reasons.setdefault(one.why, {})[f"{one.attribute} {one.group}"] = None
    told = [f"{listed(names)} ({why})" for why, names in reasons.items()]
    return f"Not shown, since so few say little and might be recognised: {'; '.join(told)}." if told else ""
