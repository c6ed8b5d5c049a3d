"""Tokens, and batches of texts of similar length."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

TokenIds = npt.NDArray[np.int32]


class Tokenised(NamedTuple):
    """Token ids of each text (special tokens included), and the rows of the texts that had to be cut."""

    ids: list[TokenIds]
    cut: list[int]


def tokenise(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> Tokenised:
    """Tokenise texts, cutting each at ``tokenizer.model_max_length`` tokens."""
    if not len(texts):
        return Tokenised([], [])
    longest = tokenizer.model_max_length
    encoded = tokenizer(
        list(texts), truncation=False, return_attention_mask=False, return_token_type_ids=False, verbose=False
    )
    cut = [row for row, ids in enumerate(encoded["input_ids"]) if len(ids) > longest]
    ids = [np.asarray(row, dtype=np.int32) for row in encoded["input_ids"]]
    if cut:
        again = tokenizer([texts[row] for row in cut], truncation=True, max_length=longest)
        for row, short in zip(cut, again["input_ids"], strict=True):
            ids[row] = np.asarray(short, dtype=np.int32)
    return Tokenised(ids, cut)


def pad(tokenizer: PreTrainedTokenizerBase, rows: Sequence[TokenIds]) -> dict[str, Tensor]:
    """Stack rows of token ids into ``input_ids`` and ``attention_mask``, both (batch, longest row), int64."""
    longest = max(len(row) for row in rows)
    ids = np.full((len(rows), longest), tokenizer.pad_token_id, dtype=np.int64)
    mask = np.zeros((len(rows), longest), dtype=np.int64)
    for index, row in enumerate(rows):
        ids[index, : len(row)] = row
        mask[index, : len(row)] = 1
    return {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}


def length_batches(lengths: Sequence[int], size: int, rng: np.random.Generator | None = None) -> list[list[int]]:
    """Cut rows into batches of `size` rows of similar length.

    With `rng`, rows are shuffled, sorted within windows of 50 batches, and the batches are shuffled: composition and
    order differ every epoch while little is spent on padding (2 % of the tokens on essays; random batches spend
    41 %). Without it rows are sorted from long to short, so that a batch too large for memory fails at once.

    Returns:
        Batches of row numbers; each row is in exactly one.
    """
    order = np.arange(len(lengths)) if rng is None else rng.permutation(len(lengths))
    window = len(lengths) if rng is None else size * 50
    length = np.asarray(lengths)
    pieces = [order[start : start + window] for start in range(0, len(order), max(window, 1))]
    ordered = [piece[np.argsort(-length[piece], kind="stable")] for piece in pieces]
    batches = [piece[start : start + size].tolist() for piece in ordered for start in range(0, len(piece), size)]
    return batches if rng is None else [batches[index] for index in rng.permutation(len(batches))]


def token_batches(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], size: int
) -> Iterator[tuple[list[int], dict[str, Tensor]]]:
    """Yield `length_batches` of texts for inference: row numbers, and padded tokens on the model's device."""
    ids = tokenise(tokenizer, texts).ids
    for rows in length_batches([len(row) for row in ids], size):
        batch = pad(tokenizer, [ids[row] for row in rows])
        yield rows, {name: value.to(model.device) for name, value in batch.items()}


def random_batches(n: int, size: int, rng: np.random.Generator) -> list[list[int]]:
    """Cut `n` rows into batches of `size` rows at random."""
    order = rng.permutation(n)
    return [order[start : start + size].tolist() for start in range(0, n, size)]
