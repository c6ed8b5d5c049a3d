"""What leaks from the evaluation into training: copies in any spelling, near copies, authors on both sides."""

from unicodedata import normalize

import numpy as np
import pandas as pd
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer

from invitro.data import Corpus, leaks, reader, refuse_shared_texts
from invitro.data.reader import NearCopy, text_form, without_shared_texts
from invitro.errors import InputError

TEXT = "After reading “Café fire” I couldn’t sleep for 3 nights & I thought of the stone, the letter and the river."
COPIES = {
    "case": TEXT.upper(),
    "white space": "  " + TEXT.replace(" ", "  ", 4).replace("of the", "of\tthe") + " \n",
    "no-break spaces": TEXT.replace(" ", "\u00a0"),
    "line ends": TEXT.replace(" for", " \r\nfor").replace(" and", "\rand"),
    "decomposed letters": normalize("NFD", TEXT),
    "wide letters": TEXT.replace("a", "\uff41"),
    "a zero-width space": TEXT[:20] + "\u200b" + TEXT[20:],
    "a byte order mark": "\ufeff" + TEXT,
    "soft hyphens": TEXT.replace("reading", "rea\u00adding"),
    "no final stop": TEXT.rstrip("."),
    "an ellipsis": TEXT.rstrip(".") + "…",
    "straight quotation marks": TEXT.replace("“", '"').replace("”", '"').replace("’", "'"),
    "named entities": TEXT.replace("&", "&amp;").replace("“", "&ldquo;").replace("é", "&eacute;"),
    "numeric entities": TEXT.replace("’", "&#8217;").replace("é", "&#xE9;"),
    "entities twice": TEXT.replace("&", "&amp;amp;"),
    "a control character": TEXT + "\x00",
}


def evaluated(*texts: str) -> Corpus:
    return Corpus("mine", rows(*texts, name="e", split="test"), "", "")


PAIR = "t0 ~ e0 (0."


def rows(*texts: str, name: str = "t", split: str = "train") -> pd.DataFrame:
    ids = [f"{name}{number}" for number in range(len(texts))]
    return pd.DataFrame({"text_id": ids, "text": list(texts), "group_id": ids, "split": split}, dtype="str")


@pytest.mark.parametrize("copy", COPIES.values(), ids=list(COPIES))
def test_a_copy_of_an_evaluation_text_is_refused_in_any_spelling(copy: str) -> None:
    with pytest.raises(InputError, match="found 1 in both: pool0 = t0"):
        refuse_shared_texts(rows(copy, name="pool"), rows(TEXT), "mine")
    both = pd.concat([rows(copy, "else", name="pool"), rows(TEXT, split="test")], ignore_index=True)
    assert without_shared_texts(both, "mine")["text_id"].tolist() == ["pool1", "t0"]


@pytest.mark.parametrize("other", ["I am 1.5 sad", "I am 15 sad", "I am sad?", "I am sad!", "i am not sad", "🙂", "🙁"])
def test_other_texts_are_not_taken_for_copies(other: str) -> None:
    assert text_form(other) != text_form("I am sad.")
    assert text_form(text_form(other)) == text_form(other)


def test_near_copies_are_found_with_their_similarity() -> None:
    words = ("bread", "river", "worry", "winter", "letter", "garden", "stone", "doctor", "summer", "friend")
    others = [f"About the {pair} and the {two}, which I had not seen before." for pair in words for two in words[:6]]
    near = TEXT.replace("3 nights", "4 long nights")
    copies = leaks(rows(near, *others[::2]), evaluated(TEXT, *others[1::2])).near_copies
    ((trained, measured, similarity),) = [pair for pair in copies if pair.measured == "e0"]
    assert (trained, measured) == ("t0", "e0")
    assert 0.7 < similarity < 1
    assert leaks(rows("ok", ""), evaluated("no")).near_copies == ()
    assert leaks(rows(TEXT), evaluated()).near_copies == ()
    assert leaks(rows(TEXT), evaluated(TEXT)).near_copies == (NearCopy("t0", "e0", 1.0),)


def test_near_copies_are_those_of_all_pairs() -> None:
    """Texts of rare words, of frequent ones alone, short and empty ones, against scikit-learn's weights and cosines."""
    draw = np.random.default_rng(0)
    words = ["".join(draw.choice(list("abcdefghij"), 4)) for _ in range(300)]
    texts = [" ".join(words[int(300 * share**4)] for share in draw.random(draw.integers(0, 30))) for _ in range(500)]
    texts += [f"{text[:-9]} {draw.choice(words)}" for text in texts[1:121]] + ["so sad", "so sad too", "ok"] * 3
    ours, theirs = texts[::2], texts[1::2]
    forms = sorted({text_form(text) for text in texts[1::2]} | {text_form(text) for text in texts[::2]})
    vectors = TfidfVectorizer(analyzer="char", ngram_range=(5, 5), lowercase=False).fit(forms)
    corpus = Corpus("mine", pd.concat([rows(*ours), rows(*theirs, name="e", split="test")]), "", "")
    alike = (vectors.transform(map(text_form, theirs)) @ vectors.transform(map(text_form, ours)).T).toarray()
    expected = {(f"t{share}", f"e{other}"): alike[other, share] for other, share in np.argwhere(alike >= 0.7)}
    similarities = {
        (share.trained, share.measured): share.similarity for share in leaks(rows(*ours), corpus).near_copies
    }
    assert len(expected) > 60
    assert similarities == pytest.approx(expected, abs=0.001)


def test_near_copies_of_too_many_texts_are_not_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "MOST_CHARACTERS", 2 * len(text_form(TEXT)) - 1)
    shared = leaks(rows(TEXT), evaluated(TEXT))
    assert not shared.near_copies
    assert list(shared.lines()) == [
        "near copies in training and evaluation were not searched for, as the texts have more than 211 "
        "characters; equal texts were"
    ]


def test_leaks_are_reported_with_a_remedy() -> None:
    ours, theirs = rows(TEXT, "nothing else"), evaluated(TEXT.replace("stone", "rock"), "something", "other")
    theirs.table["group_id"] = ["t1", "t1", "t0"]
    near, authors = leaks(ours, theirs).lines()
    assert near.startswith(
        f"1 near copy in training and evaluation (similarity of at least 0.7, by runs of 5 characters): {PAIR}"
    )
    assert near.endswith("; remove one of each pair")
    assert authors.startswith("2 authors on both sides: of training texts and of 3 of 3 evaluation texts")
    assert "data.split.grouped=true" in authors
