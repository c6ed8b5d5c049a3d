"""Heads trained without Lightning's loop: the same numbers as with it, and Lightning's loop where that is needed."""

import logging
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pandas as pd
import pytest
import torch

from invitro.application import Application
from invitro.data import DataFolder, Holdout, TableFile
from invitro.labels import LabelSource
from invitro.models import PLM
from invitro.scales import Item, Scale
from invitro.training import Fit, Prepared, prepare
from invitro.training.loggers import CSV, NoLogger, RunInfo
from invitro.training.recipe import Place, Recipe, Result
from invitro.training.run import fingerprint_of, train

SCALE = Scale("batson_empathy", "empathy", (Item("warm", "warm"),), 1, 7)
COLUMNS = {"text_id": "id", "text": "essay", "group_id": "author", "crowd_label": "empathy"}
FITS: dict[str, dict[str, Any]] = {
    "constant, last weights": {"schedule": "constant", "checkpoint": "last", "patience": None, "clip": None},
    "stopped early": {"epochs": 30, "start_epoch": 1, "patience": 1},
    "short schedule": {"schedule_epochs": 2, "warmup": 0.3, "patience": None},
    "random batches": {"batching": "random", "batch_size": 7, "eval_batch_size": 5},
    "ccc": {"loss": "ccc"},
    "huber": {"loss": "huber"},
    "nll": {"loss": "nll"},
    "ldl": {"loss": "ldl"},
}


@pytest.fixture
def prepared(corpus_csv: Path) -> Prepared:
    return material(corpus_csv, Application("both", True, True))


def material(csv: Path, application: Application) -> Prepared:
    reader = TableFile(path=str(csv), columns=COLUMNS, split=Holdout(val=0.2, test=0.2))
    source = LabelSource("gpt", column="gpt")
    return prepare(reader, SCALE, application, 1.0, source, "scale_aware", DataFolder())


def recipe(plm: Path, trainer: dict[str, Any] | None = None, **fit: Any) -> Recipe:
    course = {"epochs": 6, "start_epoch": 0, "patience": None} | fit
    options = {"accelerator": "cpu", "devices": 1, "enable_progress_bar": False} | (trainer or {})
    encoder = PLM(str(plm), max_length=64, train="head", dropout=0.2)
    return Recipe(encoder, Fit(**course), partial(torch.optim.AdamW, lr=1e-2), partial(L.Trainer, **options), {}, 3)


def run(prepared: Prepared, how: Recipe, folder: Path, logger: Any = None, **place: Any) -> Result:
    info = RunInfo(folder, "name", {}, None, ())
    return train(prepared, how, Place(folder, save_model=False, **place), logger or NoLogger(), info)


def lightning_of(how: Recipe) -> Recipe:
    return replace(how, fit=replace(how.fit, loop="lightning"))


@pytest.mark.parametrize("name", FITS)
@pytest.mark.parametrize("architecture", ["tiny_deberta", "tiny_roberta"])
def test_the_same_numbers_epoch_by_epoch(
    prepared: Prepared, name: str, architecture: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    how = recipe(request.getfixturevalue(architecture), **FITS[name])
    plain, slow = run(prepared, how, tmp_path / "plain"), run(prepared, lightning_of(how), tmp_path / "lightning")

    tables = [pd.read_csv(tmp_path / loop / "history.csv") for loop in ("plain", "lightning")]
    assert list(tables[0]) == list(tables[1])
    assert len(tables[0]) == len(tables[1])
    for column in tables[0].columns.drop("seconds"):
        np.testing.assert_allclose(tables[0][column], tables[1][column], rtol=1e-5, atol=1e-6, err_msg=column)
    numbers = [column for column in ("prediction", "uncertainty") if column in plain.predictions]
    np.testing.assert_allclose(plain.predictions[numbers], slow.predictions[numbers], rtol=1e-5, atol=1e-5)
    assert plain.metrics["train"]["epochs"] == slow.metrics["train"]["epochs"]
    assert plain.metrics["fingerprint"] == slow.metrics["fingerprint"]
    if name == "stopped early":
        assert len(tables[0]) < how.fit.epochs


def test_weights_of_texts_count(corpus_csv: Path, tiny_deberta: Path, tmp_path: Path) -> None:
    weighed = material(corpus_csv, Application("weight", True, False, policy="weight"))
    assert weighed.labels.table["weight"].nunique() > 2
    how = recipe(tiny_deberta)
    plain, slow = run(weighed, how, tmp_path / "plain"), run(weighed, lightning_of(how), tmp_path / "lightning")
    np.testing.assert_allclose(plain.predictions["prediction"], slow.predictions["prediction"], rtol=1e-5, atol=1e-5)


def test_curves_reach_the_logger(prepared: Prepared, tiny_deberta: Path, tmp_path: Path) -> None:
    how = recipe(tiny_deberta)
    run(prepared, how, tmp_path / "plain", CSV())
    run(prepared, lightning_of(how), tmp_path / "lightning", CSV())
    plain, slow = (pd.read_csv(tmp_path / loop / "logs/metrics.csv") for loop in ("plain", "lightning"))
    for column in ("train_loss", "val_ccc", "val_pcc", "val_rmse", "val_loss"):
        left, right = (table.dropna(subset=[column])[["epoch", "step", column]] for table in (plain, slow))
        np.testing.assert_allclose(left, right, rtol=1e-4, atol=1e-5, err_msg=column)


@pytest.mark.parametrize(
    ("trainer", "fit", "place", "reason"),
    [
        ({"limit_train_batches": 2}, {}, {}, "trainer.limit_train_batches=2"),
        ({"precision": "bf16-mixed"}, {}, {}, "trainer.precision=bf16-mixed"),
        ({}, {"keep": 0.5}, {}, "fit.keep"),
        ({}, {}, {"keep_checkpoints": True}, "keep_checkpoints"),
        ({}, {"loop": "lightning"}, {}, "fit.loop=lightning"),
        ({}, {}, {}, None),
    ],
)
def test_lightning_where_it_is_needed(
    prepared: Prepared,
    tiny_deberta: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    trainer: dict[str, Any],
    fit: dict[str, Any],
    place: dict[str, Any],
    reason: str | None,
) -> None:
    fitted = []
    original = L.Trainer.fit
    monkeypatch.setattr(L.Trainer, "fit", lambda *args, **kwargs: fitted.append(1) or original(*args, **kwargs))
    with caplog.at_level(logging.INFO):
        run(prepared, recipe(tiny_deberta, trainer, **fit), tmp_path, **place)
    assert bool(fitted) == (reason is not None)
    told = [record.getMessage() for record in caplog.records if "Lightning's loop" in record.getMessage()]
    assert len(told) == (reason is not None)
    assert all(message.endswith(f"because of {reason}") for message in told)


def test_the_loop_is_no_part_of_the_fingerprint(prepared: Prepared, tiny_deberta: Path) -> None:
    how = recipe(tiny_deberta)
    assert fingerprint_of(prepared, how) == fingerprint_of(prepared, lightning_of(how))
