"""How a model is trained: settings that check themselves before anything loads."""

from dataclasses import dataclass
from typing import Literal

from invitro.errors import refuse_if_any


@dataclass(frozen=True)
class Fit:
    """One training's course.

    Args:
        epochs: at most this many passes over the training texts.
        batch_size: texts an optimiser step, over all processes together.
        eval_batch_size: texts a forward pass in validation and test.
        batching: ``length`` groups texts of similar length; ``random`` is the reference's way.
        loss: ``mse``, ``huber`` (threshold `huber_delta`) or ``ccc`` (1 - CCC of the batch).
        huber_delta: where Huber's loss turns from square to linear, in the scale's units.
        schedule: ``linear`` decay to 0 over `schedule_epochs`, or ``constant``, both after the warm-up.
        schedule_epochs: length of the schedule; None is `epochs`.
        warmup: share of the schedule's steps in which the learning rate rises from 0, in [0, 1).
        start_epoch: early stopping looks from this epoch on (the first is 0).
        patience: training stops after this many epochs without a better validation CCC; None never stops early.
        checkpoint: which weights are kept: ``best`` by validation CCC, or ``last``.
        clip: largest norm of the gradient; None does not clip.

    Raises:
        InputError: naming every setting that is out of range or contradicts another.
    """

    epochs: int = 20
    batch_size: int = 16
    eval_batch_size: int = 32
    batching: Literal["length", "random"] = "length"
    loss: Literal["mse", "huber", "ccc"] = "mse"
    huber_delta: float = 1.0
    schedule: Literal["linear", "constant"] = "linear"
    schedule_epochs: int | None = None
    warmup: float = 0.06
    start_epoch: int = 5
    patience: int | None = 2
    checkpoint: Literal["best", "last"] = "best"
    clip: float | None = 1.0

    def __post_init__(self) -> None:
        problems = []
        for name in ("epochs", "batch_size", "eval_batch_size"):
            value = getattr(self, name)
            if not _is_whole(value) or value < 1:
                problems.append(f"fit.{name}: expected a whole number of at least 1, found {value!r}")
        choices = {
            "batching": ("length", "random"),
            "loss": ("mse", "huber", "ccc"),
            "schedule": ("linear", "constant"),
            "checkpoint": ("best", "last"),
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
        refuse_if_any(problems)


def seed_problem(seed: object) -> str | None:
    """Return what is wrong with a seed, or None; 0 is a seed."""
    if not _is_whole(seed) or not 0 <= seed < 2**32:  # type: ignore[operator]
        return f"seed: expected a whole number from 0 to 2^32 - 1, found {seed!r}"
    return None


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
