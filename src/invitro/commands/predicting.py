"""``predict.py``: score a file with a trained model, or a shared task's test set for a submission."""

import os
import sys

from omegaconf import DictConfig, OmegaConf

from invitro.commands.common import REFUSED, Stopped, instantiated, missing, stoppable
from invitro.errors import InputError, refuse_if_any

SUBMITTED = ("submission", "data", "distress_model", "missing")
"""Settings for submissions only."""


def run_predict(cfg: DictConfig) -> None:
    """Score one file and print the summary.

    Input that cannot be used ends the process with status `REFUSED`; a disk that cannot be written, with status 1.
    """
    try:
        with stoppable():
            if cfg.submission is None:
                _score(cfg)
            else:
                _submit(cfg)
    except Stopped:
        print("Stopped. Nothing was written; run the same command again", file=sys.stderr)
        raise
    except InputError as error:
        print(f"{error}\nNothing was scored.", file=sys.stderr)
        sys.exit(REFUSED)
    except OSError as error:  # a full or protected disk
        print(f"Nothing was scored: {error.strerror}: {error.filename!r}", file=sys.stderr)
        sys.exit(1)


def _score(cfg: DictConfig) -> None:
    """Score a file."""
    defaults = {"data": None, "distress_model": None, "missing": "refuse"}
    problems = [
        f"{name}: is for submissions only; name the file to write by submission=predictions.zip"
        for name, value in defaults.items()
        if cfg.get(name) != value
    ]
    if not OmegaConf.is_missing(cfg, "model") and cfg.model is None:
        problems.append("model: expected the folder model/ of a run, found null")
    refuse_if_any([*missing(cfg), *problems])
    job = instantiated(OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key not in SUBMITTED]))
    from invitro.models.scoring import predict

    print(f"{predict(job)}\nScores: {job.output}")


def _submit(cfg: DictConfig) -> None:
    """Score a shared task's test set; texts without a prediction are reported on stderr."""
    from invitro.models.submission import Submission, submit

    given = [name for name in ("input", "output", "score") if not OmegaConf.is_missing(cfg, name) and cfg[name]]
    refuse_if_any(f"{name}: is for files; a submission scores the test set of data=" for name in given)
    data = cfg.data or {}
    job = Submission(
        submission=cfg.submission,
        corpus=data.get("name"),
        folder=data.get("folder") or os.environ.get("INVITRO_DATA_DIR"),
        model=None if OmegaConf.is_missing(cfg, "model") else cfg.model,
        distress_model=cfg.distress_model,
        missing=cfg.missing,
        clip=cfg.clip,
        batch_size=cfg.batch_size,
        device=cfg.device,
        force=cfg.force,
    )
    done = submit(job)
    print(done)
    for warning in done.warnings:
        print(f"WARNING: {warning}", file=sys.stderr)
    print(f"Submission: {done.path}")
