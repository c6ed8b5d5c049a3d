"""Runs that know about noise, in this process: every loss with its outputs, weights, selection, cleaning, baselines."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from short_runs import divided, material, recipe, trained
from support import small_corpus

from invitro.errors import InputError
from invitro.models import PLM, EmbeddingRidge, TfIdfRidge
from invitro.models.scoring import load_scorer
from invitro.training.module import Regressor
from invitro.training.prepare import Prepared
from invitro.training.run import fingerprint_of


@pytest.fixture
def prepared(corpus_csv: Path) -> Prepared:
    return material(corpus_csv)


def weighted(prepared: Prepared, weights: Any) -> Prepared:
    """Give the training labels weights, as an application may."""
    prepared.labels.table["weight"] = weights
    return prepared


def watch(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, Any]]:
    """Return a list to which every training step adds its epoch and its batch with the factors."""
    seen: list[tuple[int, Any]] = []
    original = Regressor.training_step

    def step(self: Regressor, batch: Any, batch_idx: int) -> Any:
        factor = None if self.factor is None else self.factor[batch["row"]].tolist()
        seen.append((self.current_epoch, {"row": batch["row"].tolist(), "factor": factor, "weight": batch["weight"]}))
        return original(self, batch, batch_idx)

    monkeypatch.setattr(Regressor, "training_step", step)
    return seen


@pytest.mark.parametrize(
    ("loss", "mode"), [("mae", "full"), ("nll", "full"), ("beta_nll", "lora"), ("ldl", "lora"), ("ldl", "full")]
)
def test_a_run_with_each_loss(prepared: Prepared, tiny_deberta: Path, tmp_path: Path, loss: str, mode: str) -> None:
    result = trained(prepared, recipe(tiny_deberta, train=mode, loss=loss), tmp_path / "run")
    predictions = pd.read_csv(tmp_path / "run" / "predictions.csv")
    assert ("uncertainty" in predictions) == (loss != "mae")
    scorer = load_scorer(tmp_path / "run" / "model")
    texts = prepared.corpus.table.set_index("text_id")["text"][result.predictions["text_id"]].tolist()
    scored = scorer.score(texts)
    assert scored.score == pytest.approx(predictions["prediction"], abs=1e-4)
    card = (tmp_path / "run" / "model" / "README.md").read_text("utf-8")
    assert scorer.outputs.sentence() in card
    if loss != "mae":
        assert scored.sd == pytest.approx(predictions["uncertainty"], abs=1e-4)
        assert list(predictions.columns)[:5] == ["text_id", "split", "crowd_label", "prediction", "uncertainty"]
        labels = prepared.labels.table["label"]
        assert predictions["uncertainty"].mean() == pytest.approx(labels.std(), rel=0.4)  # its first value
        assert predictions["prediction"].mean() == pytest.approx(labels.mean(), abs=0.6)
    assert {"nll": "mean", "beta_nll": "mean", "ldl": "distribution"}.get(loss, "score") == scorer.outputs.meaning()[
        "outputs"
    ][0]
    history = pd.read_csv(tmp_path / "run" / "history.csv")
    assert np.isfinite(history[["train_loss", "val_loss", "val_ccc"]]).all(axis=None)


@pytest.mark.parametrize("loss", ["nll", "ldl"])
def test_an_ordinary_library_loads_the_model(prepared: Prepared, tiny_roberta: Path, tmp_path: Path, loss: str) -> None:
    from transformers import AutoModelForSequenceClassification

    trained(prepared, recipe(tiny_roberta, loss=loss, bins=7), tmp_path)
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model")
    names = list(model.config.id2label.values())
    assert names[0] == {"nll": "empathy mean", "ldl": "empathy bin 1"}[loss]
    assert len(names) == model.num_labels == {"nll": 2, "ldl": 7}[loss]


@pytest.mark.parametrize(
    "fit",
    [
        {"loss": "nll"},
        pytest.param({"loss": "ldl"}, marks=pytest.mark.slow),
        pytest.param({"keep": 0.6, "select_from": 1}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_a_resumed_run_is_the_run_that_was_not_interrupted(
    prepared: Prepared, tiny_deberta: Path, tmp_path: Path, fit: dict[str, Any]
) -> None:
    plm = PLM(str(tiny_deberta), max_length=64, dropout=0.0)
    how = {"schedule": "constant", "warmup": 0.0, "checkpoint": "last"} | fit
    whole = trained(prepared, recipe(plm, epochs=4, **how), tmp_path / "whole", save_model=False)
    trained(prepared, recipe(plm, epochs=2, **how), tmp_path / "half", keep_checkpoints=True, save_model=False)
    last = tmp_path / "half" / "checkpoints" / "last.ckpt"
    resumed = trained(prepared, recipe(plm, epochs=4, **how), tmp_path / "rest", resume=last, save_model=False)
    assert resumed.predictions["prediction"].tolist() == pytest.approx(whole.predictions["prediction"], abs=1e-5)


def test_a_checkpoint_of_other_outputs_is_refused(prepared: Prepared, tiny_deberta: Path, tmp_path: Path) -> None:
    trained(prepared, recipe(tiny_deberta), tmp_path / "a", keep_checkpoints=True, save_model=False)
    last = tmp_path / "a" / "checkpoints" / "last.ckpt"
    with pytest.raises(InputError, match=r"resume=.*last\.ckpt: the checkpoint is from a run with another fit\.loss"):
        trained(prepared, recipe(tiny_deberta, loss="nll", epochs=3), tmp_path / "b", resume=last, save_model=False)


def test_weights_reach_the_batches_and_change_the_model(
    corpus_csv: Path, tiny_deberta: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = watch(monkeypatch)
    how = recipe(tiny_deberta, lr=1e-2)
    plain = trained(material(corpus_csv), how, tmp_path / "plain", save_model=False)
    assert all((batch["weight"] == 1).all() for _, batch in seen)
    same = trained(weighted(material(corpus_csv), 0.3), how, tmp_path / "same", save_model=False)
    assert same.predictions["prediction"].tolist() == plain.predictions["prediction"].tolist()
    seen.clear()
    table = material(corpus_csv).labels.table
    weights = np.where(table["label"] > 4, 1.0, 0.1)
    other = trained(weighted(material(corpus_csv), weights), how, tmp_path / "other", save_model=False)
    rows = [row for epoch, batch in seen if epoch == 0 for row in batch["row"]]
    reached = torch.cat([batch["weight"] for epoch, batch in seen if epoch == 0]).numpy()
    assert reached == pytest.approx((weights / weights.mean())[rows], rel=1e-6)
    assert other.predictions["prediction"].mean() > plain.predictions["prediction"].mean() + 0.2


def test_selection_learns_from_the_texts_of_smallest_loss(
    prepared: Prepared, tiny_deberta: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = watch(monkeypatch)
    how = recipe(tiny_deberta, epochs=3, lr=1e-5, keep=0.5, select_from=1)
    result = trained(prepared, how, tmp_path, save_model=False)
    labels = prepared.labels.table["label"]
    n = len(labels)
    assert result.metrics["train"]["kept"] == round(n / 2)
    for epoch in (0, 1, 2):
        factor = np.empty(n)
        for number, batch in seen:
            if number == epoch:
                factor[batch["row"]] = batch["factor"]
        if epoch == 0:
            assert (factor == 1).all()
            continue
        kept = factor > 0
        assert kept.sum() == round(n / 2)
        assert factor[kept] == pytest.approx(n / kept.sum())
        # So far the model predicts about the mean: the kept texts are near it.
        distance = (labels - labels.mean()).abs().to_numpy()
        assert distance[kept].mean() < 0.6 * distance[~kept].mean()


def test_cleaning_is_counted_and_recorded(prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("cleanlab", reason="the extra cleanlab is not installed")
    wrong = np.arange(len(prepared.labels.table)) % 5 == 0
    monkeypatch.setattr("invitro.training.prepare.label_issues", lambda *_: wrong)
    result = trained(prepared, recipe(TfIdfRidge(), clean="cleanlab"), tmp_path)
    assert result.metrics["train"]["cleaned"] == wrong.sum()
    assert result.metrics["train"]["size"] == (~wrong).sum() == len(pd.read_csv(tmp_path / "labels.csv"))
    assert result.metrics["fingerprint"] == fingerprint_of(prepared, recipe(TfIdfRidge(), clean="cleanlab"))
    assert result.metrics["fingerprint"] != fingerprint_of(prepared, recipe(TfIdfRidge()))


@pytest.mark.parametrize("baseline", ["tfidf", "ridge"])
def test_a_baseline_leaves_the_record_of_every_run(tiny_roberta: Path, tmp_path: Path, baseline: str) -> None:
    small_corpus(200, 50).to_csv(tmp_path / "essays.csv", index=False)
    prepared = material(tmp_path / "essays.csv")
    plm = TfIdfRidge() if baseline == "tfidf" else EmbeddingRidge(str(tiny_roberta), max_length=64)
    result = trained(prepared, recipe(plm), tmp_path / "run", cache=tmp_path / "cache")
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names == {
        "config.yaml", "metrics.json", "history.csv", "predictions.csv", "labels.csv", "model", "environment.json"
    }  # fmt: skip
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics == result.metrics
    assert {"size", "replaced", "augmented", "without_llm_label", "truncated", "epochs", "seconds"} <= set(
        metrics["train"]
    )
    assert metrics["test"]["pcc"] > (0.5 if baseline == "tfidf" else 0.1)
    history = pd.read_csv(tmp_path / "run" / "history.csv")
    assert history["val_ccc"].tolist() == pytest.approx([metrics["val"]["ccc"]])
    scorer = load_scorer(tmp_path / "run" / "model")
    texts = prepared.corpus.table.set_index("text_id")["text"][result.predictions["text_id"]].tolist()
    assert scorer.score(texts).score == pytest.approx(result.predictions["prediction"], abs=1e-4)
    assert scorer.scale.construct == "empathy"
    card = (tmp_path / "run" / "model" / "README.md").read_text("utf-8")
    assert "Ridge regression on" in card
    assert ("base_model" in card) == (baseline != "tfidf")
    again = trained(prepared, recipe(plm), tmp_path / "again", cache=tmp_path / "cache")
    assert again.predictions["prediction"].tolist() == result.predictions["prediction"].tolist()


def test_a_baseline_s_fingerprint_knows_no_epochs_and_no_seed(prepared: Prepared) -> None:
    first = fingerprint_of(prepared, recipe(TfIdfRidge()))
    assert first == fingerprint_of(prepared, recipe(TfIdfRidge(), seed=1, epochs=9, huber_delta=2.0))
    others = [recipe(TfIdfRidge(ngrams=1)), recipe(TfIdfRidge(ngrams=3)), recipe(TfIdfRidge(penalties=[1.0]))]
    fingerprints = {fingerprint_of(prepared, other) for other in others}
    assert len(fingerprints | {first}) == 4


def test_a_baseline_without_test_texts(corpus_csv: Path, tmp_path: Path) -> None:
    frame = pd.read_csv(corpus_csv)
    frame["where"] = ["train"] * 45 + ["val"] * 15
    frame.to_csv(corpus_csv, index=False)
    result = trained(material(corpus_csv, reader=divided(corpus_csv, "where")), recipe(TfIdfRidge()), tmp_path / "run")
    assert result.metrics["test"] is None
    assert set(result.predictions["split"]) == {"val"}
