"""Correction and its settings."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from invitro.application import Application, alpha_problem, correct, seeded_share
from invitro.errors import InputError

scores = st.one_of(st.floats(1, 7, width=32), st.just(float("nan")))
pairs = st.integers(1, 30).flatmap(
    lambda n: st.tuples(
        arrays(np.float64, n, elements=st.floats(1, 7, width=32)), arrays(np.float64, n, elements=scores)
    )
)


@pytest.mark.parametrize(
    ("alpha", "label", "replaced"),
    [
        (4.0, [1.0, 6.0, 3.0, 2.0], [False, True, False, False]),  # a difference of exactly 4 stays: strictly more
        (3.9, [5.0, 6.0, 3.0, 2.0], [True, True, False, False]),
        (0, [5.0, 6.0, 3.0, 2.0], [True, True, False, False]),  # equal labels are not replaced
        (float("inf"), [1.0, 1.0, 3.0, 2.0], [False] * 4),
    ],
)
def test_correct(alpha: float, label: list[float], replaced: list[bool]) -> None:
    corrected = correct(np.array([1.0, 1, 3, 2]), np.array([5.0, 6, 3, np.nan]), alpha)
    assert corrected.label.tolist() == label
    assert corrected.replaced.tolist() == replaced


@given(pairs, st.floats(0, 8))
def test_a_label_is_the_crowds_or_the_llms_and_far_ones_are_the_llms(pair: tuple, alpha: float) -> None:
    crowd, llm = pair
    label, replaced = correct(crowd, llm, alpha)
    assert np.isfinite(label).all()
    assert (label[replaced] == llm[replaced]).all()
    assert (label[~replaced] == crowd[~replaced]).all()
    labelled = ~np.isnan(llm)
    assert (np.abs(label - llm)[labelled] <= max(alpha, 0)).all()


@given(pairs, st.floats(0, 8), st.floats(0, 8))
def test_a_larger_alpha_replaces_no_more(pair: tuple, one: float, other: float) -> None:
    few, many = correct(*pair, max(one, other)), correct(*pair, min(one, other))
    assert (few.replaced <= many.replaced).all()


@given(st.integers(0, 200), st.floats(0, 1), st.floats(0, 1), st.integers(0, 5))
def test_a_smaller_share_is_a_subset_of_a_larger_one(n: int, one: float, other: float, seed: int) -> None:
    small, large = seeded_share(n, min(one, other), seed), seeded_share(n, max(one, other), seed)
    assert (small <= large).all()
    assert large.sum() == round(max(one, other) * n)


@pytest.mark.parametrize("alpha", [0, 4, 3.5, float("inf")])
def test_alphas_that_are_numbers(alpha: float) -> None:
    assert alpha_problem(alpha) is None


@pytest.mark.parametrize("alpha", [-0.1, float("nan"), "four", None, True])
def test_alphas_that_are_not(alpha: object) -> None:
    assert "expected a number from 0 to inf" in str(alpha_problem(alpha))


def test_all_problems_are_reported_together() -> None:
    with pytest.raises(InputError) as refused:
        Application("both", True, True, pool="none", pool_share=1.5, portion=-1, pool_labels="gold")  # type: ignore[arg-type]
    text = str(refused.value)
    for expected in ("pool_share", "portion", "pool_labels"):
        assert expected in text
    assert len(refused.value.problems) == 3


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (
            {"policy": "average"},
            "distill, posterior or auto, found 'average'",
        ),
        ({"calibration": "probit"}, "calibration: expected none, moment, isotonic, linear or by_group, found 'probit'"),
        ({"policy": "blend"}, "needs the LLM's share: application.blend_weight"),
        ({"policy": "blend", "blend_weight": 1.1}, "blend_weight: expected null or a number from 0 to 1, found 1.1"),
        ({"blend_weight": 0.5}, "blend_weight belongs to application.policy=blend, but application.policy=replace"),
        ({"crowd_reliability": 0.5}, "crowd_reliability belongs to application.policy=precision"),
        (
            {"policy": "precision", "crowd_reliability": 1},
            "crowd_reliability: expected null or a number between 0 and 1",
        ),
        ({"spread_share": 0.5}, "spread_share belongs to application.policy=precision"),
        ({"shrinkage": 5.0}, "shrinkage belongs to application.calibration=linear, but application.calibration=none"),
        (
            {"shrinkage": -1.0, "calibration": "linear"},
            "shrinkage: expected null or a number of at least 0, found -1.0",
        ),
        ({"max_spread": True}, "max_spread: expected null or a number of at least 0, found True"),
        ({"alpha_per_spread": None}, "alpha_per_spread: expected a number of at least 0, found None"),
        ({"pool_weight": 0}, "pool_weight: expected a number above 0 and at most 1, found 0"),
        ({"correction": False, "augmentation": True, "pool": "none"}, "application=x needs texts to add, but"),
        ({"pool": None, "pool_labels": "crowd"}, "application.pool_labels=crowd needs texts to add, but"),
        ({"pool": 3}, "application.pool: expected a word such as set_aside, another corpus or a table file, found 3"),
        ({"pool_weight": 0.5, "pool_labels": "crowd"}, "pool_weight weighs LLM labels of the pool"),
        ({"correction": False, "policy": "drop"}, "policy=drop acts on crowd labels, but application=x leaves them"),
        ({"correction": False, "max_spread": 1.0}, "max_spread acts on crowd labels"),
        ({"correction": False, "alpha_per_spread": 1.0}, "alpha_per_spread acts on crowd labels"),
        ({"correction": False, "calibration": "moment"}, "calibration=moment maps LLM labels, but application=x uses"),
        ({"policy": "auto", "calibration": "moment"}, "policy=auto chooses the calibration"),
        ({"policy": "auto", "pool_labels": "crowd"}, "policy=auto must not see the pool's crowd labels"),
    ],
)
def test_contradictions_are_refused(settings: dict, expected: str) -> None:
    with pytest.raises(InputError) as refused:
        Application(**({"name": "x", "correction": True, "augmentation": False} | settings))
    assert len(refused.value.problems) == 1
    assert expected in refused.value.problems[0]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, None),
        ({"max_spread": 0.0}, "application.max_spread=0"),
        ({"alpha_per_spread": 1.5}, "application.alpha_per_spread=1.5"),
        ({"policy": "precision", "spread_share": 0.5}, "application.spread_share=0.5"),
        ({"policy": "precision", "spread_share": 0.0}, None),
    ],
)
def test_which_settings_need_spreads(settings: dict, expected: str | None) -> None:
    assert Application("x", True, False, **settings).spread_setting == expected


def test_which_applications_use_llm_labels_of_the_crowds_texts() -> None:
    assert Application("correction", True, False).compares
    assert not Application("augmentation", False, True).compares
    assert Application("augmentation", False, True, calibration="moment").compares


def test_which_applications_need_llm_labels() -> None:
    assert not Application("none", False, False).needs_llm_labels
    assert Application("correction", True, False).needs_llm_labels
    assert Application("augmentation", False, True).needs_llm_labels
    assert not Application("augmentation", False, True, pool_labels="crowd").needs_llm_labels
