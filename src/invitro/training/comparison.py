"""The jobs of a multirun side by side, read from what they left on disk."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from invitro.training.jobs import Job
from invitro.training.record import read_metrics


def comparison(jobs: Sequence[Job]) -> pd.DataFrame:
    """Return one row a job.

    Columns: the overrides in which jobs differ; ``PCC``, ``CCC``, ``RMSE`` on test; the same against the truth where
    it is known; ``texts`` trained on, ``replaced``, ``added``; ``outcome``.
    """
    names = list(dict.fromkeys(name for job in jobs for name in job.overrides))
    differing = [name for name in names if len({job.overrides.get(name) for job in jobs}) > 1]
    return pd.DataFrame([{name: job.overrides.get(name) for name in differing} | _numbers(job) for job in jobs])


def _numbers(job: Job) -> dict[str, Any]:
    if job.outcome in ("failed", "skipped"):
        return {"outcome": job.outcome}
    metrics = read_metrics(job.record)
    row: dict[str, Any] = {}
    for suffix, scores in (("", metrics["test"]), (" (truth)", metrics.get("truth", {}).get("test"))):
        row |= {f"{name.upper()}{suffix}": round(scores[name], 3) for name in ("pcc", "ccc", "rmse")} if scores else {}
    train = metrics["train"]
    return row | {
        "texts": train["size"],
        "replaced": train["replaced"],
        "added": train["augmented"],
        "outcome": job.outcome,
    }
