"""Scales: bounds, aggregation, and what is refused."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from invitro.errors import InputError
from invitro.scales import Aggregation, Item, Scale, likely_bounds, on_another_scale, which_scale


def scale(items: int = 3, low: float = 1, high: float = 7, aggregation: Aggregation = "mean") -> Scale:
    return Scale(
        "test", "empathy", tuple(Item(f"i{n}", f"statement {n}") for n in range(items)), low, high, aggregation
    )


@pytest.mark.parametrize(
    ("aggregation", "low", "high", "minimum", "maximum", "score", "alpha"),
    [
        ("mean", 1, 7, 1, 7, 3.0, 4.0),
        ("sum", 0, 3, 0, 9, 9.0, 6.0),
        ("sum", 1, 5, 3, 15, 9.0, 8.0),
        ("mean", 0, 100, 0, 100, 3.0, 66.667),
    ],
)
def test_bounds_score_and_threshold(
    aggregation: Aggregation, low: float, high: float, minimum: float, maximum: float, score: float, alpha: float
) -> None:
    measured = scale(3, low, high, aggregation)
    assert (measured.minimum, measured.maximum, measured.default_alpha) == (minimum, maximum, alpha)
    assert measured.score([1, 3, 5]) == score


def test_score_keeps_leading_axes_and_missing_items() -> None:
    scores = scale().score(np.array([[1, 2, 3], [4, np.nan, 6]]))
    assert scores.dtype == np.float64
    np.testing.assert_array_equal(scores, [2.0, np.nan])


def test_score_refuses_another_number_of_items() -> None:
    with pytest.raises(ValueError, match=r"expected 3 item scores on the last axis, found shape \(2,\)"):
        scale().score([1, 2])


def test_outside_and_clip() -> None:
    values = [0.99, 1, 7, 7.01, np.nan, np.inf]
    np.testing.assert_array_equal(scale().outside(values), [True, False, False, True, False, True])
    np.testing.assert_array_equal(scale().clip(values), [1, 1, 7, 7, np.nan, 7])


@given(st.lists(st.floats(1, 7), min_size=4, max_size=4), st.sampled_from(["mean", "sum"]))
def test_answers_within_bounds_give_scores_within_bounds(answers: list[float], aggregation: Aggregation) -> None:
    measured = scale(4, aggregation=aggregation)
    score = measured.score(answers)
    np.testing.assert_allclose(measured.clip(score), score, rtol=1e-12)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"items": ()}, r"items: expected a list of items, each with name and statement, found \(\)"),
        ({"items": None}, "items: expected a list of items, each with name and statement, found None"),
        ({"items": ({"name": "a"},)}, "items: expected a list of items, each with name and statement, found"),
        ({"high": "seven"}, "high: expected a number, found 'seven'"),
        ({"instructions": None}, "instructions: expected text, found None"),
        ({"items": (Item("a", "x"), Item("a", "y"))}, r"items: expected names that differ, found a, a"),
        ({"low": 7, "high": 7}, "low: expected a number below scale.high=7, found 7"),
        ({"low": float("nan")}, "low: expected a number, found nan"),
        ({"aggregation": "median"}, "aggregation: expected mean or sum, found 'median'"),
    ],
)
def test_faults_are_named(change: dict[str, Any], message: str) -> None:
    whole: dict[str, Any] = {"name": "mine", "construct": "x", "items": (Item("a", "x"),), "low": 1, "high": 7}
    with pytest.raises(InputError, match=f"scale.{message}"):
        Scale(**whole | change)


def test_all_faults_are_named_together() -> None:
    with pytest.raises(InputError) as refused:
        Scale("mine", "x", (), "3", 1, "median")  # type: ignore[arg-type]
    assert len(refused.value.problems) == 3


def test_items_may_come_as_a_list() -> None:
    assert Scale("mine", "x", [Item("a", "x")], 1, 7).items == (Item("a", "x"),)  # type: ignore[arg-type]


def test_translations_have_known_keys() -> None:
    words = {"de": {"instructions": "Wie sehr?", "warm": "warm"}}
    made = Scale("test", "empathy", (Item("warm", "warm"),), 1, 7, translations=words)
    assert hash(made) == hash(Scale("test", "empathy", (Item("warm", "warm"),), 1, 7))
    with pytest.raises(InputError, match=r"de: expected construct, occasion, instructions and items, found tender"):
        Scale("test", "empathy", (Item("warm", "warm"),), 1, 7, translations={"de": {"tender": "sanft"}})


def test_scores_of_another_scale_are_reported_in_one_line_with_the_override_that_sets_it() -> None:
    slider, nan = [50.0, 3, 100, 0, 67, 8, float("nan"), 20], float("nan")
    message = on_another_scale(slider, range(2, 10), "ratings", scale(), None, "Do this")
    assert (
        message
        == "6 of 7 ratings lie outside 1 to 7 (test): they range from 0 to 100, such as 50 in data row 2. Do this"
    )
    assert (
        on_another_scale([9.0] * 5, range(5), "ratings", scale(), None, "Do this") is None
    )  # five rows are listed one by one
    assert (
        on_another_scale([9.0] * 6 + [4.0] * 115, range(121), "ratings", scale(), None, "Do this") is None
    )  # and less than 5 %
    assert on_another_scale([9.0] * 6 + [4.0] * 114, range(120), "ratings", scale(), None, "Do this") is not None
    ranges = {(0, 1): [0.1, 0.9], (0, 10): [0, 9.5], (1, 5): [1, 5], (1, 9): [2, 9], (1, 10): [1, 10], (0, 4): [4, 0],
              (-3, 3): [-3, 2], (-100, 100): [-80, 90], (0, 100): [12, 88]}  # fmt: skip
    assert {bounds: likely_bounds([*scores, nan]) for bounds, scores in ranges.items()} == {
        pair: pair for pair in ranges
    }
    for scores in ([6, 42], [200, 900], [9, 9], [nan], []):  # a sum of items, some other measure, no range at all
        assert likely_bounds(scores) is None
    words = "add scale=slider; for a score of several items, name their scale with scale="
    assert which_scale(slider) == f"For one question or slider from 0 to 100, {words}"
    assert "slider, add scale=slider scale.low=LOWEST scale.high=HIGHEST; for" in which_scale([6, 42])
