"""The values a label store holds: label sets, which text uses which answer, and answers."""

import hashlib
import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Literal, NamedTuple, TypeVar

from invitro.errors import without_secrets

T = TypeVar("T")

Retry = Literal["errors", "unusable", "all"]
"""Which questions are asked again; see `next_attempt`."""
Tokens = tuple[tuple[str, tuple[tuple[str, float], ...]], ...]


class Status(StrEnum):
    """The result of a question. All but ``ok`` leave the text unlabelled, and all keep the raw reply.

    The store itself distinguishes two of them: ``ok``, a usable answer, and ``error``, no answer at all.
    """

    OK = "ok"
    OUT_OF_RANGE = "out_of_range"
    MISSING_ITEMS = "missing_items"
    EXTRA_ITEMS = "extra_items"
    TRUNCATED = "truncated"
    REFUSED = "refused"
    UNPARSEABLE = "unparseable"
    ERROR = "error"


@dataclass(frozen=True)
class SetInfo:
    """The identity of a label set: sets that differ in any of these are different sets.

    Args:
        corpus: the corpus of the texts.
        llm: the choice in the group ``llm``.
        model: the model behind that choice.
        revision: the model's; empty if none is named.
        prompt: the choice in the group ``prompt``.
        template: hash of the prompt's templates and settings.
        scale: the scale's name.
        items: what was scored, as JSON: names, bounds, aggregation.
        readout: ``text``, ``digits`` or ``expected``.
        sampling: as JSON.
        about: what else a datasheet reports; not part of the identity.
    """

    corpus: str
    llm: str
    model: str
    revision: str
    prompt: str
    template: str
    scale: str
    items: str
    readout: str
    sampling: str
    about: dict[str, Any] = field(default_factory=dict, compare=False)

    @property
    def name(self) -> str:
        """The readable name; sets with another model, template or sampling may share it, but not their id."""
        return f"{self.corpus}/{self.llm}/{self.prompt}/{self.scale}/{self.readout}"

    @property
    def identity(self) -> tuple[str, ...]:
        """Everything that identifies the set, in the order of the store's columns."""
        return tuple(str(getattr(self, column.name)) for column in fields(self) if column.compare)

    @property
    def id(self) -> str:
        """Short hash of the identity."""
        return hashlib.sha256("\x1f".join(self.identity).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class StoredSet:
    """A label set in a store, with counts.

    Args:
        id: its id.
        info: its identity.
        texts: texts in it.
        labelled: texts with at least one usable answer.
        unusable: questions without a usable answer by status; ``pending`` ones have no answer yet.
        samples: the largest number of samples of a text.
        answers: answers that belong to it, retries included.
        prompt_tokens: of these answers, as the next two.
        completion_tokens: likewise.
        cost: US dollars.
        created: when it was started, UTC.
    """

    id: str
    info: SetInfo
    texts: int
    labelled: int
    unusable: dict[str, int]
    samples: int
    answers: int
    prompt_tokens: int
    completion_tokens: int
    cost: float
    created: str

    def __str__(self) -> str:
        """Return one readable line that begins with the id."""
        info = self.info
        model = info.model + (f"@{info.revision}" if info.revision else "")
        sampled = f", {self.samples} samples" if self.samples > 1 else ""
        return (
            f"{self.id}  {info.name}  ({self.labelled} of {self.texts} texts labelled{sampled}; {model}, template "
            f"{info.template}, {info.sampling})"
        )


@dataclass(frozen=True)
class Use:
    """A text's sample in a set, and the key of the answer to it."""

    text_id: str
    sample: int
    key: str
    text_hash: str


@dataclass(frozen=True)
class Answer:
    """A model's answer to the question with this key.

    Args:
        key: hash of the question.
        attempt: 0, or more for a retry.
        status: a `Status`; ``ok`` is usable, ``error`` means that there was no answer.
        raw: the unaltered reply.
        finish: how it ended: ``stop``, ``length``, ``refusal``, ``filter``, ``error``.
        error: what went wrong, if anything.
        items: item scores in the scale's order; empty unless usable.
        score: the scale's units; None unless usable.
        spread: standard deviation of the score, if the readout gives one.
        tokens: decoded tokens with their alternatives and natural log-probabilities, if they were requested.
        prompt_tokens: as the engine counted them.
        completion_tokens: likewise.
        cost: US dollars.
        answered: UTC; filled in when it is stored.
        revision: the model that answered, as the server names it, with its fingerprint; empty if it names none.
        batch: the batch file that the question was in; empty if it was asked individually.
    """

    key: str
    attempt: int
    status: str
    raw: str
    finish: str = "stop"
    error: str | None = None
    items: tuple[float, ...] = ()
    score: float | None = None
    spread: float | None = None
    tokens: Tokens = ()
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float = 0.0
    answered: str = ""
    revision: str = ""
    batch: str = ""


class Attempt(NamedTuple):
    """One stored attempt at a question: its number in order of arrival, and how it ended."""

    number: int
    status: str
    finish: str


def next_attempt(stored: Mapping[int, Attempt], retry: Retry, before: int | None = None) -> int | None:
    """Return the number of the attempt at a question that has to be made next; None if there is none.

    If the first reply gives no label, the question is asked once more, unless the provider's filter refused it. A
    question that ended in an error before the job is asked again.

    Args:
        stored: the attempts that were answered.
        retry: ``errors`` repeats nothing else; ``unusable`` also repeats questions answered twice without a label,
            ``all`` those that the filter refused too.
        before: number of the last answer stored before the job, which does not repeat questions that were answered
            later. None if all stored answers are from before.
    """
    if not stored:
        return 0
    if any(attempt.status == Status.OK for attempt in stored.values()):
        return None
    last = max(stored)
    old = before is None or stored[last].number <= before
    if stored[last].status == Status.ERROR:
        return last if old else None
    if stored[last].finish == "filter":
        return last + 1 if old and retry == "all" else None
    return 1 if last == 0 else last + 1 if old and retry != "errors" else None


ANSWER_COLUMNS = tuple(column.name for column in fields(Answer))


def row_of(answer: Answer) -> dict[str, Any]:
    """Return an answer as a row of the store, by column."""
    return vars(answer) | {
        "raw": storable(answer.raw),
        "error": None if answer.error is None else storable(answer.error),
        "items": json.dumps(answer.items) if answer.items else None,
        "tokens": json.dumps(answer.tokens) if answer.tokens else None,
        "answered": answer.answered or now(),
    }


def answer_of(row: sqlite3.Row | Mapping[str, Any]) -> Answer:
    """Return a row as an answer."""
    values = {name: row[name] for name in ANSWER_COLUMNS}
    tokens = json.loads(values["tokens"] or "[]")
    values["tokens"] = tuple(
        (token, tuple((other, logprob) for other, logprob in alternatives)) for token, alternatives in tokens
    )
    values["items"] = tuple(json.loads(values["items"] or "[]"))
    return Answer(**values)


def info_of(row: sqlite3.Row | Mapping[str, Any]) -> SetInfo:
    """Return a row as the identity of a label set."""
    names = [column.name for column in fields(SetInfo) if column.compare]
    return SetInfo(**{name: row[name] for name in names}, about=json.loads(row["about"]))


def storable(text: str) -> str:
    """Return `text` without secrets, with lone surrogates, which no file can hold, as escapes."""
    return without_secrets(text).encode("utf-8", "backslashreplace").decode("utf-8")


def text_hash(text: str) -> str:
    """Return a hash that shows whether a text is the one that was labelled."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def now() -> str:
    """Return the time, UTC, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
