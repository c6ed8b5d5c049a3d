"""A rater that only counts words: TF-IDF and ridge regression, out of fold. It needs no weights and no GPU.

It also finds labels that look wrong without an LLM's opinion: ``fit.clean=cleanlab``.
"""

from collections.abc import Sequence
from functools import partial
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


def similarities_of(counts: Any) -> Floats:
    """Return similarities of texts by their words, (texts, texts), centred and with mean variance 1."""
    near = np.asarray((counts @ counts.T).toarray(), dtype=np.float64)
    level = near.mean(axis=0)
    near = near - level[:, None] - level + level.mean()
    return np.asarray(near / np.diag(near).mean())


def fitted(counts: Any, labels: Floats, weights: Floats | None = None) -> Ridge:
    """Fit ridge regression with penalty `PENALTY` and an intercept; `weights` of shape (texts,), 1 when None."""
    return _ridge().fit(counts, labels, sample_weight=weights)


def _ridge() -> Ridge:
    return Ridge(alpha=PENALTY, solver="sparse_cg", tol=1e-4)


def out_of_fold(counts: Any, labels: Floats, groups: npt.ArrayLike, needed_for: str) -> Floats:
    """Predict each text's label with a model that saw no label of its author: shape (n,), in the labels' units."""
    return np.asarray(cross_val_predict(_ridge(), counts, labels, cv=list(author_folds(groups, needed_for))))


FEWEST = 20
"""Training texts that the search needs: it leaves a fifth of them out and fits on four fifths of the rest."""


def label_issues(texts: list[str], labels: npt.NDArray[np.float64], seed: int) -> npt.NDArray[np.bool_]:
    """Return which labels, (texts,), cleanlab finds wrong.

    Its regression search (Zhou, Mueller, Kumar, Wang & Lei 2023, "Detecting Errors in Numerical Data via any Regression
    Model", arXiv 2305.16583) predicts every label out of fold, finds the share of labels without which the rest is
    predicted best, at most a fifth, and removes the labels farthest from their prediction in units of the
    prediction's uncertainty. The model is ridge regression on TF-IDF of words and pairs of words.

    Args:
        texts: the training texts.
        labels: their labels, the scale's units.
        seed: of the folds; the result depends on nothing else.

    Raises:
        InputError: there are too few texts, or they share no words.
    """
    from cleanlab.regression.learn import CleanLearning
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer

    if len(texts) < FEWEST:
        raise InputError(f"fit.clean=cleanlab: expected at least {FEWEST} training texts, found {len(texts)}")
    counts = word_counts(texts)
    # cleanlab makes its input a dense array, so it is given row numbers, which are small; the model looks up the rows.
    model = make_pipeline(FunctionTransformer(partial(_rows, counts)), Ridge(alpha=PENALTY, solver="sparse_cg"))
    state = np.random.get_state()  # cleanlab draws from NumPy's global generator
    try:
        issues = CleanLearning(model, seed=seed).find_label_issues(np.arange(len(texts)), labels)
    finally:
        np.random.set_state(state)
    return np.asarray(issues["is_label_issue"].to_numpy(dtype=bool))


def _rows(counts: Any, rows: npt.NDArray[np.intp]) -> Any:
    return counts[rows]
