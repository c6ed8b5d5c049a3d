"""Launch a study's jobs, and launch them again when a launcher was lost."""

import contextlib
import re
import shlex
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from invitro.files import write_json
from invitro.studies.jobs import LAUNCH
from invitro.training.multirun import LAUNCHES, Identity, JobOutcome, identity, jobs, started, write_hold, write_job
from invitro.training.record import write_failure

GRACE = 30.0
"""Seconds that a launcher has to stop when asked to."""


@dataclass(frozen=True)
class Plan:
    """Which jobs to launch, and where.

    Args:
        directory: the study's; every launch has its own folder in ``jobs/``.
        stamp: names this start of the study, and sorts after all earlier ones.
        asked: the command line that the user gave.
        command: the entry point's command line up to its overrides.
        overrides: of the multirun: what is fixed and what is swept.
        hydra: launcher and sweeper, as overrides.
        jobs: each job's overrides; None where a sweeper generates them.
        not_run: jobs that are left out, by their position in `jobs`, and why.
        trials: how many jobs a sweeper generates, over all launches together.
        sampler_seed: that sweeper's seed; the number of jobs that it has made is added, so that it draws new ones.
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

    Where the launcher is lost (a SIGKILL of one joblib worker ends all of them), jobs without an outcome are launched
    again, as long as that yields outcomes. A job that was running when its launcher was lost comes last and by itself;
    if it is lost again, it is recorded as failed.

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
    open_ = {identity(job): job for number, job in enumerate(every) if number not in plan.not_run}
    suspects: dict[Identity, tuple[str, ...]] = {}
    launched = 0
    while open_:
        launched += 1
        folder = plan.folder(launched)
        write_hold(folder, [job for job in every if identity(job) not in open_])
        _start(plan, folder, plan.overrides)
        done = _take_done(open_, folder)
        if plan.fail_fast and any(job.outcome == "failed" for job in done):
            return
        under_way = {one: open_.pop(one) for one in started(folder) if one in open_}
        suspects |= under_way
        if open_ and not (done or under_way):
            raise LostError(_names(plan, [*open_.values(), *suspects.values()]))
        if open_ or under_way:
            print(
                f"The launch ended with {len(open_) + len(suspects)} jobs unfinished; starting these again.", flush=True
            )
    for one, job in suspects.items():
        launched += 1
        folder = plan.folder(launched)
        _start(plan, folder, job)
        if not _take_done({one: job}, folder):
            _record_lost(plan, folder, job)


def _search(plan: Plan) -> None:
    """Launch jobs that a sweeper generates, until there are `Plan.trials`."""
    launched = 0
    while (left := plan.trials - (done := _count(plan))) > 0:
        launched += 1
        further = [f"hydra.sweeper.n_trials={left}"]
        if plan.sampler_seed is not None:
            further.append(f"hydra.sweeper.sampler.seed={plan.sampler_seed + done}")
        _start(plan, plan.folder(launched), [*further, *plan.overrides])
        failed = any(job.outcome == "failed" for job in jobs(plan.folder(launched)))
        if plan.fail_fast and failed:
            return
        if _count(plan) == done:
            raise LostError(f"{left} of {plan.trials} trials were not made")


def _count(plan: Plan) -> int:
    folder = plan.directory / LAUNCHES
    return sum(len(jobs(one)) for one in folder.iterdir()) if folder.is_dir() else 0


def _take_done(open_: dict[Identity, tuple[str, ...]], folder: Path) -> list[JobOutcome]:
    """Return the jobs of `folder` that have an outcome, and take them out of the open ones."""
    done = jobs(folder)
    for job in done:
        open_.pop(frozenset(job.overrides.items()), None)
    return done


def _record_lost(plan: Plan, folder: Path, job: Sequence[str]) -> None:
    """Record that a job was killed twice, the second time when it ran alone."""
    directory = folder / "0"
    error = RuntimeError(
        "the job's process was killed, twice, the second time with no other job beside it; memory may be too small"
    )
    write_failure(directory, error)
    write_job(directory, directory, "failed", job, plan.stamp)


def _names(plan: Plan, open_: Sequence[tuple[str, ...]]) -> str:
    """Name the jobs without an outcome by the overrides in which jobs differ."""
    common = frozenset[str].intersection(*map(frozenset, plan.jobs or [()]))
    lines = [" ".join(one for one in job if one not in common) or "the only job" for job in open_]
    more = f"\n  and {len(lines) - 10} more" if len(lines) > 10 else ""
    return "no outcome, the launch ended before:\n  " + "\n  ".join(lines[:10]) + more


def _start(plan: Plan, folder: Path, overrides: Sequence[str]) -> int:
    """Run one multirun to its end, with its output on ours; return its exit status."""
    command = _note(plan, folder, overrides)
    print(f"{shlex.join(command)}\n", flush=True)
    with _terminable(), subprocess.Popen(command) as process:
        try:
            return process.wait()
        except KeyboardInterrupt:
            # A terminal interrupts the launcher too; joblib ends its workers on an interrupt, not when it is killed.
            process.send_signal(signal.SIGINT)
            try:
                process.wait(GRACE)
            except subprocess.TimeoutExpired:
                process.kill()
            raise


def _note(plan: Plan, folder: Path, overrides: Sequence[str]) -> list[str]:
    """Return a launch's command line, and write it into the launch's folder, for the report."""
    command = [*plan.command, "-m", *plan.hydra, f"hydra.sweep.dir={quoted(folder)}", *overrides]
    write_json(folder / LAUNCH, {"asked": plan.asked, "command": shlex.join(command), "launch": plan.stamp})
    return command


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Treat SIGTERM, by which a cluster ends processes, as the user's Ctrl-C."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def quoted(value: object) -> str:
    """Quote a value for Hydra's command line; it may contain any characters."""
    # Backslashes are plain characters to Hydra, except before a quote.
    text = re.sub(r"(\\*)'", r"\1\1\'", str(value))
    trailing = len(text) - len(text.rstrip("\\"))
    return "'" + text + "\\" * trailing + "'"
