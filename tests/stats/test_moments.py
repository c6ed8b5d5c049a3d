"""PCC, CCC, RMSE and bias by hand, and what they are where a side does not vary."""

import numpy as np
import pytest

from invitro.stats.moments import MEASURES, measured, of_sums, sums_over


def test_by_hand() -> None:
    # Means 2.5 and 5, population variances 1.25 and 5, covariance 2.5.
    expected = {"pcc": 1.0, "ccc": 2 * 2.5 / (1.25 + 5 + 2.5**2), "rmse": 7.5**0.5, "bias": -2.5}
    assert measured([1, 2, 3, 4], [2, 4, 6, 8]) == pytest.approx(expected)


@pytest.mark.parametrize(("x", "y"), [([3, 3, 3], [1, 2, 4]), ([0.1 + 0.2, 0.3, 0.3], [0.3, 0.3, 0.3])])
def test_with_a_constant_pcc_is_undefined_and_ccc_is_0(x: list[float], y: list[float]) -> None:
    found = measured(x, y)
    assert np.isnan(found["pcc"])
    assert found["ccc"] == 0
    assert found["rmse"] == pytest.approx(np.sqrt(np.mean((np.array(x) - y) ** 2)))


def test_without_a_text_nothing_is_defined() -> None:
    moments = of_sums(sums_over([np.nan, np.nan], [1.0, 2.0]).sum(axis=0))
    assert np.isnan([measure(moments) for measure in MEASURES.values()]).all()


def test_texts_that_one_side_lacks_do_not_count() -> None:
    moments = of_sums(sums_over([1.0, np.nan, 4.0, 2.0], [2.0, 9.0, 3.0, 1.0]).sum(axis=0))
    assert {name: float(measure(moments)) for name, measure in MEASURES.items()} == pytest.approx(
        measured([1, 4, 2], [2, 3, 1])
    )
