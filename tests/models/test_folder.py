"""The folder of a trained model: an ordinary model, its card, and what is no such folder."""

from pathlib import Path

import pytest
import torch

from invitro.errors import InputError
from invitro.models import PLM
from invitro.models.folder import CardFacts, load_model, model_card, read_meaning, save_model
from invitro.models.loading import Loaded, load_regressor, load_tokenizer
from invitro.models.outputs import Score
from invitro.models.scoring import load_scorer, score_texts
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
