"""What a study's records tell by group of people: crowd labels against LLM labels, predictions against labels."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd

from invitro.data import DEMOGRAPHICS
from invitro.studies.bands import known_attributes
from invitro.studies.fairness import Fairness, Measured, fairness
from invitro.studies.resampling import RESAMPLES
from invitro.studies.wording import configuration, leading, records, rows_of
from invitro.training.record import read_metrics

if TYPE_CHECKING:
    from invitro.studies.runs import Runs
    from invitro.studies.study import Study
    from invitro.studies.summary import Summary

MOST = 4
"""Configurations, or sets of LLM labels, that are shown where there are no more; of more configurations `LEADING`."""
LEADING = 2

Kind = Literal["labels", "test", "truth_test"]


@dataclass(frozen=True)
class GroupTable:
    """One kind of comparison.

    Args:
        kind: ``labels`` (crowd against LLM labels), or ``test`` and ``truth_test`` (predictions on test, against crowd
            labels and against the simulator's truth).
        found: what was measured, tested as one family.
        series: how many configurations or sets of LLM labels are shown.
        of: how many there are.
        pooled: whether some configuration's runs predicted different texts, as with folds, so that each text's
            prediction is the mean over the runs that have one.
    """

    kind: Kind
    found: Fairness
    series: int
    of: int
    pooled: bool = False


def group_tables(study: "Study", runs: "Runs", summary: "Summary", resamples: int = RESAMPLES) -> list[GroupTable]:
    """Measure by group whatever the records allow; nothing for a corpus without demographics.

    Of more than `MOST` configurations the baseline and the chosen one are measured (or what `wording.leading` puts in
    their place).
    """
    made = []
    labels = label_pairs(runs)
    if labels:
        made.append(GroupTable("labels", fairness(labels[:MOST], resamples=resamples), len(labels[:MOST]), len(labels)))
    there = sum(bool(row.get("seeds", 1)) for row in records(summary.groups))
    shown = leading(study, summary, MOST if there <= MOST else LEADING)
    kinds: tuple[tuple[Kind, str], ...] = (("test", "crowd_label"), ("truth_test", "truth"))
    for kind, column in kinds:
        found = [
            one
            for group in shown
            if (jobs := rows_of(runs, group))
            and (one := prediction_pairs(runs, jobs, column, configuration(group, runs.factors))) is not None
        ]
        if found:
            measured = fairness([one.measured for one in found], resamples=resamples)
            made.append(GroupTable(kind, measured, len(found), there, any(one.pooled for one in found)))
    return [one for one in made if one.found.rows or one.found.suppressed]


def label_pairs(runs: "Runs") -> list[Measured]:
    """Return crowd labels as scores and LLM labels as reference, for every set of LLM labels among the runs.

    The pairs are those of ``labels.csv``, each text once, from all runs that used the set. Runs that left texts out for
    their labels' sake (policy ``drop``, ``fit.clean``) are not read: crowd and LLM agree in what they kept.
    """
    tables: dict[tuple[str, ...], list[pd.DataFrame]] = {}
    for job, row in runs.finished().drop_duplicates("record").iterrows():
        train = read_metrics(Path(str(row["record"]))).get("train") or {}
        if train.get("dropped") or train.get("cleaned"):
            continue
        number = int(str(job))
        labels = runs.labels(number)
        both = labels.loc[labels["crowd_label"].notna() & labels["llm_label"].notna()]
        if known_attributes(both):
            # A set's name and its hash: two versions of one file are two sets.
            hashes = runs.environment(number)["hashes"]
            key = tuple(f"{name} {value}" for name, value in sorted(hashes.items()) if name != "corpus")
            tables.setdefault(key, []).append(both)
    found = []
    for key, parts in tables.items():
        table = pd.concat(parts, ignore_index=True).drop_duplicates(["text_id", "crowd_label", "llm_label"])
        name = ", ".join(one.rsplit(" ", 1)[0] for one in key) or "LLM labels"
        found.append(_measured(name, table, table[["crowd_label"]].to_numpy(dtype="float64").T, "llm_label"))
    return found


@dataclass(frozen=True)
class Predicted:
    """A configuration's predictions on test, and whether those of its runs were joined to one a text."""

    measured: Measured
    pooled: bool


def prediction_pairs(runs: "Runs", jobs: Sequence[int], column: str, name: str) -> Predicted | None:
    """Return a configuration's predictions on test, one row a run, against `column` (``crowd_label`` or ``truth``).

    None where there is no such column, no value in it, or no demographics.
    """
    parts = []
    for job in jobs:
        table = runs.predictions(job)
        if column not in table:
            return None
        rows = table.loc[(table["split"] == "test") & table[column].notna()]
        parts.append(rows.drop_duplicates("text_id").set_index(["text_id", column], drop=False))
    texts = pd.concat(parts)
    texts = texts.loc[~texts.index.duplicated()]
    if not known_attributes(texts):
        return None
    scores = np.stack([part["prediction"].reindex(texts.index).to_numpy(dtype="float64") for part in parts])
    pooled = bool(np.isnan(scores).any())
    if pooled:
        scores = np.nanmean(scores, axis=0, keepdims=True)
    return Predicted(_measured(name, texts.reset_index(drop=True), scores, column), pooled)


def _measured(name: str, table: pd.DataFrame, scores: np.ndarray, reference: str) -> Measured:
    authors = table["group_id"].astype("str").to_numpy() if "group_id" in table else None
    people = table[[one for one in DEMOGRAPHICS if one in table]].reset_index(drop=True)
    return Measured(name, scores, table[reference].to_numpy(dtype="float64"), people, authors)
