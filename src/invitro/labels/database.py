"""SQLite for label stores: errors of one class, which say what to do, and a single file once a store is closed.

Anything wrong with a store's file is a `StoreError`; the file is left unchanged.
"""

import errno
import os
import random
import shutil
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import wraps
from pathlib import Path, PurePath
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import quote_from_bytes

from invitro.errors import InputError

PATIENCE = 60.0  # seconds that a write waits for other processes' writes
PROMPT = 1.0  # seconds in which locks work, if they work at all
DAMAGED = frozenset((sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_ERROR))
"""Result codes of a damaged file. Our SQL is correct, so the second means that a table is missing."""


class StoreError(InputError):
    """A label store's file cannot be used. Its content is unchanged.

    Args:
        path: the file.
        problem: what is wrong and what to do.
        code: SQLite's primary result code; 0 if the error is not SQLite's.
    """

    def __init__(self, path: Path, problem: str, code: int = 0) -> None:
        super().__init__(f"{path}: {problem}")
        self.code = code


def fault(path: Path, error: sqlite3.Error | OSError) -> StoreError:
    """Return an error of SQLite or the system about a store's file as one that says what to do."""
    if isinstance(error, OSError):
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        denied = error.errno in (errno.EACCES, errno.EPERM, errno.EROFS)
        code = sqlite3.SQLITE_FULL if full else sqlite3.SQLITE_READONLY if denied else sqlite3.SQLITE_CANTOPEN
        reason = str(error.strerror).lower()
    else:
        # Python's own error, about text that is not UTF-8, has no code and repeats the text.
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF or sqlite3.SQLITE_CORRUPT
        reason = str(error) if hasattr(error, "sqlite_errorcode") else "text that is not UTF-8"
    if code == sqlite3.SQLITE_IOERR:
        with suppress(OSError):
            code = sqlite3.SQLITE_FULL if shutil.disk_usage(path.parent).free < 2**20 else code
    if code in DAMAGED:
        return damaged(path, reason)
    problem = {
        sqlite3.SQLITE_NOTADB: f"not a label store, or its beginning is damaged ({reason}); name another file by "
        "store=, or restore its backup (label.py backup=FILE makes one)",
        sqlite3.SQLITE_FULL: "its disk is full; make room, then run the same command again",
        sqlite3.SQLITE_BUSY: f"another process kept it locked for {PATIENCE:.0f} seconds; run the same command again",
        sqlite3.SQLITE_IOERR: f"its disk failed ({reason}); is a shared disk offline, or a quota used up? Run the "
        "same command again, or name a file on another disk with store=",
    }.get(code, f"cannot be opened or written ({reason}); get write access, or name a file elsewhere with store=")
    return StoreError(path, problem, code)


def damaged(path: Path, what: str) -> StoreError:
    """Return the error about a file that is damaged or not a label store."""
    return StoreError(
        path,
        f"not a label store, or a damaged one ({what}). Restore its backup (label.py backup=FILE makes one), or "
        f"recover what can still be read: python label.py store=NEW.sqlite merge={path}",
        sqlite3.SQLITE_CORRUPT,
    )


def _in_words(method: Callable[..., Any]) -> Any:
    """Return a cursor's method that raises errors about the file as `StoreError`; those about values stay SQLite's."""

    @wraps(method)
    def wrapper(cursor: "StoreCursor", *arguments: Any) -> Any:
        try:
            return method(cursor, *arguments)
        except UnicodeDecodeError as error:  # in a name that SQLite's message quotes
            raise damaged(cursor.connection.path, "text that is not UTF-8") from error
        except sqlite3.Error as error:
            if isinstance(error, sqlite3.OperationalError) or type(error) is sqlite3.DatabaseError:
                raise fault(cursor.connection.path, error) from error
            raise

    return wrapper


class StoreCursor(sqlite3.Cursor):
    """A cursor whose errors say what is wrong with its file; see `fault`."""

    connection: "StoreConnection"
    execute = _in_words(sqlite3.Cursor.execute)
    executemany = _in_words(sqlite3.Cursor.executemany)
    fetchone = _in_words(sqlite3.Cursor.fetchone)
    fetchall = _in_words(sqlite3.Cursor.fetchall)
    __next__ = _in_words(sqlite3.Cursor.__next__)


open_here: Counter[Path] = Counter()  # reading such a file by other means would drop its locks


class StoreConnection(sqlite3.Connection):
    """A connection to a label store's file.

    Attributes:
        path: the file that the user named.
        copy: the folder of the copy that is read instead, if any.
        folds: whether closing folds the log into the file.
        counted: whether it is counted in `open_here`.
    """

    path = Path(":memory:")
    copy: TemporaryDirectory[str] | None = None
    folds = False
    counted = False

    def cursor(self, factory: Any = StoreCursor) -> Any:
        """Return a cursor."""
        return super().cursor(factory)

    def execute(self, sql: str, parameters: Any = (), /) -> StoreCursor:
        """Execute one statement with a new cursor."""
        cursor: StoreCursor = self.cursor().execute(sql, parameters)
        return cursor

    def executemany(self, sql: str, parameters: Iterable[Any], /) -> StoreCursor:
        """Execute a statement with each of several rows, with a new cursor."""
        cursor: StoreCursor = self.cursor().executemany(sql, parameters)
        return cursor

    def close(self) -> None:
        """Close the file, and leave all data in that one file unless another process has it open."""
        folded, self.folds = not self.folds or _folded(self), False
        super().close()
        if self.counted:
            self.counted = False
            open_here[self.path.absolute()] -= 1
        if self.copy is not None:
            self.copy.cleanup()
        until = time.monotonic() + 2 * PROMPT
        # Two processes that close at once leave it to each other; SQLite deletes the log when the last one closes.
        while not folded and not beside(self.path, "wal").exists() and time.monotonic() < until:
            time.sleep(random.uniform(0, 0.05))
            with suppress(StoreError):
                last = connected(self.path)
                folded = _folded(last)
                last.close()


def uri_of(path: PurePath) -> str:
    r"""Return an absolute path as a URI for SQLite; `Path.as_uri` would make the server of a share an authority.

    Example:
        >>> from pathlib import PureWindowsPath
        >>> uri_of(PureWindowsPath(r"\\nas\share\my labels.sqlite"))
        'file:////nas/share/my%20labels.sqlite'
    """
    whole = path.as_posix()
    return f"file://{'' if whole.startswith('/') else '/'}{quote_from_bytes(os.fsencode(whole), safe='/:')}"


def connected(path: Path, uri: str | None = None) -> StoreConnection:
    """Connect to a file without checking it.

    Args:
        path: the file, for messages, and to open unless `uri` is given.
        uri: what to open instead.
    """
    try:
        db = sqlite3.connect(
            uri or path, timeout=PATIENCE, isolation_level=None, factory=StoreConnection, uri=uri is not None
        )
    except (sqlite3.Error, OSError) as error:
        raise fault(path, error) from error
    db.row_factory, db.path = sqlite3.Row, path
    db.counted = uri is None or uri.startswith(uri_of(path.absolute()))  # not a copy elsewhere
    open_here[path.absolute()] += db.counted
    return db


def beside(path: Path, what: str) -> Path:
    """Return the path of SQLite's file ``wal``, ``shm`` or ``journal`` next to a database."""
    return path.with_name(f"{path.name}-{what}")


@contextmanager
def transaction(db: StoreConnection) -> Iterator[None]:
    """Run one transaction, which is committed as a whole or not at all."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:  # a full disk may have ended it
            db.execute("ROLLBACK")
        raise


def use_log(db: StoreConnection, mode: str) -> None:
    """Set SQLite's journal mode, waiting for other processes that set it at the same time; SQLite itself does not."""
    until = time.monotonic() + PATIENCE
    while True:
        try:
            db.execute(f"PRAGMA journal_mode = {mode}")
            db.execute("SELECT count(*) FROM sqlite_schema").fetchone()  # the log is there from now on
            return
        except StoreError as error:
            if error.code in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PROTOCOL):
                return  # no memory that processes can share: SQLite keeps the ordinary journal
            if error.code != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
            time.sleep(0.02)


def _folded(db: StoreConnection) -> bool:
    """Move all of the log into the file and delete it; return whether that was possible."""
    try:
        db.execute("PRAGMA busy_timeout = 100")
        return bool(db.execute("PRAGMA journal_mode = DELETE").fetchone()[0] == "delete")
    except StoreError:  # another process has it open, or the disk is full: everything stays in the log
        return False
