"""Regression in closed form: equal to scikit-learn's, indifferent to order and units, honest about its uncertainty."""

from typing import Any, get_args

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import Kernel

from invitro.errors import InputError
from invitro.models import exact
from invitro.models.exact import Design, ExactRegression, KernelStudent, LeftOut, Observed, covariance_factor, spaced
from invitro.models.features import LayerKernel
from invitro.models.settings import PredictedSpread


def features(n: int, layers: int = 4, hidden: int = 6, seed: int = 0) -> Any:
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(n, layers, hidden)) * [1, 5, 0.1, 2, 9, 1] + 3).astype(np.float32)


def words(n: int, seed: int = 1) -> Any:
    return csr_matrix(np.random.default_rng(seed).binomial(1, 0.3, (n, 9)) / 2.0)


def observed(n: int, seed: int = 2, authors: int = 8) -> Observed:
    rng = np.random.default_rng(seed)
    return Observed(rng.normal(4, 1.5, n), rng.uniform(0.5, 2, n), rng.integers(authors, size=n))


def whole(x: Any, w: Any, start: int = 0) -> tuple[LayerKernel, Any]:
    ((kernel, gram),) = LayerKernel.nested(x, w, [start])
    return kernel, gram


def fitted(x: Any, w: Any, seen: Observed) -> ExactRegression:
    return Design(x, w).fit(seen)


def exactly(kernel: LayerKernel, gram: Any, seen: Observed, noise: float) -> ExactRegression:
    return ExactRegression.exact(kernel, covariance_factor(gram, noise / seen.weights), seen, noise)


def left_out(gram: Any, seen: Observed, noise: float) -> Any:
    return LeftOut(gram, seen.weights, seen.authors, noise).predict(seen.labels)


class Precomputed(Kernel):  # type: ignore[misc]  # scikit-learn has no types
    """Looks up similarities by the number of the text."""

    def __init__(self, table: Any) -> None:
        self.table = table

    def __call__(self, left: Any, right: Any = None, eval_gradient: bool = False) -> Any:
        return self.table[np.ix_(left[:, 0].astype(int), (left if right is None else right)[:, 0].astype(int))]

    def diag(self, left: Any) -> Any:
        return np.diag(self.table)[left[:, 0].astype(int)]

    def is_stationary(self) -> bool:
        return False


def test_it_is_scikit_learns_gaussian_process() -> None:
    x, w, seen = features(40), words(40), observed(30)
    kernel, gram = whole(x[:30], w[:30])
    near, own = kernel.to_training(x[30:], w[30:])
    ours = exactly(kernel, gram, seen, 0.7)
    table = np.block([[gram, near.T], [near, np.diag(own)]])
    rows, rest = np.arange(30)[:, None], seen.labels - seen.mean

    def theirs(variance: float) -> Any:
        noise = variance * 0.7 / seen.weights
        return GaussianProcessRegressor(Precomputed(variance * table), alpha=noise, optimizer=None).fit(rows, rest)

    mean, sd = theirs(ours.variance).predict(np.arange(30, 40)[:, None], return_std=True)
    predicted = ours.predict(x[30:], w[30:])
    assert predicted.score == pytest.approx(mean + seen.mean, abs=1e-9)
    assert predicted.sd == pytest.approx(np.sqrt(sd**2 + 0.7 * ours.variance), abs=1e-9)
    assert ours.fitted_scores(seen) == pytest.approx(ours.predict(x[:30], w[:30]).score, abs=1e-5)
    likelihoods = [theirs(ours.variance * factor).log_marginal_likelihood_value_ for factor in (0.95, 1, 1.05)]
    assert likelihoods[1] == max(likelihoods)  # the variance has its most likely value


def test_training_texts_seen_anew_have_the_same_similarities() -> None:
    x, w = features(25), words(25)
    kernel, gram = whole(x, w)
    near, own = kernel.to_training(x, w)
    assert near == pytest.approx(gram, abs=1e-5)
    assert own == pytest.approx(np.diag(gram), abs=1e-5)
    assert gram.mean() == pytest.approx(0, abs=1e-12)  # centred
    assert np.diag(gram).mean() == pytest.approx(1)  # every part has the mean variance 1


def test_kernels_from_several_layers_upwards_are_those_made_one_by_one() -> None:
    x, w = features(20), words(20)
    made = list(LayerKernel.nested(x, w, [1, 3, 2]))
    assert [kernel.first_layer for kernel, _ in made] == [3, 2, 1]
    for kernel, gram in made:
        alone, expected = whole(x, w, kernel.first_layer)
        assert gram == pytest.approx(expected, abs=1e-10)
        assert kernel.to_training(x[:5], w[:5])[0] == pytest.approx(alone.to_training(x[:5], w[:5])[0])


def test_order_of_texts_and_units_of_features_do_not_matter() -> None:
    x, w, seen, new = features(40), words(40), observed(40), features(7, seed=5)
    expected = fitted(x, w, seen).predict(new, words(7, 6))
    order = np.random.default_rng(0).permutation(40)
    units, shift = np.float32([2, 8, 0.5, 1, 4, 0.25]), np.float32(16)
    moved = fitted(x[order] * units + shift, w[order], seen.of(order))
    got = moved.predict(new * units + shift, words(7, 6))
    assert got.score == pytest.approx(expected.score, abs=1e-4)
    assert got.sd == pytest.approx(expected.sd, abs=1e-4)


def test_labels_on_another_scale_give_predictions_on_that_scale() -> None:
    x, seen, new = features(40), observed(40), features(7, seed=5)
    first, second = fitted(x, None, seen), fitted(x, None, seen._replace(labels=10 * seen.labels - 3))
    assert second.predict(new).score == pytest.approx(10 * first.predict(new).score - 3)
    assert second.predict(new).sd == pytest.approx(10 * first.predict(new).sd)


def test_a_weight_of_two_is_a_text_seen_twice() -> None:
    x, seen = features(12), observed(12)
    kernel, gram = whole(x, None)
    weights = np.where(np.arange(12) < 3, 2.0, 1.0)
    heavy = exactly(kernel, gram, Observed(seen.labels, weights, seen.authors), 1.0)
    rows = np.r_[np.arange(12), 0, 1, 2]
    twice = exactly(kernel, gram[np.ix_(rows, rows)], Observed(seen.labels[rows], np.ones(15), rows), 1.0)
    near, _ = kernel.to_training(features(5, seed=9))
    assert near @ heavy.coefficients == pytest.approx(near[:, rows] @ twice.coefficients, abs=1e-9)


def test_a_student_on_known_similarities_is_the_exact_one() -> None:
    x, seen = features(20), observed(20)
    kernel, gram = whole(x, None)
    rows, new = np.array([0, 3, 4, 8, 9, 12, 15, 19]), np.array([1, 2])
    student = KernelStudent(gram, 0.9)
    for _ in range(2):  # the second time the factor is known
        got = student.predict(rows, seen.labels[rows], seen.weights[rows], new)
        part = seen.of(rows)._replace(weights=seen.weights[rows] / seen.weights[rows].mean())
        exact_one = exactly(kernel, gram[np.ix_(rows, rows)], part, 0.9)
        assert got == pytest.approx(part.mean + gram[np.ix_(new, rows)] @ exact_one.coefficients)


def test_a_dimension_that_does_not_vary_is_harmless() -> None:
    x = features(15)
    x[:, 2, 3] = 7
    _, gram = whole(x, None)
    assert np.isfinite(gram).all()


@pytest.mark.parametrize("authors", [6, 1])
def test_left_out_predictions_are_those_of_refits(authors: int) -> None:
    seen = observed(24, authors=authors)
    _, gram = whole(features(24), words(24))
    got, groups = left_out(gram, seen, 0.8), seen.authors if authors > 1 else np.arange(24)
    for author in np.unique(groups):
        out, rest = np.flatnonzero(groups == author), np.flatnonzero(groups != author)
        covariance = gram[np.ix_(rest, rest)] + np.diag(0.8 / seen.weights[rest])
        known = np.linalg.solve(covariance, seen.labels[rest] - seen.mean)
        assert got[out] == pytest.approx(seen.mean + gram[np.ix_(out, rest)] @ known, abs=1e-5)  # in float32


@pytest.mark.parametrize("least", [1e-6, 1e-30, 1e-42, 1e-300])
def test_weights_that_lie_too_far_apart_are_refused(least: float) -> None:
    seen = observed(40)._replace(weights=np.where(np.arange(40) < 4, 10.0, least))
    if least > 1e-40:
        assert np.isfinite(fitted(features(40), None, seen).coefficients).all()
        return
    with pytest.raises(InputError, match=r"are too far apart, from 1e-\d+ to 10; choose a larger alpha"):
        fitted(features(40), None, seen)


def test_a_covariance_that_is_singular_in_single_precision_is_refused() -> None:
    _, gram = whole(features(40), None)  # centred, so that only the noise makes it regular
    with pytest.raises(InputError, match="are too far apart"):
        LeftOut(gram, np.full(40, 1e12), np.arange(40), 1.0)


@pytest.mark.parametrize("spread", get_args(PredictedSpread))
def test_labels_weights_and_authors_may_change_from_fit_to_fit(spread: PredictedSpread) -> None:
    x, w, new = features(40), words(40), features(7, seed=5)
    one, other = observed(40), observed(40, seed=7)
    kept = Design(x, w, kept=True)
    for seen in (one, other, one._replace(labels=other.labels), one._replace(authors=np.arange(40)), one):
        found, expected = kept.fit(seen, spread), Design(x, w).fit(seen, spread)
        assert (found.kernel.first_layer, found.noise) == (expected.kernel.first_layer, expected.noise)
        for mine, fresh in zip(found.predict(new, words(7, 6)), expected.predict(new, words(7, 6)), strict=True):
            np.testing.assert_array_equal(mine, fresh)


def test_layers_that_carry_the_label_are_chosen() -> None:
    rng = np.random.default_rng(3)
    x = rng.normal(size=(250, 13, 8)).astype(np.float32)
    labels = x[:, 10:].mean(axis=1) @ rng.normal(size=8) * 3 + rng.normal(size=250) * 0.3
    made = fitted(x, None, Observed(labels, np.ones(250), np.arange(250)))
    assert made.kernel.first_layer == 6  # the upper half


def test_intervals_cover_what_they_say() -> None:
    rng = np.random.default_rng(4)
    x = rng.normal(size=(700, 2, 5)).astype(np.float32)
    _, gram = next(LayerKernel.nested(x, None, [0]))
    truth = np.linalg.cholesky(gram + 1e-6 * np.eye(700)) @ rng.normal(size=700)
    labels = 4 + truth + rng.normal(size=700)
    seen = Observed(labels[:400], np.ones(400), np.arange(400))
    made = fitted(x[:400], None, seen)
    score, sd = made.predict(x[400:])
    assert sd is not None
    assert 0.92 <= np.mean(np.abs(labels[400:] - score) < 1.96 * sd) <= 0.98


def test_landmarks_come_close_to_the_exact_solution(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(5)
    x = rng.normal(size=(600, 3, 3)).astype(np.float32)
    labels = np.sin(2 * x[:, 1:].mean(axis=1) @ [1, -1, 0.5]) + rng.normal(size=600) * 0.2
    seen, new = Observed(labels, rng.uniform(0.5, 2, 600), np.arange(600)), x[:50] + np.float32(0.1)
    whole_ = fitted(x, None, seen)
    monkeypatch.setattr(exact, "MOST_EXACT", 500)
    monkeypatch.setattr(exact, "LANDMARKS", 300)
    monkeypatch.setattr(exact, "PART", 128)
    parts = fitted(x, None, seen)
    assert len(parts.coefficients) == 300
    assert parts.fitted_scores(seen) is None
    in_parts, at_once = parts.predict(x), parts.predict_near(*parts.kernel.to_training(x))
    assert (in_parts.score, in_parts.sd) == (pytest.approx(at_once.score), pytest.approx(at_once.sd))
    both = [made.predict(new) for made in (whole_, parts)]
    assert np.corrcoef(both[0].score, both[1].score)[0, 1] > 0.99
    assert both[1].sd == pytest.approx(both[0].sd, rel=0.1)


def test_all_landmarks_are_the_exact_solution() -> None:
    x, w, seen = features(30), words(30), observed(30)
    kernel, gram = whole(x, w)
    one = exactly(kernel, gram, seen, 1.0)
    other = ExactRegression.projected(kernel, gram, seen, 1.0, iter([gram[:20], gram[20:]]))
    assert other.variance == pytest.approx(one.variance, rel=1e-4)
    new, more = features(6, seed=8), words(6, 8)
    assert other.predict(new, more).score == pytest.approx(one.predict(new, more).score, abs=1e-3)
    assert other.predict(new, more).sd == pytest.approx(one.predict(new, more).sd, rel=1e-3)


def test_the_same_texts_are_chosen_in_any_order() -> None:
    x = features(50)
    order = np.random.default_rng(1).permutation(50)
    assert sorted(order[spaced(x[order], 12)]) == spaced(x, 12).tolist()
    assert spaced(x, 50).tolist() == list(range(50))


def test_the_spread_of_predictions_is_that_of_labels_and_raw_ones_have_the_least_error() -> None:
    x, w, seen = features(120), words(120), observed(120, authors=120)
    seen = seen._replace(labels=4 + x[:, 2, 1] / 5 + np.random.default_rng(3).normal(0, 0.7, 120))
    kernel, gram = whole(x, w)
    raw = exactly(kernel, gram, seen, 1.0)
    known = left_out(gram, seen, 1.0)
    models = {spread: raw.spread_as(spread, known, seen) for spread in get_args(PredictedSpread)}
    assert models["raw"] is raw
    new, more = features(50, seed=9), words(50, seed=8)
    found = {spread: model.predict(new, more) for spread, model in models.items()}
    # Where left-out predictions go, new ones go: a line through both.
    weights = seen.weights / seen.weights.sum()
    slope = {
        "linear": np.polyfit(known, seen.labels, 1, w=np.sqrt(weights))[0],
        "matched": np.sqrt(weights @ (seen.labels - seen.mean) ** 2 / (weights @ (known - weights @ known) ** 2)),
    }
    for spread, factor in slope.items():
        moved = seen.mean + factor * (found["raw"].score - weights @ known)
        np.testing.assert_allclose(found[spread].score, moved)
    np.testing.assert_allclose(found["linear"].sd, found["raw"].sd)
    farther = found["matched"].score - models["matched"].mean
    stretched = (slope["matched"] - 1) / slope["matched"] * farther
    np.testing.assert_allclose(found["matched"].sd ** 2, found["raw"].sd ** 2 + stretched**2)
    errors = {
        spread: weights @ (seen.mean + f * (known - weights @ known) - seen.labels) ** 2 for spread, f in slope.items()
    }
    assert errors["linear"] <= weights @ (known - seen.labels) ** 2 <= errors["matched"]


def test_predictions_that_do_not_vary_are_not_stretched() -> None:
    x, seen = features(20), observed(20)
    kernel, gram = whole(x, None)
    model = exactly(kernel, gram, seen, 1.0)
    assert model.spread_as("matched", np.full(20, 4.0), seen) is model


def test_numbers_come_back_from_their_arrays() -> None:
    made = fitted(features(30), words(30), observed(30))
    arrays = made.arrays()
    assert all(array.flags.c_contiguous for array in arrays.values())  # safetensors writes memory as it lies
    again = ExactRegression.from_arrays(arrays)
    new, more = features(4, seed=7), words(4, 7)
    for one, other in zip(made.predict(new, more), again.predict(new, more), strict=True):
        assert (one == other).all()
