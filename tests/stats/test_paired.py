"""Intervals, tests and their coverage: by hand, against known distributions, and in simulated null studies."""

import importlib.util
import sys
from itertools import pairwise
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats
from support import ROOT

from invitro.errors import InputError
from invitro.stats.intervals import (
    Contrast,
    Difference,
    Interval,
    best,
    compared,
    contrast,
    effect_size,
    holm,
    interval_of,
    plateau,
)
from invitro.stats.moments import METRICS, Scores, measure, resampled

scores = st.integers(4, 28).map(lambda quarters: quarters / 4)


@pytest.fixture(scope="module")
def coverage() -> ModuleType:
    """Return the benchmark that simulates null studies."""
    folder = ROOT / "benchmarks"
    spec = importlib.util.spec_from_file_location("coverage_benchmark", folder / "coverage.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        patch.setitem(sys.modules, spec.name, module)  # dataclasses look their module up
        spec.loader.exec_module(module)
    return module


def study(
    seeds: int = 5, texts: int = 120, gain: float = 0.0, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return labels, predictions of two configurations, and authors who wrote three texts each."""
    rng = np.random.default_rng(seed)
    authors = np.arange(texts) // 3
    truth = rng.normal(4, 1, texts)
    labels = truth + rng.normal(0, 0.7, texts)
    shared = rng.normal(0, 0.8, texts)
    a, b = (
        4
        + 0.7 * (truth - 4)
        + (1 - extra) * shared
        + rng.normal(0, 0.3, (seeds, texts))
        + rng.normal(0, 0.1, (seeds, 1))
        for extra in (gain, 0.0)
    )
    return labels, a, b, authors


def metric_interval(labels, predictions, groups, metric: str, resamples: int = 2000) -> Interval:
    return interval_of(resampled(labels, predictions, groups, resamples)[metric], metric)


def paired_difference(labels, a, b, groups, metric: str, resamples: int = 2000) -> Difference:
    a, b = np.where(np.isnan(b), np.nan, a), np.where(np.isnan(a), np.nan, b)
    return compared(*(resampled(labels, arm, groups, resamples)[metric] for arm in (a, b)), metric)


# The metrics, on all texts and on draws


@given(arrays(np.float64, (2, 12), elements=scores))
def test_metrics_are_those_of_runs(pair: np.ndarray) -> None:
    labels, predictions = pair
    found = resampled(labels, predictions[None], resamples=1)
    if np.ptp(labels) > 0 and np.ptp(predictions) > 0:
        for name, value in measure(predictions, labels).items():
            assert found[name].values[0] == pytest.approx(value, abs=1e-9)
    else:  # PCC is undefined, and CCC is 0
        assert np.isnan(found["pcc"].values[0])
        assert found["ccc"].values[0] == 0


def test_a_draw_takes_authors_whole() -> None:
    labels, predictions = np.array([1.0, 2, 3, 4]), np.array([[1.0, 2, 5, 6]])
    drawn = resampled(labels, predictions, ["a", "a", "b", "b"], resamples=200)["rmse"].draws[:, 0]
    # a is right, b is 2 too high: a draw is aa, ab or bb.
    assert set(np.round(drawn, 6)) == {0.0, round(np.sqrt(2), 6), 2.0}
    assert (drawn == 0).mean() == pytest.approx(0.25, abs=0.1)


def test_draws_are_the_same_for_every_configuration_and_order_of_seeds() -> None:
    labels, a, b, authors = study()
    together = resampled(labels, np.concatenate([a, b]), authors, resamples=50)["ccc"]
    alone = resampled(labels, b[::-1], authors, resamples=50)["ccc"]
    assert together.draws[:, 5:][:, ::-1] == pytest.approx(alone.draws)


def test_a_run_is_measured_on_the_texts_it_predicted() -> None:
    labels, a, _, authors = study(seeds=2)
    a[0, :60] = np.nan
    found = resampled(labels, a, authors, resamples=20)
    assert found["pcc"].values[0] == pytest.approx(measure(a[0, 60:], labels[60:])["pcc"])
    assert found["pcc"].texts == 120
    assert np.isfinite(found["pcc"].draws).all()


@pytest.mark.parametrize(
    ("labels", "predictions", "groups", "told"),
    [
        ([1.0, 2.0], [[1.0, 2.0, 3.0]], None, r"shape \(seeds, texts=2\), found \(1, 3\)"),
        ([1.0, np.nan], [[1.0, 2.0]], None, "found 1 without"),
        ([1.0, 2.0], [[1.0, 2.0]], ["a"], "author of each of 2 texts, found 1"),
    ],
)
def test_what_cannot_be_measured_is_refused(labels, predictions, groups, told) -> None:
    with pytest.raises(InputError, match=told):
        resampled(labels, predictions, groups)


# The error and its distribution


def test_errors_by_hand() -> None:
    # Seeds 1, 3: v = 2, v / S = 1. Draws (mean over seeds 0, 2, 4): var of the mean 4; own variances 4 and 4 when both
    # move alike, so the covariance is (2^2 * 4 - 8) / 2 = 4. All texts' variances times G / (G - 1) = 20 / 19.
    draws = np.array([[-1.0, 1.0], [1.0, 3.0], [3.0, 5.0]])
    found = contrast(Scores(np.array([1.0, 3.0]), draws, authors=20, texts=20))
    assert found.value == 2
    assert found.seed_error == pytest.approx(1)
    assert found.text_error == pytest.approx(np.sqrt(4 * 20 / 19))
    assert found.over_seeds == pytest.approx(1 / (1 + 80 / 19))


def test_what_seeds_do_not_share_is_counted_once() -> None:
    rng = np.random.default_rng(0)
    # Every seed moves by itself on draws of the texts: that is in the variance over seeds already.
    own = contrast(Scores(np.array([1.0, 2.0, 3.0, 4.0]), rng.normal(size=(20_000, 4)), 100, 100))
    assert own.text_error < 0.1
    assert own.seed_error == pytest.approx(np.sqrt(5 / 3 / 4))


def test_one_seed_has_an_interval_over_texts_alone() -> None:
    labels, a, b, authors = study(seeds=1)
    found = paired_difference(labels, a, b, authors, "ccc")
    draws = resampled(labels, a, authors)["ccc"].draws - resampled(labels, b, authors)["ccc"].draws
    half = stats.t.ppf(0.975, 39) * draws.std(ddof=1) * np.sqrt(40 / 39)
    assert found.seeds == 1
    assert found.high - found.difference == pytest.approx(half)


@pytest.mark.parametrize(
    ("seed_error", "text_error", "seeds", "authors", "expected"),
    [
        (0.3, 0.7, 2, 2, stats.cauchy.ppf(0.975)),  # two Cauchy variates add to one whose scales add
        (2.0, 0.5, 2, 2, 2.5 * stats.cauchy.ppf(0.975)),
        (0.0, 1.0, 5, 40, stats.t.ppf(0.975, 39)),
        (1.0, 0.0, 5, 40, stats.t.ppf(0.975, 4)),
        (1.0, 1e-5, 5, 40, stats.t.ppf(0.975, 4)),
        (3.0, 4.0, 10**6, 10**6, 5 * stats.norm.ppf(0.975)),  # two normal variates add to one whose variances add
    ],
)
def test_the_distribution_where_it_is_known(
    seed_error: float, text_error: float, seeds: int, authors: int, expected: float
) -> None:
    found = Contrast(1.5, seed_error, text_error, seeds, authors).interval()
    assert found.high - 1.5 == pytest.approx(expected, rel=5e-4)
    assert 1.5 - found.low == pytest.approx(expected, rel=5e-4)


@pytest.mark.parametrize(("seed_error", "text_error", "seeds"), [(0.3, 0.7, 5), (1.0, 0.2, 3), (0.5, 0.5, 2)])
def test_the_distribution_against_draws_from_it(seed_error: float, text_error: float, seeds: int) -> None:
    rng = np.random.default_rng(0)
    drawn = seed_error * rng.standard_t(seeds - 1, 10**6) + text_error * rng.standard_t(129, 10**6)
    found = Contrast(0.0, seed_error, text_error, seeds, 130)
    for share in (0.2, 0.05, 0.004):
        assert found.beyond(float(np.quantile(np.abs(drawn), 1 - share))) == pytest.approx(share, rel=0.05)


@given(st.floats(-1, 1), st.floats(0.01, 1), st.floats(0.01, 1), st.integers(2, 10))
@settings(deadline=None)
def test_interval_and_p_agree(value: float, seed_error: float, text_error: float, seeds: int) -> None:
    found = Contrast(value, seed_error, text_error, seeds, 100)
    there = found.interval()
    for level in (0.9, 0.99):
        assert found.interval(level).low < there.low or level < 0.95
    assert found.beyond(there.high - value) == pytest.approx(0.05, rel=1e-4)
    if abs(there.low) > 1e-6 and abs(there.high) > 1e-6:
        assert (found.p < 0.05) == (there.low > 0 or there.high < 0)


# Intervals of configurations, differences


@pytest.mark.parametrize("metric", METRICS)
def test_an_interval_holds_its_value_and_stays_in_range(metric: str) -> None:
    labels, a, _, authors = study(texts=30)
    found = metric_interval(labels, a, authors, metric)
    expected = np.mean([measure(one, labels)[metric] for one in a])
    assert found.value == pytest.approx(expected)
    assert found.low < found.value < found.high
    assert found.high < 1 or metric == "rmse"
    nearly = metric_interval(labels, labels + 1e-3 * np.cos(np.arange(30)) + np.zeros((5, 1)), authors, metric)
    assert 0 <= nearly.low <= nearly.high <= 1


def test_fishers_z_is_used_for_correlations() -> None:
    labels, a, _, authors = study()
    scores = resampled(labels, a, authors)["pcc"]
    raw, found = contrast(scores), interval_of(scores, "pcc")
    slope = 1 / (1 - raw.value**2)
    z = Contrast(0, raw.seed_error * slope, raw.text_error * slope, 5, 40).interval().high
    assert found.high == pytest.approx(np.tanh(np.arctanh(raw.value) + z))
    assert found.value - found.low > found.high - found.value


def test_a_difference_is_paired() -> None:
    labels, a, b, authors = study(gain=0.4)
    for metric in METRICS:
        found = paired_difference(labels, a, b, authors, metric)
        values = [[measure(run, labels)[metric] for run in arm] for arm in (a, b)]
        assert (found.a, found.b) == pytest.approx(tuple(np.mean(values, axis=1)))
        assert found.difference == pytest.approx(found.a - found.b)
        assert found.low < found.difference < found.high
        assert (found.seeds, found.texts) == (5, 120)
        assert found.p < 0.05
        assert np.sign(found.effect) == np.sign(found.difference) == (-1 if metric == "rmse" else 1)
        # What both get wrong alike does not count.
        alone = metric_interval(labels, a, authors, metric)
        assert found.high - found.low < alone.high - alone.low


def test_swapping_the_configurations_turns_the_difference_round() -> None:
    labels, a, b, authors = study(gain=0.2)
    one, other = (paired_difference(labels, *pair, authors, "ccc") for pair in ((a, b), (b, a)))
    assert (one.difference, one.low, one.high, one.p, one.effect) == pytest.approx(
        (-other.difference, -other.high, -other.low, other.p, -other.effect), rel=1e-6
    )


@given(st.permutations(range(60)), st.permutations(range(4)))
@settings(max_examples=20, deadline=None)
def test_neither_the_order_of_seeds_nor_of_authors_matters(texts: list[int], seeds: list[int]) -> None:
    labels, a, b, authors = study(seeds=4, texts=60, gain=0.2)
    found = paired_difference(labels, a, b, authors, "ccc", 300)
    moved = paired_difference(labels[texts], a[seeds][:, texts], b[seeds][:, texts], authors[texts], "ccc", 300)
    assert (moved.low, moved.high, moved.p) == pytest.approx((found.low, found.high, found.p), rel=1e-6)


def test_equal_runs_are_no_test() -> None:
    labels, a, _, authors = study()
    found = paired_difference(labels, a, a, authors, "rmse")
    assert (found.difference, found.low, found.high) == (0, 0, 0)
    assert np.isnan(found.p)


def test_there_is_no_interval_over_a_handful_of_authors() -> None:
    labels, a, b, _ = study(texts=27)
    found = paired_difference(labels, a, b, np.arange(27) // 3, "ccc")
    assert np.isnan([found.low, found.high, found.p]).all()
    assert np.isfinite(found.difference)


def test_a_pair_is_compared_on_the_texts_that_both_predicted() -> None:
    labels, a, b, authors = study()
    cut = a.copy()
    cut[:, :30] = np.nan
    found, expected = (
        paired_difference(labels, cut, b, authors, "pcc"),
        paired_difference(labels[30:], a[:, 30:], b[:, 30:], authors[30:], "pcc"),
    )
    assert found.difference == pytest.approx(expected.difference)
    assert found.texts == 90


def test_folds_are_repetitions_on_texts_of_their_own() -> None:
    labels, a, b, authors = study(seeds=10, texts=300, gain=0.2)
    fold = authors % 10
    for arm in (a, b):
        arm[np.arange(10)[:, None] != fold] = np.nan
    scores = [resampled(labels, arm, authors)["ccc"] for arm in (a, b)]
    found = contrast(scores[0] - scores[1])
    # Folds have no text in common, so that nothing but their own variance is there.
    assert found.seed_error == pytest.approx((scores[0].values - scores[1].values).std(ddof=1) / np.sqrt(10))
    assert found.text_error < 0.35 * found.seed_error


def test_more_seeds_and_texts_narrow_the_interval() -> None:
    widths = []
    for seeds, texts in ((3, 60), (10, 60), (10, 600)):
        labels, a, b, authors = study(seeds, texts)
        found = paired_difference(labels, a, b, authors, "ccc")
        widths.append(found.high - found.low)
    assert all(wide > narrow for wide, narrow in pairwise(widths))


# Corrections and summaries


@pytest.mark.parametrize(
    ("p", "expected"),
    [
        ([0.01, 0.04, 0.03], [0.03, 0.06, 0.06]),
        ([0.5, 0.9], [1.0, 1.0]),
        ([0.02, np.nan, 0.04], [0.04, np.nan, 0.04]),
        ([0.01, 0.01, 0.01], [0.03, 0.03, 0.03]),
        ([np.nan], [np.nan]),
        ([], []),
    ],
)
def test_holm_by_hand(p: list[float], expected: list[float]) -> None:
    assert holm(p) == pytest.approx(expected, nan_ok=True)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_holm_lies_between_p_and_bonferroni_and_keeps_the_order(p: list[float]) -> None:
    adjusted = holm(p)
    assert (adjusted >= np.array(p)).all()
    assert (adjusted <= np.minimum(np.array(p) * len(p), 1) + 1e-12).all()
    assert (np.diff(adjusted[np.argsort(p)]) >= 0).all()


@pytest.mark.parametrize(
    ("values", "metric", "expected"),
    [([0.3, 0.5, 0.4], "pcc", 0.5), ([1.4, 1.2, 1.3], "rmse", 1.2), ([0.2, np.nan], "ccc", 0.2), ([], "ccc", np.nan)],
)
def test_the_best_of_several(values: list[float], metric: str, expected: float) -> None:
    assert best(values, metric) == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize(
    ("a", "b", "metric", "expected"),
    [
        (0.5, 0.4, "ccc", 0.5493 - 0.4236),
        (0.4, 0.5, "pcc", 0.4236 - 0.5493),
        (1.2, 1.6, "rmse", -0.2877),
        (0.3, 0.3, "ccc", 0),
    ],
)
def test_effect_size_by_hand(a: float, b: float, metric: str, expected: float) -> None:
    assert effect_size(a, b, metric) == pytest.approx(expected, abs=1e-4)


# The plateau


def portions(
    gains: dict[float, float], texts: int = 600, noise: float = 0.15, seed: int = 3
) -> dict[float, dict[str, Scores]]:
    """Return the scores of five seeds at each portion, whose predictions are off by the less the larger a gain is."""
    rng = np.random.default_rng(seed)
    truth, authors = rng.normal(4, 1, texts), np.arange(texts) // 2
    labels, shared = truth + rng.normal(0, 0.5, texts), rng.normal(0, 0.8, texts)
    found = {}
    for portion, gain in gains.items():
        runs = 4 + 0.7 * (truth - 4) + (1 - gain) * shared + rng.normal(0, noise, (5, texts))
        found[portion] = resampled(labels, runs, authors, resamples=500)
    return found


def of_metric(found: dict[float, dict[str, Scores]], metric: str) -> dict[float, Scores]:
    return {portion: scores[metric] for portion, scores in found.items()}


LEVELS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


@pytest.mark.parametrize("metric", METRICS)
def test_a_plateau_and_a_rise_are_told_apart(metric: str) -> None:
    flat = plateau(of_metric(portions({x: min(x, 0.3) for x in LEVELS}), metric), metric, 0.3)
    rising = plateau(of_metric(portions({x: 0.6 * x for x in LEVELS}), metric), metric, 0.3)
    assert flat.verdict == "plateau"
    assert flat.most < flat.margin
    assert flat.p > 0.05
    assert rising.verdict == "gain"
    assert rising.p < 0.001
    assert rising.after.low > 0
    for found in (flat, rising):
        assert found.before.low > 0  # up to 30 % both gain
        assert (found.start, found.end, found.seeds, found.texts) == (0.3, 1.0, 5, 600)


def test_the_gain_is_that_of_the_fitted_line() -> None:
    scores = of_metric(portions({x: 0.3 * x for x in LEVELS}), "ccc")
    found = plateau(scores, "ccc", 0.3)
    x = [value for value in LEVELS if value >= 0.3]
    line = np.polyfit(x, [scores[value].values.mean() for value in x], 1)
    assert found.after.value == pytest.approx(0.7 * line[0])
    assert found.before.value == pytest.approx(scores[0.3].values.mean() - scores[0.0].values.mean())


def test_too_few_texts_leave_a_plateau_undecided() -> None:
    found = plateau(of_metric(portions({x: min(x, 0.3) for x in LEVELS}, texts=30, noise=0.8), "ccc"), "ccc", 0.3)
    assert found.verdict == "undecided"
    assert found.p > 0.05


def test_a_plateau_needs_two_values() -> None:
    with pytest.raises(InputError, match=r"study.plateau=0.9: expected two or more values.*found \[1.0\]"):
        plateau(of_metric(portions({0.0: 0, 1.0: 0}), "ccc"), "ccc", 0.9)


def test_nothing_is_said_of_what_was_before_the_first_value() -> None:
    found = plateau(of_metric(portions({0.3: 0.3, 1.0: 0.3}), "ccc"), "ccc", 0.3)
    assert np.isnan(found.before.value)


# How often all this is right


@pytest.mark.slow
def test_a_thousand_null_studies(coverage: ModuleType) -> None:
    found = coverage.tally(coverage.Regime(), 1000)
    for metric in METRICS:
        assert 0.93 <= found.differences[metric] <= 0.97, metric
        assert 0.93 <= found.means[metric] <= 0.97, metric
    assert found.family <= 0.05


@pytest.mark.slow
@pytest.mark.parametrize(("seeds", "texts", "unsteady"), [(3, 150, 2.0), (10, 150, 0.4)])
def test_null_studies_of_other_sizes(coverage: ModuleType, seeds: int, texts: int, unsteady: float) -> None:
    found = coverage.tally(coverage.Regime(seeds, texts, unsteady, others=3), 80)
    for metric in METRICS:  # 240 and 320 intervals that depend on each other: a standard error of some 2 %
        assert found.differences[metric] >= 0.9, metric
        assert found.means[metric] >= 0.9, metric
    assert found.family <= 0.08


@pytest.mark.slow
def test_a_planted_effect_is_found(coverage: ModuleType) -> None:
    regime = coverage.Regime(effect=0.5)
    baseline, other = coverage.truth(regime)["ccc"]
    assert other - baseline == pytest.approx(0.133, abs=0.01)
    found = coverage.tally(regime, 60)
    assert found.found["ccc"] >= 0.8
    assert found.family >= 0.95
    assert all(0.9 <= held <= 1 for held in found.differences.values())


@pytest.mark.slow
def test_a_choice_on_validation_does_not_fabricate_findings(coverage: ModuleType) -> None:
    found = coverage.chosen(coverage.Regime(others=8, texts=200), 100, resamples=200)
    assert found["own"] <= 0.08
    assert found["all"] <= found["own"]


def test_the_methods_that_were_not_taken_undercover(coverage: ModuleType) -> None:
    held = coverage.methods(coverage.Regime(texts=200), 100, resamples=200)
    assert held["percentiles over seeds"]["ccc"] < 0.8
    assert held["t over seeds"]["ccc"] < 0.92
    assert held["crossed, Behrens-Fisher (ours)"]["ccc"] >= 0.92


def test_a_difference_knows_its_fields() -> None:
    labels, a, b, authors = study()
    scores = [resampled(labels, arm, authors)["ccc"] for arm in (a, b)]
    found = compared(*scores, "ccc")
    assert isinstance(found, Difference)
    assert found.p_holm is None
