"""The OpenAI-compatible engine against a local server that misbehaves on a schedule."""

import json
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from chat_server import ChatServer
from prompting import NAMES, form, prompt, scale

from invitro.engines.base import EngineError, Price, Readout, Request, Sampling
from invitro.engines.chat import PermanentError, TransientError, answered
from invitro.engines.openai import OpenAICompatible
from invitro.errors import InputError, remember_secret
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
    return OpenAICompatible("gpt-4o", more.pop("base_url", server.url), **(quick | more))


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
    remember_secret(KEY)
    request = Request("k", "t", (), Sampling())
    response = httpx.Response(status, json=body)
    if isinstance(outcome, type):
        with pytest.raises(outcome) as raised:
            answered(request, response)
        assert KEY not in str(raised.value)
    else:
        reply = answered(request, response)
        assert (reply.text, reply.finish) == outcome
        assert KEY not in str(reply.error)


SCHEDULE = {
    "word0": ["429 1"],
    "word1": ["500", "503"],
    "word2": ["dropped"],
    "word3": ["hangs 3"],
    "word4": ["says The writer is sad."],
    "word5": ['says {"sympathetic": 3,'],
    "word6": ["broken"],
    "word10": ["empty"],
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
    firsts = {answer.status: answer.raw for answer in store.answers() if answer.status != "ok"}
    assert set(firsts) == {"unparseable", "truncated", "refused"}
    assert stored_labels(store, report.stored, scale()).labels["llm_label"].eq(4.5).all()
    assert report.usage.cost == pytest.approx(45 * (100 * 2 + 10 * 8) / 1e6)


def test_a_rate_limit_holds_all_requests_back(store: LabelStore) -> None:
    with ChatServer({"word0": ["429 1"]}) as server:
        run_job(a_job(store, engine(server, concurrency=1)), texts(3))
        assert server.times["word1"][0] - server.times["word0"][0] >= 1.0


@pytest.mark.slow
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
        errors = sorted(str(answer.error) for answer in store.answers() if answer.status == "error")
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
        estimated = estimate(job, texts(2))
        assert not server.calls
    messages = job.renderer.messages(texts(2)[0])
    signs = sum(len(message["content"]) for message in messages)
    assert estimated.approximate
    assert estimated.prompt_tokens == pytest.approx(2 * (signs / 4 + 9), abs=2)
    assert "estimated from the length of the texts" in estimated.lines()[0]
    exact = engine(server, tokenizer="server")
    assert not exact.approximate


def test_without_a_vocabulary_the_ways_out_are_told(monkeypatch) -> None:
    def gone(model: str) -> None:
        raise ConnectionError("no network")

    monkeypatch.setattr("tiktoken.encoding_for_model", gone)
    with pytest.raises(InputError, match="could not get the vocabulary of gpt-7") as refused:
        OpenAICompatible("gpt-7", "http://server/v1").count_tokens(({"role": "user", "content": "hello"},))
    for way in ("TIKTOKEN_CACHE_DIR", "llm.engine.tokenizer=server", "llm.engine.tokenizer=approximate"):
        assert way in str(refused.value)


def test_other_scripts_take_more_tokens() -> None:
    count = OpenAICompatible("gpt-4o", "http://server/v1", tokenizer="approximate").count_tokens
    assert count(({"role": "user", "content": "a" * 60},)) == 6 + 15
    assert count(({"role": "user", "content": "\u09be" * 60},)) == 6 + 40


def test_the_key_is_sent_and_kept_nowhere(store: LabelStore, tmp_path: Path, monkeypatch, caplog) -> None:
    monkeypatch.setenv("LAB_KEY", KEY)
    caplog.set_level("DEBUG")
    with ChatServer({"word0": ["500", "400"], "word1": ["503"] * 4}) as server:
        chosen = engine(server, key_env="LAB_KEY")
        run_job(a_job(store, chosen), texts(5))
        assert {headers["Authorization"] for headers in server.headers} == {f"Bearer {KEY}"}
    assert "***" in str(next(answer for answer in store.answers() if answer.status == "error").error)
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


@pytest.mark.parametrize("around", ["{}", "{}\r", " {}\n", "\t{} "])
def test_white_space_around_a_key_is_not_part_of_it(store: LabelStore, monkeypatch, around: str) -> None:
    monkeypatch.setenv("LAB_KEY", around.format(KEY))
    with ChatServer() as server:
        run_job(a_job(store, engine(server, key_env="LAB_KEY")), texts(2))
        assert {headers["Authorization"] for headers in server.headers} == {f"Bearer {KEY}"}


@pytest.mark.parametrize(
    ("key", "what"), [("", "is not set"), (" \r\n", "is not set"), ("sk-two words", "white space inside it"),
                      ("sk-one\rsk-two", "white space inside it"), ("sk-\u043aey", "another character"),
                      ("sk-\0key", "another character"), ("\u201csk-key\u201d", "another character")]
)  # fmt: skip
def test_what_is_no_key_is_never_sent_and_never_shown(store: LabelStore, monkeypatch, key: str, what: str) -> None:
    monkeypatch.setattr("os.environ", {"LAB_KEY": key})
    with ChatServer() as server:
        with pytest.raises(InputError, match=f"LAB_KEY .*{what}") as refused:
            run_job(a_job(store, engine(server, key_env="LAB_KEY")), texts(2))
        assert not server.calls
    assert "sk-" not in str(refused.value)
    assert list(store.answers()) == []


def test_a_key_in_place_of_its_name_is_not_shown() -> None:
    with pytest.raises(InputError, match="expected the name of an environment variable") as refused:
        OpenAICompatible("m", "http://localhost:1/v1", key_env=KEY)
    assert KEY not in str(refused.value)


@pytest.mark.parametrize("proxy", ["socks://me:hunter22@127.0.0.1:9", "socks5://me:hunter22@127.0.0.1:9", "nothing:x"])
def test_a_proxy_that_cannot_be_used_is_named_without_its_password(store: LabelStore, monkeypatch, proxy: str) -> None:
    monkeypatch.setenv("ALL_PROXY", proxy)
    monkeypatch.setitem(sys.modules, "socksio", None)  # as where it is not installed
    with ChatServer() as server, pytest.raises(InputError, match=r"requests cannot be sent.*ALL_PROXY") as refused:
        run_job(a_job(store, engine(server)), texts(2))
    assert "hunter22" not in str(refused.value)


def test_faults_of_the_client_s_own_are_not_tried_again(store: LabelStore) -> None:
    with ChatServer() as server:
        wrong = engine(server, headers={"X-Lab": "a\nb-very-private"}, patience=100.0)
        with pytest.raises(InputError, match="requests cannot be sent: LocalProtocolError") as refused:
            run_job(a_job(store, wrong), texts(2))
        assert not server.calls
    assert "very-private" not in str(refused.value)


@pytest.mark.parametrize(
    ("how", "calls", "reason"),
    [
        ("undecodable", 2, "DecodingError"),
        ("short", 2, "RemoteProtocolError"),
        ("empty", 2, "not a chat completion"),
        ("broken", 2, "not a chat completion"),
        ('sends 200 {"error": {"code": 502, "message": "upstream"}}', 4, "HTTP 502: upstream"),
        ('sends 200 {"error": "Unexpected endpoint"}', 1, "HTTP 200: Unexpected endpoint"),
        ("sends 200 " + "[" * 100_000, 2, "not a chat completion"),
        (
            "moved",
            1,
            "HTTP 308: the server has moved to https://elsewhere.example/v1/chat/completions; set llm.engine.",
        ),
        ("500", 4, "HTTP 500 e500"),
    ],
)
def test_an_answer_that_cannot_be_read_is_paid_for_twice_at_most(
    store: LabelStore, how: str, calls: int, reason: str
) -> None:
    with ChatServer({"word1": [how] * 9}) as server:
        report = run_job(a_job(store, engine(server)), texts(3))
        assert (server.calls["word1"], report.stored.labelled, report.stored.unusable) == (calls, 2, {"error": 1})
    assert reason in str(next(answer for answer in store.answers() if answer.status == "error").error)


def test_a_filter_s_refusal_is_asked_for_once(store: LabelStore) -> None:
    filtered = 'sends 400 {"error": {"message": "no", "code": "content_filter"}}'
    with ChatServer({"word1": [filtered] * 3}) as server:
        job = a_job(store, engine(server))
        for calls, retry in ((1, "errors"), (1, "errors"), (1, "unusable"), (2, "all"), (3, "all"), (4, "all")):
            report = run_job(replace(job, retry=retry), texts(3))
            assert server.calls["word1"] == calls
            assert report.stored.unusable == ({} if calls == 4 else {"refused": 1})
    errors = [str(answer.error) for answer in store.answers() if answer.status == "refused"]
    assert "HTTP 400 content_filter: no" in errors


@pytest.mark.parametrize(
    ("after", "said"), [("28800", "Asked again in 8 h 0 min"), ("90", "Asked again in 2 min"), ("nan", ""), ("1", "")]
)
def test_a_long_wait_is_announced_once(store: LabelStore, monkeypatch, caplog, after: str, said: str) -> None:
    slept = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        chosen._not_before = 0.0

    with ChatServer({f"word{i}": [f"429 {after}"] for i in range(3)}) as server:
        chosen = engine(server, concurrency=3)
        monkeypatch.setattr("invitro.engines.openai.asyncio.sleep", sleep)
        run_job(a_job(store, chosen), texts(3))
    assert max(slept) >= (float(after) - 1 if after != "nan" else 0)
    announced = [record.message for record in caplog.records if "Asked again" in record.message]
    assert len(announced) == bool(said)
    assert all(said in message and "slow down" in message for message in announced)


def test_a_question_that_is_asked_in_vain_is_announced_once(store: LabelStore, caplog) -> None:
    with ChatServer({f"word{i}": ["503"] * 5 for i in range(3)}) as server:
        report = run_job(a_job(store, engine(server, tries=6)), texts(3))
    assert report.stored.labelled == 3
    (announced,) = [record.message for record in caplog.records if "Asked again" in record.message]
    assert "HTTP 503" in announced
    assert "Asked again up to 6 times; Ctrl-C ends the job" in announced


def test_a_wait_of_more_than_a_day_is_not_made(store: LabelStore) -> None:
    with ChatServer({"word0": ["429 100000"]}) as server:
        report = run_job(a_job(store, engine(server, concurrency=1)), texts(3))
    assert (report.stored.unusable, report.stored.labelled) == ({"error": 1}, 2)


@pytest.mark.parametrize("name", ["Authorization", "api-key"])
def test_the_key_s_header_other_headers_and_a_query(store: LabelStore, monkeypatch, name: str) -> None:
    monkeypatch.setenv("LAB_KEY", KEY)
    with ChatServer() as server:
        chosen = engine(
            server, base_url=f"{server.url}?api-version=2024-10-21", key_env="LAB_KEY", key_header=name,
            headers={"X-Title": "lab"},
        )  # fmt: skip
        run_job(a_job(store, chosen), texts(1))
        (headers,) = server.headers
        assert server.paths == ["/v1/chat/completions?api-version=2024-10-21"]
    assert headers.get("Authorization") == (f"Bearer {KEY}" if name == "Authorization" else None)
    assert headers.get("api-key") == (KEY if name == "api-key" else None)
    assert headers["X-Title"] == "lab"


def test_other_fields_of_the_request_make_another_label_set(store: LabelStore) -> None:
    with ChatServer() as server:
        run_job(a_job(store, engine(server)), texts(2))
        for _ in range(2):
            run_job(a_job(store, engine(server, body={"reasoning_effort": "low", "temperature": None})), texts(2))
        assert len(server.bodies) == 4
        assert [body.get("reasoning_effort") for body in server.bodies] == [None, None, "low", "low"]
        assert "temperature" not in server.bodies[-1]
    assert ["body" in stored.info.sampling for stored in store.sets()] == [False, True]


def test_a_server_that_is_not_there_stops_the_job(store: LabelStore) -> None:
    with ChatServer() as server:
        gone = engine(server)
    with pytest.raises(InputError, match=r"127.0.0.1:\d+/v1: no server answers there \(ConnectError.*Start it"):
        run_job(a_job(store, gone), texts(40))
    assert not list(store.answers())


def test_a_server_that_goes_away_stops_the_job_and_nothing_is_lost(store: LabelStore) -> None:
    with ChatServer() as server:
        leaving = engine(server, tries=5, concurrency=2)
        assert run_job(a_job(store, leaving), texts(3)).stored.labelled == 3
    with pytest.raises(EngineError, match="25 errors in a row, the last: ConnectError"):
        run_job(a_job(store, leaving), texts(60))
    assert sum(answer.status == "ok" for answer in store.answers()) == 3


@pytest.mark.parametrize("readout", ["digits", "expected"])
def test_digits_and_log_probabilities(store: LabelStore, readout: str) -> None:
    with ChatServer() as server:
        report = run_job(a_job(store, engine(server, constraint="structured_outputs"), readout), texts(3))
        body = server.bodies[0]
    assert report.stored.labelled == 3
    asked = body["structured_outputs"]["regex"]
    assert asked == "[1-7]{6}" if readout == "digits" else re.fullmatch(asked, json.dumps(dict.fromkeys(NAMES, 3)))
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
