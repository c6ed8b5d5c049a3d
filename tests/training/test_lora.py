"""Adapters: which weights are trained and in checkpoints, and that the exported model is an ordinary one."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from short_runs import material, recipe, trained
from transformers import AutoModelForSequenceClassification

from invitro.errors import InputError
from invitro.models import PLM
from invitro.models.encoder import add_adapters, load_regressor, load_tokenizer
from invitro.models.folder import load_model
from invitro.models.scoring import score_texts
from invitro.training.prepare import Prepared
from invitro.training.recipe import Recipe
from invitro.training.run import fingerprint_of

TEXTS = ["the news made me sad", "i do not care about this at all and would rather read something else"]


@pytest.fixture
def prepared(corpus_csv: Path) -> Prepared:
    return material(corpus_csv)


def adapted(plm: Path, train: str = "lora", rank: int = 4, **fit: Any) -> Recipe:
    encoder = PLM(str(plm), max_length=64, train=train, lora_rank=rank)  # type: ignore[arg-type]
    return recipe(encoder, seed=3, lr=1e-2, **({"epochs": 3} | fit))


@pytest.mark.parametrize("architecture", ["tiny_deberta", "tiny_roberta"])
def test_the_exported_model_is_an_ordinary_one_with_the_learned_weights(
    prepared: Prepared, architecture: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    encoder = request.getfixturevalue(architecture)
    result = trained(prepared, adapted(encoder), tmp_path)
    model, tokenizer = load_model(tmp_path / "model")
    texts = prepared.corpus.table.set_index("text_id")["text"][result.predictions["text_id"]].tolist()
    assert score_texts(model, tokenizer, texts).score == pytest.approx(result.predictions["prediction"], abs=1e-5)

    names = {path.name for path in (tmp_path / "model").iterdir()}
    assert not any("adapter" in name for name in names)
    learnt = load_file(tmp_path / "model/model.safetensors")
    fresh = AutoModelForSequenceClassification.from_pretrained(encoder, num_labels=1).state_dict()
    assert learnt.keys() == fresh.keys()
    prefix = f"{model.base_model_prefix}."
    changed = {name for name in learnt if name.startswith(prefix) and not torch.equal(learnt[name], fresh[name])}
    assert changed
    assert all("dense" in name or "query" in name or "key" in name or "value" in name for name in changed)
    assert not any("embeddings" in name for name in changed)


def test_adapters_start_where_the_model_is(tiny_deberta: Path) -> None:
    plm = PLM(str(tiny_deberta), train="lora", lora_rank=4)
    model, tokenizer = load_regressor(plm, 3.5).eval(), load_tokenizer(plm)
    before = score_texts(model, tokenizer, TEXTS).score
    adapters = add_adapters(model, plm)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert score_texts(model, tokenizer, TEXTS).score == pytest.approx(before, abs=1e-6)
    assert {name.split(".")[0] for name in trained} == {"pooler", "classifier", model.base_model_prefix}
    assert all("lora_" in name for name in trained if name.startswith(model.base_model_prefix))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    moved = score_texts(model, tokenizer, TEXTS).score
    assert moved != pytest.approx(before, abs=1e-3)
    adapters.merge_and_unload()
    assert score_texts(model, tokenizer, TEXTS).score == pytest.approx(moved, abs=1e-5)
    assert not any("lora_" in name for name, _ in model.named_parameters())


def test_a_checkpoint_has_the_trained_weights_and_can_be_continued(
    prepared: Prepared, tiny_deberta: Path, tmp_path: Path
) -> None:
    def rows(name: str) -> pd.DataFrame:
        return pd.read_csv(tmp_path / name / "history.csv").drop(columns="seconds")

    constant = {"schedule": "constant", "warmup": 0.0}
    trained(
        prepared, adapted(tiny_deberta, epochs=2, **constant), tmp_path / "a", keep_checkpoints=True, save_model=False
    )
    last = tmp_path / "a" / "checkpoints" / "last.ckpt"
    names = torch.load(last, weights_only=True)["state_dict"]
    assert all("lora_" in name or not name.startswith("model.deberta") for name in names)
    trained(prepared, adapted(tiny_deberta, epochs=3, **constant), tmp_path / "b", resume=last, save_model=False)
    assert rows("b")["step"].tolist() == [3, 6, 9]
    with pytest.raises(InputError, match=r"with another encoder or plm\.train"):
        trained(prepared, adapted(tiny_deberta, "full", epochs=3), tmp_path / "c", resume=last)


def test_adapters_count_in_the_fingerprint_if_there_are_any(prepared: Prepared, tiny_deberta: Path) -> None:
    def found(train: str, rank: int) -> str:
        return fingerprint_of(prepared, adapted(tiny_deberta, train, rank))

    assert found("lora", 4) != found("lora", 8)
    assert found("full", 4) == found("full", 8)
    assert len({found(train, 4) for train in ("full", "lora", "frozen")}) == 3


def test_what_is_refused(tiny_deberta: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for settings, message in (
        ({"lora_rank": 0}, "plm.lora_rank: expected a whole number of at least 1, found 0"),
        ({"lora_alpha": 0}, "plm.lora_alpha: expected a whole number of at least 1, found 0"),
        ({"train": "adapter"}, "plm.train: expected full, lora, frozen or head, found 'adapter'"),
    ):
        with pytest.raises(InputError, match=message):
            replace(PLM(str(tiny_deberta)), **settings)
    monkeypatch.setattr("invitro.models.settings.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"plm.train=lora: .* pip install .invitro\[lora\]."):
        PLM(str(tiny_deberta), train="lora")
    assert PLM(str(tiny_deberta)).train == "full"
