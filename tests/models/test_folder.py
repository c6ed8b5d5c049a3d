"""The folder of a trained model: an ordinary model, its card, and what is no such folder."""

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

from invitro.errors import InputError
from invitro.models import PLM
from invitro.models.encoder import Loaded, load_regressor, load_tokenizer
from invitro.models.folder import CardFacts, load_model, model_card, read_meaning, save_model, sealed
from invitro.models.outputs import Score
from invitro.models.scoring import load_scorer, score_texts
from invitro.scales import Item, Scale
from invitro.writing.tables import text_table

SCALE = Scale("batson_empathy", "empathy", (Item("warm", "warm"), Item("moved", "moved")), 1, 7, source="a source")
FACTS = CardFacts(
    "base",
    "MIT",
    "corpus",
    "CC BY 4.0",
    "Somebody 2018",
    "42 texts.",
    text_table("results", "Results", [{"": "test", "PCC": "0.500"}], "A note."),
    ("so few texts",),
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
    for said in (
        "| test | 0.500 |\n\nA note.\n\n**Warning:** so few texts.\n",
        "CC BY 4.0",
        "Somebody 2018",
        "42 texts.",
        "MIT",
        "## Limits",
    ):
        assert said in card
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_the_card_of_a_model_without_encoder_or_results() -> None:
    facts = CardFacts("", "", "corpus", "CC BY 4.0", "", "42 texts.")
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


def damages(content: bytes) -> dict[str, bytes | None]:
    middle = len(content) // 2
    return {
        "removed": None,
        "emptied": b"",
        "cut": content[:middle],
        "a bit is another": content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :],
        "zeros": bytes(len(content)),
    }


def damaged(path: Path, content: bytes | None) -> None:
    path.unlink(missing_ok=True)
    if content is not None:
        path.write_bytes(content)


def test_every_damaged_file_is_refused_by_name(plm: PLM, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    save_model(folder, FACTS, Loaded(load_regressor(plm, bias=3.7), load_tokenizer(plm)), SCALE)
    for path in sorted(folder.iterdir()):
        whole = path.read_bytes()
        for how, content in damages(whole).items():
            damaged(path, content)
            if path.name == "README.md":
                load_scorer(folder)
                continue
            with pytest.raises(InputError, match=rf"model={folder}: .*{path.name}") as refused:
                load_scorer(folder)
            assert how == "removed" or "copy the folder again" in str(refused.value)
        path.write_bytes(whole)
    assert load_scorer(folder).scale == SCALE


def test_a_file_that_was_not_saved_with_the_model_is_refused(tiny_roberta: Path, tmp_path: Path) -> None:
    plm, folder = PLM(str(tiny_roberta)), tmp_path / "model"
    save_model(folder, FACTS, Loaded(load_regressor(plm, bias=3.7), load_tokenizer(plm)), SCALE)
    for name in (".DS_Store", "notes.md"):
        (folder / name).write_text("mine")
    assert load_scorer(folder).scale == SCALE
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(InputError, match=r"adapter_config.json: was not saved with the model"):
        load_scorer(folder)
    (folder / "adapter_config.json").unlink()
    (folder / "config.json").unlink()
    os.mkfifo(folder / "config.json")  # reading it would wait for ever
    with pytest.raises(InputError, match=r"config.json"):
        load_scorer(folder)


WRONG = [
    ("files", []), ("files", {"a.json": None}), ("files", {"a.json": "x"}), ("outputs", "score"), ("outputs", [1]),
    ("minimum", None), ("maximum", "7"), ("ngrams", "2"), ("ngrams", 0), ("ngrams", [1]), ("bins", [1]), ("bins", None),
    ("log_variance_bounds", [1]), ("log_variance_bounds", [1, "x"]), ("model", 3), ("scale", []), ("checksum", 1),
]  # fmt: skip


@pytest.mark.parametrize("seal", [True, False])
@pytest.mark.parametrize(("name", "value"), WRONG, ids=lambda value: str(value))
def test_a_manifest_of_other_types_is_refused(tmp_path: Path, name: str, value: Any, seal: bool) -> None:
    meaning = {"outputs": ["score"], "minimum": 1.0, "maximum": 7.0, "scale": asdict(SCALE), "model": "tfidf"}
    changed = meaning | {name: value}
    (tmp_path / "scale.json").write_text(json.dumps(sealed(changed) if seal and name != "checksum" else changed))
    with pytest.raises(InputError, match=r"scale.json is damaged"):
        load_scorer(tmp_path)


def test_damage_that_no_hash_knows_is_refused_too(plm: PLM, tmp_path: Path) -> None:
    """Folders of older versions have no hashes."""
    folder = tmp_path / "model"
    model = load_regressor(plm, bias=3.7)
    save_model(folder, FACTS, Loaded(model, load_tokenizer(plm)), SCALE)
    meaning = {name: read_meaning(folder)[name] for name in ("outputs", "minimum", "maximum", "scale")}
    (folder / "scale.json").write_text(json.dumps(meaning))
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        whole = (folder / name).read_bytes()
        for content in (b"", b"{}", whole[: len(whole) // 2], bytes(len(whole))):
            damaged(folder / name, content)
            with pytest.raises(InputError):
                load_scorer(folder).score(TEXTS)
        (folder / name).write_bytes(whole)
    with torch.no_grad():
        next(iter(model.parameters())).fill_(torch.nan)
    model.save_pretrained(folder)
    with pytest.raises(InputError, match="1 of its tensors hold weights that are not finite"):
        load_scorer(folder).score(TEXTS)


@pytest.mark.parametrize(
    "changed",
    [
        {"minimum": 2},
        {"maximum": None},
        {"scale": []},
        {"scale": {"name": "x"}},
        {"scale": {"name": "x", "construct": "x", "items": [{"nome": 1}], "low": 1, "high": 7}},
    ],
)
def test_a_scale_that_is_none_is_refused(plm: PLM, tmp_path: Path, changed: dict) -> None:
    folder = tmp_path / "model"
    save_model(folder, FACTS, Loaded(load_regressor(plm, bias=3.7), load_tokenizer(plm)), SCALE)
    (folder / "scale.json").write_text(json.dumps(sealed(read_meaning(folder) | changed)))
    with pytest.raises(InputError, match=r"scale\.json is damaged"):
        read_meaning(folder)
