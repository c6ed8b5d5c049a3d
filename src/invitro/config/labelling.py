"""``label.py``: one labelling job, or the jobs of a multirun."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from invitro.config.common import REFUSED, RememberPlace, instantiated, plain, remove_if_fresh
from invitro.errors import InputError, refuse_if_any


def run_label(cfg: DictConfig) -> None:
    """Label one corpus and print the report; a job of a multirun records its own failure."""
    hydra = HydraConfig.get()
    directory, multirun = Path(hydra.runtime.output_dir), hydra.mode == RunMode.MULTIRUN
    from invitro.labelling.command import carry_out, leave_error
    from invitro.labelling.job import EngineError

    try:
        print("\n".join(carry_out(_labelling(cfg), cfg.dry_run, directory)))
    except (InputError, EngineError) as error:
        if multirun:
            leave_error(directory, error)
            return
        refused = isinstance(error, InputError)
        remove_if_fresh(directory, {".hydra", f"{hydra.job.name}.log"})
        print(f"{error}\n" + "Nothing was asked." * refused, file=sys.stderr)
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


def _labelling(cfg: DictConfig) -> Any:
    """Instantiate what `label.py` works with, and report everything that is wrong with the settings in one error."""
    from invitro.labelling import Readout
    from invitro.labelling.command import setting_problems
    from invitro.labelling.labeller import Labelling

    problems = list(setting_problems(cfg.llm.name, cfg.llm.engine, cfg.readout, cfg.dry_run))
    settings = plain(cfg.sampling)
    data = cfg.data.copy()
    if "split" in data and not cfg.prompt.get("shots"):
        # All texts are labelled, whatever their split: a corpus too small to be divided can be labelled too.
        data.split = {"_target_": "invitro.data.Undivided"}
    for name, node in {"reader": data, "scale": cfg.scale, "prompt": cfg.prompt, "engine": cfg.llm.engine}.items():
        try:
            settings[name] = instantiated(node) if node else None
        except InputError as error:
            problems += error.problems
    refuse_if_any(problems)
    return Labelling(
        **settings | {name: cfg[name] for name in ("samples", "limit", "export", "progress", "merge", "reparse")},
        llm=cfg.llm.name,
        readout=Readout(cfg.readout),
        store=Path(cfg.store),
        merges_digits=cfg.llm.merges_digits,
    )
