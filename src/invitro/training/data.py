"""The LightningDataModule: tokenises the texts once, serves batches of similar length."""

from collections.abc import Iterator, Sequence
from typing import Any

import lightning as L
import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler
from transformers import PreTrainedTokenizerBase

from invitro.models.encoder import TokenIds, length_batches, pad, tokenise
from invitro.stats import Floats
from invitro.training.prepare import Prepared
from invitro.training.recipe import Fit


def mean_one(table: pd.DataFrame) -> Floats:
    """Return the weights of training labels, above 0, divided by their mean over the whole training set.

    A batch's loss is then ``mean(w * l)``: an unbiased estimate of ``sum(w * l) / sum(w)`` over the training set, with
    steps as large as without weights. Dividing by each batch's own sum of weights instead would give a batch of light
    texts as much influence as one of heavy texts, and with one text per batch weights would do nothing.
    """
    weights = table["weight"].to_numpy(dtype=np.float64)
    relative = weights / weights.max()  # all exactly 1 if they are equal
    return np.asarray(relative / relative.mean())


PADDING = -1
"""Row number of a text that is in a batch only to give all processes the same number of batches."""

DataItem = tuple[TokenIds, float, int, float]


class Texts(Dataset[DataItem]):
    """Texts as token ids, with labels and weights; an item is ``(ids, label, row number, weight)``.

    A negative index ``~i`` gives text ``i`` with the row number `PADDING`.
    """

    def __init__(self, ids: Sequence[TokenIds], labels: "pd.Series[float]", weights: Floats | None = None) -> None:
        self.ids, self.labels = ids, labels.to_numpy(dtype=np.float32)
        self.lengths = [len(text) for text in ids]
        self.weights = np.ones(len(ids)) if weights is None else weights

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> DataItem:
        row = index if index >= 0 else ~index
        return self.ids[row], float(self.labels[row]), index if index >= 0 else PADDING, float(self.weights[row])


class TrainingBatches(Sampler[list[int]]):
    """Batches of one epoch, split between processes; their composition depends only on seed and epoch."""

    def __init__(self, data: Texts, fit: Fit, seed: int, processes: int, rank: int) -> None:
        self.data, self.fit, self.seed, self.processes, self.rank, self.epoch = data, fit, seed, processes, rank, 0

    @property
    def sampler(self) -> "TrainingBatches":
        """Itself: Lightning sets the epoch on ``batch_sampler.sampler``."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose batches come next."""
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-len(self.data) // self.fit.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        rng, size = np.random.default_rng([self.seed, self.epoch]), self.fit.batch_size
        if self.fit.batching == "length":
            batches = length_batches(self.data.lengths, size, rng)
        else:
            batches = random_batches(len(self.data), size, rng)
        for batch in batches:
            # The last batch may not divide evenly among the processes; its first texts are then repeated.
            whole = batch + [batch[i % len(batch)] for i in range(-len(batch) % self.processes)]
            yield whole[self.rank :: self.processes]


class EvaluationBatches(Sampler[list[int]]):
    """All texts once, from long to short; processes get equal numbers of batches, filled up with padding texts."""

    def __init__(self, data: Texts, size: int, processes: int, rank: int) -> None:
        batches = length_batches(data.lengths, size)
        missing = -len(batches) % processes
        self.batches = (batches + [[~batches[0][0]]] * missing)[rank::processes] if batches else []

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.batches)


class TextsDataModule(L.LightningDataModule):
    """Serves a run's texts.

    Args:
        prepared: the run's texts and labels.
        tokenizer: the encoder's.
        fit: batch sizes and batching.
        seed: with the epoch, it determines the composition of training batches.
    """

    def __init__(self, prepared: Prepared, tokenizer: PreTrainedTokenizerBase, fit: Fit, seed: int) -> None:
        super().__init__()
        self.prepared, self.tokenizer, self.fit, self.seed = prepared, tokenizer, fit, seed
        self.truncated = 0
        self._data: dict[str, Texts] = {}

    def setup(self, stage: str | None = None) -> None:
        """Tokenise the texts of all splits, once."""
        if self._data:
            return
        for split in ("train", "val", "test"):
            training = split == "train"
            table = self.prepared.labels.table if training else self.prepared.corpus.of_split(split)
            tokens = tokenise(self.tokenizer, table["text"].tolist())
            self.truncated += len(tokens.cut)
            labels, weights = (table["label"], mean_one(table)) if training else (table["crowd_label"], None)
            self._data[split] = Texts(tokens.ids, labels, weights)

    def train_dataloader(self) -> DataLoader[Any]:
        """Return the training batches; they change with the epoch."""
        data = self._data["train"]
        return self._loader(data, TrainingBatches(data, self.fit, self.seed, *self._place()))

    def val_dataloader(self) -> DataLoader[Any]:
        """Return the validation batches."""
        return self._evaluation("val")

    def test_dataloader(self) -> list[DataLoader[Any]]:
        """Return the validation and the test batches: both are predicted with the final weights."""
        return [self._evaluation("val"), self._evaluation("test")]

    def _evaluation(self, split: str) -> DataLoader[Any]:
        data = self._data[split]
        return self._loader(data, EvaluationBatches(data, self.fit.eval_batch_size, *self._place()))

    def _place(self) -> tuple[int, int]:
        """Return how many processes there are, and which one this is."""
        return (self.trainer.world_size, self.trainer.global_rank) if self.trainer is not None else (1, 0)

    def _loader(self, data: Texts, batches: Sampler[list[int]]) -> DataLoader[Any]:
        return DataLoader(data, batch_sampler=batches, collate_fn=self._collate)

    def _collate(self, items: list[DataItem]) -> dict[str, Tensor]:
        """Return the model's inputs with ``label`` and ``weight``, (batch,) float32, and ``row``, (batch,) int64.

        The inputs are ``input_ids`` and ``attention_mask``, both (batch, longest). Weights have the mean 1 over all
        training texts; validation and test texts weigh 1.
        """
        ids, labels, numbers, weights = zip(*items, strict=True)
        return pad(self.tokenizer, ids) | {
            "label": torch.tensor(labels, dtype=torch.float32),
            "weight": torch.tensor(weights, dtype=torch.float32),
            "row": torch.tensor(numbers, dtype=torch.int64),
        }


def random_batches(n: int, size: int, rng: np.random.Generator) -> list[list[int]]:
    """Cut `n` rows into batches of `size` rows at random."""
    order = rng.permutation(n)
    return [order[start : start + size].tolist() for start in range(0, n, size)]
