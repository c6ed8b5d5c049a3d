"""A run that is stopped by a signal: its status, its record, and the line by which it goes on."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from support import ROOT, table_overrides

from invitro.commands.common import Stopped, stoppable


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_run_says_so_and_goes_on(
    corpus_csv: Path, tiny_roberta: Path, tmp_path: Path, number: signal.Signals
) -> None:
    command = [
        sys.executable, str(ROOT / "train.py"), *table_overrides(corpus_csv), "plm=roberta", "application=none",
        f"plm.name={tiny_roberta}", "fit.epochs=400", "fit.patience=null", "hydra.run.dir=here",
    ]  # fmt: skip
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, cwd=tmp_path, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        deadline = time.monotonic() + 120
        while not (tmp_path / "here" / "checkpoints" / "last.ckpt").is_file() and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(0.5)
        sent = time.monotonic()
        process.send_signal(number)
        problems = process.communicate(timeout=60)[1]
        assert time.monotonic() - sent < 10
    assert process.returncode == 128 + number
    assert "Traceback" not in problems
    assert "Stopped. To continue: python train.py" in problems
    metrics = json.loads((tmp_path / "here" / "metrics.json").read_text())
    assert metrics["status"] == "interrupted"
    assert Path(metrics["checkpoint"]) == tmp_path / "here" / "checkpoints" / "last.ckpt"
    trained = len((tmp_path / "here" / "history.csv").read_text().splitlines()) - 1
    words = shlex.split(metrics["resume"])[2:]
    more = [*words, f"fit.epochs={trained + 2}", "hydra.run.dir=here"]
    again = subprocess.run(
        [*command[:2], *more], cwd=tmp_path, env=env, capture_output=True, text=True, check=False, timeout=200
    )
    assert again.returncode == 0, again.stderr
    assert json.loads((tmp_path / "here" / "metrics.json").read_text())["status"] == "finished"
    assert len((tmp_path / "here" / "history.csv").read_text().splitlines()) - 1 == trained + 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_that_a_library_swallows_comes_again(number: signal.Signals) -> None:
    went_on = []

    @stoppable()
    def work() -> None:
        try:
            os.kill(os.getpid(), number)
            time.sleep(5)
        except BaseException:
            went_on.append("as a cleanup in C code does")
        time.sleep(5)

    with pytest.raises(Stopped) as stop:
        work()
    assert (stop.value.code, len(went_on)) == (128 + number, 1)


def stopped(command: list[str], folder: Path, until: str, number: signal.Signals, **options: Any) -> Any:
    """Start a command in `folder`, signal it when a file like `until` is there, and return it when it has ended."""
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    ) as process:
        deadline = time.monotonic() + 120
        while not list(folder.glob(until)) and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(0.5)
        children = psutil.Process(process.pid).children(recursive=True)
        agents = [one for one in children if one.name().endswith("Agent")]  # Ray's: they look for their parent at times
        sent = time.monotonic()
        process.send_signal(number)
        told, problems = process.communicate(timeout=60)
    left = psutil.wait_procs(set(children) - set(agents), 5)[1]
    assert [one for one in left if "resource_tracker" not in " ".join(one.cmdline())] == []
    assert time.monotonic() - sent < 10
    assert psutil.wait_procs(agents, 90)[1] == []
    assert "Traceback" not in problems
    return process.returncode, told, problems


def training(corpus_csv: Path, encoder: Path) -> list[str]:
    return [
        *table_overrides(corpus_csv), "plm=roberta", "application=none", f"plm.name={encoder}", "fit.epochs=4000",
        "fit.patience=null", "save_model=false",
    ]  # fmt: skip


LAUNCHERS: list[list[str]] = [[], ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]]


@pytest.mark.slow
@pytest.mark.parametrize("launcher", LAUNCHERS, ids=["one", "joblib"])
def test_a_stopped_multirun_counts_its_jobs(
    corpus_csv: Path, tiny_roberta: Path, tmp_path: Path, launcher: list[str]
) -> None:
    command = [sys.executable, str(ROOT / "train.py"), "-m", *training(corpus_csv, tiny_roberta), "seed=0,1,2"]
    where = ["hydra.sweep.dir=here", *launcher]
    status, told, problems = stopped([*command, *where], tmp_path, "here/*/checkpoints/last.ckpt", signal.SIGTERM)
    assert status == 143
    assert f"0 failed, {2 if launcher else 1} interrupted" in told
    assert problems.strip().splitlines()[-1] == "Stopped. Run the same command again to continue."
    assert json.loads((tmp_path / "here" / "0" / "job.json").read_text())["outcome"] == "interrupted"


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("launcher", LAUNCHERS, ids=["one", "joblib"])
def test_a_study_stops_with_its_launcher_though_interrupts_are_ignored(
    corpus_csv: Path, tiny_roberta: Path, tmp_path: Path, launcher: list[str], number: signal.Signals
) -> None:
    command = [sys.executable, str(ROOT / "sweep.py"), "study=grid", *training(corpus_csv, tiny_roberta), "seed=0,1"]
    command += launcher
    ignoring = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_IGN)}
    until = "study/jobs/*/*/checkpoints/last.ckpt"
    status, _, problems = stopped([*command, "directory=study"], tmp_path, until, number, **ignoring)
    assert status == (143 if number == signal.SIGTERM else -signal.SIGKILL)
    assert number == signal.SIGKILL or "Stopped. Run the same command again to continue." in problems


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.usefixtures("one_ray")
@pytest.mark.parametrize("cluster", [[], ["cluster=ray", "cluster.batch=8"]], ids=["here", "ray"])
def test_labelling_stops(tmp_path: Path, number: signal.Signals, cluster: list[str]) -> None:
    """With Ray also the processes of its cluster stop, and what they print does not hide the line."""
    if cluster:
        pytest.importorskip("ray")
    command = [
        sys.executable, str(ROOT / "label.py"), "llm=scripted", "data=simulated", "data.texts=3000", "readout=digits",
        "llm.engine.delay=0.05", "store=labels.sqlite", f"llm.engine.log={tmp_path}/asked.jsonl", *cluster,
    ]  # fmt: skip
    status, _, problems = stopped(command, tmp_path, "asked.jsonl", number)
    assert status == 128 + number
    told = "Stopped. Every answer so far is stored; run the same command again to continue."
    assert problems.strip().splitlines()[-1] == told
    assert not (tmp_path / "labels.sqlite-wal").exists()


@pytest.mark.slow
def test_a_requeued_job_goes_on(corpus_csv: Path, tiny_roberta: Path, tmp_path: Path) -> None:
    """The same command in the same directory, after a signal or a kill."""
    command = [sys.executable, str(ROOT / "train.py"), *training(corpus_csv, tiny_roberta), "hydra.run.dir=here"]
    history = tmp_path / "here" / "history.csv"
    for number in (signal.SIGTERM, signal.SIGKILL):
        history.unlink(missing_ok=True)
        status, told, _ = stopped(command, tmp_path, "here/history.csv", number)
        assert status in (143, -signal.SIGKILL)
        assert number == signal.SIGKILL or (trained := len(history.read_text().splitlines())) > 1
    assert len(history.read_text().splitlines()) > trained
    assert f"continuing from {tmp_path}/here/checkpoints/last.ckpt" in told
