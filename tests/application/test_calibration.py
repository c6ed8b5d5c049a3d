"""Mappings to the crowd's scale: by hand, by property, and out of fold."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import invitro
from invitro.application import Application, training_labels
from invitro.application.calibration import by_group_report, calibrated, fitted_mapping, group_shifts
from invitro.data import Undivided
from invitro.data.simulator.corpus import Simulator
from invitro.data.simulator.rating import LLMRater
from invitro.data.splits import author_folds
from invitro.errors import InputError

METHODS = ("moment", "linear", "isotonic")
NAN = float("nan")
labels = st.floats(1, 7, width=32)
pairs = st.integers(10, 30).flatmap(
    lambda n: st.tuples(arrays(np.float64, n, elements=labels), arrays(np.float64, n, elements=labels))
)


def sample(n: int = 300, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return crowd labels, LLM labels that are shifted and squeezed, and authors."""
    rng = np.random.default_rng(seed)
    truth = rng.uniform(1, 7, n)
    crowd = np.clip(truth + rng.normal(0, 1, n), 1, 7)
    return crowd, np.clip(2 + 0.5 * truth + rng.normal(0, 0.5, n), 1, 7), np.array([f"a{i % 60}" for i in range(n)])


def test_moments_by_hand() -> None:
    llm, crowd = np.tile([1.0, 3.0], 5), np.tile([2.0, 6.0], 5)  # means 2 and 4, SDs 1 and 2
    np.testing.assert_allclose(fitted_mapping("moment", crowd, llm)(np.array([1, 2, 3, 2.5, NAN])), [2, 4, 6, 5, NAN])


def test_linear_by_hand_and_its_shrinkage() -> None:
    llm, crowd = np.tile([1.0, 3.0], 10), np.tile([2.0, 3.0], 10)  # slope 1/2, means 2 and 2.5
    at = np.array([1.0, 2, 3])
    np.testing.assert_allclose(fitted_mapping("linear", crowd, llm, shrinkage=0)(at), [2, 2.5, 3])
    # A prior worth 20 texts against 20 texts: half the shift, and the slope halfway to 1.
    np.testing.assert_allclose(fitted_mapping("linear", crowd, llm, shrinkage=20)(at), [1.5, 2.25, 3])
    np.testing.assert_allclose(fitted_mapping("linear", crowd, llm, shrinkage=1e9)(at), at, atol=1e-6)


def test_linear_is_ridge_regression_of_the_difference() -> None:
    from sklearn.linear_model import Ridge

    crowd, llm, _ = sample()
    centred = (llm - llm.mean()) / llm.std()
    design = np.column_stack([np.ones_like(llm), centred])
    penalised = Ridge(alpha=20.0, fit_intercept=False).fit(design, crowd - llm)
    expected = llm + penalised.predict(design)
    np.testing.assert_allclose(fitted_mapping("linear", crowd, llm)(llm), expected)


def test_isotonic_by_hand() -> None:
    llm = np.repeat([1.0, 2, 3, 4], 3)
    crowd = np.repeat([1.0, 4, 2, 5], 3)  # the middle two violate the order and become 3
    at = np.array([0.0, 1, 1.5, 2, 3, 3.5, 9, NAN])
    np.testing.assert_allclose(fitted_mapping("isotonic", crowd, llm)(at), [1, 1, 2, 3, 3, 4, 5, NAN])


@pytest.mark.parametrize("method", METHODS)
@given(pairs)
def test_mapped_labels_stay_in_bounds_and_missing_ones_missing(method: str, pair: tuple) -> None:
    mapping = fitted_mapping(method, *pair, bounds=(1, 7))
    mapped = mapping(np.array([1.0, 4.0, 7.0, NAN]))
    assert ((mapped[:3] >= 1) & (mapped[:3] <= 7)).all()
    assert np.isnan(mapped[3])
    if method != "linear":  # a negative slope is possible if crowd and LLM contradict each other
        assert (np.diff(mapped[:3]) >= -1e-9).all()


@pytest.mark.parametrize("method", METHODS)
def test_a_mapping_brings_labels_nearer_to_the_crowds(method: str) -> None:
    crowd, llm, authors = sample()
    mapped = calibrated(method, crowd, llm, authors, (1, 7))
    assert np.mean((mapped - crowd) ** 2) < np.mean((llm - crowd) ** 2)
    assert mapped.mean() == pytest.approx(crowd.mean(), abs=0.1)
    if method == "moment":
        assert mapped.std() == pytest.approx(crowd.std(), rel=0.1)  # the bounds cut the ends


@pytest.mark.parametrize("method", METHODS)
def test_a_texts_own_author_does_not_shape_its_label(method: str) -> None:
    crowd, llm, authors = sample()
    before = calibrated(method, crowd, llm, authors, (1, 7))
    theirs = authors == "a7"
    after = calibrated(method, np.where(theirs, 8 - crowd, crowd), llm, authors, (1, 7))
    assert (after[theirs] == before[theirs]).all()
    fold = next(left_out for _, left_out in author_folds(authors, "test") if theirs[left_out].any())
    elsewhere = np.setdiff1d(np.arange(len(crowd)), fold)
    assert (after[elsewhere] != before[elsewhere]).any()


@pytest.mark.parametrize("method", METHODS)
def test_texts_without_crowd_label_have_the_fit_on_all(method: str) -> None:
    crowd, llm, authors = sample()
    pool = np.array([1.5, 4.0, NAN])
    mapped = calibrated(
        method, np.append(crowd, [NAN] * 3), np.append(llm, pool), np.append(authors, ["a1", "p", "p"]), (1, 7)
    )
    np.testing.assert_array_equal(mapped[-3:], fitted_mapping(method, crowd, llm, (1, 7))(pool))


@pytest.mark.parametrize("method", METHODS)
def test_the_order_of_the_rows_does_not_matter(method: str) -> None:
    crowd, llm, authors = sample()
    crowd[3], llm[5] = NAN, NAN
    order = np.random.default_rng(1).permutation(len(crowd))
    mapped = calibrated(method, crowd, llm, authors, (1, 7))
    assert np.isnan(mapped[5])
    permuted = calibrated(method, crowd[order], llm[order], authors[order], (1, 7))
    np.testing.assert_allclose(permuted, mapped[order], rtol=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_constant_llm_labels_are_only_shifted(method: str) -> None:
    crowd = np.tile([2.0, 4.0], 10)
    mapping = fitted_mapping(method, crowd, np.full(20, 5.0), shrinkage=0)
    assert mapping(np.array([5.0])) == pytest.approx(3)


def test_none_is_the_label_itself_and_too_few_are_refused() -> None:
    crowd, llm, authors = sample()
    assert calibrated("none", crowd, llm, authors) is llm
    with pytest.raises(InputError, match=r"application\.calibration=moment: expected at least 10 training texts"):
        calibrated("moment", crowd[:9], llm[:9], authors[:9])
    with pytest.raises(InputError, match="expected two or more, found 1"):
        calibrated("moment", crowd, llm, np.full(len(crowd), "a"))


def test_group_shifts_by_hand() -> None:
    # Two groups of four authors, one text each: means 1 and -1, variance within 2/3, so tau^2 = 2 - 1/6.
    left = np.array([0.0, 1, 1, 2, -2, -1, -1, 0])
    shifts = group_shifts(left, pd.Series(["x"] * 4 + ["y"] * 4), np.array(list("abcdefgh")))
    assert shifts[["texts", "authors"]].values.tolist() == [[4, 4], [4, 4]]
    assert shifts["difference"].tolist() == [1, -1]
    np.testing.assert_allclose(shifts["share"], (2 - 1 / 6) / 2)
    np.testing.assert_allclose(shifts["shift"], [(2 - 1 / 6) / 2, -(2 - 1 / 6) / 2])


def test_groups_that_differ_by_chance_are_mapped_as_the_whole() -> None:
    left = np.array([1.0, -1, 1, -1, 1, -1, 1, -1.2])
    shifts = group_shifts(left, pd.Series(["x"] * 4 + ["y"] * 4), np.array(list("abcdefgh")))
    assert shifts["shift"].tolist() == [0, 0]
    assert group_shifts(left, pd.Series(["x"] * 8), np.array(list("abcdefgh")))["shift"].tolist() == [0]
    assert group_shifts(left, pd.Series([None] * 8), np.array(list("abcdefgh"))).empty


def simulated(bias: float, seed: int = 0) -> pd.DataFrame:
    llm = LLMRater(by_group={"gender": {2: bias}}) if bias else LLMRater()
    table = Simulator(Undivided(), texts=2000, seed=seed, llm=llm).read(invitro.scale("batson_empathy")).table
    return table.dropna(subset=["llm_label"]).reset_index(drop=True)


@pytest.mark.parametrize("bias", [0.0, -0.15])
def test_a_planted_bias_against_a_group_is_removed(bias: float) -> None:
    table = simulated(bias)
    crowd, llm, authors = (table[name].to_numpy() for name in ("crowd_label", "llm_label", "group_id"))
    gap = {}
    for method, people in (("moment", None), ("by_group", table["gender"])):
        mapped = calibrated(method, crowd, llm, authors, (1, 7), people=people)
        error = pd.Series(mapped - table["truth"]).groupby(table["gender"]).mean()  # against the truth, not the crowd
        gap[method] = abs(error["1"] - error["2"])
    if bias:
        assert gap["moment"] > 0.5
        assert gap["by_group"] < 0.2
    else:
        assert abs(gap["by_group"] - gap["moment"]) < 0.1
    report = by_group_report(crowd, llm, mapped, table["gender"], authors).set_index("group")
    assert report.loc["2", "before"] == pytest.approx((llm - crowd)[table["gender"] == "2"].mean())
    assert report.loc["2", "after_low"] < 0 < report.loc["2", "after_high"]
    if bias:
        assert report.loc["2", "before_high"] < 0


def test_a_small_group_is_drawn_to_the_whole_and_reported_as_small() -> None:
    table = simulated(-0.15)
    crowd, llm, authors = (table[name].to_numpy() for name in ("crowd_label", "llm_label", "group_id"))
    small = table["gender"].eq("1") & table["group_id"].isin(table.loc[table["gender"] == "1", "group_id"].unique()[:3])
    people = table["gender"].mask(small, "few")
    shifts = group_shifts(crowd - llm, people, authors)
    assert shifts.loc["few", "authors"] == 3
    assert shifts.loc["few", "share"] < 0.7 < shifts.loc["2", "share"]
    report = by_group_report(crowd, llm, llm, people, authors).set_index("group")
    assert small.sum() < 30
    assert report.loc["few", "remark"] == "fewer than 30 texts: not shown"
    assert report.loc["few"].drop("remark").isna().all()
    assert report.loc["2", "remark"] == ""
    groups = pd.Series(np.where(table["gender"] == "1", "one's", people))
    alone = by_group_report(crowd, llm, llm, groups, np.where(groups == "one's", "a", authors)).set_index("group")
    assert alone.loc["one's", "remark"] == "fewer than 10 authors: no interval"
    assert np.isnan(alone.loc["one's", "before_low"])


def test_training_labels_by_group_and_a_column_that_is_not_there() -> None:
    table = simulated(-0.15)
    llm = pd.Series(table["llm_label"].to_numpy(), index=table["text_id"])
    how = Application("calibrated", True, False, calibration="by_group", calibration_groups="gender", pool="none")
    report = training_labels(table.assign(split="train"), table.iloc[:0], llm, how, 4.0, bounds=(1, 7)).by_group
    assert report is not None
    assert report["texts"].sum() == table["crowd_label"].notna().sum()
    women = report.set_index("group").loc["2"]
    assert women["before"] < -0.5 < -0.1 < women["after"] < 0.1
    other = replace(how, calibration_groups="religion")
    with pytest.raises(InputError, match=r"calibration_groups=religion: expected .* such as gender, education"):
        training_labels(table, table.iloc[:0], llm, other, 4.0)
