"""``predict.py``: score a file with a trained model."""

import sys

from omegaconf import DictConfig

from invitro.config.common import REFUSED, instantiated, missing
from invitro.errors import InputError, refuse_if_any


def run_predict(cfg: DictConfig) -> None:
    """Score one file and print the summary; input that cannot be used ends the process with status `REFUSED`."""
    try:
        refuse_if_any(missing(cfg))
        job = instantiated(cfg)
        from invitro.models.predict import predict

        summary = predict(job)
    except InputError as error:
        print(f"{error}\nNothing was scored.", file=sys.stderr)
        sys.exit(REFUSED)
    print(f"{summary}\nScores: {job.output}")
