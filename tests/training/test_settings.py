"""The course of training and its losses."""

import pytest
import torch

from invitro.errors import InputError
from invitro.metrics import measure
from invitro.training import Fit
from invitro.training.losses import ccc_loss, loss_of
from invitro.training.settings import seed_problem


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": 0}, "fit.epochs: expected a whole number of at least 1, found 0"),
        ({"batch_size": 2.5}, "fit.batch_size"),
        ({"loss": "mae"}, "fit.loss: expected mse or huber or ccc, found 'mae'"),
        ({"loss": "ccc", "batch_size": 1}, "fit.loss=ccc needs batches to correlate in"),
        ({"warmup": 1}, "fit.warmup"),
        ({"patience": 0}, "fit.patience"),
        ({"clip": -1}, "fit.clip"),
        ({"schedule_epochs": 0}, "fit.schedule_epochs"),
        ({"start_epoch": -1}, "fit.start_epoch"),
    ],
)
def test_settings_out_of_range_are_refused_by_name(settings: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Fit(**settings)


def test_all_problems_come_together() -> None:
    with pytest.raises(InputError) as refused:
        Fit(epochs=0, batching="size", checkpoint="first", clip=0)  # type: ignore[arg-type]
    assert len(refused.value.problems) == 4


@pytest.mark.parametrize("seed", [0, 1234, 2**32 - 1])
def test_seeds(seed: int) -> None:
    assert seed_problem(seed) is None


@pytest.mark.parametrize("seed", [-1, 2**32, 1.5, "0", None, False])
def test_what_is_no_seed(seed: object) -> None:
    assert "seed" in str(seed_problem(seed))


def test_losses_of_a_hand_computed_batch() -> None:
    x, y = torch.tensor([1.0, 2.0, 5.0]), torch.tensor([1.0, 4.0, 2.0])
    assert loss_of(Fit())(x, y).item() == pytest.approx((0 + 4 + 9) / 3)
    assert loss_of(Fit(loss="huber"))(x, y).item() == pytest.approx((0 + 1.5 + 2.5) / 3)
    assert loss_of(Fit(loss="ccc"))(x, y).item() == pytest.approx(1 - measure(x, y)["ccc"])


def test_the_ccc_loss_has_a_gradient_where_nothing_varies() -> None:
    x = torch.full((4,), 3.0, requires_grad=True)
    loss = ccc_loss(x, torch.full((4,), 3.0))
    loss.backward()
    assert loss.item() == 1
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()
