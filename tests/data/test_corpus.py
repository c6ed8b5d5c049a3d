"""The canonical table at the door."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from support import ROOT

from invitro.data import Corpus, canonical
from invitro.data.corpus import CODEBOOK
from invitro.errors import InputError
from invitro.scales import Item, Scale

EMPATHY = Scale("batson_empathy", "empathy", (Item("warm", "warm"),), 1, 7)


def table(**changes: Any) -> pd.DataFrame:
    whole: dict[str, Any] = {
        "text_id": ["a", "b", "c"],
        "text": ["One day.", "Two days.", "Three days."],
        "group_id": ["w1", "w1", "w2"],
        "split": ["train", "val", "unlabelled"],
        "crowd_label": [1.0, 7.0, np.nan],
    }
    return pd.DataFrame({name: value for name, value in (whole | changes).items() if value is not None})


def test_a_good_table_passes_with_its_extra_columns() -> None:
    good = canonical(table(mood=["x", "y", "z"]), EMPATHY, "a.csv")
    assert good["mood"].tolist() == ["x", "y", "z"]
    assert good["crowd_label"].dtype == "float64"


def test_missing_groups_and_splits_are_filled() -> None:
    good = canonical(table(group_id=None, split=None), EMPATHY, "a.csv", published_splits=False)
    assert good["group_id"].tolist() == ["a", "b", "c"]
    assert good["split"].tolist() == ["train", "train", "unlabelled"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"text_id": ["a", "b", "a"]},
            "a.csv: data row 3 (text_id a), column text_id: expected an id that occurs once",
        ),
        ({"text_id": ["a", "b", None]}, "a.csv: data row 3, column text_id: expected a value, found nothing"),
        ({"text": ["x", "  ", "z"]}, "data row 2 (text_id b), column text: expected a text that is not blank"),
        (
            {"text": ["x", "\u200b\ufeff ", "z"]},
            "data row 2 (text_id b), column text: expected a text that is not blank",
        ),
        (
            {"text_id": ["a1", "a1 ", "c"]},
            "a.csv: column text_id: expected ids that differ in more than blanks and Unicode forms, found a pair "
            "that does not, in data rows 1 and 2: 'a1' and",
        ),
        ({"text_id": ["é", "e\u0301", "c"]}, r"found a pair that does not, in data rows 1 and 2: '\xe9' and"),
        (
            {"group_id": ["w1", "w2", "w\u200b1"]},
            "a.csv: column group_id: expected ids that differ in more than blanks",
        ),
        (
            {"text_id": ["So I said to her then."] * 2 + ["c"], "split": ["She was so sad.", "val", "val"]},
            "column split: expected one of train, val, test, unlabelled, found a text of 15 characters",
        ),
        ({"text": ["x", "y", None]}, "data row 3 (text_id c), column text: expected a value, found nothing"),
        (
            {"crowd_label": [1.0, 7.5, np.nan]},
            "data row 2 (text_id b), column crowd_label: expected 1 to 7 (batson_empathy), found 7.5",
        ),
        ({"crowd_label": [1.0, np.inf, 0.0]}, "data row 2 (text_id b), column crowd_label: expected 1 to 7"),
        (
            {"split": ["train", "dev", "test"]},
            "column split: expected one of train, val, test, unlabelled, found 'dev'",
        ),
        ({"split": None}, "a.csv: expected a column split; found text_id, text, group_id, crowd_label"),
        ({"text": None}, "a.csv: expected a column text; found text_id, group_id, split, crowd_label"),
    ],
)
def test_faults_are_reported_with_row_and_column(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as refused:
        canonical(table(**changes), EMPATHY, "a.csv")
    assert message in str(refused.value)


def test_columns_that_others_are_made_from_may_be_missing_too() -> None:
    with pytest.raises(InputError, match="expected a column text_id") as refused:
        canonical(table(text_id=None, group_id=None, split=None, crowd_label=None), EMPATHY, "a.csv", False)
    assert "expected a column crowd_label" in str(refused.value)


def test_all_faults_come_together_but_not_by_the_thousand() -> None:
    many = pd.DataFrame({"text_id": [f"t{n}" for n in range(50)], "text": " ", "crowd_label": 9.0})
    with pytest.raises(InputError) as refused:
        canonical(many, EMPATHY, "a.csv", published_splits=False)
    assert len(refused.value.problems) == 12
    assert refused.value.problems[0].startswith(
        "a.csv: column crowd_label: 50 of 50 rated rows lie outside 1 to 7 (batson_empathy): they range from 9 to 9, "
        "such as 9 in data row 1. For one question or slider, add scale=slider scale.low="
    )
    assert refused.value.problems[-1] == "a.csv: and 40 more faults"


def test_rows_are_counted_in_the_file_and_columns_named_as_there() -> None:
    with pytest.raises(InputError, match=r"data row 9 .*column crowd_label \(rating in the file\)"):
        canonical(
            table(crowd_label=[1.0, 2, 8.5]).set_index(pd.Index([0, 3, 8])),
            EMPATHY,
            "f.csv",
            names_in_file={"crowd_label": "rating"},
        )


def test_an_empty_table_is_refused() -> None:
    with pytest.raises(InputError, match=r"a.csv: expected texts, found an empty table"):
        canonical(table().head(0), EMPATHY, "a.csv")


def test_fingerprint_follows_content_and_not_order() -> None:
    def fingerprint(rows: pd.DataFrame) -> str:
        return Corpus("mine", rows, "", "").fingerprint

    rows = canonical(table(), EMPATHY, "a.csv")
    assert fingerprint(rows) == fingerprint(rows.iloc[::-1].assign(mood="x"))
    assert fingerprint(rows) != fingerprint(rows.assign(crowd_label=[1.0, 6.9, np.nan]))
    assert fingerprint(rows) != fingerprint(rows.assign(split=["val", "train", "unlabelled"]))


def test_rows_of_a_split_keep_their_order() -> None:
    corpus = Corpus("mine", canonical(table(), EMPATHY, "a.csv"), "", "")
    assert corpus.label_corpora == ("mine",)
    assert corpus.of_split("unlabelled", "train")["text_id"].tolist() == ["a", "c"]


def test_the_codebook_matches_the_demographic_prompt() -> None:
    told = yaml.safe_load((ROOT / "conf" / "prompt" / "demographic.yaml").read_text("utf-8"))["codes"]
    assert {name: codes for name, codes in told.items() if codes} == CODEBOOK
