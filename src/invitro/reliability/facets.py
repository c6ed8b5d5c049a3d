"""Where raters agree and differ: by LLM, prompt, revision, variant and sample, and text by text.

The heat map shows every pair of raters in one square, legible in one column of a page with two.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, product
from pathlib import Path
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from invitro.labels.drift import DriftPart, drift, origins_of
from invitro.stats.agreement import Agreement, Groups, pairwise
from invitro.stats.intervals import Estimate
from invitro.writing import charts

STEP = 1.0
"""Two scores more than this many scale points apart count as moved."""
SLACK = 1e-9
"""How much rounding may add to a difference: 4.4 - 3.4 is not more than 1."""
ALIKE = {
    "llm": ("prompt", "variant", "sample"),
    "prompt": ("llm", "revision", "variant", "sample"),
    "revision": ("llm", "prompt", "variant", "sample"),
    "variant": ("llm", "prompt", "revision", "sample"),
    "sample": ("llm", "prompt", "revision", "variant"),
}
"""What must be equal when raters are compared by each attribute; two LLMs cannot share a revision."""


@dataclass(frozen=True)
class Rater:
    """Who gave a column of scores: people if `llm` is None, otherwise one labelling by a language model.

    Args:
        llm: the model, as a choice in the group ``llm``.
        prompt: as a choice in the group ``prompt``.
        revision: of the model.
        sample: the number of the sample, if texts were scored several times; None is the mean of all samples.
        variant: anything else that decides the scores, such as the readout.
    """

    llm: str | None = None
    prompt: str | None = None
    revision: str | None = None
    sample: int | None = None
    variant: str | None = None

    @property
    def model(self) -> str:
        """The model with its revision, if known."""
        return f"{self.llm}@{self.revision}" if self.revision else str(self.llm)


@dataclass(frozen=True)
class Facet:
    """Several raters; `what` says how they differ."""

    what: str
    raters: tuple[str, ...]


@dataclass(frozen=True)
class PromptShift:
    """How the choice of prompt changes the scores of one model.

    Args:
        model: the model, with its revision and variant if known.
        prompts: the prompts compared; samples of one prompt are averaged first.
        n: how many texts were scored with all of them.
        pcc: correlation between two prompts; None for more than two.
        difference: mean of the second prompt's score minus the first's, in scale points; None for more than two.
        sd: mean over texts of the standard deviation (divisor k - 1) of a text's score across the k prompts.
        moved: share of texts whose highest and lowest scores are more than `STEP` scale points apart.
        measurable: whether, with any prompt, the interval of the model's PCC with the crowd excludes 0; None without a
            crowd. If False, nothing can be concluded about prompts.
    """

    model: str
    prompts: tuple[str, ...]
    n: int
    pcc: Estimate | None
    difference: float | None
    sd: float
    moved: float
    measurable: bool | None


def crowd_of(raters: Mapping[str, Rater]) -> list[str]:
    """Return the names of the raters that are people."""
    return [name for name, rater in raters.items() if rater.llm is None]


def facets(raters: Mapping[str, Rater]) -> list[Facet]:
    """Return the sets of raters to compare: all, those that differ in one attribute only, and all LLM labellings.

    A mean necessarily agrees with its own samples: if both are raters, samples are compared only with each other.
    """
    whole = {name: rater for name, rater in raters.items() if not _is_part(rater, raters)}
    sets = [Facet("all raters", tuple(whole))]
    llms = {name: rater for name, rater in whole.items() if rater.llm is not None}
    for attribute, same in ALIKE.items():
        groups: dict[tuple[object, ...], list[str]] = {}
        samples = {name: rater for name, rater in raters.items() if rater.sample is not None}
        for name, rater in (samples if attribute == "sample" else llms).items():
            groups.setdefault(tuple(getattr(rater, trait) for trait in same), []).append(name)
        for key, names in groups.items():
            if len({getattr(raters[name], attribute) for name in names}) > 1:
                fixed = ", ".join(
                    f"{trait} {value}" for trait, value in zip(same, key, strict=True) if value is not None
                )
                what = f"between {'LLMs' if attribute == 'llm' else attribute + 's'}{f' ({fixed})' if fixed else ''}"
                sets.append(Facet(what, tuple(names)))
    if len(llms) > 1 and tuple(llms) not in [facet.raters for facet in sets]:
        sets.append(Facet("all LLM labels", tuple(llms)))
    return sets


def _is_part(rater: Rater, raters: Mapping[str, Rater]) -> bool:
    """Whether this is a sample whose mean is a rater too."""
    return rater.sample is not None and replace(rater, sample=None) in raters.values()


def on_same_texts(ratings: pd.DataFrame, raters: Mapping[str, Rater]) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield each model that has several prompts, with its scores on the texts that it scored with all of them.

    Columns are prompts, whose samples are averaged.
    """
    models = [_model(rater) for rater in raters.values() if rater.llm is not None and rater.prompt]
    for model in dict.fromkeys(models):
        names = _prompted_by(model, raters)
        prompts = dict.fromkeys(str(raters[name].prompt) for name in names)
        by_prompt = {prompt: [name for name in names if raters[name].prompt == prompt] for prompt in prompts}
        if len(by_prompt) > 1:
            scores = {prompt: ratings[labellings].mean(axis=1) for prompt, labellings in by_prompt.items()}
            yield model, pd.DataFrame(scores).dropna()


def _model(rater: Rater) -> str:
    return f"{rater.model} ({rater.variant})" if rater.variant else rater.model


def _prompted_by(model: str, raters: Mapping[str, Rater]) -> list[str]:
    """Return the names of a model's labellings with a prompt, without samples whose mean is one of them."""
    return [
        name
        for name, rater in raters.items()
        if rater.llm is not None and rater.prompt and _model(rater) == model and not _is_part(rater, raters)
    ]


def prompt_shifts(
    ratings: pd.DataFrame,
    raters: Mapping[str, Rater],
    pairs: Sequence[Agreement],
    groups: Groups,
    resamples: int,
) -> Iterator[PromptShift]:
    """Compare every two prompts of each model and variant, and all of them if there are more than two.

    All of a model's prompts are compared on the same texts: those that it scored with each of them.

    Args:
        ratings: one row per text, one column per rater.
        raters: who gave each column.
        pairs: agreement of the columns, which shows whether a model's labels relate to the crowd's.
        groups: see `pairwise`.
        resamples: see `pairwise`.
    """
    for model, by_prompt in on_same_texts(ratings, raters):
        labellings = set(_prompted_by(model, raters))
        with_crowd = [pair.pcc.measurable for pair in pairs if raters[pair.a].llm is None and pair.b in labellings]
        measurable = any(with_crowd) if with_crowd else None
        columns = list(map(str, by_prompt))
        sets = list(combinations(columns, 2)) + ([tuple(columns)] if len(columns) > 2 else [])
        for prompts in sets:
            scores = by_prompt[list(prompts)]
            spread = scores.max(axis=1) - scores.min(axis=1)
            two = pairwise(scores, groups, resamples)[0] if len(prompts) == 2 else None
            yield PromptShift(
                model=model,
                prompts=prompts,
                n=len(scores),
                pcc=two.pcc if two else None,
                difference=two.bias.value if two else None,
                sd=float(scores.std(axis=1, ddof=1).mean()),
                moved=float((spread > STEP + SLACK).mean()),
                measurable=measurable,
            )


def agreement_in_parts(
    ratings: pd.DataFrame,
    raters: Mapping[str, Rater],
    parts: "pd.Series[str]",
    by: Mapping[str, pd.DataFrame],
    groups: Groups,
    resamples: int,
) -> Iterator[tuple[str, Agreement]]:
    """Yield every LLM's agreement with the crowd in each part of the texts, such as each corpus of a combination.

    Corpora differ in their mean scores, which alone produces a correlation across corpora that exists within none.

    Args:
        ratings: one row per text, one column per rater.
        raters: who gave each column.
        parts: the part of each text by text id; with only one part, nothing is yielded.
        by: what else divides each rater's labels, such as batch and day; see `divided`.
        groups: see `pairwise`.
        resamples: see `pairwise`.
    """
    crowd, of_texts = crowd_of(raters), parts.reindex(ratings.index)
    llms, names = [name for name in raters if name not in crowd], of_texts.dropna().unique()
    divisions = [(part, of_texts == part, llms) for part in names if len(names) > 1]
    divisions += [
        (f"{origin} {part}", origins[origin] == part, [name])
        for name, origins in by.items()
        for origin in origins.columns.drop("split", errors="ignore")
        for part in origins[origin].dropna().unique()
    ]
    for part, inside, labellings in divisions:
        for pair in product(crowd, labellings):
            rows = ratings.loc[inside.to_numpy(), list(pair)]
            if rows.notna().all(axis=1).sum() > 1:
                yield part, pairwise(rows, groups, resamples)[0]


def divided(
    ratings: pd.DataFrame,
    raters: Mapping[str, Rater],
    parts: "pd.Series[str]",
    origins: Mapping[str, pd.DataFrame],
) -> dict[str, pd.DataFrame]:
    """Return the divisions of each LLM's labels: the split (or whether texts are rated), and those in `origins`."""
    crowd = crowd_of(raters)
    if parts.nunique() < 2 and crowd:
        parts = ratings[crowd].notna().any(axis=1).map({True: "rated", False: "unrated"})
    nothing = pd.DataFrame(index=ratings.index)
    return {
        name: origins_of(origins.get(name, nothing).assign(llm_label=ratings[name]), parts)
        for name, rater in raters.items()
        if rater.llm is not None and not _is_part(rater, raters)
    }


def drifts(
    ratings: pd.DataFrame, raters: Mapping[str, Rater], by: Mapping[str, pd.DataFrame], groups: "pd.Series[str]"
) -> Iterator[tuple[str, DriftPart]]:
    """Yield means and spreads of every LLM's labels by part, and of the difference between every two LLMs by split.

    A difference between two LLMs that score the same texts depends less on how these differ from part to part.

    Args:
        ratings: one row per text, one column per rater.
        raters: who gave each column.
        by: what divides each rater's labels, see `divided`.
        groups: the author of each text.
    """
    crowd = next((ratings[name] for name in crowd_of(raters)), None)
    for name, origins in by.items():
        for part in drift(ratings[name], origins, groups, crowd):
            yield name, part
    for first, second in combinations(by, 2):
        both = [by[name][["split"]] for name in (first, second) if "split" in by[name]]
        for part in drift(ratings[second] - ratings[first], both[0], groups) if len(both) == 2 else ():
            yield f"{second} minus {first}", part


def disagreements(ratings: pd.DataFrame) -> pd.DataFrame:
    """Return one row per text that at least two raters scored, the largest spread first, ties by id.

    Columns: ``text_id``; ``spread``, the highest minus the lowest score; ``lowest`` and ``highest``, who gave them (the
    first, if several did); and all scores. The texts themselves are not included.
    """
    rated = ratings[ratings.notna().sum(axis=1) >= 2]
    table = pd.DataFrame(
        {
            "text_id": rated.index,
            "spread": (rated.max(axis=1) - rated.min(axis=1)).to_numpy(),
            "lowest": rated.idxmin(axis=1).to_numpy(),
            "highest": rated.idxmax(axis=1).to_numpy(),
        }
    )
    table = pd.concat([table, rated.reset_index(drop=True)], axis=1)
    return table.sort_values(["spread", "text_id"], ascending=[False, True], kind="stable", ignore_index=True)


NARROW, ROOMY = 4, 8
"""How many raters fit in one column, and on a page, with intervals in the cells."""
NEUTRAL, HATCH, LINES = "#f2f2f2", "#c4c4c4", 5
"""Colours of the background and hatching of an unmeasurable cell, and its lines on each side of the diagonal."""

Cells = list[list[Estimate | None]]


def heat_map(names: Sequence[str], pairs: Sequence[Agreement], path: Path) -> list[Path]:
    """Draw PCC above and Krippendorff's alpha below the diagonal; return the files ``path.png``, ``.svg``, ``.pdf``.

    The colours (cividis) differ in lightness too: colour-blind readers see the same order, and so does anyone who
    prints without colour. Cells that are not measurable are hatched, so that no colour suggests a figure.

    Args:
        names: raters, in order.
        pairs: agreement of every pair of raters, in the order of `names`.
        path: without a suffix.
    """
    return charts.save(_drawn(names, _cells(names, pairs)), path)


def _cells(names: Sequence[str], pairs: Sequence[Agreement]) -> Cells:
    """Lay the pairs out as a square."""
    position = {name: number for number, name in enumerate(names)}
    cells: Cells = [[None] * len(names) for _ in names]
    for pair in pairs:
        a, b = position[pair.a], position[pair.b]
        cells[a][b], cells[b][a] = pair.pcc, pair.krippendorff
    return cells


def _drawn(names: Sequence[str], cells: Cells) -> alt.TopLevelMixin:
    """Draw the square, its colour bar and its names; a cell spans 1 on each axis."""
    size = len(names)
    points = {2: 8.0, 3: 7.0, NARROW: 5.5}.get(size, 6.0)
    rows = [
        _cell(column, row, cell, size) for row, line in enumerate(cells) for column, cell in enumerate(line) if cell
    ]
    x, x2 = alt.X("column:Q", **_axis(names, turned=size > 3)), alt.X2("right:Q")
    y, y2 = alt.Y("row:Q", **_axis(names, turned=False), sort="descending"), alt.Y2("below:Q")
    colour = alt.Color(
        "value:Q",
        scale=alt.Scale(scheme="cividis", domain=[0, 1], clamp=True),
        legend=alt.Legend(
            title="PCC above the diagonal, α below", orient="right", titleOrient="right", gradientThickness=6,
            gradientLength={"expr": "height"}, titleAlign="center", titleAnchor="middle",
        ),
    )  # fmt: skip
    data = charts.chart(rows)
    square: Any = {"stroke": "white", "strokeWidth": 1.5}
    layers = [
        data.transform_filter("datum.measurable").mark_rect(**square).encode(x, y, x2, y2, colour),
        data.transform_filter("!datum.measurable").mark_rect(fill=NEUTRAL, **square).encode(x, y, x2, y2),
        charts.chart([*_hatching(rows)]).mark_rule(color=HATCH, strokeWidth=0.4).encode(x, y, x2, y2),
        data.mark_text(fontSize=points, lineHeight=1.2 * points, baseline="middle", lineBreak="\n").encode(
            alt.X("middle:Q"),
            alt.Y("centre:Q"),
            alt.Text("text:N"),
            color=alt.condition("datum.measurable && datum.value < 0.5", alt.value("white"), alt.value("black")),
        ),
    ]
    width = charts.PAGE if size > NARROW else charts.COLUMN
    return alt.layer(*layers).properties(
        width=width, height=round(0.8 * width), autosize=alt.AutoSizeParams(type="fit", contains="padding")
    )


def _cell(column: int, row: int, cell: Estimate, size: int) -> dict[str, Any]:
    """Return a cell's position, its figure and, if there is room, the interval."""
    lines = ["–" if np.isnan(cell.value) else f"{cell.value:z.2f}"]
    if size <= ROOMY and not np.isnan(cell.low):
        lines.append(f"[{cell.low:z.2f}, {cell.high:z.2f}]")
    if not cell.measurable:
        lines.append("n.m.")
    text = "\n".join(lines).replace("-", "\N{MINUS SIGN}")
    middle = row + 0.5 - 0.075 * (len(lines) - 1)  # with several lines, the position is that of the first
    return {
        "column": column, "right": column + 1, "middle": column + 0.5, "row": row, "below": row + 1, "centre": middle,
        "value": cell.value, "measurable": cell.measurable, "text": text,
    }  # fmt: skip


def _hatching(cells: Sequence[dict[str, Any]]) -> Iterator[dict[str, float]]:
    """Yield lines at 45 degrees through the cells that are not measurable."""
    for cell in cells:
        if cell["measurable"]:
            continue
        for shift in np.linspace(-1, 1, 2 * LINES + 1)[1:-1]:  # the line y = 1 - x + shift, clipped to the unit square
            left, right = max(0.0, float(shift)), min(1.0, 1 + float(shift))
            yield {
                "column": cell["column"] + left, "right": cell["column"] + right,
                "row": cell["row"] + 1 - left + float(shift), "below": cell["row"] + 1 - right + float(shift),
            }  # fmt: skip


def _axis(names: Sequence[str], turned: bool) -> dict[str, Any]:
    """Return scale and axis of one side: names in the middle of their cells, no ticks, no line."""
    lines = json.dumps({i + 0.5: _wrapped(name).splitlines() for i, name in enumerate(names)})
    raised: Any = {"condition": {"test": f"({lines})[datum.value].length > 1", "value": -4}, "value": 0}
    return {
        "scale": alt.Scale(domain=[0, len(names)], nice=False, zero=False),
        "axis": alt.Axis(
            values=[i + 0.5 for i in range(len(names))], labelExpr=f"({lines})[datum.value]", labelAngle=-90 * turned,
            labelOffset=raised, labelLineHeight=8,
            title=None, ticks=False, domain=False, grid=False, labelOverlap=False, labelLimit=120,
        ),
    }  # fmt: skip


def _wrapped(name: str, width: int = 12) -> str:
    """Break a long name in two as near to its middle as possible: after a slash, otherwise after another sign."""
    if len(name) <= width:
        return name
    breaks = [match.end() for match in re.finditer(r"/(?=.)", name)]
    breaks = breaks or [match.end() for match in re.finditer(r"[_\- ](?=.)", name)]
    middle = min(breaks, key=lambda position: abs(position - len(name) / 2), default=len(name))
    return f"{name[:middle]}\n{name[middle:]}".strip()
