"""A questionnaire as a value: its items, their bounds, and how item scores become one score."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from annotated_types import MinLen

from invitro.settings import Index, checked
from invitro.stats import Bools, Floats

Aggregation = Literal["mean", "sum"]


@dataclass(frozen=True)
class Item:
    """One question of a scale.

    Args:
        name: the key in replies and files.
        statement: what the rater reads.
        reversed: whether a high answer means little of the construct.
        column: the column of people's answers in a table; None means `name`.
    """

    name: str
    statement: str
    reversed: bool = False
    column: str | None = None


@checked("scale")
@dataclass(frozen=True)
class Scale:
    """A psychometric scale.

    Args:
        name: the scale's key, such as ``batson_empathy``.
        construct: what it measures, such as ``empathy``; corpora look up their crowd labels by this word.
        items: the questions in order; every item shares the bounds `low` and `high`.
        low: lowest answer to one item.
        high: highest answer to one item.
        aggregation: ``mean`` keeps the item's bounds, ``sum`` multiplies them by the number of items.
        instructions: what raters are asked to do.
        source: where the scale was published.
        translations: its words in other languages, ``language -> construct, occasion, instructions, and item ->
            statement``, for prompts that ask in the text's language; omitted entries are not translated.
        missing: codes that mean a missing answer in tables, such as -99 or NA.
        answers: for tables with words or codes: the answer that each represents, such as ``{never: 0, often: 3}``.
            Other words are refused and, if any of these is a number, other numbers too.
        most_missing: how many of a person's answers may be missing; the mean of the others replaces them.
        occasion: the occasion on which texts are written, in words for prompts: ``in reaction to something they had
            read``.
        overall: what raters are asked if one score represents the whole scale; empty for a general question.
        decimals: whether answers between two points are meaningful; not if points are categories, such as numbers of
            days.
        wording: whose words the items are (validated, paraphrased, our own), and what their licence allows.

    Raises:
        InputError: naming every invalid setting.
    """

    name: str
    construct: str
    items: Annotated[tuple[Item, ...], MinLen(1), "a list of items, each with name and statement"]
    low: float
    high: float
    aggregation: Aggregation = "mean"
    instructions: str = ""
    source: str = ""
    translations: Mapping[str, Mapping[str, str]] = field(default_factory=dict, hash=False)
    missing: tuple[str | float, ...] = ()
    answers: Annotated[
        Mapping[str | float, float], "words or codes, each with its answer, such as {never: 0, often: 3}"
    ] = field(default_factory=dict, hash=False)
    most_missing: Index = 0
    occasion: str = ""
    overall: str = ""
    decimals: bool = True
    wording: str = ""

    def contradictions(self) -> Iterator[str]:
        """Yield the settings that contradict each other."""
        names = [item.name for item in self.items]
        if len(set(names)) < len(names):
            yield f"scale.items: expected names that differ, found {', '.join(names)}"
        if self.low >= self.high:
            yield f"scale.low: expected a number below scale.high={self.high:g}, found {self.low:g}"
        columns = [item.column for item in self.items if item.column is not None]
        if twice := [name for name in dict.fromkeys(columns) if columns.count(name) > 1]:
            yield f"scale.items: expected columns that differ, found {', '.join(twice)} twice"
        if self.most_missing >= len(self.items):
            yield f"scale.most_missing: expected fewer than the {len(self.items)} items, found {self.most_missing}"
        for word, answer in self.answers.items():
            if not self.low <= answer <= self.high:
                yield f"scale.answers.{word}: expected an answer from {self.low:g} to {self.high:g}, found {answer:g}"
        for language, words in self.translations.items():
            unknown = sorted(set(words) - {"construct", "occasion", "instructions", *names})
            if unknown:
                yield (
                    f"scale.translations.{language}: expected construct, occasion, instructions and items, found "
                    f"{', '.join(unknown)}"
                )

    @property
    def minimum(self) -> float:
        """Lowest possible score."""
        return self.low * (len(self.items) if self.aggregation == "sum" else 1)

    @property
    def maximum(self) -> float:
        """Highest possible score."""
        return self.high * (len(self.items) if self.aggregation == "sum" else 1)

    @property
    def default_alpha(self) -> float:
        """The correction's threshold if none is given: two thirds of the range, 4.0 on 1 to 7 as in the paper."""
        return round((self.maximum - self.minimum) * 2 / 3, 3)

    @property
    def reversed_items(self) -> list[str]:
        """The names of the items that are reversed."""
        return [item.name for item in self.items if item.reversed]

    def keyed(self, answers: npt.ArrayLike) -> Floats:
        """Reverse the answers to reversed items, of shape (..., items): low + high - answer; its own inverse."""
        given = np.asarray(answers, dtype=np.float64)
        return np.where([item.reversed for item in self.items], self.low + self.high - given, given)

    def score(self, item_scores: npt.ArrayLike, most_missing: int = 0) -> Floats:
        """Aggregate item scores of shape (..., items) to scores of shape (...).

        Args:
            item_scores: as given; reversed items are reversed here. NaN is a missing score.
            most_missing: up to this number, missing items get the mean of the others (prorating); with more of them,
                the score is NaN.

        Example:
            >>> mood = Scale("mood", "mood", (Item("glad", "I am glad"), Item("low", "I am low", reversed=True)), 1, 5)
            >>> mood.score([[5, 2], [4, float("nan")]], most_missing=1).tolist()
            [4.5, 4.0]
        """
        scores = np.asarray(item_scores, dtype=np.float64)
        if scores.shape[-1:] != (len(self.items),):
            raise ValueError(f"expected {len(self.items)} item scores on the last axis, found shape {scores.shape}")
        scores = self.keyed(scores)
        if most_missing:
            answered = (~np.isnan(scores)).sum(axis=-1, keepdims=True)
            mean = np.nansum(scores, axis=-1, keepdims=True) / np.maximum(answered, 1)
            enough = (answered > 0) & (answered >= len(self.items) - most_missing)
            scores = np.where(np.isnan(scores) & enough, mean, scores)
        return np.asarray(scores.mean(axis=-1) if self.aggregation == "mean" else scores.sum(axis=-1))

    def clip(self, scores: npt.ArrayLike) -> Floats:
        """Move scores outside the bounds to the nearest bound; NaN stays NaN."""
        return np.clip(np.asarray(scores, dtype=np.float64), self.minimum, self.maximum)

    def outside(self, scores: npt.ArrayLike) -> Bools:
        """Whether each score is below the minimum or above the maximum; NaN (a missing score) is not outside."""
        values = np.asarray(scores, dtype=np.float64)
        return (values < self.minimum) | (values > self.maximum) | np.isinf(values)


MANY, FEW, LEAST_USED = 0.05, 5, 0.6
"""Scores are on another scale if at least the share `MANY` and more than `FEW` of them are outside; and the least share
of a range that its scores span."""
RANGES = ((0, 1), (0, 3), (1, 4), (0, 4), (1, 5), (0, 5), (1, 6), (0, 6), (1, 7), (1, 9), (1, 10), (0, 10), (0, 100))
RANGES_AROUND_0 = ((-1, 1), (-2, 2), (-3, 3), (-4, 4), (-5, 5), (-10, 10), (-50, 50), (-100, 100))
"""Usual bounds of single questions and sliders, the narrowest first."""


def likely_bounds(scores: npt.ArrayLike) -> tuple[float, float] | None:
    """Guess the lowest and highest possible answer: the narrowest usual range that fits; None if none is likely.

    Example:
        >>> likely_bounds([3, 88, 50]), likely_bounds([2, 9, 4]), likely_bounds([6, 42])
        ((0, 100), (1, 9), None)
    """
    values = np.asarray(scores, dtype=np.float64)
    values = values[np.isfinite(values)]
    if not len(values):
        return None
    lowest, highest = values.min(), values.max()
    usual = RANGES_AROUND_0 if lowest < 0 else RANGES
    wide_enough = (bounds for bounds in usual if bounds[0] <= lowest and highest <= bounds[1])
    low, high = next(wide_enough, (0, 0))
    return (low, high) if high > low and highest - lowest >= LEAST_USED * (high - low) else None


def on_another_scale(
    scores: npt.ArrayLike, rows: npt.ArrayLike, what: str, scale: Scale, bounds: Sequence[float] | None, remedy: str
) -> str | None:
    """Report that many scores are outside a scale, with their range and an example; None if they are few.

    Args:
        scores: (n,), NaN if missing.
        rows: each score's data row in the file, counted from 1.
        what: what the scores are, such as ``ratings``.
        scale: the scores' scale.
        bounds: the lowest and the highest possible score; None means those of the scale's score.
        remedy: what to do.
    """
    low, high = bounds or (scale.minimum, scale.maximum)
    values = np.asarray(scores, dtype=np.float64)
    wrong, scored = (values < low) | (values > high), int((~np.isnan(values)).sum())
    if wrong.sum() <= FEW or wrong.sum() < MANY * scored:
        return None
    first, row = int(wrong.argmax()), np.asarray(rows)[wrong.argmax()]
    return (
        f"{wrong.sum()} of {scored} {what} lie outside {low:g} to {high:g} ({scale.name}): they range from "
        f"{np.nanmin(values):g} to {np.nanmax(values):g}, such as {values[first]:g} in data row {row}. {remedy}"
    )


def which_scale(scores: npt.ArrayLike, items_of: str | None = None) -> str:
    """Say how to choose the scale of one question, or of several, that suits scores.

    Args:
        scores: the scores found.
        items_of: the scale whose items they are; None if they are scores of whole scales.
    """
    bounds = likely_bounds(scores)
    low, high = ("LOWEST", "HIGHEST") if bounds is None else [f"{bound:g}" for bound in bounds]
    ends = "" if bounds == (0, 100) else f" scale.low={low} scale.high={high}"
    if items_of is not None:
        return f"If {items_of} was answered on this range, add scale.low={low} scale.high={high}"
    asked = "one question or slider" + ("" if bounds is None else f" from {low} to {high}")
    return f"For {asked}, add scale=slider{ends}; for a score of several items, name their scale with scale="
