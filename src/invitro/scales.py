"""A questionnaire as a value: its items, their bounds, and how item scores become one score."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Literal

import numpy as np
import numpy.typing as npt

from invitro.errors import out_of_range, refuse_if_any

Aggregation = Literal["mean", "sum"]


@dataclass(frozen=True)
class Item:
    """One question of a scale: `name` is the key in replies and files, `statement` is what the rater reads."""

    name: str
    statement: str


@dataclass(frozen=True)
class Scale:
    """A psychometric scale.

    Args:
        name: the scale's key, such as ``batson_empathy``.
        construct: what it measures, such as ``empathy``; corpora look up their crowd labels under this word.
        items: the questions in order; every item shares the bounds `low` and `high`.
        low: lowest answer to one item.
        high: highest answer to one item.
        aggregation: ``mean`` keeps the item's bounds, ``sum`` multiplies them by the number of items.
        instructions: what raters are asked to do.
        source: where the scale was published.
        translations: its words in other languages, ``language -> instructions, and item -> statement``, for prompts
            that ask in the text's language; what is left out stays as it is.

    Raises:
        InputError: naming every fault of the definition.
    """

    name: str
    construct: str
    items: tuple[Item, ...]
    low: float
    high: float
    aggregation: Aggregation = "mean"
    instructions: str = ""
    source: str = ""
    translations: Mapping[str, Mapping[str, str]] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "items", tuple(self.items or ()))
        refuse_if_any(self._kinds())
        refuse_if_any(self._problems())

    def _kinds(self) -> Iterator[str]:
        """Say which parts of the definition are not even of the right kind."""
        where = f"scale {self.name!r}:"
        for item in self.items:
            if not isinstance(item, Item):
                yield f"{where} items: expected _target_: invitro.scales.Item with name and statement, found {item!r}"
        if not isinstance(self.instructions, str):
            yield f"{where} instructions: expected text, found {self.instructions!r}"
        yield from out_of_range(f"{where} low", self.low, -inf, inf)
        yield from out_of_range(f"{where} high", self.high, -inf, inf)

    def _problems(self) -> Iterator[str]:
        names = [item.name for item in self.items]
        where = f"scale {self.name!r}:"
        faults = {
            f"{where} needs at least one item": not names,
            f"{where} item names must differ, found {names}": len(set(names)) < len(names),
            f"{where} low must lie below high, found low={self.low}, high={self.high}": not self.low < self.high,
            f"{where} aggregation must be 'mean' or 'sum', found {self.aggregation!r}": self.aggregation
            not in ("mean", "sum"),
        }
        yield from (problem for problem, wrong in faults.items() if wrong)
        for language, words in self.translations.items():
            unknown = sorted(set(words) - {"instructions", *names})
            if unknown:
                yield f"{where} translations.{language}: expected instructions and items, found {', '.join(unknown)}"

    @property
    def minimum(self) -> float:
        """Lowest possible score."""
        return self.low * (len(self.items) if self.aggregation == "sum" else 1)

    @property
    def maximum(self) -> float:
        """Highest possible score."""
        return self.high * (len(self.items) if self.aggregation == "sum" else 1)

    def score(self, item_scores: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Aggregate item scores of shape (..., items) to scores of shape (...); NaN in an item makes the score NaN."""
        scores = np.asarray(item_scores, dtype=np.float64)
        if scores.shape[-1:] != (len(self.items),):
            raise ValueError(f"expected {len(self.items)} item scores on the last axis, found shape {scores.shape}")
        return np.asarray(scores.mean(axis=-1) if self.aggregation == "mean" else scores.sum(axis=-1))

    def clip(self, scores: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Move scores outside the bounds to the nearest bound; NaN stays NaN."""
        return np.clip(np.asarray(scores, dtype=np.float64), self.minimum, self.maximum)

    def outside(self, scores: npt.ArrayLike) -> npt.NDArray[np.bool_]:
        """True where a score is below the minimum or above the maximum; NaN, a missing score, is not outside."""
        values = np.asarray(scores, dtype=np.float64)
        return (values < self.minimum) | (values > self.maximum) | np.isinf(values)
