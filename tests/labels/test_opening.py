"""The label store's file: damaged, incomplete, read-only, without locks, on a full disk; nothing is lost silently."""

import errno
import fcntl
import json
import os
import random
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support import ROOT

from invitro.errors import InputError
from invitro.labels.answers import Answer, SetInfo, Use
from invitro.labels.database import StoreError
from invitro.labels.opening import APPLICATION, VERSION
from invitro.labels.source import stored_labels
from invitro.labels.store import Claims, LabelStore
from invitro.scales import Item, Scale

SCALE = Scale("s", "empathy", (Item("warm", "warm"), Item("tender", "tender")), 1, 7)
ITEMS = '{"names": ["warm", "tender"], "low": 1, "high": 7, "aggregation": "mean"}'
INFO = SetInfo("c", "gpt", "gpt-4o", "", "plain", "hash", "s", ITEMS, "digits", "{}", {"licence": "CC"})
PAGE = 4096
EARLIER = Path(__file__).with_name("earlier")
"""What ``label.py`` of earlier versions stored about 20 texts, as SQLite dumps it."""


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
    right, refused, message = content(tmp_path / "labels.sqlite"), 0, ""
    for number in range(12):
        path = tmp_path / f"{number}.sqlite"
        broken = DAMAGES[how](random.Random(number), whole)
        path.write_bytes(broken)
        for read_only in (True, False):
            try:
                answers = content(path) if read_only else right
                LabelStore(path, read_only).close()
            except StoreError as error:
                message, answers = str(error), None
            assert answers == right or (message.startswith(f"{path}: ") and path.read_bytes() == broken)
            refused += answers is None
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
        assert [(answer.score, answer.spread, answer.completion_tokens) for answer in store.answers()] == [
            (3.0, 0.5, 2),
            (None, None, 0),
        ]


def test_what_can_be_read_of_a_damaged_store_is_recovered(tmp_path: Path, caplog) -> None:
    path = filled(tmp_path / "labels.sqlite")
    with sqlite3.connect(path) as db:
        db.execute("UPDATE answers SET score = 6.5 WHERE id = 3")
    with LabelStore(tmp_path / "row.sqlite") as store:
        assert store.merge(path) == 59
        assert "damaged one (a row of answers is not what was written); what can be read is recovered" in caplog.text
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
    with LabelStore(path) as store, LabelStore(path):
        store.put([Answer("k", 0, "unparseable", "no")])
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
    modes = {folder: folder.stat().st_mode for folder in folders}
    try:
        for folder in folders:
            folder.chmod(folder.stat().st_mode | 0o555)
        for path in (closed, stopped):
            for file in path.parent.iterdir():
                file.chmod(0o444)
            path.parent.chmod(0o555)
        said = in_another_process(work)
    finally:
        for folder, mode in modes.items():
            folder.chmod(mode)
        for path in (closed, stopped):
            path.parent.chmod(0o755)
    refused = "cannot be opened or written (permission denied); get write access, or name a file elsewhere with store="
    assert said.splitlines() == ["60 labels", refused, "60 labels", refused]


def earlier(version: int, path: Path) -> sqlite3.Connection:
    """Make a store as ``label.py`` of an earlier version left it, whose content that version wrote; it stays open."""
    db = sqlite3.connect(path)
    db.executescript((EARLIER / f"version_{version}.sql").read_text("utf-8"))
    db.execute(f"PRAGMA application_id = {APPLICATION}")
    db.execute(f"PRAGMA user_version = {version}")
    db.execute("PRAGMA journal_mode = WAL")
    return db


def said(store: LabelStore) -> list[tuple[object, ...]]:
    return [
        (answer.key, answer.attempt, answer.status, answer.raw, answer.score, answer.items, answer.answered)
        for answer in store.answers()
    ]


@pytest.mark.parametrize("version", [1, 2, 3])
def test_stores_of_earlier_versions_are_read_as_they_are_and_written_as_today_s(tmp_path: Path, version: int) -> None:
    path = tmp_path / "labels.sqlite"
    with closing(earlier(version, path)) as db:
        answers = db.execute("SELECT key, attempt, status, raw, score, items, answered FROM answers ORDER BY id")
        right = [(*row[:5], tuple(json.loads(row[5] or "[]")), row[6]) for row in answers]
        db.execute("UPDATE uses SET sample = sample")  # now in the log, as a killed job leaves it
        db.commit()
        killed_one = tmp_path / "killed" / path.name
        killed_one.parent.mkdir()
        for suffix in ("", "-wal"):
            shutil.copy(f"{path}{suffix}", f"{killed_one}{suffix}")
    assert len(right) == (23 if version == 3 else 22)
    before = path.read_bytes()
    for of in (path, killed_one):
        with LabelStore(of, read_only=True) as store:
            assert said(store) == right
            assert (store.sets()[0].labelled, store.sets()[0].texts) == (20, 20)
            store.backup(tmp_path / "b.sqlite")
    assert path.read_bytes() == before
    for of in (path, killed_one, tmp_path / "b.sqlite"):
        for _ in range(2):
            with LabelStore(of) as store:
                assert said(store) == right
        with closing(sqlite3.connect(of)) as db:
            assert db.execute("PRAGMA user_version").fetchone() == (VERSION,)
            assert db.execute("PRAGMA journal_mode").fetchone() == ("delete",)


def test_labels_without_a_number_in_an_earlier_store_are_repaired(tmp_path: Path, caplog) -> None:
    path = tmp_path / "labels.sqlite"
    with closing(earlier(1, path)) as db:
        keys = [key for (key,) in db.execute("SELECT key FROM answers ORDER BY id")]
        db.execute("UPDATE answers SET score = NULL, spread = NULL WHERE id = 1")  # as NaN is stored
        db.execute("UPDATE answers SET items = '[NaN, 3.0]', completion_tokens = 1e30, cost = 9e999 WHERE id = 3")
        db.commit()
    for _ in range(2):
        with LabelStore(path) as store:
            first = {answer.key: answer for answer in store.answers() if answer.attempt == 0}
            for key in (keys[0], keys[2]):
                assert (first[key].status, first[key].score, first[key].items) == ("unparseable", None, ())
            assert (first[keys[2]].completion_tokens, first[keys[2]].cost) == (0, 0)
            assert store.sets()[0].unusable == {"unparseable": 2}
            assert {(answer.revision, answer.batch) for answer in store.answers()} == {("", "")}
            with pytest.raises(sqlite3.IntegrityError):
                store.put([replace(first[keys[3]], key="e", score=np.nan)])
    assert [record.message.partition(": ")[2] for record in caplog.records] == [
        "2 labels without a number for a score; label.py asks again"
    ]


@pytest.mark.slow
def test_an_earlier_store_serves_every_command(tmp_path: Path, run) -> None:
    earlier(1, tmp_path / "labels.sqlite").close()
    rows = [
        f't{n},"Essay {n}: I read about {n} families and {"felt for them, " * (n % 4 + 1)}and then '
        f'{"I moved on. " * (n % 3 + 1)}",{1 + n % 7}\n'
        for n in range(20)
    ]
    (tmp_path / "essays.csv").write_text("id,essay,empathy\n" + "".join(rows))
    corpus = ["data=table", "data.path=essays.csv", "data.columns={text_id: id, text: essay, crowd_label: empathy}"]
    common = ["llm=scripted", "store=labels.sqlite", *corpus]
    trained = run("train.py", *common, "application=correction", "plm=tfidf", "data/split=holdout", "logger=none")
    assert trained.returncode == 0, trained.stderr
    copied = run("label.py", "store=labels.sqlite", "backup=b.sqlite")
    assert "Backup: b.sqlite (22 answers of 1 label sets)" in copied.stdout, copied.stderr
    with LabelStore(tmp_path / "b.sqlite", read_only=True) as store:
        right = said(store)
    labelled = run("label.py", *common, "readout=digits")
    assert labelled.returncode == 0, labelled.stderr
    with LabelStore(tmp_path / "labels.sqlite", read_only=True) as store:
        assert said(store)[:22] == right


NO_LOCKS = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
static int answer(const char *name, int fd, int command, void *argument) {
    int (*real)(int, int, ...) = dlsym(RTLD_NEXT, name);
    if (command == F_SETLK || command == F_SETLKW || command == F_GETLK) {
        char link[64], path[4096] = "";
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        if (readlink(link, path, sizeof path - 1) > 0 && strstr(path, getenv("NO_LOCKS"))) {
            if (getenv("AWAY")) sleep(600);
            errno = ENOLCK;
            return -1;
        }
    }
    return real(fd, command, argument);
}
#define LOCKING(name) int name(int fd, int command, ...) { \
    va_list list; va_start(list, command); void *argument = va_arg(list, void *); va_end(list); \
    return answer(#name, fd, command, argument); }
LOCKING(fcntl)
LOCKING(fcntl64)
"""
OPENING = """
import sys, time
from invitro.labels.store import LabelStore
for read_only in (True, False):
    began = time.monotonic()
    try:
        with LabelStore(sys.argv[1], read_only) as store:
            print(store.sets()[0].labelled, "labels")
    except Exception as error:
        print(error)
    print(time.monotonic() - began)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("away", "reason"), [({}, "no locks available"), ({"AWAY": "1"}, "no answer")])
def test_where_the_system_gives_no_locks_reading_works_and_writing_says_so(
    tmp_path: Path, away: dict[str, str], reason: str
) -> None:
    """The C library's calls fail, or wait as for a lock server that is away, for SQLite and Python alike."""
    if (compiler := shutil.which("cc")) is None:
        pytest.skip("no C compiler: the system's calls cannot be replaced")
    (tmp_path / "no_locks.c").write_text(NO_LOCKS)
    built = [compiler, "-shared", "-fPIC", "-o", str(tmp_path / "no_locks.so"), str(tmp_path / "no_locks.c"), "-ldl"]
    subprocess.run(built, check=True)
    disk = tmp_path / "disk"
    disk.mkdir()
    path = filled(disk / "labels.sqlite")
    env = os.environ | {"LD_PRELOAD": str(tmp_path / "no_locks.so"), "NO_LOCKS": str(disk)} | away
    output = subprocess.run(
        [sys.executable, "-c", OPENING, str(path)], env=env, capture_output=True, text=True, timeout=60, check=True
    ).stdout.splitlines()
    assert output[0] == "60 labels"
    assert output[2].lower().startswith(f"{path}: the file system of {disk} has no working locks ({reason})")
    assert "with store=" in output[2]
    assert float(output[1]) < 2
    assert float(output[3]) < 2


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS])
def test_a_file_system_without_locks_is_named(tmp_path: Path, monkeypatch, number: int) -> None:
    def none(*args: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "lockf", none)
    with pytest.raises(StoreError, match=rf"the file system of {tmp_path} has no working locks.*with store="):
        LabelStore(tmp_path / "labels.sqlite")


def test_windows_has_no_such_locks_and_opens_a_store(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "fcntl", None)
    path = filled(tmp_path / "labels.sqlite")
    with LabelStore(path, read_only=True) as store:
        assert store.db.execute("SELECT count(*) FROM answers").fetchone()[0] == 60


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


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "reason"), [("full", "its disk is full; make room"), ("quota", "a quota used up?")])
def test_a_disk_without_room_ends_a_job_in_one_line_and_the_same_command_goes_on(
    tmp_path: Path, run, kind: str, reason: str
) -> None:
    """A real file system of 400 KB, or a process whose files may not be longer than that."""
    disk, size = tmp_path / "disk", 400 * 1024
    disk.mkdir()
    mounted = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(disk)]
    if kind == "full" and (not shutil.which("mount") or subprocess.run(mounted, capture_output=True).returncode):
        pytest.skip("no file system can be mounted here")
    line = ["label.py", "llm=scripted", "readout=digits", "data=simulated", "data.texts=1500", f"store={disk}/s.sqlite"]
    try:
        stopped = subprocess.run(
            [sys.executable, str(ROOT / line[0]), *line[1:]], cwd=tmp_path, capture_output=True, text=True,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)) if kind == "quota" else None,
        )  # fmt: skip
        assert (stopped.returncode, stopped.stderr.strip().count("\n")) == (1, 0), stopped.stderr
        assert reason in stopped.stderr
        with LabelStore(disk / "s.sqlite", read_only=True) as store:
            before = list(store.answers())
        assert 0 < len(before) < 1500
        if kind == "full":
            subprocess.run(["mount", "-o", "remount,size=8m", str(disk)], check=True)
        done = run(*line)
        assert "1500 of 1500" in done.stdout, done.stderr
        with LabelStore(disk / "s.sqlite", read_only=True) as store:
            assert list(store.answers())[: len(before)] == before
    finally:
        if kind == "full":
            subprocess.run(["umount", str(disk)], check=True)


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
