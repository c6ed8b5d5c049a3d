"""The label store: one SQLite file that keeps every answer of an LLM, committed as it arrives.

Any number of processes may read and write it at once: writes are short transactions in WAL mode that wait for each
other. What is committed survives a kill at any moment; a power failure may lose the last few seconds, never the file.
"""

import json
import logging
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Self

from invitro.errors import InputError
from invitro.labels.answers import (
    ANSWER_COLUMNS,
    Answer,
    Attempt,
    SetInfo,
    Status,
    StoredSet,
    Use,
    answer_of,
    now,
    row_of,
)
from invitro.tables import pieces

log = logging.getLogger(__name__)

APPLICATION, VERSION = 0x1A7E15, 3
"""Mark a file as a label store, and give the version of its tables."""
PATIENCE = 60.0  # seconds that a write waits for other processes' writes
PAGE_ROWS = 500  # rows read at a time, so that reading never locks the file for long

_PUT = (
    f"INSERT INTO answers ({', '.join(ANSWER_COLUMNS)}) VALUES (:{', :'.join(ANSWER_COLUMNS)}) "
    "ON CONFLICT (key, attempt) DO UPDATE SET id = (SELECT max(id) + 1 FROM answers), "
    + ", ".join(f"{name} = excluded.{name}" for name in ANSWER_COLUMNS if name not in ("key", "attempt"))
    + f" WHERE answers.status = '{Status.ERROR}'"
)

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
"""What the columns of older answers become, so that they hold nothing but what the table allows today."""


class LabelStore:
    """A label store; a context manager.

    Args:
        path: the file; it is created if there is none.
        must_exist: raise an error instead of creating it.

    Raises:
        InputError: the file is not a label store, has another version, is missing but must exist, or is not writable.
    """

    def __init__(self, path: str | Path, must_exist: bool = False) -> None:
        self.path = Path(path)
        if must_exist and not self.path.is_file():
            raise InputError(f"{self.path}: no such label store (looked in {self.path.parent.resolve()})")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.db = sqlite3.connect(self.path, timeout=PATIENCE, isolation_level=None)
            self.db.row_factory = sqlite3.Row
            self._prepare()
        except (sqlite3.DatabaseError, OSError) as error:
            raise InputError(f"{self.path}: not usable as a label store: {error}") from error

    def _prepare(self) -> None:
        """Switch to WAL, and lay out the tables of a new file."""
        self.db.execute("PRAGMA synchronous = NORMAL")
        self.db.execute("PRAGMA foreign_keys = ON")
        tables = self.db.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
        mark = self.db.execute("PRAGMA application_id").fetchone()[0]
        if tables and mark != APPLICATION:
            raise InputError(f"{self.path}: an SQLite file, but not a label store; name another file by store=")
        self._use_wal()
        with self.writing():
            marked = self.db.execute("PRAGMA application_id").fetchone()[0] == APPLICATION
            version = self.db.execute("PRAGMA user_version").fetchone()[0] if marked else 0
            if version > VERSION:
                raise InputError(
                    f"{self.path}: a label store of version {version}, this program reads version {VERSION}"
                )
            if version < VERSION:
                self._lay_out(version)

    def _lay_out(self, version: int) -> None:
        """Make the tables of a new file (version 0), or those of an older one as they are today."""
        if version:
            self.db.execute("DROP VIEW outcomes")
            self.db.execute("ALTER TABLE answers RENAME TO earlier_answers")
        for statement in files("invitro.labels").joinpath("schema.sql").read_text("utf-8").split(";\n"):
            self.db.execute(statement)
        if version:
            broken = self.db.execute(f"SELECT count(*) FROM earlier_answers WHERE {_NO_LABEL}").fetchone()[0]
            had = {row["name"] for row in self.db.execute("PRAGMA table_info(earlier_answers)")}
            columns = {"id": "id"} | {name: _REPAIRED.get(name, name) for name in ANSWER_COLUMNS if name in had}
            self.db.execute(
                f"INSERT INTO answers ({', '.join(columns)}) SELECT {', '.join(columns.values())} FROM earlier_answers"
            )
            self.db.execute("DROP TABLE earlier_answers")
            if broken:
                log.warning("%s: %d labels had no number for a score; label.py asks for them again", self.path, broken)
        self.db.execute(f"PRAGMA application_id = {APPLICATION}")
        self.db.execute(f"PRAGMA user_version = {VERSION}")

    def _use_wal(self) -> None:
        """Switch the file to WAL; several processes may try at once, and SQLite does not make them wait for it."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                self.db.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """One transaction that is committed whole or not at all."""
        self.db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self.db.execute("ROLLBACK")
            raise
        self.db.execute("COMMIT")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self.db.close()

    def open_set(self, info: SetInfo) -> str:
        """Create a label set unless it exists already, and return its id."""
        with self.writing():
            self.db.execute(
                f"INSERT OR IGNORE INTO sets VALUES ({', '.join('?' * 13)})",
                (info.id, *info.identity, json.dumps(info.about), now()),
            )
        return info.id

    def use(self, set_id: str, uses: Iterable[Use]) -> None:
        """Record which answers a set's texts need; a text that has changed now needs another one."""
        rows = [(set_id, one.text_id, one.sample, one.key, one.text_hash) for one in uses]
        with self.writing():
            self.db.executemany("INSERT OR REPLACE INTO uses VALUES (?, ?, ?, ?, ?)", rows)

    def put(self, answers: Iterable[Answer]) -> None:
        """Store answers in one transaction. Stored answers stay; only an ``error`` is replaced by a later answer.

        Claims of the questions end.

        Raises:
            sqlite3.IntegrityError: an answer that is ``ok`` has no score or one that is no number, or a count or cost
                is negative; nothing is stored.
        """
        rows = [row_of(answer) for answer in answers]
        with self.writing():
            self.db.executemany(_PUT, rows)
            self.db.executemany("DELETE FROM claims WHERE key = :key", rows)

    def known(self, keys: Sequence[str]) -> dict[str, dict[int, Attempt]]:
        """Return what is known of each stored answer, by key and then by attempt."""
        found: dict[str, dict[int, Attempt]] = {}
        for some in pieces(keys, PAGE_ROWS):
            query = f"SELECT key, attempt, id, status, finish FROM answers WHERE key IN ({', '.join('?' * len(some))})"
            for key, attempt, *rest in self.db.execute(query, some):
                found.setdefault(key, {})[attempt] = Attempt(*rest)
        return found

    def latest(self) -> int:
        """Return the number of the answer that arrived last; later ones have larger numbers."""
        return int(self.db.execute("SELECT coalesce(max(id), 0) FROM answers").fetchone()[0])

    def asked_by(self, set_id: str, keys: Sequence[str]) -> set[str]:
        """Return which of the questions `keys` are a set's."""
        found: set[str] = set()
        for some in pieces(keys, PAGE_ROWS):
            query = f"SELECT key FROM uses WHERE set_id = ? AND key IN ({', '.join('?' * len(some))})"
            found |= {key for (key,) in self.db.execute(query, (set_id, *some))}
        return found

    def used(self, set_id: str, text_ids: Sequence[str]) -> dict[tuple[str, int], tuple[str, str]]:
        """Return what is recorded about a set's texts: ``(text_id, sample)`` to ``(key, text_hash)``."""
        answered = {}
        for some in pieces(text_ids, PAGE_ROWS):
            query = (
                "SELECT text_id, sample, key, text_hash FROM uses "
                f"WHERE set_id = ? AND text_id IN ({', '.join('?' * len(some))})"
            )
            for text_id, sample, key, text in self.db.execute(query, (set_id, *some)):
                answered[text_id, sample] = (key, text)
        return answered

    def attempts(self, set_id: str, text_ids: Sequence[str]) -> Iterator[sqlite3.Row]:
        """Yield every stored attempt at the questions about some of a set's texts, by text, sample and attempt.

        Columns: ``text_id, sample, attempt, status, prompt_tokens, completion_tokens, cost``.
        """
        for some in pieces(text_ids, PAGE_ROWS):
            query = (
                "SELECT text_id, sample, attempt, status, prompt_tokens, completion_tokens, cost FROM uses "
                f"JOIN answers USING (key) WHERE set_id = ? AND text_id IN ({', '.join('?' * len(some))}) "
                "ORDER BY text_id, sample, attempt"
            )
            yield from self.db.execute(query, (set_id, *some)).fetchall()

    def spent(self, set_id: str) -> Iterator[sqlite3.Row]:
        """Yield what each text of a set cost, over all attempts at its questions: one row per answered text.

        Columns: ``text_id, prompt_tokens, completion_tokens, dollars``. An answer that serves several texts counts for
        each of them.
        """
        query = (
            "SELECT text_id, sum(prompt_tokens) AS prompt_tokens, sum(completion_tokens) AS completion_tokens, "
            "sum(cost) AS dollars FROM uses JOIN answers USING (key) WHERE set_id = ? GROUP BY text_id"
        )
        yield from self.db.execute(query, (set_id,))

    def answers(self, set_id: str | None = None, status: str | None = None) -> Iterator[Answer]:
        """Yield answers in the order in which they were stored, a page at a time.

        Args:
            set_id: only answers of this set.
            status: only answers with this status.
        """
        wheres, values = ["id > ?"], [value for value in (set_id, status) if value is not None]
        if set_id is not None:
            wheres.append("EXISTS (SELECT 1 FROM uses WHERE uses.key = answers.key AND uses.set_id = ?)")
        if status is not None:
            wheres.append("status = ?")
        query, last = f"SELECT * FROM answers WHERE {' AND '.join(wheres)} ORDER BY id LIMIT {PAGE_ROWS}", 0
        while page := self.db.execute(query, (last, *values)).fetchall():
            yield from map(answer_of, page)
            last = page[-1]["id"]

    def outcomes(self, set_id: str) -> Iterator[sqlite3.Row]:
        """Yield the result of each question of a set, by text and sample: the columns of the view ``outcomes``."""
        after: tuple[str, int] = ("", -1)
        query = (
            "SELECT text_id, sample, text_hash, status, items, score, spread, answered, revision, batch FROM outcomes "
            f"WHERE set_id = ? AND (text_id, sample) > (?, ?) ORDER BY text_id, sample LIMIT {PAGE_ROWS}"
        )
        while page := self.db.execute(query, (set_id, *after)).fetchall():
            yield from page
            after = (page[-1]["text_id"], page[-1]["sample"])

    def sets(self, **wanted: str) -> list[StoredSet]:
        """Return the label sets with their counts, the oldest first; only those whose columns match `wanted`."""
        where = " AND ".join(["1", *(f"{name} = ?" for name in wanted)])
        rows = self.db.execute(f"SELECT * FROM sets WHERE {where} ORDER BY created, rowid", tuple(wanted.values()))
        return [self._stored(row) for row in rows.fetchall()]

    def _stored(self, row: sqlite3.Row) -> StoredSet:
        """Count what a set holds."""
        one = self.db.execute(
            "SELECT count(*), coalesce(sum(ok), 0), coalesce(max(n), 0) FROM (SELECT max(coalesce(status, '') = 'ok') "
            "AS ok, count(*) AS n FROM outcomes WHERE set_id = ? GROUP BY text_id)",
            (row["id"],),
        ).fetchone()
        unusable = self.db.execute(
            "SELECT coalesce(status, 'pending') AS what, count(*) FROM outcomes WHERE set_id = ? AND what <> ? "
            "GROUP BY what ORDER BY what",
            (row["id"], Status.OK),
        )
        spent = self.db.execute(
            "SELECT count(*), coalesce(sum(prompt_tokens), 0), coalesce(sum(completion_tokens), 0), "
            "coalesce(sum(cost), 0.0) FROM answers WHERE key IN (SELECT key FROM uses WHERE set_id = ?)",
            (row["id"],),
        ).fetchone()
        names = [name for name in SetInfo.__dataclass_fields__ if name != "about"]
        info = SetInfo(**{name: row[name] for name in names}, about=json.loads(row["about"]))
        texts, labelled, samples = one
        return StoredSet(row["id"], info, texts, labelled, dict(map(tuple, unusable)), samples, *spent, row["created"])  # type: ignore[call-arg]

    def reparse(self, parse: Callable[[Answer], Answer], set_id: str) -> int:
        """Read a set's stored replies again, without asking any model; return how many results changed.

        Args:
            parse: returns the answer with the status, items, score and spread that it should have.
            set_id: whose answers.
        """
        changed = 0
        for some in pieces(self.answers(set_id), PAGE_ROWS):
            rows = [row_of(new) for old in some if old.status != Status.ERROR and (new := parse(old)) != old]
            with self.writing():
                self.db.executemany(
                    "UPDATE answers SET status = :status, items = :items, score = :score, spread = :spread, "
                    "error = :error WHERE key = :key AND attempt = :attempt",
                    rows,
                )
            changed += len(rows)
        return changed

    def merge(self, other: str | Path) -> int:
        """Add another store's sets and answers, in one transaction; return how many answers are new.

        If both hold an answer under the same key, this store's answer stays, unless it is an ``error``.
        """
        with LabelStore(other, must_exist=True) as source:
            if source.path.resolve() == self.path.resolve():
                raise InputError(f"{other}: this is the same store; name another one to merge")
            before = self._count()
            with self.writing():
                for row in source.db.execute("SELECT * FROM sets"):
                    self.db.execute(f"INSERT OR IGNORE INTO sets VALUES ({', '.join('?' * len(row))})", tuple(row))
                for row in source.db.execute("SELECT * FROM uses"):
                    self.db.execute("INSERT OR IGNORE INTO uses VALUES (?, ?, ?, ?, ?)", tuple(row))
                for answer in source.answers():
                    self.db.execute(_PUT, row_of(answer))
            return self._count() - before

    def _count(self) -> int:
        return int(self.db.execute("SELECT count(*) FROM answers").fetchone()[0])
