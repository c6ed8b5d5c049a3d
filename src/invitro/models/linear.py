"""Linear models of texts as files without code: TF-IDF of words, or embeddings of a frozen encoder."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol, cast

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from transformers import AutoModel, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from invitro.errors import InputError
from invitro.files import write_json
from invitro.models.features import pooled
from invitro.models.outputs import Floats, Scored
from invitro.models.settings import TfIdfRidge
from invitro.models.tokens import length_batches, pad, tokenise

WEIGHTS, VOCABULARY, ENCODER = "weights.safetensors", "vocabulary.json", "encoder"

WORDS = r"(?u)\b\w+\b"
"""A word; unlike scikit-learn's own pattern it takes words of one letter, since ``I`` tells of the writer."""


class Linear(Protocol):
    """A linear model of texts."""

    @property
    def meaning(self) -> dict[str, Any]:
        """What ``scale.json`` says of it."""

    @property
    def made_of(self) -> str:
        """A sentence for the model card."""

    def features(self, texts: Sequence[str], batch_size: int = 32) -> Any:
        """Return features of the texts, (texts, features), which may be sparse."""

    def with_coefficients(self, coefficients: Floats, intercept: float) -> "Linear":
        """Return the fitted model, coefficients being (features,)."""

    def score(self, texts: Sequence[str], batch_size: int = 32) -> Scored:
        """Score texts in their order, in the units of the training labels."""

    def write(self, folder: Path) -> None:
        """Write the model's files."""


@dataclass(frozen=True)
class TfIdfModel:
    """TF-IDF of runs of words with a coefficient each; rows of features have length 1, counts enter as 1 + log.

    Args:
        ngrams: longest run of words.
        vocabulary: the terms, in the order of the features.
        idf: inverse document frequency of each term, (terms,).
        coefficients: (terms,).
        intercept: the score of a text without known terms.
    """

    ngrams: int
    vocabulary: tuple[str, ...]
    idf: Floats
    coefficients: Floats
    intercept: float = 0.0
    kind: ClassVar[str] = "tfidf_ridge"

    @classmethod
    def of_texts(cls, texts: Sequence[str], settings: TfIdfRidge) -> "TfIdfModel":
        """Return a model with the texts' vocabulary, and no coefficients yet.

        Raises:
            InputError: no term stands in enough texts.
        """
        vectorizer = _vectorizer(settings.ngrams, min_df=settings.min_texts)
        try:
            vectorizer.fit(texts)
        except ValueError as error:
            raise InputError(
                f"plm={settings.name}: no word stands in plm.min_texts={settings.min_texts} of the {len(texts)} "
                f"training texts ({error}); lower it"
            ) from error
        terms = tuple(vectorizer.get_feature_names_out().tolist())
        return cls(settings.ngrams, terms, np.asarray(vectorizer.idf_), np.zeros(len(terms)))

    @property
    def meaning(self) -> dict[str, Any]:
        """What ``scale.json`` says of it."""
        return {"model": self.kind, "outputs": ["score"], "ngrams": self.ngrams}

    @property
    def made_of(self) -> str:
        """A sentence for the model card."""
        return (
            f"Ridge regression on TF-IDF of {len(self.vocabulary)} words and runs of up to {self.ngrams} words, with "
            "no encoder. `vocabulary.json` holds words of the training texts."
        )

    def features(self, texts: Sequence[str], batch_size: int = 32) -> Any:
        """Return TF-IDF of the texts, sparse, (texts, terms)."""
        vectorizer = _vectorizer(self.ngrams, vocabulary=self.vocabulary)
        vectorizer.idf_ = self.idf
        return vectorizer.transform(texts)

    def with_coefficients(self, coefficients: Floats, intercept: float) -> "TfIdfModel":
        """Return the fitted model, coefficients being (terms,)."""
        return TfIdfModel(self.ngrams, self.vocabulary, self.idf, coefficients, intercept)

    def score(self, texts: Sequence[str], batch_size: int = 32) -> Scored:
        """Score texts in their order, in the units of the training labels."""
        if not len(texts):
            return Scored(np.empty(0))
        return Scored(np.asarray(self.features(texts) @ self.coefficients + self.intercept))

    def write(self, folder: Path) -> None:
        """Write vocabulary and weights."""
        write_json(folder / VOCABULARY, list(self.vocabulary))
        numbers = {"idf": self.idf, "coefficients": self.coefficients, "intercept": np.array([self.intercept])}
        save_file(numbers, folder / WEIGHTS)

    @classmethod
    def read(cls, folder: Path, meaning: Mapping[str, Any]) -> "TfIdfModel":
        """Read what `write` wrote."""
        terms = tuple(json.loads((folder / VOCABULARY).read_text("utf-8")))
        found = load_file(folder / WEIGHTS)
        return cls(meaning["ngrams"], terms, found["idf"], found["coefficients"], float(found["intercept"][0]))


@dataclass(frozen=True)
class EmbeddingModel:
    """Embeddings of a frozen encoder with a coefficient for each dimension.

    Args:
        model: a regressor whose encoder is used, or the encoder itself, on its device.
        tokenizer: its tokenizer.
        pooling: ``mean`` or ``first``.
        coefficients: (hidden,).
        intercept: is added.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    pooling: str
    coefficients: Floats
    intercept: float = 0.0
    kind: ClassVar[str] = "embedding_ridge"

    @property
    def meaning(self) -> dict[str, Any]:
        """What ``scale.json`` says of it."""
        return {"model": self.kind, "outputs": ["score"], "pooling": self.pooling}

    @property
    def made_of(self) -> str:
        """A sentence for the model card."""
        what = {"mean": "the mean of the tokens' last hidden states", "first": "the first token's last hidden state"}
        return f"Ridge regression on {what[self.pooling]} in the encoder as it was published, in the folder `encoder`."

    def features(self, texts: Sequence[str], batch_size: int = 32) -> Floats:
        """Return embeddings, (texts, hidden), float64."""
        ids = tokenise(self.tokenizer, texts).ids
        found = np.empty((len(texts), self.model.config.hidden_size))
        with torch.inference_mode():
            for rows in length_batches([len(row) for row in ids], batch_size):
                batch = pad(self.tokenizer, [ids[row] for row in rows])
                found[rows] = pooled(self.model, batch, self.pooling).double().numpy()
        return found

    def with_coefficients(self, coefficients: Floats, intercept: float) -> "EmbeddingModel":
        """Return the fitted model, coefficients being (hidden,)."""
        return EmbeddingModel(self.model, self.tokenizer, self.pooling, coefficients, intercept)

    def score(self, texts: Sequence[str], batch_size: int = 32) -> Scored:
        """Score texts in their order, in the units of the training labels."""
        return Scored(self.features(texts, batch_size) @ self.coefficients + self.intercept)

    def write(self, folder: Path) -> None:
        """Write the encoder with its tokenizer, and the weights."""
        cast(PreTrainedModel, self.model.base_model).save_pretrained(folder / ENCODER)
        self.tokenizer.save_pretrained(folder / ENCODER)
        numbers = {"coefficients": self.coefficients, "intercept": np.array([self.intercept])}
        save_file(numbers, folder / WEIGHTS)

    @classmethod
    def read(cls, folder: Path, meaning: Mapping[str, Any], device: torch.device) -> "EmbeddingModel":
        """Read what `write` wrote."""
        options = {"trust_remote_code": False}
        model = AutoModel.from_pretrained(folder / ENCODER, use_safetensors=True, dtype=torch.float32, **options)
        tokenizer = AutoTokenizer.from_pretrained(folder / ENCODER, **options)
        found = load_file(folder / WEIGHTS)
        model.to(device)
        return cls(model.eval(), tokenizer, meaning["pooling"], found["coefficients"], float(found["intercept"][0]))


def read_linear(folder: Path, meaning: Mapping[str, Any], device: torch.device) -> Linear:
    """Read a linear model from its folder.

    Raises:
        InputError: a file is missing or damaged, or the model is of no known kind.
    """
    try:
        match meaning["model"]:
            case "tfidf_ridge":
                return TfIdfModel.read(folder, meaning)
            case "embedding_ridge":
                return EmbeddingModel.read(folder, meaning, device)
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise InputError(f"model={folder}: not readable ({type(error).__name__}: {error}); copy it anew") from error
    raise InputError(
        f"model={folder}: scale.json: model: expected transformers, tfidf_ridge or embedding_ridge, found "
        f"{meaning['model']!r}; score with the version of invitro that wrote the model, or a newer one"
    )


def _vectorizer(ngrams: int, **more: Any) -> Any:
    from sklearn.feature_extraction.text import TfidfVectorizer

    return TfidfVectorizer(ngram_range=(1, ngrams), sublinear_tf=True, token_pattern=WORDS, **more)
