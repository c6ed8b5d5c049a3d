"""How close corrected labels are to validation labels: distances between distributions of labels, and histograms."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from invitro.stats import Floats
from invitro.studies.runs import Runs, labelled
from invitro.studies.summary import Summary
from invitro.studies.wording import records, rows_of


class Distance(NamedTuple):
    """How far apart two samples of labels are; NaN if one is empty.

    Args:
        wasserstein: W1, the area between the distribution functions: how far, on average, a label would have to move;
            in scale points, 0 for equal distributions.
        ks: Kolmogorov and Smirnov's D, the largest gap between the distribution functions, in [0, 1].
    """

    wasserstein: float
    ks: float


def distance(labels: npt.ArrayLike, reference: npt.ArrayLike) -> Distance:
    """Return how far `labels`, shape (n,), are from `reference`, shape (m,); both in the scale's units, without NaN."""
    from scipy import stats

    a, b = np.asarray(labels, dtype="float64"), np.asarray(reference, dtype="float64")
    if not len(a) or not len(b):
        return Distance(float("nan"), float("nan"))
    return Distance(float(stats.wasserstein_distance(a, b)), float(stats.ks_2samp(a, b).statistic))


def before(labels: pd.DataFrame) -> Floats:
    """Return the crowd labels of the training texts in a ``labels.csv``: the labels before correction."""
    return labels["crowd_label"].dropna().to_numpy(dtype="float64")


def after(labels: pd.DataFrame) -> Floats:
    """Return the training labels: those after correction and augmentation."""
    return labels["label"].dropna().to_numpy(dtype="float64")


def labels_of(predictions: pd.DataFrame, split: str) -> Floats:
    """Return the labels of ``val`` or ``test``, or the known truth of ``truth_val`` or ``truth_test``."""
    return labelled(predictions, split)["label"].to_numpy()


ALIGNMENT = ("before_wasserstein", "before_ks", "after_wasserstein", "after_ks")


def alignment(runs: Runs, summary: Summary, split: str = "val") -> pd.DataFrame:
    """Return the distances of training labels from those of `split`, see `labels_of`, one row per configuration.

    Columns: the factors and `ALIGNMENT`, before and after correction, means over runs. Labels seldom differ between
    seeds, but do between folds.
    """
    seen: dict[tuple[bytes, bytes], Distance] = {}

    def cached(a: Floats, b: Floats) -> Distance:
        key = (np.sort(a).tobytes(), np.sort(b).tobytes())
        if key not in seen:
            seen[key] = distance(a, b)
        return seen[key]

    rows = []
    for group in records(summary.groups):
        distances = []
        for number in rows_of(runs, group):
            labels, reference = runs.labels(number), labels_of(runs.predictions(number), split)
            distances.append([*cached(before(labels), reference), *cached(after(labels), reference)])
        if distances:
            means = dict(zip(ALIGNMENT, np.mean(distances, axis=0), strict=True))
            rows.append({name: group[name] for name in runs.factors} | means)
    return pd.DataFrame(rows)


def histogram(labels: npt.ArrayLike, low: float, high: float, bins: int) -> Floats:
    """Return the share of `labels`, shape (n,), in each of `bins` equal bins from `low` to `high`, the last closed.

    Shares are of all labels; they add up to 1 if none is outside this range.
    """
    values = np.asarray(labels, dtype="float64")
    counts, _ = np.histogram(values, bins=bins, range=(low, high))
    return np.asarray(counts / max(len(values), 1))


def bounds(config: Mapping[str, Any]) -> tuple[float, float] | None:
    """Return a run's lowest and highest possible score, from its configuration; None if it names no scale."""
    scale = config.get("scale")
    if not isinstance(scale, Mapping) or "low" not in scale or "high" not in scale:
        return None
    items = len(scale.get("items") or []) if scale.get("aggregation") == "sum" else 1
    return float(scale["low"]) * items, float(scale["high"]) * items
