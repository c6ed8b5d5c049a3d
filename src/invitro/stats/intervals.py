"""The mean of a figure over seeds and texts: its error, interval and test; paired, corrected comparisons; plateaus.

Studies and raters share one method. The target is a configuration's metric on texts of this kind, on average over all
seeds that might have been drawn. Both the seeds and the texts at hand are samples. A percentile bootstrap over five
seeds is far too narrow (five values say little about their variance), one over texts alone ignores the seeds, and a
t-test over seeds ignores the texts, which all runs share. Seeds and texts are crossed, as readers and cases are in
diagnostic imaging. With theta_s a figure of seed s (a metric, or a difference of two configurations)::

    theta_s = theta + A_s + B + C_s          A: of the seed, B: of the texts, shared by all seeds, C: of both
    error^2 = v / S + b,  v = var_s(theta_s),  b = max(mean_{s != t} cov_texts(theta_s, theta_t), 0)
    mean_s(theta_s) - theta  ~  sqrt(v / S) * t(S - 1) + sqrt(b) * t(G - 1)

v contains A and C, and b contains B alone, so nothing is counted twice. Covariances come from a bootstrap over the G
authors in which all seeds share each draw. The error is that of Obuchowski, Rockette (1995), "Hypothesis Testing of
Diagnostic Accuracy for Multiple Readers and Multiple Tests", Commun. Stat. Simul. Comput. 24. The distribution is that
of Behrens and Fisher (Fisher 1935, "The Fiducial Argument in Statistical Inference", Ann. Eugenics 6), two independent
Student variates; any error it makes is on the safe side (Robinson 1976, Ann. Stat. 4). Satterthwaite's degrees of
freedom, as in Hillis (2007, Stat. Med. 26), are too liberal with two or three seeds, since they trust a variance over
seeds that is small by chance. The method was chosen by simulation (``benchmarks/coverage.py``): of its 95 % intervals
93 to 98 % cover the target with 3 to 10 seeds and 150 to 500 texts, and 97 to 99 % with two seeds.

With one seed v is unknown: the error is that over texts, and the interval applies to this one model. Two raters are
treated as one seed, so crowd and LLM have the same interval in reliability reports and in study reports.

Correlations (PCC, CCC, Krippendorff's alpha) are transformed to Fisher's z = artanh(r), where their distribution is
close to symmetric (Fisher 1921; for CCC Lin 1989, section 3), and RMSE to its logarithm; the error is transformed by
the delta method, and the limits are transformed back.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.special import gammaln, stdtr, stdtrit

from invitro.errors import InputError
from invitro.stats import Floats
from invitro.stats.moments import Scores

LEVEL = 0.95
LEAST_AUTHORS = 10
"""With fewer authors (or texts) there is no interval, because their variance would be a guess."""

_STEPS = np.linspace(-14, 14, 281)
_NODES, _WEIGHTS = np.sinh(_STEPS), np.cosh(_STEPS) * (_STEPS[1] - _STEPS[0])
"""The trapezoidal rule over the real line, on a scale that reaches the tails of one degree of freedom."""


NOT_MEASURABLE = "not measurable"


@dataclass(frozen=True)
class Interval:
    """A figure with its 95 % interval.

    `value` is NaN if the figure is undefined, such as a correlation with a constant. `low` and `high` are NaN if
    there is no interval: with fewer than `LEAST_AUTHORS` authors, or if the figure is undefined on all texts or in more
    than 5 % of the draws.
    """

    value: float
    low: float
    high: float

    @property
    def measurable(self) -> bool:
        """Whether the interval exists and excludes 0; otherwise the figure says nothing."""
        return self.low > 0 or self.high < 0

    def __str__(self) -> str:
        value = "undefined" if np.isnan(self.value) else f"{self.value:z.4f}"
        return value if np.isnan(self.low) else f"{value} [{self.low:z.3f}, {self.high:z.3f}]"


@dataclass(frozen=True)
class Estimate(Interval):
    """A figure from `n` texts with its 95 % interval."""

    n: int


def told(estimate: Interval) -> str:
    """Format a correlation, concordance or Krippendorff's alpha for people, and say if it is not measurable."""
    return str(estimate) if estimate.measurable else f"{estimate}, {NOT_MEASURABLE}"


@dataclass(frozen=True)
class Contrast:
    """A mean over seeds with its two errors.

    Args:
        value: the mean over seeds.
        seed_error: standard error from drawing seeds, sqrt(v / S); 0 with one seed, because it is unknown.
        text_error: standard error from drawing texts, sqrt(b); NaN if there are too few authors for an interval.
        seeds: S.
        authors: G.
    """

    value: float
    seed_error: float
    text_error: float
    seeds: int
    authors: int

    @property
    def error(self) -> float:
        """Standard error over seeds and texts."""
        return float(np.hypot(self.seed_error, self.text_error))

    @property
    def over_seeds(self) -> float:
        """Share of the squared error that comes from seeds; NaN with one seed or without an error."""
        return (self.seed_error / self.error) ** 2 if self.seeds > 1 and self.error > 0 else np.nan

    def beyond(self, distance: float) -> float:
        """Return the probability that the mean is off by more than `distance`, in either direction."""
        return self._tails()(distance)

    def interval(self, level: float = LEVEL) -> Interval:
        """Return the interval at `level`, in the figure's units."""
        if not self.error > 0:
            return Interval(self.value, self.value - self.error, self.value + self.error)
        # Bonferroni: each part exceeds its own limit with half of the allowed error probability.
        share, tails = (3 + level) / 4, self._tails()
        widest = self.seed_error * stdtrit(max(self.seeds - 1, 1), share)
        widest += self.text_error * stdtrit(self.authors - 1, share)
        half = float(brentq(lambda distance: tails(distance) - (1 - level), 0.0, widest, xtol=1e-7 * self.error))
        return Interval(self.value, self.value - half, self.value + half)

    def _tails(self) -> Callable[[float], float]:
        """Return `beyond`, with everything that does not depend on the distance precomputed."""
        parts = [(self.seed_error, self.seeds - 1), (self.text_error, self.authors - 1)]
        (small, few), (large, many) = sorted(parts)
        if small < 1e-6 * large:
            return lambda distance: float(2 * stdtr(many, -distance / large))
        # P(small * T + large * U > distance), integrated over T, since over U the integrand could be a step.
        log = gammaln((few + 1) / 2) - gammaln(few / 2) - 0.5 * np.log(few * np.pi)
        density = 2 * np.exp(log - (few + 1) / 2 * np.log1p(_NODES**2 / few)) * _WEIGHTS
        moved = small / large * _NODES
        return lambda distance: float(min(density @ stdtr(many, -distance / large - moved), 1.0))

    @property
    def p(self) -> float:
        """Two-sided p for a figure of 0, from the interval's distribution: below 0.05 if the interval excludes 0.

        NaN without an error: if nothing varies, as between identical runs, nothing was tested.
        """
        return self.beyond(abs(self.value)) if self.error > 0 else np.nan


def contrast(scores: Scores) -> Contrast:
    """Return the mean over seeds and its errors. See the module for the equations."""
    values, seeds, authors = scores.values, scores.seeds, scores.authors
    value = float(values.mean())
    draws = scores.draws[np.isfinite(scores.draws).all(axis=1)]  # a draw may miss a fold with few authors
    if authors < LEAST_AUTHORS or len(draws) < max(2, LEVEL * len(scores.draws)):
        return Contrast(value, np.nan, np.nan, seeds, authors)
    unbiased = authors / (authors - 1)
    seed, texts = 0.0, unbiased * float(draws.mean(axis=1).var(ddof=1))
    if seeds > 1:
        seed = float(values.var(ddof=1)) / seeds
        per_seed = unbiased * float(draws.var(axis=0, ddof=1).sum())
        texts = max((seeds**2 * texts - per_seed) / (seeds * (seeds - 1)), 0.0)
    if seed + texts <= (1e-12 * max(abs(value), 1e-6)) ** 2:  # rounding
        return Contrast(value, 0.0, 0.0, seeds, authors)
    return Contrast(value, float(np.sqrt(seed)), float(np.sqrt(texts)), seeds, authors)


Scaling = tuple[Callable[[float], float], Callable[[float], float], Callable[[float], float]]
FISHER: Scaling = (np.arctanh, np.tanh, lambda value: 1 / (1 - value**2))
SCALES: Mapping[str, Scaling] = {
    "pcc": FISHER, "ccc": FISHER, "krippendorff": FISHER, "rmse": (np.log, np.exp, lambda value: 1 / value)
}  # fmt: skip
"""By measure: the transform to the scale on which its interval is symmetric, the inverse, the slope; none for bias."""


def interval_of(scores: Scores, measure: str) -> Interval:
    """Return the 95 % interval of a measure's mean over seeds and texts; with one seed, over texts alone.

    If all draws give the same figure, as for perfect agreement, the interval is that figure.
    """
    mean = contrast(scores)
    if measure not in SCALES or not mean.error > 0:
        return mean.interval()
    transform, inverse, slope = SCALES[measure]
    with np.errstate(divide="ignore"):
        steep = float(slope(np.float64(mean.value)))
    if not steep < 1e11:  # a concordance of -1 is at the end of Fisher's scale
        return Interval(mean.value, np.nan, np.nan)
    transformed = Contrast(
        transform(mean.value), mean.seed_error * steep, mean.text_error * steep, mean.seeds, mean.authors
    ).interval()
    return Interval(mean.value, float(inverse(transformed.low)), float(inverse(transformed.high)))


def estimate_of(scores: Scores, measure: str) -> Estimate:
    """Return `interval_of` with the number of texts."""
    interval = interval_of(scores, measure)
    return Estimate(interval.value, interval.low, interval.high, scores.texts)


@dataclass(frozen=True)
class Difference:
    """Configuration a compared with configuration b, on the seeds and texts that they share.

    Args:
        metric: ``pcc``, ``ccc`` or ``rmse``.
        a: the metric of a, mean over seeds.
        b: the metric of b.
        difference: a - b; for RMSE negative is better.
        low: lower limit of the 95 % interval over seeds and texts (over texts alone if `seeds` is 1).
        high: its upper limit.
        p: two-sided, from the same distribution as the interval; NaN if nothing could be tested.
        effect: see `effect_size`.
        seeds: number of paired seeds.
        texts: number of paired texts.
        authors: number of their authors.
        p_holm: p after Holm's correction; None until the family of tests is known.
    """

    metric: str
    a: float
    b: float
    difference: float
    low: float
    high: float
    p: float
    effect: float
    seeds: int
    texts: int
    authors: int
    p_holm: float | None = None


def compared(a: Scores, b: Scores, metric: str) -> Difference:
    """Return a - b from scores of the same seeds, texts and draws."""
    gap = contrast(a - b)
    interval = gap.interval()
    means = float(a.values.mean()), float(b.values.mean())
    return Difference(
        metric, *means, gap.value, interval.low, interval.high, gap.p, effect_size(*means, metric),
        a.seeds, a.texts, a.authors,
    )  # fmt: skip


def effect_size(a: float, b: float, metric: str) -> float:
    """Return the size of a - b on a scale that is comparable between studies, with the sign of the difference.

    PCC and CCC: Cohen's q = artanh(a) - artanh(b), where 0.1 is small, 0.3 medium and 0.5 large (Cohen 1988,
    "Statistical Power Analysis", ch. 4). RMSE: ln(a / b), which for small values is the relative change. The difference
    is not divided by its spread among seeds on purpose: runs share their texts, so that would grow merely because
    training is stable.
    """
    transform = SCALES[metric][0]
    with np.errstate(divide="ignore", invalid="ignore"):  # infinite at the ends of the scale
        return float(transform(a) - transform(b))


def holm(p: npt.ArrayLike) -> Floats:
    """Return the p values of a family after Holm's correction, in the same order; NaN means no test and stays NaN.

    Holm (1979), "A Simple Sequentially Rejective Multiple Test Procedure", Scand. J. Stat. 6: the k-th smallest of m is
    multiplied by m - k + 1, and none becomes smaller than the one before it. The family-wise error is controlled
    for any dependence between the tests.
    """
    values = np.asarray(p, dtype=np.float64)
    tested = np.flatnonzero(~np.isnan(values))
    order = tested[np.argsort(values[tested], kind="stable")]
    adjusted = np.full(values.shape, np.nan)
    adjusted[order] = np.minimum(np.maximum.accumulate(values[order] * np.arange(len(order), 0, -1)), 1.0)
    return adjusted


def best(values: npt.ArrayLike, metric: str) -> float:
    """Return the best value of a metric: the lowest RMSE, the highest PCC or CCC; NaN if there is none."""
    defined = np.asarray(values, dtype=np.float64)
    defined = defined[~np.isnan(defined)]
    return float("nan") if not defined.size else float(defined.min() if metric == "rmse" else defined.max())


MARGIN = 0.02
"""A smaller gain counts as none: for PCC and CCC, and for RMSE in scale points. Seeds differ by as much."""

Verdict = Literal["plateau", "gain", "undecided"]


@dataclass(frozen=True)
class Plateau:
    """The gain of a metric before `start` and after it.

    Args:
        metric: ``pcc``, ``ccc`` or ``rmse``; a gain is positive if the metric improves; for RMSE, if it falls.
        start: the value of the axis from which no further gain is expected.
        end: the largest value on the axis.
        before: the gain from the smallest value to `start`, or to the next available value; NaN if `start` is the
            smallest value.
        after: the gain from `start` to `end` along the least-squares line through all values from `start` on, with its
            95 % interval.
        p: two-sided, for the hypothesis that the line is level.
        most: the gain after `start` is below this with 95 % confidence, one-sided.
        margin: a gain below this counts as none.
        verdict: ``plateau`` if `most` is below `margin`; otherwise ``gain`` if the interval of `after` is above 0;
            otherwise ``undecided``: there are too few runs or texts to decide.
        seeds: number of runs at each value.
        texts: number of texts scored.
        where: the values of the study's other factors.
    """

    metric: str
    start: float
    end: float
    before: Interval
    after: Interval
    p: float
    most: float
    margin: float
    verdict: Verdict
    seeds: int
    texts: int
    where: Mapping[str, Any] = field(default_factory=dict)


def plateau(
    scores: Mapping[float, Scores], metric: str, start: float, where: Mapping[str, Any] | None = None
) -> Plateau:
    """Test for no further gain from `start` on.

    The slope over the values from `start` on is a weighted sum of their metrics, seed by seed and draw by draw, with
    the weights of least squares. Its interval is that of any such contrast (see `invitro.stats.intervals`), which
    takes into account that runs at different values share their seeds and texts. A slope that is not significant does
    not prove a plateau, but a small gain does: comparing `most` with `MARGIN` is a test for non-superiority, one half
    of Schuirmann's two one-sided tests (1987, J. Pharmacokinet. Biopharm. 15). The plateau is compared with a line,
    so a rise that levels off late counts as a gain spread over the whole range.

    Args:
        scores: by value of the axis, with the same seeds, texts and draws.
        metric: ``pcc``, ``ccc`` or ``rmse``.
        start: a value of the axis.
        where: the values of other factors, passed on.

    Raises:
        InputError: fewer than two values from `start` on.
    """
    values = sorted(scores)
    after = [value for value in values if value >= start - 1e-9]
    if len(after) < 2:
        raise InputError(f"study.plateau={start:g}: expected two or more values from this one on, found {after}")
    x = np.asarray(after) - np.mean(after)
    weights = x / (x @ x) * (after[-1] - start)
    sign = -1.0 if metric == "rmse" else 1.0
    gain = contrast(_weighted(scores, dict(zip(after, sign * weights, strict=True))))
    first, reached = values[0], after[0]
    before = Interval(np.nan, np.nan, np.nan)
    if first < reached:
        before = contrast(_weighted(scores, {first: -sign, reached: sign})).interval()
    interval, most = gain.interval(), gain.interval(0.9).high
    verdict: Verdict = "plateau" if most < MARGIN else "gain" if interval.low > 0 else "undecided"
    return Plateau(
        metric, float(start), float(after[-1]), before, interval, gain.p, most, MARGIN, verdict,
        scores[first].seeds, scores[first].texts, dict(where or {}),
    )  # fmt: skip


def _weighted(scores: Mapping[float, Scores], weights: Mapping[float, float]) -> Scores:
    parts = [(weight, scores[value]) for value, weight in weights.items()]
    values = np.sum([weight * part.values for weight, part in parts], axis=0)
    draws = np.sum([weight * part.draws for weight, part in parts], axis=0)
    return replace(parts[0][1], values=values, draws=draws)
