"""Launching, with jobs that take a moment: interrupted at random, killed workers, failures, jobs that cannot be run."""

import hashlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from inside import entered
from support import ROOT

from invitro.errors import quoted
from invitro.files import write_json
from invitro.studies import read_runs
from invitro.studies.launch import wait
from invitro.training.multirun import STUDY, write_job

SCRIPT = ROOT / "tests" / "studies" / "quick_job.py"
JOBLIB = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")


def grid(folder: Path, stamp: str, values: int = 3, seeds: int = 2, fixed: tuple[str, ...] = (), **more: Any) -> Path:
    """Write a plan of ``value`` by ``seed`` and return its file."""
    every = product(range(values), range(seeds))
    jobs = [[*fixed, f"value={value}", f"seed={seed}", f"launch={stamp}"] for value, seed in every]
    sweep = [*fixed, f"value=range(0,{values})", f"seed=range(0,{seeds})", f"launch={stamp}"]
    write_json(folder / "study" / STUDY, {})
    facts = {"directory": str(folder / "study"), "stamp": stamp, "asked": "python sweep.py study=quick"}
    write_json(folder / f"{stamp}.json", facts | {"overrides": sweep, "jobs": jobs, "hydra": []} | more)
    return folder / f"{stamp}.json"


def started(plan: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), str(plan)],
        cwd=plan.parent, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip


def ended(plan: Path) -> tuple[int, str]:
    """Launch in this process, where nothing is killed."""
    done = entered("tests/studies/quick_job.py", str(plan), folder=plan.parent, env=dict(os.environ))
    return done.returncode, done.stdout + done.stderr


def ended_apart(plan: Path) -> tuple[int, str]:
    process = started(plan)
    output, _ = process.communicate(timeout=120)
    return process.returncode, output


def test_a_line_says_how_many_jobs_have_ended_where_nobody_watches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("invitro.studies.launch.MINUTE", 0.2)
    code = (
        "import sys, time; from pathlib import Path; from invitro.training.multirun import write_job\n"
        "for number in '1', '2':\n"
        "    write_job(Path(number), Path(number), 'finished', ['seed=' + number], 'l'); time.sleep(1)"
    )
    write_job(tmp_path / "0", tmp_path / "0", "skipped", ["seed=0"], "l")
    process = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path)
    assert wait(process, tmp_path, 4) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"1 of 4 jobs have ended, \d+ s left", first)
    assert second.startswith("2 of 4 jobs have ended, ")


def kill_group(process: "subprocess.Popen[str]") -> None:
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def wait_for(folder: Path, pattern: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not any(folder.glob(pattern)) and time.monotonic() < deadline:
        time.sleep(0.02)


def finished_files(study: Path) -> dict[Path, tuple[int, int, str]]:
    """Return inode, time of change and hash of every file of a finished record."""
    files = {}
    for metrics in study.rglob("metrics.json"):
        if json.loads(metrics.read_text())["status"] == "finished":
            for path in metrics.parent.iterdir():
                if path.is_file() and path.suffix in (".json", ".csv") and path.name != "job.json":
                    stat = path.stat()
                    files[path] = (stat.st_ino, stat.st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest())
    return files


def fingerprints(study: Path) -> list[str]:
    records = [json.loads(path.read_text()) for path in study.rglob("metrics.json")]
    return sorted(record["fingerprint"] for record in records if record["status"] == "finished")


@pytest.mark.slow
@pytest.mark.parametrize("launcher", [(), JOBLIB], ids=["in-process", "two joblib workers"])
def test_killed_at_random_and_started_again(tmp_path: Path, launcher: tuple[str, ...]) -> None:
    rng, before = random.Random(len(launcher)), {}
    seconds = ("seconds=0.25",)
    for number in range(4):
        process = started(grid(tmp_path, f"{number}", 4, 3, seconds, hydra=list(launcher)))
        if number:  # the first is killed while it starts
            wait_for(tmp_path / "study", f"jobs/{number}*/*/.hydra")
        time.sleep(rng.uniform(0.0, 1.5))
        kill_group(process)
        now = finished_files(tmp_path / "study")
        assert {path: now.get(path) for path in before} == before
        before = now
    status, output = ended_apart(grid(tmp_path, "9", 4, 3, seconds, hydra=list(launcher)))
    assert status == 0, output
    now = finished_files(tmp_path / "study")
    assert {path: now.get(path) for path in before} == before
    assert before, "the kills came before any job had finished"
    assert fingerprints(tmp_path / "study") == sorted(f"{value}-{seed}" for value in range(4) for seed in range(3))
    table = read_runs(tmp_path / "study", ("value",)).table
    assert len(table) == 12
    assert set(table["outcome"]) <= {"finished", "finished before"}


@pytest.mark.slow
def test_a_killed_joblib_worker_costs_its_own_job_only(tmp_path: Path) -> None:
    plan = grid(tmp_path, "1", 4, 1, ("dies=1", "seconds=0.2"), hydra=list(JOBLIB))
    status, output = ended_apart(plan)
    assert status == 0, output
    runs = read_runs(tmp_path / "study", ("value",))
    outcomes = dict(zip(runs.table["value"], runs.table["outcome"], strict=True))
    assert outcomes == {0: "finished", 1: "failed", 2: "finished", 3: "finished"}
    error = runs.table.set_index("value").loc[1, "error"]
    assert "killed twice, the second time while no other job ran" in str(error)
    assert len(fingerprints(tmp_path / "study")) == 3
    assert runs.commands[0] == "python sweep.py study=quick"


@pytest.mark.slow
def test_a_job_that_kills_the_launcher_itself_leaves_the_others_to_be_run(tmp_path: Path) -> None:
    status, output = ended_apart(grid(tmp_path, "1", 3, 1, ("dies=0",)))
    assert status == 0, output
    assert output.count("starting them again") == 1
    table = read_runs(tmp_path / "study", ("value",)).table
    assert table.set_index("value")["outcome"].to_dict() == {0: "failed", 1: "finished", 2: "finished"}


def test_a_launcher_that_starts_nothing_is_not_started_for_ever(tmp_path: Path) -> None:
    status, output = ended(grid(tmp_path, "1", 2, 1, hydra=["hydra/launcher=nonsense"]))
    assert status == 1
    assert output.count("quick_job.py -m") == 1
    assert "lost: no outcome, the launch ended before these jobs did:\n  value=0\n  value=1" in output


@pytest.mark.slow
def test_a_failure_and_what_comes_after_it(tmp_path: Path) -> None:
    assert ended(grid(tmp_path, "1", 3, 1, ("fails=1",)))[0] == 0
    table = read_runs(tmp_path / "study", ("value",)).table
    assert table["outcome"].tolist() == ["finished", "failed", "finished"]
    assert table["error"].tolist()[1] == "RuntimeError: value 1 is no good"
    (tmp_path / "fast").mkdir()
    plan = grid(tmp_path / "fast", "1", 3, 1, ("fails=1", "fail_fast=true"), fail_fast=True)
    assert ended(plan)[0] == 0
    table = read_runs(tmp_path / "fast" / "study", ("value",)).table
    assert table["outcome"].tolist() == ["finished", "failed", "skipped"]


def test_jobs_that_cannot_be_run_are_not_started(tmp_path: Path) -> None:
    status, output = ended(grid(tmp_path, "1", 3, 1, not_run={"1": "no data\nat all"}))
    assert status == 0, output
    table = read_runs(tmp_path / "study", ("value",)).table
    assert table["outcome"].tolist() == ["finished", "skipped", "finished"]
    assert table["error"].tolist()[1] == "no data"
    status, output = ended(grid(tmp_path, "2", 3, 1, not_run={str(number): "none" for number in range(3)}))
    assert "quick_job.py -m" not in output  # nothing is left to start


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_stopped_by_the_user_or_the_cluster(tmp_path: Path, how: signal.Signals) -> None:
    process = started(grid(tmp_path, "1", 9, 1, ("seconds=0.5",), hydra=list(JOBLIB)))
    wait_for(tmp_path / "study", "jobs/1/*/metrics.json")
    process.send_signal(how)
    process.communicate(timeout=30)
    assert process.returncode != 0
    at_its_end = len(fingerprints(tmp_path / "study"))
    assert 0 < at_its_end < 9
    time.sleep(1.5)
    assert len(fingerprints(tmp_path / "study")) == at_its_end  # no worker goes on by itself


def test_values_are_quoted_for_hydra() -> None:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    for text in ("runs/a b", "it's, {here}", "a=b", "back\\slash", "one\\'s", "end\\", "[1]"):
        override = OverridesParser.create().parse_override(f"key={quoted(text)}")
        assert override.value() == text
