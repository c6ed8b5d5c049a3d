"""Finding the jobs in a folder (of a study's launches, multiruns and single runs), and launching a study's jobs, again
if a launcher was lost.
"""

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import FrameType
from typing import Any

import yaml

from invitro.errors import command_line, quoted
from invitro.files import write_json
from invitro.studies.study import canonical
from invitro.training.multirun import (
    JOB,
    LAUNCHES,
    Identity,
    JobOutcome,
    as_mapping,
    identity,
    jobs,
    read_job,
    started,
    write_hold,
    write_job,
)
from invitro.training.record import METRICS_FILE, REPLACED, read_metrics, write_failure
from invitro.writing.words import MINUTE, on_terminal, time_left

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
        directory: where it was started; its record may be elsewhere.
        record: the record's directory.
        outcome: one of `invitro.training.multirun.OUTCOMES`.
        overrides: what distinguishes it from others, key to value; for records without a job, the whole configuration.
        metrics: the record's ``metrics.json``.
        choices: the option chosen in each group of the configuration.
        error: one line, if it failed or was skipped.
    """

    directory: Path
    record: Path
    outcome: str
    overrides: Mapping[str, str]
    metrics: Mapping[str, Any]
    choices: Mapping[str, str]
    error: str | None

    def value(self, key: str) -> Any:
        """Return the value of `key`: as overridden, as chosen, or as configured; None if there is no such key."""
        for values in (self.overrides, self.choices):
            if key in values:
                return values[key]
        return self._configured.get(key)

    @cached_property
    def _configured(self) -> dict[str, str]:
        return _flattened(_config(self.directory))


def find_jobs(root: Path) -> list[FoundJob]:
    """Return all jobs below `root` by path, with numbers in numerical order: a study's launches by time."""
    job_folders, record_folders = [], []
    for name, folders, _ in os.walk(root):
        folders[:] = sorted(folder for folder in folders if folder not in SKIPPED_FOLDERS)
        directory = Path(name)
        if (directory / JOB).is_file():
            job_folders.append(directory)
        elif (directory / METRICS_FILE).is_file():
            record_folders.append(directory)
    jobs = [_of_job(directory) for directory in job_folders]
    of_jobs = {job.record.resolve() for job in jobs}
    jobs += [_of_record(folder, bool(job_folders)) for folder in record_folders if folder.resolve() not in of_jobs]
    return sorted(jobs, key=lambda job: [(len(part), part) if part.isdigit() else (0, part) for part in
                                         job.directory.parts])  # fmt: skip


def commands_of(jobs: Sequence[FoundJob]) -> tuple[str, ...]:
    """Return the command lines that started these jobs, each once: the study's first, then those it ran."""
    asked, lines = [], []
    for folder in dict.fromkeys(job.directory.parent for job in jobs):
        if (folder / LAUNCH).is_file():
            launch = json.loads((folder / LAUNCH).read_text("utf-8"))
            asked.append(command_line(shlex.split(launch["asked"]), posix=True))
            lines.append(command_line(shlex.split(launch["command"]), posix=True))
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
    """Return a configuration as dotted keys and text, without incidental keys; a group's ``name`` is its value."""
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
        outcome, error = "failed", f"its record is missing: {job.record}"  # moved or removed since
    elif outcome == "failed":
        error = error or metrics.get("error")
    return FoundJob(directory, job.record, outcome, _relevant(job.overrides), metrics, job.choices, _first_line(error))


def _of_record(directory: Path, among_jobs: bool) -> FoundJob:
    """Return a record without a job: a single run, or one whose multirun was killed before it wrote ``job.json``."""
    metrics = read_metrics(directory)
    outcome = "finished" if metrics.get("status") == "finished" else "failed"
    written = directory / ".hydra" / "overrides.yaml"
    if among_jobs and written.is_file():
        overrides = _relevant(as_mapping(yaml.safe_load(written.read_text("utf-8")) or []))
    else:
        overrides = _flattened(_config(directory))
    return FoundJob(directory, directory, outcome, overrides, metrics, {}, _first_line(metrics.get("error")))


def _relevant(overrides: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in overrides.items() if not is_incidental(key)}


def _config(directory: Path) -> dict[str, Any]:
    """Return a record's resolved configuration, or the one that Hydra wrote before the job began, or {}."""
    for path in (directory / "config.yaml", directory / ".hydra" / "config.yaml"):
        if path.is_file():
            return dict(yaml.safe_load(path.read_text("utf-8")))
    return {}


def _first_line(text: object) -> str | None:
    return str(text).strip().splitlines()[0] if text else None


def _line(name: str, *overrides: str) -> str:
    return command_line(["python", f"{name}.py", *overrides], posix=True)


GRACE = 8.0
"""Seconds that a launcher is given to stop."""


@dataclass(frozen=True)
class Plan:
    """Which jobs to launch, and where.

    Args:
        directory: the study's; every launch has its own folder in ``jobs/``.
        stamp: names this start of the study, and sorts after all earlier ones.
        asked: the user's command line.
        command: the entry point's command line up to its overrides.
        overrides: of the multirun, fixed and swept.
        hydra: launcher and sweeper, as overrides.
        jobs: each job's overrides; None if a sweeper generates them.
        not_run: why jobs are left out, by their position in `jobs`.
        trials: how many jobs a sweeper generates over all launches.
        sampler_seed: that sweeper's seed; the number of jobs generated so far is added, so that it draws new ones.
        fail_fast: whether to stop after a failure.
        repeat: whether jobs write ``job.json`` and obey ``hold.json``, so that a lost launch can be started again.
    """

    directory: Path
    stamp: str
    asked: str
    command: tuple[str, ...]
    overrides: tuple[str, ...]
    hydra: tuple[str, ...] = ()
    jobs: tuple[tuple[str, ...], ...] | None = None
    not_run: Mapping[int, str] = field(default_factory=dict)
    trials: int = 0
    sampler_seed: int | None = None
    fail_fast: bool = False
    repeat: bool = True

    def folder(self, number: int) -> Path:
        """Return the folder of this start's launch `number`, from 1."""
        return self.directory / LAUNCHES / (self.stamp if number == 1 else f"{self.stamp}-again{number - 1:02d}")


class LostError(Exception):
    """A launch ended before its jobs did, and starting it again would not help."""


def launch(plan: Plan) -> None:
    """Launch the jobs of `plan` and return when each has an outcome; outcomes and records are on disk.

    If the launcher is lost (a SIGKILL of one joblib worker ends all of them), jobs without an outcome are launched
    again, as long as that yields outcomes. A job that was running when its launcher was lost is run last and alone; if
    it is lost again, it is recorded as failed.

    Raises:
        LostError: jobs have no outcome, and launching them again yields none.
        KeyboardInterrupt: the user stopped the launch; the launcher has ended.
    """
    if not plan.repeat:
        if _start(plan, plan.folder(1), plan.overrides):
            raise LostError("the launch failed; see its messages")
    elif plan.jobs is None:
        _search(plan)
    else:
        _grid(plan, plan.jobs)


def _grid(plan: Plan, every: Sequence[tuple[str, ...]]) -> None:
    """Launch jobs that are known in advance."""
    for number, reason in plan.not_run.items():
        directory = plan.folder(1) / str(number)
        write_job(directory, directory, "skipped", every[number], plan.stamp, reason)
        _note(plan, plan.folder(1), plan.overrides)
    pending = {identity(job): job for number, job in enumerate(every) if number not in plan.not_run}
    suspects: dict[Identity, tuple[str, ...]] = {}
    launched = 0
    while pending:
        launched += 1
        folder = plan.folder(launched)
        write_hold(folder, [job for job in every if identity(job) not in pending])
        _start(plan, folder, plan.overrides, len(pending))
        done = _take_done(pending, folder)
        if plan.fail_fast and any(job.outcome == "failed" for job in done):
            return
        under_way = {key: pending.pop(key) for key in started(folder) if key in pending}
        suspects |= under_way
        if pending and not (done or under_way):
            raise LostError(_names(plan, [*pending.values(), *suspects.values()]))
        if pending or under_way:
            print(
                f"The launch ended with {len(pending) + len(suspects)} jobs unfinished; starting them again.",
                flush=True,
            )
    for key, job in suspects.items():
        launched += 1
        folder = plan.folder(launched)
        _start(plan, folder, job, 1)
        if not _take_done({key: job}, folder):
            _record_lost(plan, folder, job)


def _search(plan: Plan) -> None:
    """Launch jobs that a sweeper generates, until there are `Plan.trials`."""
    launched = 0
    while (left := plan.trials - (done := _count(plan))) > 0:
        launched += 1
        extra = [f"hydra.sweeper.n_trials={left}"]
        if plan.sampler_seed is not None:
            extra.append(f"hydra.sweeper.sampler.seed={plan.sampler_seed + done}")
        _start(plan, plan.folder(launched), [*extra, *plan.overrides], left)
        failed = any(job.outcome == "failed" for job in jobs(plan.folder(launched)))
        if plan.fail_fast and failed:
            return
        if _count(plan) == done:
            raise LostError(f"{left} of {plan.trials} trials were not run")


def _count(plan: Plan) -> int:
    return sum(len(jobs(folder)) for folder in (plan.directory / LAUNCHES).glob("*"))


def _take_done(pending: dict[Identity, tuple[str, ...]], folder: Path) -> list[JobOutcome]:
    """Return the jobs of `folder` that have an outcome, and remove them from `pending`."""
    done = [job for job in jobs(folder) if job.outcome != "interrupted"]
    for job in done:
        pending.pop(frozenset(job.overrides.items()), None)
    return done


def _record_lost(plan: Plan, folder: Path, job: Sequence[str]) -> None:
    """Record that a job was killed twice, the second time while it ran alone."""
    directory = folder / "0"
    error = RuntimeError(
        "the job's process was killed twice, the second time while no other job ran; there may be too little memory"
    )
    write_failure(directory, error)
    write_job(directory, directory, "failed", job, plan.stamp)


def _names(plan: Plan, pending: Sequence[tuple[str, ...]]) -> str:
    """Name the jobs without an outcome by the overrides in which jobs differ."""
    common = frozenset[str].intersection(*map(frozenset, plan.jobs or [()]))
    lines = [" ".join(override for override in job if override not in common) or "the only job" for job in pending]
    more = f"\n  and {len(lines) - 10} more" if len(lines) > 10 else ""
    return "no outcome, the launch ended before these jobs did:\n  " + "\n  ".join(lines[:10]) + more


def _start(plan: Plan, folder: Path, overrides: Sequence[str], expected: int = 0) -> int:
    """Run a multirun of `expected` jobs to its end, passing on its output; return its exit status."""
    command = _note(plan, folder, overrides)
    print(f"{command_line(command)}\n", flush=True)
    os.environ["INVITRO_STARTER"] = str(os.getpid())  # the launcher ends with this process, however it ends
    with _terminable(), subprocess.Popen(command) as process:
        try:
            return wait(process, folder, expected)
        except BaseException:
            process.terminate()  # SIGTERM, as SIGINT may be ignored from the start; it stops its jobs
            try:
                process.wait(GRACE)
            except subprocess.TimeoutExpired:
                process.kill()
            raise


def wait(process: "subprocess.Popen[bytes]", folder: Path, expected: int) -> int:
    """Wait for a multirun and return its exit status.

    If no terminal shows its jobs, a line reports how many have ended, at most once a minute and only if more have.

    Args:
        process: the multirun.
        folder: its directory; jobs that already have an outcome there do not count.
        expected: how many jobs it has.
    """
    started, before = time.monotonic(), len(jobs(folder))
    reported = 0
    while True:
        try:
            return process.wait(MINUTE)
        except subprocess.TimeoutExpired:
            ended = len(jobs(folder)) - before
            if ended > reported and not on_terminal(sys.stdout):
                reported = ended
                left = time_left(time.monotonic() - started, ended, expected - ended)
                print(f"{ended} of {expected} jobs have ended, {left}", flush=True)


def _note(plan: Plan, folder: Path, overrides: Sequence[str]) -> list[str]:
    """Return a launch's command line, and write it into the launch's folder for the report."""
    command = [*plan.command, "-m", *plan.hydra, f"hydra.sweep.dir={quoted(folder)}", *overrides]
    line = command_line(command, posix=True)
    write_json(folder / LAUNCH, {"asked": plan.asked, "command": line, "launch": plan.stamp})
    return command


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Treat SIGTERM, which clusters send to end processes, as the user's Ctrl-C."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.getsignal(signal.SIGTERM)
    if before == signal.SIG_DFL:
        signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
