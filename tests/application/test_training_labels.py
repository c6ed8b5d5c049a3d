"""From a corpus with LLM labels to training labels, for every application."""

import hashlib

import numpy as np
import pandas as pd
import pytest
from support import small_corpus

from invitro.application import Application, divide, training_labels
from invitro.errors import InputError
from invitro.raters.joint import fit_raters

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
    labels = labels_of(table, llm, "augmentation").table
    added = labels[labels["origin"] == "llm"]
    assert (added["label"] == added["text_id"].map(llm)).all()
    assert added["crowd_label"].isna().all()


def test_infinite_alpha_is_none_exactly(table: pd.DataFrame, llm: "pd.Series[float]") -> None:
    none, inf = labels_of(table, llm, "none"), labels_of(table, llm, "correction", alpha=float("inf"))
    assert inf.fingerprint == none.fingerprint
    pd.testing.assert_frame_equal(inf.table.drop(columns="llm_label"), none.table.drop(columns="llm_label"))


def test_alpha_0_replaces_every_label_that_differs(table: pd.DataFrame, llm: "pd.Series[float]") -> None:
    labels = labels_of(table, llm, "correction", alpha=0)
    labelled = labels.table["llm_label"].notna()
    assert (labels.table["label"] == labels.table["llm_label"])[labelled].all()
    assert labels.replaced == labelled.sum()


def test_a_text_without_llm_label_keeps_its_crowd_label_and_is_counted(
    table: pd.DataFrame, llm: "pd.Series[float]"
) -> None:
    missing = llm.drop("t5")  # absent, as t3 is blank
    labels = labels_of(table, missing, "correction", alpha=0, pool="none")
    kept = labels.table.set_index("text_id").loc[["t3", "t5"]]
    assert (kept["label"] == kept["crowd_label"]).all()
    assert (kept["origin"] == "crowd").all()
    assert labels.without_llm_label == 2


def test_a_pool_text_without_llm_label_is_left_out_and_counted(table: pd.DataFrame, llm: "pd.Series[float]") -> None:
    labels = labels_of(table, llm.drop("t37"), "augmentation", pool="unlabelled")
    assert "t37" not in set(labels.table["text_id"])
    assert (labels.augmented, labels.without_llm_label, labels.left_out) == (3, 1, 1)


def test_the_upper_reference_sees_the_pools_crowd_labels(table: pd.DataFrame, llm: "pd.Series[float]") -> None:
    labels = labels_of(table, llm, "none", pool_labels="crowd")
    assert len(labels.table) == 28
    assert (labels.table["label"] == labels.table["crowd_label"]).all()
    assert labels.augmented == round(0.3 * 28)


@pytest.mark.parametrize("portion", [0.0, 0.5, 1.0])
def test_portion_takes_a_share_of_the_pool(table: pd.DataFrame, llm: "pd.Series[float]", portion: float) -> None:
    labels = labels_of(table, llm.fillna(4), "augmentation", portion=portion)
    assert labels.augmented == round(portion * round(0.3 * 28))


def test_validation_and_test_are_byte_identical(table: pd.DataFrame, llm: "pd.Series[float]") -> None:
    before = table.to_csv().encode()
    for name in APPLICATIONS:
        labels = labels_of(table, llm, name, alpha=0)
        assert not set(labels.table["text_id"]) & set(table.loc[table["split"].isin(["val", "test"]), "text_id"])
    assert table.to_csv().encode() == before


def test_an_unlabelled_pool_that_is_empty_is_refused(table: pd.DataFrame) -> None:
    with pytest.raises(InputError, match=r"application\.pool=unlabelled: this corpus has no texts without"):
        divide(table[table["split"] != "unlabelled"], application("both", pool="unlabelled"))


def test_nothing_to_train_on_is_refused(table: pd.DataFrame) -> None:
    with pytest.raises(InputError, match="no training text has a label"):
        labels_of(table[table["split"] != "train"], pd.Series(dtype=float), "none")


FUSION = {
    "drop": {"policy": "drop"},
    "blend": {"policy": "blend", "blend_weight": 0.25},
    "precision": {"policy": "precision", "crowd_reliability": 0.6},
    "weight": {"policy": "weight"},
    "calibrated": {"calibration": "moment"},
}


def fused_labels(table: pd.DataFrame, llm: "pd.Series[float]", name: str, alpha: float = 2.0, **settings: object):
    given = {"pool": "none"} | FUSION[name] | settings
    how = Application(name, True, bool(given.pop("augmentation", False)), **given)  # type: ignore[arg-type]
    return training_labels(*divide(table, how), llm, how, alpha, bounds=(1, 7))


def test_drop_leaves_texts_out(table: pd.DataFrame, llm: "pd.Series[float]") -> None:
    labels, before = fused_labels(table, llm, "drop"), labels_of(table, llm, "none", pool="none")
    far = (before.table["crowd_label"] - before.table["text_id"].map(llm)).abs() > 2
    assert set(labels.table["text_id"]) == set(before.table["text_id"][~far])
    assert (labels.dropped, labels.replaced) == (far.sum(), 0)
    assert (labels.table["label"] == labels.table["crowd_label"]).all()
    assert (labels.table["origin"] == "crowd").all()


def test_blend_mixes_labels_beyond_alpha(table: pd.DataFrame, llm: "pd.Series[float]") -> None:
    labels = fused_labels(table, llm, "blend")
    mixed = labels.table["origin"] == "fused"
    far = (labels.table["crowd_label"] - labels.table["llm_label"]).abs() > 2
    assert mixed.equals(far)
    assert labels.replaced == labels.fused == far.sum() > 0
    expected = 0.25 * labels.table["llm_label"] + 0.75 * labels.table["crowd_label"]
    np.testing.assert_allclose(labels.table["label"], expected.where(far, labels.table["crowd_label"]))
    assert labels.facts == {"alpha": 2.0, "llm_share": pytest.approx(0.25 * far.mean())}


@pytest.mark.parametrize(("share", "same_as"), [(1.0, "correction"), (0.0, "none")])
def test_a_blend_of_one_label_is_that_label(
    table: pd.DataFrame, llm: "pd.Series[float]", share: float, same_as: str
) -> None:
    labels = fused_labels(table, llm, "blend", blend_weight=share)
    other = labels_of(table, llm, same_as, pool="none")
    assert labels.fingerprint == other.fingerprint
    assert labels.replaced == other.replaced
    assert labels.table["origin"].equals(other.table["origin"])


def test_precision_uses_the_reliability_it_is_given(table: pd.DataFrame, llm: "pd.Series[float]") -> None:
    labels = fused_labels(table, llm, "precision", alpha=0)
    rows = labels.table[labels.table["llm_label"].notna()]
    crowd, theirs = rows["crowd_label"], rows["llm_label"]
    difference = ((crowd - theirs) ** 2).mean()
    share = 0.4 * crowd.var(ddof=0) / difference  # E (C - L)^2 is the sum of both errors
    np.testing.assert_allclose(rows["label"], share * theirs + (1 - share) * crowd)
    assert labels.facts["crowd_reliability"] == 0.6
    assert labels.facts["crowd_error"] + labels.facts["llm_error"] == pytest.approx(difference)


def test_precision_estimates_the_reliability_from_the_texts() -> None:
    corpus = small_corpus(400, authors=80)
    rows = corpus.set_axis(["text_id", "text", "group_id", "crowd_label", "gpt"], axis=1).assign(split="train")
    how = Application("precision", True, False, pool="none", policy="precision")
    llm = rows.set_index("text_id")["gpt"]
    labels = training_labels(*divide(rows, how), llm, how, 0.0, bounds=(1, 7))
    # Truth uniform on 1 to 7 (variance 3), noise of SD 1.5 and 0.5, both clipped.
    assert labels.facts["crowd_reliability"] == pytest.approx(0.65, abs=0.15)
    assert labels.facts["llm_share"] > 0.7
    assert labels.table["label"].between(1, 7).all()


def test_weight_keeps_all_labels(table: pd.DataFrame, llm: "pd.Series[float]") -> None:
    labels, before = fused_labels(table, llm, "weight", alpha=2.0), labels_of(table, llm, "none", pool="none")
    pd.testing.assert_frame_equal(
        labels.table.drop(columns=["weight", "llm_label"]), before.table.drop(columns=["weight", "llm_label"])
    )
    far = (labels.table["crowd_label"] - labels.table["llm_label"]).fillna(0)
    np.testing.assert_allclose(labels.table["weight"], 1 / (1 + (far / 2) ** 2))
    assert labels.fingerprint != before.fingerprint
    weight = labels.table["weight"]
    assert labels.facts["effective_size"] == pytest.approx(weight.sum() ** 2 / (weight**2).sum())
    assert labels.replaced == labels.dropped == 0


def test_texts_without_any_weight_are_left_out(table: pd.DataFrame, llm: "pd.Series[float]") -> None:
    labels = fused_labels(table, llm, "weight", alpha=0)
    assert labels.table["text_id"].tolist() == ["t3"]  # the one that the LLM left out
    assert labels.dropped == 27


def test_a_policy_that_leaves_nothing_is_refused(table: pd.DataFrame, llm: "pd.Series[float]") -> None:
    with pytest.raises(InputError, match="application=drop alpha=0: all 28 training texts are beyond alpha"):
        fused_labels(table, llm.fillna(9), "drop", alpha=0)


def test_calibrated_labels_have_the_crowds_moments_and_are_recorded(
    table: pd.DataFrame, llm: "pd.Series[float]"
) -> None:
    labels = fused_labels(table, 0.5 * llm, "calibrated", alpha=0, augmentation=True, pool="unlabelled")
    rows = labels.record()
    assert rows["llm_label"].equals(0.5 * rows["text_id"].map(llm))
    from_llm = rows["origin"] == "llm"
    assert from_llm.sum() == 27 + 4
    assert rows["label"][from_llm].equals(rows["llm_calibrated"][from_llm])
    crowd = rows["crowd_label"].notna()
    assert rows["label"][crowd].mean() == pytest.approx(rows["crowd_label"][crowd].mean(), abs=0.3)


@pytest.mark.parametrize("name", FUSION)
def test_validation_test_and_the_corpus_stay_whatever_the_policy(
    table: pd.DataFrame, llm: "pd.Series[float]", name: str
) -> None:
    before, outside = table.to_csv().encode(), set(table.loc[table["split"] != "train", "text_id"])
    hidden = table.assign(crowd_label=table["crowd_label"].where(table["split"] == "train", 6.66))
    labels = fused_labels(table, llm, name)
    assert not outside & set(labels.table["text_id"])
    assert fused_labels(hidden, llm, name).fingerprint == labels.fingerprint
    assert table.to_csv().encode() == before


@pytest.mark.parametrize("name", FUSION)
def test_an_infinite_alpha_is_none_for_every_policy(table: pd.DataFrame, llm: "pd.Series[float]", name: str) -> None:
    labels = fused_labels(table, llm, name, alpha=float("inf"))
    assert labels.fingerprint == labels_of(table, llm, "none", pool="none").fingerprint
    assert (labels.replaced, labels.dropped, labels.fused) == (0, 0, 0)


@pytest.mark.parametrize("name", FUSION)
def test_added_texts_can_count_less(table: pd.DataFrame, llm: "pd.Series[float]", name: str) -> None:
    settings = {"augmentation": True, "pool": "unlabelled"}
    whole = fused_labels(table, llm, name, **settings).table
    half = fused_labels(table, llm, name, pool_weight=0.5, **settings)
    added = half.table["crowd_label"].isna()
    assert half.augmented == added.sum() == 4
    assert (half.table["weight"][added] == 0.5).all()
    assert half.table["weight"][~added].equals(whole["weight"][~added])
    assert half.table["label"].equals(whole["label"])


def test_a_quantile_finds_alpha(table: pd.DataFrame, llm: "pd.Series[float]") -> None:
    how = Application("correction", True, False, pool="none")
    labels = training_labels(*divide(table, how), llm, how, 4.0, alpha_quantile=0.2)
    assert labels.replaced == 5  # of 27 that have both labels
    by_alpha = training_labels(*divide(table, how), llm, how, labels.facts["alpha"])
    assert labels.fingerprint == by_alpha.fingerprint


def test_spreads_limit_correction(table: pd.DataFrame, llm: "pd.Series[float]") -> None:
    spread = pd.Series(np.where(np.arange(len(table)) % 2, 0.2, 3.0), index=table["text_id"])
    spread["t7"] = np.nan
    pool = {"pool": "none"}
    plain = labels_of(table, llm, "correction", 1.0, **pool).table.set_index("text_id")
    sure = Application("x", True, False, max_spread=0.5, **pool)  # type: ignore[arg-type]
    late = Application("x", True, False, alpha_per_spread=100.0, **pool)  # type: ignore[arg-type]
    for how, allowed in ((sure, spread <= 0.5), (late, spread < 0)):
        corrected = training_labels(*divide(table, how), llm, how, 1.0, llm_spread=spread).table.set_index("text_id")
        expected = (plain["origin"] == "llm") & allowed.reindex(plain.index)
        assert (corrected["origin"] == "llm").equals(expected)
    with pytest.raises(ValueError, match="needs llm_spread"):
        training_labels(*divide(table, sure), llm, sure, 1.0)


def test_weights_of_one_leave_the_fingerprint_as_it_was(table: pd.DataFrame, llm: "pd.Series[float]") -> None:
    labels = labels_of(table, llm, "correction")
    rows = labels.table[["text_id", "text", "label"]]
    assert labels.fingerprint == hashlib.sha256(rows.to_csv(index=False).encode()).hexdigest()
    assert labels.table["weight"].dtype == "float64"
    assert (labels.table["weight"] == 1).all()
    assert list(labels.record()) == ["text_id", "crowd_label", "llm_label", "label", "origin", "weight"]


def test_distilled_labels_are_all_the_llm_s_whatever_alpha() -> None:
    rows = pd.DataFrame(
        {"text_id": list("abcd"), "text": list("abcd"), "group_id": list("abcd"), "crowd_label": [1.0, 2, 3, 4]}
    )
    llm = pd.Series([5.0, 2.0, np.nan, 4.5], index=list("abcd"))
    how = Application("distill", True, False, pool="none", policy="distill")
    labels = training_labels(rows, rows.iloc[:0], llm, how, np.inf)
    assert labels.table["text_id"].tolist() == ["a", "b", "d"]
    assert labels.table["label"].tolist() == [5.0, 2.0, 4.5]
    assert (labels.table["origin"] == "llm").all()
    assert (labels.replaced, labels.dropped, labels.without_llm_label) == (3, 0, 1)


def test_posterior_labels_are_those_of_the_model_of_raters() -> None:
    rng = np.random.default_rng(2)
    x = rng.normal(size=(120, 2))
    x -= x.mean(axis=0)
    truth, ids = 4 + x @ [1.0, 0.5], [f"t{number}" for number in range(120)]
    gram = pd.DataFrame(x @ x.T / np.mean((x**2).sum(axis=1)), ids, ids)
    ratings = pd.DataFrame({"llama": truth + rng.normal(0, 0.5, 120)}, index=ids)
    rows = pd.DataFrame(
        {"text_id": ids, "text": ids, "group_id": ids, "split": "train", "crowd_label": truth + rng.normal(0, 1.5, 120)}
    )
    how = Application("posterior", True, True, pool="unlabelled", policy="posterior", pool_weight=0.5)
    order = rng.permutation(120)
    pool, training = rows.iloc[order[:40]], rows.iloc[order[40:]]
    given = {"ratings": ratings, "kernel": lambda some: gram.loc[some, some].to_numpy()}
    labels = training_labels(training, pool, ratings["llama"], how, 4.0, **given)
    table = labels.table.set_index("text_id")
    expected = fit_raters(
        np.column_stack([[*training["crowd_label"], *[np.nan] * 40], ratings.loc[table.index, "llama"]]),
        given["kernel"](list(table.index)), [False, True], ["crowd", "llama"],
    )  # fmt: skip
    assert table["label"].to_numpy() == pytest.approx(expected.single)
    assert table["weight"].to_numpy() == pytest.approx(np.where(np.arange(120) < 80, 1, 0.5))
    assert table["origin"].tolist() == ["fused"] * 80 + ["llm"] * 40
    assert (labels.replaced, labels.augmented, labels.fused) == (80, 40, 80)
    assert labels.facts["crowd_reliability"] == expected.reliability.value


def counted(numbers: list[int], sds: list[float]) -> pd.DataFrame:
    """Return training texts with crowd labels 1, 2, ... of some numbers of ratings."""
    return pd.DataFrame(
        {
            "text_id": [f"t{i}" for i in range(len(numbers))],
            "text": [f"text {i}" for i in range(len(numbers))],
            "group_id": [f"g{i}" for i in range(len(numbers))],
            "split": "train",
            "crowd_label": [1.0 + i for i in range(len(numbers))],
            "crowd_n": numbers,
            "crowd_sd": sds,
        }
    )


def test_more_ratings_make_a_label_harder_to_change_and_count_more() -> None:
    rows = counted([1, 4, 4, 1], [np.nan, 1.0, 1.0, np.nan])
    h = 4 / (1 + 0.25 + 0.25 + 1)
    off = pd.Series([3.0, 4.0, 3.0 + 2.1, 4.0 + 2.1], index=rows["text_id"])  # all about 2 from the crowd
    correction = Application("correction", correction=True, augmentation=False)
    labels = training_labels(rows, rows.iloc[:0], off, correction, alpha=1.8)
    limits = 1.8 * np.sqrt(rows["crowd_n"] / h)
    assert labels.table["origin"].tolist() == ["llm" if gap > limit else "crowd" for gap, limit in
                                             zip([2, 2, 2.1, 2.1], limits, strict=True)]  # fmt: skip
    assert labels.table["origin"].tolist() == ["llm", "crowd", "crowd", "llm"]
    blend = Application("blend", correction=True, augmentation=False, policy="blend", blend_weight=0.5)
    mixed = training_labels(rows, rows.iloc[:0], off, blend, alpha=0.0).table
    shares = (mixed["label"] - rows["crowd_label"]) / (off.to_numpy() - rows["crowd_label"])
    assert shares.tolist() == pytest.approx((0.5 / (0.5 + 0.5 * rows["crowd_n"] / h)).tolist())
    none = training_labels(rows, rows.iloc[:0], None, Application("none", correction=False, augmentation=False), 0.0)
    within, texts = 1.0, np.var([1, 2, 3, 4]) - 1.0 / h
    reliability = texts / (texts + within / rows["crowd_n"])
    assert none.table["weight"].tolist() == pytest.approx((reliability / reliability.max()).tolist())
    assert none.record()["crowd_n"].tolist() == [1, 4, 4, 1]
    assert none.facts["ratings"] == pytest.approx(h)


def test_equal_numbers_of_ratings_change_nothing() -> None:
    rows = counted([3, 3, 3], [1.0, 0.5, 2.0])
    llm = pd.Series([6.0, 2.5, 1.0], index=rows["text_id"])
    for application in (
        Application("correction", correction=True, augmentation=False),
        Application("weight", correction=True, augmentation=False, policy="weight"),
    ):
        several = training_labels(rows, rows.iloc[:0], llm, application, alpha=1.0)
        single = training_labels(rows.drop(columns=["crowd_n", "crowd_sd"]), rows.iloc[:0], llm, application, alpha=1.0)
        assert several.fingerprint == single.fingerprint


def test_the_model_of_raters_sees_single_ratings() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(80, 3))
    truth = 4 + x @ [0.8, 0.5, 0.3]
    single = truth[:, None] + rng.normal(size=(80, 3)) * [0.5, 0.5, 1.5]
    single[rng.random(80) < 0.3, 2] = np.nan
    rows = counted((~np.isnan(single)).sum(axis=1).tolist(), np.nanstd(single, axis=1, ddof=1).tolist())
    rows["crowd_label"] = np.nanmean(single, axis=1)
    ids = pd.Index(rows["text_id"])
    llm = pd.Series(truth + rng.normal(size=80), index=ids)
    kernel = x @ x.T / np.mean((x**2).sum(axis=1))
    posterior = Application("posterior", correction=True, augmentation=False, policy="posterior")
    labels = {
        name: training_labels(
            rows,
            rows.iloc[:0],
            llm,
            posterior,
            0.0,
            ratings=llm.to_frame("llm"),
            kernel=lambda _: kernel,
            people=people,
        )
        for name, people in {"single": pd.DataFrame(single, index=ids), "mean": None}.items()
    }
    assert (labels["single"].table["weight"] == 1).all()  # the model knows how sure it is
    model = fit_raters(np.column_stack([single, llm]), kernel, [False] * 3 + [True], list("abcd"))
    assert labels["single"].table["label"].to_numpy() == pytest.approx(model.single)
    of_one, of_mean = (labels[name].facts["crowd_reliability"] for name in ("single", "mean"))
    assert of_one < of_mean
