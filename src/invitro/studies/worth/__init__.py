"""The exchange rate: how many human ratings a model needs without an LLM to be as good as with its labels alone.

Intervals are over authors and draws of ratings: each resample draws authors of the tested texts and, of the draws of
ratings at every size, as many as there are.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.optimize import isotonic_regression

from invitro.arrays import Floats
from invitro.stats.bootstrap import RESAMPLES, Scores, resampled
from invitro.stats.intervals import Interval, contrast, interval_of
from invitro.stats.moments import METRICS
from invitro.studies.worth.curves import Curves, WorthSettings

ALONE, HELPED = "human ratings alone", "with the LLM's labels"
TAILS = (0.025, 0.975)


@dataclass(frozen=True)
class Exchange:
    """What the labels are worth.

    Args:
        curve: one row per curve and size: ``labels`` (`ALONE` or `HELPED`), ``ratings``, and ``pcc``, ``ccc`` and
            ``rmse`` with their ``_low`` and ``_high``.
        worth: human ratings; 0 stands for fewer than the smallest number that was tried, infinity for more than all.
        added: PCC with all ratings and the labels, minus that with all ratings alone.
        first: the smallest number of ratings that was tried.
        everything: all ratings that a fold trains on, on average.
        llm_labels: LLM labels that a fold trains on, on average.
        texts: that were tested.
        authors: who wrote them.
        settings: how the curves were made.
    """

    curve: pd.DataFrame
    worth: Interval
    added: Interval
    first: int
    everything: int
    llm_labels: int
    texts: int
    authors: int
    settings: WorthSettings

    @property
    def cost(self) -> float | None:
        """What as many human ratings would cost; None without a price or a number."""
        price = self.settings.rating_price
        return price * self.worth.value if price is not None and 0 < self.worth.value < np.inf else None

    @property
    def label_cost(self) -> float | None:
        """What the LLM's labels cost."""
        price = self.settings.label_price
        return None if price is None else price * self.llm_labels


def exchange(found: Curves, settings: WorthSettings, resamples: int = RESAMPLES) -> Exchange:
    """Measure the curves, and say where they cross.

    Each fold's predictions come from a model of its own, whose level depends on the ratings that were drawn; PCC is
    therefore within folds: both sides are taken relative to their fold's mean. CCC and RMSE are of scores as they come.
    """
    measured: dict[tuple[str, int], dict[str, Scores]] = {}
    for name, by_size in ((ALONE, found.alone), (HELPED, found.helped)):
        for size, predictions in by_size.items():
            scores = resampled(found.labels, predictions, found.authors, resamples, settings.seed)
            within = resampled(
                centred(found.labels[None], found)[0],
                centred(predictions, found),
                found.authors,
                resamples,
                settings.seed,
            )
            measured[name, size] = scores | {"pcc": within["pcc"]}
    rows = []
    for (name, size), scores in measured.items():
        row: dict[str, object] = {"labels": name, "ratings": size}
        for metric in METRICS:
            interval = interval_of(scores[metric], metric)
            row |= {metric: interval.value, f"{metric}_low": interval.low, f"{metric}_high": interval.high}
        rows.append(row)
    everything = found.sizes[-1]
    alone = [measured[ALONE, size]["pcc"] for size in found.sizes]
    added = measured[HELPED, everything]["pcc"] - measured[ALONE, everything]["pcc"]
    return Exchange(
        curve=pd.DataFrame(rows),
        worth=_worth(np.array(found.sizes), alone, measured[HELPED, 0]["pcc"], settings.seed),
        added=contrast(added).interval(),
        first=found.sizes[0],
        everything=everything,
        llm_labels=found.llm_labels,
        texts=len(found.labels),
        authors=len(np.unique(found.authors)),
        settings=settings,
    )


def centred(values: Floats, found: Curves) -> Floats:
    """Return values, (draws, texts), relative to the mean of each fold."""
    counts = np.bincount(found.folds)
    means = np.stack([np.bincount(found.folds, weights=row) / np.maximum(counts, 1) for row in values])
    return np.asarray(values - means[:, found.folds])


def _worth(sizes: "np.ndarray[tuple[int], np.dtype[np.int_]]", alone: list[Scores], llm: Scores, seed: int) -> Interval:
    value = ratings_for(sizes, np.array([one.values.mean() for one in alone]), float(llm.values[0]))
    rng, ends = np.random.default_rng(seed), []
    for draw, target in enumerate(llm.draws[:, 0]):
        curve = np.array([one.draws[draw, rng.integers(one.seeds, size=one.seeds)].mean() for one in alone])
        ends.append(ratings_for(sizes, curve, float(target)))
    # Inverted: an order statistic, since there is nothing between a number and infinity
    low, high = np.quantile(ends, TAILS, method="inverted_cdf")
    return Interval(value, float(low), float(high))


def ratings_for(sizes: "np.ndarray[tuple[int], np.dtype[np.int_]]", curve: Floats, target: float) -> float:
    """Return where a learning curve reaches `target`: 0 before its first point, infinity beyond its last.

    The curve is made monotone by isotonic regression, and is linear in the logarithm of the size between its points.

    Example:
        >>> sizes = np.array([50, 100, 200])
        >>> [round(ratings_for(sizes, np.array([0.1, 0.3, 0.4]), target), 1) for target in (0.05, 0.3, 0.35, 0.5)]
        [0.0, 100.0, 141.4, inf]
    """
    rising = np.asarray(isotonic_regression(curve).x)
    if target < rising[0]:
        return 0.0
    if target > rising[-1]:
        return float("inf")
    at = int(np.searchsorted(rising, target))
    if at == 0:
        return float(sizes[0])
    share = (target - rising[at - 1]) / (rising[at] - rising[at - 1])
    return float(np.exp(np.log(sizes[at - 1]) + share * (np.log(sizes[at]) - np.log(sizes[at - 1]))))
