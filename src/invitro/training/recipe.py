"""How a model is trained: settings that check themselves before anything loads."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd

from invitro.errors import refuse_if_any
from invitro.models import PLM, EmbeddingRidge, TfIdfRidge

if TYPE_CHECKING:
    import lightning as L
    from torch import Tensor
    from torch.optim import Optimizer

    from invitro.models.folder import CardFacts
    from invitro.models.outputs import Predictions


LOSSES = ("mse", "huber", "mae", "ccc", "nll", "beta_nll", "ldl")
CLEANINGS = ("none", "cleanlab")


@dataclass(frozen=True)
class Fit:
    """One training's course.

    Args:
        epochs: at most this many passes over the training texts.
        batch_size: texts an optimiser step, over all processes together.
        eval_batch_size: texts a forward pass in validation and test.
        batching: ``length`` groups texts of similar length; ``random`` is the reference's way.
        loss: ``mse``, ``huber`` (threshold `huber_delta`), ``mae``, ``ccc`` (1 - CCC of the batch), ``nll`` (a mean and
            a variance for each text), ``beta_nll`` (the same, tempered by `beta`) or ``ldl`` (a distribution over
            `bins`).
        huber_delta: where Huber's loss turns from square to linear, in the scale's units.
        beta: for ``beta_nll``, in [0, 1]: 0 is ``nll``, at 1 the mean is learnt as by ``mse``.
        bins: for ``ldl``: into how many steps the scale is divided, both its bounds included.
        smoothing: for ``ldl``: the sd of a label's distribution, as a share of the scale's range, in (0, 1].
        schedule: ``linear`` decay to 0 over `schedule_epochs`, or ``constant``, both after the warm-up.
        schedule_epochs: length of the schedule; None is `epochs`.
        warmup: share of the schedule's steps in which the learning rate rises from 0, in [0, 1).
        start_epoch: early stopping looks from this epoch on (the first is 0).
        patience: training stops after this many epochs without a better validation CCC; None never stops early.
        checkpoint: which weights are kept: ``best`` by validation CCC, or ``last``.
        clip: largest norm of the gradient; None does not clip.
        keep: share of the training texts that are learnt from, those of smallest loss, in (0, 1]; 1 is all.
        select_from: the epoch in which that begins (the first is 0); before it, all texts are learnt from.
        clean: ``cleanlab`` leaves out texts whose labels that library finds wrong, before training.

    Raises:
        InputError: naming every setting that is out of range or contradicts another.
    """

    epochs: int = 20
    batch_size: int = 16
    eval_batch_size: int = 32
    batching: Literal["length", "random"] = "length"
    loss: Literal["mse", "huber", "mae", "ccc", "nll", "beta_nll", "ldl"] = "mse"
    huber_delta: float = 1.0
    beta: float = 0.5
    bins: int = 25
    smoothing: float = 0.05
    schedule: Literal["linear", "constant"] = "linear"
    schedule_epochs: int | None = None
    warmup: float = 0.06
    start_epoch: int = 5
    patience: int | None = 2
    checkpoint: Literal["best", "last"] = "best"
    clip: float | None = 1.0
    keep: float = 1.0
    select_from: int = 2
    clean: Literal["none", "cleanlab"] = "none"

    def __post_init__(self) -> None:
        problems = []
        for name in ("epochs", "batch_size", "eval_batch_size"):
            value = getattr(self, name)
            if not _is_whole(value) or value < 1:
                problems.append(f"fit.{name}: expected a whole number of at least 1, found {value!r}")
        choices = {
            "batching": ("length", "random"),
            "loss": LOSSES,
            "schedule": ("linear", "constant"),
            "checkpoint": ("best", "last"),
            "clean": CLEANINGS,
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                problems.append(f"fit.{name}: expected {' or '.join(allowed)}, found {getattr(self, name)!r}")
        if self.loss == "ccc" and self.batch_size == 1:
            problems.append("fit.loss=ccc needs batches to correlate in, but fit.batch_size=1; use 8 or more")
        if not (isinstance(self.warmup, (int, float)) and 0 <= self.warmup < 1):
            problems.append(f"fit.warmup: expected a share from 0 to below 1, found {self.warmup!r}")
        if self.patience is not None and (not _is_whole(self.patience) or self.patience < 1):
            problems.append(f"fit.patience: expected null or a whole number of at least 1, found {self.patience!r}")
        if not _is_whole(self.start_epoch) or self.start_epoch < 0:
            problems.append(f"fit.start_epoch: expected a whole number of at least 0, found {self.start_epoch!r}")
        if self.schedule_epochs is not None and (not _is_whole(self.schedule_epochs) or self.schedule_epochs < 1):
            problems.append(f"fit.schedule_epochs: expected null or at least 1, found {self.schedule_epochs!r}")
        for name in ("clip", "huber_delta"):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, (int, float)) and value > 0):
                problems.append(f"fit.{name}: expected a positive number, found {value!r}")
        refuse_if_any([*problems, *self._noise_problems()])

    def _noise_problems(self) -> Iterator[str]:
        """Yield what is wrong with the settings that are about noise."""
        if not (_is_number(self.beta) and 0 <= self.beta <= 1):
            yield f"fit.beta: expected a number from 0 to 1, found {self.beta!r}"
        if not _is_whole(self.bins) or self.bins < 3:
            yield f"fit.bins: expected a whole number of at least 3, found {self.bins!r}"
        if not (_is_number(self.smoothing) and 0 < self.smoothing <= 1):
            yield f"fit.smoothing: expected a share above 0 and at most 1, found {self.smoothing!r}"
        if not (_is_number(self.keep) and 0 < self.keep <= 1):
            yield f"fit.keep: expected a share above 0 and at most 1, found {self.keep!r}"
        if self.clean == "cleanlab" and find_spec("cleanlab") is None:
            yield "fit.clean=cleanlab needs the library: pip install 'invitro[cleanlab]'"
        if not _is_whole(self.select_from) or self.select_from < 1:
            yield (
                f"fit.select_from: expected a whole number of at least 1, found {self.select_from!r}; "
                "losses are known after the first epoch"
            )
        elif _is_number(self.keep) and self.keep < 1 and _is_whole(self.epochs) and self.select_from >= self.epochs:
            yield (
                f"fit.keep={self.keep:g} begins in epoch fit.select_from={self.select_from}, but the last of "
                f"fit.epochs={self.epochs} is {self.epochs - 1}; train longer, or select earlier"
            )

    @property
    def decisive(self) -> dict[str, Any]:
        """The settings that can change a result, for the fingerprint of a run.

        What came with a later version is left out where it does nothing, so that older runs are found again.
        """
        used = {
            "beta": self.loss == "beta_nll",
            "bins": self.loss == "ldl",
            "smoothing": self.loss == "ldl",
            "keep": self.keep < 1,
            "select_from": self.keep < 1,
            "clean": self.clean != "none",
        }
        return {name: value for name, value in asdict(self).items() if used.get(name, True)}


def seed_problem(seed: object) -> str | None:
    """Return what is wrong with a seed, or None; 0 is a seed."""
    if not _is_whole(seed) or not 0 <= seed < 2**32:  # type: ignore[operator]
        return f"seed: expected a whole number from 0 to 2^32 - 1, found {seed!r}"
    return None


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


@dataclass(frozen=True)
class Recipe:
    """How a model is trained, whatever the data.

    Args:
        plm: the encoder, or a baseline: ridge regression, to which the optimiser and most of `fit` mean nothing.
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

    predicted: "Sequence[Predictions]"
    save: "Callable[[Path, CardFacts], None]"
    counts: Mapping[str, int]
    records: bool = True
    device: str = "cpu"


@dataclass(frozen=True)
class Result:
    """What a run came to: the content of ``metrics.json``, and its predictions."""

    metrics: dict[str, Any]
    predictions: pd.DataFrame
