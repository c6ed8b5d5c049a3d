"""Splits: shares, folds, what stays together, and what is refused."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import KFold as PlainKFold

from invitro.data import Holdout, KFold, Published, SplitRule, Undivided, refuse_shared_texts
from invitro.errors import InputError


def table(groups: list[int], texts: list[int] | None = None, labelled: list[bool] | None = None) -> pd.DataFrame:
    """Return a canonical table; equal numbers in `texts` mean the same text, but for white space."""
    count = len(groups)
    texts = texts if texts is not None else list(range(count))
    labels = np.where(labelled if labelled is not None else [True] * count, 4.0, np.nan)
    return pd.DataFrame(
        {
            "text_id": [f"t{row}" for row in range(count)],
            "text": [f"Essay {text}." + " " * (row % 3) for row, text in enumerate(texts)],
            "group_id": [f"w{group}" for group in groups],
            "split": ["train" if label == label else "unlabelled" for label in labels],
            "crowd_label": labels,
        },
        index=pd.Index(range(100, 100 + count)),
    )


@st.composite
def tables(draw: st.DrawFn) -> pd.DataFrame:
    """Tables with shared authors, repeated texts and unlabelled rows, large enough to divide."""
    count = draw(st.integers(20, 60))
    lots = np.random.default_rng(draw(st.integers(0, 2**20)))
    # Ten separate rows guarantee enough authors that no repeated text ties together.
    return table(
        [*range(10), *(10 + lots.integers(0, 12, count))],
        [*range(10), *(10 + lots.integers(0, 2 * count, count))],
        [*[True] * 10, *(lots.random(count) < 0.8)],
    )


def units(rows: pd.DataFrame, column: str) -> "pd.Series[Any]":
    return rows["text"].str.strip() if column == "text" else rows[column]


@settings(max_examples=30, deadline=None)
@given(tables(), st.booleans(), st.integers(0, 2**32 - 1))
@pytest.mark.parametrize("rule", [Holdout, KFold])
def test_every_split_is_disjoint_whole_and_reproducible(
    rule: type[Holdout] | type[KFold], rows: pd.DataFrame, grouped: bool, seed: int
) -> None:
    options: dict[str, Any] = {"folds": 5, "fold": seed % 5} if rule is KFold else {}
    split = rule(grouped=grouped, seed=seed, **options).assign(rows)
    assert split.index.equals(rows.index)
    assert split.equals(rule(grouped=grouped, seed=seed, **options).assign(rows))
    labelled = rows["crowd_label"].notna()
    assert (split[~labelled] == "unlabelled").all()
    assert set(split[labelled]) == {"train", "val", "test"}
    together = ["text", "group_id"] if grouped else ["text"] if rule is Holdout else []
    for column in together:
        assert split[labelled].groupby(units(rows[labelled], column)).nunique().max() == 1


@settings(max_examples=30, deadline=None)
@given(tables(), st.booleans())
def test_identical_texts_never_leak_from_training(rows: pd.DataFrame, grouped: bool) -> None:
    labelled = rows[rows["crowd_label"].notna()]
    split = Holdout(grouped=grouped).assign(labelled)
    refuse_shared_texts(labelled[split == "train"], labelled[split.isin(["val", "test"])], "mine")
    refuse_shared_texts(labelled[split == "val"], labelled[split == "test"], "mine")


@settings(max_examples=20, deadline=None)
@given(st.integers(30, 80), st.integers(2, 10), st.integers(0, 1000), st.booleans())
def test_ungrouped_folds_are_those_of_scikit_learn(count: int, folds: int, seed: int, shuffle: bool) -> None:
    rows = table([0] * count, labelled=[row % 7 != 3 for row in range(count)])
    labelled = np.flatnonzero(rows["crowd_label"].notna())
    plain = PlainKFold(folds, shuffle=shuffle, random_state=seed if shuffle else None)
    for fold, (_, test) in enumerate(plain.split(labelled)):
        split = KFold(folds, fold, shuffle=shuffle, seed=seed).assign(rows)
        assert np.flatnonzero(split == "test").tolist() == labelled[test].tolist()


@pytest.mark.parametrize("grouped", [False, True])
def test_folds_test_each_text_once(grouped: bool) -> None:
    rows = table([row // 3 for row in range(60)])
    tested = [KFold(5, fold, grouped=grouped).assign(rows) == "test" for fold in range(5)]
    assert (np.sum(tested, axis=0) == 1).all()


def test_folds_without_validation_train_on_all_other_texts() -> None:
    counts = KFold(5, 2, val=0.0, grouped=True).assign(table([row // 2 for row in range(50)])).value_counts()
    assert counts.to_dict() == {"train": 40, "test": 10}


def test_validation_of_ungrouped_folds_shares_no_text_with_training() -> None:
    rows = table([0] * 40, [row // 2 for row in range(40)])
    for fold in range(10):
        split = KFold(10, fold).assign(rows)
        refuse_shared_texts(rows[split == "train"], rows[split == "val"], "mine")


@pytest.mark.parametrize("grouped", [False, True])
def test_shares(grouped: bool) -> None:
    rows = table([row // 5 for row in range(1000)])
    counts = Holdout(val=0.1, test=0.3, grouped=grouped).assign(rows).value_counts()
    assert counts.to_dict() == {"train": 600, "test": 300, "val": 100}


@pytest.mark.parametrize("rule", [Holdout, KFold])
def test_the_seed_matters(rule: type[Holdout] | type[KFold]) -> None:
    rows = table(list(range(100)))
    assert not rule(seed=1).assign(rows).equals(rule(seed=2).assign(rows))
    assert rule(seed=0).assign(rows).equals(rule(seed=0).assign(rows))


def test_a_text_of_two_authors_keeps_both_together() -> None:
    # The authors 0 and 1 share a text, 1 and 2 another: all three stay together.
    rows = table([0, 0, 1, 1, 2, 2, *range(3, 20)], [0, 1, 1, 2, 2, 3, *range(4, 21)])
    for seed in range(20):
        assert Holdout(seed=seed).assign(rows).head(6).nunique() == 1
        assert KFold(3, seed % 3, grouped=True, seed=seed).assign(rows).head(6).nunique() == 1


def test_published_keeps_the_table_s_splits_without_unlabelled_texts() -> None:
    rows = table([0, 1, 2, 3], labelled=[True, True, False, True]).assign(split=["train", "val", "test", "unlabelled"])
    assert Published().assign(rows).tolist() == ["train", "val", "unlabelled", "unlabelled"]


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        (
            ["train", "train"],
            r"no published validation or test .*\(2 train, 0 val, 0 test, 0 unlabelled\); choose data/",
        ),
        (["train", "unlabelled"], "choose data/split=holdout or data/split=kfold"),
        (["val", "test"], r"no published training texts \(0 train, 1 val, 1 test, 0 unlabelled\)"),
    ],
)
def test_a_corpus_without_published_splits_is_refused(splits: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Published().assign(table([0, 1]).assign(split=splits))


@pytest.mark.parametrize(
    ("rule", "options", "messages"),
    [
        (Holdout, {"val": 0}, ["val: expected a share above 0 and below 1, found 0"]),
        (Holdout, {"val": -1, "test": "x", "seed": -1}, ["val: expected", "test: expected", "seed: expected a whole"]),
        (
            Holdout,
            {"val": 0.5, "test": 0.5},
            ["there are texts for training, found 0.5 + 0.5"],
        ),
        (Holdout, {"seed": 1.5}, ["seed: expected a whole number from 0 to 2^32 - 1, found 1.5"]),
        (KFold, {"folds": 1}, ["folds: expected a whole number of at least 2, found 1"]),
        (
            KFold,
            {"fold": 10},
            ["fold: expected a whole number from 0 to 9, since data.split.folds=10 are counted from 0, found 10"],
        ),
        (KFold, {"fold": -1, "val": 1.0}, ["val: expected a share", "found -1"]),
        (KFold, {"fold": "first"}, ["found 'first'"]),
    ],
)
def test_wrong_arguments_are_refused_together(rule: type, options: dict[str, Any], messages: list[str]) -> None:
    with pytest.raises(InputError) as refused:
        rule(**options)
    assert len(refused.value.problems) == len(messages)
    for message in messages:
        assert message in str(refused.value)


@pytest.mark.parametrize(
    ("rule", "rows", "message"),
    [
        (Holdout(), table([0, 0, 0, 1]), r"4 labelled texts, 2 authors .* or set data.split.grouped=false"),
        (Holdout(grouped=False), table([0, 1, 2], [0, 0, 1]), "3 labelled texts, 2 different texts to divide"),
        (Holdout(), table([0, 1, 2], labelled=[False] * 3), "0 labelled texts, 0 authors"),
        (KFold(), table(list(range(9))), "too small for 10 folds: it has 9 labelled texts, 9 different texts"),
        (KFold(3, grouped=True), table([0, 0, 1, 1]), "too small for 3 folds: it has 4 labelled texts, 2 authors"),
        (KFold(2), table([0, 1]), "too small for training and validation outside the test texts: it has 1 labelled"),
    ],
)
def test_a_corpus_that_is_too_small_is_refused_with_numbers(rule: SplitRule, rows: pd.DataFrame, message: str) -> None:
    with pytest.raises(InputError, match=message):
        rule.assign(rows)


def test_the_smallest_corpora_leave_no_split_empty() -> None:
    assert sorted(Holdout(val=0.2, test=0.7).assign(table([0, 1, 2]))) == ["test", "train", "val"]
    assert sorted(KFold(3, 2, grouped=True).assign(table([0, 1, 2]))) == ["test", "train", "val"]


def test_shared_texts_are_refused_with_their_ids() -> None:
    rows = table(list(range(14)), [*range(7), *range(7)])
    with pytest.raises(InputError) as refused:
        refuse_shared_texts(rows.head(7), rows.tail(7), "mine.csv")
    message = str(refused.value)
    assert message.startswith("mine.csv: ")
    assert "found 7 in both: t0 = t7, t1 = t8, t2 = t9, t3 = t10, t4 = t11 and 2 more" in message
    assert "t5" not in message
    assert "allow_shared_texts=true" in message


def test_texts_that_differ_pass() -> None:
    rows = table(list(range(4)))
    refuse_shared_texts(rows.head(2), rows.tail(2), "mine.csv")
    refuse_shared_texts(rows.head(2), rows.head(0), "mine.csv")
    refuse_shared_texts(rows.head(0), rows.head(2), "mine.csv")


def test_undivided_has_no_validation_and_no_test() -> None:
    rows = table([0, 1, 2], labelled=[True, False, True]).assign(split=["test", "test", "val"])
    assert Undivided().assign(rows).tolist() == ["train", "unlabelled", "train"]
