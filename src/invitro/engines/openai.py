"""An engine behind any OpenAI-compatible server: OpenAI itself, vLLM, and whatever else speaks chat completions."""

import asyncio
import logging
import math
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, stop_after_attempt, wait_exponential_jitter

from invitro.engines.base import Price, Reply, Request, TokenChoice
from invitro.engines.tokenizers import APPROXIMATE, counter
from invitro.errors import InputError, not_whole, out_of_range, refuse_if_any

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


CONSTRAINTS = ("response_format", "structured_outputs", "none")
LIMIT_FIELDS = ("max_tokens", "max_completion_tokens")
LONGEST_WAIT = 600.0
"""Seconds; a server that asks for more is asked again after this."""

_backoff = wait_exponential_jitter(initial=1.0, max=60.0, jitter=1.0)


@dataclass
class OpenAICompatible:
    """Asks a server, many requests at a time, and takes new requests only as old ones are answered.

    Transient errors (429, 408, 5xx, no connection, time-out, a broken body) are tried again with growing, jittered
    waits, no sooner than the server's ``Retry-After``; a 429 holds all requests back. What else goes wrong with one
    request becomes a reply with ``finish="error"``; what would go wrong with every request (401, 403, 404, no credit)
    stops the job.

    Args:
        model: as the server knows it.
        base_url: up to and including ``/v1``.
        revision: recorded with the labels; servers are not told.
        key_env: the environment variable that holds the key; it is read when a job starts, and neither stored nor
            logged. None sends no key.
        constraint: ``response_format`` sends the standard JSON schema where the reply is JSON; ``structured_outputs``
            is vLLM's own field, for digits too; ``none`` leaves the model free.
        tokenizer: counts tokens for dry runs: ``tiktoken``, ``server`` (vLLM's ``/tokenize``), the folder or name of
            a Hugging Face tokenizer, or ``approximate``, which only reckons and says so.
        limit_field: what the server calls the most tokens of a reply: ``max_tokens``, or ``max_completion_tokens`` as
            OpenAI's newer models do.
        concurrency: most requests in flight.
        timeout: seconds for one try.
        tries: of one request, the first included.
        price: of a million tokens.
        patience: scale of the waits between tries; 1 waits 1 s, 2 s, 4 s, up to a minute, and up to 1 s more by chance.

    Raises:
        InputError: naming every setting that is wrong.
    """

    model: str
    base_url: str
    revision: str | None = None
    key_env: str | None = None
    constraint: str = "response_format"
    tokenizer: str = "tiktoken"
    limit_field: str = "max_tokens"
    concurrency: int = 16
    timeout: float = 120.0
    tries: int = 8
    price: Price = field(default_factory=Price)
    patience: float = 1.0

    def __post_init__(self) -> None:
        refuse_if_any(self._problems())
        self._not_before = 0.0
        self._count = counter(self.tokenizer, self.model, self.base_url)
        # It logs each request's address; at thousands of requests nobody reads that.
        logging.getLogger("httpx").setLevel(logging.WARNING)

    def _problems(self) -> Iterator[str]:
        if self.constraint not in CONSTRAINTS:
            yield f"llm.engine.constraint: expected one of {', '.join(CONSTRAINTS)}, found {self.constraint!r}"
        if self.limit_field not in LIMIT_FIELDS:
            yield f"llm.engine.limit_field: expected one of {', '.join(LIMIT_FIELDS)}, found {self.limit_field!r}"
        if not str(self.base_url).startswith(("http://", "https://")):
            yield f"llm.engine.base_url: expected an address such as http://localhost:8000/v1, found {self.base_url!r}"
        for name in ("concurrency", "tries"):
            yield from not_whole(f"llm.engine.{name}", getattr(self, name), 1)
        yield from out_of_range("llm.engine.patience", self.patience, 0, math.inf)
        yield from out_of_range("llm.engine.timeout", self.timeout, 0, math.inf)
        if self.timeout == 0:
            yield "llm.engine.timeout: expected more than 0 seconds, found 0"

    def replies(self, requests: Iterable[Request]) -> Iterator[Reply]:
        """Answer requests in the order in which answers come.

        Raises:
            InputError: the key is missing or refused, there is no such model or address, or no credit.
        """
        headers = self._headers()
        source = iter(requests)
        limits = httpx.Limits(max_connections=self.concurrency, max_keepalive_connections=self.concurrency)
        with asyncio.Runner() as runner:
            loop = runner.get_loop()
            client = httpx.AsyncClient(headers=headers, timeout=self.timeout, limits=limits)
            flying: set[asyncio.Task[Reply]] = set()
            try:
                while True:
                    while len(flying) < self.concurrency and (request := next(source, None)) is not None:
                        flying.add(loop.create_task(self._answer(client, request)))
                    if not flying:
                        return
                    done, flying = runner.run(_first(flying))
                    # All that has come is given before a failure is raised: it was paid for.
                    failed = [task for task in done if task.exception() is not None]
                    yield from (task.result() for task in done if task.exception() is None)
                    for task in failed:
                        task.result()
            finally:
                for task in flying:
                    task.cancel()
                runner.run(_gone(flying))
                runner.run(client.aclose())

    @property
    def approximate(self) -> bool:
        """Whether `count_tokens` reckons instead of counting."""
        return self.tokenizer == APPROXIMATE

    def count_tokens(self, messages: tuple[dict[str, str], ...]) -> int:
        """Count a chat's tokens as `tokenizer` says."""
        return self._count(messages)

    def close(self) -> None:
        """Do nothing: connections are closed when a job's replies end."""

    def _headers(self) -> dict[str, str]:
        if self.key_env is None:
            return {}
        key = os.environ.get(self.key_env)
        if not key:
            raise InputError(
                f"llm.engine.key_env: the environment variable {self.key_env} is not set; put the server's key into it"
            )
        return {"Authorization": f"Bearer {key}"}

    async def _answer(self, client: httpx.AsyncClient, request: Request) -> Reply:
        """Ask until there is an answer, a permanent error, or no try left."""
        trying = AsyncRetrying(
            retry=retry_if_exception_type(TransientError),
            stop=stop_after_attempt(self.tries),
            wait=self._wait,
            reraise=True,
        )
        try:
            reply: Reply = await trying(self._once, client, request)
            return reply
        except TransientError as error:
            return Reply(request, "", "error", f"{error} ({self.tries} tries)")

    def _wait(self, state: RetryCallState) -> float:
        """Return the seconds until the next try."""
        error = state.outcome.exception() if state.outcome else None
        asked = error.after if isinstance(error, TransientError) and error.after else 0.0
        return max(self.patience * _backoff(state), min(asked, LONGEST_WAIT))

    async def _once(self, client: httpx.AsyncClient, request: Request) -> Reply:
        """Send one request once."""
        while (left := self._not_before - time.monotonic()) > 0:
            await asyncio.sleep(left)
        try:
            response = await client.post(f"{self.base_url.rstrip('/')}/chat/completions", json=self._body(request))
        except httpx.TransportError as error:  # no connection, dropped connection, time-out
            raise TransientError(f"{type(error).__name__}: {error}") from error
        if response.status_code != 200:
            return self._failed(request, response)
        try:
            return self._read(request, response.json())
        except (ValueError, KeyError, IndexError, TypeError) as error:
            found = without(response.text, self._secrets())[:100]
            raise TransientError(f"not a chat completion: {found!r}") from error

    def _failed(self, request: Request, response: httpx.Response) -> Reply:
        """Turn a status into what follows from it: another try, an error reply, or the end of the job."""
        failure = failure_of(response, self._secrets())
        if permanent(failure):
            raise InputError(
                f"{self.base_url} refuses model {self.model}: {failure}. Check llm.model, llm.engine.base_url and the "
                f"key in {self.key_env or 'llm.engine.key_env'}"
            )
        if not failure.transient:
            return Reply(request, "", "error", str(failure))
        if failure.status == 429 and failure.after:
            self._not_before = max(self._not_before, time.monotonic() + min(failure.after, LONGEST_WAIT))
        raise TransientError(str(failure), failure.after)

    def _secrets(self) -> list[str]:
        return [os.environ[self.key_env]] if self.key_env and os.environ.get(self.key_env) else []

    def _body(self, request: Request) -> dict[str, Any]:
        """Return the request as the server wants it."""
        sampling = request.sampling
        body: dict[str, Any] = {
            "model": self.model,
            "messages": list(request.messages),
            "temperature": sampling.temperature,
            self.limit_field: sampling.max_tokens,
        }
        if sampling.seed is not None:
            body["seed"] = sampling.seed
        if sampling.top_logprobs:
            body |= {"logprobs": True, "top_logprobs": sampling.top_logprobs}
        wanted = request.constraint
        if wanted is not None and self.constraint == "response_format" and wanted.json_schema is not None:
            schema = {"name": "scores", "strict": True, "schema": wanted.json_schema}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        elif wanted is not None and self.constraint == "structured_outputs":
            # The regular expression allows no white space to run on, and fewer tokens.
            body["structured_outputs"] = {"regex": wanted.regex}
        return body

    def _read(self, request: Request, body: dict[str, Any]) -> Reply:
        """Read a chat completion."""
        choice, usage = body["choices"][0], body.get("usage") or {}
        message = choice["message"]
        finish = choice.get("finish_reason") or "stop"
        text = message.get("content") or ""
        if message.get("refusal"):
            finish, text = "refusal", str(message["refusal"])
        return Reply(
            request=request,
            text=text,
            finish={"content_filter": "refusal"}.get(finish, finish if finish in ("length", "refusal") else "stop"),
            tokens=choices_of(choice),
            prompt_tokens=tokens_of(usage, "prompt_tokens"),
            completion_tokens=tokens_of(usage, "completion_tokens"),
        )


Tasks = set[asyncio.Task[Reply]]


async def _first(tasks: Tasks) -> tuple[Tasks, Tasks]:
    return await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)


async def _gone(tasks: Tasks) -> None:
    await asyncio.gather(*tasks, return_exceptions=True)
