"""The error for people."""

import pytest

from invitro.errors import InputError, refuse_if_any


def test_problems_are_reported_one_per_line() -> None:
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
