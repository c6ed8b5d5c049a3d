"""Health checks on the jobs themselves: what is missing, too few, not comparable, or shared."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd

from invitro.studies.health_parts import Finding, few, named
from invitro.studies.runs import FINISHED
from invitro.studies.wording import count, listed

if TYPE_CHECKING:
    from invitro.studies.study import Study
    from invitro.studies.summary import Summary

FEW, ENOUGH = 3, 5
"""Seeds."""


def missing_runs(
    table: pd.DataFrame, groups: pd.DataFrame, factors: Sequence[str], replicates: Sequence[str]
) -> Finding:
    """Tell of jobs that failed or did not run, and of configurations that lack seeds which others have."""
    outcomes = table["outcome"]
    failed = table.loc[outcomes == "failed"]
    idle = int((~outcomes.isin([*FINISHED, "failed"])).sum())
    seeds = groups["seeds"] if len(groups) else pd.Series(dtype="int64")
    told, mends = [], []
    if len(failed):
        first = failed.iloc[0]
        reason = f": {first['error']}" if isinstance(first["error"], str) else ""
        told.append(f"{len(failed)} of {count(len(table), 'job')} failed, first {named(first, factors)}{reason}.")
        mends.append("Read error.txt beside each failed record and start the study again: only these are run.")
    if idle:
        told.append(f"{count(idle, 'job')} did not run.")
        mends.append("The table of runs says what each of them lacks.")
    if len(seeds) and seeds.nunique() > 1:
        least = groups.iloc[int(seeds.to_numpy().argmin())]
        unequal = " and ".join(replicates) or "runs"
        told.append(
            f"Configurations have unequal numbers of runs ({unequal}): {seeds.min()} to {seeds.max()}, the fewest "
            f"{named(least, factors)}. Means over different seeds are not alike; differences are paired over the "
            "seeds that both have."
        )
        mends.append("Run the seeds that are missing: start the study again.")
    if not told:
        return Finding("runs", "good", f"All {count(len(table), 'job')} have a result, equally many a configuration.")
    return Finding("runs", "warning", " ".join(told), " ".join(mends))


def few_seeds(groups: pd.DataFrame, factors: Sequence[str]) -> Finding | None:
    """Tell where a configuration has too few runs for its interval to be narrow, or to count seeds at all."""
    finished = groups.loc[groups["seeds"] > 0] if len(groups) else groups
    if finished.empty:
        return None
    least = int(finished["seeds"].min())
    where = few(named(row, factors) for _, row in finished.loc[finished["seeds"] == least].iterrows())
    if least == 1:
        what = f"One run only: {where}. Intervals and tests there are over texts alone and hold for that one model."
        return Finding("number of seeds", "warning", what, "Run five seeds: seed=0,42,100,999,1234.")
    if least < FEW:
        what = f"{least} runs a configuration: {where}. Their spread is all but unknown, so intervals are wide."
        return Finding("number of seeds", "warning", what, "Run five seeds: seed=0,42,100,999,1234.")
    if least < ENOUGH:
        what = f"{least} runs a configuration: {where}. Intervals take that into account and are wide."
        return Finding("number of seeds", "note", what, "Five seeds or more make them narrower.")
    return Finding("number of seeds", "good", f"{least} runs a configuration or more.")


def comparison(study: "Study", summary: "Summary") -> Finding | None:
    """Tell where no difference could be computed though the study names a baseline."""
    if not study.baseline:
        return None
    wanted = ", ".join(f"{name}={value}" for name, value in study.baseline.items())
    if summary.baseline is None:
        what = f"The baseline ({wanted}) has no finished run: nothing is compared."
        return Finding("comparison", "warning", what, "Run the baseline, or name another by study.baseline.")
    if summary.unpaired:
        do = "Give all configurations the same seeds and the same test texts; without that no difference is computed."
        return Finding("comparison", "warning", " ".join(summary.unpaired), do)
    if summary.differences.empty:
        return None
    least = int(summary.differences["seeds"].min())
    most = count(int(summary.differences["texts"].max()), "test text")
    return Finding("comparison", "good", f"All differences are paired, over {count(least, 'seed')} or more, {most}.")


def shared_results(table: pd.DataFrame, factors: Sequence[str]) -> Finding | None:
    """Tell which configurations have the same results since their labels, seed and settings were the same."""
    shared = table.loc[table["shared"]]
    if shared.empty:
        return None
    together = {
        tuple(dict.fromkeys(named(row, factors) for _, row in rows.iterrows()))
        for _, rows in shared.groupby("record", sort=False)
    }
    told = listed(f"({'; '.join(names)})" for names in sorted(together))
    what = f"{count(len(shared), 'job')} share {count(shared['record'].nunique(), 'result')}: {told}."
    return Finding(
        "shared results", "note", f"{what} Training labels, seed and settings were the same, and were trained once.",
        "Do not count them as independent evidence: a difference between them is 0 by construction and not tested.",
    )  # fmt: skip
