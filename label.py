"""Let an LLM score a corpus: ``python label.py llm=llama prompt=scale_aware data=newsemp18``; ``--help`` lists all."""

import sys
from pathlib import Path

import hydra
from omegaconf import DictConfig

from invitro import commands


@hydra.main(version_base="1.3", config_path="conf", config_name="label")
def main(cfg: DictConfig) -> None:
    """Label one corpus, or be a job of a multirun."""
    commands.run_label(cfg)


if __name__ == "__main__" and not commands.show_help("label", sys.argv[1:], Path(__file__).resolve().parent):
    commands.label_command(main)
