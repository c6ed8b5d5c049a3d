"""What all measurements share: essays, the model, the machine's peak, and the cost of a token."""

import os
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from invitro.application import Application
from invitro.data import DataFolder, Holdout, NewsEmp, Undivided
from invitro.data.simulator.corpus import Simulator
from invitro.labels import LabelSource
from invitro.models import PLM
from invitro.scales import Item, Scale
from invitro.training.prepare import Prepared, prepare

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
SCALE = Scale("batson_empathy", "empathy", (Item("empathy", "empathy"),), 1, 7)
ROOT = Path(__file__).parents[2]


def plm(**settings: Any) -> PLM:
    """Return MiniLM as ``conf/plm/minilm.yaml`` has it."""
    return PLM(MINILM, **{"attention_dropout": 0.0, "lr": 1e-4, **settings})


def prepared(texts: int | None = None) -> Prepared:
    """Return a run's material: NewsEmp18 if ``INVITRO_DATA_DIR`` has it, otherwise simulated essays."""
    folder = os.environ.get("INVITRO_DATA_DIR")
    split = Holdout(val=0.1, test=0.2)
    reader = NewsEmp(18, folder=folder, split=split) if folder else Simulator(texts=1860, split=split)
    label = LabelSource("simulated", column="llm_label")
    found = prepare(reader, SCALE, Application("none", False, False, pool="none"), 4.0, label, "plain", DataFolder())
    if texts is not None:
        found.labels.table.drop(found.labels.table.index[texts:], inplace=True)
    return found


def essays(count: int) -> list[str]:
    """Return real essays if there are any, otherwise simulated ones; repeated from the first if there are too few."""
    folder = os.environ.get("INVITRO_DATA_DIR")
    reader = NewsEmp(18, folder=folder, split=Undivided()) if folder else Simulator(texts=1860, split=Undivided())
    texts = reader.read(SCALE).table["text"].tolist()
    return [texts[number % len(texts)] for number in range(count)]


def peak(seconds: float = 1.0) -> float:
    """Return the machine's best rate of float32 matrix products, in FLOP/s, over matrices small and large."""
    best = 0.0
    for size in (512, 1024, 2048):
        a, b = torch.randn(size, size), torch.randn(size, size)
        torch.mm(a, b)
        until = time.perf_counter() + seconds / 3
        while time.perf_counter() < until:
            started = time.perf_counter()
            torch.mm(a, b)
            best = max(best, 2 * size**3 / (time.perf_counter() - started))
    return best


def forward_flops(model: PreTrainedModel, lengths: "np.typing.NDArray[np.int64]") -> float:
    """Return the forward FLOP of useful tokens: two per weight of every matrix, and attention's two products.

    Padding, norms, activations and the look-up of embeddings do not count. The backward pass costs twice as much.
    """
    config = model.config
    hidden, inner, layers = config.hidden_size, config.intermediate_size, config.num_hidden_layers
    weights = layers * (4 * hidden**2 + 2 * hidden * inner)
    tokens = lengths.astype(float)
    return float((2 * weights * tokens + layers * 4 * hidden * tokens**2).sum())


def adamw() -> Any:
    """Return the optimiser as ``conf/train.yaml`` has it."""
    return partial(torch.optim.AdamW, lr=1e-4, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.1, fused=True)
