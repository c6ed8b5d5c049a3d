"""Findings of health checks, and the checks on training: changed labels, how far seeds vary, when runs stopped."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from invitro.studies.runs import FINISHED
from invitro.studies.wording import configuration, records, rows_of
from invitro.templates import paragraphs
from invitro.writing.words import count, listed, number, plain, share

if TYPE_CHECKING:
    from invitro.studies.runs import Runs
    from invitro.studies.study import Study
    from invitro.studies.summary import Summary

FINDINGS = Path(__file__).with_name("findings.j2")
MOST_NAMED = 3
"""Configurations named in a finding; further ones are counted."""
Level = Literal["warning", "note", "good"]


@dataclass(frozen=True)
class Finding:
    """The result of a health check.

    Args:
        check: its name.
        level: ``warning`` where a result may mislead, ``note`` for what readers should know, ``good`` otherwise.
        what: the finding, with numbers.
        do: what to do about it; empty where there is nothing to do.
    """

    check: str
    level: Level
    what: str
    do: str = ""


def told(check: str, level: Level, macro: str, **facts: Any) -> Finding:
    """Return the finding that a macro of ``findings.j2`` words from `facts`."""
    what, *do = paragraphs(FINDINGS, macro, **facts)
    return Finding(check, level, what, " ".join(do))


@dataclass(frozen=True)
class Configured:
    """A configuration with a result.

    Args:
        name: for people.
        jobs: its jobs that have one.
        exact: whether its model is fitted in closed form, so that there are no epochs and no learning rate.
        by_llm: whether any training label is an LLM's, or fused with it.
    """

    name: str
    jobs: list[int]
    exact: bool
    by_llm: bool


def configured(runs: "Runs", summary: "Summary") -> list[Configured]:
    """Return the configurations with a result, in the order of ``summary.groups``."""
    found = []
    for row in records(summary.groups):
        jobs = rows_of(runs, row)
        if jobs:
            by_llm = row["replaced"] + row["augmented"] > 0
            found.append(Configured(configuration(row, runs.factors), jobs, is_exact(runs.config(jobs[0])), by_llm))
    return found


def is_exact(config: Mapping[str, Any]) -> bool:
    """Whether a record's configuration names a model that is fitted in closed form."""
    plm = config.get("plm") or {}
    return bool(plm) and plm.get("train", "frozen") == "frozen"


def named(row: "pd.Series[Any]", factors: Sequence[str]) -> str:
    """Name the configuration of a row."""
    return configuration({str(name): row[name] for name in factors}, factors)


def few(names: Iterable[str]) -> str:
    """List names, `MOST_NAMED` at most."""
    names = list(names)
    more = [f"{len(names) - MOST_NAMED} more"] if len(names) > MOST_NAMED else []
    return "; ".join([*names[:MOST_NAMED], *more])


FEW, ENOUGH = 3, 5
"""Seeds."""


def missing_runs(
    table: pd.DataFrame, groups: pd.DataFrame, factors: Sequence[str], replicates: Sequence[str]
) -> Finding:
    """Report jobs that failed or did not run, and configurations that lack seeds which others have."""
    outcomes = table["outcome"]
    failed = table.loc[outcomes == "failed"]
    idle = int((~outcomes.isin([*FINISHED, "failed"])).sum())
    seeds = groups["seeds"] if len(groups) else pd.Series(dtype="int64")
    facts, remedies = [], []
    if len(failed):
        first = failed.iloc[0]
        reason = f": {first['error']}" if isinstance(first["error"], str) else ""
        facts.append(f"{len(failed)} of {count(len(table), 'job')} failed, first {named(first, factors)}{reason}.")
        remedies.append("Read error.txt in each failed record and start the study again: only these jobs are run.")
    if idle:
        facts.append(f"{count(idle, 'job')} did not run.")
        remedies.append("The table of runs shows what each of them lacks.")
    if len(seeds) and seeds.nunique() > 1:
        least = groups.iloc[int(seeds.to_numpy().argmin())]
        unequal = " and ".join(replicates) or "runs"
        facts.append(
            f"Configurations have unequal numbers of runs ({unequal}): {seeds.min()} to {seeds.max()}, the fewest "
            f"{named(least, factors)}. Means over different seeds are not comparable; differences are paired over "
            "the seeds that both have."
        )
        remedies.append("Run the seeds that are missing: start the study again.")
    if not facts:
        return Finding("runs", "good", f"All {count(len(table), 'job')} have a result, equally many per configuration.")
    return Finding("runs", "warning", " ".join(facts), " ".join(remedies))


def few_seeds(groups: pd.DataFrame, factors: Sequence[str]) -> Finding | None:
    """Report configurations with so few runs that their intervals are wide, or hold for one model only."""
    finished = groups.loc[groups["seeds"] > 0] if len(groups) else groups
    if finished.empty:
        return None
    least = int(finished["seeds"].min())
    where = few(named(row, factors) for _, row in finished.loc[finished["seeds"] == least].iterrows())
    if least == 1:
        what = f"One run only: {where}. Intervals and tests there are over texts alone and hold for that one model."
        return Finding("number of seeds", "warning", what, "Run five seeds: seed=0,42,100,999,1234.")
    if least < FEW:
        what = f"{least} runs per configuration: {where}. Their spread is poorly known, so intervals are wide."
        return Finding("number of seeds", "warning", what, "Run five seeds: seed=0,42,100,999,1234.")
    if least < ENOUGH:
        what = f"{least} runs per configuration: {where}. Intervals take that into account and are wide."
        return Finding("number of seeds", "note", what, "Five seeds or more make them narrower.")
    return Finding("number of seeds", "good", f"{least} runs per configuration or more.")


def comparison(study: "Study", summary: "Summary") -> Finding | None:
    """Report where differences could not be computed although the study names a baseline."""
    if not study.baseline:
        return None
    wanted = ", ".join(f"{name}={value}" for name, value in study.baseline.items())
    if summary.baseline is None:
        what = f"The baseline ({wanted}) has no finished run: nothing is compared."
        return Finding("comparison", "warning", what, "Run the baseline, or name another by study.baseline.")
    if summary.unpaired:
        do = "Give all configurations the same seeds and the same test texts; differences need both."
        return Finding("comparison", "warning", " ".join(summary.unpaired), do)
    if summary.differences.empty:
        return None
    least = int(summary.differences["seeds"].min())
    most = count(int(summary.differences["texts"].max()), "test text")
    return Finding("comparison", "good", f"All differences are paired, over {count(least, 'seed')} or more, {most}.")


def shared_results(table: pd.DataFrame, factors: Sequence[str]) -> Finding | None:
    """Report configurations that share results because their labels, seed and settings were the same."""
    shared = table.loc[table["shared"]]
    if shared.empty:
        return None
    together = {
        tuple(dict.fromkeys(named(row, factors) for _, row in rows.iterrows()))
        for _, rows in shared.groupby("record", sort=False)
    }
    groups = listed(f"({'; '.join(names)})" for names in sorted(together))
    what = f"{count(len(shared), 'job')} share {count(shared['record'].nunique(), 'result')}: {groups}."
    return Finding(
        "shared results", "note", f"{what} With equal labels, seed and settings they were trained once.",
        "Do not count them as independent evidence: a difference between them is 0 by construction and not tested.",
    )  # fmt: skip


FALL = 0.02
"""Validation CCC below half the scale may be this much lower than above before it is reported."""
MOSTLY = 0.5
SPREAD = 0.05
"""With an SD of CCC over seeds above this, single runs say little: several of the paper's gains are that large."""


def replaced_too_much(groups: pd.DataFrame, half: float, factors: Sequence[str] = ()) -> Finding | None:
    """Report whether results are worse where alpha is below `half` the scale's width (3 on a scale of 1 to 7).

    Mean validation CCC below it is compared with that at or above it, where anything is replaced there.
    """
    replaced = groups["replaced_share"]
    if "alpha" in groups and pd.api.types.is_numeric_dtype(groups["alpha"]):
        alpha, ccc = groups["alpha"], groups["val_ccc_mean"]
        low, high = groups.loc[(alpha < half) & ccc.notna()], groups.loc[(alpha >= half) & ccc.notna()]
        if (high["replaced_share"] > 0).any():  # where nothing is replaced, correction does nothing
            high = high.loc[high["replaced_share"] > 0]
        if len(low) and len(high):
            means = float(low["val_ccc_mean"].mean()), float(high["val_ccc_mean"].mean())
            what = (
                f"Mean validation CCC is {number(means[0])} below alpha {plain(half)}, where "
                f"{_range(low['replaced_share'])} of the crowd labels are changed, and {number(means[1])} from there "
                f"on ({_range(high['replaced_share'])})."
            )
            if means[0] < means[1] - FALL:
                do = (
                    f"Keep alpha at {plain(half)} or above: below it correction also replaces labels that differ "
                    "only a little, and the model learns the LLM's scores."
                )
                return Finding("labels changed", "warning", f"Results fall below alpha {plain(half)}. {what}", do)
            return Finding("labels changed", "good", what)
    if not replaced.max() > 0:  # nothing was corrected
        return None
    if replaced.max() > MOSTLY:
        what = (
            f"Up to {share(replaced.max())} of the crowd labels are replaced by the LLM's or fused with them "
            f"({named(groups.iloc[int(replaced.argmax())], factors)}): the model learns what the LLM thinks."
        )
        return Finding("labels changed", "note", what, "Sweep alpha (study=alpha) before you rely on this value.")
    return Finding(
        "labels changed",
        "good",
        f"{_range(replaced)} of the crowd labels are replaced by the LLM's or fused with them.",
    )


def spread_over_seeds(table: pd.DataFrame, groups: pd.DataFrame, factors: Sequence[str]) -> Finding | None:
    """Report how far CCC varies over seeds, and after how many epochs the runs of the widest configuration ended."""
    split = next((name for name in ("test", "val") if groups[f"{name}_ccc_sd"].notna().any()), None)
    if split is None:
        return None
    spread = groups[f"{split}_ccc_sd"]
    widest = groups.iloc[int(np.nanargmax(spread.to_numpy(dtype="float64")))]
    own = table.loc[table["outcome"].isin(FINISHED)]
    for name in factors:
        own = own.loc[own[name] == widest[name]]
    epochs = sorted({int(value) for value in own["epochs"].dropna()})
    ended = f"; its runs ended after {listed(map(str, epochs))} epochs" if epochs else ""
    where = "test" if split == "test" else "validation"
    what = (
        f"CCC on {where} has an SD over runs of up to {number(spread.max())} ({named(widest, factors)}{ended}), "
        f"{number(spread.median())} in the median configuration."
    )
    if spread.max() > SPREAD:
        do = (
            "Report means over seeds with their intervals, never the best run, and add seeds. Where the epochs differ "
            "much, early stopping follows noise: a larger validation split or fit.patience helps; where some runs fail "
            "to learn, a lower plm.lr or a longer fit.warmup does."
        )
        return Finding("spread over seeds", "warning", what, do)
    return Finding("spread over seeds", "good", what)


@dataclass(frozen=True)
class Course:
    """How a run trained: ``fit.epochs``, ``start_epoch``, ``patience``, epochs made, the best epoch (from 1)."""

    limit: int
    start: int
    patience: int | None
    epochs: int
    best: int


def courses(runs: "Runs") -> Iterator[Course]:
    """Yield the course of every finished run whose history and settings are known; shared runs count once."""
    for job in runs.finished().drop_duplicates("record").index:
        history, fit = runs.history(int(job)), runs.config(int(job)).get("fit") or {}
        ccc = history["val_ccc"].to_numpy(dtype="float64")
        if "epochs" in fit and len(ccc) and not np.isnan(ccc).all():
            start, best = int(fit.get("start_epoch", 0)), int(np.nanargmax(ccc)) + 1
            yield Course(int(fit["epochs"]), start, fit.get("patience"), len(ccc), best)


def early_stopping(found: Iterable[Course]) -> Finding | None:
    """Report when runs stopped: never early, as early as possible, or in between."""
    all_runs = list(found)
    if not all_runs:
        return None
    n, epochs = len(all_runs), [one.epochs for one in all_runs]
    made = f"{min(epochs)}" if min(epochs) == max(epochs) else f"{min(epochs)} to {max(epochs)}"
    limits = sorted({one.limit for one in all_runs})
    ended = f"Runs ended after {made} of at most {listed(map(str, limits))} epochs."
    rising = sum(one.best == one.epochs == one.limit for one in all_runs)
    stopping = [one for one in all_runs if one.patience is not None]
    never = sum(one.epochs >= one.limit for one in stopping)
    first = sum(one.epochs < one.limit and one.epochs <= one.start + one.patience + 1 for one in stopping
                if one.patience is not None)  # fmt: skip
    if rising > n / 2:
        what = f"{ended} In {rising} of {count(n, 'run')} validation CCC was best in the very last epoch."
        return Finding("early stopping", "warning", what, "Training ended too soon: raise fit.epochs.")
    if stopping and never == len(stopping):
        what = f"{ended} Early stopping (fit.patience) never ended a run."
        do = "Raise fit.epochs if validation CCC still rises at the end; otherwise lower fit.patience."
        return Finding("early stopping", "warning", what, do)
    if len(stopping) > 1 and first == len(stopping):
        what = f"{ended} Every run stopped as early as possible: none improved after fit.start_epoch."
        do = "Look at the learning curves: a lower plm.lr learns longer; a later fit.start_epoch waits longer."
        return Finding("early stopping", "note", what, do)
    if not stopping:
        what = f"{ended} Early stopping is off; in {rising} of {n} validation CCC was best in the very last epoch."
        return Finding("early stopping", "good", what)
    return Finding("early stopping", "good", f"{ended} Early stopping ended {len(stopping) - never} of {n}.")


def half_scale(scale: dict[str, Any]) -> float:
    """Return half the width of the scale in a record's configuration: 3 for a mean of items from 1 to 7."""
    low, high = scale.get("low"), scale.get("high")
    if low is None or high is None:
        return 3.0
    items = len(scale.get("items") or []) if scale.get("aggregation") == "sum" else 1
    return (float(high) - float(low)) * max(items, 1) / 2


def _range(values: "pd.Series[float]") -> str:
    low, high = share(values.min()), share(values.max())
    return low if low == high else f"{low} to {high}"
