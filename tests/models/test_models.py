"""Encoders with regression heads: loading, tokens, batches by length, features, the saved folder, scoring."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from invitro.errors import InputError
from invitro.models import PLM
from invitro.models.features import FeatureCache, check_head, head_modules
from invitro.models.folder import CardFacts, load_model, model_card, read_meaning, save_model
from invitro.models.loading import Loaded, load_regressor, load_tokenizer, output_layer
from invitro.models.outputs import Score
from invitro.models.scoring import load_scorer, score_texts
from invitro.models.tokens import length_batches, pad, random_batches, tokenise
from invitro.scales import Item, Scale

SCALE = Scale("batson_empathy", "empathy", (Item("warm", "warm"), Item("moved", "moved")), 1, 7, source="a source")
FACTS = CardFacts(
    "base",
    "MIT",
    "corpus",
    "CC BY 4.0",
    "Somebody 2018",
    "42 texts.",
    {"val": None, "test": {"pcc": 0.5, "ccc": 0.4, "rmse": 1.2}},
)
TEXTS = ["sad story", "i feel moved and warm and tender for this family", "news", "nothing " * 20]


@pytest.fixture(params=["tiny_deberta", "tiny_roberta"])
def plm(request: pytest.FixtureRequest) -> PLM:
    return PLM(str(request.getfixturevalue(request.param)), max_length=64)


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


def test_scores_do_not_depend_on_order_or_batch(plm: PLM) -> None:
    model, tokenizer = load_regressor(plm, bias=3), load_tokenizer(plm)
    alone = np.concatenate([score_texts(model, tokenizer, [text]).score for text in TEXTS])
    assert score_texts(model, tokenizer, TEXTS, batch_size=2).score == pytest.approx(alone, abs=1e-5)
    assert score_texts(model, tokenizer, TEXTS[::-1], batch_size=3).score[::-1] == pytest.approx(alone, abs=1e-5)
    assert score_texts(model, tokenizer, []).score.shape == (0,)


def test_long_texts_are_cut_and_counted(plm: PLM) -> None:
    tokenizer = load_tokenizer(PLM(plm.name, max_length=8))
    found = tokenise(tokenizer, TEXTS)
    assert max(len(ids) for ids in found.ids) == 8
    assert found.ids[3][-1] == tokenizer.sep_token_id
    assert found.truncated >= 1


def test_padding_is_what_the_tokenizer_would_do(plm: PLM) -> None:
    tokenizer = load_tokenizer(plm)
    expected = tokenizer(TEXTS, padding=True, truncation=True, return_tensors="pt")
    found = pad(tokenizer, tokenise(tokenizer, TEXTS).ids)
    for name in ("input_ids", "attention_mask"):
        torch.testing.assert_close(found[name], expected[name])


@given(st.lists(st.integers(1, 99), max_size=200), st.integers(1, 17), st.integers(0, 3))
def test_each_row_stands_in_one_batch(lengths: list[int], size: int, seed: int) -> None:
    for batches in (
        length_batches(lengths, size),
        length_batches(lengths, size, np.random.default_rng(seed)),
        random_batches(len(lengths), size, np.random.default_rng(seed)),
    ):
        assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
        assert len(batches) == -(-len(lengths) // size)
        assert all(len(batch) <= size for batch in batches)


def test_batches_by_length_waste_little() -> None:
    rng = np.random.default_rng(0)
    lengths = rng.integers(50, 200, 2000)

    def waste(batches: list[list[int]]) -> float:
        padded = sum(len(batch) * lengths[batch].max() for batch in batches)
        return float(1 - lengths.sum() / padded)

    assert waste(random_batches(2000, 16, rng)) > 0.3
    assert waste(length_batches(list(lengths), 16, rng)) < 0.03
    assert length_batches(list(lengths), 16, rng) != length_batches(list(lengths), 16, rng)


def test_features_are_computed_once_and_shared(plm: PLM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, tokenizer = load_regressor(plm, bias=3), load_tokenizer(plm)
    first = FeatureCache(tmp_path, model, tokenizer).features(TEXTS)
    again = FeatureCache(tmp_path, load_regressor(plm, bias=5), tokenizer)  # another head, the same encoder
    monkeypatch.setattr("invitro.models.features.embedded", lambda *_: pytest.fail("computed again"))
    torch.testing.assert_close(again.features(TEXTS[::-1]).flip(0), first, rtol=0, atol=0)
    assert first.shape == (4, 32)


def test_features_of_another_cut_are_others(plm: PLM, tmp_path: Path) -> None:
    model = load_regressor(plm, bias=3)
    folders = {FeatureCache(tmp_path, model, load_tokenizer(PLM(plm.name, max_length=n))).folder for n in (16, 32)}
    assert len(folders) == 2


def test_a_damaged_cache_file_is_replaced(plm: PLM, tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path, load_regressor(plm, bias=3), load_tokenizer(plm))
    first = cache.features(TEXTS)
    assert cache.folder is not None
    for file in cache.folder.iterdir():
        file.write_bytes(file.read_bytes()[:40])
    torch.testing.assert_close(cache.features(TEXTS), first)
    assert len(list(cache.folder.iterdir())) == 1


def test_the_head_on_features_is_the_model(plm: PLM) -> None:
    model, tokenizer = load_regressor(plm, bias=3), load_tokenizer(plm)
    check_head(model, tokenizer)
    trained = sum(p.numel() for module in head_modules(model) for p in module.parameters())
    assert trained == 32 * 32 + 32 + 32 + 1  # a dense layer and the output


def test_an_architecture_without_such_a_head_is_refused(tmp_path: Path, plm: PLM) -> None:
    from transformers import DistilBertConfig, DistilBertForSequenceClassification

    config = DistilBertConfig(vocab_size=300, dim=16, hidden_dim=16, n_layers=1, n_heads=2, num_labels=1)
    with pytest.raises(InputError, match=r"plm\.train=head: DistilBertForSequenceClassification"):
        check_head(DistilBertForSequenceClassification(config), load_tokenizer(plm))


def test_the_saved_folder_is_an_ordinary_model(plm: PLM, tmp_path: Path) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model, tokenizer = load_regressor(plm, bias=3.7), load_tokenizer(plm)
    save_model(tmp_path / "model", FACTS, Loaded(model, tokenizer), SCALE)
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model", dtype="auto")
    batch = AutoTokenizer.from_pretrained(tmp_path / "model")(TEXTS, padding=True, return_tensors="pt", truncation=True)
    batch.pop("token_type_ids", None)
    with torch.inference_mode():
        expected = plain.eval()(**batch).logits[:, 0].double().numpy()
    assert score_texts(*load_model(tmp_path / "model"), TEXTS).score == pytest.approx(expected, abs=1e-5)
    scorer, meaning = load_scorer(tmp_path / "model"), read_meaning(tmp_path / "model")
    assert scorer.score(TEXTS).score == pytest.approx(expected, abs=1e-5)
    assert scorer.scale == SCALE
    assert (meaning["minimum"], meaning["maximum"], meaning["outputs"]) == (1, 7, ["score"])
    assert meaning["scale"]["items"][1]["name"] == "moved"
    card = (tmp_path / "model" / "README.md").read_text("utf-8")
    for said in ("| test | 0.500 | 0.400 | 1.200 |", "CC BY 4.0", "Somebody 2018", "42 texts.", "MIT", "## Limits"):
        assert said in card
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_the_card_of_a_model_without_encoder_or_results() -> None:
    facts = CardFacts("", "", "corpus", "CC BY 4.0", "", "42 texts.", {"val": None, "test": None})
    card = model_card(SCALE, facts, Score(), "Made of words.")
    assert card.startswith(
        '---\nlibrary_name: transformers\npipeline_tag: text-classification\ntags: [regression, "emp'
    )
    assert "from 1 to 7." in card
    assert "\nMade of words. One output: the score.\n" in card
    assert "\n\nNot measured.\n\n" in card
    assert "\nCorpus corpus (CC BY 4.0). 42 texts.\nScale: a source.\n" in card
    assert "\nWhat was learned from the corpus" in card


@pytest.mark.parametrize(
    ("made", "message"), [(False, "no such folder"), (True, "found no config.json and no scale.json")]
)
def test_a_folder_that_is_no_model_is_refused(tmp_path: Path, made: bool, message: str) -> None:
    folder = tmp_path / "run"
    if made:
        folder.mkdir()
        folder.joinpath("model").mkdir()
        message += ".*did you mean model="
    with pytest.raises(InputError, match=message):
        load_model(folder)


def test_a_model_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(
        InputError, match=r"PLM nobody/has-this: cannot be loaded .* name a folder that holds it by plm\.name="
    ):
        load_regressor(PLM("nobody/has-this"), bias=0)


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "roberta"}))
    with pytest.raises(InputError, match="Check that this folder was saved by save_pretrained"):
        load_regressor(PLM(str(tmp_path)), bias=0)


def test_settings_report_all_problems_at_once() -> None:
    with pytest.raises(InputError) as refused:
        PLM("", train="half", max_length=1, dropout=1.5, lr=0)  # type: ignore[arg-type]
    assert len(refused.value.problems) == 5


def test_the_fingerprint_of_a_folder_is_its_content(tiny_roberta: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(tiny_roberta, tmp_path / "copy")
    assert PLM(str(tmp_path / "copy")).fingerprint == PLM(str(tiny_roberta)).fingerprint
    (tmp_path / "copy" / "model.safetensors").write_bytes(b"other")
    assert PLM(str(tmp_path / "copy")).fingerprint != PLM(str(tiny_roberta)).fingerprint
    assert PLM("org/name", revision="abc").fingerprint == "org/name@abc"
