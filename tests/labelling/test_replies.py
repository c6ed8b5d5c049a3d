"""Replies: every one becomes scores within bounds or a status."""

import json
import math
import time
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prompting import NAMES, form, scale

from invitro.engines.base import Readout, Reply, Request, Sampling, TokenChoice
from invitro.errors import InputError
from invitro.labelling.replies import ReplyForm, parse
from invitro.labels.answers import Status

REQUEST = Request("key", "t", (), Sampling())
SIX = dict.fromkeys(NAMES, 3.5)
FORMS = [
    form(readout, of, reasoning=reasoning)
    for readout, of in [("text", "batson_empathy"), ("text", "phq9"), ("digits", "batson_empathy"), ("digits", "gad7")]
    for reasoning in (False, True)
] + [
    form("text", "phq9", overall=True),
    form("digits", overall=True),
    form("text", "phq9", total=True),
    form("digits", total=True),
]


def read(text: str, of: ReplyForm, finish: str = "stop", tokens: tuple[TokenChoice, ...] = ()):
    return parse(Reply(REQUEST, text, finish, tokens=tokens), of)


def js(**changes) -> str:
    return json.dumps({name: value for name, value in (SIX | changes).items() if value is not None})


@pytest.mark.parametrize(
    ("text", "finish", "status", "detail"),
    [
        (js(), "stop", "ok", ""),
        (js(), "length", "ok", ""),
        (f"```json\n{js()}\n```", "stop", "ok", ""),
        (f"Here are the scores: {js()} I hope this helps.", "stop", "ok", ""),
        (js(warm=7.5), "stop", "out_of_range", "expected 1 to 7, found warm=7.5"),
        (js(warm=0), "stop", "out_of_range", "warm=0"),
        (js().replace("3.5", "NaN", 1), "stop", "out_of_range", "sympathetic=nan"),
        (js().replace("3.5", "1e999", 1), "stop", "out_of_range", "sympathetic=inf"),
        (js().replace("3.5", "9" * 5000, 1), "stop", "unparseable", "JSON"),
        (js(warm=None), "stop", "missing_items", "no score for warm"),
        (js(clever=3), "stop", "extra_items", "clever"),
        (js()[:-1] + ', "warm": 7}', "stop", "extra_items", "scored twice"),
        (js(warm="4"), "stop", "unparseable", 'warm: expected a number, found "4"'),
        (js(warm=True), "stop", "unparseable", "found true"),
        (js()[:40], "length", "truncated", "max_tokens"),
        (js()[:40], "stop", "unparseable", "JSON object"),
        ("", "length", "truncated", ""),
        ("", "refusal", "refused", "provider"),
        ("I'm sorry, but I can't rate that.", "stop", "refused", "declined"),
        ("Es tut mir leid, das geht nicht.", "stop", "refused", "declined"),
        ("The writer is sad.", "stop", "unparseable", ""),
        ("[" * 100_000, "stop", "unparseable", ""),
        ("[1, 2, 3, 4, 5, 6]", "stop", "unparseable", ""),
        ("", "error", "error", "no reason"),
    ],
)
def test_decimals(text: str, finish: str, status: str, detail: str) -> None:
    parsed = read(text, form(), finish)
    assert (parsed.status, detail in (parsed.error or "")) == (status, True)
    assert (parsed.score is None) == (status != "ok") == (parsed.items == ())


@pytest.mark.parametrize(
    ("text", "finish", "status"),
    [
        ("353535", "stop", "ok"),
        (" 3 5 3, 5;3\n5 ", "stop", "ok"),
        ("353535", "length", "ok"),
        ("353538", "stop", "out_of_range"),
        ("053535", "stop", "out_of_range"),
        ("35353", "stop", "missing_items"),
        ("35353", "length", "truncated"),
        ("3535353", "stop", "extra_items"),
        ("3.5", "stop", "unparseable"),
        ("-353535", "stop", "unparseable"),
        ("٣٥٣٥٣٥", "stop", "unparseable"),
        ("³⁵³⁵³⁵", "stop", "unparseable"),
        ("", "stop", "unparseable"),
        ("I cannot do that: 353535", "stop", "refused"),
    ],
)
def test_digits(text: str, finish: str, status: str) -> None:
    parsed = read(text, form("digits"), finish)
    assert parsed.status == status
    if status == "ok":
        assert parsed.items == (3, 5, 3, 5, 3, 5)
        assert parsed.score == 4


HIGH = json.dumps(dict.fromkeys(NAMES, 6.0))
DRAFT = json.dumps(dict.fromkeys(NAMES, 1.0))
OTHER = json.dumps(dict.fromkeys(NAMES, 99))


@pytest.mark.parametrize(
    ("text", "scores"),
    [
        (f"<think>Perhaps {DRAFT}, but {{so}} higher.</think>\n\n{HIGH}", 6),
        (f"Perhaps {DRAFT}.</think>{HIGH}", 6),  # the opening mark is in the prompt
        (f"<think>{DRAFT}</think> no <think>{DRAFT}</THINK>{HIGH}", 6),
        (f"<thinking>{DRAFT}</thinking>{HIGH}", 6),
        (f"[THINK]{DRAFT}[/THINK]{HIGH}", 6),
        (f"<|channel|>analysis<|message|>{DRAFT}<|end|><|start|>assistant<|channel|>final<|message|>{HIGH}", 6),
        (f"<think>\u0130\u0130 {DRAFT}</think>{HIGH}", 6),  # a letter that is two in lower case
        (f"<think>{DRAFT}", "unparseable"),
        (f"{HIGH}<think>{DRAFT}", "unparseable"),
        (f"<think>{DRAFT}</think>", "unparseable"),
        *(
            (f"{fence}\n{HIGH}\n{fence[:3]}", 6)
            for fence in ("```", "```json", "```JSON5 title", "~~~", "'''js", "````")
        ),
        (f"```{HIGH}```", 6),
        (f"``` json\r\n{HIGH}", 6),
        (f"The form is\n```json\n{DRAFT}\n```\nMine:\n```json\n{HIGH}\n```", "unparseable"),
        (f"{DRAFT} {HIGH}", "unparseable"),
        (f"{HIGH} I repeat: {HIGH}", 6),
        (f"{OTHER} is out of range: {HIGH}", 6),
        (f"{HIGH} no: {OTHER}", "unparseable"),
        (f'{HIGH} no: {{"warm": 2}}', "missing_items"),
        (f'{{"warm": 2}} is not all: {HIGH}', 6),
        (f'{HIGH} {{"confidence": 0.9}}', 6),
        (f'{{"sympathetic": <score>, "moved": <score>}} filled in: {HIGH}', 6),
        (f"{{{HIGH}}}", 6),
        (f'{{"scores": {HIGH}}}', "missing_items"),
        (f"[{HIGH}]", 6),
        ("{" * 101 + HIGH, "unparseable"),
        (" " * 100_000 + HIGH, "unparseable"),
    ],
)
def test_one_answer_is_found_or_none(text: str, scores: float | str) -> None:
    parsed = read(text, form())
    assert (parsed.status if isinstance(scores, str) else parsed.score) == scores
    assert parsed.score in (None, 6)


def test_of_a_reply_that_was_cut_the_last_object_counts() -> None:
    assert read(f"{DRAFT} is too low: {HIGH[:30]}", form(), "length").status == "truncated"
    assert read(f"<think>{DRAFT}", form(), "length").status == "truncated"
    assert read(f"{HIGH} I hope", form(), "length").status == "ok"


@pytest.mark.parametrize(
    "text",
    [
        "<think>1 1 1</think>353535",
        "```\n353535\n```",
        "~~~text\n353535\n~~~",
        "```353535```",
        "x</think>\n\n3 5 3 5 3 5",
    ],
)
def test_digits_after_thinking_and_in_fences(text: str) -> None:
    assert read(text, form("digits")).items == (3, 5, 3, 5, 3, 5)


def test_fences_around_the_last_line() -> None:
    text = "<think>scores: 111111</think>Sad.\n```\nscores: 353535\n```"
    assert read(text, form("digits", reasoning=True)).score == 4


LONG = 99_000  # longer answers are not read at all


@pytest.mark.parametrize(
    "text",
    [
        "```" + "\n" * LONG, "```json" + " " * LONG + "x", "{" * LONG, "[" * LONG, '{"a":' * (LONG // 5),
        '{"warm":[1,' * (LONG // 11), "scores:" + " " * LONG + "\nx", "\n" * LONG + "scores:", "1 " * (LONG // 2),
        "</think>" * LONG, "<think>" * LONG, "1" * LONG, ", ;" * (LONG // 3), "'" * LONG,
        '{"warm": "' + "\\u" * (LONG // 3),
        "\0" * LONG, ("{" + " " * 900) * 110, ('{"warm": [' + "1," * 450) * 100, "x" * 10_000_000,
    ],
    ids=lambda text: repr(text[:12]),
)  # fmt: skip
def test_reading_takes_no_time_whatever_the_reply_holds(text: str) -> None:
    tokens = (TokenChoice(text, ((text, 0.0),)),) * 2
    for of in [*FORMS, form("expected")]:
        started = time.perf_counter()
        assert read(text, of, tokens=tokens).status not in ("ok", "error")
        assert time.perf_counter() - started < 3  # a backtracking pattern takes minutes


@pytest.mark.parametrize("value", [math.nan, math.inf, 5.0])
def test_log_probabilities_that_are_none_give_no_label(value: float) -> None:
    text = whole("353535")
    tokens = spoken(text, *[{sign: 1.0} for sign in "353535"])
    tokens = (*tokens[:-2], TokenChoice("5", (("5", -0.1), ("4", value))), tokens[-1])
    parsed = read(text, form("expected"), tokens=tokens)
    assert (parsed.status, parsed.score) == ("unparseable", None)


def test_a_probability_of_0_counts_as_0() -> None:
    text = whole("444444")
    tokens = tuple(TokenChoice(sign, ((sign, -0.1), ("3", -math.inf))) for sign in text)
    assert read(text, form("expected"), tokens=tokens).items == (4,) * 6


def test_sums_and_overall_scores() -> None:
    assert read("0123012", form("digits", "gad7")).score == 9
    assert read('{"score": 20}', form("text", "phq9", overall=True)).score == 20
    assert read('{"score": 28}', form("text", "phq9", overall=True)).status == "out_of_range"


def test_numbers_of_days_are_whole() -> None:
    of = form("text", "phq9", overall=True)
    assert of.constraint.json_schema["properties"]["score"] == {"type": "integer", "minimum": 0, "maximum": 27}
    parsed = read('{"score": 20.5}', of)
    assert (parsed.status, parsed.error) == ("out_of_range", "expected a whole number, found score=20.5")
    assert read('{"score": 20.0}', of).score == 20


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("Sad, but distant.\nscores: 353535", "ok"),
        ("scores: 353535", "ok"),
        ("The text says scores: 777777\nscores: 353535\n", "ok"),
        ("Sad.\nscores: 353535 or so", "unparseable"),
        ("Sad. 353535", "unparseable"),
        ("scores: 777777\nI mean it", "unparseable"),
    ],
)
def test_reasoning_stands_in_front_and_only_the_last_line_counts(text: str, status: str) -> None:
    parsed = read(text, form("digits", reasoning=True))
    assert parsed.status == status
    assert parsed.items == ((3, 5, 3, 5, 3, 5) if status == "ok" else ())


def test_reasoning_in_json_is_no_extra_item_where_it_was_asked_for() -> None:
    text = json.dumps({"reasoning": "Moved by {her} loss"} | SIX)
    assert read(text, form(reasoning=True)).status == "ok"
    assert read(text, form()).status == "extra_items"


def whole(digits: str, of: str = "batson_empathy", total: bool = False) -> str:
    """Return the reply that gives each item one of the digits."""
    names = form("expected", of, total=total).names
    return json.dumps(dict(zip(names, map(int, digits), strict=True)))


def spoken(text: str, *distributions: dict[str, float]) -> tuple[TokenChoice, ...]:
    """Return one token a sign, the digits with the given probabilities."""
    rest = iter(distributions)
    return tuple(
        TokenChoice(sign, tuple((t, math.log(p)) for t, p in next(rest).items()) if sign.isdigit() else ((sign, 0.0),))
        for sign in text
    )


def test_expected_scores_by_hand() -> None:
    spread_out = {"3": 0.5, "5": 0.25, "x": 0.2, "9": 0.05}  # over 1 to 7: 3 with 2/3, 5 with 1/3
    sure = {"4": 1.0}
    text = whole("344444")
    parsed = read(text, form("expected"), tokens=spoken(text, spread_out, sure, sure, sure, sure, sure))
    assert parsed.items == pytest.approx([11 / 3, 4, 4, 4, 4, 4])
    assert parsed.score == pytest.approx((11 / 3 + 20) / 6)
    assert parsed.spread == pytest.approx(math.sqrt(8 / 9) / 6)
    text = whole("0000000", "gad7")
    total = read(text, form("expected", "gad7"), tokens=spoken(text, *[{"0": 0.5, "2": 0.5}] * 7))
    assert (total.score, total.spread) == (pytest.approx(7), pytest.approx(math.sqrt(7)))


def test_tokens_with_spaces_and_punctuation_around_the_digit() -> None:
    def token(text: str, other: str, share: float = 0.4) -> TokenChoice:
        return TokenChoice(text, ((text, math.log(1 - share)), (other, math.log(share)), ("45", -3.0), ("many", -3.0)))

    names = [TokenChoice(f'"{name}":', ((f'"{name}":', 0.0),)) for name in NAMES]
    digits = [
        token(" 3", "2"),
        token("5,", "6"),
        token(" 3, ", "1"),
        token("5", " 4"),
        token("3", "3,"),
        token(" 5}", "6}"),
    ]
    tokens = [token for pair in zip(names, digits, strict=True) for token in pair]
    tokens = [TokenChoice("{", (("{", 0.0),)), *tokens]
    text = '{"sympathetic": 3, "moved": 5, "compassionate": 3, "tender": 5, "warm": 3, "softhearted": 5}'
    parsed = read(text, form("expected"), tokens=tuple(tokens))
    assert parsed.items == pytest.approx([2.6, 5.4, 2.2, 4.6, 3, 5.4])


def test_expected_after_reasoning_reads_the_scores_tokens() -> None:
    text = json.dumps({"reasoning": 'He said "warm": 7 of 7'} | json.loads(whole("353535")))
    parsed = read(text, form("expected", reasoning=True), tokens=spoken(text, *[{"7": 1.0}] * 2, *[{"2": 1.0}] * 6))
    assert parsed.items == (2, 2, 2, 2, 2, 2)


def test_digits_in_the_names_of_items_are_no_scores() -> None:
    items = tuple(replace(scale().items[0], name=name) for name in ("q1", "q2", "q12"))
    of = ReplyForm(replace(scale(), items=items, translations={}), Readout.EXPECTED)
    text = '{"q1": 4, "q2": 5, "q12": 6}'
    tokens = spoken(text, *[{sign: 1.0} for sign in text if sign.isdigit()])
    assert read(text, of, tokens=tokens).items == (4, 5, 6)


WHOLE = whole("353535")


@pytest.mark.parametrize(
    "tokens",
    [
        (),
        spoken(WHOLE, *[{"x": 1.0}] * 6),
        spoken(WHOLE[:-18], *[{"3": 1.0}] * 5),
        spoken(WHOLE[:-2], *[{"3": 1.0}] * 5),
    ],
    ids=["none", "no", "few", "cut"],
)
def test_expected_without_what_it_needs_is_unparseable(tokens: tuple[TokenChoice, ...]) -> None:
    assert read(WHOLE, form("expected"), tokens=tokens).status == "unparseable"


def test_expected_takes_whole_scores_only() -> None:
    text = WHOLE.replace("3,", "3.5,", 1)
    parsed = read(text, form("expected"), tokens=spoken(text, *[{"3": 1.0}] * 7))
    assert (parsed.status, parsed.error) == ("out_of_range", "expected a whole number, found sympathetic=3.5")


@given(st.sampled_from(FORMS), st.one_of(st.text(), st.text("0123456789 ,;.{}[]\"':scoreswarm\n")), st.booleans())
def test_any_reply_is_scores_within_bounds_or_a_status(of: ReplyForm, text: str, cut: bool) -> None:
    parsed = read(text, of, "length" if cut else "stop")
    assert parsed.status in list(Status)
    if parsed.status == Status.OK:
        assert len(parsed.items) == len(of.names)
        assert all(of.low <= value <= of.high for value in parsed.items)
        assert of.scale.minimum <= parsed.score <= of.scale.maximum
    else:
        assert parsed.items == ()
        assert parsed.error


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5), st.lists, max_leaves=5
)


@given(st.dictionaries(st.sampled_from([*NAMES, "score", "other"]), JSON))
def test_any_object_is_scores_within_bounds_or_a_status(body: dict) -> None:
    parsed = read(json.dumps(body), form())
    assert (parsed.status == Status.OK) == (parsed.score is not None)
    assert parsed.score is None or 1 <= parsed.score <= 7


@given(st.data(), st.sampled_from(FORMS))
def test_what_the_constraint_allows_is_ok(data: st.DataObject, of: ReplyForm) -> None:
    text = data.draw(st.from_regex(of.constraint.regex, fullmatch=True))
    if of.readout != Readout.DIGITS or not of.reasoning:
        assert read(text, of).status == Status.OK
    else:
        assert read(text, of).status == Status.OK or "\r" in text or "\x85" in text


@given(st.data(), st.sampled_from([candidate for candidate in FORMS if candidate.readout == Readout.TEXT]))
def test_what_the_schema_allows_is_ok(data: st.DataObject, of: ReplyForm) -> None:
    schema = of.constraint.json_schema
    assert schema is not None

    def value(kind: dict):
        if kind["type"] == "string":
            return st.text()
        numbers = st.integers if kind["type"] == "integer" else st.floats
        return numbers(kind["minimum"], kind["maximum"])

    body = {name: data.draw(value(kind)) for name, kind in schema["properties"].items()}
    assert list(body) == schema["required"]
    assert read(json.dumps(body), of).status == Status.OK


@given(st.lists(st.dictionaries(st.sampled_from("1234567"), st.floats(1e-6, 1), min_size=1), min_size=6, max_size=6))
def test_means_lie_within_the_digits_and_the_spread_within_the_scale(weights: list[dict[str, float]]) -> None:
    text = whole("444444")
    parsed = read(text, form("expected"), tokens=spoken(text, *weights))
    assert parsed.status == Status.OK
    for mean, given_weights in zip(parsed.items, weights, strict=True):
        assert min(map(int, given_weights)) - 1e-9 <= mean <= max(map(int, given_weights)) + 1e-9
    assert 0 <= parsed.spread <= 3


@pytest.mark.parametrize("readout", ["digits", "expected"])
@pytest.mark.parametrize(
    ("of", "overall", "what"), [("phq9", True, "overall scores .* 0 to 27"), ("percent", False, "100")]
)
def test_scales_of_several_digits_are_refused_at_once(readout: str, of: str, overall: bool, what: str) -> None:
    chosen = replace(scale(), name="percent", low=0, high=100) if of == "percent" else scale(of)
    with pytest.raises(InputError, match=rf"readout={readout} reads one digit per score, but .*{what}.*readout=text"):
        ReplyForm(chosen, Readout(readout), overall)


@pytest.mark.parametrize(
    ("text", "of", "status", "items", "score"),
    [
        (js(score=6.0), form("text", total=True), "ok", (3.5,) * 6 + (6.0,), 3.5),
        (js(), form("text", total=True), "missing_items", (), None),
        (js(score=7.5), form("text", total=True), "out_of_range", (), None),
        ("3333336", form("digits", total=True), "ok", (3.0,) * 6 + (6.0,), 3.0),
        ("333333", form("digits", total=True), "missing_items", (), None),
        (
            json.dumps(dict.fromkeys([item.name for item in scale("phq9").items], 3) | {"score": 20}),
            form("text", "phq9", total=True), "ok", (3.0,) * 9 + (20.0,), 27.0,
        ),
        (
            json.dumps(dict.fromkeys([item.name for item in scale("phq9").items], 4) | {"score": 20}),
            form("text", "phq9", total=True), "out_of_range", (), None,
        ),
    ],
)  # fmt: skip
def test_an_overall_score_beside_the_items_is_kept_and_not_the_label(
    text: str, of: ReplyForm, status: str, items: tuple[float, ...], score: float | None
) -> None:
    parsed = read(text, of)
    assert (parsed.status, parsed.items, parsed.score) == (status, items, score)


def test_the_spread_is_that_of_the_items_alone() -> None:
    text = whole("3333331", total=True)
    tokens = spoken(text, *[{"3": 0.5, "5": 0.5}] * 6, {"1": 0.5, "7": 0.5})
    parsed = read(text, form("expected", total=True), tokens=tokens)
    assert parsed.items == pytest.approx((4.0,) * 7)
    assert (parsed.score, parsed.spread) == (pytest.approx(4.0), pytest.approx(math.sqrt(6) / 6))


@pytest.mark.parametrize(
    ("of", "readout", "changes", "expected"),
    [
        ("gad7", "digits", {"total": True}, "overall scores of the scale gad7 go from 0 to 21"),
        ("batson_empathy", "text", {"total": True, "overall": True}, "choose one"),
    ],
)
def test_impossible_forms_with_an_overall_score(of: str, readout: str, changes: dict, expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        form(readout, of, **changes)


def test_each_score_has_its_own_bounds() -> None:
    of = form("text", "phq9", total=True)
    assert of.constraint.json_schema is not None
    properties = of.constraint.json_schema["properties"]
    assert (properties["sleep"]["maximum"], properties["score"]["maximum"]) == (3, 27)
    assert (of.bounds[0], of.bounds[-1], of.names[-1]) == ((0, 3), (0, 27), "score")
    assert list(json.loads(of.example)) == list(of.names)
