"""What is read and decided before a model loads: pools of every kind, labels by key, shared texts."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from short_runs import COLUMNS, CORRECTION, NONE, divided, material
from support import small_corpus

from invitro.application import Application
from invitro.data import KFold, TableFile, Undivided
from invitro.errors import InputError
from invitro.labels import LabelSource
from invitro.models import PLM
from invitro.models.features import Embedded, FrozenEncoder
from invitro.training.results import doubts


def test_labels_are_joined_by_key_whatever_the_file_s_order(corpus_csv: Path, tmp_path: Path) -> None:
    frame = pd.read_csv(corpus_csv)
    labels = frame[["id", "gpt"]].set_axis(["text_id", "llm_label"], axis=1).sample(frac=1, random_state=1)
    foreign = pd.DataFrame({"text_id": ["x1", "x2"], "llm_label": [1.0, 7.0]})
    pd.concat([foreign, labels.iloc[5:]]).to_csv(tmp_path / "gpt.csv", index=False)
    by_file = material(corpus_csv, source=LabelSource("gpt", labels=str(tmp_path / "gpt.csv")))
    by_column = material(corpus_csv)
    missing = set(labels["text_id"].iloc[:5])
    one, other = (p.labels.table.set_index("text_id")["llm_label"] for p in (by_file, by_column))
    assert one.drop(missing, errors="ignore").equals(other.drop(missing, errors="ignore"))
    assert by_file.labels.without_llm_label == len(missing & set(other.index))
    assert "have no LLM label" in by_file.description


def test_a_table_as_the_pool(corpus_csv: Path, tmp_path: Path) -> None:
    pool = small_corpus(30, seed=9).assign(id=lambda t: t["id"])[["id", "essay", "gpt"]]
    pool["essay"] = "pool " + pool["essay"]
    pool.to_csv(tmp_path / "more.csv", index=False)
    reader = TableFile(str(tmp_path / "more.csv"), {"text_id": "id", "text": "essay"}, Undivided(), name="more")
    application = Application("augmentation", False, True, pool="more.csv")
    labels = material(corpus_csv, application=application, pool_reader=reader).labels
    added = labels.table[labels.table["origin"] == "llm"]
    assert labels.augmented == len(added) == 30
    assert added["text_id"].str.startswith("more:").all()  # the pool's t001 is not the corpus's t001
    expected = pool.set_index("more:" + pool["id"])["gpt"]
    assert (added.set_index("text_id")["label"] == expected[added["text_id"]]).all()
    assert (labels.table["origin"] == "crowd").sum() == len(
        material(corpus_csv, application=Application("none", False, False, pool="none")).training
    )


def test_a_corpus_s_unlabelled_texts_as_the_pool(corpus_csv: Path) -> None:
    frame = pd.read_csv(corpus_csv)
    frame["where"] = ["train"] * 30 + ["val"] * 10 + ["test"] * 10 + ["unlabelled"] * 10
    frame.loc[frame["where"] == "unlabelled", "empathy"] = None
    frame.to_csv(corpus_csv, index=False)
    application = Application("both", True, True, pool="unlabelled")
    labels = material(corpus_csv, application, reader=divided(corpus_csv, "where")).labels
    assert labels.augmented == 10
    assert set(labels.table["text_id"]) >= {f"t{i:03d}" for i in range(50, 60)}


def test_a_pool_text_that_is_also_in_test_is_refused_unless_allowed(corpus_csv: Path, tmp_path: Path) -> None:
    tested = material(corpus_csv).corpus.of_split("test").iloc[0]
    pd.DataFrame({"id": ["p1"], "essay": [tested["text"] + " "], "gpt": [3.0]}).to_csv(tmp_path / "p.csv", index=False)
    reader = TableFile(str(tmp_path / "p.csv"), {"text_id": "id", "text": "essay"}, Undivided(), name="p")
    settings = {"application": Application("both", True, True, pool="p.csv"), "pool_reader": reader}
    with pytest.raises(InputError, match="allow_shared_texts=true") as refused:
        material(corpus_csv, **settings)
    assert tested["text_id"] in str(refused.value)
    assert "p:p1" in str(refused.value)
    assert material(corpus_csv, **settings, allow_shared_texts=True).labels.augmented == 1


def test_evaluation_rows_are_the_corpus_s(corpus_csv: Path) -> None:
    plain = material(corpus_csv, application=NONE)
    for application in (CORRECTION, Application("both", True, True)):
        other = material(corpus_csv, application=application, alpha=0.0)
        for split in ("val", "test"):
            assert other.corpus.of_split(split).to_csv() == plain.corpus.of_split(split).to_csv()
        assert other.evaluation_fingerprint == plain.evaluation_fingerprint


def test_none_needs_no_llm_labels(corpus_csv: Path) -> None:
    nobody = LabelSource("nobody")
    assert material(corpus_csv, application=NONE, source=nobody).label_sets == ()
    with pytest.raises(InputError, match="No LLM labels by llm=nobody"):
        material(corpus_csv, source=nobody)


def test_a_quantile_instead_of_alpha(corpus_csv: Path) -> None:
    prepared = material(corpus_csv, application=Application("correction", True, False, pool="none"), alpha_quantile=0.1)
    assert prepared.labels.replaced == int(0.1 * len(prepared.training))
    assert f"alpha={prepared.labels.facts['alpha']:g}" in prepared.description
    assert prepared.applied["alpha"] == prepared.labels.facts["alpha"]


def test_spreads_are_joined_by_key_and_missing_ones_refused(corpus_csv: Path, tmp_path: Path) -> None:
    frame = pd.read_csv(corpus_csv)
    labels = frame[["id", "gpt"]].set_axis(["text_id", "llm_label"], axis=1).assign(spread=[0.1, 2.0] * 30)
    labels.sample(frac=1, random_state=2).to_csv(tmp_path / "gpt.csv", index=False)
    sure = Application("sure", True, False, pool="none", max_spread=1.0)
    prepared = material(
        corpus_csv, source=LabelSource("gpt", labels=str(tmp_path / "gpt.csv")), application=sure, alpha=0
    )
    rows = prepared.labels.table
    sure_ones = rows["text_id"].isin(labels.loc[labels["spread"] < 1, "text_id"])
    assert (rows["origin"] == "llm").equals(sure_ones & (rows["crowd_label"] != rows["llm_label"]))
    with pytest.raises(InputError, match=r"application\.max_spread=1 needs the LLM's spread, which .* does not have"):
        material(corpus_csv, application=sure)


def test_a_calibrated_pool_from_elsewhere_uses_the_corpus_s_own_labels(corpus_csv: Path, tmp_path: Path) -> None:
    pool = small_corpus(30, seed=9)[["id", "essay", "gpt"]]
    pool["essay"] = "pool " + pool["essay"]
    pool.to_csv(tmp_path / "more.csv", index=False)
    reader = TableFile(str(tmp_path / "more.csv"), {"text_id": "id", "text": "essay"}, Undivided(), name="more")
    how = Application("augmentation", False, True, pool="more.csv", calibration="moment")
    table = material(corpus_csv, application=how, pool_reader=reader).labels.table
    added = table["origin"] == "llm"
    assert added.sum() == 30
    crowd, llm = table.loc[~added, "crowd_label"], table.loc[~added, "llm_label"]
    assert llm.notna().all()
    mapped = crowd.mean() + crowd.std() / llm.std() * (table.loc[added, "llm_label"] - llm.mean())
    assert np.allclose(table.loc[added, "label"], mapped.clip(1, 7))


@pytest.mark.slow
def test_auto_is_resolved_before_training_and_described(corpus_csv: Path) -> None:
    small_corpus(200, authors=50).to_csv(corpus_csv, index=False)
    prepared = material(corpus_csv, application=Application("auto", True, False, pool="none", policy="auto"))
    assert prepared.choice is not None
    assert prepared.application == prepared.choice.application
    assert prepared.application.policy != "auto"
    assert "chosen by cross-validation: policy=" in prepared.description
    assert prepared.applied["name"] == "auto"
    assert prepared.applied["policy"] in {"none", "replace", "drop", "blend", "precision", "weight"}
    plain = material(corpus_csv, application=Application("none", False, False, pool="none"))
    assert prepared.evaluation_fingerprint == plain.evaluation_fingerprint


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"policy": "drop"}, "texts dropped (alpha=1)"),
        ({"policy": "weight"}, "weighted by agreement (alpha=1), equivalent to"),
        ({"policy": "blend", "blend_weight": 0.5}, "crowd labels fused (alpha=1, the LLM's mean share in all labels"),
        ({}, "crowd labels replaced (alpha=1)"),
    ],
)
def test_the_description_says_what_was_done(corpus_csv: Path, settings: dict[str, Any], words: str) -> None:
    assert words in material(corpus_csv, application=Application("x", True, False, **settings)).description


@pytest.mark.parametrize(
    ("application", "expected", "words"),
    [
        (Application("none", False, False, pool="none"), (0, 0, 0), "36 keep their crowd label; held back: 12 for"),
        (Application("none", False, False, pool_share=0.5), (18, 18, 0), "18 of 36 crowd labels set aside as the pool"),
        (Application("augmentation", False, True, pool_share=0.5), (18, 18, 18), "18 texts added from the pool with"),
        (Application("augmentation", False, True, pool_share=0.5, portion=0.5), (18, 18, 9), "9 texts added"),
        (Application("none", False, False, pool_share=0.5, pool_labels="crowd"), (0, 0, 0), "36 training texts: 36"),
    ],
)  # fmt: skip
def test_labels_that_are_given_up_added_and_kept_are_three_numbers(
    corpus_csv: Path, application: Application, expected: tuple[int, int, int], words: str
) -> None:
    prepared = material(corpus_csv, application)
    counts = prepared.crowd_labels
    assert (counts["given_up"], counts["set_aside"], counts["added"]) == expected
    assert counts["kept"] + counts["given_up"] == len(prepared.corpus.of_split("train")) == 36
    assert words in prepared.description


AUTO = [
    ("none", False, False, 15, 0, "not used: 15 unrated texts"),
    ("both", True, True, 15, 15, "15 texts added from the pool with LLM labels"),
    ("both", True, True, 0, 0, "36 training texts: 36 keep"),
]


@pytest.mark.parametrize(("name", "correction", "augmentation", "unrated", "added", "words"), AUTO)
def test_no_human_label_of_a_table_is_given_up_unasked(
    corpus_csv: Path,
    name: str,
    correction: bool,
    augmentation: bool,
    unrated: int,
    added: int,
    words: str,
) -> None:
    rows = pd.read_csv(corpus_csv, dtype="str")
    rows.assign(empathy=rows["empathy"].mask(rows.index < unrated)).to_csv(corpus_csv, index=False)
    prepared = material(corpus_csv, Application(name, correction, augmentation, pool="auto"), alpha=9)
    rated = len(rows) - unrated - len(prepared.corpus.of_split("val", "test"))
    counts = tuple(prepared.crowd_labels[key] for key in ("kept", "set_aside", "added"))
    assert counts == (rated, 0, added)
    assert words in prepared.description


def test_augmentation_of_a_table_without_unrated_texts_is_refused(corpus_csv: Path) -> None:
    with pytest.raises(InputError, match=r"here every text is rated.*application\.pool=set_aside"):
        material(corpus_csv, Application("augmentation", False, True, pool="auto"))


@pytest.mark.parametrize(
    ("settings", "alpha", "words"),
    [
        ({}, 0.1, "crowd labels (9"),
        ({"policy": "drop"}, 0.4, "are changed by alpha=0.4"),
        ({}, 6.0, "alpha=6 can never act: labels from 1 to 7 are at most 6 apart"),
        ({}, 5.9, None),
        ({}, np.inf, None),
        ({"policy": "distill"}, 0.1, None),
    ],
)
def test_thresholds_that_change_much_or_can_never_act_raise_doubts(
    corpus_csv: Path, settings: dict[str, Any], alpha: float, words: str | None
) -> None:
    how = Application("x", True, False, pool="none", **settings)
    warnings = [line for line in doubts(material(corpus_csv, how, alpha=alpha)) if "alpha=" in line]
    assert not warnings if words is None else words in " ".join(warnings)


@pytest.mark.parametrize(
    ("llm", "words"),
    [
        (lambda gpt: 8 - gpt, "LLM and crowd labels correlate at -0."),
        (lambda gpt: 1 + gpt / 7, "are they on another scale?"),
        (lambda gpt: gpt * 0 + 4, "gave all 36 texts the same label"),
        (lambda gpt: gpt, "test metrics rest on only 12 texts"),
    ],
)
def test_llm_labels_that_cannot_be_right_raise_doubts(corpus_csv: Path, llm: Any, words: str) -> None:
    frame = pd.read_csv(corpus_csv)
    frame.assign(gpt=llm(frame["gpt"])).to_csv(corpus_csv, index=False)
    prepared = material(corpus_csv, Application("correction", True, False, pool="none"))
    assert words in " ".join(doubts(prepared))
    assert prepared.label_sets[0].name == "essays/gpt"


def test_corrected_and_dropped_labels_are_given_up(corpus_csv: Path) -> None:
    replaced = material(corpus_csv, Application("correction", True, False, pool="none"), alpha=0.5)
    assert replaced.crowd_labels["given_up"] == replaced.labels.replaced > 0
    dropped = material(corpus_csv, Application("drop", True, False, pool="none", policy="drop"), alpha=0.5)
    assert dropped.crowd_labels["given_up"] == dropped.labels.dropped > 0


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["posterior", "auto"])
def test_policies_that_look_at_texts_embed_them(corpus_csv: Path, tiny_roberta: Path, policy: str) -> None:
    how = Application(policy, True, True, policy=policy)  # type: ignore[arg-type]
    encoder = FrozenEncoder(PLM(str(tiny_roberta), max_length=64))
    embedded: list[str] = []

    def embed(texts: Sequence[str]) -> Embedded:
        embedded.extend(texts)
        return encoder.embed(texts)

    prepared = material(corpus_csv, how, embed=embed)
    assert set(embedded) == set(prepared.training["text"]) | set(prepared.pool["text"])  # never the evaluation's
    assert prepared.ratings is not None
    assert list(prepared.ratings) == ["gpt"]
    assert prepared.labels.augmented == len(prepared.pool)
    if policy == "auto":
        assert prepared.choice is not None
        assert "posterior" in set(prepared.choice.table["policy"])
    else:
        assert (prepared.labels.table["origin"] != "crowd").all()
        assert "crowd_reliability" in prepared.applied


def test_labels_whose_prompts_showed_evaluation_texts_are_refused(
    corpus_csv: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = material(corpus_csv)
    tested = prepared.corpus.of_split("test")["text_id"].iloc[0]
    (label_set,) = prepared.label_sets
    for shown, refused in ((f"essays:{tested}", True), (f"other:{tested}", False)):
        labels = replace(label_set, examples=frozenset({shown}))
        monkeypatch.setattr(LabelSource, "find", lambda *_, labels=labels: labels)
        if refused:
            with pytest.raises(InputError, match=rf"the crowd labels of 1 text .*, such as '{shown}'"):
                material(corpus_csv)
        else:
            assert material(corpus_csv).labels.table.equals(prepared.labels.table)


def test_authors_on_both_sides_are_counted_and_reported(corpus_csv: Path) -> None:
    alone = material(corpus_csv, application=NONE)
    assert alone.leaks.authors == 0
    folds = material(corpus_csv, application=NONE, reader=TableFile(corpus_csv, COLUMNS, KFold(5)))
    ours, theirs = folds.training["group_id"], folds.corpus.of_split("val", "test")["group_id"]
    assert folds.leaks.authors == len(set(ours) & set(theirs)) > 0
    assert folds.leaks.texts == theirs.isin(ours).sum()
    assert any(line.startswith(f"{folds.leaks.authors} authors on both sides") for line in doubts(folds))
