"""Files in and out: tables by suffix, columns that must be there, writes that are whole or absent."""

import csv
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, Protocol

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from invitro.errors import InputError

SUFFIXES = (".csv", ".tsv", ".parquet", ".jsonl")
BLANK = ("", "unknown", "nan", "na", "n/a", "none")
"""How files write a missing number, in lower case."""


def suffix_of(path: Path) -> str:
    """Return the table suffix of `path`, one of `SUFFIXES`; anything else is refused."""
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        found = repr(suffix) if suffix else "no ending"
        raise InputError(f"{path}: expected a table file ending in {', '.join(SUFFIXES)}; found {found}")
    return suffix


def read_table(path: str | Path, **csv_options: Any) -> pd.DataFrame:
    """Read a table with all columns as text, so that ids such as ``007`` survive; missing cells are NA.

    CSV and TSV are UTF-8 with a header unless `csv_options` (those of `pandas.read_csv`) say otherwise.

    Raises:
        InputError: the file is missing, empty, of an unknown kind or not readable as what its suffix says.
    """
    path = Path(path)
    suffix = suffix_of(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file (looked in {path.parent.resolve()})")
    try:
        if suffix == ".parquet":
            frame = pd.read_parquet(path)
            # A named index is a column that pandas kept aside when the file was written; an unnamed one is row numbers.
            frame = frame.reset_index(drop=frame.index.names == [None])
        elif suffix == ".jsonl":
            frame = _read_jsonl(path)
        else:
            separator = "\t" if suffix == ".tsv" else ","
            options: dict[str, Any] = {"sep": separator, "dtype": str, "keep_default_na": False, "na_values": [""]}
            frame = pd.DataFrame(pd.read_csv(path, encoding="utf-8", **(options | csv_options)))
    except InputError:
        raise
    except (ValueError, OSError) as error:  # parser, Unicode and Arrow errors are ValueErrors
        raise InputError(f"{path}: not readable as a {suffix[1:].upper()} table: {str(error).strip()}") from error
    if not isinstance(frame.index, pd.RangeIndex):  # pandas takes surplus cells for an index and shifts all columns
        found = frame.shape[1] + frame.index.nlevels
        raise InputError(
            f"{path}: expected {frame.shape[1]} cells in a row, as in the header, found {found} in data row 1; "
            "check the separator, and put cells that contain it in quotes"
        )
    return frame if csv_options.get("header", 0) is None else as_text(frame)


def _read_jsonl(path: Path) -> pd.DataFrame:
    """Read one JSON object a line; blank lines are skipped."""
    rows = []
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise InputError(
                    f"{path}: line {number}: expected a JSON object, found {line.strip()[:40]!r} ({error.msg})"
                ) from error
            if not isinstance(row, dict):
                raise InputError(f"{path}: line {number}: expected a JSON object, found {line.strip()[:40]!r}")
            rows.append(row)
    return pd.DataFrame(rows, dtype=object)  # or a missing value would round long integers in its column


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


def require_columns(frame: pd.DataFrame, columns: Iterable[str], source: str | Path, mend: str = "") -> None:
    """Refuse `frame` when any of `columns` is missing, naming all that are and what there is instead."""
    missing = [name for name in columns if name not in frame.columns]
    if missing:
        found = ", ".join(map(str, frame.columns)) or "none"
        if len(frame.columns) == 1 and ";" in found:
            mend = "The columns seem to be separated by semicolons; save the file with commas, or tabs as .tsv"
        raise InputError(
            f"{source}: expected column{'s' * (len(missing) > 1)} {', '.join(missing)}; found {found}"
            + (f". {mend}" if mend else "")
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
    """Give a temporary path beside `path` and rename it to `path` at the end; an exception leaves nothing behind."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix, delete=False) as handle:
        temporary = Path(handle.name)
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write `text` as UTF-8, whole or not at all."""
    with whole_or_absent(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` as indented JSON, whole or not at all; NaN is refused, since JSON has none."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def sha256(path: str | Path) -> str:
    """Return the SHA-256 of a file's bytes, in hex; a file that has not changed is read once a process."""
    found = Path(path).stat()
    return _sha256(Path(path).absolute(), found.st_mtime_ns, found.st_size, found.st_ino)


@lru_cache(maxsize=256)
def _sha256(path: Path, *version: int) -> str:
    """Hash a file, as long as its time, size and inode are the same."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _umask() -> int:
    """Return the process's umask (which can only be read by setting it)."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


Row = dict[str, Any]
csv.field_size_limit(2**31 - 1)  # a text may be longer than the csv module's 128 KiB


class Writer(Protocol):
    """Takes rows in order."""

    def write(self, rows: Sequence[Row]) -> None:
        """Append rows; all have the columns of the first."""


def read_rows(path: str | Path, size: int) -> Iterator[list[Row]]:
    """Yield the rows of a CSV, TSV, Parquet or JSONL file in lists of at most `size`, in order.

    Cells of CSV and TSV are text exactly as it stands there.

    Raises:
        InputError: missing file, unknown kind, or a row that does not fit the header, with its number.
    """
    path = Path(path)
    suffix = suffix_of(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file (looked in {path.parent.resolve()})")
    rows = {".parquet": _parquet_rows, ".jsonl": _jsonl_rows}.get(suffix, _csv_rows)(path)
    piece: list[Row] = []
    for row in rows:
        piece.append(row)
        if len(piece) == size:
            yield piece
            piece = []
    if piece:
        yield piece


def _csv_rows(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig", newline="") as lines:
        cells = csv.reader(lines, dialect=_dialect(path))
        header = next(cells, None)
        if header is None:
            raise InputError(f"{path}: expected a header and rows, found an empty file")
        if len(set(header)) < len(header):
            raise InputError(f"{path}: expected column names that differ, found {', '.join(header)}")
        try:
            for number, row in enumerate(cells, start=1):
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


def _schema(path: Path) -> pa.Schema:
    try:
        return pq.read_schema(path)
    except pa.ArrowInvalid as error:
        raise InputError(f"{path}: not readable as Parquet: {error}") from error


def _jsonl_rows(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError:
                row = None
            if not isinstance(row, dict):
                raise InputError(f"{path}: line {number}: expected a JSON object, found {line.strip()[:40]!r}")
            yield row


def _parquet_rows(path: Path) -> Iterator[Row]:
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches():
                yield from batch.to_pylist()
    except pa.ArrowInvalid as error:
        raise InputError(f"{path}: not readable as Parquet: {error}") from error


def columns_of(path: str | Path) -> list[str]:
    """Return the columns of a table file: the header, the schema, or the keys of the first object."""
    path = Path(path)
    if not path.is_file() or suffix_of(path) == ".jsonl":
        return list(next(read_rows(path, 1), [{}])[0])
    if path.suffix.lower() == ".parquet":
        return list(_schema(path).names)
    with path.open(encoding="utf-8-sig", newline="") as lines:
        return next(csv.reader(lines, dialect=_dialect(path)), [])


@contextmanager
def write_rows(path: str | Path, added: dict[str, pa.DataType], like: str | Path) -> Iterator[Writer]:
    """Give a writer for a table file by suffix; the file appears when all went well, and not at all otherwise.

    Args:
        path: the file.
        added: columns that rows have beside those of `like`, and their types in Parquet.
        like: the file that the rows come from; when both are Parquet its column types are kept.
    """
    path, like = Path(path), Path(like)
    suffix = suffix_of(path)
    with whole_or_absent(path) as temporary:
        if suffix == ".parquet":
            keeps_types = like.suffix.lower() == ".parquet"
            schema = _schema(like) if keeps_types else None
            with _ParquetWriter(temporary, schema, added) as parquet:
                yield parquet
        else:
            with temporary.open("w", encoding="utf-8", newline="") as lines:
                if suffix == ".jsonl":
                    yield _JsonlWriter(lines)
                else:
                    yield _CsvWriter(lines, _dialect(path), [*columns_of(like), *added])


class _CsvWriter:
    def __init__(self, lines: Any, dialect: str, columns: list[str]) -> None:
        self._writer = csv.DictWriter(lines, columns, dialect=dialect, lineterminator="\n")
        self._writer.writeheader()

    def write(self, rows: Sequence[Row]) -> None:
        try:
            self._writer.writerows(rows)
        except ValueError as error:
            raise InputError(
                f"rows do not all have the columns of the first ({error}); write a .jsonl file instead"
            ) from error


class _JsonlWriter:
    def __init__(self, lines: Any) -> None:
        self._lines = lines

    def write(self, rows: Sequence[Row]) -> None:
        self._lines.writelines(json.dumps(row, ensure_ascii=False, default=str) + "\n" for row in rows)


class _ParquetWriter:
    def __init__(self, path: Path, schema: pa.Schema | None, added: dict[str, pa.DataType]) -> None:
        self._path, self._schema, self._added = path, schema, added
        self._writer: pq.ParquetWriter | None = None

    def __enter__(self) -> "_ParquetWriter":
        if self._schema is not None:
            self._open(self._schema)
        return self

    def _open(self, schema: pa.Schema) -> None:
        for name, kind in self._added.items():
            if name not in schema.names:
                schema = schema.append(pa.field(name, kind))
        self._schema, self._writer = schema, pq.ParquetWriter(self._path, schema)

    def write(self, rows: Sequence[Row]) -> None:
        if self._writer is None:
            known = [{name: value for name, value in row.items() if name not in self._added} for row in rows]
            self._open(pa.Table.from_pylist(known).schema)
        assert self._writer is not None
        assert self._schema is not None
        new = {name for row in rows for name in row} - set(self._schema.names)
        try:
            if new:
                raise pa.ArrowInvalid(f"new columns {', '.join(sorted(new))}")
            self._writer.write_table(pa.Table.from_pylist(list(rows), schema=self._schema))
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise InputError(
                f"rows do not fit the columns of the first ones ({error}); write a .jsonl file instead"
            ) from error

    def __exit__(self, *error: object) -> None:
        if self._writer is None:
            self._open(pa.schema([]))
        assert self._writer is not None
        self._writer.close()
