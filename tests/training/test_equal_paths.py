"""The fast path against the plain one: the same losses step by step if batches are the same, and metrics within
seed noise where they are not.
"""

from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from short_runs import NONE, material, recipe, trained
from support import small_corpus

from invitro.models import PLM
from invitro.models.encoder import load_regressor, load_tokenizer
from invitro.training.data import TextsDataModule
from invitro.training.module import Regressor, schedule_of
from invitro.training.prepare import Prepared
from invitro.training.recipe import Fit

LR, EPOCHS, LENGTH = 5e-3, 3, 64


def plain_losses(prepared: Prepared, plm: PLM, fit: Fit) -> list[float]:
    """Train as a textbook would: every text padded to full length, attention written out, AdamW tensor by tensor."""
    L.seed_everything(0, verbose=False)
    table = prepared.labels.table
    model, tokenizer = load_regressor(plm, float(table["label"].mean())).train(), load_tokenizer(plm)
    model.set_attn_implementation("eager")
    data = TextsDataModule(prepared, tokenizer, fit, 0)
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
    # Without dropout, whose random numbers depend on the shapes of tensors.
    prepared = material(corpus_csv, NONE)
    plm = PLM(str(request.getfixturevalue(architecture)), max_length=LENGTH, dropout=0.0)
    losses: list[float] = []
    original = Regressor.training_step

    def watched(self: Regressor, batch: Any, batch_idx: int) -> Any:
        step = original(self, batch, batch_idx)
        losses.append(float(step["loss"].detach()))
        return step

    monkeypatch.setattr(Regressor, "training_step", watched)
    trained(prepared, recipe(plm, lr=LR, epochs=EPOCHS), tmp_path, save_model=False)
    expected = plain_losses(prepared, plm, Fit(epochs=EPOCHS))
    assert len(losses) >= 6
    np.testing.assert_allclose(losses, expected, rtol=1e-4)
    assert max(losses) - min(losses) > 0.01 * max(losses)


@pytest.mark.slow
def test_batches_by_length_change_metrics_within_seed_noise(tiny_roberta: Path, tmp_path: Path) -> None:
    small_corpus(200, 50).to_csv(tmp_path / "large.csv", index=False)
    prepared = material(tmp_path / "large.csv", NONE)

    def rmse(seed: int, batching: str) -> float:
        how = recipe(tiny_roberta, seed, lr=LR, epochs=4, batching=batching)
        result = trained(prepared, how, tmp_path / f"{batching}{seed}", save_model=False)
        return float(result.metrics["val"]["rmse"])

    errors = {batching: [rmse(seed, batching) for seed in range(3)] for batching in ("length", "random")}
    by_length, at_random = (np.array(values) for values in errors.values())
    noise = np.sqrt(by_length.var(ddof=1) + at_random.var(ddof=1))
    assert noise > 0
    assert abs(by_length.mean() - at_random.mean()) < 2 * noise
