"""Findings of health checks, and the checks on runs and training: missing runs, spread, early stopping and others."""

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
        level: ``warning`` if a result may mislead, ``note`` for what readers should know, ``good`` otherwise.
        what: the finding, with numbers.
        do: what to do about it; empty if nothing needs to be done.
    """

    check: str
    level: Level
    what: str
    do: str = ""


def told(check: str, level: Level, macro: str, **facts: Any) -> Finding:
    """Return a finding, worded by a macro of ``findings.j2`` from `facts`."""
    what, *do = paragraphs(FINDINGS, macro, **facts)
    return Finding(check, level, what, " ".join(do))


@dataclass(frozen=True)
class Configured:
    """A configuration with a result.

    Args:
        name: for readers.
        row: its row of ``summary.groups``.
        jobs: its jobs that have a result.
        exact: whether its model is fitted in closed form, without epochs and without a learning rate.
        by_llm: whether any training label is an LLM's, or fused with it.
    """

    name: str
    row: dict[str, Any]
    jobs: list[int]
    exact: bool
    by_llm: bool


def configured(runs: Runs, summary: Summary) -> list[Configured]:
    """Return the configurations with a result, in the order of ``summary.groups``."""
    configurations = []
    for row in records(summary.groups):
        jobs = rows_of(runs, row)
        if jobs:
            by_llm = row["replaced"] + row["augmented"] > 0
            configurations.append(Configured(configuration(row, runs.factors), row, jobs, row["exact"], by_llm))
    return configurations


FEW, ENOUGH = 3, 5
"""Runs per configuration: fewer than `FEW` are a warning, fewer than `ENOUGH` a note."""


def missing_runs(runs: Runs, groups: pd.DataFrame) -> Finding:
    """Report jobs that failed or did not run, and configurations with fewer runs than others."""
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


def few_runs(configurations: Sequence[Configured], repeated: str) -> Finding | None:
    """Report configurations with so few runs that their intervals are wide, or apply to a single model only.

    A model fitted in closed form does not depend on a seed, so its runs count only if they are folds. `repeated` names
    what the runs of a configuration differ in: ``seeds``, ``folds`` or ``runs``.
    """
    counted = [config for config in configurations if repeated != "seeds" or not config.exact]
    if not counted:
        return None
    least = min(len(config.jobs) for config in counted)
    names = [config.name for config in counted if len(config.jobs) == least]
    level: Level = "warning" if least < FEW else "note" if least < ENOUGH else "good"
    return told(f"number of {repeated}", level, "few", least=least, names=names, repeated=repeated, few=FEW,
                enough=ENOUGH)  # fmt: skip


def comparison(study: Study, summary: Summary, repeated: str, folds: int) -> Finding | None:
    """Report whether differences from the study's baseline could be computed; without a baseline, return None."""
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
    sharing = {
        tuple(dict.fromkeys(configuration(row, runs.factors) for row in records(rows)))
        for _, rows in shared.groupby("record", sort=False)
    }
    groups = [f"({'; '.join(names)})" for names in sorted(sharing)]
    return told("shared results", "note", "shared", jobs=len(shared), results=shared["record"].nunique(), groups=groups)


MOSTLY = 0.5
"""If more than this share of the crowd labels is changed, a model mostly learns the LLM's judgement."""


def choice(runs: Runs, summary: Summary) -> Finding | None:
    """Report what the chosen configuration costs: crowd labels changed, and metrics worse than the baseline's."""
    row = next((row for row in records(summary.groups) if mark(summary, row) == "chosen" and row["seeds"]), None)
    if row is None:
        return None
    on_split = summary.differences.loc[summary.differences["split"] == summary.split].dropna(subset=["p"])
    tested = [difference for difference in records(on_split) if mark(summary, difference) == "chosen"]
    worse = [
        difference | {"metric": METRIC_NAMES[str(difference["metric"])]}
        for difference in tested
        if difference["p_holm"] < SIGNIFICANT
        and (difference["difference"] > 0) == (difference["metric"] in LOWER_IS_BETTER)
    ]
    base = reference(summary, row) or {}
    on_validation = [
        (METRIC_NAMES[metric], row[f"val_{metric}_mean"], base[f"val_{metric}_mean"])
        for metric in METRICS
        if base.get(f"val_{metric}_mean") is not None
    ]
    mostly = bool(row["replaced_share"] > MOSTLY)
    return told(
        "choice", "warning" if worse or mostly else "good" if tested else "note", "choice",
        name=configuration(row, runs.factors, full=True), share=row["replaced_share"], mostly=mostly, worse=worse,
        on_validation=on_validation, tested=len(tested), split=SPLIT_NAMES[summary.split],
    )  # fmt: skip


def set_aside(configurations: Sequence[Configured]) -> Finding | None:
    """Report crowd labels that are not trained on because their texts were set aside as the pool."""
    counts = [
        (config.row["set_aside"], config.row["kept"] + config.row["given_up"], config.name) for config in configurations
    ]
    most, rated, name = max(counts, key=lambda count: count[0] if count[0] == count[0] else -1)
    if not most > 0:
        return None
    everywhere = all(count == most for count, _, _ in counts)
    return told("crowd labels given up", "note", "set_aside", count=most, of=rated, everywhere=everywhere, name=name)


FALL = 0.02
"""Only a validation CCC that is lower than the best by more than this is reported."""


def labels_changed(groups: pd.DataFrame, factors: Sequence[str] = ()) -> Finding | None:
    """Report thresholds at which validation CCC is lower than the best by more than half its interval.

    Each alpha is judged separately: if all of them are far below the baseline, none is recommended. Without several
    alphas, report the configuration that changes the most labels.
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
    lower = means.index[fallen]
    facts |= {
        "fallen": [(alpha, means.loc[alpha, "val_ccc_mean"]) for alpha in lower],
        "fine": list(means.index[~fallen]),
        "best": (best["alpha"], best["val_ccc_mean"]),
        "start": min((alpha for alpha in means.index if alpha > lower.max()), default=None) if len(lower) else None,
    }
    return told("labels changed", "warning" if len(lower) else "good", "changed", **facts)


SPREAD = 0.05
"""If the SD of CCC over runs is above this, single runs say little: several of the paper's gains are of that size."""
RELATIVE = 0.1
"""Share of the mean CCC that its SD is compared with if there is no difference from a baseline."""


@dataclass(frozen=True)
class Spread:
    """How far the runs of a configuration vary in CCC.

    Args:
        name: the configuration's name.
        runs: their number.
        sd: standard deviation over runs.
        low: the lowest run's CCC.
        high: the highest run's CCC.
        difference: from the baseline's mean CCC; NaN without a baseline.
        epochs: the numbers of epochs after which its runs ended, each once.
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
        """How large a difference chance alone can make: two standard errors of a difference of means."""
        return 2 * self.sd * float(np.sqrt(2 / self.runs))

    @property
    def ratio(self) -> float:
        """`blur` relative to the difference; without a difference, the SD relative to `RELATIVE` times the mean."""
        if self.difference == self.difference:
            return self.blur / max(abs(self.difference), 1e-12)
        return self.sd / max(RELATIVE * abs((self.low + self.high) / 2), 1e-12)


def spread_over_runs(all_spreads: Sequence[Spread], repeated: str, split: str) -> Finding | None:
    """Report how much CCC varies over runs, judged against the difference that this variation blurs.

    Identical runs of a model fitted in closed form are not evidence of a small spread.
    """
    varied = [spread for spread in all_spreads if spread.sd > 0]
    if not varied:
        return None
    worst = max(varied, key=lambda spread: (spread.sd > SPREAD, spread.ratio))
    level: Level = "warning" if worst.sd > SPREAD else "note" if worst.ratio > 1 else "good"
    median = float(np.median([spread.sd for spread in varied]))
    return told(f"spread over {repeated}", level, "spread", worst=worst, median=median, repeated=repeated,
                split=SPLIT_NAMES[split], wide=worst.sd > SPREAD, several=len(varied) > 1)  # fmt: skip


def spreads(runs: Runs, summary: Summary, configurations: Sequence[Configured]) -> Iterator[Spread]:
    """Yield the spread of every configuration with two runs or more on `Summary.split`."""
    differences = summary.differences
    of_ccc = records(differences.loc[(differences["split"] == summary.split) & (differences["metric"] == "ccc")])
    for config in configurations:
        rows = runs.table.loc[config.jobs]
        ccc = rows[f"{summary.split}_ccc"].dropna()
        if len(ccc) > 1:
            factors = {name: config.row[name] for name in runs.factors}
            difference = next((row["difference"] for row in of_ccc if matches(row, factors)), np.nan)
            epochs = [] if config.exact else sorted({int(number) for number in rows["epochs"].dropna()})
            sd = round(float(ccc.std()), 12)
            yield Spread(config.name, len(ccc), sd, ccc.min(), ccc.max(), difference, epochs)


def equal_runs(configurations: Sequence[Configured], runs: Runs, split: str) -> Finding | None:
    """Report models fitted in closed form whose seeds all gave the same result, so that they count as one run."""
    repeated = [config for config in configurations if config.exact and len(config.jobs) > 1]
    same = [config for config in repeated if runs.table.loc[config.jobs, f"{split}_ccc"].round(12).nunique() == 1]
    if not same:
        return None
    names, most = [config.name for config in same], max(len(config.jobs) for config in same)
    return told("equal runs", "note", "equal", names=names, runs=most)


@dataclass(frozen=True)
class Course:
    """How a run trained: ``fit.epochs``, ``start_epoch``, ``patience``, epochs completed, the best epoch (from 1)."""

    limit: int
    start: int
    patience: int | None
    epochs: int
    best: int


def courses(runs: Runs) -> Iterator[Course]:
    """Yield the course of every finished run that had epochs; a shared run is counted once."""
    for job in runs.finished().drop_duplicates("record").index:
        history, fit = runs.history(job), runs.config(job).get("fit") or {}
        ccc = history["val_ccc"].to_numpy(dtype="float64")
        if "epochs" in fit and len(ccc) and not np.isnan(ccc).all() and not runs.is_exact(job):
            start, best = int(fit.get("start_epoch", 0)), int(np.nanargmax(ccc)) + 1
            yield Course(int(fit["epochs"]), start, fit.get("patience"), len(ccc), best)


def early_stopping(all_courses: Sequence[Course]) -> Finding | None:
    """Report when runs stopped: never early, as early as possible, or in between."""
    if not all_courses:
        return None
    stopping = [course for course in all_courses if course.patience is not None]
    never = sum(course.epochs >= course.limit for course in stopping)
    first = sum(
        course.epochs < course.limit and course.epochs <= course.start + (course.patience or 0) + 1
        for course in stopping
    )
    rising = sum(course.best == course.epochs == course.limit for course in all_courses)
    kind, level = ("off" if not stopping else "stopped"), "good"
    if rising > len(all_courses) / 2:
        kind, level = "rising", "warning"
    elif stopping and never == len(stopping):
        kind, level = "never", "warning"
    elif len(stopping) > 1 and first == len(stopping):
        kind, level = "first", "note"
    epochs = [course.epochs for course in all_courses]
    return told(
        "early stopping", level, "stopping", kind=kind, runs=len(all_courses), rising=rising,  # type: ignore[arg-type]
        ended=len(stopping) - never, fewest=min(epochs), most=max(epochs),
        limits=sorted({course.limit for course in all_courses}),
    )  # fmt: skip
