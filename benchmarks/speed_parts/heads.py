"""A sweep in head mode: 65 runs that share the frozen encoder's features, against 65 that embed their own texts.

The 65 runs are 13 alphas and five seeds, records included, in one process and in two of one thread each. Of the runs
that embed their own texts, one is measured per repeat and counted 65 times.
"""

import os
import subprocess
import sys
import tempfile
import time

from speed_parts.material import ROOT

ALPHAS = ",".join(f"{step / 2}" for step in range(13))
SEEDS = "0,42,100,999,1234"
RUNS = 65


def train(folder: str, *overrides: str) -> float:
    """Return the seconds of one start of ``train.py``."""
    data = ["data=newsemp18"] if os.environ.get("INVITRO_DATA_DIR") else ["experiment=demo", "data.texts=1860"]
    common = ["plm=minilm", "plm.train=head", "plm.lr=3e-3", "application=correction", "application.pool=none"]
    common += ["logger=none", "trainer=cpu", "trainer.enable_progress_bar=false", "save_model=false", "force=true"]
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, str(ROOT / "train.py"), *data, *common, *overrides], cwd=folder, check=True,
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    return time.perf_counter() - started


def measure(repeats: int, quick: bool) -> dict[str, list[float]]:
    """Return seconds of all 65 runs, one number per repeat: with shared features, and with features of their own."""
    names = ("shared features, one process", "shared features, two processes", "each its own")
    found: dict[str, list[float]] = {name: [] for name in names}
    alphas, seeds, count = (ALPHAS, SEEDS, RUNS) if not quick else ("3.0,4.0", "0", 2)
    sweep = [f"alpha={alphas}", f"seed={seeds}", "-m"]
    two = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "+hydra.job.env_set.OMP_NUM_THREADS=1"]
    with tempfile.TemporaryDirectory() as folder:
        train(folder, "alpha=4.0")  # fills the cache of features
        for _ in range(repeats):
            alone = train(folder, "alpha=4.0", "cache=null")
            for name, seconds in zip(names, (train(folder, *sweep), train(folder, *two, *sweep), alone), strict=True):
                found[name].append(count * seconds if name == "each its own" else seconds)
    return found
