"""Prediction-powered estimates: against the library, on cases with known answers, and how often intervals hold."""

import numpy as np
import pytest
from scipy.stats import binom

from invitro.errors import InputError
from invitro.stats.powered import CLASSICAL, NAIVE, POWERED, Coefficient, estimates, of_all, problem

pytestmark = pytest.mark.skipif(problem() is not None, reason="ppi-python is not installed")

ONES = np.ones((600, 1))


def drawn(seed: int, authors: int = 600, bias: float = 0.0, slope_bias: float = 0.0, n: int = 150):
    """Return design, crowd, LLM, gold, authors of 600 texts; mean 4 and slope 0.3 in the population."""
    rng = np.random.default_rng(seed)
    who = np.arange(600) % authors
    x = rng.normal(size=600)
    meant = 4 + 0.3 * x + rng.normal(size=authors)[who]
    crowd = meant + rng.normal(size=600) * 0.8
    llm = meant + bias + slope_bias * x + rng.normal(size=600) * 0.4
    gold = np.zeros(600, dtype=bool)
    gold[rng.permutation(600)[:n]] = True
    return np.column_stack([np.ones(600), x]), crowd, llm, gold, who


@pytest.mark.slow
def test_with_one_text_an_author_the_intervals_are_the_library_s() -> None:
    from ppi_py import classical_ols_ci, ppi_mean_ci, ppi_ols_ci

    design, crowd, llm, gold, who = drawn(0)
    classical, naive, powered = estimates(ONES, crowd, llm, gold, who)
    low, high = ppi_mean_ci(crowd[gold], llm[gold], llm[~gold], alpha=0.05)
    assert (powered.low, powered.high) == pytest.approx((low[0], high[0]))
    assert (classical.method, naive.method, powered.method) == (CLASSICAL, NAIVE, POWERED)
    assert classical.value == pytest.approx(crowd[gold].mean())
    assert naive.value == pytest.approx(llm.mean())
    by_hand = powered.power * llm[~gold].mean() + (crowd[gold] - powered.power * llm[gold]).mean()
    assert powered.value == pytest.approx(by_hand)
    assert 0 < powered.power < 1
    used = [(estimate.crowd_labels, estimate.llm_labels) for estimate in (classical, naive, powered)]
    assert used == [(150, 0), (0, 600), (150, 600)]
    assert powered.effective == pytest.approx(150 * (classical.error / powered.error) ** 2)
    assert np.isnan(naive.effective)

    classical, _, powered = estimates(design, crowd, llm, gold, who)
    low, high = ppi_ols_ci(design[gold], crowd[gold], llm[gold], design[~gold], llm[~gold], alpha=0.05, coord=1)
    assert (powered.low, powered.high) == pytest.approx((low[1], high[1]))
    low, high = classical_ols_ci(design[gold], crowd[gold], alpha=0.05)
    assert (classical.low, classical.high) == pytest.approx((low[1], high[1]))


@pytest.mark.parametrize("columns", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_errors_over_authors_are_the_library_s_where_each_wrote_one_text(columns: int) -> None:
    design, crowd, llm, gold, who = drawn(1)
    single = estimates(design[:, :columns], crowd, llm, gold, who)
    # One author with two texts: own errors are taken, and hardly differ.
    who = who.copy()
    who[1] = who[0]
    for ours, theirs in zip(estimates(design[:, :columns], crowd, llm, gold, who), single, strict=True):
        assert ours.value == pytest.approx(theirs.value)
        assert ours.error == pytest.approx(theirs.error, rel=0.02)
        assert (ours.iid_low, ours.iid_high) == pytest.approx((theirs.low, theirs.high))


def test_errors_over_authors_by_hand() -> None:
    # 40 authors who each say one thing three times are 40 texts.
    said = np.repeat(np.arange(40.0), 3)
    who = np.repeat(np.arange(40), 3)
    ours = of_all(np.ones((120, 1)), said, who, "all")
    assert ours.value == pytest.approx(19.5)
    assert ours.error == pytest.approx(np.arange(40.0).std(ddof=1) / np.sqrt(40))
    assert ours.iid_high - ours.iid_low == pytest.approx(2 * 1.959964 * said.std() / np.sqrt(120))
    assert ours.high - ours.low == pytest.approx(2 * 1.959964 * ours.error)


def test_a_perfect_llm_is_worth_all_texts_and_a_random_one_nothing() -> None:
    _, crowd, _, gold, who = drawn(2)
    perfect = estimates(ONES, crowd, crowd.copy(), gold, who)[2]
    assert perfect.effective == pytest.approx(600, rel=0.1)
    noise = np.random.default_rng(9).normal(size=600)
    useless = estimates(ONES, crowd, noise, gold, who)[2]
    assert useless.power < 0.2
    assert useless.effective == pytest.approx(150, rel=0.1)


def coverage(columns: int, true: float, draws: int = 200, **law: float) -> dict[str, int]:
    held = dict.fromkeys((CLASSICAL, NAIVE, POWERED), 0)
    for seed in range(draws):
        design, crowd, llm, gold, who = drawn(1000 + seed, authors=150, **law)
        for one in estimates(design[:, :columns], crowd, llm, gold, who):
            held[one.method] += one.low <= true <= one.high
    return held


@pytest.mark.parametrize(
    ("columns", "true"), [(1, 4.0), pytest.param(2, 0.3, marks=pytest.mark.slow)], ids=["mean", "coefficient"]
)
def test_intervals_hold_though_authors_wrote_several_and_the_llm_is_biased(columns: int, true: float) -> None:
    held = coverage(columns, true, bias=0.5, slope_bias=0.2)
    # What 200 intervals of 93 % and of 97 % hold, but for one in a thousand times.
    low, high = binom.ppf(0.001, 200, 0.93), binom.ppf(0.999, 200, 0.97)
    assert low <= held[CLASSICAL] <= high
    assert low <= held[POWERED] <= high
    assert held[NAIVE] < 20


def narrow(one: Coefficient) -> bool:
    return one.iid_low <= 4.0 <= one.iid_high


def test_intervals_for_independent_texts_do_not_hold_where_authors_wrote_several() -> None:
    held = 0
    for seed in range(200):
        _, crowd, llm, gold, who = drawn(3000 + seed, authors=60)
        held += narrow(estimates(ONES, crowd, llm, gold, who)[2])
    assert held < binom.ppf(0.001, 200, 0.93)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"gold": 20}, "at least 30 texts"),
        ({"gold": 600}, "uses all texts"),
        ({"llm": 3.0}, "LLM labels of the 150 drawn texts are all 3"),
        ({"crowd": 2.5}, "crowd labels of the 150 drawn texts are all 2.5"),
        ({"x": 1.0}, "inference.covariate: is the same for all texts"),
        ({"authors": 10}, "by 10"),
    ],
)
def test_what_intervals_cannot_come_from_is_refused(change: dict[str, float], says: str) -> None:
    design, crowd, llm, gold, who = drawn(4)
    if "gold" in change:
        gold = np.arange(600) < change["gold"]
    llm = np.full(600, change["llm"]) if "llm" in change else llm
    crowd = np.full(600, change["crowd"]) if "crowd" in change else crowd
    design = np.ones((600, 2)) if "x" in change else design
    who = np.arange(600) % int(change.get("authors", 600))
    with pytest.raises(InputError, match=says):
        estimates(design, crowd, llm, gold, who)
