"""The label store's file: damaged, incomplete, read-only, without locks, on a full disk; nothing is lost silently."""

import errno
import fcntl
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from invitro.errors import InputError
from invitro.labels.answers import Answer, SetInfo, Use
from invitro.labels.database import StoreError
from invitro.labels.source import stored_labels
from invitro.labels.store import Claims, LabelStore
from invitro.scales import Item, Scale

SCALE = Scale("s", "empathy", (Item("warm", "warm"), Item("tender", "tender")), 1, 7)
ITEMS = '{"names": ["warm", "tender"], "low": 1, "high": 7, "aggregation": "mean"}'
INFO = SetInfo("c", "gpt", "gpt-4o", "", "plain", "hash", "s", ITEMS, "digits", "{}", {"licence": "CC"})
PAGE = 4096


def filled(path: Path, texts: int = 60) -> Path:
    with LabelStore(path) as store:
        set_id = store.open_set(INFO)
        store.use(set_id, [Use(f"t{number}", 0, f"{number:064d}", "hash") for number in range(texts)])
        for number in range(texts):
            items = (1.0 + number % 7, 1.0 + number % 5)
            tokens = (("3", (("3", -0.1),)),) if number % 3 else ()
            store.put([Answer(f"{number:064d}", 0, "ok", "reply " * (number % 40), items=items, score=sum(items) / 2,
                              tokens=tokens, prompt_tokens=9, completion_tokens=2, cost=0.01)])  # fmt: skip
    return path


def content(path: Path) -> list[object]:
    with LabelStore(path, read_only=True) as store:
        (stored,) = store.sets()
        return [stored, list(store.answers()), stored_labels(store, stored, SCALE).labels.to_csv()]


def overwritten(pages: random.Random, whole: bytes) -> bytes:
    place = pages.randrange(len(whole) // PAGE) * PAGE
    return whole[:place] + bytes(PAGE) + whole[place + PAGE :]


DAMAGES: dict[str, Callable[[random.Random, bytes], bytes]] = {
    "a byte": lambda r, b: b[: (at := r.randrange(len(b)))] + bytes([r.randrange(256)]) + b[at + 1 :],
    "a page of zeros": overwritten,
    "a page in another's place": lambda r, b: b[: (at := r.randrange(len(b) // PAGE) * PAGE)] + b[PAGE : 2 * PAGE]
    + b[at + PAGE :],
    "cut": lambda r, b: b[: r.randrange(len(b))],
    "shifted": lambda r, b: b[: (at := r.randrange(len(b)))] + bytes(r.randrange(1, 300)) + b[at:],
    "the head of a page": lambda r, b: b[: (at := r.randrange(len(b) // PAGE) * PAGE + r.randrange(12))]
    + bytes([r.randrange(256)]) + b[at + 1 :],
}  # fmt: skip


@pytest.mark.parametrize("how", DAMAGES)
def test_damage_is_refused_or_changes_nothing(tmp_path: Path, how: str) -> None:
    whole = filled(tmp_path / "labels.sqlite").read_bytes()
    right, refused, told = content(tmp_path / "labels.sqlite"), 0, ""
    for number in range(12):
        path = tmp_path / f"{number}.sqlite"
        broken = DAMAGES[how](random.Random(number), whole)
        path.write_bytes(broken)
        for read_only in (True, False):
            try:
                found = content(path) if read_only else right
                LabelStore(path, read_only).close()
            except StoreError as error:
                told, found = str(error), None
            assert found == right or (told.startswith(f"{path}: ") and path.read_bytes() == broken)
            refused += found is None
    assert refused > 0


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE answers SET score = 6.5 WHERE id = 3", "UPDATE answers SET raw = 'other' WHERE id = 3",
        "UPDATE answers SET status = 'refused' WHERE id = 3", "UPDATE answers SET tokens = NULL WHERE id = 2",
        "UPDATE answers SET raw = CAST(raw AS BLOB) WHERE id = 3", "UPDATE answers SET checksum = 7 WHERE id = 3",
        "UPDATE uses SET key = 'x' WHERE text_id = 't3'", "UPDATE sets SET model = 'gpt-5'", "DROP INDEX uses_by_key",
        "UPDATE sets SET about = '{}'", "DROP VIEW outcomes",
    ],
)  # fmt: skip
def test_a_row_that_was_not_written_so_is_refused(tmp_path: Path, change: str) -> None:
    path = filled(tmp_path / "labels.sqlite", 5)
    with sqlite3.connect(path) as db:
        db.execute(change)
    with pytest.raises(StoreError, match=r"damaged one .*merge="):
        LabelStore(path)


def test_whatever_type_a_value_comes_in_its_row_is_sound(tmp_path: Path) -> None:
    with LabelStore(tmp_path / "s") as store:
        store.put([Answer("k", 0, "ok", "x", items=(3.0,), score=3, spread=np.float64(0.5), cost=0,
                          completion_tokens=2.0)])  # type: ignore[arg-type]  # fmt: skip
        store.put([Answer("l", 0, "error", "half \ud800 pair", spread=float("nan"))])
    with LabelStore(tmp_path / "s", read_only=True) as store:
        assert [(one.score, one.spread, one.completion_tokens) for one in store.answers()] == [
            (3.0, 0.5, 2),
            (None, None, 0),
        ]


def test_what_can_be_read_of_a_damaged_store_is_taken_over(tmp_path: Path, caplog) -> None:
    path = filled(tmp_path / "labels.sqlite")
    with sqlite3.connect(path) as db:
        db.execute("UPDATE answers SET score = 6.5 WHERE id = 3")
    with LabelStore(tmp_path / "row.sqlite") as store:
        assert store.merge(path) == 59
        assert "damaged one (a row of answers is not what was written); what can be read is taken" in caplog.text
        assert store.sets()[0].labelled == 59
    with sqlite3.connect(path) as db:
        leaf = db.execute("SELECT pageno FROM dbstat WHERE name = 'answers' AND pagetype = 'leaf'").fetchall()[1][0]
    whole = path.read_bytes()
    path.write_bytes(whole[: (leaf - 1) * PAGE] + bytes(PAGE) + whole[leaf * PAGE :])
    with LabelStore(tmp_path / "page.sqlite") as store:
        assert 30 < store.merge(path) < 59
    assert content(tmp_path / "page.sqlite")


def test_a_closed_store_is_one_file(tmp_path: Path) -> None:
    path = filled(tmp_path / "labels.sqlite")
    with LabelStore(path) as one, LabelStore(path):
        one.put([Answer("k", 0, "unparseable", "no")])
        assert path.with_name("labels.sqlite-wal").stat().st_size > 0
    assert [file.name for file in tmp_path.iterdir()] == ["labels.sqlite"]
    with sqlite3.connect(path) as db:
        assert db.execute("PRAGMA journal_mode").fetchone() == ("delete",)


def in_another_process(work: Callable[[], str]) -> str:
    """Return what `work` returns in a process of its own, which begins as a copy of this one."""
    read, write = os.pipe()
    if not (child := os.fork()):
        try:
            os.write(write, work().encode())
        except BaseException as error:
            os.write(write, repr(error).encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as file:
        said = file.read()
    os.waitpid(child, 0)
    return said


def killed(path: Path) -> None:
    """Leave a store as a job that is killed leaves it."""

    def work() -> str:
        store = LabelStore(path)
        filled(path)
        os.kill(os.getpid(), signal.SIGKILL)
        return str(store)

    assert in_another_process(work) == ""
    assert path.with_name(f"{path.name}-wal").stat().st_size > 0


def test_a_copy_without_its_log_is_refused_and_with_it_complete(tmp_path: Path) -> None:
    path = tmp_path / "labels.sqlite"
    killed(path)
    for name in ("with", "without"):
        (tmp_path / name).mkdir()
        shutil.copy(path, tmp_path / name)
    shutil.copy(f"{path}-wal", tmp_path / "with")
    for read_only in (True, False):
        with pytest.raises(StoreError, match=r"copied without labels.sqlite-wal, which holds its last answers.*merge="):
            LabelStore(tmp_path / "without" / "labels.sqlite", read_only)
        assert len(content(tmp_path / "with" / "labels.sqlite")[1]) == 60  # type: ignore[arg-type]
    with closing(sqlite3.connect(path)) as db:  # another program folds the log in
        assert db.execute("SELECT count(*) FROM answers").fetchone() == (60,)
    assert not path.with_name("labels.sqlite-wal").exists()
    assert len(content(path)[1]) == 60  # type: ignore[arg-type]
    path.with_name("labels.sqlite-wal").write_bytes(b"x")
    path.unlink()
    with pytest.raises(StoreError, match=r"is missing, but labels.sqlite-wal is there"):
        LabelStore(path)
    path.write_bytes(b"")
    with pytest.raises(StoreError, match="is empty"):
        LabelStore(path, read_only=True)


def test_a_backup_is_whole_whoever_writes(tmp_path: Path) -> None:
    path = filled(tmp_path / "labels.sqlite")
    with LabelStore(path) as writer, Claims(writer) as claims:
        claims.take(["a"], lambda stored: True)
        writer.put([Answer("k", 0, "unparseable", "no")])
        with LabelStore(path, read_only=True) as store:
            store.backup(tmp_path / "copies" / "b.sqlite")
    assert content(tmp_path / "copies" / "b.sqlite") == content(path)
    assert [file.name for file in (tmp_path / "copies").iterdir()] == ["b.sqlite"]
    with LabelStore(path) as store, pytest.raises(StoreError, match=r"/proc/b.sqlite: cannot be opened or written"):
        store.backup("/proc/b.sqlite")


def test_reading_needs_no_write_access(tmp_path: Path) -> None:
    """Root may write anywhere: another user reads."""
    closed, stopped = tmp_path / "closed" / "labels.sqlite", tmp_path / "stopped" / "labels.sqlite"
    filled(closed)
    stopped.parent.mkdir()
    killed(stopped)
    stopped.with_name("labels.sqlite-shm").unlink()

    def work() -> str:
        if not os.getuid():
            os.setuid(65534)
        said = []
        for path in (closed, stopped):
            assert not os.access(path.parent, os.W_OK)
            before = sorted(path.parent.iterdir())
            with LabelStore(path, read_only=True) as store:
                said.append(f"{store.sets()[0].labelled} labels")
            assert sorted(path.parent.iterdir()) == before
            with pytest.raises(StoreError) as refused:
                LabelStore(path)
            said.append(str(refused.value).removeprefix(f"{path}: "))
        return "\n".join(said)

    folders = [tmp_path, *tmp_path.parents[:-1]]
    modes = {one: one.stat().st_mode for one in folders}
    try:
        for one in folders:
            one.chmod(one.stat().st_mode | 0o555)
        for path in (closed, stopped):
            for one in path.parent.iterdir():
                one.chmod(0o444)
            path.parent.chmod(0o555)
        said = in_another_process(work)
    finally:
        for one, mode in modes.items():
            one.chmod(mode)
        for path in (closed, stopped):
            path.parent.chmod(0o755)
    refused = "cannot be opened or written (permission denied); get write access, or name a file elsewhere by store="
    assert said.splitlines() == ["60 labels", refused, "60 labels", refused]


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS])
def test_a_file_system_without_locks_is_named(tmp_path: Path, monkeypatch, number: int) -> None:
    def none(*args: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "lockf", none)
    with pytest.raises(StoreError, match=rf"the file system of {tmp_path} has no locks that work.*by store="):
        LabelStore(tmp_path / "labels.sqlite")


def test_on_a_disk_of_several_machines_there_is_no_log(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("invitro.labels.opening.is_on_local_disk", lambda folder: False)
    path = filled(tmp_path / "labels.sqlite")
    with LabelStore(path) as store:
        store.put([Answer("k", 0, "unparseable", "no")])
        assert [file.name for file in tmp_path.iterdir()] == ["labels.sqlite"]
    assert len(content(path)[1]) == 61  # type: ignore[arg-type]


def test_a_full_disk_is_one_line_and_what_was_stored_stays(tmp_path: Path) -> None:
    path = filled(tmp_path / "labels.sqlite")
    with LabelStore(path) as store:
        pages = store.db.execute("PRAGMA page_count").fetchone()[0]
        store.db.execute(f"PRAGMA max_page_count = {pages + 1}")  # SQLite then says what a full disk makes it say
        with pytest.raises(StoreError, match="its disk is full; make room"):
            store.put([Answer("k", 0, "unparseable", "no " * 10_000)])
        store.put([Answer("l", 0, "unparseable", "no")])
        with Claims(store):
            pass
    assert len(content(path)[1]) == 61  # type: ignore[arg-type]


def test_a_store_in_use_is_not_taken_for_a_lost_one(tmp_path: Path) -> None:
    """Before its first answer, and while readers keep its log."""
    path = tmp_path / "labels.sqlite"
    code = (
        "import sys\n"
        "from invitro.labels.store import LabelStore\n"
        "store = LabelStore(sys.argv[1])\n"
        "print('open', flush=True)\n"
        "input()\n"
        "store.close()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdin is not None
        assert other.stdout.readline() == "open\n"
        filled(path)
        with LabelStore(path, read_only=True) as reader:
            other.communicate("\n")
            assert reader.sets()[0].labelled == 60
    assert len(content(path)[1]) == 60  # type: ignore[arg-type]
    with pytest.raises(InputError, match="no such label store"):
        LabelStore(tmp_path / "none", read_only=True)
