"""PCC, CCC and RMSE on whole splits, in float64, exact however the split is cut into batches or processes.

All three are functions of the same six running moments of predictions x and targets y,
``n, mean(x), mean(y), S_xx, S_yy, S_xy`` with ``S_ab = sum((a - mean(a)) * (b - mean(b)))``, which are merged by the
pairwise update of Chan, Golub, LeVeque (1983), "Algorithms for Computing the Sample Variance". Summing squares instead
would lose digits, and keeping all predictions would cost memory.
"""

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torchmetrics import Metric, MetricCollection


class ConstantPredictionsWarning(UserWarning):
    """A correlation was asked of values that do not vary; it was taken to be 0."""


def merge(parts: Tensor) -> Tensor:
    """Merge moments of shape (parts, 6) into those of the union, shape (6,)."""
    whole = parts[0]
    for part in parts[1:]:
        n = whole[0] + part[0]
        if part[0] == 0:
            continue
        dx, dy = part[1] - whole[1], part[2] - whole[2]
        share, cross = part[0] / n, whole[0] * part[0] / n
        spread = torch.stack([dx * dx, dy * dy, dx * dy]) * cross
        means = torch.stack([whole[1] + dx * share, whole[2] + dy * share])
        whole = torch.cat([n[None], means, whole[3:] + part[3:] + spread])
    return whole


class _Moments(Metric):
    """Keeps the six moments; subclasses turn them into a number."""

    is_differentiable = False
    full_state_update = False
    moments: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("moments", torch.zeros(6, dtype=torch.float64), dist_reduce_fx=merge)

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Take in predictions and targets, both of shape (batch,), in the scale's units."""
        if preds.shape != target.shape or preds.ndim != 1:
            raise ValueError(f"expected two tensors of one shape (batch,), found {preds.shape} and {target.shape}")
        if preds.numel() == 0:
            return
        x, y = preds.detach().to(torch.float64), target.detach().to(torch.float64)
        dx, dy = x - x.mean(), y - y.mean()
        n = torch.tensor(float(x.numel()), dtype=torch.float64, device=x.device)
        batch = torch.stack([n, x.mean(), y.mean(), dx @ dx, dy @ dy, dx @ dy])
        self.moments = merge(torch.stack([self.moments, batch]))

    def _varies(self) -> bool:
        """Whether neither side is constant up to rounding; warns otherwise."""
        n, mean_x, mean_y, s_xx, s_yy, _ = self.moments
        rounding = 1e-10 * torch.stack([mean_x, mean_y]).abs().clamp(min=1.0)
        constant = (torch.stack([s_xx, s_yy]) / n).sqrt() <= rounding
        if constant.any():
            side = " and ".join(name for name, flat in zip(("predictions", "targets"), constant, strict=True) if flat)
            message = f"{type(self).__name__}: the {side} do not vary; the correlation is undefined and taken to be 0"
            warnings.warn(message, ConstantPredictionsWarning, stacklevel=3)
        return not bool(constant.any())

    def _zero(self) -> Tensor:
        return torch.zeros((), dtype=torch.float64, device=self.moments.device)


class PCC(_Moments):
    """Pearson's correlation, ``S_xy / sqrt(S_xx * S_yy)``, in [-1, 1]; 0 with a warning for constant values."""

    higher_is_better = True

    def compute(self) -> Tensor:
        """Return the correlation as a float64 scalar."""
        if not self._varies():
            return self._zero()
        _, _, _, s_xx, s_yy, s_xy = self.moments
        correlation: Tensor = s_xy / (s_xx.sqrt() * s_yy.sqrt())
        return correlation.clamp(-1.0, 1.0)


class CCC(_Moments):
    """Lin's concordance, ``2 s_xy / (s_xx + s_yy + (mean(x) - mean(y))^2)``, in [-1, 1], with population variances.

    Lin (1989), "A Concordance Correlation Coefficient to Evaluate Reproducibility", Biometrics 45. Population variances
    (divisor n) are his; torchmetrics' own class divides by n - 1. Constant predictions give 0, with a warning.
    """

    higher_is_better = True

    def compute(self) -> Tensor:
        """Return the concordance as a float64 scalar."""
        if not self._varies():
            return self._zero()
        n, mean_x, mean_y, s_xx, s_yy, s_xy = self.moments
        concordance: Tensor = (2 * s_xy / n) / (s_xx / n + s_yy / n + (mean_x - mean_y) ** 2)
        return concordance


class RMSE(_Moments):
    """Root of the mean squared error, ``sqrt((S_xx - 2 S_xy + S_yy) / n + (mean(x) - mean(y))^2)``, in scale units."""

    higher_is_better = False

    def compute(self) -> Tensor:
        """Return the error as a float64 scalar."""
        n, mean_x, mean_y, s_xx, s_yy, s_xy = self.moments
        squared: Tensor = (s_xx - 2 * s_xy + s_yy).clamp(min=0) / n + (mean_x - mean_y) ** 2
        return squared.sqrt()


def metrics(prefix: str = "") -> MetricCollection:
    """Return PCC, CCC and RMSE as one collection with keys ``pcc``, ``ccc``, ``rmse``; the moments are shared."""
    return MetricCollection({"pcc": PCC(), "ccc": CCC(), "rmse": RMSE()}, prefix=prefix)


def measure(predictions: npt.ArrayLike, targets: npt.ArrayLike) -> dict[str, float]:
    """Return ``{"pcc", "ccc", "rmse"}`` of two arrays of shape (n,), n at least 1."""
    collection = metrics()
    pair = [torch.tensor(np.asarray(values), dtype=torch.float64) for values in (predictions, targets)]
    collection.update(*pair)
    return {name: float(value) for name, value in collection.compute().items()}
