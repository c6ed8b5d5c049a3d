"""Score texts with a trained model: ``python predict.py model=RUN_DIR/model input=essays.csv output=scores.csv``."""

import hydra
from omegaconf import DictConfig

from invitro import config


@hydra.main(version_base="1.3", config_path="conf", config_name="predict")
def main(cfg: DictConfig) -> None:
    """Score one file."""
    config.run_predict(cfg)


if __name__ == "__main__":
    main()
