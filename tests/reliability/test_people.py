"""The crowd in the reliability report."""

from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from invitro.data import Simulator, Undivided
from invitro.data.ratings import Layout, long_form
from invitro.reliability.people import crowd_report, crowd_tables
from invitro.scales import Item, Scale

NAMES = ("sympathetic", "moved", "compassionate", "tender", "warm", "softhearted")
BATSON = Scale("batson_empathy", "empathy", tuple(Item(name, name) for name in NAMES), 1, 7)


@pytest.fixture(scope="module")
def corpus():
    return Simulator(split=Undivided(), texts=200, raters=30, careless=0.1).read(BATSON)


def test_the_crowd_the_raters_and_the_items_have_tables(corpus) -> None:
    llm = corpus.table.set_index("text_id")[[f"llm_{name}" for name in NAMES]].set_axis(list(NAMES), axis=1)
    groups = corpus.table.set_index("text_id")["group_id"]
    tables = crowd_tables(corpus.people, groups, {"llm": llm}, resamples=50)
    crowd = tables["crowd"].frame().set_index("name")
    found = corpus.people.reliability(groups, resamples=50)
    for name in ("krippendorff", "icc1", "icck"):
        assert crowd.loc[name, "value"] == pytest.approx(getattr(found, name).value)
        assert crowd.loc[name, "value_low"] < crowd.loc[name, "value"] < crowd.loc[name, "value_high"]
    assert {"bias_sd", "cronbach", "omega"} < set(crowd.index)
    raters = tables["raters"].frame()
    assert len(raters) == 30
    signs = raters["careless"].fillna("")
    assert signs.eq("").is_monotonic_increasing  # the careless come first
    assert (signs.str.contains("straight-lining") == raters["rater"].str.startswith("line-")).all()
    items = tables["items"].frame()
    assert items["item"].tolist() == list(NAMES)
    beside = tables["llm_items"].frame().set_index("item")
    means = corpus.people.item_means()
    assert beside.loc["warm", "pcc"] == pytest.approx(means["warm"].corr(llm["warm"].reindex(means.index)))
    assert beside.loc["warm", "n"] == llm["warm"].notna().sum()


def test_what_is_not_defined_says_why_and_is_never_nan(tmp_path: Path) -> None:
    frame = pd.DataFrame({"text_id": ["a", "b", "c"], "rater_id": ["x", "y", "y"], "score": ["4", "5", "5"]})
    layout = Layout("text_id", "rater_id", "score")
    people, others = (long_form(rows, layout, BATSON, "file") for rows in (frame, frame[:2]))
    authors = pd.Series(["a", "b", "c"], index=["a", "b", "c"])
    assert list(crowd_tables(others, authors, {}, resamples=20)) == ["crowd"]  # nothing can be said of these raters
    lines = crowd_report(people, authors, tmp_path)
    assert sum("every text has one rating; agreement needs two" in line for line in lines) == 4
    for file in ("crowd.csv", "raters.csv", "crowd.md"):
        assert "nan" not in (tmp_path / file).read_text("utf-8").lower()


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 1000))
def test_the_order_of_answers_changes_no_table(corpus, seed: int) -> None:
    again = type(corpus.people)(corpus.people.long.sample(frac=1, random_state=seed), BATSON, "simulated")
    groups = corpus.table.set_index("text_id")["group_id"]
    for name, table in crowd_tables(again, groups, {}, resamples=20).items():
        first = crowd_tables(corpus.people, groups, {}, resamples=20)[name]
        pd.testing.assert_frame_equal(table.frame(), first.frame(), rtol=1e-6)
