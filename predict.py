"""Score texts with a trained model: ``python predict.py model=RUN_DIR/model input=essays.csv output=scores.csv``.

A shared task's test set for a submission: ``python predict.py submission=predictions.zip data=newsemp22
model=RUN_DIR/model distress_model=RUN_DIR2/model``.
"""

import sys
from pathlib import Path

import hydra
from omegaconf import DictConfig

from invitro import commands


@hydra.main(version_base="1.3", config_path="conf", config_name="predict")
def main(cfg: DictConfig) -> None:
    """Score one file, or one test set."""
    commands.run_predict(cfg)


if __name__ == "__main__" and not commands.show_help("predict", sys.argv[1:], Path(__file__).resolve().parent):
    main()
