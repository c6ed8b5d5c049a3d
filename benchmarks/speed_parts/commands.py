"""The start of a command: seconds that ``--help`` and ``--cfg job`` take, and seconds to the first training step."""

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence

from speed_parts.material import ROOT

BARE = "import hydra\nhydra.main(version_base=None)(lambda cfg: None)()"
IMPORTS = """
import lightning, torch, torchmetrics, transformers, pandas, sklearn.model_selection
from invitro.models.encoder import load_regressor, load_tokenizer
from invitro.models import PLM
plm = PLM("sentence-transformers/all-MiniLM-L6-v2", attention_dropout=0.0)
load_regressor(plm, 4.0), load_tokenizer(plm)
"""
FIRST_STEP = """
import os, sys
sys.argv, sys.path[0] = ["train.py", *sys.argv[2:]], sys.argv[1]
import invitro.commands.training as training
def ends_at_first_step():
    from invitro.training.module import Regressor
    Regressor.training_step = lambda self, batch, batch_idx: os._exit(0)
keep = training.run_settings
def run_settings(*args):
    ends_at_first_step()
    return keep(*args)
training.run_settings = run_settings
import runpy
runpy.run_path(os.path.join(sys.path[0], "train.py"), run_name="__main__")
"""


def seconds(command: Sequence[str], folder: str) -> tuple[float, float]:
    """Return a command's wall time, and the peak memory (MiB) of all so far; a failure ends the measurement."""
    started = time.perf_counter()
    subprocess.run(command, cwd=folder, check=True, capture_output=True, env=os.environ | {"WANDB_MODE": "disabled"})
    return time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024


def measure(repeats: int) -> dict[str, list[float]]:
    """Return seconds of each command, one number per repeat."""
    python = sys.executable
    commands: dict[str, list[str]] = {"bare Hydra --help": [python, "-c", BARE, "--help"]}
    for script in ("train", "predict", "label", "sweep"):
        commands[f"{script}.py --help"] = [python, str(ROOT / f"{script}.py"), "--help"]
    for script in ("train", "predict", "label"):
        commands[f"{script}.py --cfg job"] = [python, str(ROOT / f"{script}.py"), "--cfg", "job"]
        complete = f"{script}.py: tab completion"
        commands[complete] = [python, str(ROOT / f"{script}.py"), "-sc", "query=bash"]
    run = ["experiment=demo", "plm.train=full", "application=none", "data.texts=700"]
    run.append("trainer.enable_progress_bar=false")
    commands["imports and the model's load"] = [python, "-c", IMPORTS]
    commands["train.py to its first step"] = [python, "-c", FIRST_STEP, str(ROOT), *run]
    found: dict[str, list[float]] = {name: [] for name in commands}
    with tempfile.TemporaryDirectory() as folder:
        os.environ["COMP_LINE"] = "python train.py plm=d"
        for command in commands.values():  # the disk's cache
            seconds(command, folder)
        for _ in range(repeats):
            for name, command in commands.items():
                found[name].append(seconds(command, folder)[0])
    return found
