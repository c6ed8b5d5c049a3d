"""The error for people."""

import json
from urllib.parse import quote

import pytest

from invitro.errors import InputError, error_text, refuse_if_any, remember_secret, traceback_text, without_secrets


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


SECRET = 'sk-"quoted"-and-\\-long\r\n'


@pytest.mark.parametrize(
    "form",
    [
        SECRET, SECRET.strip(), repr(SECRET), f"{SECRET.encode()!r}", json.dumps(SECRET), quote(SECRET),
        f"LocalProtocolError: Illegal header value {b'Bearer ' + SECRET.encode()!r}",
    ],
)  # fmt: skip
def test_a_secret_is_masked_in_every_form(form: str) -> None:
    remember_secret(SECRET)
    for text in (
        without_secrets(f"no, {form}!"),
        error_text(ValueError(form)),
        traceback_text(ValueError(form)),
        str(InputError(form)),
    ):
        assert "***" in text
        assert "quoted" not in text


def test_passwords_of_addresses_are_masked_and_short_words_are_not() -> None:
    remember_secret("no")
    assert without_secrets("no proxy at socks5://me:pass@host:1080/x") == "no proxy at socks5://***@host:1080/x"
