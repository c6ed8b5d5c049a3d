"""The bootstrap of all figures: it draws whole authors, with the same draws for every figure.

Every figure is a function of a few sums over texts. A draw of authors is then a row of counts, and all figures on all
draws are one product of the matrix of counts with the matrix of the authors' sums. Authors, not texts, are drawn,
since texts by one author are not independent evidence (Field, Welsh 2007, "Bootstrapping Clustered Data", J. R. Stat.
Soc. B 69). There are `RESAMPLES` draws. They depend on the seed and the number of authors, who are ordered by
name: the same texts have the same draws for every measure and every order of rows.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from invitro.arrays import Floats, Ints
from invitro.errors import InputError
from invitro.stats.moments import MEASURES, Moments, of_sums, sums_over

RESAMPLES = 2000
CELLS = 4_000_000
"""Largest number of counts in memory at a time."""


@dataclass(frozen=True)
class Scores:
    """One figure of one or several arms: the runs of a configuration, one per seed, or a pair of raters.

    Args:
        values: the figure of each arm on all texts, shape (arms,); NaN where it is undefined.
        draws: the figure of each arm on each draw of texts, shape (resamples, arms); a row is one draw for all arms.
        authors: how many authors (or texts, if each has its own) were drawn from.
        texts: how many texts any arm scored.
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

    def __mul__(self, factor: float) -> "Scores":
        """Return all figures times `factor`."""
        return Scores(self.values * factor, self.draws * factor, self.authors, self.texts)

    def __add__(self, other: "Scores") -> "Scores":
        """Return the sum, arm by arm and draw by draw."""
        return self - other * -1.0

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
        `Scores` by measure; `invitro.stats.moments` says when they are undefined.

    Raises:
        InputError: shapes do not fit, there is no text, or a label is missing.
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
