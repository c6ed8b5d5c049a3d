"""Files of other programs: every kind comes in whole, and codes become scores only where their labels say so."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openpyxl
import pandas as pd
import pyarrow as pa
import pyreadr
import pyreadstat
import pytest
from support import small_corpus

from invitro.errors import InputError
from invitro.foreign import foreign, kind_of
from invitro.formats import Unusable, scored
from invitro.tables import columns_of, read_table

RATED = small_corpus(40).assign(empathy=lambda table: table["empathy"].round())


def long_texts() -> list[str]:
    """Return texts around the lengths at which SPSS and Stata cut, with characters of several bytes at the cuts."""
    chance = random.Random(0)
    mixed = ["".join(chance.choice("ab üß€ ") for _ in range(length)).strip() or "x" for length in range(240, 1600, 37)]
    return ["a" * 254, "a" * 255, "a" * 256, "x" * 252 + " y", "x" * 255 + " y" * 300, "ü" * 400, "€" * 900, *mixed]


def saved_dataset(table: pd.DataFrame, folder: Path) -> None:
    """Write what `datasets.Dataset.save_to_disk` writes."""
    folder.mkdir(parents=True)
    arrow = pa.Table.from_pandas(table, preserve_index=False)
    with (
        pa.OSFile(str(folder / "data-00000-of-00001.arrow"), "wb") as file,
        pa.ipc.new_stream(file, arrow.schema) as out,
    ):
        out.write_table(arrow)
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}))
    feature = {"rated": {"names": ["1", "2", "3"], "_type": "ClassLabel"}}
    (folder / "dataset_info.json").write_text(json.dumps({"features": feature if "rated" in table else {}}))


def divided_dataset(table: pd.DataFrame, folder: Path) -> None:
    saved_dataset(table.iloc[:30], folder / "train")
    saved_dataset(table.iloc[30:], folder / "test")
    (folder / "dataset_dict.json").write_text(json.dumps({"splits": ["train", "test"]}))


def as_json(table: pd.DataFrame, path: Path) -> None:
    path.write_text(table.to_json(orient="records"))


WRITERS: dict[str, Callable[[pd.DataFrame, Path], Any]] = {
    "a.xlsx": lambda table, path: table.to_excel(path, index=False),
    "a.sav": lambda table, path: pyreadstat.write_sav(table, str(path)),
    "a.zsav": lambda table, path: pyreadstat.write_sav(table, str(path), compress=True),
    "a.dta": lambda table, path: pyreadstat.write_dta(table, str(path)),
    "strl.dta": lambda table, path: table.to_stata(path, version=118, write_index=False, convert_strl=["essay"]),
    "a.rds": lambda table, path: pyreadr.write_rds(str(path), table),
    "a.json": as_json,
    "folder": saved_dataset,
    "splits": divided_dataset,
    "semicolons.csv": lambda table, path: table.to_csv(path, sep=";", decimal=",", index=False),
    "utf16.csv": lambda table, path: table.to_csv(path, encoding="utf-16", index=False),
    "utf16.tsv": lambda table, path: table.to_csv(path, encoding="utf-16", index=False, sep="\t"),
}


@pytest.mark.parametrize("name", WRITERS)
def test_ids_and_texts_come_back_byte_for_byte(tmp_path: Path, name: str) -> None:
    texts = long_texts()
    table = pd.DataFrame(
        {
            "id": [f"{number:03}" for number in range(len(texts))],
            "essay": texts,
            "score": [1.5, 7.0] * (len(texts) // 2),
        }
    )
    WRITERS[name](table, tmp_path / name)
    read = read_table(tmp_path / name, plain=["id", "essay", "score"])
    assert read["essay"].tolist() == texts
    assert read["id"].tolist() == table["id"].tolist()
    assert read["score"].str.replace(",", ".").astype("float").tolist() == table["score"].tolist()
    assert columns_of(tmp_path / name)[:3] == ["id", "essay", "score"]


FEW = ("a.xlsx", "a.sav")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in FEW else pytest.mark.slow) for name in WRITERS]
)
def test_a_file_of_each_kind_goes_to_a_model_by_five_words(run: Any, tmp_path: Path, name: str) -> None:
    WRITERS[name](small_corpus(200), tmp_path / name)
    words = ["data=table", f"data.path={name}", "data.columns.text=essay", "data.columns.crowd_label=empathy"]
    done = run("train.py", *words, "llm.column=gpt", "plm=tfidf", "logger=none", "trainer=cpu")
    assert done.returncode == 0, done.stderr
    assert "200 rows: text from essay, crowd_label from empathy" in done.stdout + done.stderr
    assert list((tmp_path / "runs").rglob("scale.json"))


@pytest.mark.parametrize(
    ("labels", "cells", "expected", "told"),
    [
        ({18.0: "1", 19.0: "2"}, [18.0, 19.0, None], [1.0, 2.0, None], "value labels, which are numbers"),
        ({18.0: "1", 19.0: "7 very much"}, [18.0, 19.0], [1.0, 7.0], "value labels, which are numbers"),
        ({1.0: "not at all", 7.0: "very much"}, [1.0, 4.0, 7.0], [1.0, 4.0, 7.0], "codes are the values, since"),
        ({1.0: "1 never", 2.0: "2"}, [1.0, 2.0], [1.0, 2.0], ""),
        ({1.0: "18-24", 2.0: "25-34"}, [1.0, 2.0], [1.0, 2.0], "codes are the values"),
        ({}, [3.0], [3.0], ""),
    ],
)
def test_value_labels_are_scores_only_where_they_are_numbers(
    labels: dict[float, str], cells: list[Any], expected: list[Any], told: str
) -> None:
    scores, remark = scored(cells, labels)
    assert (scores, remark[: len(told)]) == (expected, told)


def test_a_code_that_its_label_contradicts_is_not_a_score() -> None:
    (zero, _), _ = scored([1.0, 2.0], {1.0: "0 not at all", 2.0: "1 several days"})
    assert zero == Unusable("the code 1, whose label begins with 0; make codes and labels agree")
    (_, strange), _ = scored([18.0, 25.0], {18.0: "1"})
    assert strange == Unusable("the code 25, which has no label")


@pytest.mark.parametrize(("writer", "suffix"), [(pyreadstat.write_sav, ".sav"), (pyreadstat.write_dta, ".dta")])
def test_labels_and_missing_codes_of_spss_and_stata(tmp_path: Path, writer: Any, suffix: str) -> None:
    table = RATED.assign(empathy=(RATED["empathy"] + 17).astype("int64" if suffix == ".dta" else "float64"))
    labels = {number + 17: str(number) for number in range(1, 8)}
    if suffix == ".sav":
        table.loc[0, "empathy"] = -99
        writer(
            table, str(tmp_path / "a.sav"), variable_value_labels={"empathy": labels}, missing_ranges={"empathy": [-99]}
        )
    else:
        writer(table, str(tmp_path / "a.dta"), variable_value_labels={"empathy": labels})
    content = foreign(tmp_path / f"a{suffix}")
    first = 1 if suffix == ".sav" else 0
    assert [row["empathy"] for row in content.rows][first:] == RATED["empathy"].tolist()[first:]
    if suffix == ".sav":
        assert content.rows[0]["empathy"] == Unusable("the code -99", "missing code")
        assert content.remarks["empathy"].endswith("declared missing: 1 value")


def test_levels_of_a_factor_are_values(tmp_path: Path) -> None:
    table = RATED.assign(empathy=pd.Categorical(RATED["empathy"].astype("int").astype("str")))
    pyreadr.write_rds(str(tmp_path / "a.rds"), table)
    assert read_table(tmp_path / "a.rds")["empathy"].astype("float").tolist() == RATED["empathy"].tolist()


def test_cells_of_excel_without_a_value_are_refused_by_cell(tmp_path: Path) -> None:
    RATED.to_excel(tmp_path / "a.xlsx", index=False)
    book = openpyxl.load_workbook(tmp_path / "a.xlsx")
    sheet: Any = book.active
    sheet["D5"], sheet["D6"], sheet["B7"] = "=1+1", "#N/A", "a_x000D_b"
    book.create_sheet("notes")["A1"] = "x"
    book.save(tmp_path / "a.xlsx")
    for rows, message in ((3, "data row 4, column empathy: .* formula without a stored result in cell D5"),
                          (4, "data row 5, column empathy: .* the error #N/A in cell D6")):  # fmt: skip
        with pytest.raises(InputError, match=message):
            read_table(tmp_path / "a.xlsx", plain=["empathy"])
        sheet.cell(rows + 2, 4).value = 2
        book.save(tmp_path / "a.xlsx")
    assert read_table(tmp_path / "a.xlsx", plain=["empathy"])["essay"][5] == "a\rb"
    assert kind_of(tmp_path / "a.xlsx").startswith("Excel; the sheet Sheet1")


def studio(*given: dict[str, Any], **task: Any) -> dict[str, Any]:
    annotations = [
        {
            "completed_by": by,
            "was_cancelled": cancelled,
            "result": [{"from_name": "empathy", "type": kind, "value": value}],
        }
        for by, kind, value, cancelled in (annotation.values() for annotation in given)
    ]
    return {"id": 1, "data": {"text": "a story"}, "annotations": annotations} | task


def given(by: Any, kind: str, value: Any, cancelled: bool = False) -> dict[str, Any]:
    return {"by": by, "kind": kind, "value": {kind: value}, "cancelled": cancelled}


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        (studio(given(1, "rating", 4)), 4),
        (studio(given({"id": 7}, "choices", ["5"])), "5"),
        (studio(given(1, "number", 3), given(2, "number", 6)), 4.5),
        (studio(given(1, "number", 3), given(2, "number", 6, cancelled=True)), 3),
        (studio(), None),
    ],
)
def test_answers_in_label_studio(tmp_path: Path, task: dict[str, Any], expected: Any) -> None:
    (tmp_path / "a.json").write_text(json.dumps([studio(given(1, "number", 1)), task]))
    row = foreign(tmp_path / "a.json").rows[1]
    assert (row["task_id"], row["text"], row["empathy"]) == ("1", "a story", expected)


def test_answers_that_annotators_skipped_or_cancelled_keep_that_as_their_status(tmp_path: Path) -> None:
    both = studio(given(1, "number", 2), given(2, "number", 6))
    cancelled = studio(given(1, "number", 3), given(2, "number", 6, cancelled=True))
    skipped = studio(given(1, "number", 3, cancelled=True), given(2, "textarea", ["why?"]))
    skipped["annotations"][1]["result"][0]["from_name"] = "reason"
    (tmp_path / "a.json").write_text(json.dumps([both, cancelled, skipped, studio()]))
    table = read_table(tmp_path / "a.json", plain=["empathy", "empathy by 1", "empathy by 2"])
    assert table["empathy"].fillna("").tolist() == ["4", "3", "", ""]
    status = table.attrs["cell_status"]
    assert {cell: why for cell, why in status.items() if cell[1].startswith("empathy by")} == {
        (1, "empathy by 2"): "cancelled",
        (2, "empathy by 1"): "cancelled",
        (2, "empathy by 2"): "skipped",
    }
    assert "cancelled annotations are left out: 2" in kind_of(tmp_path / "a.json")


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"id": 1, "text": "a", "label": ["5"], "Comments": []}, "5"),
        ({"id": 1, "text": "a", "label": []}, None),
        ({"id": 1, "text": "a", "label": 5}, "5"),
    ],
)
def test_labels_of_doccano(tmp_path: Path, row: dict[str, Any], expected: str | None) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps(row))
    label = read_table(tmp_path / "a.jsonl", plain=["label"])["label"][0]
    assert label == expected or (expected is None and pd.isna(label))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"id": 1, "text": "a", "annotations": [{"label": 5, "user": 1}]}, "column label: .* database id of a label"),
        ({"id": 1, "text": "a", "label": ["3", "4"]}, "column label: .* 2 labels instead of one"),
    ],
)
def test_doccano_labels_that_are_not_scores_are_refused(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps(row))
    with pytest.raises(InputError, match=message):
        read_table(tmp_path / "a.jsonl", plain=["label"])


def test_classes_and_splits_of_a_saved_dataset(tmp_path: Path) -> None:
    divided_dataset(RATED.assign(rated=[0, 1, 2, -1] * 10), tmp_path / "d")
    rows = foreign(tmp_path / "d").rows
    assert [row["rated"] for row in rows[:4]] == [1.0, 2.0, 3.0, None]
    assert [row["split"] for row in rows] == ["train"] * 30 + ["test"] * 10


@pytest.mark.parametrize("name", ["q.csv", "q.tsv", "q.xlsx"])
def test_the_three_headers_of_qualtrics(tmp_path: Path, name: str) -> None:
    answers = RATED.astype("str").rename(columns={"id": "ResponseId", "essay": "Q1"})
    headers = [{column: f'Question\nof "{column}"' for column in answers},
               {column: json.dumps({"ImportId": column}) for column in answers}]  # fmt: skip
    whole = pd.concat([pd.DataFrame(headers), answers])
    if name.endswith(".xlsx"):
        whole.to_excel(tmp_path / name, index=False)
    else:
        encoding, separator = ("utf-16", "\t") if name.endswith(".tsv") else ("utf-8-sig", ",")
        whole.to_csv(tmp_path / name, index=False, encoding=encoding, sep=separator)
    read = read_table(tmp_path / name)
    assert read["Q1"].tolist() == RATED["essay"].tolist()
    assert read["ResponseId"].tolist() == RATED["id"].tolist()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.xlsx", "x", "not readable as an Excel workbook"),
        ("a.sav", "x", "not readable as SPSS"),
        ("a.dta", "x", "not readable as Stata"),
        ("a.rds", "x", r"not readable as an R data frame .* saveRDS\(as.data.frame"),
        ("a.json", "{", "not readable as JSON"),
        ("a.json", "{}", "expected a list of objects, one per text, found a dict"),
        ("a.json", '[{"annotation_id": 1, "annotator": 1, "id": 1}, {"annotation_id": 2, "annotator": 2, "id": 1}]',
         "JSON-MIN with several annotations"),
        ("folder/dataset_dict.json", "{", "not readable as a saved dataset"),
        ("folder/dataset_dict.json", "[]", "not readable as a saved dataset"),
        ("folder/a.txt", "x", "expected a file, or the folder of a saved dataset"),
    ],
)  # fmt: skip
def test_damaged_files_and_files_without_a_table_are_refused_without_quoting_them(
    tmp_path: Path, name: str, content: str, message: str
) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(content)
    path = (tmp_path / name).parent if "/" in name else tmp_path / name
    with pytest.raises(InputError, match=message) as refused:
        read_table(path)
    assert str(path) in str(refused.value)
