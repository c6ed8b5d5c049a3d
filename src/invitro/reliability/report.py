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
    disagreements,
    divided,
    drifts,
    facets,
    heat_map,
    on_same_texts,
    prompt_shifts,
)
from invitro.reliability.people import crowd_tables, shortened_table
from invitro.scales import Scale
from invitro.stats.agreement import Agreement, Groups, alpha_estimate, pairwise
from invitro.stats.intervals import NOT_MEASURABLE, Estimate
from invitro.stats.moments import RESAMPLES
from invitro.writing import charts
from invitro.writing.tables import Cell, Column, ReportTable, cell_of, number_cell, table_of, text_table
from invitro.writing.words import MINUS, number, paragraphs, rendered, said

REPORT_TEMPLATE = Path(__file__).with_name("report.j2")
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
    pairs: Sequence[tuple[str, Agreement]],
    paper: Sequence[Mapping[str, float]],
    where: Column,
    *notes: str,
) -> ReportTable:
    """Return one row per pair of raters.

    Args:
        name: the table's key.
        title: its heading.
        pairs: each with its part of the texts, or another word for the column `where`.
        paper: the paper's figures for each of them.
        where: the first column.
        notes: the notes below the table.
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
    for (word, pair), figures in zip(pairs, paper, strict=True):
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
    """Return one row per set of raters; where all are `guessing`, nothing is concluded from Krippendorff's alpha."""
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


def disagreements_table(table: pd.DataFrame, most: int = 10) -> ReportTable:
    """Return the largest disagreements by id."""
    names = ("text_id", "lowest", "highest")
    rows = [
        {str(name): str(value) if name in names else number(value, 2) for name, value in row.items()}
        for row in table.head(most).to_dict("records")
    ]
    return text_table("disagreements", "Largest disagreements", rows, said(REPORT_TEMPLATE, "disagreements"))


def paper_table(paper: Mapping[str, Any]) -> ReportTable:
    """Return the paper's figures and where they hold."""
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
        alphas: sets of raters with their Krippendorff's alpha on the texts that two or more of them scored.
        prompts: comparisons of one model's prompts.
        disagreements: the table of ``disagreements.csv``.
        text: the tables.
    """

    folder: Path
    files: tuple[Path, ...]
    pairs: tuple[Agreement, ...]
    common: tuple[Agreement, ...]
    parts: tuple[tuple[str, Agreement], ...]
    alphas: tuple[tuple[Facet, Estimate], ...]
    prompts: tuple[PromptShift, ...]
    disagreements: pd.DataFrame
    text: str

    def __str__(self) -> str:
        return self.text


def reliability_report(
    ratings: pd.DataFrame,
    groups: Groups,
    folder: str | Path,
    scale: Scale,
    raters: Mapping[str, Rater] | None = None,
    corpus: str = "",
    resamples: int = RESAMPLES,
    seed: int = 0,
    most: int = 50,
    parts: "pd.Series[str] | None" = None,
    remarks: Sequence[str] = (),
    origins: Mapping[str, pd.DataFrame] | None = None,
    people: People | None = None,
    items: Mapping[str, pd.DataFrame] | None = None,
) -> Report:
    """Compare raters and write the comparison into `folder`.

    Files: ``agreement.csv`` (pairs), ``parts.csv`` (pairs with the crowd in each part, where there are several parts),
    ``krippendorff.csv`` (several raters), ``prompts.csv`` (if a model has two prompts), ``drift.csv`` (means and
    spreads by part), ``disagreements.csv`` (ids, no texts), ``reliability.png``, ``.svg``, ``.pdf`` (a map), and last
    ``reliability.md``, the tables for people. Each is written whole or not at all.

    Args:
        ratings: scores in the units of `scale`, NaN if missing; one row per text, indexed by its id, and one
            column per rater, named as in the tables and the figure.
        groups: the author of each text by text id, for the intervals; None if every text has its own.
        folder: created if there is none.
        scale: what the scores measure.
        raters: what is known of each column; a column not listed is the crowd if named ``crowd``, otherwise an LLM.
        corpus: the corpus of these texts, for the heading.
        resamples: draws of the bootstrap.
        seed: of the draws.
        most: the most rows of ``disagreements.csv``.
        parts: the part of each text by text id, such as ``newsemp24 test``, to report agreement part by part too.
        remarks: what readers should know about the ratings, such as labels that were left out.
        origins: where each of a rater's labels comes from, by rater: batch, day and so on, by text id.
        people: what single people answered, for ``crowd.csv`` (how reliable the crowd is), ``raters.csv`` (each of
            them) and, with answers to items, ``items.csv`` and ``llm_items.csv``.
        items: by LLM, its item scores by text id, one column per item.

    Raises:
        InputError: there are fewer than two raters, an id or rater occurs twice, a rater scored nothing or outside the
            scale, a text has no group, or the chart libraries are missing.
    """
    folder = Path(folder)
    refuse_if_any(_problems(ratings, raters or {}, scale))
    known = {str(name): (raters or {}).get(name, Rater(None if name == "crowd" else name)) for name in ratings.columns}
    known = dict(sorted(known.items(), key=lambda item: item[1].llm is not None))  # people first, otherwise as given
    ratings = ratings[list(known)].astype("float64")
    short = [name for name in known if ratings[name].notna().sum() < AMPLE * len(ratings)]
    complete = ratings.drop(columns=short).dropna()
    pairs = tuple(_compared(ratings, known, groups, resamples, seed))
    common = tuple(_compared(complete, known, groups, resamples, seed)) if len(complete) > 1 else ()
    by = divided(ratings, known, parts, origins or {})
    of_texts = pd.Series(index=ratings.index, dtype="str") if parts is None else parts
    in_parts = tuple(agreement_in_parts(ratings, known, of_texts, by, groups, resamples, seed))
    drifting = tuple(drifts(ratings, known, by, groups))
    alphas = tuple(
        (facet, alpha_estimate(ratings[list(facet.raters)], groups, resamples, seed)) for facet in facets(known)
    )
    prompts = tuple(prompt_shifts(ratings, known, pairs, groups, resamples, seed))
    parted = disagreements(ratings).head(most)
    tables = _tables(pairs, common, in_parts, known, short, len(complete))
    about_people = crowd_tables(people, groups, items or {}, resamples, seed) if people is not None else {}
    crowd = crowd_of(known)
    guessing = [pair.b for pair in pairs if pair.a in crowd and not pair.pcc.measurable]
    tables |= {"krippendorff": alpha_table(alphas, guessing)}
    if prompts:
        tables |= {"prompts": prompts_table(prompts)}
        prompted = [
            (f"{model}", pair)
            for model, same in on_same_texts(ratings, known)
            for pair in pairwise(pd.concat([ratings.loc[same.index, crowd], same], axis=1), groups, resamples, seed)
            if pair.a in crowd and pair.b not in crowd
        ]
        where = Column("model", "model")
        title = "Agreement with the crowd by prompt, on the texts that a model scored with all its prompts"
        if prompted:
            tables["prompted"] = pairs_table("prompted", title, prompted, [{}] * len(prompted), where)
    tables |= {"drift": drift_table(drifting, known)} if drifting else {}
    same = not common or all(pair.n == len(complete) for pair in pairs)
    shown = [table for name, table in tables.items() if not (same and name == "common")]
    shown += [shortened_table(table) for table in about_people.values()]
    shown += [disagreements_table(parted), paper_table(paper_figures())]
    files = {name: table.frame() for name, table in (tables | about_people).items()}
    files["agreement"] = pd.concat([files["agreement"], *([files.pop("common")] if common else [])])
    files["disagreements"] = parted
    authors = None if groups is None else int(groups.reindex(ratings.index).nunique())
    heading = said(REPORT_TEMPLATE, "heading", corpus, scale, len(ratings), len(known), authors, resamples, seed)
    head = [heading, *remarks]
    written = []
    for name, frame in files.items():
        written.append(folder / f"{name}.csv")
        with whole_or_absent(written[-1]) as temporary:
            frame.to_csv(temporary, index=False)
    written += heat_map(list(known), pairs, folder / "reliability")
    written.append(folder / "reliability.md")
    page = Path(__file__).with_name("report.md.j2")
    write_text(written[-1], rendered(page, head=head, tables=shown, figure="reliability.png"))
    parts_of_text = ["\n".join(head), *("\n".join([one.title, *one.terminal(), *one.notes]) for one in shown)]
    parts_of_text.append("\n".join(["Written:", *(f"  {_short(path)}" for path in written)]))
    text = "\n\n".join(parts_of_text)
    return Report(folder, tuple(written), pairs, common, in_parts, alphas, prompts, parted, text)


def _compared(
    ratings: pd.DataFrame, raters: Mapping[str, Rater], groups: Groups, resamples: int, seed: int
) -> Iterator[Agreement]:
    """Yield every pair of raters, save a sample and the mean that it is part of, which must agree."""
    for pair in pairwise(ratings, groups, resamples, seed):
        sides = [(raters[pair.a], raters[pair.b]), (raters[pair.b], raters[pair.a])]
        if not any(one.sample is not None and other == replace(one, sample=None) for one, other in sides):
            yield pair


def crowd_of(raters: Mapping[str, Rater]) -> list[str]:
    """Return the names of the raters that are people."""
    return [name for name, rater in raters.items() if rater.llm is None]


def _tables(
    pairs: Sequence[Agreement],
    common: Sequence[Agreement],
    parts: Sequence[tuple[str, Agreement]],
    raters: Mapping[str, Rater],
    short: Sequence[str],
    complete: int,
) -> dict[str, ReportTable]:
    """Return the tables of pairs: on the texts that both scored, on those that all scored, and in each part."""
    figures, crowd = paper_figures()["figures"], crowd_of(raters)

    def notes(of: Sequence[Agreement], **more: Any) -> list[str]:
        values = [getattr(pair, measure) for pair in of for measure in CORRELATIONS]
        given = {"guessing": (), "paper": False, "short": ()} | more
        return paragraphs(REPORT_TEMPLATE, "pairs", unmeasurable=not all(one.measurable for one in values), **given)

    published = [of_paper(figures, raters[pair.a], raters[pair.b]) for pair in pairs]
    guessing = [(a, b) for a, b in ((one.a, one.b) for one in pairs if not one.pcc.measurable)
                if a in crowd and b not in crowd]  # fmt: skip
    where = Column("texts", "texts", hidden=("paper", "page"))
    tables = {
        "agreement": pairs_table(
            "agreement", "Agreement on the texts that both raters scored", [("pair", one) for one in pairs], published,
            where, *notes(pairs, guessing=guessing, paper=any(published)),
        )
    }  # fmt: skip
    if common:
        tables["common"] = pairs_table(
            "common", f"On the {complete} texts that all scored", [("common", one) for one in common],
            [{}] * len(common), where, *notes(common, short=short),
        )  # fmt: skip
    if parts:
        here = [
            of_paper([figure for figure in figures if f"{figure['corpus']} {figure['split']}" == part], raters[pair.a],
                     raters[pair.b])
            for part, pair in parts
        ]  # fmt: skip
        tables["parts"] = pairs_table(
            "parts", "Agreement with the crowd, part by part", parts, here, Column("part", "part")
        )
    return tables


def paper_figures() -> dict[str, Any]:
    """Return `paper.yaml`: ``source``, and ``figures`` with measure, raters, prompt, value, corpus and split."""
    found: dict[str, Any] = yaml.safe_load(files("invitro.labels").joinpath("paper.yaml").read_text("utf-8"))
    return found


def _problems(ratings: pd.DataFrame, raters: Mapping[str, Rater], scale: Scale) -> list[str]:
    """Return what is wrong with the ratings."""
    columns, index, problems = ratings.columns, ratings.index, []
    undrawn = charts.problem()
    if undrawn:
        problems.append(undrawn)
    if len(columns) < 2:
        found = ", ".join(map(str, columns)) or "none"
        problems.append(f"ratings: expected two raters or more, found {found}; name another label set")
    if index.has_duplicates:
        problems.append(f"ratings: expected one row per text, found text {index[index.duplicated()][0]!r} twice")
    problems += [f"raters: expected a column of the ratings, found {name!r}" for name in raters if name not in columns]
    if columns.has_duplicates:
        return [*problems, f"ratings: expected one column per rater, found {columns[columns.duplicated()][0]!r} twice"]
    for name in columns:
        scores = ratings[name].to_numpy(dtype="float64")
        wrong = scale.outside(scores)
        if pd.isna(scores).all():
            problems.append(f"ratings: expected scores by {name}, found none on these texts; leave this rater out")
        if wrong.any():
            row = int(wrong.argmax())
            problems.append(
                f"ratings: expected scores by {name} from {scale.minimum:g} to {scale.maximum:g} ({scale.name}), "
                f"found {scores[row]:g} for text {index[row]!r}"
            )
    return problems
