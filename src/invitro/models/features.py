"""Features of a frozen encoder: those of every layer, computed once per text and cached on disk for all later runs;
and the similarities of texts that follow from them.

The middle layers of an encoder say more about a text than the last one, which was trained for another task (Skean et
al. 2025, "Layer by Layer: Uncovering Hidden Representations in Language Models", PMLR 267). Averaging kernels on many
layers needs no choice of one.
"""

import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, NamedTuple, Self
from uuid import uuid4

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

from invitro.files import whole_or_absent
from invitro.models.encoder import Loaded, check_available, length_batches, load_encoder, pad, reads_forwards, tokenise
from invitro.models.settings import PLM
from invitro.stats import Bools, Floats, Singles
from invitro.writing.words import Progress

log = logging.getLogger(__name__)

KEY_BYTES = 16


class Embedded(NamedTuple):
    """Features of texts.

    Args:
        features: (texts, layers + 1, hidden); the first layer is the encoder's input embeddings.
        cut: which texts had to be cut, (texts,).
        known: see `invitro.models.encoder.Tokenised`; None if the features come from the cache.
    """

    features: Singles
    cut: Bools
    known: Floats | None = None

    @property
    def last_layer(self) -> Floats:
        """The means over tokens of the last layer, (texts, hidden), float64."""
        return self.features[:, -1].astype(np.float64)


class FrozenEncoder:
    """An encoder or decoder whose weights stay unchanged. It is loaded when the first text is embedded.

    Args:
        plm: the encoder.
        device: the device that it runs on.
    """

    def __init__(self, plm: PLM, device: str | torch.device = "cpu") -> None:
        self.plm, self.device = plm, torch.device(device)

    @cached_property
    def config(self) -> PreTrainedConfig:
        """Its configuration, which is read without its weights."""
        return check_available(self.plm)

    @cached_property
    def loaded(self) -> Loaded:
        """The model, in evaluation mode on its device, and its tokenizer."""
        model, tokenizer = load_encoder(self.plm)
        model.to(self.device)  # type: ignore[arg-type]  # annotated as the function that it wraps
        return Loaded(model.eval(), tokenizer)

    def release(self) -> None:
        """Free the weights; they are reloaded when needed."""
        self.__dict__.pop("loaded", None)

    @property
    def key(self) -> str:
        """Hash of what determines a text's features: the weights and the maximum length."""
        commit = getattr(self.config, "_commit_hash", None)
        return hashlib.sha256(f"{self.plm.fingerprint} {commit} {self.plm.max_length}".encode()).hexdigest()[:32]

    def embed(self, texts: Sequence[str], batch_size: int = 16, shown: bool | None = False) -> Embedded:
        """Return features of texts in their order; for `shown` see `Progress`."""
        model, tokenizer = self.loaded
        tokens = tokenise(tokenizer, texts)
        shape = len(texts), self.config.num_hidden_layers + 1, self.config.hidden_size
        features = np.empty(shape, dtype=np.float32)
        with torch.inference_mode(), Progress(len(texts), "text", shown) as progress:
            for rows in length_batches([len(ids) for ids in tokens.ids], batch_size):
                batch = pad(tokenizer, [tokens.ids[row] for row in rows])
                batch = {name: value.to(self.device) for name, value in batch.items()}
                features[rows] = layer_means(model, batch).cpu().numpy()
                progress.add(len(rows))
        cut = np.zeros(len(texts), dtype=bool)
        cut[tokens.cut] = True
        return Embedded(features, cut, tokens.known)


def layer_means(model: PreTrainedModel, batch: Mapping[str, Tensor]) -> Tensor:
    """Return each layer's mean over a text's tokens, (batch, layers + 1, hidden), float32.

    A decoder's first token is left out if there are others: it absorbs all attention that is not needed elsewhere
    (Xiao et al. 2024, "Efficient Streaming Language Models with Attention Sinks", ICLR), so that it says nothing about
    the text, and its features are far larger than all others.
    """
    layers = model(**batch, output_hidden_states=True).hidden_states
    mask = batch["attention_mask"].clone()
    if reads_forwards(model.config):
        mask[:, 0] = mask.sum(dim=1) == 1
    weights = (mask / mask.sum(dim=1, keepdim=True))[..., None]
    return torch.stack([(layer.float() * weights).sum(dim=1) for layer in layers], dim=1)


class FeatureCache:
    """Features by text, in one folder per frozen encoder.

    Every call writes newly computed features to a new file, which later readers map into memory. Parallel writers
    never touch each other's files: at worst a text is computed twice.

    Args:
        folder: the cache; None disables it.
        encoder: computes missing features.
    """

    def __init__(self, folder: Path | None, encoder: FrozenEncoder) -> None:
        self.encoder = encoder
        self.folder = folder / encoder.key if folder is not None else None

    def features(self, texts: Sequence[str]) -> Embedded:
        """Return features of texts in their order; the encoder loads only if some are not cached yet."""
        if not len(texts):
            shape = 0, self.encoder.config.num_hidden_layers + 1, self.encoder.config.hidden_size
            return Embedded(np.empty(shape, dtype=np.float32), np.empty(0, dtype=bool))
        keys = [hashlib.sha256(text.encode()).digest()[:KEY_BYTES] for text in texts]
        cached = self._read()
        new = {key: text for key, text in zip(keys, texts, strict=True) if key not in cached}
        if new:
            log.info("features: computing %d of %d texts; the others are cached", len(new), len(set(keys)))
            computed = self.encoder.embed(list(new.values()), shown=None)
            self._write(list(new), computed)
            cached |= dict(zip(new, zip(computed.features, computed.cut.tolist(), strict=True), strict=True))
        return Embedded(np.stack([cached[key][0] for key in keys]), np.array([cached[key][1] for key in keys]))

    def _read(self) -> dict[bytes, tuple[Singles, bool]]:
        cached: dict[bytes, tuple[Singles, bool]] = {}
        for file in sorted(self.folder.glob("*.safetensors")) if self.folder else ():
            try:
                cached |= _part(file)
            except SafetensorError:
                log.warning("%s is damaged and was removed; its features are computed again", file)
                file.unlink(missing_ok=True)
        return cached

    def _write(self, keys: list[bytes], embedded: Embedded) -> None:
        if self.folder is None:
            return
        stacked = np.frombuffer(b"".join(keys), dtype=np.uint8).reshape(-1, KEY_BYTES)
        arrays = {"keys": torch.from_numpy(stacked.copy()), "cut": torch.from_numpy(embedded.cut)}
        with whole_or_absent(self.folder / f"{uuid4().hex}.safetensors") as temporary:
            save_file(arrays | {"features": torch.from_numpy(embedded.features)}, temporary)


@lru_cache(maxsize=64)
def _part(file: Path) -> dict[bytes, tuple[Singles, bool]]:
    """Map one file of the cache into memory, once per process; files never change."""
    part = load_file(file)
    rows = zip(part["keys"].numpy(), part["features"].numpy(), part["cut"].tolist(), strict=True)
    return {key.tobytes(): (features, cut) for key, features, cut in rows}


LEAST_SPREAD = 1e-6
"""A dimension with a smaller standard deviation counts as constant; the last layers have a few of these."""
GAMMA = 1.0
"""Sharpness of a layer's kernel: two unrelated texts, whose features are orthogonal, have similarity exp(-2)."""
FIRST_LAYERS = (0.0, 1 / 3, 1 / 2)
"""Where the layers in use begin, as a share of the depth: all layers, the upper two thirds, the upper half."""


@dataclass(frozen=True)
class LayerKernel:
    """Similarity of texts: the average of kernels on an encoder's layers and, if there are any, on words.

    Each layer's features are standardised by dimension and scaled to length 1, as z; its kernel is
    ``exp(-gamma |z - z'|^2)``. Words enter by the dot product of their TF-IDF vectors. Each kernel is centred, as if
    features had mean 0 in feature space (Schölkopf, Smola & Müller 1998, Neural Computation 10), and divided by its
    mean variance, both computed on the training texts, so that no kernel dominates because of its units.

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
            starts: first layers, in any order; one pass over the layers computes all kernels.

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
        similar, (with_itself, levels) = np.zeros((len(rows), len(self.rows))), np.zeros((2, len(rows)))
        for kernel, variance in enumerate(self.variance):
            if kernel < rows.shape[1]:
                similarity, norm = _rbf(rows[:, kernel], self.rows[:, kernel]), np.ones(len(rows))
            else:
                similarity, norm = _dots(words, self.words), np.asarray(words.multiply(words).sum(axis=1)).ravel()
            level = similarity.mean(axis=1)
            similar += similarity / variance
            levels += level / variance
            with_itself += (norm - 2 * level + self.level[kernel].mean()) / variance
        training_levels = self.level.T @ (1 / self.variance)
        return _centred(similar, levels, training_levels) / len(self.variance), with_itself / len(self.variance)


def first_layers(layers: int) -> list[int]:
    """Return candidates for the first layer in use, see `FIRST_LAYERS`; `layers` includes the input embeddings."""
    return sorted({max(1, round(share * (layers - 1))) for share in FIRST_LAYERS})


def _unit(features: Singles) -> Singles:
    """Scale vectors along the last axis to length 1; a zero vector stays 0."""
    length = np.linalg.norm(features, axis=-1, keepdims=True)
    return np.asarray(features / np.where(length == 0, 1, length), dtype=np.float32)


def _rbf(rows: Singles, others: Singles) -> Floats:
    """Return ``exp(-GAMMA |z - z'|^2)`` of rows of length 1, (rows, others)."""
    exponent = 2 * GAMMA * ((rows @ others.T).astype(np.float64) - 1)
    return np.asarray(np.exp(exponent, out=exponent))


def _dots(words: Any, others: Any) -> Floats:
    return np.asarray((words @ others.T).toarray())


def _centred(similarity: Floats, level: Floats, training_level: Floats) -> Floats:
    """Move the origin to the training texts' mean."""
    return np.asarray(similarity - level[:, None] - (training_level - training_level.mean()))
