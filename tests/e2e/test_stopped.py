"""A run that is stopped by a signal: its status, its record, and the line by which it goes on."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support import ROOT, table_overrides


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
    assert "Stopped. To go on: python train.py" in problems
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
