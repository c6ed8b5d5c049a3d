"""What a server says: refusals that pass by themselves, concern one request, or all; counts and log-probabilities."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from invitro.labelling.exchange import TokenChoice

EVERY_REQUEST = (401, 403, 404)
"""Statuses that any other request would get too: key, permission, model or address."""
TRANSIENT = (408, 409, 425, 429)
"""Statuses below 500 that pass by themselves."""
NO_CREDIT = ("insufficient_quota", "billing_hard_limit_reached")


class TransientError(Exception):
    """Another try may succeed; `after` are the seconds that the server asks to wait."""

    def __init__(self, message: str, after: float | None = None) -> None:
        self.after = after
        super().__init__(message)


@dataclass(frozen=True)
class Failure:
    """A response that is no answer.

    Args:
        status: the HTTP status.
        code: the server's own word for it, where it has one.
        message: what it says, without secrets.
        after: seconds until it wants to be asked again, where it says so.
    """

    status: int
    code: str
    message: str
    after: float | None

    @property
    def transient(self) -> bool:
        """Whether the same request may succeed later."""
        return (self.status in TRANSIENT or self.status >= 500) and self.code not in NO_CREDIT

    def __str__(self) -> str:
        return f"HTTP {self.status}" + (f" {self.code}" if self.code else "") + f": {self.message}"


def permanent(failure: Failure) -> bool:
    """Whether every request of the job would fail alike."""
    return failure.status in EVERY_REQUEST or failure.code in NO_CREDIT


def failure_of(response: httpx.Response, secrets: Sequence[str] = ()) -> Failure:
    """Read a response that is no answer; `secrets` that the server repeats are blotted out."""
    message, code = response.text.strip(), ""
    try:
        error = response.json()["error"]
        message, code = str(error["message"]), str(error.get("code") or "")
    except (ValueError, KeyError, TypeError, AttributeError):
        pass  # not every server explains itself in JSON; then its text is what there is
    message, code = without(message, secrets)[:300], without(code, secrets)[:60]
    return Failure(response.status_code, code, message or response.reason_phrase, _seconds(response))


def without(text: str, secrets: Sequence[str]) -> str:
    """Return `text` with each of `secrets` blotted out; to be done before anything is cut off."""
    for secret in secrets:
        text = text.replace(secret, "***")
    return text


def _seconds(response: httpx.Response) -> float | None:
    """Read ``Retry-After``, given in seconds or as a date."""
    value = response.headers.get("retry-after", "").strip()
    if not value:
        return None
    try:
        return max(float(value), 0.0)
    except ValueError:
        try:
            return max(parsedate_to_datetime(value).timestamp() - time.time(), 0.0)
        except ValueError:
            return None  # not understood: the usual waits apply


def tokens_of(usage: dict[str, Any], name: str) -> int:
    """Return a count out of a server's ``usage``; 0 where it gives none."""
    value = usage.get(name)
    return int(value) if isinstance(value, int | float) else 0


def choices_of(choice: dict[str, Any]) -> tuple[TokenChoice, ...]:
    """Return the decoded tokens with their alternatives, the chosen one among them."""
    found = []
    for token in (choice.get("logprobs") or {}).get("content") or ():
        alternatives = {one["token"]: float(one["logprob"]) for one in token.get("top_logprobs") or ()}
        alternatives.setdefault(token["token"], float(token["logprob"]))
        found.append(TokenChoice(token["token"], tuple(alternatives.items())))
    return tuple(found)
