"""Those who rate simulated texts: crowd raters with named faults. The LLM stands in `invitro.data.simulator.llm`.

Arrays of item scores have the shape (texts, items) and the units of the scale's items. Every SD and bias is a share of
the item's range ``high - low``, so that one setting suits a scale from 1 to 7 and one from 0 to 3.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from invitro.data.corpus import DEMOGRAPHICS
from invitro.errors import InputError, out_of_range, refuse_if_any
from invitro.scales import Scale

Floats = npt.NDArray[np.float64]

FAULTS = ("inattention", "straight_lining", "acquiescence", "compression")
"""What can go wrong with one person's answers about one text; at most one of them does."""


EXAMPLE = "{gender: {2: {inattention: 0.3}}, age: {18-29: {compression: 0.2}}}"


class Answers(NamedTuple):
    """Item answers, float64 of shape (texts, items), and each text's fault, one of `FAULTS` or ``none``."""

    items: Floats
    fault: npt.NDArray[np.str_]


@dataclass(frozen=True)
class CrowdRaters:
    """People who rate themselves: they read the truth t with noise, answer in whole points, and make faults.

    An honest answer of author a to item j about text i is::

        h_ij = round(clip(t_ij + (high - low) * (style_a + slip_i + e_ij)))     style, slip, e: normal, mean 0

    The fault of a text, drawn once a text, changes its answers to

    - inattention: y_ij uniform on low, low + 1, ..., high, anew for each item, whatever the text
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
        item_noise: SD of each single answer.
        agreement: how far an acquiescent answer moves towards `high`, 0 to 1.
        squeeze: what is left of the distance to the middle under compression, 0 to 1.
        by_group: other rates for some people, ``{gender: {2: {inattention: 0.3}}, age: {18-29: {compression: 0.2}}}``:
            a group is a number or a range with both ends included. A later entry wins over an earlier one.
    """

    inattention: float = 0.07
    straight_lining: float = 0.18
    acquiescence: float = 0.05
    compression: float = 0.05
    style: float = 0.15
    slip: float = 0.17
    item_noise: float = 0.1
    agreement: float = 0.6
    squeeze: float = 0.3
    by_group: Mapping[str, Mapping[str | int, Mapping[str, float]]] | None = None

    def problems(self) -> Iterator[str]:
        """Say what is wrong with the settings, one line each."""
        for name in (*FAULTS, "agreement", "squeeze"):
            yield from out_of_range(f"data.crowd.{name}", getattr(self, name), 0, 1)
        for name in ("style", "slip", "item_noise"):
            yield from out_of_range(f"data.crowd.{name}", getattr(self, name), 0, np.inf)
        yield from _more_than_one("data.crowd", {name: getattr(self, name) for name in FAULTS})
        if not _nested(self.by_group):
            yield f"data.crowd.by_group: expected groups such as {EXAMPLE}, found {self.by_group!r}"
            return
        for column, groups in (self.by_group or {}).items():
            if column not in DEMOGRAPHICS:
                yield f"data.crowd.by_group: expected one of {', '.join(DEMOGRAPHICS)}, found {column!r}"
            for group, rates in groups.items():
                yield from self._group_problems(f"data.crowd.by_group.{column}.{group}", group, rates)

    def _group_problems(self, where: str, group: Any, rates: Mapping[str, float]) -> Iterator[str]:
        """Say what is wrong with one group's rates."""
        if bounds(group) is None:
            yield f"{where}: expected a number or a range such as 18-29, found {group!r}"
        for fault, rate in rates.items():
            if fault in FAULTS:
                yield from out_of_range(f"{where}.{fault}", rate, 0, 1)
            else:
                yield f"{where}: expected one of {', '.join(FAULTS)}, found {fault!r}"
        yield from _more_than_one(where, {name: getattr(self, name) for name in FAULTS} | dict(rates))

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
        self,
        truth: Floats,
        authors: npt.NDArray[np.int64],
        people: pd.DataFrame,
        scale: Scale,
        rng: np.random.Generator,
    ) -> Answers:
        """Answer every item of every text.

        Args:
            truth: latent item scores, shape (texts, items).
            authors: who wrote each text, 0 to authors - 1, shape (texts,).
            people: the texts' demographics, one row a text; only the columns of `by_group` are read.
            scale: the bounds of the answers.
            rng: every draw is made whatever the rates are, so settings can be compared on the same noise.

        Raises:
            InputError: the settings contradict each other; see `problems`.
        """
        refuse_if_any(self.problems())
        texts = len(truth)
        fault = drawn_faults(self.rates(people), rng)
        style = rng.normal(size=int(authors.max(initial=-1)) + 1)[authors]
        slip, single = rng.normal(size=texts), rng.normal(size=truth.shape)
        noise = (self.style * style + self.slip * slip)[:, None] + self.item_noise * single
        honest = in_points(truth + (scale.high - scale.low) * noise, scale)
        answers = {
            "inattention": at_random(texts, len(scale.items), scale, rng),
            "straight_lining": at_random(texts, 1, scale, rng),
            "acquiescence": acquiescent(honest, self.agreement, scale),
            "compression": compressed(honest, self.squeeze, scale),
        }
        items = honest
        for name, faulty in answers.items():
            items = np.where((fault == name)[:, None], faulty, items)
        return Answers(items, fault)


def drawn_faults(rates: Floats, rng: np.random.Generator) -> npt.NDArray[np.str_]:
    """Draw one fault or ``none`` a row from `rates`, shape (texts, 4)."""
    position = (rng.random(len(rates))[:, None] >= np.cumsum(rates, axis=1)).sum(axis=1)
    names: npt.NDArray[np.str_] = np.array([*FAULTS, "none"])[position]
    return names


def in_points(scores: Floats, scale: Scale) -> Floats:
    """Round to the nearest answer among low, low + 1, ..., at most high."""
    return np.clip(scale.low + np.rint(scores - scale.low), scale.low, scale.low + np.floor(scale.high - scale.low))


def at_random(texts: int, answers: int, scale: Scale, rng: np.random.Generator) -> Floats:
    """Draw answers from all points of the scale alike: shape (texts, answers)."""
    return scale.low + rng.integers(0, int(scale.high - scale.low) + 1, (texts, answers)).astype(np.float64)


def acquiescent(honest: Floats, agreement: float, scale: Scale) -> Floats:
    """Move answers the share `agreement` of their way up to the highest."""
    return np.maximum(honest, in_points(honest + agreement * (scale.high - honest), scale))


def compressed(honest: Floats, squeeze: float, scale: Scale) -> Floats:
    """Keep the share `squeeze` of the answers' distance to the middle of the scale."""
    middle = (scale.low + scale.high) / 2
    return in_points(middle + squeeze * (honest - middle), scale)


def _more_than_one(where: str, rates: Mapping[str, Any]) -> Iterator[str]:
    """Say so when the rates of faults that exclude each other add up to more than 1."""
    numbers = [rate for rate in rates.values() if isinstance(rate, (int, float))]
    if sum(numbers) > 1 + 1e-9 and all(rate <= 1 for rate in numbers):
        yield f"{where}: expected rates of at most 1 together, since a text has one fault; found {sum(numbers):g}"


def _nested(by_group: Any) -> bool:
    """Tell whether `by_group` maps columns to groups to rates."""
    groups = list(by_group.values()) if isinstance(by_group, Mapping) else [by_group]
    return by_group is None or all(
        isinstance(group, Mapping) and all(isinstance(rates, Mapping) for rates in group.values()) for group in groups
    )


def members(codes: "pd.Series", group: Any) -> npt.NDArray[np.bool_]:
    """Return whose code lies in a group, a number or a range with both ends included; shape (texts,)."""
    low, high = bounds(group) or (np.nan, np.nan)
    return np.asarray(pd.to_numeric(codes).between(low, high), dtype=bool)


def bounds(group: Any) -> tuple[float, float] | None:
    """Read ``2`` as (2, 2) and ``18-29`` as (18, 29); None when it is neither."""
    low, dash, high = str(group).partition("-")
    try:
        return float(low), float(high if dash else low)
    except ValueError:
        return None
