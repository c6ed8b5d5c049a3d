"""Reading and writing files: tables of any length by suffix, required columns, writes that are complete or absent."""

import csv
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import lru_cache
from itertools import chain, islice
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, TypeVar

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from invitro.errors import InputError

T = TypeVar("T")
TableRow = dict[str, Any]

SUFFIXES = (".csv", ".tsv", ".parquet", ".jsonl")
BLANK = ("", "unknown", "nan", "na", "n/a", "none")
"""How files write a missing number, in lower case."""
PIECE = 10_000
"""Rows of a table in memory as Python objects at a time."""
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

    This is the one reader of tables. Cells of CSV and TSV are text exactly as written; values from Parquet and JSONL
    keep their type. Python's own `csv` and `json` read the text formats: pyarrow's readers refuse a text that is
    longer than a block, round long integers, and quote the user's texts in their errors.

    Args:
        path: the file; CSV, TSV and JSONL are UTF-8, with or without a byte order mark.
        size: largest number of rows in a list.
        header: whether the first line of a CSV or TSV file names the columns; otherwise they are ``0``, ``1``, ...
        escapechar: the character before a quote inside a cell of a CSV or TSV file, besides a second quote.

    Raises:
        InputError: missing file, unknown kind, or a row that does not match the header, with its number.
    """
    path = Path(path)
    suffix = suffix_of(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file (looked in {path.parent.resolve()})")
    if suffix == ".parquet":
        yield from pieces(_parquet_rows(path), size)
    elif suffix == ".jsonl":
        yield from pieces(_jsonl_rows(path), size)
    else:
        yield from pieces(_csv_rows(path, header, escapechar), size)


def _csv_rows(path: Path, has_header: bool, escapechar: str | None) -> Iterator[TableRow]:
    with path.open(encoding="utf-8-sig", newline="") as lines:
        cells = csv.reader(lines, _dialect(path), escapechar=escapechar)
        try:
            header = next(cells, None)
            if header is None:
                raise InputError(f"{path}: expected a header and rows, found an empty file")
            first: list[list[str]] = [] if has_header else [header]
            header = header if has_header else [str(number) for number in range(len(header))]
            if len(set(header)) < len(header):
                raise InputError(f"{path}: expected column names that differ, found {', '.join(header)}")
            for number, row in enumerate(chain(first, cells), start=1):
                if not row and len(header) > 1:
                    continue  # a blank line; in a table of one column it is a row without a text
                row = row or [""]
                if len(row) != len(header):
                    raise InputError(
                        f"{path}: data row {number} (line {cells.line_num}): expected {len(header)} cells, found "
                        f"{len(row)}; is a quote or a separator missing?"
                    )
                yield dict(zip(header, row, strict=True))
        except (UnicodeDecodeError, csv.Error) as error:
            raise InputError(f"{path}: line {cells.line_num + 1}: not readable as UTF-8 text: {error}") from error


def _dialect(path: Path) -> str:
    return "excel-tab" if path.suffix.lower() == ".tsv" else "excel"


def _jsonl_rows(path: Path) -> Iterator[TableRow]:
    with path.open(encoding="utf-8-sig") as lines:
        try:
            for number, line in enumerate(lines, start=1):
                if not line.strip():
                    continue
                try:
                    row = json.loads(line)
                except json.JSONDecodeError as error:
                    raise InputError(
                        f"{path}: line {number}: expected a JSON object, found something else "
                        f"({error.msg} at character {error.pos + 1})"
                    ) from None
                if not isinstance(row, dict):
                    raise InputError(f"{path}: line {number}: expected a JSON object, found a {type(row).__name__}")
                yield row
        except UnicodeDecodeError as error:
            raise InputError(f"{path}: not readable as UTF-8 text: {error}") from error


def _parquet_rows(path: Path) -> Iterator[TableRow]:
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(PIECE):
                yield from batch.to_pylist()
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{path}: not readable as Parquet: {error}") from error


def columns_of(path: str | Path) -> list[str]:
    """Return the columns of a table file: the header, the schema, or the keys of the first object."""
    path = Path(path)
    if path.is_file() and suffix_of(path) == ".parquet":
        return list(_schema(path).names)
    if path.is_file() and suffix_of(path) != ".jsonl":
        with path.open(encoding="utf-8-sig", newline="") as lines:
            return next(csv.reader(lines, _dialect(path)), [])
    return list(next(read_rows(path, 1), [{}])[0])


def _schema(path: Path) -> pa.Schema:
    try:
        return pq.read_schema(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{path}: not readable as Parquet: {error}") from error


def read_table(path: str | Path, header: bool = True, escapechar: str | None = None) -> pd.DataFrame:
    """Read a table with all columns as text, so that ids such as ``007`` survive; missing cells are NA.

    Arguments and errors are those of `read_rows`. A blank line in a file of one column is not a row.
    """
    tables = [as_text(pd.DataFrame(rows, dtype=object)) for rows in read_rows(path, PIECE, header, escapechar)]
    if not tables:
        return pd.DataFrame(columns=columns_of(path), dtype="str")
    # An index without a name holds row numbers, which pandas stored when the file was written.
    frame = pd.concat(tables, ignore_index=True).drop(columns="__index_level_0__", errors="ignore")
    return frame.dropna(ignore_index=True) if frame.shape[1] == 1 else frame


def as_text(frame: pd.DataFrame) -> pd.DataFrame:
    """Turn numbers into text as a person would write them, and empty cells into NA."""

    def text(value: Any) -> str | None:
        if pd.api.types.is_scalar(value) and (pd.isna(value) or value == ""):
            return None
        if isinstance(value, float) and value.is_integer():
            return str(int(value))
        return str(value)

    columns = {
        str(name): pd.Series([text(value) for value in column], index=frame.index, dtype="str")
        for name, column in frame.items()
    }
    return pd.DataFrame(columns, index=frame.index)


def require_columns(frame: pd.DataFrame, columns: Iterable[str], source: str | Path, fix: str = "") -> None:
    """Refuse `frame` when any of `columns` is missing, naming all missing ones and the columns found."""
    missing = [name for name in dict.fromkeys(columns) if name not in frame.columns]
    if missing:
        actual = ", ".join(map(str, frame.columns)) or "none"
        if len(frame.columns) == 1 and ";" in actual:
            fix = "The columns seem to be separated by semicolons; save the file with commas, or tabs as .tsv"
        raise InputError(
            f"{source}: expected column{'s' * (len(missing) > 1)} {', '.join(missing)}; found {actual}"
            + (f". {fix}" if fix else "")
        )


def numbers(column: "pd.Series[Any]", source: str | Path) -> "pd.Series[float]":
    """Read a column of text as float64, blanks and ``unknown`` as NaN; anything else is refused with its row."""
    text = column.astype("str").str.strip()
    blank = column.isna() | text.str.lower().isin(BLANK)
    values = pd.to_numeric(text.mask(blank), errors="coerce").astype("float64")
    wrong = values.isna() & ~blank
    if wrong.any():
        position = int(wrong.to_numpy().argmax())
        raise InputError(
            f"{source}: data row {position + 1}, column {column.name}: expected a number, found {text.iloc[position]!r}"
            + (f" (and {int(wrong.sum()) - 1} more rows)" if wrong.sum() > 1 else "")
        )
    return values


@contextmanager
def whole_or_absent(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` and rename it to `path` at the end; an exception leaves nothing behind."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix, delete=False) as handle:
        temporary = Path(handle.name)
    try:
        yield temporary
        mask = os.umask(0)  # the mask can only be read by setting it
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write `text` as UTF-8, complete or not at all."""
    with whole_or_absent(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` as indented JSON, complete or not at all; NaN is refused, since JSON has none."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def sha256(path: str | Path) -> str:
    """Return the SHA-256 of a file's bytes, in hex; a file that has not changed is read once per process."""
    version = Path(path).stat()
    return _sha256(Path(path).absolute(), version.st_mtime_ns, version.st_size, version.st_ino)


@lru_cache(maxsize=256)
def _sha256(path: Path, *version: int) -> str:
    """Hash a file; the result is cached while its time, size and inode stay the same."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


@contextmanager
def write_rows(
    path: str | Path, added: dict[str, pa.DataType], like: str | Path
) -> Iterator[Callable[[Sequence[TableRow]], None]]:
    """Yield a function that appends rows to a table file; the file appears only if everything succeeds.

    Args:
        path: the file; its suffix determines the format.
        added: columns that rows have in addition to those of `like`, and their types in Parquet.
        like: the file that the rows come from; if both are Parquet, its column types are kept.

    Raises:
        InputError: raised by the function for rows without the columns (and in Parquet the types) of the first row.
    """
    path, like = Path(path), Path(like)
    suffix = suffix_of(path)
    with whole_or_absent(path) as temporary:
        if suffix == ".parquet":
            schema = _schema(like) if like.suffix.lower() == ".parquet" else None
            with closing(_ParquetRows(temporary, schema, added)) as parquet:
                yield parquet.write
            return
        with temporary.open("w", encoding="utf-8", newline="") as lines:
            if suffix == ".jsonl":
                yield lambda rows: lines.writelines(
                    json.dumps(row, ensure_ascii=False, default=str) + "\n" for row in rows
                )
                return
            table = csv.DictWriter(lines, [*columns_of(like), *added], dialect=_dialect(path), lineterminator="\n")
            table.writeheader()

            def write(rows: Sequence[TableRow]) -> None:
                try:
                    table.writerows(rows)
                except ValueError as error:
                    raise _uneven(str(error)) from error

            yield write


def _uneven(what: str) -> InputError:
    return InputError(f"rows do not all fit the columns of the first ({what}); write a .jsonl file instead")


class _ParquetRows:
    """Appends rows to a Parquet file with the types of `schema`, or else of the first rows, and of `added`."""

    def __init__(self, path: Path, schema: pa.Schema | None, added: dict[str, pa.DataType]) -> None:
        self._path, self._added = path, added
        self._writer: pq.ParquetWriter | None = None
        if schema is not None:
            self._open(schema)

    def _open(self, schema: pa.Schema) -> pq.ParquetWriter:
        for name, kind in self._added.items():
            if name not in schema.names:
                schema = schema.append(pa.field(name, kind))
        self._writer = pq.ParquetWriter(self._path, schema)
        return self._writer

    def write(self, rows: Sequence[TableRow]) -> None:
        writer = self._writer
        if writer is None:
            known = [{name: value for name, value in row.items() if name not in self._added} for row in rows]
            writer = self._open(pa.Table.from_pylist(known).schema)
        if new := {name for row in rows for name in row} - set(writer.schema.names):
            raise _uneven(f"new columns {', '.join(sorted(new))}")
        try:
            writer.write_table(pa.Table.from_pylist(list(rows), schema=writer.schema))
        except (pa.ArrowInvalid, pa.ArrowTypeError):
            raise _uneven("a value of another type") from None  # Arrow's own message would quote it

    def close(self) -> None:
        (self._writer or self._open(pa.schema([]))).close()
