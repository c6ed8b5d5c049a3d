"""``label.py cluster=ray`` as a user runs it: killed as a whole, run again, and a worker killed on the way."""

import ipaddress
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from prompting import asked, noted, store_content
from support import ROOT

TEXTS, WORKERS, BATCH, AT_ONCE = 300, 2, 10, 5
LABEL = [
    "label.py", "llm=scripted", "data=simulated", f"data.texts={TEXTS}", "readout=digits",
    f"llm.engine.concurrency={AT_ONCE}", "llm.engine.faults.unparseable=0.1", "progress=true",
]  # fmt: skip


def answered(store: Path) -> set[tuple[str, float]]:
    """Return the questions with a stored answer, each with its temperature."""
    with sqlite3.connect(store) as db:
        return {(key, 0.7 if attempt else 0.0) for key, attempt in db.execute("SELECT key, attempt FROM answers")}


def until(happened: Callable[[], object], process: subprocess.Popen, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert process.poll() is None, f"ended early:\n{process.communicate()}"
        assert time.monotonic() < deadline
        time.sleep(0.005)


def listening(processes: list[psutil.Process]) -> set[str]:
    """Return the addresses at which any of `processes` listens."""
    found = set()
    for process in processes:
        try:
            found |= {one.laddr.ip for one in process.net_connections("tcp") if one.status == psutil.CONN_LISTEN}
        except psutil.NoSuchProcess:
            continue
    return found


def is_loopback(address: str) -> bool:
    ip = ipaddress.ip_address(address)
    return (getattr(ip, "ipv4_mapped", None) or ip).is_loopback


@pytest.mark.slow
@pytest.mark.usefixtures("one_ray")
def test_killed_and_run_again_on_a_cluster(run, run_apart, tmp_path: Path) -> None:
    whole = run(*LABEL, f"store={tmp_path}/whole.sqlite", "llm.engine.log=whole.jsonl")
    assert whole.returncode == 0, whole.stderr
    questions = asked(noted(tmp_path / "whole.jsonl"))

    log, store = tmp_path / "ray.jsonl", tmp_path / "ray.sqlite"
    command = [
        sys.executable, str(ROOT / "label.py"), *LABEL[1:], "cluster=ray", f"cluster.workers={WORKERS}",
        f"cluster.batch={BATCH}", "cluster.store_mb=100", "llm.engine.delay=0.25", f"llm.engine.log={log}",
        f"store={store}",
    ]  # fmt: skip
    env = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")} | {"OMP_NUM_THREADS": "1"}

    def started() -> subprocess.Popen:
        return subprocess.Popen(
            command, cwd=tmp_path, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    with started() as first:
        until(lambda: len(noted(log)) > TEXTS // 5, first)
        family = psutil.Process(first.pid).children(recursive=True)
        names = {one: one.name() for one in family}
        assert sum("MapWorker" in name for name in names.values()) == WORKERS, names
        addresses = listening(family)
        assert addresses
        assert all(is_loopback(one) for one in addresses), addresses
        first.send_signal(signal.SIGKILL)
    agents = [one for one, name in names.items() if name.endswith("Agent")]  # they look for their parent now and then
    _, left = psutil.wait_procs(set(family) - set(agents), timeout=30)
    assert not left, f"outlived label.py: {left}"
    stored, before = answered(store), len(noted(log))
    assert TEXTS // 10 < len(stored) < TEXTS
    with started() as second:
        until(lambda: len(noted(log)) > before + TEXTS // 5, second)
        assert len(noted(log)) - before < TEXTS - len(stored), "the worker died when work was left"
        dead = noted(log)[-1]["pid"]
        os.kill(dead, signal.SIGKILL)
        out, err = second.communicate(timeout=240)
    assert second.returncode == 0, err
    assert f"of {TEXTS}" in out
    assert store_content(store) == store_content(tmp_path / "whole.sqlite")
    assert set(asked(noted(log))) == set(questions)
    again = asked(noted(log)[before:])
    assert not set(again) & stored, "nothing that was stored is asked again"
    assert set(again) | stored == set(questions)
    assert 0 < again.total() - len(again) <= BATCH, "only what the dead worker had in hand is asked twice"
    assert "requests were asked again" in out + err
    for noise in ("INFO", "E ray", "Traceback", "RayDeprecationWarning", "authentication"):
        assert noise not in out + err
    last = run_apart(*LABEL, "cluster=ray", f"store={store}", "llm.engine.log=nothing.jsonl")
    assert "from 0 requests" in last.stdout, last.stderr
    assert not (tmp_path / "nothing.jsonl").exists()
    assert not psutil.wait_procs(agents, timeout=90)[1]
