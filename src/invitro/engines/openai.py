"""An engine for any OpenAI-compatible server: OpenAI itself, vLLM, or any other that supports chat completions."""

import asyncio
import json
import logging
import math
import random
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Annotated, Any, Literal

import httpx
from annotated_types import Ge, Predicate

from invitro.engines.base import VARIABLE, Messages, ModelName, Price, Reply, Request, key_in
from invitro.engines.chat import PermanentError, TransientError, answered, endpoint
from invitro.errors import InputError, error_text, remember_secret
from invitro.settings import Count, Positive, checked

log = logging.getLogger(__name__)

PER_MESSAGE, PER_REPLY = 3, 3
"""Tokens that OpenAI's chat format adds to each message, and before the reply."""
APPROXIMATE = "approximate"
ASCII_PER_TOKEN, OTHERS_PER_TOKEN = 4.0, 1.5
"""Characters per token when only the text is at hand: an estimate that errs on the high side, in any script."""


def _estimate(messages: Messages) -> int:
    """Estimate from the number of characters."""
    total = float(PER_MESSAGE * len(messages) + PER_REPLY)
    for message in messages:
        plain = sum(character.isascii() for character in message["content"])
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
        'run pip install "invitro[llm]" and let it download its vocabulary once (TIKTOKEN_CACHE_DIR names a '
        "folder that can be copied), set llm.engine.tokenizer=server or a tokenizer's folder, or "
        f"have the tokens estimated from the length of the texts with llm.engine.tokenizer={APPROXIMATE}"
    )
    try:
        import tiktoken

        return tiktoken.encoding_for_model(model)
    except ImportError as error:
        raise InputError(f"tokens of {model} are counted by tiktoken, which is not installed; {fix}") from error
    except KeyError as error:
        raise InputError(f"tiktoken does not know the model {model}; {fix}") from error
    except OSError as error:  # it downloads with requests, whose errors these are
        raise InputError(f"tiktoken could not get the vocabulary of {model} ({type(error).__name__}); {fix}") from error


def _count_server(url: str, model: str, messages: Messages) -> int:
    try:
        response = httpx.post(url, json={"model": model, "messages": list(messages)}, timeout=60.0)
        return int(response.raise_for_status().json()["count"])
    except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{url}: expected a server that counts tokens, as vLLM's does, found {error_text(error)}; "
            "name another tokenizer with llm.engine.tokenizer="
        ) from error


@cache
def _hugging_face(name: str) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise InputError(f"llm.engine.tokenizer: no tokenizer {name!r} could be loaded: {error}") from error


LONGEST_BACKOFF = 60.0
"""The longest wait in seconds between two tries, unless the server asks for more."""
LONGEST_WAIT = 86_400.0
"""The longest wait in seconds that a server can ask for; it is not asked again if it wants more."""
SAID = 60.0
"""Seconds above which a wait is announced."""
LOOKED_FOR = 4
"""Tries after which a server that never answered stops the job, and after which a question's failures are announced."""
LIKELY_SECRET = 16
"""A header's value with at least this many characters may be a secret, and is masked."""
PAID_TRIES = 2
"""How often a question is sent if its answers, with status 200, cannot be read: each has been paid for."""

Address = Annotated[
    str,
    Predicate(lambda url: url.startswith(("http://", "https://"))),
    "an address such as http://localhost:8000/v1",
]


@checked("llm.engine")
@dataclass
class OpenAICompatible:
    """Sends a server many requests at a time, and takes new ones only as earlier ones are answered.

    Transient errors (429, 408, 5xx, no connection, time-out) are tried again with growing, jittered waits, no sooner
    than the server's ``Retry-After``, up to a day; a 429 holds all requests back. A server that never answered stops
    the job within seconds. An answer with status 200 that cannot be read is asked for only once more, since it was paid
    for. Any other failure of one request becomes a reply with ``finish="error"``, or ``"filter"`` if the provider's
    filter did not let it through; a failure that every request would share (401, 403, 404, no credit, a request that
    cannot be sent) stops the job.

    Args:
        model: the model's name on the server.
        base_url: up to and including ``/v1``; a query, such as ``?api-version=``, goes to the end of every address.
        revision: recorded with the labels; not sent to the server.
        key_env: the environment variable that holds the key; it is read when a job starts, and neither stored nor
            logged. None sends no key.
        key_header: the header that carries the key; ``Authorization`` says ``Bearer`` before it.
        headers: other headers, which hold no secrets.
        body: fields of the request to add, to replace, or to leave out by null. They are part of the question:
            labels with other fields are another label set.
        system: whether the fixed part of the prompt is a system message; false, for models that have none, puts it at
            the beginning of the user's.
        constraint: ``response_format`` sends the standard JSON schema if the reply is JSON,
            ``response_format_unbounded`` the same without bounds, ``json_object`` only that it is JSON;
            ``structured_outputs`` is vLLM's own field, for digits too; ``none`` leaves the model free.
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
    key_header: str = "Authorization"
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] = field(default_factory=dict)
    system: bool = True
    constraint: Literal["response_format", "response_format_unbounded", "json_object", "structured_outputs", "none"] = (
        "response_format"
    )
    tokenizer: str = "tiktoken"
    limit_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    concurrency: Count = 16
    timeout: Positive = 120.0
    tries: Count = 8
    price: Price = field(default_factory=Price)
    patience: Annotated[float, Ge(0)] = 1.0

    def __post_init__(self) -> None:
        self._not_before = self._said_until = 0.0
        self._was_there = False
        # It logs the address of every request; with thousands of requests that is only noise.
        logging.getLogger("httpx").setLevel(logging.WARNING)

    def contradictions(self) -> Iterator[str]:
        """Yield what is wrong with the key's name; the name is not shown, since it may be the key."""
        if self.key_env is not None and not VARIABLE.fullmatch(self.key_env):
            yield (
                "llm.engine.key_env: expected the name of an environment variable in capitals, such as OPENAI_API_KEY, "
                "found something else, which may be the key itself and is not shown"
            )

    def replies(self, requests: Iterable[Request]) -> Iterator[Reply]:
        """Answer requests, in the order in which answers arrive.

        Raises:
            InputError: the key is missing or refused, there is no such model or address, no credit, or requests cannot
                be sent with these settings.
        """
        source, headers = iter(requests), self.all_headers()
        with asyncio.Runner() as runner:
            loop = runner.get_loop()
            client = self._client(headers)
            flying: set[asyncio.Task[Reply]] = set()
            try:
                while True:
                    while len(flying) < self.concurrency and (request := next(source, None)) is not None:
                        flying.add(loop.create_task(self._answer(client, request)))
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

    def all_headers(self) -> dict[str, str]:
        """Return the headers of every request, the key included.

        Raises:
            InputError: the key is missing or not a key.
        """
        for value in self.headers.values():
            if len(value) >= LIKELY_SECRET:
                remember_secret(value)  # nobody should put one there, and somebody will
        key = key_in(self.key_env) if self.key_env else None
        before = "Bearer " if self.key_header.lower() == "authorization" else ""
        return {**({self.key_header: before + key} if key else {}), **self.headers}

    def request_body(self, request: Request) -> dict[str, Any]:
        """Return a request as the server gets it, without fields that are None."""
        sampling, wanted = request.sampling, request.constraint
        messages = list(request.messages)
        if not self.system and messages[0]["role"] == "system":
            first, second, *others = messages
            messages = [{**second, "content": f"{first['content']}\n\n{second['content']}"}, *others]
        body: dict[str, Any] = {
            "model": self.model,
            "messages": messages,
            "temperature": sampling.temperature,
            self.limit_field: sampling.max_tokens,
            "seed": sampling.seed,
        }
        if sampling.top_logprobs:
            body |= {"logprobs": True, "top_logprobs": sampling.top_logprobs}
        if wanted is not None and self.constraint == "structured_outputs":
            # The regular expression needs fewer tokens, and white space cannot run on.
            body["structured_outputs"] = {"regex": wanted.regex}
        elif wanted is not None and wanted.json_schema is not None and self.constraint == "json_object":
            body["response_format"] = {"type": "json_object"}
        elif wanted is not None and wanted.json_schema is not None and self.constraint != "none":
            schema = wanted.json_schema
            if self.constraint == "response_format_unbounded":
                kinds = {name: {"type": kind["type"]} for name, kind in schema["properties"].items()}
                schema = schema | {"properties": kinds}
            named = {"name": "scores", "strict": True, "schema": schema}
            body["response_format"] = {"type": "json_schema", "json_schema": named}
        return {name: value for name, value in (body | dict(self.body)).items() if value is not None}

    def _client(self, headers: dict[str, str]) -> httpx.AsyncClient:
        limits = httpx.Limits(max_connections=self.concurrency, max_keepalive_connections=self.concurrency)
        headers = {"Content-Type": "application/json", **headers}
        try:
            return httpx.AsyncClient(headers=headers, timeout=self.timeout, limits=limits)
        except (ValueError, ImportError, httpx.InvalidURL) as error:
            raise InputError(
                f"llm.engine: requests cannot be sent: {error_text(error)}. Check llm.engine.headers and the proxy in "
                "the environment (ALL_PROXY, HTTPS_PROXY, HTTP_PROXY), such as socks5://host:port"
            ) from None

    @property
    def approximate(self) -> bool:
        """Whether `count_tokens` estimates instead of counting."""
        return self.tokenizer == APPROXIMATE

    def count_tokens(self, messages: Messages) -> int:
        """Count a chat's tokens with `tokenizer`; what it needs is loaded on the first call."""
        if self.approximate:
            return _estimate(messages)
        if self.tokenizer == "tiktoken":
            return _count_tiktoken(self.model, messages)
        if self.tokenizer == "server":
            root = self.base_url.partition("?")[0].rstrip("/").removesuffix("/v1")
            return _count_server(f"{root}/tokenize", self.model, messages)
        tokenizer = _hugging_face(self.tokenizer)
        tokens = tokenizer.apply_chat_template(list(messages), add_generation_prompt=True, tokenize=True)
        return len(tokens["input_ids"])

    def close(self) -> None:
        """Do nothing: connections are closed when a job's replies end."""

    async def _answer(self, client: httpx.AsyncClient, request: Request) -> Reply:
        """Ask until there is an answer, a permanent error, or no tries are left."""
        tries = paid = 0
        while True:
            tries += 1
            try:
                return await self._once(client, request)
            except TransientError as error:
                paid += error.paid
                if not self._was_there and tries == min(LOOKED_FOR, self.tries):
                    raise InputError(
                        f"{self.base_url}: no server answers there ({error}). Start it, or check llm.engine.base_url "
                        "and the network"
                    ) from None
                wait = max(
                    self.patience * (min(2.0 ** (tries - 1), LONGEST_BACKOFF) + random.random()), error.after or 0
                )
                if tries == self.tries or paid == PAID_TRIES or wait > LONGEST_WAIT:
                    return Reply(request, "", "error", f"{error} ({tries} tries)")
                self._say(wait, error, tries)
                await asyncio.sleep(wait)
            except PermanentError as error:
                raise InputError(
                    f"{self.base_url} refuses model {self.model}: {error}. Check llm.model, llm.engine.base_url and "
                    f"the key in {self.key_env or 'llm.engine.key_env'}"
                ) from None

    def _say(self, wait: float, error: TransientError, tries: int) -> None:
        """Announce a long wait, or a question asked in vain several times; once for all that wait for the same."""
        until = time.monotonic() + wait
        if (wait <= SAID and tries < LOOKED_FOR) or until <= self._said_until + SAID:
            return
        self._said_until = until
        if wait > SAID:
            hours, minutes = divmod(math.ceil(wait / 60), 60)
            at = time.strftime("%H:%M", time.localtime(time.time() + wait))
            when = f"in {hours} h {minutes} min, at {at}" if hours else f"in {minutes} min, at {at}"
        else:
            when = f"up to {self.tries} times"
        message = "%s: %s. Asked again %s; Ctrl-C ends the job, and the same command continues it"
        log.warning(message, self.base_url, error, when)

    async def _once(self, client: httpx.AsyncClient, request: Request) -> Reply:
        """Send one request once."""
        while (left := self._not_before - time.monotonic()) > 0:
            await asyncio.sleep(left)
        try:
            body = json.dumps(self.request_body(request), allow_nan=False)
            response = await client.post(endpoint(self.base_url, "chat/completions"), content=body)
        except httpx.DecodingError as error:
            self._was_there = True
            raise TransientError(error_text(error), paid=True) from error
        except httpx.RemoteProtocolError as error:  # no answer, or one that ends too soon
            self._was_there = True
            raise TransientError(error_text(error), paid="message body" in str(error)) from error
        except (httpx.TimeoutException, httpx.NetworkError, httpx.ProxyError) as error:
            self._was_there |= not isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
            raise TransientError(error_text(error)) from error
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:  # the client's own faults
            raise InputError(
                f"llm.engine: requests cannot be sent: {error_text(error)}. Check llm.engine.base_url and "
                "llm.engine.headers"
            ) from None
        self._was_there = True
        try:
            return answered(request, response)
        except TransientError as error:
            if error.holds_all and error.after and error.after <= LONGEST_WAIT:
                self._not_before = max(self._not_before, time.monotonic() + error.after)
            raise


async def _ended(tasks: set[asyncio.Task[Reply]]) -> None:
    await asyncio.gather(*tasks, return_exceptions=True)
