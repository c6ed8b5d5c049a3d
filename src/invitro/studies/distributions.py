"""How close corrected labels are to validation's: distances between distributions of labels, and histograms."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from invitro.studies.wording import records, rows_of

if TYPE_CHECKING:
    from invitro.studies.runs import Runs
    from invitro.studies.summary import Summary


@dataclass(frozen=True)
class Distance:
    """How far two samples of labels lie apart.

    Args:
        wasserstein: W1, the area between the distribution functions: how far, on average, a label would have to move;
            in scale points, 0 for equal distributions.
        ks: Kolmogorov and Smirnov's D, the largest gap between the distribution functions, in [0, 1].
        p: of `ks`, two-sided. With thousands of texts p is small for gaps that do not matter.
    """

    wasserstein: float
    ks: float
    p: float


def distance(labels: npt.ArrayLike, reference: npt.ArrayLike) -> Distance:
    """Return how far `labels`, shape (n,), lie from `reference`, shape (m,); both in the scale's units, without NaN."""
    from scipy import stats

    a, b = np.asarray(labels, dtype="float64"), np.asarray(reference, dtype="float64")
    if not len(a) or not len(b):
        return Distance(float("nan"), float("nan"), float("nan"))
    test = stats.ks_2samp(a, b)
    return Distance(float(stats.wasserstein_distance(a, b)), float(test.statistic), float(test.pvalue))


def before(labels: pd.DataFrame) -> npt.NDArray[np.float64]:
    """Return the crowd labels of the training texts in a ``labels.csv``: the labels before correction."""
    return labels["crowd_label"].dropna().to_numpy(dtype="float64")


def after(labels: pd.DataFrame) -> npt.NDArray[np.float64]:
    """Return the training labels: those after correction and augmentation."""
    return labels["label"].dropna().to_numpy(dtype="float64")


def validation(predictions: pd.DataFrame) -> npt.NDArray[np.float64]:
    """Return validation's crowd labels from a ``predictions.csv``."""
    return labels_of(predictions, "val")


def labels_of(predictions: pd.DataFrame, split: str) -> npt.NDArray[np.float64]:
    """Return the labels of ``val`` or ``test``, or the truth of ``truth_val`` or ``truth_test``, where there is one."""
    column, name = ("truth", split.removeprefix("truth_")) if split.startswith("truth_") else ("crowd_label", split)
    if column not in predictions:
        return np.empty(0)
    return predictions.loc[predictions["split"] == name, column].dropna().to_numpy(dtype="float64")


def alignment(runs: "Runs", summary: "Summary", split: str = "val") -> pd.DataFrame:
    """Return the distances of training labels from those of `split`, see `labels_of`, one row per
    configuration.

    Columns: the factors, and for ``before`` and ``after`` correction ``_wasserstein`` (scale points), ``_ks`` and
    ``_p``: means over runs (the median for p). Labels seldom differ between seeds, but do between folds.
    """
    seen: dict[tuple[bytes, bytes], Distance] = {}

    def cached(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> Distance:
        key = (np.sort(a).tobytes(), np.sort(b).tobytes())
        if key not in seen:
            seen[key] = distance(a, b)
        return seen[key]

    rows = []
    for group in records(summary.groups):
        found: dict[str, list[Distance]] = {"before": [], "after": []}
        for number in rows_of(runs, group):
            labels, reference = runs.labels(number), labels_of(runs.predictions(number), split)
            found["before"].append(cached(before(labels), reference))
            found["after"].append(cached(after(labels), reference))
        if found["after"]:
            rows.append({name: group[name] for name in runs.factors} | _means(found))
    return pd.DataFrame(rows)


def _means(found: Mapping[str, list[Distance]]) -> dict[str, float]:
    """Return the columns of one configuration."""
    row: dict[str, float] = {}
    for when, distances in found.items():
        row[f"{when}_wasserstein"] = float(np.mean([one.wasserstein for one in distances]))
        row[f"{when}_ks"] = float(np.mean([one.ks for one in distances]))
        row[f"{when}_p"] = float(np.median([one.p for one in distances]))
    return row


def histogram(labels: npt.ArrayLike, low: float, high: float, bins: int = 12) -> npt.NDArray[np.float64]:
    """Return the share of `labels`, shape (n,), in each of `bins` equal bins from `low` to `high`, the last closed.

    Shares are of all labels; they add up to 1 where none lies outside.
    """
    values = np.asarray(labels, dtype="float64")
    counts, _ = np.histogram(values, bins=bins, range=(low, high))
    return np.asarray(counts / max(len(values), 1))


def bounds(config: Mapping[str, Any]) -> tuple[float, float] | None:
    """Return a run's lowest and highest possible score, from its configuration; None where it names no scale."""
    scale = config.get("scale")
    if not isinstance(scale, Mapping) or "low" not in scale or "high" not in scale:
        return None
    items = len(scale.get("items") or []) if scale.get("aggregation") == "sum" else 1
    return float(scale["low"]) * items, float(scale["high"]) * items
