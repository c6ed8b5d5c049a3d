"""From a corpus with LLM labels to training labels, for every application."""

import numpy as np
import pandas as pd
import pytest

from invitro.application import Application, divide, training_labels
from invitro.errors import InputError

APPLICATIONS = {
    "none": (False, False),
    "correction": (True, False),
    "augmentation": (False, True),
    "both": (True, True),
}


def application(name: str, **settings: object) -> Application:
    return Application(name, *APPLICATIONS[name], **settings)  # type: ignore[arg-type]


@pytest.fixture
def table() -> pd.DataFrame:
    n = 40
    split = np.array(["train"] * 28 + ["val"] * 4 + ["test"] * 4 + ["unlabelled"] * 4)
    crowd = np.linspace(1, 7, n)
    crowd[split == "unlabelled"] = np.nan
    return pd.DataFrame(
        {
            "text_id": [f"t{i}" for i in range(n)],
            "text": [f"text {i}" for i in range(n)],
            "group_id": [f"g{i % 7}" for i in range(n)],
            "split": split,
            "crowd_label": crowd,
        }
    )


@pytest.fixture
def llm(table: pd.DataFrame) -> "pd.Series[float]":
    labels = pd.Series(8 - np.linspace(1, 7, len(table)), index=table["text_id"])
    labels["t3"] = np.nan
    return labels


def labels_of(table: pd.DataFrame, llm: "pd.Series[float]", name: str, alpha: float = 2.0, **settings: object):
    how = application(name, **settings)
    return training_labels(*divide(table, how), llm if how.needs_llm_labels else None, how, alpha)


def test_all_applications_train_on_the_same_crowd_texts(table: pd.DataFrame, llm: "pd.Series[float]") -> None:
    sets = {name: labels_of(table, llm, name) for name in APPLICATIONS}
    crowd = set(sets["none"].table["text_id"])
    assert len(crowd) == 28 - round(0.3 * 28)
    assert set(sets["correction"].table["text_id"]) == crowd
    for name in ("augmentation", "both"):
        assert crowd < set(sets[name].table["text_id"])
        assert sets[name].augmented == len(sets[name].table) - len(crowd) > 0


@pytest.mark.parametrize("name", APPLICATIONS)
def test_the_pools_crowd_labels_are_never_seen(table: pd.DataFrame, llm: "pd.Series[float]", name: str) -> None:
    _, pool = divide(table, application(name))
    hidden = table.assign(crowd_label=table["crowd_label"].where(~table["text_id"].isin(pool["text_id"]), 6.66))
    assert not np.isclose(labels_of(hidden, llm, name).record()[["crowd_label", "label"]], 6.66).any()


def test_augmented_texts_have_the_llms_label(table: pd.DataFrame, llm: "pd.Series[float]") -> None:
    found = labels_of(table, llm, "augmentation").table
    added = found[found["origin"] == "llm"]
    assert (added["label"] == added["text_id"].map(llm)).all()
    assert added["crowd_label"].isna().all()


def test_infinite_alpha_is_none_exactly(table: pd.DataFrame, llm: "pd.Series[float]") -> None:
    none, inf = labels_of(table, llm, "none"), labels_of(table, llm, "correction", alpha=float("inf"))
    assert inf.fingerprint == none.fingerprint
    pd.testing.assert_frame_equal(inf.table.drop(columns="llm_label"), none.table.drop(columns="llm_label"))


def test_alpha_0_replaces_every_label_that_differs(table: pd.DataFrame, llm: "pd.Series[float]") -> None:
    found = labels_of(table, llm, "correction", alpha=0)
    known = found.table["llm_label"].notna()
    assert (found.table["label"] == found.table["llm_label"])[known].all()
    assert found.replaced == known.sum()


def test_a_text_without_llm_label_keeps_its_crowd_label_and_is_counted(
    table: pd.DataFrame, llm: "pd.Series[float]"
) -> None:
    missing = llm.drop("t5")  # absent, as t3 is blank
    found = labels_of(table, missing, "correction", alpha=0, pool="none")
    kept = found.table.set_index("text_id").loc[["t3", "t5"]]
    assert (kept["label"] == kept["crowd_label"]).all()
    assert (kept["origin"] == "crowd").all()
    assert found.without_llm_label == 2


def test_a_pool_text_without_llm_label_is_left_out_and_counted(table: pd.DataFrame, llm: "pd.Series[float]") -> None:
    found = labels_of(table, llm.drop("t37"), "augmentation", pool="unlabelled")
    assert "t37" not in set(found.table["text_id"])
    assert (found.augmented, found.without_llm_label, found.left_out) == (3, 1, 1)


def test_the_upper_reference_sees_the_pools_crowd_labels(table: pd.DataFrame, llm: "pd.Series[float]") -> None:
    found = labels_of(table, llm, "none", pool_labels="crowd")
    assert len(found.table) == 28
    assert (found.table["label"] == found.table["crowd_label"]).all()
    assert found.augmented == round(0.3 * 28)


@pytest.mark.parametrize("portion", [0.0, 0.5, 1.0])
def test_portion_takes_a_share_of_the_pool(table: pd.DataFrame, llm: "pd.Series[float]", portion: float) -> None:
    found = labels_of(table, llm.fillna(4), "augmentation", portion=portion)
    assert found.augmented == round(portion * round(0.3 * 28))


def test_validation_and_test_are_byte_identical(table: pd.DataFrame, llm: "pd.Series[float]") -> None:
    before = table.to_csv().encode()
    for name in APPLICATIONS:
        found = labels_of(table, llm, name, alpha=0)
        assert not set(found.table["text_id"]) & set(table.loc[table["split"].isin(["val", "test"]), "text_id"])
    assert table.to_csv().encode() == before


def test_an_unlabelled_pool_that_is_empty_is_refused(table: pd.DataFrame) -> None:
    with pytest.raises(InputError, match=r"application\.pool=unlabelled: this corpus has no texts without"):
        divide(table[table["split"] != "unlabelled"], application("both", pool="unlabelled"))


def test_nothing_to_train_on_is_refused(table: pd.DataFrame) -> None:
    with pytest.raises(InputError, match="no training text has a label"):
        labels_of(table[table["split"] != "train"], pd.Series(dtype=float), "none")
