"""The `expected` readout: item scores as means of the model's own distributions over the valid digits.

Let item i be answered by a token with alternatives t of probability q(t) = exp(log-probability). Over valid digits v

    p_i(v) = sum(q(t) : t says v for item i) / sum(q(t) : t says any valid digit for item i)
    m_i = sum_v v p_i(v)                  s_i^2 = sum_v p_i(v) (v - m_i)^2

m_i is the item's score. With the items taken as independent given the digits decoded before them, a scale that averages
k items has the score mean(m_i) with spread sqrt(sum(s_i^2)) / k, one that sums them sum(m_i) with sqrt(sum(s_i^2)).

A token may hold several digits ("353"). Its alternatives are then read position by position, which is exact for the
first and approximate for the others, since engines report at most 20 alternatives: see `ReplyForm.separated`.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from invitro.labelling.exchange import TokenChoice

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
