"""The reliability report's tables, for machines (numbers) and for people (terminal and Markdown)."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from invitro.labelling.raters import STEP, Facet, PromptShift, Rater
from invitro.labels.agreement import NOT_MEASURABLE, Agreement, Estimate

MEASURES = ("pcc", "ccc", "alpha", "rmse", "bias")
Published = Mapping[tuple[str, str], Mapping[str, float]]
"""The paper's figures by pair of columns and measure."""
LEGEND = (
    "PCC: Pearson. CCC: Lin's concordance. alpha: Krippendorff's, interval level. RMSE and bias (mean of the second "
    "rater less the first) in scale points."
)


class Section(NamedTuple):
    """A table for people: its cells are written already; `notes` stand below it."""

    title: str
    table: pd.DataFrame
    notes: tuple[str, ...] = ()


def of_paper(figures: Sequence[Mapping[str, Any]], a: Rater, b: Rater) -> dict[str, float]:
    """Return the paper's figures by measure for two raters with these models and this prompt."""
    who = sorted(rater.llm or "crowd" for rater in (a, b))
    prompts = {rater.prompt for rater in (a, b) if rater.llm is not None}
    return {
        figure["measure"]: float(figure["value"])
        for figure in figures
        if sorted(figure["raters"]) == who and prompts == {figure["prompt"]}
    }


def pairs_table(texts: Mapping[str, Sequence[Agreement]], paper: Published) -> pd.DataFrame:
    """Return one row a pair: which `texts` (``pair`` or ``common``), every measure with its interval, the paper's."""
    rows = []
    for which, pairs in texts.items():
        for pair in pairs:
            row: dict[str, Any] = {"texts": which, "a": pair.a, "b": pair.b, "n": pair.n}
            for name in MEASURES:
                row |= _columns(name, getattr(pair, name))
            figures = paper.get((pair.a, pair.b), {})
            rows.append(
                row | {"measurable": pair.pcc.measurable} | {f"paper_{m}": figures.get(m) for m in MEASURES[:3]}
            )
    return pd.DataFrame(rows)


def alpha_table(alphas: Sequence[tuple[Facet, Estimate]]) -> pd.DataFrame:
    """Return one row a set of raters, with alpha, its interval and the number of texts two of them scored."""
    rows = [
        {"what": facet.what, "raters": "; ".join(facet.raters), "n": alpha.n} | _columns("alpha", alpha)
        for facet, alpha in alphas
    ]
    return pd.DataFrame(rows)


def prompts_table(shifts: Sequence[PromptShift]) -> pd.DataFrame:
    """Return one row a comparison of prompts."""
    undefined = Estimate(math.nan, math.nan, math.nan, 0)
    return pd.DataFrame(
        [
            {"model": shift.model, "prompts": "; ".join(shift.prompts), "n": shift.n}
            | _columns("pcc", shift.pcc or undefined)
            | {name: getattr(shift, name) for name in ("difference", "sd", "moved", "measurable")}
            for shift in shifts
        ]
    )


def pairs_section(title: str, pairs: Sequence[Agreement], paper: Published, crowd: Sequence[str]) -> Section:
    """Write the pairs; where one's correlation with a column of `crowd` is not measurable, a note says what follows."""
    rows, notes = [], [LEGEND]
    for pair in pairs:
        row = {"raters": f"{pair.a} / {pair.b}", "n": str(pair.n), "PCC": _told(pair.pcc), "CCC": _told(pair.ccc)}
        row |= {"alpha": _told(pair.alpha), "RMSE": _number(pair.rmse.value), "bias": f"{pair.bias.value:+.4f}"}
        figures = paper.get((pair.a, pair.b), {})
        row["paper"] = ", ".join(f"{_upper(name)} {_published(value)}" for name, value in figures.items())
        rows.append(row)
        if pair.a in crowd and pair.b not in crowd and not pair.pcc.measurable:
            notes.append(
                f"{pair.b}: {NOT_MEASURABLE} with this model. No agreement with {pair.a} is shown, and nothing follows "
                "from its labels about prompts, languages or bias."
            )
    table = pd.DataFrame(rows)
    if any("n.m." in cell for cell in table[["PCC", "CCC", "alpha"]].to_numpy().ravel()):
        notes.insert(1, f"n.m.: {NOT_MEASURABLE}; there is no interval, or it includes 0.")
    if not table["paper"].any():
        return Section(title, table.drop(columns="paper"), tuple(notes))
    return Section(title, table, (*notes, "paper: Hasan et al., on the texts named below, which need not be these."))


def common_section(pairs: Sequence[Agreement], texts: int, short: Sequence[str]) -> Section:
    """Write the pairs on common texts, and who is left out for having scored too few."""
    section = pairs_section(f"On the {texts} texts that all scored", pairs, {}, [])
    left = f"Left out, having scored fewer than half of the texts: {', '.join(short)}."
    return section._replace(notes=(*section.notes, left)) if short else section


def parts_table(parts: Sequence[tuple[str, Agreement]]) -> pd.DataFrame:
    """Return one row a part and LLM."""
    table = pairs_table({"pair": [pair for _, pair in parts]}, {}).drop(columns="texts")
    table.insert(0, "part", [part for part, _ in parts])
    return table[[name for name in table if not str(name).startswith("paper_")]]


def parts_section(
    parts: Sequence[tuple[str, Agreement]], raters: Mapping[str, Rater], figures: Sequence[Mapping[str, Any]]
) -> Section:
    """Write agreement with the crowd part by part, with the paper's figures where they are of the same part."""
    rows = []
    for part, pair in parts:
        here = [figure for figure in figures if f"{figure['corpus']} {figure['split']}" == part]
        found = of_paper(here, raters[pair.a], raters[pair.b])
        row = {"part": part, "rater": pair.b, "n": str(pair.n)}
        row |= {"PCC": _told(pair.pcc), "CCC": _told(pair.ccc), "alpha": _told(pair.alpha)}
        row |= {"RMSE": _number(pair.rmse.value), "bias": f"{pair.bias.value:+.4f}"}
        rows.append(row | {"paper": ", ".join(f"{_upper(name)} {_published(value)}" for name, value in found.items())})
    table = pd.DataFrame(rows)
    return Section(
        "Agreement with the crowd, part by part", table if table["paper"].any() else table.drop(columns="paper")
    )


def alpha_section(alphas: Sequence[tuple[Facet, Estimate]], guessing: Sequence[str]) -> Section:
    """Write alpha of several raters; where all of them are `guessing`, nothing is said of what they differ in."""
    rows = []
    for facet, alpha in alphas:
        told = f"{NOT_MEASURABLE} with this model" if set(facet.raters) <= set(guessing) else _told(alpha)
        rows.append({"compared": facet.what, "raters": ", ".join(facet.raters), "n": str(alpha.n), "alpha": told})
    return Section("Krippendorff's alpha of several raters", pd.DataFrame(rows), ("n: texts that two or more scored.",))


def prompts_section(shifts: Sequence[PromptShift]) -> Section:
    """Write what prompts do, but for models whose agreement with the crowd is not measurable."""
    rows = []
    for shift in shifts:
        row = {"model": shift.model, "prompts": " / ".join(shift.prompts), "n": str(shift.n)}
        if shift.measurable is False:
            rows.append(row | {"PCC": f"{NOT_MEASURABLE} with this model"})
            continue
        row |= {
            "PCC": _told(shift.pcc) if shift.pcc else "",
            "difference": "" if shift.difference is None else f"{shift.difference:+.4f}",
            "SD": _number(shift.sd),
            "moved": _number(shift.moved),
        }
        rows.append(row)
    note = (
        "difference: mean of the second prompt's score less the first's. SD: of a text's score across prompts, mean "
        f"over texts. moved: share of texts whose scores lie more than {STEP:g} scale point apart."
    )
    return Section("Prompt sensitivity", pd.DataFrame(rows).fillna(""), (note,))


def disagreements_section(table: pd.DataFrame, most: int = 10) -> Section:
    """Write the largest disagreements by id."""
    written = table.head(most).copy()
    for name in written.columns.difference(["text_id", "lowest", "highest"]):
        written[name] = ["" if pd.isna(value) else f"{value:.2f}" for value in written[name]]
    return Section("Largest disagreements", written.astype("str"), ("disagreements.csv has more, to be read by id.",))


def paper_section(paper: Mapping[str, Any]) -> Section:
    """Write the paper's figures and where they hold."""
    rows = [
        {
            "raters": " / ".join(figure["raters"]),
            "prompt": figure["prompt"],
            "figure": f"{_upper(figure['measure'])} {_published(figure['value'])}",
            "on": f"{figure['corpus']} {figure['split']}",
        }
        for figure in paper["figures"]
    ]
    return Section("The paper's figures", pd.DataFrame(rows), (str(paper["source"]),))


def terminal(head: Sequence[str], sections: Sequence[Section], files: Sequence[Path]) -> str:
    """Join everything as plain text."""
    parts = ["\n".join(head)]
    for section in sections:
        rows = [[str(name) for name in section.table.columns], *section.table.to_numpy().tolist()]
        widths = [max(len(row[column]) for row in rows) for column in range(section.table.shape[1])]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        parts.append("\n".join([section.title, *lines, *section.notes]))
    parts.append("\n".join(["Written:", *(f"  {_short(path)}" for path in files)]))
    return "\n\n".join(parts)


def markdown(head: Sequence[str], sections: Sequence[Section], figure: str) -> str:
    """Join everything as Markdown, with the heat map after the first table."""
    parts = ["# Reliability", *head]
    for number, section in enumerate(sections):
        lines = [list(section.table.columns), ["---"] * section.table.shape[1], *section.table.to_numpy().tolist()]
        rows = "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
        parts += [f"## {section.title}", rows, "\n\n".join(section.notes)]
        parts += [f"![PCC above and alpha below the diagonal]({figure})"] if number == 0 else []
    return "\n\n".join(parts) + "\n"


def _short(path: Path) -> Path:
    """Return `path` as seen from the working directory, where it lies below it."""
    whole, here = path.absolute(), Path.cwd()
    return whole.relative_to(here) if whole.is_relative_to(here) else path


def _columns(name: str, estimate: Estimate) -> dict[str, float]:
    return {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}


def _told(estimate: Estimate) -> str:
    return f"{estimate}{'' if estimate.measurable else ' n.m.'}"


def _number(value: float) -> str:
    return "" if pd.isna(value) else f"{value:.4f}"


def _published(value: float) -> str:
    return f"{value:.2f}" if round(value, 2) == value else f"{value:g}"


def _upper(measure: str) -> str:
    return measure if measure == "alpha" else measure.upper()
