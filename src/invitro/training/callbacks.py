"""Early stopping with a start epoch, and the history of a run."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import pandas as pd
from lightning.pytorch.callbacks import Callback, EarlyStopping

from invitro.files import whole_or_absent

COLUMNS = ("epoch", "step", "train_loss", "val_loss", "val_pcc", "val_ccc", "val_rmse", "lr", "seconds")


def write_history(path: Path, rows: Sequence[Mapping[str, float]]) -> None:
    """Write ``history.csv``, whole or not at all: one row an epoch with `COLUMNS`."""
    with whole_or_absent(path) as temporary:
        pd.DataFrame(rows, columns=list(COLUMNS)).to_csv(temporary, index=False)


class PatientStopping(EarlyStopping):
    """Stops when validation CCC no longer improves, looking from `start_epoch` on (the first epoch is 0)."""

    def __init__(self, start_epoch: int, patience: int) -> None:
        super().__init__(monitor="val_ccc", mode="max", patience=patience, check_on_train_epoch_end=False)
        self.start_epoch = start_epoch

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Look at the epoch's validation CCC, unless it is too early."""
        if trainer.current_epoch >= self.start_epoch:
            super().on_validation_end(trainer, pl_module)


class History(Callback):
    """Writes ``history.csv``: one row an epoch, the file whole after each."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[dict[str, float]] = []
        self._started = 0.0

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the epoch's clock."""
        self._started = time.perf_counter()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Add the epoch's row; validation has run by now."""
        values = {name: float(value) for name, value in trainer.callback_metrics.items()}
        self.rows.append(
            {name: values[name] for name in COLUMNS if name in values}
            | {
                "epoch": trainer.current_epoch,
                "step": trainer.global_step,
                "lr": float(trainer.optimizers[0].param_groups[0]["lr"]),
                "seconds": time.perf_counter() - self._started,
            }
        )
        if trainer.is_global_zero:
            write_history(self.path, self.rows)

    def state_dict(self) -> dict[str, Any]:
        """Return the rows so far, so that a resumed run keeps them."""
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the rows of the run that is resumed."""
        self.rows = list(state_dict["rows"])
