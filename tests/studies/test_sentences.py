"""What a study found, in words: a difference is called one only where the test says so."""

from pathlib import Path
from typing import Any

import pandas as pd

from invitro.stats.intervals import Interval, Plateau
from invitro.studies.report.sentences import conclusion, method, plateau_sentences
from invitro.studies.runs import Runs
from invitro.studies.study import Study
from invitro.studies.summary import Summary
from invitro.studies.wording import configuration, leading, name_as_tested

STUDY = Study("alpha", "Alpha", "Which?", metrics=("pcc", "ccc"), choose="alpha", baseline={"alpha": "inf"})
NAN, INF = float("nan"), float("inf")


def runs(outcomes: list[str]) -> Runs:
    table = pd.DataFrame({"outcome": outcomes, "seed": range(len(outcomes)), "alpha": 4.0, "shared": False})
    return Runs(Path(), ("alpha",), ("seed",), table, ())


def group(alpha: float, val: float, test: float, seeds: int = 3) -> dict[str, Any]:
    row: dict[str, Any] = {"alpha": alpha, "runs": seeds, "seeds": seeds}
    for metric in ("pcc", "ccc"):
        row |= {f"val_{metric}_mean": val, f"test_{metric}_mean": test}
        row |= {f"test_{metric}_low": test - 0.1, f"test_{metric}_high": test + 0.1}
    return row


def difference(alpha: float, metric: str, value: float, p: float) -> dict[str, Any]:
    return {
        "alpha": alpha, "split": "test", "metric": metric, "difference": value, "low": value - 0.05,
        "high": value + 0.05, "p": p / 2, "p_holm": p, "effect": value, "seeds": 3, "texts": 240, "authors": 120,
    }  # fmt: skip


def summary(groups: list[dict[str, Any]], differences: list[dict[str, Any]], **more: Any) -> Any:
    known = {"baseline": {"alpha": INF}, "chosen": {"alpha": 4.0}, "published": None, "plateau": None}
    return Summary(groups=pd.DataFrame(groups), differences=pd.DataFrame(differences), **(known | more))


GROUPS = [group(3.0, 0.48, 0.42), group(4.0, 0.512, 0.45), group(INF, 0.4, 0.3)]


def test_what_was_chosen_and_how_sure_the_difference_is() -> None:
    rows = [difference(4.0, "pcc", 0.01, 0.7), difference(4.0, "ccc", 0.15, 0.004), difference(3.0, "ccc", 0.1, 0.01)]
    text = conclusion(STUDY, runs(["finished"] * 8 + ["failed"]), summary(GROUPS, rows))
    assert text == (
        "8 of 9 jobs finished (1 failed): 3 configurations, 3 runs each. By mean validation CCC, alpha = 4 was chosen "
        "(0.512; next best: alpha 3, 0.480; validation PCC 0.512, baseline 0.400); test results played no "
        "part in the choice. On the test texts, CCC is "
        "better than the baseline's: 0.450 against 0.300 (+0.150, 95 % interval [+0.100, +0.200], Holm-corrected "
        "p = 0.004, 3 runs each, 240 texts by 120 authors). For PCC there is no evidence of a difference "
        "(+0.010 [−0.040, +0.060], p = 0.700)."
    )


def test_a_difference_that_may_be_none_is_not_called_one() -> None:
    rows = [difference(4.0, "ccc", 0.15, 0.2)]
    text = conclusion(STUDY, runs(["finished"]), summary(GROUPS, rows))
    assert "there is no evidence of a difference in CCC from the baseline: 0.450 against 0.300" in text
    rows = [difference(4.0, "ccc", 0.15, 0.05), difference(4.0, "pcc", 0.1, 0.06)]  # p alone is half of these
    text = conclusion(STUDY, runs(["finished"]), summary(GROUPS, rows))
    assert "no evidence of a difference in CCC from the baseline that survives Holm's correction: 0.450" in text
    assert "For PCC there is no evidence of a difference that survives Holm's correction (+0.100" in text
    assert "better" not in text


def test_what_falls_from_the_plateau_on_is_said_to_get_worse() -> None:
    def found(metric: str, low: float, high: float, verdict: Any) -> Plateau:
        gain = Interval((low + high) / 2, low, high)
        return Plateau(metric, 0.3, 1.0, gain, gain, 0.1, high, 0.02, verdict, 10, 1860)

    study = Study("portion", "P", "?", metrics=("pcc", "ccc", "rmse"), axis="application.portion", plateau=0.3)
    three = (
        found("pcc", -0.02, 0.01, "plateau"), found("ccc", 0.01, 0.05, "gain"), found("rmse", -0.06, -0.02, "plateau"),
    )  # fmt: skip
    found_three = summary(GROUPS, [], plateau=three)
    (text,) = plateau_sentences(study, found_three, better=True)
    assert text == (
        "From 30 % to 100 %, along a fitted line (above 0 is better): PCC improves no further (−0.005 [−0.020, "
        "+0.010]), CCC still improves (+0.030 [+0.010, +0.050]) and RMSE gets worse (−0.040 [−0.060, −0.020])."
    )
    assert conclusion(STUDY, runs(["finished"]), found_three).startswith("1 of 1 job finished")


def test_worse_is_called_worse_and_a_lower_error_better() -> None:
    text = conclusion(STUDY, runs(["finished"]), summary(GROUPS, [difference(4.0, "ccc", -0.1, 0.0001)]))
    assert "CCC is worse than the baseline's" in text
    assert "p < 0.001" in text
    errors = [row | {"val_rmse_mean": 1.0, "test_rmse_mean": 1.2} for row in GROUPS]
    study = Study("s", "S", "?", metrics=("rmse",), baseline={"alpha": "inf"})
    text = conclusion(study, runs(["finished"]), summary(errors, [difference(4.0, "rmse", -0.2, 0.01)], chosen=None))
    assert "RMSE is better than the baseline's for alpha 4 (−0.200 [−0.250, −0.150], p = 0.010)" in text


def test_many_configurations_in_one_sentence() -> None:
    rows = [difference(3.0, "ccc", 0.1, 0.01), difference(4.0, "ccc", -0.15, 0.004), difference(5.0, "ccc", 0.01, 1.0)]
    text = conclusion(STUDY, runs(["finished"]), summary(GROUPS, rows, chosen=None))
    assert "better than the baseline's for alpha 3 (+0.100" in text
    assert "and worse than the baseline's for alpha 4 (−0.150" in text
    assert "For 1 other configuration there is no evidence of a difference." in text
    none = conclusion(STUDY, runs(["finished"]), summary(GROUPS, rows[2:], chosen=None))
    assert "no evidence that CCC differs from the baseline's; Holm-corrected p is " in none


def test_without_a_baseline_nothing_is_tested() -> None:
    text = conclusion(STUDY, runs(["finished"]), summary(GROUPS, [], chosen=None, baseline=None))
    assert "The best mean CCC on validation is that of alpha 4, with 0.450 [0.350, 0.550] on test." in text
    assert "nothing was tested" in text
    alone = conclusion(STUDY, runs(["finished"]), summary([group(4.0, 0.5, 0.4, 1)], [], chosen=None, baseline=None))
    assert alone.startswith("1 of 1 job finished: 1 configuration, 1 run each. CCC on test is 0.400 [0.300, 0.500].")
    assert "A configuration with a single run does not show the spread between runs" in alone


def test_without_a_test_validation_is_named_first() -> None:
    groups = [group(alpha, val, NAN) | {"val_ccc_low": val - 0.1, "val_ccc_high": val + 0.1} for alpha, val in
              ((4.0, 0.512), (INF, 0.4))]  # fmt: skip
    rows = [difference(4.0, "ccc", 0.112, 0.004) | {"split": "val"}]
    text = conclusion(STUDY, runs(["finished"]), summary(groups, rows))
    assert text.startswith(
        "No run has a test set with crowd labels, so everything here is measured on validation, which may also have "
        "been used for early stopping and was used for the choice: numbers are optimistic, and p values too small. "
        "1 of 1 job"
    )
    assert (
        "was chosen (0.512; validation PCC 0.512, baseline 0.400). On the "
        "validation texts, CCC is better than the baseline's: 0.512 against 0.4" in text
    )
    assert "test results" not in text
    alone = conclusion(STUDY, runs(["finished"]), summary(groups[:1], [], chosen=None, baseline=None))
    assert "stopping: numbers are optimistic. " in alone
    assert "CCC on validation is 0.512 [0.412, 0.612]." in alone


def test_nothing_finished_is_said() -> None:
    empty = summary([group(4.0, NAN, NAN, 0)], [], chosen=None)
    text = conclusion(STUDY, runs(["failed", "skipped"]), empty)
    assert text == "0 of 2 jobs finished (1 failed and 1 did not run). There is nothing to compare yet."


def test_the_method_names_what_runs_differ_in() -> None:
    told_of = " ".join(method(STUDY, runs(["finished"]), summary(GROUPS, [])))
    assert "differ only in seed." in told_of
    assert "on validation alone" in told_of
    assert "simulated" not in told_of


def test_configurations_are_named_by_their_values() -> None:
    row = {"application": "both", "application.portion": 0.3, "alpha": 4.0, "experiment": "table_v/24_crowd", "x": None}
    assert configuration(row, row) == "both, portion 0.3, alpha 4, 24_crowd"
    assert configuration({"application": "none", "alpha": 4}, row, full=True) == "application none, alpha 4"
    assert configuration({}, []) == "all runs"


def test_the_leading_configurations() -> None:
    rows = leading(STUDY, summary(GROUPS, []), 3)
    assert [row["alpha"] for row in rows] == [INF, 4.0, 3.0]  # baseline, chosen, then by validation
    unfinished = [*GROUPS, group(9.0, 0.9, 0.9, 0)]
    assert [row["alpha"] for row in leading(STUDY, summary(unfinished, [], chosen=None), 2)] == [INF, 4.0]


def test_over_folds_the_choice_of_each_fold_is_what_was_tested() -> None:
    by_fold = {0: 4.0, 1: 3.0, 2: 4.0}
    text = conclusion(STUDY, runs(["finished"]), summary(GROUPS, [difference(4.0, "ccc", 0.1, 0.004)], by_fold=by_fold))
    assert "tested with its own choice, made on its own validation texts alone: 4 in 2 and 3 in 1." in text
    assert "played no part" not in text
    assert "0.400 against 0.300 (+0.100" in text  # of these choices, where alpha 4 alone has 0.450
    made = summary(GROUPS, [], by_fold=by_fold)
    assert [name_as_tested(made, row, ("alpha",)) for row in GROUPS] == [
        "alpha 3", "each fold's own choice of alpha", "alpha ∞",
    ]  # fmt: skip
