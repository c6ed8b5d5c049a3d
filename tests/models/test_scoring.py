"""One way from a folder to scores."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.pipeline import make_pipeline

from invitro.errors import InputError
from invitro.models import PLM, TfIdfRidge
from invitro.models.closed_form import fitted_tfidf, ridge_of, save_linear
from invitro.models.encoder import load_regressor, load_tokenizer
from invitro.models.folder import CardFacts, sealed
from invitro.models.scoring import load_scorer, score_texts
from invitro.scales import Item, Scale

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
    model = make_pipeline(fitted_tfidf(["sad", "sad"], TfIdfRidge()), ridge_of(np.ones(1), 3.0))
    save_linear(tmp_path / "model", FACTS, model, SCALE)
    path = tmp_path / "model" / "scale.json"
    path.write_text(json.dumps(sealed(json.loads(path.read_text()) | {"model": "forest"})))
    with pytest.raises(InputError, match="one of transformers, frozen, tfidf_ridge, embedding_ridge, found 'forest'"):
        load_scorer(path.parent)


def test_a_scale_of_another_version_is_read_as_far_as_it_is_known(tmp_path: Path) -> None:
    counter = fitted_tfidf(["sad story", "sad news"], TfIdfRidge())
    model = make_pipeline(counter, ridge_of(np.array([2.0]), 3.0))
    save_linear(tmp_path / "model", FACTS, model, SCALE)
    path = tmp_path / "model" / "scale.json"
    meaning = json.loads(path.read_text())
    meaning["scale"] = {name: value for name, value in meaning["scale"].items() if name != "source"} | {"newer": 1}
    path.write_text(json.dumps(sealed(meaning)))
    scorer = load_scorer(tmp_path / "model")
    assert scorer.scale == replace(SCALE, source="")
    assert scorer.score(["sad", "glad"]) == (pytest.approx([5, 3]), None)
