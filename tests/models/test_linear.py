"""Linear models: their features, their fit and their files."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.sparse import csr_matrix
from support import small_corpus

from invitro.errors import InputError
from invitro.models import PLM, TfIdfRidge
from invitro.models.closed_form import (
    LinearModel,
    fitted_ridge,
    fitted_tfidf,
    load_linear,
    ridge_of,
    save_linear,
)
from invitro.models.features import FeatureCache, FrozenEncoder
from invitro.models.folder import CardFacts, read_meaning
from invitro.models.scoring import load_scorer
from invitro.scales import Item, Scale
from invitro.stats.moments import measure

TEXTS = ["I cried", "I cried and cried", "news"]
CPU = torch.device("cpu")
SCALE = Scale("batson_empathy", "empathy", (Item("warm", "warm"),), 1, 7)
FACTS = CardFacts("", "", "corpus", "terms", "", "")


def test_tf_idf_by_hand() -> None:
    counter = fitted_tfidf(TEXTS, TfIdfRidge(ngrams=2, min_texts=2))
    # Words of one letter count; one text is not enough.
    assert counter.get_feature_names_out().tolist() == ["cried", "i", "i cried"]
    idf = np.log(4 / 3) + 1  # log((1 + texts) / (1 + texts with the term)) + 1
    assert counter.idf_ == pytest.approx([idf] * 3)
    rows = counter.transform(TEXTS).toarray()
    assert rows[0] == pytest.approx([3**-0.5] * 3)
    counts = np.array([1 + np.log(2), 1, 1])  # "cried" occurs twice
    assert rows[1] == pytest.approx(counts / np.linalg.norm(counts))
    model = LinearModel(counter, ridge_of(np.array([1.0, 2.0, 0.0]), 3.0))
    assert model.read(TEXTS)[0].score == pytest.approx([3 + 3 * 3**-0.5, 3 + (rows[1] @ [1, 2, 0]), 3.0])
    assert model.read([])[0].score.shape == (0,)


def test_texts_without_common_words_are_refused() -> None:
    with pytest.raises(InputError, match=r"plm=tfidf: no word occurs in plm\.min_texts=2 of the 2 training texts"):
        fitted_tfidf(["one", "two"], TfIdfRidge())


@pytest.mark.parametrize(
    ("weighted", "intercept", "scores", "metrics"),
    [
        (False, 4.131638, [1.897216, 4.199349, 1.718630, 4.963611], (0.835962, 0.707058, 1.337502)),
        (True, 4.163328, [1.852631, 4.141385, 1.715665, 4.879593], (0.841387, 0.705415, 1.341837)),
    ],
)
def test_figures_of_tf_idf_are_those_of_earlier_versions(
    weighted: bool, intercept: float, scores: list[float], metrics: tuple[float, ...]
) -> None:
    corpus = small_corpus(200, 50)
    texts, labels, authors = corpus["essay"].tolist(), corpus["empathy"].to_numpy(), corpus["author"].to_numpy()
    weights = np.random.default_rng(3).uniform(0.3, 1, 200) if weighted else np.ones(200)
    counter = fitted_tfidf(texts[:150], TfIdfRidge())
    weights, features = (weights / weights.mean())[:150], counter.transform(texts[:150])
    ridge = fitted_ridge(features, labels[:150], weights, authors[:150], TfIdfRidge())
    predicted = LinearModel(counter, ridge).read(texts[150:])[0].score
    assert ridge.intercept_ == pytest.approx(intercept, abs=1e-4)
    assert predicted[:4] == pytest.approx(scores, abs=1e-4)
    measured = measure(predicted, labels[150:])
    assert [measured[name] for name in ("pcc", "ccc", "rmse")] == pytest.approx(metrics, abs=1e-4)


@pytest.mark.parametrize("dense", [True, False])
def test_ridge_solves_the_normal_equations_with_weights(dense: bool) -> None:
    rng = np.random.default_rng(0)
    x, weights = rng.normal(size=(60, 4)) * [1, 2, 3, 4], rng.uniform(0.2, 2, 60)
    y = x @ [1, 0, -1, 0.5] + 3 + rng.normal(size=60)
    settings = TfIdfRidge(penalties=(0.5, 500.0), folds=3)
    ridge = fitted_ridge(x if dense else csr_matrix(x), y, weights, np.arange(60) // 2, settings)
    mean = np.average(x, axis=0, weights=weights)
    sd = np.sqrt(np.average((x - mean) ** 2, axis=0, weights=weights)) if dense else np.ones(4)
    z = (x - mean) / sd
    right = z.T @ (weights * (y - np.average(y, weights=weights)))
    expected = np.linalg.solve(z.T @ (weights[:, None] * z) + 0.5 * np.eye(4), right) / sd
    assert ridge.coef_ == pytest.approx(expected, rel=1e-4)
    assert ridge.intercept_ == pytest.approx(np.average(y, weights=weights) - mean @ expected, rel=1e-4)


def test_ridge_ignores_a_text_without_weight() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(40, 3)), rng.normal(size=40)
    weights = np.where(np.arange(40) < 30, 1.0, 0.0)
    settings = TfIdfRidge(penalties=(1.0,), folds=2)
    whole = fitted_ridge(x, np.where(weights > 0, y, 99.0), weights, np.arange(40), settings)
    part = fitted_ridge(x[:30], y[:30], np.ones(30), np.arange(30), settings)
    assert whole.coef_ == pytest.approx(part.coef_)


def test_ridge_also_takes_a_single_author() -> None:
    x = np.arange(12.0).reshape(6, 2)
    ridge = fitted_ridge(x, x[:, 0], np.ones(6), ["me"] * 6, TfIdfRidge(penalties=(1e-6,), folds=2))
    assert ridge.predict(x) == pytest.approx(x[:, 0], abs=1e-3)


def test_the_files_of_tf_idf_hold_no_code_and_give_the_same_scores(tmp_path: Path) -> None:
    model = LinearModel(fitted_tfidf(TEXTS, TfIdfRidge(ngrams=1)), ridge_of(np.array([0.3, -1.7]), 4.25))
    folder = tmp_path / "model"
    save_linear(folder, FACTS, model, SCALE)
    names = {path.name for path in folder.iterdir()}
    assert names == {"vocabulary.json", "weights.safetensors", "scale.json", "README.md"}
    assert json.loads((folder / "vocabulary.json").read_text()) == ["cried", "i"]
    assert "TF-IDF of 2 words and sequences of up to 1 words" in (folder / "README.md").read_text("utf-8")
    again = load_linear(folder, read_meaning(folder), CPU)
    assert (again.read(TEXTS)[0].score == model.read(TEXTS)[0].score).all()


def test_embeddings_are_the_last_layer_s_and_come_back_from_their_files(plm: PLM, tmp_path: Path) -> None:
    encoder = FrozenEncoder(plm)
    last = FeatureCache(tmp_path / "cache", encoder).features(TEXTS).features[:, -1]
    model = LinearModel(encoder, ridge_of(np.linspace(-1, 1, 32), 3.5))
    scores = model.read(TEXTS, batch_size=2)[0].score
    assert scores == pytest.approx(last @ np.linspace(-1, 1, 32) + 3.5, abs=1e-4)
    save_linear(tmp_path / "model", FACTS, model, SCALE)
    again = load_linear(tmp_path / "model", read_meaning(tmp_path / "model"), CPU)
    assert again.read(TEXTS)[0].score == pytest.approx(scores, abs=1e-5)
    assert not list((tmp_path / "model").rglob("*.bin"))


def test_a_damaged_model_without_hashes_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    save_linear(folder, FACTS, LinearModel(fitted_tfidf(TEXTS, TfIdfRidge()), ridge_of(np.ones(2), 4.0)), SCALE)
    meaning = read_meaning(folder)
    older = {name: value for name, value in meaning.items() if name not in ("files", "checksum")}
    (folder / "scale.json").write_text(json.dumps(older))
    (folder / "weights.safetensors").write_bytes(b"none")
    with pytest.raises(InputError, match=r"cannot be loaded \(SafetensorError\); is it damaged\? copy the folder"):
        load_scorer(folder)
    (folder / "weights.safetensors").unlink()
    with pytest.raises(InputError, match=r"cannot be loaded \(FileNotFoundError\)"):
        load_scorer(folder)
