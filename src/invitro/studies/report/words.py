"""What a study found, in plain words that follow from its numbers."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

from invitro.studies.study import matches
from invitro.studies.wording import (
    LOWER_IS_BETTER,
    METRICS,
    configuration,
    count,
    factor,
    interval,
    leading,
    listed,
    mark,
    measured,
    number,
    p_value,
    plain,
    records,
    reference,
)

if TYPE_CHECKING:
    from invitro.studies.runs import Runs
    from invitro.studies.study import Study
    from invitro.studies.summary import Summary


DEFINED = {
    "pcc": "PCC is Pearson's correlation",
    "ccc": "CCC is Lin's concordance with population variances",
    "rmse": "RMSE is the root of the mean squared error in scale points",
}


def method(study: "Study", runs: "Runs", summary: "Summary") -> list[str]:
    """Return how the numbers were computed, a sentence or two each."""
    differ = listed(map(factor, runs.replicates)) or "nothing"
    gated = (
        "; those of the chosen configuration are a family of their own that is tested first, and the corrected p of "
        "the others is at least the largest of these."
    )
    told = [
        f"{listed(DEFINED[metric] for metric in study.metrics)}; each on a whole split, in float64, predictions not "
        "clipped.",
        f"A configuration's runs differ in nothing but {differ}. Median (peak) is over runs, the peak being the best "
        "run, as in the paper; a peak grows with the number of runs and is no estimate of what one run gives. "
        "Mean ± standard deviation (n - 1) is over runs.",
        "Intervals are 95 % intervals of the mean that count both runs and texts as samples: the variance between "
        "runs, and what runs have in common on draws of the texts (a bootstrap over authors, since texts by one author "
        "are no independent evidence), with the Behrens-Fisher distribution (Obuchowski and Rockette 1995). With one "
        "run the interval is over texts alone. Each interval is for itself; only p is corrected for their number.",
        f"Differences are paired by run and by text. Effect sizes are {_effects(study)}. p is two-sided, and corrected "
        "by Holm's method over all comparisons of one split" + (gated if summary.chosen else "."),
    ]
    if summary.chosen:
        told.append(
            "The choice was made on validation alone; the chosen configuration's test numbers were read afterwards."
        )
    if summary.plateau:
        told.append(
            "A plateau is tested along the least-squares line through all values from its start on: it is one where "
            f"the gain is below {number(summary.plateau[0].margin, 2)} with 95 % confidence. A gain that is not "
            "significant is no proof of a plateau."
        )
    if measured(summary, study, "truth_test"):
        told.append(
            "The corpus is simulated, so that the true scores are known: metrics against the truth show what noise in "
            "crowd labels hides. They say nothing about people."
        )
    return told


def _effects(study: "Study") -> str:
    """Say what effect sizes are, of the metrics that the study has."""
    correlations = listed(METRICS[metric] for metric in study.metrics if metric not in LOWER_IS_BETTER)
    told = [f"Cohen's q for {correlations} (0.1 small, 0.3 medium, 0.5 large)"] if correlations else []
    errors = [METRICS[metric] for metric in study.metrics if metric in LOWER_IS_BETTER]
    return listed([*told, *(f"the logarithm of the ratio for {name}" for name in errors)])


LEVEL = 0.05
"""What Holm-corrected p has to fall below for a difference to be called one."""
SAME = "from the baseline's own runs, which leaves nothing to test"
UNTESTABLE = "which could not be tested: too few authors or runs, or predictions that do not vary"
TRUTH = "Against the truth, which only a simulated corpus knows"


def found(study: "Study", runs: "Runs", summary: "Summary") -> str:
    """Return one paragraph: what ran, what was chosen, and how it differs from the baseline, with what certainty."""
    sentences = [_ran(runs, summary)]
    if runs.finished().empty:
        return " ".join([*sentences, "There is nothing to compare yet."])
    sentences += _chosen(study, runs, summary)
    for split in ("test", "truth_test"):
        if measured(summary, study, split):
            sentences += _compared(study, runs, summary, split)
    if not summary.baseline and not summary.chosen:
        sentences += _best(study, runs, summary)
    sentences += _plateau(study, summary)
    seeds = [int(row) for row in summary.groups["seeds"] if row]
    if seeds and min(seeds) < 2:
        sentences.append("A configuration with one run says nothing about the spread between runs; more seeds would.")
    return " ".join(sentences)


def _ran(runs: "Runs", summary: "Summary") -> str:
    """Tell how many jobs there were and what became of them."""
    outcomes = runs.table["outcome"]
    finished, failed, jobs = len(runs.finished()), int((outcomes == "failed").sum()), len(runs.table)
    every = finished == jobs > 2
    told = f"All {jobs} jobs finished" if every else f"{finished} of {count(jobs, 'job')} finished"
    others = [f"{failed} failed"] if failed else []
    if jobs - finished - failed:
        others.append(f"{jobs - finished - failed} did not run")
    told += f" ({listed(others)})" if others else ""
    seeds = sorted({int(one) for one in summary.groups["seeds"] if one}) if len(summary.groups) else []
    if seeds:
        each = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
        runs_each = "run" if seeds == [1] else "runs"
        told += f": {count(len(summary.groups), 'configuration')}, {each} {runs_each} each"
    return f"{told}."


def _chosen(study: "Study", runs: "Runs", summary: "Summary") -> list[str]:
    """Tell what was chosen on validation, and what came next."""
    if not summary.chosen:
        return []
    rows: list[Any] = [row for row in records(summary.groups) if mark(summary, row) != "baseline"]
    rows = sorted((row for row in rows if not pd.isna(row["val_ccc_mean"])), key=lambda row: -row["val_ccc_mean"])
    chosen = next((row for row in rows if matches(row, summary.chosen)), None)
    if chosen is None:
        return []
    name = " and ".join(f"{factor(key)} = {plain(value)}" for key, value in summary.chosen.items())
    told = f"By mean validation CCC, {name} was chosen ({number(chosen['val_ccc_mean'])}"
    others = [row for row in rows if not matches(row, summary.chosen)]
    if others:
        told += f"; next {configuration(others[0], runs.factors, full=True)}, {number(others[0]['val_ccc_mean'])}"
    return [told + "); test played no part in the choice."]


def _compared(study: "Study", runs: "Runs", summary: "Summary", split: str) -> list[str]:
    """Tell how the chosen configuration, or every one, differs from the baseline."""
    if summary.differences.empty:
        return []
    rows: list[Any] = [row for row in records(summary.differences) if row["split"] == split]
    chosen = [row for row in rows if mark(summary, row) == "chosen"]
    where = "On the test texts" if split == "test" else TRUTH
    if chosen:
        chosen.sort(key=lambda row: row["metric"] != _leading_metric(study))
        told = [f"{where}, {_one(chosen[0], summary, runs, split)}."]
        return told if split != "test" else told + [f"{_other(row)}." for row in chosen[1 : len(study.metrics)]]
    return _many(study, runs, summary, rows, where)


def _one(row: Mapping[str, Any], summary: "Summary", runs: "Runs", split: str) -> str:
    """Tell one comparison; a difference that may well be none is not called one."""
    metric, name = str(row["metric"]), METRICS[str(row["metric"])]
    wanted = {name: row[name] for name in runs.factors if name in row}
    groups: list[Any] = records(summary.groups)
    column = f"{split}_{metric}_mean"
    own = next((one[column] for one in groups if matches(one, wanted)), None)
    base = (reference(summary, wanted) or {}).get(column)
    figures = (
        f"{number(row['difference'], sign=True)}, 95 % interval {interval(row['low'], row['high'], sign=True)}, "
        f"Holm-corrected p {_p(row['p_holm'])}, {count(int(row['seeds']), 'run')} each, "
        f"{count(int(row['texts']), 'text')}"
    )
    means = f"{number(own)} against {number(base)}"
    if pd.isna(row["p_holm"]):
        return f"{name} is {means}, {_untested(row)}"
    if row["p_holm"] >= LEVEL:
        return f"there is no evidence of a difference in {name} from the baseline{_alone(row)}: {means} ({figures})"
    better = (row["difference"] > 0) != (metric in LOWER_IS_BETTER)
    return f"{name} is {'better' if better else 'worse'} than the baseline's: {means} ({figures})"


def _other(row: Mapping[str, Any]) -> str:
    """Tell a comparison on a further metric, in short."""
    metric, name = str(row["metric"]), METRICS[str(row["metric"])]
    figures = (
        f"{number(row['difference'], sign=True)} {interval(row['low'], row['high'], sign=True)}, p {_p(row['p_holm'])}"
    )
    if pd.isna(row["p_holm"]):
        return f"{name} differs by {number(row['difference'], sign=True)}, {_untested(row)}"
    if row["p_holm"] >= LEVEL:
        return f"For {name} there is no evidence of a difference{_alone(row)} ({figures})"
    better = (row["difference"] > 0) != (metric in LOWER_IS_BETTER)
    return f"{name} is {'better' if better else 'worse'} ({figures})"


def _untested(row: Mapping[str, Any]) -> str:
    """Say why a comparison has no p."""
    return SAME if row["difference"] == 0 else UNTESTABLE


def _alone(row: Mapping[str, Any]) -> str:
    """Say of a comparison whose interval excludes 0 why it counts for nothing."""
    return " that holds up to Holm's correction" if row["p"] < LEVEL <= row["p_holm"] else ""


def _p(value: Any) -> str:
    """Write p with its sign of equality."""
    text = p_value(value)
    return text if text.startswith("<") else f"= {text}"


def _many(study: "Study", runs: "Runs", summary: "Summary", rows: list[Any], where: str) -> list[str]:
    """Tell, for the study's leading metric, which configurations differ from the baseline."""
    metric = _leading_metric(study)
    rows = [row for row in rows if row["metric"] == metric and not pd.isna(row["p_holm"])]
    if not rows:
        return []
    sure = [row for row in rows if row["p_holm"] < LEVEL]
    name = METRICS[metric]
    if not sure:
        closest = min(rows, key=lambda row: row["p_holm"])
        return [
            f"{where}, there is no evidence that {name} differs from the baseline's"
            + (f" in any of {len(rows)} configurations; the smallest" if len(rows) > 1 else ";")
            + f" Holm-corrected p is {p_value(closest['p_holm'])} "
            f"({configuration(closest, runs.factors, full=True)}, {number(closest['difference'], sign=True)} "
            f"{interval(closest['low'], closest['high'], sign=True)})."
        ]
    told = []
    for word, wanted in (("better", True), ("worse", False)):
        part = [row for row in sure if ((row["difference"] > 0) != (metric in LOWER_IS_BETTER)) is wanted]
        part.sort(key=lambda row: -abs(row["difference"]))
        shown = [
            f"{configuration(row, runs.factors, full=True)} ({number(row['difference'], sign=True)} "
            f"{interval(row['low'], row['high'], sign=True)}, p {_p(row['p_holm'])})"
            for row in part[:3]
        ]
        more = f"; and {len(part) - 3} more" if len(part) > 3 else ""
        if part:
            told.append(f"{word} than the baseline's for {'; '.join(shown)}{more}")
    left = len(rows) - len(sure)
    rest = f" For {count(left, 'other configuration')} there is no evidence of a difference." if left else ""
    return [f"{where}, {name} is {', and '.join(told)}; p after Holm's correction.{rest}"]


def _best(study: "Study", runs: "Runs", summary: "Summary") -> list[str]:
    """Without a baseline: name the configuration that is best on validation, and its number on test."""
    metric = _leading_metric(study)
    rows = leading(study, summary, 1)
    if not rows or pd.isna(rows[0].get(f"test_{metric}_mean")):
        return []
    row, name = rows[0], METRICS[metric]
    numbers = " ".join(
        part
        for part in (
            number(row[f"test_{metric}_mean"]),
            interval(row.get(f"test_{metric}_low"), row.get(f"test_{metric}_high")),
        )
        if part
    )
    if len(summary.groups) == 1:
        return [f"{name} on test is {numbers}."]
    own = configuration(row, runs.factors, full=True)
    return [
        f"Best on validation by mean {name} is {own}, with {numbers} on test. No baseline was named: nothing is tested."
    ]


def _plateau(study: "Study", summary: "Summary") -> list[str]:
    """Tell whether the leading metric still grows from the study's plateau on."""
    told = []
    for one in summary.plateau or ():
        if one.metric != _leading_metric(study):
            continue
        name = METRICS[one.metric]
        where = f" ({configuration(one.where, one.where, full=True)})" if one.where else ""
        unit = "%" if str(study.axis).endswith("portion") else ""
        start, end = (f"{number(100 * at, 0)} %" if unit else plain(at) for at in (one.start, one.end))
        gain = f"{number(one.after.value, sign=True)} {interval(one.after.low, one.after.high, sign=True)} up to {end}"
        words = {
            "plateau": f"From {start} on{where} there is a plateau: {name} gains less than {number(one.margin, 2)} "
            f"({gain}; below {number(one.most)} with 95 % confidence).",
            "gain": f"From {start} on{where} {name} still grows: {gain}.",
            "undecided": f"Whether {name} still grows from {start} on{where} cannot be told from these runs: {gain}.",
        }
        told.append(words[one.verdict])
    return told


def _leading_metric(study: "Study") -> str:
    return "ccc" if "ccc" in study.metrics else study.metrics[0]
