"""The LightningModule: regression of a scale's score on a text."""

import math
from collections.abc import Callable, Iterable
from typing import Any, Literal

import lightning as L
import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from transformers import PreTrainedModel

from invitro.errors import InputError
from invitro.metrics import metrics
from invitro.models.features import head, head_modules
from invitro.models.outputs import Outputs, Score, Scored
from invitro.training.losses import loss_of
from invitro.training.settings import Fit

Batch = dict[str, Tensor]


class Regressor(L.LightningModule):
    """Fine-tunes a Hugging Face regressor, all of it or a part.

    Args:
        model: a sequence classifier with the outputs that the loss needs.
        fit: loss and schedule.
        optimizer: makes the optimiser from the trained parameters, such as a partial `torch.optim.AdamW`.
        train: ``full``; ``lora``, whose adapters the model has already; or ``head``, which alone is trained, on batches
            of the frozen encoder's features.
        outputs: what the model's outputs mean; None is one output, the score.

    Attributes:
        predicted: what the test loop predicted, one `Scored` a split.
        factor: by what the loss of each training text is multiplied besides its weight, (training texts,); None is 1.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        fit: Fit,
        optimizer: Callable[[Iterable[Tensor]], Optimizer],
        train: Literal["full", "lora", "head"] = "full",
        outputs: Outputs | None = None,
    ) -> None:
        super().__init__()
        self.model, self.fit, self.make_optimizer, self.head_only = model, fit, optimizer, train == "head"
        self.outputs: Outputs = outputs or Score()
        self.loss = loss_of(fit, self.outputs)
        self.val_metrics = metrics("val_")
        self.factor: Tensor | None = None
        self.predicted: list[Scored] = []
        self._scores: list[Tensor] = []
        if self.head_only:
            model.requires_grad_(False)
            for module in head_modules(model):
                module.requires_grad_(True)
        # Frozen weights are those of the encoder that the configuration names: no need to store them.
        self.strict_loading = train == "full"

    def forward(self, batch: Batch) -> Tensor:
        """Return the model's raw outputs, (batch, outputs), float32."""
        if self.head_only:
            logits = head(self.model, batch["features"])
        else:
            logits = self.model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        return logits.float()

    def on_train_start(self) -> None:
        """Switch dropout on: Transformers loads models in evaluation mode, and Lightning leaves the mode as it is."""
        self.model.train(not self.head_only)
        for module in head_modules(self.model):
            module.train()

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Return the ``loss`` of one batch, and its ``outputs`` for whoever looks at single texts."""
        raw, weights = self(batch), batch["weight"]
        if self.factor is not None:
            weights = weights * self.factor[batch["row"]]
        loss = self.loss(raw, batch["label"], weights)
        size = len(batch["label"])
        self.log("train_loss", loss, on_step=False, on_epoch=True, prog_bar=True, batch_size=size, sync_dist=True)
        return {"loss": loss, "outputs": raw.detach()}

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Take one batch into the validation metrics and loss."""
        real = batch["row"] >= 0
        raw, labels = self(batch)[real], batch["label"][real]
        self.val_metrics.update(self.outputs.read(raw).score, labels)
        if self.fit.loss != "ccc":  # CCC of batches sorted by length says nothing about the split's
            loss = self.loss(raw, labels) if len(raw) else raw.sum()
            self.log("val_loss", loss, batch_size=len(raw), sync_dist=True)

    def on_validation_epoch_end(self) -> None:
        """Log PCC, CCC and RMSE of the whole validation split."""
        values = {name: value.float() for name, value in self.val_metrics.compute().items()}
        self.val_metrics.reset()
        if self.fit.loss == "ccc":
            values["val_loss"] = 1 - values["val_ccc"]
        self.log_dict(values, prog_bar=True, sync_dist=False)

    def on_test_start(self) -> None:
        """Make room for the scores of every split that is predicted."""
        loaders = self.trainer.test_dataloaders
        sizes = [len(loader.dataset) for loader in loaders] if isinstance(loaders, list) else []
        self._scores = [torch.zeros(2, size, dtype=torch.float64, device=self.device) for size in sizes]

    def test_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Keep the scores of one batch, and their standard deviations where there are any."""
        real = batch["row"] >= 0
        read, kept, rows = self.outputs.read(self(batch)[real]), self._scores[dataloader_idx], batch["row"][real]
        kept[0, rows] = read.score.double()
        if read.sd is not None:
            kept[1, rows] = read.sd.double()

    def on_test_epoch_end(self) -> None:
        """Bring the processes' scores together: each row was scored by one process and is 0 in the others."""
        self.predicted = []
        for kept in self._scores:
            if kept.numel():
                processes = torch.as_tensor(self.all_gather(kept)).reshape(self.trainer.world_size, *kept.shape)
                kept = processes.sum(dim=0)
            score, sd = kept.cpu().numpy()
            self.predicted.append(Scored(score, sd if len(self.outputs.names) > 1 else None))
        self._scores = []

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Return the optimiser and a schedule counted in steps (`schedule_of`)."""
        optimizer = self.make_optimizer([parameter for parameter in self.parameters() if parameter.requires_grad])
        an_epoch = math.ceil(int(self.trainer.estimated_stepping_batches) / self.fit.epochs)
        schedule = LambdaLR(optimizer, schedule_of(self.fit, an_epoch))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint of another kind of run, which lenient loading of a part would take."""
        trained = {name: parameter for name, parameter in self.named_parameters() if parameter.requires_grad}
        state = checkpoint["state_dict"]
        if trained.keys() - state.keys():
            raise InputError("resume=: the checkpoint is of another encoder, or of another plm.train")
        if any(state[name].shape != parameter.shape for name, parameter in trained.items()):
            raise InputError("resume=: the checkpoint is of another fit.loss or fit.bins, or of another encoder")

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Leave frozen weights out of checkpoints."""
        if not self.strict_loading:
            frozen = {name for name, parameter in self.named_parameters() if not parameter.requires_grad}
            checkpoint["state_dict"] = {
                name: value for name, value in checkpoint["state_dict"].items() if name not in frozen
            }


def schedule_of(fit: Fit, an_epoch: int) -> Callable[[int], float]:
    """Return by what the learning rate is multiplied in step s (the first is 0), with so many steps `an_epoch`.

    The first step already has a learning rate above 0: the factor is ``(s + 1) / (warm-up + 1)`` while warming up, and
    falls to 0 at the schedule's end where the schedule is linear.
    """
    steps = an_epoch * (fit.schedule_epochs or fit.epochs)
    warmup = round(fit.warmup * steps)

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        return max(0.0, (steps - step) / max(1, steps - warmup)) if fit.schedule == "linear" else 1.0

    return factor
