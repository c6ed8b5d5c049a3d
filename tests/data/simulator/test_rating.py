"""Raters: each fault alone does what its name says, rates hold, answers are points of the scale."""

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from invitro.data.simulator.rating import FAULTS, Answers, CrowdRaters, LLMRater, drawn_faults, in_points
from invitro.errors import InputError
from invitro.scales import Item, Scale
from invitro.stats import Floats

SEVEN = Scale("seven", "empathy", tuple(Item(f"i{n}", f"question {n}") for n in range(6)), 1, 7)
FOUR = Scale("four", "anxiety", tuple(Item(f"i{n}", f"question {n}") for n in range(7)), 0, 3, "sum")
HONEST = dict.fromkeys((*FAULTS, "style", "slip", "item_noise"), 0.0)
TEXTS = 4000


def truth_of(scale: Scale, texts: int = TEXTS) -> Floats:
    """Return item scores anywhere within the bounds, items of a text alike."""
    rng = np.random.default_rng(7)
    level = rng.random((texts, 1))
    own = rng.random((texts, len(scale.items)))
    return scale.low + (scale.high - scale.low) * (0.8 * level + 0.2 * own)


def people_of(texts: int = TEXTS) -> pd.DataFrame:
    rng = np.random.default_rng(8)
    return pd.DataFrame({"gender": rng.choice([1, 2], texts), "age": rng.integers(18, 80, texts)})


def rated(scale: Scale, truth: Floats, seed: int = 0, authors: int = 800, **changed: Any) -> Answers:
    """Let the crowd rate; without `changed` it is free of faults and noise."""
    crowd = CrowdRaters(**{**HONEST, **changed})
    author = np.arange(len(truth)) % authors
    return crowd.rate(truth, author, people_of(len(truth)), scale, np.random.default_rng(seed))


def correlation(a: Any, b: Any) -> float:
    return float(np.corrcoef(a, b)[0, 1])


@pytest.mark.parametrize("scale", [SEVEN, FOUR], ids=lambda scale: scale.name)
class TestEachFaultAlone:
    def test_nobody_errs_without_faults_and_noise(self, scale: Scale) -> None:
        truth = truth_of(scale)
        answers = rated(scale, truth)
        assert set(answers.fault) == {"none"}
        np.testing.assert_array_equal(answers.items, np.rint(truth))

    def test_inattention_ignores_the_truth(self, scale: Scale) -> None:
        truth = truth_of(scale)
        items = rated(scale, truth, inattention=1.0).items
        assert abs(correlation(items.mean(axis=1), truth.mean(axis=1))) < 4 / np.sqrt(TEXTS)
        points, counts = np.unique(items, return_counts=True)
        assert points.tolist() == list(range(int(scale.low), int(scale.high) + 1))
        np.testing.assert_allclose(counts / items.size, 1 / len(points), atol=0.02)
        assert abs(correlation(items[:, 0], items[:, 1])) < 4 / np.sqrt(TEXTS)

    def test_straight_lining_is_one_answer_whatever_the_text(self, scale: Scale) -> None:
        truth = truth_of(scale)
        items = rated(scale, truth, straight_lining=1.0, item_noise=0.2).items
        assert np.ptp(items, axis=1).max() == 0
        assert abs(correlation(items[:, 0], truth.mean(axis=1))) < 4 / np.sqrt(TEXTS)
        assert len(np.unique(items)) == scale.high - scale.low + 1

    def test_acquiescence_moves_up_and_never_down(self, scale: Scale) -> None:
        truth = truth_of(scale)
        honest, items = rated(scale, truth).items, rated(scale, truth, acquiescence=1.0).items
        assert (items >= honest).all()
        expected = np.maximum(honest, in_points(honest + 0.6 * (scale.high - honest), scale))
        np.testing.assert_array_equal(items, expected)
        np.testing.assert_array_equal(rated(scale, truth, acquiescence=1.0, agreement=0.0).items, honest)
        assert (rated(scale, truth, acquiescence=1.0, agreement=1.0).items == scale.high).all()

    def test_compression_keeps_to_the_middle_and_the_order(self, scale: Scale) -> None:
        truth = truth_of(scale)
        honest, items = rated(scale, truth).items, rated(scale, truth, compression=1.0).items
        middle = (scale.low + scale.high) / 2
        assert np.abs(items - middle).max() <= 0.3 * (scale.high - scale.low) / 2 + 0.5
        assert items.std() < 0.8 * honest.std()
        order = np.argsort(honest, axis=None)
        assert (np.diff(items.ravel()[order]) >= 0).all()
        np.testing.assert_array_equal(rated(scale, truth, compression=1.0, squeeze=1.0).items, honest)


def test_faults_by_hand() -> None:
    truth = np.array([[1.0, 2.0, 3.0, 4.0, 5.0, 7.0]])
    assert rated(SEVEN, truth, acquiescence=1.0).items.tolist() == [[5, 5, 5, 6, 6, 7]]
    assert rated(SEVEN, truth, compression=1.0).items.tolist() == [[3, 3, 4, 4, 4, 5]]


def within(share: float, rate: float, count: int) -> bool:
    """Tell whether a share is within four binomial SDs of its rate."""
    return abs(share - rate) <= 4 * math.sqrt(max(rate * (1 - rate), 1e-12) / count)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("rate", [0.0, 0.05, 0.2, 1.0])
def test_rates_hold(fault: str, rate: float) -> None:
    chosen: dict[str, Any] = {fault: rate}
    answers = rated(SEVEN, truth_of(SEVEN), **chosen)
    assert within(float(np.mean(answers.fault == fault)), rate, TEXTS)
    assert set(answers.fault) <= {fault, "none"}


def test_all_faults_together_exclude_each_other() -> None:
    rates: dict[str, Any] = dict(zip(FAULTS, (0.1, 0.2, 0.3, 0.15), strict=True))
    fault = rated(SEVEN, truth_of(SEVEN), **rates).fault
    for name, rate in {**rates, "none": 0.25}.items():
        assert within(float(np.mean(fault == name)), rate, TEXTS)


@pytest.mark.parametrize("key", [2, "2", 2.0])
def test_rates_by_group(key: Any) -> None:
    groups = {"gender": {key: {"inattention": 0.4}}, "age": {"18-29": {"compression": 0.3}}}
    fault = rated(SEVEN, truth_of(SEVEN), inattention=0.1, by_group=groups).fault
    people = people_of()
    woman, young = (people["gender"] == 2).to_numpy(), people["age"].between(18, 29).to_numpy()
    for member, name, rate in [
        (woman, "inattention", 0.4),
        (~woman, "inattention", 0.1),
        (young, "compression", 0.3),
        (~young, "compression", 0.0),
    ]:
        assert within(float(np.mean(fault[member] == name)), rate, int(member.sum()))


def test_demographics_may_be_text() -> None:
    crowd = CrowdRaters(**HONEST, by_group={"gender": {2: {"inattention": 0.4}}})
    rates = crowd.rates(pd.DataFrame({"gender": ["1", "2"]}))
    assert rates.tolist() == [[0.0, 0, 0, 0], [0.4, 0, 0, 0]]


def test_groups_that_add_up_to_more_than_one_are_refused() -> None:
    groups = {"gender": {2: {"inattention": 0.7}}, "age": {"18-99": {"compression": 0.7}}}
    with pytest.raises(InputError, match=r"several groups has rates of 1\.4"):
        rated(SEVEN, truth_of(SEVEN), by_group=groups)


def test_reading_noise_has_its_sds() -> None:
    """Away from the bounds, answers deviate by style, slip and single noise (and by rounding, 1/12)."""
    wide = Scale("wide", "empathy", SEVEN.items, 0, 1000)
    truth = np.full((TEXTS, 6), 500.0)
    error = rated(wide, truth, authors=800, style=0.03, slip=0.02, item_noise=0.01).items - truth
    within_text = error.var(axis=1, ddof=1).mean()
    assert np.sqrt(within_text) == pytest.approx(10, rel=0.05)
    means = error.mean(axis=1).reshape(-1, 800)  # author a wrote texts a, a + 800, ...
    assert np.sqrt(means.var(axis=0, ddof=1).mean() - within_text / 6) == pytest.approx(20, rel=0.05)
    assert means.mean(axis=0).std() == pytest.approx(np.sqrt(30**2 + (20**2 + 10**2 / 6) / 5), rel=0.08)


def test_a_fault_leaves_the_other_texts_alone() -> None:
    noise: dict[str, Any] = {"style": 0.1, "slip": 0.1, "item_noise": 0.1}
    clean, faulty = (rated(SEVEN, truth_of(SEVEN), inattention=rate, **noise) for rate in (0.0, 0.3))
    same = faulty.fault == "none"
    np.testing.assert_array_equal(clean.items[same], faulty.items[same])


scales = st.builds(
    lambda items, low, width, kind: Scale(
        "any", "x", tuple(Item(f"i{n}", "?") for n in range(items)), low, low + width, kind
    ),
    st.integers(1, 9),
    st.integers(-3, 3),
    st.integers(1, 10),
    st.sampled_from(["mean", "sum"]),
)


@given(scales, st.integers(0, 2**32), st.lists(st.floats(0, 0.25), min_size=4, max_size=4), st.floats(0, 3))
@settings(max_examples=60, deadline=None)
def test_answers_are_points_within_the_bounds(scale: Scale, seed: int, rates: list[float], noise: float) -> None:
    truth = truth_of(scale, 50)
    chosen: dict[str, Any] = dict(zip(FAULTS, rates, strict=True))
    answers = rated(scale, truth, seed, authors=10, style=noise, slip=noise, item_noise=noise, **chosen)
    assert answers.items.shape == truth.shape
    assert ((answers.items >= scale.low) & (answers.items <= scale.high)).all()
    np.testing.assert_array_equal(answers.items, np.rint(answers.items))
    assert not scale.outside(scale.score(answers.items)).any()
    assert set(answers.fault) <= {*FAULTS, "none"}
    llm = LLMRater(bias=0.3, gain=2.0, text_noise=noise, item_noise=noise, missing=0.0).score(
        truth, scale, np.random.default_rng(seed)
    )
    assert ((llm >= scale.low) & (llm <= scale.high)).all()


@given(st.integers(0, 2**32))
@settings(max_examples=20, deadline=None)
def test_drawn_faults_follow_certain_rates(seed: int) -> None:
    rates = np.vstack([np.eye(4), np.zeros((1, 4))])
    assert drawn_faults(rates, np.random.default_rng(seed)).tolist() == [*FAULTS, "none"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"inattention": 1.5}, "data.crowd.inattention: expected a number from 0 to 1, found 1.5"),
        ({"acquiescence": "often"}, "data.crowd.acquiescence: expected a number from 0 to 1, found 'often'"),
        ({"slip": -1}, "data.crowd.slip: expected a number of at least 0, found -1"),
        ({"style": float("nan")}, "data.crowd.style: expected a number of at least 0, found nan"),
        ({"inattention": 0.8, "compression": 0.8}, "expected rates of at most 1 together"),
        ({"by_group": {"gender": 0.3}}, "compression, such as {gender: {2: {inattention: 0.3}}, age: {18-29: {compr"),
        ({"by_group": {"sex": {2: {}}}}, "data.crowd.by_group: expected null or groups by one of gender, education"),
        ({"by_group": {"gender": {"f": {}}}}, "data.crowd.by_group.gender.f: expected a number or a range"),
        ({"by_group": {"gender": {2: {"sleep": 0.1}}}}, "with rates from 0 to 1 of inattention, straight_lining"),
        ({"by_group": {"age": {"18-29": {"compression": 2}}}}, "with rates from 0 to 1 of inattention"),
    ],
)
def test_wrong_crowd_settings_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as refused:
        CrowdRaters(**settings)
    assert message in str(refused.value)
