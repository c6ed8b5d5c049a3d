"""How a model is trained and where its run reads and writes: settings that are checked before anything loads."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import pandas as pd
from annotated_types import Ge, Gt, Le, Lt

from invitro.application.policy import Alpha, Quantile
from invitro.models import PLM, EmbeddingRidge, TfIdfRidge
from invitro.models.settings import PredictedSpread
from invitro.settings import Count, Index, Positive, Seed, Share, checked

if TYPE_CHECKING:
    import lightning as L
    from torch import Tensor
    from torch.optim import Optimizer

    from invitro.models.folder import CardFacts
    from invitro.models.outputs import Predictions

KeptShare = Annotated[float, Gt(0), Le(1), "a share above 0 and at most 1"]
LATER = "a whole number of at least 1 (losses are known after the first epoch)"


@checked("")
@dataclass(frozen=True)
class Seeded:
    """A seed at the top of a configuration; 0 is a seed."""

    seed: Seed


@checked("")
@dataclass(frozen=True)
class RunOptions:
    """The settings at the top of ``train.yaml`` that belong to no group.

    Args:
        alpha: correction's threshold, 0 to inf, the scale's units.
        alpha_quantile: sets the threshold by the share of texts beyond it, instead of `alpha`.
        seed: of weights, dropout and batches; 0 is a seed.
        allow_shared_texts: whether a text may be in both training and validation or test.
        fail_fast: in a multirun: start no further job after a failure.
        force: train again even if the run has already finished; overwrite its record.
        save_model: whether ``model/`` is kept in the run's directory.
        keep_checkpoints: whether checkpoints stay after the run.
        resume: a checkpoint to continue from.
        group: of Weights & Biases runs that belong together.
        runs: the folder of all runs, which is searched for finished ones.
        cache: the folder of features of frozen encoders; None keeps none.
        spread: of the exact student's predictions: ``raw``, ``linear`` or ``matched``, see
            `invitro.models.exact.ExactRegression.spread_as`.

    Raises:
        InputError: naming every setting that is out of range.
    """

    alpha: Alpha
    alpha_quantile: Quantile | None
    seed: Seed
    allow_shared_texts: bool = False
    fail_fast: bool = False
    force: bool = False
    save_model: bool = True
    keep_checkpoints: bool = False
    resume: str | None = None
    group: str | None = None
    runs: str = "runs"
    cache: str | None = None
    spread: PredictedSpread = "raw"


@checked("fit")
@dataclass(frozen=True)
class Fit:
    """The course of one training.

    Args:
        epochs: largest number of passes over the training texts.
        batch_size: texts per optimiser step, over all processes together.
        eval_batch_size: texts per forward pass in validation and test.
        batching: ``length`` groups texts of similar length; ``random`` is the reference's method.
        loss: ``mse``, ``huber`` (threshold `huber_delta`), ``mae``, ``ccc`` (1 - CCC of the batch), ``nll`` (a mean and
            a variance for each text), ``beta_nll`` (the same, tempered by `beta`) or ``ldl`` (a distribution over
            `bins`).
        huber_delta: where Huber's loss changes from square to linear, in the scale's units.
        beta: for ``beta_nll``, in [0, 1]: 0 is ``nll``; at 1 the mean is learned as by ``mse``.
        bins: for ``ldl``: number of steps that the scale is divided into, including both bounds.
        smoothing: for ``ldl``: the sd of a label's distribution, as a share of the scale's range, in (0, 1].
        schedule: ``linear`` decay to 0 over `schedule_epochs`, or ``constant``, both after the warm-up.
        schedule_epochs: length of the schedule; None is `epochs`.
        warmup: share of the schedule's steps in which the learning rate rises from 0, in [0, 1).
        start_epoch: first epoch that counts for early stopping (epochs count from 0).
        patience: training stops after this many epochs without a better validation CCC; None never stops early.
        checkpoint: which weights are kept: ``best`` by validation CCC, or ``last``.
        clip: largest norm of the gradient; None does not clip.
        keep: share of the training texts to learn from, those with the smallest loss, in (0, 1]; 1 is all.
        select_from: the epoch in which that begins (the first is 0); earlier epochs use all texts.
        clean: ``cleanlab`` leaves out texts whose labels that library finds wrong, before training.

    Raises:
        InputError: naming every setting that is out of range or contradicts another.
    """

    epochs: Count = 20
    batch_size: Count = 16
    eval_batch_size: Count = 32
    batching: Literal["length", "random"] = "length"
    loss: Literal["mse", "huber", "mae", "ccc", "nll", "beta_nll", "ldl"] = "mse"
    huber_delta: Positive = 1.0
    beta: Share = 0.5
    bins: Annotated[int, Ge(3)] = 25
    smoothing: KeptShare = 0.05
    schedule: Literal["linear", "constant"] = "linear"
    schedule_epochs: Count | None = None
    warmup: Annotated[float, Ge(0), Lt(1)] = 0.06
    start_epoch: Index = 5
    patience: Count | None = 2
    checkpoint: Literal["best", "last"] = "best"
    clip: Positive | None = 1.0
    keep: KeptShare = 1.0
    select_from: Annotated[int, Ge(1), LATER] = 2
    clean: Literal["none", "cleanlab"] = "none"

    def contradictions(self) -> Iterator[str]:
        """Yield a problem for each combination of settings that cannot work."""
        if self.loss == "ccc" and self.batch_size == 1:
            yield "fit.loss=ccc needs batches to correlate in, but fit.batch_size=1; use 8 or more"
        if self.clean == "cleanlab" and find_spec("cleanlab") is None:
            yield 'fit.clean=cleanlab needs the library: pip install "invitro[cleanlab]"'
        if self.keep < 1 and self.select_from >= self.epochs:
            yield (
                f"fit.keep={self.keep:g} begins in epoch fit.select_from={self.select_from}, but the last of "
                f"fit.epochs={self.epochs} is {self.epochs - 1}; train longer, or select earlier"
            )

    @property
    def decisive(self) -> dict[str, Any]:
        """The settings that can change a result, for the fingerprint of a run.

        Settings that a later version added are left out if they have no effect, so that older runs are still found.
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


@dataclass(frozen=True)
class Recipe:
    """How a model is trained, whatever the data.

    Args:
        plm: the encoder, or a baseline: ridge regression, which ignores the optimiser and most of `fit`.
        fit: the course of training.
        optimizer: makes the optimiser from the trained parameters.
        trainer: makes the Lightning trainer; it decides precision, accelerator and strategy.
        settings: plain values of `optimizer` and `trainer`, for the fingerprint.
        seed: of weights, dropout and batches.
        spread: of the exact student's predictions.
    """

    plm: PLM | TfIdfRidge | EmbeddingRidge
    fit: Fit
    optimizer: "Callable[[Iterable[Tensor]], Optimizer]"
    trainer: "Callable[..., L.Trainer]"
    settings: Mapping[str, Any]
    seed: int
    spread: PredictedSpread = "raw"


@dataclass(frozen=True)
class Place:
    """Where a run reads and writes.

    Args:
        directory: the run's directory.
        cache: for features of frozen encoders; None keeps none.
        save_model: whether ``model/`` is written.
        resume: a checkpoint to continue from.
        keep_checkpoints: whether ``checkpoints/`` stays after the run.
        siblings: whether runs on the same texts may follow in this process; results that do not depend on labels then
            stay in memory for them.
    """

    directory: Path
    cache: Path | None = None
    save_model: bool = True
    resume: Path | None = None
    keep_checkpoints: bool = False
    siblings: bool = False


@dataclass(frozen=True)
class Trained:
    """A trained model of any kind.

    Args:
        predicted: its predictions for val and test.
        save: writes its folder, with the facts for the model card.
        counts: numbers for the record, such as ``epochs``.
        records: whether this process writes the record.
        device: where it was trained: ``cpu``, or a GPU's name.
        encoder: ``seconds`` and ``processor_seconds`` of a frozen encoder's pass, and of what runs of a sweep on the
            same texts share, which later runs need not repeat.
    """

    predicted: "Sequence[Predictions]"
    save: "Callable[[Path, CardFacts], None]"
    counts: Mapping[str, int]
    records: bool = True
    device: str = "cpu"
    encoder: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Result:
    """The result of a run: the content of ``metrics.json``, and its predictions."""

    metrics: dict[str, Any]
    predictions: pd.DataFrame
