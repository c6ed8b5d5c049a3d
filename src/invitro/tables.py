"""Tables of any length: CSV, TSV, Parquet and JSONL by suffix, whole or in pieces.

Every entry point reads through `read_rows`. What is wrong with a file is an `InputError` that names file and row and
shows no piece of a text.
"""

import csv
import json
import logging
import re
from collections.abc import Collection, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any, TextIO, TypeVar

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from invitro.errors import InputError, names_shown, shown

log = logging.getLogger(__name__)
T = TypeVar("T")
TableRow = dict[str, Any]

SUFFIXES = (".csv", ".tsv", ".parquet", ".jsonl")
BLANK = ("", "unknown", "nan", "na", "n/a", "none")
"""How files write a missing number, in lower case."""
PIECE = 10_000
"""Rows of a table in memory as Python objects at a time."""
DEEPEST = 100
"""How deep lists and objects of a JSONL row may be nested."""
UNREADABLE = (pa.ArrowException, OSError, ValueError, TypeError, ArithmeticError, MemoryError, RecursionError)
"""What pyarrow raises on damaged Parquet files and on values that Python cannot hold."""
csv.field_size_limit(2**31 - 1)  # a text may be longer than the csv module's 128 KiB


def suffix_of(path: Path) -> str:
    """Return the table suffix of `path`, one of `SUFFIXES`; anything else is refused."""
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        actual = repr(suffix) if suffix else "no ending"
        raise InputError(f"{path}: expected a table file ending in {', '.join(SUFFIXES)}; found {actual}")
    return suffix


def pieces(things: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield `things` in lists of at most `size`, in order, consuming no more of them than it yields."""
    rest = iter(things)
    while piece := list(islice(rest, size)):
        yield piece


def read_rows(
    path: str | Path, size: int, header: bool = True, escapechar: str | None = None
) -> Iterator[list[TableRow]]:
    """Yield the rows of a CSV, TSV, Parquet or JSONL file in lists of at most `size`, in order.

    Cells of CSV and TSV are text exactly as written; values from Parquet and JSONL keep their type. Python's own `csv`
    and `json` read the text formats: pyarrow's readers refuse a text that is longer than a block, round long
    integers, and quote the user's texts in their errors.

    Args:
        path: the file; CSV, TSV and JSONL are UTF-8, with or without a byte order mark.
        size: largest number of rows in a list.
        header: whether the first line of a CSV or TSV file names the columns; otherwise they are ``0``, ``1``, ...
        escapechar: the character before a quote inside a cell of a CSV or TSV file, besides a second quote.

    Raises:
        InputError: the file is missing, of an unknown kind, in another encoding or damaged; two columns or keys have
            one name; a row does not match the header; or a quotation mark swallows rows.
    """
    path = _table_file(path)
    if suffix_of(path) == ".parquet":
        yield from pieces(_parquet_rows(path), size)
    elif suffix_of(path) == ".jsonl":
        yield from pieces(_jsonl_rows(path), size)
    else:
        yield from pieces(_csv_rows(path, header, escapechar), size)


def columns_of(path: str | Path) -> list[str]:
    """Return the columns of a table file: the header, the schema, or the keys of the first object.

    Raises:
        InputError: as `read_rows`, as far as this part of the file shows it.
    """
    path = _table_file(path)
    if suffix_of(path) == ".parquet":
        return list(parquet_schema(path).names)
    if suffix_of(path) == ".jsonl":
        with closing(_jsonl_rows(path)) as rows:
            return list(next(rows, {}))
    with closing(_csv_cells(path, True, None)) as cells:
        return next(cells)


def _table_file(path: str | Path) -> Path:
    path = Path(path)
    suffix_of(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file (looked in {path.parent.resolve()})")
    return path


@contextmanager
def _opened(path: Path, newline: str | None) -> Iterator[TextIO]:
    """Open a text file; another encoding and failures of the disk become an `InputError`."""
    try:
        with path.open(encoding="utf-8-sig", newline=newline) as lines:
            yield lines
    except UnicodeDecodeError:
        raise InputError(f"{path}: {_other_encoding(path)}") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error


def _other_encoding(path: Path) -> str:
    """Say where a file stops being UTF-8, what it seems to be, and how to convert it."""
    with path.open("rb") as lines:
        if lines.read(2) in (b"\xff\xfe", b"\xfe\xff"):
            return _in_unicode("begins with the byte order mark of UTF-16", "UTF-16", path)
        lines.seek(0)
        for number, line in enumerate(lines, start=1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                found = f"line {number}: not readable as UTF-8: byte 0x{line[error.start]:02x}"
                return _in_unicode(f"{found}, perhaps of Windows-1252", "WINDOWS-1252", path)
    return "not readable as UTF-8: it ends inside a character"


def _in_unicode(found: str, encoding: str, path: Path) -> str:
    return f"{found}. Save it as UTF-8 (in Excel: CSV UTF-8), or run iconv -f {encoding} -t UTF-8 {path} > NEW_FILE"


def _csv_rows(path: Path, has_header: bool, escapechar: str | None) -> Iterator[TableRow]:
    cells = _csv_cells(path, has_header, escapechar)
    header = next(cells)
    for row in cells:
        yield dict(zip(header, row, strict=True))


def _csv_cells(path: Path, has_header: bool, escapechar: str | None) -> Generator[list[str], None, None]:
    """Yield the names of the columns, then the cells of each row."""
    header: list[str] | None = None
    count, lines = 0, 0
    for first, raw, row in _records(path, escapechar):
        if header is None:
            header = row if has_header else [str(number) for number in range(len(row))]
            _refuse_twice(header, f"{path}: expected column names that differ")
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
        if len(raw) > 1 and _are_rows(raw, row, delimiter_of(path)):
            raise InputError(
                f"{where}: a quotation mark opens a cell that ends {len(raw) - 1} lines below, and each of these lines "
                f"looks like a row of its own. {QUOTES}"
            )
        yield row
    if header is None:
        raise InputError(f"{path}: expected a header and rows, found an empty file")
    if lines > count:
        _say_once(f"{path}: {count} rows in {lines} lines, since cells hold line breaks")


QUOTES = (
    "A cell that begins with a quotation mark has to be quoted, with each quotation mark in it written twice; "
    "or save the table as .jsonl or .parquet"
)


def _records(path: Path, escapechar: str | None) -> Iterator[tuple[int, list[str], list[str]]]:
    """Yield each record of a CSV or TSV file: the number of its first line, its lines as they are, its cells."""
    raw: list[str] = []

    def remembered(lines: TextIO) -> Iterator[str]:
        for line in lines:
            raw.append(line)
            yield line

    first = 1
    with _opened(path, newline="") as handle:
        reader = csv.reader(remembered(handle), delimiter=delimiter_of(path), escapechar=escapechar, strict=True)
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
                raise InputError(f"{path}: line {first}: holds a NUL character: is it damaged, or UTF-16?")
            yield first, raw, cells
            first = reader.line_num + 1


def delimiter_of(path: Path) -> str:
    return "\t" if path.suffix.lower() == ".tsv" else ","


def _are_rows(raw: Sequence[str], cells: Sequence[str], delimiter: str) -> bool:
    """Whether each line of one record looks like a whole row, as when a quotation mark has swallowed rows.

    Each line then has as many separators as the record. A text of several lines can have as many commas by chance; so
    another column must also look alike in all lines and hold a digit, as ids and ratings do (``t019``, ``t020``).
    """
    rows = [line.split(delimiter) for line in raw]
    if len(cells) == 1 or any(len(row) != len(cells) for row in rows):
        return False
    others = [number for number, cell in enumerate(cells) if "\n" not in cell and "\r" not in cell]
    shapes = [{_shape(row[number]) for row in rows} for number in others]
    return delimiter == "\t" or any(len(shape) == 1 and "0" in min(shape) for shape in shapes)


def _shape(cell: str) -> str:
    """Return a cell with every word as ``a`` and every number as ``0``."""
    return re.sub(r"[^\W\d_]+", "a", re.sub(r"\d+(\.\d+)?", "0", cell.strip()))


@cache
def _say_once(message: str) -> None:
    log.info(message)


def _refuse_twice(names: Sequence[str], expected: str) -> None:
    """Refuse column names or keys of which two are equal."""
    if twice := [name for number, name in enumerate(names) if name in names[:number]]:
        raise InputError(f"{expected}, found {names_shown(dict.fromkeys(twice))} twice")


def _jsonl_rows(path: Path) -> Generator[TableRow, None, None]:
    with _opened(path, newline=None) as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                try:
                    yield _object(line)
                except InputError as error:
                    raise InputError(f"{path}: line {number}: {error}") from None


def _object(line: str) -> TableRow:
    """Parse a line of a JSONL file; the error says what is wrong with it."""
    try:
        row = json.loads(line, object_pairs_hook=_without_doubles)
    except InputError:
        raise
    except json.JSONDecodeError as error:
        found = f"something else ({error.msg} at character {error.pos + 1})"
        raise InputError(f"expected a JSON object, found {found}") from None
    except RecursionError:
        raise InputError(f"lists and objects are nested deeper than {DEEPEST}") from None
    except ValueError:
        raise InputError("expected numbers that can be read, found one of thousands of digits") from None
    if not isinstance(row, dict):
        raise InputError(f"expected a JSON object, found {_kind(row)}")
    layer, depth = [row], 0
    while layer := [inner for outer in layer for inner in _nested(outer)]:
        depth += 1
        if depth > DEEPEST:
            raise InputError(f"lists and objects are nested deeper than {DEEPEST}")
    if "\\u" in line:  # only an escape can stand for half a character
        _refuse_half_characters(json.dumps(row, ensure_ascii=False))
    return row


def _nested(value: Any) -> Iterator[Any]:
    return (one for one in (value.values() if isinstance(value, dict) else value) if isinstance(one, (dict, list)))


def _without_doubles(pairs: list[tuple[str, Any]]) -> TableRow:
    row = dict(pairs)
    if len(row) < len(pairs):
        _refuse_twice([name for name, _ in pairs], "expected keys that differ")
    return row


def _refuse_half_characters(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InputError(
            "found half a character (an unpaired surrogate, as of an emoji cut in two); remove it"
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
    _refuse_twice(names, f"{path}: expected column names that differ")
    return schema


@contextmanager
def _parquet(path: Path) -> Iterator[None]:
    """Turn what a damaged file raises into one error; only the kind is told, since Arrow may quote a text."""
    try:
        yield
    except UNREADABLE as error:
        found = f"not readable as Parquet ({type(error).__name__})"
        raise InputError(f"{path}: {found}; is it complete, and was it written as Parquet?") from None


def read_table(
    path: str | Path, header: bool = True, escapechar: str | None = None, plain: Collection[str] = ()
) -> pd.DataFrame:
    """Read a table with all columns as text, so that ids such as ``007`` survive; missing cells are NA.

    Arguments and errors are those of `read_rows`, and of `as_text` for `plain`. A blank line in a file of one column is
    not a row.
    """
    tables, count = [], 0
    for rows in read_rows(path, PIECE, header, escapechar):
        index = pd.RangeIndex(count, count := count + len(rows))
        tables.append(as_text(pd.DataFrame(rows, index=index, dtype=object), plain, path))
    if not tables:
        return pd.DataFrame(columns=columns_of(path), dtype="str")
    # An index without a name holds row numbers, which pandas stored when the file was written.
    frame = pd.concat(tables).drop(columns="__index_level_0__", errors="ignore")
    return frame.dropna(ignore_index=True) if frame.shape[1] == 1 else frame


def as_text(frame: pd.DataFrame, plain: Collection[str] = (), source: str | Path = "frame") -> pd.DataFrame:
    """Turn the cells of `frame` into text by `text_of`.

    Args:
        frame: any DataFrame; its index counts data rows from 0.
        plain: columns that hold texts, ids or numbers; in others, lists and objects become text too.
        source: the file named in errors.
    """

    def column(name: str, values: "pd.Series[Any]") -> "pd.Series[str]":
        texts = []
        for row, value in zip(frame.index, values, strict=True):
            try:
                texts.append(text_of(value, name in plain))
            except InputError as error:
                raise InputError(f"{source}: data row {row + 1}, column {names_shown([name])}: {error}") from None
        return pd.Series(texts, index=frame.index, dtype="str")

    return pd.DataFrame({str(name): column(str(name), values) for name, values in frame.items()}, index=frame.index)


def text_of(value: object, plain: bool = True) -> str | None:
    """Return a cell as a person would write it: 3 for 3.0, None where it is missing or empty.

    Raises:
        InputError: `plain`, and it is a list, an object, true, false or bytes; or it has a NUL, half a character, or
            more digits than Python writes. The message says what was found but not where.
    """
    if plain and isinstance(value, (bool, np.bool_, bytes, list, tuple, set, dict, np.ndarray)):
        raise InputError(f"expected a text or a number, found {_kind(value)}")
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
    """Refuse `frame` when any of `columns` is missing, naming all missing ones and the columns found."""
    missing = [name for name in dict.fromkeys(columns) if name not in frame.columns]
    if missing:
        if len(frame.columns) == 1 and ";" in str(frame.columns[0]):
            fix = "The columns seem to be separated by semicolons; save the file with commas, or tabs as .tsv"
        expected = f"expected column{'s' * (len(missing) > 1)} {', '.join(missing)}"
        raise InputError(f"{source}: {expected}; found {names_shown(frame.columns)}" + (f". {fix}" if fix else ""))


def numbers(column: "pd.Series[Any]", source: str | Path) -> "pd.Series[float]":
    """Read a column of text as float64, blanks and ``unknown`` as NaN; anything else is refused with its row."""
    text = column.astype("str").str.strip()
    blank = column.isna() | text.str.lower().isin(BLANK)
    values = pd.to_numeric(text.mask(blank), errors="coerce").astype("float64")
    wrong = values.isna() & ~blank
    if wrong.any():
        position = int(wrong.to_numpy().argmax())
        raise InputError(
            f"{source}: data row {position + 1}, column {names_shown([column.name])}: expected a number, "
            f"found {shown(text.iloc[position])}"
            + (f" (and {int(wrong.sum()) - 1} more rows)" if wrong.sum() > 1 else "")
        )
    return values
