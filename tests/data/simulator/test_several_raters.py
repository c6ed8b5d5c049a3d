"""A simulated crowd of several raters a text, and what is found in it."""

import numpy as np
import pytest

from invitro.data import Simulator, Undivided
from invitro.data.corpus import Corpus
from invitro.data.simulator.corpus import LINE
from invitro.errors import InputError
from invitro.scales import Item, Scale

NAMES = ("sympathetic", "moved", "compassionate", "tender", "warm", "softhearted")
BATSON = Scale("batson_empathy", "empathy", tuple(Item(name, name) for name in NAMES), 1, 7)


def simulated(scale: Scale = BATSON, **settings: object) -> Corpus:
    return Simulator(split=Undivided(), **settings).read(scale)  # type: ignore[arg-type]


def test_several_raters_do_not_change_texts_truth_and_llm() -> None:
    single, several = simulated(texts=300), simulated(texts=300, raters=40, ratings=3)
    for column in ("text", "truth", "llm_label"):
        assert several.table[column].equals(single.table[column])
    assert (several.table["crowd_n"] == 3).all()
    assert several.people is not None
    agreement = several.people.reliability(resamples=20)
    assert (agreement.texts, agreement.ratings, agreement.raters) == (300, 900, 40)
    closer = {name: np.corrcoef(of.table["crowd_label"], of.table["truth"])[0, 1]
              for name, of in (("one", single), ("several", several))}  # fmt: skip
    assert closer["several"] > closer["one"] + 0.05


def test_lost_ratings_leave_different_numbers() -> None:
    corpus = simulated(texts=300, raters=40, ratings=3, lost=0.4)
    assert set(corpus.table["crowd_n"]) == {0, 1, 2, 3}
    assert (corpus.table["crowd_n"] == 0).equals(corpus.table["crowd_label"].isna())


@pytest.mark.parametrize("seed", range(3))
def test_planted_straight_liners_are_found(seed: int) -> None:
    people = simulated(texts=600, raters=100, ratings=3, careless=0.1, seed=seed).people
    assert people is not None
    planted = people.raters.str.startswith(LINE)
    named = people.raters.isin(list(people.careless))
    assert planted.sum() == 10
    assert named[planted].mean() >= 0.9
    assert named[~planted].mean() <= 0.05


def test_reversed_items_are_answered_the_other_way() -> None:
    turned = Scale(BATSON.name, BATSON.construct, (*BATSON.items[:5], Item("cold", "cold", reversed=True)), 1, 7)
    corpus = simulated(turned, texts=300)
    assert np.corrcoef(corpus.table["llm_cold"].fillna(4), corpus.table["truth"])[0, 1] < -0.3
    people = simulated(turned, texts=200, raters=20).people
    assert people is not None
    assert [item.runs for item in people.items.items] == [""] * 6
    assert people.items.items[5].before.value < 0 < people.items.items[5].after.value


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"careless": 0.1}, "data.careless=0.1 applies to raters"),
        ({"raters": 2}, "expected at most data.raters=2"),
    ],
)
def test_contradictions_are_refused(settings: dict[str, object], problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        simulated(**settings)
