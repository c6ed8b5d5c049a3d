"""Counting a chat's tokens without asking the model anything."""

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import httpx

from invitro.engines.base import Messages
from invitro.errors import InputError, error_text

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
