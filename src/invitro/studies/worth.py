"""What an LLM's labels are worth: learning curves over the number of human ratings, with and without the labels.

Folds are grouped by author, and every rated text is tested once. Human ratings of a fold's training texts are drawn by
author, and draws are nested: larger ones contain the smaller. Layers, noise and all other parameters are chosen on the
ratings drawn.

The exchange rate is how many human ratings a model needs without an LLM to be as good as with its labels alone.
Intervals are over authors and draws of ratings: each resample draws, with replacement, the authors of the tested texts
and, at every size, the draws of ratings.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from annotated_types import Ge
from scipy.optimize import isotonic_regression

from invitro.data import Corpus
from invitro.data.splits import author_folds
from invitro.errors import InputError
from invitro.labels import LabelSet
from invitro.models.closed_form import counted
from invitro.models.exact import NOISES, LeftOut, Observed
from invitro.models.features import FeatureCache, LayerKernel, first_layers
from invitro.raters.llm_first import LLMFirst
from invitro.scales import Scale
from invitro.settings import Count, NotNegative, Seed, checked
from invitro.stats import Floats, Ints
from invitro.stats.intervals import Interval, contrast, interval_of
from invitro.stats.moments import METRICS, RESAMPLES, Scores, resampled
from invitro.writing.words import Progress

LLM_NOISES = (0.1, 0.2, 0.3, 0.5, *NOISES)
"""Variances of the LLM's noise to choose from: its labels are less noisy than a single person's."""
LEAST_RATED = 100
"""The fewest rated texts for which curves are drawn."""


@checked("worth")
@dataclass(frozen=True)
class WorthSettings:
    """How learning curves are made.

    Args:
        first: the smallest number of human ratings; it is doubled up to all of them.
        draws: how often ratings are drawn.
        folds: of the cross-validation.
        seed: of draws and folds.
        rating_price: of one human rating, in `currency`; None leaves costs out.
        label_price: of one LLM label.
        currency: the symbol of all prices.

    Raises:
        InputError: naming every setting that is wrong.
    """

    first: Annotated[int, Ge(20)] = 50
    draws: Count = 3
    folds: Annotated[int, Ge(2)] = 10
    seed: Seed = 0
    rating_price: NotNegative | None = None
    label_price: NotNegative | None = None
    currency: str = "$"


@dataclass(frozen=True)
class WorthData:
    """The texts and labels that curves are made from.

    Args:
        corpus: the texts.
        labels: the LLM's label set.
        scale: of all labels.
        table: ``text``, ``group_id``, ``crowd_label`` and ``llm_label``, one row per text that has one of the two.
        llm: the LLM's name.
        plm: the encoder's name.
    """

    corpus: Corpus
    labels: LabelSet
    scale: Scale
    table: pd.DataFrame
    llm: str
    plm: str


class Curves(NamedTuple):
    """Held-out predictions of the rated texts.

    Args:
        labels: human ratings, (texts,).
        authors: (texts,).
        folds: the fold that each text was tested in, (texts,).
        sizes: the numbers of human ratings, ascending; the last is all of them, on average over folds.
        alone: by size, (draws, texts); with all ratings there is one draw.
        helped: the same with the LLM's labels too; sizes include 0.
        llm_labels: LLM labels used per fold, on average.
    """

    labels: Floats
    authors: npt.NDArray[Any]
    folds: Ints
    sizes: tuple[int, ...]
    alone: dict[int, Floats]
    helped: dict[int, Floats]
    llm_labels: int


def curves(table: pd.DataFrame, cache: FeatureCache, settings: WorthSettings) -> Curves:
    """Make learning curves.

    Args:
        table: see `WorthData`.
        cache: for the features of its texts.
        settings: see `WorthSettings`.

    Raises:
        InputError: there are too few ratings or LLM labels, or they do not vary.
    """
    rated, labelled = (table[name].notna() for name in ("crowd_label", "llm_label"))
    if min(rated.sum(), labelled.sum()) < max(LEAST_RATED, 2 * settings.first):
        raise InputError(
            f"worth: expected at least {max(LEAST_RATED, 2 * settings.first)} texts with a crowd label and as many "
            f"with an LLM label, found {rated.sum()} and {labelled.sum()}"
        )
    for column in ("crowd_label", "llm_label"):
        if not table[column].std() > 0:
            raise InputError(f"worth: expected {column}s that differ, found {table[column].mean():g} everywhere")
    features = cache.features(table["text"].tolist()).features
    parts = list(author_folds(table["group_id"].to_numpy(), "study=worth", settings.folds, settings.seed))
    crowd = table["crowd_label"].to_numpy(dtype=np.float64)
    trained = [int((~np.isnan(crowd[train])).sum()) for train, _ in parts]
    sizes = list(doubled(settings.first, min(trained)))
    everything = round(float(np.mean(trained)))
    names = (*sizes, everything)
    alone, helped = ({n: np.full((settings.draws, len(table)), np.nan) for n in (0, *names)} for _ in range(2))
    fold_of = np.zeros(len(table), dtype=np.intp)
    with Progress(len(parts), "fold") as progress:
        for number, (train, test) in enumerate(parts):
            test = test[~np.isnan(crowd[test])]
            fold_of[test] = number
            fold = _Fold(table.iloc[train], features[train], table["text"].iloc[test].tolist(), features[test])
            helped[0][:, test] = fold.llm.predict(fold.near_llm)
            for draw in range(settings.draws):
                order = ranked(table["group_id"].to_numpy(), train, crowd, [settings.seed, draw])
                for n, name in zip((*sizes, None), names, strict=True):
                    if n is None and draw:
                        continue
                    rows = first_authors(order, table["group_id"].to_numpy()[train], n)
                    alone[name][draw, test], helped[name][draw, test] = fold.predicted(rows)
            progress.add(1)
    kept = rated.to_numpy()
    for by_size in (alone, helped):
        for n in (0, everything):
            by_size[n] = by_size[n][:1]
    del alone[0]
    return Curves(
        labels=crowd[kept],
        authors=table["group_id"].to_numpy()[kept],
        folds=fold_of[kept],
        sizes=names,
        alone={n: predictions[:, kept] for n, predictions in alone.items()},
        helped={n: predictions[:, kept] for n, predictions in helped.items()},
        llm_labels=round(float(np.mean([labelled.iloc[train].sum() for train, _ in parts]))),
    )


def doubled(first: int, below: int) -> Iterator[int]:
    """Yield `first`, twice that, and so on, while the numbers are clearly smaller than `below`.

    Example:
        >>> list(doubled(50, 500))
        [50, 100, 200, 400]
    """
    while first * 1.2 < below:
        yield first
        first *= 2


def ranked(authors: npt.NDArray[Any], train: Ints, crowd: Floats, seed: list[int]) -> Ints:
    """Return the rated training texts, as positions in `train`, in the order in which they are drawn.

    Authors are drawn from the whole corpus, and test authors are then left out, so folds train on mostly the same
    ratings. The draw depends on the authors' names and the seed, not on the order of the rows.
    """
    names, code = np.unique(authors, return_inverse=True)
    rank = np.random.default_rng(seed).permutation(len(names))[code][train]
    order = np.argsort(rank, kind="stable")
    return np.asarray(order[~np.isnan(crowd[train][order])])


def first_authors(order: Ints, authors: npt.NDArray[Any], n: int | None) -> Ints:
    """Return the first texts of `order`: whole authors, until there are `n` texts or more; None returns all."""
    if n is None or n >= len(order):
        return order
    last = n
    while last < len(order) and authors[order[last]] == authors[order[last - 1]]:
        last += 1
    return order[:last]


class _Fold:
    """A fold: similarities between its training texts, and to its test texts, and a model of the LLM's labels."""

    def __init__(self, train: pd.DataFrame, features: Any, test_texts: list[str], test_features: Any) -> None:
        self.ratings, llm_label = (train[name].to_numpy(dtype=np.float64) for name in ("crowd_label", "llm_label"))
        self.authors = train["group_id"].to_numpy()
        counter, words = counted(train["text"].tolist())
        test_words = None if counter is None else counter.transform(test_texts)
        self.grams: list[Floats] = []
        self.nears: list[Floats] = []
        for kernel, gram in LayerKernel.nested(features, words, first_layers(features.shape[1])):
            self.grams.append(gram)
            self.nears.append(kernel.to_training(test_features, test_words)[0])
        labelled = np.flatnonzero(~np.isnan(llm_label))
        seen = Observed(llm_label[labelled], np.ones(len(labelled)), self.authors[labelled])
        which, noise = _chosen([gram[np.ix_(labelled, labelled)] for gram in self.grams], seen, LLM_NOISES)
        self.llm, self.near_llm = LLMFirst.fitted(self.grams[which], llm_label, noise), self.nears[which]

    def predicted(self, rows: Ints) -> tuple[Floats, Floats]:
        """Score the test texts from the ratings of `rows`: alone, and with the LLM's labels."""
        seen = Observed(self.ratings[rows], np.ones(len(rows)), self.authors[rows])
        parts = [gram[np.ix_(rows, rows)] for gram in self.grams]
        which, noise = _chosen(parts, seen, NOISES)
        matrix = parts[which] + noise * np.eye(len(rows))
        alone = seen.mean + self.nears[which][:, rows] @ np.linalg.solve(matrix, seen.labels - seen.mean)
        return alone, self.llm.then_people(rows, seen.labels, self.near_llm)


def _chosen(grams: list[Floats], seen: Observed, noises: tuple[float, ...]) -> tuple[int, float]:
    """Return the number of the kernel and the noise that predict left-out authors best."""
    labels, weights, authors = seen
    errors = {
        (which, noise): float(np.square(labels - LeftOut(gram, weights, authors, noise).predict(labels)).sum())
        for which, gram in enumerate(grams)
        for noise in noises
    }
    return min(errors, key=errors.__getitem__)


ALONE, HELPED = "human ratings alone", "with the LLM's labels"


@dataclass(frozen=True)
class Exchange:
    """What the labels are worth.

    Args:
        curve: one row per curve and size: ``labels`` (`ALONE` or `HELPED`), ``ratings``, and ``pcc``, ``ccc`` and
            ``rmse`` with their ``_low`` and ``_high``.
        worth: human ratings; 0 means fewer than the smallest number that was tried, infinity more than all.
        added: PCC with all ratings and the labels, minus that with all ratings alone.
        first: the smallest number of ratings that was tried.
        everything: all ratings that a fold trains on, on average.
        llm_labels: LLM labels that a fold trains on, on average.
        texts: how many were tested.
        authors: how many wrote them.
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
        """The cost of as many human ratings; None without a price or a number."""
        price = self.settings.rating_price
        return price * self.worth.value if price is not None and 0 < self.worth.value < np.inf else None

    @property
    def label_cost(self) -> float | None:
        """The cost of the LLM's labels; None without a price."""
        price = self.settings.label_price
        return None if price is None else price * self.llm_labels


def exchange(predicted: Curves, settings: WorthSettings, resamples: int = RESAMPLES) -> Exchange:
    """Measure the curves, and find where they cross.

    Each fold's predictions come from a separate model, whose level depends on the ratings drawn; PCC is therefore
    within folds: ratings and predictions are taken relative to their fold's mean. CCC and RMSE use the scores as they
    are.
    """
    labels, pcc, rows = centred(predicted.labels[None], predicted)[0], {}, []
    for name, by_size in ((ALONE, predicted.alone), (HELPED, predicted.helped)):
        for size, predictions in by_size.items():
            scores = resampled(predicted.labels, predictions, predicted.authors, resamples, settings.seed)
            within = resampled(labels, centred(predictions, predicted), predicted.authors, resamples, settings.seed)
            pcc[name, size] = scores["pcc"] = within["pcc"]
            row: dict[str, object] = {"labels": name, "ratings": size}
            for metric in METRICS:
                interval = interval_of(scores[metric], metric)
                row |= {metric: interval.value, f"{metric}_low": interval.low, f"{metric}_high": interval.high}
            rows.append(row)
    everything = predicted.sizes[-1]
    added = pcc[HELPED, everything] - pcc[ALONE, everything]
    alone = [pcc[ALONE, size] for size in predicted.sizes]
    return Exchange(
        curve=pd.DataFrame(rows),
        worth=_worth(np.array(predicted.sizes), alone, pcc[HELPED, 0], settings.seed),
        added=contrast(added).interval(),
        first=predicted.sizes[0],
        everything=everything,
        llm_labels=predicted.llm_labels,
        texts=len(predicted.labels),
        authors=len(np.unique(predicted.authors)),
        settings=settings,
    )


def centred(values: Floats, predicted: Curves) -> Floats:
    """Return values, (draws, texts), relative to the mean of each fold."""
    counts = np.bincount(predicted.folds)
    means = np.stack([np.bincount(predicted.folds, weights=row) / np.maximum(counts, 1) for row in values])
    return np.asarray(values - means[:, predicted.folds])


def _worth(sizes: Ints, alone: list[Scores], llm: Scores, seed: int) -> Interval:
    value = ratings_for(sizes, np.array([scores.values.mean() for scores in alone]), float(llm.values[0]))
    rng, ends = np.random.default_rng(seed), []
    for draw, target in enumerate(llm.draws[:, 0]):
        curve = np.array([at.draws[draw, rng.integers(at.seeds, size=at.seeds)].mean() for at in alone])
        ends.append(ratings_for(sizes, curve, float(target)))
    # Inverted: an order statistic, since nothing can be interpolated between a number and infinity
    low, high = np.quantile(ends, (0.025, 0.975), method="inverted_cdf")
    return Interval(value, float(low), float(high))


def ratings_for(sizes: Ints, curve: Floats, target: float) -> float:
    """Return where a learning curve reaches `target`: 0 before its first point, infinity beyond its last.

    The curve is made monotone by isotonic regression; between its points it is linear in the logarithm of the size.

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
