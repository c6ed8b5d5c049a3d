"""Tables in pieces: rows come out as they went in."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from invitro.errors import InputError
from invitro.files import columns_of, read_rows, write_rows

cells = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=12)
tables = st.lists(st.fixed_dictionaries({"id": cells, "text": cells, "más": cells}), min_size=1, max_size=12)


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
@given(rows=tables, size=st.integers(1, 5))
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_written_is_read(tmp_path: Path, suffix: str, rows: list, size: int) -> None:
    source = tmp_path / "source.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = tmp_path / f"table{suffix}"
    with write_rows(path, {"score": pa.float64()}, like=source) as writer:
        writer.write([row | {"score": None} for row in rows])
    pieces = list(read_rows(path, size))
    assert all(len(piece) == size for piece in pieces[:-1])
    found = [row for piece in pieces for row in piece]
    assert [{name: row[name] for name in ("id", "text", "más")} for row in found] == rows
    assert [row["score"] for row in found] == ["" if suffix in (".csv", ".tsv") else None] * len(rows)


def test_parquet_keeps_its_types(tmp_path: Path) -> None:
    source = tmp_path / "in.parquet"
    pq.write_table(pa.table({"n": pa.array([1, 2], pa.int16()), "tags": [["a"], []]}), source)
    target = tmp_path / "out.parquet"
    with write_rows(target, {"score": pa.float64()}, like=source) as writer:
        for piece in read_rows(source, 1):
            writer.write([row | {"score": 0.5} for row in piece])
    schema = pq.read_schema(target)
    assert schema.field("n").type == pa.int16()
    assert schema.names == ["n", "tags", "score"]
    assert pq.read_table(target).num_rows == 2


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "id,text\n1,a\n2,b,c\n", r"data row 2 \(line 3\): expected 2 cells, found 3"),
        ("a.csv", "", "expected a header"),
        ("a.csv", "id,id\n1,2\n", "expected column names that differ"),
        ("a.jsonl", '{"id": 1}\nnot json\n', "line 2: expected a JSON object, found 'not json'"),
        ("a.jsonl", "[1]\n", "line 1: expected a JSON object"),
        ("a.parquet", "no", "not readable as Parquet"),
        ("a.xlsx", "no", "expected a table file ending in"),
    ],
)
def test_unreadable_files_are_refused(tmp_path: Path, name: str, content: str, message: str) -> None:
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(InputError, match=message):
        list(read_rows(path, 10))


def test_a_failure_on_the_way_leaves_nothing(tmp_path: Path) -> None:
    source = tmp_path / "in.csv"
    source.write_text("id\n1\n")
    with pytest.raises(ValueError, match="extra"), write_rows(tmp_path / "out.csv", {}, like=source) as writer:
        writer.write([{"id": "1"}, {"extra": "2"}])
    assert [path.name for path in tmp_path.iterdir()] == ["in.csv"]


def test_columns(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text("id\ttext\n1\tx\n")
    assert columns_of(path) == ["id", "text"]
