"""What raters have in common and where they part: by LLM, prompt, revision and sample, and text by text."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import pandas as pd

from invitro.labels.agreement import RESAMPLES, Agreement, Estimate, pairwise
from invitro.labels.bootstrap import Groups

STEP = 1.0
"""A score that lies more than this many scale points from another has moved."""
SLACK = 1e-9
"""What rounding may add to a difference: 4.4 - 3.4 is not more than 1."""
ALIKE = {
    "llm": ("prompt", "sample"),
    "prompt": ("llm", "revision", "sample"),
    "revision": ("llm", "prompt", "sample"),
    "sample": ("llm", "prompt", "revision"),
}
"""What has to be the same for raters to be compared by each attribute; two LLMs cannot share a revision."""


@dataclass(frozen=True)
class Rater:
    """Who gave a column of scores: people where `llm` is None, or else one labelling by a language model.

    Args:
        llm: the model, as a choice of the group ``llm``.
        prompt: as a choice of the group ``prompt``.
        revision: of the model.
        sample: the number of the sample, where a text was scored several times.
    """

    llm: str | None = None
    prompt: str | None = None
    revision: str | None = None
    sample: int | None = None

    @property
    def model(self) -> str:
        """The model with its revision, where one is known."""
        return f"{self.llm}@{self.revision}" if self.revision else str(self.llm)


@dataclass(frozen=True)
class Facet:
    """Several raters; `what` says in what they differ."""

    what: str
    raters: tuple[str, ...]


@dataclass(frozen=True)
class PromptShift:
    """What the choice of the prompt does to the scores of one model.

    Args:
        model: the model, with its revision where one is known.
        prompts: those compared; samples of one prompt are averaged first.
        n: texts scored with each of them.
        pcc: correlation between two prompts; None for more than two.
        difference: mean of the second prompt's score less the first's, in scale points; None for more than two.
        sd: mean over texts of the standard deviation (divisor k - 1) of a text's score across the k prompts.
        moved: share of texts whose highest and lowest score lie more than `STEP` scale points apart.
        measurable: whether with any prompt the interval of the model's PCC with the crowd excludes 0; None without a
            crowd. Where it is False, nothing about prompts follows.
    """

    model: str
    prompts: tuple[str, ...]
    n: int
    pcc: Estimate | None
    difference: float | None
    sd: float
    moved: float
    measurable: bool | None


def facets(raters: Mapping[str, Rater]) -> list[Facet]:
    """Return the sets of raters to compare: all, those that differ in one attribute only, and all LLM labellings."""
    found = [Facet("all raters", tuple(raters))]
    llms = {name: rater for name, rater in raters.items() if rater.llm is not None}
    for attribute, same in ALIKE.items():
        groups: dict[tuple[object, ...], list[str]] = {}
        for name, rater in llms.items():
            groups.setdefault(tuple(getattr(rater, one) for one in same), []).append(name)
        for key, names in groups.items():
            if len({getattr(llms[name], attribute) for name in names}) > 1:
                fixed = ", ".join(f"{one} {value}" for one, value in zip(same, key, strict=True) if value is not None)
                what = f"between {'LLMs' if attribute == 'llm' else attribute + 's'}{f' ({fixed})' if fixed else ''}"
                found.append(Facet(what, tuple(names)))
    if len(llms) > 1 and tuple(llms) not in [facet.raters for facet in found]:
        found.append(Facet("all LLM labels", tuple(llms)))
    return found


def prompt_shifts(
    ratings: pd.DataFrame,
    raters: Mapping[str, Rater],
    pairs: Sequence[Agreement],
    groups: Groups = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Iterator[PromptShift]:
    """Compare every two prompts of each model, and all of them where there are more than two.

    Args:
        ratings: one row a text, one column a rater.
        raters: what is known of each column.
        pairs: agreement of the columns, which tells whether a model's labels say anything about the crowd's.
        groups: see `pairwise`.
        resamples: see `pairwise`.
        seed: see `pairwise`.
    """
    for model in dict.fromkeys(rater.model for rater in raters.values() if rater.llm is not None and rater.prompt):
        columns: dict[str, list[str]] = {}
        for name, rater in raters.items():
            if rater.model == model and rater.llm is not None and rater.prompt:
                columns.setdefault(rater.prompt, []).append(name)
        own = {name for names in columns.values() for name in names}
        with_crowd = [pair.pcc.measurable for pair in pairs if raters[pair.a].llm is None and pair.b in own]
        measurable = any(with_crowd) if with_crowd else None
        by_prompt = pd.DataFrame({prompt: ratings[names].mean(axis=1) for prompt, names in columns.items()})
        sets = list(combinations(columns, 2)) + ([tuple(columns)] if len(columns) > 2 else [])
        for prompts in sets:
            scores = by_prompt[list(prompts)].dropna()
            spread = scores.max(axis=1) - scores.min(axis=1)
            two = pairwise(scores, groups, resamples, seed)[0] if len(prompts) == 2 else None
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


def disagreements(ratings: pd.DataFrame) -> pd.DataFrame:
    """Return one row a text that two raters or more scored, the largest spread first, ties by id.

    Columns: ``text_id``; ``spread``, the highest less the lowest score; ``lowest`` and ``highest``, who gave them (the
    first, of several); and all scores. No text is in it.
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
