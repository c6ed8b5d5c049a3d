"""The runs of a study as one table, read from what its jobs left on disk."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import yaml

from invitro.arrays import Floats
from invitro.errors import InputError
from invitro.stats.bootstrap import Scores, resampled
from invitro.stats.moments import METRICS
from invitro.studies.found import GROUPS, Found, commands, find
from invitro.studies.study import Value, canonical

SIZES = ("size", "replaced", "augmented", "without_llm_label", "truncated", "epochs", "seconds")
SPLITS = ("val", "test")
FINISHED = ("finished", "finished before")


@dataclass(frozen=True)
class Runs:
    """All jobs of a study.

    Args:
        root: the folder that was read.
        factors: the columns of `table` that make a configuration.
        replicates: the columns whose values repeat a configuration.
        table: one row a job, in the order in which jobs were first started: the factors (a column of numbers where all
            values are), the replicates, ``record`` (a path), ``outcome`` (`invitro.training.multirun.OUTCOMES`),
            ``error`` (a line, None where there is none), ``shared`` (whether another row has the same record: equal
            labels, seed and settings were trained once), ``fingerprint``, ``val_pcc`` ... ``test_rmse``,
            ``truth_val_pcc`` ... where the truth is known, and `SIZES`; numbers that a job does not have are NaN.
        commands: the command lines that made the runs.
    """

    root: Path
    factors: tuple[str, ...]
    replicates: tuple[str, ...]
    table: pd.DataFrame
    commands: tuple[str, ...]

    def finished(self) -> pd.DataFrame:
        """Return the rows with metrics."""
        return self.table.loc[self.table["outcome"].isin(FINISHED)]

    def predictions(self, row: int) -> pd.DataFrame:
        """Return ``predictions.csv`` of a row; ids are text."""
        return self._csv(row, "predictions.csv")

    def labels(self, row: int) -> pd.DataFrame:
        """Return ``labels.csv`` of a row: the training labels."""
        return self._csv(row, "labels.csv")

    def history(self, row: int) -> pd.DataFrame:
        """Return ``history.csv`` of a row, a line an epoch."""
        return self._csv(row, "history.csv")

    def config(self, row: int) -> dict[str, Any]:
        """Return the resolved configuration of a row's record."""
        return dict(yaml.safe_load((self._record(row) / "config.yaml").read_text("utf-8")))

    def environment(self, row: int) -> dict[str, Any]:
        """Return ``environment.json`` of a row's record."""
        return dict(json.loads((self._record(row) / "environment.json").read_text("utf-8")))

    def _record(self, row: int) -> Path:
        return Path(str(self.table.loc[row, "record"]))

    def _csv(self, row: int, name: str) -> pd.DataFrame:
        return _read_csv(self._record(row) / name).copy()


@lru_cache(maxsize=1024)
def _read_csv(path: Path) -> pd.DataFrame:
    """Read a table of a record, which does not change once it is there; only empty cells are missing."""
    ids = {"text_id": str, "group_id": str}
    return pd.DataFrame(pd.read_csv(path, dtype=ids, keep_default_na=False, na_values=[""]))


def read_runs(root: Path, factors: Sequence[str] | None = None, replicates: Sequence[str] = ("seed",)) -> Runs:
    """Read the jobs below `root`: a study's folder, a multirun's, or any folder with records in it.

    Of jobs with equal overrides the latest counts, so that a launch after an interruption, or one with more seeds,
    continues the table. Where jobs differ in more than `factors` and `replicates` say, the further keys join the
    factors: runs with different settings never stand for one configuration.

    Args:
        root: the folder.
        factors: the keys that make a configuration; None finds those in which jobs differ.
        replicates: the keys whose values repeat a configuration.

    Raises:
        InputError: there is no job and no record below `root`.
    """
    root = Path(root)
    if not root.is_dir():
        raise InputError(f"{root}: no such folder of runs")
    found = find(root)
    if not found:
        raise InputError(f"{root}: holds no runs; expected a folder that sweep.py, train.py or train.py -m made")
    jobs = _latest(found, lambda job: frozenset((key, canonical(value)) for key, value in job.overrides.items()))
    replicates = tuple(name for name in replicates if any(job.value(name) is not None for job in jobs))
    names = tuple(factors) if factors is not None else _differing(jobs, replicates)

    def place(job: Found) -> tuple[object, ...]:
        return tuple(canonical(job.value(name)) for name in (*names, *replicates))

    # The same run, asked for in other words: a key that is spelled out here and left to its default there.
    jobs = _latest(jobs, lambda job: (place(job), job.record.resolve()))
    doubled = {one for one, count in Counter(map(place, jobs)).items() if count > 1}
    names += _differing([job for job in jobs if place(job) in doubled], (*names, *replicates))
    jobs = _latest(jobs, place)
    table = pd.DataFrame([_row(job, (*names, *replicates)) for job in jobs])
    for name in (*names, *replicates):
        table[name] = _column([canonical(value) for value in table[name]])
    table["error"] = pd.Series([job.error for job in jobs], dtype="object")  # None stays None
    finished = table["outcome"].isin(FINISHED)
    table["shared"] = finished & table["record"].where(finished, table.index.astype("str")).duplicated(keep=False)
    return Runs(root, names, replicates, table, commands(found))


def _latest(found: Sequence[Found], key: Callable[[Found], object]) -> list[Found]:
    """Return the last of the jobs with equal keys, in the place of the first."""
    return list({key(job): job for job in found}.values())


def _differing(jobs: Sequence[Found], without: Sequence[str]) -> tuple[str, ...]:
    """Return the override keys in which jobs differ, but for those named and for a key that repeats another's values.

    Of a group such as ``llm`` only the choice is kept where it decides the group's further keys.
    """
    keys = [key for key in dict.fromkeys(key for job in jobs for key in job.overrides) if key not in without]
    values = {key: tuple(canonical(job.value(key)) for job in jobs) for key in keys}
    kept: dict[str, tuple[object, ...]] = {}
    for key in sorted((key for key in keys if len(set(values[key])) > 1), key=_depth):
        group = kept.get(key.partition(".")[0])
        decided = group is not None and len(set(zip(group, values[key], strict=True))) == len(set(group))
        if values[key] not in kept.values() and not decided:
            kept[key] = values[key]
    return tuple(kept)


def _depth(key: str) -> tuple[bool, bool]:
    """Order groups before their keys, and these before others."""
    return "." in key, key.partition(".")[0] not in GROUPS


def _row(job: Found, names: Sequence[str]) -> dict[str, object]:
    """Return a job's row of the table."""
    row: dict[str, object] = {name: job.value(name) for name in names}
    row |= {"record": str(job.record), "outcome": job.outcome, "error": job.error}
    row["fingerprint"] = job.metrics.get("fingerprint")
    there = job.outcome in FINISHED
    for prefix, scores in (("", job.metrics), ("truth_", job.metrics.get("truth"))):
        for split in SPLITS:
            values = (scores or {}).get(split) if there else None
            if values or not prefix:
                row |= {f"{prefix}{split}_{name}": (values or {}).get(name, np.nan) for name in METRICS}
    train = (job.metrics.get("train") or {}) if there else {}
    return row | {name: train.get(name, np.nan) for name in SIZES}


def _column(values: Sequence[Value]) -> "pd.Series":
    """Return a column of whole numbers, of numbers, or of text, whichever holds all values."""
    if all(isinstance(value, int) for value in values):
        return pd.Series(values, dtype="int64")
    if all(isinstance(value, (int, float)) for value in values):
        return pd.Series(values, dtype="float64")
    return pd.Series([str(value) for value in values], dtype="str")


LEAST_COMMON = 0.5
"""Two jobs are paired by text when they have this share of the smaller one's texts in common, or more."""


@dataclass(frozen=True)
class Scored:
    """One split of a study.

    Args:
        labels: of each text, the scale's units; crowd labels or the truth.
        authors: of each text.
        predictions: shape (records, texts), NaN where a record has none for a text.
        position: the row of `predictions` of each job, by its number in ``runs.table``; jobs may share one.
        scores: by metric, of all records.
        resamples: number of draws.
        seed: of the draws.
    """

    labels: Floats
    authors: npt.NDArray[Any]
    predictions: Floats
    position: dict[int, int]
    scores: dict[str, Scores]
    resamples: int
    seed: int

    def has(self, jobs: Iterable[Any]) -> bool:
        """Whether there are any jobs, and predictions of each."""
        found = [int(job) in self.position for job in jobs]
        return bool(found) and all(found)

    def of(self, jobs: Iterable[Any]) -> dict[str, Scores]:
        """Return the scores of these jobs, one configuration's seeds."""
        rows = [self.position[int(job)] for job in jobs]
        texts = int((~np.isnan(self.predictions[rows])).any(axis=0).sum())
        return {
            name: replace(one, values=one.values[rows], draws=one.draws[:, rows], texts=texts)
            for name, one in self.scores.items()
        }

    def pair(self, a: Iterable[Any], b: Iterable[Any]) -> tuple[dict[str, Scores], dict[str, Scores]] | None:
        """Return the scores of two configurations on the texts that both predicted, seed by seed.

        None where they have too few texts in common: ids and labels then tell of different corpora.
        """
        a, b = [int(job) for job in a], [int(job) for job in b]
        if not self.has(a) or not self.has(b):
            return None
        first, second = (self.predictions[[self.position[job] for job in jobs]] for jobs in (a, b))
        known = [~np.isnan(first), ~np.isnan(second)]
        both = known[0] & known[1]
        if (known[0] == known[1]).all():
            return self.of(a), self.of(b)
        if (both.sum(axis=1) < LEAST_COMMON * np.minimum(*(one.sum(axis=1) for one in known))).any():
            return None
        one, other = (
            resampled(self.labels, np.where(both, x, np.nan), self.authors, self.resamples, self.seed)
            for x in (first, second)
        )
        return one, other


def score(runs: Runs, split: str, resamples: int, seed: int) -> Scored | None:
    """Read and measure a split: ``val`` or ``test`` against crowd labels, ``truth_val`` or ``truth_test``.

    Texts are the same where id, author and label are. None where no job has predictions with labels there.
    """
    column, name = ("truth", split.removeprefix("truth_")) if split.startswith("truth_") else ("crowd_label", split)
    parts: list[pd.DataFrame] = []
    records: dict[str, int] = {}
    position: dict[int, int] = {}
    for job, row in runs.finished().iterrows():
        number, record = int(str(job)), str(row["record"])
        if record not in records:
            table = runs.predictions(number)
            rows = table.loc[table["split"] == name]
            if column not in rows or not rows[column].notna().any():
                continue
            rows = rows.loc[rows[column].notna()]
            parts.append(
                pd.DataFrame(
                    {
                        "record": len(records),
                        "text_id": rows["text_id"].astype("str"),
                        "author": (rows["group_id"] if "group_id" in rows else rows["text_id"]).astype("str"),
                        "label": rows[column].astype("float64"),
                        "prediction": rows["prediction"].astype("float64"),
                    }
                )
            )
            records[record] = len(records)
        position[number] = records[record]
    if not parts:
        return None
    whole = pd.concat(parts, ignore_index=True)
    texts = whole.groupby(["text_id", "author", "label"], sort=True)
    number_of = texts.ngroup().to_numpy()
    known = texts.size().index.to_frame(index=False)
    predictions = np.full((len(records), len(known)), np.nan)
    predictions[whole["record"].to_numpy(), number_of] = whole["prediction"].to_numpy()
    labels, authors = known["label"].to_numpy(dtype="float64"), known["author"].to_numpy()
    scores = resampled(labels, predictions, authors, resamples, seed)
    return Scored(labels, authors, predictions, position, scores, resamples, seed)
