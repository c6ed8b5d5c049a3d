"""The mean of a figure over seeds and texts: its error, its interval, its test.

What is estimated is a configuration's metric on texts of this kind, on average over all the seeds that might have been
drawn. Both the seeds and the texts at hand are samples. A percentile bootstrap over five seeds is far too narrow (five
values say little about their variance), one over texts alone leaves the seeds out, and a t-test over seeds leaves out
the texts, which all runs share. Seeds and texts are crossed, as readers and cases are in diagnostic imaging. With
theta_s a figure of seed s (a metric, or a difference of two configurations)::

    theta_s = theta + A_s + B + C_s          A: of the seed, B: of the texts, shared by all seeds, C: of both
    error^2 = v / S + b,  v = var_s(theta_s),  b = max(mean_{s != t} cov_texts(theta_s, theta_t), 0)
    mean_s(theta_s) - theta  ~  sqrt(v / S) * t(S - 1) + sqrt(b) * t(G - 1)

v holds A and C, and b holds B alone, so that nothing counts twice. Covariances come from a bootstrap over the G authors
in which every draw is one for all seeds. The error is that of Obuchowski, Rockette (1995), "Hypothesis Testing of
Diagnostic Accuracy for Multiple Readers and Multiple Tests", Commun. Stat. Simul. Comput. 24. The distribution is that
of Behrens and Fisher (Fisher 1935, "The Fiducial Argument in Statistical Inference", Ann. Eugenics 6), two independent
Student variates; it errs, where it does, on the safe side (Robinson 1976, Ann. Stat. 4). Satterthwaite's degrees of
freedom, as Hillis (2007, Stat. Med. 26) has them, find too much with two or three seeds, since a variance over seeds
that comes out small by chance is then believed. The method was chosen by simulation (``benchmarks/coverage.py``): of
its 95 % intervals 93 to 98 % hold with 3 to 10 seeds and 150 to 500 texts, and 97 to 99 % with two seeds.

With one seed v is unknown: the error is that over texts, and the interval holds for this one model.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import reduce
from operator import add
from typing import Any, Literal

import numpy as np
from scipy.optimize import brentq
from scipy.special import gammaln, stdtr, stdtrit

from invitro.errors import InputError
from invitro.stats.resampling import Scores

LEVEL = 0.95
LEAST_AUTHORS = 10
"""With fewer authors (or texts) than this there is no interval: their variance would be a guess."""

_STEPS = np.linspace(-14, 14, 281)
_NODES, _WEIGHTS = np.sinh(_STEPS), np.cosh(_STEPS) * (_STEPS[1] - _STEPS[0])
"""The trapezoidal rule over the whole line, on a scale that reaches the tails of one degree of freedom."""


@dataclass(frozen=True)
class Interval:
    """A figure with its 95 % interval; `low` and `high` are NaN where there is none."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Contrast:
    """A mean over seeds with its two errors.

    Args:
        value: the mean over seeds.
        seed_error: standard error of drawing seeds, sqrt(v / S); 0 with one seed, where it is unknown.
        text_error: standard error of drawing texts, sqrt(b); NaN where there are too few authors for any interval.
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
        """Share of the squared error that comes from seeds; NaN with one seed, and without an error."""
        return (self.seed_error / self.error) ** 2 if self.seeds > 1 and self.error > 0 else np.nan

    def beyond(self, distance: float) -> float:
        """Return the probability that the mean lies further than `distance` from what it estimates, either way."""
        return self._tails()(distance)

    def interval(self, level: float = LEVEL) -> Interval:
        """Return the interval of a `level`, in the figure's own units."""
        if not self.error > 0:
            return Interval(self.value, self.value - self.error, self.value + self.error)
        # Bonferroni: each part stays within its own limit in all but half of what may be missed.
        share, tails = (3 + level) / 4, self._tails()
        widest = self.seed_error * stdtrit(max(self.seeds - 1, 1), share)
        widest += self.text_error * stdtrit(self.authors - 1, share)
        half = float(brentq(lambda distance: tails(distance) - (1 - level), 0.0, widest, xtol=1e-7 * self.error))
        return Interval(self.value, self.value - half, self.value + half)

    def _tails(self) -> Callable[[float], float]:
        """Return `beyond`, with what does not depend on the distance done."""
        parts = [(self.seed_error, self.seeds - 1), (self.text_error, self.authors - 1)]
        (small, few), (large, many) = sorted(parts)
        if small < 1e-6 * large:
            return lambda distance: float(2 * stdtr(many, -distance / large))
        # P(small * T + large * U > distance), integrated over T: the other way round the integrand would be a step.
        log = gammaln((few + 1) / 2) - gammaln(few / 2) - 0.5 * np.log(few * np.pi)
        density = 2 * np.exp(log - (few + 1) / 2 * np.log1p(_NODES**2 / few)) * _WEIGHTS
        moved = small / large * _NODES
        return lambda distance: float(min(density @ stdtr(many, -distance / large - moved), 1.0))

    @property
    def p(self) -> float:
        """Two-sided p of the figure being 0, from the interval's distribution: below 0.05 where it excludes 0.

        NaN without an error: where nothing varies, as between equal runs, nothing was tested.
        """
        return self.beyond(abs(self.value)) if self.error > 0 else np.nan


def contrast(scores: Scores) -> Contrast:
    """Return mean and errors of a figure of each seed. See the module for the equations."""
    values, seeds, authors = scores.values, scores.seeds, scores.authors
    value = float(values.mean())
    draws = scores.draws[np.isfinite(scores.draws).all(axis=1)]  # a fold of few authors may be missed by a draw
    if authors < LEAST_AUTHORS or len(draws) < max(2, LEVEL * len(scores.draws)):
        return Contrast(value, np.nan, np.nan, seeds, authors)
    unbiased = authors / (authors - 1)
    seed, texts = 0.0, unbiased * float(draws.mean(axis=1).var(ddof=1))
    if seeds > 1:
        seed = float(values.var(ddof=1)) / seeds
        own = unbiased * float(draws.var(axis=0, ddof=1).sum())
        texts = max((seeds**2 * texts - own) / (seeds * (seeds - 1)), 0.0)
    if seed + texts <= (1e-12 * max(abs(value), 1e-6)) ** 2:  # rounding
        return Contrast(value, 0.0, 0.0, seeds, authors)
    return Contrast(value, float(np.sqrt(seed)), float(np.sqrt(texts)), seeds, authors)


MARGIN = 0.02
"""A gain below this is none: of PCC and CCC, and of RMSE in scale points. Runs differ by as much from seed to seed."""

Verdict = Literal["plateau", "gain", "undecided"]


@dataclass(frozen=True)
class Plateau:
    """What a metric gains before `start` and after it.

    Args:
        metric: ``pcc``, ``ccc`` or ``rmse``; a gain is positive where the metric becomes better, for RMSE a fall.
        start: the value of the axis from which no further gain is expected.
        end: the largest value on the axis.
        before: the gain from the smallest value to `start`, or to the next value there is; NaN where `start` is the
            smallest.
        after: the gain from `start` to `end` along the least-squares line through all values from `start` on, with its
            95 % interval.
        p: two-sided, of the line being level.
        most: the gain after `start` is below this with 95 % confidence, one-sided.
        margin: a gain below this counts as none.
        verdict: ``plateau`` where `most` is below `margin`; otherwise ``gain`` where the interval of `after` is above
            0; otherwise ``undecided``: the runs are too few, or the texts, to say.
        seeds: runs at each value.
        texts: how many texts were scored.
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
    scores: Mapping[float, Scores],
    metric: str,
    start: float,
    margin: float = MARGIN,
    where: Mapping[str, Any] | None = None,
) -> Plateau:
    """Test for no further gain from `start` on.

    The slope over the values from `start` on is a weighted sum of their metrics, seed by seed and draw by draw, with
    the weights of least squares. So it has the interval of any such contrast (see `invitro.stats.paired`), which
    takes into account that runs at different values share their seeds and texts. A slope that is not significant is no
    proof of a plateau; that the gain is small is one: `most` against `margin` is a test for non-superiority, one half
    of Schuirmann's two one-sided tests (1987, J. Pharmacokinet. Biopharm. 15). A line is what a plateau is compared to,
    so that a rise which levels off late counts as a gain spread over all of the range.

    Args:
        scores: by value of the axis, of the same seeds, texts and draws.
        metric: ``pcc``, ``ccc`` or ``rmse``.
        start: a value of the axis.
        margin: the smallest gain that counts, in the metric's units.
        where: the values of other factors, passed on.

    Raises:
        InputError: fewer than two values from `start` on.
    """
    values = sorted(scores)
    after = [value for value in values if value >= start - 1e-9]
    if len(after) < 2:
        raise InputError(f"study.plateau={start:g}: expected two or more values of the axis from there, found {after}")
    x = np.asarray(after) - np.mean(after)
    weights = x / (x @ x) * (after[-1] - start)
    sign = -1.0 if metric == "rmse" else 1.0
    gain = contrast(_weighted(scores, dict(zip(after, sign * weights, strict=True))))
    first, reached = values[0], after[0]
    before = Interval(np.nan, np.nan, np.nan)
    if first < reached:
        before = contrast(_weighted(scores, {first: -sign, reached: sign})).interval()
    there, most = gain.interval(), gain.interval(0.9).high
    verdict: Verdict = "plateau" if most < margin else "gain" if there.low > 0 else "undecided"
    return Plateau(
        metric, float(start), float(after[-1]), before, there, gain.p, most, margin, verdict,
        scores[first].seeds, scores[first].texts, dict(where or {}),
    )  # fmt: skip


def _weighted(scores: Mapping[float, Scores], weights: Mapping[float, float]) -> Scores:
    return reduce(add, (scores[value] * float(weight) for value, weight in weights.items()))
