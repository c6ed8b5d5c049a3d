"""PCC, CCC and RMSE on whole splits, in float64, exact for every division of a split into batches or processes.

For definitions see `invitro.stats.moments`. PCC is undefined for a run that predicts one number for every text. Such
a run gets 0, with a warning, since logs and means over runs need a number.

All three follow from the same six running moments of predictions x and targets y,
``n, mean(x), mean(y), S_xx, S_yy, S_xy`` with ``S_ab = sum((a - mean(a)) * (b - mean(b)))``, which are merged by the
pairwise update of Chan, Golub, LeVeque (1983), "Algorithms for Computing the Sample Variance". Summing squares instead
would lose precision, and keeping all predictions would cost memory.
"""

import torch
from torch import Tensor
from torchmetrics import Metric

from invitro.stats.moments import MEASURES, METRICS, is_constant, of_centred


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


class RunningMetrics(Metric):
    """PCC, CCC and RMSE of all predictions so far, from their six moments.

    CCC is Lin's, whose variances have the divisor n; torchmetrics' own class divides by n - 1.
    """

    is_differentiable = False
    full_state_update = False
    moments: Tensor

    def __init__(self) -> None:
        super().__init__()
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

    def compute(self) -> dict[str, Tensor]:
        """Return ``pcc``, ``ccc`` and ``rmse``, float64 scalars; a correlation with a constant is 0, with a warning."""
        values: dict[str, Tensor] = {}
        moments = of_centred(self.moments.cpu().numpy())
        for name in METRICS:
            undefined = name != "rmse" and is_constant(moments, name.upper())
            value = 0.0 if undefined else float(MEASURES[name](moments))
            values[name] = torch.tensor(value, dtype=torch.float64, device=self.moments.device)
        return values
