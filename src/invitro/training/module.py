"""The LightningModule: a regression from a text to its score on a scale."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import lightning as L
import numpy as np
import torch
import torch.nn.functional as F
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from transformers import PreTrainedModel

from invitro.errors import InputError
from invitro.metrics import RunningMetrics
from invitro.models.outputs import Distribution, Gaussian, Outputs, Predictions, Score
from invitro.scales import Scale
from invitro.stats import Floats
from invitro.training.recipe import Fit


@dataclass(frozen=True)
class Loss:
    """A loss for each text and for a batch.

    Args:
        of_texts: from raw outputs (batch, outputs) and labels (batch,) to the losses of the texts, (batch,). If the
            batch's loss is not composed of losses per text, it is the squared error, so that texts can be compared.
        of_batch: from outputs, labels and weights (batch,) to the batch's loss; None is the texts' weighted mean.
    """

    of_texts: Callable[[Tensor, Tensor], Tensor]
    of_batch: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None

    def __call__(self, raw: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
        """Return the loss of a batch; `weights`, (batch,), have the mean 1 over the training set, None is 1 each."""
        weights = torch.ones_like(labels) if weights is None else weights
        if self.of_batch is not None:
            return self.of_batch(raw, labels, weights)
        return (weights * self.of_texts(raw, labels)).mean()


def ccc_loss(predictions: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return ``mean(w) * (1 - CCC)`` of the batch, in [0, 2 mean(w)] (Lin 1989, population variances).

    All tensors are (batch,); without weights w is 1. Means and variances of CCC are weighted by ``w / mean(w)``; the
    factor gives a batch of light texts the low weight of its texts. If nothing varies, CCC is 0. A batch's CCC is
    a noisy and biased estimate of the split's: small batches make it worse.
    """
    weights = torch.ones_like(labels) if weights is None else weights
    share = weights / weights.mean().clamp(min=torch.finfo(weights.dtype).tiny)

    def mean(values: Tensor) -> Tensor:
        return (share * values).mean()

    dx, dy = predictions - mean(predictions), labels - mean(labels)
    spread = mean(dx * dx) + mean(dy * dy) + (mean(predictions) - mean(labels)) ** 2
    return weights.mean() * (1 - 2 * mean(dx * dy) / spread.clamp(min=torch.finfo(spread.dtype).eps))


def gaussian_nll(raw: Tensor, labels: Tensor, outputs: Gaussian, beta: float = 0.0) -> Tensor:
    """Return ``v^beta * ((y - m)^2 / v + log v) / 2`` of each text, m and v = exp(s) the predicted mean and variance.

    With `beta` = 0 it is the negative log-likelihood without its constant (Kendall & Gal 2017). There, a text's
    influence on the mean is divided by v, so texts predicted badly at first are soon explained as noise. The factor,
    through which no gradient flows, gradually undoes this; at 1 the mean learns as with the squared error (Seitzer,
    Tavakoli, Antic & Martius 2022, "On the Pitfalls of Heteroscedastic Uncertainty Estimation with Probabilistic
    Neural Networks", who advise 0.5).
    """
    variance = outputs.log_variance(raw).exp()
    losses = F.gaussian_nll_loss(raw[:, 0], labels, variance, reduction="none")
    return losses * variance.detach() ** beta if beta else losses


def label_distribution(labels: Tensor, outputs: Distribution, sd: float) -> Tensor:
    """Return each label as a distribution over the bins, (batch, bins): ``p_k ~ exp(-(c_k - y)^2 / (2 sd^2))``.

    Within an sd or two of the scale's bounds the Gaussian is cut off, which moves its mean inwards: by 0.8 sd on the
    bound itself.
    """
    centres = torch.tensor(outputs.bins, dtype=torch.float32, device=labels.device)
    return (-((centres - labels[:, None]) ** 2) / (2 * sd**2)).softmax(dim=1)


def label_distribution_loss(raw: Tensor, labels: Tensor, outputs: Distribution, sd: float) -> Tensor:
    """Return ``KL(label's distribution || predicted one)`` of each text (Gao et al. 2017, arXiv 1611.01731)."""
    target = label_distribution(labels, outputs, sd)
    return F.kl_div(raw.log_softmax(dim=1), target, reduction="none").sum(dim=1)


def outputs_of(fit: Fit, scale: Scale) -> Outputs:
    """Return the outputs that a model needs for the loss that `fit` names."""
    if fit.loss in ("nll", "beta_nll"):
        return Gaussian.over(scale.minimum, scale.maximum)
    if fit.loss == "ldl":
        return Distribution.over(scale.minimum, scale.maximum, fit.bins)
    return Score()


def loss_of(fit: Fit, outputs: Outputs | None = None) -> Loss:
    """Return the loss that `fit` names, for `outputs` (None: one output, the score)."""
    outputs = outputs or Score()
    if isinstance(outputs, Gaussian):
        return Loss(partial(gaussian_nll, outputs=outputs, beta=fit.beta if fit.loss == "beta_nll" else 0.0))
    if isinstance(outputs, Distribution):
        return Loss(partial(label_distribution_loss, outputs=outputs, sd=_smoothing(fit, outputs)))
    error: dict[str, Callable[..., Tensor]] = {
        "mse": F.mse_loss,
        "huber": partial(F.huber_loss, delta=fit.huber_delta),
        "mae": F.l1_loss,
        "ccc": F.mse_loss,
    }
    of_texts = partial(_on_score, error[fit.loss])
    if fit.loss == "ccc":
        return Loss(of_texts, lambda raw, labels, weights: ccc_loss(raw[:, 0], labels, weights))
    return Loss(of_texts)


def first_bias(fit: Fit, outputs: Outputs, labels: Floats, weights: Floats) -> list[float]:
    """Return the outputs' first biases, so that training starts from the average text.

    That is the mean label, for a Gaussian the labels' variance too, and for a distribution the marginal one.

    Args:
        fit: the loss and its settings.
        outputs: the meaning of the outputs.
        labels: training labels, (texts,), the scale's units.
        weights: the weight of each text, with mean 1, (texts,).
    """
    mean = float((labels * weights).mean())
    if isinstance(outputs, Gaussian):
        variance = float((np.square(labels - mean) * weights).mean())
        smallest = float(np.exp(outputs.lowest))
        return [mean, float(np.log(max(variance, smallest)))]
    if isinstance(outputs, Distribution):
        target = label_distribution(torch.from_numpy(labels), outputs, _smoothing(fit, outputs)).numpy()
        marginal = (target * weights[:, None]).mean(axis=0)
        return [float(value) for value in np.log(np.maximum(marginal, 1e-4))]
    return [mean]


def _on_score(error: Callable[..., Tensor], raw: Tensor, labels: Tensor) -> Tensor:
    return error(raw[:, 0], labels, reduction="none")


def _smoothing(fit: Fit, outputs: Distribution) -> float:
    """Return the sd of a label's distribution in the scale's units."""
    return fit.smoothing * (outputs.bins[-1] - outputs.bins[0])


Batch = dict[str, Tensor]


class Regressor(L.LightningModule):
    """Fine-tunes a Hugging Face regressor, all of it or a part.

    Args:
        model: a sequence classifier with the outputs that the loss needs, and perhaps adapters.
        fit: loss and schedule.
        optimizer: makes the optimiser from the trained parameters, such as a partial `torch.optim.AdamW`.
        outputs: the meaning of the model's outputs; None is one output, the score.

    Attributes:
        predicted: predictions of the test loop, one `Predictions` per split.
        factor: multiplies the loss of each training text in addition to its weight, (training texts,); None is 1.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        fit: Fit,
        optimizer: Callable[[Iterable[Tensor]], Optimizer],
        outputs: Outputs | None = None,
    ) -> None:
        super().__init__()
        self.model, self.fit, self.make_optimizer = model, fit, optimizer
        self.outputs: Outputs = outputs or Score()
        self.loss = loss_of(fit, self.outputs)
        self.val_metrics = RunningMetrics()
        self.factor: Tensor | None = None
        self.predicted: list[Predictions] = []
        self._scores: list[Tensor] = []
        # Frozen weights, such as those next to adapters, come from the encoder and need not be stored.
        self.strict_loading = all(parameter.requires_grad for parameter in model.parameters())

    def forward(self, batch: Batch) -> Tensor:
        """Return the model's raw outputs, (batch, outputs), float32."""
        logits: Tensor = self.model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        return logits.float()

    def _exactly(self, batch: Batch) -> Tensor:
        """Return the raw outputs as the saved model computes them: in float32, even if training is in bfloat16."""
        with torch.autocast(self.device.type, enabled=False):
            return self.forward(batch)

    def on_train_start(self) -> None:
        """Switch on dropout: Transformers loads models in evaluation mode, and Lightning does not change the mode."""
        self.model.train()

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Return the ``loss`` of one batch, and its ``outputs`` for callbacks that look at single texts."""
        raw, weights = self(batch), batch["weight"]
        if self.factor is not None:
            weights = weights * self.factor[batch["row"]]
        loss = self.loss(raw, batch["label"], weights)
        size = len(batch["label"])
        self.log("train_loss", loss, on_step=False, on_epoch=True, prog_bar=True, batch_size=size, sync_dist=True)
        return {"loss": loss, "outputs": raw.detach()}

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Add one batch to the validation metrics and loss."""
        real = batch["row"] >= 0
        raw, labels = self._exactly(batch)[real], batch["label"][real]
        self.val_metrics.update(self.outputs.read(raw).score, labels)
        if self.fit.loss != "ccc":  # CCC of batches sorted by length says nothing about the split's
            loss = self.loss(raw, labels) if len(raw) else raw.sum()
            self.log("val_loss", loss, batch_size=len(raw), sync_dist=True)

    def on_validation_epoch_end(self) -> None:
        """Log PCC, CCC and RMSE of the whole validation split."""
        values = {f"val_{name}": value.float() for name, value in self.val_metrics.compute().items()}
        self.val_metrics.reset()
        if self.fit.loss == "ccc":
            values["val_loss"] = 1 - values["val_ccc"]
        self.log_dict(values, prog_bar=True, sync_dist=False)

    def on_test_start(self) -> None:
        """Allocate the scores of every split."""
        loaders = self.trainer.test_dataloaders
        sizes = [len(loader.dataset) for loader in loaders] if isinstance(loaders, list) else []
        self._scores = [torch.zeros(2, size, dtype=torch.float64, device=self.device) for size in sizes]

    def test_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Keep the scores of one batch, and their standard deviations if the model predicts them."""
        real = batch["row"] >= 0
        read, rows = self.outputs.read(self._exactly(batch)[real]), batch["row"][real]
        kept = self._scores[dataloader_idx]
        kept[0, rows] = read.score.double()
        if read.sd is not None:
            kept[1, rows] = read.sd.double()

    def on_test_epoch_end(self) -> None:
        """Add up the scores of all processes: each row was scored by one and is 0 in the others."""
        self.predicted = []
        for kept in self._scores:
            if kept.numel():
                processes = torch.as_tensor(self.all_gather(kept)).reshape(self.trainer.world_size, *kept.shape)
                kept = processes.sum(dim=0)
            score, sd = kept.cpu().numpy()
            self.predicted.append(Predictions(score, sd if len(self.outputs.names) > 1 else None))
        self._scores = []

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Return the optimiser and a schedule counted in steps (`schedule_of`)."""
        optimizer = self.make_optimizer([parameter for parameter in self.parameters() if parameter.requires_grad])
        steps = math.ceil(int(self.trainer.estimated_stepping_batches) / self.fit.epochs)
        schedule = LambdaLR(optimizer, schedule_of(self.fit, steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def configure_gradient_clipping(
        self, optimizer: Optimizer, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Clip the norm of the gradient, with any optimiser.

        Lightning refuses a fused one in mixed precision. It has to with float16, whose gradients are scaled until the
        optimiser's step; bfloat16's are not scaled.
        """
        if gradient_clip_val is not None:
            self.trainer.precision_plugin.clip_grad_by_norm(optimizer, gradient_clip_val)

    def refuse_other(self, state: Mapping[str, Tensor], source: str) -> None:
        """Refuse the weights of another kind of run, which lenient loading of partial weights would accept.

        Args:
            state: the ``state_dict`` of a checkpoint.
            source: the setting that named it, for the error.
        """
        trained = {name: parameter for name, parameter in self.named_parameters() if parameter.requires_grad}
        other = ""
        if trained.keys() - state.keys():
            other = "encoder or plm.train"
        elif any(state[name].shape != parameter.shape for name, parameter in trained.items()):
            other = "fit.loss, fit.bins or encoder"
        if other:
            raise InputError(
                f"{source}: the checkpoint is from a run with another {other}; give the settings of that run "
                "(config.yaml next to its folder has them), or leave out resume= to train from the beginning"
            )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Leave frozen weights out of checkpoints."""
        for name, parameter in self.named_parameters():
            if not parameter.requires_grad:
                checkpoint["state_dict"].pop(name, None)


def schedule_of(fit: Fit, epoch_steps: int) -> Callable[[int], float]:
    """Return the factor of the learning rate in step s (the first is 0), with `epoch_steps` steps per epoch.

    The first step already has a learning rate above 0: the factor is ``(s + 1) / (warm-up + 1)`` while warming up, and
    falls to 0 at the schedule's end if the schedule is linear.
    """
    steps = epoch_steps * (fit.schedule_epochs or fit.epochs)
    warmup = round(fit.warmup * steps)

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        return max(0.0, (steps - step) / max(1, steps - warmup)) if fit.schedule == "linear" else 1.0

    return factor
