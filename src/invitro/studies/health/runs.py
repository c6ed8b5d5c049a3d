"""Findings of health checks, and the checks on training: the choice, changed labels, spread, early stopping."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from invitro.stats.moments import METRICS
from invitro.studies.runs import FINISHED, Runs
from invitro.studies.study import Study, matches
from invitro.studies.summary import Summary
from invitro.studies.wording import (
    LOWER_IS_BETTER,
    METRIC_NAMES,
    SIGNIFICANT,
    SPLIT_NAMES,
    configuration,
    factor,
    mark,
    records,
    reference,
    rows_of,
)
from invitro.writing.words import paragraphs

FINDINGS = Path(__file__).with_name("findings.j2")
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
        row: its row of ``summary.groups``.
        jobs: its jobs that have a result.
        exact: whether its model is fitted in closed form, so that there are no epochs and no learning rate.
        by_llm: whether any training label is an LLM's, or fused with it.
    """

    name: str
    row: dict[str, Any]
    jobs: list[int]
    exact: bool
    by_llm: bool


def configured(runs: Runs, summary: Summary) -> list[Configured]:
    """Return the configurations with a result, in the order of ``summary.groups``."""
    found = []
    for row in records(summary.groups):
        jobs = rows_of(runs, row)
        if jobs:
            by_llm = row["replaced"] + row["augmented"] > 0
            found.append(Configured(configuration(row, runs.factors), row, jobs, row["exact"], by_llm))
    return found


FEW, ENOUGH = 3, 5
"""Runs of a configuration."""


def missing_runs(runs: Runs, groups: pd.DataFrame) -> Finding:
    """Report jobs that failed or did not run, and configurations that lack runs which others have."""
    table = runs.table
    failed = [row for row in records(table) if row["outcome"] == "failed"]
    idle = int((~table["outcome"].isin([*FINISHED, "failed"])).sum())
    fewest = min(records(groups), key=lambda row: row["runs"])
    unequal = groups["runs"].nunique() > 1
    return told(
        "runs", "warning" if failed or idle or unequal else "good", "missing", jobs=len(table),
        failed=[(configuration(row, runs.factors), row["error"]) for row in failed], idle=idle,
        unequal=" and ".join(map(factor, runs.replicates)) or "runs" if unequal else "", least=fewest["runs"],
        most=groups["runs"].max(), fewest=configuration(fewest, runs.factors), several=len(groups) > 1,
    )  # fmt: skip


def few_runs(found: Sequence[Configured], repeated: str) -> Finding | None:
    """Report configurations with so few runs that their intervals are wide, or hold for one model only.

    A model in closed form has no seeds to run: its runs count where they are folds. `repeated` is what runs of a
    configuration differ in: ``seeds``, ``folds`` or ``runs``.
    """
    several = [one for one in found if repeated != "seeds" or not one.exact]
    if not several:
        return None
    least = min(len(one.jobs) for one in several)
    names = [one.name for one in several if len(one.jobs) == least]
    level: Level = "warning" if least < FEW else "note" if least < ENOUGH else "good"
    return told(f"number of {repeated}", level, "few", least=least, names=names, repeated=repeated, few=FEW,
                enough=ENOUGH)  # fmt: skip


def comparison(study: Study, summary: Summary, repeated: str, folds: int) -> Finding | None:
    """Report where differences could not be computed although the study names a baseline."""
    if not study.baseline:
        return None
    wanted = ", ".join(f"{name}={value}" for name, value in study.baseline.items())
    differences, lacking = summary.differences, summary.baseline is None
    if differences.empty and not lacking and not summary.unpaired:
        return None
    return told(
        "comparison", "warning" if lacking or summary.unpaired else "good", "comparison",
        lacking=wanted if lacking else "", unpaired=summary.unpaired, repeated=repeated,
        least=differences["seeds"].min(), most=differences["seeds"].max(), folds=folds,
        texts=differences["texts"].max(), split=SPLIT_NAMES[summary.split],
    )  # fmt: skip


def shared_results(runs: Runs) -> Finding | None:
    """Report configurations that share results because their labels, seed and settings were the same."""
    shared = runs.table.loc[runs.table["shared"]]
    if shared.empty:
        return None
    together = {
        tuple(dict.fromkeys(configuration(row, runs.factors) for row in records(rows)))
        for _, rows in shared.groupby("record", sort=False)
    }
    groups = [f"({'; '.join(names)})" for names in sorted(together)]
    return told("shared results", "note", "shared", jobs=len(shared), results=shared["record"].nunique(), groups=groups)


MOSTLY = 0.5
"""From this share of changed crowd labels on, a model mostly learns what the LLM thinks."""


def choice(runs: Runs, summary: Summary) -> Finding | None:
    """Report what the chosen configuration costs: labels given up, and metrics that are worse than the baseline's."""
    row = next((row for row in records(summary.groups) if mark(summary, row) == "chosen" and row["seeds"]), None)
    if row is None:
        return None
    here = summary.differences.loc[summary.differences["split"] == summary.split].dropna(subset=["p"])
    tested = [one for one in records(here) if mark(summary, one) == "chosen"]
    worse = [
        one | {"metric": METRIC_NAMES[str(one["metric"])]}
        for one in tested
        if one["p_holm"] < SIGNIFICANT and (one["difference"] > 0) == (one["metric"] in LOWER_IS_BETTER)
    ]
    base = reference(summary, row) or {}
    beside = [
        (METRIC_NAMES[metric], row[f"val_{metric}_mean"], base[f"val_{metric}_mean"])
        for metric in METRICS
        if base.get(f"val_{metric}_mean") is not None
    ]
    mostly = bool(row["replaced_share"] > MOSTLY)
    return told(
        "choice", "warning" if worse or mostly else "good" if tested else "note", "choice",
        name=configuration(row, runs.factors, full=True), share=row["replaced_share"], mostly=mostly, worse=worse,
        beside=beside, tested=len(tested), split=SPLIT_NAMES[summary.split],
    )  # fmt: skip


def set_aside(found: Sequence[Configured]) -> Finding | None:
    """Report crowd labels that no configuration trains on, since their texts were set aside as the pool."""
    counts = [(one.row["set_aside"], one.row["kept"] + one.row["given_up"], one) for one in found]
    most, rated, one = max(counts, key=lambda count: count[0] if count[0] == count[0] else -1)
    if not most > 0:
        return None
    everywhere = all(count == most for count, _, _ in counts)
    return told(
        "crowd labels given up", "note", "set_aside", count=most, of=rated, everywhere=everywhere, name=one.name
    )


FALL = 0.02
"""Validation CCC may be this much lower than the best before it is reported."""


def labels_changed(groups: pd.DataFrame, factors: Sequence[str] = ()) -> Finding | None:
    """Report thresholds at which validation CCC is lower than the best by more than half its interval.

    Each alpha stands for itself: where all of them are far below the baseline, none is recommended. Without several
    alphas, report configurations that change most labels.
    """
    changing = groups.loc[(groups["replaced_share"] > 0) & groups["val_ccc_mean"].notna()]
    if changing.empty:  # nothing was corrected
        return None
    most = max(records(changing), key=lambda row: float(row["replaced_share"]))
    facts = {
        "low": changing["replaced_share"].min(), "high": most["replaced_share"], "name": configuration(most, factors),
        "mostly": most["replaced_share"] > MOSTLY, "fallen": [], "fine": [], "best": None, "start": None,
    }  # fmt: skip
    by_alpha = "alpha" in groups and pd.api.types.is_numeric_dtype(groups["alpha"]) and changing["alpha"].nunique() > 1
    if not by_alpha:
        return told("labels changed", "note" if facts["mostly"] else "good", "changed", **facts)
    best = groups.iloc[int(np.nanargmax(groups["val_ccc_mean"].to_numpy(dtype="float64")))]
    low, high = (groups.get(f"val_ccc_{name}", pd.Series(np.nan, groups.index)) for name in ("low", "high"))
    margin = ((high - low) / 2).fillna(0.0).clip(lower=FALL)
    means = changing.assign(margin=margin).groupby("alpha")[["val_ccc_mean", "margin"]].mean()
    fallen = means["val_ccc_mean"] < best["val_ccc_mean"] - means["margin"]
    after = means.index[fallen]
    facts |= {
        "fallen": [(alpha, means.loc[alpha, "val_ccc_mean"]) for alpha in after],
        "fine": list(means.index[~fallen]),
        "best": (best["alpha"], best["val_ccc_mean"]),
        "start": min((alpha for alpha in means.index if alpha > after.max()), default=None) if len(after) else None,
    }
    return told("labels changed", "warning" if len(after) else "good", "changed", **facts)


SPREAD = 0.05
"""With an SD of CCC over seeds above this, single runs say little: several of the paper's gains are that large."""
RELATIVE = 0.1
"""Without a difference to compare it with, the SD of CCC is compared with this share of its mean."""


@dataclass(frozen=True)
class Spread:
    """How far the runs of a configuration vary in CCC.

    Args:
        name: the configuration's.
        runs: how many.
        sd: over runs.
        low: the lowest run's.
        high: the highest run's.
        difference: from the baseline; NaN where there is none.
        epochs: after which its runs ended.
    """

    name: str
    runs: int
    sd: float
    low: float
    high: float
    difference: float
    epochs: list[int]

    @property
    def blur(self) -> float:
        """How large a difference chance among the runs alone makes: two standard errors of a difference of means."""
        return 2 * self.sd * float(np.sqrt(2 / self.runs))

    @property
    def ratio(self) -> float:
        """What runs blur, relative to the difference; without one, their SD relative to `RELATIVE` of the mean."""
        if self.difference == self.difference:
            return self.blur / max(abs(self.difference), 1e-12)
        return self.sd / max(RELATIVE * abs((self.low + self.high) / 2), 1e-12)


def spread_over_runs(found: Sequence[Spread], repeated: str, split: str) -> Finding | None:
    """Report how far CCC varies over runs, judged against the difference that this blurs.

    Runs of a model in closed form that are all equal are no evidence of a small spread.
    """
    varied = [one for one in found if one.sd > 0]
    if not varied:
        return None
    worst = max(varied, key=lambda one: (one.sd > SPREAD, one.ratio))
    level: Level = "warning" if worst.sd > SPREAD else "note" if worst.ratio > 1 else "good"
    median = float(np.median([one.sd for one in varied]))
    return told(f"spread over {repeated}", level, "spread", worst=worst, median=median, repeated=repeated,
                split=SPLIT_NAMES[split], wide=worst.sd > SPREAD, several=len(varied) > 1)  # fmt: skip


def spreads(runs: Runs, summary: Summary, found: Sequence[Configured]) -> Iterator[Spread]:
    """Yield the spread of every configuration with two runs or more on `Summary.split`."""
    differences = summary.differences
    here = records(differences.loc[(differences["split"] == summary.split) & (differences["metric"] == "ccc")])
    for one in found:
        ccc = runs.table.loc[one.jobs, f"{summary.split}_ccc"].dropna()
        if len(ccc) > 1:
            wanted = {name: one.row[name] for name in runs.factors}
            difference = next((row["difference"] for row in here if matches(row, wanted)), np.nan)
            epochs = [] if one.exact else sorted({int(value) for value in runs.table.loc[one.jobs, "epochs"].dropna()})
            yield Spread(
                one.name, len(ccc), round(float(ccc.std()), 12), ccc.min(), ccc.max(), difference, epochs
            )  # fmt: skip


def equal_runs(found: Sequence[Configured], runs: Runs, split: str) -> Finding | None:
    """Report models in closed form whose seeds all gave the same result, so that they count as one run."""
    same = [
        one for one in found
        if one.exact and len(one.jobs) > 1 and runs.table.loc[one.jobs, f"{split}_ccc"].round(12).nunique() == 1
    ]  # fmt: skip
    if not same:
        return None
    return told(
        "equal runs", "note", "equal", names=[one.name for one in same], runs=max(len(one.jobs) for one in same)
    )


@dataclass(frozen=True)
class Course:
    """How a run trained: ``fit.epochs``, ``start_epoch``, ``patience``, epochs made, the best epoch (from 1)."""

    limit: int
    start: int
    patience: int | None
    epochs: int
    best: int


def courses(runs: Runs) -> Iterator[Course]:
    """Yield the course of every finished run that had epochs; shared runs count once."""
    for job in runs.finished().drop_duplicates("record").index:
        history, fit = runs.history(job), runs.config(job).get("fit") or {}
        ccc = history["val_ccc"].to_numpy(dtype="float64")
        if "epochs" in fit and len(ccc) and not np.isnan(ccc).all() and not runs.is_exact(job):
            start, best = int(fit.get("start_epoch", 0)), int(np.nanargmax(ccc)) + 1
            yield Course(int(fit["epochs"]), start, fit.get("patience"), len(ccc), best)


def early_stopping(every: Sequence[Course]) -> Finding | None:
    """Report when runs stopped: never early, as early as possible, or in between."""
    if not every:
        return None
    stopping = [one for one in every if one.patience is not None]
    never = sum(one.epochs >= one.limit for one in stopping)
    first = sum(one.epochs < one.limit and one.epochs <= one.start + (one.patience or 0) + 1 for one in stopping)
    rising = sum(one.best == one.epochs == one.limit for one in every)
    kind, level = ("off" if not stopping else "stopped"), "good"
    if rising > len(every) / 2:
        kind, level = "rising", "warning"
    elif stopping and never == len(stopping):
        kind, level = "never", "warning"
    elif len(stopping) > 1 and first == len(stopping):
        kind, level = "first", "note"
    epochs = [one.epochs for one in every]
    return told(
        "early stopping", level, "stopping", kind=kind, runs=len(every), rising=rising,  # type: ignore[arg-type]
        ended=len(stopping) - never, fewest=min(epochs), most=max(epochs), limits=sorted({one.limit for one in every}),
    )  # fmt: skip
