"""From Hydra's configuration to plain arguments; apart from the entry points, the only package that imports Hydra.

Nothing heavy is imported at the top: ``--help``, ``--cfg job`` and tab completion come through here.
"""

from invitro.commands.common import RememberPlace, show_help
from invitro.commands.labelling import label_command, run_label
from invitro.commands.predicting import run_predict
from invitro.commands.studies import sweep_command
from invitro.commands.training import run_train, train_command

__all__ = [
    "RememberPlace",
    "label_command",
    "run_label",
    "run_predict",
    "run_train",
    "show_help",
    "sweep_command",
    "train_command",
]
