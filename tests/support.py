"""A small corpus with LLM labels, and the overrides that train on it in a few steps."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

ROOT = Path(__file__).parents[1]

# The vocabulary of the tiny DeBERTa.
WORDS = (
    "the story of this family made me cry because their house burned and nobody came to help them i feel sad moved "
    "warm tender nothing at all bored it is just news people talk about every day and i do not care much sorry for her "
    "child who lost everything in flood hope they recover soon my heart aches"
)


def small_corpus(n: int = 60, authors: int = 20, seed: int = 0) -> pd.DataFrame:
    """Return ``id, essay, author, empathy, gpt``: texts whose words carry the score, noisily rated, on 1 to 7."""
    rng = np.random.default_rng(seed)
    truth = rng.uniform(1, 7, n)
    rows = []
    for number, level in enumerate(truth):
        warm = rng.random(rng.integers(8, 30)) < (level - 1) / 6
        words = [rng.choice(["sad", "moved", "tender"] if one else ["bored", "nothing", "news"]) for one in warm]
        rows.append(f"text {number} " + " ".join(words))
    crowd = np.clip(truth + rng.normal(0, 1.5, n), 1, 7).round(3)
    llm = np.clip(truth + rng.normal(0, 0.5, n), 1, 7).round(3)
    return pd.DataFrame(
        {
            "id": [f"t{number:03d}" for number in range(n)],
            "essay": rows,
            "author": [f"a{number % authors}" for number in range(n)],
            "empathy": crowd,
            "gpt": llm,
        }
    )


def table_overrides(csv: Path, *more: str) -> list[str]:
    """Return the overrides that train on `small_corpus` in a few steps."""
    columns = "{text_id: id, text: essay, group_id: author, crowd_label: empathy}"
    return [
        "data=table", f"data.path={csv}", f"data.columns={columns}", "llm.column=gpt", "logger=none", "trainer=cpu",
        "trainer.enable_progress_bar=false", "fit.epochs=2", "fit.start_epoch=0", "plm.lr=1e-3", "plm.max_length=64",
        *more,
    ]  # fmt: skip


def metrics_of_share(rank: int, port: int, pair: np.ndarray, queue: Any) -> None:
    """Be one of two processes that each measure every other row of `pair`; put PCC, CCC and RMSE on the queue."""
    import torch
    import torch.distributed as dist

    from invitro.metrics import RunningMetrics

    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    metrics = RunningMetrics()
    predictions, targets = torch.from_numpy(pair[:, rank::2].copy())
    metrics.update(predictions, targets)
    queue.put([float(value) for value in metrics.compute().values()])
    dist.destroy_process_group()
