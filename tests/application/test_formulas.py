"""Thresholds and policies on arrays: hand-checked cases, and properties that hold for any labels."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from invitro.application.policy import Fused, beyond, correct, fuse, quantile_alpha, thresholds

NAN, INF = float("nan"), float("inf")
CROWD = np.array([1.0, 1.0, 3.0, 2.0, 5.0])
LLM = np.array([5.0, 6.0, 3.0, NAN, 4.0])

labels = st.floats(1, 7, width=32)
pairs = st.integers(1, 30).flatmap(
    lambda n: st.tuples(
        arrays(np.float64, n, elements=labels), arrays(np.float64, n, elements=st.one_of(labels, st.just(NAN)))
    )
)
alphas = st.one_of(st.floats(0, 8), st.just(INF))
POLICIES = ("replace", "drop", "blend", "weight")


def fused(policy: str, crowd: np.ndarray, llm: np.ndarray, alpha: float) -> Fused:
    return fuse(policy, crowd, llm, alpha, share=0.3 if policy == "blend" else 1.0)


@pytest.mark.parametrize(
    ("policy", "label", "share", "weight", "kept"),
    [
        ("replace", [1, 6, 3, 2, 5], [0, 1, 0, 0, 0], [1] * 5, [1] * 5),  # 4 apart is not more than 4
        ("drop", CROWD.tolist(), [0] * 5, [1] * 5, [1, 0, 1, 1, 1]),
        ("blend", [1, 2.5, 3, 2, 5], [0, 0.3, 0, 0, 0], [1] * 5, [1] * 5),
        ("weight", CROWD.tolist(), [0] * 5, [1 / 2, 16 / 41, 1, 1, 16 / 17], [1] * 5),
    ],
)
def test_policies_at_alpha_4(policy: str, label: list, share: list, weight: list, kept: list) -> None:
    result = fused(policy, CROWD, LLM, 4.0)
    for array, expected in zip(result, (label, share, weight, kept), strict=True):
        np.testing.assert_allclose(array, expected)


def test_a_threshold_of_0_leaves_no_weight_to_texts_that_differ() -> None:
    assert fused("weight", CROWD, LLM, 0.0).weight.tolist() == [0, 0, 1, 1, 0]


@pytest.mark.parametrize(("share", "expected"), [(1.0, LLM), (0.0, CROWD)])
def test_a_whole_share_is_exactly_one_of_the_labels(share: float, expected: np.ndarray) -> None:
    crowd, llm = CROWD + 0.1, LLM + 0.2  # no sum or product of these is exact
    result = fuse("blend", crowd, llm, 0.0, share=share)
    assert (result.label == np.where(np.isnan(llm), crowd, expected + (0.2 if share else 0.1))).all()


@pytest.mark.parametrize("policy", POLICIES)
@given(pairs, alphas)
def test_bounds_missing_labels_and_order(policy: str, pair: tuple, alpha: float) -> None:
    crowd, llm = pair
    result = fused(policy, crowd, llm, alpha)
    both = np.where(np.isnan(llm), crowd, llm)
    slack = 1e-12
    assert (result.label >= np.minimum(crowd, both) - slack).all()
    assert (result.label <= np.maximum(crowd, both) + slack).all()
    assert ((result.share >= 0) & (result.share <= 1) & (result.weight >= 0) & (result.weight <= 1)).all()
    missing = np.isnan(llm)
    assert (result.label[missing] == crowd[missing]).all()
    assert (result.weight[missing] == 1).all()
    assert result.kept[missing].all()
    order = np.random.default_rng(0).permutation(len(crowd))
    for array, permuted in zip(result, fused(policy, crowd[order], llm[order], alpha), strict=True):
        assert (array[order] == permuted).all()


@pytest.mark.parametrize("policy", POLICIES)
@given(pairs)
def test_an_infinite_alpha_changes_nothing(policy: str, pair: tuple) -> None:
    result = fused(policy, *pair, INF)
    assert (result.label == pair[0]).all()
    assert (result.weight == 1).all()
    assert result.kept.all()


@given(pairs, alphas)
def test_replace_is_correct(pair: tuple, alpha: float) -> None:
    label, replaced = correct(*pair, alpha)
    result = fused("replace", *pair, alpha)
    assert (result.label == label).all()
    assert ((result.share == 1) == replaced).all()


@given(pairs, st.floats(0.01, 8), st.floats(0.01, 8))
def test_weights_grow_with_the_threshold_and_are_half_at_it(pair: tuple, one: float, other: float) -> None:
    small, large = (fused("weight", *pair, alpha).weight for alpha in sorted((one, other)))
    assert (small <= large + 1e-12).all()
    assert fuse("weight", np.array([1.0]), np.array([1.0 + one]), one).weight == pytest.approx(0.5)


def test_thresholds_grow_with_the_spread() -> None:
    spread = np.array([0.0, 1.0, NAN, 2.0, 0.5])
    limits = thresholds(3.0, spread, 2.0)
    np.testing.assert_array_equal(limits, [3, 5, NAN, 7, 4])
    crowd = np.full(5, 1.0)
    assert beyond(crowd, np.array([5.0, 6, 7, 7, 5.5]), limits).tolist() == [True, False, False, False, True]
    assert thresholds(3.0, None, 2.0) == thresholds(3.0, spread, 0.0) == 3


@pytest.mark.parametrize(
    ("share", "alpha", "beyond_it"),
    [(0.0, 5.0, 0), (0.25, 4.0, 1), (0.3, 4.0, 1), (0.5, 1.0, 2), (0.75, 0.0, 3), (1.0, 0.0, 3)],
)
def test_quantile_alpha(share: float, alpha: float, beyond_it: int) -> None:
    assert quantile_alpha(CROWD, LLM, share) == alpha  # differences 4, 5, 0, none, 1
    assert beyond(CROWD, LLM, alpha).sum() == beyond_it


def test_quantile_alpha_with_spreads_and_without_labels() -> None:
    spread = np.array([1.0, 3.0, 0.0, 0.0, 1.0])
    # Differences less two spreads: 2, -1, 0, none, -1.
    assert quantile_alpha(CROWD, LLM, 0.0, spread, 2.0) == 2
    assert quantile_alpha(CROWD, LLM, 0.5, spread, 2.0) == 0
    assert quantile_alpha(CROWD, np.full(5, NAN), 0.5) == INF


@given(pairs, st.floats(0, 1))
def test_no_more_than_the_share_is_beyond_and_no_smaller_alpha_will_do(pair: tuple, share: float) -> None:
    crowd, llm = pair
    compared = (~np.isnan(llm)).sum()
    assume(compared)
    alpha = quantile_alpha(crowd, llm, share)
    assert beyond(crowd, llm, alpha).sum() <= share * compared + 1e-9
    if alpha > 0:
        assert beyond(crowd, llm, np.nextafter(alpha, 0)).sum() > np.floor(share * compared + 1e-9)


def test_seven_of_a_hundred_are_seven() -> None:
    crowd, llm = np.zeros(100), np.arange(1.0, 101.0)
    assert beyond(crowd, llm, quantile_alpha(crowd, llm, 0.07)).sum() == 7
