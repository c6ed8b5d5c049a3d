"""How well groups of people are measured: hand-checked numbers, planted differences found, none where there is none."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from studies.records import Arm, Texts, write_records
from studies.reported import reported

from invitro.data import Holdout
from invitro.data.simulator.corpus import Simulator
from invitro.data.simulator.rating import CrowdRaters
from invitro.errors import InputError
from invitro.scales import Item, Scale
from invitro.stats.intervals import holm, interval_of
from invitro.stats.moments import resampled
from invitro.studies.groups import (
    LEAST_IN_GROUP,
    Fairness,
    GroupRow,
    GroupTable,
    Measured,
    fairness,
    group_tables,
    label_pairs,
    prediction_pairs,
)
from invitro.studies.report.page import write_tables
from invitro.studies.report.tables import group_section
from invitro.studies.runs import read_runs
from invitro.writing.words import markdown_text

SCALE = Scale("batson_empathy", "empathy", tuple(Item(name, name) for name in ("warm", "moved", "tender")), 1, 7)


def people(**columns: list[str | None]) -> pd.DataFrame:
    return pd.DataFrame(columns, dtype="object")


def row(measured: Fairness, attribute: str, group: str, series: str = "m") -> GroupRow:
    (match,) = [r for r in measured.rows if (r.series, r.attribute, r.group) == (series, attribute, group)]
    return match


def test_numbers_by_hand() -> None:
    """Group 1: labels 1 to 5, scores one point higher. Group 2: labels 1 to 5, scores turned round."""
    reference = np.array([1.0, 2, 3, 4, 5] * 2)
    scores = np.array([[2.0, 3, 4, 5, 6, 5, 4, 3, 2, 1]])
    own = np.arange(10)
    measured = fairness(
        [Measured("m", scores, reference, people(gender=["1"] * 5 + ["2"] * 5), own)], least=5, resamples=50
    )
    assert measured.rows == ()  # five authors are too few, however few texts are enough
    assert {group.why for group in measured.suppressed} == {"fewer than 10 authors"}
    groups = people(gender=(["1"] * 5 + ["2"] * 5) * 2)
    twice = Measured("m", np.tile(scores, 2), np.tile(reference, 2), groups, np.arange(20))
    measured = fairness([twice], least=5, resamples=200)
    up, back = row(measured, "gender", "1"), row(measured, "gender", "2")
    values = {name: interval.value for name, interval in up.measures.items()}
    # Both variances are 2, and so is the covariance: CCC = 2 * 2 / (2 + 2 + 1).
    assert values == pytest.approx({"pcc": 1.0, "ccc": 0.8, "rmse": 1.0, "bias": 1.0})
    values = {name: interval.value for name, interval in back.measures.items()}
    # Errors 4, 2, 0, -2, -4: their mean square is 8.
    assert values == pytest.approx({"pcc": -1.0, "ccc": -1.0, "rmse": 8**0.5, "bias": 0.0})
    assert (up.texts, up.authors, back.texts) == (10, 10, 10)
    assert up.apart["bias"].difference == pytest.approx(1.0)
    assert back.apart["bias"].difference == pytest.approx(-1.0)
    assert up.apart["ccc"].difference == pytest.approx(1.8)


def noisy(n: int = 300, seed: int = 0, groups: int = 2, seeds: int = 1) -> Measured:
    rng = np.random.default_rng(seed)
    authors = np.arange(n) // 2
    reference = 4 + rng.normal(size=n)
    scores = reference + 0.5 * rng.normal(size=n // 2)[authors] + rng.normal(size=(seeds, n))
    of = rng.integers(groups, size=n // 2)[authors].astype(str).tolist()
    return Measured("m", scores, reference, people(race=of), authors)


def test_several_seeds_are_averaged_and_two_groups_are_tested_once() -> None:
    scored = noisy(seeds=3)
    measured = fairness([scored], resamples=300)
    first, second = measured.rows
    members = (scored.people["race"] == first.group).to_numpy()
    each = [np.corrcoef(scores[members], scored.reference[members])[0, 1] for scores in scored.scores]
    assert first.measures["pcc"].value == pytest.approx(np.mean(each))
    low, high = first.measures["pcc"].low, first.measures["pcc"].high
    assert low < np.mean(each) < high
    assert (first.mirrored, second.mirrored) == (False, True)
    for name in ("bias", "ccc"):
        assert first.apart[name].p == pytest.approx(second.apart[name].p)
        assert first.apart[name].difference == pytest.approx(-second.apart[name].difference)
        assert first.apart[name].p_holm == second.apart[name].p_holm
    # Two tests and not four.
    raw = [first.apart[name].p for name in ("bias", "ccc")]
    assert [first.apart[name].p_holm for name in ("bias", "ccc")] == pytest.approx(holm(raw))


def test_all_series_are_one_family() -> None:
    first, second = noisy(groups=3), noisy(seed=1, groups=3)
    measured = fairness([first, Measured("other", second.scores, second.reference, second.people, second.authors)])
    raw = [apart.p for r in measured.rows for apart in r.apart.values()]
    assert len(raw) == 2 * 3 * 2
    assert [apart.p_holm for r in measured.rows for apart in r.apart.values()] == pytest.approx(holm(raw))


def test_authors_count_whole() -> None:
    """Texts copied ten times by their authors are no further evidence."""
    original = noisy(200, groups=2)
    texts = np.tile(np.arange(200), 10)
    copied = Measured(
        "m", original.scores[:, texts], original.reference[texts], original.people.iloc[texts].reset_index(drop=True),
        original.authors[texts],
    )  # fmt: skip
    few, many = (fairness([it], resamples=400).rows[0].measures["bias"] for it in (original, copied))
    assert many.high - many.low == pytest.approx(few.high - few.low)
    alone = fairness([replace(copied, authors=np.arange(2000))], resamples=400).rows[0]
    assert alone.measures["bias"].high - alone.measures["bias"].low < 0.5 * (few.high - few.low)


def test_small_groups_are_suppressed_and_so_is_a_comparison_that_would_tell_of_one() -> None:
    of = ["1"] * 100 + ["2"] * (LEAST_IN_GROUP - 1) + [None] * 20
    rng = np.random.default_rng(0)
    reference = rng.normal(size=len(of))
    scores = (reference + rng.normal(size=len(of)))[None]
    scored = Measured("m", scores, reference, people(gender=of), np.arange(len(of)))
    measured = fairness([scored], resamples=50)
    assert [(r.group, r.texts, r.apart) for r in measured.rows] == [("1", 100, {})]
    section = group_section(GroupTable("crowd", measured, 1, 1, "test"))
    assert "gender 2 (fewer than 30 texts)" in section.left_out
    assert section.verdict == "No group could be compared with the rest."
    assert [(s.attribute, s.group, s.why) for s in measured.suppressed] == [("gender", "2", "fewer than 30 texts")]
    assert {r.group for r in fairness([scored], least=LEAST_IN_GROUP - 1, resamples=50).rows} == {"1", "2"}


def test_people_and_texts_have_to_fit() -> None:
    with pytest.raises(InputError, match="m: expected people of 10 texts, found 1"):
        fairness([Measured("m", np.ones((1, 10)), np.ones(10), people(gender=["1"]), np.arange(10))])


@pytest.mark.slow
def test_the_family_wise_error_is_five_per_cent() -> None:
    """Groups that differ in nothing, in the sizes of a small test set, with authors who err alike in their texts."""
    hits, draws = 0, 120
    for seed in range(draws):
        rng = np.random.default_rng(seed)
        n, authors = 240, np.arange(240) // 2
        reference = np.clip(4 + 0.9 * rng.normal(size=120)[authors] + 1.2 * rng.normal(size=n), 1, 7)
        scores = np.clip(reference + 0.6 * rng.normal(size=120)[authors] + 1.2 * rng.normal(size=n), 1, 7)
        of = {
            "gender": rng.choice(list("12"), 120)[authors],
            "race": rng.choice(list("123"), 120, p=[0.6, 0.2, 0.2])[authors],
            "education": rng.choice(list("1234"), 120)[authors],
        }
        measured = fairness([Measured("m", scores[None], reference, pd.DataFrame(of), authors)], resamples=200)
        tests = [apart.p_holm for r in measured.rows for apart in r.apart.values()]
        assert len(tests) >= 2 * 6
        hits += min(tests) < 0.05
    # Binomial with 5 %: 0.1 % of all such series lie beyond 15 of 120, and 0.2 % have none.
    assert 1 <= hits <= 15


def test_a_crowd_that_errs_in_one_group_is_found() -> None:
    measured = fairness(
        [simulated(1200, 0, {"gender": {2: {"straight_lining": 0.0, "inattention": 0.85}}})], resamples=500
    )
    sure = {(r.attribute, r.group) for r in measured.rows if r.apart and r.apart["ccc"].p_holm < 0.001}
    assert sure == {("gender", "1"), ("gender", "2")}
    assert row(measured, "gender", "2", "crowd").apart["ccc"].difference < -0.1


def test_a_crowd_that_errs_alike_in_all_groups_is_not_accused() -> None:
    hits = 0
    for seed in range(12):
        measured = fairness([simulated(300, seed)], resamples=300)
        hits += min(apart.p_holm for r in measured.rows for apart in r.apart.values()) < 0.05
    assert hits <= 3  # 0.2 % of all such series have more, at 5 % each


def simulated(texts: int, seed: int, by_group: dict[str, dict[int, dict[str, float]]] | None = None) -> Measured:
    """Return a simulated crowd against a simulated LLM, two texts an author."""
    crowd: Any = CrowdRaters(by_group=by_group)  # type: ignore[arg-type]  # its keys may be text too
    table = Simulator(Holdout(), texts=texts, authors=texts // 2, seed=seed, crowd=crowd).read(SCALE).table
    table = table.loc[table["llm_label"].notna()].reset_index(drop=True)
    scores, reference = table[["crowd_label"]].to_numpy().T, table["llm_label"].to_numpy()
    return Measured("crowd", scores, reference, table, table["group_id"].to_numpy())


def test_records_give_labels_and_predictions_by_group(tmp_path: Path) -> None:
    study = reported("applications", tmp_path / "runs")
    tables = {table.kind: table for table in group_tables(study.study, study.runs, study.summary, resamples=100)}
    assert list(tables) == ["labels", "crowd", "truth"]
    assert (tables["crowd"].series, tables["crowd"].of) == (4, 4)
    labels = study.runs.labels(0)
    first = tables["labels"].found.rows[0]
    own = labels.loc[(labels["gender"] == "male") & labels["llm_label"].notna() & labels["crowd_label"].notna()]
    assert (first.attribute, first.group) == ("gender", "male")  # as the codebook calls 1
    assert first.texts >= len(own)  # all runs together: some keep the pool's crowd labels
    pairs = label_pairs(study.runs)
    assert [pair.series for pair in pairs] == ["simulated/simulated:llm_label"]
    assert first.measures["bias"].value == pytest.approx(
        (pairs[0].scores[0] - pairs[0].reference)[(pairs[0].people["gender"] == "male").to_numpy()].mean()
    )
    predictions = [study.runs.predictions(job).query("split == 'test' and gender == 'male'") for job in (0, 1, 2)]
    bias = np.mean([(part["prediction"] - part["crowd_label"]).mean() for part in predictions])
    assert row(tables["crowd"].found, "gender", "male", "none").measures["bias"].value == pytest.approx(bias)


def test_a_group_that_a_model_gets_wrong_is_reported(tmp_path: Path) -> None:
    arms = [Arm({"application": "none"}), Arm({"application": "both"}, reversed_group=("gender", "2"), skill=0.8)]
    study = reported("applications", tmp_path / "runs", arms, Texts(test=400))
    sections = [group_section(table) for table in group_tables(study.study, study.runs, study.summary, resamples=300)]
    test = next(section for section in sections if section.table.name == "groups_truth")
    assert "Different from the rest, after Holm's correction over " in test.verdict
    assert "CCC of gender male (both) by +" in test.verdict
    paths = write_tables(study.study, study.runs, [], sections, tmp_path / "report")
    told = paths[1].read_text("utf-8")
    assert "## Predictions compared with the truth on test, by group" in told
    assert markdown_text(test.verdict) in told
    columns = pd.read_csv(paths[2]).columns
    assert not any("gender" in name for name in columns)


def test_folds_are_pooled(tmp_path: Path) -> None:
    folders = write_records(tmp_path, [Arm({"application": "none"})], seeds=(0, 1))
    for place, folder in enumerate(folders):
        table = pd.read_csv(folder / "predictions.csv", dtype=str)
        half = pd.Series(range(len(table))) % 2 == place
        table.loc[half | (table["split"] == "val")].to_csv(folder / "predictions.csv", index=False)
    runs = read_runs(tmp_path)
    measured = prediction_pairs(runs, [0, 1], "none", "test")
    assert measured is not None
    assert measured.pooled
    assert measured.scores.shape == (1, 240)
    assert not np.isnan(measured.scores).any()


def test_no_demographics_no_section(tmp_path: Path) -> None:
    folders = write_records(tmp_path / "runs", [Arm({"application": "none"}), Arm({"application": "both"})], seeds=(0,))
    for folder in folders:
        for name in ("predictions.csv", "labels.csv"):
            table = pd.read_csv(folder / name, dtype=str)
            table.drop(columns=["gender", "education", "race", "age", "income"]).to_csv(folder / name, index=False)
    study = reported("applications", tmp_path / "other")
    runs = read_runs(tmp_path / "runs", study.study.factors, study.study.replicates)
    assert group_tables(study.study, runs, study.summary) == []


def test_a_fixed_interval_is_that_of_the_report() -> None:
    """One group that holds everybody is measured as a configuration is."""
    scored = noisy(groups=1)
    (group,) = fairness([scored], resamples=300).rows
    expected = interval_of(resampled(scored.reference, scored.scores, scored.authors, 300)["ccc"], "ccc")
    assert group.measures["ccc"] == expected


def test_perfect_scores_have_no_error_and_no_test_of_ccc() -> None:
    scored = noisy()
    measured = fairness([replace(scored, scores=scored.reference[None])], resamples=50)
    ccc = measured.rows[0].measures["ccc"]
    assert (ccc.value, ccc.low, ccc.high) == (1, 1, 1)
    assert np.isnan(measured.rows[0].apart["ccc"].p)
