"""What a model is fed: tokens of the text, or features of the frozen encoder. Both are computed once a run."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from invitro.models.features import FeatureCache
from invitro.models.tokens import pad, tokenise


class Encoded(NamedTuple):
    """Texts as rows that can be collated, and each row's length, by which batches are grouped."""

    rows: Sequence[Any]
    lengths: Sequence[int]
    truncated: int


class Inputs(Protocol):
    """Turns texts into rows, and rows into a batch."""

    def encode(self, texts: Sequence[str]) -> Encoded:
        """Encode texts, in order."""

    def collate(self, rows: Sequence[Any]) -> dict[str, Tensor]:
        """Stack rows to the tensors that the model's forward pass takes."""


class TokenInputs:
    """Token ids, padded to the longest text of the batch."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer

    def encode(self, texts: Sequence[str]) -> Encoded:
        """Tokenise the texts."""
        tokens = tokenise(self.tokenizer, texts)
        return Encoded(tokens.ids, [len(ids) for ids in tokens.ids], tokens.truncated)

    def collate(self, rows: Sequence[Any]) -> dict[str, Tensor]:
        """Return ``input_ids`` and ``attention_mask``, both (batch, longest)."""
        return pad(self.tokenizer, rows)


class FeatureInputs:
    """First-token features of the frozen encoder, from the cache where it has them."""

    def __init__(self, cache: FeatureCache) -> None:
        self.cache = cache

    def encode(self, texts: Sequence[str]) -> Encoded:
        """Look the features up, computing what is missing."""
        return Encoded(list(self.cache.features(texts)), [1] * len(texts), 0)

    def collate(self, rows: Sequence[Any]) -> dict[str, Tensor]:
        """Return ``features``, (batch, hidden)."""
        return {"features": torch.stack(list(rows))}
