"""Comparisons of a study's configurations: differences paired by seed and text, Holm's correction, plateaus.

Pure functions of arrays. The method, its sources and why it was chosen: `invitro.stats.intervals`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import reduce
from operator import add
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from invitro.arrays import Floats
from invitro.errors import InputError
from invitro.stats.intervals import SCALES, Interval, contrast
from invitro.stats.moments import Scores


@dataclass(frozen=True)
class Difference:
    """Configuration a against configuration b, on the seeds and texts they have in common.

    Args:
        metric: ``pcc``, ``ccc`` or ``rmse``.
        a: the metric of a, mean over seeds.
        b: the metric of b.
        difference: a - b; for RMSE negative is better.
        low: lower limit of the 95 % interval over seeds and texts (over texts alone where `seeds` is 1).
        high: its upper limit.
        p: two-sided, from the same distribution as the interval; NaN if nothing could be tested.
        effect: see `effect_size`.
        seeds: how many seeds are paired.
        texts: how many texts are paired.
        authors: by how many authors these are.
        p_holm: p after Holm's correction, once the test's family is known.
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
    of = contrast(a - b)
    there = of.interval()
    means = float(a.values.mean()), float(b.values.mean())
    return Difference(
        metric, *means, of.value, there.low, there.high, of.p, effect_size(*means, metric), a.seeds, a.texts, a.authors
    )


def effect_size(a: float, b: float, metric: str) -> float:
    """Return the size of a - b on a scale on which studies can be compared, with the difference's sign.

    PCC and CCC: Cohen's q = artanh(a) - artanh(b), where he calls 0.1 small, 0.3 medium and 0.5 large (Cohen 1988,
    "Statistical Power Analysis", ch. 4). RMSE: ln(a / b), which for small values is the relative change. A difference
    divided by its spread among seeds is left out on purpose: runs share their texts, so it would grow merely because
    training is stable.
    """
    there = SCALES[metric][0]
    with np.errstate(divide="ignore", invalid="ignore"):  # infinite at the ends of the scale
        return float(there(a) - there(b))


def holm(p: npt.ArrayLike) -> Floats:
    """Return p values of one family after Holm's correction, in their order; NaN means no test and stays NaN.

    Holm (1979), "A Simple Sequentially Rejective Multiple Test Procedure", Scand. J. Stat. 6: the k-th smallest of m is
    multiplied by m - k + 1, and none becomes smaller than the one before it. The family-wise error is controlled
    however the tests depend on each other.
    """
    values = np.asarray(p, dtype=np.float64)
    tested = np.flatnonzero(~np.isnan(values))
    order = tested[np.argsort(values[tested], kind="stable")]
    adjusted = np.full(values.shape, np.nan)
    adjusted[order] = np.minimum(np.maximum.accumulate(values[order] * np.arange(len(order), 0, -1)), 1.0)
    return adjusted


def best(values: npt.ArrayLike, metric: str) -> float:
    """Return the best of values of a metric: the lowest RMSE, the highest PCC or CCC; NaN if there is none."""
    known = np.asarray(values, dtype=np.float64)
    known = known[~np.isnan(known)]
    return float("nan") if not known.size else float(known.min() if metric == "rmse" else known.max())


MARGIN = 0.02
"""A smaller gain counts as none: for PCC and CCC, and for RMSE in scale points. Seeds differ by as much."""

Verdict = Literal["plateau", "gain", "undecided"]


@dataclass(frozen=True)
class Plateau:
    """What a metric gains before `start` and after it.

    Args:
        metric: ``pcc``, ``ccc`` or ``rmse``; a gain is positive where the metric becomes better, for RMSE a fall.
        start: the value of the axis from which no further gain is expected.
        end: the largest value on the axis.
        before: the gain from the smallest value to `start`, or to the next available value; NaN if `start` is the
            smallest.
        after: the gain from `start` to `end` along the least-squares line through all values from `start` on, with its
            95 % interval.
        p: two-sided, for the hypothesis that the line is level.
        most: the gain after `start` is below this with 95 % confidence, one-sided.
        margin: a gain below this counts as none.
        verdict: ``plateau`` where `most` is below `margin`; otherwise ``gain`` where the interval of `after` is above
            0; otherwise ``undecided``: there are too few runs or texts to say.
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
    the weights of least squares. So it has the interval of any such contrast (see `invitro.stats.intervals`), which
    takes into account that runs at different values share their seeds and texts. A slope that is not significant is no
    proof of a plateau; a small gain is: comparing `most` with `margin` is a test for non-superiority, one half
    of Schuirmann's two one-sided tests (1987, J. Pharmacokinet. Biopharm. 15). The plateau is compared with a line,
    so a rise that levels off late counts as a gain spread over the whole range.

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
