"""Closed-form students, which are saved without code.

The linear ones are ridge regression on TF-IDF of words, or on embeddings by a frozen encoder. The exact one is a
frozen encoder and a Gaussian process on its layers and words.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import sklearn
import torch
from safetensors.numpy import load_file, save_file
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import Ridge
from sklearn.metrics import make_scorer
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from invitro.data.splits import author_folds
from invitro.errors import InputError
from invitro.files import write_json
from invitro.models.exact import Design, ExactRegression, KernelStudent, Observed
from invitro.models.features import Embedded, FrozenEncoder, LayerKernel
from invitro.models.folder import CardFacts, write_folder
from invitro.models.outputs import Predictions, Score, ScoreAndSpread
from invitro.models.settings import PLM, Baseline, TfIdfRidge
from invitro.scales import Scale
from invitro.stats import Bools, Floats

TFIDF_KIND, RIDGE_KIND = "tfidf_ridge", "embedding_ridge"
WEIGHTS, VOCABULARY, ENCODER = "weights.safetensors", "vocabulary.json", "encoder"


def tfidf(ngrams: int, **settings: Any) -> TfidfVectorizer:
    """Return an unfitted TF-IDF of sequences of up to `ngrams` words; rows have length 1, counts enter as 1 + log.

    Unlike scikit-learn's own pattern, words of one letter count: ``I`` says something about the writer.
    """
    return TfidfVectorizer(ngram_range=(1, ngrams), sublinear_tf=True, token_pattern=r"(?u)\b\w+\b", **settings)


def fitted_tfidf(texts: Sequence[str], settings: TfIdfRidge) -> TfidfVectorizer:
    """Return TF-IDF with the vocabulary of `texts`.

    Raises:
        InputError: no word occurs in enough texts.
    """
    try:
        return tfidf(settings.ngrams, min_df=settings.min_texts).fit(texts)
    except ValueError as error:
        raise InputError(
            f"plm={settings.name}: no word occurs in plm.min_texts={settings.min_texts} of the {len(texts)} "
            f"training texts ({error}); lower it"
        ) from error


def fitted_ridge(features: Any, labels: Floats, weights: Floats, authors: npt.ArrayLike, settings: Baseline) -> Ridge:
    """Fit ``argmin_{a, b} sum_i w_i (y_i - x_i b - a)^2 + penalty * |b|^2`` (Hoerl & Kennard 1970, Technometrics 12).

    The penalty with the smallest weighted squared error on the texts of left-out authors is chosen.

    Args:
        features: x, (texts, features). A dense array is standardised first, because its units may differ; the
            coefficients still apply to the original features. A sparse array is used unchanged.
        labels: y, (texts,), the scale's units.
        weights: w, (texts,), with mean 1.
        authors: (texts,); an author's texts are left out together, unless there is only one author.
        settings: penalties and number of folds; the assignment of authors to folds depends on nothing else.

    Example:
        >>> x = np.array([[0.0, 1], [1, 0], [2, 2], [3, 1], [4, 5], [5, 3]])
        >>> y = 1 + 2 * x[:, 0] - x[:, 1]
        >>> exact = fitted_ridge(x, y, np.ones(6), list("aabbcc"), TfIdfRidge(penalties=(1e-9, 9.0), folds=3))
        >>> exact.coef_.round(3).tolist(), round(float(exact.intercept_), 3)
        ([2.0, -1.0], 1.0)
    """
    groups = np.asarray(authors)
    if len(np.unique(groups)) < 2:
        groups = np.arange(len(labels))
    dense = isinstance(features, np.ndarray)
    with sklearn.config_context(enable_metadata_routing=True):  # passes the weights to every step and score
        scaler = StandardScaler().set_fit_request(sample_weight=True) if dense else "passthrough"
        ridge = Ridge(solver="cholesky") if dense else Ridge(solver="sparse_cg", tol=1e-6)
        search = GridSearchCV(
            make_pipeline(scaler, ridge.set_fit_request(sample_weight=True)),
            {"ridge__alpha": settings.penalties},
            scoring=make_scorer(_squared_error, greater_is_better=False).set_score_request(sample_weight=True),
            cv=list(author_folds(groups, "plm.folds", settings.folds)),
            error_score="raise",
        )
        search.fit(features, labels, sample_weight=weights)
    scaler, ridge = (step for _, step in search.best_estimator_.steps)
    if not dense:
        return ridge
    coefficients = ridge.coef_ / scaler.scale_
    return ridge_of(coefficients, ridge.intercept_ - scaler.mean_ @ coefficients)


def _squared_error(labels: Floats, scores: Floats, sample_weight: Floats) -> float:
    """Return the sum, not the mean, so that each fold counts by the weight of its texts."""
    return float((sample_weight * np.square(labels - scores)).sum())


def ridge_of(coefficients: Floats, intercept: float) -> Ridge:
    """Return a fitted ridge regression with these coefficients, (features,)."""
    ridge = Ridge()
    ridge.coef_, ridge.intercept_ = coefficients, float(intercept)
    return ridge


@dataclass(frozen=True)
class LinearModel:
    """A trained linear model: from texts to scores.

    Args:
        features: TF-IDF of words, or a frozen encoder, whose last hidden states are averaged over tokens.
        ridge: the regression on these features.
    """

    features: TfidfVectorizer | FrozenEncoder
    ridge: Ridge

    def read(self, texts: Sequence[str], batch_size: int = 32) -> tuple[Predictions, Bools, Floats]:
        """Return scores, which texts were cut, and the share of each text's words or tokens that the model knows."""
        if not len(texts):
            return Predictions(np.empty(0)), np.empty(0, dtype=np.bool_), np.empty(0)
        if isinstance(self.features, TfidfVectorizer):
            scores = np.asarray(self.ridge.predict(self.features.transform(texts)))
            return Predictions(scores), np.zeros(len(texts), dtype=np.bool_), words_known(self.features, texts)
        embedded = self.features.embed(texts, batch_size)
        assert embedded.known is not None
        return Predictions(np.asarray(self.ridge.predict(embedded.last_layer))), embedded.cut, embedded.known


def words_known(counter: TfidfVectorizer, texts: Sequence[str]) -> Floats:
    """Return the share of each text's words that are in the vocabulary, 0 to 1, (texts,); 0 if it has none.

    Example:
        >>> words_known(tfidf(2).fit(["so sad a story"]), ["Sad, sad news", "!"]).round(2).tolist()
        [0.67, 0.0]
    """
    prepare, split, vocabulary = counter.build_preprocessor(), counter.build_tokenizer(), counter.vocabulary_
    flags = ([word in vocabulary for word in split(prepare(text))] for text in texts)
    return np.array([sum(in_vocabulary) / len(in_vocabulary) if in_vocabulary else 0.0 for in_vocabulary in flags])


def save_linear(folder: Path, facts: CardFacts, model: LinearModel, scale: Scale) -> None:
    """Save a linear model: ``vocabulary.json`` or the folder ``encoder``, and the coefficients in safetensors.

    Args:
        folder: the folder to write; an older one is replaced.
        facts: for the model card.
        model: the trained model.
        scale: what it scores.
    """
    features, ridge = model.features, model.ridge
    numbers = {"coefficients": ridge.coef_, "intercept": np.array([ridge.intercept_])}
    if isinstance(features, TfidfVectorizer):
        ngrams = features.ngram_range[1]
        numbers["idf"] = features.idf_
        write = partial(_write_parts, numbers, counter=features)
        kind: dict[str, Any] = {"model": TFIDF_KIND, "ngrams": ngrams}
        made_of = (
            f"Ridge regression on TF-IDF of {len(features.vocabulary_)} words and sequences of up to {ngrams} "
            "words, without an encoder. `vocabulary.json` contains words of the training texts."
        )
    else:
        write = partial(_write_parts, numbers, encoder=features)
        kind = {"model": RIDGE_KIND}
        made_of = (
            "Ridge regression on the mean of the tokens' last hidden states in the published encoder, which is in the "
            "folder `encoder`."
        )
    write_folder(folder, write, kind, scale, facts, Score(), made_of)


def _write_parts(
    numbers: dict[str, Any], folder: Path, counter: TfidfVectorizer | None = None, encoder: FrozenEncoder | None = None
) -> None:
    """Write a model's numbers, its vocabulary and its encoder."""
    save_file(numbers, folder / WEIGHTS)
    if counter is not None:
        write_json(folder / VOCABULARY, counter.get_feature_names_out().tolist())
    if encoder is not None:
        for part in encoder.loaded:
            part.save_pretrained(folder / ENCODER)


def load_linear(folder: Path, meaning: Mapping[str, Any], device: torch.device) -> LinearModel:
    """Load what `save_linear` wrote; `meaning` is the content of its ``scale.json``."""
    numbers = load_file(folder / WEIGHTS)
    words = meaning["model"] == TFIDF_KIND
    features = _saved_tfidf(folder, meaning["ngrams"], numbers["idf"]) if words else _saved_encoder(folder, device)
    return LinearModel(features, ridge_of(numbers["coefficients"], numbers["intercept"][0]))


def _saved_tfidf(folder: Path, ngrams: int, weights: Floats) -> TfidfVectorizer:
    counter = tfidf(ngrams, vocabulary=json.loads((folder / VOCABULARY).read_text("utf-8")))
    counter.idf_ = weights
    return counter


def _saved_encoder(folder: Path, device: torch.device) -> FrozenEncoder:
    return FrozenEncoder(PLM(str(folder / ENCODER), max_length=2**20), device)


KIND = "frozen"
WORDS_TOGETHER = 2
"""Longest sequence of words that is a term."""


@dataclass(frozen=True)
class FrozenRegression:
    """A trained model: from texts to scores.

    Args:
        encoder: computes the features.
        counter: TF-IDF of the training texts' words; None if no word occurs in two of them.
        regression: see `invitro.models.exact`.
    """

    encoder: FrozenEncoder
    counter: TfidfVectorizer | None
    regression: ExactRegression

    def predict(self, texts: Sequence[str], embedded: Embedded) -> Predictions:
        """Score texts whose features are already computed, in the units of the labels."""
        if not len(texts):
            return Predictions(np.empty(0), np.empty(0))
        words = None if self.counter is None else self.counter.transform(texts)
        return self.regression.predict(embedded.features, words)

    def read(self, texts: Sequence[str], batch_size: int = 32) -> tuple[Predictions, Bools, Floats]:
        """Return scores, which texts were cut, and the share of each text's tokens that the encoder knows."""
        embedded = self.encoder.embed(texts, batch_size)
        assert embedded.known is not None
        return self.predict(texts, embedded), embedded.cut, embedded.known

    @property
    def description(self) -> str:
        """A description for people: ``layers 4 to 12 and words, noise 1.5``."""
        first, layers = self.regression.kernel.first_layer, len(self.regression.kernel.mean)
        words = "" if self.counter is None else " and words"
        stretch = "" if self.regression.stretch == 1 else f", predictions stretched by {self.regression.stretch:.2f}"
        return f"layers {first} to {first + layers - 1}{words}, noise {self.regression.noise:g}{stretch}"


@dataclass(frozen=True)
class Similarities:
    """How similar texts are.

    Args:
        ids: of the texts, in order.
        gram: see `invitro.models.features`, (texts, texts).
        noise: the noise variance chosen with it, in units of the variance that the similarities explain.
    """

    ids: Sequence[str]
    gram: Floats
    noise: float

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {text_id: row for row, text_id in enumerate(self.ids)}

    def of(self, ids: Sequence[str]) -> Floats:
        """Return the similarities of a subset of the texts, (subset, subset)."""
        rows = [self._rows[text_id] for text_id in ids]
        return np.asarray(self.gram[np.ix_(rows, rows)])

    def student(self) -> KernelStudent:
        """Return a student that takes the texts by row number."""
        return KernelStudent(self.gram, self.noise)


def similarities(ids: Sequence[str], texts: Sequence[str], embedded: Embedded, seen: Observed) -> Similarities:
    """Return similarities with the layers and the noise that fit the labels of the first texts best.

    Args:
        ids: of all texts.
        texts: all texts.
        embedded: their features in all layers.
        seen: labels of the first texts.
    """
    (_, words), rated = counted(texts), slice(len(seen.labels))
    part = None if words is None else words[rated]
    regression = Design(embedded.features[rated], part).fit(seen)
    ((_, gram),) = LayerKernel.nested(embedded.features, words, [regression.kernel.first_layer])
    return Similarities(ids, gram, regression.noise)


def counted(texts: Sequence[str]) -> tuple[TfidfVectorizer | None, Any]:
    """Return a fitted TF-IDF of words and word pairs that occur in at least two texts, and its values for the texts.

    Both are None if there are no such words.
    """
    counter = tfidf(WORDS_TOGETHER, min_df=2)
    try:
        return counter, counter.fit_transform(texts)
    except ValueError:  # how scikit-learn says that no term is left
        return None, None


def save_frozen(folder: Path, facts: CardFacts, model: FrozenRegression, scale: Scale) -> None:
    """Save a model: the folder ``encoder``, ``vocabulary.json``, and all numbers in safetensors.

    Args:
        folder: the folder to write; an older one is replaced.
        facts: for the model card.
        model: the trained model.
        scale: what it scores.
    """
    arrays = model.regression.arrays()
    made_of = (
        f"Gaussian process regression on {model.description}, of the published encoder in the folder `encoder`. "
        "It contains features of all training texts, from which parts of these texts might be reconstructed: share the "
        "folder only with people who may read the texts."
    )
    if model.counter is not None:
        arrays["words.idf"] = model.counter.idf_
    write = partial(_write_parts, arrays, counter=model.counter, encoder=model.encoder)
    write_folder(folder, write, {"model": KIND}, scale, facts, ScoreAndSpread(), made_of)
    model.encoder.release()


def load_frozen(folder: Path, meaning: Mapping[str, Any], device: torch.device) -> FrozenRegression:
    """Load what `save_frozen` wrote; `meaning` is the content of its ``scale.json``."""
    arrays = load_file(folder / WEIGHTS)
    counter = _saved_tfidf(folder, WORDS_TOGETHER, arrays["words.idf"]) if "words.idf" in arrays else None
    return FrozenRegression(_saved_encoder(folder, device), counter, ExactRegression.from_arrays(arrays))
