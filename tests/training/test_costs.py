"""What a run cost: which LLM labels it needed, their tokens and price if the store has them, and its record."""

import json
import time
from pathlib import Path

import pandas as pd
import pytest
import torch
from short_runs import AUGMENTATION, BOTH, CORRECTION, NONE, material, recipe, trained
from support import small_corpus

from invitro.application import Application
from invitro.data import TableFile, Undivided
from invitro.labels import LabelSource
from invitro.labels.answers import Answer, SetInfo, Use, text_hash
from invitro.labels.store import LabelStore
from invitro.training.results import device_name, llm_use, processor_seconds

ITEMS = '{"names": ["warm"], "low": 1, "high": 7, "aggregation": "mean"}'


def stored(path: Path, corpus: str, frame: pd.DataFrame, cost: float = 0.001, tokens: int = 100) -> str:
    """Label a corpus: the first text's first reply was unusable, so it was asked twice."""
    info = SetInfo(corpus, "gpt", "gpt-4o", "", "scale_aware", "hash", "batson_empathy", ITEMS, "digits", "{}")
    with LabelStore(path) as store:
        set_id = store.open_set(info)
        for number, row in enumerate(frame.itertuples()):
            key = f"{corpus}/{row.id}"
            store.use(set_id, [Use(str(row.id), 0, key, text_hash(str(row.essay)))])
            spent = {"prompt_tokens": tokens, "completion_tokens": tokens // 10, "cost": cost}
            if number == 0:
                store.put([Answer(key, 0, "unparseable", "no", **spent)])
            attempt = int(number == 0)
            store.put([Answer(key, attempt, "ok", "4", items=(4.0,), score=float(row.gpt), **spent)])
    return str(path)


@pytest.mark.parametrize(
    ("application", "training", "pool"), [(CORRECTION, True, False), (AUGMENTATION, False, True), (BOTH, True, True)]
)
def test_labels_tokens_and_bill_of_stored_labels(
    corpus_csv: Path, tmp_path: Path, application: Application, training: bool, pool: bool
) -> None:
    store = stored(tmp_path / "labels.sqlite", "essays", pd.read_csv(corpus_csv))
    prepared = material(corpus_csv, application, source=LabelSource("gpt", model="gpt-4o", store=store))
    ids = [*(prepared.training["text_id"] if training else []), *(prepared.pool["text_id"] if pool else [])]
    asked = len(ids) + ("t000" in ids)
    use = llm_use(prepared)
    assert use.pop("dollars") == pytest.approx(0.001 * asked)
    assert use == {"labels": len(ids), "prompt_tokens": 100 * asked, "completion_tokens": 10 * asked}


def test_only_the_part_of_the_pool_that_is_used_counts(corpus_csv: Path, tmp_path: Path) -> None:
    store = stored(tmp_path / "labels.sqlite", "essays", pd.read_csv(corpus_csv))
    half = Application("augmentation", False, True, portion=0.5)
    prepared = material(corpus_csv, half, source=LabelSource("gpt", model="gpt-4o", store=store))
    assert 0 < llm_use(prepared)["labels"] == prepared.labels.augmented < len(prepared.pool)  # type: ignore[operator]


def test_a_pool_from_elsewhere_has_its_own_label_set(corpus_csv: Path, tmp_path: Path) -> None:
    pool = small_corpus(30, seed=9)
    pool["essay"] = "pool " + pool["essay"]
    pool.to_csv(tmp_path / "more.csv", index=False)
    store = stored(tmp_path / "labels.sqlite", "essays", pd.read_csv(corpus_csv), tokens=100)
    stored(tmp_path / "labels.sqlite", "more", pool, tokens=1000)
    reader = TableFile(str(tmp_path / "more.csv"), {"text_id": "id", "text": "essay"}, Undivided(), name="more")
    source = LabelSource("gpt", model="gpt-4o", store=store)
    prepared = material(corpus_csv, Application("both", True, True, pool="more.csv"), source=source, pool_reader=reader)
    use = llm_use(prepared)
    assert use["labels"] == len(prepared.training) + 30
    retried = "t000" in set(prepared.training["text_id"])
    assert use["prompt_tokens"] == 100 * (len(prepared.training) + retried) + 1000 * 31


def test_unknown_costs_are_none_and_without_an_llm_they_are_0(corpus_csv: Path, tmp_path: Path) -> None:
    unknown = {"prompt_tokens": None, "completion_tokens": None, "dollars": None}
    of_column = material(corpus_csv, CORRECTION, source=LabelSource("gpt", column="gpt"))
    assert llm_use(of_column) == {"labels": len(of_column.training)} | unknown
    store = stored(tmp_path / "labels.sqlite", "essays", pd.read_csv(corpus_csv), cost=0.0)  # an engine without a price
    use = llm_use(material(corpus_csv, CORRECTION, source=LabelSource("gpt", model="gpt-4o", store=store)))
    assert use["dollars"] is None
    assert use["prompt_tokens"]
    none = llm_use(material(corpus_csv, NONE, source=LabelSource("gpt", column="gpt")))
    assert none == {"labels": 0, "prompt_tokens": 0, "completion_tokens": 0, "dollars": 0}


def test_the_cost_of_an_ensemble_is_that_of_its_members(corpus_csv: Path, tmp_path: Path) -> None:
    frame = pd.read_csv(corpus_csv)
    store = stored(tmp_path / "labels.sqlite", "essays", frame)
    with LabelStore(store) as opened:
        info = SetInfo("essays", "llama", "l", "", "scale_aware", "hash", "batson_empathy", ITEMS, "digits", "{}")
        set_id = opened.open_set(info)
        for row in frame.itertuples():
            opened.use(set_id, [Use(str(row.id), 0, f"l/{row.id}", text_hash(str(row.essay)))])
            answer = Answer(f"l/{row.id}", 0, "ok", "4", items=(4.0,), score=4.0, prompt_tokens=7, completion_tokens=1)
            opened.put([answer])
    prepared = material(corpus_csv, CORRECTION, source=LabelSource("ensemble", members=["gpt", "llama"], store=store))
    n, retried = len(prepared.training), "t000" in set(prepared.training["text_id"])
    assert llm_use(prepared)["prompt_tokens"] == 100 * (n + retried) + 7 * n


def test_processor_time_is_that_of_work() -> None:
    started = processor_seconds()
    time.sleep(0.3)
    assert processor_seconds() - started < 0.25
    until = time.process_time() + 0.3
    while time.process_time() < until:
        pass
    assert processor_seconds() - started >= 0.25


def test_devices_have_names() -> None:
    assert device_name(torch.device("cpu")) == "cpu"


def test_a_run_s_record_has_its_cost(corpus_csv: Path, tiny_roberta: Path, tmp_path: Path) -> None:
    prepared = material(corpus_csv, CORRECTION, source=LabelSource("gpt", column="gpt"))
    trained(prepared, recipe(tiny_roberta, epochs=1), tmp_path / "run")
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    cost = metrics["cost"]
    assert cost["device"] == "cpu"
    assert cost["processor_seconds"] > 0
    assert cost["llm"] == llm_use(prepared)
