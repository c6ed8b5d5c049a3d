"""Studies killed at random moments while they train, and started again: nothing is trained twice or overwritten."""

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support import ROOT, table_overrides

from invitro.studies import read_runs

FILES = ("metrics.json", "predictions.csv", "labels.csv", "history.csv", "environment.json", "config.yaml")
JOBLIB = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]


def content(study: Path) -> dict[Path, tuple[int, int, str]]:
    """Return inode, time of change and hash of every file of the records that have finished."""
    found = {}
    for metrics in study.rglob("metrics.json"):
        if json.loads(metrics.read_text())["status"] == "finished":
            for name in (
                "metrics.json",
                "predictions.csv",
                "labels.csv",
                "history.csv",
                "environment.json",
                "config.yaml",
            ):
                path = metrics.with_name(name)
                stat = path.stat()
                found[path] = (stat.st_ino, stat.st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest())
    return found


@pytest.mark.slow
@pytest.mark.parametrize("launcher", [[], JOBLIB], ids=["in-process", "two joblib workers"])
def test_killed_while_training(corpus_csv: Path, tiny_roberta: Path, tmp_path: Path, launcher: list[str]) -> None:
    command = [
        sys.executable, str(ROOT / "sweep.py"), "study=grid", *table_overrides(corpus_csv), "plm=roberta",
        f"plm.name={tiny_roberta}", "fit.epochs=30", "fit.patience=null", "save_model=false", "resamples=20",
        "directory=study", "application=correction", "alpha=1.0,6.0,inf", "seed=0,1", *launcher,
    ]  # fmt: skip
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    rng, before, study = random.Random(7 + len(launcher)), dict[Path, tuple[int, int, str]](), tmp_path / "study"
    for number in range(2):
        with subprocess.Popen(
            command, cwd=tmp_path, env=environment, start_new_session=True, stdout=subprocess.DEVNULL
        ) as process:
            deadline = time.monotonic() + 120
            # From the first epoch of this launch on: before that nothing can be lost.
            while len(list(study.glob("jobs/*/*/history.csv"))) <= number and time.monotonic() < deadline:
                time.sleep(0.05)
            time.sleep(rng.uniform(0.0, 3.0))
            os.killpg(process.pid, signal.SIGKILL)
        now = content(study)
        assert {path: now.get(path) for path in before} == before
        before = now
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr
    now = content(study)
    assert {path: now.get(path) for path in before} == before
    table = read_runs(study, ("alpha",)).table
    assert len(table) == 6
    assert set(table["outcome"]) <= {"finished", "finished before"}
    # alpha=6 and alpha=inf have the same labels: two trainings for each seed, whatever was killed, and no third.
    runs = [json.loads(path.read_text())["fingerprint"] for path in study.rglob("metrics.json")]
    assert len(runs) == len(set(runs)) == 4
    assert table["record"].nunique() == 4
    assert done.stdout.strip().splitlines()[-1] == "study/report/report.html"
    assert (study / "report" / "report.html").is_file()
