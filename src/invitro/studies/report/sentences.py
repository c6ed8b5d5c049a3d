"""The findings of a study, in plain words: this module decides what to say, ``sentences.j2`` has the words."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

import pandas as pd

from invitro import data
from invitro.data.newsemp import YEARS
from invitro.files import relative
from invitro.labels.labelset import published_sets
from invitro.studies.study import matches
from invitro.studies.wording import (
    LOWER_IS_BETTER,
    METRIC_NAMES,
    SIGNIFICANT,
    SPLIT_NAMES,
    configuration,
    factor,
    leading,
    mark,
    measured,
    name_as_tested,
    records,
    reference,
)
from invitro.writing.words import count, duration, missing, number, paragraphs, plain, said

if TYPE_CHECKING:
    from invitro.studies.runs import Runs
    from invitro.studies.study import Study
    from invitro.studies.summary import Summary


class Fact(NamedTuple):
    """A named fact."""

    name: str
    value: str


class FailedJobs(NamedTuple):
    """Jobs without a result for one reason: their names and outcome, the error's first line, the traceback's path."""

    jobs: list[str]
    outcome: str
    error: str
    path: str
    link: str


def environment_facts(runs: "Runs") -> list[Fact]:
    """Return versions, commit, hardware and wall time; if runs differ, every value with the number of its runs."""
    environments = [runs.environment(int(str(row))) for row in runs.finished().drop_duplicates("record").index]
    if not environments:
        return []
    values: dict[str, Counter[str]] = {}
    for environment in environments:
        for name, value in _of_environment(environment):
            values.setdefault(name, Counter())[value] += 1
    facts = []
    for name, counts in values.items():
        several = [f"{value} ({count(number, 'run')})" for value, number in counts.most_common()]
        facts.append(Fact(name, next(iter(counts)) if len(counts) == 1 else "; ".join(several)))
    seconds = pd.Series([environment["seconds"] for environment in environments], dtype="float64")
    total, longest = duration(float(seconds.sum())), duration(float(seconds.max()))
    return [*facts, Fact("wall time", f"{total} over {count(len(seconds), 'run')}; the longest took {longest}")]


def _of_environment(environment: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the lines of one ``environment.json``."""
    yield "invitro", str(environment["invitro"])
    yield "commit", str(environment["commit"] or "none: not run from a checkout")
    yield "python", str(environment["python"])
    for name, version in environment["packages"].items():
        yield name, str(version)
    hardware = environment["hardware"]
    yield "processor", f"{hardware['processor']}, {count(int(hardware['cores'] or 0), 'core')}"
    yield "GPU", ", ".join(hardware["gpus"]) or "none"
    yield "platform", str(hardware["platform"])


def data_facts(runs: "Runs") -> list[Fact]:
    """Return corpora and label sets with their hashes, their terms and the citation they request."""
    hashes: dict[str, dict[str, None]] = {}
    sources: dict[str, str] = {}
    for row in map(int, map(str, runs.finished().drop_duplicates("record").index)):
        corpus = runs.config(row).get("data") or {}
        sources |= dict(_terms(corpus))
        for name, value in (runs.environment(row).get("hashes") or {}).items():
            labelled = f"corpus {corpus.get('name', 'corpus')}" if name == "corpus" else f"LLM labels {name}"
            hashes.setdefault(labelled, {})[str(value)] = None
    licences = {f"LLM labels {published.name}": f"{published.licence}; " for published in published_sets()}
    facts = [Fact(f"terms of {name}", terms) for name, terms in sources.items() if terms]
    return facts + [Fact(name, f"{licences.get(name, '')}hash {'; '.join(values)}") for name, values in hashes.items()]


def _terms(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield every corpus of a configuration with its terms, each member of a combination separately."""
    for member in config.get("members") or []:
        yield from _terms(member)
    reader = getattr(data, str(config.get("_target_", "")).rpartition(".")[2], None)
    if reader is None or config.get("members"):
        return
    source, name = (
        (YEARS[config["year"]], f"newsemp{config['year']}") if reader is data.NewsEmp else (reader, reader.__name__)
    )
    licence, citation = (config.get(part) or getattr(source, part, "") for part in ("licence", "citation"))
    yield str(config.get("name") or name), terms(str(licence), str(citation))


def terms(licence: str, citation: str) -> str:
    """Write a licence and whom to cite, as far as they are known."""
    return ". ".join(part for part in (licence, f"Cite: {citation}" if citation else "") if part)


def failed_jobs(runs: "Runs", directory: Path) -> list[FailedJobs]:
    """Return the jobs without a result by reason, each with a traceback's path as seen from `directory`."""
    by_reason: dict[tuple[str, str], FailedJobs] = {}
    for job, row in runs.table.iterrows():
        if row["outcome"] in ("finished", "finished before"):
            continue
        values = {str(name): value for name, value in row.items()}
        parts = [configuration(values, runs.factors)] if runs.factors else []
        parts += [f"{name} {plain(row[name])}" for name in runs.replicates]
        error = row["error"] if isinstance(row["error"], str) else "no reason was recorded"
        path = Path(str(row["record"])) / "error.txt"
        shown, link = (str(path), quote(relative(path, directory))) if path.is_file() else ("", "")
        name = f"job {job}, {', '.join(parts)}"
        by_reason.setdefault((row["outcome"], error), FailedJobs([], row["outcome"], error, shown, link)).jobs.append(
            name
        )
    return [*by_reason.values()]


SENTENCES = Path(__file__).with_name("sentences.j2")
Decided = dict[str, Any]


def conclusion(study: "Study", runs: "Runs", summary: "Summary") -> str:
    """Return one paragraph: what ran, what was chosen, how it differs from the baseline, and how certain that is."""
    seeds = [int(row) for row in summary.groups["runs"] if row] if len(summary.groups) else []
    outcomes, finished = runs.table["outcome"], len(runs.finished())
    failed = int((outcomes == "failed").sum())
    jobs = {
        "jobs": len(outcomes), "finished": finished, "failed": failed, "idle": len(outcomes) - finished - failed,
        "configurations": len(summary.groups), "fewest": min(seeds, default=0), "most": max(seeds, default=0),
    }  # fmt: skip
    splits = [split for split in summary.judged if finished and measured(summary, study, split)]
    return said(
        SENTENCES,
        "conclusion",
        jobs,
        choice=_choice(runs, summary, study.metrics),
        comparisons=[comparison for split in splits if (comparison := _compared(study, runs, summary, split))],
        best=_best(study, runs, summary) if not summary.baseline and not summary.chosen else None,
        one_run=any(row["runs"] == 1 and not row.get("exact") for row in records(summary.groups)),
        untested=bool(finished) and summary.split != "test",
    )


def method(study: "Study", runs: "Runs", summary: "Summary") -> list[str]:
    """Return how the numbers were computed, as paragraphs."""
    return paragraphs(
        SENTENCES,
        "method",
        metrics=study.metrics,
        replicates=[factor(name) for name in runs.replicates],
        folds=runs.folds,
        chosen=bool(summary.chosen),
        margin=summary.plateau[0].margin if summary.plateau else None,
        simulated=any(measured(summary, study, split) for split in ("truth_val", "truth_test")),
        tested=summary.split == "test",
    )


def _choice(runs: "Runs", summary: "Summary", metrics: Sequence[str]) -> Decided | None:
    """Return what was chosen on validation, and the next best; None if nothing was chosen."""
    rows: list[Any] = [row for row in records(summary.groups) if mark(summary, row) != "baseline"]
    rows = [row for row in rows if summary.chosen and not missing(row["val_ccc_mean"])]
    rows.sort(key=lambda row: -row["val_ccc_mean"])
    chosen = next((row for row in rows if matches(row, summary.chosen)), None)
    if chosen is None:
        return None
    other = next((row for row in rows if not matches(row, summary.chosen)), None)
    base = reference(summary, chosen) or {}
    means = [(METRIC_NAMES[metric], chosen[f"val_{metric}_mean"], base.get(f"val_{metric}_mean")) for metric in metrics]
    return {
        "metrics": [entry for entry in means if entry[0] != "CCC" and not missing(entry[2])],
        "best": rows[0] is chosen,
        "value": " and ".join(f"{factor(key)} = {plain(value)}" for key, value in (summary.chosen or {}).items()),
        "ccc": chosen["val_ccc_mean"],
        "next": configuration(other, runs.factors, full=True) if other else None,
        "next_ccc": other["val_ccc_mean"] if other else None,
        "by_fold": [f"{plain(value)} in {folds}" for value, folds in Counter(summary.by_fold.values()).most_common()],
    }


def _compared(study: "Study", runs: "Runs", summary: "Summary", split: str) -> Decided | None:
    """Return how the chosen configuration, or every one on the leading metric, differs from the baseline."""
    rows: list[Any] = [row for row in records(summary.differences) if row["split"] == split]
    truth, metric = split != summary.split, _leading_metric(study)
    chosen = [compared_row(row, runs, summary) for row in rows if mark(summary, row) == "chosen"]
    if chosen:
        chosen.sort(key=lambda row: row["metric"] != METRIC_NAMES[metric])
        return {
            "truth": truth,
            "split": summary.split,
            "first": chosen[0],
            "others": [] if truth else chosen[1 : len(study.metrics)],
        }
    tested = [
        compared_row(row, runs, summary) for row in rows if row["metric"] == metric and not missing(row["p_holm"])
    ]
    if not tested:
        return None
    by_size = sorted(tested, key=lambda row: -abs(row["difference"]))
    return {
        "truth": truth, "split": summary.split, "first": None, "metric": METRIC_NAMES[metric], "tested": len(tested),
        "better": [row for row in by_size if row["verdict"] == "better"],
        "left": [row for row in by_size if row["verdict"] in ("better", "worse") and row["left"] is not None],
        "worse": [row for row in by_size if row["verdict"] == "worse"],
        "closest": min(tested, key=lambda row: row["p_holm"]),
    }  # fmt: skip


def compared_row(row: Mapping[str, Any], runs: "Runs", summary: "Summary") -> Decided:
    """Return one comparison with its verdict: a difference that may be due to chance is not reported as one."""
    metric, p = str(row["metric"]), row["p_holm"]
    wanted = {name: row[name] for name in runs.factors if name in row}
    column = f"{row['split']}_{metric}_mean"
    if missing(p):
        verdict = "same" if row["difference"] == 0 else "untestable"
    elif p >= SIGNIFICANT:
        verdict = "uncorrected" if row["p"] < SIGNIFICANT else "none"
    else:
        verdict = "better" if (row["difference"] > 0) != (metric in LOWER_IS_BETTER) else "worse"
    base = (reference(summary, wanted) or {}).get(column)
    return dict(row) | {
        "metric": METRIC_NAMES[metric],
        "name": name_as_tested(summary, row, runs.factors, full=True),
        "verdict": verdict,
        "own": None if base is None else base + row["difference"],  # of the runs that were compared
        "base": base,
        "seeds": int(row["seeds"]),
        "texts": int(row["texts"]),
        "folds": runs.folds,
        "left": None if missing(row.get("left")) or missing(p) else row["left"],
    }


def _best(study: "Study", runs: "Runs", summary: "Summary") -> Decided | None:
    """Return the best configuration on validation, if there is no baseline, and its result on `Summary.split`."""
    metric = _leading_metric(study)
    row = next(iter(leading(study, summary, 1)), {})
    value, low, high = (row.get(f"{summary.split}_{metric}_{part}") for part in ("mean", "low", "high"))
    if pd.isna(value):
        return None
    name = configuration(row, runs.factors, full=True)
    alone = len(summary.groups) == 1
    return {
        "metric": METRIC_NAMES[metric], "split": SPLIT_NAMES[summary.split], "name": name, "value": value, "low": low,
        "high": high, "alone": alone,
    }  # fmt: skip


def plateau_sentences(study: "Study", summary: "Summary", better: bool) -> list[str]:
    """Say for each metric whether it still improves beyond the start of the study's plateau.

    Args:
        study: the study.
        summary: its numbers.
        better: whether any single configuration is shown to be better than the baseline.
    """
    percent = str(study.axis).endswith("portion")

    def at(value: float) -> str:
        return f"{number(100 * value, 0)} %" if percent else plain(value)

    plateaus = [
        {
            "verdict": test.verdict, "metric": METRIC_NAMES[metric], "gain": test.after, "start": at(test.start),
            "end": at(test.end), "where": configuration(test.where, test.where, full=True) if test.where else "",
        }
        for metric in study.metrics
        for test in summary.plateau or ()
        if test.metric == metric
    ]  # fmt: skip
    return [said(SENTENCES, "plateaus", plateaus, better)] if plateaus else []


def _leading_metric(study: "Study") -> str:
    return "ccc" if "ccc" in study.metrics else study.metrics[0]
