"""Encoders with a regression head: loading, first outputs, dropout, and what cannot be loaded."""

import json
from pathlib import Path

import pytest
import torch

from invitro.errors import InputError
from invitro.models import PLM
from invitro.models.encoder import load_regressor, load_tokenizer, output_layer
from invitro.models.scoring import score_texts

TEXTS = ["sad story", "i feel moved and warm and tender for this family", "news", "nothing " * 20]


def test_a_new_regressor_predicts_about_the_mean(plm: PLM) -> None:
    torch.manual_seed(0)
    model, tokenizer = load_regressor(plm, bias=3.7), load_tokenizer(plm)
    assert next(model.parameters()).dtype == torch.float32
    assert float(output_layer(model).bias.detach()[0]) == pytest.approx(3.7)
    assert score_texts(model, tokenizer, TEXTS).score == pytest.approx([3.7] * 4, abs=0.5)


def test_each_output_has_a_first_bias(plm: PLM) -> None:
    model = load_regressor(plm, bias=[3.7, 0.5, -1.0])
    assert output_layer(model).bias.tolist() == pytest.approx([3.7, 0.5, -1.0])
    assert model.config.num_labels == 3


def test_dropout_can_be_set(plm: PLM) -> None:
    model = load_regressor(PLM(plm.name, dropout=0.0), bias=0)
    assert {module.p for module in model.modules() if isinstance(module, torch.nn.Dropout)} == {0.0}


def test_attention_dropout_can_be_set_alone(plm: PLM) -> None:
    model = load_regressor(PLM(plm.name, attention_dropout=0.0), bias=0)
    assert model.config.attention_probs_dropout_prob == 0.0
    assert model.config.hidden_dropout_prob > 0
    both = load_regressor(PLM(plm.name, dropout=0.2, attention_dropout=0.0), bias=0)
    assert (both.config.hidden_dropout_prob, both.config.attention_probs_dropout_prob) == (0.2, 0.0)


def test_a_model_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(
        InputError, match=r"PLM nobody/has-this: cannot be loaded .* name a folder that holds it with plm\.name="
    ):
        load_regressor(PLM("nobody/has-this"), bias=0)


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "roberta"}))
    with pytest.raises(InputError, match="Check that this folder was saved by save_pretrained"):
        load_regressor(PLM(str(tmp_path)), bias=0)
