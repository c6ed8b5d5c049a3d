"""An SQLite file that several processes write: WAL, short transactions, and a mark that says whose file it is."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Self

from invitro.errors import InputError

APPLICATION, VERSION = 0x1A7E15, 1
"""Marks a file as a label store, and the layout of its tables."""
PATIENCE = 60.0  # seconds that a write waits for those of other processes


class Database:
    """The file of a label store, open; a context manager.

    Args:
        path: the file; it is made when there is none.
        must_exist: refuse instead.

    Raises:
        InputError: the file is no label store, of another version, missing though it must exist, or cannot be written.
    """

    def __init__(self, path: str | Path, must_exist: bool = False) -> None:
        self.path = Path(path)
        if must_exist and not self.path.is_file():
            raise InputError(f"{self.path}: no such label store (looked in {self.path.parent.resolve()})")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(self.path, timeout=PATIENCE, isolation_level=None)
            self._db.row_factory = sqlite3.Row
            self._prepare()
        except (sqlite3.DatabaseError, OSError) as error:
            raise InputError(f"{self.path}: not usable as a label store: {error}") from error

    def _prepare(self) -> None:
        """Switch to WAL, and lay out the tables of a new file."""
        self._db.execute("PRAGMA synchronous = NORMAL")
        self._db.execute("PRAGMA foreign_keys = ON")
        tables = self._db.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
        mark = self._db.execute("PRAGMA application_id").fetchone()[0]
        if tables and mark != APPLICATION:
            raise InputError(f"{self.path}: an SQLite file, but no label store; name another file by store=")
        self._use_wal()
        with self._writing():
            if self._db.execute("PRAGMA application_id").fetchone()[0] != APPLICATION:
                for statement in files("invitro.labels").joinpath("schema.sql").read_text("utf-8").split(";\n"):
                    self._db.execute(statement)
                self._db.execute(f"PRAGMA application_id = {APPLICATION}")
                self._db.execute(f"PRAGMA user_version = {VERSION}")
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version != VERSION:
            raise InputError(f"{self.path}: a label store of version {version}, this program reads version {VERSION}")

    def _use_wal(self) -> None:
        """Switch the file to WAL; several processes may try at once, and SQLite does not make them wait for it."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                self._db.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """One transaction that is committed whole or not at all."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._db.close()
