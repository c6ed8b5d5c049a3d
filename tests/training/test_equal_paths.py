"""The fast path against the plain one: the same losses step by step where batches are the same, and metrics within
seed noise where they are not.
"""

from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from support import small_corpus

from invitro.application import Application
from invitro.data import DataFolder, Holdout, TableFile
from invitro.labels import LabelSource
from invitro.models import PLM
from invitro.models.loading import load_regressor, load_tokenizer
from invitro.scales import Item, Scale
from invitro.training import Fit, Prepared, prepare
from invitro.training.data import TextsDataModule, TokenInputs
from invitro.training.loggers import NoLogger, RunInfo
from invitro.training.module import Regressor, schedule_of
from invitro.training.recipe import Place, Recipe, Result
from invitro.training.run import train

SCALE = Scale("batson_empathy", "empathy", (Item("warm", "warm"),), 1, 7)
COLUMNS = {"text_id": "id", "text": "essay", "group_id": "author", "crowd_label": "empathy"}
LR, EPOCHS, LENGTH = 5e-3, 3, 64


def material(csv: Path) -> Prepared:
    reader = TableFile(path=str(csv), columns=COLUMNS, split=Holdout(val=0.2, test=0.2))
    source = LabelSource("gpt", column="gpt")
    return prepare(reader, SCALE, Application("none", False, False), 1.0, source, "scale_aware", DataFolder())


def run(prepared: Prepared, plm: PLM, folder: Path, seed: int = 0, lr: float = LR, **fit: Any) -> Result:
    """Train as ``train.py`` does: batches by length, fused AdamW, fused attention."""
    course = {"epochs": EPOCHS, "start_epoch": 0, "patience": None} | fit
    trainer = partial(L.Trainer, accelerator="cpu", devices=1, enable_progress_bar=False, enable_model_summary=False)
    how = Recipe(plm, Fit(**course), partial(torch.optim.AdamW, lr=lr, fused=True), trainer, {}, seed)
    info = RunInfo(folder, "name", {}, None, ())
    return train(prepared, how, Place(folder, save_model=False), NoLogger(), info)


def plain_losses(prepared: Prepared, plm: PLM, fit: Fit) -> list[float]:
    """Train as a textbook would: every text padded to full length, attention written out, AdamW tensor by tensor."""
    L.seed_everything(0, verbose=False)
    table = prepared.labels.table
    model, tokenizer = load_regressor(plm, float(table["label"].mean())).train(), load_tokenizer(plm)
    model.set_attn_implementation("eager")
    data = TextsDataModule(prepared, TokenInputs(tokenizer), fit, 0)
    data.setup("fit")
    batches = data.train_dataloader().batch_sampler
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR, foreach=False, fused=False)
    factor = schedule_of(fit, len(batches))  # type: ignore[arg-type]
    losses: list[float] = []
    for epoch in range(EPOCHS):
        batches.set_epoch(epoch)  # type: ignore[union-attr]
        for rows in batches:  # type: ignore[union-attr]
            texts = table["text"].iloc[rows].tolist()
            batch = tokenizer(texts, padding="max_length", truncation=True, max_length=LENGTH, return_tensors="pt")
            raw = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits[:, 0]
            loss = (raw - torch.tensor(table["label"].iloc[rows].to_numpy(dtype="float32"))).square().mean()
            for group in optimizer.param_groups:
                group["lr"] = LR * factor(len(losses))
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            losses.append(float(loss.detach()))
    return losses


@pytest.mark.parametrize("architecture", ["tiny_deberta", "tiny_roberta"])
def test_the_same_losses_step_by_step(
    corpus_csv: Path,
    architecture: str,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Without dropout, whose random numbers depend on the shapes of what they are drawn for.
    prepared = material(corpus_csv)
    plm = PLM(str(request.getfixturevalue(architecture)), max_length=LENGTH, dropout=0.0)
    losses: list[float] = []
    original = Regressor.training_step

    def watched(self: Regressor, batch: Any, batch_idx: int) -> Any:
        found = original(self, batch, batch_idx)
        losses.append(float(found["loss"].detach()))
        return found

    monkeypatch.setattr(Regressor, "training_step", watched)
    run(prepared, plm, tmp_path)
    expected = plain_losses(prepared, plm, Fit(epochs=EPOCHS))
    assert len(losses) >= 6
    np.testing.assert_allclose(losses, expected, rtol=1e-4)
    assert max(losses) - min(losses) > 0.01 * max(losses)


def test_batches_by_length_change_metrics_within_seed_noise(tiny_roberta: Path, tmp_path: Path) -> None:
    small_corpus(400, 100).to_csv(tmp_path / "large.csv", index=False)
    prepared, plm = material(tmp_path / "large.csv"), PLM(str(tiny_roberta), max_length=LENGTH)
    found = {
        batching: [
            run(prepared, plm, tmp_path / f"{batching}{seed}", seed, epochs=6, batching=batching).metrics["val"]["rmse"]
            for seed in range(4)
        ]
        for batching in ("length", "random")
    }
    by_length, at_random = (np.array(values) for values in found.values())
    noise = np.sqrt(by_length.var(ddof=1) + at_random.var(ddof=1))
    assert noise > 0
    assert abs(by_length.mean() - at_random.mean()) < 2 * noise
