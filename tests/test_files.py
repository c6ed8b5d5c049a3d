"""Tables in, files out."""

import json
from pathlib import Path

import pandas as pd
import pytest

from invitro.errors import InputError
from invitro.files import (
    numbers,
    read_table,
    require_columns,
    sha256,
    suffix_of,
    whole_or_absent,
    write_json,
    write_text,
)

ROWS = pd.DataFrame({"id": ["007", "8"], "score": [1.5, 4.0], "note": ['a, "b"\tc', None]})


def written(folder: Path, suffix: str) -> Path:
    path = folder / f"table{suffix}"
    if suffix == ".parquet":
        ROWS.to_parquet(path)
    elif suffix == ".jsonl":
        ROWS.to_json(path, orient="records", lines=True)
    else:
        ROWS.to_csv(path, sep="\t" if suffix == ".tsv" else ",", index=False)
    return path


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet", ".jsonl"])
def test_every_kind_reads_as_text(tmp_path: Path, suffix: str) -> None:
    table = read_table(written(tmp_path, suffix))
    assert table["id"].tolist() == ["007", "8"]
    assert table["note"].tolist()[0] == 'a, "b"\tc'
    assert pd.isna(table["note"].iloc[1])
    assert table["score"].astype(float).tolist() == [1.5, 4.0]
    assert {str(dtype) for dtype in table.dtypes} == {"str"}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.xlsx", "x", r"expected a table file ending in .csv, .tsv, .parquet, .jsonl; found '.xlsx'"),
        ("a", "x", "found no ending"),
        ("a.csv", "", "not readable as a CSV table: No columns to parse"),
        ("a.csv", "a,b\n1,2\n1,2,3\n", "Expected 2 fields in line 3, saw 3"),
        ("a.csv", "a,b\n1,2,3\n", r"expected 2 cells in a row, as in the header, found 3 in data row 1; check the sep"),
        ("a.csv", b"caf\xe9\n1\n", "not readable as a CSV table: 'utf-8' codec"),
        ("a.jsonl", '{"a": 1}\n{"a"\n', r"line 2: expected a JSON object, found '\{\"a\"' \("),
        ("a.jsonl", "[1]\n", r"line 1: expected a JSON object, found '\[1\]'"),
        ("a.parquet", "junk", "not readable as a PARQUET table"),
    ],
)
def test_unreadable_files_are_refused(tmp_path: Path, name: str, content: str | bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(InputError, match=message) as refused:
        read_table(path)
    assert str(path) in str(refused.value)


def test_a_missing_file_is_refused_with_the_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"no such file \(looked in {tmp_path}\)"):
        read_table(tmp_path / "none.csv")


def test_numbers_and_nested_values_read_as_people_write_them(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"n": 3.0, "list": [1, null], "blank": ""}\n\n{"n": 10000000000000001}\n{"n": 4}\n')
    table = read_table(path)
    assert table["n"].tolist() == ["3", "10000000000000001", "4"]
    assert table["list"].iloc[0] == "[1, None]"
    assert table["blank"].isna().all()


def test_parquet_lists_and_a_named_index_are_columns(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pd.DataFrame({"text": ["x", "y"], "parts": [[1, 2], [3]]}, index=pd.Index(["a", "b"], name="id")).to_parquet(path)
    table = read_table(path)
    assert table["id"].tolist() == ["a", "b"]
    assert table["parts"].tolist() == ["[1 2]", "[3]"]


def test_csv_options_and_files_without_header(tmp_path: Path) -> None:
    path = tmp_path / "gold.tsv"
    path.write_text("1.5\t2\tsad\n3\t4\tjoy\n")
    assert read_table(path, header=None).to_numpy().tolist() == [["1.5", "2", "sad"], ["3", "4", "joy"]]
    path = tmp_path / "escaped.csv"
    path.write_text('text\n"I am a \\"good\\" person, mostly"\n')
    assert read_table(path, escapechar="\\")["text"].tolist() == ['I am a "good" person, mostly']


def test_missing_columns_are_named_with_what_there_is() -> None:
    require_columns(ROWS, ["id", "score"], "a.csv")
    with pytest.raises(InputError) as refused:
        require_columns(ROWS, ["essay", "id", "label"], "a.csv", "Map them")
    assert str(refused.value) == "a.csv: expected columns essay, label; found id, score, note. Map them"


def test_numbers() -> None:
    column = pd.Series(["1", " 2.5 ", "unknown", "NA", "", None, "1e2"], name="score")
    values = numbers(column, "a.csv")
    assert values.dtype == "float64"
    assert values.dropna().tolist() == [1.0, 2.5, 100.0]
    assert values.isna().tolist() == [False, False, True, True, True, True, False]


def test_numbers_names_the_row_of_what_is_none() -> None:
    with pytest.raises(InputError) as refused:
        numbers(pd.Series(["1", "high", None, "low"], name="score"), "a.csv")
    assert str(refused.value) == "a.csv: data row 2, column score: expected a number, found 'high' (and 1 more rows)"


def fail_midway(path: Path) -> None:
    with whole_or_absent(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError("midway")


def test_whole_or_absent_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "new" / "record.json"
    with pytest.raises(RuntimeError, match="midway"):
        fail_midway(path)
    assert list(path.parent.iterdir()) == []


def test_whole_or_absent_keeps_the_old_file_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    write_text(path, "old")
    with pytest.raises(RuntimeError, match="midway"):
        fail_midway(path)
    assert path.read_text() == "old"
    write_text(path, "né")
    assert path.read_bytes() == "né".encode()
    assert [file.name for file in tmp_path.iterdir()] == ["record.json"]


def test_write_json_refuses_nan(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "metrics.json", {"ccc": float("nan")})
    assert list(tmp_path.iterdir()) == []
    write_json(tmp_path / "metrics.json", {"ccc": 0.5})
    assert json.loads((tmp_path / "metrics.json").read_text()) == {"ccc": 0.5}


def test_sha256_and_suffix(tmp_path: Path) -> None:
    write_text(tmp_path / "a.TSV", "abc")
    assert sha256(tmp_path / "a.TSV") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert suffix_of(tmp_path / "a.TSV") == ".tsv"
