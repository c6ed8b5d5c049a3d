"""Drift inside a label set: which parts differ, and when nothing can be said."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from prompting import scale
from scipy.stats import ttest_ind

from invitro.labels import LabelSource
from invitro.labels.answers import Answer, SetInfo, Use, text_hash
from invitro.labels.drift import drift, drift_of, drift_warning, origins_of
from invitro.labels.store import LabelStore

IDS = pd.Index([f"t{number:03d}" for number in range(120)])
SPLIT = pd.DataFrame({"split": ["train"] * 80 + ["test"] * 40}, index=IDS)
OWN = pd.Series(IDS, index=IDS)


def scores(shift: float, seed: int = 0) -> "pd.Series[float]":
    """Return scores that are shifted on the last 40 texts."""
    return pd.Series(np.random.default_rng(seed).normal(4, 1, 120) + shift * (np.arange(120) >= 80), index=IDS)


def test_means_spreads_and_differences_of_parts() -> None:
    labels = scores(0.4)
    train, test = drift(labels, SPLIT, OWN)
    assert (train.by, train.part, train.n, test.part, test.n) == ("split", "train", 80, "test", 40)
    assert [list(part.texts) for part in (train, test)] == [list(IDS[:80]), list(IDS[80:])]
    assert (test.mean, test.sd) == (pytest.approx(labels[80:].mean()), pytest.approx(labels[80:].std(ddof=0)))
    assert (
        test.apart.value == pytest.approx(labels[80:].mean() - labels[:80].mean()) == pytest.approx(-train.apart.value)
    )
    # With an author for every text it is nearly Welch's interval, at 97.5 % for two parts.
    welch = ttest_ind(labels[80:], labels[:80], equal_var=False).confidence_interval(0.975)
    assert (test.apart.low, test.apart.high) == (
        pytest.approx(welch.low, abs=0.03),
        pytest.approx(welch.high, abs=0.03),
    )
    assert not test.rated


@pytest.mark.parametrize(
    ("shift", "crowd_shift", "drifts"),
    [(1.5, None, True), (0.0, None, False), (1.5, 1.5, False), (1.5, 0.0, True), (0.0, 1.5, True)],
    ids=["no crowd", "no drift", "texts differ", "labels differ", "against the crowd's"],
)
def test_where_the_crowd_rated_both_sides_it_decides(shift: float, crowd_shift: float | None, drifts: bool) -> None:
    crowd = None if crowd_shift is None else scores(crowd_shift, seed=1)
    parts = list(drift(scores(shift), SPLIT, OWN, crowd))
    assert [part.drifts for part in parts] == [drifts, drifts]
    warning = drift_warning("a/b", parts)
    assert (warning is not None) == drifts
    if warning is not None:
        assert warning.startswith("a/b: labels drift inside this set. Split train (80 texts): mean ")
        assert ("minus the crowd's by" in warning) == (crowd is not None)


def test_parts_of_some_texts_are_those_of_these_alone() -> None:
    labels = pd.DataFrame({"llm_label": scores(0.0), "answered": [f"2026-01-{1 + n // 6:02d}T" for n in range(120)]})
    table = pd.DataFrame({"text_id": IDS[:12], "crowd_label": 4.0, "group_id": IDS[:12]})
    parts = list(drift_of(labels, table, ["c"]))  # of 20 days, on two of which these texts were labelled
    assert [(part.part, list(part.texts)) for part in parts] == [
        ("2026-01-01", list(IDS[:6])),
        ("2026-01-02", list(IDS[6:12])),
    ]


def test_texts_by_one_author_are_not_independent() -> None:
    authors = pd.Series([f"a{number // 10}" for number in range(120)], index=IDS)
    by_author = pd.Series(np.repeat(np.random.default_rng(3).normal(4, 1, 12), 10), index=IDS)
    half = pd.DataFrame({"split": np.where(np.arange(120) % 20 < 10, "x", "y")}, index=IDS)
    alone = next(iter(drift(by_author, half, OWN)))
    grouped = next(iter(drift(by_author, half, authors)))
    assert np.isnan(grouped.apart.low)  # six authors on a side: their variance would be a guess
    assert not grouped.drifts
    assert alone.apart.low < alone.apart.high


def test_without_drift_a_warning_is_rare() -> None:
    wrong = sum(any(part.drifts for part in drift(scores(0.0, seed), SPLIT, OWN)) for seed in range(200))
    assert wrong <= 16  # 5 % of 200 and two standard errors


def test_what_divides_a_set() -> None:
    labels = pd.DataFrame(
        {
            "llm_label": 3.0,
            "answered": [f"2026-{1 + n // 40:02d}-{1 + n % 20:02d}T10:00:00Z" for n in range(120)],
            "file": ["one.tsv"] * 80 + ["two.tsv"] * 40,  # the same division as the split
            "batch": "",
            "revision": [f"gpt-{n // 60} fp_{n}" for n in range(120)],  # a fingerprint for every answer
        },
        index=IDS,
    )
    origins = origins_of(labels, SPLIT["split"])
    assert list(origins) == ["split", "revision", "day"]
    assert origins["day"].unique().tolist() == ["2026-01", "2026-02", "2026-03"]
    assert origins["revision"].unique().tolist() == ["gpt-0", "gpt-1"]
    assert list(origins_of(labels.assign(llm_label=np.nan), SPLIT["split"])) == []


INFO = SetInfo(
    "essays", "gpt", "gpt-4o", "", "plain", "t1", "batson_empathy",
    '{"names": ["score"], "low": 1, "high": 7, "aggregation": "mean"}', "text", "{}",
)  # fmt: skip


@pytest.mark.parametrize("shift", [0.0, 2.0])
def test_whoever_uses_a_set_that_drifts_is_warned(tmp_path: Path, caplog, shift: float) -> None:
    labels = scores(0.0).clip(1, 4) + shift * (np.arange(120) % 2)
    table = pd.DataFrame(
        {
            "text_id": IDS,
            "text": "x",
            "group_id": IDS,
            "split": "train",
            "crowd_label": scores(0, 2).clip(1, 7).to_numpy(),
        }
    )
    with LabelStore(tmp_path / "labels.sqlite") as store:
        set_id = store.open_set(INFO)
        for number, (text_id, score) in enumerate(labels.items()):
            store.use(set_id, [Use(text_id, 0, text_id, text_hash("x"))])
            batch = f"batch-{number % 2}.jsonl"
            store.put([Answer(text_id, 0, "ok", "", items=(score,), score=score, batch=batch, revision="gpt-4o-05")])
    source = LabelSource("gpt", store=str(tmp_path / "labels.sqlite"))
    labels = source.find(["essays"], table, scale(), "plain", folder=None)
    assert [part.part for part in drift_of(labels.labels, table, ["essays"])] == ["batch-0.jsonl", "batch-1.jsonl"]
    messages = [record.message for record in caplog.records]
    assert len(messages) == (shift > 0)
    assert all(message.startswith("essays/gpt/plain/batson_empathy/text: labels drift") for message in messages)
    assert all("Batch batch-1.jsonl (60 texts)" in message for message in messages)
