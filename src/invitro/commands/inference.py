"""``sweep.py study=inference``: estimates with guarantees, made in this process, since they take seconds."""

import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import DictConfig

from invitro.commands.common import instantiated, missing
from invitro.commands.overrides import message_of
from invitro.errors import InputError, refuse_if_any
from invitro.training.multirun import STUDY, as_mapping

if TYPE_CHECKING:
    from invitro.commands.plans import SweepRequest
    from invitro.studies.inference import Inference, InferenceData

Job = Sequence[str]


def infer_command(asked: "SweepRequest", home: Path) -> Path:
    """Make the estimates of every job of a study, and return the path of the report.

    All jobs' settings are looked at before the first corpus is read.

    Raises:
        InputError: settings, data or labels that cannot be used; launchers, which have nothing to launch.
    """
    if asked.plan is None or asked.plan.jobs is None:
        raise InputError("report_only=true: estimates leave no runs; the study's own line makes its report, in seconds")
    refuse_if_any(f"{one}: estimates are made in this process; leave it out" for one in asked.plan.hydra)
    from invitro.files import write_json
    from invitro.studies.report.inference import Estimated, write_inference

    jobs = asked.plan.jobs
    configurations = _composed(jobs, home)
    settings = [_checked(cfg) for cfg in configurations]
    factors = _differing(jobs)
    tables, found = [], []
    for job, cfg, one in zip(jobs, configurations, settings, strict=True):
        material, rows = _inferred(cfg, one)
        values = as_mapping(job)
        rows = rows.assign(**{name: values.get(name) for name in factors})
        tables.append(rows[[*factors, *(name for name in rows if name not in factors)]])
        found.append(material)
    write_json(asked.root / STUDY, asdict(asked.study))
    estimated = Estimated(pd.concat(tables, ignore_index=True), factors, found, asked.plan.asked)
    return write_inference(asked.study, estimated, asked.report)


def _composed(jobs: Sequence[Job], home: Path) -> list[DictConfig]:
    try:
        with initialize_config_dir(str(home / "conf"), version_base="1.3", job_name="inference"):
            return [compose("inference", overrides=list(job)) for job in jobs]
    except HydraException as error:
        raise InputError(message_of(error)) from error


def _checked(cfg: DictConfig) -> "Inference":
    """Return what is to be estimated, or report everything that is wrong with the settings in one error."""
    from invitro.training.recipe import seed_problem

    refuse_if_any(missing(cfg))
    problems = [problem for problem in (seed_problem(cfg.seed),) if problem]
    for name in ("data", "scale", "llm"):
        try:
            instantiated(cfg[name])
        except InputError as error:
            problems += error.problems
    try:
        settings: Inference = instantiated(cfg.inference)
    except InputError as error:
        raise InputError(*problems, *error.problems) from None
    refuse_if_any(problems)
    return settings


def _inferred(cfg: DictConfig, settings: "Inference") -> "tuple[InferenceData, pd.DataFrame]":
    """Read a job's material and make its estimates."""
    from invitro.data import DataFolder
    from invitro.studies.inference import infer, material

    found = material(
        reader=instantiated(cfg.data),
        scale=instantiated(cfg.scale),
        source=instantiated(cfg.llm),
        prompt=cfg.prompt.name,
        folder=DataFolder(cfg.data.get("folder") or os.environ.get("INVITRO_DATA_DIR")),
        covariate=settings.covariate,
    )
    return found, infer(found, settings, cfg.seed)


def _differing(jobs: Sequence[Job]) -> tuple[str, ...]:
    """Return the keys in which jobs differ, in the order of the command line."""
    every = [as_mapping(job) for job in jobs]
    return tuple(key for key in every[0] if len({one.get(key) for one in every}) > 1)
