"""The predictions of all jobs on one split as one matrix, measured on all texts and on the same draws of them."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from invitro.studies.resampling import Array, Scores, resampled
from invitro.studies.runs import Runs

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

    labels: Array
    authors: npt.NDArray[Any]
    predictions: Array
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
