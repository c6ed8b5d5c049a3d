"""Opening a label store's file to write or only to read it: older tables are updated, and the whole file is checked."""

import logging
import shutil
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from functools import cache
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from zlib import crc32

from invitro.files import can_be_locked, is_on_local_disk, lock_problem
from invitro.labels.answers import Status, answer_of, info_of
from invitro.labels.database import (
    PROMPT,
    StoreConnection,
    StoreError,
    beside,
    connected,
    damaged,
    fault,
    open_here,
    transaction,
    uri_of,
    use_log,
)
from invitro.writing.words import count

log = logging.getLogger(__name__)

APPLICATION, VERSION = 0x1A7E15, 4
"""Mark a file as a label store, and give the version of its tables."""
SUMMED = ("sets", "answers", "uses")
"""The tables whose rows have a checksum."""
READ_FROM_A_COPY = (
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_PROTOCOL,
    sqlite3.SQLITE_BUSY,
)
"""Errors of reading that a copy elsewhere avoids: no write access next to the file, no locks."""


def opened(path: Path, read_only: bool) -> StoreConnection:
    """Open a label store's file, and check all of it.

    Args:
        path: the file, or ``:memory:``; it is created if it is to be written and does not exist.
        read_only: needs an existing file but no write access, and writes nothing; an older version, or a file that
            cannot be read in place, is read from a copy in the temporary folder.

    Raises:
        StoreError: see `fault`; the file is not a label store, has a later version, or was copied without its log.
    """
    if str(path) == ":memory:":
        db = connected(path)
        _lay_out(db)
        return db
    if read_only and not path.is_file():
        raise StoreError(path, f"no such label store (looked in {path.parent.resolve()})")
    return _to_read(path) if read_only else _to_write(path)


def salvaged(db: StoreConnection, table: str) -> list[tuple[Any, ...]]:
    """Return the intact rows of a table of `SUMMED`, read from both ends up to the damage.

    Args:
        db: a copy (`copied` without ``whole``), which may be damaged.
        table: the table; a row has the values of `columns_of_table` and the checksum.
    """
    names, rows = columns_of_table(table), dict[tuple[Any, ...], None]()
    cursor, order = db.cursor(), {"uses": "set_id {0}, text_id {0}, sample {0}"}.get(table, "rowid {0}")
    cursor.row_factory = None
    for direction in ("ASC", "DESC"):
        with suppress(StoreError):  # up to the damage
            query = f"SELECT {', '.join(names)}, checksum FROM {table} NOT INDEXED ORDER BY {order.format(direction)}"
            for row in cursor.execute(query):
                if _sum(row[:-1]) == row[-1]:
                    rows[row] = None
    return list(rows)


@contextmanager
def _closing_on_error(db: StoreConnection) -> Iterator[StoreConnection]:
    try:
        yield db
    except BaseException:
        db.folds = False
        db.close()
        raise


def _to_write(path: Path) -> StoreConnection:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise fault(path, error) from error
    _refuse_without_locks(path)
    _refuse_incomplete(path)
    with _closing_on_error(connected(path)) as db:
        db.execute("PRAGMA foreign_keys = ON")
        _lay_out(db)  # before the log is used: the file is recognised even without it
        _check(db)
        shared = not is_on_local_disk(path.parent)
        db.execute(f"PRAGMA synchronous = {'FULL' if shared else 'NORMAL'}")
        if not shared and db.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
            with transaction(db):
                db.execute("DELETE FROM logged")
                db.execute("INSERT INTO logged VALUES (?)", (_place(path),))
        use_log(db, "DELETE" if shared else "WAL")
        db.folds = True
    return db


def _to_read(path: Path) -> StoreConnection:
    current = _refuse_incomplete(path) >= VERSION
    try:
        with_locks = bool(open_here[path.absolute()]) or can_be_locked(path, PROMPT)
    except OSError as error:
        raise fault(path, error) from error
    if current and with_locks:
        try:
            with _closing_on_error(connected(path, f"{uri_of(path.absolute())}?mode=ro")) as db:
                _version(db)
                _check(db)
                return db
        except StoreError as error:
            if error.code not in READ_FROM_A_COPY:
                raise
    return copied(path)


def copied(path: Path, whole: bool = True) -> StoreConnection:
    """Open a copy of a store's file, with its log, in the temporary folder, as a store of the current version.

    Args:
        path: the file.
        whole: whether it is updated and checked; else `salvaged` reads it.

    Raises:
        StoreError: it cannot be read, or is not a label store.
    """
    folder = TemporaryDirectory(prefix="invitro-")
    copy = Path(folder.name) / path.name
    try:
        for _ in range(10):
            before = _versions(path)
            for source, target in zip(_all_of(path), _all_of(copy), strict=True):
                target.unlink(missing_ok=True)
                if source.exists():
                    shutil.copyfile(source, target)
            if _versions(path) == before:
                break
        else:
            raise StoreError(path, "other processes wrote to it too often to read it; run the same command again")
        with _closing_on_error(connected(path, uri_of(copy))) as db:
            if whole:
                _lay_out(db)
                _check(db)
    except OSError as error:
        folder.cleanup()
        raise fault(path, error) from error
    except StoreError:
        folder.cleanup()
        raise
    db.copy = folder
    return db


def _all_of(path: Path) -> tuple[Path, ...]:
    return path, beside(path, "wal"), beside(path, "journal")


def _versions(path: Path) -> list[tuple[int, int] | None]:
    return [(file.stat().st_mtime_ns, file.stat().st_size) if file.exists() else None for file in _all_of(path)]


def _refuse_incomplete(path: Path) -> int:
    """Return the version in the file's header; refuse a file whose log is missing.

    A closed store is a single file, and one that was in use has its log next to it. The header of a file that was
    copied without its log still says that there is one.
    """
    wal = beside(path, "wal")
    for patience in (0.0, 0.05, 0.15, 0.3):  # another process may be about to make the file, or to close it
        time.sleep(patience)
        if open_here[path.absolute()]:
            return VERSION
        try:
            with path.open("rb") as file:
                header = file.read(100)
        except FileNotFoundError:
            if not wal.exists():
                return 0
            header = b""
        except OSError as error:
            raise fault(path, error) from error
        version = int.from_bytes(header[60:64])
        alone = not wal.exists() and not beside(path, "shm").exists()
        if header and not (header[19:20] == b"\2" and version >= VERSION and alone and not _is_where_it_was(path)):
            return version
    if header:
        raise StoreError(
            path,
            f"was copied without {wal.name}, which holds its last answers, while a job was running or after one was "
            "killed. Copy both, or make copies by label.py backup=FILE. If that file is gone, recover what is here: "
            f"python label.py store=NEW.sqlite merge={path}",
            sqlite3.SQLITE_CORRUPT,
        )
    problem = "is empty" if path.exists() else f"is missing, but {wal.name} is there"
    raise StoreError(path, f"{problem}; restore the file, or remove what is left of it to start again")


def _place(path: Path) -> str:
    return f"{path.resolve()} {path.stat().st_dev} {path.stat().st_ino}"


def _is_where_it_was(path: Path) -> bool:
    """Whether a file is not a copy, so that its log is missing because another program has folded it in."""
    with closing(connected(path, f"{uri_of(path.absolute())}?mode=ro&immutable=1")) as db:
        try:
            row = db.execute("SELECT place FROM logged").fetchone()
        except StoreError:
            return True  # damaged, which is reported when it is opened
    return row is not None and row[0] == _place(path)


def _version(db: StoreConnection) -> int:
    """Return the version of a store's tables, 0 for a new file."""
    mark = db.execute("PRAGMA application_id").fetchone()[0]
    if mark != APPLICATION:
        if db.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
            raise StoreError(db.path, "an SQLite file, but not a label store; name another file with store=")
        return 0
    version = int(db.execute("PRAGMA user_version").fetchone()[0])
    if not 0 < version <= VERSION:
        raise StoreError(db.path, f"a label store of version {version}, this program reads version {VERSION}")
    return version


_NO_LABEL = "status = 'ok' AND (score IS NULL OR abs(score) > 1e9 OR items IS NULL OR NOT json_valid(items))"
_REPAIRED = {
    "status": f"iif({_NO_LABEL}, '{Status.UNPARSEABLE}', status)",
    "error": f"iif({_NO_LABEL}, 'the score was no number', error)",
    "items": f"iif({_NO_LABEL} OR NOT json_valid(items), NULL, items)",
    "score": f"iif({_NO_LABEL} OR abs(score) > 1e9, NULL, score)",
    "spread": f"iif(NOT {_NO_LABEL} AND spread BETWEEN 0 AND 1e9, spread, NULL)",
    "prompt_tokens": "iif(typeof(prompt_tokens) = 'integer' AND prompt_tokens >= 0, prompt_tokens, 0)",
    "completion_tokens": "iif(typeof(completion_tokens) = 'integer' AND completion_tokens >= 0, completion_tokens, 0)",
    "cost": "iif(cost BETWEEN 0 AND 1e12, cost, 0.0)",
}
"""How the columns of older answers are converted, so that they hold only what the table now allows."""


def _lay_out(db: StoreConnection) -> None:
    """Create the tables of a new file, or update those of an older one."""
    if _version(db) == VERSION:
        return
    with transaction(db):
        version = _version(db)  # another process may have done it
        if version == VERSION:
            return
        if version:
            db.execute("PRAGMA ignore_check_constraints = ON")  # an older version had none; see `_REPAIRED`
            _refuse_torn(db)
            db.execute("PRAGMA ignore_check_constraints = OFF")
            db.execute("DROP VIEW outcomes")
            db.execute("DROP INDEX uses_by_key")
            for table in SUMMED:
                db.execute(f"ALTER TABLE {table} RENAME TO earlier_{table}")
        for statement in _schema().split(";\n"):
            db.execute(statement)
        if version:
            _migrate(db)
        db.execute(f"PRAGMA application_id = {APPLICATION}")
        db.execute(f"PRAGMA user_version = {VERSION}")


def _migrate(db: StoreConnection) -> None:
    """Move the rows of an older version into the current tables."""
    broken = db.execute(f"SELECT count(*) FROM earlier_answers WHERE {_NO_LABEL}").fetchone()[0]
    for table in SUMMED:
        names = columns_of_table(table)
        kept = ("id", *names) if table == "answers" else names
        had = {row["name"] for row in db.execute(f"PRAGMA table_info(earlier_{table})")}
        changed = (_REPAIRED if table == "answers" else {}) | {name: "''" for name in kept if name not in had}
        repaired = ", ".join(changed.get(name, name) for name in kept)
        insert = f"INSERT INTO {table} ({', '.join(kept)}, checksum) VALUES ({', '.join('?' * (len(kept) + 1))})"
        try:
            for row in db.execute(f"SELECT {repaired} FROM earlier_{table}"):
                values = tuple(row)
                _refuse_unreadable(table, dict(zip(kept, values, strict=True)))
                db.execute(insert, (*values, summed(table, values[-len(names) :])))
        except StoreError:
            raise
        except (sqlite3.IntegrityError, ValueError, TypeError, KeyError) as error:
            raise damaged(db.path, f"a row of {table} cannot be read") from error
    for table in SUMMED[::-1]:
        db.execute(f"DROP TABLE earlier_{table}")
    if broken:
        log.warning("%s: %s without a number for a score; label.py asks again", db.path, count(broken, "label"))


def _refuse_without_locks(path: Path) -> None:
    """Refuse a folder in which nothing can be written or locked; SQLite would wait for a lock as if it were taken."""
    try:
        without = lock_problem(path.parent, PROMPT)
    except OSError as error:
        raise fault(path, error) from error
    if without:
        raise StoreError(
            path,
            f"the file system of {path.parent.resolve()} has no working locks ({without}), so that processes would "
            "damage each other's answers; name a file on another one, such as a local disk, with store=",
            sqlite3.SQLITE_PROTOCOL,
        )


def _refuse_unreadable(table: str, row: dict[str, Any]) -> None:
    """Raise an error if a row was not written by an older version."""
    if table == "answers":
        Status(answer_of(row).status)
    elif table == "sets":
        info = info_of(row)
        if info.id != row["id"] or not isinstance(info.about, dict):
            raise ValueError


def _schema() -> str:
    return files("invitro.labels").joinpath("schema.sql").read_text("utf-8")


@cache
def _tables() -> tuple[dict[str, str], dict[str, dict[str, str]]]:
    """Return the schema: each object's definition by name, and the columns of `SUMMED` with their types."""
    db = sqlite3.connect(":memory:")
    db.executescript(_schema())
    definitions = dict(db.execute("SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL"))
    columns = {
        table: {name: kind for _, name, kind, *_ in db.execute(f"PRAGMA table_info({table})")
                if name not in ("id", "checksum") or (table, name) == ("sets", "id")}
        for table in SUMMED
    }  # fmt: skip
    db.close()
    return definitions, columns


def columns_of_table(table: str) -> tuple[str, ...]:
    """Return the columns of a table of `SUMMED` that its rows' checksums cover, in order."""
    return tuple(_tables()[1][table])


def summed(table: str, values: Sequence[Any]) -> int:
    """Return the checksum of a row: CRC-32 of its values as SQLite returns them.

    Args:
        table: one of `SUMMED`.
        values: of `columns_of_table`, in order.
    """
    kinds = _tables()[1][table].values()
    return _sum(tuple(_as_stored(value, kind) for value, kind in zip(values, kinds, strict=True)))


def _sum(values: tuple[Any, ...]) -> int:
    return crc32(repr(values).encode("utf-8", "surrogatepass"))


def _as_stored(value: Any, kind: str) -> Any:
    """Return a value as SQLite returns it from a column of this type."""
    if isinstance(value, float):
        if value != value:
            return None
        return int(value) if kind == "INTEGER" and value.is_integer() else float(value)
    if isinstance(value, int):
        return float(value) if kind == "REAL" else int(value)
    return str(value) if isinstance(value, str) else value


_checked: dict[Path, list[tuple[int, int] | None]] = {}


def _check(db: StoreConnection) -> None:
    """Refuse a file if a page, an index, the schema or a row is not what was written.

    Unlike `quick_check`, `integrity_check` also compares tables with their indexes. An unchanged file is checked once
    per process.
    """
    if _checked.get(db.path) == (now := _versions(db.path)):
        return
    _refuse_torn(db)
    definitions, columns = _tables()
    schema = dict(map(tuple, db.execute("SELECT name, sql FROM sqlite_schema")))
    if wrong := [name for name, text in definitions.items() if schema.get(name) != text]:
        raise damaged(db.path, f"its table {wrong[0]} is not as it was created")
    rows = db.cursor()
    rows.row_factory = None
    db.execute("BEGIN")
    for table, names in columns.items():
        for checksum, *values in rows.execute(f"SELECT checksum, {', '.join(names)} FROM {table}"):
            if _sum(tuple(values)) != checksum:
                raise damaged(db.path, f"a row of {table} is not what was written")
    db.execute("COMMIT")
    _checked[db.path] = now


def _refuse_torn(db: StoreConnection) -> None:
    if (result := db.execute("PRAGMA integrity_check(1)").fetchone()[0]) != "ok":
        raise damaged(db.path, str(result).splitlines()[-1])
