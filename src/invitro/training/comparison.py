"""The jobs of a multirun side by side, read from what they left on disk."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from invitro.training.record import METRICS, SAME_AS, read_metrics


def comparison(sweep: Path) -> pd.DataFrame:
    """Return one row a job of the multirun in `sweep`.

    Columns: the overrides in which jobs differ; ``PCC``, ``CCC``, ``RMSE`` on test; the same against the truth where
    it is known; ``texts`` trained on, ``replaced``, ``added``; ``status``.
    """
    jobs = sorted((path for path in sweep.iterdir() if path.is_dir()), key=_number)
    rows = [(_overrides(job), outcome) for job in jobs if (outcome := _outcome(job)) is not None]
    names = list(dict.fromkeys(name for overrides, _ in rows for name in overrides))
    differing = [name for name in names if len({overrides.get(name) for overrides, _ in rows}) > 1]
    return pd.DataFrame([{name: overrides.get(name) for name in differing} | outcome for overrides, outcome in rows])


def _number(job: Path) -> tuple[int, str]:
    """Sort jobs as they were numbered; ``3-1f2e3d4c`` follows 3."""
    head = job.name.partition("-")[0]
    return (int(head) if head.isdigit() else 10**9, job.name)


def _overrides(job: Path) -> dict[str, str]:
    path = job / ".hydra" / "overrides.yaml"
    lines: list[str] = yaml.safe_load(path.read_text("utf-8")) if path.is_file() else []
    return {name.lstrip("+"): value for name, _, value in (line.partition("=") for line in lines)}


def _outcome(job: Path) -> dict[str, Any] | None:
    """Return the row of one job, following a pointer to an earlier run; None for a directory that is no job."""
    status = "finished"
    if (job / SAME_AS).is_file():
        pointer = json.loads((job / SAME_AS).read_text("utf-8"))
        job, status = Path(pointer["directory"]), "finished before"
    if not (job / METRICS).is_file():
        return None
    metrics = read_metrics(job)
    if metrics["status"] != "finished":
        return {"status": metrics["status"]}
    row: dict[str, Any] = {}
    for suffix, scores in (("", metrics["test"]), (" (truth)", metrics.get("truth", {}).get("test"))):
        row |= {f"{name.upper()}{suffix}": round(scores[name], 3) for name in ("pcc", "ccc", "rmse")} if scores else {}
    train = metrics["train"]
    return row | {
        "texts": train["size"],
        "replaced": train["replaced"],
        "added": train["augmented"],
        "status": status,
    }
