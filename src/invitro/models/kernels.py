"""Similarity of texts: kernels on all layers of a frozen encoder, and on words.

The middle layers of an encoder say more about a text than the last one, which was trained for another task (Skean et
al. 2025, "Layer by Layer: Uncovering Hidden Representations in Language Models", PMLR 267). Averaging kernels on many
layers needs no choice of one.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from invitro.arrays import Floats, Singles

LEAST_SPREAD = 1e-6
"""A dimension with a smaller standard deviation does not vary: the last layers have some."""
GAMMA = 1.0
"""Sharpness of a layer's kernel: two unrelated texts, whose features are orthogonal, have the similarity exp(-2)."""
FIRST_LAYERS = (0.0, 1 / 3, 1 / 2)
"""Where the layers in use begin, as a share of the depth: all layers, the upper two thirds, the upper half."""


@dataclass(frozen=True)
class LayerKernel:
    """Similarity of texts: the average of kernels on an encoder's layers and, where there are such, on words.

    Each layer's features are standardised by dimension and brought to length 1, as z; its kernel is
    ``exp(-gamma |z - z'|^2)``. Words enter by the dot product of their TF-IDF vectors. Each kernel is centred, as if
    features had the mean 0 in feature space (Schölkopf, Smola & Müller 1998, Neural Computation 10), and divided by its
    mean variance, all on the training texts, so that none counts more than another because of its units.

    Args:
        first_layer: the first of the encoder's layers in use, counted from 0, its input embeddings.
        mean: of each dimension, (layers, hidden).
        spread: standard deviation of each dimension, (layers, hidden).
        rows: z of the training texts, (texts, layers, hidden).
        words: TF-IDF of the training texts, sparse, (texts, terms), or None.
        level: mean similarity of each training text to all of them, by kernel, (kernels, texts).
        variance: mean variance of each kernel, (kernels,). Words come last.
    """

    first_layer: int
    mean: Singles
    spread: Singles
    rows: Singles
    words: Any
    level: Floats
    variance: Floats

    @classmethod
    def nested(cls, features: Singles, words: Any, starts: Sequence[int]) -> Iterator[tuple[Self, Floats]]:
        """Yield kernels that use the layers from each start upwards, with the similarities of the training texts.

        Args:
            features: of the training texts, (texts, layers, hidden).
            words: their TF-IDF, sparse, (texts, terms), or None.
            starts: first layers, in any order. One pass over the layers serves them all.

        Yields:
            The kernel and the similarities, (texts, texts), from the latest start to the earliest.
        """
        mean, spread = features.mean(axis=0), features.std(axis=0)
        spread = np.where(spread < LEAST_SPREAD, np.float32(1), spread)
        rows, layers = _unit((features - mean) / spread), features.shape[1]
        kernels = layers + (words is not None)
        similar, levels = np.zeros((len(rows), len(rows))), np.zeros(len(rows))  # sums over kernels, not yet centred
        level, variance = np.empty((kernels, len(rows))), np.empty(kernels)
        for kernel in reversed(range(min(starts), kernels)):
            similarity = _rbf(rows[:, kernel], rows[:, kernel]) if kernel < layers else _dots(words, words)
            level[kernel] = similarity.mean(axis=0)
            variance[kernel] = similarity.diagonal().mean() - level[kernel].mean()
            similar += similarity / variance[kernel]
            levels += level[kernel] / variance[kernel]
            if kernel in starts:
                of = mean[kernel:], spread[kernel:], rows[:, kernel:], words, level[kernel:], variance[kernel:]
                yield cls(kernel, *of), _centred(similar, levels, levels) / (kernels - kernel)

    def to_training(self, features: Singles, words: Any = None) -> tuple[Floats, Floats]:
        """Return similarities of new texts to the training texts, (new, texts), and to themselves, (new,).

        Args:
            features: of the new texts, in all layers, (new, layers, hidden).
            words: their TF-IDF, if the kernel has words.
        """
        rows = _unit((features[:, self.first_layer :] - self.mean) / self.spread)
        similar, (own, levels) = np.zeros((len(rows), len(self.rows))), np.zeros((2, len(rows)))
        for kernel, variance in enumerate(self.variance):
            if kernel < rows.shape[1]:
                similarity, itself = _rbf(rows[:, kernel], self.rows[:, kernel]), np.ones(len(rows))
            else:
                similarity, itself = _dots(words, self.words), np.asarray(words.multiply(words).sum(axis=1)).ravel()
            level = similarity.mean(axis=1)
            similar += similarity / variance
            levels += level / variance
            own += (itself - 2 * level + self.level[kernel].mean()) / variance
        known = self.level.T @ (1 / self.variance)
        return _centred(similar, levels, known) / len(self.variance), own / len(self.variance)


def first_layers(layers: int) -> list[int]:
    """Return where the layers in use may begin, of so many with the input embeddings: see `FIRST_LAYERS`."""
    return sorted({max(1, round(share * (layers - 1))) for share in FIRST_LAYERS})


def _unit(features: Singles) -> Singles:
    """Bring the last axis to length 1; what is 0 stays 0."""
    length = np.linalg.norm(features, axis=-1, keepdims=True)
    return np.asarray(features / np.where(length == 0, 1, length), dtype=np.float32)


def _rbf(rows: Singles, others: Singles) -> Floats:
    """Return ``exp(-GAMMA |z - z'|^2)`` of rows of length 1, (rows, others)."""
    exponent = 2 * GAMMA * ((rows @ others.T).astype(np.float64) - 1)
    return np.asarray(np.exp(exponent, out=exponent))


def _dots(words: Any, others: Any) -> Floats:
    return np.asarray((words @ others.T).toarray())


def _centred(similarity: Floats, level: Floats, known: Floats) -> Floats:
    """Move the origin to the training texts' mean."""
    return np.asarray(similarity - level[:, None] - (known - known.mean()))
