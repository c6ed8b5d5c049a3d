"""The error for people."""

import math

import pytest

from invitro.errors import InputError, not_whole, out_of_range, refuse_if_any


def test_problems_stand_one_a_line() -> None:
    error = InputError("a.csv: no rows", "b.csv: no column text")
    assert str(error) == "a.csv: no rows\nb.csv: no column text"
    assert error.problems == ("a.csv: no rows", "b.csv: no column text")


def test_it_is_a_value_error() -> None:
    assert issubclass(InputError, ValueError)


def test_an_error_without_a_problem_is_a_bug() -> None:
    with pytest.raises(TypeError, match="at least one problem"):
        InputError()


def test_refuse_if_any_reports_all_problems_together() -> None:
    with pytest.raises(InputError) as refused:
        refuse_if_any(f"problem {number}" for number in (1, 2, 3))
    assert refused.value.problems == ("problem 1", "problem 2", "problem 3")


def test_refuse_if_any_lets_no_problems_pass() -> None:
    refuse_if_any(iter(()))


@pytest.mark.parametrize(
    ("value", "low", "high", "told"),
    [
        (0.5, 0, 1, []),
        (1, 0, 1, []),
        (1.5, 0, 1, ["x: expected a number from 0 to 1, found 1.5"]),
        (-1, 0, math.inf, ["x: expected a number of at least 0, found -1"]),
        (math.inf, -math.inf, math.inf, ["x: expected a number, found inf"]),
        (True, 0, 1, ["x: expected a number from 0 to 1, found True"]),
        ("hot", 0, 2, ["x: expected a number from 0 to 2, found 'hot'"]),
        (None, 0, 2, ["x: expected a number from 0 to 2, found None"]),
    ],
)
def test_numbers_out_of_range(value: object, low: float, high: float, told: list[str]) -> None:
    assert list(out_of_range("x", value, low, high)) == told


@pytest.mark.parametrize(
    ("value", "right"), [(1, True), (7, True), (0, False), (1.0, False), (True, False), ("3", False)]
)
def test_whole_numbers(value: object, right: bool) -> None:
    assert list(not_whole("x", value, 1)) == (
        [] if right else [f"x: expected a whole number of at least 1, found {value!r}"]
    )
