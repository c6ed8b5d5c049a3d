"""What a valid reply looks like, and how one is read: every reply becomes scores or a status, never a guess."""

import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from invitro.engines.base import Readout, Reply, TokenChoice
from invitro.labelling.forms import ReplyForm
from invitro.labels.answers import Status

DIGITS = "0123456789"


@dataclass(frozen=True)
class ItemDistribution:
    """Mean and variance of one item's distribution, in the item's units and their square."""

    mean: float
    variance: float


def distributions(tokens: Sequence[TokenChoice], start: int, end: int, valid: range) -> list[ItemDistribution]:
    """Return the distribution behind each digit of a reply.

    Args:
        tokens: the reply's tokens; together they are its text.
        start: where in that text the digits begin, in characters.
        end: where they end.
        valid: the valid digits.

    Returns:
        One distribution a digit, in order; shorter where alternatives hold no valid digit at all.
    """
    found = []
    for choice, positions in _digit_tokens(tokens, start, end):
        for position in positions:
            weights = _weights(choice, position, valid)
            total = math.fsum(weights.values())
            if total <= 0.0:
                continue
            mean = math.fsum(digit * weight for digit, weight in weights.items()) / total
            square = math.fsum(weight * (digit - mean) ** 2 for digit, weight in weights.items()) / total
            # Rounding may carry a mean past a bound by 1e-16, which a check of ranges would refuse.
            found.append(ItemDistribution(min(max(mean, valid.start), valid.stop - 1), square))
    return found


def spread_of(items: Sequence[ItemDistribution], total: bool) -> float:
    """Return the standard deviation of the items' mean, or of their `total`."""
    spread = math.sqrt(math.fsum(item.variance for item in items))
    return spread if total else spread / len(items)


def _digit_tokens(tokens: Sequence[TokenChoice], start: int, end: int) -> Iterator[tuple[TokenChoice, range]]:
    """Yield tokens that hold digits between `start` and `end`, and which of a token's own digits these are."""
    offset = 0
    for choice in tokens:
        inside = [start <= offset + place < end for place, sign in enumerate(choice.token) if sign in DIGITS]
        offset += len(choice.token)
        if any(inside):
            yield choice, range(inside.index(True), len(inside))


def _weights(choice: TokenChoice, position: int, valid: range) -> dict[int, float]:
    """Return the probability that each valid digit stands at `position` of the token's digits, not normalised."""
    weights = dict.fromkeys(valid, 0.0)
    for token, logprob in choice.alternatives:
        digits = token.strip(" \t\n,;")
        if digits and all(sign in DIGITS for sign in digits) and len(digits) > position:
            digit = int(digits[position])
            if digit in weights:
                weights[digit] += math.exp(min(logprob, 0.0))
    return weights


REFUSALS = re.compile(
    r"\b(i(?:'|’)?m sorry|i am sorry|i apologi[sz]e|i (?:can(?:'|’)?t|cannot|can not|won(?:'|’)?t)"
    r"|i am (?:unable|not able)|i(?:'|’)m (?:unable|not able)|as an ai"
    r"|es tut mir leid|ich kann (?:das |dies )?nicht|lo siento|no puedo|দুঃখিত)",
    re.IGNORECASE,
)
FENCED = re.compile(r"```(?:json)?\s*(.*?)\s*```", re.DOTALL)
LAST_LINE = re.compile(r"(?:\A|\n)[ \t]*scores:[ \t]*([^\n]*)\Z", re.IGNORECASE)


@dataclass(frozen=True)
class Parsed:
    """A reply, read.

    Args:
        status: what became of it.
        items: the scores asked for, in the form's order; empty unless `status` is ``ok``.
        score: the scale's score, its units; None unless `status` is ``ok``.
        spread: standard deviation of the score, its units; only `Readout.EXPECTED` has one.
        detail: what was wrong, for people.
    """

    status: Status
    items: tuple[float, ...] = ()
    score: float | None = None
    spread: float | None = None
    detail: str = ""


class _FaultError(Exception):
    """A reply is not what was asked for."""

    def __init__(self, status: Status, detail: str) -> None:
        self.parsed = Parsed(status, detail=detail)
        super().__init__(detail)


def parse(reply: Reply, form: ReplyForm) -> Parsed:
    """Read a reply; whatever it holds, the result is scores within bounds or a status that says why not.

    For ``expected`` the item scores are means of distributions and `Parsed.spread` is the score's standard deviation:
    see `invitro.labelling.replies`.
    """
    if reply.finish == "error":
        return Parsed(Status.ERROR, detail=reply.error or "the engine gave no reason")
    if reply.finish == "refusal":
        return Parsed(Status.REFUSED, detail="refused by the provider")
    try:
        if form.readout == Readout.TEXT:
            return _scored(_from_json(reply.text, form), form)
        digits = _from_digits(reply.text, form)
        return _scored(digits, form) if form.readout == Readout.DIGITS else _expected(reply, form)
    except _FaultError as fault:
        # A reply that was cut off, or that says no, is not a badly formed one.
        if reply.finish == "length":
            return Parsed(Status.TRUNCATED, detail="cut at max_tokens before all scores were there")
        if fault.parsed.status == Status.UNPARSEABLE and REFUSALS.search(reply.text[:300]):
            return Parsed(Status.REFUSED, detail="the model declined")
        return fault.parsed


def _from_json(text: str, form: ReplyForm) -> list[float]:
    """Return the scores of a JSON object, alone, in a code fence or with prose around it."""
    body = _json_object(text)
    reasoning = {"reasoning"} if form.reasoning else set()
    missing = [name for name in form.names if name not in body]
    extra = [name for name in body if name not in {*form.names, *reasoning}]
    if missing:
        raise _FaultError(Status.MISSING_ITEMS, f"no score for {', '.join(missing)}")
    if extra:
        raise _FaultError(Status.EXTRA_ITEMS, f"scores for {', '.join(extra)[:200]}, which was not asked for")
    values = []
    for name in form.names:
        value = body[name]
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise _FaultError(Status.UNPARSEABLE, f"{name}: expected a number, found {json.dumps(value)[:40]}")
        values.append(float(value) if abs(value) < 1e9 else float("inf"))
    return values


def _json_object(text: str) -> dict[str, Any]:
    """Return the one JSON object of a reply."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({name for name, _ in pairs}) < len(pairs):
            raise _FaultError(Status.EXTRA_ITEMS, "an item is scored twice")
        return dict(pairs)

    def refuse(constant: str) -> float:
        raise _FaultError(Status.OUT_OF_RANGE, f"found {constant}")

    fenced = FENCED.search(text)
    inner = fenced[1] if fenced else text[text.find("{") : text.rfind("}") + 1]
    try:
        body = json.loads(inner, object_pairs_hook=once, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise _FaultError(Status.UNPARSEABLE, "expected a JSON object") from error
    if not isinstance(body, dict):
        raise _FaultError(Status.UNPARSEABLE, "expected a JSON object")
    return body


def _digit_text(text: str, form: ReplyForm) -> tuple[str, int]:
    """Return the part of a reply that holds the digits, and where it begins."""
    stripped = text.rstrip()
    if not form.reasoning:
        return stripped, 0
    line = LAST_LINE.search(stripped)
    if line is None:
        raise _FaultError(Status.UNPARSEABLE, "expected a last line 'scores: ...'")
    return line[1], line.start(1)


def _from_digits(text: str, form: ReplyForm) -> list[float]:
    """Return one score a digit; white space, commas and semicolons may stand between."""
    part, _ = _digit_text(text, form)
    digits = re.sub(r"[\s,;]", "", part)
    if not re.fullmatch(r"[0-9]+", digits):
        raise _FaultError(Status.UNPARSEABLE, "expected digits only")
    if len(digits) != len(form.names):
        status = Status.MISSING_ITEMS if len(digits) < len(form.names) else Status.EXTRA_ITEMS
        raise _FaultError(status, f"expected {len(form.names)} digits, found {len(digits)}")
    return [float(digit) for digit in digits]


def _in_range(values: Sequence[float], form: ReplyForm) -> None:
    outside = [
        f"{low:g} to {high:g}, found {name}={value:g}"
        for name, value, (low, high) in zip(form.names, values, form.bounds, strict=True)
        if not low <= value <= high
    ]
    if outside:
        raise _FaultError(Status.OUT_OF_RANGE, f"expected {'; '.join(outside)}")


def _scored(values: list[float], form: ReplyForm) -> Parsed:
    _in_range(values, form)
    return Parsed(Status.OK, tuple(values), form.score(values))


def _expected(reply: Reply, form: ReplyForm) -> Parsed:
    """Read means and spread from the log-probabilities of the digits' tokens."""
    _in_range(_from_digits(reply.text, form), form)
    if not reply.tokens:
        raise _FaultError(Status.UNPARSEABLE, "the engine gave no log-probabilities")
    text = "".join(choice.token for choice in reply.tokens)
    valid = range(int(form.low), int(form.high) + 1)
    part, start = _digit_text(text, form)
    found: list[ItemDistribution] = distributions(reply.tokens, start, start + len(part), valid)
    if len(found) != len(form.names):
        raise _FaultError(Status.UNPARSEABLE, "the tokens do not add up to the reply's digits")
    means = [one.mean for one in found]
    # The spread of the label: of the items, or of the one overall score where nothing else is asked for.
    behind = found[:1] if form.overall else found[: len(form.scale.items)]
    summed = not form.overall and form.scale.aggregation == "sum"
    return Parsed(Status.OK, tuple(means), form.score(means), spread_of(behind, summed))
