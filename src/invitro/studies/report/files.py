"""Tables as files: LaTeX with booktabs, Markdown, and every run as CSV."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from invitro.files import whole_or_absent, write_text
from invitro.studies.report.table import Cell, Table
from invitro.studies.report.tables import costs_table, differences_table, metrics_table, plateau_table
from invitro.studies.wording import SPLITS, measured

if TYPE_CHECKING:
    from invitro.studies.report.groups import GroupSection
    from invitro.studies.runs import Runs
    from invitro.studies.study import Study
    from invitro.studies.summary import Summary

LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": "$<$", ">": "$>$", "±": r"$\pm$",
    "\N{MINUS SIGN}": "$-$", "–": "--", "→": r"$\to$", "α": r"$\alpha$", "∞": r"$\infty$",
    "\N{NO-BREAK SPACE}": "~",
}  # fmt: skip


def write_tables(
    study: "Study", runs: "Runs", summary: "Summary", directory: Path, groups: "Sequence[GroupSection]" = ()
) -> list[Path]:
    """Write ``table.tex`` (what was measured on test), ``table.md`` (all tables) and ``runs.csv`` (every job).

    Each is written whole or not at all; those of an earlier report are replaced. ``table.md`` has the tables by group
    of people, `groups`, too.
    """
    splits = [split for split in ("test", "truth_test", "val", "truth_val") if measured(summary, study, split)]
    tables = [metrics_table(study, runs, summary, split) for split in splits]
    compared = differences_table(study, runs, summary)
    levelled = plateau_table(summary, study)
    paths = [directory / name for name in ("table.tex", "table.md", "runs.csv")]
    printed = tables[0].printed() if tables else None
    write_text(paths[0], latex(printed, f"tab:{study.name}") if printed else f"% {study.name}: no run has finished\n")
    parts = [f"# {study.title}", study.question]
    for split, table in zip(splits, tables, strict=True):
        parts += [f"## Metrics on {SPLITS[split]}", markdown(table), table.caption]
    if compared is not None:
        parts += ["## Differences from the baseline", markdown(compared), compared.caption]
    if levelled is not None:
        parts += ["## Is there a plateau?", markdown(levelled), levelled.caption]
    if study.costs:
        spent = costs_table(study, runs, summary)
        parts += ["## Gains and costs", markdown(spent), spent.caption]
    for one in groups:
        parts += [f"## {one.heading}", one.verdict, markdown(one.table), one.table.caption]
        parts += [one.left_out] if one.left_out else []
    write_text(paths[1], "\n\n".join(parts) + "\n")
    with whole_or_absent(paths[2]) as temporary:
        runs.table.to_csv(temporary, index=False)
    return paths


def escape(text: str) -> str:
    """Return text as LaTeX prints it."""
    return re.sub("|".join(map(re.escape, LATEX)), lambda match: LATEX[match[0]], text)


def latex(table: Table, label: str) -> str:
    """Return a floating table across two columns, with booktabs' rules; the best of a column is bold."""
    sides = "".join("r" if table.is_numeric(place) else "l" for place in range(len(table.columns)))
    top, rules, at = [], [], 1
    for group, width in table.groups:
        top.append(rf"\multicolumn{{{width}}}{{c}}{{{escape(group)}}}" if group else " & " * (width - 1))
        rules += [rf"\cmidrule(lr){{{at}-{at + width - 1}}}"] if group else []
        at += width
    lines = [
        "% needs \\usepackage{booktabs}",
        r"\begin{table*}[t]",
        r"\centering",
        rf"\caption{{{escape(table.caption)}}}",
        rf"\label{{{label}}}",
        rf"\begin{{tabular}}{{{sides}}}",
        r"\toprule",
        *([" & ".join(top) + r" \\", " ".join(rules)] if rules else []),
        " & ".join(escape(column.head) for column in table.columns) + r" \\",
        r"\midrule",
        *(" & ".join(_latex_cell(cell) for cell in row) + r" \\" for row in table.rows),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table*}",
    ]
    return "\n".join(lines) + "\n"


def _latex_cell(cell: Cell) -> str:
    text = escape(cell.text + (f" ({cell.tag})" if cell.tag else ""))
    return rf"\textbf{{{text}}}" if cell.best else text


def markdown(table: Table) -> str:
    """Return a table as GitHub's Markdown has it; headings of groups join those of their columns."""
    heads = [f"{column.group} {column.head}".strip() for column in table.columns]
    sides = ["--:" if table.is_numeric(place) else ":--" for place in range(len(table.columns))]
    rows = [[_markdown_cell(cell) for cell in row] for row in table.rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in ([_bars(head) for head in heads], sides, *rows))


def _markdown_cell(cell: Cell) -> str:
    text = _bars(cell.text + (f" ({cell.tag})" if cell.tag else ""))
    return f"**{text}**" if cell.best else text


def _bars(text: str) -> str:
    return re.sub(r"([\\|*_`<>\[\]])", r"\\\1", text) if re.search(r"[|*_`<>\\]", text) else text
