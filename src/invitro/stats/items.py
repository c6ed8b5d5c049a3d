"""People's answers to the items of a scale: do the items belong together, is each keyed in the direction that the scale
says, and who answers carelessly: straight lines, no variance, negative agreement with the other raters?
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from scipy.optimize import minimize
from scipy.stats import binom

from invitro.stats import Bools, Floats, Ints
from invitro.stats.crowd import Ratings, Statistic, fitted_crowd, undefined
from invitro.stats.intervals import Estimate
from invitro.stats.moments import ratio, without_rounding

LEAST_SHEETS = 10
"""Least number of complete answer sheets for an item analysis."""

LEAST_UNIQUE = 0.005
"""Least unique variance of a standardised item."""

Direction = Literal["", "reversed already", "not reversed"]


@dataclass(frozen=True)
class ItemCheck:
    """One item compared with the rest of its scale.

    Args:
        name: the item's name.
        before: correlation with the sum of the other items, for answers as given.
        after: the same after the scale's reversed items have been reversed.
        runs: why the item runs against its scale: ``reversed already`` (the scale reverses it, but the answers are
            already reversed), ``not reversed`` (the scale should reverse it), or empty if it does not.
    """

    name: str
    before: Statistic
    after: Statistic
    runs: Direction = ""


@dataclass(frozen=True)
class ItemAnalysis:
    """All items of a scale.

    Args:
        cronbach: Cronbach's alpha after reversal.
        omega: McDonald's omega after reversal.
        items: in the scale's order.
        sheets: number of complete answer sheets.
    """

    cronbach: Statistic
    omega: Statistic
    items: tuple[ItemCheck, ...]
    sheets: int


def analysed(answers: Floats, names: list[str], reversed_items: Bools, low: float, high: float) -> ItemAnalysis:
    """Analyse a scale's items before and after reversal.

    An item's direction is the sign of its weight in the first principal component of the correlations after reversal,
    oriented so that most items that are not reversed have a positive weight. An item with a negative weight runs
    against its scale if, with all items turned the same way, its correlation with the rest is above 0 at the one-sided
    5 % level.

    Args:
        answers: as given, (sheets, items), NaN if missing; only complete sheets count.
        names: the items' names, (items,).
        reversed_items: which items the scale reverses, (items,).
        low: lowest possible answer to an item.
        high: highest possible answer.
    """
    whole = answers[~np.isnan(answers).any(axis=1)]
    keyed = np.where(reversed_items, low + high - whole, whole)
    n, k = whole.shape
    reason = _nothing(n, k)
    if reason:
        none = undefined(reason)
        return ItemAnalysis(none, none, tuple(ItemCheck(name, none, none) for name in names), n)
    before, after = rest_correlations(whole), rest_correlations(keyed)
    runs = _runs(keyed, reversed_items)

    def stated(value: float, item: int) -> Statistic:
        flat = whole[:, item].min() == whole[:, item].max()
        reason = "all answers are the same" if flat else "the other items' sum does not vary"
        return undefined(reason) if np.isnan(value) else Statistic(Estimate(float(value), np.nan, np.nan, n))

    checks = (ItemCheck(name, stated(before[j], j), stated(after[j], j), runs[j]) for j, name in enumerate(names))
    return ItemAnalysis(cronbach_alpha(keyed), mcdonald_omega(keyed), tuple(checks), n)


def _nothing(sheets: int, items: int) -> str:
    if items < 2:
        return "the scale has one item"
    return f"{sheets} complete answer sheets; at least {LEAST_SHEETS} are needed" if sheets < LEAST_SHEETS else ""


def cronbach_alpha(answers: Floats) -> Statistic:
    """Return ``k / (k - 1) (1 - sum_j var_j / var(sum))`` for complete answers after reversal, (sheets, items).

    Cronbach (1951), "Coefficient Alpha and the Internal Structure of Tests", Psychometrika 16.

    Example:
        >>> cronbach_alpha(np.array([[1.0, 2], [2, 2], [3, 5], [5, 4]])).value.__round__(3)
        0.808
    """
    n, k = answers.shape
    centred = answers - answers.mean(axis=0)
    each, total = (centred**2).sum(), (centred.sum(axis=1) ** 2).sum()
    if without_rounding(np.asarray(total), np.asarray(k * each)) == 0:
        return undefined("the sum of the items does not vary")
    return Statistic(Estimate(float(k / (k - 1) * (1 - each / total)), np.nan, np.nan, n))


def mcdonald_omega(answers: Floats) -> Statistic:
    """Return omega of one factor for complete answers after reversal, (sheets, items).

    ``(sum_j l_j)^2 / ((sum_j l_j)^2 + sum_j psi_j)`` with loadings l and unique variances psi of one factor, fitted by
    maximum likelihood: McDonald (1999), "Test Theory: A Unified Treatment", chapter 6, omega total for one factor.
    """
    n, k = answers.shape
    if k < 3:
        return undefined("one factor needs three items")
    spread = answers.std(axis=0)
    if (spread == 0).any():
        return undefined("an item has the same answer on all sheets")
    loadings, unique = _one_factor(np.asarray(np.corrcoef(answers.T)))
    loadings, unique = loadings * spread, unique * spread**2
    common = loadings.sum() ** 2
    return Statistic(Estimate(float(common / (common + unique.sum())), np.nan, np.nan, n))


def _one_factor(correlations: Floats) -> tuple[Floats, Floats]:
    """Fit one factor by maximum likelihood: loadings and unique variances, both (items,), of standardised items.

    Minimises ``log|S| + tr(R S^-1)`` with ``S = l l' + diag(psi)`` (Joreskog 1967, Psychometrika 32); psi stays above
    `LEAST_UNIQUE`, which bounds Heywood cases.
    """
    k = len(correlations)

    def loss(theta: Floats) -> tuple[float, Floats]:
        loadings, unique = theta[:k], theta[k:]
        model = np.outer(loadings, loadings) + np.diag(unique)
        inverse = np.linalg.inv(model)
        slope = inverse @ (model - correlations) @ inverse
        value = np.linalg.slogdet(model)[1] + np.trace(correlations @ inverse)
        return float(value), np.concatenate([2 * slope @ loadings, np.diag(slope)])

    values, vectors = np.linalg.eigh(correlations)
    start = vectors[:, -1] * np.sqrt(max(values[-1] - 1, 0.1)) * np.sign(vectors[:, -1].sum() or 1)
    start = np.concatenate([start.clip(-0.9, 0.9), 1 - start.clip(-0.9, 0.9) ** 2])
    bounds = [(None, None)] * k + [(LEAST_UNIQUE, None)] * k
    options = {"ftol": 1e-14, "maxiter": 500}
    theta = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options).x
    return theta[:k], theta[k:]


def rest_correlations(answers: Floats) -> Floats:
    """Return each item's correlation with the sum of the others, (items,), NaN where either does not vary."""
    centred = answers - answers.mean(axis=0)
    rest = centred.sum(axis=1, keepdims=True) - centred
    size = (centred**2).sum()
    of_item, of_rest = (without_rounding((values**2).sum(axis=0), size) for values in (centred, rest))
    return np.clip(ratio((centred * rest).sum(axis=0), np.sqrt(of_item * of_rest)), -1, 1)


def _runs(keyed: Floats, reversed_items: Bools) -> list[Direction]:
    """Return for each item why it runs against its scale, if it does."""
    varies = keyed.std(axis=0) > 0
    if varies.sum() < 2:
        return [""] * keyed.shape[1]
    weight = np.zeros(keyed.shape[1])
    weight[varies] = np.linalg.eigh(np.corrcoef(keyed[:, varies].T))[1][:, -1]
    plain = ~reversed_items & varies
    votes = np.sign(weight[plain]).sum() or weight[plain].sum() or np.sign(weight).sum() or weight.sum()
    turned = np.where(weight * np.sign(votes) < 0, -1.0, 1.0)
    together = np.nan_to_num(rest_correlations(keyed * turned))
    clear = np.arctanh(np.clip(together, -0.999999, 0.999999)) > 1.645 / np.sqrt(max(len(keyed) - 3, 1))
    return [
        "" if turn > 0 or not sure else "reversed already" if back else "not reversed"
        for turn, sure, back in zip(turned, clear, reversed_items, strict=True)
    ]


LEAST_TO_TELL = 5
"""Least number of ratings from which a rater's care is judged."""
STRICT = 0.01
"""Largest probability of such straight lines or equal scores by a careful rater that still counts as a sign."""
FEWEST_ITEMS = 3
"""Least number of answers that can form a line: two equal answers say nothing."""


def straight_lines(answers: Floats) -> Bools:
    """Return on which sheets all answers are the same, (sheets,); answers as given, before reversal, (sheets, items).

    NaN is a missing answer; a sheet with fewer than `FEWEST_ITEMS` answers is not a line.
    """
    answered = ~np.isnan(answers)
    low, high = np.where(answered, answers, np.inf).min(axis=1), np.where(answered, answers, -np.inf).max(axis=1)
    return np.asarray((answered.sum(axis=1) >= FEWEST_ITEMS) & (low == high))


def signs_of_carelessness(ratings: Ratings, straight: Bools | None = None) -> list[list[str]]:
    """Return the signs of carelessness of each rater, (raters,): lists, empty if there are none.

    There are three signs, each checked in raters with at least `LEAST_TO_TELL` ratings, by comparison with the others:

    - straight-lining: so many sheets on which all items have the same answer, as given, that a typical rater of the
      crowd would produce them by chance with probability below `STRICT`, and three robust SDs more than usual
    - no variance: the same score for all texts, which independent draws from the crowd's scores would produce with
      probability below `STRICT`
    - negative agreement: a correlation with the mean of the other people's ratings that is below 0, and below the
      crowd's median correlation at the one-sided 5 % level (Fisher's z)

    Straight lines as a sign of careless answers: Curran (2016), "Methods for the Detection of Carelessly Invalid
    Responses in Survey Data", Journal of Experimental Social Psychology 66. The thresholds are our own.

    Args:
        ratings: all ratings.
        straight: whether each rating's sheet is a straight line, (ratings,); None if ratings have no items.
    """
    counts = ratings.given
    signs = {
        "no variance": _constant(ratings, counts),
        "negative agreement with the rest": _against(*_with_rest(ratings)),
    }
    if straight is not None:
        shares = ratio(ratings.per_rater(straight.astype(np.float64)), counts)
        signs = {"straight-lining": _straight(shares, counts)} | signs
    return [[sign for sign, flags in signs.items() if flags[rater]] for rater in range(ratings.raters)]


def raters_table(ratings: Ratings, straight: Bools | None = None) -> pd.DataFrame:
    """Return one row per rater, with any signs of carelessness.

    Args:
        ratings: all ratings.
        straight: whether each rating's sheet is a straight line, (ratings,); None if ratings have no items.

    Returns:
        ``ratings`` (how many), ``mean``, ``bias`` and ``noise`` (see `FittedCrowd`), ``with_rest`` (the correlation
        with the mean of the others), ``straight`` (the share), and ``careless`` (the signs, empty if there are none).
        Undefined values are None, with the reason in ``undefined``. The index is the rater's number.
    """
    counts = ratings.given
    fitted = fitted_crowd(ratings)
    several = ratings.number.max(initial=0) >= 2
    with_rest, overlap = _with_rest(ratings)
    shares = None if straight is None else ratio(ratings.per_rater(straight.astype(np.float64)), counts)
    reasons = [_reason(int(n), bool(several), r, int(m)) for n, r, m in zip(counts, with_rest, overlap, strict=True)]
    columns: dict[str, Any] = {
        "ratings": counts,
        "mean": _or_none(ratio(ratings.per_rater(ratings.score), counts)),
        "bias": _or_none(fitted.bias) if several else None,
        "noise": _or_none(fitted.noise) if several else None,
        "with_rest": _or_none(with_rest),
        "straight": None if shares is None else _or_none(shares),
        "careless": ["; ".join(signs) for signs in signs_of_carelessness(ratings, straight)],
        "undefined": reasons,
    }
    return pd.DataFrame(columns, index=pd.RangeIndex(ratings.raters), dtype=object).loc[counts > 0]


def _or_none(values: Floats) -> list[float | None]:
    return [None if np.isnan(value) else float(value) for value in values]


def _reason(count: int, several: bool, with_rest: float, overlap: int) -> str:
    if not several:
        return "no text has a second rating"
    if np.isnan(with_rest):
        return "rated fewer than 3 texts that others rated" if overlap < 3 else "the scores do not vary"
    return "too few ratings to tell carelessness" if count < LEAST_TO_TELL else ""


def _with_rest(ratings: Ratings) -> tuple[Floats, Ints]:
    """Return each rater's correlation with the mean of the others' ratings, and its number of texts, both (raters,)."""
    number = ratings.number[ratings.text]
    shared = number > 1
    y = ratings.score - (ratings.score.mean() if len(ratings.score) else 0.0)
    x = np.where(shared, ratio(ratings.per_text(y)[ratings.text] - y, number - 1), 0.0)
    y = np.where(shared, y, 0.0)
    n = ratings.per_rater(shared.astype(np.float64))
    mean_x, mean_y = ratio(ratings.per_rater(x), n), ratio(ratings.per_rater(y), n)
    x, y = np.where(shared, x - mean_x[ratings.rater], 0.0), np.where(shared, y - mean_y[ratings.rater], 0.0)
    size = float(np.var(ratings.score)) if len(ratings.score) else 0.0
    xx, yy = (without_rounding(ratings.per_rater(values**2), n * size) for values in (x, y))
    r = ratio(ratings.per_rater(x * y), np.sqrt(xx * yy))
    return np.where(n >= 3, np.clip(r, -1, 1), np.nan), n.astype(np.intp)


def _straight(shares: Floats, counts: Ints) -> Bools:
    able = counts >= LEAST_TO_TELL
    if not able.any():
        return np.zeros(len(counts), dtype=bool)
    usual = float(np.clip(np.median(shares[able]), 0.5 / np.median(counts[able]), 0.9))
    apart = 1.4826 * float(np.median(np.abs(shares[able] - usual)))
    wide = np.sqrt(apart**2 + usual * (1 - usual) / np.maximum(counts, 1))
    by_chance = binom.sf(np.rint(np.nan_to_num(shares) * counts) - 1, counts, usual)
    return np.asarray(able & (by_chance < STRICT) & (shares > usual + 3 * np.minimum(wide, (1 - usual) / 3.5)))


def _constant(ratings: Ratings, counts: Ints) -> Bools:
    low, high = np.full(ratings.raters, np.inf), np.full(ratings.raters, -np.inf)
    np.minimum.at(low, ratings.rater, ratings.score)
    np.maximum.at(high, ratings.rater, ratings.score)
    constant = np.asarray((counts >= LEAST_TO_TELL) & (low == high))
    if not constant.any():
        return constant
    values, frequency = np.unique(ratings.score, return_counts=True)
    share = frequency[np.searchsorted(values, low[constant])] / len(ratings.score)
    constant[constant] = share ** counts[constant] < STRICT
    return constant


def _against(with_rest: Floats, overlap: Ints) -> Bools:
    able = np.asarray((overlap >= LEAST_TO_TELL) & ~np.isnan(with_rest))
    if not able.any():
        return able
    z = np.arctanh(np.clip(np.where(able, with_rest, 0.0), -0.999999, 0.999999))
    usual = float(np.median(z[able]))
    return np.asarray(able & (z < 0) & (z + 1.645 / np.sqrt(np.maximum(overlap - 3, 1)) < usual))
