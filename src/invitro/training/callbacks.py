"""Early stopping with a start epoch, and the history of a run."""

import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import pandas as pd
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping
from torch import Tensor

from invitro.files import whole_or_absent
from invitro.training.module import Regressor
from invitro.training.recipe import Fit
from invitro.writing.words import time_left

log = logging.getLogger(__name__)

HISTORY_COLUMNS = ("epoch", "step", "train_loss", "val_loss", "val_pcc", "val_ccc", "val_rmse", "lr", "seconds")


def write_history(path: Path, rows: Sequence[Mapping[str, float]]) -> None:
    """Write ``history.csv``, complete or not at all: one row per epoch with `HISTORY_COLUMNS`."""
    with whole_or_absent(path) as temporary:
        pd.DataFrame(rows, columns=list(HISTORY_COLUMNS)).to_csv(temporary, index=False)


class PatientStopping(EarlyStopping):
    """Stops when validation CCC no longer improves; epochs before `start_epoch` (the first is 0) do not count."""

    def __init__(self, start_epoch: int, patience: int) -> None:
        super().__init__(monitor="val_ccc", mode="max", patience=patience, check_on_train_epoch_end=False)
        self.start_epoch = start_epoch

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Compare the epoch's validation CCC with the best one, unless it is too early."""
        if trainer.current_epoch >= self.start_epoch:
            super().on_validation_end(trainer, pl_module)


class History(Callback):
    """Writes ``history.csv``: one row per epoch; the file is complete after each.

    Args:
        path: the file.
        logged: whether each epoch is also logged in one line, with the time left.
    """

    def __init__(self, path: Path, logged: bool = False) -> None:
        self.path, self.logged = path, logged
        self.rows: list[dict[str, float]] = []
        self._started = 0.0

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the epoch's clock."""
        self._started = time.perf_counter()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Add the epoch's row; validation has run by now."""
        values = {name: float(value) for name, value in trainer.callback_metrics.items()}
        self.rows.append(
            {name: values[name] for name in HISTORY_COLUMNS if name in values}
            | {
                "epoch": trainer.current_epoch,
                "step": trainer.global_step,
                "lr": float(trainer.optimizers[0].param_groups[0]["lr"]),
                "seconds": time.perf_counter() - self._started,
            }
        )
        if trainer.is_global_zero:
            write_history(self.path, self.rows)
            if self.logged:
                self._log_epoch(trainer.current_epoch + 1, trainer.max_epochs or 0)

    def _log_epoch(self, done: int, most: int) -> None:
        """Log the last epoch in one line."""
        row = self.rows[-1]
        names = {"train_loss": "training loss", "val_ccc": "validation CCC", "val_rmse": "RMSE"}
        measured = ", ".join(f"{label} {row[name]:.3f}" for name, label in names.items() if name in row)
        seconds = [epoch["seconds"] for epoch in self.rows]
        left = time_left(sum(seconds), len(seconds), most - done)
        log.info("epoch %d of at most %d: %s; %.0f s, at most %s", done, most, measured, row["seconds"], left)

    def state_dict(self) -> dict[str, Any]:
        """Return the rows so far, so that a resumed run keeps them."""
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the rows of the run that is resumed."""
        self.rows = list(state_dict["rows"])


class SmallLossSelection(Callback):
    """Learns, from ``fit.select_from`` on, from only the share ``fit.keep`` of the texts with the smallest losses.

    Networks fit what most texts agree on before they fit single wrong labels, so early in training a large loss is a
    sign of noise; Han, Yao, Yu, Niu, Xu, Hu, Tsang & Sugiyama (2018), "Co-teaching: Robust Training of Deep Neural
    Networks with Extremely Noisy Labels", arXiv 1804.06872. There, two networks select for each other within
    each batch. Here, one network selects for itself, over the whole training set, again for every epoch: the 16 texts
    of a batch, similar in length, are too few to rank, and their share of wrong labels varies from batch to batch.

    A text's loss is that of the previous epoch, whether it was trained on or skipped; this costs no extra pass. A
    text that is skipped stays in its batch with the factor 0, and may return; the others have the factor
    ``texts / kept``, so that steps are as large as before. Weights do not affect the ranking. Rare, correct labels have
    large losses too, so selection also removes texts at the ends of the scale.

    Args:
        fit: share, first epoch and the losses to rank by.
        texts: number of training texts.
    """

    def __init__(self, fit: Fit, texts: int) -> None:
        self.fit, self.kept = fit, kept_of(fit, texts)
        self.factor = torch.ones(texts)
        self.losses = torch.full((texts,), torch.nan)

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Give the module this epoch's factors."""
        assert isinstance(pl_module, Regressor)
        self.losses = torch.full_like(self.losses, torch.nan, device=pl_module.device)
        pl_module.factor = self.factor.to(pl_module.device)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: dict[str, Tensor], batch_idx: int
    ) -> None:
        """Record the losses of the batch's texts."""
        assert isinstance(pl_module, Regressor)
        self.losses[batch["row"]] = pl_module.loss.of_texts(outputs["outputs"], batch["label"])

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Gather the losses of all processes and choose the next epoch's texts."""
        if trainer.current_epoch + 1 < self.fit.select_from:
            return
        gathered = torch.as_tensor(pl_module.all_gather(self.losses)).reshape(trainer.world_size, -1)
        self.factor = small_loss_factor(gathered.nanmean(dim=0).cpu(), self.kept)

    def state_dict(self) -> dict[str, Any]:
        """Return the next epoch's factors, so that a resumed run selects as it would have."""
        return {"factor": self.factor}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the factors of the run that is resumed."""
        self.factor = state_dict["factor"]


def small_loss_factor(losses: Tensor, kept: int) -> Tensor:
    """Return ``n / kept`` for the `kept` smallest of n losses, (n,), and 0 for the others; ties go to the first."""
    factor = torch.zeros(len(losses))
    factor[losses.argsort(stable=True)[:kept]] = len(losses) / kept
    return factor


def kept_of(fit: Fit, texts: int) -> int:
    """Return how many of the training texts are used once selection has begun; at least 1."""
    return max(1, round(fit.keep * texts))
