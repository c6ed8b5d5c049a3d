"""Full fine-tuning, essays per second: invitro against ``transformers.Trainer`` with its defaults.

Both train MiniLM on the same essays, 16 per step, in float32; reading batches, the step, clipping and the optimiser are
included. The first steps, in which memory is allocated, are left out, and so are validation and checkpoints.
"""

import logging
import tempfile
import time
from functools import partial
from typing import Any

import lightning as L
import numpy as np
from lightning.pytorch.callbacks import Callback
from speed_parts.material import adamw, forward_flops, peak, plm, prepared

from invitro.models.encoder import Loaded, load_regressor, load_tokenizer, tokenise
from invitro.training.data import TextsDataModule
from invitro.training.module import Regressor
from invitro.training.recipe import Fit
from invitro.training.run import quiet

WARM = 3


class Clock(Callback):
    """Notes when each step ended, and how many essays it had."""

    def __init__(self) -> None:
        self.at: list[float] = []
        self.sizes: list[int] = []

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Note the end of a step."""
        self.at.append(time.perf_counter())
        self.sizes.append(len(batch["label"]))

    @property
    def rate(self) -> float:
        """Essays per second after the first steps."""
        return sum(self.sizes[WARM:]) / (self.at[-1] - self.at[WARM - 1])


def ours(steps: int, batching: str = "length", **settings: Any) -> float:
    """Return essays per second of invitro's training loop; -1 steps is an epoch, which has batches of all lengths."""
    quiet()
    clock, material = Clock(), prepared()
    loaded = Loaded(load_regressor(plm(**settings), 4.0), load_tokenizer(plm()))
    fit = Fit(epochs=1, batching=batching)  # type: ignore[arg-type]
    module = Regressor(loaded.model, fit, adamw())
    trainer = L.Trainer(
        accelerator="cpu", devices=1, max_epochs=1, max_steps=steps, gradient_clip_val=1.0, callbacks=[clock],
        limit_val_batches=0, num_sanity_val_steps=0, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False,
    )  # fmt: skip
    trainer.fit(module, TextsDataModule(material, loaded.tokenizer, fit, 0))
    return clock.rate


def theirs(steps: int) -> float:
    """Return essays per second of ``transformers.Trainer``: random batches, padded to their longest text."""
    from transformers import DataCollatorWithPadding, PrinterCallback, Trainer, TrainerCallback, TrainingArguments

    table = prepared().labels.table
    tokenizer = load_tokenizer(plm())
    model = load_regressor(plm(attention_dropout=None), 4.0)
    ids = tokenise(tokenizer, table["text"].tolist()).ids
    data = [{"input_ids": row.tolist(), "labels": float(y)} for row, y in zip(ids, table["label"], strict=True)]
    times: list[float] = []

    class Steps(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            times.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder, per_device_train_batch_size=16, max_steps=steps, report_to=[], save_strategy="no", use_cpu=True,
            disable_tqdm=True, logging_strategy="no",
        )  # fmt: skip
        collate = DataCollatorWithPadding(tokenizer)
        trainer = Trainer(model, arguments, collate, train_dataset=data, callbacks=[Steps()])
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    return 16 * (len(times) - WARM) / (times[-1] - times[WARM - 1])


def measure(repeats: int, quick: bool) -> dict[str, list[float]]:
    """Return essays per second of each way, and useful tokens' share of the peak, one number per repeat."""
    quiet()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    epoch, steps = (6, 6) if quick else (-1, 40)
    ways = {
        "invitro": partial(ours, epoch),
        "invitro, the encoder's own dropout": partial(ours, epoch, attention_dropout=None),
        "invitro, random batches": partial(ours, steps, batching="random"),
        "transformers.Trainer": partial(theirs, steps),
    }
    found: dict[str, list[float]] = {name: [] for name in [*ways, "peak, GFLOP/s", "share of the peak"]}
    texts = prepared().labels.table["text"].tolist()
    lengths = np.array([len(row) for row in tokenise(load_tokenizer(plm()), texts).ids])
    an_essay = 3 * forward_flops(load_regressor(plm(), 4.0), lengths) / len(lengths)
    for _ in range(repeats):
        for name, way in ways.items():
            found[name].append(way())
        top = peak()
        found["peak, GFLOP/s"].append(top / 1e9)
        found["share of the peak"].append(found["invitro"][-1] * an_essay / top)
    return found
