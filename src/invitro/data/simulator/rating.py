"""The crowd that rates simulated texts, with named faults; and the LLM that labels them.

Arrays of item scores have the shape (texts, items) and the units of the scale's items. Every SD and bias is a share of
the item's range ``high - low``, so that one setting suits a scale from 1 to 7 and one from 0 to 3.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd
from annotated_types import Ge, Le

from invitro.errors import InputError
from invitro.scales import Scale
from invitro.settings import Index, NotNegative, Share, checked
from invitro.stats import Bools, Floats, Ints

Fault = Literal["inattention", "straight_lining", "acquiescence", "compression"]
FAULTS: tuple[Fault, ...] = get_args(Fault)
"""What can go wrong with one person's answers about one text, at most one at a time."""

Demographic = Literal["gender", "education", "race", "age", "income"]
GroupRates = Annotated[
    Mapping[Demographic, Mapping[str | float, Mapping[Fault, Share]]],
    f"groups by one of {', '.join(get_args(Demographic))}, with rates from 0 to 1 of {', '.join(FAULTS)}, such as "
    "{gender: {2: {inattention: 0.3}}, age: {18-29: {compression: 0.2}}}",
]


class Answers(NamedTuple):
    """Item answers, float64 of shape (texts, items), and each text's fault, one of `FAULTS` or ``none``."""

    items: Floats
    fault: npt.NDArray[np.str_]


@checked("data.crowd")
@dataclass(frozen=True)
class CrowdRaters:
    """People who rate themselves: they read the truth t with noise, answer in whole points, and have faults.

    An honest answer of author a to item j about text i is::

        h_ij = round(clip(t_ij + (high - low) * (style_a + slip_i + e_ij)))     style, slip, e: normal, mean 0

    The fault of a text, drawn once per text, changes its answers to

    - inattention: y_ij uniform on low, low + 1, ..., high, drawn for each item, whatever the text
    - straight_lining: y_ij = s_i, one uniform answer for all items, whatever the text
    - acquiescence: y_ij = round(h_ij + agreement * (high - h_ij)), never below h_ij
    - compression: y_ij = round(mid + squeeze * (h_ij - mid)) with mid = (low + high) / 2, the middle of the scale only

    Args:
        inattention: rate of the fault, 0 to 1, as are the next three; together at most 1.
        straight_lining: rate.
        acquiescence: rate.
        compression: rate.
        style: SD of how an author uses the scale, the same in all their texts.
        slip: SD of the mood of the moment, the same for all items of a text.
        item_noise: SD of the noise of each answer.
        agreement: how far an acquiescent answer moves towards `high`, 0 to 1.
        squeeze: the share of the distance to the middle that remains under compression, 0 to 1.
        by_group: other rates for some people, ``{gender: {2: {inattention: 0.3}}, age: {18-29: {compression: 0.2}}}``:
            a group is a number or a range with both ends included. Later entries override earlier ones.
    """

    inattention: Share = 0.07
    straight_lining: Share = 0.18
    acquiescence: Share = 0.05
    compression: Share = 0.05
    style: NotNegative = 0.15
    slip: NotNegative = 0.17
    item_noise: NotNegative = 0.1
    agreement: Share = 0.6
    squeeze: Share = 0.3
    by_group: GroupRates | None = None

    def contradictions(self) -> Iterator[str]:
        """Yield settings that contradict each other."""
        yield from self._more_than_one("data.crowd", {})
        for column, groups in (self.by_group or {}).items():
            for group, rates in groups.items():
                where = f"data.crowd.by_group.{column}.{group}"
                if bounds(group) is None:
                    yield f"{where}: expected a number or a range such as 18-29, found {group!r}"
                yield from self._more_than_one(where, rates)

    def _more_than_one(self, where: str, rates: Mapping[Fault, float]) -> Iterator[str]:
        """Report rates that add up to more than 1; faults exclude each other."""
        total = sum(rates.get(name, getattr(self, name)) for name in FAULTS)
        if total > 1 + 1e-9:
            yield f"{where}: expected rates of at most 1 together, since a text has one fault; found {total:g}"

    def rates(self, people: pd.DataFrame) -> Floats:
        """Return the rate of each of `FAULTS` for each row of `people` (demographics), shape (texts, 4)."""
        rates = np.tile([float(getattr(self, name)) for name in FAULTS], (len(people), 1))
        for column, groups in (self.by_group or {}).items():
            for group, changed in groups.items():
                member = members(people[column], group)
                for fault, rate in changed.items():
                    rates[member, FAULTS.index(fault)] = rate
        total = float(rates.sum(axis=1).max(initial=0.0))
        if total > 1 + 1e-9:
            raise InputError(
                f"data.crowd.by_group: a person in several groups has rates of {total:g}; expected at most 1"
            )
        return rates

    def rate(
        self, truth: Floats, authors: Ints, people: pd.DataFrame, scale: Scale, rng: np.random.Generator
    ) -> Answers:
        """Answer every item of every text.

        Args:
            truth: latent item scores, shape (texts, items).
            authors: who wrote each text, 0 to authors - 1, shape (texts,).
            people: the texts' demographics, one row per text; only the columns of `by_group` are read.
            scale: the bounds of the answers.
            rng: every draw is made whatever the rates, so that settings can be compared on the same noise.

        Raises:
            InputError: the groups of `by_group` give a person rates of more than 1 together.
        """
        texts = len(truth)
        fault = drawn_faults(self.rates(people), rng)
        style = rng.normal(size=int(authors.max(initial=-1)) + 1)[authors]
        slip, single = rng.normal(size=texts), rng.normal(size=truth.shape)
        noise = (self.style * style + self.slip * slip)[:, None] + self.item_noise * single
        honest = in_points(truth + (scale.high - scale.low) * noise, scale)
        middle = (scale.low + scale.high) / 2
        answers = {
            "inattention": at_random(texts, len(scale.items), scale, rng),
            "straight_lining": at_random(texts, 1, scale, rng),
            "acquiescence": np.maximum(honest, in_points(honest + self.agreement * (scale.high - honest), scale)),
            "compression": in_points(middle + self.squeeze * (honest - middle), scale),
        }
        items = honest
        for name, faulty in answers.items():
            items = np.where((fault == name)[:, None], faulty, items)
        return Answers(items, fault)


def drawn_faults(rates: Floats, rng: np.random.Generator) -> npt.NDArray[np.str_]:
    """Draw one fault or ``none`` per row from `rates`, shape (texts, 4)."""
    position = (rng.random(len(rates))[:, None] >= np.cumsum(rates, axis=1)).sum(axis=1)
    names: npt.NDArray[np.str_] = np.array([*FAULTS, "none"])[position]
    return names


def in_points(scores: Floats, scale: Scale) -> Floats:
    """Round to the nearest answer among low, low + 1, ..., at most high."""
    return np.clip(scale.low + np.rint(scores - scale.low), scale.low, scale.low + np.floor(scale.high - scale.low))


def at_random(texts: int, answers: int, scale: Scale, rng: np.random.Generator) -> Floats:
    """Draw answers uniformly from all points of the scale: shape (texts, answers)."""
    return scale.low + rng.integers(0, int(scale.high - scale.low) + 1, (texts, answers)).astype(np.float64)


def members(codes: "pd.Series", group: Any) -> Bools:
    """Return whether each person's code is in a group, a number or a range with both ends included; shape (texts,)."""
    low, high = bounds(group) or (np.nan, np.nan)
    return np.asarray(pd.to_numeric(codes).between(low, high), dtype=bool)


def bounds(group: Any) -> tuple[float, float] | None:
    """Read ``2`` as (2, 2) and ``18-29`` as (18, 29); None if it is neither."""
    low, dash, high = str(group).partition("-")
    try:
        return float(low), float(high if dash else low)
    except ValueError:
        return None


Bias = Annotated[float, Ge(-1), Le(1)]
GroupBiases = Annotated[
    Mapping[Demographic, Mapping[str | float, Bias]],
    f"groups by one of {', '.join(get_args(Demographic))}, with biases from -1 to 1, such as {{gender: {{2: -0.1}}}}",
]


@checked("data.llm")
@dataclass(frozen=True)
class LLMRater:
    """A language model that scores what a text says, s, item by item::

        l_ij = round(clip(mid + gain * (s_ij - mid) + (high - low) * (bias_j + g_i + n_i + e_ij)), decimals)

    with mid = (low + high) / 2, normal n and e of mean 0, and g_i the sum of the biases of the author's groups. A
    reply that fails leaves all items of its text missing.

    Args:
        bias: shift of every item, or of items by name (others 0); 0.1 is 0.6 points on a scale from 1 to 7.
        gain: how much of the scale it uses: below 1 it stays near the middle, above 1 it goes to extremes.
        text_noise: SD of n, the misreading of a text as a whole.
        item_noise: SD of e.
        missing: share of replies that fail, 0 to 1.
        decimals: decimal places of its answers.
        by_group: a further bias towards people of a group, ``{gender: {2: -0.1}, age: {60-85: 0.05}}``; a group is a
            number or a range with both ends included.
    """

    bias: Annotated[Bias | Mapping[str, Bias], "a number from -1 to 1, or one for each of some items"] = 0.0
    gain: NotNegative = 1.0
    text_noise: NotNegative = 0.18
    item_noise: NotNegative = 0.06
    missing: Share = 0.0025
    decimals: Index = 1
    by_group: GroupBiases | None = None

    def contradictions(self) -> Iterator[str]:
        """Yield settings that contradict each other."""
        for column, groups in (self.by_group or {}).items():
            for group in groups:
                if bounds(group) is None:
                    yield f"data.llm.by_group.{column}: expected a number or a range such as 18-29, found {group!r}"

    def score(self, said: Floats, scale: Scale, rng: np.random.Generator, people: pd.DataFrame | None = None) -> Floats:
        """Score every item of every text; `said` and the answer have shape (texts, items), failed replies are NaN.

        Args:
            said: what the texts say.
            scale: the bounds of the answers.
            rng: every draw is made whatever the settings.
            people: the texts' demographics, one row per text, with the columns of `by_group`; None if there are none.

        Raises:
            InputError: a bias names an item that the scale does not have.
        """
        names = [item.name for item in scale.items]
        unknown = [name for name in self.bias if name not in names] if isinstance(self.bias, Mapping) else []
        if unknown:
            raise InputError(
                f"data.llm.bias: expected items of {scale.name} ({', '.join(names)}), found {', '.join(unknown)}"
            )
        bias = [self.bias.get(name, 0.0) if isinstance(self.bias, Mapping) else self.bias for name in names]
        noise = self.text_noise * rng.normal(size=(len(said), 1)) + self.item_noise * rng.normal(size=said.shape)
        for column, groups in (self.by_group or {}).items():
            assert people is not None
            for group, further in groups.items():
                noise = noise + further * members(people[column], group)[:, None]
        middle = (scale.low + scale.high) / 2
        scores = middle + self.gain * (said - middle) + (scale.high - scale.low) * (np.asarray(bias) + noise)
        scores = np.round(np.clip(scores, scale.low, scale.high), self.decimals).clip(scale.low, scale.high)
        scores[rng.random(len(said)) < self.missing] = np.nan
        return np.asarray(scores, dtype=np.float64)
