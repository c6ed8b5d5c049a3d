"""The label store: one SQLite file that keeps every answer of an LLM, committed as it arrives.

Any number of processes may read and write it at once: writes are short transactions in WAL mode that wait for each
other. What is committed survives a kill at any moment; a power failure may lose the last few seconds, never the file.
Processes that label the same texts claim their questions, so that each is asked once.
"""

import json
import logging
import os
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

from invitro.errors import InputError
from invitro.files import whole_or_absent
from invitro.labels.answers import (
    ANSWER_COLUMNS,
    Answer,
    Attempt,
    SetInfo,
    Status,
    StoredSet,
    Use,
    answer_of,
    info_of,
    now,
    row_of,
)
from invitro.labels.database import StoreConnection, StoreError, connected, fault, transaction, uri_of
from invitro.labels.opening import columns_of_table, copied, opened, salvaged, summed
from invitro.tables import pieces

log = logging.getLogger(__name__)

PAGE_ROWS = 500  # rows read at a time, so that reading never locks the file for long

LEASE = 60.0
"""Seconds after which a claim expires unless its process renews it."""

_STORED = (*ANSWER_COLUMNS, "checksum")
_PUT = (
    f"INSERT INTO answers ({', '.join(_STORED)}) VALUES (:{', :'.join(_STORED)}) "
    "ON CONFLICT (key, attempt) DO UPDATE SET id = (SELECT max(id) + 1 FROM answers), "
    + ", ".join(f"{name} = excluded.{name}" for name in _STORED if name not in ("key", "attempt"))
    + f" WHERE answers.status = '{Status.ERROR}'"
)

_PUT_SET, _PUT_USE = (
    f"INTO {table} ({', '.join(columns_of_table(table))}, checksum) "
    f"VALUES ({', '.join('?' * (len(columns_of_table(table)) + 1))})"
    for table in ("sets", "uses")
)


class LabelStore:
    """A label store; a context manager.

    Args:
        path: the file; it is created if there is none, and updated if an older version made it.
        read_only: the file must exist; nothing is written, and no write access is needed.

    Raises:
        StoreError: the file is not a label store, or cannot be used.
    """

    def __init__(self, path: str | Path, read_only: bool = False) -> None:
        self.path = Path(path)
        self.db = opened(self.path, read_only)

    def about(self, keys: Sequence[str], query: str, *values: str) -> Iterator[sqlite3.Row]:
        """Yield the rows of a query about many keys or ids, a chunk of these at a time.

        Args:
            keys: the values for ``IN (?)`` in the query.
            query: in SQL.
            values: of its other parameters, which come first.
        """
        for chunk in pieces(keys, PAGE_ROWS):
            expanded = query.replace("IN (?)", f"IN ({', '.join('?' * len(chunk))})")
            yield from self.db.execute(expanded, (*values, *chunk)).fetchall()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; the log that SQLite keeps next to it is folded in."""
        self.db.close()

    def backup(self, target: str | Path) -> None:
        """Write a copy as a single file, complete or absent, even while other processes write to the store.

        Raises:
            StoreError: the copy cannot be written.
        """
        try:
            with (
                whole_or_absent(target) as temporary,
                closing(connected(Path(target), f"{uri_of(temporary.absolute())}?mode=rw")) as copy,
            ):
                self.db.backup(copy)
                copy.execute("PRAGMA journal_mode = DELETE")
                copy.execute("DELETE FROM claims")
        except (sqlite3.Error, OSError) as error:
            raise fault(Path(target), error) from error

    def open_set(self, info: SetInfo) -> str:
        """Create a label set unless it exists already, and return its id."""
        with transaction(self.db):
            values = (info.id, *info.identity, json.dumps(info.about), now())
            self.db.execute(f"INSERT OR IGNORE {_PUT_SET}", (*values, summed("sets", values)))
        return info.id

    def use(self, set_id: str, uses: Iterable[Use]) -> None:
        """Record which answers a set's texts need; a text that has changed now needs another one."""
        wanted = list(uses)
        recorded = self.used(set_id, [use.text_id for use in wanted])
        rows = [
            (set_id, use.text_id, use.sample, use.key, use.text_hash)
            for use in wanted
            if recorded.get((use.text_id, use.sample)) != (use.key, use.text_hash)
        ]
        if rows:
            with transaction(self.db):
                self.db.executemany(f"INSERT OR REPLACE {_PUT_USE}", [(*row, summed("uses", row)) for row in rows])

    def put(self, answers: Iterable[Answer]) -> None:
        """Store answers in one transaction. Stored answers stay; only an ``error`` is replaced by a later answer.

        Claims on their questions end.

        Raises:
            sqlite3.IntegrityError: an answer that is ``ok`` has no score or one that is not a number, or a count or
                cost is negative; nothing is stored.
        """
        rows = [_row(answer) for answer in answers]
        with transaction(self.db):
            self.db.executemany(_PUT, rows)
            self.db.executemany("DELETE FROM claims WHERE key = :key", rows)

    def known(self, keys: Sequence[str]) -> dict[str, dict[int, Attempt]]:
        """Return the stored attempts at questions, by key and then by number."""
        attempts: dict[str, dict[int, Attempt]] = {}
        query = "SELECT key, attempt, id, status, finish FROM answers WHERE key IN (?)"
        for key, number, *details in self.about(keys, query):
            attempts.setdefault(key, {})[number] = Attempt(*details)
        return attempts

    def latest(self) -> int:
        """Return the number of the answer that arrived last; later ones have larger numbers."""
        return int(self.db.execute("SELECT coalesce(max(id), 0) FROM answers").fetchone()[0])

    def asked_by(self, set_id: str, keys: Sequence[str]) -> set[str]:
        """Return which of the questions `keys` are a set's."""
        return {key for (key,) in self.about(keys, "SELECT key FROM uses WHERE set_id = ? AND key IN (?)", set_id)}

    def used(self, set_id: str, text_ids: Sequence[str]) -> dict[tuple[str, int], tuple[str, str]]:
        """Return what is recorded about a set's texts: ``(text_id, sample)`` to ``(key, text_hash)``."""
        query = "SELECT text_id, sample, key, text_hash FROM uses WHERE set_id = ? AND text_id IN (?)"
        return {(text_id, sample): (key, text) for text_id, sample, key, text in self.about(text_ids, query, set_id)}

    def attempts(self, set_id: str, text_ids: Sequence[str]) -> Iterator[sqlite3.Row]:
        """Yield every stored attempt at the questions about some of a set's texts, by text, sample and attempt.

        Columns: ``text_id, sample, attempt, status, prompt_tokens, completion_tokens, cost``.
        """
        query = (
            "SELECT text_id, sample, attempt, status, prompt_tokens, completion_tokens, cost FROM uses "
            "JOIN answers USING (key) WHERE set_id = ? AND text_id IN (?) ORDER BY text_id, sample, attempt"
        )
        yield from self.about(text_ids, query, set_id)

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

    def answers(self, set_id: str | None = None) -> Iterator[Answer]:
        """Yield answers in the order in which they were stored, a page at a time; those of a set, or all."""
        of_set = " AND EXISTS (SELECT 1 FROM uses WHERE uses.key = answers.key AND uses.set_id = ?)"
        where, values = ("", ()) if set_id is None else (of_set, (set_id,))
        query, last = f"SELECT * FROM answers WHERE id > ?{where} ORDER BY id LIMIT {PAGE_ROWS}", 0
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

    def commonest_reply(self, set_id: str) -> tuple[str, int, int] | None:
        """Return the commonest reply among the answers with a label, its count, and the count of all of them."""
        query = (
            "SELECT raw, count(*) AS times, sum(count(*)) OVER () FROM uses JOIN answers USING (key) "
            "WHERE set_id = ? AND status = ? GROUP BY raw ORDER BY times DESC, raw LIMIT 1"
        )
        row = self.db.execute(query, (set_id, Status.OK)).fetchone()
        return None if row is None else tuple(row)

    def sets(self, **wanted: str) -> list[StoredSet]:
        """Return the label sets with their counts, the oldest first; only those whose columns match `wanted`."""
        where = " AND ".join(["1", *(f"{name} = ?" for name in wanted)])
        rows = self.db.execute(f"SELECT * FROM sets WHERE {where} ORDER BY created, rowid", tuple(wanted.values()))
        return [self._stored(row) for row in rows.fetchall()]

    def _stored(self, row: sqlite3.Row) -> StoredSet:
        """Return a set with its counts."""
        texts, labelled, samples = self.db.execute(
            "SELECT count(*), coalesce(sum(ok), 0), coalesce(max(n), 0) FROM (SELECT max(coalesce(status, '') = 'ok') "
            "AS ok, count(*) AS n FROM outcomes WHERE set_id = ? GROUP BY text_id)",
            (row["id"],),
        ).fetchone()
        unusable = self.db.execute(
            "SELECT coalesce(status, 'pending') AS what, count(*) FROM outcomes WHERE set_id = ? AND what <> ? "
            "GROUP BY what ORDER BY what",
            (row["id"], Status.OK),
        )
        answers, prompt, completion, cost = self.db.execute(
            "SELECT count(*), coalesce(sum(prompt_tokens), 0), coalesce(sum(completion_tokens), 0), "
            "coalesce(sum(cost), 0.0) FROM answers WHERE key IN (SELECT key FROM uses WHERE set_id = ?)",
            (row["id"],),
        ).fetchone()
        counts = texts, labelled, dict(unusable), samples, answers, prompt, completion, cost
        return StoredSet(row["id"], info_of(row), *counts, row["created"])

    def reparse(self, parse: Callable[[Answer], Answer], set_id: str) -> int:
        """Read a set's stored replies again, without asking any model; return how many results changed.

        Args:
            parse: returns the answer with the status, items, score and spread that it should have.
            set_id: whose answers.
        """
        changed = 0
        for page in pieces(self.answers(set_id), PAGE_ROWS):
            rows = [_row(new) for old in page if old.status != Status.ERROR and (new := parse(old)) != old]
            with transaction(self.db):
                self.db.executemany(
                    f"UPDATE answers SET {', '.join(f'{name} = :{name}' for name in _STORED)} "
                    "WHERE key = :key AND attempt = :attempt",
                    rows,
                )
            changed += len(rows)
        return changed

    def merge(self, other: str | Path) -> int:
        """Add another store's sets and answers, in one transaction; return how many answers are new.

        If both hold an answer under the same key, this store's answer stays, unless it is an ``error``. The
        intact rows of a damaged store are added, with a warning.
        """
        path = Path(other)
        if path.resolve() == self.path.resolve():
            raise InputError(f"{other}: this is the same store; name another one to merge")
        before = self._count()
        try:
            source = opened(path, read_only=True)
            read: Callable[[str], Iterable[tuple[Any, ...]]] = partial(_whole, source)
        except StoreError as error:
            if error.code != sqlite3.SQLITE_CORRUPT:
                raise
            source = copied(path, whole=False)
            read = partial(salvaged, source)
            log.warning("%s; what can be read is recovered", error.args[0].partition(". ")[0])
        with closing(source), transaction(self.db):
            for row in read("sets"):
                self.db.execute(f"INSERT OR IGNORE {_PUT_SET}", row)
            set_ids = {set_id for (set_id,) in self.db.execute("SELECT id FROM sets")}
            self.db.executemany(f"INSERT OR IGNORE {_PUT_USE}", (row for row in read("uses") if row[0] in set_ids))
            for row in read("answers"):
                self.db.execute(_PUT, dict(zip((*columns_of_table("answers"), "checksum"), row, strict=True)))
        return self._count() - before

    def _count(self) -> int:
        return int(self.db.execute("SELECT count(*) FROM answers").fetchone()[0])


def _whole(db: StoreConnection, table: str) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of a table in their order, with their checksums."""
    order = " ORDER BY id" if table == "answers" else ""
    yield from map(tuple, db.execute(f"SELECT {', '.join(columns_of_table(table))}, checksum FROM {table}{order}"))


def _row(answer: Answer) -> dict[str, Any]:
    """Return an answer as a row of the store with its checksum, by column."""
    row = row_of(answer)
    return row | {"checksum": summed("answers", [row[name] for name in columns_of_table("answers")])}


class Claims:
    """The questions that one job is asking; a context manager that releases them at its end.

    A claim is renewed while the job runs. Those of a killed process expire, at once if it ran on this machine. A claim
    also ends when the question's answer is stored.

    Args:
        store: where questions and answers are.
    """

    def __init__(self, store: LabelStore) -> None:
        self._store = store
        self._owner = f"{_place()} {os.getpid()} {uuid4().hex}"
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._renew, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()
        with suppress(StoreError), transaction(self._store.db):  # on a full disk they stay, and expire
            self._store.db.execute("DELETE FROM claims WHERE owner = ?", (self._owner,))

    def take(self, keys: Sequence[str], is_open: Callable[[Mapping[int, Attempt]], bool]) -> tuple[set[str], set[str]]:
        """Claim questions.

        Args:
            keys: the questions.
            is_open: whether a question still has to be asked, given its stored attempts.

        Returns:
            The keys that are now this job's to ask, and those that another living process is asking.
        """
        if not keys:
            return set(), set()
        with transaction(self._store.db):
            stored = self._store.known(keys)
            unanswered = [key for key in keys if is_open(stored.get(key, {}))]
            taken = {
                key
                for key, owner, until in self._store.about(
                    unanswered, "SELECT key, owner, until FROM claims WHERE key IN (?)"
                )
                if owner != self._owner and until > time.time() and not _is_gone(owner)
            }
            ours = set(unanswered) - taken
            rows = [(key, self._owner, time.time() + LEASE) for key in ours]
            self._store.db.executemany("INSERT OR REPLACE INTO claims VALUES (?, ?, ?)", rows)
        return ours, taken

    def _renew(self) -> None:
        """Renew the claims until the job ends, whatever the job is waiting for."""
        with closing(connected(self._store.path)) as db:
            while not self._ended.wait(LEASE / 4):
                with suppress(StoreError):  # locked for a minute: the next renewal may still be in time
                    db.execute("UPDATE claims SET until = ? WHERE owner = ?", (time.time() + LEASE, self._owner))


def _place() -> str:
    """Name the machine or container whose processes share their numbers with this one."""
    try:
        return f"{socket.gethostname()}/{Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return socket.gethostname()


def _is_gone(owner: str) -> bool:
    """Whether a claim's process has ended, as far as can be seen from here."""
    machine, number, _ = owner.rsplit(" ", 2)
    return machine == _place() and Path("/proc/self").exists() and not Path("/proc", number).exists()
