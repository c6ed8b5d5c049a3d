"""The jobs of a multirun: how each ended, and which of them must not start.

All of this is in files, so the outcomes are known however the launcher ended.
"""

import json
import logging
import os
import re
import socket
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import yaml
from filelock import FileLock, Timeout

from invitro.files import relative, write_json
from invitro.training.record import read_metrics

log = logging.getLogger(__name__)


JOB, HOLD, STUDY, LAUNCHES = "job.json", "hold.json", "study.json", "jobs"
OUTCOMES = ("finished", "finished before", "failed", "skipped", "interrupted")

Identity = frozenset[tuple[str, str]]
"""A job's overrides, which identify it within its multirun."""


class JobOutcome(NamedTuple):
    """The outcome of one job of a multirun.

    Args:
        record: the record's directory; that of an earlier or identical run if one had already finished.
        outcome: one of `OUTCOMES`.
        overrides: those of the job, key to value as text.
        directory: the job's directory.
        launch: the launch of the command that the job belongs to.
        error: why it was skipped, or how to continue an interrupted one.
        choices: the configuration's groups and the choice in each.
    """

    record: Path
    outcome: str
    overrides: dict[str, str]
    directory: Path
    launch: str | None = None
    error: str | None = None
    choices: Mapping[str, str] = {}


def write_job(
    directory: Path,
    record: Path,
    outcome: str,
    overrides: Iterable[str],
    launch: str,
    error: str | None = None,
    choices: Mapping[str, str] | None = None,
) -> None:
    """Write ``job.json`` of one job of the multirun `launch`; its record may be that of an earlier run elsewhere."""
    values = {
        "record": relative(record, directory),
        "outcome": outcome,
        "overrides": as_mapping(overrides),
        "launch": launch,
        "error": error,
        "choices": dict(choices or {}),
    }
    write_json(directory / JOB, values)


def as_mapping(overrides: Iterable[str]) -> dict[str, str]:
    """Return ``key=value`` overrides as a mapping; a key is the same with and without ``+``."""
    return dict(override.lstrip("+").split("=", 1) for override in overrides if "=" in override)


def identity(overrides: Iterable[str]) -> Identity:
    """Return the identity of the job with these ``key=value`` overrides."""
    return frozenset(as_mapping(overrides).items())


def read_job(directory: Path) -> JobOutcome:
    """Return the job whose directory is `directory`."""
    job = json.loads((directory / JOB).read_text("utf-8"))
    places = {"record": Path(os.path.normpath(directory / job["record"])), "directory": directory}
    return JobOutcome(**job | places)


def jobs(sweep: Path, launch: str | None = None) -> list[JobOutcome]:
    """Return the jobs below `sweep` in their order, all or those of one `launch`."""
    paths = sorted(sweep.glob(f"*/{JOB}"), key=lambda path: (len(path.parent.name), path.parent.name))
    ended = [read_job(path.parent) for path in paths]
    return [job for job in ended if launch is None or job.launch == launch]


def started(sweep: Path) -> list[Identity]:
    """Return the overrides of the jobs below `sweep` that started but have no outcome: their process was stopped."""
    begun = [path.parents[1] for path in sweep.glob("*/.hydra/overrides.yaml")]
    held = _held(sweep)
    killed = [_overrides(directory) for directory in begun if not _has_outcome(directory)]
    return [job for job in killed if job not in held]


def _has_outcome(directory: Path) -> bool:
    return (directory / JOB).exists() and read_job(directory).outcome != "interrupted"


def _overrides(directory: Path) -> Identity:
    """Return a job's overrides as Hydra wrote them before it began; nothing if it was killed while writing."""
    try:
        overrides = yaml.safe_load((directory / ".hydra" / "overrides.yaml").read_text("utf-8"))
    except yaml.YAMLError:
        return frozenset()
    return identity(map(str, overrides or ()))


def write_hold(sweep: Path, held: Iterable[Sequence[str]]) -> None:
    """List, by their overrides, the jobs of the multirun in `sweep` that must not start."""
    write_json(sweep / HOLD, [list(overrides) for overrides in held])


def is_held(sweep: Path, overrides: Iterable[str]) -> bool:
    """Whether the job with these overrides must not start in `sweep`."""
    return identity(overrides) in _held(sweep)


def _held(sweep: Path) -> set[Identity]:
    path = sweep / HOLD
    return set(map(identity, json.loads(path.read_text("utf-8")))) if path.is_file() else set()


def kin(sweep: Path) -> Path:
    """Return the folder of all launches of the study that `sweep` belongs to, or `sweep` if there is no study."""
    study = sweep.parent.name == LAUNCHES and (sweep.parents[1] / STUDY).is_file()
    return sweep.parent if study else sweep


LOCKS = ".locks"

_taken: list[FileLock | None] = []  # once a process has its GPU; the lock is held until it ends


@contextmanager
def alone(runs: Path, fingerprint: str) -> Iterator[None]:
    """Wait until no other process below `runs` trains the run `fingerprint`, and keep others out meanwhile.

    The lock is the operating system's (flock): it is released when its process ends, however it ends. On a shared file
    system without flock, machines cannot keep each other out.
    """
    path = runs / LOCKS / f"{fingerprint}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        held = lock.acquire(blocking=False)
    except Timeout:
        log.info("another process is training an identical run; waiting for its record")
        held = lock.acquire()
    with held:
        yield


def take_gpu(gpus: Sequence[str]) -> str | None:
    """Give this process one of the machine's `gpus` as its only one, until it ends; return which.

    Call it before CUDA starts, which reads ``CUDA_VISIBLE_DEVICES`` once. Processes agree by locks in the temporary
    folder; if there are more processes than GPUs, the rest are spread over all GPUs.
    """
    if _taken:
        return os.environ["CUDA_VISIBLE_DEVICES"]
    if len(gpus) < 2:
        return None
    user = os.getuid() if hasattr(os, "getuid") else "here"  # Windows has a temporary folder per user
    folder = Path(tempfile.gettempdir()) / f"invitro-{user}"
    folder.mkdir(exist_ok=True)
    held, chosen = None, gpus[os.getpid() % len(gpus)]
    for gpu in gpus:
        lock = FileLock(folder / f"gpu-{socket.gethostname()}-{re.sub(r'[^A-Za-z0-9-]', '_', gpu)}.lock")
        try:
            lock.acquire(blocking=False)
        except Timeout:
            continue
        held, chosen = lock, gpu
        break
    _taken.append(held)
    os.environ["CUDA_VISIBLE_DEVICES"] = chosen
    return chosen


def visible_gpus() -> list[str]:
    """Return the GPUs that this process may use, as ``CUDA_VISIBLE_DEVICES`` names them; CUDA is not started."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [gpu.strip() for gpu in visible.split(",") if gpu.strip() not in ("", "-1")]
    import torch

    return [str(number) for number in range(torch.cuda.device_count())]


def judged_on(jobs: Sequence[JobOutcome]) -> str:
    """Return ``test``, or ``val`` if no job has a test with crowd labels."""
    finished = [read_metrics(job.record) for job in jobs if job.outcome.startswith("finished")]
    return "test" if any(metrics["test"] for metrics in finished) or not finished else "val"


def comparison(jobs: Sequence[JobOutcome], split: str = "test") -> pd.DataFrame:
    """Return one row per job.

    Columns: the overrides in which jobs differ; ``PCC``, ``CCC``, ``RMSE`` on `split`; the same against the truth if
    it is known; ``texts`` trained on, crowd labels ``kept`` and ``given up``, texts ``added``; ``outcome``.
    """
    names = list(dict.fromkeys(name for job in jobs for name in job.overrides))
    differing = [name for name in names if len({job.overrides.get(name) for job in jobs}) > 1]
    return pd.DataFrame([{name: job.overrides.get(name) for name in differing} | _numbers(job, split) for job in jobs])


def _numbers(job: JobOutcome, split: str) -> dict[str, Any]:
    if not job.outcome.startswith("finished"):
        return {"outcome": job.outcome}
    metrics = read_metrics(job.record)
    row: dict[str, Any] = {}
    for suffix, scores in (("", metrics[split]), (" (truth)", metrics.get("truth", {}).get(split))):
        row |= {f"{name.upper()}{suffix}": round(scores[name], 3) for name in ("pcc", "ccc", "rmse")} if scores else {}
    train = metrics["train"]
    return row | {
        "texts": train["size"],
        "kept": train.get("kept"),
        "given up": train.get("given_up"),
        "added": train["augmented"],
        "outcome": job.outcome,
    }
