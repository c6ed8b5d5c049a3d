"""How far raters agree: alpha, PCC, CCC, RMSE and bias, each with a bootstrap interval over texts or their authors.

Ratings are tables with one row a text and one column a rater, in the scale's units, NaN where a rater gave no score.
Every measure is computed from a few sums over texts: memory is O(texts) however many distinct scores there are, where
alpha by way of coincidence matrices takes texts times the squared number of distinct scores.
"""

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt
import pandas as pd

from invitro.errors import InputError
from invitro.stats.bootstrap import (
    NOT_MEASURABLE,
    RESAMPLES,
    Array,
    Estimate,
    Groups,
    Measures,
    estimates,
    group_codes,
    told,
)

__all__ = [
    "NOT_MEASURABLE",
    "RESAMPLES",
    "Agreement",
    "Estimate",
    "agreement",
    "alpha_estimate",
    "gain",
    "krippendorff_alpha",
    "pairwise",
    "told",
]  # fmt: skip

ROUNDING = 1e-12
"""A spread below this share of its parts is what rounding leaves of none."""


@dataclass(frozen=True)
class Agreement:
    """How rater `b` agrees with rater `a` on the `n` texts both scored.

    ``pcc``, ``ccc`` and ``alpha`` are at most 1; ``rmse`` and ``bias`` are in the scale's units, and ``bias``, the mean
    of b - a, is positive where b scores higher.
    """

    a: str
    b: str
    n: int
    pcc: Estimate
    ccc: Estimate
    alpha: Estimate
    rmse: Estimate
    bias: Estimate


def krippendorff_alpha(ratings: npt.ArrayLike | pd.DataFrame) -> float:
    """Return Krippendorff's alpha at the interval level; ratings of shape (texts, raters).

    ``1 - D_o / D_e``, where with m_u scores v of text u, texts with fewer than two left out, and N scores in all
    ``D_o = 1/N sum_u 1/(m_u - 1) sum_{i != j} (v_i - v_j)^2`` and ``D_e = 1/(N (N - 1)) sum_{k != l} (v_k - v_l)^2``
    over all pairs of scores. Krippendorff (2011), "Computing Krippendorff's Alpha-Reliability". NaN where no text has
    two scores, or where all scores are equal: without variation there is nothing to agree on.
    """
    return float(_alpha(_alpha_sums(_matrix(ratings)).sum(axis=0)))


def alpha_estimate(ratings: pd.DataFrame, groups: Groups = None, resamples: int = RESAMPLES, seed: int = 0) -> Estimate:
    """Return Krippendorff's alpha of all columns with its interval; `n` counts the texts with two scores or more.

    Arguments and errors are those of `pairwise`.
    """
    values = _matrix(ratings)
    usable = (~np.isnan(values)).sum(axis=1) >= 2
    codes = group_codes(ratings.index, groups)[usable]
    return estimates({"alpha": _alpha}, _alpha_sums(values)[usable], codes, resamples, seed)["alpha"]


def agreement(
    a: npt.ArrayLike,
    b: npt.ArrayLike,
    groups: npt.ArrayLike | None = None,
    names: tuple[str, str] = ("a", "b"),
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Agreement:
    """Compare two raters; scores of shape (texts,), and `groups` of that shape too. See `pairwise`."""
    frame = pd.DataFrame(dict(zip(names, (np.asarray(a, dtype=float), np.asarray(b, dtype=float)), strict=True)))
    series = None if groups is None else pd.Series(np.asarray(groups), index=frame.index)
    return pairwise(frame, series, resamples, seed)[0]


def pairwise(
    ratings: pd.DataFrame, groups: Groups = None, resamples: int = RESAMPLES, seed: int = 0
) -> list[Agreement]:
    """Compare every two raters on the texts that both scored.

    PCC is Pearson's correlation and CCC Lin's concordance with his population variances (Lin 1989, "A Concordance
    Correlation Coefficient to Evaluate Reproducibility", Biometrics 45). Undefined figures are NaN. Intervals: see
    `estimates`; Zapf et al. (2016, BMC Med. Res. Methodol. 16:93) advise the bootstrap over texts for alpha too.

    Args:
        ratings: one row a text, one column a rater.
        groups: the group, such as the author, of each text, on the same index; None where every text has its own.
        resamples: number of draws.
        seed: of the draws.

    Raises:
        InputError: a column stands twice, or a text has no group.
    """
    values, codes = _matrix(ratings), group_codes(ratings.index, groups)
    found = []
    for i, j in combinations(range(values.shape[1]), 2):
        both = ~np.isnan(values[:, i]) & ~np.isnan(values[:, j])
        x, y = values[both, i], values[both, j]
        sums = np.stack([np.ones_like(x), x, y, x * x, y * y, x * y], axis=1)
        figures = estimates(PAIR, sums, codes[both], resamples, seed)
        found.append(Agreement(str(ratings.columns[i]), str(ratings.columns[j]), len(x), **figures))
    return found


def gain(ratings: pd.DataFrame, groups: Groups = None, resamples: int = RESAMPLES, seed: int = 0) -> Estimate:
    """Return by how much the third column's PCC with the first exceeds the second's, on the texts that all scored.

    Both correlations are taken in each draw of texts, which keeps what they share: that both rate the same texts. Two
    intervals that overlap say nothing about the difference, and this one does.

    Args:
        ratings: three columns, such as the crowd and two prompts.
        groups: see `pairwise`, as the rest.
        resamples: number of draws.
        seed: of the draws.
    """
    values = _matrix(ratings)
    usable = ~np.isnan(values).any(axis=1)
    x, y, z = values[usable].T
    sums = np.stack([np.ones_like(x), x, y, z, x * x, y * y, z * z, x * y, x * z], axis=1)
    codes = group_codes(ratings.index, groups)[usable]
    return estimates({"gain": _gain}, sums, codes, resamples, seed)["gain"]


def _matrix(ratings: npt.ArrayLike | pd.DataFrame) -> Array:
    """Return ratings as (texts, raters), moved by one constant to a mean of 0, which changes no measure here."""
    if isinstance(ratings, pd.DataFrame) and ratings.columns.has_duplicates:
        twice = ", ".join(map(str, ratings.columns[ratings.columns.duplicated()].unique()))
        raise InputError(f"ratings: expected one column a rater, found more than one named {twice}; rename them")
    values = np.array(ratings, dtype=np.float64)
    if values.ndim != 2 or np.isinf(values).any():
        raise ValueError(f"expected finite scores of shape (texts, raters), found shape {values.shape}")
    known = values[~np.isnan(values)]
    return values - known.mean() if known.size else values


def _alpha_sums(values: Array) -> Array:
    """Return per text its number of scores, their sum, sum of squares and disagreement; 0 where there are not two."""
    known = ~np.isnan(values)
    m = known.sum(axis=1)
    scores = np.where(known, values, 0.0)
    mean = scores.sum(axis=1) / np.maximum(m, 1)
    within = (np.where(known, values - mean[:, None], 0.0) ** 2).sum(axis=1)
    sums = np.stack([m, scores.sum(axis=1), (scores**2).sum(axis=1), 2 * m * within / np.maximum(m - 1, 1)], axis=1)
    return np.where((m >= 2)[:, None], sums, 0.0)


def _alpha(sums: Array) -> Array:
    """Turn sums of shape (..., 4) into alpha of shape (...)."""
    n, total, squares, disagreement = np.moveaxis(sums, -1, 0)
    spread = _floored(n * squares - total**2, n * squares)
    return np.asarray(1 - _ratio(disagreement * (n - 1), 2 * spread))


def _pair_alpha(sums: Array) -> Array:
    n, x, y, xx, yy, xy = np.moveaxis(sums, -1, 0)
    return _alpha(np.stack([2 * n, x + y, xx + yy, 2 * np.maximum(xx - 2 * xy + yy, 0)], axis=-1))


def _pcc(sums: Array) -> Array:
    _, x, y, xy = _spreads(sums)
    return np.clip(_ratio(xy, np.sqrt(x * y)), -1, 1)


def _gain(sums: Array) -> Array:
    return _pcc(sums[..., [0, 1, 3, 4, 6, 8]]) - _pcc(sums[..., [0, 1, 2, 4, 5, 7]])


def _ccc(sums: Array) -> Array:
    shift, x, y, xy = _spreads(sums)
    return _ratio(2 * xy, x + y + shift**2)


def _rmse(sums: Array) -> Array:
    n, _, _, xx, yy, xy = np.moveaxis(sums, -1, 0)
    return np.sqrt(np.maximum(_ratio(xx - 2 * xy + yy, n), 0))


def _bias(sums: Array) -> Array:
    return _ratio(sums[..., 2] - sums[..., 1], sums[..., 0])


PAIR: Measures = {
    "pcc": _pcc, "ccc": _ccc, "alpha": _pair_alpha, "rmse": _rmse, "bias": _bias,
}  # fmt: skip


def _spreads(sums: Array) -> tuple[Array, Array, Array, Array]:
    """Return mean(y) - mean(x), both population variances and the covariance."""
    _, x, y, xx, yy, xy = (_ratio(part, sums[..., 0]) for part in np.moveaxis(sums, -1, 0))
    spread_x, spread_y = _floored(xx - x * x, xx), _floored(yy - y * y, yy)
    return y - x, spread_x, spread_y, np.where((spread_x == 0) | (spread_y == 0), 0.0, xy - x * y)


def _floored(spread: Array, size: Array) -> Array:
    """Take what rounding left of a spread for 0."""
    return np.where(spread <= ROUNDING * size + ROUNDING**2, 0.0, spread)


def _ratio(above: Array, below: Array) -> Array:
    """Divide; NaN where the divisor is 0."""
    return np.asarray(np.divide(above, below, out=np.full(np.shape(above), np.nan), where=np.asarray(below) != 0))
