"""A rater that only counts words: TF-IDF and ridge regression, out of fold. It needs no weights and no GPU."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import Ridge
from sklearn.model_selection import cross_val_predict

from invitro.arrays import Floats
from invitro.data.splits import author_folds
from invitro.errors import InputError

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


def out_of_fold(counts: Any, labels: Floats, groups: npt.ArrayLike, needed_for: str) -> Floats:
    """Predict each text's label with a model that saw no label of its author: shape (n,), in the labels' units."""
    return np.asarray(cross_val_predict(_ridge(), counts, labels, cv=list(author_folds(groups, needed_for))))
