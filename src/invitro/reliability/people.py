"""The crowd in the reliability report: how far people agree, who is careless, and each item compared with the LLMs'."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from invitro.data.ratings import People
from invitro.files import whole_or_absent, write_text
from invitro.stats.agreement import pairwise
from invitro.stats.crowd import Statistic
from invitro.stats.moments import RESAMPLES
from invitro.writing.tables import Cell, Column, ReportTable, cell_of, estimate_cell, number_cell, table_of
from invitro.writing.words import paragraphs, rendered, said

TEMPLATE = Path(__file__).with_name("people.j2")
MOST_RATERS = 30
"""Rows of the table of raters in the report; ``raters.csv`` has all."""


def crowd_tables(
    people: People,
    groups: "pd.Series[str]",
    llm_items: Mapping[str, pd.DataFrame],
    resamples: int = RESAMPLES,
) -> dict[str, ReportTable]:
    """Return the tables about people, by name: ``crowd``, ``raters``, and with item answers ``items``, ``llm_items``.

    If each rater gave one rating, of different texts, nothing can be said about raters, and there is no table of them.

    Args:
        people: their answers.
        groups: the author of each text by text id.
        llm_items: by LLM, its item scores by text id, one column per item; for ``llm_items``.
        resamples: draws of the bootstrap.
    """
    tables = {"crowd": _crowd(people, groups, resamples)}
    if people.table["ratings"].max() > 1 or people.ratings.number.max(initial=0) > 1:
        tables["raters"] = _raters(people)
    if people.items is not None:
        tables["items"] = _items(people)
        if (compared := _llm_items(people, groups, llm_items, resamples)).rows:
            tables["llm_items"] = compared
    return tables


def shortened_table(table: ReportTable) -> ReportTable:
    """Return a table without the rows beyond `MOST_RATERS`."""
    return replace(table, rows=table.rows[:MOST_RATERS])


def crowd_report(people: People, groups: "pd.Series[str]", folder: Path) -> list[str]:
    """Write the tables about people's answers alone into `folder`; return them as lines for a terminal.

    Files: a CSV for each of `crowd_tables`, and last ``crowd.md``. There are no LLM labels to compare.
    """
    tables = crowd_tables(people, groups, {})
    for name, table in tables.items():
        with whole_or_absent(folder / f"{name}.csv") as temporary:
            table.frame().to_csv(temporary, index=False)
    shown = [shortened_table(table) for table in tables.values()]
    page = Path(__file__).with_name("report.md.j2")
    head = [f"{people.scale.name}: people's answers"]
    write_text(folder / "crowd.md", rendered(page, head=head, tables=shown, figure=None))
    return [line for table in shown for line in (table.title, *table.terminal(), *table.notes, "")]


def _crowd(people: People, groups: "pd.Series[str]", resamples: int) -> ReportTable:
    """Return one row per figure of the crowd's reliability, with the reason if it is undefined."""
    reliability = people.reliability(groups, resamples=resamples)
    k = "" if reliability.typical is None else f"{reliability.typical:.1f}"
    figures: list[tuple[str, str, Statistic]] = [
        ("krippendorff", "Krippendorff's alpha", reliability.krippendorff),
        ("icc1", "ICC(1): one rating", reliability.icc1),
        ("icck", f"ICC(k): the mean of {k or 'several'} ratings", reliability.icck),
        ("bias_sd", "SD of the raters' biases", reliability.bias),
    ]
    if people.items is not None:
        figures += [
            ("cronbach", "Cronbach's alpha of the items", people.items.cronbach),
            ("omega", "McDonald's omega of the items", people.items.omega),
        ]
    columns = [Column("figure", "figure"), Column("name", "name", hidden=("paper", "page")), Column("value", "value")]
    columns += [Column("n", "n"), Column("reason", "not defined because")]
    rows = [
        {"figure": Cell(words, words), "name": cell_of(name), "value": _statistic(statistic)}
        | {"reason": cell_of(statistic.reason)}
        | {"n": cell_of("" if statistic.estimate is None else statistic.estimate.n)}
        for name, words, statistic in figures
    ]
    notes = paragraphs(TEMPLATE, "crowd", list(people.lines()), list(people.careless), len(people.raters))
    return table_of("crowd", "The crowd", columns, rows, *notes)


def _statistic(statistic: Statistic) -> Cell:
    if statistic.estimate is None:
        return Cell("")
    return estimate_cell(statistic.estimate.value, statistic.estimate.low, statistic.estimate.high)


def _raters(people: People) -> ReportTable:
    """Return one row per rater, the careless first, then those who differ most from the others."""
    raters = people.table
    order = np.lexsort((
        -raters["bias"].map(lambda bias: abs(bias or 0.0)).to_numpy(dtype=np.float64),
        raters["careless"].eq("").to_numpy(dtype=np.bool_),
    ))  # fmt: skip
    columns = [Column("rater", "rater"), Column("ratings", "ratings"), Column("mean", "mean"), Column("bias", "bias")]
    columns += [Column("noise", "noise"), Column("with_rest", "r with the rest")]
    columns += [Column("straight", "straight lines")] if people.has_items else []
    columns += [Column("careless", "careless"), Column("undefined", "not defined because")]
    numbers = ("mean", "bias", "noise", "with_rest", "straight")
    rows = [
        {column.key: number_cell(row[column.key], 2, sign=column.key == "bias") if column.key in numbers
         else cell_of(row[column.key]) for column in columns}
        for row in raters.iloc[order].reset_index().to_dict("records")
    ]  # fmt: skip
    return table_of("raters", "Raters", columns, rows, said(TEMPLATE, "raters", people.has_items))


def _items(people: People) -> ReportTable:
    """Return one row per item: its correlation with the rest, before and after reversal."""
    assert people.items is not None
    columns = [Column("item", "item"), Column("before", "as answered"), Column("after", "after reversal")]
    columns += [Column("runs", "runs against the scale"), Column("reason", "not defined because")]
    rows = [
        {"item": cell_of(item.name), "before": _statistic(item.before), "after": _statistic(item.after)}
        | {"runs": cell_of(item.runs), "reason": cell_of(item.after.reason or item.before.reason)}
        for item in people.items.items
    ]
    note = said(TEMPLATE, "items", people.items.sheets)
    return table_of("items", "Items: correlation with the other items", columns, rows, note)


def _llm_items(
    people: People, groups: "pd.Series[str]", llm_items: Mapping[str, pd.DataFrame], resamples: int
) -> ReportTable:
    """Return one row per LLM and item: its scores and people's mean answers, both as answered."""
    means = people.item_means()
    assert means is not None
    means = means.loc[means.index.isin(groups.index)]
    columns = [Column("llm", "LLM"), Column("item", "item"), Column("n", "n"), Column("pcc", "PCC")]
    columns += [Column("ccc", "CCC"), Column("bias", "bias")]
    rows = []
    for llm, scores in llm_items.items():
        for item in (item.name for item in people.scale.items if item.name in scores):
            both = pd.DataFrame({"crowd": means[item], llm: scores[item].reindex(means.index)})
            pair = pairwise(both, groups, resamples)[0]
            cells = {"llm": cell_of(llm), "item": cell_of(item), "n": cell_of(pair.n)}
            for name, estimate in (("pcc", pair.pcc), ("ccc", pair.ccc), ("bias", pair.bias)):
                cells[name] = estimate_cell(estimate.value, estimate.low, estimate.high, sign=name == "bias")
            rows.append(cells)
    return table_of("llm_items", "Item by item: people and LLMs", columns, rows, said(TEMPLATE, "llm_items"))
