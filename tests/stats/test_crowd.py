"""Several people's ratings: figures against known values, and what must not change them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from invitro.stats.agreement import krippendorff_alpha
from invitro.stats.crowd import (
    Ratings,
    Statistic,
    crowd_labels,
    fitted_crowd,
    mean_reliability,
    of_matrix,
    reliability,
    spreads,
)
from invitro.stats.intervals import Estimate
from invitro.stats.items import raters_table, signs_of_carelessness, straight_lines


def crowd(seed: int = 0, texts: int = 200, raters: int = 8, gaps: float = 0.5) -> np.ndarray:
    """Return ratings, (texts, raters): truth with SD 1, biases with SD 0.5, noise with SD 0.7, and gaps."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(texts, 1)) + 0.5 * rng.normal(size=raters) + 0.7 * rng.normal(size=(texts, raters))
    scores[rng.random(scores.shape) < gaps] = np.nan
    return scores


def shuffled(of: Ratings, seed: int) -> Ratings:
    """Return the same ratings in another order of rows, with raters numbered otherwise."""
    rng = np.random.default_rng(seed)
    order, names = rng.permutation(len(of.score)), rng.permutation(of.raters)
    return of._replace(text=of.text[order], rater=names[of.rater[order]], score=of.score[order])


def test_alpha_is_that_of_complete_and_of_incomplete_tables() -> None:
    for gaps in (0.0, 0.5, 0.8):
        scores = crowd(gaps=gaps)
        assert reliability(of_matrix(scores), resamples=50).krippendorff.value == pytest.approx(
            krippendorff_alpha(scores)
        )


def test_icc_is_what_the_crowd_was_made_with() -> None:
    found = reliability(of_matrix(crowd(texts=4000, raters=40, gaps=0.9)), resamples=50)
    one = 1 / (1 + 0.5**2 + 0.7**2)
    k = found.typical
    assert found.icc1.value == pytest.approx(one, abs=0.05)
    assert found.icck.value == pytest.approx(
        k * found.icc1.value / (1 + (k - 1) * found.icc1.value)
    )  # Spearman and Brown
    assert found.bias.value == pytest.approx(0.5, abs=0.12)


def test_the_truth_itself_reaches_what_the_reliability_of_mean_labels_allows() -> None:
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(4000, 1))
    scores = truth + 0.9 * rng.normal(size=(4000, 4))
    scores[:2000, 1:] = np.nan  # half of the texts have one rating, the others four
    of = of_matrix(scores)
    found = mean_reliability(reliability(of, resamples=50).icc1, of.number)
    labels = crowd_labels(of, "mean")
    assert found.value == pytest.approx(1 / (1 + 0.81 * (1 + 1 / 4) / 2), abs=0.02)
    assert np.sqrt(found.value) == pytest.approx(np.corrcoef(labels, truth[:, 0])[0, 1], abs=0.01)
    rmse = np.sqrt(np.mean((labels - truth[:, 0]) ** 2))
    assert labels.std() * np.sqrt(1 - found.value) == pytest.approx(rmse, rel=0.02)
    assert found.estimate.low < found.value < found.estimate.high


def test_no_reliability_of_one_rating_is_none_of_several() -> None:
    negative = Statistic(Estimate(-0.1, -0.3, 0.2, 9))
    assert mean_reliability(negative, np.array([3])).reason == "raters differ on a text as much as texts do"
    assert mean_reliability(Statistic(None, "because"), np.array([3])).reason == "because"
    ends = mean_reliability(Statistic(Estimate(0.5, -0.3, np.nan, 9)), np.array([3])).estimate
    assert (ends.value, ends.low, np.isnan(ends.high)) == (0.75, 0.0, True)


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 100), st.floats(-50, 50), st.floats(0.1, 20))
def test_order_names_shift_and_stretch_change_no_reliability(seed: int, shift: float, stretch: float) -> None:
    of = of_matrix(crowd(texts=30))
    same = shuffled(of, seed)
    moved = same._replace(score=shift + stretch * same.score)
    before, after = reliability(of, resamples=10), reliability(moved, resamples=10)
    for name in ("krippendorff", "icc1", "icck"):
        assert getattr(after, name).value == pytest.approx(getattr(before, name).value, abs=1e-9)
    assert after.bias.value == pytest.approx(stretch * before.bias.value, rel=1e-4)
    for how in ("mean", "median", "raters"):
        assert crowd_labels(moved, how) == pytest.approx(shift + stretch * crowd_labels(of, how), rel=1e-4, abs=1e-4)
    assert signs_of_carelessness(moved) == [signs_of_carelessness(of)[old] for old in _old_names(of, seed)]


def _old_names(of: Ratings, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    rng.permutation(len(of.score))
    return np.argsort(rng.permutation(of.raters))


@pytest.mark.parametrize(
    ("scores", "reasons"),
    [
        (np.empty((3, 2)) * np.nan, ("there are no ratings",) * 3),
        ([[1, np.nan], [np.nan, 3]], ("every text has one rating; agreement needs two",) * 3),
        ([[1, 2], [np.nan, 3]], ("only one text has two ratings or more",) * 3),
        ([[4, 4], [4, 4]], ("all ratings are the same", "all ratings are the same", "the texts' means do not differ")),
    ],
)
def test_what_is_not_defined_has_its_reason(scores: list[list[float]], reasons: tuple[str, ...]) -> None:
    found = reliability(of_matrix(np.array(scores, dtype=float)), resamples=10)
    assert (found.krippendorff.reason, found.icc1.reason, found.icck.reason) == reasons
    assert found.krippendorff.estimate is None
    assert str(found.krippendorff) == f"not defined: {reasons[0]}"


def test_labels_by_mean_median_and_model() -> None:
    of = of_matrix(np.array([[1.0, 2, 6, np.nan], [3, np.nan, np.nan, 4], [np.nan] * 4]))
    assert crowd_labels(of, "mean").tolist()[:2] == [3.0, 3.5]
    assert crowd_labels(of, "median").tolist()[:2] == [2.0, 3.5]
    assert np.isnan(crowd_labels(of, "median")[2])
    assert spreads(of)[0] == pytest.approx(np.std([1, 2, 6], ddof=1))
    assert np.isnan(spreads(of_matrix(np.array([[2.0, np.nan]])))).all()


def test_the_model_knows_bias_and_noise_better_than_the_mean_does() -> None:
    rng = np.random.default_rng(1)
    truth = rng.normal(4, 1, (500, 1))
    noise = np.array([0.3] * 5 + [2.5] * 5)
    scores = truth + np.array([0.8, -0.8] * 5) + noise * rng.normal(size=(500, 10))
    scores[rng.random(scores.shape) < 0.6] = np.nan
    of = of_matrix(scores)
    fitted = fitted_crowd(of)
    assert fitted.noise[:5].max() < 0.6 < 1.8 < fitted.noise[5:].min()
    assert np.corrcoef(fitted.bias, [0.8, -0.8] * 5)[0, 1] > 0.95
    there = of.number > 0
    errors = {how: np.std(crowd_labels(of, how)[there] - truth[there, 0]) for how in ("mean", "raters")}
    assert errors["raters"] < 0.8 * errors["mean"]


def test_one_rating_a_text_is_its_own_label() -> None:
    of = of_matrix(np.array([[1.0, np.nan], [np.nan, 5.0]]))
    assert fitted_crowd(of).label.tolist() == [1.0, 5.0]
    assert raters_table(of)["undefined"].tolist() == ["no text has a second rating"] * 2


def test_straight_lines_need_three_answers() -> None:
    nan = np.nan
    assert straight_lines(np.array([[4, 4, 4], [4, 4, nan], [4, 4, 5], [nan, nan, nan]])).tolist() == [
        True, False, False, False,
    ]  # fmt: skip


def test_careless_raters_are_named_with_the_sign() -> None:
    rng = np.random.default_rng(2)
    truth = rng.normal(4, 1.2, (300, 1))
    scores = np.clip(np.rint(truth + 0.6 * rng.normal(size=(300, 12))), 1, 7)
    scores[:, 0] = 7  # no variance
    scores[:, 1] = 8 - scores[:, 1]
    scores[rng.random(scores.shape) < 0.7] = np.nan
    of = of_matrix(scores)
    straight = (of.rater == 2) | (rng.random(len(of.score)) < 0.1)
    signs = signs_of_carelessness(of, straight)
    assert signs[:3] == [["no variance"], ["negative agreement with the rest"], ["straight-lining"]]
    assert not any(signs[3:])
    assert raters_table(of, straight)["careless"].tolist()[2] == "straight-lining"
