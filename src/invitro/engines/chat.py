"""The chat-completions protocol: how any response of a server becomes a reply."""

import json
import math
import re
import time
from collections.abc import Iterator, Mapping
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from invitro.engines.base import Reply, Request, TokenChoice
from invitro.errors import without_secrets

EVERY_REQUEST = (401, 402, 403, 404)
"""Statuses that every other request would get too: the key, credit, permission, model or address is wrong."""
TRANSIENT = (408, 409, 425, 429)
"""Statuses below 500 that are temporary."""
NO_CREDIT = ("insufficient_quota", "billing_hard_limit_reached")
FILTERS = (
    "content_filter", "contentfilter", "content_policy_violation", "responsibleaipolicyviolation",
    "data_inspection_failed", "moderation", "moderation_blocked", "prohibited_content",
)  # fmt: skip
"""Codes with which providers say that their filter did not let a question through."""
FILTER_WORDS = ("content management policy", "content filter", "content policy", "requires moderation", "was flagged")
ENDS = {
    **dict.fromkeys(("stop", "eos", "eos_token", "end_turn", "stop_sequence", ""), "stop"),
    **dict.fromkeys(("length", "max_tokens", "max_output_tokens", "model_length"), "length"),
    **dict.fromkeys(("content_filter", "refusal", "safety", "prohibited_content", "recitation"), "refusal"),
}
"""The reasons for which a reply ends; any other one is an error."""
MOST_TOKENS = 10**9  # the most that a server may report for a reply
TOLD = 300  # characters of a server's message that are kept
REPEATED = 30  # characters of the question that a server's message may repeat

REMEDIES = {
    "max_tokens": "llm.engine.limit_field=max_completion_tokens",
    "max_completion_tokens": "llm.engine.limit_field=max_tokens",
    "minimum": "llm.engine.constraint=response_format_unbounded",
    "maximum": "llm.engine.constraint=response_format_unbounded",
    "response_format": "llm.engine.constraint=json_object or none",
    "json_schema": "llm.engine.constraint=json_object or none",
    "structured_outputs": "llm.engine.constraint=response_format or none",
    "top_logprobs": "sampling.top_logprobs=5 or what the server allows, or readout=digits",
    "logprobs": "sampling.top_logprobs=5 or what the server allows, or readout=digits",
    "temperature": "++llm.engine.body.temperature=null",
    "seed": "++llm.engine.body.seed=null",
    "system": "llm.engine.system=false",
    "api-version": "llm.engine.base_url=...?api-version=...",
    "endpoint": "llm.engine.base_url=, up to and including /v1,",
}
"""The settings that change or omit the field that a server names in a refusal, the most specific first."""


class TransientError(Exception):
    """Another try may succeed.

    Args:
        message: what happened.
        after: how many seconds the server asks to wait.
        holds_all: whether all other requests should wait too.
        paid: whether the server has answered, so that every further try costs money again.
    """

    def __init__(self, message: str, after: float | None = None, holds_all: bool = False, paid: bool = False) -> None:
        self.after, self.holds_all, self.paid = after, holds_all, paid
        super().__init__(message)


class PermanentError(Exception):
    """Every request of the job would fail in the same way."""


def endpoint(base_url: str, path: str) -> str:
    """Return the address of `path` on a server; a query stays at the end.

    Example:
        >>> endpoint("https://lab.openai.azure.com/openai/deployments/gpt?api-version=2024-10-21", "chat/completions")
        'https://lab.openai.azure.com/openai/deployments/gpt/chat/completions?api-version=2024-10-21'
    """
    before, mark, query = base_url.partition("?")
    return f"{before.rstrip('/')}/{path}{mark}{query}"


def answered(request: Request, response: httpx.Response) -> Reply:
    """Return the reply in a response of any kind.

    Raises:
        TransientError: another try may succeed.
        PermanentError: every request would get this response.
    """
    try:
        body = response.json()
    except (ValueError, RecursionError):
        body = None
    if response.is_redirect:
        reason = f"HTTP {response.status_code}: the server has moved to {response.headers.get('location')}"
        return Reply(request, "", "error", without_secrets(f"{reason}; set llm.engine.base_url")[:TOLD])
    return read(request, response.status_code, body, response.text, _retry_after(response))


def read(request: Request, status: int, body: object, text: str = "", after: float | None = None) -> Reply:
    """Return the reply in the body of a response: the one place where a body becomes an answer or a status.

    Args:
        request: the question.
        status: the response's HTTP status.
        body: its JSON value, of any type; None if it is not JSON.
        text: the body as text.
        after: the seconds that the server asks to wait.

    Raises:
        TransientError: another try may succeed.
        PermanentError: every request would get this response.
    """
    if not 200 <= status < 300:
        return _rejected(request, status, body, text, after)
    choices = _mapping(body).get("choices")
    choice = _mapping(choices[0] if isinstance(choices, list) and choices else None)
    error = _mapping(body).get("error") or choice.get("error")
    message = choice.get("message")
    if error:  # some servers send their errors with the status 200
        code = _mapping(error).get("code")
        status = code if isinstance(code, int) and 400 <= code < 600 else status
        return _rejected(request, status, {"error": error}, text, after)
    if not isinstance(message, dict):
        start = without_secrets(text)[:100] if not _repeats(text, request) else "(it repeats the text)"
        raise TransientError(f"not a chat completion: {start!r}", paid=True)
    usage, content = _mapping(_mapping(body).get("usage")), _content(message.get("content"))
    finish = str(choice.get("finish_reason") or "").lower()
    if message.get("refusal"):
        finish, content = "refusal", _content(message["refusal"])
    return Reply(
        request=request,
        text=content,
        finish=ENDS.get(finish, "error"),
        error=None if finish in ENDS else f"the reply ended for the reason {finish[:40]!r}",
        tokens=_tokens(choice),
        prompt_tokens=_count(usage.get("prompt_tokens")),
        completion_tokens=_count(usage.get("completion_tokens")),
        revision=_revision(_mapping(body)),
    )


def _revision(body: Mapping[str, Any]) -> str:
    """Return the model that answered and the fingerprint of its system, as far as the server names them."""
    names = (body.get(field) for field in ("model", "system_fingerprint"))
    return without_secrets(" ".join(name.strip() for name in names if isinstance(name, str)))[:100]


def _rejected(request: Request, status: int, body: object, text: str, after: float | None) -> Reply:
    """Turn a server's error into its consequence: an error reply, another try, or the end of the job."""
    message, codes = _message_and_codes(body, text)
    shown = without_secrets(message)[:TOLD].strip()
    if _repeats(message, request):
        shown = "(the server's message repeats the text, and is not kept)"
    code = without_secrets(next((code for code in codes if code != str(status)), ""))[:60]
    reason = f"HTTP {status}" + (f" {code}" if code else "") + (f": {shown}" if shown else "")
    if {code.lower() for code in codes} & set(FILTERS) or (
        status in (400, 403, 422, 451) and any(words in message.lower() for words in FILTER_WORDS)
    ):
        return Reply(request, "", "filter", reason)
    if status in EVERY_REQUEST or set(codes) & set(NO_CREDIT):
        raise PermanentError(reason)
    if status in TRANSIENT or status >= 500:
        raise TransientError(reason, after, holds_all=status == 429)
    remedy = _remedy(message, body)
    return Reply(request, "", "error", reason + (f"; {remedy} changes this" if remedy else ""))


def _message_and_codes(body: object, text: str) -> tuple[str, list[str]]:
    """Return the message and the codes of an error in any of the forms that servers use."""
    whole = _mapping(body)
    error = whole.get("error", whole) or whole
    if isinstance(error, str):
        return error, []
    fields = _mapping(error)
    codes = [fields.get("code"), _mapping(fields.get("innererror")).get("code"), fields.get("type")]
    message = fields.get("message", fields.get("detail"))
    faults = _mapping(message).get("detail") or message
    if isinstance(faults, list):  # pydantic's, whose `input` repeats the request
        message = "; ".join(f"{_place(fault)}: {_mapping(fault).get('msg')}" for fault in faults)
    return str(text if message is None else message), [str(code) for code in codes if isinstance(code, str | int)]


def _place(fault: object) -> str:
    where = _mapping(fault).get("loc")
    return ".".join(map(str, where)) if isinstance(where, list) else "?"


def _remedy(message: str, body: object) -> str:
    """Return the setting that changes the field named in a refusal."""
    named = str(_mapping(_mapping(body).get("error")).get("param") or "")
    words = re.findall(r"[a-z_-]+", f"{message} {named}".lower())
    if "schema" not in words and "response_format" not in words:
        words = [word for word in words if word not in ("minimum", "maximum")]
    # The first of the two is refused, and the other one recommended.
    limit = next((word for word in words if word in ("max_tokens", "max_completion_tokens")), None)
    for field in ([limit] if limit else []) + list(REMEDIES):
        if field in words:
            return REMEDIES[field]
    fixed = ("", "model", "messages", "prompt")
    return f"++llm.engine.body.{named}=null" if named.isidentifier() and named not in fixed else ""


def _repeats(message: str, request: Request) -> bool:
    """Whether a server's message repeats a piece of the text that was sent."""
    sent = "\n".join(turn["content"] for turn in request.messages)
    sent += json.dumps(sent)
    pieces = (message[start : start + REPEATED] for start in range(min(len(message), 4000) - REPEATED + 1))
    return any(piece in sent for piece in pieces)


def _retry_after(response: httpx.Response) -> float | None:
    """Read ``Retry-After``, given in seconds or as a date; None if it is missing or is neither."""
    value = response.headers.get("retry-after", "").strip()
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - time.time()
        except (ValueError, OverflowError):
            return None
    return max(seconds, 0.0) if math.isfinite(seconds) else None


def _mapping(value: object) -> dict[str, Any]:
    """Return `value` if it is a JSON object, and an empty one otherwise."""
    return value if isinstance(value, dict) else {}


def _content(value: object) -> str:
    """Return a message's content as text: of a list of parts, the answer without the reasoning."""
    if isinstance(value, list):
        return "".join(_parts(value))
    if value is None or isinstance(value, str):
        return value or ""
    return json.dumps(value)


def _parts(value: list[Any]) -> Iterator[str]:
    for part in value:
        if isinstance(part, str):
            yield part
        elif _mapping(part).get("type", "text") in ("text", "output_text"):
            text = _mapping(part).get("text")
            yield text if isinstance(text, str) else ""


def _count(tokens: object) -> int:
    """Return a count from a server's ``usage``; 0, which means unknown, if it gives no possible one."""
    if isinstance(tokens, bool) or not isinstance(tokens, int | float) or not 0 <= tokens <= MOST_TOKENS:
        return 0
    return int(tokens)


def _number(value: object) -> float | None:
    """Return `value` if it is a log-probability, which may be minus infinity; else None."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not value <= 1:
        return None
    return float(max(value, -math.inf if isinstance(value, float) else -MOST_TOKENS))


def _tokens(choice: dict[str, Any]) -> tuple[TokenChoice, ...]:
    """Return the decoded tokens with their alternatives, the chosen one among them; none if any is malformed.

    A probability of 0 (a log-probability of minus infinity) is left out.
    """
    decoded = []
    listed = _mapping(choice.get("logprobs")).get("content")
    for token in listed if isinstance(listed, list) else ():
        others = _mapping(token).get("top_logprobs")
        logprobs: dict[str, float] = {}
        for option in (*(others if isinstance(others, list) else ()), token):
            text, value = _mapping(option).get("token"), _number(_mapping(option).get("logprob"))
            if not isinstance(text, str) or value is None:
                return ()
            logprobs.setdefault(text, value)
        alternatives = tuple((text, value) for text, value in logprobs.items() if value > -math.inf)
        decoded.append(TokenChoice(token["token"], alternatives))
    return tuple(decoded)
