"""Several people's ratings of the same texts: how well they agree, and how each person errs.

Ratings are in long form: one row per text and rater, any number per text. All figures are computed from sums over
texts or raters, in O(ratings) time and memory, and depend neither on the order of rows nor on the names of raters.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from invitro.stats import Bools, Floats, Ints
from invitro.stats.intervals import Estimate, estimate_of
from invitro.stats.moments import RESAMPLES, Scores, drawn, ratio, without_rounding

PRIOR_RATINGS = 4.0
"""How many ratings the crowd's common noise counts for in the estimate of each rater's noise."""
ROUNDS, CLOSE = 200, 1e-7


class Ratings(NamedTuple):
    """Ratings in long form.

    Args:
        text: the number of each rating's text, (ratings,), from 0; some texts may have no rating.
        rater: the number of each rating's rater, (ratings,); a rater rates a text at most once.
        score: in the scale's units, (ratings,), no NaN.
        texts: number of texts.
        raters: number of raters.
    """

    text: Ints
    rater: Ints
    score: Floats
    texts: int
    raters: int

    @property
    def number(self) -> Ints:
        """Number of ratings of each text, (texts,)."""
        return np.bincount(self.text, minlength=self.texts)

    @property
    def given(self) -> Ints:
        """Number of ratings by each rater, (raters,)."""
        return np.bincount(self.rater, minlength=self.raters)

    @property
    def mean(self) -> Floats:
        """The mean of each text's ratings, (texts,); NaN without a rating."""
        return ratio(self.per_text(self.score), self.number)

    def per_text(self, values: Floats) -> Floats:
        """Return the sums of `values`, (ratings,), over each text's ratings, (texts,)."""
        return np.asarray(np.bincount(self.text, weights=values, minlength=self.texts), dtype=np.float64)

    def per_rater(self, values: Floats) -> Floats:
        """Return the sums of `values`, (ratings,), over each rater's ratings, (raters,)."""
        return np.asarray(np.bincount(self.rater, weights=values, minlength=self.raters), dtype=np.float64)

    def of_raters(self, kept: Bools) -> "Ratings":
        """Return the ratings of the raters flagged in `kept`, (raters,)."""
        rows = kept[self.rater]
        return self._replace(text=self.text[rows], rater=self.rater[rows], score=self.score[rows])


def of_matrix(values: Floats) -> Ratings:
    """Return ratings of shape (texts, raters), NaN if missing, in long form."""
    text, rater = np.nonzero(~np.isnan(values))
    return Ratings(text, rater, values[text, rater], *values.shape)


@dataclass(frozen=True)
class Statistic:
    """A figure, or the reason why it is undefined; never NaN.

    Args:
        estimate: the figure with its 95 % interval; None if undefined.
        reason: why it is undefined; empty if it is defined.
    """

    estimate: Estimate | None
    reason: str = ""

    @property
    def value(self) -> float | None:
        """The figure; None if undefined."""
        return None if self.estimate is None else self.estimate.value

    def __str__(self) -> str:
        return f"not defined: {self.reason}" if self.estimate is None else str(self.estimate)


def undefined(reason: str) -> Statistic:
    """Return an undefined figure."""
    return Statistic(None, reason)


@dataclass(frozen=True)
class Reliability:
    """How reliable the crowd is, on the texts with at least two ratings.

    Args:
        krippendorff: Krippendorff's alpha, interval level; see `invitro.stats.agreement`.
        icc1: ICC(1), the reliability of one rating, see `reliability`.
        icck: ICC(k), the reliability of the mean of `typical` ratings.
        typical: k, the number of ratings per text; if it varies, a value between mean and harmonic mean.
        bias: SD of the raters' biases, in the scale's units: how differently they use the scale, see `fitted_crowd`.
        texts: number of texts with at least two ratings.
        ratings: number of their ratings.
        raters: number of people who gave any rating.
    """

    krippendorff: Statistic
    icc1: Statistic
    icck: Statistic
    typical: float | None
    bias: Statistic
    texts: int
    ratings: int
    raters: int


def reliability(ratings: Ratings, groups: Ints | None = None, resamples: int = RESAMPLES, seed: int = 0) -> Reliability:
    """Measure the crowd's reliability; intervals are from a bootstrap over texts or their authors.

    With m_i ratings of text i, n texts and N ratings, and the mean squares between and within texts::

        MSB = sum_i m_i (mean_i - mean)^2 / (n - 1)         MSW = sum_ir (y_ir - mean_i)^2 / (N - n)
        k = (N - sum_i m_i^2 / N) / (n - 1)
        ICC(1) = (MSB - MSW) / (MSB + (k - 1) MSW)          ICC(k) = (MSB - MSW) / MSB

    Shrout, Fleiss (1979), "Intraclass Correlations: Uses in Assessing Rater Reliability", Psychological Bulletin 86,
    case 1, since each text may have other raters; k for unequal numbers is that of Donner (1986), International
    Statistical Review 54. Their largest value is 1, and a negative one means that raters of one text differ more
    than texts do.

    Args:
        ratings: all ratings.
        groups: the author of each text as a number from 0 without gaps, (texts,); None if every text has its own.
        resamples: number of draws.
        seed: of the draws.

    Example:
        >>> scores = np.array([[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]])
        >>> measured = reliability(of_matrix(scores.astype(float)))  # Shrout and Fleiss's example
        >>> round(measured.icc1.value, 2), round(measured.icck.value, 2)
        (0.17, 0.44)
    """
    number = ratings.number
    several = number >= 2
    raters = len(np.unique(ratings.rater))
    texts, total = int(several.sum()), int(number[several].sum())
    if reason := _no_reliability(ratings, several):
        none = undefined(reason)
        return Reliability(none, none, none, None, none, texts, total, raters)
    sums = text_sums(ratings)[several]
    codes = np.arange(texts) if groups is None else np.unique(groups[several], return_inverse=True)[1]
    totals, draws = sums.sum(axis=0), drawn(sums, codes, resamples, seed)
    authors = int(codes.max()) + 1

    def figure(measure: Callable[[Floats], Floats], name: str, reason: str) -> Statistic:
        scores = Scores(np.atleast_1d(measure(totals)), measure(draws)[:, None], authors, texts)
        return undefined(reason) if np.isnan(scores.values[0]) else Statistic(estimate_of(scores, name))

    flat, bias = "all ratings are the same", undefined("one person gave all ratings")
    if raters > 1:
        bias = Statistic(Estimate(fitted_crowd(ratings).bias_spread, np.nan, np.nan, raters))
    return Reliability(
        krippendorff=figure(alpha_of, "krippendorff", flat),
        icc1=figure(_icc1, "krippendorff", flat),
        icck=figure(_icck, "icck", "the texts' means do not differ"),
        typical=float(_typical(totals)),
        bias=bias,
        texts=texts,
        ratings=total,
        raters=raters,
    )


def _no_reliability(ratings: Ratings, several: Bools) -> str:
    if not len(ratings.score):
        return "there are no ratings"
    if not several.any():
        return "every text has one rating; agreement needs two"
    if several.sum() < 2:
        return "only one text has two ratings or more"
    return ""


def text_sums(ratings: Ratings) -> Floats:
    """Return each text's terms, (texts, 7): 1, m, m^2, sum, sum^2 / m, squares within, and alpha's disagreement."""
    score = ratings.score - (ratings.score.mean() if len(ratings.score) else 0.0)
    m = ratings.number.astype(np.float64)
    total = ratings.per_text(score)
    mean = total / np.maximum(m, 1)
    within = ratings.per_text((score - mean[ratings.text]) ** 2)
    return np.stack([np.ones_like(m), m, m * m, total, total * mean, within, within / np.maximum(m - 1, 1) * m], axis=1)


def _mean_squares(sums: Floats) -> tuple[Floats, Floats, Floats]:
    """Return MSB, MSW and k from sums of shape (..., 7)."""
    n, ratings, _, total, between, within, _ = np.moveaxis(sums, -1, 0)
    spread = without_rounding(between - ratio(total**2, ratings), between)
    size = between + within
    return ratio(spread, n - 1), ratio(without_rounding(within, size), ratings - n), _typical(sums)


def _typical(sums: Floats) -> Floats:
    n, ratings, squares = sums[..., 0], sums[..., 1], sums[..., 2]
    return ratio(ratings - ratio(squares, ratings), n - 1)


def _icc1(sums: Floats) -> Floats:
    between, within, k = _mean_squares(sums)
    return ratio(between - within, between + (k - 1) * within)


def _icck(sums: Floats) -> Floats:
    between, within, _ = _mean_squares(sums)
    return ratio(between - within, between)


def alpha_of(sums: Floats) -> Floats:
    """Return Krippendorff's alpha from `text_sums` of texts with at least two ratings, shape (..., 7)."""
    _, ratings, _, total, between, within, disagreement = np.moveaxis(sums, -1, 0)
    spread = without_rounding(ratings * (between + within) - total**2, ratings * (between + within))
    return np.asarray(1 - ratio(disagreement * (ratings - 1), spread))


def mean_reliability(single: Statistic, number: Floats) -> Statistic:
    """Return the reliability of labels that are means of several ratings, from that of a single rating, ICC(1).

    With m_i ratings of text i, ``R = 1 / (1 + (1 / ICC(1) - 1) mean_i(1 / m_i))``: the variance of the truth relative
    to itself plus the mean variance of the labels' errors. If all texts have k ratings, it is ICC(k) (Spearman 1910,
    Brown 1910).

    Args:
        single: ICC(1).
        number: number of ratings of each text, (texts,), at least 1.

    Example:
        >>> mean_reliability(Statistic(Estimate(0.5, 0.2, 0.8, 40)), np.array([2.0, 2.0])).value  # 2 r / (1 + r)
        0.6666666666666666
    """
    if single.estimate is None:
        return single
    if single.estimate.value <= 0:
        return undefined("raters differ on a text as much as texts do")
    share = float(np.mean(1 / number))

    def of_mean(value: float) -> float:
        return 0.0 if value <= 0 else 1 / (1 + (1 / value - 1) * share)  # NaN stays NaN

    icc1 = single.estimate
    return Statistic(Estimate(of_mean(icc1.value), of_mean(icc1.low), of_mean(icc1.high), icc1.n))


@dataclass(frozen=True)
class FittedCrowd:
    """The crowd as a model, in the scale's units.

    Args:
        label: each text's score, (texts,): the mean of its ratings minus their raters' biases, weighted by the
            raters' precision ``1 / noise^2``. It is not shrunk to the mean. NaN without a rating.
        bias: how much higher than the crowd each rater rates, (raters,); 0 without a rating.
        noise: SD of each rater's error, (raters,).
        bias_spread: SD of the raters' biases.
    """

    label: Floats
    bias: Floats
    noise: Floats
    bias_spread: float


def fitted_crowd(ratings: Ratings) -> FittedCrowd:
    """Fit raters who differ in bias and noise, without looking at the texts.

    The rating of text i by rater r is ``y_ir = t_i + b_r + e_ir`` with ``t_i ~ N(mu, tau^2)``, ``b_r ~ N(0, beta^2)``
    and ``e_ir ~ N(0, sigma_r^2)``; sigma_r^2 has an inverse-gamma prior around the crowd's common noise, worth
    `PRIOR_RATINGS` ratings. Truth and quality are estimated together, as in Raykar et al. (2010), "Learning From
    Crowds", JMLR 11, by variational EM with independent posteriors of truths and biases. `invitro.raters.joint` adds
    the texts and LLMs. With one rating per text, bias and noise cannot be distinguished from the truth, and the labels
    are the ratings.
    """
    text, rater, score = ratings.text, ratings.rater, ratings.score
    number, counts = ratings.number, ratings.given
    if not len(score) or number.max() < 2 or score.min() == score.max():
        return FittedCrowd(ratings.mean, np.zeros(ratings.raters), np.zeros(ratings.raters), 0.0)
    rated, active = number > 0, counts > 0
    level = float(ratings.mean[rated].mean())
    total = float(np.var(score))
    tau, beta, noise = total / 2, total / 10, np.full(ratings.raters, total / 2)
    bias, floor = np.zeros(ratings.raters), 1e-9 * total
    for _ in range(ROUNDS):
        before = np.array([tau, beta, level])
        weight = 1 / noise[rater]
        uncertain = 1 / (1 / tau + ratings.per_text(weight))
        truth = uncertain * (level / tau + ratings.per_text(weight * (score - bias[rater])))
        spread = 1 / (1 / beta + counts / noise)
        bias = spread * ratings.per_rater(score - truth[text]) / noise
        squares = ratings.per_rater((score - truth[text] - bias[rater]) ** 2 + uncertain[text]) + counts * spread
        common = squares.sum() / len(score)
        noise = np.maximum((PRIOR_RATINGS * common + squares) / (PRIOR_RATINGS + counts), floor)
        level = float(truth[rated].mean())
        tau = max(float(((truth[rated] - level) ** 2 + uncertain[rated]).mean()), floor)
        beta = max(float((bias[active] ** 2 + spread[active]).mean()), floor)
        if np.abs(np.array([tau, beta, level]) - before).max() < CLOSE * total:
            break
    # Biases are relative to their mean, weighted by ratings, so that the crowd's level does not change.
    bias = np.where(active, bias - np.average(bias, weights=counts), 0.0)
    weight = 1 / noise[rater]
    label = ratio(ratings.per_text(weight * (score - bias[rater])), ratings.per_text(weight))
    return FittedCrowd(label, bias, np.sqrt(noise), float(np.sqrt(beta)))


def crowd_labels(ratings: Ratings, how: str) -> Floats:
    """Return each text's crowd label, (texts,), NaN without a rating.

    Args:
        ratings: all ratings.
        how: ``mean``, ``median``, or ``raters``: `FittedCrowd.label`.
    """
    if how == "raters":
        return fitted_crowd(ratings).label
    if how == "median":
        medians = pd.Series(ratings.score).groupby(ratings.text).median()
        return np.asarray(medians.reindex(range(ratings.texts)), dtype=np.float64)
    return ratings.mean


def spreads(ratings: Ratings) -> Floats:
    """Return the SD of each text's ratings (divisor m - 1), (texts,); NaN with fewer than two."""
    number, mean = ratings.number, ratings.mean
    squares = ratings.per_text((ratings.score - mean[ratings.text]) ** 2)
    return np.sqrt(ratio(without_rounding(squares, number * np.nan_to_num(mean) ** 2), np.maximum(number - 1, 0)))
