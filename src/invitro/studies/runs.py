"""The runs of a study as one table, read from the files that its jobs left on disk."""

import json
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import yaml

from invitro.data.corpus import CODEBOOK
from invitro.errors import InputError
from invitro.models.settings import in_closed_form
from invitro.stats import Floats
from invitro.stats.moments import MEASURES, METRICS, Scores, matched_ccc, resampled
from invitro.studies.launch import NAMED_GROUPS, FoundJob, commands_of, find_jobs
from invitro.studies.study import FOLD, Value, canonical
from invitro.training.record import read_metrics

SIZES = (
    "size", "replaced", "augmented", "kept", "given_up", "set_aside", "without_llm_label", "truncated",
    "epochs", "seconds",
)  # fmt: skip
FINISHED = ("finished", "finished before")


@dataclass(frozen=True)
class Runs:
    """The runs of a study: one row per job, and the files of their records.

    Args:
        root: the folder that was read.
        factors: the columns of `table` that define a configuration.
        replicates: the columns whose values repeat a configuration.
        table: one row per job, in the order in which jobs first started: the factors (numeric columns if all values
            are numbers), the replicates, ``record`` (a path), ``outcome`` (`invitro.training.multirun.OUTCOMES`),
            ``error`` (one line, or None), ``shared`` (whether another row has the same record: equal labels, seed and
            settings are trained once), ``fingerprint``, ``val_pcc`` ... ``test_rmse``, ``truth_val_pcc`` ... if the
            truth is known, and `SIZES`; numbers that a job lacks are NaN.
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
        """Return ``predictions.csv`` of a row; ids are text, and demographic codes in `CODEBOOK` are words."""
        return self._people(row, "predictions.csv")

    def labels(self, row: int) -> pd.DataFrame:
        """Return ``labels.csv`` of a row: the training labels; see `predictions`."""
        return self._people(row, "labels.csv")

    def history(self, row: int) -> pd.DataFrame:
        """Return ``history.csv`` of a row, one line per epoch."""
        return _read_csv(self._record(row) / "history.csv")

    def config(self, row: int) -> dict[str, Any]:
        """Return the resolved configuration of a row's record."""
        return dict(_read_yaml(self._record(row) / "config.yaml"))

    def is_exact(self, row: int) -> bool:
        """Whether a row's model was fitted in closed form: it has no epochs, no learning rate and no seed."""
        plm = self.config(row).get("plm") or {}
        return bool(plm) and in_closed_form(plm)

    def label_sets(self, row: int) -> tuple[str, ...]:
        """Return the names of the LLM label sets that a row's run used."""
        return tuple(name for name in self.environment(row).get("hashes") or {} if name != "corpus")

    def environment(self, row: int) -> dict[str, Any]:
        """Return ``environment.json`` of a row's record."""
        return dict(json.loads((self._record(row) / "environment.json").read_text("utf-8")))

    def metrics(self, row: int) -> dict[str, Any]:
        """Return ``metrics.json`` of a row's record."""
        return read_metrics(self._record(row))

    @property
    def folds(self) -> int:
        """How many folds of a cross-validation are replicates; 0 unless there are several."""
        count = self.table[FOLD].nunique() if FOLD in self.replicates else 0
        return int(count) if count > 1 else 0

    def repetition(self, row: int) -> Hashable:
        """Return what distinguishes a row from others of its configuration, apart from the fold: its seed."""
        return tuple(self.table.loc[row, name] for name in self.replicates if name != FOLD)

    def by_replicate(self, rows: Iterable[int]) -> dict[Hashable, int]:
        """Return a configuration's rows by replicate; without replicates, every row is a separate repetition."""
        rows = [int(row) for row in rows]
        if not self.replicates:
            return dict(enumerate(rows))
        keys = self.table.loc[rows, list(self.replicates)].itertuples(index=False, name=None)
        return dict(zip(keys, rows, strict=True))

    def _people(self, row: int, name: str) -> pd.DataFrame:
        return _in_words(self._record(row) / name, _coded(self.config(row).get("data") or {})).copy()

    def _record(self, row: int) -> Path:
        return Path(str(self.table.loc[row, "record"]))


@lru_cache(maxsize=1024)
def _read_yaml(path: Path) -> dict[str, Any]:
    """Read a record's configuration, which never changes."""
    return dict(yaml.load(path.read_text("utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader)))


def _read_csv(path: Path) -> pd.DataFrame:
    """Read a table of a record; only empty cells are missing."""
    ids = {"text_id": str, "group_id": str}
    return pd.DataFrame(pd.read_csv(path, dtype=ids, keep_default_na=False, na_values=[""]))


CODED = ("NewsEmp", "Simulator")
"""The readers of corpora that `CODEBOOK` describes."""


def _coded(data: Mapping[str, Any]) -> bool:
    """Whether all corpora of a run's data have the codes of `CODEBOOK`."""
    return all(str(corpus.get("_target_")).rpartition(".")[2] in CODED for corpus in data.get("members") or [data])


@lru_cache(maxsize=1024)
def _in_words(path: Path, coded: bool) -> pd.DataFrame:
    """Read a table of a record, which never changes; codes of `CODEBOOK` (`coded`) become words in its order."""
    table = _read_csv(path)
    columns = {}
    for name in set(CODEBOOK) & set(table) if coded else ():
        words = table[name].astype("str").str.removesuffix(".0").where(table[name].notna())
        words = words.map(lambda code, book=CODEBOOK[name]: book.get(code, code), na_action="ignore")
        others = sorted(set(words.dropna()) - set(CODEBOOK[name].values()))
        columns[name] = pd.Categorical(words, [*CODEBOOK[name].values(), *others])
    return table.assign(**columns)


def read_runs(root: Path, factors: Sequence[str] | None = None, replicates: Sequence[str] = ("seed",)) -> Runs:
    """Read the jobs below `root`: a study's folder, a multirun's, or any folder with records in it.

    Of jobs with equal overrides the latest counts, so that a launch after an interruption, or one with more seeds,
    continues the table. If jobs differ in keys other than `factors` and `replicates`, these join the factors: runs with
    different settings are never one configuration.

    Args:
        root: the folder.
        factors: the keys that define a configuration; None finds those in which jobs differ.
        replicates: the keys whose values repeat a configuration; the fold of a cross-validation joins them.

    Raises:
        InputError: there are no jobs and no records below `root`.
    """
    root = Path(root)
    if not root.is_dir():
        raise InputError(f"{root}: no such folder of runs")
    every = find_jobs(root)
    if not every:
        raise InputError(f"{root}: holds no runs; expected a folder that sweep.py, train.py or train.py -m made")
    jobs = _latest(every, lambda job: frozenset((key, canonical(value)) for key, value in job.overrides.items()))
    folds = {canonical(job.value(FOLD)) for job in jobs}
    if len(folds) > 1 and "null" not in folds and FOLD not in (*replicates, *(factors or ())):
        replicates = (FOLD, *replicates)
    replicates = tuple(name for name in replicates if any(job.value(name) is not None for job in jobs))
    names = tuple(factors) if factors is not None else _differing(jobs, replicates)

    def levels(job: FoundJob) -> tuple[Value, ...]:
        return tuple(canonical(job.value(name)) for name in (*names, *replicates))

    # The same run specified differently: one job names a key that the other leaves at its default.
    jobs = _latest(jobs, lambda job: (levels(job), job.record.resolve()))
    counts = Counter(map(levels, jobs))
    names += _differing([job for job in jobs if counts[levels(job)] > 1], (*names, *replicates))
    jobs = _latest(jobs, levels)
    table = pd.DataFrame([_row(job) for job in jobs])
    for position, name in enumerate((*names, *replicates)):
        table.insert(position, name, _column([canonical(job.value(name)) for job in jobs]))
    table["error"] = pd.Series([job.error for job in jobs], dtype="object")  # None stays None
    finished = table["outcome"].isin(FINISHED)
    table["shared"] = finished & table["record"].where(finished, table.index.astype("str")).duplicated(keep=False)
    return Runs(root, names, replicates, table, commands_of(every))


def _latest(jobs: Sequence[FoundJob], key: Callable[[FoundJob], object]) -> list[FoundJob]:
    """Return the last of the jobs with equal keys, at the position of the first."""
    return list({key(job): job for job in jobs}.values())


def _differing(jobs: Sequence[FoundJob], without: Sequence[str]) -> tuple[str, ...]:
    """Return the override keys in which jobs differ, except those in `without` and keys that repeat another's values.

    Of a group such as ``llm``, only the choice is kept if it determines the group's other keys.
    """
    keys = [key for key in dict.fromkeys(key for job in jobs for key in job.overrides) if key not in without]
    values = {key: tuple(canonical(job.value(key)) for job in jobs) for key in keys}
    kept: dict[str, tuple[object, ...]] = {}
    for key in sorted((key for key in keys if len(set(values[key])) > 1), key=_depth):
        group = kept.get(key.partition(".")[0])
        determined = group is not None and len(set(zip(group, values[key], strict=True))) == len(set(group))
        if values[key] not in kept.values() and not determined:
            kept[key] = values[key]
    return tuple(kept)


def _depth(key: str) -> tuple[bool, bool]:
    """Order groups before their keys, and these before all others."""
    return "." in key, key.partition(".")[0] not in NAMED_GROUPS


def _row(job: FoundJob) -> dict[str, object]:
    """Return a job's row of the table, without factors and replicates."""
    metrics = job.metrics if job.outcome in FINISHED else {}
    row: dict[str, object] = {"record": str(job.record), "outcome": job.outcome, "error": job.error}
    row["fingerprint"] = job.metrics.get("fingerprint")
    for prefix, scores in (("", metrics), ("truth_", metrics.get("truth") or {})):
        for split in ("val", "test"):
            values = scores.get(split) or {}
            if values or not prefix:
                row |= {f"{prefix}{split}_{name}": values.get(name, np.nan) for name in METRICS}
    train = metrics.get("train") or {}
    return row | {name: train.get(name, np.nan) for name in SIZES}


def _column(values: Sequence[Value]) -> "pd.Series":
    """Return a column of integers, numbers or text, the first of these that fits all values."""
    if all(isinstance(value, int) for value in values):
        return pd.Series(values, dtype="int64")
    if all(isinstance(value, (int, float)) for value in values):
        return pd.Series(values, dtype="float64")
    return pd.Series([str(value) for value in values], dtype="str")


Arms = tuple[tuple[int, ...], ...]

STUDIED = {**MEASURES, "matched_ccc": matched_ccc}

LEAST_COMMON = 0.5
"""Share of the smaller job's texts that two jobs need in common to be paired by text."""


@dataclass(frozen=True)
class SplitScores:
    """The predictions of all runs on one split, measured on all texts and on draws of them.

    An arm is measured as a unit: a run or, on test, all folds of a cross-validation with one seed, whose predictions
    together cover every text once. So metrics are over all texts, not means over folds.

    Args:
        labels: of each text, in the scale's units; crowd labels or the truth.
        authors: of each text.
        predictions: shape (records, texts), NaN where a record has none for a text.
        position: each job's row of `predictions`, by its number in ``runs.table``; jobs may share a row.
        arm: each job's arm, by its number; within a configuration, jobs with the same value are folds of one arm.
        resamples: number of draws.
    """

    labels: Floats
    authors: npt.NDArray[Any]
    predictions: Floats
    position: dict[int, int]
    arm: dict[int, Hashable]
    resamples: int
    _measured: dict[Arms, dict[str, Scores]] = field(default_factory=dict, repr=False)

    def has(self, jobs: Iterable[Any]) -> bool:
        """Whether there are any jobs, and predictions by each."""
        predicted = [int(job) in self.position for job in jobs]
        return bool(predicted) and all(predicted)

    def of(self, jobs: Iterable[Any]) -> dict[str, Scores]:
        """Return the scores of these jobs, one configuration's seeds."""
        arms = self._arms(jobs)
        if arms not in self._measured:
            self._measured[arms] = self._of(self._pooled(arms))
        return self._measured[arms]

    def pair(
        self, a: Mapping[Hashable, int], b: Mapping[Hashable, int]
    ) -> tuple[dict[str, Scores], dict[str, Scores]] | None:
        """Return the scores of two configurations, jobs by replicate, on the texts that both predicted, seed by seed.

        None if they have no replicate in common, or too few texts, as when ids and labels are from different corpora.
        """
        common = [key for key in a if key in b]
        jobs, others = [a[key] for key in common], [b[key] for key in common]
        if not self.has(jobs) or not self.has(others):
            return None
        first, second = self._pooled(self._arms(jobs)), self._pooled(self._arms(others))
        predicted = [~np.isnan(first), ~np.isnan(second)]
        both = predicted[0] & predicted[1]
        if (predicted[0] == predicted[1]).all():
            return self.of(jobs), self.of(others)
        if (both.sum(axis=1) < LEAST_COMMON * np.minimum(*(mask.sum(axis=1) for mask in predicted))).any():
            return None
        return self._of(np.where(both, first, np.nan)), self._of(np.where(both, second, np.nan))

    def _of(self, predictions: Floats) -> dict[str, Scores]:
        """Measure predictions, (arms, texts), on the texts that any arm predicted, and on draws of their authors."""
        predicted = ~np.isnan(predictions).all(axis=0)
        labels, authors = self.labels[predicted], self.authors[predicted]
        return resampled(labels, predictions[:, predicted], authors, self.resamples, measures=STUDIED)

    def _arms(self, jobs: Iterable[Any]) -> Arms:
        """Return the rows of `predictions` that make up each arm of these jobs, in the order of the jobs."""
        arms: dict[Hashable, list[int]] = {}
        for job in map(int, jobs):
            arms.setdefault(self.arm[job], []).append(self.position[job])
        return tuple(map(tuple, arms.values()))

    def _pooled(self, arms: Arms) -> Floats:
        """Return the predictions of each arm, (arms, texts); each text is predicted by one of its folds."""
        pooled = np.full((len(arms), len(self.labels)), np.nan)
        for number, rows in enumerate(arms):
            for row in rows:
                pooled[number] = np.where(np.isnan(pooled[number]), self.predictions[row], pooled[number])
        return pooled


def labelled(predictions: pd.DataFrame, split: str) -> pd.DataFrame:
    """Return the rows of ``predictions.csv`` that have a label on a split, with the label in the column ``label``.

    On ``val`` and ``test`` it is the crowd's, on ``truth_val`` and ``truth_test`` the truth, if that is known.
    """
    column = "truth" if split.startswith("truth_") else "crowd_label"
    labels = predictions[column].astype("float64") if column in predictions else np.nan
    rows = predictions.assign(label=labels)
    return rows.loc[(rows["split"] == split.removeprefix("truth_")) & rows["label"].notna()]


def score_split(runs: Runs, split: str, resamples: int) -> SplitScores | None:
    """Read and measure a split: ``val`` or ``test`` against crowd labels, ``truth_val`` or ``truth_test``.

    Rows are of the same text if id, author and label are equal. None if no job has predictions of labelled texts there.
    """
    parts: list[pd.DataFrame] = []
    records: dict[str, int] = {}
    position: dict[int, int] = {}
    pooled = runs.folds > 0 and split.endswith("test")
    for job, record in runs.finished()["record"].items():
        number = int(str(job))
        if record not in records:
            rows = labelled(runs.predictions(number), split)
            if rows.empty:
                continue
            authors = (rows["group_id"] if "group_id" in rows else rows["text_id"]).astype("str")
            parts.append(rows[["text_id", "label", "prediction"]].assign(record=len(records), author=authors))
            records[record] = len(records)
        position[number] = records[record]
    if not parts:
        return None
    whole = pd.concat(parts, ignore_index=True)
    texts = whole.groupby(["text_id", "author", "label"], sort=True)
    unique = texts.size().index.to_frame(index=False)
    predictions = np.full((len(records), len(unique)), np.nan)
    predictions[whole["record"].to_numpy(), texts.ngroup().to_numpy()] = whole["prediction"].to_numpy()
    arm: dict[int, Hashable] = {job: runs.repetition(job) if pooled else job for job in position}
    return SplitScores(unique["label"].to_numpy(), unique["author"].to_numpy(), predictions, position, arm, resamples)
