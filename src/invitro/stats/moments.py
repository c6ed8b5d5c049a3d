"""PCC, CCC, RMSE and bias, and their bootstrap: one definition for training, studies and reliability reports.

All four follow from the moments of two sides, x (predictions, or a second rater) and y (labels, or a first rater)::

    PCC  = cov / sqrt(var_x var_y)                                          Pearson's correlation
    CCC  = 2 cov / (var_x + var_y + (mean_x - mean_y)^2)                    Lin's concordance
    RMSE = sqrt(var_x - 2 cov + var_y + (mean_x - mean_y)^2)
    bias = mean_x - mean_y

Variances have the divisor n, as in Lin (1989), "A Concordance Correlation Coefficient to Evaluate Reproducibility",
Biometrics 45.

**Constants.** If a side does not vary, PCC is undefined: NaN in arrays, without interval or test, and reported as
"undefined". CCC is 0 there, even if both sides are the same constant: without variation there is no
concordance to show. Without texts all four are undefined.

**The bootstrap** draws whole authors, with the same draws for every figure. Every figure is a function of a few sums
over texts. A draw of authors is then a row of counts, and all figures on all draws are one product of the matrix of
counts with the matrix of the authors' sums. Authors, not texts, are drawn, since texts by one author are not
independent evidence (Field, Welsh 2007, "Bootstrapping Clustered Data", J. R. Stat. Soc. B 69). There are `RESAMPLES`
draws. They depend only on the seed and the number of authors, who are ordered by name, so the same texts have the same
draws for every measure and every order of rows.
"""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from invitro.errors import InputError
from invitro.stats import Floats, Ints

Metric = Literal["pcc", "ccc", "rmse"]
METRICS: tuple[Metric, ...] = ("pcc", "ccc", "rmse")
"""The metrics of models."""


class Moments(NamedTuple):
    """Moments of two sides, arrays of one shape; a variance is exactly 0 if its side is constant up to rounding."""

    n: Floats
    shift: Floats
    var_x: Floats
    var_y: Floats
    cov: Floats


def sums_over(x: npt.ArrayLike, y: npt.ArrayLike) -> Floats:
    """Return what each text contributes to the six sums ``n, x, y, xx, yy, xy``, shape (..., 6); 0 where x is NaN.

    Args:
        x: shape (...).
        y: of a shape that broadcasts to that of `x`. Shift both by one constant near the mean to keep precision.
    """
    x, y = np.broadcast_arrays(np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64))
    present = ~np.isnan(x)
    x, y = np.where(present, x, 0.0), np.where(present, y, 0.0)
    return np.stack([present.astype(np.float64), x, y, x * x, y * y, x * y], axis=-1)


def of_sums(sums: Floats) -> Moments:
    """Return the moments from sums of shape (..., 6), see `sums_over`."""
    n, *others = np.moveaxis(np.asarray(sums, dtype=np.float64), -1, 0)
    x, y, xx, yy, xy = (ratio(part, n) for part in others)
    var_x, var_y = without_rounding(xx - x * x, xx), without_rounding(yy - y * y, yy)
    return Moments(n, x - y, var_x, var_y, np.where((var_x == 0) | (var_y == 0), 0.0, xy - x * y))


def of_centred(moments: npt.ArrayLike) -> Moments:
    """Return the moments from ``n, mean_x, mean_y, S_xx, S_yy, S_xy``, shape (6,), S being sums about the means."""
    n, x, y, *spreads = np.asarray(moments, dtype=np.float64)
    var_x, var_y, cov = (ratio(part, n) for part in spreads)
    var_x, var_y = (np.where(v <= (1e-10 * max(abs(m), 1.0)) ** 2, 0.0, v) for v, m in ((var_x, x), (var_y, y)))
    return Moments(n, x - y, var_x, var_y, cov)


def pcc(moments: Moments) -> Floats:
    """Return Pearson's correlation, in [-1, 1]; NaN if a side is constant."""
    return np.clip(ratio(moments.cov, np.sqrt(moments.var_x * moments.var_y)), -1.0, 1.0)


def ccc(moments: Moments) -> Floats:
    """Return Lin's concordance, in [-1, 1]; 0 if a side is constant."""
    of_flat = np.where(moments.n > 0, 0.0, np.nan)
    flat = (moments.var_x == 0) | (moments.var_y == 0)
    return np.where(flat, of_flat, ratio(2 * moments.cov, moments.var_x + moments.var_y + moments.shift**2))


def matched_ccc(moments: Moments) -> Floats:
    """Return the CCC after x has been shifted and stretched to y's mean and SD, in [-1, 1]; 0 if a side is constant.

    This is the part of a difference in CCC that remains when neither side profits from its spread or bias. As ``2 cov /
    (var_y + var_y)`` of the stretched x is ``cov / sqrt(var_x var_y)``, it equals PCC if both sides vary.

    Example:
        >>> x, y = np.array([1.0, 2, 3, 6]), np.array([2.0, 4, 3, 7])
        >>> stretched = y.mean() + (x - x.mean()) * y.std() / x.std()
        >>> direct = measured(stretched, y)["ccc"]
        >>> round(direct, 12) == round(float(matched_ccc(of_sums(sums_over(x, y).sum(axis=0)))), 12)
        True
    """
    stretch = ratio(np.sqrt(moments.var_y), np.sqrt(moments.var_x))
    var_x = moments.var_y * (moments.var_x > 0)
    return ccc(moments._replace(shift=np.zeros_like(moments.shift), var_x=var_x, cov=moments.cov * stretch))


def rmse(moments: Moments) -> Floats:
    """Return the root of the mean squared error, at least 0, in the scale's units."""
    return np.sqrt(np.maximum(moments.var_x - 2 * moments.cov + moments.var_y, 0.0) + moments.shift**2)


def bias(moments: Moments) -> Floats:
    """Return mean(x) - mean(y), in the scale's units."""
    return moments.shift


MEASURES: Mapping[str, Callable[[Moments], Floats]] = {"pcc": pcc, "ccc": ccc, "rmse": rmse, "bias": bias}


def measured(x: npt.ArrayLike, y: npt.ArrayLike) -> dict[str, float]:
    """Return `MEASURES` of two arrays of shape (n,), n at least 1.

    Example:
        >>> measured([1, 2, 3, 4], [2, 4, 6, 8])["ccc"]
        0.4
    """
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    moments = of_sums(sums_over(x - y.mean(), y - y.mean()).sum(axis=0))
    return {name: float(measure(moments)) for name, measure in MEASURES.items()}


class ConstantPredictionsWarning(UserWarning):
    """A correlation was requested for values that do not vary; it is set to 0."""


def is_constant(moments: Moments, name: str) -> bool:
    """Whether a side does not vary; if so, warn that the correlation `name` is taken to be 0."""
    sides = [side for side, var in (("predictions", moments.var_x), ("targets", moments.var_y)) if var == 0]
    if sides:
        message = f"{name}: the {' and '.join(sides)} do not vary; the correlation is undefined and taken to be 0"
        warnings.warn(message, ConstantPredictionsWarning, stacklevel=3)
    return bool(sides)


def measure(predictions: npt.ArrayLike, targets: npt.ArrayLike) -> dict[str, float]:
    """Return `METRICS` of a run's predictions, both arrays of shape (n,), n at least 1; see `invitro.metrics`.

    If a side is constant, PCC and CCC are 0, with a warning: logs and means over runs need a number.

    Example:
        >>> measure([1, 2, 3, 4], [2, 4, 6, 8])
        {'pcc': 1.0, 'ccc': 0.4, 'rmse': 2.7386127875258306}
    """
    x, y = np.asarray(predictions, dtype=np.float64), np.asarray(targets, dtype=np.float64)
    dx, dy = x - x.mean(), y - y.mean()
    moments = of_centred([len(x), x.mean(), y.mean(), dx @ dx, dy @ dy, dx @ dy])
    constant = is_constant(moments, "PCC, CCC")
    return {name: 0.0 if constant and name != "rmse" else float(MEASURES[name](moments)) for name in METRICS}


def ratio(above: Floats, below: Floats | Ints) -> Floats:
    """Divide; NaN where the divisor is 0."""
    return np.asarray(np.divide(above, below, out=np.full(np.shape(above), np.nan), where=np.asarray(below) != 0))


def without_rounding(spread: Floats, size: Floats) -> Floats:
    """Return a spread, set to 0 where it does not exceed the rounding error of terms of this `size`."""
    return np.where(spread <= 1e-12 * size + 1e-20, 0.0, spread)


RESAMPLES = 2000
CELLS = 4_000_000
"""Most counts in memory at a time."""


@dataclass(frozen=True)
class Scores:
    """A figure of one or several arms: the runs of a configuration, one per seed, or a pair of raters.

    Args:
        values: the figure of each arm on all texts, shape (arms,); NaN where it is undefined.
        draws: the figure of each arm on each draw of texts, shape (resamples, arms); a row is one draw for all arms.
        authors: number of authors (or of texts, if each has its own) to draw from.
        texts: number of texts that any arm scored.
    """

    values: Floats
    draws: Floats
    authors: int
    texts: int

    @property
    def seeds(self) -> int:
        """Number of arms; in a study these are seeds."""
        return len(self.values)

    def __sub__(self, other: "Scores") -> "Scores":
        """Return the difference, arm by arm and draw by draw; both have the same arms, texts and draws."""
        return Scores(self.values - other.values, self.draws - other.draws, self.authors, self.texts)

    def __getitem__(self, arms: slice) -> "Scores":
        """Return some of the arms."""
        return Scores(self.values[arms], self.draws[:, arms], self.authors, self.texts)


def resampled(
    labels: npt.ArrayLike,
    predictions: npt.ArrayLike,
    groups: npt.ArrayLike | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
    measures: Mapping[str, Callable[[Moments], Floats]] = MEASURES,
) -> dict[str, Scores]:
    """Measure predictions on all texts and on draws of whole authors.

    Args:
        labels: shape (texts,), the scale's units.
        predictions: shape (arms, texts); NaN where an arm did not predict a text, as with cross-validation's folds.
        groups: the author of each text, shape (texts,), of any type; None if every text has its own.
        resamples: number of draws.
        seed: of the draws.
        measures: by name, functions of moments with predictions as x and labels as y.

    Returns:
        `Scores` by measure; see `invitro.stats.moments` for when they are undefined.

    Raises:
        InputError: shapes do not match, there is no text, or a label is missing.
    """
    y, x = np.asarray(labels, dtype=np.float64), np.asarray(predictions, dtype=np.float64)
    if y.ndim != 1 or x.ndim != 2 or x.shape[1] != len(y) or not x.size:
        raise InputError(f"expected predictions of shape (seeds, texts={len(y)}), found {x.shape}")
    if not np.isfinite(y).all():
        raise InputError(f"expected a label for each of {len(y)} texts, found {int((~np.isfinite(y)).sum())} without")
    codes = np.arange(len(y)) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    if len(codes) != len(y):
        raise InputError(f"expected the author of each of {len(y)} texts, found {len(codes)}")
    sums = sums_over(x.T - y.mean(), y[:, None] - y.mean())
    whole = of_sums(sums.sum(axis=0))
    on_draws = of_sums(drawn(sums.reshape(len(y), -1), codes, resamples, seed).reshape(resamples, len(x), -1))
    authors, texts = int(codes.max()) + 1, int((~np.isnan(x)).any(axis=0).sum())
    return {name: Scores(measure(whole), measure(on_draws), authors, texts) for name, measure in measures.items()}


def drawn(sums: Floats, codes: Ints, resamples: int = RESAMPLES, seed: int = 0) -> Floats:
    """Return sums over draws of authors with replacement, shape (resamples, k).

    Args:
        sums: what each text contributes, shape (texts, k).
        codes: the number of each text's author, from 0 without gaps, shape (texts,).
        resamples: number of draws.
        seed: of the draws.
    """
    size = int(codes.max()) + 1
    by_author = np.stack([np.bincount(codes, weights=column, minlength=size) for column in sums.T], axis=1)
    totals = np.zeros((resamples, sums.shape[1]))
    rng, block = np.random.default_rng(seed), max(1, CELLS // size)
    for start in range(0, resamples, block):
        rows = min(block, resamples - start)
        picked = rng.integers(size, size=(rows, size)) + np.arange(rows)[:, None] * size
        counts = np.bincount(picked.ravel(), minlength=rows * size).reshape(rows, size)
        totals[start : start + rows] = counts.astype(np.float64) @ by_author
    return totals
