"""The jobs that lie in a folder: of a study's launches, of multiruns, and single runs."""

import json
import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from invitro.studies.study import canonical
from invitro.training.multirun import JOB, Job, as_mapping, read_job
from invitro.training.record import METRICS, REPLACED

LAUNCH = "launch.json"
SKIPPED_FOLDERS = ("model", "wandb", "checkpoints", ".hydra", ".locks", ".submitit", "report", REPLACED)

INCIDENTAL = (
    "launch", "runs", "group", "fail_fast", "force", "cache", "store", "save_model", "keep_checkpoints", "logger",
    "hydra", "data.folder", "trainer.enable_progress_bar", "trainer.enable_model_summary", "trainer.log_every_n_steps",
)  # fmt: skip
"""Keys that do not change what a run comes to, with everything below them."""

GROUPS = ("data", "scale", "llm", "prompt", "application", "plm")
"""Groups whose choice stands in a record's configuration as their ``name``."""


@dataclass(frozen=True)
class Found:
    """One job, or a record without one.

    Args:
        directory: where it was started; its record may lie elsewhere.
        record: the record's directory.
        outcome: one of `invitro.training.multirun.OUTCOMES`.
        overrides: what told it from others, key to value; for records without a job, the whole configuration.
        metrics: the record's ``metrics.json``.
        choices: the configuration's groups and what was chosen.
        error: a line, where it failed or was skipped.
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
        if key in self.overrides:
            return self.overrides[key]
        if key in self.choices:
            return self.choices[key]
        configured = flattened(_config(self.record if self.record == self.directory else self.directory))
        return configured.get(key)


def find(root: Path) -> list[Found]:
    """Return everything below `root` in the order of paths, numbers in them by size: a study's launches by time."""
    job_folders, record_folders = [], []
    for directory in _folders(root):
        if (directory / JOB).is_file():
            job_folders.append(directory)
        elif (directory / METRICS).is_file():
            record_folders.append(directory)
    found = [_of_job(read_job(directory)) for directory in job_folders]
    known = {one.record.resolve() for one in found}
    found += [_of_record(one, bool(job_folders)) for one in record_folders if one.resolve() not in known]
    return sorted(found, key=lambda one: _natural(one.directory))


def commands(found: Sequence[Found]) -> tuple[str, ...]:
    """Return the command lines that started these jobs, each once: the study's own first, then those it gave out."""
    lines: dict[str, None] = {}
    told = []
    for folder in dict.fromkeys(one.directory.parent for one in found):
        if (folder / LAUNCH).is_file():
            launch = json.loads((folder / LAUNCH).read_text("utf-8"))
            lines[launch["asked"]] = None
            told.append(launch["command"])
        elif (folder / "multirun.yaml").is_file():
            hydra = yaml.safe_load((folder / "multirun.yaml").read_text("utf-8"))["hydra"]
            told.append(_line(hydra["job"]["name"], ["-m", *hydra["overrides"]["hydra"], *hydra["overrides"]["task"]]))
    for one in found:
        if not (one.directory.parent / "multirun.yaml").is_file():
            overrides = one.directory / ".hydra" / "overrides.yaml"
            if overrides.is_file():
                told.append(_line("train", yaml.safe_load(overrides.read_text("utf-8")) or []))
    return tuple(lines | dict.fromkeys(told))


def is_incidental(key: str) -> bool:
    """Whether a key changes nothing in what a run comes to."""
    return any(key == one or key.startswith((f"{one}.", f"{one}/")) for one in INCIDENTAL)


def flattened(config: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Return a configuration as dotted keys and text, without what is incidental; a group's ``name`` is its value."""
    flat: dict[str, str] = {}
    for name, value in config.items():
        key = f"{prefix}{name}"
        if is_incidental(key) or name == "_target_":
            continue
        if isinstance(value, Mapping) and value:
            flat |= flattened(value, f"{key}.")
        else:
            group = key.removesuffix(".name")
            flat[group if group in GROUPS else key] = (
                str(canonical(value)) if not isinstance(value, list) else str(value)
            )
    return flat


def _folders(root: Path) -> Iterator[Path]:
    for directory, folders, _ in os.walk(root):
        folders[:] = sorted(folder for folder in folders if folder not in SKIPPED_FOLDERS)
        yield Path(directory)


def _natural(path: Path) -> tuple[tuple[int, str], ...]:
    return tuple((len(part), part) if part.isdigit() else (0, part) for part in path.parts)


def _of_job(job: Job) -> Found:
    metrics = _metrics(job.record)
    outcome, error = job.outcome, job.error
    if outcome.startswith("finished") and metrics.get("status") != "finished":
        outcome, error = "failed", f"its record is not there: {job.record}"  # moved or removed since
    elif outcome == "failed":
        error = error or metrics.get("error")
    overrides = {key: value for key, value in job.overrides.items() if not is_incidental(key)}
    return Found(job.directory, job.record, outcome, overrides, metrics, job.choices, _first_line(error))


def _of_record(directory: Path, beside_jobs: bool) -> Found:
    """Return a record without a job: a single run, or one whose multirun was killed before it could say so."""
    metrics = _metrics(directory)
    outcome = "finished" if metrics.get("status") == "finished" else "failed"
    written = directory / ".hydra" / "overrides.yaml"
    if beside_jobs and written.is_file():
        overrides = as_mapping(yaml.safe_load(written.read_text("utf-8")) or [])
        overrides = {key: value for key, value in overrides.items() if not is_incidental(key)}
    else:
        overrides = flattened(_config(directory))
    return Found(directory, directory, outcome, overrides, metrics, {}, _first_line(metrics.get("error")))


def _metrics(record: Path) -> dict[str, Any]:
    path = record / METRICS
    return dict(json.loads(path.read_text("utf-8"))) if path.is_file() else {}


def _config(directory: Path) -> dict[str, Any]:
    """Return a record's resolved configuration, or the one that Hydra wrote before the job began, or nothing."""
    for path in (directory / "config.yaml", directory / ".hydra" / "config.yaml"):
        if path.is_file():
            return dict(yaml.safe_load(path.read_text("utf-8")))
    return {}


def _first_line(text: object) -> str | None:
    return str(text).strip().splitlines()[0] if text else None


def _line(name: str, overrides: Sequence[str]) -> str:
    return shlex.join(["python", f"{name}.py", *overrides])
