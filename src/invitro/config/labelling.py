"""``label.py``: one labelling job, the prompt check, the reliability report, or the jobs of a multirun."""

import logging
import os
import shlex
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from invitro.config.common import REFUSED, RememberPlace, instantiated, missing, plain, remove_if_fresh
from invitro.errors import InputError, not_boolean, refuse_if_any

log = logging.getLogger(__name__)

BOOLEANS = ("dry_run", "report", "reparse")
SHARED = ("samples", "limit", "limit_seed", "export", "progress", "merge", "reparse")
"""Settings that reach `invitro.labelling.labeller.Labelling` as they are."""


def _choices(*groups: str) -> str:
    """Return the choices of config groups, one line a group, for the help."""
    loader = GlobalHydra.instance().config_loader()
    return "\n".join(f"{group}: {', '.join(loader.get_group_options(group))}" for group in groups)


OmegaConf.register_new_resolver("choices", _choices, replace=True)


def run_label(cfg: DictConfig) -> None:
    """Label one corpus, check prompts or compare label sets, and print what came out.

    A job of a multirun records its own failure.
    """
    hydra = HydraConfig.get()
    directory, multirun = Path(hydra.runtime.output_dir), hydra.mode == RunMode.MULTIRUN
    from invitro.labelling.command import leave_error
    from invitro.labelling.job import EngineError

    try:
        print("\n".join(_carried_out(cfg, directory)))
    except (InputError, EngineError) as error:
        if multirun:
            leave_error(directory, error)
            return
        refused = isinstance(error, InputError)
        remove_if_fresh(directory, {".hydra", f"{hydra.job.name}.log"})
        print(f"{error}\n" + "Nothing was labelled." * (refused and not cfg.report), file=sys.stderr)
        sys.exit(REFUSED if refused else 1)


def label_command(main: Callable[[], None]) -> None:
    """Run ``label.py``; after a multirun, show its label sets side by side and let the exit status tell of failures."""
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("\nStopped. Every answer so far is stored; the same line goes on from here")
    if RememberPlace.sweep is None:
        return
    from invitro.labelling.command import show_sweep

    if not show_sweep(RememberPlace.sweep):
        sys.exit(1)


def _carried_out(cfg: DictConfig, directory: Path) -> list[str]:
    """Do what the settings ask for, and return what is to be printed."""
    refuse_if_any([*missing(cfg), *not_boolean(**{name: cfg[name] for name in BOOLEANS}), *_contradictions(cfg)])
    if cfg.report:
        return _reported(cfg, directory)
    from invitro.labelling.command import carry_out, carry_out_check

    if cfg.check:
        prompts = {str(role): prompt for role, prompt in cfg.check.items() if prompt}
        return carry_out_check(_labellings(cfg, prompts), cfg.dry_run, directory)
    return carry_out(_labellings(cfg, {"": cfg.prompt})[""], cfg.dry_run, directory)


def _contradictions(cfg: DictConfig) -> list[str]:
    """Return a problem for every two settings that cannot both be meant."""
    problems = []
    given = [word for word in HydraConfig.get().overrides.task if word.startswith("prompt=")]
    if cfg.check and given:
        names = ", ".join(prompt.name for prompt in cfg.check.values() if prompt)
        problems.append(
            f"{given[0]}: the check compares {names}; to check this one, say prompt@check.items={given[0][7:]}, or "
            "prompt@check.overall= for a prompt that asks for one score"
        )
    if cfg.check and cfg.export:
        problems.append("export: the check makes several label sets; export one of them by a run with its prompt")
    if cfg.report and (cfg.check or cfg.dry_run):
        problems.append("report=true compares labels that are there and asks nobody; leave dry_run and the check out")
    return problems


def _labellings(cfg: DictConfig, prompts: Mapping[str, DictConfig]) -> dict[str, Any]:
    """Instantiate what `label.py` works with, and report everything that is wrong with the settings in one error.

    Args:
        cfg: the configuration.
        prompts: by role; all are asked of one engine.
    """
    from invitro.labelling import Readout
    from invitro.labelling.command import setting_problems
    from invitro.labelling.labeller import Labelling

    problems = list(setting_problems(cfg.llm.name, cfg.llm.engine, cfg.readout, cfg.dry_run))
    settings = plain(cfg.sampling)
    shots = any(prompt.get("shots") for prompt in prompts.values())
    engine = cfg.llm.engine and (cfg.get("cluster") or cfg.llm.engine)  # a cluster's engine holds the LLM's
    nodes = {"reader": _data(cfg, whole=not shots), "scale": cfg.scale, "engine": engine}
    for name, node in (nodes | dict(prompts)).items():
        try:
            settings[name] = instantiated(node) if node else None
        except InputError as error:
            problems += error.problems
    refuse_if_any(problems)
    settings |= {name: cfg[name] for name in SHARED}
    settings |= {"llm": cfg.llm.name, "readout": Readout(cfg.readout), "store": Path(cfg.store)}
    asked = {role: settings.pop(role) for role in prompts}
    found = {}
    for role, prompt in asked.items():
        try:
            found[role] = Labelling(**settings, prompt=prompt, merges_digits=cfg.llm.merges_digits)
        except InputError as error:
            problems += [problem for problem in error.problems if problem not in problems]
    refuse_if_any(problems)
    return found


def _reported(cfg: DictConfig, directory: Path) -> list[str]:
    """Compare the labels that are there; the LLM's engine is not even instantiated."""
    from invitro.data import DataFolder
    from invitro.labelling.command import report
    from invitro.labelling.gathering import NoLabelsError
    from invitro.labels import LabelSource

    for word in HydraConfig.get().overrides.task:
        if word.startswith(("llm=", "prompt=")):
            log.warning("%s leaves no label set out of the report; raters=[NAME, ...] does", word)
    own = None
    if cfg.llm.get("labels") or cfg.llm.get("column"):
        own = LabelSource(
            cfg.llm.name, labels=cfg.llm.get("labels"), column=cfg.llm.get("column"), columns=plain(cfg.llm.columns)
        )
    reader, scale = instantiated(_data(cfg, whole=True)), instantiated(cfg.scale)
    folder = DataFolder(cfg.data.get("folder") or os.environ.get("INVITRO_DATA_DIR"))
    raters = [cfg.raters] if isinstance(cfg.raters, str) else cfg.raters and list(map(str, cfg.raters))
    try:
        return report(reader, scale, Path(cfg.store), folder, directory, own, raters, cfg.limit, cfg.limit_seed)
    except NoLabelsError as error:
        raise InputError(*error.problems, f"To make some: {_line(cfg)}") from error


def _data(cfg: DictConfig, whole: bool) -> DictConfig:
    """Return the reader's configuration; with `whole`, a corpus too small to be divided can be read too."""
    data: DictConfig = cfg.data.copy()
    if whole and "split" in data:
        data.split = {"_target_": "invitro.data.Undivided"}
    return data


def _line(cfg: DictConfig) -> str:
    """Return the command that would make labels of this corpus on this scale."""
    given = [word for word in HydraConfig.get().overrides.task if word.partition("=")[0] not in ("report", "raters")]
    llm = [] if any(word.startswith("llm=") for word in given) else ["llm=llama"]
    return shlex.join(["python", "label.py", *llm, *given])
