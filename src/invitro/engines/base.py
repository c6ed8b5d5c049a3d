"""What passes between the labelling job and an engine: requests, replies, and how a score is read out."""

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Protocol, runtime_checkable

from annotated_types import Ge, Le, MinLen

from invitro.errors import InputError, remember_secret, without_secrets
from invitro.settings import Count, Index, checked

Messages = tuple[dict[str, str], ...]
"""A chat, each message with ``role`` and ``content``."""
ModelName = Annotated[str, MinLen(1), "a model's name or folder, as llm.model= gives it"]
Dollars = Annotated[float, Ge(0)]


class Readout(StrEnum):
    """How item scores are taken from a model.

    ``text``: a JSON object with one decimal score per item, as people would write it. ``expected``: such an object of
    whole scores, but each item's score is the mean of its probability distribution over the valid digits, and the
    spread is kept. ``digits``: one digit per item in the items' order and nothing else: the fewest decoded tokens, but
    without names to guide it a small model counts instead (123456).
    """

    TEXT = "text"
    DIGITS = "digits"
    EXPECTED = "expected"


@checked("sampling")
@dataclass(frozen=True)
class Sampling:
    """How a model decodes.

    Args:
        temperature: 0 is greedy; None leaves it to the model.
        max_tokens: the most tokens a reply may have; None leaves this to the caller: the labelling job allows enough
            for its question, an engine uses its own limit.
        seed: the sampling seed, if the engine takes one.
        top_logprobs: how many alternatives of each token are reported; 0 for none, or for as many as the readout needs.
    """

    temperature: Annotated[float, Ge(0), Le(2)] | None = 0.0
    max_tokens: Count | None = None
    seed: Index | None = 0
    top_logprobs: Index = 0


@dataclass(frozen=True)
class Constraint:
    """What a valid reply looks like, for engines that can enforce it; replies are validated again in any case.

    Args:
        regex: a regular expression that the whole reply matches, without anchors.
        json_schema: a JSON schema for the reply, if it is JSON.
    """

    regex: str
    json_schema: dict[str, Any] | None = None


@dataclass(frozen=True)
class Request:
    """One question to a model.

    Args:
        key: hash of all that determines the answer: messages, model and revision, readout, sampling, sample number.
        text_id: the text it is about.
        messages: the chat, with the fixed part first and the text last.
        sampling: how to decode.
        constraint: what a valid reply looks like; None leaves the model free.
        attempt: how many earlier attempts gave no usable answer.
    """

    key: str
    text_id: str
    messages: Messages
    sampling: Sampling
    constraint: Constraint | None = None
    attempt: int = 0


@dataclass(frozen=True)
class TokenChoice:
    """One decoded token and its most probable alternatives, as ``(token, natural log-probability)``."""

    token: str
    alternatives: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Reply:
    """A model's answer, or why there is none.

    Args:
        request: the question.
        text: the raw reply; empty if there is none.
        finish: ``stop``, ``length`` (cut at max_tokens), ``refusal`` (the provider's own), ``filter`` (the provider's
            filter did not let the question through), or ``error``.
        error: what went wrong, if `finish` is ``filter`` or ``error``.
        tokens: the decoded tokens, if log-probabilities were requested.
        prompt_tokens: as counted by the engine; 0 if unknown.
        completion_tokens: likewise.
        revision: the model that answered, as the server names it, with its fingerprint; empty if it names none.
        batch: the batch file that the question was in; empty if it was asked individually.
    """

    request: Request
    text: str
    finish: str = "stop"
    error: str | None = None
    tokens: tuple[TokenChoice, ...] = ()
    prompt_tokens: int = 0
    completion_tokens: int = 0
    revision: str = ""
    batch: str = ""


@checked("llm.engine.price")
@dataclass(frozen=True)
class Price:
    """US dollars per million tokens; 0 for a model you run yourself."""

    prompt: Dollars = 0.0
    completion: Dollars = 0.0

    def of(self, prompt_tokens: int, completion_tokens: int) -> float:
        """Return the cost in US dollars."""
        return (prompt_tokens * self.prompt + completion_tokens * self.completion) / 1e6


@runtime_checkable
class Engine(Protocol):
    """A language model that answers.

    An engine takes requests lazily and returns each reply as soon as it has it, in any order; every request gets
    exactly one reply, an ``error`` included. It keeps nothing: the job stores the replies.
    """

    model: str
    revision: str | None
    price: Price

    def replies(self, requests: Iterable[Request]) -> Iterator[Reply]:
        """Answer requests."""

    def count_tokens(self, messages: Messages) -> int:
        """Count the prompt's tokens with the model's own tokenizer and chat template, without asking the model."""

    def close(self) -> None:
        """Release what the engine holds."""


@dataclass
class Usage:
    """What a job has used so far; `cost` in US dollars, without the `uncounted` replies, whose tokens are unknown."""

    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float = 0.0
    uncounted: int = 0

    def add(self, reply: Reply, price: Price) -> None:
        """Count one reply."""
        self.requests += 1
        self.prompt_tokens += reply.prompt_tokens
        self.completion_tokens += reply.completion_tokens
        self.cost += price.of(reply.prompt_tokens, reply.completion_tokens)
        self.uncounted += not reply.prompt_tokens and reply.finish not in ("error", "filter")


class EngineError(RuntimeError):
    """The engine no longer answers; its earlier answers are stored. The message holds no secrets."""

    def __init__(self, message: str) -> None:
        super().__init__(without_secrets(message))


VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*")
"""The name of an environment variable that holds a key; capitals, so that a key itself is not taken for one."""


def key_in(variable: str) -> str:
    """Return the key that an environment variable holds, without surrounding white space, and mask it in messages.

    Raises:
        InputError: the variable is not set, or its value cannot be sent in an HTTP header.
    """
    value = os.environ.get(variable, "")
    remember_secret(value)
    key = value.strip()
    where = f"llm.engine.key_env: the environment variable {variable}"
    if not key:
        raise InputError(f"{where} is not set; put the server's key into it")
    if not all("!" <= character <= "~" for character in key):
        raise InputError(
            f"{where} is not a key: expected ASCII letters, digits and punctuation, found "
            + ("white space inside it" if len(key.split()) > 1 else "another character")
            + "; copy the key again"
        )
    return key
