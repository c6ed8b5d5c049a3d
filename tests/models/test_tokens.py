"""Tokens: the length limit, padding, and batches by length."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from invitro.models import PLM
from invitro.models.encoder import length_batches, load_tokenizer, pad, tokenise
from invitro.training.data import random_batches

TEXTS = ["sad story", "i feel moved and warm and tender for this family", "news", "nothing " * 20]


def test_long_texts_are_cut_and_counted(plm: PLM) -> None:
    tokenizer = load_tokenizer(PLM(plm.name, max_length=8))
    found = tokenise(tokenizer, TEXTS)
    assert max(len(ids) for ids in found.ids) == 8
    assert found.ids[3][-1] == tokenizer.sep_token_id
    assert {1, 3} <= set(found.cut) <= {0, 1, 3}


def test_padding_is_what_the_tokenizer_would_do(plm: PLM) -> None:
    tokenizer = load_tokenizer(plm)
    expected = tokenizer(TEXTS, padding=True, truncation=True, return_tensors="pt")
    found = pad(tokenizer, tokenise(tokenizer, TEXTS).ids)
    for name in ("input_ids", "attention_mask"):
        torch.testing.assert_close(found[name], expected[name])


@given(st.lists(st.integers(1, 99), max_size=200), st.integers(1, 17), st.integers(0, 3))
def test_each_row_is_in_one_batch(lengths: list[int], size: int, seed: int) -> None:
    for batches in (
        length_batches(lengths, size),
        length_batches(lengths, size, np.random.default_rng(seed)),
        random_batches(len(lengths), size, np.random.default_rng(seed)),
    ):
        assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
        assert len(batches) == -(-len(lengths) // size)
        assert all(len(batch) <= size for batch in batches)


def test_batches_by_length_waste_little() -> None:
    rng = np.random.default_rng(0)
    lengths = rng.integers(50, 200, 2000)

    def waste(batches: list[list[int]]) -> float:
        padded = sum(len(batch) * lengths[batch].max() for batch in batches)
        return float(1 - lengths.sum() / padded)

    assert waste(random_batches(2000, 16, rng)) > 0.3
    assert waste(length_batches(list(lengths), 16, rng)) < 0.03
    assert length_batches(list(lengths), 16, rng) != length_batches(list(lengths), 16, rng)
