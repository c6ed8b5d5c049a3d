"""What a run is asked to do, and where; what it comes to."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from invitro.models import PLM, EmbeddingRidge, TfIdfRidge
from invitro.training.settings import Fit

if TYPE_CHECKING:
    import lightning as L
    from torch import Tensor
    from torch.optim import Optimizer

    from invitro.models.card import CardFacts
    from invitro.models.outputs import Scored


@dataclass(frozen=True)
class Recipe:
    """How a model is trained, whatever the data.

    Args:
        plm: the encoder, or a floor: ridge regression, to which the optimiser and most of `fit` mean nothing.
        fit: the course of training.
        optimizer: makes the optimiser from the trained parameters.
        trainer: makes the Lightning trainer; precision, accelerator and strategy are its.
        settings: plain values of `optimizer` and `trainer`, for the fingerprint.
        seed: of weights, dropout and batches.
    """

    plm: PLM | TfIdfRidge | EmbeddingRidge
    fit: Fit
    optimizer: "Callable[[Iterable[Tensor]], Optimizer]"
    trainer: "Callable[..., L.Trainer]"
    settings: Mapping[str, Any]
    seed: int


@dataclass(frozen=True)
class Place:
    """Where a run reads and writes.

    Args:
        directory: the run's directory.
        cache: for features of frozen encoders; None keeps none.
        save_model: whether ``model/`` is written.
        resume: a checkpoint to continue from.
        keep_checkpoints: whether ``checkpoints/`` stays after the run.
    """

    directory: Path
    cache: Path | None = None
    save_model: bool = True
    resume: Path | None = None
    keep_checkpoints: bool = False


@dataclass(frozen=True)
class Trained:
    """A trained model of any kind.

    Args:
        predicted: what it predicts for val and test.
        save: writes its folder, with the facts that the model card tells.
        counts: numbers for the record, such as ``epochs``.
        records: whether this process is the one that writes the record.
        device: what it was trained on: ``cpu``, or a GPU's name.
    """

    predicted: "Sequence[Scored]"
    save: "Callable[[Path, CardFacts], None]"
    counts: Mapping[str, int]
    records: bool = True
    device: str = "cpu"


@dataclass(frozen=True)
class Result:
    """What a run came to: the content of ``metrics.json``, and its predictions."""

    metrics: dict[str, Any]
    predictions: pd.DataFrame
