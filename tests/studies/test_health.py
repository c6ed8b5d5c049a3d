"""Health checks: each finds its fault in records that have it, with numbers and advice, and none in a clean study."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from studies.records import Arm, Texts, alpha_arms, application_arms, write_records

from invitro.studies.health import findings
from invitro.studies.health.predictions import (
    Flatness,
    GroupScore,
    Magnitudes,
    ccc_below_pcc,
    constant_predictions,
    labels_apart,
    negative_in_groups,
)
from invitro.studies.health.runs import Course, Finding, Spread, early_stopping, labels_changed, spread_over_runs
from invitro.studies.report.sentences import conclusion
from invitro.studies.runs import read_runs
from invitro.studies.study import Study
from invitro.studies.summary import summarise

NAN = float("nan")
CLEAN = {
    "runs", "number of seeds", "comparison", "labels changed", "crowd labels given up", "spread over seeds",
    "early stopping", "CCC and PCC", "constant predictions", "groups", "label distributions",
}  # fmt: skip


def checked(
    folder: Path, arms: Sequence[Arm] | None = None, baseline: dict[str, str] | None = None, **records: Any
) -> dict[str, Finding]:
    """Write records and return the findings on them, by check."""
    arms = application_arms() if arms is None else arms
    write_records(folder, arms, **records)
    factors = tuple(arms[0].overrides)
    wanted = {"application": "none"} if baseline is None else baseline
    study = Study("study", "A study", "What?", factors=factors, baseline=wanted)
    runs = read_runs(folder, factors)
    return {finding.check: finding for finding in findings(study, runs, summarise(study, runs, 300))}


def plain(text: str) -> str:
    """Return a text without the spaces that keep numbers and signs on one line."""
    return text.replace("\N{NO-BREAK SPACE}", " ")


def two(**fault: Any) -> list[Arm]:
    """Return crowd labels alone, and both with a fault."""
    return [Arm({"application": "none"}, skill=0.6), Arm({"application": "both"}, **({"skill": 0.7} | fault))]


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Finding]:
    return checked(tmp_path_factory.mktemp("clean") / "runs", texts=Texts(test=400))


def test_a_clean_study_has_no_warning_and_says_what_was_looked_at(clean: dict[str, Finding]) -> None:
    # augmentation gains nothing here, and seeds alone make a larger difference; 30 % of the labels are the pool's
    noted = {"spread over seeds": "note", "crowd labels given up": "note"}
    assert {name: finding.level for name, finding in clean.items() if finding.level != "good"} == noted
    assert clean["crowd labels given up"].what.startswith(
        "90 of 300 crowd labels (30.0\N{NO-BREAK SPACE}%) are given up"
    )
    assert "in every configuration, including the baseline" in clean["crowd labels given up"].what
    assert set(clean) == CLEAN
    assert all(
        finding.what.endswith(".") and (finding.level == "good") == (not finding.do) for finding in clean.values()
    )


@pytest.mark.parametrize(
    ("arms", "check", "told", "mend"),
    [
        (two(failed=(42, 7)), "runs", ["1 of 10 jobs failed", "both", "TrainingError", "4 to 5"], "error.txt"),
        (two(seeds=(0, 42, 100)), "runs", ["3 to 5", "both has the fewest"], "make the missing runs"),
        (two(bias=1.5), "CCC and PCC", ["CCC is 0.", "(both, on test)", "predictions have mean 5."], "too high by 1."),
        (two(bias=-1.5), "CCC and PCC", ["predictions have mean 2."], "too low by 1."),
        (two(gain=0.2), "CCC and PCC", ["1 configuration"], "fit.loss=ccc"),
        (two(gain=3.0), "CCC and PCC", ["1 configuration"], "lower plm.lr"),
        (two(gain=0.01), "constant predictions", ["1 configuration, both"], "raise plm.lr"),
        (two(gain=0.0), "constant predictions", ["SD is 0.000"], "learned only the mean"),
        (two(seed_sd=0.25), "spread over seeds", ["varies over seeds from", "(both; its runs ended after 8, 9, 10"],
         "add seeds"),
        ([Arm({"application": "none"}, epochs=(20,)), Arm({"application": "both"}, epochs=(20,))], "early stopping",
         ["20 of at most 20", "never ended a run"], "Raise fit.epochs"),
        (two(reversed_group=("gender", "2")), "groups", ["gender female −0.", "texts; both"],
         "Do not use these models"),
        (two(train_shift=2.5), "label distributions", ["1 configuration", "points (Wasserstein)", "KS D 0."], "biased"),
    ],
)  # fmt: skip
def test_a_fault_is_found(tmp_path: Path, arms: list[Arm], check: str, told: list[str], mend: str) -> None:
    results = checked(tmp_path / "runs", arms, texts=Texts(test=400))
    assert results[check].level == "warning", results[check]
    for part in told:
        assert part in results[check].what
    assert mend in results[check].do
    others = {name for name, finding in results.items() if finding.level == "warning"} - {check}
    allowed = {"CCC and PCC", "groups", "spread over seeds"}  # constant or shifted models show in these as well
    assert others <= (allowed if check in ("constant predictions", "groups", "label distributions") else set())


def test_a_study_without_factors_is_looked_at_too(tmp_path: Path) -> None:
    arms = [Arm({}, reversed_group=("gender", "2"))]
    results = checked(tmp_path / "runs", arms, baseline={}, texts=Texts(test=400))
    assert results["groups"].level == "warning"
    assert "gender female" in results["groups"].what
    assert "narrowest predictions have 0." in results["constant predictions"].what


def test_nothing_is_good_that_was_not_looked_at() -> None:
    assert constant_predictions([], 2) is None
    assert negative_in_groups([], "test", 2) is None
    assert labels_apart([], "test", 2) is None
    untouched = pd.DataFrame({"application": ["none"], "replaced_share": [0.0], "val_ccc_mean": [0.5]})
    assert labels_changed(untouched) is None
    assert spread_over_runs([Spread("tfidf", 5, 0.0, 0.4, 0.4, NAN, [])], "seeds", "test") is None
    assert ccc_below_pcc([Magnitudes("none", 0.05, 0.04, 4, 1, 4, 1)], "test", 2) is None
    close = ccc_below_pcc([Magnitudes("none", 0.5, 0.45, 4, 1, 4, 1)], "test", 3)
    group = negative_in_groups([GroupScore("none", "gender 1", 40, 0.3, 0.5)], "val", 3)
    flat = constant_predictions([Flatness("none", 0.4)], 3)
    assert close is not None
    assert group is not None
    assert flat is not None
    assert close.what.endswith("Checked: 1 of 3 configurations, those with PCC above 0.1.")
    assert "CCC on validation is positive in every group" in group.what
    assert group.what.endswith("Only 1 of 3 configurations could be checked.")
    assert flat.what.endswith("Only 1 of 3 configurations could be checked.")


def test_folds_are_looked_at_together(tmp_path: Path) -> None:
    """A fold's test is too small for its groups; all folds together are not."""
    write_records(tmp_path / "runs", [Arm({}, reversed_group=("gender", "2"))], seeds=range(4), texts=Texts(test=240))
    for fold, directory in enumerate(sorted((tmp_path / "runs").iterdir())):
        table = pd.read_csv(directory / "predictions.csv", dtype={"text_id": str})
        mine = (table["split"] != "test") | (pd.to_numeric(table["text_id"]) % 4 == fold)
        table[mine].to_csv(directory / "predictions.csv", index=False)
    runs = read_runs(tmp_path / "runs", ())
    study = Study("study", "A study", "What?")
    results = {finding.check: finding for finding in findings(study, runs, summarise(study, runs, 300))}
    assert results["groups"].level == "warning"
    assert "gender female −0." in results["groups"].what


@pytest.mark.parametrize(
    ("magnitudes", "advice"),
    [
        (Magnitudes("m", 0.5, 0.3, 4, 0.4, 4, 1, exact=False), "fit.loss=ccc, or more epochs"),
        (Magnitudes("m", 0.5, 0.3, 4, 0.4, 4, 1, exact=True), "stretch predictions to the labels' SD (spread=matched"),
        (Magnitudes("m", 0.5, 0.3, 6, 1, 4, 1, by_llm=True), "a biased LLM"),
        (Magnitudes("m", 0.5, 0.3, 6, 1, 4, 1, by_llm=False), "all of which are the crowd's"),
    ],
)
def test_advice_fits_the_model_and_its_labels(magnitudes: Magnitudes, advice: str) -> None:
    finding = ccc_below_pcc([magnitudes], "test", 1)
    assert finding is not None
    assert advice in finding.do
    assert ("epochs" in finding.do) == (advice.startswith("fit.loss"))


@pytest.mark.parametrize(
    ("seeds", "level", "told"),
    [
        ((0,), "warning", "One run only"),
        ((0, 1), "warning", "2 seeds per configuration"),
        ((0, 1, 2, 3), "note", "4 seeds per configuration"),
        ((0, 1, 2, 3, 4), "good", "At least 5 seeds per configuration"),
    ],
)
def test_few_seeds(tmp_path: Path, seeds: tuple[int, ...], level: str, told: str) -> None:
    finding = checked(tmp_path / "runs", two(), seeds=seeds)["number of seeds"]
    assert finding.level == level
    assert told in finding.what


@pytest.mark.slow
def test_results_that_fall_below_alpha_3(tmp_path: Path) -> None:
    low = Arm({"application": "correction", "alpha": "0.0"}, skill=0.2)
    arms = [low, *alpha_arms((3.0, 4.0, 4.5, 6.0))]
    finding = checked(tmp_path / "runs", arms, baseline={"alpha": "6.0"})["labels changed"]
    assert finding.level == "warning"
    assert "clearly lower at alpha 0 (0." in finding.what
    assert "99.5 % of the crowd labels" in plain(finding.what)
    assert finding.do.startswith("Keep alpha at 3 or above")


@pytest.mark.parametrize(
    ("ccc", "level", "told", "do"),
    [
        ([0.2, 0.5, 0.5, 0.4], "warning", "clearly lower at alpha 1 (0.200).", "Keep alpha at 3 or above"),
        ([0.49, 0.5, 0.5, 0.4], "good", "At no alpha", ""),
        (
            [0.6, 0.5, 0.5, 0.4],
            "warning",
            "clearly lower at alpha 3 (0.500) and alpha 4 (0.500).",
            "these values of alpha: 1.",
        ),
        ([-0.7, -0.6, 0.1, 0.4], "warning", "alpha 1 (−0.700), alpha 3 (−0.600) and alpha 4 (0.100)", "Do not correct"),
    ],
)
def test_every_alpha_stands_for_itself(ccc: list[float], level: str, told: str, do: str) -> None:
    groups = pd.DataFrame({"alpha": [1.0, 3.0, 4.0, 6.0], "replaced_share": [0.7, 0.2, 0.1, 0.0], "val_ccc_mean": ccc})
    finding = labels_changed(groups, ["alpha"])
    assert finding is not None
    assert (finding.level, told in finding.what, do in finding.do) == (level, True, True)
    assert "10.0 % to 70.0 % of the crowd labels" in plain(finding.what)


def test_one_alpha_that_replaces_most_labels_is_noted() -> None:
    groups = pd.DataFrame({"application": ["both"], "replaced_share": [0.8], "val_ccc_mean": [0.5]})
    finding = labels_changed(groups)
    assert finding is not None
    assert finding.level == "note"
    assert "80.0 %" in plain(finding.what)


CHOOSING = Study("s", "S", "?", factors=("alpha",), baseline={"alpha": "inf"}, choose="alpha", axis="alpha")


def chosen_study(folder: Path, shift: float = 0.0, **arm: Any) -> dict[str, Finding]:
    """Return the findings on a study that chose alpha 0.5; `shift` moves its corrected labels, in scale points."""
    arms = [
        Arm({"application": "correction", "alpha": "inf"}, skill=0.5, gain=0.55),
        Arm({"application": "correction", "alpha": "0.5"}, **({"skill": 0.75} | arm)),
    ]
    for directory in write_records(folder, arms, texts=Texts(test=400))[5:]:
        table = pd.read_csv(directory / "labels.csv", dtype={"text_id": str})
        table.assign(label=(table["label"] + shift).clip(upper=7)).to_csv(directory / "labels.csv", index=False)
    runs = read_runs(folder, ("alpha",))
    summary = summarise(CHOOSING, runs, 300)
    assert summary.chosen == {"alpha": 0.5}
    return {finding.check: finding for finding in findings(CHOOSING, runs, summary)}


def test_what_a_choice_costs_is_said(tmp_path: Path) -> None:
    """CCC gains by a wider spread of predictions, RMSE loses: not good, whatever CCC says."""
    finding = chosen_study(tmp_path / "runs", skill=0.55, gain=1.5)["choice"]
    assert finding.level == "warning"
    assert finding.what.startswith("Alpha 0.5 was chosen by CCC alone; it changes ")
    assert "RMSE" in finding.what.split("worse than the baseline in ")[1]
    assert "mostly learns the LLM's scores" in finding.do
    assert "at the cost of RMSE" in finding.do


@pytest.mark.parametrize(("shift", "level"), [(0.0, "good"), (0.45, "warning")])
def test_labels_that_correction_moved_away_are_not_alike(tmp_path: Path, shift: float, level: str) -> None:
    finding = chosen_study(tmp_path / "runs", shift)["label distributions"]
    assert finding.level == level
    assert ("The crowd's labels alone are 0." in finding.what) == (level == "warning")


@pytest.mark.parametrize(
    ("spread", "level", "told"),
    [
        (Spread("both", 5, 0.02, 0.40, 0.45, 0.15, [9]), "good", "differences of up to 0.025"),
        (Spread("both", 5, 0.02, 0.40, 0.45, 0.01, [9]), "note", "the difference from the baseline is +0.010"),
        (Spread("all runs", 5, 0.025, 0.108, 0.168, NAN, [9]), "note", "from 0.108 to 0.168"),
        (Spread("all runs", 5, 0.01, 0.40, 0.43, NAN, [9]), "good", "from 0.400 to 0.430"),
        (Spread("both", 5, 0.1, 0.30, 0.55, 0.4, [9]), "warning", "SD 0.100"),
    ],
)
def test_a_spread_is_judged_by_the_difference_that_it_blurs(spread: Spread, level: str, told: str) -> None:
    finding = spread_over_runs([spread], "seeds", "test")
    assert finding is not None
    assert (finding.level, told in finding.what) == (level, True)


def test_a_model_in_closed_form_has_no_seeds_and_no_epochs(tmp_path: Path) -> None:
    arms = [Arm({"plm": "tfidf"}, seed_sd=0.0)]
    for directory in write_records(tmp_path / "runs", arms, seeds=(0, 1)):
        config = yaml.safe_load((directory / "config.yaml").read_text("utf-8")) | {"plm": {"name": "tfidf"}}
        (directory / "config.yaml").write_text(yaml.safe_dump(config), "utf-8")
        same = tmp_path / "runs" / "0"
        for file in ("predictions.csv", "metrics.json"):
            (directory / file).write_bytes((same / file).read_bytes())
    runs = read_runs(tmp_path / "runs", ("plm",))
    study = Study("study", "A study", "What?", factors=("plm",))
    summary = summarise(study, runs, 300)
    results = {finding.check: finding for finding in findings(study, runs, summary)}
    assert {"number of seeds", "spread over seeds", "early stopping"}.isdisjoint(results)
    assert results["equal runs"].what.startswith("2 runs with different seeds gave the same result: tfidf.")
    assert not any(word in finding.do for finding in results.values() for word in ("epochs", "plm.lr", "seed=0"))
    alone = conclusion(study, runs, replace(summary, groups=summary.groups.assign(seeds=1)))
    assert "single run" not in alone


def test_folds_are_not_called_seeds(tmp_path: Path) -> None:
    for fold, directory in enumerate(write_records(tmp_path / "runs", [Arm({"application": "both"})], seeds=range(3))):
        job = json.loads((directory / "job.json").read_text("utf-8"))
        job["overrides"] |= {"data.split.fold": str(fold), "seed": "0"}
        (directory / "job.json").write_text(json.dumps(job), "utf-8")
    runs = read_runs(tmp_path / "runs", ("application",), ("data.split.fold", "seed"))
    study = Study("study", "A study", "What?", factors=("application",), replicates=("data.split.fold", "seed"))
    results = {finding.check: finding for finding in findings(study, runs, summarise(study, runs, 300))}
    assert results["number of folds"].what.startswith("3 folds per configuration: both.")
    assert not any(name.startswith("spread") for name in results)  # folds differ in their texts, which are paired
    assert not any("seed" in finding.what + finding.do for finding in results.values())


@pytest.mark.parametrize(
    ("courses", "level", "told"),
    [
        ([Course(20, 5, 2, 9, 7), Course(20, 5, 2, 14, 12)], "good", "Early stopping ended 2 of 2 runs"),
        ([Course(20, 5, 2, 20, 15), Course(20, 5, 2, 20, 12)], "warning", "never ended a run"),
        ([Course(3, 0, 2, 3, 3), Course(3, 0, 2, 3, 3)], "warning", "best in the very last epoch"),
        ([Course(20, 5, 2, 8, 6), Course(20, 5, 2, 8, 3)], "note", "stopped as early as possible"),
        ([Course(12, 0, None, 12, 7), Course(12, 0, None, 12, 12)], "good", "Early stopping is off"),
        ([Course(12, 0, None, 12, 12)], "warning", "best in the very last epoch"),
    ],
)
def test_when_runs_stopped(courses: list[Course], level: str, told: str) -> None:
    finding = early_stopping(courses)
    assert finding is not None
    assert finding.level == level
    assert told in finding.what
    assert bool(finding.do) == (level != "good")


def test_shared_results_are_named(tmp_path: Path) -> None:
    arms = [
        Arm({"application": "correction", "alpha": "inf"}, skill=0.6),
        Arm({"application": "correction", "alpha": "6.0"}, shared_with=0),
    ]
    finding = checked(tmp_path / "runs", arms, baseline={"alpha": "inf"})["shared results"]
    assert finding.level == "note"
    assert "10 jobs share 5 results" in finding.what
    assert "alpha 6" in finding.what
    assert "not tested" in finding.do


@pytest.mark.slow
def test_a_baseline_that_is_missing_or_cannot_be_compared(tmp_path: Path) -> None:
    arms = [Arm({"application": "both"}), Arm({"application": "correction"})]
    finding = checked(tmp_path / "none", arms)["comparison"]
    assert (finding.level, "application=none" in finding.what) == ("warning", True)
    arms = [Arm({"application": "none"}, seeds=(0, 1, 2)), Arm({"application": "both"}, seeds=(3, 4, 5))]
    finding = checked(tmp_path / "apart", arms)["comparison"]
    assert (finding.level, "no seed in common" in finding.what) == ("warning", True)


def test_without_any_result_only_jobs_are_looked_at(tmp_path: Path) -> None:
    arms = [Arm({"application": name}, failed=(0, 1)) for name in ("none", "both")]
    results = checked(tmp_path / "runs", arms, seeds=(0, 1))
    assert results["runs"].level == "warning"
    assert "4 of 4 jobs failed" in results["runs"].what
    assert "CCC and PCC" not in results


def test_negative_by_chance_is_a_note(tmp_path: Path) -> None:
    # Eleven texts a race or so in a corpus of 60: some CCC of models that are nearly blind is below 0.
    arms = [Arm({"application": "none"}, skill=0.02), Arm({"application": "both"}, skill=0.02)]
    finding = checked(tmp_path / "runs", arms, texts=Texts(test=120))["groups"]
    assert finding.level == "note"
    assert "may be chance" in finding.what
