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
        directory: the study's folder, or the report's with `report_only`; None where it is named by the study.
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
        settings: all others.
        notes: what the plan makes of folds and seeds, a line each.
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

    Keys of ``sweep.yaml`` are its own. All others are the jobs' and replace what the study sets.

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
            own = [line for line in lines if re.split(r"[./@]", line.key_or_group)[0] in keys]
            passed = [line for line in lines if line not in own]
            given = {line.key_or_group for line in own}
            default = (
                [f"study={GRID}"] if "study" not in given and any(key.startswith("study.") for key in given) else []
            )
            cfg = compose("sweep", overrides=[*default, *map(_own_line, own)])
            settings = SweepSettings(**{str(key): value for key, value in cfg.items() if key != "study"})
            if settings.report_only:
                return _report_only(settings, given, cfg, passed)
            if "study" not in given:
                known = [name for folder in [conf_folder(), *folders] for name in first_lines(folder / "study")]
                raise InputError(f"study: expected one of {', '.join(known)}; found none")
            asked = f"{called('sweep')} {command_line(arguments, posix=True)}"
            runs = [f"runs={quoted(settings.runs)}"] if "runs" in given else []
            try:
                launched = _launching(settings, instantiated(cfg.study), passed, runs, asked, folders)
            except HydraException as error:
                raise explained(error, "train", [one for one in passed if not is_hydra(one)]) from error
            refuse_unwritable(launched.root)
            return launched
    except HydraException as error:
        raise InputError(message_of(error)) from error


def _own_line(one: Override) -> str:
    """Return an override of ``sweep.yaml`` so that it may also set a field that the study's file leaves out."""
    group, _, name = one.key_or_group.partition(".")
    if group != "study" or not name:
        return str(one.input_line)
    known = [field.name for field in fields(Study)]
    if name.partition(".")[0] not in known:
        raise InputError(f"study.{name}: expected one of {', '.join(known)} after the point")
    return f"++study.{name}={expression(one)}"


def _report_only(settings: SweepSettings, given: Set[str], cfg: DictConfig, passed: Sequence[Override]) -> SweepRequest:
    """Return the request for a report of existing runs: in the folder ``runs``, or where the study would be."""
    study = instantiated(cfg.study) if any(key.startswith("study") for key in given) else None
    if "runs" in given:
        at = Path(settings.runs)
        if passed:
            words = " ".join(str(line.input_line) for line in passed)
            raise InputError(f"{words}: nothing is started, so this has no effect; leave it out")
    elif study is not None:
        at = _directory(settings, study, _merged(study, passed))
    else:
        raise InputError("report_only=true: expected runs=FOLDER, or study=NAME with the settings it was started with")
    if not at.is_dir():
        raise InputError(f"{at}: no such folder of runs (looked in {Path.cwd()})")
    if study is None and (at / STUDY).is_file():
        study = Study(**yaml.safe_load((at / STUDY).read_text("utf-8")))
    elif study is None:
        study = instantiated(compose("sweep", overrides=[f"study={GRID}"]).study)
        study = replace(study, title=f"{study.title}: {at}")
    report = Path(settings.directory) if settings.directory else at / "report"
    return SweepRequest(study, at, report, None, settings)


def _launching(
    settings: SweepSettings,
    study: Study,
    passed: Sequence[Override],
    runs: Sequence[str],
    asked: str,
    folders: Sequence[Path],
) -> SweepRequest:
    """Return the request to launch a study, after its jobs' settings have been checked."""
    hydra = list({key_of(one): one for one in [*parsed(study.overrides), *passed] if is_hydra(one)}.values())
    merged = _merged(study, passed)
    directory = _directory(settings, study, merged)
    stamp = f"{datetime.now():%Y-%m-%d_%H-%M-%S}-{uuid4().hex[:6]}"
    ours = study.job == "train"
    added = [*runs] if ours or study.job in (INFERENCE, WORTH) else []
    if ours:
        added += [f"launch={stamp}", f"group={quoted(directory.name)}"]
        added += ["fail_fast=true"] if settings.fail_fast else []
    merged |= {key_of(line): line for line in parsed(added)}
    refuse_if_any(decided_by_rows(merged, passed))
    study, merged, notes = _with_folds_and_seeds(study, merged) if ours and not study.sweeper else (study, merged, [])
    sweeper, trials, seed = _sweeper(study, hydra, directory)
    launcher = [str(one.input_line) for one in hydra if not is_sweeper(one)]
    if "hydra/launcher=submitit_slurm" in launcher:
        refuse_slurm_if_absent()
    jobs = None if study.sweeper else _grid(merged)
    not_run: Mapping[int, str] = {}
    if ours:
        not_run = not_to_run(jobs or (tuple(map(first_value, merged.values())),), [*launcher, *sweeper], study)
    swept = [key for key, one in merged.items() if key in study.params or one.is_sweep_override()]
    factors = (*study.factors, *(key for key in swept if key not in (*study.factors, *study.replicates)))
    study = replace(
        study,
        factors=factors,
        params={key: expression(one) for key, one in merged.items() if key in swept},
        overrides=(
            *(line for line in study.overrides if line.lstrip("+").startswith("hydra")),
            *(str(one.input_line) for key, one in merged.items() if key not in (*swept, "launch", "group")),
        ),
    )
    plan = Plan(
        directory=directory,
        stamp=stamp,
        asked=asked,
        command=(*_job_command(study.job), *(f"--config-dir={folder.absolute()}" for folder in folders)),
        overrides=tuple(str(one.input_line) for one in merged.values()),
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
    """Return the command line that starts the jobs of a study, up to their overrides; () for those without any."""
    if job in (INFERENCE, WORTH):
        return ()
    if not job.endswith(".py"):
        return command_of(job)
    if not Path(job).is_file():
        raise InputError(f"study.job={job}: expected an entry point or a script; there is no {Path(job)}")
    return sys.executable, job


def _with_folds_and_seeds(study: Study, merged: dict[str, Override]) -> tuple[Study, dict[str, Override], list[str]]:
    """Return a study with the folds and the seeds that it needs, its jobs' overrides, and what to tell the user.

    With a cross-validation all folds are run, and are replicates, unless the command line names folds. Where all jobs'
    models are fitted in closed form, the first seed stands for all.
    """
    notes = []
    every = _grid(merged)
    split: dict[str, Any] = dict(_composed(every[0]).data.get("split") or {})
    if str(split.get("_target_")).rpartition(".")[2] == "KFold":
        if FOLD not in merged:
            merged = merged | {key_of(one): one for one in parsed([f"{FOLD}=range(0,{split['folds']})"])}
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
        models = {tuple(one for one in job if one.startswith(OF_THE_MODEL)): job for job in every}
        if len(named) > 1 and all(_in_closed_form(_composed(job)) for job in models.values()):
            merged = merged | {"seed": parsed([f"seed={named[0]}"])[0]}
            study = replace(study, params={key: value for key, value in study.params.items() if key != "seed"})
            notes.append(f"seed={named[0]} stands for all {len(named)} seeds: these models are fitted in closed form")
    return study, merged, notes


OF_THE_MODEL = ("plm", "baseline", "row", "experiment", "fit")
"""What the overrides begin with that decide how a model is fitted."""


def _in_closed_form(cfg: DictConfig) -> bool:
    """Whether a job's model has no seed: it is not trained in steps, and no cross-validation cleans its labels."""
    from invitro.models.settings import in_closed_form

    return in_closed_form(cfg.plm) and cfg.fit.clean == "none"


def _merged(study: Study, passed: Sequence[Override]) -> dict[str, Override]:
    """Return the jobs' overrides by key: the study's, overridden by those of the command line."""
    own = parsed([*study.overrides, *(f"{key}={value}" for key, value in study.params.items())])
    return {key_of(one): one for one in [*own, *passed] if not is_hydra(one)}


def _grid(merged: Mapping[str, Override]) -> tuple[Overrides, ...]:
    """Return every job of overrides of which some are swept."""
    return tuple(map(tuple, BasicSweeper.split_arguments(list(merged.values()), None)[0]))


def _directory(settings: SweepSettings, study: Study, merged: Mapping[str, Override]) -> Path:
    """Return the study's folder: named, or derived from the study and what the command line sets differently."""
    if settings.directory:
        return Path(settings.directory)
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
    return Path(settings.runs) / "study" / name


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
        file, journal = quoted((directory / "trials.log").absolute()), "optuna.storages.journal."
        lock = f"{{_target_:{journal}JournalFileOpenLock,filepath:{file}}}"  # symlinks need rights on Windows
        settings["storage"] = (
            "{_target_:optuna.storages.JournalStorage,log_storage:"
            f"{{_target_:{journal}JournalFileBackend,file_path:{file},lock_obj:{lock}}}}}"
        )
    lines = [f"hydra/sweeper={name}", *(f"hydra.sweeper.{key}={value}" for key, value in settings.items())]
    return lines, int(trials), None if seed is None else int(seed)


def not_to_run(jobs: Sequence[Overrides], hydra: Sequence[str], study: Study) -> Mapping[int, str]:
    """Return by position the jobs of a partial study whose data, LLM labels or encoder are missing, and what they lack.

    Settings are composed and checked once for every value that is swept. Then texts and labels are read, without a
    model; a study that is not partial is refused where any labels are missing, or the texts of all jobs.

    Raises:
        InputError: settings that a job would refuse; a line for each missing label set, with its price and command;
            labels by prompts that showed what a split evaluates on; or texts that no job has.
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
        refuse_if_any(dict.fromkeys(line for one in lacks.values() if one and one.labels for line in one.lines))
        others = {_material(job): job for job in reversed(jobs)}.values()
        if all(lacks.values()) and all(lacks.get(job) or lack_of(_composed(job), job) for job in others):
            refuse_if_any(next(one.lines for one in lacks.values() if one))
        return {}
    alike = {_material(job): job for job in reversed(jobs)}  # the first of those with the same texts and labels
    lacking = {material: lack_of(_composed(job), job) for material, job in alike.items()}
    found = {number: lacking[_material(job)] for number, job in enumerate(jobs)}
    return {number: "\n".join(one.lines) for number, one in found.items() if one is not None}


def _material(job: Overrides) -> Overrides:
    """Return the overrides of a job that decide which texts and labels it trains on."""
    return tuple(one for one in job if one.lstrip("+").partition("=")[0].partition(".")[0] not in ELSEWHERE)


def _one_of_each(jobs: Sequence[Overrides]) -> Iterator[Overrides]:
    """Yield jobs such that every override occurs."""
    seen: set[tuple[str, str]] = set()
    for job in jobs:
        new = set(as_mapping(job).items()) - seen
        if new or not seen:
            seen |= new
            yield job


def _composed(job: Overrides, hydra: Sequence[str] = ()) -> DictConfig:
    """Compose a job's configuration as its process will; several checks read the same one, which none changes."""
    whole, cfg = _composition(job, tuple(hydra))
    HydraConfig.instance().set_config(whole)
    return cfg


@lru_cache(maxsize=256)
def _composition(job: Overrides, hydra: Overrides) -> tuple[DictConfig, DictConfig]:
    """Return a job's configuration with Hydra's own part, and completed without it. Each request begins with none."""
    whole = compose("train", overrides=[*hydra, *job], return_hydra_config=True)
    HydraConfig.instance().set_config(whole)
    cfg = whole.copy()
    with open_dict(cfg):
        del cfg["hydra"]
    return whole, completed(cfg)
