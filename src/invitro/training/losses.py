"""Losses: from a model's outputs and the labels of a batch to a scalar, and what the outputs start from."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from invitro.models.outputs import Distribution, Gaussian, Outputs, Score
from invitro.scales import Scale
from invitro.training.settings import Fit

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Loss:
    """A loss: of each text, and of a batch.

    Args:
        of_texts: from raw outputs (batch, outputs) and labels (batch,) to the losses of the texts, (batch,). Where the
            batch's loss is none of single texts, it is the squared error, by which texts can be compared.
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
    factor lets a batch of light texts count as little as its texts do. Where nothing varies CCC is 0. A batch's CCC is
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

    With `beta` = 0 it is the negative log-likelihood but for its constant (Kendall & Gal 2017). There, a text's pull on
    the mean is divided by v, so that what is predicted badly at first is soon explained as noise. The factor, through
    which no gradient flows, takes that back by degrees; at 1 the mean learns as by the squared error (Seitzer,
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
    centres = torch.tensor(outputs.bins, device=labels.device)
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
    return Loss(of_texts, (lambda raw, *rest: ccc_loss(raw[:, 0], *rest)) if fit.loss == "ccc" else None)


def first_bias(fit: Fit, outputs: Outputs, labels: Floats, weights: Floats) -> list[float]:
    """Return the outputs' first biases, so that training starts from what is true of the average text.

    That is the mean label, for a Gaussian the labels' variance too, and for a distribution the marginal one.

    Args:
        fit: the loss and its settings.
        outputs: what the outputs mean.
        labels: training labels, (texts,), the scale's units.
        weights: what each counts, with the mean 1, (texts,).
    """
    mean = float((labels * weights).mean())
    if isinstance(outputs, Gaussian):
        variance = float((np.square(labels - mean) * weights).mean())
        floor = float(np.exp(outputs.lowest))
        return [mean, float(np.log(max(variance, floor)))]
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
