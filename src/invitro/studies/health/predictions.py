"""Health checks on predictions and training labels."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from invitro.data.corpus import LEAST_IN_GROUP
from invitro.stats.intervals import interval_of
from invitro.stats.moments import measured, resampled
from invitro.studies.distributions import after, alignment, labels_of
from invitro.studies.groups import people_groups, prediction_pairs
from invitro.studies.health.runs import Configured, Finding, told
from invitro.studies.runs import Runs
from invitro.studies.summary import Summary
from invitro.studies.wording import SPLIT_NAMES, records

ACCURACY = 0.8
"""CCC / PCC, Lin's bias correction factor, below which magnitudes are off."""
LEAST_PCC = 0.1
"""With a smaller PCC there is nothing that CCC could be close to."""
ALMOST_CONSTANT = 0.05
"""Predictions whose SD is below this share of the labels' SD are nearly constant."""
MOVED = 0.15
"""By this much further, in the same SDs, labels may lie after correction before it is reported."""
APART = 0.3
"""From this Wasserstein distance on, in SDs of the labels to be predicted, two sets of labels count as far apart."""


def prediction_checks(runs: Runs, summary: Summary, configurations: Sequence[Configured]) -> Iterator[Finding | None]:
    """Yield the findings on predictions and labels: on test, or on validation where no test has labels."""
    split = summary.split
    of = len(configurations)
    tables = {
        one.name: [table.loc[table["crowd_label"].notna()] for table in map(runs.predictions, one.jobs)]
        for one in configurations
    }
    on_split = [(one, [table.loc[table["split"] == split] for table in tables[one.name]]) for one in configurations]
    yield ccc_below_pcc([_magnitudes(one, parts) for one, parts in on_split if all(map(len, parts))], split, of)
    yield constant_predictions([flat for one in configurations for flat in _flatness(one, tables[one.name])], of)
    yield negative_in_groups([score for one in configurations for score in _by_group(runs, one, split)], split, of)
    yield labels_apart([*_label_distances(runs, summary, configurations)], split, of)


@dataclass(frozen=True)
class Magnitudes:
    """Predictions and crowd labels of a configuration: means over its runs, in scale points."""

    name: str
    pcc: float
    ccc: float
    mean: float
    sd: float
    label_mean: float
    label_sd: float
    exact: bool = False
    by_llm: bool = True

    @property
    def accuracy(self) -> float:
        """Lin's bias correction factor."""
        return self.ccc / self.pcc


def ccc_below_pcc(found: Sequence[Magnitudes], split: str, of: int) -> Finding | None:
    """Report where CCC is far below PCC: predictions follow the labels, but are biased or keep to the middle.

    Lin's CCC is PCC times ``C = 2 / (v + 1 / v + u^2)`` with v the ratio of both SDs and u the difference of the means
    over the root of their product. Least squares alone makes v about equal to PCC: it regresses to the mean.

    Args:
        found: the configurations with predictions on `split`.
        split: ``test`` or ``val``.
        of: how many configurations there are.
    """
    usable = [one for one in found if one.pcc > LEAST_PCC and one.sd > 0 and one.label_sd > 0]
    if not usable:
        return None
    worst, off = min(usable, key=lambda one: one.accuracy), [one for one in usable if one.accuracy < ACCURACY]
    return told(
        "CCC and PCC", "warning" if off else "good", "magnitudes", worst=worst, off=len(off), looked=len(usable),
        of=of, split=SPLIT_NAMES[split], least=LEAST_PCC, ratio=worst.sd / worst.label_sd,
        biased=(worst.mean - worst.label_mean) ** 2 / (worst.sd * worst.label_sd) > 0.1,
    )  # fmt: skip


class Flatness(NamedTuple):
    """A configuration, and the ratio of one of its runs' SD of predictions to that of labels, on one split."""

    name: str
    ratio: float
    exact: bool = False


def constant_predictions(found: Sequence[Flatness], of: int) -> Finding | None:
    """Report runs that predict one number for every text; `of` is how many configurations there are."""
    if not found:
        return None
    narrowest = min(found, key=lambda one: one.ratio)
    flat = list(dict.fromkeys(one.name for one in found if one.ratio < ALMOST_CONSTANT))
    return told(
        "constant predictions", "warning" if flat else "good", "constant", flat=flat, ratio=narrowest.ratio,
        looked=len({one.name for one in found}), of=of, exact=all(one.exact for one in found if one.name in flat),
    )  # fmt: skip


class GroupScore(NamedTuple):
    """CCC in one group of people, mean over a configuration's runs, with the upper limit of its 95 % interval."""

    name: str
    group: str
    texts: int
    ccc: float
    high: float


def negative_in_groups(found: Sequence[GroupScore], split: str, of: int) -> Finding | None:
    """Report groups in which predictions run against the labels of `split`; see `ccc_below_pcc`."""
    if not found:
        return None
    negative = sorted((one for one in found if one.ccc < 0), key=lambda one: one.ccc)
    sure = [one for one in negative if one.high < 0]
    return told(
        "groups", "warning" if sure else "note" if negative else "good", "groups", negative=negative, sure=bool(sure),
        lowest=min(found, key=lambda one: one.ccc), least=LEAST_IN_GROUP, looked=len({one.name for one in found}),
        of=of, split=SPLIT_NAMES[split],
    )  # fmt: skip


class LabelDistance(NamedTuple):
    """How far a configuration's training labels lie from the crowd labels to be predicted, in scale points.

    Args:
        name: the configuration's.
        wasserstein: Wasserstein-1.
        ks: Kolmogorov and Smirnov's D.
        before: Wasserstein-1 of its crowd labels, before correction.
        mean: of its training labels.
        label_mean: of the labels to be predicted.
        label_sd: of these.
        by_llm: whether any training label is an LLM's.
    """

    name: str
    wasserstein: float
    ks: float
    before: float
    mean: float
    label_mean: float
    label_sd: float
    by_llm: bool = True

    @property
    def relative(self) -> float:
        """The distance in SDs of the labels to be predicted."""
        return self.wasserstein / self.label_sd

    @property
    def far(self) -> bool:
        """Whether it is far, or correction has made it much farther than it was."""
        return self.relative >= APART or (self.wasserstein - self.before) / self.label_sd >= MOVED


def labels_apart(found: Sequence[LabelDistance], split: str, of: int) -> Finding | None:
    """Report models whose training labels are distributed unlike those of `split`; see `ccc_below_pcc`."""
    usable = [one for one in found if one.label_sd > 0]
    if not usable:
        return None
    far = [one for one in usable if one.far]
    worst = max(far or usable, key=lambda one: one.relative)
    return told(
        "label distributions", "warning" if far else "good", "distributions", worst=worst, far=len(far),
        looked=len(usable), of=of, split=SPLIT_NAMES[split],
    )  # fmt: skip


def _magnitudes(one: Configured, parts: Sequence[pd.DataFrame]) -> Magnitudes:
    def over_runs(column: str, what: str) -> float:
        return float(np.mean([getattr(part[column], what)() for part in parts]))

    scores = [measured(part["prediction"], part["crowd_label"]) for part in parts]
    pcc, ccc = (float(np.mean([score[name] for score in scores])) for name in ("pcc", "ccc"))
    return Magnitudes(
        one.name, pcc, ccc, over_runs("prediction", "mean"), over_runs("prediction", "std"),
        over_runs("crowd_label", "mean"), over_runs("crowd_label", "std"), one.exact, one.by_llm,
    )  # fmt: skip


def _flatness(one: Configured, parts: Sequence[pd.DataFrame]) -> Iterator[Flatness]:
    for part in parts:
        for _, rows in part.groupby("split"):
            if len(rows) > 1 and rows["crowd_label"].std() > 0:
                yield Flatness(one.name, float(rows["prediction"].std() / rows["crowd_label"].std()), one.exact)


def _by_group(runs: Runs, one: Configured, split: str) -> Iterator[GroupScore]:
    """Yield CCC by demographic group; where runs predicted different texts, as folds do, of their mean predictions."""
    scored = prediction_pairs(runs, one.jobs, one.name, split)
    if scored is None:
        return
    for attribute, groups in people_groups(scored.people):
        for name, rows in groups.items():
            if len(rows) < LEAST_IN_GROUP:
                continue
            labels, here = scored.reference[rows], scored.scores[:, rows]
            ccc, high = float(np.mean([measured(run, labels)["ccc"] for run in here])), np.nan
            if ccc < 0:  # only then is the interval needed
                high = interval_of(resampled(labels, here, scored.authors[rows])["ccc"], "ccc").high
            yield GroupScore(one.name, f"{attribute} {name}", len(rows), ccc, high)


def _label_distances(runs: Runs, summary: Summary, configurations: Sequence[Configured]) -> Iterator[LabelDistance]:
    """Yield each configuration's distance, a mean over its runs: folds have labels of their own."""
    apart = records(alignment(runs, summary, summary.split))
    for one, distances in zip(configurations, apart, strict=True):
        means = [after(runs.labels(job)).mean() for job in one.jobs]
        labels = np.concatenate([labels_of(runs.predictions(job), summary.split) for job in one.jobs])
        if len(labels):
            spread = float(labels.mean()), float(labels.std())
            far = distances["after_wasserstein"], distances["after_ks"], distances["before_wasserstein"]
            yield LabelDistance(one.name, *far, float(np.mean(means)), *spread, one.by_llm)
