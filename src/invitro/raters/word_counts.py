"""A rater that only counts words: TF-IDF and ridge regression, out of fold. It needs no weights and no GPU."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import Ridge
from sklearn.model_selection import GroupKFold, cross_val_predict

from invitro.arrays import Floats, Ints
from invitro.errors import InputError

FOLDS, SEED = 5, 0
PENALTY = 1.0


def word_counts(texts: Sequence[str]) -> Any:
    """Return TF-IDF of words and pairs of words that occur in at least two texts: a sparse (texts, terms) matrix.

    Rows have length 1; counts enter as 1 + log.

    Raises:
        InputError: no word occurs in two texts.
    """
    try:
        return TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True).fit_transform(texts)
    except ValueError as error:
        raise InputError(f"the texts have no words in common, so none can be counted: {error}") from error


def fitted(counts: Any, labels: Floats, weights: Floats | None = None) -> Ridge:
    """Fit ridge regression with penalty `PENALTY` and an intercept; `weights` of shape (texts,), 1 when None."""
    return _ridge().fit(counts, labels, sample_weight=weights)


def _ridge() -> Ridge:
    return Ridge(alpha=PENALTY, solver="sparse_cg", tol=1e-4)


def folds(groups: npt.ArrayLike, needed_for: str, count: int = FOLDS, seed: int = SEED) -> Iterator[tuple[Ints, Ints]]:
    """Yield the rows to fit on and the rows left out, with each group entirely in one of them.

    Which groups share a fold depends on their names and `seed`, not on the order of the rows.

    Args:
        groups: the author of each text, shape (n,).
        needed_for: the setting that needs them, for the error.
        count: number of folds; the number of groups, if that is smaller.
        seed: of the folds.

    Raises:
        InputError: there are fewer than two groups.
    """
    names = np.asarray(groups)
    authors = len(np.unique(names))
    if authors < 2:
        raise InputError(
            f"{needed_for} is fitted out of fold, by authors (group_id): expected two or more, found {authors}"
        )
    yield from GroupKFold(min(count, authors), shuffle=True, random_state=seed).split(names, groups=names)


def out_of_fold(counts: Any, labels: Floats, groups: npt.ArrayLike, needed_for: str) -> Floats:
    """Predict each text's label with a model that saw no label of its author: shape (n,), in the labels' units."""
    return np.asarray(cross_val_predict(_ridge(), counts, labels, cv=list(folds(groups, needed_for))))
