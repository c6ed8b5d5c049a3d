"""A sweep on a frozen encoder: runs that share its features, against runs that embed their own texts.

The 140 runs are 14 alphas and ten folds, Hydra's part and the records included, in one process. Of the runs that embed
their own texts, one is measured per repeat and counted 140 times. ``PLM=mpnet`` in the environment measures another
encoder.
"""

import os
import subprocess
import sys
import tempfile
import time

from speed_parts.material import ROOT

ALPHAS = ",".join(f"{step / 2}" for step in range(13)) + ",inf"
RUNS = 140


def train(folder: str, *overrides: str) -> float:
    """Return the seconds of one start of ``train.py``."""
    data = ["data=newsemp18"] if os.environ.get("INVITRO_DATA_DIR") else ["experiment=demo", "data.texts=1860"]
    common = [f"plm={os.environ.get('PLM', 'minilm')}", "plm.train=frozen", "data/split=kfold"]
    common += ["application=correction", "application.pool=none"]
    common += ["logger=none", "trainer=cpu", "save_model=false", "force=true"]
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, str(ROOT / "train.py"), *data, *common, *overrides], cwd=folder, check=True,
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    return time.perf_counter() - started


def measure(repeats: int, quick: bool) -> dict[str, list[float]]:
    """Return seconds of all runs, one number per repeat: with shared features, and with features of their own."""
    found: dict[str, list[float]] = {"shared features": [], "each its own": []}
    alphas, folds, count = (ALPHAS, "range(0,10)", RUNS) if not quick else ("3.0,4.0", "0", 2)
    with tempfile.TemporaryDirectory() as folder:
        train(folder, "alpha=4.0")  # fills the cache of features
        for _ in range(repeats):
            # The fold first: runs on the same texts follow one another, as in a study.
            found["shared features"].append(train(folder, f"data.split.fold={folds}", f"alpha={alphas}", "-m"))
            found["each its own"].append(count * train(folder, "alpha=4.0", "cache=null"))
    return found
