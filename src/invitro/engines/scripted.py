"""An engine without a model: replies follow from a hash of the question, with configured faults and delays."""

import hashlib
import json
import math
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Ge

from invitro.engines.base import Messages, ModelName, Price, Reply, Request, TokenChoice
from invitro.labels.answers import Status
from invitro.settings import Count, Share, checked
from invitro.tables import pieces

FAULT_NAMES = tuple(status.value for status in Status if status != Status.OK)
DIGIT_CLASS = re.compile(r"\[(\d)-(\d)\](?:\{(\d+)\})?")
PROSE = re.compile(r"\[\^[^\]]*\]\{\d+,\d+\}")


@checked("llm.engine")
@dataclass
class Scripted:
    """Answers every request at once and always in the same way, for tests, rehearsals and timings without a model.

    Scores are drawn from the valid range by a hash of messages, temperature and seed: they have nothing to do with what
    the text says.

    Args:
        model: the model's name in the store.
        revision: likewise.
        delay: seconds that each batch of requests takes.
        concurrency: requests in a batch, and so the most that can be in flight when the process is killed.
        faults: share of the requests that fail in each way, one of `FAULT_NAMES`.
        log: a file that gets a line of JSON for each request, before it is answered.
        price: per million tokens; here a token is a word.

    Raises:
        InputError: naming every setting that is wrong.
    """

    model: ModelName = "scripted"
    revision: str | None = None
    delay: Annotated[float, Ge(0)] = 0.0
    concurrency: Count = 8
    faults: Annotated[Mapping[str, Share], f"shares from 0 to 1 of any of {', '.join(FAULT_NAMES)}"] = field(
        default_factory=dict
    )
    log: str | None = None
    price: Price = field(default_factory=Price)

    def contradictions(self) -> Iterator[str]:
        """Yield what is wrong with the set of faults."""
        for name in self.faults.keys() - set(FAULT_NAMES):
            yield f"llm.engine.faults: expected any of {', '.join(FAULT_NAMES)}, found {name}"
        if sum(self.faults.values()) > 1:
            yield f"llm.engine.faults: expected shares of at most 1 together, found {sum(self.faults.values()):g}"

    def replies(self, requests: Iterable[Request]) -> Iterator[Reply]:
        """Answer requests, `concurrency` at a time."""
        for batch in pieces(requests, self.concurrency):
            for request in batch:
                self._note(request)
            if self.delay:
                time.sleep(self.delay)
            yield from map(self._reply, batch)

    def count_tokens(self, messages: Messages) -> int:
        """Count words."""
        return sum(len(message["content"].split()) for message in messages)

    def close(self) -> None:
        """Do nothing."""

    def _note(self, request: Request) -> None:
        if self.log is None:
            return
        path = Path(self.log)
        path.parent.mkdir(parents=True, exist_ok=True)
        asked = {"key": request.key, "text_id": request.text_id, "temperature": request.sampling.temperature}
        # One unbuffered write in append mode: processes do not mix their lines, and a kill leaves no half-written one.
        with path.open("ab", buffering=0) as file:
            file.write((json.dumps(asked | {"pid": os.getpid()}) + "\n").encode())

    def _reply(self, request: Request) -> Reply:
        source = _Hash(request)
        fault = self._fault(source)
        prompt = self.count_tokens(request.messages)
        if fault == Status.ERROR:
            return Reply(request, "", "error", "scripted error", prompt_tokens=0)
        text = _spoiled(_valid(request, source), fault)
        finish = "length" if fault == Status.TRUNCATED else "stop"
        count = request.sampling.top_logprobs
        tokens = tuple(_choice(character, count, source) for character in text) if count else ()
        return Reply(request, text, finish, None, tokens, prompt, len(text.split()))

    def _fault(self, source: "_Hash") -> str | None:
        drawn = source.uniform()
        for name in FAULT_NAMES:
            drawn -= self.faults.get(name, 0.0)
            if drawn < 0:
                return name
        return None


class _Hash:
    """A stream of numbers that follows from a request's messages, temperature and seed."""

    def __init__(self, request: Request) -> None:
        asked: list[Any] = [request.messages, request.sampling.temperature, request.sampling.seed]
        self._state = hashlib.sha256(json.dumps(asked).encode()).digest()

    def uniform(self) -> float:
        """Return the next number in [0, 1)."""
        self._state = hashlib.sha256(self._state).digest()
        return int.from_bytes(self._state[:7]) / 2**56


def _valid(request: Request, source: _Hash) -> str:
    """Return a reply that meets the request's constraint."""
    constraint = request.constraint
    if constraint is None:
        return f"{source.uniform():.3f}"
    if constraint.json_schema is not None:
        body: dict[str, Any] = {}
        for name, kind in constraint.json_schema["properties"].items():
            if kind["type"] == "string":
                body[name] = "scripted"
                continue
            value = kind["minimum"] + (kind["maximum"] - kind["minimum"]) * source.uniform()
            body[name] = round(value) if kind["type"] == "integer" else round(value, 1)
        return json.dumps(body)

    def digits(asked: re.Match[str]) -> str:
        low, high = int(asked[1]), int(asked[2])
        return "".join(str(low + int((high - low + 1) * source.uniform())) for _ in range(int(asked[3] or 1)))

    return DIGIT_CLASS.sub(digits, PROSE.sub("scripted", constraint.regex)).replace("\\n", "\n")


def _spoiled(text: str, fault: str | None) -> str:
    """Return a reply with something wrong."""
    structured = text.startswith("{")
    match fault:
        case Status.UNPARSEABLE:
            return "The writer seems touched."
        case Status.REFUSED:
            return "I'm sorry, but I cannot rate this person."
        case Status.TRUNCATED:
            return text[: max(len(text) // 2, 1)] if len(text) > 1 else ""
        case Status.OUT_OF_RANGE if structured:
            return re.sub(r"-?\d+(?:\.\d+)?(?=\}$)", "99", text)
        case Status.OUT_OF_RANGE:
            return text[:-1] + "9"
        case Status.MISSING_ITEMS if structured:
            return re.sub(r'(?:, )?"[^"]*": [^,"]*\}$', "}", text)
        case Status.MISSING_ITEMS:
            return text[:-1].rstrip() if len(text) > 1 else ""
        case Status.EXTRA_ITEMS:
            return text[:-1] + ', "clever": 1}' if structured else text + text[-1]
    return text


def _choice(character: str, count: int, source: _Hash) -> TokenChoice:
    """Return a token of one character; a digit has its neighbours as alternatives."""
    if not character.isdigit():
        return TokenChoice(character, ((character, 0.0),))
    steep = 0.5 + 2 * source.uniform()
    weights = {str(digit): math.exp(-steep * abs(digit - int(character))) for digit in range(10)}
    total = math.fsum(weights.values())
    ranked = sorted(weights.items(), key=lambda pair: -pair[1])[:count]
    return TokenChoice(character, tuple((digit, math.log(weight / total)) for digit, weight in ranked))
