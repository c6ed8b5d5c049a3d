"""Encoders with a regression head: loading, first outputs, dropout, and what cannot be loaded."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from transformers import AutoModelForSequenceClassification

from invitro.errors import InputError
from invitro.models import PLM
from invitro.models.encoder import check_available, load_encoder, load_regressor, load_tokenizer, output_layer, tokenise
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


def test_an_encoder_can_be_cut(plm: PLM, tmp_path: Path) -> None:
    whole, cut = load_regressor(plm, 4.0), load_regressor(replace(plm, layers=1), 4.0)
    assert (whole.config.num_hidden_layers, cut.config.num_hidden_layers) == (2, 1)
    first = {name: weights for name, weights in whole.base_model.state_dict().items() if ".layer.1." not in name}
    assert cut.base_model.state_dict().keys() == first.keys()
    torch.testing.assert_close(cut.base_model.state_dict(), first)
    cut.save_pretrained(tmp_path)
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    torch.testing.assert_close(again.state_dict(), cut.state_dict())
    with pytest.raises(InputError, match=r"plm.layers: expected at most .*'s 2, found 3"):
        load_regressor(replace(plm, layers=3), 4.0)


def test_a_head_on_a_mixture_of_layers(plm: PLM, tmp_path: Path) -> None:
    mixed = replace(plm, pooling="mixture")
    model, (encoder, tokenizer) = load_regressor(mixed, [3.7, 0.5]).eval(), load_encoder(plm)
    batch = tokenizer(TEXTS[:2], padding=True, return_tensors="pt")
    with torch.no_grad():
        model.mixture.copy_(torch.tensor([0.3, -1.0, 2.0]))
        got = model(batch["input_ids"], batch["attention_mask"]).logits
        states = encoder.eval()(**batch, output_hidden_states=True).hidden_states
        mask = batch["attention_mask"][..., None]
        normal = [
            (one - one.mean(-1, keepdim=True)) / (one.var(-1, keepdim=True, correction=0) + 1e-5).sqrt()
            for one in states
        ]
        means = torch.stack([(one * mask).sum(1) / mask.sum(1) for one in normal])
        expected = model.classifier((torch.tensor([0.3, -1.0, 2.0]).softmax(0)[:, None, None] * means).sum(0))
    torch.testing.assert_close(got, expected)
    assert output_layer(model).bias.tolist() == pytest.approx([3.7, 0.5])
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    saved = PLM(str(tmp_path))
    again = load_regressor(saved, None).eval()
    torch.testing.assert_close(again(batch["input_ids"], batch["attention_mask"]).logits.detach(), got)
    assert load_tokenizer(saved).model_max_length == load_tokenizer(plm).model_max_length
    assert plm.name not in (tmp_path / "config.json").read_text(), "no path of this machine"
    assert len(load_regressor(replace(mixed, layers=1), 0.0).mixture) == 2
    with pytest.raises(InputError, match=r"plm.pooling=mixture: with plm.train=frozen layers are chosen"):
        replace(mixed, train="frozen")


def test_attention_dropout_can_be_set_alone(plm: PLM) -> None:
    model = load_regressor(PLM(plm.name, attention_dropout=0.0), bias=0)
    assert model.config.attention_probs_dropout_prob == 0.0
    assert model.config.hidden_dropout_prob > 0
    both = load_regressor(PLM(plm.name, dropout=0.2, attention_dropout=0.0), bias=0)
    assert (both.config.hidden_dropout_prob, both.config.attention_probs_dropout_prob) == (0.2, 0.0)


def test_a_model_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(
        InputError, match=r"PLM nobody/has-this: not found\. .* name a folder that holds it with plm\.name="
    ):
        load_regressor(PLM("nobody/has-this"), bias=0)


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "roberta"}))
    with pytest.raises(InputError, match="Check that this folder was saved by save_pretrained"):
        load_regressor(PLM(str(tmp_path)), bias=0)


SMALL = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64, "pad_token_id": 1,
    "max_position_embeddings": 66,
}  # fmt: skip


@pytest.fixture
def tokens(tiny_roberta: Path) -> Any:
    """Return the tokenizer that the encoders made here have."""
    return transformers.AutoTokenizer.from_pretrained(tiny_roberta)


def saved(folder: Path, model: Any, tokens: Any) -> PLM:
    """Return the settings of an encoder in a folder of its own."""
    model.save_pretrained(folder)
    tokens.save_pretrained(folder)
    return PLM(str(folder), max_length=512)


@pytest.mark.parametrize(
    ("kind", "settings", "limit"),
    [
        ("Bert", {}, 66),
        ("Camembert", {}, 64),
        ("Data2VecText", {}, 64),
        ("Esm", {"mask_token_id": 4, "position_embedding_type": "absolute", "token_dropout": False}, 64),
        ("IBert", {}, 64),
        ("RobertaPreLayerNorm", {}, 64),
        ("XLNet", {"d_model": 32, "n_layer": 2, "n_head": 2, "d_inner": 64}, 512),
    ],
)
def test_positions_never_run_out(tokens: Any, tmp_path: Path, kind: str, settings: dict[str, Any], limit: int) -> None:
    small = {name: value for name, value in SMALL.items() if kind != "XLNet" or name == "pad_token_id"} | settings
    config = getattr(transformers, f"{kind}Config")(vocab_size=len(tokens), **small)
    plm = saved(tmp_path, getattr(transformers, f"{kind}Model")(config), tokens)
    tokenizer = load_tokenizer(plm)
    assert len(tokenise(tokenizer, ["x" * 600]).ids[0]) == limit
    assert score_texts(load_regressor(plm, bias=3.7), tokenizer, ["x" * 600]).score == pytest.approx([3.7], abs=0.5)


def test_a_tokenizer_larger_than_the_embedding_is_refused(tokens: Any, tmp_path: Path) -> None:
    config = transformers.RobertaConfig(vocab_size=len(tokens), **SMALL)
    tokens.add_tokens(["zzz"])
    plm = saved(tmp_path, transformers.RobertaModel(config), tokens)
    with pytest.raises(
        InputError, match=rf"{tmp_path}: its tokenizer has 1 tokens without an embedding, such as 'zzz'"
    ):
        load_tokenizer(plm)


def test_a_float16_folder_is_refused_and_its_copy_in_float32_is_not(tokens: Any, tmp_path: Path) -> None:
    model = transformers.RobertaModel(transformers.RobertaConfig(vocab_size=len(tokens), **SMALL))
    plm = saved(tmp_path, model.half(), tokens)
    for load in (check_available, load_encoder, lambda plm: load_regressor(plm, bias=3.7)):
        with pytest.raises(InputError, match=rf"PLM {tmp_path}: config.json says .* float16.* plm.name=COPY"):
            load(plm)
    plm = saved(tmp_path, transformers.AutoModel.from_pretrained(tmp_path, dtype=torch.float32), tokens)
    for loaded in (load_encoder(plm).model, load_regressor(plm, bias=3.7)):
        assert {parameter.dtype for parameter in loaded.parameters()} == {torch.float32}


def test_weights_that_are_not_finite_are_refused(tokens: Any, tmp_path: Path) -> None:
    model = transformers.RobertaModel(transformers.RobertaConfig(vocab_size=len(tokens), **SMALL))
    model.embeddings.word_embeddings.weight.data[7, 3] = torch.inf
    plm = saved(tmp_path, model, tokens)
    for load in (load_encoder, lambda plm: load_regressor(plm, bias=3.7)):
        with pytest.raises(InputError, match=rf"{tmp_path}: 1 of its tensors hold weights that are not finite"):
            load(plm)
