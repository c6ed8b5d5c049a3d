"""Reliability from three raters, and the weights that follow: hand-checked, against known truth, and by property."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from invitro.errors import InputError
from invitro.raters.precision import Errors, mean_squared_errors, precision_share, triad_reliability

N = 40_000


def raters(crowd_sd: float, llm_sd: float, shift: float = 0.0, gain: float = 1.0) -> tuple[np.ndarray, ...]:
    """Return truth (SD 1), crowd, LLM, and a third rater on another scale, with independent errors."""
    rng = np.random.default_rng(1)
    truth = rng.normal(size=N)
    crowd = truth + crowd_sd * rng.normal(size=N)
    llm = shift + gain * truth + llm_sd * rng.normal(size=N)
    return truth, crowd, llm, 20 + 0.3 * truth + 0.4 * rng.normal(size=N)


@pytest.mark.parametrize(("crowd_sd", "llm_sd", "gain"), [(1.0, 0.5, 1.0), (0.5, 1.0, 0.6), (2.0, 0.7, 1.4)])
def test_the_reliability_is_found_whatever_the_gains(crowd_sd: float, llm_sd: float, gain: float) -> None:
    _, crowd, llm, third = raters(crowd_sd, llm_sd, 0.5, gain)
    assert triad_reliability(crowd, llm, third) == pytest.approx(1 / (1 + crowd_sd**2), abs=0.03)
    assert triad_reliability(crowd, 7 - 3 * -llm, third / 9) == pytest.approx(triad_reliability(crowd, llm, third))


def test_reliability_by_hand() -> None:
    # Deviations orthogonal by construction: cov(C, L) = cov(C, F) = cov(L, F) = 1, var(C) = 2, in units of 1/(n - 1).
    t = np.tile([1, 1, -1, -1], 3)
    e = np.tile([1, -1, 1, -1], 3)
    f = np.tile([1, -1, -1, 1], 3)
    assert triad_reliability(t + e, t.astype(float), t + f) == pytest.approx(0.5)


def test_errors_and_share_by_hand() -> None:
    crowd, llm = np.array([1.0, 3, 5, 7]), np.array([2.0, 4, 6, 8])  # var(C) = 5, all differences 1
    assert mean_squared_errors(crowd, llm, 0.9) == pytest.approx((0.5, 0.5))
    assert mean_squared_errors(crowd, llm, 0.0) == pytest.approx((1, 0))  # no more than the difference
    assert precision_share(Errors(0.5, 0.5)) == 0.5
    assert precision_share(Errors(3.0, 1.0)) == 0.75
    assert precision_share(Errors(0.0, 0.0)) == 0.5


@pytest.mark.parametrize(("llm_sd", "shift", "gain"), [(0.5, 0.0, 1.0), (0.5, 1.0, 1.0), (0.3, 0.0, 0.5)])
def test_the_share_is_the_one_with_the_least_error(llm_sd: float, shift: float, gain: float) -> None:
    truth, crowd, llm, third = raters(1.0, llm_sd, shift, gain)
    found = mean_squared_errors(crowd, llm, triad_reliability(crowd, llm, third))
    assert found.crowd == pytest.approx(np.mean((crowd - truth) ** 2), rel=0.05)
    assert found.llm == pytest.approx(np.mean((llm - truth) ** 2), rel=0.1)
    shares = np.linspace(0, 1, 101)
    error = [np.mean((share * llm + (1 - share) * crowd - truth) ** 2) for share in shares]
    assert precision_share(found) == pytest.approx(shares[int(np.argmin(error))], abs=0.03)


def test_spreads_move_the_share_from_text_to_text() -> None:
    spread = np.array([0.0, 1.0, np.sqrt(2), np.sqrt(5), np.nan])  # squares 0, 1, 2, 5: mean 2
    whole = precision_share(Errors(1.0, 1.0), spread, 1.0)
    np.testing.assert_allclose(whole, [1, 1 / 1.5, 1 / 2, 1 / 3.5, 1 / 2])
    half = precision_share(Errors(1.0, 1.0), spread, 0.5)
    np.testing.assert_allclose(half, [1 / 1.5, 1 / 1.75, 1 / 2, 1 / 2.75, 1 / 2])
    assert precision_share(Errors(1.0, 1.0), spread, 0.0) == 0.5
    np.testing.assert_allclose(precision_share(Errors(3.0, 1.0), np.zeros(2), 1.0), 0.75)


@given(st.floats(0, 9), st.floats(0, 9), st.lists(st.floats(0, 3), min_size=1, max_size=9), st.floats(0, 1))
def test_a_share_is_a_share(crowd: float, llm: float, spread: list[float], spread_share: float) -> None:
    share = np.asarray(precision_share(Errors(crowd, llm), np.array(spread), spread_share))
    assert ((share >= 0) & (share <= 1)).all()


def test_what_cannot_be_estimated_is_refused() -> None:
    _, crowd, llm, third = raters(1.0, 1.0)
    with pytest.raises(InputError, match=r"have to covary.*application\.crowd_reliability"):
        triad_reliability(crowd, -llm, third)
    with pytest.raises(InputError, match="at least 10 are needed"):
        triad_reliability(crowd[:9], llm[:9], third[:9])
