"""An engine behind any OpenAI-compatible server: OpenAI itself, vLLM, or any other that supports chat completions."""

import asyncio
import logging
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from functools import cache, cached_property
from typing import Annotated, Any, Literal

import httpx
from annotated_types import Ge, Predicate
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, stop_after_attempt, wait_exponential_jitter

from invitro.engines.base import Messages, ModelName, Price, Reply, Request, TokenChoice
from invitro.errors import InputError, error_text, without_secrets
from invitro.settings import Count, Positive, checked

TokenCounter = Callable[[Messages], int]

PER_MESSAGE, PER_REPLY = 3, 3
"""Tokens that OpenAI's chat format adds to each message, and before the reply."""
APPROXIMATE = "approximate"
ASCII_PER_TOKEN, OTHERS_PER_TOKEN = 4.0, 1.5
"""Characters per token when only the text is at hand: an estimate that errs on the high side, in any script."""


def counter(tokenizer: str, model: str, base_url: str) -> TokenCounter:
    """Return a function that counts the tokens of a chat; what it needs is loaded on the first call.

    Args:
        tokenizer: ``tiktoken``, ``server`` (vLLM's ``/tokenize``), ``approximate``, or the folder or name of a Hugging
            Face tokenizer with a chat template.
        model: the model's name on the server.
        base_url: of the server.
    """
    if tokenizer == APPROXIMATE:
        return _estimate
    if tokenizer == "tiktoken":
        return lambda messages: _count_tiktoken(model, messages)
    if tokenizer == "server":
        root = base_url.rstrip("/").removesuffix("/v1")
        return lambda messages: _count_server(f"{root}/tokenize", model, messages)
    return lambda messages: len(
        _hugging_face(tokenizer).apply_chat_template(list(messages), add_generation_prompt=True, tokenize=True)[
            "input_ids"
        ]
    )


def _estimate(messages: Messages) -> int:
    """Estimate from the number of characters."""
    total = float(PER_MESSAGE * len(messages) + PER_REPLY)
    for message in messages:
        plain = sum(sign.isascii() for sign in message["content"])
        total += plain / ASCII_PER_TOKEN + (len(message["content"]) - plain) / OTHERS_PER_TOKEN
    return math.ceil(total)


def _count_tiktoken(model: str, messages: Messages) -> int:
    encoding = _tiktoken(model)
    # Texts may contain what looks like a special token; count it as plain text.
    parts = [encoding.encode(value, disallowed_special=()) for message in messages for value in message.values()]
    return sum(map(len, parts)) + PER_MESSAGE * len(messages) + PER_REPLY


@cache
def _tiktoken(model: str) -> Any:
    fix = (
        "install it by pip install 'invitro[llm]' and let it download its vocabulary once (TIKTOKEN_CACHE_DIR names a "
        "folder to take along), name another tokenizer by llm.engine.tokenizer=server or a tokenizer's folder, or "
        f"have the tokens estimated from the length of the texts by llm.engine.tokenizer={APPROXIMATE}"
    )
    try:
        import tiktoken

        return tiktoken.encoding_for_model(model)
    except ImportError as error:
        raise InputError(f"tokens of {model} are counted by tiktoken, which is not installed; {fix}") from error
    except KeyError as error:
        raise InputError(f"tiktoken knows no model {model}; {fix}") from error
    except OSError as error:  # it downloads with requests, whose errors these are
        raise InputError(f"tiktoken could not get the vocabulary of {model} ({type(error).__name__}); {fix}") from error


def _count_server(url: str, model: str, messages: Messages) -> int:
    try:
        response = httpx.post(url, json={"model": model, "messages": list(messages)}, timeout=60.0)
        return int(response.raise_for_status().json()["count"])
    except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{url}: expected a server that counts tokens, as vLLM's does, found {error_text(error)}; "
            "name another tokenizer by llm.engine.tokenizer="
        ) from error


@cache
def _hugging_face(name: str) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise InputError(f"llm.engine.tokenizer: no tokenizer {name!r} could be loaded: {error}") from error


EVERY_REQUEST = (401, 403, 404)
"""Statuses that every other request would get too: the key, permission, model or address is wrong."""
TRANSIENT = (408, 409, 425, 429)
"""Statuses below 500 that are temporary."""
NO_CREDIT = ("insufficient_quota", "billing_hard_limit_reached")
LONGEST_WAIT = 600.0
"""The longest wait in seconds, even if a server asks for more."""

Address = Annotated[
    str,
    Predicate(lambda url: url.startswith(("http://", "https://"))),
    "an address such as http://localhost:8000/v1",
]
_backoff = wait_exponential_jitter(initial=1.0, max=60.0, jitter=1.0)


class TransientError(Exception):
    """Another try may succeed.

    Args:
        message: what happened.
        after: how many seconds the server asks to wait.
        holds_all: whether all other requests should wait too.
    """

    def __init__(self, message: str, after: float | None = None, holds_all: bool = False) -> None:
        self.after = None if after is None else min(after, LONGEST_WAIT)
        self.holds_all = holds_all
        super().__init__(message)


class PermanentError(Exception):
    """Every request of the job would fail in the same way."""


def answered(request: Request, response: httpx.Response, secrets: Sequence[str] = ()) -> Reply:
    """Return the reply that a response holds: the one place where a body becomes an answer or a status.

    Args:
        request: the question.
        response: the server's response, of any kind.
        secrets: masked if the server repeats them.

    Raises:
        TransientError: another try may succeed.
        PermanentError: every request would get this response.
    """
    if response.status_code != 200:
        return _rejected(request, response, secrets)
    try:
        body = response.json()
        choice, usage = body["choices"][0], body.get("usage") or {}
        message = choice["message"]
        finish, text = choice.get("finish_reason"), message.get("content") or ""
        if message.get("refusal"):
            finish, text = "refusal", str(message["refusal"])
        return Reply(
            request=request,
            text=text,
            finish={"length": "length", "refusal": "refusal", "content_filter": "refusal"}.get(finish, "stop"),
            tokens=_tokens(choice),
            prompt_tokens=_count(usage.get("prompt_tokens")),
            completion_tokens=_count(usage.get("completion_tokens")),
        )
    except (ValueError, KeyError, IndexError, TypeError) as error:
        start = without_secrets(response.text, secrets)[:100]
        raise TransientError(f"not a chat completion: {start!r}") from error


def _rejected(request: Request, response: httpx.Response, secrets: Sequence[str]) -> Reply:
    """Turn a status other than 200 into its consequence: an error reply, another try, or the end of the job."""
    message, code, status = response.text.strip(), "", response.status_code
    try:
        error = response.json()["error"]
        message, code = str(error["message"]), str(error.get("code") or "")
    except (ValueError, KeyError, TypeError, AttributeError):
        pass  # not every server explains errors in JSON; then use its text
    message, code = without_secrets(message, secrets)[:300], without_secrets(code, secrets)[:60]
    reason = f"HTTP {status}" + (f" {code}" if code else "") + f": {message or response.reason_phrase}"
    if status in EVERY_REQUEST or code in NO_CREDIT:
        raise PermanentError(reason)
    if status in TRANSIENT or status >= 500:
        raise TransientError(reason, _retry_after(response), holds_all=status == 429)
    return Reply(request, "", "error", reason)


def _retry_after(response: httpx.Response) -> float | None:
    """Read ``Retry-After``, given in seconds or as a date; None if it is missing or cannot be read."""
    value = response.headers.get("retry-after", "").strip()
    try:
        return max(float(value), 0.0)
    except ValueError:
        try:
            return max(parsedate_to_datetime(value).timestamp() - time.time(), 0.0)
        except ValueError:
            return None


def _count(tokens: object) -> int:
    """Return a count from a server's ``usage``; 0 if it gives none."""
    return int(tokens) if isinstance(tokens, int | float) else 0


def _tokens(choice: dict[str, Any]) -> tuple[TokenChoice, ...]:
    """Return the decoded tokens with their alternatives, the chosen one among them."""
    decoded = []
    for token in (choice.get("logprobs") or {}).get("content") or ():
        alternatives = {other["token"]: float(other["logprob"]) for other in token.get("top_logprobs") or ()}
        alternatives.setdefault(token["token"], float(token["logprob"]))
        decoded.append(TokenChoice(token["token"], tuple(alternatives.items())))
    return tuple(decoded)


@checked("llm.engine")
@dataclass
class OpenAICompatible:
    """Sends a server many requests at a time, and takes new ones only as earlier ones are answered.

    Transient errors (429, 408, 5xx, no connection, time-out, a broken body) are tried again with growing, jittered
    waits, no sooner than the server's ``Retry-After``; a 429 holds all requests back. Any other failure of one
    request becomes a reply with ``finish="error"``; a failure that every request would share (401, 403, 404, no
    credit) stops the job.

    Args:
        model: the model's name on the server.
        base_url: up to and including ``/v1``.
        revision: recorded with the labels; not sent to the server.
        key_env: the environment variable that holds the key; it is read when a job starts, and neither stored nor
            logged. None sends no key.
        constraint: ``response_format`` sends the standard JSON schema if the reply is JSON; ``structured_outputs``
            is vLLM's own field, for digits too; ``none`` leaves the model free.
        tokenizer: counts tokens for dry runs: ``tiktoken``, ``server`` (vLLM's ``/tokenize``), the folder or name of
            a Hugging Face tokenizer, or ``approximate``, which estimates them from the length of the text.
        limit_field: the server's name for the token limit of a reply: ``max_tokens``, or ``max_completion_tokens`` as
            OpenAI's newer models do.
        concurrency: the most requests in flight.
        timeout: seconds for one try.
        tries: most tries per request, the first included.
        price: per million tokens.
        patience: scale of the waits between tries; 1 waits 1 s, 2 s, 4 s, up to a minute, and up to 1 s more by chance.

    Raises:
        InputError: naming every setting that is wrong.
    """

    model: ModelName
    base_url: Address
    revision: str | None = None
    key_env: str | None = None
    constraint: Literal["response_format", "structured_outputs", "none"] = "response_format"
    tokenizer: str = "tiktoken"
    limit_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    concurrency: Count = 16
    timeout: Positive = 120.0
    tries: Count = 8
    price: Price = field(default_factory=Price)
    patience: Annotated[float, Ge(0)] = 1.0

    def __post_init__(self) -> None:
        self._not_before = 0.0
        # It logs the address of every request; with thousands of requests that is only noise.
        logging.getLogger("httpx").setLevel(logging.WARNING)

    def replies(self, requests: Iterable[Request]) -> Iterator[Reply]:
        """Answer requests, in the order in which answers arrive.

        Raises:
            InputError: the key is missing or refused, there is no such model or address, or no credit.
        """
        key = os.environ.get(self.key_env) if self.key_env else None
        if self.key_env and not key:
            raise InputError(
                f"llm.engine.key_env: the environment variable {self.key_env} is not set; put the server's key into it"
            )
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        source = iter(requests)
        limits = httpx.Limits(max_connections=self.concurrency, max_keepalive_connections=self.concurrency)
        with asyncio.Runner() as runner:
            loop = runner.get_loop()
            client = httpx.AsyncClient(headers=headers, timeout=self.timeout, limits=limits)
            flying: set[asyncio.Task[Reply]] = set()
            try:
                while True:
                    while len(flying) < self.concurrency and (request := next(source, None)) is not None:
                        flying.add(loop.create_task(self._answer(client, request, [key] if key else [])))
                    if not flying:
                        return
                    done, flying = runner.run(asyncio.wait(flying, return_when=asyncio.FIRST_COMPLETED))
                    # All answers are returned before a failure is raised: they were paid for.
                    failed = [task for task in done if task.exception() is not None]
                    yield from (task.result() for task in done if task.exception() is None)
                    for task in failed:
                        task.result()
            finally:
                for task in flying:
                    task.cancel()
                runner.run(_ended(flying))
                runner.run(client.aclose())

    @property
    def approximate(self) -> bool:
        """Whether `count_tokens` estimates instead of counting."""
        return self.tokenizer == APPROXIMATE

    def count_tokens(self, messages: Messages) -> int:
        """Count a chat's tokens with `tokenizer`."""
        return self._counter(messages)

    def close(self) -> None:
        """Do nothing: connections are closed when a job's replies end."""

    @cached_property
    def _counter(self) -> TokenCounter:
        return counter(self.tokenizer, self.model, self.base_url)

    async def _answer(self, client: httpx.AsyncClient, request: Request, secrets: Sequence[str]) -> Reply:
        """Ask until there is an answer, a permanent error, or no tries are left."""
        trying = AsyncRetrying(
            retry=retry_if_exception_type(TransientError),
            stop=stop_after_attempt(self.tries),
            wait=self._wait,
            reraise=True,
        )
        try:
            reply: Reply = await trying(self._once, client, request, secrets)
            return reply
        except TransientError as error:
            return Reply(request, "", "error", f"{error} ({self.tries} tries)")
        except PermanentError as error:
            raise InputError(
                f"{self.base_url} refuses model {self.model}: {error}. Check llm.model, llm.engine.base_url and the "
                f"key in {self.key_env or 'llm.engine.key_env'}"
            ) from None

    def _wait(self, state: RetryCallState) -> float:
        """Return the seconds until the next try."""
        error = state.outcome.exception() if state.outcome else None
        asked = error.after if isinstance(error, TransientError) and error.after else 0.0
        return max(self.patience * _backoff(state), asked)

    async def _once(self, client: httpx.AsyncClient, request: Request, secrets: Sequence[str]) -> Reply:
        """Send one request once."""
        while (left := self._not_before - time.monotonic()) > 0:
            await asyncio.sleep(left)
        try:
            response = await client.post(f"{self.base_url.rstrip('/')}/chat/completions", json=self._body(request))
        except httpx.TransportError as error:  # no connection, dropped connection, time-out
            raise TransientError(error_text(error, secrets)) from error
        try:
            return answered(request, response, secrets)
        except TransientError as error:
            if error.holds_all and error.after:
                self._not_before = max(self._not_before, time.monotonic() + error.after)
            raise

    def _body(self, request: Request) -> dict[str, Any]:
        """Return the request in the server's format, without fields that are None."""
        sampling, wanted = request.sampling, request.constraint
        body: dict[str, Any] = {
            "model": self.model,
            "messages": list(request.messages),
            "temperature": sampling.temperature,
            self.limit_field: sampling.max_tokens,
            "seed": sampling.seed,
        }
        if sampling.top_logprobs:
            body |= {"logprobs": True, "top_logprobs": sampling.top_logprobs}
        if wanted is not None and self.constraint == "response_format" and wanted.json_schema is not None:
            schema = {"name": "scores", "strict": True, "schema": wanted.json_schema}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        elif wanted is not None and self.constraint == "structured_outputs":
            # The regular expression needs fewer tokens, and white space cannot run on.
            body["structured_outputs"] = {"regex": wanted.regex}
        return {name: value for name, value in body.items() if value is not None}


async def _ended(tasks: set[asyncio.Task[Reply]]) -> None:
    await asyncio.gather(*tasks, return_exceptions=True)
