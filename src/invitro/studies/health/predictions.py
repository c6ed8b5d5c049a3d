"""Health checks on predictions and training labels."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from invitro.stats.bootstrap import resampled
from invitro.stats.intervals import interval_of
from invitro.stats.moments import measured
from invitro.studies.distributions import Distance, after, distance
from invitro.studies.groups import LEAST_IN_GROUP, banded, known_attributes
from invitro.studies.health.runs import Finding, few, named_rows
from invitro.writing.words import count, number

if TYPE_CHECKING:
    from invitro.studies.runs import Runs
    from invitro.studies.summary import Summary

ACCURACY = 0.8
"""CCC / PCC, Lin's bias correction factor, below which magnitudes are off."""
ALMOST_CONSTANT = 0.05
"""Predictions whose SD is below this share of the labels' SD are nearly constant."""
APART = 0.3
"""From this Wasserstein distance on, in SDs of test labels, training and test labels count as far apart."""


def prediction_checks(runs: "Runs", summary: "Summary") -> Iterator[Finding | None]:
    """Yield the findings on predictions and labels."""
    tables: dict[str, list[pd.DataFrame]] = {}
    for name, jobs in named_rows(runs, summary):
        tables[name] = [_labelled(runs.predictions(job)) for job in jobs]
    pooled = {name: _on_test(parts) for name, parts in tables.items()}
    magnitudes = [_magnitudes(name, parts) for name, parts in pooled.items() if parts]
    yield ccc_below_pcc(magnitudes)
    yield constant_predictions([_flatness(name, parts) for name, parts in tables.items()])
    yield negative_in_groups(_by_group(pooled))
    yield labels_apart(_label_distances(runs, summary))


@dataclass(frozen=True)
class Magnitudes:
    """Predictions and crowd labels of a configuration on test: means over its runs, in scale points."""

    name: str
    pcc: float
    ccc: float
    mean: float
    sd: float
    label_mean: float
    label_sd: float


def ccc_below_pcc(found: Sequence[Magnitudes]) -> Finding | None:
    """Report where CCC is far below PCC: predictions follow the labels, but are biased or keep to the middle.

    Lin's CCC is PCC times ``C = 2 / (v + 1 / v + u^2)`` with v the ratio of both SDs and u the difference of the means
    over the root of their product. Least squares alone makes v about equal to PCC: it regresses to the mean.
    """
    usable = [one for one in found if one.pcc > 0.1 and one.sd > 0 and one.label_sd > 0]
    if not usable:
        return None
    worst = min(usable, key=lambda one: one.ccc / one.pcc)
    what = (
        f"CCC is {number(worst.ccc)} where PCC is {number(worst.pcc)} ({worst.name}): predictions have mean "
        f"{number(worst.mean, 2)} and SD {number(worst.sd, 2)}, labels {number(worst.label_mean, 2)} and "
        f"{number(worst.label_sd, 2)}."
    )
    if worst.ccc / worst.pcc >= ACCURACY:
        return Finding("CCC and PCC", "good", f"CCC is close to PCC everywhere; at its furthest, {what}")
    v = worst.sd / worst.label_sd
    bias = (worst.mean - worst.label_mean) ** 2 / (worst.sd * worst.label_sd)
    remedies = []
    if bias > 0.1:
        side = "too high" if worst.mean > worst.label_mean else "too low"
        remedies.append(
            f"Predictions are {side} by {number(abs(worst.mean - worst.label_mean), 2)} points: compare the means of "
            "LLM and crowd labels in the label distributions; a biased LLM shifts the training labels."
        )
    if v < 0.8:
        remedies.append(
            f"Predictions vary {number(v, 2)} times as much as labels: least squares on noisy labels keeps to the "
            "middle; fit.loss=ccc, or more epochs, uses more of the scale."
        )
    if v > 1.25:
        remedies.append(f"Predictions vary {number(v, 2)} times as much as labels: lower plm.lr, or fewer epochs.")
    other = sum(one.ccc / one.pcc < ACCURACY for one in usable)
    what = f"CCC is far below PCC in {count(other, 'configuration')}. At worst, {what}"
    return Finding("CCC and PCC", "warning", what, " ".join(remedies) or "Look at predictions against labels.")


class Flatness(NamedTuple):
    """A configuration, and the smallest ratio of its runs' SD of predictions to that of labels."""

    name: str
    ratio: float


def constant_predictions(found: Sequence[Flatness]) -> Finding:
    """Report runs that predict one number for every text."""
    flat = [one for one in found if one.ratio < ALMOST_CONSTANT]
    if not flat:
        least = min((one.ratio for one in found), default=np.nan)
        what = f"Every run distinguishes texts; the narrowest predictions have {number(least, 2)} times the labels' SD."
        return Finding("constant predictions", "good", what)
    first = flat[0]
    what = (
        f"Nearly constant predictions in {count(len(flat), 'configuration')}, {few(one.name for one in flat)}: "
        f"their SD is {number(first.ratio, 3)} times that of the labels. Correlations are then undefined, or noise."
    )
    do = "The model learned only the mean: raise plm.lr or fit.epochs; look at the learning curves and labels."
    return Finding("constant predictions", "warning", what, do)


class GroupScore(NamedTuple):
    """CCC in one group of people, mean over a configuration's runs, with its 95 % interval."""

    name: str
    group: str
    texts: int
    ccc: float
    high: float


def negative_in_groups(found: Sequence[GroupScore]) -> Finding | None:
    """Report groups in which predictions run against the labels."""
    if not found:
        return None
    negative = sorted((one for one in found if one.ccc < 0), key=lambda one: one.ccc)
    if not negative:
        least = min(found, key=lambda one: one.ccc)
        what = (
            f"CCC is positive in every group of {LEAST_IN_GROUP} texts or more; lowest {number(least.ccc)} for "
            f"{least.group} ({count(least.texts, 'text')}; {least.name})."
        )
        return Finding("groups", "good", what)
    groups = few(f"{one.group} {number(one.ccc)} ({count(one.texts, 'text')}; {one.name})" for one in negative)
    sure = [one for one in negative if one.high < 0]
    chance = "" if sure else " Their intervals include 0: with so few texts this may be chance."
    do = "Do not use these models to score people of these groups; look at their labels and texts, and collect more."
    what = f"CCC is negative in {count(len(negative), 'group')}: {groups}.{chance}"
    return Finding("groups", "warning" if sure else "note", what, do)


class LabelDistance(NamedTuple):
    """How far a configuration's training labels lie from test's crowd labels; means and SD of test in scale points."""

    name: str
    distance: Distance
    mean: float
    test_mean: float
    test_sd: float


def labels_apart(found: Sequence[LabelDistance]) -> Finding | None:
    """Report models whose training labels are distributed unlike the labels they are tested on."""
    usable = [one for one in found if one.test_sd > 0]
    if not usable:
        return None
    worst = max(usable, key=lambda one: one.distance.wasserstein / one.test_sd)
    what = (
        f"training labels lie {number(worst.distance.wasserstein, 2)} points (Wasserstein) from test's crowd labels, "
        f"{number(worst.distance.wasserstein / worst.test_sd, 2)} of their SD; KS D {number(worst.distance.ks, 2)}; "
        f"means {number(worst.mean, 2)} and {number(worst.test_mean, 2)} ({worst.name})."
    )
    if worst.distance.wasserstein / worst.test_sd < APART:
        return Finding("label distributions", "good", f"Alike in training and test; at most, {what}")
    do = (
        "A model reproduces its training labels: expect biased scores and a low CCC. Compare the distributions before "
        "and after correction; a larger alpha keeps more crowd labels. If the crowd's own labels differ, so do the "
        "splits: divide them at random."
    )
    many = sum(one.distance.wasserstein / one.test_sd >= APART for one in usable)
    what = f"Far apart in training and test in {count(many, 'configuration')}: {what}"
    return Finding("label distributions", "warning", what, do)


def _labelled(table: pd.DataFrame) -> pd.DataFrame:
    return table.loc[table["crowd_label"].notna()]


def _on_test(parts: Iterable[pd.DataFrame]) -> list[pd.DataFrame]:
    """Return the test rows of each run; nothing where a run has none."""
    rows = [part.loc[part["split"] == "test"].reset_index(drop=True) for part in parts]
    return rows if all(len(one) for one in rows) else []


def _measured(parts: Sequence[pd.DataFrame], column: str) -> float:
    return float(np.mean([measured(part["prediction"], part["crowd_label"])[column] for part in parts]))


def _magnitudes(name: str, parts: Sequence[pd.DataFrame]) -> Magnitudes:
    def over_runs(column: str, what: str) -> float:
        return float(np.mean([getattr(part[column], what)() for part in parts]))

    return Magnitudes(
        name, _measured(parts, "pcc"), _measured(parts, "ccc"), over_runs("prediction", "mean"),
        over_runs("prediction", "std"), over_runs("crowd_label", "mean"), over_runs("crowd_label", "std"),
    )  # fmt: skip


def _flatness(name: str, parts: Sequence[pd.DataFrame]) -> Flatness:
    ratios = [
        rows["prediction"].std() / rows["crowd_label"].std()
        for part in parts
        for _, rows in part.groupby("split")
        if len(rows) > 1 and rows["crowd_label"].std() > 0
    ]
    return Flatness(name, min(map(float, ratios), default=np.nan))


def _by_group(pooled: dict[str, list[pd.DataFrame]]) -> list[GroupScore]:
    """Return CCC by demographic group for every configuration whose runs predicted the same texts."""
    found = []
    for name, parts in pooled.items():
        if not parts or any(not part["text_id"].equals(parts[0]["text_id"]) for part in parts):
            continue
        first, predictions = parts[0], np.stack([part["prediction"].to_numpy() for part in parts])
        authors = first["group_id"] if "group_id" in first else first["text_id"]
        for attribute in known_attributes(first):
            for value, rows in first.groupby(banded(first[attribute], attribute), observed=True).groups.items():
                if len(rows) >= LEAST_IN_GROUP:
                    found.append(_group_score(name, f"{attribute} {value}", first, predictions, authors, rows))
    return found


def _group_score(
    name: str, group: str, first: pd.DataFrame, predictions: Any, authors: "pd.Series[Any]", rows: "pd.Index[Any]"
) -> GroupScore:
    """Measure one group; its interval is only computed where CCC is negative."""
    labels, here = first.loc[rows, "crowd_label"].to_numpy(), predictions[:, rows]
    ccc, high = float(np.mean([measured(one, labels)["ccc"] for one in here])), np.nan
    if ccc < 0:
        scores = resampled(labels, here, authors.loc[rows].astype("str").to_numpy())
        high = interval_of(scores["ccc"], "ccc").high
    return GroupScore(name, group, len(rows), ccc, high)


def _label_distances(runs: "Runs", summary: "Summary") -> list[LabelDistance]:
    """Compare training labels with test's by configuration, on its first run: seeds share them."""
    found = []
    for name, jobs in named_rows(runs, summary):
        table = _labelled(runs.predictions(jobs[0]))
        test = table.loc[table["split"] == "test", "crowd_label"].astype("float64")
        labels = after(runs.labels(jobs[0]))
        if len(test) and len(labels):
            apart = distance(labels, test.to_numpy())
            found.append(LabelDistance(name, apart, float(labels.mean()), float(test.mean()), float(test.std())))
    return found
