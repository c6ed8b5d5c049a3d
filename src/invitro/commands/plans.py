"""From ``sweep.py``'s command line to a study and the plan of its jobs, checked before anything starts."""

import re
import sys
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, fields, replace
from datetime import datetime
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any
from uuid import uuid4

import yaml
from annotated_types import MinLen
from hydra import compose
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, open_dict

from invitro.commands.common import command_of, first_lines, instantiated, noting, refuse_slurm_if_absent, secrets_in
from invitro.commands.labelling import lack_of
from invitro.commands.settings import ELSEWHERE, Overrides, completed, decides_labels, run_settings, shown_in_splits
from invitro.commands.typed import (
    OWN_FOLDER,
    configured,
    decided_by_rows,
    divided,
    explained,
    expression,
    first_value,
    is_hydra,
    is_sweeper,
    key_of,
    message_of,
    own_folders,
    parsed,
    readable,
    refuse_unwritable,
)
from invitro.errors import InputError, called, command_line, conf_folder, quoted, refuse_if_any
from invitro.settings import Count, checked
from invitro.studies import Study
from invitro.studies.launch import Plan, is_incidental
from invitro.studies.study import FOLD
from invitro.training.multirun import STUDY, as_mapping

GRID = "grid"
"""The study that fits jobs of any kind."""

INFERENCE, WORTH = "inference", "worth"
"""Jobs that ``sweep.py`` does itself, in seconds or minutes: estimates, and learning curves, instead of runs."""

LONGEST_NAME = 70
"""Characters in the name of a study's folder; a hash replaces what does not fit."""


@checked("")
@dataclass(frozen=True)
class SweepSettings:
    """What ``sweep.yaml`` sets besides the study.

    Args:
        report_only: start nothing and report the existing runs.
        runs: the folder below which runs are made; with `report_only` the folder to report.
        directory: the study's folder, or the report's with `report_only`; None names it after the study.
        fail_fast: start no further job after a failure.
        dry_run: only show the plan.
        dashboard: save a W&B workspace for the study.
        resamples: draws of the bootstrap.
        show_ids: whether the report names texts by their ids; what is uploaded never does.
    """

    report_only: bool
    runs: Annotated[str, MinLen(1)]
    directory: str | None
    fail_fast: bool
    dry_run: bool
    dashboard: bool
    resamples: Count
    show_ids: bool


@dataclass(frozen=True)
class SweepRequest:
    """What ``sweep.py`` is asked for.

    Args:
        study: how the results are read.
        root: the folder with the runs.
        report: the folder of the report.
        plan: the jobs to start; None starts nothing.
        settings: all other settings.
        notes: how the plan handles folds and seeds, one line each.
        folders: of the user's own configuration, ``--config-dir``.
    """

    study: Study
    root: Path
    report: Path
    plan: Plan | None
    settings: SweepSettings
    notes: tuple[str, ...] = ()
    folders: tuple[Path, ...] = ()


def request(arguments: Sequence[str]) -> SweepRequest:
    """Read the command line.

    Keys of ``sweep.yaml`` are its own. All others are the jobs' and override those of the study.

    Raises:
        InputError: anything that Hydra, the study or its jobs would refuse.
    """
    _composition.cache_clear()
    flags, words = divided(arguments)
    refuse_if_any(secrets_in(arguments))
    folders = own_folders(flags)
    others = [flag for flag in flags if flag.startswith("-") and flag.partition("=")[0] not in OWN_FOLDER]
    refuse_if_any(
        f"{flag}: expected key=value; sweep.py has only the options --help and --config-dir" for flag in others
    )
    try:
        with configured("sweep", folders):
            keys = {"study", *(field.name for field in fields(SweepSettings))}
            lines = parsed(readable(words))
            sweep_overrides = [line for line in lines if re.split(r"[./@]", line.key_or_group)[0] in keys]
            job_overrides = [line for line in lines if line not in sweep_overrides]
            given = {line.key_or_group for line in sweep_overrides}
            default = (
                [f"study={GRID}"] if "study" not in given and any(key.startswith("study.") for key in given) else []
            )
            cfg = compose("sweep", overrides=[*default, *map(_own_line, sweep_overrides)])
            settings = SweepSettings(**{str(key): value for key, value in cfg.items() if key != "study"})
            if settings.report_only:
                return _report_only(settings, given, cfg, job_overrides)
            if "study" not in given:
                names = [name for folder in [conf_folder(), *folders] for name in first_lines(folder / "study")]
                raise InputError(f"study: expected one of {', '.join(names)}; found none")
            asked = f"{called('sweep')} {command_line(arguments, posix=True)}"
            runs = [f"runs={quoted(settings.runs)}"] if "runs" in given else []
            try:
                launched = _launching(settings, instantiated(cfg.study), job_overrides, runs, asked, folders)
            except HydraException as error:
                raise explained(
                    error, "train", [override for override in job_overrides if not is_hydra(override)]
                ) from error
            refuse_unwritable(launched.root)
            return launched
    except HydraException as error:
        raise InputError(message_of(error)) from error


def _own_line(override: Override) -> str:
    """Return an override of ``sweep.yaml``, written so that it can also set a field that the study's file omits."""
    group, _, name = override.key_or_group.partition(".")
    if group != "study" or not name:
        return str(override.input_line)
    names = [field.name for field in fields(Study)]
    if name.partition(".")[0] not in names:
        raise InputError(f"study.{name}: expected one of {', '.join(names)} after the dot")
    return f"++study.{name}={expression(override)}"


def _report_only(
    settings: SweepSettings, given: Set[str], cfg: DictConfig, job_overrides: Sequence[Override]
) -> SweepRequest:
    """Return the request for a report of existing runs: in the folder ``runs``, or where the study would be."""
    study = instantiated(cfg.study) if any(key.startswith("study") for key in given) else None
    if "runs" in given:
        folder = Path(settings.runs)
        if job_overrides:
            words = " ".join(str(line.input_line) for line in job_overrides)
            raise InputError(f"{words}: nothing is started, so this has no effect; leave it out")
    elif study is not None:
        folder = _directory(settings, study, _merged(study, job_overrides))
    else:
        raise InputError("report_only=true: expected runs=FOLDER, or study=NAME with the settings it was started with")
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder of runs (looked in {Path.cwd()})")
    if study is None and (folder / STUDY).is_file():
        study = Study(**yaml.safe_load((folder / STUDY).read_text("utf-8")))
    elif study is None:
        study = instantiated(compose("sweep", overrides=[f"study={GRID}"]).study)
        study = replace(study, title=f"{study.title}: {folder}")
    report = Path(settings.directory) if settings.directory else folder / "report"
    return SweepRequest(study, folder, report, None, settings)


def _launching(
    settings: SweepSettings,
    study: Study,
    job_overrides: Sequence[Override],
    runs: Sequence[str],
    asked: str,
    folders: Sequence[Path],
) -> SweepRequest:
    """Return the request to launch a study, after its jobs' settings have been checked."""
    by_key = {key_of(override): override for override in [*parsed(study.overrides), *job_overrides]}
    hydra = [override for override in by_key.values() if is_hydra(override)]
    merged = _merged(study, job_overrides)
    directory = _directory(settings, study, merged)
    stamp = f"{datetime.now():%Y-%m-%d_%H-%M-%S}-{uuid4().hex[:6]}"
    ours = study.job == "train"
    added = [*runs] if ours or study.job in (INFERENCE, WORTH) else []
    if ours:
        added += [f"launch={stamp}", f"group={quoted(directory.name)}"]
        added += ["fail_fast=true"] if settings.fail_fast else []
    merged |= {key_of(line): line for line in parsed(added)}
    refuse_if_any(decided_by_rows(merged, job_overrides))
    study, merged, notes = _with_folds_and_seeds(study, merged) if ours and not study.sweeper else (study, merged, [])
    sweeper, trials, seed = _sweeper(study, hydra, directory)
    launcher = [str(override.input_line) for override in hydra if not is_sweeper(override)]
    if "hydra/launcher=submitit_slurm" in launcher:
        refuse_slurm_if_absent()
    jobs = None if study.sweeper else _grid(merged)
    not_run: Mapping[int, str] = {}
    if ours:
        not_run = not_to_run(jobs or (tuple(map(first_value, merged.values())),), [*launcher, *sweeper], study)
    swept = [key for key, override in merged.items() if key in study.params or override.is_sweep_override()]
    factors = (*study.factors, *(key for key in swept if key not in (*study.factors, *study.replicates)))
    study = replace(
        study,
        factors=factors,
        params={key: expression(override) for key, override in merged.items() if key in swept},
        overrides=(
            *(line for line in study.overrides if line.lstrip("+").startswith("hydra")),
            *(str(override.input_line) for key, override in merged.items() if key not in (*swept, "launch", "group")),
        ),
    )
    plan = Plan(
        directory=directory,
        stamp=stamp,
        asked=asked,
        command=(*_job_command(study.job), *(f"--config-dir={folder.absolute()}" for folder in folders)),
        overrides=tuple(str(override.input_line) for override in merged.values()),
        hydra=(*launcher, *sweeper),
        jobs=jobs,
        not_run=not_run,
        trials=trials,
        sampler_seed=seed,
        fail_fast=settings.fail_fast,
        repeat=ours or study.job.endswith(".py"),
    )
    return SweepRequest(study, directory, directory / "report", plan, settings, tuple(notes), tuple(folders))


def _job_command(job: str) -> tuple[str, ...]:
    """Return the command line that starts the jobs of a study, without their overrides; () if the study starts none."""
    if job in (INFERENCE, WORTH):
        return ()
    if not job.endswith(".py"):
        return command_of(job)
    if not Path(job).is_file():
        raise InputError(f"study.job={job}: expected an entry point or a script; there is no {Path(job)}")
    return sys.executable, job


def _with_folds_and_seeds(study: Study, merged: dict[str, Override]) -> tuple[Study, dict[str, Override], list[str]]:
    """Return a study with the folds and the seeds that it needs, its jobs' overrides, and what to tell the user.

    In cross-validation, all folds are run, and are replicates, unless the command line names folds. If all jobs' models
    are fitted in closed form, only the first seed is run.
    """
    notes = []
    jobs = _grid(merged)
    split: dict[str, Any] = dict(_composed(jobs[0]).data.get("split") or {})
    if str(split.get("_target_")).rpartition(".")[2] == "KFold":
        if FOLD not in merged:
            merged = merged | {key_of(override): override for override in parsed([f"{FOLD}=range(0,{split['folds']})"])}
            notes.append(f"{FOLD}: all {split['folds']} folds are run, so that every text is tested once")
        merged = {FOLD: merged[FOLD]} | merged  # the last key varies fastest: runs on the same texts share a lot
        if FOLD not in (*study.replicates, *study.factors):
            study = replace(study, replicates=(FOLD, *study.replicates))
        if not split["grouped"]:
            notes.append(
                "data.split.grouped=false: an author's texts may be in training and in test, as in published folds; "
                "data.split.grouped=true keeps them in one fold"
            )
    seeds = merged.get("seed")
    if seeds is not None and seeds.is_discrete_sweep() and "seed" in study.replicates:
        named = list(seeds.sweep_string_iterator())
        models = {tuple(override for override in job if override.startswith(OF_THE_MODEL)): job for job in jobs}
        if len(named) > 1 and all(_in_closed_form(_composed(job)) for job in models.values()):
            merged = merged | {"seed": parsed([f"seed={named[0]}"])[0]}
            study = replace(study, params={key: value for key, value in study.params.items() if key != "seed"})
            notes.append(f"seed={named[0]} is run for all {len(named)} seeds: these models are fitted in closed form")
    return study, merged, notes


OF_THE_MODEL = ("plm", "baseline", "row", "experiment", "fit")
"""Prefixes of the overrides that decide how a model is fitted."""


def _in_closed_form(cfg: DictConfig) -> bool:
    """Whether a job's model has no seed: it is not trained in steps, and no cross-validation cleans its labels."""
    from invitro.models.settings import in_closed_form

    return in_closed_form(cfg.plm) and cfg.fit.clean == "none"


def _merged(study: Study, job_overrides: Sequence[Override]) -> dict[str, Override]:
    """Return the jobs' overrides by key: the study's, overridden by those of the command line."""
    study_overrides = parsed([*study.overrides, *(f"{key}={value}" for key, value in study.params.items())])
    return {key_of(override): override for override in [*study_overrides, *job_overrides] if not is_hydra(override)}


def _grid(merged: Mapping[str, Override]) -> tuple[Overrides, ...]:
    """Return every job of overrides, some of which are swept."""
    return tuple(map(tuple, BasicSweeper.split_arguments(list(merged.values()), None)[0]))


def _directory(settings: SweepSettings, study: Study, merged: Mapping[str, Override]) -> Path:
    """Return the study's folder: as named, or derived from the study and what the command line changes."""
    if settings.directory:
        return Path(settings.directory)
    study_overrides = [override.input_line for override in parsed(study.overrides)]
    groups = GlobalHydra.instance().config_loader().list_groups("")
    chosen, set_, hidden = [study.name], [], []
    for key, override in merged.items():
        if (
            override.input_line in study_overrides
            or key in study.params
            or is_incidental(key)
            or override.is_sweep_override()
        ):
            continue
        value = expression(override).strip("'\"")
        readable = re.sub(r"[^\w.+-]+", "_", Path(value).stem if "/" in value else value).strip("_")
        hidden += [f"{key}={value}"] * (readable != value)
        if key.partition("/")[0] in groups:
            chosen.append(readable)
        elif not value.startswith(("{", "[")):
            set_.append(f"{key}_{readable}")
    name = "-".join([*chosen, *set_])
    if hidden or len(name) > LONGEST_NAME:
        name = f"{name[:LONGEST_NAME]}-{sha256(' '.join([name, *hidden]).encode()).hexdigest()[:6]}"
    return Path(settings.runs) / "study" / name


def _sweeper(study: Study, hydra: Sequence[Override], directory: Path) -> tuple[list[str], int, int | None]:
    """Return a study's own sweeper as overrides, how many trials it makes, and its seed."""
    given = {
        override.key_or_group.removeprefix("hydra.sweeper."): override for override in hydra if is_sweeper(override)
    }
    if not study.sweeper:
        refuse_if_any(
            f"{override.input_line}: this study's jobs are a grid; a search is study=hparams"
            for override in given.values()
        )
        return [], 0, None
    settings: dict[str, Any] = dict(study.sweeper) | {key: expression(override) for key, override in given.items()}
    name, trials, seed = settings.pop("name"), settings.pop("n_trials", None), settings.pop("sampler.seed", None)
    if not str(trials).isdigit() or not (seed is None or str(seed).isdigit()):
        raise InputError(f"hydra.sweeper: expected whole numbers for n_trials and sampler.seed, found {trials}, {seed}")
    if settings.get("storage") == "journal":
        file, journal = quoted((directory / "trials.log").absolute()), "optuna.storages.journal."
        lock = f"{{_target_:{journal}JournalFileOpenLock,filepath:{file}}}"  # symlinks need rights on Windows
        settings["storage"] = (
            "{_target_:optuna.storages.JournalStorage,log_storage:"
            f"{{_target_:{journal}JournalFileBackend,file_path:{file},lock_obj:{lock}}}}}"
        )
    lines = [f"hydra/sweeper={name}", *(f"hydra.sweeper.{key}={value}" for key, value in settings.items())]
    return lines, int(trials), None if seed is None else int(seed)


def not_to_run(jobs: Sequence[Overrides], hydra: Sequence[str], study: Study) -> Mapping[int, str]:
    """Return what the jobs of a partial study lack, by position: their data, LLM labels or encoder.

    Settings are composed and checked once for every swept value. Then texts and labels are read, without a model; a
    study that is not partial is refused if any labels are missing, or if no job has its texts.

    Raises:
        InputError: settings that a job would refuse; a line for each missing label set, with its price and command;
            labels by prompts that showed texts that a split evaluates on; or missing texts of all jobs.
    """
    problems: list[str] = []
    for job in _one_of_each(jobs):
        with noting(problems):
            run_settings(_composed(job, hydra), multirun=True)
    refuse_if_any(problems)
    refuse_if_any(shown_in_splits(jobs, _composed))
    if not study.partial:
        alike = {tuple(filter(decides_labels, job)): job for job in reversed(jobs)}
        lacks = {job: lack_of(_composed(job), job) for job in reversed(alike.values())}
        refuse_if_any(dict.fromkeys(line for lack in lacks.values() if lack and lack.labels for line in lack.lines))
        others = {_material(job): job for job in reversed(jobs)}.values()
        if all(lacks.values()) and all(lacks.get(job) or lack_of(_composed(job), job) for job in others):
            refuse_if_any(next(lack.lines for lack in lacks.values() if lack))
        return {}
    alike = {_material(job): job for job in reversed(jobs)}  # the first job with the same texts and labels
    lacking = {material: lack_of(_composed(job), job) for material, job in alike.items()}
    by_number = {number: lacking[_material(job)] for number, job in enumerate(jobs)}
    return {number: "\n".join(lack.lines) for number, lack in by_number.items() if lack is not None}


def _material(job: Overrides) -> Overrides:
    """Return the overrides of a job that decide which texts and labels it trains on."""
    return tuple(
        override for override in job if override.lstrip("+").partition("=")[0].partition(".")[0] not in ELSEWHERE
    )


def _one_of_each(jobs: Sequence[Overrides]) -> Iterator[Overrides]:
    """Yield jobs in which every override occurs."""
    seen: set[tuple[str, str]] = set()
    for job in jobs:
        new = set(as_mapping(job).items()) - seen
        if new or not seen:
            seen |= new
            yield job


def _composed(job: Overrides, hydra: Sequence[str] = ()) -> DictConfig:
    """Compose a job's configuration as its process will; checks share it, and none changes it."""
    whole, cfg = _composition(job, tuple(hydra))
    HydraConfig.instance().set_config(whole)
    return cfg


@lru_cache(maxsize=256)
def _composition(job: Overrides, hydra: Overrides) -> tuple[DictConfig, DictConfig]:
    """Return a job's configuration with Hydra's own part, and completed without it. Each request clears the cache."""
    whole = compose("train", overrides=[*hydra, *job], return_hydra_config=True)
    HydraConfig.instance().set_config(whole)
    cfg = whole.copy()
    with open_dict(cfg):
        del cfg["hydra"]
    return whole, completed(cfg)
