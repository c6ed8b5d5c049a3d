"""Train one model: ``python train.py plm=deberta application=both alpha=4.0``; ``--help`` lists every choice."""

import sys
from pathlib import Path

import hydra
from omegaconf import DictConfig

from invitro import commands


@hydra.main(version_base="1.3", config_path="conf", config_name="train")
def main(cfg: DictConfig) -> float | None:
    """Run one training, or a job of a multirun; return its validation CCC, which an optimiser can maximise."""
    return commands.run_train(cfg)


if __name__ == "__main__" and not commands.show_help("train", sys.argv[1:], Path(__file__).resolve().parent):
    commands.train_command(main)
