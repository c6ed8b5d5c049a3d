"""From Hydra's configuration to plain arguments; the only package that imports Hydra.

The entry points are the scripts of a checkout, and the commands ``invitro-train`` etc. of an installed invitro. Nothing
heavy is imported at the top, so that ``--help``, ``--cfg job`` and tab completion are fast.
"""

import sys
from collections.abc import Callable
from typing import Any

import hydra
from omegaconf import DictConfig

from invitro.commands.labelling import label_command, run_label
from invitro.commands.predicting import run_describe, run_predict
from invitro.commands.studies import sweep_command
from invitro.commands.training import run_train, train_command
from invitro.commands.typed import begins, speak_unicode
from invitro.errors import conf_folder


def train() -> None:
    """Train one model, or those of a multirun; a job returns its validation CCC, which an optimiser can maximise."""
    if begins("train", sys.argv):
        train_command(_main("train", run_train))


def describe() -> None:
    """Look at a corpus before training."""
    if begins("describe", sys.argv):
        _main("describe", run_describe)()


def label() -> None:
    """Let an LLM score a corpus, or compare the scores of several."""
    if begins("label", sys.argv):
        label_command(_main("label", run_label))


def sweep() -> None:
    """Run a study and report it."""
    speak_unicode()
    sweep_command(sys.argv[1:])


def predict() -> None:
    """Score a file of texts, or a shared task's test set."""
    if begins("predict", sys.argv):
        _main("predict", run_predict)()


def _main(config: str, job: Callable[[DictConfig], Any]) -> Callable[[], None]:
    main: Callable[[], None] = hydra.main(version_base="1.3", config_path=str(conf_folder()), config_name=config)(job)
    return main
