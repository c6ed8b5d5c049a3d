"""Statistics of a study: a configuration's interval, differences paired by seed and text, Holm, median and peak.

Pure functions of arrays. The method, its sources and why it was chosen: `invitro.stats.contrast`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from invitro.stats.contrast import LEAST_AUTHORS, LEVEL, Contrast, Interval, contrast
from invitro.stats.resampling import METRICS, RESAMPLES, Array, Scores, resampled

__all__ = [
    "LEAST_AUTHORS", "LEVEL", "METRICS", "RESAMPLES", "Contrast", "Difference", "Interval", "MedianPeak", "best",
    "compared", "contrast", "effect_size", "holm", "interval_of", "median_peak", "metric_interval",
    "paired_difference",
]  # fmt: skip


@dataclass(frozen=True)
class Difference:
    """Configuration a against configuration b, on the seeds and texts they have in common.

    Args:
        metric: ``pcc``, ``ccc`` or ``rmse``.
        a: the metric of a, mean over seeds.
        b: that of b.
        difference: a - b; for RMSE a negative one is the better.
        low: of the 95 % interval over seeds and texts (over texts alone where `seeds` is 1).
        high: of that interval.
        p: two-sided, of the same distribution as the interval; NaN where nothing could be tested.
        effect: see `effect_size`.
        seeds: how many seeds are paired.
        texts: how many texts are.
        p_holm: p after Holm's correction, once it is known of which family the test is.
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
    p_holm: float | None = None


@dataclass(frozen=True)
class MedianPeak:
    """The paper's summary of seeds: their median, and the best of them (the lowest RMSE, the highest PCC or CCC)."""

    median: float
    peak: float


def interval_of(scores: Scores, metric: str) -> Interval:
    """Return the 95 % interval of a configuration's metric over seeds and texts; over texts alone with one seed.

    Correlations are taken to Fisher's z = artanh(r), where their distribution is close to symmetric (Fisher 1921; for
    CCC Lin 1989, section 3), and RMSE to its logarithm; the error goes there by the delta method, the limits come back.
    """
    found = contrast(scores)
    there, back, slope = SCALES[metric]
    with np.errstate(divide="ignore", invalid="ignore"):
        steep = slope(found.value)
        moved = replace(
            found, value=there(found.value), seed_error=found.seed_error * steep, text_error=found.text_error * steep
        ).interval()
    return Interval(found.value, back(moved.low), back(moved.high))


def compared(a: Scores, b: Scores, metric: str) -> Difference:
    """Return a - b from scores of the same seeds, texts and draws."""
    found = contrast(a - b)
    there = found.interval()
    means = float(a.values.mean()), float(b.values.mean())
    return Difference(
        metric, *means, found.value, there.low, there.high, found.p, effect_size(*means, metric), a.seeds, a.texts
    )  # fmt: skip


def metric_interval(
    labels: npt.ArrayLike,
    predictions: npt.ArrayLike,
    groups: npt.ArrayLike | None,
    metric: str,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Return a configuration's mean metric over seeds with its interval; arguments as in `resampling.resampled`."""
    return interval_of(resampled(labels, predictions, groups, resamples, seed)[metric], metric)


def paired_difference(
    labels: npt.ArrayLike,
    a: npt.ArrayLike,
    b: npt.ArrayLike,
    groups: npt.ArrayLike | None,
    metric: str,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Difference:
    """Return the difference a - b of two configurations, paired by seed and by text.

    Args:
        labels: shape (texts,), the scale's units.
        a: predictions of one configuration, shape (seeds, texts); NaN where a run did not predict a text.
        b: those of the other, of the same seeds and texts in the same order.
        groups: each text's author, shape (texts,); None where every text is its own.
        metric: ``pcc``, ``ccc`` or ``rmse``.
        resamples: number of draws of authors.
        seed: of the draws.
    """
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if x.shape != y.shape:
        raise ValueError(f"expected predictions of the same seeds and texts, found shapes {x.shape} and {y.shape}")
    x, y = np.where(np.isnan(y), np.nan, x), np.where(np.isnan(x), np.nan, y)
    first, second = (resampled(labels, arm, groups, resamples, seed)[metric] for arm in (x, y))
    return compared(first, second, metric)


def effect_size(a: float, b: float, metric: str) -> float:
    """Return the size of a - b on a scale on which studies can be compared, with the difference's sign.

    PCC and CCC: Cohen's q = artanh(a) - artanh(b), of which he calls 0.1 small, 0.3 medium and 0.5 large (Cohen 1988,
    "Statistical Power Analysis", ch. 4). RMSE: ln(a / b), which for small values is the relative change. A difference
    over its spread among seeds is left out on purpose: runs share their texts, so that it would grow with nothing but
    the steadiness of training.
    """
    there = SCALES[metric][0]
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(there(a) - there(b))


def holm(p: npt.ArrayLike) -> Array:
    """Return p values of one family after Holm's correction, in their order; NaN is no test and stays NaN.

    Holm (1979), "A Simple Sequentially Rejective Multiple Test Procedure", Scand. J. Stat. 6: the k-th smallest of m is
    multiplied by m - k + 1, and none becomes smaller than one before it. The family-wise error is kept however the
    tests depend on each other.
    """
    values = np.asarray(p, dtype=np.float64)
    tested = np.flatnonzero(~np.isnan(values))
    order = tested[np.argsort(values[tested], kind="stable")]
    adjusted = np.full(values.shape, np.nan)
    adjusted[order] = np.minimum(np.maximum.accumulate(values[order] * np.arange(len(order), 0, -1)), 1.0)
    return adjusted


def best(values: npt.ArrayLike, metric: str) -> float:
    """Return the best of values of a metric: the lowest RMSE, the highest PCC or CCC; NaN where there is none."""
    known = np.asarray(values, dtype=np.float64)
    known = known[~np.isnan(known)]
    return float("nan") if not known.size else float(known.min() if metric == "rmse" else known.max())


def median_peak(values: npt.ArrayLike, metric: str) -> MedianPeak:
    """Return median and peak of a metric's values, one a seed."""
    known = np.asarray(values, dtype=np.float64)
    known = known[~np.isnan(known)]
    return MedianPeak(float(np.median(known)) if known.size else float("nan"), best(known, metric))


def _artanh(value: float) -> float:
    return float(np.arctanh(value))


def _tanh(value: float) -> float:
    return float(np.tanh(value))


def _log(value: float) -> float:
    return float(np.log(value))


def _exp(value: float) -> float:
    return float(np.exp(value))


Scaling = tuple[Callable[[float], float], Callable[[float], float], Callable[[float], float]]
_FISHER: Scaling = (_artanh, _tanh, lambda value: 1 / (1 - value**2) if abs(value) < 1 else np.inf)
_LOG: Scaling = (_log, _exp, lambda value: 1 / value if value else np.inf)
SCALES: Mapping[str, Scaling] = {"pcc": _FISHER, "ccc": _FISHER, "rmse": _LOG}
"""By metric: to the scale on which its interval is symmetric, back, and the slope there."""
