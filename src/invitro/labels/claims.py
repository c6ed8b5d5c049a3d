"""Claims: processes that label the same texts into one store share the questions instead of repeating them."""

import os
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Self
from uuid import uuid4

from invitro.labels.answers import Attempt
from invitro.labels.database import StoreError, connected
from invitro.labels.store import PAGE_ROWS, LabelStore
from invitro.tables import pieces

LEASE = 60.0
"""Seconds after which a claim expires that its process has not renewed."""


class Claims:
    """The questions that one job is asking; a context manager that gives them up at its end.

    A claim is renewed while the job lives. Those of a killed process expire, at once if it ran on this machine. A claim
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
        with suppress(StoreError), self._store.writing():  # on a full disk they stay, and expire
            self._store.db.execute("DELETE FROM claims WHERE owner = ?", (self._owner,))

    def take(self, keys: Sequence[str], is_open: Callable[[Mapping[int, Attempt]], bool]) -> tuple[set[str], set[str]]:
        """Claim questions.

        Args:
            keys: the questions.
            is_open: whether a question still has to be asked, from what is stored by now.

        Returns:
            The keys that are now this job's to ask, and those that another living process is asking.
        """
        if not keys:
            return set(), set()
        with self._store.writing():
            known = self._store.known(keys)
            still = [key for key in keys if is_open(known.get(key, {}))]
            taken: set[str] = set()
            for some in pieces(still, PAGE_ROWS):
                query = f"SELECT key, owner, until FROM claims WHERE key IN ({', '.join('?' * len(some))})"
                taken |= {
                    key
                    for key, owner, until in self._store.db.execute(query, some)
                    if owner != self._owner and until > time.time() and not _is_gone(owner)
                }
            ours = set(still) - taken
            rows = [(key, self._owner, time.time() + LEASE) for key in ours]
            self._store.db.executemany("INSERT OR REPLACE INTO claims VALUES (?, ?, ?)", rows)
        return ours, taken

    def _renew(self) -> None:
        """Renew the claims until the job ends, whatever the job is waiting for."""
        with closing(connected(self._store.path)) as db:
            while not self._ended.wait(LEASE / 4):
                with suppress(StoreError):  # locked for a minute: the next time may still do
                    db.execute("UPDATE claims SET until = ? WHERE owner = ?", (time.time() + LEASE, self._owner))


def _place() -> str:
    """Name what shares process numbers with this process: a machine or a container."""
    try:
        return f"{socket.gethostname()}/{Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return socket.gethostname()


def _is_gone(owner: str) -> bool:
    """Whether a claim's process has ended, as far as can be seen from here."""
    place, number, _ = owner.rsplit(" ", 2)
    return place == _place() and Path("/proc/self").exists() and not Path("/proc", number).exists()
