"""The labelling job with the scripted engine: what is asked, what is stored, and what is not asked again."""

import gc
import json
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from prompting import form, prompt, scale

from invitro.engines.base import EngineError, Readout, Sampling
from invitro.engines.scripted import Scripted
from invitro.labelling.job import LabelJob, estimate, reparse, run_job
from invitro.labelling.prompts import Renderer
from invitro.labelling.texts import Example, Text
from invitro.labels.source import stored_labels
from invitro.labels.store import LabelStore

FAULTY = {
    "unparseable": 0.1,
    "out_of_range": 0.1,
    "missing_items": 0.1,
    "extra_items": 0.1,
    "truncated": 0.1,
    "refused": 0.1,
}


def texts(n: int) -> list[Text]:
    return [Text(f"t{i}", f"story number {i}", f"author{i % 7}") for i in range(n)]


def a_job(store: LabelStore, engine: Scripted, readout: str = "digits", name: str = "scale_aware", **more) -> LabelJob:
    chosen = prompt(name)
    renderer = Renderer(chosen, chosen.form(scale(), Readout(readout)))
    sampling = Sampling(more.pop("temperature", 0.0), renderer.form.max_tokens, 0, 20 if readout == "expected" else 0)
    return LabelJob(store, engine, renderer, sampling, "corpus", "scripted", progress=False, **more)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LabelStore]:
    with LabelStore(tmp_path / "labels.sqlite") as store:
        yield store


def asked(log: Path) -> list[tuple[str, float]]:
    rows = [json.loads(line) for line in log.read_text().splitlines()] if log.is_file() else []
    return [(row["key"], row["temperature"]) for row in rows]


def engine_with_log(tmp_path: Path, **more) -> tuple[Scripted, Path]:
    return Scripted(log=str(tmp_path / "asked.jsonl"), **more), tmp_path / "asked.jsonl"


@pytest.mark.parametrize("readout", list(Readout))
@pytest.mark.parametrize("name", ["plain", "scale_aware", "reasoned"])
def test_every_prompt_and_readout_labels_every_text(store: LabelStore, readout: str, name: str) -> None:
    report = run_job(a_job(store, Scripted(), readout, name), texts(20))
    assert (report.labels, report.usage.requests, report.stored.labelled, report.stored.unusable) == (20, 20, 20, {})
    labels = stored_labels(store, report.stored, scale()).labels
    assert labels["llm_label"].between(1, 7).all()
    assert labels["spread"].notna().all() == (readout == "expected")
    assert ("llm_warm" in labels) == (name != "plain")


def test_a_second_run_asks_nothing_and_a_third_only_what_is_new(store: LabelStore, tmp_path: Path) -> None:
    engine, log = engine_with_log(tmp_path)
    run_job(a_job(store, engine), texts(10))
    assert run_job(a_job(store, engine), texts(10)).usage.requests == 0
    assert run_job(a_job(store, engine), texts(15)).labels == 5
    assert len(asked(log)) == len(set(asked(log))) == 15


def test_faults_are_retried_once_at_another_temperature_then_counted(store: LabelStore, tmp_path: Path) -> None:
    engine, log = engine_with_log(tmp_path, faults=FAULTY)
    report = run_job(a_job(store, engine), texts(200))
    first = [key for key, temperature in asked(log) if temperature == 0.0]
    again = [key for key, temperature in asked(log) if temperature == 0.7]
    unusable = [answer for answer in store.answers() if answer.attempt == 0 and answer.status != "ok"]
    assert len(first) == len(set(first)) == 200
    assert sorted(again) == sorted(answer.key for answer in unusable)
    assert len(asked(log)) == len(first) + len(again)
    assert {answer.status for answer in unusable} == set(FAULTY)
    assert all(answer.raw or answer.status == "truncated" for answer in unusable)
    assert report.stored.labelled + sum(report.stored.unusable.values()) == 200
    assert 0 < sum(report.stored.unusable.values()) < len(unusable)
    assert run_job(a_job(store, engine), texts(200)).usage.requests == 0


def test_a_retry_asks_with_another_seed(store: LabelStore) -> None:
    """At an unchanged temperature the same seed would give the same reply again."""
    engine = Scripted(faults={"refused": 0.5})
    seen = []

    def watched(requests):
        for reply in Scripted.replies(engine, requests):
            seen.append(reply.request.sampling)
            yield reply

    engine.replies = watched  # type: ignore[method-assign]
    run_job(a_job(store, engine, temperature=0.7), texts(20))
    first = [sampling for sampling in seen if sampling.seed == 0]
    again = [sampling for sampling in seen if sampling.seed != 0]
    assert len(first) == 20
    assert again
    assert {(sampling.temperature, sampling.seed) for sampling in again} == {(0.7, 1_000_003)}


def test_other_words_of_the_scale_make_another_set(store: LabelStore) -> None:
    """Or an edited questionnaire would fill up the label set that another one began."""
    run_job(a_job(store, Scripted()), texts(4))
    chosen = prompt("scale_aware")
    for changes in ({"instructions": "How much?"}, {"construct": "warmth"}, {"translations": {"de": {"warm": "warm"}}}):
        renderer = Renderer(chosen, chosen.form(replace(scale(), **changes), Readout.DIGITS))
        sampling = Sampling(0.0, renderer.form.max_tokens, 0)
        other = LabelJob(store, Scripted(), renderer, sampling, "corpus", "scripted")
        assert (other.info.id == store.sets()[0].id) == ("translations" in changes)  # which this prompt does not use
    many = prompt("multilingual")
    hashes = {
        Renderer(many, many.form(variant, Readout.DIGITS)).hash()
        for variant in (scale(), replace(scale(), translations={}))
    }
    assert len(hashes) == 2
    shown = [Renderer(chosen, form()).hash((Example(Text("e", text), 2.0),)) for text in ("one", "other")]
    assert len(set(shown)) == 2


def test_a_set_keeps_the_id_that_earlier_versions_gave_it(store: LabelStore) -> None:
    job = a_job(store, Scripted(), "text")
    assert '"low": 1, "high": 7' in job.info.items
    assert replace(job, corpus="simulated").info.id == "18d93865336e"


def test_errors_are_asked_again_by_the_next_run(store: LabelStore) -> None:
    first = run_job(a_job(store, Scripted(faults={"error": 0.2})), texts(60))
    missing = first.stored.unusable["error"]
    assert 0 < missing < 60
    second = run_job(a_job(store, Scripted()), texts(60))
    assert (second.usage.requests, second.stored.labelled, second.stored.unusable) == (missing, 60, {})


def test_an_engine_that_only_fails_stops_the_job(store: LabelStore) -> None:
    with pytest.raises(EngineError, match="25 errors in a row, the last: scripted error"):
        run_job(a_job(store, Scripted(faults={"error": 1.0})), texts(60))


def test_a_job_without_any_answer_ends_in_the_reason(store: LabelStore) -> None:
    failing = a_job(store, Scripted(faults={"error": 1.0}))
    for _ in range(2):
        with pytest.raises(EngineError, match="none of 3 texts got an answer, the last error: scripted error"):
            run_job(failing, texts(3))
    assert run_job(a_job(store, Scripted()), texts(3)).stored.labelled == 3


@pytest.mark.parametrize("fault", ["unparseable", "refused", "truncated", "out_of_range", "missing_items"])
def test_many_replies_without_a_label_stop_the_job_with_what_to_change(store: LabelStore, fault: str) -> None:
    bad = Scripted(faults={fault: 1.0})
    with pytest.raises(
        EngineError, match=rf"25 replies without a label \(25 {fault}\) in a row, the last: "
    ) as stopped:
        run_job(a_job(store, bad), texts(60))
    assert ("sampling.max_tokens" in str(stopped.value)) == (fault == "truncated")
    assert "retry=unusable" in str(stopped.value)
    assert sum(1 for _ in store.answers()) == 25
    with pytest.raises(EngineError, match="in a row"):  # what was answered is not asked again
        run_job(a_job(store, bad), texts(60))
    assert sum(1 for _ in store.answers()) == 50


def test_a_few_texts_without_any_label_stop_it_too(store: LabelStore) -> None:
    with pytest.raises(EngineError, match="25 replies without a label"):
        run_job(a_job(store, Scripted(faults={"refused": 1.0})), texts(20))


def test_hard_texts_do_not_stop_it(store: LabelStore) -> None:
    """Retries are asked of texts that failed before: that many of them fail says nothing about the engine."""
    engine = Scripted()
    run_job(a_job(store, engine), texts(30))

    def only_refusals(requests):
        for reply in Scripted.replies(engine, requests):
            number = int(reply.request.messages[-1]["content"].split("number ")[1].split()[0])
            yield replace(reply, text="I cannot rate this.") if number >= 60 and number % 2 else reply

    engine.replies = only_refusals  # type: ignore[method-assign]
    report = run_job(a_job(store, engine), texts(160))
    assert (report.stored.unusable, report.retries) == ({"refused": 50}, 50)


def test_what_failed_is_asked_again_where_that_is_wanted(store: LabelStore, tmp_path: Path) -> None:
    bad, (good, log) = Scripted(faults={"unparseable": 0.3}), engine_with_log(tmp_path)
    first = run_job(a_job(store, bad), texts(40))
    missing, answers = first.stored.unusable["unparseable"], first.stored.answers
    assert run_job(a_job(store, good), texts(40)).usage.requests == 0
    again = run_job(a_job(store, good, retry="unusable"), texts(40))
    assert (again.usage.requests, again.stored.unusable) == (missing, {})
    assert again.stored.answers == answers + missing  # earlier answers stay, with what they cost
    assert {json.loads(line)["temperature"] for line in log.read_text().splitlines()} == {0.7}
    assert run_job(a_job(store, good, retry="all"), texts(40)).usage.requests == 0


def test_a_second_failure_is_not_asked_again_in_the_same_job(store: LabelStore) -> None:
    bad = Scripted(faults={"unparseable": 0.4})
    first = run_job(a_job(store, bad), texts(60))
    again = run_job(a_job(store, bad, retry="unusable"), texts(60))
    assert again.usage.requests == first.stored.unusable["unparseable"]


def test_replies_without_a_count_are_said(store: LabelStore) -> None:
    engine = Scripted()

    def uncounted(requests):
        return (replace(reply, prompt_tokens=0) for reply in Scripted.replies(engine, requests))

    engine.replies = uncounted  # type: ignore[method-assign]
    report = run_job(a_job(store, engine), texts(3))
    assert report.usage.uncounted == 3
    assert "without 3 replies whose tokens the server did not count" in "\n".join(report.lines())


def test_the_report_tells_the_last_error(store: LabelStore) -> None:
    report = run_job(a_job(store, Scripted(faults={"error": 0.2})), texts(60))
    assert "  last problem     scripted error" in report.lines()
    assert "last problem" not in "".join(run_job(a_job(store, Scripted()), texts(60)).lines())


def test_the_same_text_under_two_ids_is_asked_once(store: LabelStore, tmp_path: Path) -> None:
    engine, log = engine_with_log(tmp_path)
    copies = [Text(f"t{i}", "the same story") for i in range(300)]
    report = run_job(a_job(store, engine), copies)
    assert len(asked(log)) == 1
    assert report.stored.labelled == 300


@pytest.mark.parametrize(
    "changes",
    [{"readout": "expected"}, {"name": "plain"}, {"temperature": 0.5}, {"engine": Scripted("other")},
     {"engine": Scripted(revision="v2")}],
    ids=str,
)  # fmt: skip
def test_whatever_decides_the_answer_makes_another_question(store: LabelStore, changes: dict) -> None:
    run_job(a_job(store, Scripted()), texts(5))
    other = {"engine": Scripted()} | changes
    assert run_job(a_job(store, **other), texts(5)).usage.requests == 5
    assert len(store.sets()) == 2


def test_a_text_that_changed_is_asked_for_anew(store: LabelStore) -> None:
    run_job(a_job(store, Scripted()), [Text("t", "a story")])
    report = run_job(a_job(store, Scripted()), [Text("t", "another story")])
    assert (report.usage.requests, report.stored.texts, report.stored.answers) == (1, 1, 1)


def test_samples_differ_and_give_a_spread(store: LabelStore) -> None:
    job = a_job(store, Scripted(), temperature=0.7, samples=4)
    report = run_job(job, texts(6))
    assert (report.usage.requests, report.stored.samples) == (24, 4)
    labels = stored_labels(store, report.stored, scale()).labels
    assert (labels["spread"] > 0).all()
    assert run_job(replace(job, samples=5), texts(6)).usage.requests == 6


def test_replies_are_read_anew_without_a_call(store: LabelStore) -> None:
    stored = run_job(a_job(store, Scripted(faults={"out_of_range": 0.3})), texts(40)).stored
    assert reparse(store, stored, form("digits")) == 0
    wider = replace(scale(), high=9)
    assert reparse(store, stored, replace(form("digits"), scale=wider)) == sum(
        answer.raw.endswith("9") for answer in store.answers()
    )
    assert store.sets()[0].labelled == 40
    assert reparse(store, stored, form("digits")) > 0
    assert {label_set.id: label_set.unusable for label_set in store.sets()} == {stored.id: stored.unusable}


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_texts(store: LabelStore) -> None:
    class Many:
        def __init__(self, n: int) -> None:
            self.n = n

        def __iter__(self) -> Iterator[Text]:
            return (Text(f"t{self.n}-{i}", f"story {self.n} number {i}") for i in range(self.n))

    job = a_job(store, Scripted(faults={"unparseable": 0.05}))
    run_job(job, Many(2100))  # fills Python's free lists, which keep up to 2,000 tuples of a size and look like growth
    peaks = []
    gc.disable()  # a collection would empty them
    try:
        for n in (300, 1200):
            tracemalloc.start()
            run_job(job, Many(n))
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
    finally:
        gc.enable()
    assert peaks[1] < peaks[0] * 1.5


def test_estimate_needs_no_set(store: LabelStore) -> None:
    assert estimate(a_job(store, Scripted()), texts(3)).requests == 3
    assert store.sets() == []


def test_old_errors_do_not_stop_a_later_run(store: LabelStore) -> None:
    first = Scripted(faults={"error": 0.4})
    try:
        run_job(a_job(store, first), texts(120))
    finally:
        assert sum(answer.status == "error" for answer in store.answers()) > 30
    again = run_job(a_job(store, first), texts(120))
    assert again.usage.requests == again.stored.unusable["error"] > 30
