"""Processes that label the same texts share the questions: each is asked once, whoever is killed."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from prompting import asked, noted
from support import ROOT

from invitro.labels import store as store_module
from invitro.labels.answers import Answer
from invitro.labels.store import Claims, LabelStore


def test_a_question_is_one_job_s_until_it_is_answered_or_given_up(tmp_path: Path) -> None:
    with LabelStore(tmp_path / "s") as store, LabelStore(tmp_path / "s") as other:
        with Claims(other) as second:
            with Claims(store) as first:
                assert first.take(["a", "b"], lambda stored: True) == ({"a", "b"}, set())
                assert first.take(["a"], lambda stored: True) == ({"a"}, set())
                assert second.take(["b", "c"], lambda stored: True) == ({"c"}, {"b"})
                store.put([Answer("a", 0, "unparseable", "no")])
                assert second.take(["a"], lambda stored: not stored) == (set(), set())
                assert second.take(["a"], lambda stored: True) == ({"a"}, set())
            assert second.take(["b"], lambda stored: True) == ({"b"}, set())
        assert store.db.execute("SELECT count(*) FROM claims").fetchone()[0] == 0


def test_a_claim_that_is_not_renewed_expires(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(store_module, "LEASE", 0.4)
    with LabelStore(tmp_path / "s") as store, Claims(store) as alive, Claims(store) as other:
        stopped = Claims(store)  # never entered: nothing renews what it claims
        assert alive.take(["a"], lambda stored: True)[0] == {"a"}
        assert stopped.take(["b"], lambda stored: True)[0] == {"b"}
        assert other.take(["a", "b"], lambda stored: True) == (set(), {"a", "b"})
        time.sleep(0.6)
        assert other.take(["a", "b"], lambda stored: True) == ({"b"}, {"a"})


def test_the_claims_of_a_process_that_is_gone_are_free_at_once(tmp_path: Path) -> None:
    with LabelStore(tmp_path / "s") as store:
        code = (
            "import os, sys\n"
            "from invitro.labels.store import Claims, LabelStore\n"
            "Claims(LabelStore(sys.argv[1])).take(['a'], lambda stored: True)\n"
            "os._exit(9)\n"
        )
        subprocess.run([sys.executable, "-c", code, str(tmp_path / "s")], cwd=ROOT, check=False)
        assert store.db.execute("SELECT key FROM claims").fetchone()[0] == "a"
        with Claims(store) as here:
            assert here.take(["a"], lambda stored: True) == ({"a"}, set())


@pytest.mark.slow
def test_four_processes_ask_each_question_once_though_one_is_killed(tmp_path: Path) -> None:
    log = tmp_path / "asked.jsonl"
    command = [
        sys.executable, str(ROOT / "label.py"), "llm=scripted", "data=simulated", "data.texts=400", "readout=digits",
        "llm.engine.concurrency=4", "llm.engine.delay=0.05", "llm.engine.faults.unparseable=0.1",
        f"llm.engine.log={log}",
    ]  # fmt: skip
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    four = [subprocess.Popen(command, cwd=tmp_path, env=env, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    deadline = time.monotonic() + 60
    while len({line["pid"] for line in noted(log)}) < 4 and time.monotonic() < deadline:
        time.sleep(0.05)
    four[0].send_signal(signal.SIGKILL)
    four[0].wait()
    outputs = [process.communicate(timeout=120)[0] for process in four[1:]]
    assert [process.returncode for process in four[1:]] == [0, 0, 0]
    with LabelStore(tmp_path / "runs" / "labels.sqlite", read_only=True) as store:
        (stored,) = store.sets()
        assert (stored.texts, "pending" in stored.unusable) == (400, False)
        retried = sum(answer.attempt for answer in store.answers())
    counts = Counter(asked(noted(log)))
    again = [question for question, count in counts.items() if count > 1]
    assert len(counts) == 400 + retried
    assert len(again) <= 4  # what the killed process had in flight
    assert all(f"{stored.labelled} of 400" in text for text in outputs)
    assert len({line["pid"] for line in noted(log)}) == 4
