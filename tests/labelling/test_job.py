"""The labelling job with the scripted engine: what is asked, what is stored, and what is not asked again."""

import json
import math
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from prompting import form, prompt, scale

from invitro.data import Corpus
from invitro.engines.base import EngineError, Price, Readout, Sampling
from invitro.engines.scripted import FAULTS, Scripted
from invitro.errors import InputError
from invitro.labelling import Prompt, Renderer
from invitro.labelling.job import estimate, reparse, run_job
from invitro.labelling.labeller import Labelling, dry_run, label
from invitro.labelling.questions import Job, set_info
from invitro.labelling.texts import CorpusTexts, Example, Shots, Text
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


def a_job(store: LabelStore, engine: Scripted, readout: str = "digits", name: str = "scale_aware", **more) -> Job:
    chosen = prompt(name)
    renderer = Renderer(chosen, chosen.form(scale(), Readout(readout)))
    sampling = Sampling(more.pop("temperature", 0.0), renderer.form.max_tokens, 0, 20 if readout == "expected" else 0)
    info = set_info("corpus", "scripted", engine, renderer, sampling, {})
    return Job(store, engine, renderer, info, sampling, progress=False, **more)


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
    unusable = [one for one in store.answers() if one.attempt == 0 and one.status != "ok"]
    assert len(first) == len(set(first)) == 200
    assert sorted(again) == sorted(one.key for one in unusable)
    assert len(asked(log)) == len(first) + len(again)
    assert {one.status for one in unusable} == set(FAULTY)
    assert all(one.raw or one.status == "truncated" for one in unusable)
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
    first, again = [one for one in seen if one.seed == 0], [one for one in seen if one.seed != 0]
    assert len(first) == 20
    assert again
    assert {(one.temperature, one.seed) for one in again} == {(0.7, 1_000_003)}


def test_other_words_of_the_scale_make_another_set(store: LabelStore) -> None:
    """Or an edited questionnaire would fill up the label set that another one began."""
    run_job(a_job(store, Scripted()), texts(4))
    chosen = prompt("scale_aware")
    for changes in ({"instructions": "How much?"}, {"construct": "warmth"}, {"translations": {"de": {"warm": "warm"}}}):
        renderer = Renderer(chosen, chosen.form(replace(scale(), **changes), Readout.DIGITS))
        info = set_info("corpus", "scripted", Scripted(), renderer, Sampling(0.0, renderer.form.max_tokens, 0), {})
        assert (info.id == store.sets()[0].id) == ("translations" in changes)  # which this prompt does not use
    many = prompt("multilingual")
    hashes = {
        Renderer(many, many.form(one, Readout.DIGITS)).hash() for one in (scale(), replace(scale(), translations={}))
    }
    assert len(hashes) == 2
    shown = [Renderer(chosen, form()).hash((Example(Text("e", text), 2.0),)) for text in ("one", "other")]
    assert len(set(shown)) == 2


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
        with pytest.raises(EngineError, match="not one of 3 texts got an answer, the last error: scripted error"):
            run_job(failing, texts(3))
    assert run_job(a_job(store, Scripted()), texts(3)).stored.labelled == 3


def test_the_report_tells_the_last_error(store: LabelStore) -> None:
    report = run_job(a_job(store, Scripted(faults={"error": 0.2})), texts(60))
    assert "  last error       scripted error" in report.lines()
    assert "last error" not in "".join(run_job(a_job(store, Scripted()), texts(60)).lines())


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
    with pytest.raises(InputError, match="would be the same answer"):
        a_job(store, Scripted(), samples=2)


def test_replies_are_read_anew_without_a_call(store: LabelStore) -> None:
    stored = run_job(a_job(store, Scripted(faults={"out_of_range": 0.3})), texts(40)).stored
    assert reparse(store, stored, form("digits")) == 0
    wider = replace(scale(), high=9)
    assert reparse(store, stored, replace(form("digits"), scale=wider)) == sum(
        one.raw.endswith("9") for one in store.answers()
    )
    assert store.sets()[0].labelled == 40
    assert reparse(store, stored, form("digits")) > 0
    assert {one.id: one.unusable for one in store.sets()} == {stored.id: stored.unusable}


def test_memory_does_not_grow_with_the_number_of_texts(store: LabelStore) -> None:
    class Many:
        def __init__(self, n: int) -> None:
            self.n = n

        def __iter__(self) -> Iterator[Text]:
            return (Text(f"t{self.n}-{i}", f"story {self.n} number {i}") for i in range(self.n))

    job = a_job(store, Scripted(faults={"unparseable": 0.05}))
    run_job(job, Many(300))
    peaks = []
    for n in (500, 4000):
        tracemalloc.start()
        run_job(job, Many(n))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] * 1.5


def a_corpus(n: int = 40) -> Corpus:
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "text_id": [f"t{i:02d}" for i in range(n)],
            "text": [f"story number {i}" for i in range(n)],
            "group_id": [f"a{i // 2}" for i in range(n)],
            "split": ["test" if i % 4 == 0 else "train" for i in range(n)],
            "crowd_label": np.where(np.arange(n) % 10 == 9, np.nan, rng.uniform(1, 7, n).round(2)),
            "gender": ["2" if i % 2 else None for i in range(n)],
        }
    )
    return Corpus("small", table, "CC0", "nobody")


class Small:
    name = "small"

    def __init__(self, corpus: Corpus | None = None) -> None:
        self.corpus = corpus or a_corpus()

    def read(self, scale: object) -> Corpus:
        return self.corpus


def labelling(tmp_path: Path, **changes) -> Labelling:
    given = {
        "reader": Small(), "scale": scale(), "prompt": prompt("scale_aware"), "llm": "scripted", "engine": Scripted(),
        "store": tmp_path / "labels.sqlite", "readout": Readout.DIGITS, "progress": False,
    }  # fmt: skip
    return Labelling(**(given | changes))


def test_the_report_compares_with_the_crowd(tmp_path: Path) -> None:
    from invitro.stats.agreement import agreement

    (done,) = label(labelling(tmp_path))
    table = a_corpus().table
    rated = table["crowd_label"].notna()
    llm = table["text_id"].map(done.labels.labels["llm_label"])
    by_hand = agreement(table["crowd_label"][rated], llm[rated], table["group_id"][rated])
    assert done.agreement.n == rated.sum()
    assert done.agreement.pcc.value == pytest.approx(np.corrcoef(table["crowd_label"][rated], llm[rated])[0, 1])
    assert done.agreement.bias.value == pytest.approx((llm - table["crowd_label"])[rated].mean())
    assert done.agreement.alpha == by_hand.alpha
    told = "\n".join(done.lines())
    assert done.lines()[1].startswith("  agreement with the crowd: not measurable with this model")
    assert "not measurable with this model" not in "\n".join(replace(done, agreement=None).lines())
    for part in ("40 of 40", "PCC", "CCC", "alpha", "RMSE", "mean bias", "wall time", "cost", "datasheet"):
        assert part in told
    sheet = done.datasheet.read_text()
    for part in (
        "small/scripted/scale_aware/batson_empathy/digits",
        "| engine | class Scripted |",
        "CC0",
        "sympathetic",
        "PCC",
        "<<<BEGIN TEXT>>>",
    ):
        assert part in sheet


@pytest.mark.parametrize("suffix", [".tsv", ".csv", ".parquet", ".jsonl"])
def test_the_export_is_a_label_file(tmp_path: Path, suffix: str) -> None:
    from invitro.labels.published import read_labels

    path = tmp_path / f"out{suffix}"
    (done,) = label(labelling(tmp_path, export=str(path), engine=Scripted(faults={"unparseable": 0.4})))
    read = read_labels(path, ["text_id"], "llm_empathy").set_index("text_id")["llm_label"]
    assert read.index.tolist() == a_corpus().table["text_id"].tolist()
    assert 0 < read.isna().sum() < 40
    pd.testing.assert_series_equal(read, done.labels.labels["llm_label"].reindex(read.index))


def test_a_combination_fills_its_members_sets(tmp_path: Path) -> None:
    corpus = a_corpus()
    names = ["x" if i < 15 else "y" for i in range(40)]
    table = corpus.table.assign(text_id=[f"{n}:{t}" for n, t in zip(names, corpus.table["text_id"], strict=True)])
    both = Small(replace(corpus, table=table, label_corpora=("x", "y")))
    one, other = label(labelling(tmp_path, reader=both, export=str(tmp_path / "out.csv")))
    assert (one.report.stored.info.corpus, one.report.stored.texts) == ("x", 15)
    assert (other.report.stored.info.corpus, other.labels.labels.index[0]) == ("y", "t15")
    assert pd.read_csv(tmp_path / "out.csv")["text_id"].tolist() == table["text_id"].tolist()


def test_a_dry_run_counts_and_prices_and_asks_nothing(tmp_path: Path) -> None:
    engine, log = engine_with_log(tmp_path, price=Price(2.0, 8.0))
    what = labelling(tmp_path, engine=engine)
    ((name, found),) = dry_run(what)
    assert not log.exists()
    assert (name, found.requests, found.completion_tokens) == ("small", 40, 40)
    (done,) = label(what)
    assert found.prompt_tokens == done.report.usage.prompt_tokens
    assert found.cost == pytest.approx(done.report.usage.cost)
    assert found.at_most > found.cost
    ((_, after),) = dry_run(what)
    assert (after.requests, after.cost) == (0, 0)


def test_another_store_is_taken_in_and_replies_are_read_anew(tmp_path: Path) -> None:
    other = tmp_path / "other.sqlite"
    (first,) = label(labelling(tmp_path, store=other))
    with LabelStore(other) as store:
        store._db.execute("UPDATE answers SET status = 'unparseable', items = NULL, score = NULL WHERE id <= 10")
    engine, log = engine_with_log(tmp_path)
    (done,) = label(labelling(tmp_path, engine=engine, merge=str(other), reparse=True))
    assert not log.exists()
    pd.testing.assert_frame_equal(done.labels.labels, first.labels.labels)


def test_a_measurable_agreement_is_told_without_the_warning(tmp_path: Path) -> None:
    corpus = a_corpus(60)
    (guess,) = label(labelling(tmp_path, reader=Small(corpus)))
    assert "\nNot measurable with this model" in guess.datasheet.read_text()
    llm = corpus.table["text_id"].map(guess.labels.labels["llm_label"])
    (done,) = label(labelling(tmp_path, reader=Small(replace(corpus, table=corpus.table.assign(crowd_label=llm)))))
    assert done.report.usage.requests == 0
    assert done.lines()[1:3] == ["  agreement with the crowd", "    PCC            1.0000 [1.000, 1.000]"]
    assert "not measurable" not in done.datasheet.read_text().lower()


def test_published_labels_are_told_of_before_anything_is_asked(tmp_path: Path, caplog) -> None:
    corpus = replace(a_corpus(), name="newsemp18", label_corpora=("newsemp18",))
    engine, log = engine_with_log(tmp_path)
    for llm, told in (("scripted", 0), ("llama", 1)):
        caplog.clear()
        dry_run(labelling(tmp_path, reader=Small(corpus), llm=llm, engine=engine))
        assert not log.exists()
        assert (
            caplog.text.count("newsemp18/llama/scale_aware/batson_empathy: labels of this name are published already")
            == told
        )
    label(labelling(tmp_path, reader=Small(corpus), llm="llama", engine=engine))
    assert caplog.text.count("published already") == 2


def test_a_dry_run_makes_no_store(tmp_path: Path) -> None:
    what = labelling(tmp_path)
    dry_run(what)
    assert not what.store.exists()


def test_a_random_draw_is_part_of_the_whole(tmp_path: Path) -> None:
    (some,) = label(labelling(tmp_path, limit=7, limit_seed=3))
    assert some.labels.labels.index.tolist() != [f"t{i:02d}" for i in range(7)]
    (whole,) = label(labelling(tmp_path))
    assert (some.report.usage.requests, whole.report.usage.requests) == (7, 33)
    with pytest.raises(InputError, match="limit_seed: expected a whole number of at least 0"):
        labelling(tmp_path, limit=7, limit_seed=-1)


def test_limit_takes_the_first_texts(tmp_path: Path) -> None:
    (done,) = label(labelling(tmp_path, limit=7))
    assert done.labels.labels.index.tolist() == [f"t{i:02d}" for i in range(7)]


def test_settings_are_checked_together(tmp_path: Path) -> None:
    with pytest.raises(InputError) as refused:
        labelling(
            tmp_path, limit=0, temperature=3, export="labels.xlsx", scale=scale("phq9"), prompt=prompt("plain")
        )  # fmt: skip
    for part in ("limit", "temperature", "export", "readout=digits reads one digit"):
        assert part in str(refused.value)
    with pytest.raises(InputError, match="samples=3"):
        labelling(tmp_path, samples=3)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"limit": "ten"}, "limit: expected a whole number of at least 1, found 'ten'"),
        ({"samples": 1.5}, "samples: expected a whole number of at least 1, found 1.5"),
        ({"limit_seed": "abc"}, "limit_seed: expected a whole number of at least 0, found 'abc'"),
        ({"temperature": "hot"}, r"sampling\.temperature: expected a number from 0 to 2, found 'hot'"),
        ({"max_tokens": 2.5}, r"sampling\.max_tokens: expected a whole number of at least 1, found 2\.5"),
        ({"seed": "abc"}, r"sampling\.seed: expected a whole number of at least 0, found 'abc'"),
        ({"progress": "maybe"}, "progress: expected true, false, or null for a bar on a terminal, found 'maybe'"),
        ({"export": 5}, "export: expected a file ending in .*, found 5"),
        ({"engine": Scripted(None)}, r"llm\.model: expected a model's name, found None"),  # type: ignore[arg-type]
    ],
)
def test_settings_of_the_wrong_kind_are_named(tmp_path: Path, settings: dict, told: str) -> None:
    with pytest.raises(InputError, match=told):
        labelling(tmp_path, **settings)


@pytest.mark.parametrize(("of", "told"), [("batson_empathy", 0), ("gad7", 1), ("phq9", 1)])
def test_a_scale_without_translations_is_told_of_before_it_is_asked(tmp_path: Path, of: str, told: int, caplog) -> None:
    dry_run(labelling(tmp_path, scale=scale(of), prompt=prompt("multilingual")))
    assert caplog.text.count(f"scale={of} has no words in de, es, bn: prompt=multilingual gives its task") == told
    caplog.clear()
    dry_run(labelling(tmp_path, scale=scale(of), prompt=prompt("scale_aware")))
    assert "has no words in" not in caplog.text


def test_examples_come_from_training_and_are_never_the_text_s_own() -> None:
    corpus = a_corpus()
    shots = Shots(corpus, 4, seed=1)
    training = corpus.of_split("train")
    labelled = training[training["crowd_label"].notna()]
    usual = shots.of(Text("elsewhere", "something else", "nobody"))
    assert [one.score for one in usual] == sorted(one.score for one in usual)
    assert {one.text.text_id for one in usual} <= set(labelled["text_id"])
    for text in CorpusTexts(corpus.table):
        shown = shots.of(text)
        assert len(shown) == 4
        assert all(one.text.text_id != text.text_id and one.text.group_id != text.group_id for one in shown)
    assert shots.of(usual[0].text)[1:] == usual[1:]
    assert Shots(corpus, 4, seed=1).of(Text("e", "s")) == usual
    with pytest.raises(InputError, match="shows 400 examples out of the training split, found 26"):
        Shots(corpus, 400)


def test_few_shot_prompts_hold_training_texts_and_datasheets_do_not(tmp_path: Path) -> None:
    (done,) = label(labelling(tmp_path, prompt=prompt("few_shot")))
    training = a_corpus().of_split("train")
    assert not any(f"{text}\n" in done.datasheet.read_text() for text in training["text"])
    assert done.datasheet.read_text().count("of the training split)") == 4


def test_texts_carry_what_is_known_of_the_writer() -> None:
    one, other = list(CorpusTexts(a_corpus().table))[:2]
    assert (one.demographics, other.demographics) == ({}, {"gender": "2"})
    table = a_corpus().table.assign(language=["de"] + [None] * 39)
    assert [one.language for one in CorpusTexts(table.head(2))] == ["de", None]


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault != "error"])
@pytest.mark.parametrize("of", ["batson_empathy", "gad7", "single_item"])
@pytest.mark.parametrize("readout", list(Readout))
@pytest.mark.parametrize("name", ["scale_aware", "reasoned"])
def test_scripted_faults_are_what_they_are_called(
    store: LabelStore, fault: str, of: str, readout: str, name: str
) -> None:
    chosen: Prompt = prompt(name)
    renderer = Renderer(chosen, chosen.form(scale(of), Readout(readout)))
    sampling = Sampling(0, 100, 0, 20 if readout == "expected" else 0)
    engine = Scripted(faults={fault: 1.0})
    job = Job(store, engine, renderer, set_info("c", "s", engine, renderer, sampling, {}), sampling, progress=False)
    found = run_job(job, texts(3)).stored.unusable
    empty = fault == "missing_items" and of == "single_item" and readout != "text"
    assert found == {"unparseable" if empty else fault: 3}


@pytest.mark.parametrize("faults", [{"tired": 0.1}, {"refused": 1.5}, {"refused": 0.6, "error": 0.6}])
def test_faulty_scripts_are_refused(faults: dict) -> None:
    with pytest.raises(InputError, match=r"llm\.engine\.faults"):
        Scripted(faults=faults)
    assert math.isclose(Price(1, 2).of(1_000_000, 500_000), 2)


@pytest.mark.parametrize("setting", ["concurrency", "delay"])
def test_scripts_of_the_wrong_kind_are_refused(setting: str) -> None:
    with pytest.raises(InputError, match=rf"llm\.engine\.{setting}: expected a .*, found 'abc'"):
        Scripted(**{setting: "abc"})


def test_estimate_needs_no_set(store: LabelStore) -> None:
    assert estimate(a_job(store, Scripted()), texts(3)).requests == 3
    assert store.sets() == []


def test_old_errors_do_not_stop_a_later_run(store: LabelStore) -> None:
    first = Scripted(faults={"error": 0.4})
    try:
        run_job(a_job(store, first), texts(120))
    finally:
        assert sum(one.status == "error" for one in store.answers()) > 30
    again = run_job(a_job(store, first), texts(120))
    assert again.usage.requests == again.stored.unusable["error"] > 30
