"""One kind of table, written as LaTeX, Markdown, plain text and bare numbers."""

import numpy as np
import pandas as pd
import pytest

from invitro.writing.tables import (
    Cell,
    Column,
    ReportTable,
    cell_of,
    escaped,
    estimate_cell,
    number_cell,
    table_of,
    text_table,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a_b & 5 % of $x #1", r"a\_b \& 5 \% of \$x \#1"),
        ("p < 0.001, −0.2 ± 0.1", r"p $<$ 0.001, $-$0.2 $\pm$ 0.1"),
        (r"C:\x~{y}^2", r"C:\textbackslash{}x\textasciitilde{}\{y\}\textasciicircum{}2"),
        ("∞ – 3", r"$\infty$ -- 3"),
    ],
)
def test_latex_is_escaped(text: str, expected: str) -> None:
    assert escaped(text) == expected


def test_groups_of_columns_span_their_columns() -> None:
    columns = (Column("a", "a"), Column("b", "b", "B"), Column("c", "c", "B"), Column("d", "d"))
    assert ReportTable("t", "", columns, ()).groups == [("", 1), ("B", 2), ("", 1)]


def a_table() -> ReportTable:
    columns = [
        Column("rater", "rater", hidden=("file",)),
        Column("pcc", "PCC", "agreement"),
        Column("n", "texts", "agreement", hidden=("paper",)),
        Column("shown", "shown", hidden=("paper", "page")),
    ]
    rows = [
        {"rater": Cell("a_b", "a_b", tag="baseline"), "pcc": estimate_cell(-0.25, -0.5, 0.1), "n": cell_of(12)},
        {"rater": cell_of("c|d"), "pcc": number_cell(np.nan), "shown": cell_of(True)},
    ]
    return table_of("t", "Title", columns, rows, "One.", "Two.")


def test_a_medium_has_its_columns() -> None:
    table = a_table()
    assert table.caption == "One. Two."
    assert [column.key for column in table.on("paper").columns] == ["rater", "pcc"]
    assert r"a\_b (baseline) & $-$0.250 [$-$0.500, 0.100] \\" in table.latex("tab:t")
    assert table.markdown().splitlines() == [
        "| rater | agreement PCC | agreement texts |",
        "| :-- | --: | --: |",
        "| a_b (baseline) | −0.250 [−0.500, 0.100] | 12 |",
        r"| c\|d | – | – |",
    ]
    assert table.terminal() == [
        "rater           PCC                     texts",
        "a_b (baseline)  -0.250 [-0.500, 0.100]  12",
        "c|d             –                       –",
    ]


def test_files_hold_bare_numbers_and_intervals() -> None:
    frame = a_table().frame()
    assert frame.columns.tolist() == ["pcc", "pcc_low", "pcc_high", "n", "shown"]
    assert frame.iloc[0][["pcc", "pcc_low", "pcc_high", "n"]].tolist() == [-0.25, -0.5, 0.1, 12]
    assert pd.isna(frame["pcc"][1])
    assert frame["shown"].tolist()[1] == "True"


def test_texts_alone() -> None:
    table = text_table("t", "Title", [{"a": "x"}, {"a": "y", "b": "long"}], "Note.")
    assert table.terminal() == ["a  b", "x", "y  long"]
