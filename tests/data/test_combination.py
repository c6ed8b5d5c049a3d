"""Combinations: prefixes, roles, and texts that would leak."""

import logging
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from invitro.data import Combination, Corpus, Holdout, Published, SplitRule, canonical, refuse_shared_texts
from invitro.errors import InputError
from invitro.scales import Item, Scale

EMPATHY = Scale("batson_empathy", "empathy", (Item("warm", "warm"),), 1, 7)


@dataclass(frozen=True)
class Fake:
    """A reader of invented essays, two a split."""

    name: str
    texts: tuple[str, ...]
    folder: str | Path | None = None
    split: SplitRule = field(default_factory=Published)

    def read(self, scale: Scale) -> Corpus:
        splits = ["train", "train", "val", "val", "test", "test", "unlabelled", "unlabelled"]
        table = pd.DataFrame(
            {
                "text_id": [f"{number}" for number in range(8)],
                "text": self.texts,
                "group_id": ["w"] * 4 + ["v"] * 4,
                "split": splits,
                "crowd_label": [1.0, 2, 3, 4, 5, 6, np.nan, np.nan],
                self.name: str(self.folder),
            }
        )
        table = canonical(table, scale, self.name)
        table["split"] = self.split.assign(table)
        return Corpus(self.name, table, f"licence of {self.name}", f"citation of {self.name}")


def essays(name: str, **repeated: str) -> tuple[str, ...]:
    texts = [f"Essay {number} of {name}." for number in range(8)]
    for number, text in repeated.items():
        texts[int(number[1:])] = text
    return tuple(texts)


FIRST = Fake("first", essays("first"))
SECOND = Fake("second", essays("second"))


def test_the_first_keeps_its_splits_and_the_others_join_training() -> None:
    corpus = Combination("both", [FIRST, SECOND]).read(EMPATHY)
    table = corpus.table.set_index("text_id")
    assert table["split"].tolist()[:8] == FIRST.read(EMPATHY).table["split"].tolist()
    assert table["split"].tolist()[8:] == ["train"] * 4 + ["unlabelled"] * 4
    assert table.index.tolist()[7:9] == ["first:7", "second:0"]
    assert table["group_id"].unique().tolist() == ["first:w", "first:v", "second:w", "second:v"]
    assert table.loc["second:2", "crowd_label"] == 3
    assert table.loc[["first:0", "second:0"], "second"].isna().tolist() == [True, False]


def test_the_record_names_all_members() -> None:
    corpus = Combination("both", [FIRST, SECOND]).read(EMPATHY)
    assert corpus.name == "both"
    assert corpus.label_corpora == ("first", "second")
    assert corpus.licence == "licence of first; licence of second"
    assert corpus.citation == "citation of first; citation of second"


def test_texts_the_first_is_measured_on_leave_the_others(caplog: pytest.LogCaptureFixture) -> None:
    # Repeats a training, a validation and a test text of the first; one of them among its unlabelled texts.
    second = Fake("second", essays("second", n0=FIRST.texts[0], n1=f" {FIRST.texts[2]}\n", n7=FIRST.texts[5]))
    with caplog.at_level(logging.WARNING):
        corpus = Combination("both", [FIRST, second]).read(EMPATHY)
    added = corpus.table[corpus.table["text_id"].str.startswith("second:")]
    assert added["text_id"].tolist() == ["second:0", "second:2", "second:3", "second:4", "second:5", "second:6"]
    assert "both: left out: 2 texts of second also in validation or test of first" in caplog.text
    refuse_shared_texts(corpus.of_split("train", "unlabelled"), corpus.of_split("val", "test"), "both")


def test_without_leaks_there_are_no_lines(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        Combination("both", [FIRST, SECOND]).read(EMPATHY)
    assert caplog.text == ""


def test_folder_and_split_are_handed_on() -> None:
    corpus = Combination("both", [FIRST, SECOND], split=Holdout(grouped=False, test=0.4), folder="/data").read(EMPATHY)
    counts = corpus.table["split"][:8].value_counts().to_dict()
    assert counts == {"train": 3, "test": 2, "unlabelled": 2, "val": 1}
    assert corpus.table["first"].dropna().unique().tolist() == ["/data"]
    assert corpus.table["second"].dropna().unique().tolist() == ["/data"]
    assert Combination("both", [Fake("first", FIRST.texts, "/own")]).read(EMPATHY).table["first"].iloc[0] == "/own"


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([], "data.members: expected at least one corpus, found none"),
        ([FIRST, FIRST], "data.members: expected names that differ, found first, first"),
        ([Fake("a:b", FIRST.texts)], "data.members: expected names without a colon, found a:b"),
    ],
)
def test_members_with_ambiguous_names_are_refused(members: list[Fake], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Combination("both", members)
