"""Losses by hand, their gradients, weights, and the first biases of the outputs."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from invitro.models.outputs import Distribution, Gaussian, Score
from invitro.scales import Item, Scale
from invitro.stats.moments import measure
from invitro.training.module import ccc_loss, first_bias, label_distribution, loss_of, outputs_of
from invitro.training.recipe import Fit

SCALE = Scale("batson_empathy", "empathy", (Item("warm", "warm"),), 1, 7)
X, Y = torch.tensor([1.0, 2.0, 5.0]), torch.tensor([1.0, 4.0, 2.0])
LOSSES = ("mse", "huber", "mae", "ccc", "nll", "beta_nll", "ldl")


def raw_for(fit: Fit, texts: int = 8, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Return outputs, labels and weights of some texts."""
    rng = torch.Generator().manual_seed(seed)
    outputs = len(outputs_of(fit, SCALE).names)
    raw = torch.randn(texts, outputs, generator=rng) + (3 if outputs < 3 else 0)
    return raw, torch.rand(texts, generator=rng) * 6 + 1, torch.rand(texts, generator=rng) + 0.1


@pytest.mark.parametrize(
    ("name", "expected"),
    [("mse", (0 + 4 + 9) / 3), ("huber", (0 + 1.5 + 2.5) / 3), ("mae", (0 + 2 + 3) / 3)],
)
def test_losses_of_a_hand_computed_batch(name: str, expected: float) -> None:
    assert loss_of(Fit(loss=name))(X[:, None], Y).item() == pytest.approx(expected)  # type: ignore[arg-type]


def test_the_ccc_loss_is_one_minus_the_metric() -> None:
    assert loss_of(Fit(loss="ccc"))(X[:, None], Y).item() == pytest.approx(1 - measure(X, Y)["ccc"])


@pytest.mark.parametrize("name", ["mse", "huber"])
def test_without_weights_values_and_gradients_are_pytorch_s_to_the_last_digit(name: str) -> None:
    raw, labels, _ = raw_for(Fit(), texts=16)
    plain, ours = (raw.clone().requires_grad_() for _ in range(2))
    theirs = {"mse": F.mse_loss, "huber": F.huber_loss}[name](plain[:, 0], labels)
    loss = loss_of(Fit(loss=name))(ours, labels, torch.ones(16))  # type: ignore[arg-type]
    theirs.backward()
    loss.backward()
    assert loss.item() == theirs.item()
    assert plain.grad is not None
    assert ours.grad is not None
    assert torch.equal(plain.grad, ours.grad)


def test_the_gaussian_losses_by_hand() -> None:
    raw = torch.tensor([[1.0, math.log(4)], [5.0, 0.0]], requires_grad=True)
    labels = torch.tensor([3.0, 2.0])
    # ((3 - 1)^2 / 4 + log 4) / 2 = 0.5 + log 2, and ((2 - 5)^2 / 1 + 0) / 2 = 4.5
    nll = loss_of(Fit(loss="nll"), outputs_of(Fit(loss="nll"), SCALE))
    assert nll.of_texts(raw, labels).tolist() == pytest.approx([0.5 + math.log(2), 4.5])
    fit = Fit(loss="beta_nll", beta=0.5)
    beta = loss_of(fit, outputs_of(fit, SCALE))
    assert beta.of_texts(raw, labels).tolist() == pytest.approx([2 * (0.5 + math.log(2)), 4.5])
    beta(raw, labels).backward()
    # v^0.5 * (m - y) / v for the mean; v^0.5 * (1 - (y - m)^2 / v) / 2 for log v; both divided by two texts.
    assert raw.grad is not None
    assert raw.grad.flatten().tolist() == pytest.approx([-0.5, 0.0, 1.5, -2.0])


def test_at_beta_1_the_mean_learns_as_by_the_squared_error() -> None:
    fit = Fit(loss="beta_nll", beta=1.0)
    raw, labels, weights = raw_for(fit)
    one, other = raw.clone().requires_grad_(), raw[:, :1].clone().requires_grad_()
    loss_of(fit, outputs_of(fit, SCALE))(one, labels, weights).backward()
    (loss_of(Fit())(other, labels, weights) / 2).backward()
    assert one.grad is not None
    assert other.grad is not None
    torch.testing.assert_close(one.grad[:, :1], other.grad)


def test_a_log_variance_out_of_bounds_neither_explodes_nor_pulls() -> None:
    outputs = Gaussian.over(1, 7)
    raw = torch.tensor([[3.0, -1e4], [3.0, 1e4]], requires_grad=True)
    loss = loss_of(Fit(loss="nll"), outputs)(raw, torch.tensor([4.0, 4.0]))
    loss.backward()
    low, high = 0.06**2, 36.0  # a hundredth of the range, and the range
    expected = ((1 / low + math.log(low)) / 2 + (1 / high + math.log(high)) / 2) / 2
    assert loss.item() == pytest.approx(expected, rel=1e-4)
    assert raw.grad is not None
    assert raw.grad[:, 1].tolist() == [0, 0]
    assert torch.isfinite(raw.grad).all()


def test_label_distributions_by_hand() -> None:
    outputs = Distribution.over(1, 5, 5)
    target = label_distribution(torch.tensor([3.0, 1.0]), outputs, sd=1.0)
    a, b = math.exp(-0.5), math.exp(-2)
    assert target[0].tolist() == pytest.approx([part / (1 + 2 * a + 2 * b) for part in (b, a, 1, a, b)])
    assert target.sum(dim=1).tolist() == pytest.approx([1, 1])
    assert float(target[1] @ torch.tensor(outputs.bins)) > 1  # the part below the scale is cut off
    fit = Fit(loss="ldl", bins=5, smoothing=0.25)
    loss = loss_of(fit, outputs)
    assert loss.of_texts(target.log(), torch.tensor([3.0, 1.0])).tolist() == pytest.approx([0, 0], abs=1e-6)
    flat = loss.of_texts(torch.zeros(1, 5), torch.tensor([3.0])).item()
    assert flat == pytest.approx(math.log(5) + float((target[0] * target[0].log()).sum()), rel=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_are_those_of_finite_differences(name: str) -> None:
    fit = Fit(loss=name, beta=0.0)  # type: ignore[arg-type]  # beta's factor is not differentiated
    loss = loss_of(fit, outputs_of(fit, SCALE))
    raw, labels, weights = (tensor.double() for tensor in raw_for(fit))
    raw.requires_grad_()
    assert torch.autograd.gradcheck(lambda outputs: loss(outputs, labels, weights), (raw,), atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("name", LOSSES)
def test_weights_of_1_change_nothing_and_a_weight_of_0_leaves_a_text_out(name: str) -> None:
    fit = Fit(loss=name)  # type: ignore[arg-type]
    loss = loss_of(fit, outputs_of(fit, SCALE))
    raw, labels, _ = raw_for(fit)
    assert loss(raw, labels, torch.ones(8)).item() == loss(raw, labels).item()
    weights = torch.tensor([8 / 6] * 6 + [0.0] * 2)  # mean 1: as if the last two texts were absent
    assert loss(raw, labels, weights).item() == pytest.approx(loss(raw[:6], labels[:6]).item(), rel=1e-5)
    raw.requires_grad_()
    loss(raw, labels, torch.zeros(8)).backward()
    assert raw.grad is not None
    assert raw.grad.abs().max() == 0


@pytest.mark.parametrize("name", [name for name in LOSSES if name != "ccc"])
def test_batches_of_an_epoch_sum_to_the_weighted_loss_of_the_set(name: str) -> None:
    fit = Fit(loss=name)  # type: ignore[arg-type]
    loss = loss_of(fit, outputs_of(fit, SCALE))
    raw, labels, weights = raw_for(fit, texts=12)
    weights = weights / weights.mean()
    batches = torch.stack([loss(raw[at : at + 4], labels[at : at + 4], weights[at : at + 4]) for at in (0, 4, 8)])
    texts = loss.of_texts(raw, labels)
    assert batches.mean().item() == pytest.approx(((weights * texts).sum() / weights.sum()).item(), rel=1e-5)


def test_a_batch_of_light_texts_pulls_less() -> None:
    for name in LOSSES:
        fit = Fit(loss=name)  # type: ignore[arg-type]
        loss = loss_of(fit, outputs_of(fit, SCALE))
        raw, labels, _ = raw_for(fit)
        light = loss(raw, labels, torch.full((8,), 0.25)).item()
        assert light == pytest.approx(loss(raw, labels).item() / 4, rel=1e-5)


def test_the_ccc_loss_has_a_gradient_if_nothing_varies() -> None:
    x = torch.full((4,), 3.0, requires_grad=True)
    loss = ccc_loss(x, torch.full((4,), 3.0))
    loss.backward()
    assert loss.item() == 1
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()


def test_outputs_start_from_the_average_text() -> None:
    labels, weights = np.array([1.0, 3.0, 6.0, 6.0]), np.array([2.0, 2.0, 0.0, 0.0])
    assert first_bias(Fit(), Score(), labels, weights) == [2.0]
    fit = Fit(loss="nll")
    assert first_bias(fit, outputs_of(fit, SCALE), labels, weights) == pytest.approx([2.0, 0.0])  # variance 1
    assert first_bias(fit, outputs_of(fit, SCALE), np.full(4, 3.0), np.ones(4))[1] == pytest.approx(math.log(0.06**2))
    fit = Fit(loss="ldl", bins=61, smoothing=0.01)
    outputs = outputs_of(fit, SCALE)
    read = outputs.read(torch.tensor([first_bias(fit, outputs, labels, np.ones(4))]))
    assert read.score.item() == pytest.approx(4.0, abs=0.05)
    assert read.sd is not None
    assert read.sd.item() == pytest.approx(labels.std(), abs=0.1)


@pytest.mark.parametrize("name", ["nll", "beta_nll", "ldl"])
def test_the_predicted_sd_finds_out_how_noisy_labels_are(name: str) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2000, 3))
    noise = np.exp(0.6 * x[:, 1] - 0.5)
    labels = np.clip(4 + 0.8 * x[:, 0] + noise * rng.normal(size=2000), 1, 7)
    fit = Fit(loss=name)  # type: ignore[arg-type]
    outputs = outputs_of(fit, SCALE)
    loss, inputs, y = loss_of(fit, outputs), torch.tensor(x, dtype=torch.float32), torch.tensor(labels).float()
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(3, 16), torch.nn.Tanh(), torch.nn.Linear(16, len(outputs.names)))
    with torch.no_grad():
        net[2].bias.copy_(torch.tensor(first_bias(fit, outputs, labels, np.ones(2000))))
    optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
    for _ in range(150):
        optimizer.zero_grad()
        loss(net(inputs), y).backward()
        optimizer.step()
    with torch.no_grad():
        read = outputs.read(net(inputs))
    assert read.sd is not None
    assert np.corrcoef(read.score.numpy(), 4 + 0.8 * x[:, 0])[0, 1] > 0.95
    assert np.corrcoef(read.sd.numpy(), noise.clip(max=3))[0, 1] > 0.8
    quiet = noise < np.median(noise)
    assert read.sd.numpy()[quiet].mean() < 0.6 * read.sd.numpy()[~quiet].mean()
