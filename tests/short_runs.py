"""Trainings of seconds on a small corpus: its material, a recipe, and the run, as most tests of training need them."""

from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import torch

from invitro.application import Application
from invitro.data import DataFolder, Holdout, Published, TableFile
from invitro.labels import LabelSource
from invitro.models import PLM
from invitro.scales import Item, Scale
from invitro.training.loggers import NoLogger, RunInfo
from invitro.training.prepare import Prepared, prepare
from invitro.training.recipe import Fit, Place, Recipe, Result
from invitro.training.run import train

SCALE = Scale("batson_empathy", "empathy", (Item("warm", "warm"),), 1, 7)
COLUMNS: dict[str, str | None] = {"text_id": "id", "text": "essay", "group_id": "author", "crowd_label": "empathy"}
NONE, CORRECTION = Application("none", False, False), Application("correction", True, False)
AUGMENTATION, BOTH = Application("augmentation", False, True), Application("both", True, True)
FROM_COLUMN = LabelSource("gpt", column="gpt")


def material(csv: Path, application: Application = BOTH, alpha: float = 1.0, **changes: Any) -> Prepared:
    """Prepare `support.small_corpus`; `changes` replace arguments of `prepare`."""
    reader = TableFile(path=str(csv), columns=COLUMNS, split=Holdout(val=0.2, test=0.2), name="essays")
    settings: dict[str, Any] = {
        "reader": reader,
        "source": FROM_COLUMN,
        "prompt": "scale_aware",
        "folder": DataFolder(),
    }
    return prepare(scale=SCALE, application=application, alpha=alpha, **(settings | changes))


def divided(csv: Path, column: str) -> TableFile:
    """Return a reader that takes the split from a column of the file."""
    return TableFile(path=str(csv), columns=COLUMNS | {"split": column}, split=Published())


def recipe(plm: Any, seed: int = 0, train: str = "full", lr: float = 1e-3, **fit: Any) -> Recipe:
    """Return a recipe of two epochs on the CPU; `plm` is a folder or what the encoder's settings are."""
    course = {"epochs": 2, "start_epoch": 0, "patience": None} | fit
    trainer = partial(L.Trainer, accelerator="cpu", devices=1, enable_progress_bar=False, enable_model_summary=False)
    if isinstance(plm, Path):
        plm = PLM(str(plm), max_length=64, train=train)  # type: ignore[arg-type]
    return Recipe(plm, Fit(**course), partial(torch.optim.AdamW, lr=lr, fused=True), trainer, {}, seed)


def trained(prepared: Prepared, recipe: Recipe, directory: Path, logger: Any = None, **place: Any) -> Result:
    """Train, and leave the record in `directory`."""
    info = RunInfo(directory, "a run", {"seed": recipe.seed}, None, ())
    return train(prepared, recipe, Place(directory, **place), logger or NoLogger(), info)
