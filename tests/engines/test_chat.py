"""Any response of a server becomes an answer or a status, and a request can be shaped for any server."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prompting import form

from invitro.engines.base import Request, Sampling
from invitro.engines.chat import PermanentError, TransientError, read
from invitro.engines.openai import OpenAICompatible

ESSAY = "My grandmother, who had raised me, lost the house in the flood of that year."
MESSAGES = ({"role": "system", "content": "Rate it."}, {"role": "user", "content": ESSAY})
REQUEST = Request("k", "t", MESSAGES, Sampling(0.0, 50, 7), form().constraint)


def chat(content: Any = "35", finish: Any = "stop", message: Any = None, **choice: Any) -> dict[str, Any]:
    return {"choices": [{"message": message or {"content": content}, "finish_reason": finish, **choice}]}


def error(message: str, **more: Any) -> dict[str, Any]:
    return {"error": {"message": message, **more}}


THINKING = {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}


@pytest.mark.parametrize(
    ("body", "text", "finish"),
    [
        (chat(), "35", "stop"),
        (chat(finish=None), "35", "stop"),
        (chat(finish="max_tokens"), "35", "length"),
        (chat(finish="SAFETY"), "35", "refusal"),
        (chat(finish="tool_calls"), "35", "error"),
        (chat(finish=["stop"]), "35", "error"),
        (chat([THINKING, {"type": "text", "text": "3"}, {"type": "text", "text": "5"}]), "35", "stop"),
        (chat(["3", {"text": "5"}, None, 7, {"type": "text", "text": None}, {"type": "image_url"}]), "35", "stop"),
        (chat(35), "35", "stop"),
        (chat({"warm": 3}), '{"warm": 3}', "stop"),
        (chat(message={"content": None, "reasoning_content": "hm"}), "", "stop"),
        (chat(message={"content": None, "refusal": ["No."]}), "No.", "refusal"),
        (chat() | {"usage": "many", "error": None}, "35", "stop"),
        (chat(logprobs="high"), "35", "stop"),
        (chat(error={"message": "upstream died", "code": "x"}), "", "error"),
        ({"error": "Unexpected endpoint or method. (POST /chat/completions)"}, "", "error"),
    ],
)
def test_the_reply_in_a_body(body: Any, text: str, finish: str) -> None:
    reply = read(REQUEST, 200, body)
    assert (reply.text, reply.finish, bool(reply.error)) == (text, finish, finish == "error")


@pytest.mark.parametrize(
    "body", [None, [], "no", 3, {}, {"choices": []}, {"choices": "x"}, {"choices": [None]}, {"choices": {"0": chat()}},
             {"choices": [{"message": None}]}, {"choices": [{"message": ["x"]}]}]
)  # fmt: skip
def test_a_body_without_an_answer_was_paid_for(body: Any) -> None:
    with pytest.raises(TransientError, match="not a chat completion") as raised:
        read(REQUEST, 200, body)
    assert raised.value.paid


@pytest.mark.parametrize("status", [400, 422])
@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (error("no"), "HTTP 400: no"),
        (error("no", code="e1"), "HTTP 400 e1: no"),
        (error(None, code=7), "HTTP 400 7: as text"),
        ({"error": "no"}, "HTTP 400: no"),
        ({"object": "error", "message": "no", "code": None}, "HTTP 400: no"),
        ({"detail": "no"}, "HTTP 400: no"),
        ({"detail": [{"loc": ["body", "seed"], "msg": "extra", "input": ESSAY}]},
         "HTTP 400: body.seed: extra; ++llm.engine.body.seed=null changes this"),
        ({"message": {"detail": [{"loc": "x", "msg": "extra"}]}}, "HTTP 400: ?: extra"),
        (error(f"cannot read {ESSAY}"), "HTTP 400: (the server's message repeats the text, and is not kept)"),
        (error("x" * 400), f"HTTP 400: {'x' * 300}"),
        ([1], "HTTP 400: as text"),
    ],
)  # fmt: skip
def test_an_error_says_what_the_server_says_and_nothing_of_the_text(status: int, body: Any, reason: str) -> None:
    reply = read(REQUEST, status, body, "as text")
    assert (reply.text, reply.finish) == ("", "error")
    assert str(reply.error).replace(str(status), "400") == reason


@pytest.mark.parametrize(
    ("message", "param", "setting"),
    [
        ("'max_tokens' is not supported with this model. Use 'max_completion_tokens'", "max_tokens",
         "llm.engine.limit_field=max_completion_tokens"),
        ("'max_completion_tokens' is unknown. Use 'max_tokens'", None, "llm.engine.limit_field=max_tokens"),
        ("'temperature' does not support 0 with this model", "temperature", "++llm.engine.body.temperature=null"),
        ("Unsupported value", "temperature", "++llm.engine.body.temperature=null"),
        ("Invalid schema for response_format 'scores': 'minimum' is not permitted", "response_format",
         "llm.engine.constraint=response_format_unbounded"),
        ("'response_format' of type 'json_schema' is not supported with this model", "response_format",
         "llm.engine.constraint=json_object or none"),
        ("System role not supported", None, "llm.engine.system=false"),
        ("Requested sample logprobs of 20, which is greater than max allowed: 5", None, "sampling.top_logprobs=5"),
        ("no such field", "store", "++llm.engine.body.store=null"),
        ("this model's maximum context length is 8192 tokens", "messages", None),
    ],
)  # fmt: skip
def test_the_setting_that_changes_a_refused_field_is_named(message: str, param: str | None, setting: str) -> None:
    reason = str(read(REQUEST, 400, error(message, param=param)).error)
    assert (f"; {setting}" in reason) if setting else ("changes this" not in reason)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, error("The response was filtered due to the prompt triggering the content management policy.")),
        (400, error("no", code="content_filter")),
        (400, error("no", innererror={"code": "ResponsibleAIPolicyViolation"})),
        (400, error("no", code="content_policy_violation")),
        (403, error("Your chosen model requires moderation and your input was flagged", code=403)),
        (200, error("no", code="data_inspection_failed")),
    ],
)
def test_a_content_filter_refuses(status: int, body: Any) -> None:
    assert read(REQUEST, status, body).finish == "filter"


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (200, error("Rate limit exceeded: free-models-per-day", code=429), TransientError),
        (200, error("upstream", code=502), TransientError),
        (500, None, TransientError),
        (429, error("slow"), TransientError),
        (200, error("bad key", code=401), PermanentError),
        (403, error("not yours"), PermanentError),
        (429, error("pay", type="insufficient_quota"), PermanentError),
    ],
)
def test_errors_that_end_or_pass(status: int, body: Any, kind: type[Exception]) -> None:
    with pytest.raises(kind) as raised:
        read(REQUEST, status, body)
    assert not getattr(raised.value, "paid", False)


@pytest.mark.parametrize(
    ("given_value", "counted"),
    [(12, 12), (12.0, 12), (-1, 0), (1e30, 0), (math.nan, 0), (math.inf, 0), ("12", 0), ([12], 0), (True, 0), (None, 0),
     (10**400, 0)],
)  # fmt: skip
def test_a_count_that_cannot_be_true_is_unknown(given_value: Any, counted: int) -> None:
    reply = read(REQUEST, 200, chat() | {"usage": {"prompt_tokens": given_value, "completion_tokens": given_value}})
    assert (reply.prompt_tokens, reply.completion_tokens) == (counted, counted)


@pytest.mark.parametrize(
    ("logprob", "others", "alternatives"),
    [
        (-0.5, [("4", -0.5), ("3", -1)], (("4", -0.5), ("3", -1.0))),
        (-0.5, [("3", -math.inf)], (("4", -0.5),)),
        (-0.5, None, (("4", -0.5),)),
        (math.nan, [], None),
        (-0.5, [("3", math.nan)], None),
        (-0.5, [("3", math.inf)], None),
        (-0.5, [("3", "-1")], None),
        (-0.5, [(3, -1.0)], None),
        (-(10**400), [], (("4", -1e9),)),
    ],
)
def test_log_probabilities_are_numbers_or_none_is_kept(logprob: Any, others: Any, alternatives: Any) -> None:
    listed = others and [{"token": token, "logprob": value} for token, value in others]
    content = [{"token": "4", "logprob": logprob, "top_logprobs": listed}]
    reply = read(REQUEST, 200, chat(logprobs={"content": content}))
    assert tuple(token.alternatives for token in reply.tokens) == (() if alternatives is None else (alternatives,))


NAMES = ("choices", "message", "content", "error", "usage", "logprobs", "code", "finish_reason", "token", "logprob",
         "top_logprobs", "text", "type", "detail", "prompt_tokens", "innererror", "param")  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4),
    max_leaves=12,
)


@given(JSON, st.sampled_from((200, 204, 400, 403, 422, 429, 500)))
def test_any_body_is_an_answer_or_a_reason(body: Any, status: int) -> None:
    for response in (
        body,
        {"choices": [body]},
        {"choices": [{"message": body}]},
        {"error": body},
        chat(body, logprobs=body),
    ):
        reason, reply = "", None
        try:
            reply = read(REQUEST, status, response)
        except (TransientError, PermanentError) as raised:
            reason = str(raised)
        assert bool(reason) == (reply is None)
        if reply is not None:
            assert isinstance(reply.text, str)
            assert reply.finish in ("stop", "length", "refusal", "filter", "error")
            assert all(math.isfinite(value) for token in reply.tokens for _, value in token.alternatives)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, {"temperature": 0.0, "max_tokens": 50, "seed": 7}),
        ({"limit_field": "max_completion_tokens"}, {"max_completion_tokens": 50, "max_tokens": None}),
        ({"body": {"temperature": None, "seed": None}}, {"temperature": None, "seed": None, "max_tokens": 50}),
        ({"body": {"reasoning_effort": "low", "max_tokens": 9}}, {"reasoning_effort": "low", "max_tokens": 9}),
        ({"constraint": "json_object"}, {"response_format": {"type": "json_object"}}),
        ({"constraint": "none"}, {"response_format": None, "structured_outputs": None}),
        ({"constraint": "structured_outputs"}, {"structured_outputs": {"regex": form().constraint.regex}}),
        ({"system": False}, {"messages": [{"role": "user", "content": f"Rate it.\n\n{ESSAY}"}]}),
        ({"system": True}, {"messages": list(MESSAGES)}),
    ],
)  # fmt: skip
def test_every_field_can_be_changed_or_left_out(settings: dict[str, Any], expected: dict[str, Any]) -> None:
    body = OpenAICompatible("m", "http://server/v1", **settings).request_body(REQUEST)
    assert {name: body.get(name) for name in expected} == expected
    assert None not in body.values()


@pytest.mark.parametrize("bounded", [True, False])
def test_the_schema_goes_with_and_without_bounds(bounded: bool) -> None:
    constraint = "response_format" if bounded else "response_format_unbounded"
    engine = OpenAICompatible("m", "http://server/v1", constraint=constraint)
    text = json.dumps(engine.request_body(REQUEST)["response_format"])
    assert ("minimum" in text, "maximum" in text) == (bounded, bounded)
    assert '"required": ["sympathetic"' in text


@pytest.mark.parametrize(
    ("named", "revision"),
    [
        ({"model": "gpt-4o-2024-08-06", "system_fingerprint": "fp_1"}, "gpt-4o-2024-08-06 fp_1"),
        ({"model": "llama", "system_fingerprint": None}, "llama"),
        ({"model": 3}, ""),
        ({"model": "x" * 500}, "x" * 100),
    ],
)
def test_the_reply_says_which_model_answered(named: dict[str, Any], revision: str) -> None:
    assert read(REQUEST, 200, chat() | named).revision == revision
