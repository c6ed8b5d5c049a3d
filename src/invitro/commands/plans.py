"""From ``sweep.py``'s command line to a study and the plan of its jobs, checked before anything starts."""

import re
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from shutil import which
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import yaml
from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, open_dict

from invitro.commands.common import first_lines, instantiated
from invitro.commands.overrides import (
    decided_by_rows,
    expression,
    first_value,
    is_hydra,
    is_sweeper,
    key_of,
    message_of,
    own_line,
    parsed,
)
from invitro.commands.settings import checked, prepared_for, with_baseline
from invitro.errors import InputError, not_boolean, refuse_if_any
from invitro.studies import Study
from invitro.studies.found import is_incidental
from invitro.studies.launch import Plan, quoted
from invitro.training.multirun import STUDY, as_mapping

if TYPE_CHECKING:
    from invitro.studies import Study


GRID = "grid"
"""The study of whatever jobs there are."""

INFERENCE = "inference"
"""The job that ``sweep.py`` does itself, in seconds: estimates instead of runs."""

LONGEST_NAME = 70
"""Characters of a study's folder; what does not fit stands in a hash."""


@dataclass(frozen=True)
class Request:
    """What ``sweep.py`` is asked for.

    Args:
        study: how the results are read.
        root: the folder with the runs.
        report: the folder of the report.
        plan: the jobs to start; None starts nothing.
        resamples: of the bootstrap.
        dry_run: show the plan only.
        dashboard: save a W&B workspace for the study.
    """

    study: Study
    root: Path
    report: Path
    plan: Plan | None
    resamples: int
    dry_run: bool
    dashboard: bool = False


def request(arguments: Sequence[str], home: Path) -> Request:
    """Read the command line; `home` is the folder of the entry points.

    Keys of ``sweep.yaml`` are its own, all others are the jobs', and go before what the study says itself.

    Raises:
        InputError: whatever Hydra, the study or its jobs would refuse.
    """
    conf = home / "conf"
    flags = [one for one in arguments if one.startswith("-")]
    refuse_if_any(f"{flag}: expected key=value; sweep.py has no options but --help" for flag in flags)
    try:
        with initialize_config_dir(str(conf), version_base="1.3", job_name="sweep"):
            keys = set(yaml.safe_load((conf / "sweep.yaml").read_text("utf-8"))) - {"defaults"} | {"study"}
            lines = parsed(arguments)
            own = [one for one in lines if re.split(r"[./@]", one.key_or_group)[0] in keys]
            passed = [one for one in lines if one not in own]
            named = "study" in {one.key_or_group for one in own}
            settings = any(one.key_or_group.startswith("study.") for one in own)
            grid = [f"study={GRID}"] if settings and not named else []
            cfg = compose("sweep", overrides=[*grid, *map(own_line, own)])
            refuse_if_any(
                not_boolean(**{name: cfg[name] for name in ("report_only", "fail_fast", "dry_run", "dashboard")})
            )
            if cfg.report_only:
                at = next((Path(cfg.runs) for one in own if one.key_or_group == "runs"), None)
                return _report_only(cfg, at, named or settings, passed)
            if not named:
                raise InputError(f"study: expected one of {', '.join(first_lines(conf / 'study'))}; found none")
            study = instantiated(cfg.study)
            runs = [f"runs={quoted(cfg.runs)}"] if "runs" in {one.key_or_group for one in own} else []
            asked = shlex.join(["python", "sweep.py", *arguments])
            return _launching(cfg, study, passed, runs, asked, home)
    except HydraException as error:
        raise InputError(message_of(error)) from error


def _report_only(cfg: DictConfig, at: Path | None, named: bool, passed: Sequence[Override]) -> Request:
    """Return the request for a report of what is there: `at` a folder, or where the study would be."""
    if at is None and not named:
        raise InputError("report_only=true: expected runs=FOLDER, or study=NAME with the settings it was started with")
    if at is not None and passed:
        given = " ".join(str(one.input_line) for one in passed)
        raise InputError(f"{given}: nothing is started, so that this has no effect; leave it out")
    if at is None:
        study = instantiated(cfg.study)
        at = _directory(cfg, study, _merged(study, passed))
    elif named:
        study = instantiated(cfg.study)
    elif (at / STUDY).is_file():
        study = Study(**yaml.safe_load((at / STUDY).read_text("utf-8")))
    else:
        study = instantiated(compose("sweep", overrides=[f"study={GRID}"]).study)
        study = replace(study, title=f"{study.title}: {at}")
    if not at.is_dir():
        raise InputError(f"{at}: no such folder of runs (looked in {Path.cwd()})")
    report = Path(cfg.directory) if cfg.directory else at / "report"
    return Request(study, at, report, None, cfg.resamples, cfg.dry_run, cfg.dashboard)


def _launching(
    cfg: DictConfig, study: Study, passed: Sequence[Override], runs: Sequence[str], asked: str, home: Path
) -> Request:
    """Return the request to launch a study, after its jobs' settings were looked at."""
    hydra = list({key_of(one): one for one in [*parsed(study.overrides), *passed] if is_hydra(one)}.values())
    merged = _merged(study, passed)
    directory = _directory(cfg, study, merged)
    stamp = f"{datetime.now():%Y-%m-%d_%H-%M-%S}-{uuid4().hex[:6]}"
    ours = study.job == "train"
    told = [*runs] if ours or study.job == INFERENCE else []
    if ours:
        told += [f"launch={stamp}", f"group={quoted(directory.name)}"]
        told += ["fail_fast=true"] if cfg.fail_fast else []
    merged |= {key_of(one): one for one in parsed(told)}
    swept = [key for key, one in merged.items() if key in study.params or one.is_sweep_override()]
    refuse_if_any(decided_by_rows(merged, passed, home / "conf"))
    sweeper, trials, seed = _sweeper(study, hydra, directory)
    launcher = [str(one.input_line) for one in hydra if not is_sweeper(one)]
    if "hydra/launcher=submitit_slurm" in launcher and which("srun") is None:
        raise InputError(
            "hydra/launcher=submitit_slurm: there is no srun on this machine; start the study on a SLURM cluster's "
            "login node, or use hydra/launcher=joblib hydra.launcher.n_jobs=2"
        )
    jobs = None
    if not study.sweeper:
        jobs = tuple(map(tuple, BasicSweeper.split_arguments(list(merged.values()), None)[0]))
    not_run: Mapping[int, str] = {}
    if ours:
        not_run = not_to_run(jobs or (tuple(map(first_value, merged.values())),), [*launcher, *sweeper], study)
    factors = (*(study.factors or ()), *(key for key in swept if key not in (*study.factors, *study.replicates)))
    study = replace(
        study,
        factors=factors,
        params={key: expression(one) for key, one in merged.items() if key in swept},
        overrides=(
            *(line for line in study.overrides if line.lstrip("+").startswith("hydra")),
            *(str(one.input_line) for key, one in merged.items() if key not in (*swept, "launch", "group")),
        ),
    )
    script = Path(study.job) if study.job.endswith(".py") else home / f"{study.job}.py"
    if not script.is_file() and study.job != INFERENCE:
        raise InputError(f"study.job={study.job}: expected an entry point or a script; there is no {script}")
    plan = Plan(
        directory=directory,
        stamp=stamp,
        asked=asked,
        command=(sys.executable, str(script)),
        overrides=tuple(str(one.input_line) for one in merged.values()),
        hydra=(*launcher, *sweeper),
        jobs=jobs,
        not_run=not_run,
        trials=trials,
        sampler_seed=seed,
        fail_fast=cfg.fail_fast,
        repeat=ours or study.job.endswith(".py"),
    )
    return Request(study, directory, directory / "report", plan, cfg.resamples, cfg.dry_run, cfg.dashboard)


def _merged(study: Study, passed: Sequence[Override]) -> dict[str, Override]:
    """Return the jobs' overrides by key: the study's, and over them those of the command line."""
    own = parsed([*study.overrides, *(f"{key}={value}" for key, value in study.params.items())])
    return {key_of(one): one for one in [*own, *passed] if not is_hydra(one)}


def _directory(cfg: DictConfig, study: Study, merged: Mapping[str, Override]) -> Path:
    """Return the study's folder: named, or by the study and what the command line fixes otherwise than it."""
    if cfg.directory:
        return Path(cfg.directory)
    own = [one.input_line for one in parsed(study.overrides)]
    groups = GlobalHydra.instance().config_loader().list_groups("")
    chosen, set_, hidden = [study.name], [], []
    for key, one in merged.items():
        if one.input_line in own or key in study.params or is_incidental(key) or one.is_sweep_override():
            continue
        value = expression(one).strip("'\"")
        readable = re.sub(r"[^\w.+-]+", "_", Path(value).stem if "/" in value else value).strip("_")
        hidden += [f"{key}={value}"] * (readable != value)
        if key.partition("/")[0] in groups:
            chosen.append(readable)
        elif not value.startswith(("{", "[")):
            set_.append(f"{key}_{readable}")
    name = "-".join([*chosen, *set_])
    if hidden or len(name) > LONGEST_NAME:
        name = f"{name[:LONGEST_NAME]}-{sha256(' '.join([name, *hidden]).encode()).hexdigest()[:6]}"
    return Path(cfg.runs) / "study" / name


def _sweeper(study: Study, hydra: Sequence[Override], directory: Path) -> tuple[list[str], int, int | None]:
    """Return a study's own sweeper as overrides, how many trials it makes, and its seed."""
    given = {one.key_or_group.removeprefix("hydra.sweeper."): one for one in hydra if is_sweeper(one)}
    if not study.sweeper:
        refuse_if_any(
            f"{one.input_line}: this study's jobs are a grid; a search is study=hparams" for one in given.values()
        )
        return [], 0, None
    settings: dict[str, Any] = dict(study.sweeper) | {key: expression(one) for key, one in given.items()}
    name, trials, seed = settings.pop("name"), settings.pop("n_trials", None), settings.pop("sampler.seed", None)
    if not str(trials).isdigit() or not (seed is None or str(seed).isdigit()):
        raise InputError(f"hydra.sweeper: expected whole numbers for n_trials and sampler.seed, found {trials}, {seed}")
    if settings.get("storage") == "journal":
        file = quoted((directory / "trials.log").absolute())
        settings["storage"] = (
            "{_target_:optuna.storages.JournalStorage,log_storage:"
            f"{{_target_:optuna.storages.journal.JournalFileBackend,file_path:{file}}}}}"
        )
    lines = [f"hydra/sweeper={name}", *(f"hydra.sweeper.{key}={value}" for key, value in settings.items())]
    return lines, int(trials), None if seed is None else int(seed)


Job = tuple[str, ...]

ELSEWHERE = ("seed", "alpha", "plm", "baseline", "fit", "optimizer", "trainer", "logger")
"""Keys that say nothing about which texts and labels are read."""


def not_to_run(jobs: Sequence[Job], hydra: Sequence[str], study: "Study") -> Mapping[int, str]:
    """Return the jobs, by position, whose data or LLM labels are not there, and what they lack, for a partial study.

    Settings are composed and checked once for every value that is swept; then the material of the first job is read,
    without a model. Where that is refused, and so is every other job's, the study is.

    Raises:
        InputError: settings that a job would refuse, or material that no job has.
    """
    problems: dict[str, None] = {}
    for job in _one_of_each(jobs):
        try:
            checked(_composed(job, hydra), multirun=True)
        except InputError as error:
            problems |= dict.fromkeys(error.problems)
    refuse_if_any(problems)
    if not study.partial:
        _refuse_where_all_fail(jobs)
        return {}
    lacking: dict[Job, str | None] = {}
    for job in jobs:
        lacking.setdefault(_material(job), None)
    for job in lacking:
        lacking[job] = _problem(job)
    found = {number: lacking[_material(job)] for number, job in enumerate(jobs)}
    return {number: problem for number, problem in found.items() if problem is not None}


def _refuse_where_all_fail(jobs: Sequence[Job]) -> None:
    """Refuse the study when the first job's material is not there, and no other's either."""
    first = _problem(jobs[0])
    if first is not None and all(_problem(job) for job in dict.fromkeys(_material(one) for one in jobs)):
        raise InputError(first)


def _problem(job: Job) -> str | None:
    """Return what is wrong with a job's material, or None."""
    cfg = _composed(job, ())
    try:
        prepared_for(cfg, checked(cfg, multirun=True))
    except InputError as error:
        return str(error)
    return None


def _material(job: Job) -> Job:
    """Return the overrides of a job that say which texts and labels it trains on."""
    return tuple(one for one in job if one.lstrip("+").partition("=")[0].partition(".")[0] not in ELSEWHERE)


def _one_of_each(jobs: Sequence[Job]) -> Iterator[Job]:
    """Yield jobs such that every override occurs."""
    seen: set[tuple[str, str]] = set()
    for job in jobs:
        new = set(as_mapping(job).items()) - seen
        if new or not seen:
            seen |= new
            yield job


def _composed(job: Job, hydra: Sequence[str]) -> DictConfig:
    """Compose a job's configuration as its process will."""
    cfg = compose("train", overrides=[*hydra, *job], return_hydra_config=True)
    HydraConfig.instance().set_config(cfg)
    with open_dict(cfg):
        del cfg["hydra"]
    return with_baseline(cfg)
