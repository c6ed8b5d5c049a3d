"""The reliability report: how far the crowd and the labellings by LLMs agree, and how far a prompt moves a score."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from invitro import charts
from invitro.errors import refuse_if_any
from invitro.files import whole_or_absent, write_text
from invitro.labelling import reliability_text as text
from invitro.labelling.raters import (
    Facet,
    PromptShift,
    Rater,
    agreement_in_parts,
    disagreements,
    facets,
    prompt_shifts,
)
from invitro.labelling.reliability_figure import heat_map
from invitro.labels.agreement import RESAMPLES, Agreement, Estimate, alpha_estimate, pairwise
from invitro.labels.bootstrap import Groups
from invitro.scales import Scale

AMPLE = 0.5
"""Share of the texts that a rater must have scored to take part in the comparison on common texts."""
__all__ = ["Rater", "Report", "paper_figures", "reliability_report"]


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
    published = {(pair.a, pair.b): text.of_paper(paper["figures"], known[pair.a], known[pair.b]) for pair in pairs}
    crowd = [name for name, rater in known.items() if rater.llm is None]

    all_same = all(pair.n == len(complete) for pair in pairs)
    sections = [
        text.pairs_section("Agreement on the texts that both raters scored", pairs, published, crowd),
        *([] if all_same or not common else [text.common_section(common, len(complete), short)]),
        *([text.parts_section(in_parts, known, paper["figures"])] if in_parts else []),
        text.alpha_section(alphas, [pair.b for pair in pairs if pair.a in crowd and not pair.pcc.measurable]),
        *([text.prompts_section(prompts)] if prompts else []),
        text.disagreements_section(parted),
        text.paper_section(paper),
    ]
    tables = {
        "agreement": text.pairs_table({"pair": pairs, "common": common}, published),
        **({"parts": text.parts_table(in_parts)} if in_parts else {}),
        "alpha": text.alpha_table(alphas),
        **({"prompts": text.prompts_table(prompts)} if prompts else {}),
        "disagreements": parted,
    }
    drawn = "texts" if groups is None else f"the texts' {groups.reindex(ratings.index).nunique()} authors"
    heading = (
        f"{corpus or 'Texts'} on {scale.name} ({scale.minimum:g} to {scale.maximum:g}): {len(ratings)} texts, "
        f"{len(known)} raters. Intervals are 95 % percentile bootstrap intervals over {drawn} ({resamples} draws, "
        f"seed {seed})."
    )
    written = []
    for name, table in tables.items():
        written.append(folder / f"{name}.csv")
        with whole_or_absent(written[-1]) as temporary:
            table.to_csv(temporary, index=False)
    written += heat_map(list(known), pairs, folder / "reliability")
    written.append(folder / "reliability.md")
    write_text(written[-1], text.markdown([heading, *remarks], sections, "reliability.png"))
    shown = text.terminal([heading, *remarks], sections, written)
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
