"""The form of the replies and how they are read: each becomes scores or a status, never a guess."""

import json
import math
import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from string import punctuation, whitespace
from typing import Any

from invitro.engines.base import Constraint, Readout, Reply, TokenChoice
from invitro.errors import refuse_if_any
from invitro.labels.answers import Status
from invitro.scales import Scale

OVERALL = "score"
"""The name of the whole scale's score in a reply."""
REASONING = 400  # characters: a few sentences, so that a reply cannot run into max_tokens


@dataclass(frozen=True)
class ReplyForm:
    """The form that replies should have.

    Args:
        scale: the questionnaire.
        readout: how scores are taken from the model.
        overall: one score for the whole scale (``score``, within the scale's own bounds) instead of one per item.
        reasoning: brief reasoning comes before the scores: as a key ``reasoning`` that comes first in the JSON
            object, or as text before a last line ``scores: ...``.
        total: the overall score follows the items'. The label is made from the items; the overall score is kept too.

    Raises:
        InputError: digits are to be read, but scores of the scale can have more than one digit; or an item has the
            name of another part of the reply: ``reasoning``, ``score``.
    """

    scale: Scale
    readout: Readout
    overall: bool = False
    reasoning: bool = False
    total: bool = False

    def __post_init__(self) -> None:
        refuse_if_any(self._problems())

    def _problems(self) -> Iterator[str]:
        low, high = self.bounds[-1]
        # One range for all digits: a sum of items has a different range from its items, but prompts name only one.
        whole = all(float(bound).is_integer() and 0 <= bound <= 9 for bound in (low, high))
        if self.readout != Readout.TEXT and not (whole and len(set(self.bounds)) == 1):
            of_all = self.overall or self.total
            yield (
                f"readout={self.readout.value} reads one digit per score, but {'overall scores' if of_all else 'items'}"
                f" of the scale {self.scale.name} go from {low:g} to {high:g}; choose readout=text"
                + (", or a prompt that asks for each item, such as prompt=scale_aware" if of_all else "")
            )
        if self.total and self.overall:
            yield "prompt: overall asks for a single score, total for that and one per item; choose one"
        reserved = {"reasoning": self.reasoning, OVERALL: self.total}
        for item in self.scale.items:
            if reserved.get(item.name):
                yield f"scale {self.scale.name}: an item is called {item.name!r}, which replies need for something else"

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The scores asked for, in order."""
        items = () if self.overall else tuple(item.name for item in self.scale.items)
        return (*items, OVERALL) if self.overall or self.total else items

    @cached_property
    def bounds(self) -> tuple[tuple[float, float], ...]:
        """Lowest and highest valid value of each score asked for, in order."""
        items = () if self.overall else ((self.scale.low, self.scale.high),) * len(self.scale.items)
        return (*items, (self.scale.minimum, self.scale.maximum)) if self.overall or self.total else items

    def score(self, values: Sequence[float]) -> float:
        """Return the scale's score from the values of `names`."""
        return values[0] if self.overall else float(self.scale.score(values[: len(self.scale.items)]))

    @property
    def low(self) -> float:
        """Lowest valid value of the first score."""
        return self.bounds[0][0]

    @property
    def high(self) -> float:
        """Highest valid value of the first score."""
        return self.bounds[0][1]

    @property
    def decimals(self) -> bool:
        """Whether a score in a reply may have decimals."""
        return self.scale.decimals and self.readout == Readout.TEXT

    @property
    def max_tokens(self) -> int:
        """Enough tokens for a valid reply in any common tokenizer."""
        # A digit with its space may take two tokens; a JSON entry takes those of its name, a number and punctuation.
        scores = 2 * len(self.names) + 4 if self.readout == Readout.DIGITS else 16 + 24 * len(self.names)
        return scores + (REASONING // 2 if self.reasoning else 0)

    @property
    def example(self) -> str:
        """A valid reply of typical length."""
        values = [round((low + high) / 2, 1 if self.decimals else None) for low, high in self.bounds]
        if self.readout != Readout.DIGITS:
            body: dict[str, Any] = {"reasoning": "x " * (REASONING // 3)} if self.reasoning else {}
            return json.dumps(body | dict(zip(self.names, values, strict=True)))
        digits = "".join(str(int(value)) for value in values)
        return f"{'x ' * (REASONING // 3)}\nscores: {digits}" if self.reasoning else digits

    @cached_property
    def constraint(self) -> Constraint:
        """What engines are asked to enforce; the JSON schema has its keys in the order in which they are written."""
        if self.readout == Readout.DIGITS:
            digits = f"[{self.low:.0f}-{self.high:.0f}]{{{len(self.names)}}}"
            return Constraint(rf"[^\n]{{1,{REASONING}}}\nscores: {digits}" if self.reasoning else digits)
        entries = [rf'"reasoning": "[^"\\\x00-\x1f]{{1,{REASONING}}}"'] if self.reasoning else []
        properties: dict[str, Any] = {"reasoning": {"type": "string"}} if self.reasoning else {}
        for name, (low, high) in zip(self.names, self.bounds, strict=True):
            entries.append(f'"{re.escape(name)}": {_number_regex(low, high, self.decimals)}')
            kind = "number" if self.decimals else "integer"
            properties[name] = {"type": kind, "minimum": low, "maximum": high}
        schema = {"type": "object", "properties": properties, "required": list(properties)}
        return Constraint(r"\{" + ", ".join(entries) + r"\}", schema | {"additionalProperties": False})


def _number_regex(low: float, high: float, decimals: bool) -> str:
    """Return a regular expression for the numbers from `low` to `high` with at most two decimals, or whole ones."""
    fraction, zeros = (r"(?:\.[0-9]{1,2})?", r"(?:\.0{1,2})?") if decimals else ("", "")
    if not (float(low).is_integer() and float(high).is_integer() and 0 <= low < high <= 99):
        return rf"-?[0-9]{{1,4}}{fraction}"
    below = "|".join(str(number) for number in range(int(low), int(high)))
    return rf"(?:(?:{below}){fraction}|{int(high)}{zeros})"


REFUSALS = re.compile(
    r"\b(i(?:'|’)?m sorry|i am sorry|i apologi[sz]e|i (?:can(?:'|’)?t|cannot|can not|won(?:'|’)?t)"
    r"|i am (?:unable|not able)|i(?:'|’)m (?:unable|not able)|as an ai"
    r"|es tut mir leid|ich kann (?:das |dies )?nicht|lo siento|no puedo|দুঃখিত)",
    re.IGNORECASE,
)
THOUGHT_ENDS = (
    "</think>", "</thinking>", "</thought>", "</thoughts>", "</reasoning>", "</seed:think>", "[/think]",
    "<|end_of_thought|>", "<|channel|>final<|message|>",
)  # fmt: skip
THOUGHT_BEGINS = ("<think>", "<thinking>", "<thought>", "<thoughts>", "<reasoning>", "<seed:think>", "[think]",
                  "<|begin_of_thought|>", "<|channel|>analysis<|message|>")  # fmt: skip
"""How models mark their reasoning before the answer, in lower case."""
LAST_LINE = "scores:"
FENCES = ("```", "~~~", "'''")
LONGEST_ANSWER = 100_000
"""Characters of an answer that are read; scores take a few hundred."""
MOST_OBJECTS = 100
"""Places in an answer at which a JSON object may begin; each is tried."""
LONGEST_TOKEN = 200
"""Characters of a token whose digits are read."""
ROUNDING = 0.01
"""How far above 0 rounding may push a log-probability."""


@dataclass(frozen=True)
class Parsed:
    """The result of reading a reply: the fields of a stored `Answer` that depend on how it is read.

    Args:
        status: whether it can be used.
        items: the scores asked for, in the form's order; empty unless `status` is ``ok``.
        score: the scale's score, in its units; None unless `status` is ``ok``.
        spread: standard deviation of the score, in the same units; only `Readout.EXPECTED` has one.
        error: what is wrong with the reply.
    """

    status: Status
    items: tuple[float, ...] = ()
    score: float | None = None
    spread: float | None = None
    error: str | None = None


class _FaultError(Exception):
    """The reply does not have the form that was asked for."""

    def __init__(self, status: Status, detail: str) -> None:
        self.parsed = Parsed(status, error=detail)
        super().__init__(detail)


def parse(reply: Reply, form: ReplyForm) -> Parsed:
    """Read any reply as scores within bounds, or as a status that says why there are none.

    A model's reasoning before the answer is dropped. The time is bounded, whatever the reply.
    """
    if reply.finish == "error":
        return Parsed(Status.ERROR, error=reply.error or "the engine gave no reason")
    if reply.finish == "filter":
        return Parsed(Status.REFUSED, error=reply.error or "refused by the provider's filter")
    if reply.finish == "refusal":
        return Parsed(Status.REFUSED, error="refused by the provider")
    answer = reply.text[_answer_start(reply.text) :]
    try:
        if len(answer) > LONGEST_ANSWER:
            raise _FaultError(Status.UNPARSEABLE, f"expected scores, found {len(answer):,} characters")
        if form.readout == Readout.DIGITS:
            values = _from_digits(answer, form)
        else:
            values = _from_json(answer, form, cut=reply.finish == "length")
        _refuse_outside(values, form)
        parsed = Parsed(Status.OK, tuple(values), form.score(values))
        return _finite(_expected(reply, form) if form.readout == Readout.EXPECTED else parsed, form)
    except _FaultError as fault:
        # A reply that was cut off, or that declines, is not counted as badly formed.
        if reply.finish == "length":
            return Parsed(Status.TRUNCATED, error="cut at max_tokens before all scores were there")
        if fault.parsed.status == Status.UNPARSEABLE and REFUSALS.search(answer[:300]):
            return Parsed(Status.REFUSED, error="the model declined")
        return fault.parsed


def _answer_start(text: str) -> int:
    """Return where the answer begins after the model's reasoning; the end of the text if that never ends."""
    low = text.lower()
    if len(low) != len(text):  # in lower case, a few letters become two
        low = "".join(letter.lower() if letter.isascii() else letter for letter in text)
    start = max(low.rfind(mark) + len(mark) if mark in low else 0 for mark in THOUGHT_ENDS)
    return len(text) if any(mark in low[start:] for mark in THOUGHT_BEGINS) else start


def _finite(parsed: Parsed, form: ReplyForm) -> Parsed:
    """Return `parsed` if its score is a number on the scale: the last check before a label is stored."""
    score, spread = parsed.score, parsed.spread
    if score is None or not form.scale.minimum <= score <= form.scale.maximum:
        raise _FaultError(Status.OUT_OF_RANGE, f"the score {score} is not on the scale")
    if spread is not None and not 0 <= spread < math.inf:
        raise _FaultError(Status.UNPARSEABLE, f"the spread {spread} is none")
    return parsed


class _Object(dict[str, Any]):
    """A JSON object that knows whether any of its keys occurs twice."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self.twice = len(self) < len(pairs)


def _from_json(text: str, form: ReplyForm, cut: bool) -> list[float]:
    """Return the scores of the one JSON object that gives them, wherever it is: alone, fenced or amid prose.

    The last object that names a score is the answer. It is ambiguous if an earlier one is valid too but gives other
    scores.

    Args:
        text: the answer.
        form: the form that was asked for.
        cut: whether the reply ended at the token limit; then an unfinished object may be the answer.
    """
    objects, unfinished = _objects(text)
    naming = [body for body in objects if not body.keys().isdisjoint(form.names)] or objects[-1:]
    if not naming or (cut and unfinished):
        raise _FaultError(Status.UNPARSEABLE, "expected a JSON object")
    values = _scores(naming[-1], form)
    for earlier in naming[:-1]:
        try:
            others = _scores(earlier, form)
            _refuse_outside(others, form)
        except _FaultError:
            continue
        if others != values:
            raise _FaultError(Status.UNPARSEABLE, "two JSON objects give different scores")
    return values


def _objects(text: str) -> tuple[list[_Object], bool]:
    """Return the outermost JSON objects in a text, and whether an unfinished one follows the last."""
    decoder = json.JSONDecoder(object_pairs_hook=_Object)
    objects: list[_Object] = []
    unfinished, start, tries = False, text.find("{"), 0
    while start >= 0:
        tries += 1
        if tries > MOST_OBJECTS:
            raise _FaultError(Status.UNPARSEABLE, f"expected one JSON object, more than {MOST_OBJECTS} begin")
        try:
            body, end = decoder.raw_decode(text, start)
            objects.append(body)
            unfinished = False
        except (ValueError, RecursionError):
            end, unfinished = start + 1, True
        start = text.find("{", end)
    return objects, unfinished


def _scores(body: _Object, form: ReplyForm) -> list[float]:
    """Return the scores of an object that has all of them, once, and nothing else."""
    if body.twice:
        raise _FaultError(Status.EXTRA_ITEMS, "an item is scored twice")
    reasoning = {"reasoning"} if form.reasoning else set()
    missing = [name for name in form.names if name not in body]
    extra = [name for name in body if name not in {*form.names, *reasoning}]
    if missing:
        raise _FaultError(Status.MISSING_ITEMS, f"no score for {', '.join(missing)}")
    if extra:
        raise _FaultError(Status.EXTRA_ITEMS, f"scores for {', '.join(extra)[:200]}, not asked for")
    values = []
    for name in form.names:
        value = body[name]
        if isinstance(value, bool) or not isinstance(value, int | float):
            kind = f"a {type(value).__name__}"
            actual = kind if isinstance(value, list | dict) else json.dumps(value)[:40]
            raise _FaultError(Status.UNPARSEABLE, f"{name}: expected a number, found {actual}")
        values.append(float(value) if abs(value) < 1e9 or value != value else float("inf"))
    return values


def _digit_text(text: str, form: ReplyForm) -> str:
    """Return the part of an answer with the digits."""
    text = text.strip()
    if text.endswith(FENCES):
        before, _, last = text.rpartition("\n")
        text = before.rstrip() if before and last.startswith(FENCES) else text[:-3]
    if text.startswith(FENCES):
        text = text[text.find("\n") + 1 or 3 :]
    if not form.reasoning:
        return text
    line = text.rpartition("\n")[2].lstrip(" \t")
    if line[: len(LAST_LINE)].lower() != LAST_LINE:
        raise _FaultError(Status.UNPARSEABLE, "expected a last line 'scores: ...'")
    return line[len(LAST_LINE) :]


def _from_digits(text: str, form: ReplyForm) -> list[float]:
    """Return one score per digit; white space, commas and semicolons may separate them."""
    digits = "".join(_digit_text(text, form).replace(",", " ").replace(";", " ").split())
    if not (digits.isascii() and digits.isdigit()):
        raise _FaultError(Status.UNPARSEABLE, "expected digits only")
    if len(digits) != len(form.names):
        status = Status.MISSING_ITEMS if len(digits) < len(form.names) else Status.EXTRA_ITEMS
        raise _FaultError(status, f"expected {len(form.names)} digits, found {len(digits)}")
    return [float(digit) for digit in digits]


def _refuse_outside(values: Sequence[float], form: ReplyForm) -> None:
    outside = [
        f"{low:g} to {high:g}, found {name}={value:g}"
        for name, value, (low, high) in zip(form.names, values, form.bounds, strict=True)
        if not low <= value <= high
    ]
    if not form.decimals:
        named = zip(form.names, values, strict=True)
        outside += [f"a whole number, found {name}={value:g}" for name, value in named if not value.is_integer()]
    if outside:
        raise _FaultError(Status.OUT_OF_RANGE, f"expected {'; '.join(outside)}")


def _expected(reply: Reply, form: ReplyForm) -> Parsed:
    """Read means and spread from the log-probabilities of the digits' tokens.

    Item i has the mean ``m_i = sum_d d p(d)`` and the variance ``v_i = sum_d p(d) (d - m_i)^2`` over the valid digits
    d, whose probabilities are normalised to 1. The spread of the score is ``sqrt(sum_i v_i)`` for a sum of items, and
    that value divided by the number of items for a mean: items are taken as independent.
    """
    if not reply.tokens:
        raise _FaultError(Status.UNPARSEABLE, "the engine gave no log-probabilities")
    if not all(value <= ROUNDING for choice in reply.tokens for _, value in choice.alternatives):
        raise _FaultError(Status.UNPARSEABLE, "the engine gave log-probabilities that are none")
    if any(len(choice.token) > LONGEST_TOKEN for choice in reply.tokens):
        raise _FaultError(Status.UNPARSEABLE, f"a token has more than {LONGEST_TOKEN} characters")
    moments = list(_moments(reply.tokens, form))
    if len(moments) != len(form.names):
        raise _FaultError(Status.UNPARSEABLE, "the tokens do not add up to the reply's scores")
    means = [mean for mean, _ in moments]
    # The spread of the label: of the items, or of the overall score if that is all the prompt asks for.
    label_moments = moments[: 1 if form.overall else len(form.scale.items)]
    spread = math.sqrt(math.fsum(variance for _, variance in label_moments))
    if form.overall or form.scale.aggregation != "sum":
        spread /= len(label_moments)
    return Parsed(Status.OK, tuple(means), form.score(means), spread)


def _moments(tokens: Sequence[TokenChoice], form: ReplyForm) -> Iterator[tuple[float, float]]:
    """Yield mean and variance of the distribution behind each score of a reply, in the form's order.

    A score is the digit after its name and a colon, where they last occur. Scores without a valid alternative are
    left out.
    """
    text = "".join(choice.token for choice in tokens)
    ends = list(accumulate(len(choice.token) for choice in tokens))
    valid = range(int(form.low), int(form.high) + 1)
    for name in form.names:
        label = rf"{re.escape(json.dumps(name, ensure_ascii=False))}\s*:\s*"
        starts = [match.end() for match in re.finditer(label, text)]
        weights = _weights(tokens[bisect_right(ends, starts[-1])], valid) if starts and starts[-1] < len(text) else {}
        total = math.fsum(weights.values())
        if total <= 0.0:
            continue
        mean = math.fsum(digit * weight for digit, weight in weights.items()) / total
        square = math.fsum(weight * (digit - mean) ** 2 for digit, weight in weights.items()) / total
        # Rounding may push a mean past a bound by 1e-16, and a range check would reject it.
        yield min(max(mean, valid.start), valid.stop - 1), square


def _weights(choice: TokenChoice, valid: range) -> dict[int, float]:
    """Return the unnormalised probability of each valid digit, alone or next to white space and punctuation."""
    weights, digits = dict.fromkeys(valid, 0.0), {str(digit): digit for digit in valid}
    for token, logprob in choice.alternatives:
        digit = digits.get(token.strip(whitespace + punctuation))
        if digit is not None:
            weights[digit] += math.exp(min(logprob, 0.0))
    return weights
