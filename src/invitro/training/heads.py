"""Training a head without Lightning: a step on features takes a quarter of a millisecond, and its loop ten times that.

The same batches, losses, steps, schedule, stopping and choice of weights as `Regressor` under Lightning's trainer, in
the same order and with the same random numbers, so that a run's numbers do not depend on the loop.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import inf, isfinite
from typing import Any

import torch
from torch import Tensor

from invitro.metrics import metrics
from invitro.models.features import head, head_modules
from invitro.models.outputs import Scored
from invitro.training.callbacks import write_history
from invitro.training.data import EvaluationBatches, Texts, TextsDataModule, TrainingBatches
from invitro.training.module import Regressor, schedule_of
from invitro.training.recipe import Place, Recipe

Rows = list[dict[str, float]]

PLAIN_TRAINER: Mapping[str, tuple[Any, ...]] = {
    "accelerator": ("cpu", "auto"),
    "devices": (1, "1"),
    "num_nodes": (1,),
    "strategy": ("auto",),
    "precision": ("32-true", 32, "32"),
}
"""The trainer's settings with which this loop does what Lightning would; `NEUTRAL` ones mean nothing to it."""

NEUTRAL = ("deterministic", "enable_progress_bar", "enable_model_summary", "log_every_n_steps")


def why_lightning(recipe: Recipe, place: Place) -> str | None:
    """Return what a run in head mode asks for that only Lightning's loop can do, or None."""
    asked = dict(getattr(recipe.trainer, "keywords", {}))
    for name, value in asked.items():
        if name not in NEUTRAL and value not in PLAIN_TRAINER.get(name, ()):
            return f"trainer.{name}={value}"
    if asked.get("accelerator", "auto") == "auto" and torch.accelerator.is_available():
        return "an accelerator"
    settings = {
        "resume": place.resume is not None,
        "keep_checkpoints": place.keep_checkpoints,
        "fit.keep": recipe.fit.keep < 1,
        "fit.loop=lightning": recipe.fit.loop == "lightning",
    }
    return next((name for name, wanted in settings.items() if wanted), None)


@dataclass
class Split:
    """A split's texts as tensors.

    Args:
        features: (texts, hidden), float32.
        labels: (texts,), float32.
        weights: (texts,), float32.
    """

    features: Tensor
    labels: Tensor
    weights: Tensor

    @classmethod
    def of(cls, data: Texts) -> "Split":
        """Stack what a data set serves one by one."""
        rows = torch.stack(list(data.rows)) if len(data) else torch.empty(0, 0)
        return cls(rows, torch.from_numpy(data.labels), torch.from_numpy(data.weights).float())


@dataclass
class Watch:
    """Which epoch's weights are kept, and when training stops, by validation CCC; see `ModelCheckpoint` and
    `PatientStopping`, whose rules these are.

    Args:
        start_epoch: stopping looks from this epoch on.
        patience: how many epochs may pass without a better one; None: any number.
    """

    start_epoch: int
    patience: int | None
    best: dict[str, Tensor] = field(default_factory=dict)
    _kept: float = -inf
    _highest: float = -inf
    _waited: int = 0

    def keep(self, ccc: float, module: Regressor) -> None:
        """Keep these weights if they are the first, or better than those kept."""
        ccc = ccc if isfinite(ccc) else -inf
        if not self.best or ccc > self._kept:
            trained = {name: value for name, value in module.named_parameters() if value.requires_grad}
            self._kept, self.best = ccc, {name: value.detach().clone() for name, value in trained.items()}

    def stops(self, epoch: int, ccc: float) -> bool:
        """Whether training ends with this epoch."""
        if self.patience is None or epoch < self.start_epoch:
            return False
        if not isfinite(ccc):
            return True
        better = ccc > self._highest
        self._highest, self._waited = (ccc, 0) if better else (self._highest, self._waited + 1)
        return self._waited >= self.patience


def train_head(module: Regressor, data: TextsDataModule, place: Place, logger: Any) -> Rows:
    """Train the head of `module` on features, let it predict val and test, and return the rows of ``history.csv``.

    Args:
        module: a regressor of a frozen encoder; its ``predicted`` is filled.
        data: serves features.
        place: where ``history.csv`` goes; it is written once, at the end.
        logger: a Lightning logger for the curves, or None.
    """
    fit = module.fit
    data.setup("fit")
    texts = {name: data.texts(name) for name in ("train", "val", "test")}
    splits = {name: Split.of(found) for name, found in texts.items()}
    train = splits["train"]
    batches = TrainingBatches(texts["train"], fit, data.seed, processes=1, rank=0)
    orders = {name: EvaluationBatches(texts[name], fit.eval_batch_size, 1, 0).batches for name in ("val", "test")}
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    optimizer = module.make_optimizer(trained)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, schedule_of(fit, len(batches)))
    watch, history, step = Watch(fit.start_epoch, fit.patience), Rows(), 0
    module.on_train_start()
    for epoch in range(fit.epochs):
        began = time.perf_counter()
        batches.set_epoch(epoch)
        _draw()
        total = torch.zeros(())
        for rows in map(torch.tensor, batches):
            raw = head(module.model, train.features[rows])
            loss = module.loss(raw, train.labels[rows], train.weights[rows])
            optimizer.zero_grad()
            loss.backward()
            if fit.clip is not None:
                torch.nn.utils.clip_grad_norm_(trained, fit.clip)
            optimizer.step()
            schedule.step()
            total += loss.detach() * len(rows)
            step += 1
        values = _validated(module, splits["val"], orders["val"])
        row = {"train_loss": float(total) / len(texts["train"])} | values
        row |= {"epoch": epoch, "step": step, "lr": float(optimizer.param_groups[0]["lr"])}
        history.append(row | {"seconds": time.perf_counter() - began})
        if logger is not None:
            logger.log_metrics({**values, "epoch": epoch}, step - 1)
            logger.log_metrics({"train_loss": row["train_loss"], "epoch": epoch}, step - 1)
        watch.keep(values["val_ccc"], module)
        if watch.stops(epoch, values["val_ccc"]):
            break
    write_history(place.directory / "history.csv", history)
    if fit.checkpoint == "best":
        module.load_state_dict(watch.best, strict=False)
    module.predicted = [_scored(module, splits[name], orders[name]) for name in ("val", "test")]
    return history


def _draw() -> None:
    """Draw the number that a data loader draws to seed its workers, so that dropout finds the generator as it would."""
    torch.empty((), dtype=torch.int64).random_()


def _validated(module: Regressor, split: Split, order: Sequence[Sequence[int]]) -> dict[str, float]:
    """Return what `Regressor` logs of the validation split."""
    _draw()
    raw = _raw(module, split, order)
    found = metrics("val_")
    found.update(module.outputs.read(raw).score, split.labels)
    values = {name: float(value.float()) for name, value in found.compute().items()}
    loss = 1 - values["val_ccc"] if module.fit.loss == "ccc" else float(module.loss(raw, split.labels))
    return values | {"val_loss": loss}


def _scored(module: Regressor, split: Split, order: Sequence[Sequence[int]]) -> Scored:
    """Return what the model predicts for a split."""
    read = module.outputs.read(_raw(module, split, order))
    sd = None if read.sd is None else read.sd.double().numpy()
    return Scored(read.score.double().numpy(), sd if len(module.outputs.names) > 1 else None)


def _raw(module: Regressor, split: Split, order: Sequence[Sequence[int]]) -> Tensor:
    """Return the outputs for a split without dropout, (texts, outputs), batch by batch as Lightning's loop has them."""
    modules = head_modules(module.model)
    training = [one.training for one in modules]
    raw = torch.zeros(len(split.labels), len(module.outputs.names))
    for one in modules:
        one.eval()
    with torch.inference_mode():
        for rows in order:
            raw[rows] = head(module.model, split.features[rows])
    for one, was in zip(modules, training, strict=True):
        one.train(was)
    return raw
