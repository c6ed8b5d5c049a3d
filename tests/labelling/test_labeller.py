"""From a corpus to its label set, with the scripted engine: reports, files, limits, and settings that are refused."""

import re
from dataclasses import fields, replace
from functools import partial
from itertools import zip_longest
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from prompting import a_corpus, prompt, scale

from invitro.engines.base import Price, Sampling
from invitro.engines.scripted import Scripted
from invitro.errors import InputError
from invitro.labelling.labeller import Labelling, Options, dry_run, label, rendered_prompts, scored
from invitro.labelling.reports import datasheet_path
from invitro.labelling.texts import CorpusTexts, Shots, corpus_of
from invitro.labels.labelset import joined
from invitro.labels.source import averaged
from invitro.labels.store import LabelStore


def labelling(tmp_path: Path, **changes) -> Labelling:
    """Return settings; what `Options` takes goes there."""
    of_options = {name: changes.pop(name) for name in [field.name for field in fields(Options)] if name in changes}
    given = {
        "scale": scale(), "prompt": prompt("scale_aware"), "llm": "scripted", "engine": Scripted(),
        "store": tmp_path / "labels.sqlite",
        "options": Options(**{"readout": "digits", "progress": False} | of_options),
    }  # fmt: skip
    return Labelling(**(given | changes))


def engine_with_log(tmp_path: Path, **more) -> tuple[Scripted, Path]:
    return Scripted(log=str(tmp_path / "asked.jsonl"), **more), tmp_path / "asked.jsonl"


def test_the_report_compares_with_the_crowd(tmp_path: Path) -> None:
    from invitro.stats.agreement import agreement

    (done,) = label(a_corpus(), labelling(tmp_path))
    table = a_corpus().table
    rated = table["crowd_label"].notna()
    llm = table["text_id"].map(done.labels.labels["llm_label"])
    by_hand = agreement(table["crowd_label"][rated], llm[rated], table["group_id"][rated])
    assert done.agreement.n == rated.sum()
    assert done.agreement.pcc.value == pytest.approx(np.corrcoef(table["crowd_label"][rated], llm[rated])[0, 1])
    assert done.agreement.bias.value == pytest.approx((llm - table["crowd_label"])[rated].mean())
    assert done.agreement.krippendorff == by_hand.krippendorff
    report = "\n".join(done.lines())
    assert done.lines()[1].startswith("  agreement with the crowd: not measurable with this model")
    assert "not measurable with this model" not in "\n".join(replace(done, agreement=None).lines())
    for part in ("40 of 40", "PCC", "CCC", "Krippendorff", "RMSE", "mean bias", "wall time", "cost", "datasheet"):
        assert part in report
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
    from invitro.labels.labelset import read_labels

    path = tmp_path / f"out{suffix}"
    (done,) = label(a_corpus(), labelling(tmp_path, export=str(path), engine=Scripted(faults={"unparseable": 0.4})))
    read = read_labels(path, ["text_id"], "llm_empathy").set_index("text_id")["llm_label"]
    assert read.index.tolist() == a_corpus().table["text_id"].tolist()
    assert 0 < read.isna().sum() < 40
    pd.testing.assert_series_equal(read, done.labels.labels["llm_label"].reindex(read.index))


def test_the_export_has_the_published_id_columns(tmp_path: Path) -> None:
    path, names = tmp_path / "out.csv", {"small": {"message_id": "text_id", "response_id": "group_id"}}
    label(replace(a_corpus(), published_ids=names), labelling(tmp_path, export=str(path)))
    read = pd.read_csv(path)
    assert list(read)[:4] == ["message_id", "response_id", "text_id", "llm_empathy"]
    assert read["message_id"].tolist() == a_corpus().table["text_id"].tolist()
    assert read["response_id"].tolist() == a_corpus().table["group_id"].tolist()


def test_prompts_are_shown_as_they_would_be_sent(tmp_path: Path) -> None:
    engine, log = engine_with_log(tmp_path)
    what = labelling(tmp_path, engine=engine)
    shown = "\n".join(rendered_prompts(a_corpus(), what, 2))
    assert not log.exists()
    assert not what.store.exists()
    assert shown.count("(nothing was asked)") == 2
    assert "small, prompt=scale_aware, text t00 (nothing was asked)\n--- system\nYou read what a person wrote" in shown
    assert "--- user\n<<<BEGIN TEXT>>>\nstory number 1\n<<<END TEXT>>>" in shown


def test_a_datasheet_s_name_is_one_that_every_file_system_has(tmp_path: Path) -> None:
    stored = SimpleNamespace(info=SimpleNamespace(name='essays/llama3.2:3b/"plain"?'), id="1a2b")
    path = datasheet_path(tmp_path / "labels.sqlite", stored)  # type: ignore[arg-type]
    assert path == tmp_path / "labels" / "essays__llama3.2__3b____plain______1a2b.md"


def test_parts_of_a_set_stand_in_its_datasheet(tmp_path: Path) -> None:
    corpus = a_corpus(60)
    corpus = replace(corpus, table=corpus.table.assign(official_split=["train"] * 30 + ["test"] * 30))
    (done,) = label(corpus, labelling(tmp_path))
    sheet = done.datasheet.read_text()
    rows = [line.split(" | ") for line in sheet.splitlines() if line.startswith("| split |")]
    llm = corpus.table["text_id"].map(done.labels.labels["llm_label"])
    means = [f"{half.mean():.2f}" for half in (llm[:30], llm[30:])]
    assert [row[1:4] for row in rows] == [["train", "30", means[0]], ["test", "30", means[1]]]
    assert done.doubts == ()
    with LabelStore(tmp_path / "labels.sqlite") as store:
        later = {key for key, _ in store.used(done.report.stored.id, list(corpus.table["text_id"][30:])).values()}
        store.reparse(
            lambda answer: replace(answer, score=7.0) if answer.key in later else answer, done.report.stored.id
        )
    (done,) = label(corpus, labelling(tmp_path))
    assert "labels drift inside this set. Split train (30 texts)" in done.datasheet.read_text()
    (drift,) = done.doubts
    assert drift in "\n".join(done.lines())


def test_a_model_that_counts_is_called_so(tmp_path: Path) -> None:
    class Counting(Scripted):
        def replies(self, requests):
            for reply in super().replies(requests):
                between = re.split(r"\d", reply.text)
                yield replace(reply, text="".join(map("".join, zip_longest(between, "123456", fillvalue=""))))

    for readout in ("digits", "expected"):
        (done,) = label(a_corpus(60), labelling(tmp_path, engine=Counting(), readout=readout))
        (doubt,) = done.doubts
        assert "100 % of the replies give the items the same scores, 1 2 3 4 5 6, whatever the text says" in doubt
        assert doubt in done.datasheet.read_text()
        (done,) = label(a_corpus(60), labelling(tmp_path, store=tmp_path / "other.sqlite", readout=readout))
        assert done.doubts == ()


def test_a_combination_fills_its_members_sets(tmp_path: Path) -> None:
    corpus = a_corpus()
    names = ["x" if i < 15 else "y" for i in range(40)]
    table = corpus.table.assign(text_id=[f"{n}:{t}" for n, t in zip(names, corpus.table["text_id"], strict=True)])
    one, other = label(
        replace(corpus, table=table, label_corpora=("x", "y")), labelling(tmp_path, export=str(tmp_path / "out.csv"))
    )
    assert (one.report.stored.info.corpus, one.report.stored.texts) == ("x", 15)
    assert (other.report.stored.info.corpus, other.labels.labels.index[0]) == ("y", "t15")
    assert pd.read_csv(tmp_path / "out.csv")["text_id"].tolist() == table["text_id"].tolist()


def test_a_dry_run_counts_and_prices_and_asks_nothing(tmp_path: Path) -> None:
    engine, log = engine_with_log(tmp_path, price=Price(2.0, 8.0))
    what = labelling(tmp_path, engine=engine)
    ((name, estimated),) = dry_run(a_corpus(), what)
    assert not log.exists()
    assert (name, estimated.requests, estimated.completion_tokens) == ("small", 40, 40)
    (done,) = label(a_corpus(), what)
    assert estimated.prompt_tokens == done.report.usage.prompt_tokens
    assert estimated.cost == pytest.approx(done.report.usage.cost)
    assert estimated.at_most > estimated.cost
    ((_, after),) = dry_run(a_corpus(), what)
    assert (after.requests, after.cost) == (0, 0)


def test_another_store_is_taken_in_and_replies_are_read_anew(tmp_path: Path) -> None:
    other = tmp_path / "other.sqlite"
    (first,) = label(a_corpus(), labelling(tmp_path, store=other))
    with LabelStore(other) as store:
        unread = partial(replace, status="unparseable", items=(), score=None)
        assert store.reparse(unread, first.report.stored.id) == 40
    engine, log = engine_with_log(tmp_path)
    (done,) = label(a_corpus(), labelling(tmp_path, engine=engine, merge=str(other), reparse=True))
    assert not log.exists()
    pd.testing.assert_frame_equal(done.labels.labels, first.labels.labels)


def test_a_measurable_agreement_is_told_without_the_warning(tmp_path: Path) -> None:
    corpus = a_corpus(60)
    (guess,) = label(corpus, labelling(tmp_path))
    assert "\nNot measurable with this model" in guess.datasheet.read_text()
    llm = corpus.table["text_id"].map(guess.labels.labels["llm_label"])
    (done,) = label(replace(corpus, table=corpus.table.assign(crowd_label=llm)), labelling(tmp_path))
    assert done.report.usage.requests == 0
    assert done.lines()[1:3] == ["  agreement with the crowd", "    PCC            1.0000 [1.000, 1.000]"]
    assert "not measurable" not in done.datasheet.read_text().lower()


def test_published_labels_are_told_of_before_anything_is_asked(tmp_path: Path, caplog) -> None:
    corpus = replace(a_corpus(), name="newsemp18", label_corpora=("newsemp18",))
    engine, log = engine_with_log(tmp_path)
    for llm, warned in (("scripted", 0), ("llama", 1)):
        caplog.clear()
        dry_run(corpus, labelling(tmp_path, llm=llm, engine=engine))
        assert not log.exists()
        assert (
            caplog.text.count("newsemp18/llama/scale_aware/batson_empathy: labels of this name are published already")
            == warned
        )
    label(corpus, labelling(tmp_path, llm="llama", engine=engine))
    assert caplog.text.count("published already") == 2


def test_a_dry_run_makes_no_store(tmp_path: Path) -> None:
    what = labelling(tmp_path)
    dry_run(a_corpus(), what)
    assert not what.store.exists()


def test_a_random_draw_is_part_of_the_whole(tmp_path: Path) -> None:
    (some,) = label(a_corpus(), labelling(tmp_path, limit=7, limit_seed=3))
    assert some.labels.labels.index.tolist() != [f"t{i:02d}" for i in range(7)]
    (whole,) = label(a_corpus(), labelling(tmp_path))
    assert (some.report.usage.requests, whole.report.usage.requests) == (7, 33)


def test_limit_takes_the_first_texts(tmp_path: Path) -> None:
    (done,) = label(a_corpus(), labelling(tmp_path, limit=7))
    assert done.labels.labels.index.tolist() == [f"t{i:02d}" for i in range(7)]


def test_settings_are_checked_together(tmp_path: Path) -> None:
    with pytest.raises(InputError) as refused:
        labelling(tmp_path, limit=0, readout="guess", export="labels.xlsx")
    assert [problem.partition(":")[0] for problem in refused.value.problems] == ["readout", "limit", "export"]
    with pytest.raises(InputError, match=r"samples=3 at .* would be the same answer each time"):
        labelling(tmp_path, samples=3)
    with pytest.raises(InputError, match="readout=digits reads one digit"):
        labelling(tmp_path, scale=scale("phq9"), prompt=prompt("plain"))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"limit": "ten"}, "limit: expected null or a whole number of at least 1, found 'ten'"),
        ({"samples": 1.5}, "samples: expected a whole number of at least 1, found 1.5"),
        ({"limit_seed": "abc"}, "limit_seed: expected null or a whole number of at least 0, found 'abc'"),
        ({"progress": "maybe"}, "progress: expected true, false, or null for a bar on a terminal, found 'maybe'"),
        ({"export": 5}, "export: expected null or a file ending in .csv, .tsv, .parquet, .jsonl, found 5"),
    ],
)
def test_settings_of_the_wrong_kind_are_named(settings: dict, said: str) -> None:
    with pytest.raises(InputError) as refused:
        Options(**settings)
    assert refused.value.problems == (said,)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"temperature": "hot"}, "sampling.temperature: expected null or a number from 0 to 2, found 'hot'"),
        ({"max_tokens": 2.5}, "sampling.max_tokens: expected null or a whole number of at least 1, found 2.5"),
        ({"seed": "abc"}, "sampling.seed: expected null or a whole number of at least 0, found 'abc'"),
    ],
)
def test_sampling_of_the_wrong_kind_is_named(settings: dict, said: str) -> None:
    with pytest.raises(InputError) as refused:
        Sampling(**settings)
    assert refused.value.problems == (said,)


@pytest.mark.parametrize(("of", "warned"), [("batson_empathy", 0), ("gad7", 1), ("phq9", 1)])
def test_a_scale_without_translations_is_reported_before_it_is_asked(
    tmp_path: Path, of: str, warned: int, caplog
) -> None:
    dry_run(a_corpus(), labelling(tmp_path, scale=scale(of), prompt=prompt("multilingual")))
    warning = f"scale={of} has no translation into de, es, bn: prompt=multilingual states its task"
    assert caplog.text.count(warning) == warned
    caplog.clear()
    dry_run(a_corpus(), labelling(tmp_path, scale=scale(of), prompt=prompt("scale_aware")))
    assert "has no translation" not in caplog.text


def test_few_shot_prompts_hold_training_texts_and_datasheets_do_not(tmp_path: Path) -> None:
    (done,) = label(a_corpus(), labelling(tmp_path, prompt=prompt("few_shot")))
    training = a_corpus().of_split("train")
    assert not any(f"{text}\n" in done.datasheet.read_text() for text in training["text"])
    assert done.datasheet.read_text().count("of the training split)") == 4


def test_a_split_that_evaluates_on_examples_refuses_their_labels(tmp_path: Path) -> None:
    corpus, what = a_corpus(), labelling(tmp_path, prompt=prompt("few_shot"))
    (done,) = label(corpus, what)
    shots = Shots(corpus, what.prompt.shots)
    shown = {example.text.text_id for text in CorpusTexts(corpus.table) for example in shots.of(text)}
    assert len(shown) > 4  # some texts are shown others than the usual ones
    assert done.labels.examples == {f"small:{text_id}" for text_id in shown}
    assert f"Rated texts shown in prompts, {len(shown)} in all: small:" in done.datasheet.read_text()
    done.labels.refuse_evaluated(corpus.whole_ids(corpus.of_split("val", "test")))
    with pytest.raises(
        InputError, match=rf"showed the LLM the crowd labels of {len(shown)} texts that this split eval"
    ):
        done.labels.refuse_evaluated(corpus.whole_ids(corpus.of_split("train")))
    (plain,) = label(corpus, labelling(tmp_path))
    assert averaged("both", {"few": done.labels, "plain": plain.labels}).examples == done.labels.examples
    assert joined([done.labels, plain.labels], ["a:", "b:"]).examples == done.labels.examples


@pytest.mark.parametrize("samples", [1, 3])
def test_scores_of_plain_texts_are_a_table(tmp_path: Path, samples: int) -> None:
    corpus = corpus_of([f"story {i}" for i in range(30)], scale())
    what = labelling(
        tmp_path, engine=Scripted(faults={"refused": 0.5}), samples=samples, sampling=Sampling(0.7)
    )  # fmt: skip
    (done,) = label(corpus, what)
    table = scored(what, done)
    spread = ["spread"] if samples > 1 else []
    assert table.columns.tolist() == ["score", *spread, *(item.name for item in scale().items), "status"]
    assert table.index.tolist() == corpus.table["text_id"].tolist()
    assert (table["score"].notna() == (table["status"] == "ok")).all()
    assert set(table["status"]) == {"ok", "refused"} if samples == 1 else "ok" in set(table["status"])
    assert table["score"].dropna().tolist() == done.labels.labels["llm_label"].reindex(table.index).dropna().tolist()
