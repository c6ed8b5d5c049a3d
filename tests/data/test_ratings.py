"""People's answers: one long form, whatever the file looked like."""

import logging
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyreadstat
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from invitro.data import TableFile, Undivided
from invitro.data.corpus import Corpus
from invitro.data.ratings import CELL_STATUS, WITHOUT_RESULT, Layout, long_form
from invitro.data.table import Frame
from invitro.errors import InputError
from invitro.scales import Item, Scale
from invitro.tables import read_table

OVERALL = Scale("overall", "empathy", (Item("empathy", "empathy"),), 1, 7)
LIKERT = Scale(
    "mood", "mood", (Item("glad", "glad", column="Q1"), Item("calm", "calm", column="Q2"),
                     Item("sad", "sad", reversed=True, column="Q3")), 1, 5, missing=(-99, "NA", 99), most_missing=1,
)  # fmt: skip
COLUMNS: dict[str, Any] = {"text_id": "text_id", "text": "text", "crowd_label": "crowd_label"}
TEXTS = pd.DataFrame({"text_id": [f"{i:02}" for i in range(30)], "text": [f"text number {i}" for i in range(30)]})


def several(seed: int = 0) -> pd.DataFrame:
    """Return ratings of 30 texts by up to 6 raters, long."""
    rng = np.random.default_rng(seed)
    rows = [
        (text, f"w{rater}", str(int(np.clip(np.rint(4 + np.sin(int(text)) * 2 + rng.normal()), 1, 7))))
        for text in TEXTS["text_id"]
        for rater in range(6)
        if rng.random() < 0.5 or rater == int(text) % 6
    ]
    return pd.DataFrame(rows, columns=["text_id", "rater_id", "score"])


def corpus_of(folder: Path, ratings: pd.DataFrame, scale: Scale = OVERALL, **options: Any) -> Corpus:
    TEXTS.to_csv(folder / "texts.csv", index=False)
    ratings.to_csv(folder / "ratings.csv", index=False)
    columns = COLUMNS | options.pop("columns", {})
    return TableFile(folder / "texts.csv", columns, Undivided(), ratings=folder / "ratings.csv", **options).read(scale)


def wide_of(long: pd.DataFrame) -> pd.DataFrame:
    return TEXTS.merge(long.pivot(index="text_id", columns="rater_id", values="score").reset_index(), how="left")


LABELS = ["text_id", "crowd_label", "crowd_n", "crowd_sd"]


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 1000), gap=st.sampled_from(["", "NA", " ", "nan"]))
def test_wide_and_long_order_and_gaps_give_the_same_numbers(tmp_path: Path, seed: int, gap: str) -> None:
    long = several()
    expected = corpus_of(tmp_path, long)
    gaps = pd.DataFrame({"text_id": TEXTS["text_id"], "rater_id": "w7", "score": gap})
    mixed = pd.concat([long, gaps]).sample(frac=1, random_state=seed)
    corpus = corpus_of(tmp_path, mixed)
    pd.testing.assert_frame_equal(corpus.table[LABELS], expected.table[LABELS], check_exact=True)
    wide = wide_of(long).fillna(gap)
    raters = list(np.random.default_rng(seed).permutation([f"w{rater}" for rater in range(6)]))
    wide.to_csv(tmp_path / "wide.csv", index=False)
    read = TableFile(tmp_path / "wide.csv", COLUMNS | {"raters": raters}, Undivided()).read(OVERALL)
    pd.testing.assert_frame_equal(read.table[LABELS], expected.table[LABELS], check_exact=True)
    assert read.fingerprint == expected.fingerprint
    assert read.people is not None
    assert expected.people is not None
    assert read.people.reliability(resamples=20) == expected.people.reliability(resamples=20)


def test_european_ratings_of_another_encoding_than_the_texts_give_the_same_numbers(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    texts = TEXTS.replace({"text_id": {"00": "Größe"}})
    texts.to_csv(tmp_path / "texts.csv", index=False)
    long = several().replace({"text_id": {"00": "Größe"}, "rater_id": {"w0": "Jürgen"}})
    long = long.assign(score=long["score"].astype(float) - 0.5).loc[long["score"] != "1"]
    long.to_csv(tmp_path / "plain.csv", index=False)
    long.to_csv(tmp_path / "europe.csv", index=False, sep=";", decimal=",", encoding="cp1252")
    wide_of(long.replace({"text_id": {"Größe": "00"}})).to_csv(tmp_path / "wide.csv", index=False, sep=";", decimal=",")
    raters = {"raters": ["Jürgen", "w1", "w2", "w3", "w4", "w5"]}
    corpora = [
        TableFile(tmp_path / file, COLUMNS | columns, Undivided(), ratings=ratings, encoding="cp1252").read(OVERALL)
        for file, columns, ratings in (
            ("texts.csv", {}, tmp_path / "plain.csv"),
            ("texts.csv", {}, tmp_path / "europe.csv"),
            ("wide.csv", raters, None),
        )
    ]
    for corpus in corpora[1:]:
        got = corpus.table[LABELS].replace({"text_id": {"00": "Größe"}}).sort_values("text_id", ignore_index=True)
        wanted = corpora[0].table[LABELS].sort_values("text_id", ignore_index=True)
        pd.testing.assert_frame_equal(got, wanted, check_exact=True)
    assert (
        "europe.csv: read as CSV with semicolons, CP1252; "
        f"{len(long)} rows: text_id from text_id, rater from rater_id, rating from score (with decimal commas)"
    ) in caplog.text
    assert f"wide.csv: read as CSV with semicolons; {len(texts)} rows" in caplog.text
    assert "rater Jürgen (with decimal commas), rater w1" in caplog.text


def test_each_text_keeps_the_number_and_the_spread_of_its_ratings(tmp_path: Path) -> None:
    long = pd.DataFrame({"text_id": ["00", "00", "00", "01"], "rater_id": list("abca"), "score": ["1", "2", "6", "5"]})
    table = corpus_of(tmp_path, long).table.set_index("text_id")
    assert table.loc["00", ["crowd_label", "crowd_n"]].tolist() == [3.0, 3]
    assert table.loc["00", "crowd_sd"] == pytest.approx(np.std([1, 2, 6], ddof=1))
    assert table.loc["01", "crowd_n"] == 1
    assert np.isnan(table.loc["01", "crowd_sd"])
    assert table.loc["02", "crowd_n"] == 0
    assert table.loc["02", "split"] == "unlabelled"
    assert corpus_of(tmp_path, long, crowd="median").table["crowd_label"].iloc[0] == 2.0


def test_a_second_take_counts_once_and_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    long = pd.DataFrame({"text_id": ["00"] * 3, "rater_id": ["a", "b", "a"], "score": ["1", "6", "3"]})
    table = corpus_of(tmp_path, long).table
    assert table["crowd_label"].iloc[0] == 4.0  # the mean of 2 and 6
    assert table["crowd_n"].iloc[0] == 2
    assert "1 second take of the same text by the same rater, averaged with the first" in caplog.text


def test_codes_that_spss_declares_missing_are_counted_apart_from_blanks(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    anna, ben = (np.resize(numbers, 30).astype(float) for numbers in ([2, 5, 3], [4, 6, 1]))
    anna[[3, 4]], ben[[4, 5]] = -99, np.nan
    ben[6] = 8
    file = str(tmp_path / "a.sav")
    table = TEXTS.assign(anna=anna, ben=ben)
    ranges: Any = {"anna": [-99], "ben": [{"lo": 8, "hi": 9}]}
    pyreadstat.write_sav(table, file, missing_ranges=ranges)
    corpus = TableFile(file, COLUMNS | {"raters": ["anna", "ben"]}, Undivided()).read(OVERALL)
    assert corpus.people is not None
    long = corpus.people.long
    assert list(long.loc[long["status"] == "missing code", "row"]) == [4, 5, 7]
    assert list(long.loc[long["status"] == "blank", "row"]) == [5, 6]
    assert any("of 60 cells without an answer: 2 blank and 3 missing code" in line for line in corpus.people.lines())
    assert corpus.table["crowd_n"].tolist()[3:7] == [1, 0, 1, 1]
    caplog.clear()
    single = TableFile(file, COLUMNS | {"crowd_label": "anna"}, Undivided()).read(OVERALL)
    assert single.table["crowd_label"].isna().sum() == 2
    assert f"{file}: column anna: 2 rows (4 and 5) with a missing code" in caplog.messages
    table.assign(ben=ben - 99).to_csv(tmp_path / "a.csv", index=False)
    coded = replace(OVERALL, missing=(-99,))
    again = TableFile(str(tmp_path / "a.csv"), COLUMNS | {"crowd_label": "anna"}, Undivided()).read(coded)
    pd.testing.assert_series_equal(again.table["crowd_label"], single.table["crowd_label"])


def test_missing_values_that_stata_tells_apart_are_counted_apart_from_blanks(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    scores: list[Any] = [float(score) for score in np.resize([2, 5, 3], 30)]
    scores[3], scores[5], scores[7] = "a", "b", None
    file = str(tmp_path / "a.dta")
    table = TEXTS.assign(score=pd.Series(scores, dtype=object))
    pyreadstat.write_dta(table, file, missing_user_values={"score": ["a", "b"]})
    corpus = TableFile(file, COLUMNS | {"crowd_label": "score"}, Undivided()).read(OVERALL)
    assert np.flatnonzero(corpus.table["crowd_label"].isna()).tolist() == [3, 5, 7]
    assert f"{file}: column score: 2 rows (4 and 6) with a missing code" in caplog.messages


def test_ratings_may_name_the_texts_ids_otherwise_than_the_file_of_texts(tmp_path: Path) -> None:
    several().to_csv(tmp_path / "ratings.csv", index=False)
    TEXTS.rename(columns={"text_id": "id"}).to_csv(tmp_path / "texts.csv", index=False)
    ratings = tmp_path / "ratings.csv"
    corpus = TableFile(tmp_path / "texts.csv", COLUMNS | {"text_id": "id"}, Undivided(), ratings=ratings).read(OVERALL)
    TEXTS.to_csv(tmp_path / "texts.csv", index=False)
    alike = TableFile(tmp_path / "texts.csv", COLUMNS, Undivided(), ratings=ratings).read(OVERALL)
    pd.testing.assert_frame_equal(corpus.table[LABELS], alike.table[LABELS])


def test_a_missing_score_column_is_refused_even_if_the_items_are_present(tmp_path: Path) -> None:
    slider = Scale("sadness", "sadness", (Item("sadness", "sadness"),), 0, 100)
    TEXTS.assign(sadness="50").to_csv(tmp_path / "texts.csv", index=False)
    with pytest.raises(InputError, match="expected column sadnes; found text_id, text, sadness"):
        TableFile(tmp_path / "texts.csv", COLUMNS | {"crowd_label": "sadnes"}, Undivided()).read(slider)
    corpus = TableFile(tmp_path / "texts.csv", COLUMNS, Undivided()).read(slider)
    assert corpus.people is not None


def sheets(n: int = 40, seed: int = 0, turned: bool = True) -> pd.DataFrame:
    """Return answers to the three items of LIKERT by one person a text; `turned`: the sad item is worded so."""
    rng = np.random.default_rng(seed)
    level = rng.normal(3, 1, (n, 1))
    given = np.clip(np.rint(level + 0.5 * rng.normal(size=(n, 3))), 1, 5).astype(int)
    given[:, 2] = 6 - given[:, 2] if turned else given[:, 2]
    table = pd.DataFrame(given.astype(str), columns=["Q1", "Q2", "Q3"])
    return table.assign(text_id=[f"s{i}" for i in range(n)], text=[f"words {i}" for i in range(n)])


def read_sheets(folder: Path, table: pd.DataFrame, scale: Scale = LIKERT) -> Corpus:
    table.to_csv(folder / "sheets.csv", index=False)
    return TableFile(folder / "sheets.csv", COLUMNS, Undivided()).read(scale)


def test_a_score_is_computed_as_the_scale_says(tmp_path: Path) -> None:
    table = sheets()
    table.loc[0, ["Q1", "Q2", "Q3"]] = ["5", "4", "2"]
    table.loc[1, ["Q1", "Q2", "Q3"]] = ["5", "-99", "1"]
    table.loc[2, ["Q1", "Q2", "Q3"]] = ["5", "99.0", "na"]
    corpus = read_sheets(tmp_path, table)
    assert corpus.table["crowd_label"].iloc[0] == pytest.approx((5 + 4 + 4) / 3)
    assert corpus.table["crowd_label"].iloc[1] == 5.0  # of the two that were answered
    assert np.isnan(corpus.table["crowd_label"].iloc[2])
    assert corpus.table["split"].iloc[2] == "unlabelled"
    assert corpus.people is not None
    status = corpus.people.long["status"].value_counts()
    assert (status["missing code"], status["blank"], status["answer"]) == (3, 0, 117)
    assert list(corpus.people.long.loc[corpus.people.long["status"] == "missing code", "row"]) == [2, 3, 3]
    assert corpus.people.items.cronbach.value > 0.7
    assert corpus.people.items.omega.value > 0.7
    alpha = f"the items of mood together: Cronbach's alpha {corpus.people.items.cronbach.value:.2f}, McDonald's omega"
    assert any(alpha in line for line in corpus.people.lines())


@pytest.mark.parametrize(
    ("scale", "turned", "problem"),
    [
        (LIKERT, False, "item sad runs against mood: its correlation with the other items is"),
        (
            Scale("mood", "mood", tuple(Item(i.name, i.statement, False, i.column) for i in LIKERT.items), 1, 5),
            True,
            "It seems to be worded the other way: give it reversed: true in the scale's file",
        ),
    ],
)
def test_nothing_learns_from_items_that_run_against_their_scale(
    tmp_path: Path, scale: Scale, turned: bool, problem: str, caplog: pytest.LogCaptureFixture
) -> None:
    corpus = read_sheets(tmp_path, sheets(turned=turned), scale)
    assert problem in caplog.text
    with pytest.raises(InputError, match=problem.split(":")[0]):
        corpus.refuse_faults()


def test_impossible_and_unreadable_answers_are_refused_with_row_and_column(tmp_path: Path) -> None:
    table = sheets()
    table.loc[3, "Q2"], table.loc[7, "Q3"] = "6", "often"
    with pytest.raises(InputError) as caught:
        read_sheets(tmp_path, table)
    where = tmp_path / "sheets.csv"
    assert caught.value.problems[:2] == (
        f"{where}: data row 4, column Q2: expected an answer from 1 to 5 (mood), found '6'",
        f"{where}: data row 8, column Q3: expected an answer from 1 to 5 (mood), found 'often'",
    )


def test_answers_on_another_scale_are_reported_in_one_line(tmp_path: Path) -> None:
    table = sheets()
    for name in ("Q1", "Q2", "Q3"):
        table[name] = (table[name].astype(int) * 20).astype(str)
    table.loc[0, "Q1"] = "often"
    with pytest.raises(InputError) as caught:
        read_sheets(tmp_path, table)
    first, second, *_ = caught.value.problems
    cells = 3 * len(table) - 1
    assert f"{cells} of {cells} answers lie outside 1 to 5 (mood): they range from 20 to 100, such as " in first
    assert first.endswith("If mood was answered on this range, add scale.low=0 scale.high=100")
    assert "data row 1, column Q1: expected an answer from 1 to 5 (mood), found 'often'" in second


def test_codes_are_mapped_to_answers_and_unmapped_ones_refused(tmp_path: Path) -> None:
    words = {"never": 1, "sometimes": 3, "often": 5, "17": 2}
    scale = Scale("mood", "mood", (Item("glad", "glad"), Item("calm", "calm")), 1, 5, answers=words)
    table = pd.DataFrame({"text_id": list("abc"), "text": list("xyz"), "glad": ["never", "17", "often"]})
    corpus = read_sheets(tmp_path, table.assign(calm=["often", "sometimes", "17.0"]), scale)
    assert corpus.table["crowd_label"].tolist() == [3.0, 2.5, 3.5]
    with pytest.raises(InputError, match=r"column calm: expected one of never, sometimes, often, 17 \(mood\)"):
        read_sheets(tmp_path, table.assign(calm=["seldom", "often", "often"]), scale)


def test_words_and_codes_of_a_one_item_scale_are_answers_in_any_column(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    scale = replace(OVERALL, answers={"never": 1.0, "rarely": 2.0, "often": 6.0, 18.0: 4.0})
    words = np.resize(["never", "often", "18"], 30)
    table = TEXTS.assign(crowd_label=words, anna=words, ben="rarely")
    table.to_csv(tmp_path / "a.csv", index=False)
    single = TableFile(tmp_path / "a.csv", COLUMNS, Undivided()).read(scale)
    assert single.table["crowd_label"].tolist()[:3] == [1, 6, 4]
    several = TableFile(tmp_path / "a.csv", COLUMNS | {"raters": ["anna", "ben"]}, Undivided()).read(scale)
    assert several.table["crowd_label"].tolist()[:3] == [1.5, 4, 3]
    table.assign(crowd_label="7").to_csv(tmp_path / "a.csv", index=False)
    with pytest.raises(InputError, match=r"column crowd_label: expected one of never, rarely, often, 18 \(overall\), "):
        TableFile(tmp_path / "a.csv", COLUMNS, Undivided()).read(scale)
    table.assign(crowd_label=np.resize([1, 6, 7], 30)).to_csv(tmp_path / "a.csv", index=False)
    TableFile(tmp_path / "a.csv", COLUMNS, Undivided()).read(OVERALL)
    assert "column crowd_label: scale points never used: 2, 3, 4, 5" in caplog.text


def test_straight_lines_are_reported_even_if_everybody_filled_in_one_sheet(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    table = sheets(30)
    table.loc[[3, 8], ["Q1", "Q2", "Q3"]] = "3"
    read_sheets(tmp_path, table, LIKERT)
    line = next(message for message in caplog.messages if "with one answer to all items, before reversal" in message)
    assert "3" in line.partition("text_id")[2]


def test_a_reader_says_why_a_cell_is_empty() -> None:
    frame = pd.DataFrame({"text_id": ["a", "b"], "rater_id": ["x", "y"], "score": ["4", None]})
    frame.attrs[CELL_STATUS] = {(1, "score"): "cancelled"}
    people = long_form(frame, Layout("text_id", "rater_id", "score"), OVERALL, "file")
    assert people.long["status"].tolist() == ["answer", "cancelled"]
    assert "file: of 2 cells without an answer: 1 cancelled" in list(people.lines())
    frame.attrs[CELL_STATUS] = {(1, "score"): WITHOUT_RESULT}
    with pytest.raises(InputError, match=r"data row 2, column score: .* found formula without a stored result"):
        long_form(frame, Layout("text_id", "rater_id", "score"), OVERALL, "file")


def test_long_answers_to_items_are_the_same_sheets(tmp_path: Path) -> None:
    table = sheets(30).drop(columns="text").assign(text_id=TEXTS["text_id"], rater_id="me")
    scale = Scale("mood", "mood", tuple(Item(i.name, i.statement, i.reversed) for i in LIKERT.items), 1, 5)
    names = {"Q1": "glad", "Q2": "calm", "Q3": "sad"}
    wide = corpus_of(tmp_path, table.rename(columns=names), scale)
    long = table.rename(columns=names).melt(["text_id", "rater_id"], var_name="item", value_name="score")
    read = corpus_of(tmp_path, long.sample(frac=1, random_state=1), scale)
    pd.testing.assert_frame_equal(read.table[LABELS], wide.table[LABELS], check_exact=True)


@pytest.mark.parametrize(
    ("ratings", "problem"),
    [
        ({"text_id": ["zz"], "rater_id": ["a"], "score": ["4"]}, "expected ratings of the texts of"),
        ({"text_id": ["00"], "rater_id": [""], "score": ["4"]}, "data row 1, column rater_id: expected an id"),
        ({"text_id": ["00"], "who": ["a"], "score": ["4"]}, "expected column rater_id"),
        ({"text_id": ["00"], "rater_id": ["a"], "stars": ["4"]}, "expected column score"),
        (
            {"text_id": ["00", "01"], "rater_id": ["a", "a "], "score": ["4", "4"]},
            "ids that differ in more than blanks",
        ),
    ],
)
def test_ratings_that_cannot_be_used_are_refused(tmp_path: Path, ratings: dict[str, list[str]], problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        corpus_of(tmp_path, pd.DataFrame(ratings))


def test_ratings_of_other_texts_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    long = pd.DataFrame({"text_id": ["00", "zz", "zz"], "rater_id": list("aab"), "score": ["4", "3", "2"]})
    assert corpus_of(tmp_path, long).table["crowd_n"].sum() == 1
    assert "left out: 2 ratings of 1 text not in" in caplog.text


def test_careless_raters_are_named_and_left_out_only_when_asked(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lazy = pd.DataFrame({"text_id": TEXTS["text_id"], "rater_id": "lazy", "score": "7"})
    long = pd.concat([several(), lazy])
    kept = corpus_of(tmp_path, long)
    assert "1 careless rater, kept; data.careless=leave_out leaves them out: lazy (no variance)" in caplog.text
    without = corpus_of(tmp_path, long, careless="leave_out")
    expected = corpus_of(tmp_path, several())
    assert kept.table["crowd_n"].sum() == without.table["crowd_n"].sum() + 30
    pd.testing.assert_frame_equal(without.table[LABELS], expected.table[LABELS])


def test_previews_unfinished_answers_and_second_takes_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    people = [f"p{i % 28}" for i in range(30)]
    table = TEXTS.assign(crowd_label="4", Status="IP Address", Finished="True", PROLIFIC_PID=people)
    table.loc[1, "Status"], table.loc[4, "Finished"] = "Survey Preview", "False"
    table.to_csv(tmp_path / "survey.csv", index=False)
    corpus = TableFile(tmp_path / "survey.csv", COLUMNS).read(OVERALL)
    assert "1 row (2) of a survey preview" in caplog.text
    assert "1 row (5) unfinished" in caplog.text
    assert "2 rows (29 and 30) with the PROLIFIC_PID of an earlier row" in caplog.text
    assert corpus.table.groupby("group_id")["split"].nunique().max() == 1
    assert corpus.table["group_id"].nunique() == 28


@pytest.mark.slow
def test_a_million_ratings_are_read_in_ten_seconds(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    n, texts = 1_000_000, 250_000
    ids = [f"t{i:06}" for i in range(texts)]
    ratings = pd.DataFrame({"text_id": rng.choice(ids, n), "rater_id": rng.integers(5000, size=n)})
    ratings.assign(score=rng.integers(1, 8, size=n)).to_csv(tmp_path / "ratings.csv", index=False)
    pd.DataFrame({"text_id": ids, "text": [f"words {one}" for one in ids]}).to_csv(tmp_path / "texts.csv", index=False)
    reader = TableFile(tmp_path / "texts.csv", COLUMNS, Undivided(), ratings=tmp_path / "ratings.csv")
    people_alone = time.process_time()
    raw = read_table(tmp_path / "ratings.csv")
    people = long_form(raw, Layout("text_id", "rater_id", "score"), OVERALL, "ratings")
    labels = people.labels()
    assert time.process_time() - people_alone < 10
    corpus = reader.read(OVERALL)
    assert int(corpus.table["crowd_n"].sum()) == int(labels["crowd_n"].sum())


def test_a_frame_takes_a_frame_of_ratings(tmp_path: Path) -> None:
    expected = corpus_of(tmp_path, several())
    scores = several().assign(score=lambda table: table["score"].astype(float))
    read = Frame("frame", COLUMNS, Undivided(), ratings=scores, rows=TEXTS).read(OVERALL)
    pd.testing.assert_frame_equal(read.table[LABELS], expected.table[LABELS], check_exact=True)
