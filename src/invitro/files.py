"""Writing files, including tables of any length, that are complete or absent; hashes; what a disk supports."""

import csv
import errno
import hashlib
import json
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import lru_cache
from math import isnan
from pathlib import Path
from tempfile import NamedTemporaryFile, TemporaryFile
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from invitro.errors import InputError, names_shown
from invitro.formats import TableRow
from invitro.tables import columns_of, parquet_schema, suffix_of

WINDOWS = os.name == "nt"
FORMULA = re.compile(r"[=+@\t\r-](?![\d.,]+$)")
"""The beginning of a cell that a spreadsheet takes for a formula; numbers are not."""


@contextmanager
def whole_or_absent(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path next to `path` and rename it to `path` at the end; an exception leaves nothing behind."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix, delete=False) as handle:
        temporary = Path(handle.name)
    try:
        yield temporary
        mask = os.umask(0)  # the mask can only be read by setting it
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)
        _put(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _put(temporary: Path, path: Path) -> None:
    """Rename a file; on Windows, wait a little for programs that have the old one open, such as a virus scanner."""
    until = time.monotonic() + (3.0 if WINDOWS else 0.0)
    while True:
        try:
            temporary.replace(path)
            return
        except PermissionError:
            if time.monotonic() >= until:
                raise
            time.sleep(0.1)


def relative(path: Path, folder: Path) -> str:
    """Return `path` relative to `folder`, with slashes; the absolute path if it is on another drive."""
    try:
        return Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:
        return path.absolute().as_posix()


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
    path: str | Path, added: dict[str, pa.DataType], like: str | Path, escape: bool = False, encoding: str | None = None
) -> Iterator[Callable[[Sequence[TableRow]], None]]:
    """Yield a function that appends rows to a table file; the file appears only if everything succeeds.

    Args:
        path: the file; its suffix determines the format.
        added: columns that rows have in addition to those of `like`, and their types in Parquet.
        like: the file that the rows come from; if both are Parquet, its column types are kept.
        escape: whether cells of CSV and TSV that a spreadsheet would run as formulas get a leading apostrophe.
        encoding: the encoding of `like`.

    Raises:
        InputError: raised by the function for rows without the columns (and in Parquet the types) of the first row.
    """
    path, like = Path(path), Path(like)
    suffix = suffix_of(path)
    with whole_or_absent(path) as temporary:
        if suffix == ".parquet":
            schema = parquet_schema(like) if like.suffix.lower() == ".parquet" else None
            with closing(_ParquetRows(temporary, schema, added)) as parquet:
                yield parquet.write
            return
        with temporary.open("w", encoding="utf-8", newline="") as lines:
            if suffix == ".jsonl":
                yield lambda rows: lines.writelines(f"{_json(row)}\n" for row in rows)
                return
            names = [*columns_of(like, encoding), *added]
            table = csv.DictWriter(lines, names, delimiter="\t" if suffix == ".tsv" else ",", lineterminator="\n")
            table.writeheader()

            def write(rows: Sequence[TableRow]) -> None:
                _refuse_new(rows, names)
                table.writerows(map(_harmless, rows) if escape else rows)

            yield write


def _harmless(row: TableRow) -> TableRow:
    """Return a row whose cells no spreadsheet runs as formulas."""
    return {name: f"'{cell}" if isinstance(cell, str) and FORMULA.match(cell) else cell for name, cell in row.items()}


def _json(row: TableRow) -> str:
    """Return a row as JSON, which has no NaN: a missing number is null."""
    whole = {name: None if isinstance(value, float) and isnan(value) else value for name, value in row.items()}
    return json.dumps(whole, ensure_ascii=False, default=str)


def _refuse_new(rows: Sequence[TableRow], names: Sequence[str]) -> None:
    if new := {name for row in rows for name in row} - set(names):
        raise _uneven(f"new columns: {names_shown(sorted(new))}")


def _uneven(what: str) -> InputError:
    return InputError(f"not all rows match the columns of the first ({what}); write a .jsonl file instead")


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
        self._writer = pq.ParquetWriter(self._path, schema, write_page_checksum=True)
        return self._writer

    def write(self, rows: Sequence[TableRow]) -> None:
        try:
            if self._writer is None:
                original = [{name: value for name, value in row.items() if name not in self._added} for row in rows]
                self._open(pa.Table.from_pylist(original).schema)
            assert self._writer is not None
            _refuse_new(rows, self._writer.schema.names)
            self._writer.write_table(pa.Table.from_pylist(list(rows), schema=self._writer.schema))
        except InputError:
            raise
        except (pa.ArrowException, ValueError, TypeError, ArithmeticError):
            raise _uneven("a value of another type") from None  # Arrow's own message would quote it

    def close(self) -> None:
        (self._writer or self._open(pa.schema([]))).close()


LOCAL_DISKS = (
    "ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "bcachefs", "jfs", "reiserfs", "tmpfs", "ramfs", "overlay",
    "vfat", "exfat", "ntfs3", "ntfs", "fat32", "refs", "apfs", "hfs", "msdos",
)  # fmt: skip
"""File systems that only one machine writes to, by their names in Linux, Windows and macOS."""


def is_on_local_disk(folder: Path) -> bool:
    """Whether a folder is on a file system of `LOCAL_DISKS`; a Windows share, which is not a partition, is not."""
    import psutil

    path = folder.resolve()
    mounted = [disk for disk in psutil.disk_partitions(all=True) if path.is_relative_to(disk.mountpoint)]
    innermost = max(reversed(mounted), key=lambda disk: len(disk.mountpoint), default=None)
    if innermost is None:
        return False
    return innermost.fstype.lower() in LOCAL_DISKS and "remote" not in innermost.opts.split(",")


def lock_problem(folder: Path, patience: float) -> str | None:
    """Return why files in a folder cannot be locked; None if they can.

    Args:
        folder: the folder in which a temporary file is locked.
        patience: seconds after which a pending lock counts as refused; lock servers can be down.

    Raises:
        OSError: no file can be created there.
    """

    def attempt() -> str | None:
        with TemporaryFile(dir=folder) as file:
            return _lock_refused(file.fileno(), exclusive=True)

    return _within(patience, attempt)


def can_be_locked(path: Path, patience: float) -> bool:
    """Whether a read-only file can be locked for reading. Releases this process's other locks on it.

    Args:
        path: the file.
        patience: as for `lock_problem`.
    """

    def attempt() -> str | None:
        with path.open("rb") as file:
            return _lock_refused(file.fileno(), exclusive=False)

    return _within(patience, attempt) is None


def _within(patience: float, attempt: Callable[[], str | None]) -> str | None:
    """Return the result of `attempt`, or ``no answer`` if it takes longer than `patience`."""
    results: list[str | OSError | None] = []

    def work() -> None:
        try:
            results.append(attempt())
        except OSError as error:
            results.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(patience)
    result = results[0] if results else "no answer"
    if isinstance(result, OSError):
        raise result
    return result


def _lock_refused(file: int, exclusive: bool) -> str | None:
    try:
        import fcntl
    except ImportError:  # on Windows, where SQLite locks by other means, on shares too
        return None
    try:
        fcntl.lockf(file, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except OSError as error:
        # If another process has the lock, locking works.
        return None if error.errno in (errno.EACCES, errno.EAGAIN) else error.strerror
    return None
