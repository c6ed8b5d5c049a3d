"""Linear models: their features, their files, and the settings of the baselines."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from invitro.errors import InputError
from invitro.models import PLM, EmbeddingRidge, TfIdfRidge
from invitro.models.features import FeatureCache
from invitro.models.linear import EmbeddingModel, TfIdfModel, read_linear
from invitro.models.loading import load_regressor, load_tokenizer

TEXTS = ["I cried", "I cried and cried", "news"]
CPU = torch.device("cpu")


def test_tf_idf_by_hand() -> None:
    model = TfIdfModel.of_texts(TEXTS, TfIdfRidge(ngrams=2, min_texts=2))
    assert model.vocabulary == ("cried", "i", "i cried")  # words of one letter count; one text is not enough
    idf = np.log(4 / 3) + 1  # log((1 + texts) / (1 + texts with the term)) + 1
    assert model.idf == pytest.approx([idf] * 3)
    rows = model.features(TEXTS).toarray()
    assert rows[0] == pytest.approx([3**-0.5] * 3)
    counts = np.array([1 + np.log(2), 1, 1])  # "cried" stands twice
    assert rows[1] == pytest.approx(counts / np.linalg.norm(counts))
    fitted = model.with_coefficients(np.array([1.0, 2.0, 0.0]), 3.0)
    assert fitted.score(TEXTS).score == pytest.approx([3 + 3 * 3**-0.5, 3 + (rows[1] @ [1, 2, 0]), 3.0])
    assert fitted.score(TEXTS).sd is None
    assert fitted.score([]).score.shape == (0,)


def test_texts_without_common_words_are_refused() -> None:
    with pytest.raises(InputError, match=r"plm=tfidf: no word stands in plm\.min_texts=2 of the 2 training texts"):
        TfIdfModel.of_texts(["one", "two"], TfIdfRidge())


def test_the_files_of_tf_idf_hold_no_code_and_give_the_same_scores(tmp_path: Path) -> None:
    model = TfIdfModel.of_texts(TEXTS, TfIdfRidge(ngrams=1)).with_coefficients(np.array([0.3, -1.7]), 4.25)
    model.write(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"vocabulary.json", "weights.safetensors"}
    assert json.loads((tmp_path / "vocabulary.json").read_text()) == ["cried", "i"]
    again = read_linear(tmp_path, model.meaning, CPU)
    assert (again.score(TEXTS).score == model.score(TEXTS).score).all()


@pytest.mark.parametrize("pooling", ["mean", "first"])
@pytest.mark.parametrize("plm", ["tiny_deberta", "tiny_roberta"])
def test_embeddings_are_the_cache_s_and_come_back_from_their_files(
    request: pytest.FixtureRequest, tmp_path: Path, plm: str, pooling: str
) -> None:
    settings = PLM(str(request.getfixturevalue(plm)), max_length=64)
    model, tokenizer = load_regressor(settings, 0.0).eval(), load_tokenizer(settings)
    cached = FeatureCache(tmp_path / "cache", model, tokenizer, pooling).features(TEXTS)
    with torch.inference_mode():  # one text at a time, so that nothing is padded
        alone = [model.base_model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0] for text in TEXTS]
    expected = torch.stack([hidden.mean(dim=0) if pooling == "mean" else hidden[0] for hidden in alone])
    torch.testing.assert_close(cached, expected, atol=1e-5, rtol=1e-4)
    fitted = EmbeddingModel(model, tokenizer, pooling, np.linspace(-1, 1, 32), 3.5)
    scores = fitted.score(TEXTS, batch_size=2).score
    assert scores == pytest.approx(cached.double().numpy() @ np.linspace(-1, 1, 32) + 3.5, abs=1e-4)
    (tmp_path / "model").mkdir()
    fitted.write(tmp_path / "model")
    again = read_linear(tmp_path / "model", fitted.meaning, CPU)
    assert again.score(TEXTS).score == pytest.approx(scores, abs=1e-5)
    assert not list((tmp_path / "model").rglob("*.bin"))


def test_features_of_another_pooling_have_a_folder_of_their_own(tiny_roberta: Path, tmp_path: Path) -> None:
    settings = PLM(str(tiny_roberta))
    model, tokenizer = load_regressor(settings, 0.0), load_tokenizer(settings)
    folders = [FeatureCache(tmp_path, model, tokenizer, *more).folder for more in ((), ("first",), ("mean",))]
    assert folders[0] == folders[1] != folders[2]


def test_a_damaged_or_unknown_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"not readable \(FileNotFoundError.*copy it anew"):
        read_linear(tmp_path, {"model": "tfidf_ridge", "ngrams": 2}, CPU)
    (tmp_path / "vocabulary.json").write_text('["a"]')
    (tmp_path / "weights.safetensors").write_bytes(b"none")
    with pytest.raises(InputError, match="not readable"):
        read_linear(tmp_path, {"model": "tfidf_ridge", "ngrams": 2}, CPU)
    with pytest.raises(InputError, match="expected transformers, tfidf_ridge or embedding_ridge, found 'forest'"):
        read_linear(tmp_path, {"model": "forest"}, CPU)


def test_settings_of_baselines_report_all_problems_at_once(tmp_path: Path) -> None:
    with pytest.raises(InputError) as refused:
        TfIdfRidge(ngrams=0, min_texts=True, penalties=[1, -1], folds=1)  # type: ignore[arg-type]
    assert len(refused.value.problems) == 4
    with pytest.raises(InputError) as refused:
        EmbeddingRidge("", max_length=1, pooling="last", penalties=[])  # type: ignore[arg-type]
    assert len(refused.value.problems) == 4
    with pytest.raises(InputError, match=r"plm\.name=.*/none/here: no such folder"):
        EmbeddingRidge(f"{tmp_path}/none/here")


def test_the_fingerprint_of_an_embedding_is_its_encoder_s(tiny_roberta: Path) -> None:
    settings = EmbeddingRidge(str(tiny_roberta))
    assert settings.fingerprint == PLM(str(tiny_roberta)).fingerprint
    assert settings.licence == "see the base model's own card"
