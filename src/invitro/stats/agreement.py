"""How well raters agree: Krippendorff's alpha, PCC, CCC, RMSE and bias, with bootstrap intervals over texts or authors.

Ratings are tables with one row per text and one column per rater, in the scale's units, NaN where a rater gave no
score. Every measure is computed from a few sums over texts: memory is O(texts) for any number of distinct scores, while
Krippendorff's alpha from coincidence matrices takes texts times the squared number of distinct scores. For undefined
measures see `invitro.stats.moments`, for intervals `invitro.stats.intervals`. Zapf et al. (2016, BMC Med. Res.
Methodol. 16:93) advise the bootstrap over texts also for Krippendorff's alpha.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from invitro.errors import InputError
from invitro.stats import Floats, Ints
from invitro.stats.crowd import alpha_of, of_matrix, text_sums
from invitro.stats.intervals import Estimate, estimate_of
from invitro.stats.moments import MEASURES, RESAMPLES, Moments, Scores, drawn, ratio, resampled, rmse

Groups: TypeAlias = "pd.Series[Any] | None"
"""The author of each text, by text id."""


@dataclass(frozen=True)
class Agreement:
    """How well rater `b` agrees with rater `a` on the `n` texts that both scored.

    ``pcc``, ``ccc`` and ``krippendorff`` are at most 1; ``rmse`` and ``bias`` are in the scale's units, and ``bias``,
    the mean of b - a, is positive if b scores higher.
    """

    a: str
    b: str
    n: int
    pcc: Estimate
    ccc: Estimate
    krippendorff: Estimate
    rmse: Estimate
    bias: Estimate


def krippendorff_alpha(ratings: npt.ArrayLike | pd.DataFrame) -> float:
    """Return Krippendorff's alpha at the interval level; ratings of shape (texts, raters).

    ``1 - D_o / D_e``, where with m_u scores v of text u (texts with fewer than two are left out) and N scores in all
    ``D_o = 1/N sum_u 1/(m_u - 1) sum_{i != j} (v_i - v_j)^2`` and ``D_e = 1/(N (N - 1)) sum_{k != l} (v_k - v_l)^2``
    over all pairs of scores. Krippendorff (2011), "Computing Krippendorff's Alpha-Reliability". NaN if no text has
    two scores, or if all scores are equal: without variation there is nothing to agree on.
    """
    scores = of_matrix(_matrix(ratings))
    return float(alpha_of(text_sums(scores)[scores.number >= 2].sum(axis=0)))


def alpha_estimate(ratings: pd.DataFrame, groups: Groups = None, resamples: int = RESAMPLES, seed: int = 0) -> Estimate:
    """Return Krippendorff's alpha of all columns with its interval; `n` counts the texts with at least two scores.

    Arguments and errors are those of `pairwise`.
    """
    long = of_matrix(_matrix(ratings))
    usable = long.number >= 2
    if not usable.any():
        return Estimate(np.nan, np.nan, np.nan, 0)
    codes = np.unique(_codes(ratings.index, groups)[usable], return_inverse=True)[1]
    sums = text_sums(long)[usable]
    draws = alpha_of(drawn(sums, codes, resamples, seed))
    scores = Scores(alpha_of(sums.sum(axis=0))[None], draws[:, None], int(codes.max()) + 1, len(sums))
    return estimate_of(scores, "krippendorff")


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
    """Compare each pair of raters on the texts that both scored.

    Args:
        ratings: one row per text, one column per rater.
        groups: the group, such as the author, of each text, on the same index; None if every text has its own.
        resamples: number of draws.
        seed: of the draws.

    Raises:
        InputError: two columns share a name, or a text has no group.
    """
    values, codes = _matrix(ratings), _codes(ratings.index, groups)
    measures = {**MEASURES, "krippendorff": _pair_alpha}
    pairs = []
    for i, j in combinations(range(values.shape[1]), 2):
        both = ~np.isnan(values[:, i]) & ~np.isnan(values[:, j])
        names = str(ratings.columns[i]), str(ratings.columns[j])
        figures: Mapping[str, Any] = dict.fromkeys(measures, Estimate(np.nan, np.nan, np.nan, 0))
        if both.any():
            scores = resampled(values[both, i], values[both, j][None], codes[both], resamples, seed, measures)
            figures = {name: estimate_of(of_pair, name) for name, of_pair in scores.items()}
        pairs.append(Agreement(*names, int(both.sum()), **figures))
    return pairs


def gain(ratings: pd.DataFrame, groups: Groups = None) -> Estimate:
    """Return by how much the third column's PCC with the first exceeds the second's, on the texts that all scored.

    Both correlations are computed on each draw of texts, because both prompts rate the same texts. Whether two
    intervals overlap says little about the difference; this interval is the test.

    Args:
        ratings: three columns, for example the crowd and two prompts.
        groups: see `pairwise`.
    """
    values = _matrix(ratings)
    usable = ~np.isnan(values).any(axis=1)
    if not usable.any():
        return Estimate(np.nan, np.nan, np.nan, 0)
    codes = _codes(ratings.index, groups)[usable]
    pcc = resampled(values[usable, 0], values[usable, 1:].T, codes)["pcc"]
    return estimate_of(pcc[1:] - pcc[:1], "gain")


def _matrix(ratings: npt.ArrayLike | pd.DataFrame) -> Floats:
    """Return ratings as (texts, raters), shifted by one constant to a mean of 0, which changes no measure here."""
    if isinstance(ratings, pd.DataFrame) and ratings.columns.has_duplicates:
        twice = ", ".join(map(str, ratings.columns[ratings.columns.duplicated()].unique()))
        raise InputError(f"ratings: expected one column per rater, found more than one named {twice}; rename them")
    values = np.array(ratings, dtype=np.float64)
    if values.ndim != 2 or np.isinf(values).any():
        raise ValueError(f"expected finite scores of shape (texts, raters), found shape {values.shape}")
    scores = values[~np.isnan(values)]
    return values - scores.mean() if scores.size else values


def _pair_alpha(moments: Moments) -> Floats:
    """Return Krippendorff's alpha of two raters: ``1 - (N - 1) / N * RMSE^2 / (2 v)``, N scores of variance v."""
    scores, spread = 2 * moments.n, (moments.var_x + moments.var_y) / 2 + (moments.shift / 2) ** 2
    return np.asarray(1 - ratio((scores - 1) * rmse(moments) ** 2, 2 * scores * spread))


def _codes(index: "pd.Index[Any]", groups: Groups) -> Ints:
    """Number the author of each text of `index` in the order of their names; without `groups` every text has its own.

    Raises:
        InputError: a text has no author.
    """
    if groups is None:
        return pd.factorize(index, sort=True)[0]
    aligned = groups.reindex(index)
    missing = index[aligned.isna().to_numpy()]
    if len(missing):
        raise InputError(
            f"groups: expected the group (author) of each of {len(index)} texts, found none for {len(missing)}, "
            f"such as {missing[0]!r}"
        )
    return pd.factorize(pd.Index(aligned), sort=True)[0]
