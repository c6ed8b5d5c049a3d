"""Agreement between raters: by hand, against other implementations, and how often the intervals are right."""

import krippendorff
import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from invitro.api.values import FIGURES
from invitro.errors import InputError
from invitro.stats.agreement import agreement, alpha_estimate, gain, krippendorff_alpha, pairwise
from invitro.stats.intervals import Estimate, told
from invitro.studies.groups import Measured, fairness

NAN = np.nan
scores = st.one_of(st.just(NAN), st.integers(4, 28).map(lambda quarters: quarters / 4))
tables = st.tuples(st.integers(2, 25), st.integers(2, 5)).flatmap(
    lambda shape: arrays(np.float64, shape, elements=scores)
)
# Krippendorff (2011), "Computing Krippendorff's Alpha-Reliability", section C: twelve units, four observers.
OBSERVERS = [
    [1, 2, 3, 3, 2, 1, 4, 1, 2, NAN, NAN, NAN],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NAN, 3],
    [NAN, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NAN],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NAN],
]


def two(n: int, correlation: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return normal scores of two raters with equal means and variances."""
    shared, *own = np.random.default_rng(seed).normal(size=(3, n))
    a, b = (np.sqrt(correlation) * shared + np.sqrt(1 - correlation) * one for one in own)
    return a, b


def defined(table: np.ndarray) -> bool:
    usable = table[(~np.isnan(table)).sum(axis=1) >= 2]
    return len(np.unique(usable[~np.isnan(usable)])) > 1


def test_alpha_by_hand() -> None:
    # D_o = (0 + 0 + 1) / 3; the six scores 1 1 2 2 3 4 give D_e = 2 (6 * 35 - 13^2) / (6 * 5) = 82 / 30.
    assert krippendorff_alpha([[1, 1], [2, 2], [3, 4]]) == pytest.approx(1 - 10 / 82)


def test_alpha_of_krippendorffs_own_example() -> None:
    assert krippendorff_alpha(np.array(OBSERVERS).T) == pytest.approx(0.849, abs=5e-4)


@given(tables)
def test_alpha_equals_the_krippendorff_library(table: np.ndarray) -> None:
    assume(defined(table))
    expected = krippendorff.alpha(table.T, level_of_measurement="interval")
    assert krippendorff_alpha(table) == pytest.approx(expected, abs=1e-9)


@given(tables, st.randoms(use_true_random=False))
def test_alpha_ignores_the_order_of_rows_and_raters_and_the_unit(table: np.ndarray, random) -> None:
    assume(defined(table))
    rows, raters = (random.sample(range(size), size) for size in table.shape)
    assert krippendorff_alpha(3 * table[rows][:, raters] - 7) == pytest.approx(krippendorff_alpha(table), abs=1e-9)


@given(tables)
def test_a_pair_is_measured_on_the_texts_both_scored(table: np.ndarray) -> None:
    frame = pd.DataFrame(table).rename(columns=str)
    for pair in pairwise(frame, resamples=2):
        x, y = frame[[pair.a, pair.b]].dropna().to_numpy().T
        assert pair.n == len(x)
        if not pair.n:
            assert all(np.isnan(getattr(pair, name).value) for name in FIGURES)
            continue
        assert pair.bias.value == pytest.approx((y - x).mean(), abs=1e-9)
        assert pair.krippendorff.value == pytest.approx(
            krippendorff_alpha(np.stack([x, y], axis=1)), abs=1e-9, nan_ok=True
        )
        if x.std() > 0 and y.std() > 0:
            cov = np.cov(x, y, bias=True)
            assert pair.pcc.value == pytest.approx(np.corrcoef(x, y)[0, 1], abs=1e-9)
            assert pair.ccc.value == pytest.approx(
                2 * cov[0, 1] / (np.trace(cov) + (x.mean() - y.mean()) ** 2), abs=1e-9
            )
            assert pair.rmse.value == pytest.approx(np.sqrt(np.mean((x - y) ** 2)), abs=1e-6)
        else:
            assert np.isnan(pair.pcc.value)
            assert not pair.pcc.measurable
            assert not pair.ccc.measurable


@given(st.integers(12, 60), st.integers(0, 99))
@settings(max_examples=30)
def test_swapping_raters_changes_the_bias_only(n: int, seed: int) -> None:
    a, b = two(n, 0.4, seed)
    one, other = agreement(a, b, resamples=50), agreement(b, a, resamples=50)
    for name in ("pcc", "ccc", "krippendorff", "rmse"):
        first, second = getattr(one, name), getattr(other, name)
        assert (first.value, first.low, first.high) == pytest.approx((second.value, second.low, second.high))
    assert (one.bias.low, one.bias.high) == pytest.approx((-other.bias.high, -other.bias.low))


@given(st.integers(12, 60), st.integers(0, 99))
@settings(max_examples=30)
def test_identical_raters_agree_entirely(n: int, seed: int) -> None:
    a, _ = two(n, 0.4, seed)
    found = agreement(a, a, resamples=50)
    for one in (
        found.pcc,
        found.ccc,
        found.krippendorff,
        alpha_estimate(pd.DataFrame({"a": a, "b": a, "c": a}), resamples=50),
    ):
        assert (one.value, one.low, one.high) == pytest.approx((1, 1, 1))
    assert (found.rmse.value, found.bias.value) == (0, 0)


@given(st.permutations(range(30)), st.booleans())
@settings(max_examples=30)
def test_neither_figures_nor_intervals_depend_on_the_order_of_rows(order: list[int], grouped: bool) -> None:
    a, b = two(30, 0.5, 1)
    frame = pd.DataFrame({"a": a, "b": b, "c": a + b}, index=[f"t{i:02d}" for i in range(30)])
    frame.iloc[3:9, 2] = NAN
    groups = pd.Series([f"g{i % 12}" for i in range(30)], index=frame.index) if grouped else None
    shuffled = frame.iloc[order]
    for one, other in zip(pairwise(frame, groups, 50), pairwise(shuffled, groups, 50), strict=True):
        for name in ("pcc", "ccc", "krippendorff", "rmse", "bias"):
            first, second = getattr(one, name), getattr(other, name)
            assert (first.value, first.low, first.high) == pytest.approx((second.value, second.low, second.high))
    one, other = alpha_estimate(frame, groups, 50), alpha_estimate(shuffled, groups, 50)
    assert (one.value, one.low, one.high, one.n) == pytest.approx((other.value, other.low, other.high, other.n))


@given(st.integers(40, 200), st.floats(0.1, 0.9), st.integers(0, 999))
@settings(max_examples=40)
def test_the_interval_contains_the_figure(n: int, correlation: float, seed: int) -> None:
    found = agreement(*two(n, correlation, seed), resamples=200)
    for one in (getattr(found, name) for name in FIGURES):
        assert one.low <= one.value <= one.high
        assert one.low < one.high


def test_the_seed_decides_the_interval() -> None:
    a, b = two(60, 0.5, 0)
    assert agreement(a, b, seed=1) == agreement(a, b, seed=1)
    one, other = agreement(a, b, seed=1).pcc, agreement(a, b, seed=2).pcc
    assert one.value == other.value
    assert one.low != other.low


def test_alpha_of_a_pair_has_the_interval_of_alpha_of_two_raters() -> None:
    frame = pd.DataFrame(dict(zip("ab", two(60, 0.5, 0), strict=True)))
    one, other = pairwise(frame)[0].krippendorff, alpha_estimate(frame)
    assert (one.low, one.high) == pytest.approx((other.low, other.high))


def test_many_texts_are_drawn_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = two(50, 0.5, 0)
    whole = agreement(a, b, resamples=40)
    monkeypatch.setattr("invitro.stats.moments.CELLS", 150)
    found = agreement(a, b, resamples=40)
    assert (found.pcc.low, found.pcc.high) == pytest.approx((whole.pcc.low, whole.pcc.high))


def covers(estimate: Estimate, truth: float) -> bool:
    return estimate.low <= truth <= estimate.high


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    hits = dict.fromkeys(("pcc", "ccc", "krippendorff"), 0)
    for seed in range(300):
        found = agreement(*two(100, 0.5, seed), resamples=300, seed=seed)
        for name in hits:  # equal means and variances: all three are 0.5 in the population
            hits[name] += covers(getattr(found, name), 0.5)
    for count in hits.values():
        assert 0.90 <= count / 300 <= 0.985


@pytest.mark.slow
def test_with_several_texts_an_author_only_intervals_over_authors_cover() -> None:
    authors, each = 50, 6
    groups = np.repeat(np.arange(authors), each)
    hits = {"texts": 0, "authors": 0}
    for seed in range(200):
        rng = np.random.default_rng(seed)
        own = rng.normal(size=authors)[groups]  # an author rates all of their texts higher, or lower, than the LLM
        llm = rng.normal(size=authors * each)
        crowd = llm + own + rng.normal(0, 0.5, authors * each)
        hits["texts"] += covers(agreement(llm, crowd, resamples=200, seed=seed).bias, 0)
        hits["authors"] += covers(agreement(llm, crowd, groups, resamples=200, seed=seed).bias, 0)
    assert hits["authors"] / 200 >= 0.88
    assert hits["texts"] / 200 <= 0.75


def test_no_agreement_is_told_as_not_measurable() -> None:
    found = agreement(*two(80, 0.0, 3))
    assert not found.pcc.measurable
    assert told(found.pcc).endswith("], not measurable")
    clear = agreement(*two(80, 0.8, 3)).pcc
    assert clear.measurable
    assert told(clear) == str(clear) == f"{clear.value:.4f} [{clear.low:.3f}, {clear.high:.3f}]"


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.1, 0.3, True),
        (-0.3, -0.1, True),
        (-0.1, 0.3, False),
        (0.0, 0.3, False),
        (-0.3, 0.0, False),
        (NAN, NAN, False),
    ],
)
def test_measurable_means_that_the_interval_excludes_0(low: float, high: float, expected: bool) -> None:
    assert Estimate(0.1, low, high, 50).measurable is expected


@pytest.mark.parametrize("constant", [1.0, 4.1, 0.1 + 0.2, 6.9])
@pytest.mark.parametrize("seed", range(5))
def test_a_rater_that_never_moves_is_not_measurable(constant: float, seed: int) -> None:
    a, _ = two(60, 0.5, seed)
    found = agreement(a, np.full(60, constant))
    assert told(found.pcc) == "undefined, not measurable"
    assert (found.ccc.value, found.ccc.low, found.ccc.high) == (0, 0, 0)  # not what rounding makes of 0
    assert told(found.ccc) == "0.0000 [0.000, 0.000], not measurable"
    assert np.isnan(krippendorff_alpha(np.full((60, 3), constant)))


def test_a_rater_that_hardly_moves_has_no_interval() -> None:
    a, _ = two(60, 0.5, 0)
    almost = np.where(np.arange(60) == 7, 5.0, 4.0)  # a third of the draws miss the one text that differs
    found = agreement(a, almost).pcc
    assert np.isfinite(found.value)
    assert not found.measurable


def test_few_texts_have_no_interval() -> None:
    a, b = two(9, 0.9, 0)
    found = agreement(a, b)
    assert np.isfinite(found.rmse.value)
    assert np.isnan([found.rmse.low, found.pcc.high]).all()
    assert np.isnan(agreement(np.tile(a, 9), np.tile(b, 9), groups=np.tile(np.arange(9), 9)).pcc.low)


def test_missing_scores_leave_only_their_pairs() -> None:
    frame = pd.DataFrame(dict(zip("ab", two(40, 0.5, 0), strict=True))).assign(c=lambda table: table["a"] + 1)
    frame.loc[:4, "b"] = NAN
    assert [pair.n for pair in pairwise(frame)] == [35, 40, 35]
    assert alpha_estimate(frame).n == 40
    assert alpha_estimate(frame[["a", "b"]]).n == 35
    assert pairwise(frame)[1].bias.value == pytest.approx(1)


def test_groups_are_matched_by_id_and_a_missing_one_is_refused() -> None:
    a, b = two(40, 0.5, 0)
    frame = pd.DataFrame({"a": a, "b": b}, index=[f"t{i:02d}" for i in range(40)])
    groups = pd.Series([f"g{i % 15}" for i in range(40)], index=frame.index)
    assert pairwise(frame, groups) == pairwise(frame, groups[::-1])
    with pytest.raises(InputError, match="found none for 3, such as 't37'"):
        pairwise(frame, groups.head(37))


def test_two_columns_of_one_name_are_refused() -> None:
    with pytest.raises(InputError, match="found more than one named a"):
        pairwise(pd.DataFrame([[1.0, 2.0]], columns=["a", "a"]))


def test_many_distinct_scores_take_little_memory() -> None:
    import tracemalloc

    table = np.random.default_rng(0).normal(size=(20_000, 2))
    tracemalloc.start()
    krippendorff_alpha(table)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20 * table.nbytes  # coincidence matrices of 40,000 distinct scores would take terabytes


def test_the_gain_is_the_difference_of_two_correlations_on_common_texts() -> None:
    rng = np.random.default_rng(0)
    truth = rng.normal(size=200)
    table = pd.DataFrame({name: truth + rng.normal(0, sd, 200) for name, sd in {"crowd": 1, "a": 2, "b": 0.5}.items()})
    table.loc[:9, "a"] = NAN
    table.loc[5:14, "b"] = NAN
    common = table.dropna()
    found = gain(table)
    assert found.n == len(common) == 185
    expected = common["crowd"].corr(common["b"]) - common["crowd"].corr(common["a"])
    assert found.value == pytest.approx(expected)
    assert 0 < found.low < found.value < found.high
    swapped = gain(table[["crowd", "b", "a"]])
    assert (swapped.value, swapped.high) == (pytest.approx(-expected), pytest.approx(-found.low))


def test_prompts_that_share_their_noise_differ_more_surely_than_their_own_intervals_tell() -> None:
    rng = np.random.default_rng(1)
    crowd = rng.normal(size=100)
    shared = crowd + rng.normal(0, 1.5, 100)
    table = pd.DataFrame({"crowd": crowd, "a": shared, "b": shared + 0.5 * crowd})
    a, b, _ = (pair.pcc for pair in pairwise(table))
    assert b.low < a.high  # the two intervals overlap
    assert gain(table).low > 0
    assert not gain(table[["crowd", "a", "a"]].set_axis(["crowd", "a", "same"], axis=1)).measurable


def test_the_gain_is_drawn_by_author() -> None:
    rng = np.random.default_rng(2)
    rows = pd.DataFrame(rng.normal(size=(60, 3)), columns=["crowd", "a", "b"])
    copies = pd.concat([rows] * 4, ignore_index=True)
    authors = pd.Series(np.tile(np.arange(60), 4), index=copies.index)
    assert gain(copies, authors).low == pytest.approx(gain(rows).low)
    assert gain(copies).low > gain(rows).low


@pytest.mark.parametrize("llm", ["noisy", "constant", "perfect"])
def test_crowd_and_llm_have_one_interval_in_the_reliability_report_and_in_a_study(llm: str) -> None:
    rng = np.random.default_rng(0)
    authors = np.array([f"w{i:02d}" for i in range(40)]).repeat(3)
    crowd = rng.normal(4, 1, 120)
    other = {"noisy": crowd + rng.normal(0.3, 1, 120), "constant": np.full(120, 4.2), "perfect": crowd}[llm]
    texts = [f"t{i:03d}" for i in range(120)]
    table = pd.DataFrame({"llm": other, "crowd": crowd}, index=texts).sample(frac=1, random_state=1)
    (report,) = pairwise(table, pd.Series(authors, texts))
    people = pd.DataFrame({"gender": ["1"] * 120})
    (study,) = fairness([Measured("crowd", crowd[None], other, people, authors)]).rows
    for name, interval in study.measures.items():
        estimate = getattr(report, name)
        expected = (interval.value, interval.low, interval.high)
        assert (estimate.value, estimate.low, estimate.high) == pytest.approx(expected, abs=1e-9, nan_ok=True), name
    assert np.isnan(report.pcc.value) == (llm == "constant")
    assert report.n == study.texts == 120
