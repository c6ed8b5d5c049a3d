"""Label issues that cleanlab finds, and the training labels without them."""

import numpy as np
import pandas as pd
import pytest
from short_runs import material
from support import small_corpus

from invitro.errors import InputError
from invitro.training.prepare import Prepared, cleaned, label_issues

pytest.importorskip("cleanlab", reason="the extra cleanlab is not installed")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """Return labels on which correction and augmentation have both acted."""
    path = tmp_path_factory.mktemp("cleaning") / "essays.csv"
    small_corpus(100, 25).to_csv(path, index=False)
    return material(path, alpha=1.5)


def wrong_labels(n: int = 200) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Return texts, labels, and which of those were replaced by the scale's other end."""
    rng = np.random.default_rng(0)
    truth = rng.uniform(2, 6, n)
    texts = [
        " ".join(
            rng.choice(["sad", "moved"] if high else ["bored", "news"]) for high in rng.random(60) < (level - 1) / 6
        )
        for level in truth
    ]
    wrong = np.arange(n) % 10 == 0
    return texts, np.where(wrong, np.where(truth < 4, 7.0, 1.0), truth), wrong


def test_wrong_labels_are_found() -> None:
    texts, labels, wrong = wrong_labels()
    before = np.random.get_state()[1].copy()  # type: ignore[union-attr]
    flagged = label_issues(texts, labels, seed=0)
    assert (np.random.get_state()[1] == before).all()  # type: ignore[index]  # other random draws are not disturbed
    assert flagged[wrong].mean() > 0.8
    assert flagged[~wrong].mean() < 0.15  # it takes away a fifth of the labels at most
    assert (label_issues(texts, labels, seed=0) == flagged).all()


def test_counts_are_those_of_the_texts_that_stay(prepared: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    table = prepared.labels.table
    monkeypatch.setattr("invitro.training.prepare.label_issues", lambda *_: np.arange(len(table)) % 3 == 0)
    remaining = cleaned(prepared, "cleanlab", 0)
    labels = remaining.labels
    left = table[np.arange(len(table)) % 3 != 0].reset_index(drop=True)
    pd.testing.assert_frame_equal(labels.table, left)
    assert prepared.labels.replaced > labels.replaced > 0
    assert prepared.labels.augmented > labels.augmented > 0
    assert (labels.table["origin"] == "llm").sum() == labels.replaced + labels.augmented
    assert labels.augmented == labels.table["crowd_label"].isna().sum()
    assert labels.fingerprint != prepared.labels.fingerprint
    assert remaining.evaluation_fingerprint == prepared.evaluation_fingerprint
    assert remaining.description.startswith(f"{len(left)} training texts")
    assert remaining.description.endswith(
        f"; {len(table) - len(left)} texts left out whose labels looked wrong to cleanlab."
    )
    assert cleaned(prepared, "none", 0) is prepared


def test_too_few_texts_are_refused() -> None:
    with pytest.raises(InputError, match=r"fit\.clean=cleanlab: expected at least 20 training texts, found 19"):
        label_issues(["sad news"] * 19, np.ones(19), seed=0)


def test_texts_without_common_words_are_refused() -> None:
    with pytest.raises(InputError, match="no words in common"):
        label_issues([f"word{i}" for i in range(30)], np.ones(30), seed=0)
