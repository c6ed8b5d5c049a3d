"""Who answers carelessly: straight lines, no variance, negative agreement with the other raters; and a table of all."""

from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import binom

from invitro.arrays import Bools, Floats, Ints
from invitro.stats.crowd import Ratings, fitted_crowd
from invitro.stats.moments import ratio, without_rounding

LEAST_TO_TELL = 5
"""Ratings that a rater must have given before anything is said of how carefully they were given."""
STRICT = 0.01
"""Probability with which chance alone gives a careful rater such a record of straight lines or equal scores."""
FEWEST_ITEMS = 3
"""Answers in a row that make a line: two equal answers say nothing."""


def straight_lines(answers: Floats) -> Bools:
    """Return on which sheets all answers are the same, (sheets,); answers as given, before reversal, (sheets, items).

    NaN is a missing answer; a sheet of fewer than `FEWEST_ITEMS` answers is no line.
    """
    known = ~np.isnan(answers)
    low, high = np.where(known, answers, np.inf).min(axis=1), np.where(known, answers, -np.inf).max(axis=1)
    return np.asarray((known.sum(axis=1) >= FEWEST_ITEMS) & (low == high))


def signs_of_carelessness(of: Ratings, straight: Bools | None = None) -> list[list[str]]:
    """Return what speaks against the care of each rater, (raters,): lists of signs, empty where there are none.

    Three signs are looked for, each in raters with at least `LEAST_TO_TELL` ratings, and each against the others:

    - straight-lining: so many sheets on which all items have the same answer, as given, that chance gives them to a
      rater of the crowd's usual kind with probability below `STRICT`, and three robust SDs more than usual
    - no variance: the same score for all texts, which independent draws from the crowd's scores would give with
      probability below `STRICT`
    - negative agreement: a correlation with the mean of the other people's ratings below 0, and below the crowd's
      median correlation at the one-sided 5 % level (Fisher's z)

    Straight lines as a sign of careless answers: Curran (2016), "Methods for the Detection of Carelessly Invalid
    Responses in Survey Data", Journal of Experimental Social Psychology 66. The limits are the project's own.

    Args:
        of: all ratings.
        straight: whether each rating's sheet is a straight line, (ratings,); None if ratings have no items.
    """
    given = np.bincount(of.rater, minlength=of.raters)
    found = {"no variance": _constant(of, given), "negative agreement with the rest": _against(*_with_rest(of))}
    if straight is not None:
        shares = ratio(of.per_rater(straight.astype(np.float64)), given.astype(np.float64))
        found = {"straight-lining": _straight(shares, given)} | found
    return [[sign for sign, flags in found.items() if flags[rater]] for rater in range(of.raters)]


def raters_table(of: Ratings, straight: Bools | None = None) -> pd.DataFrame:
    """Return one row per rater, with the careless named.

    Args:
        of: all ratings.
        straight: whether each rating's sheet is a straight line, (ratings,); None if ratings have no items.

    Returns:
        ``ratings`` (how many), ``mean``, ``bias`` and ``noise`` (see `FittedCrowd`), ``with_rest`` (the correlation
        with the mean of the others), ``straight`` (the share), and ``careless``: the signs found, empty if there are
        none. What is not defined is None, with its reason in ``undefined``. The index is the rater's number.
    """
    given = np.bincount(of.rater, minlength=of.raters)
    fitted = fitted_crowd(of)
    several = of.number.max(initial=0) >= 2
    with_rest, overlap = _with_rest(of)
    shares = None if straight is None else ratio(of.per_rater(straight.astype(np.float64)), given.astype(np.float64))
    reasons = [_reason(int(n), bool(several), r, int(m)) for n, r, m in zip(given, with_rest, overlap, strict=True)]
    columns: dict[str, Any] = {
        "ratings": given,
        "mean": _or_none(ratio(of.per_rater(of.score), given.astype(np.float64))),
        "bias": _or_none(fitted.bias) if several else None,
        "noise": _or_none(fitted.noise) if several else None,
        "with_rest": _or_none(with_rest),
        "straight": None if shares is None else _or_none(shares),
        "careless": ["; ".join(signs) for signs in signs_of_carelessness(of, straight)],
        "undefined": reasons,
    }
    return pd.DataFrame(columns, index=pd.RangeIndex(of.raters), dtype=object).loc[given > 0]


def _or_none(values: Floats) -> list[float | None]:
    return [None if np.isnan(value) else float(value) for value in values]


def _reason(given: int, several: bool, with_rest: float, overlap: int) -> str:
    if not several:
        return "no text has a second rating"
    if np.isnan(with_rest):
        return "rated fewer than 3 texts that others rated" if overlap < 3 else "the scores do not vary"
    return "too few ratings to tell carelessness" if given < LEAST_TO_TELL else ""


def _with_rest(of: Ratings) -> tuple[Floats, Ints]:
    """Return each rater's correlation with the mean of the others' ratings, (raters,), and on how many texts."""
    number = of.number[of.text]
    shared = number > 1
    y = of.score - (of.score.mean() if len(of.score) else 0.0)
    x = np.where(shared, ratio(of.per_text(y)[of.text] - y, (number - 1).astype(np.float64)), 0.0)
    y = np.where(shared, y, 0.0)
    n = of.per_rater(shared.astype(np.float64))
    mean_x, mean_y = ratio(of.per_rater(x), n), ratio(of.per_rater(y), n)
    x, y = np.where(shared, x - mean_x[of.rater], 0.0), np.where(shared, y - mean_y[of.rater], 0.0)
    size = float(np.var(of.score)) if len(of.score) else 0.0
    xx, yy = (without_rounding(of.per_rater(one**2), n * size) for one in (x, y))
    r = ratio(of.per_rater(x * y), np.sqrt(xx * yy))
    return np.where(n >= 3, np.clip(r, -1, 1), np.nan), n.astype(np.intp)


def _straight(shares: Floats, given: Ints) -> Bools:
    able = given >= LEAST_TO_TELL
    if not able.any():
        return np.zeros(len(given), dtype=bool)
    usual = float(np.clip(np.median(shares[able]), 0.5 / np.median(given[able]), 0.9))
    apart = 1.4826 * float(np.median(np.abs(shares[able] - usual)))
    wide = np.sqrt(apart**2 + usual * (1 - usual) / np.maximum(given, 1))
    by_chance = binom.sf(np.rint(np.nan_to_num(shares) * given) - 1, given, usual)
    return np.asarray(able & (by_chance < STRICT) & (shares > usual + 3 * np.minimum(wide, (1 - usual) / 3.5)))


def _constant(of: Ratings, given: Ints) -> Bools:
    low, high = np.full(of.raters, np.inf), np.full(of.raters, -np.inf)
    np.minimum.at(low, of.rater, of.score)
    np.maximum.at(high, of.rater, of.score)
    constant = np.asarray((given >= LEAST_TO_TELL) & (low == high))
    if not constant.any():
        return constant
    values, counts = np.unique(of.score, return_counts=True)
    share = counts[np.searchsorted(values, low[constant])] / len(of.score)
    constant[constant] = share ** given[constant] < STRICT
    return constant


def _against(with_rest: Floats, overlap: Ints) -> Bools:
    able = np.asarray((overlap >= LEAST_TO_TELL) & ~np.isnan(with_rest))
    if not able.any():
        return able
    z = np.arctanh(np.clip(np.where(able, with_rest, 0.0), -0.999999, 0.999999))
    usual = float(np.median(z[able]))
    return np.asarray(able & (z < 0) & (z + 1.645 / np.sqrt(np.maximum(overlap - 3, 1)) < usual))
