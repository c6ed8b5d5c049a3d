"""A user's own table."""

import json
import logging
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from invitro.data import Holdout, Published, TableFile
from invitro.data.table import Frame
from invitro.errors import InputError
from invitro.scales import Item, Scale

EMPATHY = Scale("batson_empathy", "empathy", (Item("warm", "warm"),), 1, 7)
COLUMNS = {"text_id": "nr", "text": "essay", "crowd_label": "score", "group_id": "writer", "gender": "sex"}


def rows(count: int = 12, **columns: Any) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "nr": [f"{number:03}" for number in range(count)],
            "essay": [f'Essay "{number}",\twith a comma.' for number in range(count)],
            "score": [1 + number % 7 for number in range(count)],
            "writer": [f"w{number // 2}" for number in range(count)],
            "sex": ["f", "unknown"] * (count // 2),
            "mood": "calm",
        }
        | columns
    )


def written(folder: Path, table: pd.DataFrame, suffix: str = ".csv") -> Path:
    path = folder / f"mine{suffix}"
    if suffix == ".parquet":
        table.to_parquet(path)
    elif suffix == ".jsonl":
        table.to_json(path, orient="records", lines=True)
    else:
        table.to_csv(path, sep="\t" if suffix == ".tsv" else ",", index=False)
    return path


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet", ".jsonl"])
def test_every_kind_of_file_gives_the_same_corpus(tmp_path: Path, suffix: str) -> None:
    corpus = TableFile(written(tmp_path, rows(), suffix), COLUMNS).read(EMPATHY)
    table = corpus.table
    assert table["text_id"].tolist()[:2] == ["000", "001"]
    assert table["text"].iloc[0] == 'Essay "0",\twith a comma.'
    assert table["crowd_label"].tolist() == [float(1 + number % 7) for number in range(12)]
    assert table["gender"].fillna("-").tolist() == ["f", "-"] * 6
    assert (table["mood"] == "calm").all()
    assert sorted(table.columns) == ["crowd_label", "gender", "group_id", "mood", "split", "text", "text_id"]
    assert table.groupby("group_id")["split"].nunique().max() == 1
    assert set(table["split"]) == {"train", "val", "test"}
    assert corpus.name == "table"


def test_the_default_map_and_rows_without_ids(tmp_path: Path) -> None:
    table = rows().rename(columns={"nr": "text_id", "essay": "text", "score": "crowd_label"})
    assert TableFile(written(tmp_path, table)).read(EMPATHY).table["text_id"].iloc[0] == "000"
    columns = {"text_id": None, "text": "text", "crowd_label": "crowd_label", "group_id": None}
    numbered = TableFile(written(tmp_path, table), columns).read(EMPATHY).table
    assert numbered["text_id"].tolist() == [f"row{number}" for number in range(1, 13)]
    assert numbered["group_id"].equals(numbered["text_id"].rename("group_id"))


def test_a_table_without_labels_is_a_pool(tmp_path: Path) -> None:
    path = written(tmp_path, rows().drop(columns="score"))
    table = TableFile(path, COLUMNS | {"crowd_label": None}).read(EMPATHY).table
    assert (table["split"] == "unlabelled").all()
    assert table["crowd_label"].isna().all()
    assert table["crowd_label"].dtype == "float64"


def test_blank_labels_are_unlabelled_and_counted_aloud(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    scores = ["", "unknown", *["4"] * 10]
    table = TableFile(written(tmp_path, rows(score=scores)), COLUMNS, Holdout(grouped=False)).read(EMPATHY).table
    assert "mine.csv: 2 of 12 texts without a crowd label, unlabelled (data rows 1, 2)" in caplog.text
    assert table["split"].tolist()[:2] == ["unlabelled"] * 2
    assert "unlabelled" not in table["split"].tolist()[2:]


def test_published_splits_in_common_spellings(tmp_path: Path) -> None:
    spelt = [
        "train",
        "Training",
        "dev",
        "VAL",
        "validation",
        "valid",
        "test",
        "Testing ",
        "pool",
        "",
        "unlabeled",
        "train",
    ]
    path = written(tmp_path, rows(part=spelt))
    table = TableFile(path, COLUMNS | {"split": "part"}, Published()).read(EMPATHY).table
    assert table["split"].tolist() == [*["train"] * 2, *["val"] * 4, *["test"] * 2, *["unlabelled"] * 3, "train"]


def test_an_unknown_split_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, rows(part=["train"] * 11 + ["fold1"]))
    with pytest.raises(InputError, match=r"mine.csv: data row 12, column part: expected one of train, .*found 'fold1'"):
        TableFile(path, COLUMNS | {"split": "part"}, Published()).read(EMPATHY)


def test_an_unmapped_canonical_column_is_left_out_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = written(tmp_path, rows(split="nonsense", text="another text"))
    with caplog.at_level(logging.WARNING):
        table = TableFile(path, COLUMNS).read(EMPATHY).table
    assert "nonsense" not in table["split"].tolist()
    assert table["text"].iloc[0].startswith("Essay")
    assert "the column split is not used; data.columns.split=split would use it" in caplog.text


@pytest.mark.parametrize(
    ("columns", "messages"),
    [
        ({"text": "essay", "label": "score"}, ["data.columns.label: expected one of text_id, text, group_id, split"]),
        ({"text_id": "nr"}, ["data.columns.text: expected the name of the column that holds the texts, found none"]),
        ({"text": None, "id": "nr"}, ["data.columns.text", "data.columns.id"]),
    ],
)
def test_a_wrong_map_is_refused_at_once(columns: dict[str, str | None], messages: list[str]) -> None:
    with pytest.raises(InputError) as refused:
        TableFile("nowhere.csv", columns)
    assert len(refused.value.problems) == len(messages)
    for message in messages:
        assert message in str(refused.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"nr": "same"},
            r"mine.csv: data row 1 .*, column text_id \(nr in the file\): expected an id that occurs once",
        ),
        (
            {"score": [7.5, *range(1, 6), *range(1, 7)]},
            r"data row 1 \(text_id 000\), column crowd_label \(score in the file\): expected 1 to 7 .*, found 7.5",
        ),
        (
            {"score": ["much", "little", *range(1, 6), *range(1, 6)]},
            r"mine.csv: data row 1, column score: expected a number, found 'much' \(and 1 more\)",
        ),
        ({"score": 50}, r"mine.csv: column score: 12 of 12 rated rows lie outside 1 to 7 \(batson_empathy\): "),
        ({"essay": ""}, r"column text \(essay in the file\): expected a value, found nothing"),
    ],
)
def test_faulty_rows_are_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        TableFile(written(tmp_path, rows(**changes)), COLUMNS).read(EMPATHY)


@pytest.mark.parametrize(
    ("column", "value", "found"), [("essay", ["zebra"], "a list"), ("essay", True, "true"), ("score", False, "false")]
)
def test_values_that_are_not_texts_are_refused(tmp_path: Path, column: str, value: object, found: str) -> None:
    records = rows().to_dict("records")
    records[2][column] = value
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in records))
    expected = f"{path}: data row 3, column {column}: expected a text or a number, found {found}"
    with pytest.raises(InputError) as refused:
        TableFile(path, COLUMNS).read(EMPATHY)
    assert str(refused.value) == expected
    with pytest.raises(InputError) as refused:
        Frame(path, COLUMNS, rows=pd.DataFrame(records, index=range(5, 17))).read(EMPATHY)
    assert str(refused.value) == expected


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["yes", "no"] * 6, r"column mood_score contains words \(no, yes\), not scores.*LogisticRegression.*AUC"),
        ([0, 1] * 6, "column mood_score is 0 or 1 in all 12 rows.*LogisticRegression"),
    ],
)
def test_classes_are_refused_with_what_to_use_instead(tmp_path: Path, labels: list[Any], message: str) -> None:
    file = written(tmp_path, rows().assign(mood_score=labels))
    with pytest.raises(InputError, match=message):
        TableFile(file, COLUMNS | {"crowd_label": "mood_score"}).read(EMPATHY)


def test_missing_columns_and_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no such file \(looked in"):
        TableFile(tmp_path / "none.csv", COLUMNS).read(EMPATHY)
    path = written(tmp_path, rows().drop(columns=["nr", "sex"]))
    with pytest.raises(InputError) as refused:
        TableFile(path, COLUMNS).read(EMPATHY)
    assert "expected columns nr, sex; found essay, score, writer, mood. Name the file's columns with" in str(
        refused.value
    )
    with pytest.raises(InputError, match="found an empty table"):
        TableFile(written(tmp_path, rows().head(0)), COLUMNS).read(EMPATHY)
