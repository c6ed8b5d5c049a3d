"""Jobs on disk: who is held back, who was killed; equal runs keep each other out, and processes share the GPUs."""

import os
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from invitro.files import write_json
from invitro.training.multirun import (
    LOCKS,
    STUDY,
    identity,
    is_held,
    jobs,
    kin,
    started,
    visible_gpus,
    write_hold,
    write_job,
)

HOLDER = """
import sys, time
from pathlib import Path
from invitro.training.multirun import alone
print("ready", flush=True)
with alone(Path(sys.argv[1]), "f"):
    print("held", flush=True)
    time.sleep(float(sys.argv[2]))
"""
GPU = """
import os, sys, time
from invitro.training.multirun import take_gpu, visible_gpus
first = take_gpu(visible_gpus())
assert take_gpu(["7", "8"]) == first  # a worker's next job
print(first, os.environ["CUDA_VISIBLE_DEVICES"], flush=True)
sys.stdin.read()
"""


def begun(directory: Path, overrides: str) -> None:
    (directory / ".hydra").mkdir(parents=True)
    (directory / ".hydra" / "overrides.yaml").write_text(overrides)


def test_jobs_are_held_back_by_their_overrides(tmp_path: Path) -> None:
    assert not is_held(tmp_path, ["seed=0"])
    write_hold(tmp_path, [["+a=1", "seed=0"]])
    assert is_held(tmp_path, ["seed=0", "a=1"])
    assert not is_held(tmp_path, ["seed=0", "a=2"])


def test_a_job_that_began_and_has_no_outcome_was_killed(tmp_path: Path) -> None:
    begun(tmp_path / "0", "[seed=0]")
    begun(tmp_path / "1", "[seed=1, 'x={a: b}']")
    begun(tmp_path / "2", "[seed=2]")
    begun(tmp_path / "3", "[seed=3, 'x=")  # killed while Hydra wrote it
    write_job(tmp_path / "0", tmp_path / "0", "failed", ["seed=0"], "l")
    write_hold(tmp_path, [["seed=2"]])
    assert set(started(tmp_path)) == {identity(["seed=1", "x={a: b}"]), frozenset()}


def test_a_skipped_job_says_why(tmp_path: Path) -> None:
    write_job(tmp_path / "0", tmp_path / "0", "skipped", ["seed=0"], "l", "no data", {"plm": "roberta"})
    (job,) = jobs(tmp_path, "l")
    assert (job.outcome, job.error, job.choices) == ("skipped", "no data", {"plm": "roberta"})
    assert jobs(tmp_path, "m") == []


def test_launches_of_a_study_are_kin(tmp_path: Path) -> None:
    launch = tmp_path / "jobs" / "one"
    assert kin(launch) == launch
    write_json(tmp_path / STUDY, {})
    assert kin(launch) == tmp_path / "jobs"


def test_an_identical_run_waits_until_the_other_ends_or_is_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    first = subprocess.Popen([*command, "600"], stdout=subprocess.PIPE, text=True)
    assert first.stdout is not None
    assert [first.stdout.readline() for _ in range(2)] == ["ready\n", "held\n"]
    second = subprocess.Popen([*command, "0"], stdout=subprocess.PIPE, text=True)
    assert second.stdout is not None
    assert second.stdout.readline() == "ready\n"
    assert not select.select([second.stdout], [], [], 0.5)[0]
    assert second.poll() is None
    first.send_signal(signal.SIGKILL)
    first.communicate()
    assert second.communicate(timeout=30)[0] == "held\n"
    assert second.returncode == 0
    assert {path.suffix for path in (tmp_path / LOCKS).iterdir()} <= {".lock"}


@pytest.mark.slow
def test_processes_take_a_gpu_each_and_share_when_there_are_too_few(tmp_path: Path) -> None:
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "3,GPU-abc", "TMPDIR": str(tmp_path)}
    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": environment}
    processes = [subprocess.Popen([sys.executable, "-c", GPU], **pipes) for _ in range(3)]
    taken = [str(process.stdout.readline()).split() for process in processes if process.stdout]
    for process in processes:
        process.communicate("")
    assert all(one == other for one, other in taken)  # CUDA sees only the GPU that was taken
    assert {gpu for gpu, _ in taken} == {"3", "GPU-abc"}


@pytest.mark.parametrize(("named", "expected"), [("0,2", ["0", "2"]), ("", []), ("-1", []), ("GPU-a", ["GPU-a"])])
def test_visible_gpus_are_those_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, named: str, expected: list[str]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    assert visible_gpus() == expected
