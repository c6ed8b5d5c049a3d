"""What LLM labels are worth: draws, folds, the exchange rate, and the sentence."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from invitro.errors import InputError
from invitro.models.features import Embedded
from invitro.stats.intervals import Interval
from invitro.studies.report.worth import WORTH_TEMPLATE, worth_sentence
from invitro.studies.worth import Exchange, WorthSettings, curves, exchange, first_authors, ranked, ratings_for
from invitro.writing.words import said

TEXTS, DIMENSIONS = 400, 6
QUICK = WorthSettings(first=30, folds=2, draws=1)


class Known:
    """Features of texts such as ``t17``, without an encoder."""

    def __init__(self) -> None:
        self.rows = np.random.default_rng(7).normal(size=(TEXTS, 2, DIMENSIONS)).astype(np.float32)

    def features(self, texts: list[str]) -> Embedded:
        rows = [int(text[1:]) for text in texts]
        return Embedded(self.rows[rows], np.zeros(len(rows), dtype=bool))


def simulated(noise: float, texts: int = TEXTS) -> pd.DataFrame:
    """Two texts an author; people's noise has variance 1, and the LLM's `noise` times as much."""
    rng, x = np.random.default_rng(3), Known().rows[:texts, 1]
    truth = x[:, :3].sum(axis=1)
    return pd.DataFrame(
        {
            "text": [f"t{row}" for row in range(texts)],
            "group_id": [f"a{row // 2}" for row in range(texts)],
            "crowd_label": truth + rng.normal(0, 1, texts),
            "llm_label": truth + rng.normal(0, noise**0.5, texts),
        }
    )


@pytest.mark.slow
def test_labels_as_noisy_as_a_fraction_of_the_ratings_are_worth_that_fraction() -> None:
    settings = dataclasses.replace(QUICK, first=20, draws=3)
    exchanged = exchange(curves(simulated(4.0), Known(), settings), settings, 300)
    assert exchanged.everything == 200
    assert 30 < exchanged.worth.value < 90  # 200 labels of four times the variance: about 50 ratings
    assert exchanged.worth.low <= 50 <= exchanged.worth.high
    assert exchanged.curve["ratings"].tolist() == [20, 40, 80, 160, 200, 0, 20, 40, 80, 160, 200]
    assert (exchanged.added.value, exchanged.texts, exchanged.authors) == (pytest.approx(0.01, abs=0.03), 400, 200)


def test_labels_that_say_nothing_are_worth_fewer_and_exact_ones_more_than_all() -> None:
    nothing, exact = simulated(1.0, 300), simulated(0.001, 300)
    nothing["llm_label"] = np.random.default_rng(5).permutation(nothing["llm_label"])
    worth = [exchange(curves(table, Known(), QUICK), QUICK, 100).worth for table in (nothing, exact)]
    assert worth[0].value < 60
    assert worth[0].low == 0
    assert worth[1].value == worth[1].high == float("inf")


def test_test_labels_change_no_prediction_and_the_order_of_rows_none() -> None:
    table = simulated(2.0, 200)
    before = curves(table, Known(), QUICK)
    changed, tested = table.copy(), before.folds == 0
    changed.loc[tested, ["crowd_label", "llm_label"]] = 50 - table.loc[tested, ["crowd_label", "llm_label"]]
    after = curves(changed, Known(), QUICK)
    shuffled = table.sample(frac=1, random_state=1)
    moved = curves(shuffled.reset_index(drop=True), Known(), QUICK)
    for one, other, third in ((before.alone, after.alone, moved.alone), (before.helped, after.helped, moved.helped)):
        for size, predictions in one.items():
            assert np.array_equal(predictions[:, tested], other[size][:, tested])
            assert predictions[:, shuffled.index] == pytest.approx(third[size], abs=1e-3)


def test_draws_are_of_whole_authors_and_nested() -> None:
    authors = np.array([f"a{row // 3}" for row in range(90)])
    train, crowd = np.arange(60), np.full(90, 4.0)
    crowd[4] = np.nan
    order = ranked(authors, train, crowd, [0, 1])
    assert sorted(order) == [row for row in range(60) if row != 4]
    few, more = (set(first_authors(order, authors[train], n)) for n in (10, 20))
    assert 10 <= len(few) <= 12
    assert few < more
    for rows in (few, more):
        assert all({row - row % 3 + at for at in range(3)} - {4} <= rows for row in rows)
    assert list(order) != list(ranked(authors, train, crowd, [0, 2]))


@pytest.mark.parametrize(
    ("curve", "target", "expected"),
    [
        ([0.1, 0.3, 0.4], 0.09, 0),
        ([0.1, 0.3, 0.4], 0.1, 50),
        ([0.1, 0.3, 0.4], 0.35, 100 * 2**0.5),
        ([0.1, 0.3, 0.4], 0.41, np.inf),
        ([0.3, 0.1, 0.4], 0.2, 50),  # made monotone: 0.2, 0.2, 0.4
        ([0.3, 0.1, 0.4], 0.3, 100 * 2**0.5),
    ],
)
def test_where_a_curve_reaches_a_target(curve: list[float], target: float, expected: float) -> None:
    assert ratings_for(np.array([50, 100, 200]), np.array(curve), target) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("worth", "prices", "says"),
    [
        ((310.2, 190, 520), {}, "The labels of gpt are worth 310 [190, 520] human ratings; added to all 1,670 ratings "
         "of a fold's training texts, they change PCC by +0.004 [−0.006, +0.014]."),
        ((310.2, 0, np.inf), {}, "worth 310 [under 50, over 1,670] human ratings; added"),
        ((np.inf, np.inf, np.inf), {"rating_price": 0.5}, "worth more than all 1,670 human ratings; added"),
        ((np.inf, 131, np.inf), {}, "worth more than all 1,670 human ratings (95 % interval: 131 or more); added"),
        ((np.inf, 0, np.inf), {}, "worth more than all 1,670 human ratings (95 % interval: any number); added"),
        ((0, 0, 60), {}, "worth fewer than 50 human ratings (95 % interval: up to 60); added"),
        ((0, 0, 0), {}, "worth fewer than 50 human ratings; added"),
        ((310, 190, 520), {"rating_price": 0.5, "label_price": 0.01},
         "As many human ratings would cost $155.00. The 1,860 labels cost $18.60."),
    ],
)  # fmt: skip
def test_the_sentence(worth: tuple[float, ...], prices: dict[str, float], says: str) -> None:
    exchanged = Exchange(
        pd.DataFrame(), Interval(*worth), Interval(0.004, -0.006, 0.014), 50, 1670, 1860, 1860, 372,
        WorthSettings(**prices),
    )  # fmt: skip
    assert says in worth_sentence("gpt", exchanged)


@pytest.mark.parametrize(
    ("kind", "most", "says"),
    [
        ("everywhere", 0.09, "Use the labels of gpt, even for rated texts: they help even when added to all 1,670 "
         "human ratings."),
        ("unrated", 0.014, "For rated texts, the labels of gpt add next to nothing; for unrated texts, use them."),
        ("unrated", 0.08, "For rated texts, 1,860 texts are too few to tell whether the labels of gpt help; for "
         "unrated texts, use them."),
        ("unrated", -0.002, "For rated texts, leave the labels of gpt out: added to all human ratings, they make "
         "the model worse; for unrated texts, use them."),
        ("not", 0.014, "Do not use the labels of gpt: 50 human ratings are worth more."),
    ],
)  # fmt: skip
def test_the_headline(kind: str, most: float, says: str) -> None:
    exchanged = Exchange(
        pd.DataFrame(), Interval(310, 190, 520), Interval(0.004, -0.006, most), 50, 1670, 1860, 1860, 372,
        WorthSettings(),
    )  # fmt: skip
    assert said(WORTH_TEMPLATE, "headline", kind, "gpt", exchanged, 0.02) == says


def test_the_next_step_knows_whether_some_texts_are_unrated() -> None:
    steps = {rated: said(WORTH_TEMPLATE, "step", "unrated", 400 - rated) for rated in (400, 399)}
    assert steps[400].startswith("All texts here are rated. Add rows with an empty rating")
    assert "including those of the 1 unrated text:" in steps[399]


def test_too_few_labels_are_refused() -> None:
    with pytest.raises(InputError, match="at least 100 texts with a crowd label"):
        curves(simulated(1.0, 90), Known(), QUICK)
    with pytest.raises(InputError, match="expected llm_labels that differ, found 3 everywhere"):
        curves(simulated(1.0, 200).assign(llm_label=3.0), Known(), QUICK)
    with pytest.raises(InputError, match=r"worth\.first: expected a whole number of at least 20"):
        WorthSettings(first=5)
