"""PCC, CCC and RMSE of many runs on the same texts, and again on every draw of these texts with replacement.

Each of the three is a function of six sums over texts. A draw of whole authors is then a row of counts, and all runs on
all draws are one product of the matrix of counts with the matrix of the authors' sums.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from invitro.errors import InputError

Array: TypeAlias = npt.NDArray[np.float64]

METRICS = ("pcc", "ccc", "rmse")
RESAMPLES = 2000
CELLS = 4_000_000
"""Most counts that are held at a time."""


@dataclass(frozen=True)
class Scores:
    """One metric of the runs of one configuration, one run a seed.

    Args:
        values: of each seed on all texts, shape (seeds,).
        draws: of each seed on each draw of the texts, shape (resamples, seeds); a row is one draw for all seeds.
        authors: how many authors (or texts, where each is its own) were drawn from.
        texts: how many texts were scored by any seed.
    """

    values: Array
    draws: Array
    authors: int
    texts: int

    @property
    def seeds(self) -> int:
        """Number of seeds."""
        return len(self.values)

    def __sub__(self, other: "Scores") -> "Scores":
        """Return what each seed, and each draw, differs by; both have the same seeds, texts and draws."""
        return Scores(self.values - other.values, self.draws - other.draws, self.authors, self.texts)

    def __mul__(self, factor: float) -> "Scores":
        """Return all figures times `factor`."""
        return Scores(self.values * factor, self.draws * factor, self.authors, self.texts)

    def __add__(self, other: "Scores") -> "Scores":
        """Return the sum, seed by seed and draw by draw."""
        return self - other * -1.0


def resampled(
    labels: npt.ArrayLike,
    predictions: npt.ArrayLike,
    groups: npt.ArrayLike | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
    with_bias: bool = False,
) -> dict[str, Scores]:
    """Measure runs on all texts and on draws of whole authors.

    Texts by one author are no independent evidence (Field, Welsh 2007, "Bootstrapping Clustered Data", J. R. Stat.
    Soc. B 69). The same authors in the same order give the same draws, whatever the predictions, so that figures of
    different configurations on the same texts may be subtracted draw by draw.

    Args:
        labels: shape (texts,), the scale's units.
        predictions: shape (seeds, texts); NaN where a run did not predict a text, as with cross-validation's folds.
        groups: of each text its author, shape (texts,), of any type; None where every text is its own.
        resamples: number of draws.
        seed: of the draws.
        with_bias: whether ``bias`` is measured too, the mean prediction less the mean label.

    Returns:
        `Scores` by metric: PCC and CCC are 0 for constant values, as in `invitro.metrics`; a seed without any text is
        NaN.

    Raises:
        InputError: shapes do not fit, there is no text, or a label is missing.
    """
    y, x = np.asarray(labels, dtype=np.float64), np.asarray(predictions, dtype=np.float64)
    if y.ndim != 1 or x.ndim != 2 or x.shape[1] != len(y) or not x.size:
        raise InputError(f"expected predictions of shape (seeds, texts={len(y)}), found {x.shape}")
    if not np.isfinite(y).all():
        raise InputError(f"expected a label for each of {len(y)} texts, found {int((~np.isfinite(y)).sum())} without")
    codes = np.arange(len(y)) if groups is None else _numbered(np.asarray(groups))
    if len(codes) != len(y):
        raise InputError(f"expected the author of each of {len(y)} texts, found {len(codes)}")
    sums = _sums(y, x)
    texts = int((~np.isnan(x)).any(axis=0).sum())
    authors = int(codes.max()) + 1
    added = [np.bincount(codes, weights=column, minlength=authors) for column in sums.T]
    by_author = np.stack(added, axis=1).astype(np.float64)
    shape = (len(x), 6)
    whole = sums.sum(axis=0).reshape(shape)
    drawn = _draws(by_author, resamples, seed).reshape(resamples, *shape)
    measures = MEASURES | {"bias": _bias} if with_bias else MEASURES
    return {name: Scores(measure(whole), measure(drawn), authors, texts) for name, measure in measures.items()}


def _numbered(names: npt.NDArray[Any]) -> npt.NDArray[np.intp]:
    return np.unique(names, return_inverse=True)[1]


def _sums(y: Array, x: Array) -> Array:
    """Return what each text adds to the sums of each seed, shape (texts, seeds * 6): n, x, y, xx, yy, xy.

    Both sides are moved by the mean label, which changes none of the metrics and keeps digits.
    """
    known = ~np.isnan(x)
    shift = y.mean()
    x, y = np.where(known, x - shift, 0.0), np.where(known, y - shift, 0.0)
    return np.stack([known.astype(np.float64), x, y, x * x, y * y, x * y], axis=-1).swapaxes(0, 1).reshape(len(y.T), -1)


def _draws(by_author: Array, resamples: int, seed: int) -> Array:
    """Return the sums of `resamples` draws of authors with replacement, shape (resamples, columns)."""
    size = len(by_author)
    drawn = np.zeros((resamples, by_author.shape[1]))
    rng, block = np.random.default_rng(seed), max(1, CELLS // size)
    for start in range(0, resamples, block):
        rows = min(block, resamples - start)
        picked = rng.integers(size, size=(rows, size)) + np.arange(rows)[:, None] * size
        counts = np.bincount(picked.ravel(), minlength=rows * size).reshape(rows, size)
        drawn[start : start + rows] = counts.astype(np.float64) @ by_author
    return drawn


def _moments(sums: Array) -> tuple[Array, Array, Array, Array]:
    """Return mean(x) - mean(y), both population variances and the covariance; a constant side has 0 exactly."""
    n, x, y, xx, yy, xy = np.moveaxis(sums, -1, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        x, y, xx, yy, xy = x / n, y / n, xx / n, yy / n, xy / n
    spread_x, spread_y = _floored(xx - x * x, xx), _floored(yy - y * y, yy)
    return x - y, spread_x, spread_y, np.where((spread_x == 0) | (spread_y == 0), 0.0, xy - x * y)


def _floored(spread: Array, size: Array) -> Array:
    """Take what rounding left of a spread for 0."""
    return np.where(spread <= 1e-12 * size + 1e-20, 0.0, spread)


def _ratio(above: Array, below: Array) -> Array:
    """Divide; 0 where both are 0."""
    return np.asarray(np.divide(above, below, out=np.zeros_like(above), where=below != 0))


def _pcc(sums: Array) -> Array:
    _, x, y, xy = _moments(sums)
    return np.clip(_ratio(xy, np.sqrt(x * y)), -1.0, 1.0)


def _ccc(sums: Array) -> Array:
    shift, x, y, xy = _moments(sums)
    return _ratio(2 * xy, x + y + shift**2)


def _rmse(sums: Array) -> Array:
    n, _, _, xx, yy, xy = np.moveaxis(sums, -1, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.sqrt(np.maximum((xx - 2 * xy + yy) / n, 0.0)))


def _bias(sums: Array) -> Array:
    return _moments(sums)[0]


MEASURES: dict[str, Callable[[Array], Array]] = {"pcc": _pcc, "ccc": _ccc, "rmse": _rmse}
