"""What is known of a corpus before training: the right values, and what makes one look again."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from invitro.data import Corpus, facts
from invitro.data.facts import corpus_facts, languages_of, llm_facts, script_of
from invitro.scales import Item, Scale

SCALE = Scale("calm", "calm", (Item("calm", "I am calm."),), 1, 7)


def test_facts_of_a_corpus() -> None:
    texts = ["One two three.", "one  TWO three.", "Мне жаль", "5!"]
    table = pd.DataFrame({"text_id": list("abcd"), "text": texts, "group_id": ["x", "x", "y", "z"]})
    table = table.assign(split=["train", "train", "test", "unlabelled"], crowd_label=[2.0, 4.0, 6.0, np.nan])
    summary = corpus_facts(Corpus("own", table.assign(age=[30, None, 40, None]), "", ""), SCALE)
    assert (summary.texts, summary.authors, summary.copies) == (4, 3, 1)
    assert summary.splits == {"train": 2, "test": 1, "unlabelled": 1}
    assert summary.missing == {"crowd_label": 1, "age": 2}
    assert summary.words.tolist() == [3, 3, 2, 1]
    assert summary.scripts == {"Latin": 2, "Cyrillic": 1, "no letters": 1}
    assert summary.named()["crowd labels"] == "3 from 2 to 6, mean 4.00, SD 2.00"
    assert [line.partition(":")[0] for line in summary.doubts()] == [
        "test metrics rest on only 1 text",
        "all test texts have the same crowd label, so PCC and CCC are undefined",
    ]


def test_two_values_are_no_scores() -> None:
    table = pd.DataFrame({"text_id": map(str, range(40)), "text": "Fine.", "group_id": "x", "split": "train"})
    summary = corpus_facts(Corpus("own", table.assign(crowd_label=[1.0, 7.0] * 20), "", ""), SCALE)
    assert [line.partition(",")[0] for line in summary.doubts()] == ["all 40 crowd labels are 1 or 7"]
    some = corpus_facts(Corpus("own", table.assign(crowd_label=[1.0, 7.0] * 19 + [2.0, 3.0]), "", ""), SCALE)
    assert list(some.doubts()) == []


@pytest.mark.parametrize(
    ("text", "script"),
    [
        ("Grüße", "Latin"),
        ("共感するよ", "Hiragana"),
        ("共感", "CJK"),
        ("سلام", "Arabic"),
        ("আমি", "Bengali"),
        ("—", "no letters"),
    ],
)
def test_scripts_are_those_of_unicode(text: str, script: str) -> None:
    assert script_of(text) == script


ENGLISH = "The flood took everything they had, and nobody came to help them."
GERMAN = "Die Flut hat ihnen alles genommen, und niemand kam ihnen zu Hilfe."
FRENCH = "L'inondation leur a tout pris, et personne n'est venu les aider."


def test_languages_are_identified_only_if_the_classifier_is_sure(monkeypatch: pytest.MonkeyPatch) -> None:
    undecided = "too short or mixed to tell"
    assert languages_of([ENGLISH, GERMAN, FRENCH, ENGLISH, "ok", "12345", ""]) == {
        "en": 2,
        "de": 1,
        "fr": 1,
        undecided: 3,
    }
    assert languages_of([]) == {}
    monkeypatch.setattr(facts, "MOST_IDENTIFIED", 2)  # the first and the last
    assert languages_of([ENGLISH, GERMAN, FRENCH]) == {"en": 1, "fr": 1}


def test_texts_in_another_language_than_most_are_a_doubt() -> None:
    table = pd.DataFrame({"text_id": list("abcd"), "text": "Fine.", "group_id": "x", "split": "train"})
    summary = corpus_facts(Corpus("own", table.assign(crowd_label=[1.0, 2.0, 3.0, 4.0]), "", ""), SCALE)
    assert "languages" not in summary.named()
    mixed = replace(summary, languages={"en": 2, "de": 1, "too short or mixed to tell": 1})
    assert mixed.named()["languages"] == "en 2, de 1 and too short or mixed to tell 1"
    (doubt,) = mixed.doubts()
    assert doubt.startswith("most texts are in one language (en), 1 text in another (de 1)")
    sample = replace(summary, languages={"en": 2})
    assert sample.named()["languages"] == "en 2, of 2 texts spread over the table"
    assert list(sample.doubts()) == []


@pytest.mark.parametrize(
    ("change", "r", "bias", "told"),
    [
        (lambda crowd: crowd + 0.5, 1.0, 0.5, []),
        (lambda crowd: 8 - crowd, -1.0, 0.0, ["correlate at -1.00 on 12 texts"]),
        (lambda crowd: crowd * 10, 1.0, 36.0, ["lie outside the scale, 1 to 7"]),
        (lambda crowd: crowd / 7, 1.0, -24 / 7, ["outside the scale", "are they on another scale?"]),
        (lambda crowd: crowd * 0 + 4, None, 0.0, ["gave all 12 texts the same label", "are they on another scale?"]),
    ],
)
def test_llm_labels_beside_the_crowd_s(change, r: float | None, bias: float, told: list[str]) -> None:
    crowd = pd.Series(np.tile([2.0, 4.0, 6.0, 3.0, 5.0, 4.0], 2))
    gap = pd.Series([np.nan])
    summary = llm_facts("own/gpt", SCALE, pd.concat([crowd, gap]), pd.concat([change(crowd), gap + 1]))
    assert summary.r == (None if r is None else pytest.approx(r))
    assert summary.bias == pytest.approx(bias)
    lines = list(summary.doubts())
    assert len(lines) == len(told)
    for line, part in zip(lines, told, strict=True):
        assert part in line


def test_without_a_text_that_has_both_labels_there_is_no_doubt() -> None:
    summary = llm_facts("own/gpt", SCALE, pd.Series([np.nan, 3.0]), pd.Series([2.0, np.nan]))
    assert (summary.r, summary.bias, list(summary.doubts())) == (None, None, [])
    assert summary.named() == {"LLM labels": "own/gpt", "texts with both labels": "0"}
