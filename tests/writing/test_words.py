"""How numbers and lists are written, and how far work has come."""

import time
from typing import Any

import pytest

from invitro.writing.words import (
    SPACE,
    Progress,
    capital,
    count,
    duration,
    estimate,
    interval,
    listed,
    markdown_text,
    number,
    p_value,
    plain,
    share,
    shortened,
    unbroken,
)

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("value", "expected"), [(4.0, "4"), ("0.35", "0.35"), (INF, "∞"), (None, "–"), (NAN, "–"), ("both", "both")]
)
def test_values_are_written_in_as_few_digits_as_they_have(value: Any, expected: str) -> None:
    assert plain(value) == expected


def test_numbers() -> None:
    assert (number(-0.0001), number(0.5, sign=True), number(NAN)) == ("0.000", "+0.500", "–")
    assert (p_value(0.0004), p_value(0.049), p_value(0.049, equals=True)) == ("< 0.001", "0.049", "= 0.049")
    assert (share(0.125), share(None)) == (f"12.5{SPACE}%", "–")
    assert (interval(-0.1, 0.2, sign=True), interval(NAN, 0.2)) == ("[−0.100, +0.200]", "")
    assert (estimate(0.45, 0.4, 0.5, 2), estimate(0.45, NAN, NAN)) == ("0.45 [0.40, 0.50]", "0.450")


def test_lists_and_counts() -> None:
    assert (listed(["a"]), listed(["a", "b", "c"]), listed([])) == ("a", "a, b and c", "")
    assert (shortened("abcd", 2), shortened("ab", 2)) == (["a", "b", "2 more"], ["a", "b"])
    assert (count(1, "text"), count(1200, "text"), count(2, "entry", "entries")) == (
        "1 text",
        "1,200 texts",
        "2 entries",
    )
    assert (capital("no PCC"), capital("")) == ("No PCC", "")


def test_what_belongs_together_stays_on_one_line() -> None:
    text = "95 % interval, p = 0.01, p < 0.001, 3 %, a % b"
    assert unbroken(text) == "95~% interval, p~=~0.01, p~<~0.001, 3~%, a % b".replace("~", SPACE)


@pytest.mark.parametrize(
    ("seconds", "expected"), [(0.4, "0 s"), (59.6, "1 min 0 s"), (725, "12 min 5 s"), (11520, "3 h 12 min")]
)
def test_durations(seconds: float, expected: str) -> None:
    assert duration(seconds) == expected


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("a_b [1, 2] *c*", r"a_b [1, 2] \*c\*"),
        ("<b>|`x`", r"\<b\>\|\`x\`"),
        ("![x](http://h)\n# y", r"![x\](http://h) # y"),
    ],
)
def test_markdown_prints_text_as_it_is(text: str, escaped: str) -> None:
    assert markdown_text(text) == escaped


def test_what_was_there_before_counts_for_the_bar_and_not_for_the_speed(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(1000, "label", True) as progress:
        progress.known(900)
        time.sleep(0.2)
        progress.add(1, "7 tokens/s")
        progress.reached(950)
        bar = progress._bar
        assert (bar.n, bar.total, bar.initial) == (950, 1000, 949)
        assert bar.format_dict["elapsed"] >= 0.2
        assert "7 tokens/s" in str(bar)
        assert (bar.n - bar.initial) / bar.format_dict["elapsed"] <= 5
    assert "950/1000" in capsys.readouterr().err


@pytest.mark.parametrize("shown", [False, None])
def test_short_work_in_a_file_and_work_that_is_not_shown_say_nothing(
    capsys: pytest.CaptureFixture[str], shown: bool | None
) -> None:
    with Progress(10, "label", shown) as progress:
        progress.known(3)
        progress.add(1, "note")
    assert capsys.readouterr().err == ""


def test_in_a_file_a_line_a_minute_says_what_is_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [1000.0]
    monkeypatch.setattr("invitro.writing.words.time.monotonic", lambda: clock[0])
    with Progress(1000, "label") as progress:
        progress.known(100)
        for _ in range(13):  # 10 labels every 10 seconds
            clock[0] += 10
            progress.add(10, "85 tokens/s, $0.10")
    first, second = capsys.readouterr().err.splitlines()
    assert first == "160 of 1000 labels, 14 min 0 s left, 85 tokens/s, $0.10"
    assert second == "220 of 1000 labels, 13 min 0 s left, 85 tokens/s, $0.10"
