"""A questionnaire as a value: its items, their bounds, and how item scores become one score."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from annotated_types import MinLen

from invitro.arrays import Bools, Floats
from invitro.settings import checked

Aggregation = Literal["mean", "sum"]


@dataclass(frozen=True)
class Item:
    """One question of a scale: `name` is the key in replies and files, `statement` is what the rater reads."""

    name: str
    statement: str


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
        translations: its words in other languages, ``language -> instructions, and item -> statement``, for prompts
            that ask in the text's language; what is left out is not translated.

    Raises:
        InputError: naming every setting that is wrong.
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

    def contradictions(self) -> Iterator[str]:
        """Yield the settings that contradict each other."""
        names = [item.name for item in self.items]
        if len(set(names)) < len(names):
            yield f"scale.items: expected names that differ, found {', '.join(names)}"
        if self.low >= self.high:
            yield f"scale.low: expected a number below scale.high={self.high:g}, found {self.low:g}"
        for language, words in self.translations.items():
            unknown = sorted(set(words) - {"instructions", *names})
            if unknown:
                yield f"scale.translations.{language}: expected instructions and items, found {', '.join(unknown)}"

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
        """Correction's threshold where none is given: two thirds of the range, 4.0 on 1 to 7 as in the paper."""
        return round((self.maximum - self.minimum) * 2 / 3, 3)

    def score(self, item_scores: npt.ArrayLike) -> Floats:
        """Aggregate item scores of shape (..., items) to scores of shape (...); NaN in an item makes the score NaN."""
        scores = np.asarray(item_scores, dtype=np.float64)
        if scores.shape[-1:] != (len(self.items),):
            raise ValueError(f"expected {len(self.items)} item scores on the last axis, found shape {scores.shape}")
        return np.asarray(scores.mean(axis=-1) if self.aggregation == "mean" else scores.sum(axis=-1))

    def clip(self, scores: npt.ArrayLike) -> Floats:
        """Move scores outside the bounds to the nearest bound; NaN stays NaN."""
        return np.clip(np.asarray(scores, dtype=np.float64), self.minimum, self.maximum)

    def outside(self, scores: npt.ArrayLike) -> Bools:
        """True where a score is below the minimum or above the maximum; NaN (a missing score) is not outside."""
        values = np.asarray(scores, dtype=np.float64)
        return (values < self.minimum) | (values > self.maximum) | np.isinf(values)
