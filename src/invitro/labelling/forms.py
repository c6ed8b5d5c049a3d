"""The form that replies are asked for in, and what engines can enforce of it."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from invitro.errors import refuse_if_any
from invitro.labelling.exchange import Constraint, Readout
from invitro.scales import Scale

OVERALL = "score"
"""The one name in a reply to a prompt that asks for an overall score."""
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
        separated: single spaces between digits, for tokenizers that would merge neighbouring digits into one token,
            whose distribution then is not one item's.

    Raises:
        InputError: digits are to be read, but a score of the scale is not one digit; or an item is called ``reasoning``
            while reasoning is asked for.
    """

    scale: Scale
    readout: Readout
    overall: bool = False
    reasoning: bool = False
    separated: bool = False

    def __post_init__(self) -> None:
        refuse_if_any(self._problems())

    def _problems(self) -> Iterator[str]:
        whole = all(float(bound).is_integer() and 0 <= bound <= 9 for bound in (self.low, self.high))
        if self.readout != Readout.TEXT and not whole:
            what = "overall scores" if self.overall else "items"
            yield (
                f"readout={self.readout.value} reads one digit a score, but {what} of the scale {self.scale.name} go "
                f"from {self.low:g} to {self.high:g}; choose readout=text"
                + (", or a prompt that asks for each item, such as prompt=scale_aware" if self.overall else "")
            )
        if self.reasoning and "reasoning" in self.names:
            yield f"scale {self.scale.name}: an item is called 'reasoning', as the reasoning before the scores is"

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The scores asked for, in order."""
        return (OVERALL,) if self.overall else tuple(item.name for item in self.scale.items)

    @property
    def low(self) -> float:
        """Lowest valid score."""
        return self.scale.minimum if self.overall else self.scale.low

    @property
    def high(self) -> float:
        """Highest valid score."""
        return self.scale.maximum if self.overall else self.scale.high

    @property
    def max_tokens(self) -> int:
        """Enough tokens for a valid reply in any common tokenizer."""
        # A digit may cost two tokens with its space; a JSON entry its name in pieces, a number and punctuation.
        scores = 2 * len(self.names) + 4 if self.readout != Readout.TEXT else 16 + 24 * len(self.names)
        return scores + (REASONING // 2 if self.reasoning else 0)

    @property
    def example(self) -> str:
        """A valid reply, as long as valid replies commonly are."""
        value = (self.low + self.high) / 2
        if self.readout == Readout.TEXT:
            body: dict[str, Any] = {"reasoning": "x " * (REASONING // 3)} if self.reasoning else {}
            return json.dumps(body | {name: round(value, 1) for name in self.names})
        digits = (" " if self.separated else "").join(str(int(value)) for _ in self.names)
        return f"{'x ' * (REASONING // 3)}\nscores: {digits}" if self.reasoning else digits

    @cached_property
    def constraint(self) -> Constraint:
        """What engines are asked to enforce."""
        if self.readout == Readout.TEXT:
            number = _number_regex(self.low, self.high)
            entries = [f'"{re.escape(name)}": {number}' for name in self.names]
            if self.reasoning:
                entries.insert(0, rf'"reasoning": "[^"\\\x00-\x1f]{{1,{REASONING}}}"')
            return Constraint(r"\{" + ", ".join(entries) + r"\}", self._schema())
        digit = f"[{self.low:.0f}-{self.high:.0f}]"
        digits = " ".join([digit] * len(self.names)) if self.separated else f"{digit}{{{len(self.names)}}}"
        return Constraint(rf"[^\n]{{1,{REASONING}}}\nscores: {digits}" if self.reasoning else digits)

    def _schema(self) -> dict[str, Any]:
        """The JSON schema of the ``text`` readout; keys stand in the order in which they are to be written."""
        properties: dict[str, Any] = {"reasoning": {"type": "string"}} if self.reasoning else {}
        properties |= {name: {"type": "number", "minimum": self.low, "maximum": self.high} for name in self.names}
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
