"""The verdict of a study: whether to use the LLM's labels, the evidence, what was held out, and what to do next.

This module decides; ``verdict.j2`` has the words. A way to use LLM labels is judged by PCC, which a mere change of the
predictions' mean or spread cannot raise; if PCC is not measured, by the study's first metric.
"""

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import pandas as pd

from invitro.errors import called, command_line
from invitro.stats.intervals import MARGIN
from invitro.studies.report.sentences import Decided, compared_row, plateau_sentences
from invitro.studies.study import FOLD, matches
from invitro.studies.wording import (
    METRIC_NAMES,
    SPLIT_NAMES,
    configuration,
    corpus_name,
    factor,
    llm_name,
    mark,
    name_as_tested,
    records,
    rows_of,
)
from invitro.writing.words import capital, missing, paragraphs, plain, said

if TYPE_CHECKING:
    from invitro.studies.runs import Runs
    from invitro.studies.study import Study
    from invitro.studies.summary import Summary

VERDICT = Path(__file__).with_name("verdict.j2")
VerdictKind = Literal["use", "not", "unclear", "none"]


class Step(NamedTuple):
    """A next step, and the command for it."""

    why: str
    command: str


class Judgement(NamedTuple):
    """The answer, for a reader with little time.

    Args:
        kind: ``use`` and ``not``; ``unclear`` if the data cannot tell; ``none`` if nothing was compared.
        headline: the answer.
        reasons: how much, and how certain, one or two sentences each.
        rests: what the numbers are based on.
        held_back: the texts and labels that training did not see.
        steps: what to do next.
    """

    kind: VerdictKind
    headline: str
    reasons: Sequence[str]
    rests: str = ""
    held_back: str = ""
    steps: Sequence[Step] = ()


class Judged(NamedTuple):
    """A configuration compared with its baseline.

    Args:
        name: for people.
        values: its factors.
        by_llm: whether its runs used LLM labels.
        lead: the comparison that decides.
        others: those on the study's other metrics.
    """

    name: str
    values: Mapping[str, Any]
    by_llm: bool
    lead: Decided
    others: Sequence[Decided]

    @property
    def gain(self) -> float:
        """The difference on the deciding metric; positive is better."""
        return float(self.lead["difference"]) * (-1 if self.lead["metric"] == "RMSE" else 1)

    @property
    def most(self) -> float:
        """The largest gain that the interval does not exclude; NaN without one."""
        return float(-self.lead["low"] if self.lead["metric"] == "RMSE" else self.lead["high"])

    @property
    def kind(self) -> str:
        """As for `Judgement`, or ``same`` if its runs are the baseline's; a gain too small to matter is ``not``."""
        verdicts = [comparison["verdict"] for comparison in (self.lead, *self.others)]
        if set(verdicts) == {"same"}:
            return "same"
        if verdicts[0] in ("better", "worse"):
            return "use" if verdicts[0] == "better" else "not"
        return "not" if self.most < MARGIN or "worse" in verdicts else "unclear"


def judgement(study: "Study", runs: "Runs", summary: "Summary") -> Judgement:
    """Judge a study."""
    finished = runs.finished()
    if finished.empty:
        errors = runs.table["error"].dropna().value_counts(sort=False)
        why = [said(VERDICT, "not_run", str(error), int(jobs)) for error, jobs in errors.items()]
        return Judgement("none", said(VERDICT, "nothing", len(runs.table)), why, steps=_put_right(runs))
    judged = [*_judged(study, runs, summary)]
    by_crowd = summary.baseline is not None and not changed_by_llm(runs, summary, summary.baseline)
    asked = [candidate for candidate in judged if candidate.by_llm] if by_crowd else []
    without_llm = [candidate for candidate in judged if candidate not in asked] if asked else []
    asked = asked or judged
    kind, best = _kind(asked)
    llm, baseline = by_crowd and bool(asked) and asked[0].by_llm, summary.baseline
    facts = {
        "kind": kind,
        "best": best,
        "asked": asked,
        "llm": llm,
        "chosen": bool(summary.chosen),
        "split": SPLIT_NAMES[summary.split],
        "margin": MARGIN,
        "baseline": "crowd labels alone" if llm else configuration(baseline, baseline, full=True) if baseline else "",
    }
    reasons = paragraphs(VERDICT, "reasons", without_llm=without_llm, truth=_truth(study, runs, summary, best), **facts)
    if not asked:
        reasons = paragraphs(VERDICT, "alone", _alone(study, runs, summary), SPLIT_NAMES[summary.split], study.baseline)
    reasons += plateau_sentences(study, summary, any(candidate.lead["verdict"] == "better" for candidate in judged))
    open_ = len(runs.table) - len(finished)
    if open_:
        reasons.append(said(VERDICT, "open", open_, len(runs.table)))
    return Judgement(
        kind,
        capital(said(VERDICT, "headline", alone=len(summary.groups) == 1, **facts)),
        [capital(reason) for reason in reasons],
        capital(said(VERDICT, "rests", _rests(runs, summary))),
        " ".join(map(capital, paragraphs(VERDICT, "held_back", **_held_back(study, runs, summary)))),
        [*(_put_right(runs) if open_ else ()), *_steps(study, runs, summary, kind, best, llm)],
    )


def _judged(study: "Study", runs: "Runs", summary: "Summary") -> Iterator[Judged]:
    """Yield every configuration that was compared on `Summary.split`; only the chosen one if there is one."""
    rows = [row for row in records(summary.differences) if row["split"] == summary.split]
    lead = leading_metric(study)
    for group in records(summary.groups):
        if summary.chosen and mark(summary, group) != "chosen":
            continue
        matching = [row for row in rows if all(row[name] == group[name] for name in runs.factors)]
        by = {str(row["metric"]): compared_row(row, runs, summary) for row in matching}
        if lead in by and mark(summary, group) != "baseline":
            first, others = by[lead], [comparison for name, comparison in by.items() if name != lead]
            values = {name: group[name] for name in runs.factors}
            name = name_as_tested(summary, group, runs.factors, full=len(runs.factors) > 1 or bool(summary.chosen))
            yield Judged(name, values, _used_llm(runs, values), first, others)


def leading_metric(study: "Study") -> str:
    """Return the deciding metric: PCC if it is measured."""
    return "pcc" if "pcc" in study.metrics else study.metrics[0]


def _kind(asked: Sequence[Judged]) -> tuple[VerdictKind, Judged | None]:
    """Judge all configurations together, and return the one that decides."""
    if not asked:
        return "none", None
    for kind in ("use", "unclear"):
        candidates = [candidate for candidate in asked if candidate.kind == kind]
        if candidates:
            return kind, max(candidates, key=lambda candidate: candidate.gain)
    changed = [candidate for candidate in asked if candidate.kind != "same"] or asked
    return "not", max(changed, key=lambda candidate: candidate.gain)


def _used_llm(runs: "Runs", values: Mapping[str, Any] | None) -> bool:
    """Whether the runs of a configuration used LLM labels: if so, their record names a label set."""
    return any(runs.label_sets(job) for job in rows_of(runs, values)[:1]) if values is not None else False


def changed_by_llm(runs: "Runs", summary: "Summary", values: Mapping[str, Any]) -> bool:
    """Whether LLM labels changed training; with an infinite alpha, or none of the pool, they do not."""
    row: Mapping[str, Any] = next((group for group in records(summary.groups) if matches(group, values)), {})
    gone = row.get("given_up", 0) - row.get("set_aside", 0)
    changed = row.get("replaced", 0) + row.get("augmented", 0) > 0 or gone > 0
    return bool(_used_llm(runs, row) and (changed or _weighted(runs, row)))


def _weighted(runs: "Runs", row: Mapping[str, Any]) -> bool:
    """Whether crowd labels are weighted less if the LLM disagrees, which changes none of them."""
    jobs = rows_of(runs, row)[:1]
    return any((runs.config(job).get("application") or {}).get("policy") == "weight" for job in jobs)


def _truth(study: "Study", runs: "Runs", summary: "Summary", best: Judged | None) -> Decided | None:
    """Return the comparison with the truth for the configuration that decides, if the truth is known."""
    for row in records(summary.differences) if best else ():
        wanted = row["split"] == f"truth_{summary.split}" and row["metric"] == leading_metric(study)
        if wanted and best and all(row[name] == value for name, value in best.values.items()):
            return compared_row(row, runs, summary)
    return None


def _alone(study: "Study", runs: "Runs", summary: "Summary") -> list[Decided]:
    """Return the metrics of the only configuration; nothing if there are several."""
    if len(summary.groups) != 1:
        return []
    row: dict[str, Any] = records(summary.groups)[0]
    metrics = []
    for metric in study.metrics:
        value, low, high = (row.get(f"{summary.split}_{metric}_{part}") for part in ("mean", "low", "high"))
        if not missing(value):
            metrics.append({"metric": METRIC_NAMES[metric], "value": value, "low": low, "high": high})
    return metrics


def _rests(runs: "Runs", summary: "Summary") -> dict[str, Any]:
    """Return the texts, labels and models that the numbers are based on."""
    jobs = [int(str(job)) for job in runs.finished().drop_duplicates("record").index]
    configs = [runs.config(job) for job in jobs]
    tables = [runs.predictions(job) for job in jobs]
    texts = pd.concat([table.loc[(table["split"] == summary.split) & table["crowd_label"].notna()] for table in tables])
    authors = texts["group_id"] if "group_id" in texts else texts["text_id"]
    trained = [len(runs.labels(job)) for job in jobs]
    plms = [config["plm"] for config in configs if config.get("plm")]
    by_llm = [config for config, job in zip(configs, jobs, strict=True) if runs.label_sets(job)]
    return {
        "split": SPLIT_NAMES[summary.split], "texts": texts["text_id"].nunique(), "authors": authors.nunique(),
        "corpora": [*dict.fromkeys(corpus_name(config.get("data") or {}) for config in configs)],
        "scales": [*dict.fromkeys(map(_scale, configs))],
        "least": min(trained), "most": max(trained),
        "plms": [*dict.fromkeys(str(plm["name"]).rsplit("/", 1)[-1] for plm in plms)],
        "llms": [*dict.fromkeys(llm_name(config["llm"]) for config in by_llm if config.get("llm"))],
        "frozen": all((config.get("plm") or {}).get("train") == "frozen" for config in configs), "folds": runs.folds,
        "seeds": len({runs.repetition(int(str(job))) for job in runs.finished().index}) if runs.replicates else 1,
        "exact": all(map(runs.is_exact, jobs)),
        "simulated": any("imulator" in str((config.get("data") or {}).get("_target_")) for config in configs),
    }  # fmt: skip


def _scale(config: Mapping[str, Any]) -> str:
    """Return a configuration's scale and its range."""
    scale: Mapping[str, Any] = config.get("scale") or {}
    return f"{scale.get('name')} ({plain(scale.get('low'))} to {plain(scale.get('high'))})"


def _held_back(study: "Study", runs: "Runs", summary: "Summary") -> dict[str, Any]:
    """Return the texts that training did not see, and the crowd labels that were given up."""
    job = int(str(runs.finished().index[0]))
    split: Mapping[str, Any] = (runs.config(job).get("data") or {}).get("split") or {}
    counts = runs.predictions(job).dropna(subset=["crowd_label"])["split"].value_counts()
    aside = pd.to_numeric(runs.finished()["set_aside"], errors="coerce").max()
    return {
        "folds": runs.folds,
        "grouped": bool(split.get("grouped")),
        "tests": int(counts.get("test", 0)),
        "val": int(counts.get("val", 0)),
        "stopping": not all(runs.is_exact(int(str(job))) for job in runs.finished().index),
        "choose": [factor(name) for name in summary.chosen or ()],
        "aside": 0 if missing(aside) else int(aside),
        "untested": summary.split != "test",
    }


MADE_BY = re.compile(r"(?:python label\.py|invitro-label) [^\n]*")
"""The command in a message about missing labels."""


def _put_right(runs: "Runs") -> list[Step]:
    """Return the steps that complete jobs without a result."""
    errors = [str(error) for error in runs.table["error"].dropna().unique()]
    labels = dict.fromkeys(match[0].rstrip(". ") for error in errors if (match := MADE_BY.search(error)))
    steps = [Step("Create the missing labels:", command) for command in labels]
    again = [command for command in runs.commands if "sweep" in command.partition("study=")[0]][:1]
    when = "Then start" if steps else "Once the cause is fixed, start"
    return steps + [Step(f"{when} the study again; only jobs without a result are run:", command) for command in again]


STUDY_KEYS = ("study", "directory", "report_only", "fail_fast", "dry_run", "dashboard", "resamples", "show_ids",
              "launch", "group", "save_model", "hydra", "seed", "resume", "force")  # fmt: skip
"""Keys of a study's command that other commands do not inherit."""


def _settings(study: "Study", runs: "Runs") -> list[str]:
    """Return the settings that all runs share, as given in their commands."""
    words = [word for line in runs.commands[:1] for word in shlex.split(line)]
    by_key: dict[str, str] = {}
    for word in (*study.overrides, *words):
        key, equals, _ = word.lstrip("+~").partition("=")
        first = re.split(r"[./@]", key)[0]
        if equals and first not in STUDY_KEYS and key not in (*runs.factors, *runs.replicates, *study.params, FOLD):
            by_key[key] = word
    return [*by_key.values()]


def _steps(
    study: "Study", runs: "Runs", summary: "Summary", kind: VerdictKind, best: Judged | None, llm: bool
) -> Iterator[Step]:
    """Yield the steps after the verdict, with their commands."""
    common = _settings(study, runs)
    whole = [word for word in common if not word.startswith(("data/split", "data.split", "application"))]

    def command(script: str, *words: str) -> str:
        return f"{called(script)} {command_line(words)}"

    if kind == "use" and best:
        factors = [f"{name}={value}" for name, value in best.values.items()]
        kept = [word for word in common if not word.startswith(("data/split", "data.split"))]
        yield Step("Train a final model, and score new texts with it:", command("train", *kept, *factors))
        yield Step("", command("predict", "model=RUN_DIR/model", "input=texts.csv", "output=scores.csv"))
    elif kind == "unclear" and not runs.folds:
        more = ["data/split=kfold", "data.split.grouped=true"]
        again = [word for word in common if not word.startswith(("data/split", "data.split"))]
        yield Step("Test every text once instead of a few:",
                   command("sweep", f"study={study.name}", *again, *more))  # fmt: skip
    elif kind == "none" and not study.baseline:
        yield Step("Find out whether an LLM's labels help:", command("sweep", "study=applications", *whole))
    if kind == "not" and llm:
        yield Step("Train on crowd labels alone:", command("train", *whole, "application=none"))
    if llm and (kind == "not" or (kind == "unclear" and runs.folds)):
        keys = ("data", "scale", "llm", "prompt", "store", "runs")
        worth = [
            word
            for word in whole
            if re.split(r"[./=]", word.lstrip("+~"))[0] in keys
            or (word.startswith("plm=") and "plm.train=frozen" in whole)
        ]
        yield Step("For unrated texts, see how many human ratings the labels replace:",
                   command("sweep", "study=worth", *worth))  # fmt: skip
