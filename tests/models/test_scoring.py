"""One way from a folder to scores."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from invitro.errors import InputError
from invitro.models import PLM, TfIdfRidge
from invitro.models.closed_form import LinearModel, fitted_tfidf, ridge_of, save_linear
from invitro.models.encoder import Loaded, load_regressor, load_tokenizer
from invitro.models.exact import Observed
from invitro.models.features import FrozenEncoder
from invitro.models.folder import CardFacts, sealed, text_hashes
from invitro.models.outputs import Score
from invitro.models.scoring import ScoredFile, Scorer, device_of, load_scorer, score_texts
from invitro.scales import Item, Scale
from invitro.training.run import FrozenTexts

SCALE = Scale("batson_empathy", "empathy", (Item("warm", "warm"),), 1, 7, source="a source")
FACTS = CardFacts("", "", "corpus", "terms", "", "")
TEXTS = ["sad story", "i feel moved and warm and tender for this family", "news", "nothing " * 20]


def test_scores_do_not_depend_on_order_or_batch(plm: PLM) -> None:
    model, tokenizer = load_regressor(plm, bias=3), load_tokenizer(plm)
    alone = np.concatenate([score_texts(model, tokenizer, [text]).score for text in TEXTS])
    assert score_texts(model, tokenizer, TEXTS, batch_size=2).score == pytest.approx(alone, abs=1e-5)
    assert score_texts(model, tokenizer, TEXTS[::-1], batch_size=3).score[::-1] == pytest.approx(alone, abs=1e-5)
    assert score_texts(model, tokenizer, []).score.shape == (0,)


def test_a_model_of_an_unknown_kind_is_refused(tmp_path: Path) -> None:
    model = LinearModel(fitted_tfidf(["sad", "sad"], TfIdfRidge()), ridge_of(np.ones(1), 3.0))
    save_linear(tmp_path / "model", FACTS, model, SCALE)
    path = tmp_path / "model" / "scale.json"
    path.write_text(json.dumps(sealed(json.loads(path.read_text()) | {"model": "forest"})))
    with pytest.raises(InputError, match="one of transformers, frozen, tfidf_ridge, embedding_ridge, found 'forest'"):
        load_scorer(path.parent)


def test_a_scale_of_another_version_is_read_as_far_as_it_is_known(tmp_path: Path) -> None:
    counter = fitted_tfidf(["sad story", "sad news"], TfIdfRidge())
    model = LinearModel(counter, ridge_of(np.array([2.0]), 3.0))
    save_linear(tmp_path / "model", FACTS, model, SCALE)
    path = tmp_path / "model" / "scale.json"
    meaning = json.loads(path.read_text())
    meaning["scale"] = {name: value for name, value in meaning["scale"].items() if name != "source"} | {"newer": 1}
    path.write_text(json.dumps(sealed(meaning)))
    scorer = load_scorer(tmp_path / "model")
    assert scorer.scale == replace(SCALE, source="")
    assert scorer.score(["sad", "glad"]) == (pytest.approx([5, 3]), None)


@pytest.mark.parametrize("kind", ["words", "tuned", "ridge", "frozen"])
def test_every_kind_of_model_says_what_it_cannot_read(tiny_deberta: Path, kind: str) -> None:
    """The tiny encoder takes 64 tokens and has no Chinese; one training text of 200 is Cyrillic."""
    plm = PLM(str(tiny_deberta), max_length=64)
    seen = ["sad story", "a sad story", "news", "a story of sad news"]
    texts = ["sad news", "a sad story " * 40, "漢字漢字", "Мне жаль", "12 a"]
    if kind == "words":
        model = LinearModel(counter := fitted_tfidf(seen, TfIdfRidge()), ridge_of(np.ones(len(counter.idf_)), 3.0))
    elif kind == "tuned":
        model = Loaded(load_regressor(plm, bias=3), load_tokenizer(plm))
    elif kind == "ridge":
        model = LinearModel(encoder := FrozenEncoder(plm), ridge_of(np.ones(encoder.config.hidden_size), 3.0))
    else:
        labels = Observed(np.array([5.0, 6, 1, 4]), np.ones(4), np.arange(4))
        model = FrozenTexts(FrozenEncoder(plm), [seen, [], []], None, kept=False).fit(labels, "raw")
    scorer = Scorer(model, SCALE, Score(), {"Latin": 199, "Cyrillic": 1}, text_hashes([*seen, "Sad  news."]))
    read = scorer.read(texts, batch_size=2)
    assert read.predictions.score == pytest.approx(scorer.score(texts).score)
    assert read.cut.tolist() == [False, kind != "words", False, False, False]
    assert read.unknown[:3].tolist() == [False, False, True]
    assert read.foreign.tolist() == [False, False, True, True, False]
    assert read.learnt.tolist() == [True, False, False, False, False]
    older = replace(scorer, scripts={}, trained_on=np.empty(0, dtype=np.int64)).read(texts)
    assert not older.foreign.any()
    assert not older.learnt.any()
    assert not replace(scorer, scripts={"CJK": 10, "Latin": 90, "Cyrillic": 1}).read(texts[:4]).foreign[:3].any()
    assert [one.shape for one in scorer.read([])[1:]] == [(0,)] * 4


def test_processes_of_one_training_embed_on_their_own_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    assert device_of("auto").type == "cpu"
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert [str(device_of("auto"))] == ["cuda:0"]
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert str(device_of("auto")) == "cuda:1"


def test_the_summary_counts_what_was_hardly_read() -> None:
    told = str(ScoredFile(rows=40, cut=[3], unknown=list(range(1, 13)), foreign=[2, 5], learnt=[7]))
    assert told.splitlines()[1:] == [
        "1 text longer than the model reads, of which only the beginning is scored: data row 3",
        "12 texts with hardly any words that the model knows: data rows 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 2 more",
        "2 texts in another script than the training texts: data rows 2, 5",
        "1 text that the model was trained on, with scores fitted to their labels: data row 7",
    ]
