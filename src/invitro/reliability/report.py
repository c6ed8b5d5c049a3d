"""The reliability report's tables, for machines (numbers) and for people (terminal and Markdown)."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import yaml

from invitro.errors import refuse_if_any
from invitro.files import whole_or_absent, write_text
from invitro.reliability.facets import (
    STEP,
    Facet,
    PromptShift,
    Rater,
    agreement_in_parts,
    disagreements,
    facets,
    prompt_shifts,
)
from invitro.reliability.heat_map import heat_map
from invitro.scales import Scale
from invitro.stats.agreement import Agreement, Groups, alpha_estimate, pairwise
from invitro.stats.bootstrap import RESAMPLES
from invitro.stats.intervals import NOT_MEASURABLE, Estimate
from invitro.writing import charts

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


AMPLE = 0.5
"""Share of the texts that a rater must have scored to take part in the comparison on common texts."""


@dataclass(frozen=True)
class Report:
    """What `reliability_report` found and where it wrote it; as a string, the tables for a terminal.

    Args:
        folder: of the files.
        files: what was written, in order.
        pairs: every two raters on the texts both scored, those with the crowd first.
        common: the same on the texts that all raters scored; raters that scored fewer than half of the texts are left
            out, so that one short labelling does not take the others' texts away.
        parts: agreement with the crowd in each part of the texts.
        alphas: sets of raters with their alpha on the texts that two or more of them scored.
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
) -> Report:
    """Compare raters and write the comparison into `folder`.

    Files: ``agreement.csv`` (pairs), ``parts.csv`` (pairs with the crowd in each part, where there are several parts),
    ``alpha.csv`` (several raters), ``prompts.csv`` (where a model has two prompts),
    ``disagreements.csv`` (ids, no texts), ``reliability.png``, ``.svg`` and ``.pdf`` (heat map), and last
    ``reliability.md``, the tables for people. Each is written whole or not at all.

    Args:
        ratings: scores in the units of `scale`, NaN where there is none; one row a text, indexed by its id, and one
            column a rater, whose name stands in tables and figure.
        groups: the author of each text by text id, for the intervals; None where every text has its own.
        folder: made when there is none.
        scale: what the scores measure.
        raters: what is known of each column; one left out is the crowd if named ``crowd``, or else an LLM of that name.
        corpus: whose texts these are, for the heading.
        resamples: draws of the bootstrap.
        seed: of the draws.
        most: rows of ``disagreements.csv``.
        parts: the part of each text by text id, such as ``newsemp24 test``, where agreement is also told part by part.
        remarks: what people should know of the ratings, such as labels that were left out.

    Raises:
        InputError: fewer than two raters, an id or rater that stands twice, a rater that scored nothing or outside the
            scale, a text without a group, or the chart libraries are missing.
    """
    folder = Path(folder)
    refuse_if_any(_problems(ratings, raters or {}, scale))
    known = {str(name): (raters or {}).get(name, Rater(None if name == "crowd" else name)) for name in ratings.columns}
    known = dict(sorted(known.items(), key=lambda item: item[1].llm is not None))  # people first, otherwise as given
    ratings = ratings[list(known)].astype("float64")
    short = [name for name in known if ratings[name].notna().sum() < AMPLE * len(ratings)]
    complete = ratings.drop(columns=short).dropna()
    pairs = tuple(pairwise(ratings, groups, resamples, seed))
    common = tuple(pairwise(complete, groups, resamples, seed)) if len(complete) > 1 else ()
    in_parts = tuple(agreement_in_parts(ratings, known, parts, groups, resamples, seed)) if parts is not None else ()
    alphas = tuple(
        (facet, alpha_estimate(ratings[list(facet.raters)], groups, resamples, seed)) for facet in facets(known)
    )
    prompts = tuple(prompt_shifts(ratings, known, pairs, groups, resamples, seed))
    parted = disagreements(ratings).head(most)
    paper = paper_figures()
    published = {(pair.a, pair.b): of_paper(paper["figures"], known[pair.a], known[pair.b]) for pair in pairs}
    crowd = [name for name, rater in known.items() if rater.llm is None]

    all_same = all(pair.n == len(complete) for pair in pairs)
    sections = [
        pairs_section("Agreement on the texts that both raters scored", pairs, published, crowd),
        *([] if all_same or not common else [common_section(common, len(complete), short)]),
        *([parts_section(in_parts, known, paper["figures"])] if in_parts else []),
        alpha_section(alphas, [pair.b for pair in pairs if pair.a in crowd and not pair.pcc.measurable]),
        *([prompts_section(prompts)] if prompts else []),
        disagreements_section(parted),
        paper_section(paper),
    ]
    tables = {
        "agreement": pairs_table({"pair": pairs, "common": common}, published),
        **({"parts": parts_table(in_parts)} if in_parts else {}),
        "alpha": alpha_table(alphas),
        **({"prompts": prompts_table(prompts)} if prompts else {}),
        "disagreements": parted,
    }
    drawn = "texts" if groups is None else f"the texts' {groups.reindex(ratings.index).nunique()} authors"
    heading = (
        f"{corpus or 'Texts'} on {scale.name} ({scale.minimum:g} to {scale.maximum:g}): {len(ratings)} texts, "
        f"{len(known)} raters. Intervals are 95 % intervals by a bootstrap over {drawn} ({resamples} draws, seed "
        f"{seed})."
    )
    written = []
    for name, table in tables.items():
        written.append(folder / f"{name}.csv")
        with whole_or_absent(written[-1]) as temporary:
            table.to_csv(temporary, index=False)
    written += heat_map(list(known), pairs, folder / "reliability")
    written.append(folder / "reliability.md")
    write_text(written[-1], markdown([heading, *remarks], sections, "reliability.png"))
    shown = terminal([heading, *remarks], sections, written)
    return Report(folder, tuple(written), pairs, common, in_parts, alphas, prompts, parted, shown)


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
        problems.append(f"ratings: expected one row a text, found text {index[index.duplicated()][0]!r} twice")
    problems += [f"raters: expected a column of the ratings, found {name!r}" for name in raters if name not in columns]
    if columns.has_duplicates:
        return [*problems, f"ratings: expected one column a rater, found {columns[columns.duplicated()][0]!r} twice"]
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
