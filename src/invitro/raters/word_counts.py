"""A rater that only counts words: TF-IDF and ridge regression, out of fold. It needs no weights and no GPU."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import Ridge
from sklearn.model_selection import GroupKFold

from invitro.errors import InputError

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.intp]

FOLDS, SEED = 5, 0
PENALTY = 1.0


def word_counts(texts: Sequence[str]) -> Any:
    """Return TF-IDF of words and pairs of words that stand in two texts or more: a sparse (texts, terms) matrix.

    Rows have length 1; counts enter as 1 + log. Labels play no part in it.

    Raises:
        InputError: no word stands in two texts.
    """
    try:
        return TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True).fit_transform(texts)
    except ValueError as error:
        raise InputError(f"the texts have no words in common, so that none can be counted: {error}") from error


def fitted(counts: Any, labels: Floats, weights: Floats | None = None) -> Ridge:
    """Fit ridge regression with penalty `PENALTY` and an intercept; `weights` of shape (texts,), 1 when None."""
    return Ridge(alpha=PENALTY, solver="sparse_cg", tol=1e-4).fit(counts, labels, sample_weight=weights)


def folds(groups: npt.ArrayLike, needed_for: str, count: int = FOLDS, seed: int = SEED) -> Iterator[tuple[Rows, Rows]]:
    """Yield the rows to fit on and the rows left out, so that a group is whole in one of them.

    Which groups share a fold depends on their names and `seed`, not on the order of the rows.

    Args:
        groups: the author of each text, shape (n,).
        needed_for: the setting, for the error.
        count: of folds; as many as groups, where there are fewer.
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
    split = GroupKFold(min(count, authors), shuffle=True, random_state=seed).split(names, groups=names)
    yield from split


def out_of_fold(counts: Any, labels: Floats, groups: npt.ArrayLike, needed_for: str) -> Floats:
    """Predict each text's label by a model that saw no label of its author, shape (n,), the labels' units."""
    found = np.empty(len(labels))
    for rest, left_out in folds(groups, needed_for):
        found[left_out] = fitted(counts[rest], labels[rest]).predict(counts[left_out])
    return found
