"""The reliability report: its tables, for reading and as plain numbers, and the heat map."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from invitro.data.ratings import People
from invitro.errors import refuse_if_any
from invitro.files import whole_or_absent, write_text
from invitro.labels.drift import drift_table
from invitro.reliability.facets import (
    STEP,
    Facet,
    PromptShift,
    Rater,
    agreement_in_parts,
    crowd_of,
    disagreements,
    divided,
    drifts,
    facets,
    heat_map,
    on_same_texts,
    prompt_shifts,
)
from invitro.reliability.gathering import Gathered
from invitro.reliability.people import crowd_tables, shortened_table
from invitro.scales import Scale
from invitro.stats.agreement import Agreement, Groups, alpha_estimate, pairwise
from invitro.stats.intervals import NOT_MEASURABLE, Estimate
from invitro.stats.moments import RESAMPLES
from invitro.writing import charts
from invitro.writing.tables import Cell, Column, ReportTable, cell_of, number_cell, table_of, text_table
from invitro.writing.words import MINUS, number, paragraphs, rendered, said

REPORT_TEMPLATE, REPORT_PAGE = (Path(__file__).with_name(name) for name in ("report.j2", "report.md.j2"))
RATED = {"pcc": "PCC", "ccc": "CCC", "krippendorff": "Krippendorff's alpha", "rmse": "RMSE", "bias": "bias"}
"""The measures of agreement of two raters, with their headings; correlations come first."""
CORRELATIONS = ("pcc", "ccc", "krippendorff")


def of_paper(figures: Sequence[Mapping[str, Any]], a: Rater, b: Rater) -> dict[str, float]:
    """Return the paper's figures by measure for two raters with these models and this prompt."""
    who = sorted(rater.llm or "crowd" for rater in (a, b))
    prompts = {rater.prompt for rater in (a, b) if rater.llm is not None}
    return {
        figure["measure"]: float(figure["value"])
        for figure in figures
        if sorted(figure["raters"]) == who and prompts == {figure["prompt"]}
    }


def pairs_table(
    name: str,
    title: str,
    where: Column,
    pairs: Sequence[tuple[str, Agreement]],
    *notes: str,
    paper: Sequence[Mapping[str, float]] = (),
) -> ReportTable:
    """Return one row per pair of raters.

    Args:
        name: the table's key.
        title: its heading.
        where: the first column.
        pairs: each with its part of the texts, or another value of the column `where`.
        notes: the notes below the table.
        paper: the paper's figures for each pair, if there are any.
    """
    in_parts = where.key == "part"  # the other rater is always the crowd
    columns = [
        where,
        Column("raters", "rater" if in_parts else "raters", hidden=("file",)),
        *(Column(rater, rater, hidden=("paper", "page")) for rater in ("a", "b")),
        Column("n", "n"),
        *(Column(measure, head) for measure, head in RATED.items()),
        Column("measurable", "measurable", hidden=("paper", "page")),
        *(Column(f"paper_{measure}", f"paper {RATED[measure]}", hidden=("paper", "page")) for measure in CORRELATIONS),
        *([Column("paper", "paper", hidden=("file",))] if any(paper) else []),
    ]
    rows = []
    for (word, pair), figures in zip(pairs, paper or [{}] * len(pairs), strict=True):
        cells = {
            "a": cell_of(pair.a),
            "b": cell_of(pair.b),
            "raters": Cell(pair.b if in_parts else f"{pair.a} / {pair.b}"),
        }
        cells |= {where.key: Cell(word, word), "n": cell_of(pair.n), "measurable": cell_of(pair.pcc.measurable)}
        cells |= {measure: _cell(getattr(pair, measure)) for measure in CORRELATIONS}
        cells |= {"rmse": _cell(pair.rmse, number(pair.rmse.value, 4))}
        cells |= {"bias": _cell(pair.bias, number(pair.bias.value, 4, sign=True))}
        cells |= {f"paper_{measure}": cell_of(figures.get(measure)) for measure in CORRELATIONS}
        cells["paper"] = Cell(", ".join(_of_paper(measure, value) for measure, value in figures.items()))
        rows.append(cells)
    return table_of(name, title, columns, rows, *notes)


def alpha_table(alphas: Sequence[tuple[Facet, Estimate]], guessing: Sequence[str]) -> ReportTable:
    """Return one row per set of raters; if all are `guessing`, Krippendorff's alpha is not shown."""
    columns = [Column("what", "compared"), Column("raters", "raters"), Column("n", "n")]
    columns.append(Column("krippendorff", RATED["krippendorff"]))
    rows = [
        {"what": cell_of(facet.what), "raters": cell_of("; ".join(facet.raters)), "n": cell_of(alpha.n)}
        | {"krippendorff": _cell(alpha, GUESSED if set(facet.raters) <= set(guessing) else None)}
        for facet, alpha in alphas
    ]
    title = "Krippendorff's alpha of several raters"
    return table_of("krippendorff", title, columns, rows, said(REPORT_TEMPLATE, "several"))


def prompts_table(shifts: Sequence[PromptShift]) -> ReportTable:
    """Return one row per comparison of prompts; no figures are shown for a model whose agreement is not measurable."""
    columns = [
        Column("model", "model"),
        Column("prompts", "prompts"),
        Column("n", "n"),
        Column("pcc", "PCC"),
        Column("difference", "difference"),
        Column("sd", "SD"),
        Column("moved", "moved"),
        Column("measurable", "measurable", hidden=("paper", "page")),
    ]
    rows = []
    for shift in shifts:
        pcc = shift.pcc or Estimate(math.nan, math.nan, math.nan, 0)
        cells = {name: number_cell(getattr(shift, name), 4, sign=name == "difference") for name in SHIFTS}
        if hidden := shift.measurable is False:
            cells = {name: replace(cell, text="") for name, cell in cells.items()}
        cells |= {
            "model": cell_of(shift.model),
            "prompts": cell_of("; ".join(shift.prompts), " / ".join(shift.prompts)),
            "n": cell_of(shift.n),
            "pcc": _cell(pcc, GUESSED if hidden else None if shift.pcc else ""),
            "measurable": cell_of(shift.measurable),
        }
        rows.append(cells)
    return table_of("prompts", "Prompt sensitivity", columns, rows, said(REPORT_TEMPLATE, "prompts", STEP))


SHIFTS = ("difference", "sd", "moved")
GUESSED = f"{NOT_MEASURABLE} with this model"


def disagreements_table(table: pd.DataFrame) -> ReportTable:
    """Return the ten largest disagreements by id."""
    names = ("text_id", "lowest", "highest")
    rows = [
        {str(name): str(value) if name in names else number(value, 2) for name, value in row.items()}
        for row in table.head(10).to_dict("records")
    ]
    return text_table("disagreements", "Largest disagreements", rows, said(REPORT_TEMPLATE, "disagreements"))


def paper_table(paper: Mapping[str, Any]) -> ReportTable:
    """Return the paper's figures and the texts that they are for."""
    rows = [
        {
            "raters": " / ".join(figure["raters"]),
            "prompt": figure["prompt"],
            "figure": _of_paper(figure["measure"], figure["value"]),
            "on": f"{figure['corpus']} {figure['split']}",
        }
        for figure in paper["figures"]
    ]
    return text_table("paper", "The paper's figures", rows, str(paper["source"]))


def _cell(estimate: Estimate, text: str | None = None) -> Cell:
    """Return a cell with an estimate and its interval; `text` is shown instead of both."""
    shown = f"{estimate}{'' if estimate.measurable else ' n.m.'}".replace("-", MINUS)
    return replace(cell_of(estimate.value, shown), text=shown if text is None else text, low=estimate.low,
                   high=estimate.high)  # fmt: skip


def _of_paper(measure: str, value: float) -> str:
    return f"{RATED[measure]} {f'{value:.2f}' if round(value, 2) == value else f'{value:g}'}"


def _short(path: Path) -> Path:
    """Return `path` relative to the working directory, if it is below it."""
    whole, here = path.absolute(), Path.cwd()
    return whole.relative_to(here) if whole.is_relative_to(here) else path


AMPLE = 0.5
"""Share of the texts that a rater must have scored to take part in the comparison on common texts."""
MOST_DISAGREEMENTS = 50
"""Rows of ``disagreements.csv``."""


@dataclass(frozen=True)
class Report:
    """The results of `reliability_report` and the files it wrote; as a string, the tables for a terminal.

    Args:
        folder: the folder of the files.
        files: the files written, in order.
        pairs: every pair of raters on the texts that both scored, those with the crowd first.
        common: the same on the texts that all raters scored; raters that scored fewer than half of the texts are left
            out, so that one short labelling does not remove the others' texts.
        parts: agreement with the crowd in each part of the texts.
        prompts: comparisons of one model's prompts.
        text: the tables.
    """

    folder: Path
    files: tuple[Path, ...]
    pairs: tuple[Agreement, ...]
    common: tuple[Agreement, ...]
    parts: tuple[tuple[str, Agreement], ...]
    prompts: tuple[PromptShift, ...]
    text: str

    def __str__(self) -> str:
        return self.text


def reliability_report(
    gathered: Gathered,
    folder: Path,
    scale: Scale,
    corpus: str = "",
    people: People | None = None,
    resamples: int = RESAMPLES,
) -> Report:
    """Compare raters and write the comparison into `folder`.

    Files: ``agreement.csv`` (pairs), ``parts.csv`` (pairs with the crowd in each part, if there are several),
    ``krippendorff.csv`` (several raters), ``prompts.csv`` (if a model has two prompts), ``drift.csv`` (means and
    spreads by part), ``disagreements.csv`` (ids, no texts), ``reliability.png``, ``.svg``, ``.pdf`` (a map), and last
    ``reliability.md``, the tables for people. Each is written whole or not at all.

    Args:
        gathered: everybody's scores.
        folder: created if it is missing.
        scale: the scale of the scores.
        corpus: the corpus of these texts, for the heading.
        people: the answers of single people, for ``crowd.csv`` (how reliable the crowd is), ``raters.csv`` (each of
            them) and, with answers to items, ``items.csv`` and ``llm_items.csv``.
        resamples: draws of the bootstrap.

    Raises:
        InputError: there are fewer than two raters, or the chart libraries are missing.
    """
    ratings, raters, groups = gathered.ratings, gathered.raters, gathered.groups
    refuse_if_any(_problems(list(raters)))
    short = [name for name in raters if ratings[name].notna().sum() < AMPLE * len(ratings)]
    complete = ratings.drop(columns=short).dropna()
    pairs = tuple(_compared(ratings, raters, groups, resamples))
    common = tuple(_compared(complete, raters, groups, resamples)) if len(complete) > 1 else ()
    by = divided(ratings, raters, gathered.parts, gathered.origins)
    in_parts = tuple(agreement_in_parts(ratings, raters, gathered.parts, by, groups, resamples))
    prompts = tuple(prompt_shifts(ratings, raters, pairs, groups, resamples))
    paper = paper_figures()
    tables = _tables(paper["figures"], pairs, common, in_parts, raters, short, len(complete))
    crowd = crowd_of(raters)
    guessing = [pair.b for pair in pairs if pair.a in crowd and not pair.pcc.measurable]
    alphas = [(facet, alpha_estimate(ratings[list(facet.raters)], groups, resamples)) for facet in facets(raters)]
    tables["krippendorff"] = alpha_table(alphas, guessing)
    if prompts:
        tables["prompts"] = prompts_table(prompts)
        prompted = [
            (model, pair)
            for model, same in on_same_texts(ratings, raters)
            for pair in pairwise(pd.concat([ratings.loc[same.index, crowd], same], axis=1), groups, resamples)
            if pair.a in crowd and pair.b not in crowd
        ]
        where = Column("model", "model")
        title = "Agreement with the crowd by prompt, on the texts that a model scored with all its prompts"
        if prompted:
            tables["prompted"] = pairs_table("prompted", title, where, prompted)
    if drifting := list(drifts(ratings, raters, by, groups)):
        tables["drift"] = drift_table(drifting, raters)
    parted = disagreements(ratings).head(MOST_DISAGREEMENTS)
    about_people = crowd_tables(people, groups, gathered.items, resamples) if people is not None else {}
    same = all(pair.n == len(complete) for pair in pairs)
    shown = [table for name, table in tables.items() if not (same and name == "common")]
    shown += [shortened_table(table) for table in about_people.values()]
    shown += [disagreements_table(parted), paper_table(paper)]
    files = {name: table.frame() for name, table in (tables | about_people).items()}
    files["agreement"] = pd.concat([files["agreement"], *([files.pop("common")] if common else [])])
    files["disagreements"] = parted
    authors = groups.reindex(ratings.index).nunique()
    head = [said(REPORT_TEMPLATE, "heading", corpus, scale, len(ratings), len(raters), authors, resamples)]
    head += gathered.remarks
    written = []
    for name, frame in files.items():
        written.append(folder / f"{name}.csv")
        with whole_or_absent(written[-1]) as temporary:
            frame.to_csv(temporary, index=False)
    written += heat_map(list(raters), pairs, folder / "reliability")
    written.append(folder / "reliability.md")
    write_text(written[-1], rendered(REPORT_PAGE, head=head, tables=shown, figure="reliability.png"))
    blocks = [head, *([table.title, *table.terminal(), *table.notes] for table in shown)]
    blocks.append(["Written:", *(f"  {_short(path)}" for path in written)])
    text = "\n\n".join("\n".join(lines) for lines in blocks)
    return Report(folder, tuple(written), pairs, common, in_parts, prompts, text)


def _compared(
    ratings: pd.DataFrame, raters: Mapping[str, Rater], groups: Groups, resamples: int
) -> Iterator[Agreement]:
    """Yield every pair of raters, except a sample and the mean that contains it, which must agree."""
    for pair in pairwise(ratings, groups, resamples):
        sides = [(raters[pair.a], raters[pair.b]), (raters[pair.b], raters[pair.a])]
        if not any(rater.sample is not None and other == replace(rater, sample=None) for rater, other in sides):
            yield pair


def _tables(
    figures: Sequence[Mapping[str, Any]],
    pairs: Sequence[Agreement],
    common: Sequence[Agreement],
    parts: Sequence[tuple[str, Agreement]],
    raters: Mapping[str, Rater],
    short: Sequence[str],
    complete: int,
) -> dict[str, ReportTable]:
    """Return the tables of pairs: on the texts that both scored, on those that all scored, and in each part."""
    crowd = crowd_of(raters)

    def notes(of: Sequence[Agreement], **more: Any) -> list[str]:
        values = [getattr(pair, measure) for pair in of for measure in CORRELATIONS]
        return paragraphs(REPORT_TEMPLATE, "pairs", not all(estimate.measurable for estimate in values), **more)

    published = [of_paper(figures, raters[pair.a], raters[pair.b]) for pair in pairs]
    guessing = [(pair.a, pair.b) for pair in pairs if pair.a in crowd and not pair.pcc.measurable]
    where = Column("texts", "texts", hidden=("paper", "page"))
    tables = {
        "agreement": pairs_table(
            "agreement", "Agreement on the texts that both raters scored", where, [("pair", pair) for pair in pairs],
            *notes(pairs, guessing=guessing, paper=any(published)), paper=published,
        )
    }  # fmt: skip
    if common:
        title, rows = f"On the {complete} texts that all raters scored", [("common", pair) for pair in common]
        tables["common"] = pairs_table("common", title, where, rows, *notes(common, short=short))
    if parts:
        here = [
            of_paper([figure for figure in figures if f"{figure['corpus']} {figure['split']}" == part], raters[pair.a],
                     raters[pair.b])
            for part, pair in parts
        ]  # fmt: skip
        title = "Agreement with the crowd, part by part"
        tables["parts"] = pairs_table("parts", title, Column("part", "part"), parts, paper=here)
    return tables


def paper_figures() -> dict[str, Any]:
    """Return `paper.yaml`: ``source``, and ``figures`` with measure, raters, prompt, value, corpus and split."""
    paper: dict[str, Any] = yaml.safe_load(files("invitro.labels").joinpath("paper.yaml").read_text("utf-8"))
    return paper


def _problems(raters: Sequence[str]) -> Iterator[str]:
    """Yield the reasons why a report cannot be made."""
    if undrawn := charts.problem():
        yield undrawn
    if len(raters) < 2:
        yield f"ratings: expected two or more raters, found {', '.join(raters) or 'none'}; name another label set"
