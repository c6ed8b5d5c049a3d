"""Texts that are labelled, and the examples that are shown with them."""

import numpy as np
import pandas as pd
import pytest
from prompting import a_corpus, scale

from invitro.errors import InputError
from invitro.labelling.texts import CorpusTexts, Shots, Text, corpus_of, next_texts


def test_examples_come_from_training_and_are_never_the_text_s_own() -> None:
    corpus = a_corpus()
    shots = Shots(corpus, 4, seed=1)
    training = corpus.of_split("train")
    labelled = training[training["crowd_label"].notna()]
    usual = shots.of(Text("elsewhere", "something else", "nobody"))
    assert [example.score for example in usual] == sorted(example.score for example in usual)
    assert {example.text.text_id for example in usual} <= set(labelled["text_id"])
    for text in CorpusTexts(corpus.table):
        shown = shots.of(text)
        assert len(shown) == 4
        assert all(example.text.text_id != text.text_id and example.text.group_id != text.group_id for example in shown)
    assert shots.of(usual[0].text)[1:] == usual[1:]
    assert Shots(corpus, 4, seed=1).of(Text("e", "s")) == usual
    with pytest.raises(InputError, match="shows 400 examples from the training split, found 26"):
        Shots(corpus, 400)


def test_texts_carry_what_is_known_of_the_writer() -> None:
    one, other = list(CorpusTexts(a_corpus().table))[:2]
    assert (one.demographics, other.demographics) == ({}, {"gender": "2"})
    table = a_corpus().table.assign(language=["de"] + [None] * 39)
    assert [text.language for text in CorpusTexts(table.head(2))] == ["de", None]


def test_plain_texts_are_a_corpus() -> None:
    plain = corpus_of(["I am fine.", "I cried."], scale())
    assert (plain.name, plain.label_corpora) == ("texts", ("texts",))
    assert plain.table["text_id"].tolist() == ["row1", "row2"]
    assert set(plain.table["split"]) == {"unlabelled"}
    frame = pd.DataFrame(
        {"text_id": [7, 8], "text": ["a", "b"], "crowd_label": [1, None], "gender": ["1", "2"]}, index=[5, 5]
    )
    corpus = corpus_of(frame, scale(), "mine")
    assert corpus.table["text_id"].tolist() == corpus.table["group_id"].tolist() == ["7", "8"]
    assert corpus.table["split"].tolist() == ["train", "unlabelled"]
    assert [text.demographics for text in CorpusTexts(corpus.table)] == [{"gender": "1"}, {"gender": "2"}]
    assert "split" not in frame


@pytest.mark.parametrize(
    ("texts", "part"),
    [([], "texts"), (["a", " "], "data row 2"), (pd.DataFrame({"text": ["a"], "crowd_label": [9]}), "crowd_label")],
    ids=["none", "blank", "outside"],
)
def test_texts_that_cannot_be_labelled_are_refused(texts, part: str) -> None:
    with pytest.raises(InputError, match=part):
        corpus_of(texts, scale())


def kinds(rated: int) -> tuple[pd.DataFrame, np.ndarray]:
    """Return 60 texts of three kinds, the first of which are rated, and their similarities."""
    kind = np.arange(60) % 3
    crowd = np.where(np.arange(60) < rated, 2.0 + kind + np.random.default_rng(0).normal(0, 0.3, 60), np.nan)
    table = pd.DataFrame({"text_id": [f"t{i}" for i in range(60)], "crowd_label": crowd, "kind": kind})
    near = (kind[:, None] == kind) * 1.5 - 0.5
    return table, near + 0.1 * np.eye(60)


@pytest.mark.parametrize("rated", [0, 4, 30])
def test_the_next_texts_are_of_all_kinds_and_tell_more_than_others(rated: int) -> None:
    table, kernel = kinds(rated)
    llm = pd.DataFrame({"gpt": table["kind"] + np.random.default_rng(1).normal(0, 0.5, 60)})
    ranking = next_texts(table, llm, kernel, 3)
    assert (ranking.rated, ranking.unrated, ranking.llms) == (rated, 60 - rated, ("gpt",) if rated >= 10 else ())
    assert ranking.table["rank"].tolist() == [1, 2, 3]
    assert ranking.table["crowd_label"].isna().all()
    assert rated or sorted(ranking.table["kind"]) == [0, 1, 2]
    assert ranking.tells == pytest.approx(ranking.table["tells"].sum())
    assert ranking.tells >= ranking.at_random > 0
    assert ranking.lines()[0].startswith(
        f"3 of {60 - rated} unrated texts to have people rate next ({rated} texts rated"
    )


def test_nothing_to_rank_is_refused() -> None:
    table, kernel = kinds(60)
    with pytest.raises(InputError, match="data: all 60 texts are rated; add texts without a crowd label"):
        next_texts(table, table.iloc[:, :0], kernel, 3)
