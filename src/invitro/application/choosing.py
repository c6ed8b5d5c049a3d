"""``application=auto``: choose policy and strength by cross-validation on the training texts only."""

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import pandas as pd

from invitro.application import Application, TrainingLabels
from invitro.data.splits import FOLDS, author_folds
from invitro.errors import InputError
from invitro.raters.precision import fitted, word_counts
from invitro.stats import Floats, Ints
from invitro.stats.moments import Moments, ccc, of_sums, pcc, rmse, sums_over

log = logging.getLogger(__name__)

DRAWS, REPEATS = 500, 2
"""Draws of the bootstrap, and how often the folds are drawn anew."""


class Student(Protocol):
    """A model that is cheap to fit, on texts that it knows by number."""

    def predict(self, rows: Ints, labels: Floats, weights: Floats, new: Ints) -> Floats:
        """Fit to some texts' labels, (rows,), with weights in the loss, (rows,); score others, (new,)."""


class WordStudent:
    """Ridge regression on TF-IDF counts of words.

    Raises:
        InputError: the texts share no words.
    """

    def __init__(self, texts: list[str]) -> None:
        self.counts = word_counts(texts)

    def predict(self, rows: Ints, labels: Floats, weights: Floats, new: Ints) -> Floats:
        """See `Student`."""
        return np.asarray(fitted(self.counts[rows], labels, weights).predict(self.counts[new]))


Maker = Callable[[pd.DataFrame, Application, float], TrainingLabels]
"""Makes training labels of some of the training texts, and of the pool, by an application and its alpha."""


@dataclass(frozen=True)
class Choice:
    """The result of cross-validation.

    Args:
        application: an ordinary application, its policy no longer ``auto``.
        alpha: its threshold, the scale's units; inf if no crowd label is changed.
        table: one row per candidate: ``policy, calibration, blend_weight, alpha``; ``pcc``, ``ccc`` and ``rmse`` of its
            predictions with the held-out crowd labels; ``pcc_less`` and ``rmse_more`` than crowd labels alone, with
            standard errors ``pcc_se`` and ``rmse_se``, and whether that is ``harmless``; ``short`` (how far its PCC is
            below the best candidate's) with its standard error ``se``; ``moved`` (how far its predictions are from
            those of crowd labels alone, points of the scale), ``problem`` (why it could not be tested), ``chosen``.
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
        ({"policy": "blend", "blend_weight": 0.3, "calibration": "moment"}, (0,)),
        ({"policy": "blend", "blend_weight": 0.5, "calibration": "moment"}, (0,)),
        ({"policy": "posterior"}, (0,)),
    )
    for settings, sixths in grids:
        for sixth in sixths:
            yield replace(application, **settings), sixth * step


def choose(
    training: pd.DataFrame,
    pool: pd.DataFrame,
    make: Maker,
    application: Application,
    bounds: tuple[float, float],
    student: Student | None = None,
    seed: int = 0,
) -> Choice:
    """Choose the candidate whose labels train a student best, or an equally good one that departs less from people.

    For every candidate and fold, training labels are made from the other folds' texts (calibration and the model of
    raters included), a student is fitted on them, and predicts the fold's texts; no author is in both. Folds are drawn
    `REPEATS` times, and predictions averaged. The criterion is their PCC with the crowd labels of the same texts.

    Noise of the crowd that is independent of predictions lowers the PCC of all candidates by the same factor. CCC would
    prefer anything that spreads predictions, as stretching them does without an LLM. A squared error would mislead if
    people answer at random: the expected crowd label is then closer to the middle than the truth, and training labels
    that are also pulled there would look best. It is only a safeguard: a candidate whose RMSE or PCC is worse than that
    of crowd labels alone by more than one standard error is excluded.

    Of the candidates within one standard error of the best, the one whose predictions move least from those of crowd
    labels alone is chosen (the rule of Breiman, Friedman, Olshen & Stone 1984, "Classification and Regression Trees",
    with the crowd's own model as the simplest). The standard error is that of the difference from the best on the same
    texts, by a bootstrap over authors; movement is the root mean square over these texts. Of two candidates that gain
    the same, the one that moves predictions less owes less of it to luck: a policy that replaces 5 % of the labels can
    move predictions further than one that weights all of them.

    Args:
        training: canonical rows with crowd labels.
        pool: canonical rows that augmentation may use; empty if it adds nothing.
        make: makes a candidate's training labels.
        application: with the policy ``auto``.
        bounds: lowest and highest label of the scale.
        student: on the rows of training texts and pool, in this order; None counts words and omits ``posterior``,
            which needs similarities of texts.
        seed: of folds and bootstrap; nothing else in the choice is random.

    Raises:
        InputError: the training texts have fewer than two authors, or share no words.
    """
    tried = [
        (candidate, alpha)
        for candidate, alpha in candidates(application, bounds)
        if student or candidate.policy != "posterior"
    ]
    rows = pd.concat([training, pool], ignore_index=True)
    student, position = student or WordStudent(rows["text"].tolist()), pd.Series(rows.index, index=rows["text_id"])
    parts = [
        part
        for repeat in range(REPEATS)
        for part in author_folds(training["group_id"], "application=auto", FOLDS, seed + repeat)
    ]
    predicted = np.full((len(tried), len(training)), np.nan)
    problems: list[str | None] = [None] * len(tried)
    for number, (candidate, alpha) in enumerate(tried):
        try:
            sums = np.zeros(len(training))
            for others, left_out in parts:
                fold = make(training.iloc[others], candidate, alpha).table
                learned = position[fold["text_id"]].to_numpy()
                labels, weights = fold["label"].to_numpy(), fold["weight"].to_numpy()
                sums[left_out] += student.predict(learned, labels, weights, left_out)
            predicted[number] = sums / REPEATS
        except InputError as error:  # such as a policy that leaves no text; the table gives the reason
            problems[number] = str(error)
    authors, _ = pd.factorize(training["group_id"])
    whole, drawn = _sums(predicted, training["crowd_label"].to_numpy(), authors, seed)
    moved = np.sqrt(np.square(predicted - predicted[0]).mean(axis=1))
    table = pd.DataFrame(
        [described(candidate, alpha) for candidate, alpha in tried],
        columns=["policy", "calibration", "blend_weight", "alpha"],
    ).assign(**_scores(whole, drawn), moved=moved, problem=pd.Series(problems, dtype="str"))
    harmless = (table["rmse_more"] <= table["rmse_se"]) & (table["pcc_less"] <= table["pcc_se"])
    harmless.iloc[0] = True  # crowd labels alone
    best = int(np.nanargmax(table["pcc"].where(harmless)))
    short, se = _short_of(best, pcc(whole), pcc(drawn))
    table = table.assign(harmless=harmless, short=short, se=se)
    as_good = np.flatnonzero(harmless & (short <= se))
    chosen = int(as_good[np.argmin(moved[as_good])])
    table["chosen"] = np.arange(len(tried)) == chosen
    log.info("application=auto, chosen among:\n%s", shown(table))
    return Choice(*tried[chosen], table)


def shown(table: pd.DataFrame) -> str:
    """Return the candidates for the terminal, best first: PCC, how far that is short of the best, CCC, RMSE."""
    hidden = ["pcc_less", "pcc_se", "rmse_more", "rmse_se", "harmless", "problem"]
    best_first = table.dropna(subset=["pcc"]).sort_values("pcc", ascending=False).drop(columns=hidden)
    marked = best_first.assign(chosen=best_first["chosen"].map({True: "<- chosen", False: ""}))
    return str(marked.to_string(index=False, na_rep="", float_format=lambda value: f"{value:.3f}"))


def described(application: Application, alpha: float) -> Mapping[str, Any]:
    """Return policy (``none`` without correction), calibration, blend_weight and alpha (None without correction)."""
    return {
        "policy": application.policy if application.correction else "none",
        "calibration": application.calibration,
        "blend_weight": application.blend_weight,
        "alpha": float(alpha) if application.correction else None,
    }


def _scores(whole: Moments, drawn: Moments) -> dict[str, Floats]:
    """Return candidates' PCC, CCC and RMSE, and losses in PCC and RMSE against the first, with standard errors."""
    pcc_less, pcc_se = _short_of(0, pcc(whole), pcc(drawn))
    rmse_more, rmse_se = _short_of(0, -rmse(whole), -rmse(drawn))
    return {
        "pcc": pcc(whole),
        "ccc": ccc(whole),
        "rmse": rmse(whole),
        "pcc_less": pcc_less,
        "pcc_se": pcc_se,
        "rmse_more": rmse_more,
        "rmse_se": rmse_se,
    }


def _short_of(best: int, whole: Floats, drawn: Floats) -> tuple[Floats, Floats]:
    """Return how far each candidate's metric is below that of the `best`, and the standard error of that difference."""
    return whole[best] - whole, (drawn - drawn[best]).std(axis=1)


def _sums(predicted: Floats, crowd: Floats, authors: Ints, seed: int) -> tuple[Moments, Moments]:
    """Return the moments of each candidate's predictions with the crowd's labels: of all texts, and of each draw.

    Args:
        predicted: shape (candidates, texts); NaN for a candidate that could not be tested; its moments are NaN.
        crowd: shape (texts,).
        authors: number of each text's author, from 0; an author's texts are drawn together.
        seed: of the draws.
    """
    p, c = predicted - crowd.mean(), np.broadcast_to(crowd - crowd.mean(), predicted.shape)
    whose = np.eye(int(authors.max()) + 1)[authors]
    by_author = np.einsum("ctm,ta->cam", sums_over(p, c), whose)
    units = by_author.shape[1]
    draws = np.random.default_rng(seed).multinomial(units, np.full(units, 1 / units), size=DRAWS)
    return of_sums(by_author.sum(axis=1)), of_sums(np.einsum("cam,ra->crm", by_author, draws))
