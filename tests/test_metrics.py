"""PCC, CCC and RMSE against SciPy and NumPy, and whatever way a split is cut."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats
from support import metrics_of_share

from invitro.metrics import RunningMetrics, merge
from invitro.stats.moments import ConstantPredictionsWarning, measure

values = st.integers(3, 40).flatmap(
    lambda n: arrays(np.float64, (2, n), elements=st.floats(-50, 50, width=32, allow_subnormal=False))
)


def lin(x: np.ndarray, y: np.ndarray) -> float:
    """Lin's concordance, as he wrote it: population variances."""
    return 2 * np.cov(x, y, bias=True)[0, 1] / (x.var() + y.var() + (x.mean() - y.mean()) ** 2)


@given(values)
def test_equal_to_scipy_and_numpy(pair: np.ndarray) -> None:
    x, y = pair
    if min(x.std(), y.std()) < 1e-3:
        return
    found = measure(x, y)
    assert found["pcc"] == pytest.approx(stats.pearsonr(x, y).statistic, abs=1e-6)
    assert found["ccc"] == pytest.approx(lin(x, y), abs=1e-6)
    assert found["rmse"] == pytest.approx(np.sqrt(np.mean((x - y) ** 2)), abs=1e-6)


@given(values, st.integers(1, 9))
def test_batches_do_not_matter(pair: np.ndarray, size: int) -> None:
    x, y = torch.from_numpy(pair.copy())
    whole, parts = RunningMetrics(), RunningMetrics()
    whole.update(x, y)
    for start in range(0, len(x), size):
        parts.update(x[start : start + size], y[start : start + size])
    torch.testing.assert_close(parts.moments, whole.moments, atol=1e-6, rtol=1e-9)


def test_hand_computed() -> None:
    found = measure([1, 2, 3, 4], [2, 4, 6, 8])
    assert found["pcc"] == pytest.approx(1.0)
    assert found["ccc"] == pytest.approx(2 * 2.5 / (1.25 + 5 + 6.25))  # right order, wrong magnitudes
    assert found["rmse"] == pytest.approx(np.sqrt(7.5))


@pytest.mark.parametrize("values", [[4.1] * 5, [0.1 + 0.2, 0.3, 0.3, 0.3, 0.3]])
def test_constant_predictions_give_0_and_a_warning(values: list[float]) -> None:
    with pytest.warns(ConstantPredictionsWarning, match="predictions do not vary"):
        found = measure(values, [1, 2, 3, 4, 5])
    assert found["pcc"] == 0
    assert found["ccc"] == 0
    assert np.isfinite(found["rmse"])


def test_small_but_real_variation_is_not_constant() -> None:
    found = measure(4 + 1e-6 * np.arange(5), [1, 2, 3, 4, 5])
    assert found["pcc"] == pytest.approx(1.0, abs=1e-6)


def test_a_large_offset_costs_no_digits() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 500))
    assert measure(x + 1e6, y + 1e6)["pcc"] == pytest.approx(stats.pearsonr(x, y).statistic, abs=1e-6)


def test_shapes_that_would_broadcast_are_refused() -> None:
    with pytest.raises(ValueError, match="one shape"):
        RunningMetrics().update(torch.zeros(4, 1), torch.zeros(4))


def test_an_empty_process_changes_nothing() -> None:
    metric = RunningMetrics()
    metric.update(torch.tensor([1.0, 2.0]), torch.tensor([2.0, 4.0]))
    empty = torch.zeros_like(metric.moments)
    for parts in ([metric.moments, empty], [empty, metric.moments]):
        torch.testing.assert_close(merge(torch.stack(parts)), metric.moments)


@pytest.mark.slow
def test_two_processes_agree_with_one() -> None:
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    pair = np.random.default_rng(1).normal(3, 1.5, (2, 51))  # uneven: 26 and 25
    context = torch.multiprocessing.get_context("spawn")
    queue = context.Queue()
    processes = [context.Process(target=metrics_of_share, args=(rank, port, pair, queue)) for rank in range(2)]
    for process in processes:
        process.start()
    found = [queue.get(timeout=120) for _ in processes]
    for process in processes:
        process.join(timeout=60)
    expected = measure(*pair)
    for values in found:
        assert values == pytest.approx([expected["pcc"], expected["ccc"], expected["rmse"]], abs=1e-9)
