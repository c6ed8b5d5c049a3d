"""A run's peak memory above that of its imports, compared with the computed minimum.

The minimum: weights, their gradients and AdamW's two moments (16 bytes per weight), and what autograd keeps of the
largest batch, counted by hooks on the tensors that it saves (each once, without weights).
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from speed_parts.material import essays, plm
from torch import Tensor

from invitro.models.encoder import load_regressor, load_tokenizer, pad, tokenise

RUN = """
import sys
sys.path[:0] = [sys.argv[1]]
import torch, lightning, torchmetrics, transformers, pandas, pandera, sklearn, scipy, pyarrow, resource, os
import invitro.training.run, invitro.data, invitro.training.prepare
from pathlib import Path
def resident(field):
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) / 1024
bare = resident("VmRSS")
from speed_parts.training import ours
ours(20)
print(bare, resident("VmHWM"))
"""


def needed(batch_size: int = 16) -> float:
    """Return the MiB that a run needs for the batch of the longest texts."""
    model, tokenizer = load_regressor(plm(), 4.0).train(), load_tokenizer(plm())
    ids = sorted(tokenise(tokenizer, essays(1860)).ids, key=len)[-batch_size:]
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = model(**pad(tokenizer, ids)).logits.square().mean()
    assert loss.requires_grad
    return (16 * sum(parameter.numel() for parameter in model.parameters()) + sum(kept.values())) / 2**20


def measure(repeats: int) -> dict[str, list[float]]:
    """Return the MiB above the imports, and the MiB needed, one number per repeat."""
    found: dict[str, list[float]] = {"above the imports": [], "computed": []}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(repeats):
            done = subprocess.run(
                [sys.executable, "-c", RUN, str(Path(__file__).parents[1])], cwd=folder, check=True, text=True,
                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=dict(os.environ),
            )  # fmt: skip
            bare, most = map(float, done.stdout.split()[-2:])
            found["above the imports"].append(most - bare)
            found["computed"].append(needed())
    return found
