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
"""Magnitudes are off if CCC / PCC, Lin's bias correction factor, is below this."""
LEAST_PCC = 0.1
"""CCC is not compared with a PCC below this: both are close to 0."""
ALMOST_CONSTANT = 0.05
"""Predictions whose SD is below this share of the labels' SD are nearly constant."""
APART = 0.3
"""Two sets of labels are far apart from this Wasserstein distance, in SDs of the labels to be predicted."""
MOVED = 0.15
"""They are also far apart if correction increased the distance by this much, in the same unit."""


def prediction_checks(runs: Runs, summary: Summary, configurations: Sequence[Configured]) -> Iterator[Finding | None]:
    """Yield the findings on predictions and labels: on test, or on validation if no test set has labels."""
    split, of = summary.split, len(configurations)
    magnitudes: list[Magnitudes] = []
    ratios: list[Flatness] = []
    scores: list[GroupScore] = []
    for config in configurations:
        tables = [table.loc[table["crowd_label"].notna()] for table in map(runs.predictions, config.jobs)]
        on_split = [table.loc[table["split"] == split] for table in tables]
        if all(map(len, on_split)):
            magnitudes.append(_magnitudes(config, on_split))
        ratios += _flatness(config, tables)
        scores += _by_group(runs, config, split)
    yield ccc_below_pcc(magnitudes, split, of)
    yield constant_predictions(ratios, of)
    yield negative_in_groups(scores, split, of)
    yield labels_apart([*_label_distances(runs, summary, configurations)], split, of)


@dataclass(frozen=True)
class Magnitudes:
    """A configuration's metrics, and mean and SD of predictions and labels in scale points; all are means over runs."""

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


def ccc_below_pcc(magnitudes: Sequence[Magnitudes], split: str, of: int) -> Finding | None:
    """Report configurations whose CCC is far below PCC: predictions follow the labels, but are biased or too narrow.

    Lin's CCC is PCC times ``C = 2 / (v + 1 / v + u^2)``, where v is the ratio of the SDs, and u the difference of the
    means divided by the square root of the SDs' product. Least squares alone makes v about equal to PCC: it regresses
    to the mean.

    Args:
        magnitudes: of the configurations with predictions on `split`.
        split: ``test`` or ``val``.
        of: the number of all configurations.
    """
    usable = [model for model in magnitudes if model.pcc > LEAST_PCC and model.sd > 0 and model.label_sd > 0]
    if not usable:
        return None
    worst = min(usable, key=lambda model: model.accuracy)
    off = [model for model in usable if model.accuracy < ACCURACY]
    return told(
        "CCC and PCC", "warning" if off else "good", "magnitudes", worst=worst, off=len(off), looked=len(usable),
        of=of, split=SPLIT_NAMES[split], least=LEAST_PCC, ratio=worst.sd / worst.label_sd,
        biased=(worst.mean - worst.label_mean) ** 2 / (worst.sd * worst.label_sd) > 0.1,
    )  # fmt: skip


class Flatness(NamedTuple):
    """The SD of one run's predictions divided by the SD of the labels, on one split, with the configuration's name."""

    name: str
    ratio: float
    exact: bool = False


def constant_predictions(ratios: Sequence[Flatness], of: int) -> Finding | None:
    """Report runs that predict nearly the same number for every text; `of` is the number of all configurations."""
    if not ratios:
        return None
    narrowest = min(ratios, key=lambda run: run.ratio)
    flat = list(dict.fromkeys(run.name for run in ratios if run.ratio < ALMOST_CONSTANT))
    return told(
        "constant predictions", "warning" if flat else "good", "constant", flat=flat, ratio=narrowest.ratio,
        looked=len({run.name for run in ratios}), of=of, exact=all(run.exact for run in ratios if run.name in flat),
    )  # fmt: skip


class GroupScore(NamedTuple):
    """CCC in one group of people, mean over a configuration's runs, with the upper limit of its 95 % interval."""

    name: str
    group: str
    texts: int
    ccc: float
    high: float


def negative_in_groups(scores: Sequence[GroupScore], split: str, of: int) -> Finding | None:
    """Report groups in which CCC with the labels of `split` is negative; `of` is the number of all configurations."""
    if not scores:
        return None
    negative = sorted((score for score in scores if score.ccc < 0), key=lambda score: score.ccc)
    sure = [score for score in negative if score.high < 0]
    return told(
        "groups", "warning" if sure else "note" if negative else "good", "groups", negative=negative, sure=bool(sure),
        lowest=min(scores, key=lambda score: score.ccc), least=LEAST_IN_GROUP,
        looked=len({score.name for score in scores}), of=of, split=SPLIT_NAMES[split],
    )  # fmt: skip


class LabelDistance(NamedTuple):
    """The distance between a configuration's training labels and the crowd labels to be predicted, in scale points.

    Args:
        name: the configuration's name.
        wasserstein: the Wasserstein-1 distance.
        ks: the Kolmogorov-Smirnov distance D, without a unit.
        before: the Wasserstein-1 distance of its crowd labels, before correction.
        mean: mean of its training labels.
        label_mean: mean of the labels to be predicted.
        label_sd: SD of the labels to be predicted.
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
        """The Wasserstein-1 distance in SDs of the labels to be predicted."""
        return self.wasserstein / self.label_sd

    @property
    def far(self) -> bool:
        """Whether the distance is large, or correction has made it much larger."""
        return self.relative >= APART or (self.wasserstein - self.before) / self.label_sd >= MOVED


def labels_apart(distances: Sequence[LabelDistance], split: str, of: int) -> Finding | None:
    """Report training labels that are distributed unlike those of `split`; `of` is the number of all configurations."""
    usable = [distance for distance in distances if distance.label_sd > 0]
    if not usable:
        return None
    far = [distance for distance in usable if distance.far]
    worst = max(far or usable, key=lambda distance: distance.relative)
    return told(
        "label distributions", "warning" if far else "good", "distributions", worst=worst, far=len(far),
        looked=len(usable), of=of, split=SPLIT_NAMES[split],
    )  # fmt: skip


def _magnitudes(config: Configured, tables: Sequence[pd.DataFrame]) -> Magnitudes:
    def over_runs(column: str, statistic: str) -> float:
        return float(np.mean([getattr(table[column], statistic)() for table in tables]))

    scores = [measured(table["prediction"], table["crowd_label"]) for table in tables]
    pcc, ccc = (float(np.mean([score[name] for score in scores])) for name in ("pcc", "ccc"))
    return Magnitudes(
        config.name, pcc, ccc, over_runs("prediction", "mean"), over_runs("prediction", "std"),
        over_runs("crowd_label", "mean"), over_runs("crowd_label", "std"), config.exact, config.by_llm,
    )  # fmt: skip


def _flatness(config: Configured, tables: Sequence[pd.DataFrame]) -> Iterator[Flatness]:
    for table in tables:
        for _, rows in table.groupby("split"):
            if len(rows) > 1 and rows["crowd_label"].std() > 0:
                yield Flatness(config.name, float(rows["prediction"].std() / rows["crowd_label"].std()), config.exact)


def _by_group(runs: Runs, config: Configured, split: str) -> Iterator[GroupScore]:
    """Yield CCC by demographic group; if runs predicted different texts, as folds do, CCC of the mean predictions."""
    scored = prediction_pairs(runs, config.jobs, config.name, split)
    if scored is None:
        return
    for attribute, groups in people_groups(scored.people):
        for name, rows in groups.items():
            if len(rows) < LEAST_IN_GROUP:
                continue
            labels, predictions = scored.reference[rows], scored.scores[:, rows]
            ccc, high = float(np.mean([measured(run, labels)["ccc"] for run in predictions])), np.nan
            if ccc < 0:  # only then is the interval needed
                high = interval_of(resampled(labels, predictions, scored.authors[rows])["ccc"], "ccc").high
            yield GroupScore(config.name, f"{attribute} {name}", len(rows), ccc, high)


def _label_distances(runs: Runs, summary: Summary, configurations: Sequence[Configured]) -> Iterator[LabelDistance]:
    """Yield each configuration's distance, a mean over its runs, since each fold has its own labels."""
    rows = records(alignment(runs, summary, summary.split))
    for config, row in zip(configurations, rows, strict=True):
        means = [after(runs.labels(job)).mean() for job in config.jobs]
        labels = np.concatenate([labels_of(runs.predictions(job), summary.split) for job in config.jobs])
        if len(labels):
            distances = row["after_wasserstein"], row["after_ks"], row["before_wasserstein"]
            moments = float(labels.mean()), float(labels.std())
            yield LabelDistance(config.name, *distances, float(np.mean(means)), *moments, config.by_llm)
