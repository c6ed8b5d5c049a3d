"""The form that replies are asked for in, and what engines can enforce of it."""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from invitro.engines.base import Constraint, Readout
from invitro.errors import refuse_if_any
from invitro.scales import Scale

OVERALL = "score"
"""The name of the score of the whole scale in a reply."""
REASONING = 400  # characters: a few sentences, so that a reply cannot run into max_tokens


@dataclass(frozen=True)
class ReplyForm:
    """The form that replies are asked for in.

    Args:
        scale: the questionnaire.
        readout: how scores are taken from the model.
        overall: one score for the whole scale (``score``, within the scale's own bounds) instead of one an item.
        reasoning: brief reasoning stands in front of the scores: a key ``reasoning`` that comes first in the JSON
            object, or text before a last line ``scores: ...``.
        total: the overall score follows the items'. The label is the items' score; the overall one is kept beside it.
        separated: single spaces between digits, for tokenizers that would merge neighbouring digits into one token,
            whose distribution then is not one item's.

    Raises:
        InputError: digits are to be read, but a score of the scale is not one digit; or an item is called as what else
            is asked for: ``reasoning``, ``score``.
    """

    scale: Scale
    readout: Readout
    overall: bool = False
    reasoning: bool = False
    separated: bool = False
    total: bool = False

    def __post_init__(self) -> None:
        refuse_if_any(self._problems())

    def _problems(self) -> Iterator[str]:
        low, high = self.bounds[-1]
        # One range for all digits: a sum of items has another than its items, and prompts name one range for digits.
        whole = all(float(bound).is_integer() and 0 <= bound <= 9 for bound in (low, high))
        if self.readout != Readout.TEXT and not (whole and len(set(self.bounds)) == 1):
            of_all = self.overall or self.total
            yield (
                f"readout={self.readout.value} reads one digit a score, but {'overall scores' if of_all else 'items'} "
                f"of the scale {self.scale.name} go from {low:g} to {high:g}; choose readout=text"
                + (", or a prompt that asks for each item, such as prompt=scale_aware" if of_all else "")
            )
        items = [item.name for item in self.scale.items]
        if self.reasoning and "reasoning" in items:
            yield f"scale {self.scale.name}: an item is called 'reasoning', as the reasoning before the scores is"
        if self.total and OVERALL in items:
            yield f"scale {self.scale.name}: an item is called {OVERALL!r}, as the overall score after the items is"
        if self.total and self.overall:
            yield "prompt: overall asks for nothing but the overall score, total for the items and it; choose one"

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
    def max_tokens(self) -> int:
        """Enough tokens for a valid reply in any common tokenizer."""
        # A digit may cost two tokens with its space; a JSON entry its name in pieces, a number and punctuation.
        scores = 2 * len(self.names) + 4 if self.readout != Readout.TEXT else 16 + 24 * len(self.names)
        return scores + (REASONING // 2 if self.reasoning else 0)

    @property
    def example(self) -> str:
        """A valid reply, as long as valid replies commonly are."""
        values = [(low + high) / 2 for low, high in self.bounds]
        if self.readout == Readout.TEXT:
            body: dict[str, Any] = {"reasoning": "x " * (REASONING // 3)} if self.reasoning else {}
            return json.dumps(body | {name: round(value, 1) for name, value in zip(self.names, values, strict=True)})
        digits = (" " if self.separated else "").join(str(int(value)) for value in values)
        return f"{'x ' * (REASONING // 3)}\nscores: {digits}" if self.reasoning else digits

    @cached_property
    def constraint(self) -> Constraint:
        """What engines are asked to enforce."""
        if self.readout == Readout.TEXT:
            entries = [
                f'"{re.escape(name)}": {_number_regex(*bounds)}'
                for name, bounds in zip(self.names, self.bounds, strict=True)
            ]
            if self.reasoning:
                entries.insert(0, rf'"reasoning": "[^"\\\x00-\x1f]{{1,{REASONING}}}"')
            return Constraint(r"\{" + ", ".join(entries) + r"\}", self._schema())
        digit = f"[{self.low:.0f}-{self.high:.0f}]"
        digits = " ".join([digit] * len(self.names)) if self.separated else f"{digit}{{{len(self.names)}}}"
        return Constraint(rf"[^\n]{{1,{REASONING}}}\nscores: {digits}" if self.reasoning else digits)

    def _schema(self) -> dict[str, Any]:
        """The JSON schema of the ``text`` readout; keys stand in the order in which they are to be written."""
        properties: dict[str, Any] = {"reasoning": {"type": "string"}} if self.reasoning else {}
        properties |= {
            name: {"type": "number", "minimum": low, "maximum": high}
            for name, (low, high) in zip(self.names, self.bounds, strict=True)
        }
        return {
            "type": "object",
            "properties": properties,
            "required": list(properties),
            "additionalProperties": False,
        }


def _number_regex(low: float, high: float) -> str:
    """Return a regular expression of the decimals from `low` to `high` with at most two places."""
    if not (float(low).is_integer() and float(high).is_integer() and 0 <= low < high <= 99):
        return r"-?[0-9]{1,4}(?:\.[0-9]{1,2})?"
    below = "|".join(str(number) for number in range(int(low), int(high)))
    return rf"(?:(?:{below})(?:\.[0-9]{{1,2}})?|{int(high)}(?:\.0{{1,2}})?)"
