"""The OpenAI-compatible engine against a local server that misbehaves on a schedule."""

import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from chat_server import ChatServer
from prompting import form, prompt, scale

from invitro.engines.base import EngineError, Price, Readout, Request, Sampling
from invitro.engines.openai import OpenAICompatible, PermanentError, TransientError, answered, counter
from invitro.errors import InputError
from invitro.labelling.job import LabelJob, estimate, run_job
from invitro.labelling.prompts import Renderer
from invitro.labelling.texts import Text
from invitro.labels.source import stored_labels
from invitro.labels.store import LabelStore

KEY = "sk-a-secret-that-nobody-may-see"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LabelStore]:
    with LabelStore(tmp_path / "labels.sqlite") as store:
        yield store


def engine(server: ChatServer, **more) -> OpenAICompatible:
    quick = {"patience": 0.01, "timeout": 2.0, "tries": 4, "price": Price(2.0, 8.0)}
    return OpenAICompatible("gpt-4o", server.url, **(quick | more))


def a_job(store: LabelStore, of: OpenAICompatible, readout: str = "text", name: str = "scale_aware") -> LabelJob:
    renderer = Renderer(prompt(name), prompt(name).form(scale(), Readout(readout)))
    sampling = Sampling(0.0, renderer.form.max_tokens, 0, 20 if readout == "expected" else 0)
    return LabelJob(store, of, renderer, sampling, "c", "gpt", progress=False)


def texts(n: int) -> list[Text]:
    return [Text(f"t{i}", f"a story called word{i}") for i in range(n)]


def said(message: dict, **choice) -> dict:
    return {"choices": [{"message": message, **choice}], "usage": {"prompt_tokens": 3, "completion_tokens": None}}


@pytest.mark.parametrize(
    ("status", "body", "outcome"),
    [
        (200, said({"content": "35"}, finish_reason="stop"), ("35", "stop")),
        (200, said({"content": "35"}, finish_reason="length"), ("35", "length")),
        (200, said({"content": None}), ("", "stop")),
        (200, said({"refusal": "No."}), ("No.", "refusal")),
        (200, said({"content": ""}, finish_reason="content_filter"), ("", "refusal")),
        (200, {"choices": []}, TransientError),
        (200, ["no", "object"], TransientError),
        (400, {"error": {"message": f"bad {KEY}"}}, ("", "error")),
        (401, {"error": {"message": f"bad {KEY}"}}, PermanentError),
        (429, {"error": {"message": "slow down"}}, TransientError),
        (429, {"error": {"message": "pay", "code": "insufficient_quota"}}, PermanentError),
        (503, f"down, {KEY}", TransientError),
    ],
)
def test_a_response_is_a_reply_another_try_or_the_end(status: int, body: object, outcome) -> None:
    request = Request("k", "t", (), Sampling())
    response = httpx.Response(status, json=body)
    if isinstance(outcome, type):
        with pytest.raises(outcome) as raised:
            answered(request, response, [KEY])
        assert KEY not in str(raised.value)
    else:
        reply = answered(request, response, [KEY])
        assert (reply.text, reply.finish) == outcome
        assert KEY not in str(reply.error)


SCHEDULE = {
    "word0": ["429 1"],
    "word1": ["500", "503"],
    "word2": ["dropped"],
    "word3": ["hangs 3"],
    "word4": ["says The writer is sad."],
    "word5": ['says {"sympathetic": 3,'],
    "word6": ["broken", "empty"],
    "word7": ["cut"],
    "word8": ["refusal"],
    "word9": ["filtered", "429 0"],
}


def test_all_labels_arrive_whatever_the_server_does(store: LabelStore) -> None:
    with ChatServer(SCHEDULE) as server:
        chosen = engine(server, concurrency=4)
        report = run_job(a_job(store, chosen), texts(40))
        expected = {f"word{i}": 1 + len(SCHEDULE.get(f"word{i}", [])) for i in range(40)}
        assert dict(server.calls) == expected
        assert (report.stored.labelled, report.stored.unusable, report.retries) == (40, {}, 5)
        assert report.usage.requests == 45
        assert server.most_at_once <= 4
        first, second = server.times["word0"]
        assert second - first >= 1.0
        again = run_job(a_job(store, chosen), texts(40))
        assert (again.usage.requests, sum(server.calls.values())) == (0, sum(expected.values()))
    firsts = {one.status: one.raw for one in store.answers() if one.status != "ok"}
    assert set(firsts) == {"unparseable", "truncated", "refused"}
    assert stored_labels(store, report.stored, scale()).labels["llm_label"].eq(4.5).all()
    assert report.usage.cost == pytest.approx(45 * (100 * 2 + 10 * 8) / 1e6)


def test_a_rate_limit_holds_all_requests_back(store: LabelStore) -> None:
    with ChatServer({"word0": ["429 1"]}) as server:
        run_job(a_job(store, engine(server, concurrency=1)), texts(3))
        assert server.times["word1"][0] - server.times["word0"][0] >= 1.0


def test_retry_after_may_be_a_date(store: LabelStore) -> None:
    with ChatServer({"word0": ["429 in3"]}) as server:
        run_job(a_job(store, engine(server)), texts(1))
        first, second = server.times["word0"]
        assert 1.0 <= second - first <= 3.5  # a date has whole seconds


def test_when_no_try_is_left_the_text_is_an_error_and_the_next_run_asks_again(store: LabelStore) -> None:
    with ChatServer({"word0": ["500"] * 4, "word1": ["400"]}) as server:
        report = run_job(a_job(store, engine(server)), texts(3))
        assert report.stored.unusable == {"error": 2}
        assert (server.calls["word0"], server.calls["word1"]) == (4, 1)
        errors = sorted(str(one.error) for one in store.answers(status="error"))
        assert [error.split(":")[0] for error in errors] == ["HTTP 400 e400", "HTTP 500 e500"]
        assert errors[1].endswith("(4 tries)")
        assert run_job(a_job(store, engine(server)), texts(3)).stored.unusable == {}


@pytest.mark.parametrize("how", ["401", "403", "404", "quota"])
def test_what_every_request_would_meet_stops_the_job(store: LabelStore, how: str, monkeypatch) -> None:
    monkeypatch.setenv("LAB_KEY", KEY)
    with ChatServer({"word7": [how] * 9}) as server:
        with pytest.raises(EngineError, match="refuses model gpt-4o: HTTP") as refused:
            run_job(a_job(store, engine(server, key_env="LAB_KEY", concurrency=2)), texts(30))
        assert "All answers so far are stored" in str(refused.value)
        assert KEY not in str(refused.value)
        assert "LAB_KEY" in str(refused.value)
        stored = sum(1 for _ in store.answers())
        assert 6 <= stored <= 8
        assert server.calls["word7"] == 1
        server.schedule = {}
        report = run_job(a_job(store, engine(server, key_env="LAB_KEY")), texts(30))
        assert report.usage.requests == 30 - stored


def test_a_refusal_of_the_first_question_is_a_wrong_setting(store: LabelStore, monkeypatch) -> None:
    monkeypatch.setenv("LAB_KEY", KEY)
    with ChatServer({"word0": ["404"]}) as server, pytest.raises(InputError, match="HTTP 404 e404"):
        run_job(a_job(store, engine(server, key_env="LAB_KEY", concurrency=1)), texts(3))
    assert list(store.answers()) == []


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_the_limit_goes_by_the_name_that_the_server_knows(store: LabelStore, name: str) -> None:
    with ChatServer() as server:
        run_job(a_job(store, engine(server, limit_field=name)), texts(1))
        (body,) = server.bodies
    assert body[name] == form().max_tokens
    assert len({"max_tokens", "max_completion_tokens"} & set(body)) == 1


def test_tokens_can_be_estimated_and_the_report_says_so(store: LabelStore) -> None:
    with ChatServer() as server:
        job = a_job(store, engine(server, tokenizer="approximate"))
        found = estimate(job, texts(2))
        assert not server.calls
    messages = job.renderer.messages(texts(2)[0])
    signs = sum(len(message["content"]) for message in messages)
    assert found.approximate
    assert found.prompt_tokens == pytest.approx(2 * (signs / 4 + 9), abs=2)
    assert "estimated from the length of the texts" in found.lines()[0]
    exact = engine(server, tokenizer="server")
    assert not exact.approximate


def test_without_a_vocabulary_the_ways_out_are_told(monkeypatch) -> None:
    def gone(model: str) -> None:
        raise ConnectionError("no network")

    monkeypatch.setattr("tiktoken.encoding_for_model", gone)
    with pytest.raises(InputError, match="could not get the vocabulary of gpt-7") as refused:
        counter("tiktoken", "gpt-7", "")(({"role": "user", "content": "hello"},))
    for way in ("TIKTOKEN_CACHE_DIR", "llm.engine.tokenizer=server", "llm.engine.tokenizer=approximate"):
        assert way in str(refused.value)


def test_other_scripts_take_more_tokens() -> None:
    count = counter("approximate", "gpt-4o", "")
    assert count(({"role": "user", "content": "a" * 60},)) == 6 + 15
    assert count(({"role": "user", "content": "\u09be" * 60},)) == 6 + 40


def test_the_key_is_sent_and_kept_nowhere(store: LabelStore, tmp_path: Path, monkeypatch, caplog) -> None:
    monkeypatch.setenv("LAB_KEY", KEY)
    caplog.set_level("DEBUG")
    with ChatServer({"word0": ["500", "400"], "word1": ["503"] * 4}) as server:
        chosen = engine(server, key_env="LAB_KEY")
        run_job(a_job(store, chosen), texts(5))
        assert {headers["Authorization"] for headers in server.headers} == {f"Bearer {KEY}"}
    assert "***" in str(next(store.answers(status="error")).error)
    store.close()
    assert not any(KEY.encode() in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert KEY not in caplog.text
    assert KEY not in repr(chosen)


def test_a_missing_key_is_said_before_anything_is_asked(store: LabelStore, monkeypatch) -> None:
    monkeypatch.delenv("LAB_KEY", raising=False)
    with ChatServer() as server:
        with pytest.raises(InputError, match="environment variable LAB_KEY is not set"):
            run_job(a_job(store, engine(server, key_env="LAB_KEY")), texts(2))
        assert not server.calls


def test_a_server_that_is_not_there_stops_the_job(store: LabelStore) -> None:
    with ChatServer() as server:
        gone = engine(server, tries=2)
    with pytest.raises(EngineError, match="25 errors in a row, the last: ConnectError"):
        run_job(a_job(store, gone), texts(40))


@pytest.mark.parametrize("readout", ["digits", "expected"])
def test_digits_and_log_probabilities(store: LabelStore, readout: str) -> None:
    with ChatServer() as server:
        report = run_job(a_job(store, engine(server, constraint="structured_outputs"), readout), texts(3))
        body = server.bodies[0]
    assert report.stored.labelled == 3
    assert body["structured_outputs"] == {"regex": "[1-7]{6}"}
    assert (body.get("top_logprobs"), body.get("logprobs")) == ((20, True) if readout == "expected" else (None, None))
    assert stored_labels(store, report.stored, scale()).labels["llm_sympathetic"].tolist() == pytest.approx([3, 3, 3])


def test_a_server_without_log_probabilities_is_noticed(store: LabelStore) -> None:
    with ChatServer(logprobs=False) as server:
        report = run_job(a_job(store, engine(server), "expected"), texts(2))
    assert report.stored.unusable == {"unparseable": 2}
    assert "no log-probabilities" in str(next(store.answers()).error)


@pytest.mark.parametrize("constraint", ["response_format", "structured_outputs", "none"])
def test_what_is_sent(store: LabelStore, constraint: str) -> None:
    with ChatServer() as server:
        run_job(a_job(store, engine(server, constraint=constraint)), texts(1))
        body = server.bodies[0]
    assert (body["model"], body["temperature"], body["seed"]) == ("gpt-4o", 0.0, 0)
    assert [message["role"] for message in body["messages"]] == ["system", "user"]
    assert ("response_format" in body, "structured_outputs" in body) == (
        constraint == "response_format", constraint == "structured_outputs",
    )  # fmt: skip
    if constraint == "response_format":
        sent = body["response_format"]["json_schema"]
        assert (sent["strict"], sent["schema"]["additionalProperties"]) == (True, False)


def test_requests_are_taken_only_as_answers_come() -> None:
    taken = []

    def requests() -> Iterator[Request]:
        for i in range(50):
            taken.append(i)
            messages = ({"role": "user", "content": f"x word{i}\n<<<END TEXT>>>"},)
            yield Request(str(i), str(i), messages, Sampling())

    with ChatServer() as server:
        replies = engine(server, concurrency=3).replies(requests())
        for got, _ in enumerate(replies, start=1):
            assert len(taken) <= got + 3
            if got == 20:
                break
        replies.close()  # type: ignore[attr-defined]


def test_many_requests_fly_at_once(store: LabelStore) -> None:
    with ChatServer({f"word{i}": ["slow 0.2"] for i in range(16)}) as server:
        started = time.perf_counter()
        run_job(a_job(store, engine(server, concurrency=16)), texts(16))
        assert time.perf_counter() - started < 2.6
        assert server.most_at_once > 4


def test_tokens_are_counted_by_the_server() -> None:
    messages = ({"role": "system", "content": "a b c"}, {"role": "user", "content": "d e"})
    with ChatServer() as server:
        assert engine(server, tokenizer="server").count_tokens(messages) == 5
        assert not server.calls
    with pytest.raises(InputError, match="expected a server that counts tokens"):
        engine(server, tokenizer="server").count_tokens(messages)
    with pytest.raises(InputError, match="no tokenizer"):
        engine(server, tokenizer="/no/such/folder").count_tokens(messages)


def test_a_tokenizer_s_own_chat_template_counts(tmp_path: Path, tiny_roberta: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_roberta)
    tokenizer.chat_template = "{% for m in messages %}{{ m.role }}:{{ m.content }}|{% endfor %}bot:"
    tokenizer.save_pretrained(tmp_path / "tok")
    chosen = OpenAICompatible("m", "http://localhost:1/v1", tokenizer=str(tmp_path / "tok"))
    counted = chosen.count_tokens(({"role": "user", "content": "hello"},))
    assert counted in (len("user:hello|bot:"), len("user:hello|bot:") + 2)


def test_faulty_settings_are_refused_together() -> None:
    with pytest.raises(InputError) as refused:
        OpenAICompatible(
            "m", "localhost:8000", constraint="guided", concurrency=0, tries="many", timeout=0, patience=-1
        )
    for part in ("base_url", "constraint", "concurrency", "tries", "timeout: expected a number above 0", "patience"):
        assert part in str(refused.value)
