"""Batches on their way to workers, and an engine in those of a real Ray cluster here, one of which is killed."""

import asyncio
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import count, islice
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from prompting import asked, noted, prompt, scale
from support import ROOT

import invitro.commands  # noqa: F401  (registers the resolvers)
from invitro.engines.base import Engine, Price, Readout, Reply, Request, Sampling, TokenChoice
from invitro.engines.openai import OpenAICompatible
from invitro.engines.ray import AHEAD, Feeder, Outcome, RayData, answer, check_address, set_environment
from invitro.engines.scripted import Scripted
from invitro.errors import InputError
from invitro.labelling.job import LabelJob, run_job
from invitro.labelling.prompts import Renderer
from invitro.labelling.texts import Text
from invitro.labels.store import LabelStore

TEXTS, BATCH, AT_ONCE = 240, 10, 5


@pytest.fixture(scope="module")
def cluster(one_ray: None) -> Iterator[None]:
    """Start Ray on this machine with two CPUs and a small object store; engines that find it leave it running."""
    set_environment(local=True)
    import ray

    ray.init(
        "local", num_cpus=2, object_store_memory=100_000_000, include_dashboard=False, log_to_driver=False,
        logging_level=logging.ERROR,
    )  # fmt: skip
    # Workers cannot import test modules: classes of this one travel as they are.
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    yield
    assert ray.is_initialized()
    ray.shutdown()


def requests(numbers: Iterable[int]) -> Iterator[Request]:
    for i in numbers:
        yield Request(f"k{i}", f"t{i}", ({"role": "user", "content": f"essay {i}"},), Sampling())


def a_job(store: LabelStore, engine: Engine) -> LabelJob:
    chosen = prompt("scale_aware")
    renderer = Renderer(chosen, chosen.form(scale(), Readout.EXPECTED))
    sampling = Sampling(0.0, renderer.form.max_tokens, 0, 20)
    return LabelJob(store, engine, renderer, sampling, "corpus", "scripted", progress=False)


def kill_the_latest(log: Path, after: int) -> dict[str, int]:
    """Kill the worker that has just noted a request, once `after` were noted; return its id and that number."""
    deadline = time.monotonic() + 120
    before = len(noted(log))
    while time.monotonic() < deadline:
        now = noted(log)
        if len(now) > max(before, after):
            os.kill(now[-1]["pid"], signal.SIGKILL)
            return {"pid": now[-1]["pid"], "noted": len(now)}
        before = len(now)
        time.sleep(0.005)
    raise AssertionError(f"{before} requests noted within two minutes")


@pytest.mark.slow
def test_a_worker_is_killed_and_nothing_is_lost_or_doubled(
    cluster: None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    texts = [Text(f"t{i}", f"story number {i}", f"author{i % 7}") for i in range(TEXTS)]
    faults = {"unparseable": 0.1, "refused": 0.1, "error": 0.05}
    with LabelStore(tmp_path / "alone.sqlite") as store:
        usual = run_job(a_job(store, Scripted(faults=faults)), texts)
        expected = {(row.key, row.attempt): replace(row, answered="") for row in store.answers()}

    log, killed = tmp_path / "asked.jsonl", {}
    scripted = Scripted(faults=faults, log=str(log), delay=0.3, concurrency=AT_ONCE)
    engine = RayData(scripted, workers=2, batch=BATCH)
    killer = threading.Thread(target=lambda: killed.update(kill_the_latest(log, TEXTS // 4)))
    killer.start()
    with LabelStore(tmp_path / "ray.sqlite") as store, caplog.at_level(logging.WARNING):
        report = run_job(a_job(store, engine), texts)
        rows = list(store.answers())
    killer.join()
    engine.close()

    assert TEXTS // 4 < killed["noted"] < TEXTS, "the worker died when work was left"
    assert {(row.key, row.attempt): replace(row, answered="") for row in rows} == expected
    assert len(rows) == len(expected) == report.usage.requests
    assert (report.stored.labelled, report.stored.unusable) == (usual.stored.labelled, usual.stored.unusable)
    assert any(row.tokens for row in rows)

    questions = asked(noted(log))
    assert {(key, 0.7 if attempt else 0.0) for key, attempt in expected} == set(questions)
    twice = {question for question, times in questions.items() if times > 1}
    of_the_dead = [(line["key"], line["temperature"]) for line in noted(log) if line["pid"] == killed["pid"]]
    assert 1 <= len(twice) <= BATCH, "a batch may die right after its first request"
    assert twice <= set(of_the_dead[-BATCH:])
    assert max(questions.values()) == 2
    assert len({line["pid"] for line in noted(log)}) >= 3, "two workers and the dead one's successor"
    assert f"a Ray worker died; {BATCH} requests were asked again" in caplog.text


@pytest.mark.slow
def test_the_process_that_deals_out_batches_is_killed(cluster: None) -> None:
    import psutil

    engine = RayData(Scripted(delay=0.05), workers=1, batch=5)
    replies = engine.replies(requests(range(200)))
    first = list(islice(replies, 20))
    children = psutil.Process().children(recursive=True)
    dealers = [process for process in children if "MapBatches(numbers)" in process.name()]
    assert len(dealers) == 1, dealers
    dealers[0].kill()
    counts = Counter(reply.request.key for reply in [*first, *replies])
    engine.close()
    assert counts == Counter(f"k{i}" for i in range(200))


class Deadly(Scripted):
    """Dies of one essay."""

    def replies(self, requests: Iterable[Request]) -> Iterator[Reply]:
        for request in requests:
            if request.text_id == "t3":
                os.kill(os.getpid(), signal.SIGKILL)
            yield from super().replies([request])


@pytest.mark.slow
def test_what_kills_every_worker_ends_in_an_error(cluster: None) -> None:
    engine = RayData(Deadly(), batch=1, tries=1)
    errors = {reply.request.text_id: reply.error for reply in engine.replies(requests(range(8)))}
    engine.close()
    assert errors == {f"t{i}": "1 Ray workers died over this batch" if i == 3 else None for i in range(8)}


@pytest.mark.slow
def test_requests_are_taken_as_replies_come_and_calls_follow_each_other(cluster: None) -> None:
    taken = []

    def endless() -> Iterator[Request]:
        for request in requests(count()):
            taken.append(request.key)
            yield request

    engine = RayData(Scripted(delay=0.02), workers=2, batch=3)
    replies = engine.replies(endless())
    first = [reply.request.key for reply in islice(replies, 60)]
    assert len(set(first)) == 60
    assert len(taken) <= 60 + (AHEAD * 2 + 1) * 3
    replies.close()  # as when the job is stopped
    again = [reply.request.key for reply in engine.replies(requests(range(1000, 1040)))]
    engine.close()
    assert sorted(again) == [f"k{i}" for i in range(1000, 1040)]


@pytest.mark.slow
def test_a_refusal_in_a_worker_is_the_job_s_and_another_failure_the_requests(cluster: None, tmp_path: Path) -> None:
    refusing = RayData(OpenAICompatible("m", "http://127.0.0.1:9/v1", key_env="NO_SUCH_KEY"), batch=4)
    with pytest.raises(InputError, match="the environment variable NO_SUCH_KEY is not set"):
        list(refusing.replies(requests(range(8))))
    refusing.close()
    (tmp_path / "file").touch()
    failing = RayData(Scripted(log=str(tmp_path / "file" / "log")), batch=4)
    failures = list(failing.replies(requests(range(8))))
    failing.close()
    assert Counter(reply.request.key for reply in failures) == Counter(f"k{i}" for i in range(8))
    assert {reply.finish for reply in failures} == {"error"}
    assert all("file" in str(reply.error) and "Error: " in str(reply.error) for reply in failures)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "part"),
    [({"workers": 50}, "cluster.cpus: 50 workers with 1 each need 50, and Ray has 2"),
     ({"gpus": 1}, "cluster.gpus: 1 workers with 1 each need 1, and Ray has 0")],
)  # fmt: skip
def test_a_cluster_that_is_too_small_is_refused(cluster: None, settings: dict, part: str) -> None:
    with pytest.raises(InputError, match=part):
        next(RayData(Scripted(), **settings).replies(requests(range(3))))


@pytest.mark.parametrize(
    ("settings", "parts"),
    [
        (
            {"workers": 0, "batch": 2.5},
            ["cluster.workers: expected a whole number of at least 1, found 0", "cluster.batch"],
        ),
        (
            {"tries": True, "store_mb": 5},
            ["cluster.tries", "cluster.store_mb: expected a whole number of at least 80, found 5"],
        ),
        ({"cpus": -1, "gpus": -0.5}, ["cluster.cpus", "cluster.gpus: expected a number of at least 0, found -0.5"]),
        ({"address": "ray://head:10001"}, ["expected host:port of the cluster's head node"]),
    ],
)
def test_settings_are_checked_together(settings: dict, parts: list[str]) -> None:
    with pytest.raises(InputError) as refused:
        RayData(Scripted(), **settings)
    assert len(refused.value.problems) == len(parts)
    assert all(part in str(refused.value) for part in parts)


def test_an_engine_in_a_cluster_is_the_same_model_and_counts_tokens_here() -> None:
    engine = RayData(Scripted("m", "v2", price=Price(1, 2)), address="no.such.host:6379")
    assert (engine.model, engine.revision, engine.price) == ("m", "v2", Price(1, 2))
    assert engine.count_tokens(({"role": "user", "content": "three words here"},)) == 3
    assert list(engine.replies([])) == []
    engine.close()


def test_an_address_where_nothing_listens_is_refused_at_once() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(InputError, match=f"cluster.address: nothing answers at {address}"):
            check_address(address)
        taken.listen()
        check_address(address)
    check_address("auto")


def test_what_the_user_has_set_for_ray_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("RAY_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setattr(os, "environ", dict(os.environ))
    set_environment(local=False)
    assert "RAY_AUTH_TOKEN" not in os.environ
    set_environment(local=True)
    assert os.environ["RAY_AUTH_MODE"] == "disabled"
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] == "0"
    assert len(os.environ["RAY_AUTH_TOKEN"]) == 64


def test_without_ray_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"pip install .invitro\[ray\]."):
        next(RayData(Scripted()).replies(requests(range(1))))


def test_the_configuration_puts_the_llm_s_engine_into_the_cluster() -> None:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        assert compose("label").get("cluster") is None
        cfg = compose("label", overrides=["cluster=ray", "llm=llama", "cluster.workers=4"])
        assert (cfg.cluster.workers, cfg.cluster.gpus, cfg.cluster.engine.tensor_parallel_size) == (4, 4, 4)
        engine = instantiate(compose("label", overrides=["cluster=ray", "llm=scripted", "llm.revision=v2"]).cluster)
    assert isinstance(engine, RayData)
    assert isinstance(engine.engine, Scripted)
    assert (engine.revision, engine.gpus, engine.address) == ("v2", 0, None)


class Failing(Scripted):
    """Answers one request, then raises."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def replies(self, requests: Iterable[Request]) -> Iterator[Reply]:
        yield next(super().replies(requests))
        raise self.error


def test_batches_are_counted_in_the_order_of_their_numbers() -> None:
    async def scene() -> None:
        feeder, batch = Feeder(), list(requests(range(3)))
        waits = asyncio.create_task(feeder.count(0))
        await feeder.put(1, batch[1:2])
        await asyncio.sleep(0)
        assert not waits.done()  # number 0 is still on its way
        await feeder.put(0, batch[:1])
        assert await waits == 2
        further = asyncio.create_task(feeder.count(2))
        await feeder.end()
        assert await further == 2

    asyncio.run(scene())


def test_a_batch_is_kept_until_it_is_dropped() -> None:
    async def scene() -> None:
        feeder, batch = Feeder(), list(requests(range(2)))
        await feeder.put(0, batch)
        assert await feeder.give(0) == (batch, 1)
        assert await feeder.give(0) == (batch, 2)
        await feeder.drop(0)
        assert await feeder.give(0) == ([], 0)
        await feeder.put(1, batch)
        assert await feeder.count(1) == 2

    asyncio.run(scene())


def test_replies_survive_without_their_requests() -> None:
    batch = list(requests(range(3)))
    known = Reply(batch[0], "4", "stop", None, (TokenChoice("4", (("4", -0.1), ("5", -2.4))),), 7, 1)
    fields = {name: value for name, value in vars(known).items() if name != "request"}
    got = list(Outcome({"k0": fields}, failure="OSError: disk full").replies(batch[:2]))
    assert got == [known, Reply(batch[1], "", "error", "OSError: disk full")]
    assert list(answer(Scripted(), batch).replies(batch)) == list(Scripted().replies(batch))


def test_what_an_engine_raises_is_an_error_of_what_it_left_open() -> None:
    batch = list(requests(range(3)))
    first, *rest = answer(Failing(OSError("disk full")), batch, times=2).replies(batch)
    assert first == next(Scripted().replies(batch))
    assert [(reply.finish, reply.error) for reply in rest] == [("error", "OSError: disk full")] * 2
    assert answer(Failing(OSError()), batch, times=2).times == 2


def test_what_an_engine_refuses_stops_the_job_after_the_replies() -> None:
    batch = list(requests(range(3)))
    outcome = answer(Failing(InputError("no such model", "no key")), batch)
    replies = outcome.replies(batch)
    assert next(replies).request.key == "k0"
    with pytest.raises(InputError, match="no such model\nno key"):
        next(replies)
    assert list(outcome.replies([])) == []
