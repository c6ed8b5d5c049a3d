"""The exact student: a frozen encoder and a regression in closed form on its layers and words; saved without code."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from sklearn.feature_extraction.text import TfidfVectorizer

from invitro.arrays import Floats
from invitro.errors import InputError
from invitro.files import write_json
from invitro.models.exact import ExactRegression, KernelStudent, LayerKernel, Observed, fitted
from invitro.models.features import Embedded, FrozenEncoder
from invitro.models.folder import CardFacts, model_card, write_folder
from invitro.models.linear import ENCODER, VOCABULARY, WEIGHTS, tfidf
from invitro.models.outputs import Predictions, ScoreAndSpread
from invitro.models.settings import PLM
from invitro.scales import Scale

KIND = "frozen"
WORDS_TOGETHER = 2
"""Longest run of words that is a term."""


@dataclass(frozen=True)
class FrozenRegression:
    """A trained model: from texts to scores.

    Args:
        encoder: gives the features.
        counter: TF-IDF of the training texts' words; None if no word occurs in two of them.
        regression: see `invitro.models.exact`.
    """

    encoder: FrozenEncoder
    counter: TfidfVectorizer | None
    regression: ExactRegression

    @classmethod
    def fitted(cls, encoder: FrozenEncoder, texts: Sequence[str], embedded: Embedded, seen: Observed) -> Self:
        """Fit to texts, their features in all layers, and their labels; layers and noise are chosen on these texts."""
        counter = counter_of(texts)
        words = None if counter is None else counter.transform(texts)
        return cls(encoder, counter, fitted(embedded.features, words, seen))

    def predict(self, texts: Sequence[str], embedded: Embedded) -> Predictions:
        """Score texts whose features are known, in the units of the labels."""
        if not len(texts):
            return Predictions(np.empty(0), np.empty(0))
        words = None if self.counter is None else self.counter.transform(texts)
        return self.regression.predict(embedded.features, words)

    def score(self, texts: Sequence[str], batch_size: int = 16) -> Predictions:
        """Score texts in their order."""
        return self.predict(texts, self.encoder.embed(texts, batch_size))

    @property
    def description(self) -> str:
        """What it is made of, for people: ``layers 4 to 12 and words, noise 1.5``."""
        first, layers = self.regression.kernel.first_layer, len(self.regression.kernel.mean)
        words = "" if self.counter is None else " and words"
        return f"layers {first} to {first + layers - 1}{words}, noise {self.regression.noise:g}"


@dataclass(frozen=True)
class Similarities:
    """How similar texts are.

    Args:
        ids: of the texts, in order.
        gram: see `invitro.models.exact`, (texts, texts).
        noise: that goes with it, in units of what the similarities explain.
    """

    ids: Sequence[str]
    gram: Floats
    noise: float

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {text_id: row for row, text_id in enumerate(self.ids)}

    def of(self, ids: Sequence[str]) -> Floats:
        """Return the similarities of some of the texts, (some, some)."""
        rows = [self._rows[text_id] for text_id in ids]
        return np.asarray(self.gram[np.ix_(rows, rows)])

    def student(self) -> KernelStudent:
        """Return a student on the rows of the texts."""
        return KernelStudent(self.gram, self.noise)


def similarities(ids: Sequence[str], texts: Sequence[str], embedded: Embedded, seen: Observed) -> Similarities:
    """Return similarities with the layers and the noise that suit the labels of the first texts.

    Args:
        ids: of all texts.
        texts: all texts.
        embedded: their features in all layers.
        seen: labels of the first texts.
    """
    counter, rated = counter_of(texts), slice(len(seen.labels))
    words = None if counter is None else counter.transform(texts)
    part = None if words is None else words[rated]
    regression = fitted(embedded.features[rated], part, seen)
    ((_, gram),) = LayerKernel.nested(embedded.features, words, [regression.kernel.first_layer])
    return Similarities(ids, gram, regression.noise)


def counter_of(texts: Sequence[str]) -> TfidfVectorizer | None:
    """Return TF-IDF of words and pairs of words that occur in two texts or more, fitted; None if there are none."""
    counter = tfidf(WORDS_TOGETHER, min_df=2)
    try:
        return counter.fit(texts)
    except ValueError:  # how scikit-learn says that no term is left
        return None


def save_frozen(folder: Path, facts: CardFacts, model: FrozenRegression, scale: Scale) -> None:
    """Save a model: the folder ``encoder``, ``vocabulary.json``, and all numbers in safetensors.

    Args:
        folder: the folder to write; an older one is replaced.
        facts: for the model card.
        model: the trained model.
        scale: what it scores.
    """
    arrays, outputs = model.regression.arrays(), ScoreAndSpread()
    meaning = outputs.meaning() | {"model": KIND}
    made_of = (
        f"Gaussian process regression on {model.description}, of the published encoder in the folder `encoder`. "
        "Features of all training texts are inside, from which parts of these texts might be reconstructed: share the "
        "folder only with those who may read the texts."
    )

    def write(place: Path) -> None:
        for part in model.encoder.loaded:
            part.save_pretrained(place / ENCODER)
        if model.counter is not None:
            terms = model.counter.get_feature_names_out().tolist()
            write_json(place / VOCABULARY, terms)
            arrays["words.idf"] = model.counter.idf_
        save_file(arrays, place / WEIGHTS)

    write_folder(folder, write, meaning, scale, model_card(scale, facts, outputs, made_of))


def load_frozen(folder: Path, meaning: Mapping[str, Any], device: torch.device) -> FrozenRegression:
    """Load what `save_frozen` wrote; `meaning` is the content of its ``scale.json``.

    Raises:
        InputError: a file is missing or damaged.
    """
    try:
        arrays = load_file(folder / WEIGHTS)
        counter = None
        if "words.idf" in arrays:
            vocabulary = json.loads((folder / VOCABULARY).read_text("utf-8"))
            counter = tfidf(WORDS_TOGETHER, vocabulary=vocabulary)
            counter.idf_ = arrays["words.idf"]
        regression = ExactRegression.from_arrays(arrays)
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise InputError(f"model={folder}: not readable ({type(error).__name__}: {error}); copy it again") from error
    encoder = FrozenEncoder(PLM(str(folder / ENCODER), max_length=2**20), device)
    return FrozenRegression(encoder, counter, regression)
