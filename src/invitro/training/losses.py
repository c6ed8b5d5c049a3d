"""Losses: functions of predictions and labels, both of shape (batch,), to a scalar."""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from invitro.training.settings import Fit

Loss = Callable[[Tensor, Tensor], Tensor]


def ccc_loss(predictions: Tensor, labels: Tensor) -> Tensor:
    """Return 1 - CCC of the batch, in [0, 2] (Lin 1989, population variances); 1 where nothing varies.

    A batch's CCC is a noisy and biased estimate of the split's: small batches make it worse.
    """
    dx, dy = predictions - predictions.mean(), labels - labels.mean()
    spread = (dx * dx).mean() + (dy * dy).mean() + (predictions.mean() - labels.mean()) ** 2
    return 1 - 2 * (dx * dy).mean() / spread.clamp(min=torch.finfo(spread.dtype).eps)


def loss_of(fit: Fit) -> Loss:
    """Return the loss that `fit` names."""
    losses: dict[str, Loss] = {
        "mse": F.mse_loss,
        "huber": partial(F.huber_loss, delta=fit.huber_delta),
        "ccc": ccc_loss,
    }
    return losses[fit.loss]
