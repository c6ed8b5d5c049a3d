"""``sweep.py study=inference``: estimates with guarantees, made in this process because they take seconds."""

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
    from invitro.studies.inference import Inference


def infer_command(asked: "SweepRequest", home: Path) -> Path:
    """Make the estimates of every job of a study, and return the path of the report.

    The settings of all jobs are checked before the first corpus is read.

    Raises:
        InputError: settings, data or labels that cannot be used; launchers, which have nothing to launch.
    """
    if asked.plan is None or asked.plan.jobs is None:
        raise InputError("report_only=true: estimates leave no runs; the study's command makes its report in seconds")
    refuse_if_any(f"{one}: estimates are made in this process; leave it out" for one in asked.plan.hydra)
    from invitro.data import DataFolder
    from invitro.files import write_json
    from invitro.studies.inference import infer, inference_data
    from invitro.studies.report.inference import Estimated, write_inference

    jobs = asked.plan.jobs
    configurations = _composed(jobs, home)
    settings = [_checked(cfg) for cfg in configurations]
    overrides = [as_mapping(job) for job in jobs]
    factors = tuple(key for key in overrides[0] if len({one.get(key) for one in overrides}) > 1)
    tables, inputs = [], []
    for values, cfg, one in zip(overrides, configurations, settings, strict=True):
        data = inference_data(
            reader=instantiated(cfg.data),
            scale=instantiated(cfg.scale),
            source=instantiated(cfg.llm),
            prompt=cfg.prompt.name,
            folder=DataFolder(cfg.data.get("folder") or os.environ.get("INVITRO_DATA_DIR")),
            covariate=one.covariate,
        )
        rows = infer(data, one, cfg.seed).assign(**{name: values.get(name) for name in factors})
        tables.append(rows[[*factors, *rows.columns.difference(list(factors), sort=False)]])
        inputs.append(data)
    write_json(asked.root / STUDY, asdict(asked.study))
    estimated = Estimated(pd.concat(tables, ignore_index=True), factors, inputs, asked.plan.asked)
    return write_inference(asked.study, estimated, asked.report)


def _composed(jobs: Sequence[Sequence[str]], home: Path) -> list[DictConfig]:
    try:
        with initialize_config_dir(str(home / "conf"), version_base="1.3", job_name="inference"):
            return [compose("inference", overrides=list(job)) for job in jobs]
    except HydraException as error:
        raise InputError(message_of(error)) from error


def _checked(cfg: DictConfig) -> "Inference":
    """Return what is to be estimated, or report everything that is wrong with the settings in one error."""
    from invitro.training.recipe import Seeded

    refuse_if_any(missing(cfg))
    problems: list[str] = []
    settings = {}
    makers: dict[str, Callable[[], Any]] = {"seed": partial(Seeded, cfg.seed)}
    makers |= {name: partial(instantiated, cfg[name]) for name in ("data", "scale", "llm", "inference")}
    for name, make in makers.items():
        try:
            settings[name] = make()
        except InputError as error:
            problems += error.problems
    refuse_if_any(problems)
    inference: Inference = settings["inference"]
    return inference
