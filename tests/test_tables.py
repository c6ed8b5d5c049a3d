"""Tables in, whole or in pieces: what is read, and what is refused."""

import json
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from invitro import tables
from invitro.errors import InputError
from invitro.files import write_rows
from invitro.tables import columns_of, numbers, pieces, read_rows, read_table, require_columns, text_of

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
        ("a.xls", "x", r"expected a table file ending in .csv, .tsv, .* found '.xls': save it as .xlsx in Excel"),
        ("a.doc", "x", "found '.doc': put the texts into a table, one row each"),
        ("a.abc", "x", "found '.abc': export it as .csv or .xlsx"),
        ("a", "x", "found no ending"),
        ("a.csv", "", "expected a header and rows, found an empty file"),
        ("a.csv", "id,id\n1,2\n", "expected column names that differ, found id twice"),
        ("a.csv", "a,b\n1,2\n1,2,3\n", r"data row 2 \(line 3\): expected 2 cells, found 3"),
        ("a.csv", "a,b\n1,2\n\n1\n", r"data row 2 \(line 4\): expected 2 cells, found 1"),
        (
            "a.csv",
            'a,b\n1,"2\n3,4\n',
            r"lines 2 to 3: not readable as CSV \(unexpected end of data\). A cell that begins",
        ),
        ("a.tsv", 'a\tb\n1\t"2\n3\t"4\n', r"lines 2 to 3: not readable as TSV"),
        ("a.csv", "a\nx\0y\n", r"line 2: contains a NUL character"),
        (
            "a.csv",
            b"caf\xe9\n1\n",
            "line 1: not readable as UTF-8: byte 0xe9, perhaps Windows-1252. Save it as UTF-8",
        ),
        ("a.csv", b"a\r\nb\r\nI don\x92t\r\n", r"line 3: .* or set its encoding with data.encoding=cp1252"),
        ("a.csv", "a\nb\n".encode("utf-16")[:-1], "not readable as UTF-16; is it complete"),
        ("a.csv", "a\nb\n".encode("utf-16-le"), "line 1: contains a NUL character; is it damaged, or UTF-16?"),
        ("a.jsonl", '{"a": 1}\n{"a"\n', r"line 2: expected a JSON object, found something else \(Expecting"),
        ("a.jsonl", "[1]\n", r"line 1: expected a JSON object, found a list"),
        ("a.jsonl", '{"a": "x"}\n{"a": "b", "a": "c"}\n', r"line 2: expected keys that differ, found a twice"),
        ("a.jsonl", '{"a": {"b": 1, "b": 2}}\n', r"line 1: expected keys that differ, found b twice"),
        ("a.jsonl", r'{"a": "\ud83d"}', r"line 1: found half a character \(an unpaired surrogate"),
        ("a.jsonl", r'{"\ud83d": 1}', r"line 1: found half a character"),
        ("a.jsonl", '{"a": ' + "[" * 101 + "]" * 101 + "}", "line 1: lists and objects are nested deeper than 100"),
        ("a.jsonl", '{"a": ' + "[" * 10**5 + "]" * 10**5 + "}", "line 1: lists and objects are nested deeper than 100"),
        ("a.jsonl", '{"a": ' + "9" * 5000 + "}", "line 1: .* found one with thousands of digits"),
        ("a.jsonl", b"caf\xe9\n", "line 1: not readable as UTF-8: byte 0xe9"),
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


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_names_the_encoding(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "a.jsonl").write_text('{"id": "007"}\n', encoding=encoding)
    assert columns_of(tmp_path / "a.jsonl") == ["id"]
    assert read_table(tmp_path / "a.jsonl").to_dict("records") == [{"id": "007"}]


def test_an_encoding_is_taken_at_its_word(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes("id;süß\n1;I don’t\n".encode("cp1252"))
    assert read_table(tmp_path / "a.csv", encoding="cp1252").to_dict("records") == [{"id": "1", "süß": "I don’t"}]
    with pytest.raises(InputError, match="not readable as ASCII"):
        read_table(tmp_path / "a.csv", encoding="ascii")
    with pytest.raises(InputError, match="expected a name such as cp1252 or utf-16, found 'latin-99'"):
        read_table(tmp_path / "a.csv", encoding="latin-99")


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["3,5", "4", None, "4,667"], [3.5, 4.0, None, 4.667]),
        (["3.5", "4", "n/a"], [3.5, 4.0, None]),
        (["3,5", "4.5"], "data row 1, column x: expected a number, found '3,5'"),
        (["1,234,567"], "data row 1, column x: expected a number"),
    ],
)
def test_commas_are_decimal_commas_where_no_number_has_a_point(cells: list[str | None], expected: object) -> None:
    column = pd.Series(cells, dtype="str", name="x")
    if isinstance(expected, str):
        with pytest.raises(InputError, match=expected):
            numbers(column, "a.csv")
        return
    values = numbers(column, "a.csv")
    assert values.astype("object").where(values.notna(), None).tolist() == expected


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
@pytest.mark.parametrize(
    ("lines", "rows"),
    [
        (["t1,3,a calm text", 't2,4,"a sad text', "t3,5,a text", 't4,6,he said so"'], None),
        (['"a sad text,4,t2', "a text,5,t3", 'he said so",6,t4'], None),
        (['t2,4,"Dear you', "", "I, too, felt", 'sad, and so on"', "t3,5,a text"], 2),
        (['t2,4,"One,', 'two, three"', "t3,5,a text"], 2),
        (['t2,4,"So it was 3, 4, 5', '2, 3, 4 and ""more"""', "t3,5,a text"], 2),
    ],
)
def test_a_quotation_mark_swallows_no_rows(tmp_path: Path, suffix: str, lines: list[str], rows: int | None) -> None:
    separator = "\t" if suffix == ".tsv" else ","
    path = tmp_path / f"a{suffix}"
    path.write_text("\n".join(["id,score,text", *lines]).replace(",", separator))
    if rows is not None:
        assert len(read_table(path)) == rows
        return
    with pytest.raises(
        InputError, match=r"data row \d \(line \d\): a quotation mark opens a cell that ends \d lines below"
    ):
        read_table(path)


def test_rows_of_several_lines_are_counted_aloud(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "a.csv"
    path.write_text('name,text\nann,"Dear you,\n\nI felt sad"\nbo,so\n')
    with caplog.at_level("INFO"):
        assert len(read_table(path)) == 2
    assert f"{path}: 2 rows in 4 lines, since cells contain line breaks" in caplog.text


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ([1], "a list"),
        ({"a": 1}, "an object"),
        (True, "true"),
        (b"x", "bytes"),
        ("x\0", "a NUL character"),
        ("\ud83d", "half a character"),
        pytest.param(10**5000, "a value that is too long to write", id="5,001 digits"),
    ],
)
def test_values_that_are_not_texts_are_refused(value: object, found: str) -> None:
    with pytest.raises(InputError, match=f"found {found}"):
        text_of(value)


@pytest.mark.parametrize(
    ("value", "text"), [(3.0, "3"), (2.5, "2.5"), ("007", "007"), (None, None), (float("nan"), None)]
)
def test_cells_as_text(value: object, text: str | None) -> None:
    assert text_of(value) == text


def test_a_mapped_column_holds_texts_or_numbers(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"id": 1, "text": "x", "tags": [1]}\n{"id": 2, "text": ["zebra"], "tags": [2]}\n')
    assert read_table(path)["tags"].tolist() == ["[1]", "[2]"]
    with pytest.raises(InputError) as refused:
        read_table(path, plain=["id", "text"])
    assert str(refused.value) == f"{path}: data row 2, column text: expected a text or a number, found a list"


def test_parquet_faults_are_refused(tmp_path: Path) -> None:
    path, column = tmp_path / "a.parquet", pa.array(["zebra"])
    cases = {
        "expected column names that differ, found a twice": pa.table([column, column], ["a", "a"]),
        r"not readable as Parquet \(UnicodeDecodeError\)": pa.table(
            [pa.Array.from_buffers(pa.string(), 1, pa.array([b"\xff"]).buffers())], ["a"]
        ),
        r"not readable as Parquet \(OverflowError\)": pa.table([pa.array([2**31 - 1], pa.date32())], ["a"]),
    }
    for message, table in cases.items():
        pq.write_table(table, path)
        for read in (read_table, lambda path: list(read_rows(path, 10))):
            with pytest.raises(InputError, match=message):
                read(path)


def as_bytes(suffix: str) -> bytes:
    rows = [{"id": f"t{n}", "score": n / 2, "text": f"zebraquill, I thought “of” {n}; zebraquill."} for n in range(9)]
    if suffix == ".jsonl":
        return "".join(json.dumps(row) + "\n" for row in rows).encode()
    if suffix == ".parquet":
        pd.DataFrame(rows).to_parquet(buffer := BytesIO())
        return buffer.getvalue()
    return pd.DataFrame(rows).to_csv(index=False, sep="\t" if suffix == ".tsv" else ",").encode()


def refusal_of(read: Callable[[], object]) -> str:
    try:
        read()
    except InputError as error:
        return str(error)
    return ""


pieces_put_in = st.sampled_from(
    [
        b"\0",
        b"\xff",
        b"\x92",
        b'"',
        b",",
        b"\t",
        b"\n",
        b"\r",
        b"\\",
        b"[",
        b"}",
        b"\xef\xbb\xbf",
        b"\\ud83d",
        b"\xed\xa0\xbd",
    ]
)
damages = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 40), pieces_put_in | st.binary(max_size=3)), max_size=4)


@pytest.mark.parametrize("suffix", tables.SUFFIXES)
@given(damages=damages)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_damage_is_refused_without_a_piece_of_a_text(tmp_path: Path, suffix: str, damages: list) -> None:
    content = as_bytes(suffix)
    for place, length, piece in damages:
        start = int(place * len(content))
        content = content[:start] + piece + content[start + length :]
    path = tmp_path / f"a{suffix}"
    path.write_bytes(content)
    for read in (lambda: read_table(path, plain=["text"]), lambda: list(read_rows(path, 4)), lambda: columns_of(path)):
        assert "zebraquill" not in refusal_of(read)


def test_faults_do_not_quote_texts(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("my secret\n")
    with pytest.raises(InputError) as refused:
        read_table(path)
    assert "secret" not in str(refused.value)
    with pytest.raises(InputError) as refused:
        numbers(pd.Series(["1", "my secret"], name="score"), "a.csv")
    assert str(refused.value) == "a.csv: data row 2, column score: expected a number, found a text of 9 characters"
    target = tmp_path / "a.parquet"
    with write_rows(target, {}, path) as write:
        write([{"text": 1}])
        with pytest.raises(InputError, match="a value of another type") as refused:
            write([{"text": "my secret"}])
    assert "secret" not in str(refused.value)


def test_a_byte_order_mark_is_not_part_of_a_name(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbfid,text\n007,x\n")
    assert read_table(tmp_path / "a.csv").to_dict("records") == [{"id": "007", "text": "x"}]


def test_rows_are_read_in_pieces_whatever_their_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "PIECE", 2)
    (tmp_path / "a.jsonl").write_text('{"a": 1}\n{"a": 2}\n{"b": 3}\n')
    table = read_table(tmp_path / "a.jsonl")
    assert table["a"].tolist()[:2] == ["1", "2"]
    assert table["b"].tolist()[2] == "3"
    assert table.isna().sum().to_dict() == {"a": 1, "b": 2}
    assert {str(dtype) for dtype in table.dtypes} == {"str"}


def test_a_blank_line_is_not_a_row_of_a_table(tmp_path: Path) -> None:
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


def test_missing_columns_are_named_with_the_present_ones() -> None:
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


def test_numbers_names_the_row_of_a_value_that_is_not_a_number() -> None:
    with pytest.raises(InputError) as refused:
        numbers(pd.Series(["1", "high", None, "low"], name="score"), "a.csv")
    assert str(refused.value) == "a.csv: data row 2, column score: expected a number, found 'high' (and 1 more)"


def test_columns(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text("id\ttext\n1\tx\n")
    assert columns_of(path) == ["id", "text"]


def test_pieces_take_no_more_than_they_give() -> None:
    taken = []
    source = (taken.append(n) or n for n in range(10))
    assert next(pieces(source, 4)) == [0, 1, 2, 3]
    assert taken == [0, 1, 2, 3]
