"""The raters' model in two steps: it is the conditional of one joint normal distribution."""

import numpy as np
import pytest

from invitro.raters.llm_first import LLMFirst, _People


def test_two_steps_give_the_posterior_of_the_joint_distribution(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 4))
    kernel = np.exp(-0.2 * np.square(x[:, None] - x).sum(axis=2))
    gram, near = kernel[:50, :50], kernel[50:, :50]
    rows, labelled = np.arange(10), np.arange(10, 50)
    labels = np.where(np.arange(50) < 10, np.nan, 4 + x[:50, 0] + 0.3 * rng.normal(size=50))
    ratings = 3 + x[:10, 0] + rng.normal(size=10)
    b, correction, noise = 0.6, 0.4, 1.5
    monkeypatch.setattr(_People, "estimated", lambda self: (b, correction, noise))
    first = LLMFirst.fitted(gram, labels, 0.5)
    found = first.then_people(rows, ratings, near)

    own = first.variance * gram  # of g
    people = b**2 * own + correction * gram
    joint = np.block([
        [own[np.ix_(labelled, labelled)] + 0.5 * first.variance * np.eye(40), b * own[np.ix_(labelled, rows)]],
        [b * own[np.ix_(rows, labelled)], people[np.ix_(rows, rows)] + noise * np.eye(10)],
    ])  # fmt: skip
    cross = np.hstack([b * first.variance * near[:, labelled], (b**2 * first.variance + correction) * near[:, rows]])
    rest, design = np.concatenate([labels[labelled] - first.level, ratings]), np.r_[np.zeros(40), np.ones(10)]
    mu = design @ np.linalg.solve(joint, rest) / (design @ np.linalg.solve(joint, design))
    assert found == pytest.approx(mu + cross @ np.linalg.solve(joint, rest - mu * design))
    alone = near[:, labelled] @ np.linalg.solve(gram[np.ix_(labelled, labelled)] + 0.5 * np.eye(40), rest[:40])
    assert first.predict(near) == pytest.approx(first.level + alone)


def test_many_ratings_overrule_an_llm_that_says_nothing() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(500, 2))
    kernel = np.exp(-0.3 * np.square(x[:, None] - x).sum(axis=2))
    truth = x[:, 0]
    ratings = 4 + truth[:400] + 0.5 * rng.normal(size=400)
    first = LLMFirst.fitted(kernel[:400, :400], rng.normal(size=400), 0.5)
    found = first.then_people(np.arange(400), ratings, kernel[400:, :400])
    assert abs(np.corrcoef(first.predict(kernel[400:, :400]), truth[400:])[0, 1]) < 0.6
    assert np.corrcoef(found, truth[400:])[0, 1] > 0.95
    assert found.mean() == pytest.approx(4 + truth[400:].mean(), abs=0.15)
