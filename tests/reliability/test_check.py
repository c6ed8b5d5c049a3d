"""The prompt check: its figures by hand, and what it recommends and what it does not."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from prompting import prompt, scale

from invitro.data import Corpus
from invitro.engines.base import Price, Readout
from invitro.engines.scripted import Scripted
from invitro.labelling.labeller import Labelling, Options, label
from invitro.labels.store import LabelStore
from invitro.reliability.check import Averaging, Check, Prompted, advice, averaging, check, lines
from invitro.stats.agreement import Agreement
from invitro.stats.intervals import Estimate

ROLES = {"overall": "plain", "items": "scale_aware", "both": "both"}


def a_corpus(n: int = 60) -> Corpus:
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "text_id": [f"t{i:02d}" for i in range(n)],
            "text": [f"story number {i}" for i in range(n)],
            "group_id": [f"a{i // 2}" for i in range(n)],
            "split": "train",
            "crowd_label": rng.uniform(1, 7, n).round(2),
        }
    )
    return Corpus("small", table, "CC0", "nobody")


def settings(tmp_path: Path, engine: Scripted, **more) -> dict[str, Labelling]:
    options = Options(**{"limit": 20, "limit_seed": 1, "progress": False} | more)
    store = tmp_path / "labels.sqlite"
    return {role: Labelling(scale(), prompt(name), "scripted", engine, store, options) for role, name in ROLES.items()}


def checked(tmp_path: Path, engine: Scripted, corpus: Corpus | None = None, **more) -> Check:
    corpus = corpus or a_corpus()
    what = settings(tmp_path, engine, **more)
    return check(corpus, what, {role: label(corpus, one) for role, one in what.items()})


def test_figures_come_from_the_store_s_answers_to_these_texts(tmp_path: Path) -> None:
    engine = Scripted(faults={"unparseable": 0.3, "refused": 0.1}, price=Price(2.0, 8.0))
    label(a_corpus(), settings(tmp_path, engine, limit=30, limit_seed=None)["items"])  # others' answers in the same set
    found = checked(tmp_path, engine)
    with LabelStore(tmp_path / "labels.sqlite") as store:
        for one in found.prompts.values():
            texts = [f"t{i:02d}" for i in range(60)]
            rows = pd.DataFrame([dict(row) for row in store.attempts(one.sets[0], texts)])
            mine = set(rows["text_id"]) if one.name != "scale_aware" else DRAWN
            rows = rows[rows["text_id"].isin(mine)]
            first = rows[rows["attempt"] == 0]
            assert one.texts == one.questions == len(first) == 20
            assert one.first == (first["status"] == "ok").mean()
            assert one.after == rows.loc[rows["status"] == "ok", "text_id"].nunique() / 20
            assert sum(one.faults.values()) == 20 - round(20 * one.first)
            assert one.cost == pytest.approx(rows["cost"].sum())
            assert one.prompt_tokens == rows["prompt_tokens"].sum()
            assert len(rows) > 20  # retries are in the bill
    items = found.prompts["items"]
    assert found.of_whole(items.cost, items.texts) == pytest.approx(items.cost * 60 / 20)
    assert items.asked < found.prompts["overall"].asked  # what was stored is not asked again
    assert (found.texts, found.whole) == (20, 60)


DRAWN = {f"t{i:02d}" for i in sorted(np.random.default_rng(1).permutation(60)[:20])}


def test_item_scores_are_held_against_the_overall_score_of_the_same_reply(tmp_path: Path) -> None:
    found = checked(tmp_path, Scripted(), readout=Readout.DIGITS)
    with LabelStore(tmp_path / "labels.sqlite") as store:
        replies = [[int(sign) for sign in one.raw] for one in store.answers(found.prompts["both"].sets[0])]
    assert all(len(reply) == 7 for reply in replies)
    distance = [abs(np.mean(reply[:6]) - reply[6]) for reply in replies]
    assert found.within_reply is not None
    assert found.within_reply.n == 20
    assert found.within_reply.distance == pytest.approx(np.mean(distance))
    assert found.within_reply.near == np.mean(np.array(distance) <= 0.5 + 1e-9)


def test_averaging_by_hand() -> None:
    overall = pd.Series([1.0, 4.0, 7.0, math.nan], index=list("abcd"))
    items = pd.Series([1.5, 4.0, 5.0, 3.0], index=list("abcd"))
    found = averaging(overall, items, scale(), None)
    assert found is not None
    assert (found.n, found.within) == (3, 0.5)
    assert found.difference == pytest.approx((0.5 + 0 - 2) / 3)
    assert found.distance == pytest.approx(2.5 / 3)
    assert found.near == pytest.approx(2 / 3)
    assert averaging(overall[:1], items[:1], scale(), None) is None


def test_a_combination_is_checked_as_one(tmp_path: Path) -> None:
    corpus = a_corpus()
    names = ["x" if i < 25 else "y" for i in range(60)]
    table = corpus.table.assign(text_id=[f"{n}:{t}" for n, t in zip(names, corpus.table["text_id"], strict=True)])
    found = checked(tmp_path, Scripted(), replace(corpus, table=table, label_corpora=("x", "y")))
    assert len(found.prompts["items"].sets) == 2
    assert found.prompts["items"].questions == 20
    assert found.prompts["items"].crowd is not None
    assert found.prompts["items"].crowd.n == 20


def test_without_a_crowd_nothing_is_said_about_measuring(tmp_path: Path) -> None:
    corpus = a_corpus()
    found = checked(tmp_path, Scripted(), replace(corpus, table=corpus.table.assign(crowd_label=math.nan)))
    assert found.gained is None
    assert advice(found) == [
        "There are too few crowd labels on these texts to compare how well the prompts measure; the check shows only "
        "the quality and the cost of the replies."
    ]
    assert any("plain and scale_aware agree with each other" in line for line in lines(found))


def test_a_model_that_guesses_is_told_of_first_and_nothing_is_concluded(tmp_path: Path) -> None:
    told = lines(checked(tmp_path, Scripted()))
    assert told[0] == "Prompt check: scripted on 20 of the 60 texts of small"
    assert told[3].startswith("  PCC with the crowd")
    assert told[3].count("not measurable") == 3
    (recommended,) = told[told.index("Recommendation") + 1 :]
    assert recommended.startswith("  Not measurable with this model")
    assert "This says nothing about the prompts" in recommended


def estimate(low: float, high: float) -> Estimate:
    return Estimate((low + high) / 2, low, high, 100)


def a_check(overall: tuple[float, float], items: tuple[float, float], gained: tuple[float, float], **more) -> Check:
    def prompted(name: str, pcc: tuple[float, float], cost: float) -> Prompted:
        crowd = Agreement("crowd", name, 100, *([estimate(*pcc)] * 5))
        after = more.get(name, 1.0)
        faults = {"refused": 3, "truncated": 9} if after < 1 else {}
        return Prompted(name, ("id",), 100, 100, after, after, faults, 1000, 100, cost, 60.0, 100, crowd)

    inside = Averaging(100, 0.0, 0.3, more.get("near", 0.9), 0.5, estimate(0.5, 0.9))
    prompts = {"overall": prompted("plain", overall, 1.0), "items": prompted("scale_aware", items, 1.5)}
    return Check("essays", "gpt", 100, 2000, prompts, None, None, inside, estimate(*gained))


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (a_check((0.1, 0.4), (0.3, 0.6), (0.05, 0.3)), [
            "Use prompt=scale_aware: the PCC of scale_aware minus that of plain is 0.1750 [0.050, 0.300]. Labelling "
            "the corpus with it costs about $30.00."]),
        (a_check((0.3, 0.6), (0.1, 0.4), (-0.3, -0.05)), ["Use prompt=plain", "about $20.00"]),
        (a_check((0.1, 0.4), (0.1, 0.5), (-0.1, 0.3)), [
            "No difference between the prompts is shown", "includes 0. prompt=plain is cheaper (about $20.00 "
            "against about $30.00 for the corpus); prompt=scale_aware also gives a score per item."]),
        (a_check((-0.1, 0.3), (0.1, 0.5), (-0.1, 0.3)), [
            "Only the PCC of scale_aware is measurably above 0, but no difference", "Use prompt=scale_aware ("]),
        (a_check((-0.1, 0.3), (-0.2, 0.1), (-0.3, -0.1)), [
            "Not measurable with this model", "This says nothing about the prompts"]),
        (a_check((-0.5, -0.1), (-0.2, 0.1), (0.1, 0.3)), ["With plain, the scores run against the crowd's"]),
        (a_check((0.1, 0.4), (-0.4, -0.1), (-0.7, -0.2)), [
            "With scale_aware, the scores run against", "Use another model"]),
        (a_check((0.1, 0.4), (0.3, 0.6), (0.05, 0.3), near=0.4), [
            "Use prompt=scale_aware", "within 0.5 of the overall score in only 40.0 % of the texts"]),
        (a_check((0.1, 0.4), (0.3, 0.6), (0.05, 0.3), plain=0.6), [
            "plain: 60.0 % of the replies are usable after the retry, less than 95.0 %; the most frequent fault is "
            "truncated", "Use prompt=scale_aware"]),
    ],
)  # fmt: skip
def test_the_recommendation_follows_from_the_figures(found: Check, expected: list[str]) -> None:
    told = "\n".join(advice(found))
    for part in expected:
        assert part in told
    assert ("Use prompt" in told) == any("Use prompt" in part for part in expected)


def test_a_prompt_whose_replies_are_of_no_use_is_not_recommended() -> None:
    told = "\n".join(advice(a_check((0.1, 0.4), (0.3, 0.6), (0.05, 0.3), scale_aware=0.5)))
    assert "scale_aware: 50.0 % of the replies are usable" in told
    assert "Once its replies are usable, use prompt=scale_aware: the PCC" in told
    assert "Use prompt=scale_aware" not in told
