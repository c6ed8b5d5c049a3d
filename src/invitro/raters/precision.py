"""How reliable the crowd and the LLM are: error variances from three raters, and the weights that they imply.

The model: a crowd label is the truth plus an error, ``C = t + e``, where e has mean 0 and is independent of t and of
the LLM's label. Nothing is assumed about the LLM's errors: shift, compression and noise all count. With v the variance
of e::

    E (C - L)^2 = v + E (L - t)^2

so one number, the crowd's reliability ``var(t) / var(C) = 1 - v / var(C)``, decides both errors. Two raters cannot
determine it; it can be estimated with a third, or the user sets it. The third rater only counts words: TF-IDF and
ridge regression, out of fold, which need neither pre-trained weights nor a GPU. It also finds labels that look wrong
without an LLM's opinion: ``fit.clean=cleanlab``.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import Ridge
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, KernelCenterer

from invitro.data.splits import author_folds
from invitro.errors import InputError
from invitro.stats import Floats

PENALTY = 1.0


def word_counts(texts: Sequence[str]) -> Any:
    """Return TF-IDF of words and word pairs that occur in at least two texts, as a sparse (texts, terms) matrix.

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
    kernel = KernelCenterer().fit_transform((counts @ counts.T).toarray())
    return np.asarray(kernel / np.diag(kernel).mean())


def fitted(counts: Any, labels: Floats, weights: Floats | None = None) -> Ridge:
    """Fit ridge regression with penalty `PENALTY` and an intercept; `weights` of shape (texts,), None if all equal."""
    return _ridge().fit(counts, labels, sample_weight=weights)


def _ridge() -> Ridge:
    return Ridge(alpha=PENALTY, solver="sparse_cg", tol=1e-4)


def out_of_fold(counts: Any, labels: Floats, groups: npt.ArrayLike, needed_for: str) -> Floats:
    """Predict each text's label with a model that saw no label of its author: shape (n,), in the labels' units."""
    return np.asarray(cross_val_predict(_ridge(), counts, labels, cv=list(author_folds(groups, needed_for))))


FEWEST = 20
"""Training texts that the search needs: it leaves out a fifth of them and fits on four fifths of the others."""


def label_issues(texts: list[str], labels: npt.NDArray[np.float64], seed: int) -> npt.NDArray[np.bool_]:
    """Return which labels cleanlab considers wrong, (texts,).

    Its regression search (Zhou, Mueller, Kumar, Wang & Lei 2023, "Detecting Errors in Numerical Data via any Regression
    Model", arXiv 2305.16583) predicts every label out of fold, finds the share of labels, at most a fifth, without
    which the others are predicted best, and removes the labels farthest from their prediction, relative to its
    uncertainty. The model is ridge regression on TF-IDF of words and word pairs.

    Args:
        texts: the training texts.
        labels: their labels, the scale's units.
        seed: of the folds; the result depends on nothing else.

    Raises:
        InputError: there are too few texts, or they share no words.
    """
    from cleanlab.regression.learn import CleanLearning

    if len(texts) < FEWEST:
        raise InputError(f"fit.clean=cleanlab: expected at least {FEWEST} training texts, found {len(texts)}")
    counts = word_counts(texts)
    # cleanlab turns its input into a dense array, so it gets row numbers only, and the model looks up the rows.
    model = make_pipeline(FunctionTransformer(partial(_rows, counts)), _ridge())
    state = np.random.get_state()  # cleanlab draws from NumPy's global generator
    try:
        issues = CleanLearning(model, seed=seed).find_label_issues(np.arange(len(texts)), labels)
    finally:
        np.random.set_state(state)
    return np.asarray(issues["is_label_issue"].to_numpy(dtype=bool))


def _rows(counts: Any, rows: npt.NDArray[np.intp]) -> Any:
    return counts[rows]


LEAST_TEXTS = 10
"""Least number of texts for estimating or fitting anything."""


class Errors(NamedTuple):
    """Mean squared errors of the crowd and of the LLM around the truth, in the scale's units squared, at least 0."""

    crowd: float
    llm: float


def triad_reliability(crowd: Floats, llm: Floats, third: Floats) -> float:
    """Return the share of the crowd labels' variance that is due to the truth, estimated from three raters.

    ``reliability = cov(C, L) cov(C, F) / (cov(L, F) var(C))``,

    the communality of the first of three indicators of one factor, whose loadings may differ. With equal loadings it is
    the three-instrument case of Grubbs (1948), "On Estimating Precision of Measuring Instruments and Product
    Variability", JASA 43; in this form it is the squared correlation with the truth of McColl et al. (2014), "Extended
    triple collocation", Geophysical Research Letters 41. It requires that the three raters' errors are uncorrelated.

    The third rater here is a model that predicts the crowd's label from the text (`invitro.raters.precision`).
    It and the LLM see only the text, so feelings that people did not write down count as errors of the crowd: this is
    reliability as a measure of what texts say, which is all that a model of texts can learn. If the LLM and the text
    model share further errors, the estimate is too low, and the LLM is trusted too much.

    Args:
        crowd: labels of shape (n,), n at least `LEAST_TEXTS`, no NaN.
        llm: labels of shape (n,), no NaN.
        third: a third rater's scores of shape (n,), in any units, no NaN.

    Returns:
        The reliability, clipped to [0, 1].

    Raises:
        InputError: too few texts, or a covariance that is not positive, so no estimate exists.
    """
    if len(crowd) < LEAST_TEXTS:
        raise InputError(
            _advice(f"{len(crowd)} texts have a crowd and an LLM label; at least {LEAST_TEXTS} are needed")
        )
    cov = np.cov([crowd, llm, third])
    pairs = cov[0, 1], cov[0, 2], cov[1, 2]
    if not all(pair > 0 for pair in pairs):
        values = ", ".join(f"{pair:.3g}" for pair in pairs)
        raise InputError(
            _advice(f"crowd, LLM and text model have to covary; crowd-LLM, crowd-texts, LLM-texts covary by {values}")
        )
    return float(np.clip(pairs[0] * pairs[1] / (pairs[2] * cov[0, 0]), 0.0, 1.0))


def mean_squared_errors(crowd: Floats, llm: Floats, reliability: float) -> Errors:
    """Split the mean squared difference of two raters into the error of each rater.

    ``crowd = (1 - reliability) var(C)``, at most ``mean((C - L)^2)``, and ``llm = mean((C - L)^2) - crowd``.

    Args:
        crowd: labels of shape (n,), n at least 1, no NaN.
        llm: labels of shape (n,), no NaN.
        reliability: share of the crowd labels' variance that is due to the truth, 0 to 1.

    Example:
        >>> mean_squared_errors(np.array([1.0, 3, 5, 7]), np.array([2.0, 4, 6, 8]), 0.875)  # var(C) = 5
        Errors(crowd=0.625, llm=0.375)
    """
    difference = float(np.mean(np.square(crowd - llm)))
    crowd_error = min((1 - reliability) * float(np.var(crowd)), difference)
    return Errors(crowd_error, difference - crowd_error)


def precision_share(errors: Errors, spread: Floats | None = None, spread_share: float = 0.0) -> float | Floats:
    """Return the LLM's share in the label with the least mean squared error: ``crowd / (crowd + llm_i)``.

    Inverse-variance weighting, with the LLM's squared error in place of a variance because its shift counts too. With
    spreads s_i the LLM's error varies between texts around the same mean::

        llm_i = llm * ((1 - spread_share) + spread_share * s_i^2 / mean(s^2))

    a weighted mean of the common and the text's own variance, as in Smyth (2004), "Linear Models and Empirical Bayes
    Methods for Assessing Differential Expression", Statistical Applications in Genetics and Molecular Biology 3: the
    spread of two or three LLMs says little about one text. Members of an ensemble also share errors, which do not
    appear in the spread.

    Args:
        errors: mean squared errors of the crowd and the LLM.
        spread: the LLM's spreads of shape (n,); a missing one (NaN) counts as average.
        spread_share: weight of the spreads, from 0 to 1.

    Returns:
        The share, from 0 to 1, one for all or of shape (n,); 1/2 if neither errs.

    Example:
        >>> precision_share(Errors(crowd=3.0, llm=1.0))
        0.75
    """
    llm: float | Floats = errors.llm
    if spread is not None and spread_share:
        squared = np.square(spread)
        present = ~np.isnan(squared)
        mean = float(squared[present].mean()) if present.any() else 0.0
        relative = np.where(present, squared / mean, 1.0) if mean else np.ones_like(squared)
        llm = errors.llm * ((1 - spread_share) + spread_share * relative)
    total = errors.crowd + llm
    share = np.where(total > 0, errors.crowd / np.where(total > 0, total, 1.0), 0.5)
    return share if share.ndim else float(share)


def _advice(problem: str) -> str:
    return (
        f"application.policy=precision: the crowd's reliability cannot be estimated: {problem}. Set "
        "application.crowd_reliability, or choose application=blend"
    )
