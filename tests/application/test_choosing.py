"""Policy and strength by cross-validation: on training texts alone, deterministic, and the right way on clear cases."""

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
from support import small_corpus

from invitro.application import Application, TrainingLabels, training_labels
from invitro.application.choosing import Choice, Student, _scores, _short_of, _sums, candidates, choose
from invitro.errors import InputError
from invitro.models.exact import KernelStudent
from invitro.raters.precision import word_counts
from invitro.stats.moments import measure, pcc

AUTO = Application("auto", True, False, pool="none", policy="auto")
BOUNDS = (1.0, 7.0)


class Material(NamedTuple):
    training: pd.DataFrame
    pool: pd.DataFrame
    llm_label: "pd.Series[float]"


def chosen(of: Material, how: Application = AUTO, student: Student | None = None, **raters: Any) -> Choice:
    """Choose among applications of these labels; `raters` has the arguments of the model of raters."""

    def make(training: pd.DataFrame, candidate: Application, alpha: float) -> TrainingLabels:
        return training_labels(training, of.pool, of.llm_label, candidate, alpha, bounds=BOUNDS, **raters)

    return choose(of.training, of.pool, make, how, BOUNDS, student)


def material(crowd_sd: float, llm: str, n: int = 200) -> Material:
    """Return texts whose crowd labels have noise of `crowd_sd`, rated by an LLM that is good, shifted or useless."""
    corpus = small_corpus(n, authors=n // 4, seed=3)
    rng = np.random.default_rng(5)
    truth = corpus["gpt"].to_numpy()
    scores = {
        "good": truth,
        "shifted": np.clip(truth * 0.5 + 3.5, *BOUNDS),
        "useless": rng.uniform(*BOUNDS, n),
        "contrary": 8 - truth,
    }
    table = pd.DataFrame(
        {
            "text_id": corpus["id"],
            "text": corpus["essay"],
            "group_id": corpus["author"],
            "split": "train",
            "crowd_label": np.clip(truth + rng.normal(0, crowd_sd, n), *BOUNDS),
        }
    )
    by_id = pd.Series(scores[llm], index=table["text_id"])
    return Material(table, table.iloc[:0], by_id)


@pytest.fixture(scope="module")
def choices() -> dict[str, Choice]:
    cases = {"good": (2.5, "good"), "shifted": (2.5, "shifted"), "useless": (0.3, "useless")}
    return {name: chosen(material(*case)) for name, case in cases.items()}


@pytest.mark.slow
def test_a_useless_llm_is_left_alone(choices: dict[str, Choice]) -> None:
    choice = choices["useless"]
    assert not choice.application.correction
    assert choice.alpha == np.inf


@pytest.mark.slow
def test_a_good_llm_is_used_and_a_shifted_one_calibrated(choices: dict[str, Choice]) -> None:
    for name in ("good", "shifted"):
        best = choices[name].table.set_index("chosen").loc[True]
        assert best["moved"] > 0.1
        assert best["pcc"] > choices[name].table["pcc"].iloc[0] + 0.02  # the first changes nothing
    assert choices["shifted"].application.calibration != "none"


@pytest.mark.slow
def test_of_the_equally_good_the_one_that_moves_predictions_least_is_chosen(choices: dict[str, Choice]) -> None:
    for choice in choices.values():
        table = choice.table
        assert table["chosen"].sum() == 1
        as_good = table[table["harmless"] & (table["short"] <= table["se"])]
        assert table.loc[table["chosen"], "moved"].item() == as_good["moved"].min()
        assert table.loc[table["harmless"], "short"].min() == 0
        tried = table[table["problem"].isna()]
        assert (tried["se"] > 0).sum() >= len(tried) - 2  # 0 for the best and for any with the same labels
        assert tried["moved"].iloc[0] == 0
        assert (tried["moved"].iloc[1:] > 0).all()


@pytest.mark.slow
def test_the_choice_is_an_ordinary_application(choices: dict[str, Choice]) -> None:
    for choice in choices.values():
        assert choice.application.policy != "auto"
        assert choice.application.name == "auto"
    of = material(2.5, "good")
    labels = training_labels(of.training, of.pool, of.llm_label, choices["good"].application, choices["good"].alpha)
    assert len(labels.table) > 0


@pytest.mark.slow
def test_the_same_seed_makes_the_same_choice_whatever_else_is_drawn(choices: dict[str, Choice]) -> None:
    np.random.seed(9)
    again = chosen(material(2.5, "good"))
    pd.testing.assert_frame_equal(again.table, choices["good"].table)


@pytest.mark.slow
def test_a_candidate_that_cannot_be_tried_is_in_the_table_with_its_reason() -> None:
    table = chosen(material(1.0, "contrary", n=80)).table
    failed = table[table["problem"].notna()]
    assert "precision" in set(failed["policy"])
    assert failed["problem"].str.contains("cannot be estimated").any()
    assert failed["pcc"].isna().all()
    assert not failed["chosen"].any()


@pytest.mark.slow
def test_augmentation_stays_with_every_candidate() -> None:
    of = material(2.5, "good", n=160)
    pool = of.training.iloc[120:].assign(crowd_label=np.nan, split="unlabelled")
    how = Application("auto", True, True, pool="unlabelled", policy="auto", pool_weight=0.5)
    choice = chosen(Material(of.training.iloc[:120], pool, of.llm_label), how)
    assert choice.application.augmentation
    training, auto = of.training.iloc[:120], choice.application
    labels = training_labels(training, pool, of.llm_label, auto, choice.alpha, bounds=BOUNDS)
    assert labels.augmented == 40


def test_thresholds_are_sixths_of_the_range() -> None:
    alphas = {alpha for how, alpha in candidates(AUTO, (0.0, 3.0)) if how.correction}
    assert alphas == {0, 0.5, 1, 1.5, 2}
    first, alpha = next(candidates(AUTO, BOUNDS))
    assert not first.correction
    assert alpha == np.inf


def test_scores_are_metrics_and_a_paired_bootstrap() -> None:
    rng = np.random.default_rng(0)
    crowd = rng.normal(4, 1, 400)
    authors = np.repeat(np.arange(100), 4)
    good = crowd + rng.normal(0, 0.5, 400)
    predicted = np.stack([good, good, crowd + rng.normal(0, 1.5, 400), np.full(400, 3.0), np.full(400, np.nan)])
    whole, drawn = _sums(predicted, crowd, authors, 0)
    scores = _scores(whole, drawn)
    for name in ("pcc", "ccc", "rmse"):
        expected = [measure(row, crowd)[name] for row in predicted[:3]]
        np.testing.assert_allclose(scores[name][:3], expected, atol=1e-9)
        assert np.isnan(scores[name][4])
    assert scores["pcc_less"][2] == scores["pcc"][0] - scores["pcc"][2]
    assert scores["rmse_more"][2] == scores["rmse"][2] - scores["rmse"][0]
    short, se = _short_of(0, pcc(whole), pcc(drawn))
    assert short[2] == scores["pcc_less"][2]
    assert se[:2].tolist() == scores["pcc_se"][:2].tolist() == [0, 0]  # the best, and one that is always as good
    assert 0 < se[2] < 0.1


@pytest.mark.slow
def test_candidates_that_lose_more_than_a_standard_error_are_excluded(choices: dict[str, Choice]) -> None:
    table = choices["shifted"].table
    uncalibrated = table[(table["policy"] == "replace") & (table["calibration"] == "none") & (table["alpha"] == 0)]
    assert not uncalibrated["harmless"].item()  # its predictions are shifted with the LLM
    assert table.loc[table["chosen"], "harmless"].item()


@pytest.mark.slow
def test_another_student_and_the_model_of_raters_join_the_choice() -> None:
    of = material(2.5, "good", n=160)
    x = word_counts(of.training["text"].tolist()).toarray()
    x = x - x.mean(axis=0)
    gram = pd.DataFrame(x @ x.T / np.mean((x**2).sum(axis=1)), of.training["text_id"], of.training["text_id"])
    ratings = of.llm_label.to_frame("gpt")
    raters = {"ratings": ratings, "kernel": lambda ids: gram.loc[ids, ids].to_numpy()}
    choice = chosen(of, student=KernelStudent(gram.to_numpy(), 1.0), **raters)
    tried = choice.table[choice.table["policy"] == "posterior"]
    assert tried["pcc"].item() > choice.table["pcc"].iloc[0] + 0.02


def test_one_author_is_refused() -> None:
    of = material(1.0, "good", n=40)
    single = of._replace(training=of.training.assign(group_id="a"))
    with pytest.raises(InputError, match="application=auto is fitted out of fold, by authors"):
        chosen(single)
