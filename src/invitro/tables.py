"""Tables of any length, by suffix, whole or in pieces: CSV, TSV, Parquet, JSONL, and the formats of `invitro.foreign`.

Every entry point reads through `read_rows`. A faulty file raises an `InputError` that names file and row and never
quotes a text.
"""

import csv
import json
import logging
from collections.abc import Collection, Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any, TextIO, TypeVar

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from invitro.errors import InputError, meant, names_shown, shown
from invitro.foreign import READERS, damaged, doccano, foreign, is_foreign, refuse_twice
from invitro.formats import (
    CELL_STATUS,
    NO_ANSWER,
    TableRow,
    Unusable,
    are_rows,
    how_to_export,
    opened,
    separator_of,
    with_decimal_points,
    without_qualtrics_headers,
)

log = logging.getLogger(__name__)
T = TypeVar("T")

SUFFIXES = (".csv", ".tsv", ".parquet", ".jsonl")
"""Endings of the tables that can be read and written."""
READ = (*SUFFIXES, *READERS)
"""Endings of the tables that can be read, in addition to folders of saved datasets."""
BLANK = ("", "unknown", "nan", "na", "n/a", "none")
"""How files write a missing number, in lower case."""
PIECE = 10_000
"""Rows of a table that are Python objects in memory at a time."""
DEEPEST = 100
"""How deeply lists and objects of a JSONL row may be nested."""
UNREADABLE = (pa.ArrowException, OSError, ValueError, TypeError, ArithmeticError, MemoryError, RecursionError)
"""What pyarrow raises for damaged Parquet files and for values that Python cannot represent."""
csv.field_size_limit(2**31 - 1)  # a text may be longer than the csv module's 128 KiB


def suffix_of(path: Path) -> str:
    """Return the table suffix of `path`, one of `READ`; anything else is refused, with how to export it."""
    suffix = path.suffix.lower()
    if suffix not in READ:
        actual = f"{suffix!r}: {how_to_export(path)}" if suffix else "no ending"
        raise InputError(f"{path}: expected a table file ending in {', '.join(READ)}; found {actual}")
    return suffix


def pieces(things: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield `things` in lists of at most `size`, in order, consuming no more of them than it yields."""
    iterator = iter(things)
    while piece := list(islice(iterator, size)):
        yield piece


def read_rows(
    path: str | Path,
    size: int,
    header: bool = True,
    escapechar: str | None = None,
    encoding: str | None = None,
) -> Iterator[list[TableRow]]:
    """Yield the rows of a table file in lists of at most `size`, in order.

    Cells of CSV and TSV are text exactly as written; values from Parquet and JSONL keep their type. Python's own `csv`
    and `json` read the text formats: pyarrow's readers refuse a text that is longer than a block, round long
    integers, and quote the user's texts in their errors.

    Args:
        path: the file, or the folder of a saved dataset. CSV, TSV and JSONL are UTF-8 unless a byte order mark or
            `encoding` says otherwise; the cells of .csv are separated by commas, or else by semicolons or tabs.
        size: largest number of rows in a list.
        header: whether the first line of a CSV or TSV file names the columns; otherwise they are ``0``, ``1``, ...
        escapechar: the character that escapes a quote inside a cell of a CSV or TSV file, as does doubling the quote.
        encoding: the encoding of CSV, TSV and JSONL, such as ``cp1252``.

    Raises:
        InputError: the file is missing, of an unknown kind, in another encoding or damaged; two columns or keys have
            the same name; a row does not match the header; or a quotation mark swallows rows.
    """
    path = _table_file(path)
    if is_foreign(path):
        yield from pieces((dict(row) for row in foreign(path).rows), size)
    elif suffix_of(path) == ".parquet":
        yield from pieces(_parquet_rows(path), size)
    elif suffix_of(path) == ".jsonl":
        yield from pieces(_jsonl_rows(path, encoding), size)
    else:
        yield from pieces(_csv_rows(path, header, escapechar, encoding), size)


def columns_of(path: str | Path, encoding: str | None = None) -> list[str]:
    """Return the columns of a table file: the header, the schema, or the keys of the first object.

    Raises:
        InputError: as for `read_rows`, about the part of the file that is read.
    """
    path = _table_file(path)
    if is_foreign(path):
        return list(foreign(path).columns)
    if suffix_of(path) == ".parquet":
        return list(parquet_schema(path).names)
    if suffix_of(path) == ".jsonl":
        with closing(_jsonl_rows(path, encoding)) as rows:
            return list(next(rows, {}))
    with closing(_csv_cells(path, True, None, encoding)) as cells:
        return next(cells)


def _table_file(path: str | Path) -> Path:
    path = Path(path)
    if path.is_dir():
        return path
    suffix_of(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file (looked in {path.parent.resolve()})")
    return path


def _csv_rows(path: Path, has_header: bool, escapechar: str | None, encoding: str | None) -> Iterator[TableRow]:
    cells = _csv_cells(path, has_header, escapechar, encoding)
    header = next(cells)
    yield from without_qualtrics_headers(dict(zip(header, row, strict=True)) for row in cells)


def _csv_cells(
    path: Path, has_header: bool, escapechar: str | None, encoding: str | None
) -> Generator[list[str], None, None]:
    """Yield the names of the columns, then the cells of each row."""
    header: list[str] | None = None
    count, lines = 0, 0
    separator = separator_of(path, encoding)
    for first, raw, row in _records(path, separator, escapechar, encoding):
        if header is None:
            header = row if has_header else [str(number) for number in range(len(row))]
            refuse_twice(header, f"{path}: expected column names that differ")
            yield header
            if has_header:
                continue
        if not row and len(header) > 1:
            continue  # a blank line; in a table of one column it is a row without a text
        row = row or [""]
        count, lines = count + 1, lines + len(raw)
        where = f"{path}: data row {count} (line {first})"
        if len(row) != len(header):
            raise InputError(
                f"{where}: expected {len(header)} cells, found {len(row)}; is a quote or a separator missing?"
            )
        if len(raw) > 1 and are_rows(raw, row, separator):
            raise InputError(
                f"{where}: a quotation mark opens a cell that ends {len(raw) - 1} lines below, and each of these lines "
                f"looks like a separate row. {QUOTES}"
            )
        yield row
    if header is None:
        raise InputError(f"{path}: expected a header and rows, found an empty file")
    if lines > count:
        _say_once(f"{path}: {count} rows in {lines} lines, since cells contain line breaks")


QUOTES = (
    "A cell that begins with a quotation mark has to be quoted, with each quotation mark in it written twice; "
    "or save the table as .jsonl or .parquet"
)


def _records(
    path: Path, separator: str, escapechar: str | None, encoding: str | None
) -> Iterator[tuple[int, list[str], list[str]]]:
    """Yield each record of a CSV or TSV file: the number of its first line, its raw lines, its cells."""
    raw: list[str] = []

    def remembered(lines: TextIO) -> Iterator[str]:
        for line in lines:
            raw.append(line)
            yield line

    first = 1
    with opened(path, "", encoding) as handle:
        reader = csv.reader(remembered(handle), delimiter=separator, escapechar=escapechar, strict=True)
        while True:
            raw.clear()
            try:
                cells = next(reader, None)
            except csv.Error as error:
                lines = f"line {first}" if reader.line_num <= first else f"lines {first} to {reader.line_num}"
                what = f"not readable as {path.suffix[1:].upper()} ({error})"
                raise InputError(f"{path}: {lines}: {what}. {QUOTES}") from None
            if cells is None:
                return
            if any("\0" in cell for cell in cells):
                raise InputError(f"{path}: line {first}: contains a NUL character; is it damaged, or UTF-16?")
            yield first, raw, cells
            first = reader.line_num + 1


@cache
def _say_once(message: str) -> None:
    log.info(message)


def _jsonl_rows(path: Path, encoding: str | None) -> Generator[TableRow, None, None]:
    with opened(path, None, encoding) as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                try:
                    yield doccano(_object(line))
                except InputError as error:
                    raise InputError(f"{path}: line {number}: {error}") from None


def _object(line: str) -> TableRow:
    """Parse a line of a JSONL file; the error says what is wrong with it."""
    try:
        row = json.loads(line, object_pairs_hook=_without_doubles)
    except InputError:
        raise
    except json.JSONDecodeError as error:
        problem = f"{error.msg} at character {error.pos + 1}"
        raise InputError(f"expected a JSON object, found something else ({problem})") from None
    except RecursionError:
        raise InputError(f"lists and objects are nested deeper than {DEEPEST}") from None
    except ValueError:
        raise InputError("expected numbers that can be read, found one with thousands of digits") from None
    if not isinstance(row, dict):
        raise InputError(f"expected a JSON object, found {_kind(row)}")
    layer, depth = [row], 0
    while layer := [inner for outer in layer for inner in _nested(outer)]:
        depth += 1
        if depth > DEEPEST:
            raise InputError(f"lists and objects are nested deeper than {DEEPEST}")
    if "\\u" in line:  # only an escape can encode half a character
        _refuse_half_characters(json.dumps(row, ensure_ascii=False))
    return row


def _nested(value: Any) -> Iterator[Any]:
    children = value.values() if isinstance(value, dict) else value
    return (child for child in children if isinstance(child, (dict, list)))


def _without_doubles(pairs: list[tuple[str, Any]]) -> TableRow:
    row = dict(pairs)
    if len(row) < len(pairs):
        refuse_twice([name for name, _ in pairs], "expected keys that differ")
    return row


def _refuse_half_characters(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InputError(
            "found half a character (an unpaired surrogate, such as from an emoji cut in two); remove it"
        ) from None


def _parquet_rows(path: Path) -> Iterator[TableRow]:
    parquet_schema(path)
    with _parquet(path), pq.ParquetFile(path, page_checksum_verification=True) as file:
        for batch in file.iter_batches(PIECE):
            yield from batch.to_pylist()


def parquet_schema(path: Path) -> pa.Schema:
    with _parquet(path):
        schema = pq.read_schema(path)
        names = list(schema.names)
    refuse_twice(names, f"{path}: expected column names that differ")
    return schema


@contextmanager
def _parquet(path: Path) -> Iterator[None]:
    """Turn the errors of a damaged file into one that names only their type, since Arrow may quote a text."""
    try:
        yield
    except UNREADABLE as error:
        raise damaged(path, "Parquet", error) from None


def read_table(
    path: str | Path,
    header: bool = True,
    escapechar: str | None = None,
    plain: Collection[str] = (),
    encoding: str | None = None,
) -> pd.DataFrame:
    """Read a table with all columns as text, so that ids such as ``007`` survive; missing cells are NA.

    Arguments and errors are those of `read_rows`, and of `as_text` for `plain`. A blank line in a file of one column is
    not a row.
    """
    tables, count, statuses = [], 0, dict[tuple[int, str], str]()
    for rows in read_rows(path, PIECE, header, escapechar, encoding):
        index = pd.RangeIndex(count, count := count + len(rows))
        tables.append(as_text(pd.DataFrame(rows, index=index, dtype=object), plain, path))
        statuses |= tables[-1].attrs.get(CELL_STATUS, {})
    if not tables:
        return pd.DataFrame(columns=columns_of(path, encoding), dtype="str")
    # An index without a name holds row numbers, which pandas stored when the file was written.
    frame = pd.concat(tables).drop(columns="__index_level_0__", errors="ignore")
    frame.attrs = {CELL_STATUS: statuses} if statuses else {}
    return frame.dropna(ignore_index=True) if frame.shape[1] == 1 else frame


def as_text(frame: pd.DataFrame, plain: Collection[str] = (), source: str | Path = "frame") -> pd.DataFrame:
    """Turn the cells of `frame` into text by `text_of`.

    `Unusable` cells become missing, with their status in ``attrs`` under `CELL_STATUS`.

    Args:
        frame: any DataFrame; its index counts data rows from 0.
        plain: columns that hold texts, ids or numbers; in others, lists and objects become text too.
        source: the file named in errors.
    """
    statuses = dict[tuple[int, str], str]()

    def column(name: str, values: "pd.Series[Any]") -> "pd.Series[str]":
        given, texts = values.tolist(), []
        if set(map(type, given)) == {str} and (whole := "".join(given)).isascii() and "\0" not in whole:
            return pd.Series([text or None for text in given], index=frame.index, dtype="str")
        for row, value in zip(frame.index, values, strict=True):
            if isinstance(value, Unusable):
                statuses[row, name] = value.status
            try:
                texts.append(text_of(value, name in plain))
            except InputError as error:
                raise InputError(f"{source}: data row {row + 1}, column {names_shown([name])}: {error}") from None
        return pd.Series(texts, index=frame.index, dtype="str")

    table = pd.DataFrame({str(name): column(str(name), values) for name, values in frame.items()}, index=frame.index)
    table.attrs = {CELL_STATUS: statuses} if statuses else {}
    return table


def text_of(value: object, plain: bool = True) -> str | None:
    """Return a cell as a person would write it: 3 for 3.0, None if it is missing, empty or in `NO_ANSWER`.

    Raises:
        InputError: `plain`, and it is a list, an object, true, false, bytes or `Unusable`; or it contains a NUL, half a
            character, or more digits than Python writes. The message says what was found but not where.
    """
    if plain and isinstance(value, (bool, np.bool_, bytes, list, tuple, set, dict, np.ndarray)):
        raise InputError(f"expected a text or a number, found {_kind(value)}")
    if isinstance(value, Unusable):
        if plain and value.status not in NO_ANSWER:
            raise InputError(f"expected a text or a number, found {value.reason}")
        return None
    if pd.api.types.is_scalar(value) and (pd.isna(value) or value == ""):  # type: ignore[call-overload]
        return None
    try:
        text = str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
    except (ValueError, RecursionError):
        raise InputError("expected a text or a number, found a value that is too long to write") from None
    if not text.isascii():
        _refuse_half_characters(text)
    if "\0" in text:
        raise InputError("expected a text or a number, found a NUL character")
    return text


def _kind(value: object) -> str:
    if isinstance(value, (bool, np.bool_)):
        return str(value).lower()
    names = {list: "a list", dict: "an object", bytes: "bytes", str: "a text", int: "a number", float: "a number"}
    return names.get(type(value), f"a {type(value).__name__}")


def require_columns(frame: pd.DataFrame, columns: Iterable[str], source: str | Path, fix: str = "") -> None:
    """Refuse `frame` if any of `columns` is missing, naming all missing ones and those present."""
    missing = [name for name in dict.fromkeys(columns) if name not in frame.columns]
    if missing:
        expected = f"expected column{'s' * (len(missing) > 1)} {', '.join(missing)}"
        names = f"{names_shown(frame.columns)}{meant(missing, frame.columns)}"
        raise InputError(f"{source}: {expected}; found {names}" + (" " if names[-1] == "?" else ". ") * bool(fix) + fix)


def numbers(column: "pd.Series[Any]", source: str | Path) -> "pd.Series[float]":
    """Read a column of text as float64, blanks and ``unknown`` as NaN; anything else is refused with its row.

    If no number of the column has a point, commas are decimal commas.
    """
    text = column.astype("str").str.strip()
    blank = column.isna() | text.str.lower().isin(BLANK)
    values = pd.to_numeric(with_decimal_points(text).mask(blank), errors="coerce").astype("float64")
    wrong = values.isna() & ~blank
    if wrong.any():
        position = int(wrong.to_numpy().argmax())
        raise InputError(
            f"{source}: data row {position + 1}, column {names_shown([column.name])}: expected a number, "
            f"found {shown(text.iloc[position])}" + (f" (and {int(wrong.sum()) - 1} more)" if wrong.sum() > 1 else "")
        )
    return values
