"""Estimates with percentile bootstrap intervals over texts, or over their authors.

A measure here is a function of a few sums over texts. A draw of texts with replacement is then a row of counts, and all
draws are one product of the matrix of counts with the matrix of sums.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from invitro.errors import InputError

Array: TypeAlias = npt.NDArray[np.float64]
Groups: TypeAlias = "pd.Series[Any] | None"
Measures: TypeAlias = Mapping[str, Callable[[Array], Array]]
"""Functions from sums of shape (..., k) to figures of shape (...), NaN where undefined."""

NOT_MEASURABLE = "not measurable"
RESAMPLES = 1000
LEVEL = 0.95
LEAST_GROUPS = 10
"""With fewer texts (or authors) than this there is no interval: its percentiles would mean nothing."""
CELLS = 4_000_000
"""Most counts that are held at a time."""


@dataclass(frozen=True)
class Estimate:
    """A figure from `n` texts with its 95 % interval.

    `value` is NaN where the figure is undefined, as a correlation with a constant is. `low` and `high` are NaN with
    fewer than `LEAST_GROUPS` groups, and where the figure is undefined in more than 5 % of the draws.
    """

    value: float
    low: float
    high: float
    n: int

    @property
    def measurable(self) -> bool:
        """Whether the interval exists and excludes 0; where not, nothing follows from the figure."""
        return self.low > 0 or self.high < 0

    def __str__(self) -> str:
        value = "undefined" if np.isnan(self.value) else f"{self.value:z.4f}"
        return value if np.isnan(self.low) else f"{value} [{self.low:z.3f}, {self.high:z.3f}]"


def told(estimate: Estimate) -> str:
    """Write a correlation, concordance or alpha for people, saying so where it is not measurable."""
    return str(estimate) if estimate.measurable else f"{estimate}, {NOT_MEASURABLE}"


def estimates(
    measures: Measures, sums: Array, codes: npt.NDArray[np.intp], resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, Estimate]:
    """Apply each measure to the whole and to every draw of whole groups.

    Intervals are 95 % percentile intervals (Efron, Tibshirani 1993, "An Introduction to the Bootstrap", ch. 13). Whole
    groups are drawn since texts by one author are no independent evidence (Field, Welsh 2007, "Bootstrapping Clustered
    Data", J. R. Stat. Soc. B 69). The seed decides the draws: the same for every pair of raters on the same texts, in
    whatever order these stand.

    Args:
        measures: by name.
        sums: what each text adds to the sums, shape (texts, k).
        codes: the number of each text's group, shape (texts,).
        resamples: number of draws.
        seed: of the draws.
    """
    drawn = _draws(_by_group(sums, codes), resamples, seed)
    found = {}
    for name, measure in measures.items():
        value, draws = float(measure(sums.sum(axis=0))), measure(drawn)
        low, high = np.nan, np.nan
        if len(draws) and not np.isnan(value) and np.isnan(draws).mean() <= 1 - LEVEL:
            low, high = np.nanquantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        found[name] = Estimate(value, float(low), float(high), len(sums))
    return found


def group_codes(index: "pd.Index[Any]", groups: Groups) -> npt.NDArray[np.intp]:
    """Number the group of each text of `index`, by key; without `groups` every text is its own.

    Numbers follow the order of the groups' names (or the texts' ids), not that of the rows.

    Raises:
        InputError: a text has no group.
    """
    if groups is None:
        return _numbered(index)
    aligned = groups.reindex(index)
    missing = index[aligned.isna().to_numpy()]
    if len(missing):
        raise InputError(
            f"groups: expected the group (author) of each of {len(index)} texts, found none for {len(missing)}, "
            f"such as {missing[0]!r}"
        )
    return _numbered(pd.Index(aligned))


def _numbered(names: "pd.Index[Any]") -> npt.NDArray[np.intp]:
    return pd.factorize(names, sort=True)[0]


def _by_group(sums: Array, codes: npt.NDArray[np.intp]) -> Array:
    """Add the sums of each group's texts; groups in the order of their numbers."""
    numbers, found = pd.factorize(codes, sort=True)
    added = [np.bincount(numbers, weights=column, minlength=len(found)) for column in sums.T]
    return np.stack(added, axis=1).astype(np.float64)


def _draws(groups: Array, resamples: int, seed: int) -> Array:
    """Return the sums of `resamples` draws of groups with replacement; none where there are too few groups."""
    size = len(groups)
    drawn = np.zeros((resamples if size >= LEAST_GROUPS else 0, groups.shape[1]))
    rng, block = np.random.default_rng(seed), max(1, CELLS // max(size, 1))
    for start in range(0, len(drawn), block):
        rows = min(block, len(drawn) - start)
        picked = rng.integers(size, size=(rows, size)) + np.arange(rows)[:, None] * size
        counts = np.bincount(picked.ravel(), minlength=rows * size).reshape(rows, size)
        drawn[start : start + rows] = counts.astype(np.float64) @ groups
    return drawn
