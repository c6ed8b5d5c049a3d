"""Tables in pieces: rows come and go as dictionaries, so that a file of any length fits into memory."""

import csv
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from invitro.errors import InputError
from invitro.files import suffix_of, whole_or_absent

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
