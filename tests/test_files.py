"""Tables in, whole or in pieces; files out."""

import json
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from invitro import files
from invitro.errors import InputError
from invitro.files import (
    columns_of,
    numbers,
    pieces,
    read_rows,
    read_table,
    require_columns,
    sha256,
    suffix_of,
    whole_or_absent,
    write_json,
    write_rows,
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
        ("a.csv", "", "expected a header and rows, found an empty file"),
        ("a.csv", "id,id\n1,2\n", "expected column names that differ, found id, id"),
        ("a.csv", "a,b\n1,2\n1,2,3\n", r"data row 2 \(line 3\): expected 2 cells, found 3"),
        ("a.csv", "a,b\n1,2\n\n1\n", r"data row 3 \(line 4\): expected 2 cells, found 1"),
        ("a.csv", b"caf\xe9\n1\n", "line 1: not readable as UTF-8 text"),
        ("a.jsonl", '{"a": 1}\n{"a"\n', r"line 2: expected a JSON object, found something else \(Expecting"),
        ("a.jsonl", "[1]\n", r"line 1: expected a JSON object, found a list"),
        ("a.jsonl", b"caf\xe9\n", "not readable as UTF-8 text"),
        ("a.parquet", "junk", "not readable as Parquet"),
    ],
)
def test_unreadable_files_are_refused(tmp_path: Path, name: str, content: str | bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    for read in (read_table, lambda path: list(read_rows(path, 10))):
        with pytest.raises(InputError, match=message) as refused:
            read(path)
        assert str(path) in str(refused.value)


def test_faults_do_not_quote_texts(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("my secret\n")
    with pytest.raises(InputError) as refused:
        read_table(path)
    assert "secret" not in str(refused.value)
    target = tmp_path / "a.parquet"
    with write_rows(target, {}, path) as write:
        write([{"text": 1}])
        with pytest.raises(InputError, match="a value of another type") as refused:
            write([{"text": "my secret"}])
    assert "secret" not in str(refused.value)


def test_a_byte_order_mark_is_no_part_of_a_name(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbfid,text\n007,x\n")
    assert read_table(tmp_path / "a.csv").to_dict("records") == [{"id": "007", "text": "x"}]


def test_rows_are_read_in_pieces_whatever_their_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "PIECE", 2)
    (tmp_path / "a.jsonl").write_text('{"a": 1}\n{"a": 2}\n{"b": 3}\n')
    table = read_table(tmp_path / "a.jsonl")
    assert table["a"].tolist()[:2] == ["1", "2"]
    assert table["b"].tolist()[2] == "3"
    assert table.isna().sum().to_dict() == {"a": 1, "b": 2}
    assert {str(dtype) for dtype in table.dtypes} == {"str"}


def test_a_blank_line_is_no_row_of_a_table(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text\na\n\nb\n")
    assert read_table(tmp_path / "a.csv")["text"].tolist() == ["a", "b"]
    assert [row["text"] for row in next(read_rows(tmp_path / "a.csv", 9))] == ["a", "", "b"]


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
    assert table["parts"].tolist() == ["[1, 2]", "[3]"]


def test_csv_options_and_files_without_header(tmp_path: Path) -> None:
    path = tmp_path / "gold.tsv"
    path.write_text("1.5\t2\tsad\n3\t4\tjoy\n")
    assert read_table(path, header=False).to_numpy().tolist() == [["1.5", "2", "sad"], ["3", "4", "joy"]]
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


cells = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=12)
tables = st.lists(st.fixed_dictionaries({"id": cells, "text": cells, "más": cells}), min_size=1, max_size=12)


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
@given(rows=tables, size=st.integers(1, 5))
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_written_is_read(tmp_path: Path, suffix: str, rows: list, size: int) -> None:
    source = tmp_path / "source.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = tmp_path / f"table{suffix}"
    with write_rows(path, {"score": pa.float64()}, like=source) as write:
        write([row | {"score": None} for row in rows])
    lists = list(read_rows(path, size))
    assert all(len(piece) == size for piece in lists[:-1])
    found = [row for piece in lists for row in piece]
    assert [{name: row[name] for name in ("id", "text", "más")} for row in found] == rows
    assert [row["score"] for row in found] == ["" if suffix in (".csv", ".tsv") else None] * len(rows)


def test_parquet_keeps_its_types(tmp_path: Path) -> None:
    source = tmp_path / "in.parquet"
    pq.write_table(pa.table({"n": pa.array([1, 2], pa.int16()), "tags": [["a"], []]}), source)
    target = tmp_path / "out.parquet"
    with write_rows(target, {"score": pa.float64()}, like=source) as write:
        for piece in read_rows(source, 1):
            write([row | {"score": 0.5} for row in piece])
    schema = pq.read_schema(target)
    assert schema.field("n").type == pa.int16()
    assert schema.names == ["n", "tags", "score"]
    assert pq.read_table(target).num_rows == 2


def test_a_failure_on_the_way_leaves_nothing(tmp_path: Path) -> None:
    source = tmp_path / "in.csv"
    source.write_text("id\n1\n")
    with pytest.raises(ValueError, match="extra"), write_rows(tmp_path / "out.csv", {}, like=source) as write:
        write([{"id": "1"}, {"extra": "2"}])
    assert [path.name for path in tmp_path.iterdir()] == ["in.csv"]


def test_columns(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text("id\ttext\n1\tx\n")
    assert columns_of(path) == ["id", "text"]


def test_pieces_take_no_more_than_they_give() -> None:
    taken = []
    source = (taken.append(n) or n for n in range(10))
    assert next(pieces(source, 4)) == [0, 1, 2, 3]
    assert taken == [0, 1, 2, 3]
