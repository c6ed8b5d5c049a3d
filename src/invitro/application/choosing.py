"""``application=auto``: choose policy and strength by cross-validation on the training texts only."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from invitro.application import Application, TrainingLabels, training_labels
from invitro.arrays import Floats, Ints
from invitro.data.splits import FOLDS, author_folds
from invitro.errors import InputError
from invitro.raters.word_counts import fitted, word_counts
from invitro.stats.moments import ccc as concordance
from invitro.stats.moments import of_sums, sums_over

DRAWS = 200


@dataclass(frozen=True)
class Ingredients:
    """The material of training labels: arguments of `invitro.application.training_labels`."""

    training: pd.DataFrame
    pool: pd.DataFrame
    llm_label: "pd.Series[float]"
    llm_spread: "pd.Series[float] | None"
    bounds: tuple[float, float]

    def labels(self, candidate: Application, alpha: float, rows: "Ints | slice" = slice(None)) -> TrainingLabels:
        """Make training labels of some of the training texts, and of the pool."""
        return training_labels(
            self.training.iloc[rows],
            self.pool,
            self.llm_label if candidate.needs_llm_labels else None,
            candidate,
            alpha,
            llm_spread=self.llm_spread,
            bounds=self.bounds,
        )


@dataclass(frozen=True)
class Choice:
    """The result of cross-validation.

    Args:
        application: an ordinary application, its policy no longer ``auto``.
        alpha: its threshold, the scale's units; inf if no crowd label is changed.
        table: one row per candidate: ``policy, calibration, blend_weight, alpha``, ``ccc`` of its predictions with the
            held-out crowd labels, ``short`` (how far that is below the best candidate's) with its standard error
            ``se``, ``change`` (see `choose`), ``problem`` (why it could not be tested) and ``chosen``.
    """

    application: Application
    alpha: float
    table: pd.DataFrame


def candidates(application: Application, bounds: tuple[float, float]) -> Iterator[tuple[Application, float]]:
    """Yield applications with their alpha; thresholds are sixths of the scale's range, 1 to 4 points from 1 to 7.

    Args:
        application: the candidates have its augmentation, pool and use of spreads.
        bounds: lowest and highest label of the scale.
    """
    step = (bounds[1] - bounds[0]) / 6
    yield replace(application, correction=False, policy="replace", max_spread=None, alpha_per_spread=0.0), np.inf
    grids: tuple[tuple[dict[str, Any], tuple[int, ...]], ...] = (
        ({"policy": "replace"}, (4, 3, 2, 1, 0)),
        ({"policy": "drop"}, (3, 2)),
        ({"policy": "weight"}, (2, 1)),
        ({"policy": "blend", "blend_weight": 0.5}, (2, 0)),
        ({"policy": "precision"}, (0,)),
        ({"policy": "replace", "calibration": "moment"}, (4, 3, 2, 1, 0)),
        ({"policy": "precision", "calibration": "moment"}, (0,)),
        ({"policy": "replace", "calibration": "isotonic"}, (2, 0)),
        ({"policy": "replace", "calibration": "linear"}, (2, 0)),
    )
    for settings, sixths in grids:
        for sixth in sixths:
            yield replace(application, **settings), sixth * step


def choose(ingredients: Ingredients, application: Application, seed: int = 0) -> Choice:
    """Choose the candidate whose labels train a word-counting model best, or one that changes less and is as good.

    For every candidate and fold, training labels are made from the other folds' texts (calibration and error estimates
    included), a ridge regression on TF-IDF is fitted on them, and predicts the fold's texts; no author is in both.
    The criterion is the CCC of all predictions p with the crowd labels C of the same texts, noise included::

        2 cov(p, C) / (var(p) + var(C) + (mean(p) - mean(C))^2)

    Noise that is independent of p leaves cov(p, C) and the means as they are and adds the same to var(C) for every
    candidate: it costs power, and favours predictions that spread a little more than the truth does. Random answers
    also shrink cov(p, C), equally for all candidates. A squared error, to which independent noise only adds a constant,
    would mislead: if people answer at random, the expected crowd label lies nearer to the middle than the truth, and
    training labels that are also pulled there would look best. No held-out crowd label can show how the crowd shifts
    the mean, for example by agreeing too readily.

    Of the candidates within one standard error of the best, the one that changes crowd labels least is chosen (the
    rule of Breiman, Friedman, Olshen & Stone 1984, "Classification and Regression Trees"). The standard error is that
    of the difference from the best on the same texts, by a bootstrap over authors. Change is the share of the crowd's
    labels that is mixed, weighted down or left out of training: from 0 (none of it) to 1 (every label is the LLM's, or
    every text left out).

    Args:
        ingredients: the material of training labels.
        application: with the policy ``auto``.
        seed: of folds and bootstrap; nothing else in the choice is random.

    Raises:
        InputError: the training texts have fewer than two authors, or share no words.
    """
    training = ingredients.training
    rows = pd.concat([training, ingredients.pool], ignore_index=True)
    counts, position = word_counts(rows["text"].tolist()), pd.Series(rows.index, index=rows["text_id"])
    parts = list(author_folds(training["group_id"], "application=auto", FOLDS, seed))
    tried = list(candidates(application, ingredients.bounds))
    predicted, change = np.full((len(tried), len(training)), np.nan), np.full(len(tried), np.nan)
    problems: list[str | None] = [None] * len(tried)
    for number, (candidate, alpha) in enumerate(tried):
        try:
            for rest, left_out in parts:
                made = ingredients.labels(candidate, alpha, rest).table
                at = position[made["text_id"]].to_numpy()
                model = fitted(counts[at], made["label"].to_numpy(), made["weight"].to_numpy())
                held_out = position[training["text_id"].iloc[left_out]].to_numpy()
                predicted[number, left_out] = model.predict(counts[held_out])
            labels = ingredients.labels(candidate, alpha)
            kept = labels.table.loc[labels.table["crowd_label"].notna(), "weight"].sum() / len(training)
            change[number] = 1 - kept * (1 - labels.facts.get("llm_share", 0.0))
        except InputError as error:  # such as a policy that leaves no text; the table gives the reason
            problems[number], predicted[number] = str(error), np.nan
    authors, _ = pd.factorize(training["group_id"])
    ccc, se = _scores(predicted, training["crowd_label"].to_numpy(), authors, seed)
    short = np.nanmax(ccc) - ccc
    as_good = np.flatnonzero(short <= se)
    chosen = int(as_good[np.argmin(change[as_good])])
    table = pd.DataFrame(
        [described(candidate, alpha) for candidate, alpha in tried],
        columns=["policy", "calibration", "blend_weight", "alpha"],
    ).assign(ccc=ccc, short=short, se=se, change=change, problem=pd.Series(problems, dtype="str"))
    table["chosen"] = np.arange(len(tried)) == chosen
    return Choice(*tried[chosen], table)


def described(application: Application, alpha: float) -> Mapping[str, Any]:
    """Return policy (``none`` without correction), calibration, blend_weight and alpha (None without correction)."""
    return {
        "policy": application.policy if application.correction else "none",
        "calibration": application.calibration,
        "blend_weight": application.blend_weight,
        "alpha": float(alpha) if application.correction else None,
    }


def _scores(predicted: Floats, crowd: Floats, authors: Ints, seed: int) -> tuple[Floats, Floats]:
    """Return each candidate's CCC, and the standard error of its difference from the best one's.

    Args:
        predicted: shape (candidates, texts); NaN for a candidate that could not be tested; its results are NaN.
        crowd: shape (texts,).
        authors: number of each text's author, from 0; an author's texts are drawn together.
        seed: of the draws.
    """
    p, c = predicted - crowd.mean(), np.broadcast_to(crowd - crowd.mean(), predicted.shape)
    whose = np.eye(int(authors.max()) + 1)[authors]
    by_author = np.einsum("ctm,ta->cam", sums_over(p, c), whose)
    units = by_author.shape[1]
    draws = np.random.default_rng(seed).multinomial(units, np.full(units, 1 / units), size=DRAWS)
    ccc = concordance(of_sums(by_author.sum(axis=1)))
    drawn = concordance(of_sums(np.einsum("cam,ra->crm", by_author, draws)))
    return ccc, (drawn - drawn[int(np.nanargmax(ccc))]).std(axis=1)
