"""Raters as a model: planted raters are recovered, both forms of the likelihood are right, and what is refused."""

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

from invitro.errors import InputError
from invitro.raters.joint import JointRaters, fit_raters, most_telling
from invitro.raters.likelihood import Dense, RatingMoments, Rotated, cheapest
from invitro.stats import Floats

NAMES = ("crowd", "llama", "gpt")
LLM = (False, True, True)
PLANTED = {
    "mean": (4.0, 3.0, 5.0),
    "explained": (0.8,),
    "own": (0.4,),
    "noise": (0.9, 0.4, 0.6),
    "scale": (0.7, 1.5),
    "systematic": (0.5, 0.8),
    "shared": (0.6,),
    "shared_noise": (0.3,),
}


def kernel_of(n: int, rng: np.random.Generator) -> Floats:
    x = rng.normal(size=(n, 8))
    kernel = np.exp(-np.square(x[:, None] - x).sum(axis=2) / 16)
    kernel = kernel - kernel.mean(axis=0) - kernel.mean(axis=1)[:, None] + kernel.mean()
    return kernel * n / np.trace(kernel)


def simulated(seed: int, n: int = 250, **changed: tuple[float, ...]) -> tuple[Floats, Floats, Floats]:
    """Draw ratings from the model: ratings (n, 3), kernel (n, n), truth (n,)."""
    rng, at = np.random.default_rng(seed), PLANTED | changed
    kernel = kernel_of(n, rng)
    root = np.linalg.cholesky(kernel + 1e-9 * np.eye(n))
    f, h, *g = (root @ rng.normal(size=(n, 4))).T
    u, w, *e = rng.normal(size=(5, n))
    truth = at["explained"][0] * f + at["own"][0] * u
    rho, kappa = at["shared"][0], at["shared_noise"][0]
    ratings = [at["mean"][0] + truth + at["noise"][0] * e[0]]
    for r in (0, 1):
        systematic = at["systematic"][r] * (np.sqrt(rho) * h + np.sqrt(1 - rho) * g[r])
        noise = at["noise"][r + 1] * (np.sqrt(kappa) * w + np.sqrt(1 - kappa) * e[r + 1])
        ratings.append(at["mean"][r + 1] + at["scale"][r] * truth + systematic + noise)
    return np.stack(ratings, axis=1), kernel, truth + at["mean"][0]


def fitted(ratings: Floats, kernel: Floats, shared: bool = True) -> JointRaters:
    return fit_raters(ratings, kernel, LLM, NAMES, shared)


def with_gaps(ratings: Floats, share: float, seed: int = 0) -> Floats:
    return np.where(np.random.default_rng(seed).random(ratings.shape) < share, np.nan, ratings)


def test_planted_raters_are_recovered_within_their_intervals() -> None:
    seeds = range(12)
    draws = [simulated(seed) for seed in seeds]
    fits = [fitted(ratings, kernel) for ratings, kernel, _ in draws]
    covered = {
        name: [[one.low < planted < one.high for one, planted in zip(fit.intervals[name], PLANTED[name], strict=True)]
               for fit in fits]
        for name in PLANTED
    }  # fmt: skip
    for name, inside in covered.items():
        assert np.mean(inside) >= 0.75, name
    assert 0.9 <= np.mean([np.mean(inside) for inside in covered.values()]) <= 0.99
    planted = [1 - 0.9**2 / np.var(ratings[:, 0]) for ratings, _, _ in draws]
    inside = [fit.reliability.low < one < fit.reliability.high for fit, one in zip(fits, planted, strict=True)]
    assert np.mean(inside) >= 0.8


def test_the_posterior_is_the_truth_with_honest_variances_and_better_than_the_crowd() -> None:
    errors = []
    for seed in range(4):
        ratings, kernel, truth = simulated(seed)
        gaps = ratings.copy()
        gaps[:50], gaps[50:100, 0] = np.nan, np.nan
        fit = fitted(gaps, kernel)
        for uncertainty in (fit.variance, 1 - fit.weight):
            nobody, llms, everyone = (part.mean() for part in np.split(uncertainty, [50, 100]))
            assert nobody > 1.1 * llms > 1.1**2 * everyone > 0
        assert np.corrcoef(fit.label, truth)[0, 1] > np.corrcoef(ratings[:, 0], truth)[0, 1] + 0.05
        errors.append((fit.label - truth) / np.sqrt(fit.variance))
    assert 0.9 <= np.mean(np.abs(errors) < 1.96) <= 0.98


def moments() -> RatingMoments:
    rng = np.random.default_rng(3)
    scale, noise, systematic = np.array([1.0, 0.7, 1.5]), rng.normal(size=(3, 3)), rng.normal(size=(3, 2))
    between = 0.6 * np.outer(scale, scale) + systematic @ systematic.T
    within = 0.2 * np.outer(scale, scale) + noise @ noise.T
    return RatingMoments(*map(torch.tensor, (np.array([4.0, 3.0, 5.0]), scale, between, within)))


@pytest.mark.parametrize("share", [0.0, 0.3, 0.8])
def test_both_forms_of_the_likelihood_are_the_normal_density(share: float) -> None:
    ratings, kernel, _ = simulated(0, n=60)
    ratings, at = with_gaps(ratings, share), moments()
    ratings, kernel = (table[~np.isnan(ratings).all(axis=1)] for table in (ratings, kernel))
    kernel = kernel[:, : len(ratings)] if share == 0 else kernel_of(len(ratings), np.random.default_rng(1))
    known = ~np.isnan(ratings).ravel()
    scale, mean = (np.tile(part.numpy(), len(ratings))[known] for part in (at.scale, at.mean))
    whole = np.kron(kernel, at.between.numpy()) + np.kron(np.eye(len(ratings)), at.within.numpy())
    covariance = whole[np.ix_(known, known)]
    expected = multivariate_normal(mean, covariance).logpdf(ratings.ravel()[known])
    of_text = np.kron(np.eye(len(ratings)), np.ones((1, 3)))[:, known] * scale
    information = of_text @ np.linalg.solve(covariance, of_text.T)
    pull = of_text @ np.linalg.solve(covariance, ratings.ravel()[known] - mean)
    for form in (Rotated(ratings, kernel), Dense(ratings, kernel)):
        assert float(form.log_density(at)) == pytest.approx(expected, abs=1e-6)
        for found, right in zip(form.information(at), (pull, information), strict=True):
            np.testing.assert_allclose(found, right, atol=1e-8)


def test_the_cheaper_form_is_chosen_and_what_fits_in_no_memory_is_refused() -> None:
    ratings, kernel, _ = simulated(0, n=60)
    assert isinstance(cheapest(with_gaps(ratings, 0.3), kernel), Rotated)
    assert isinstance(cheapest(with_gaps(ratings, 0.7), kernel), Dense)
    with pytest.raises(InputError, match=r"9000 ratings .* 9000 gaps: expected at most 8000"):
        cheapest(np.repeat([[1.0, np.nan]], 9000, axis=0), kernel)


def test_gaps_cost_what_the_ratings_would_have_said_and_rows_without_any_nothing() -> None:
    ratings, kernel, _ = simulated(1, n=150)
    ratings[100:] = np.nan
    fit = fitted(ratings, kernel)
    removed = fitted(ratings[:100], kernel[:100, :100])
    assert fit.log_likelihood == pytest.approx(removed.log_likelihood, abs=1e-6)
    np.testing.assert_allclose(fit.label[:100], removed.label, atol=1e-6)
    mean, sd = removed.predict(kernel[100:, :100], np.diag(kernel)[100:])
    np.testing.assert_allclose(fit.label[100:], mean, atol=1e-6)
    np.testing.assert_allclose(fit.variance[100:], sd**2, atol=1e-6)


@pytest.mark.parametrize("share", [0.1, 0.6])
def test_order_shift_and_stretch_change_nothing_else(share: float) -> None:
    ratings, kernel, _ = simulated(2, n=150)
    ratings = with_gaps(ratings, share)
    fit = fitted(ratings, kernel)
    texts = np.random.default_rng(0).permutation(150)
    order = [2, 0, 1]
    moved = (10 + 3 * ratings * [1, 2, 0.5])[:, order]  # the crowd's units become 3, of Llama 6, of GPT 1.5 new ones
    other = fit_raters(moved[texts], kernel[np.ix_(texts, texts)], np.array(LLM)[order], np.array(NAMES)[order])
    tight = {"rtol": 1e-3, "atol": 1e-4}
    np.testing.assert_allclose(other.label, 10 + 3 * fit.label[texts], **tight)
    np.testing.assert_allclose(other.variance, 9 * fit.variance[texts], **tight)
    np.testing.assert_allclose(other.weight, fit.weight[texts], **tight)
    np.testing.assert_allclose(other.noise, (3 * fit.noise * [1, 2, 0.5])[order], **tight)
    np.testing.assert_allclose(other.scale, (fit.scale * [1, 2, 0.5])[order], **tight)
    assert other.reliability.value == pytest.approx(fit.reliability.value, abs=1e-3)
    assert other.shared == pytest.approx(fit.shared, abs=1e-2)


def test_llms_that_share_errors_do_not_pass_for_the_truth() -> None:
    """With two raters of strong common errors, independent ones would make the crowd look unreliable."""
    errors = {"shared": (0.9,), "shared_noise": (0.9,), "systematic": (0.7, 1.4), "noise": (0.6, 0.6, 1.0)}
    reliability, planted, error = ({True: [], False: []} for _ in range(3))
    for seed in range(4):
        ratings, kernel, truth = simulated(seed, **errors)
        for shared in (True, False):
            fit = fitted(ratings, kernel, shared)
            reliability[shared].append(fit.reliability)
            error[shared].append(np.sqrt(np.mean((fit.label - truth) ** 2)))
            planted[shared].append(1 - 0.36 / np.var(ratings[:, 0]))
    assert all(one.low < right < one.high for one, right in zip(reliability[True], planted[True], strict=True))
    assert all(one.high < right for one, right in zip(reliability[False], planted[False], strict=True))
    assert np.mean(error[True]) < 0.95 * np.mean(error[False])


def test_people_are_told_apart_and_a_single_llm_or_none_will_do() -> None:
    rng = np.random.default_rng(0)
    kernel = kernel_of(250, rng)
    truth = np.linalg.cholesky(kernel + 1e-9 * np.eye(250)) @ rng.normal(size=250)
    people = truth[:, None] + [3, 4, 5] + rng.normal(size=(250, 3)) * [0.3, 0.6, 1.2]
    people[rng.random(people.shape) < 0.4] = np.nan
    fit = fit_raters(people, kernel, [False] * 3, ["Ann", "Ben", "Cem"])
    for found, planted in zip(fit.intervals["noise"], (0.3, 0.6, 1.2), strict=True):
        assert found.low < planted < found.high
    assert fit.scale.tolist() == [1, 1, 1]
    assert fit.systematic.tolist() == [0, 0, 0]
    assert fit.level == pytest.approx(4, abs=0.15)
    one = fitted(*simulated(0)[:2])
    ratings, kernel, truth = simulated(0)
    one = fit_raters(ratings[:, :2], kernel, LLM[:2], NAMES[:2])
    assert one.shared == one.shared_noise == 0
    assert one.intervals["shared"] == ()
    assert np.corrcoef(one.label, truth)[0, 1] > np.corrcoef(ratings[:, 0], truth)[0, 1]


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        (1, np.nan, "llama: expected ratings that differ, found none"),
        (2, 3.5, "gpt: expected ratings that differ, found 3.5 for all 60 texts"),
        (0, np.nan, "crowd: expected ratings that differ, found none"),
    ],
)
def test_a_rater_who_says_nothing_is_refused(column: int, values: float, message: str) -> None:
    ratings, kernel, _ = simulated(0, n=60)
    ratings[:, column] = values
    with pytest.raises(InputError, match=message):
        fitted(ratings, kernel)


def test_an_llm_under_two_names_is_refused() -> None:
    ratings, kernel, _ = simulated(0, n=60)
    with pytest.raises(InputError, match="llama and gpt say the same"):
        fitted(ratings[:, [0, 1, 1]] * [1, 1, -2], kernel)


def test_people_are_needed() -> None:
    ratings, kernel, _ = simulated(0, n=60)
    with pytest.raises(InputError, match="all raters are LLMs"):
        fit_raters(ratings[:, 1:], kernel, [True, True], NAMES[1:])
    ratings[9:, 0] = np.nan
    with pytest.raises(InputError, match="9 texts have ratings by people: expected at least 10"):
        fitted(ratings, kernel)


def test_raters_who_never_err_break_nothing() -> None:
    _, kernel, truth = simulated(0, n=100)
    never = fit_raters(np.stack([truth, 2 * truth], axis=1), kernel, LLM[:2], NAMES[:2])
    np.testing.assert_allclose(never.label, truth, atol=0.01)
    assert never.reliability.low > 0.99


def test_single_ratings_say_what_all_ratings_say() -> None:
    rng = np.random.default_rng(8)
    x = rng.normal(size=(150, 3))
    x -= x.mean(axis=0)
    kernel = x @ x.T / np.mean((x**2).sum(axis=1))
    truth = 4 + x @ [1.0, 0.5, 0.2]
    ratings = np.stack([truth + rng.normal(0, 1.5, 150), 2 * truth + rng.normal(0, 0.8, 150)], axis=1)
    ratings[120:, 0] = np.nan  # rated by the LLM alone
    fitted = fit_raters(ratings, kernel, [False, True], ["crowd", "llm"])
    noise = (fitted.noise[0] ** 2 + fitted.own**2) / fitted.explained**2
    coefficients = np.linalg.solve(kernel + noise * np.eye(150), fitted.single - fitted.level)
    new = rng.normal(size=(5, 3)) @ x.T / np.mean((x**2).sum(axis=1))
    assert fitted.level + new @ coefficients == pytest.approx(fitted.predict(new, np.ones(5))[0])
    alone = fit_raters(ratings[:120, :1], kernel[:120, :120], [False], ["crowd"])
    assert alone.single == pytest.approx(ratings[:120, 0])  # nothing else is known


def test_the_next_texts_are_those_whose_ratings_remove_most_variance() -> None:
    kernel, (explained, own, noise) = kernel_of(40, np.random.default_rng(5)), (0.7, 0.2, 1.1)

    def left(rated: list[int]) -> float:
        """Return what is unknown of all texts after these ratings, from the normal distribution itself."""
        of_ratings = explained * kernel[np.ix_(rated, rated)] + (own + noise) * np.eye(len(rated))
        near = explained * kernel[:, rated]
        return float(np.trace(explained * kernel - near @ np.linalg.solve(of_ratings, near.T)))

    rated, candidates = [3, 8, 21], np.setdiff1d(np.arange(40), [3, 8, 21])
    information, at = np.zeros((40, 40)), np.ix_(rated, rated)
    information[at] = np.linalg.inv(explained * kernel[at] + (own + noise) * np.eye(3))
    chosen, gains = most_telling(kernel, information, (explained, own, noise), candidates, 5)
    whole = left(rated)
    for place, text in enumerate(chosen):
        before = [*rated, *chosen[:place]]
        others = {one: left([*before, one]) for one in candidates if one not in before}
        assert others[text] == pytest.approx(min(others.values()))
        assert gains[place] == pytest.approx((left(before) - others[text]) / whole)
    assert len(most_telling(kernel, information, (explained, own, noise), candidates[:2], 5)[0]) == 2
