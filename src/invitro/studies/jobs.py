"""The jobs in a folder: those of a study's launches and of multiruns, and single runs."""

import json
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from invitro.studies.study import canonical
from invitro.training.multirun import JOB, as_mapping, read_job
from invitro.training.record import METRICS_FILE, REPLACED, read_metrics

LAUNCH = "launch.json"
SKIPPED_FOLDERS = ("model", "wandb", "checkpoints", ".hydra", ".locks", ".submitit", "report", REPLACED)

INCIDENTAL = (
    "launch", "runs", "group", "fail_fast", "force", "cache", "store", "save_model", "keep_checkpoints", "logger",
    "hydra", "data.folder", "trainer.enable_progress_bar", "trainer.enable_model_summary", "trainer.log_every_n_steps",
)  # fmt: skip
"""Keys that do not change a run's results, with everything below them."""

NAMED_GROUPS = ("data", "scale", "llm", "prompt", "application", "plm")
"""Groups whose choice is stored in a record's configuration as their ``name``."""


@dataclass(frozen=True)
class FoundJob:
    """A job in a folder, or a record without a job.

    Args:
        directory: where it was started; its record may lie elsewhere.
        record: the record's directory.
        outcome: one of `invitro.training.multirun.OUTCOMES`.
        overrides: what distinguishes it from others, key to value; for records without a job, the whole configuration.
        metrics: the record's ``metrics.json``.
        choices: the configuration's groups and what was chosen.
        error: one line, where it failed or was skipped.
    """

    directory: Path
    record: Path
    outcome: str
    overrides: Mapping[str, str]
    metrics: Mapping[str, Any] = field(default_factory=dict)
    choices: Mapping[str, str] = field(default_factory=dict)
    error: str | None = None

    def value(self, key: str) -> Any:
        """Return the value of `key`: as overridden, as chosen, or as configured; None where there is no such key."""
        for values in (self.overrides, self.choices):
            if key in values:
                return values[key]
        return self._configured.get(key)

    @cached_property
    def _configured(self) -> dict[str, str]:
        return _flattened(_config(self.directory))


def find_jobs(root: Path) -> list[FoundJob]:
    """Return all jobs below `root` in the order of paths, numbers in them by size: a study's launches by time."""
    job_folders, record_folders = [], []
    for name, folders, _ in os.walk(root):
        folders[:] = sorted(folder for folder in folders if folder not in SKIPPED_FOLDERS)
        directory = Path(name)
        if (directory / JOB).is_file():
            job_folders.append(directory)
        elif (directory / METRICS_FILE).is_file():
            record_folders.append(directory)
    jobs = [_of_job(directory) for directory in job_folders]
    known = {job.record.resolve() for job in jobs}
    jobs += [_of_record(one, bool(job_folders)) for one in record_folders if one.resolve() not in known]
    return sorted(jobs, key=lambda job: [(len(part), part) if part.isdigit() else (0, part) for part in
                                         job.directory.parts])  # fmt: skip


def commands_of(jobs: Sequence[FoundJob]) -> tuple[str, ...]:
    """Return the command lines that started these jobs, each once: the study's own first, then those it ran."""
    asked, lines = [], []
    for folder in dict.fromkeys(job.directory.parent for job in jobs):
        if (folder / LAUNCH).is_file():
            launch = json.loads((folder / LAUNCH).read_text("utf-8"))
            asked.append(launch["asked"])
            lines.append(launch["command"])
        elif (folder / "multirun.yaml").is_file():
            hydra = yaml.safe_load((folder / "multirun.yaml").read_text("utf-8"))["hydra"]
            lines.append(_line(hydra["job"]["name"], "-m", *hydra["overrides"]["hydra"], *hydra["overrides"]["task"]))
    for job in jobs:
        written = job.directory / ".hydra" / "overrides.yaml"
        if written.is_file() and not (job.directory.parent / "multirun.yaml").is_file():
            lines.append(_line("train", *(yaml.safe_load(written.read_text("utf-8")) or [])))
    return tuple(dict.fromkeys([*asked, *lines]))


def is_incidental(key: str) -> bool:
    """Return whether a key does not change a run's results."""
    return any(key == name or key.startswith((f"{name}.", f"{name}/")) for name in INCIDENTAL)


def _flattened(config: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Return a configuration as dotted keys and text, without what is incidental; a group's ``name`` is its value."""
    flat: dict[str, str] = {}
    for name, value in config.items():
        key = f"{prefix}{name}"
        if is_incidental(key) or name == "_target_":
            continue
        if isinstance(value, Mapping) and value:
            flat |= _flattened(value, f"{key}.")
        else:
            group = key.removesuffix(".name")
            flat[group if group in NAMED_GROUPS else key] = str(value if isinstance(value, list) else canonical(value))
    return flat


def _of_job(directory: Path) -> FoundJob:
    job = read_job(directory)
    metrics = read_metrics(job.record) if (job.record / METRICS_FILE).is_file() else {}
    outcome, error = job.outcome, job.error
    if outcome.startswith("finished") and metrics.get("status") != "finished":
        outcome, error = "failed", f"its record is not there: {job.record}"  # moved or removed since
    elif outcome == "failed":
        error = error or metrics.get("error")
    return FoundJob(directory, job.record, outcome, _relevant(job.overrides), metrics, job.choices, _first_line(error))


def _of_record(directory: Path, beside_jobs: bool) -> FoundJob:
    """Return a record without a job: a single run, or one whose multirun was killed before it wrote ``job.json``."""
    metrics = read_metrics(directory)
    outcome = "finished" if metrics.get("status") == "finished" else "failed"
    written = directory / ".hydra" / "overrides.yaml"
    if beside_jobs and written.is_file():
        overrides = _relevant(as_mapping(yaml.safe_load(written.read_text("utf-8")) or []))
    else:
        overrides = _flattened(_config(directory))
    return FoundJob(directory, directory, outcome, overrides, metrics, {}, _first_line(metrics.get("error")))


def _relevant(overrides: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in overrides.items() if not is_incidental(key)}


def _config(directory: Path) -> dict[str, Any]:
    """Return a record's resolved configuration, or the one that Hydra wrote before the job began, or nothing."""
    for path in (directory / "config.yaml", directory / ".hydra" / "config.yaml"):
        if path.is_file():
            return dict(yaml.safe_load(path.read_text("utf-8")))
    return {}


def _first_line(text: object) -> str | None:
    return str(text).strip().splitlines()[0] if text else None


def _line(name: str, *overrides: str) -> str:
    return shlex.join(["python", f"{name}.py", *overrides])
