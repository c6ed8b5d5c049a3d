"""The inputs of the functions of `invitro.api`, with their checks, and their results."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from invitro.data.corpus import is_blank
from invitro.errors import InputError, refuse_if_any, shown
from invitro.scales import Scale
from invitro.settings import Count, refusal
from invitro.stats import Bools, Floats
from invitro.stats.agreement import Agreement
from invitro.stats.crowd import Ratings, Reliability
from invitro.stats.intervals import Estimate, Interval
from invitro.tables import text_of

if TYPE_CHECKING:
    from invitro.models.scoring import Scorer

TextInput: TypeAlias = "Sequence[str] | npt.NDArray[Any] | pd.Series[str]"
FIGURES = ("krippendorff", "pcc", "ccc", "rmse", "bias")


class Augmented(NamedTuple):
    """Labels of shape (n,) after augmentation, and which of them the LLM added."""

    label: Floats
    added: Bools


@dataclass(frozen=True, repr=False)
class RaterAgreement:
    """How far raters agree.

    Attributes
    ----------
    krippendorff
        Krippendorff's alpha (interval level) of all raters together, with its 95 % interval.
    pairs
        Every pair of raters: ``krippendorff``, ``pcc``, ``ccc``, ``rmse`` and ``bias``, each with its 95 % interval;
        empty for more than 30 raters.
    crowd
        All raters as one crowd: ``krippendorff`` again, ``icc1`` (the reliability of one rating), ``icck`` (of the mean
        of ``typical`` ratings) and ``bias`` (the SD of the raters' biases); an undefined value has a ``reason``.
    raters
        One row per rater: how many ``ratings``, ``mean``, ``bias`` and ``noise`` (scale's units), ``with_rest`` (the
        correlation with the mean of the others), and ``careless``: the signs of carelessness, if there are any.
    """

    krippendorff: Estimate
    pairs: tuple[Agreement, ...]
    crowd: Reliability
    raters: pd.DataFrame

    @property
    def table(self) -> pd.DataFrame:
        """One row per pair: ``a``, ``b``, ``n``, and each figure with its ``_low`` and ``_high``."""
        rows: list[dict[str, Any]] = []
        for pair in self.pairs:
            rows.append({"a": pair.a, "b": pair.b, "n": pair.n})
            for name in FIGURES:
                figure: Estimate = getattr(pair, name)
                rows[-1] |= {name: figure.value, f"{name}_low": figure.low, f"{name}_high": figure.high}
        return pd.DataFrame(rows)

    def __repr__(self) -> str:
        """Return the figures as a table."""
        rows = [
            {"raters": f"{pair.a}, {pair.b}", "n": pair.n} | {name: str(getattr(pair, name)) for name in FIGURES}
            for pair in self.pairs
        ]
        if len(self.pairs) != 1:
            rows.append({"raters": "all", "n": self.krippendorff.n, "krippendorff": str(self.krippendorff)})
        crowd = self.crowd
        k = "several" if crowd.typical is None else f"{crowd.typical:.1f}"
        careless = list(self.raters.index[self.raters["careless"] != ""])
        return "\n".join(
            [
                pd.DataFrame(rows).to_string(index=False, na_rep=""),
                f"ICC(1), one rating: {crowd.icc1}",
                f"ICC(k), the mean of {k} ratings: {crowd.icck}",
                f"SD of the raters' biases: {crowd.bias}",
                *([f"Careless: {', '.join(map(str, careless))}"] if careless else []),
            ]
        )


@dataclass(frozen=True, repr=False)
class TrainedRun:
    """The result of a training run.

    Attributes
    ----------
    metrics
        The content of ``metrics.json``: ``val`` and ``test`` with ``pcc``, ``ccc`` and ``rmse`` (the scale's units),
        ``train`` with counts and seconds.
    predictions
        One row per validation and test text: ``text_id``, ``split``, ``crowd_label``, ``prediction`` in the scale's
        units, and what is known about the author.
    record
        The run's directory; README.md lists its files.
    model
        The folder of the trained model, for `load`; None with ``save_model=false``.
    """

    metrics: Mapping[str, Any]
    predictions: pd.DataFrame
    record: Path
    model: Path | None

    def __repr__(self) -> str:
        """Return PCC, CCC and RMSE as a table, and where the record is."""
        from invitro.training.results import summary

        return f"{summary(self.metrics)}\nRecord: {self.record}"


@dataclass(frozen=True, repr=False)
class DescribedTexts:
    """What a corpus is like.

    Attributes
    ----------
    facts
        What is known about it, in words, by name.
    doubts
        What to look at, in a sentence or two each.
    page
        The page with plots; None if none was requested.
    """

    facts: Mapping[str, str]
    doubts: tuple[str, ...]
    page: Path | None

    def __repr__(self) -> str:
        """Return facts and doubts, one per line."""
        return "\n".join([*(f"{name}: {value}" for name, value in self.facts.items()), *self.doubts])


@dataclass(frozen=True, repr=False)
class LabelWorth:
    """What an LLM's labels are worth.

    Attributes
    ----------
    sentence
        The answer, with censored cases in words.
    ratings
        The number of human ratings that makes a model as good as the labels alone do, with its 95 % interval; 0 means
        fewer than the smallest number tried, infinity more than all.
    added
        What the labels add to PCC when all ratings are available, with its 95 % interval.
    curve
        One row per curve and size: ``labels`` (what the model was trained on), ``ratings``, and PCC, CCC and RMSE, each
        with its ``_low`` and ``_high``.
    """

    sentence: str
    ratings: Interval
    added: Interval
    curve: pd.DataFrame

    def __repr__(self) -> str:
        """Return the answer, and the curves as a table."""
        shown = self.curve[["labels", "ratings", "pcc", "ccc", "rmse"]]
        return f"{self.sentence}\n{shown.round(3).to_string(index=False)}"


@dataclass(frozen=True)
class Model:
    """A trained model.

    Attributes
    ----------
    folder
        The folder it was loaded from.
    scale
        The scale of its scores.
    """

    folder: Path
    scale: Scale = field(repr=False)
    scorer: "Scorer" = field(repr=False)

    def predict(self, texts: TextInput, *, clip: bool = False, batch_size: int = 32) -> pd.DataFrame:
        """Score texts.

        Parameters
        ----------
        texts
            Shape (n,); texts that are too long for the model are cut.
        clip
            Move scores outside the scale to its bounds.
        batch_size
            Texts per forward pass.

        Returns
        -------
        pandas.DataFrame
            Indexed like `texts`, in their order: ``score`` in the scale's units, and, if the model predicts it,
            ``uncertainty``, the standard deviation that labels of such a text would have.

        Raises
        ------
        InputError
            A text is blank or not a string, or `batch_size` is not a whole number of at least 1.

        Warns
        -----
        UserWarning
            Texts were cut, contain hardly any words that the model knows, are in a different script from its training
            texts, or are among these.
        """
        given = texts_in(texts)
        refuse_if_any(filter(None, [refusal("batch_size", batch_size, Count)]))
        from invitro.models.scoring import remarks

        (score, sd), *masks = self.scorer.read(given.tolist(), batch_size)
        for line in remarks([(np.flatnonzero(mask) + 1).tolist() for mask in masks], "number"):
            warnings.warn(line, stacklevel=2)
        scores = self.scale.clip(score) if clip else score
        return pd.DataFrame({"score": scores} | ({} if sd is None else {"uncertainty": sd}), index=given.index)


@dataclass(frozen=True)
class StudyResult:
    """The result of a study.

    Attributes
    ----------
    directory
        The folder with its runs.
    report
        The report, one self-contained HTML file.
    results
        One row per configuration: the factors, how many seeds have a result, and mean, standard deviation and 95 %
        interval of PCC, CCC and RMSE on validation and test.
    differences
        Each configuration against the baseline, with 95 % intervals and corrected p values.
    failed
        Jobs that failed; the report names them.
    """

    directory: Path
    report: Path
    results: pd.DataFrame = field(repr=False)
    differences: pd.DataFrame = field(repr=False)
    failed: int


def _faults(value: object, position: int) -> Iterator[str]:
    """Yield what is wrong with a text to be scored."""
    if not isinstance(value, str):
        yield f"texts: expected a text at position {position}, found {type(value).__name__}"
    elif is_blank(value):
        yield f"texts: expected a text that is not blank at position {position}, found {shown(value)}"
    else:
        try:
            text_of(value)
        except InputError as error:
            yield f"texts: position {position}: {error}"


def texts_in(texts: TextInput) -> "pd.Series[str]":
    """Return texts with their index; refuse anything else."""
    if isinstance(texts, str) or not isinstance(texts, Sequence | np.ndarray | pd.Series):
        raise InputError(f"texts: expected a list or a Series of texts, found {type(texts).__name__}")
    given = pd.Series(texts, dtype="object")
    if given.empty:
        raise InputError("texts: expected at least one text, found none")
    refuse_if_any(problem for position, value in enumerate(given) for problem in _faults(value, position))
    return given.astype("str")


def _floats(name: str, values: npt.ArrayLike) -> Floats:
    """Return labels of shape (n,), NaN if missing."""
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name}: expected numbers, with NaN for missing ones ({error})") from None
    if array.ndim != 1 or np.isinf(array).any():
        raise InputError(f"{name}: expected finite numbers of shape (n,), found shape {array.shape}")
    return array


def labels_in(given: Mapping[str, Any]) -> dict[str, Floats]:
    """Return labels of the same texts, by name, as arrays of one length; Series must share one index."""
    labels = {name: _floats(name, values) for name, values in given.items()}
    names = " and ".join(labels)
    if len({len(array) for array in labels.values()}) > 1:
        lengths = ", ".join(f"{len(array)} in {name}" for name, array in labels.items())
        raise InputError(f"{names}: expected one label per text in each, found {lengths}")
    indices = [values.index for values in given.values() if isinstance(values, pd.Series)]
    if not all(index.equals(indices[0]) for index in indices):
        raise InputError(f"{names}: expected Series with one index; align them, as in llm.reindex(crowd.index)")
    return labels


LONG = ("text_id", "rater_id", "score")
MOST_PAIRED = 30
"""The most raters of whom every pair is compared."""


def long_in(ratings: pd.DataFrame) -> tuple[Ratings, "pd.Index[Any]", "pd.Index[Any]"]:
    """Return ratings in the long form, columns `LONG`, with the ids of texts and raters, sorted.

    A second rating of a text by the same rater is averaged with the first, and a missing score is not a rating.
    """
    given = ratings.loc[ratings["score"].notna(), list(LONG)]
    refuse_if_any(
        f"ratings: column {name}: expected an id in every row, found none in {int(given[name].isna().sum())}"
        for name in LONG[:2]
        if given[name].isna().any()
    )
    scores = pd.Series(_floats("ratings: column score", given["score"].to_numpy()), index=given.index)
    means = scores.groupby([given["text_id"], given["rater_id"]]).mean()
    text, texts = pd.factorize(means.index.get_level_values(0), sort=True)
    rater, raters = pd.factorize(means.index.get_level_values(1), sort=True)
    score = np.asarray(means, dtype=np.float64)
    return Ratings(text, rater, score, len(texts), len(raters)), texts, raters


def ratings_in(ratings: Mapping[str, Any] | pd.DataFrame) -> pd.DataFrame:
    """Return ratings as a table with one column per rater; Series are joined by their index."""
    if not isinstance(ratings, Mapping | pd.DataFrame) or len(list(ratings)) < 2:
        raise InputError('ratings: expected at least two raters by name, as in {"crowd": [...], "llm": [...]}')
    given: dict[str, Any] = {f"ratings[{name!r}]": values for name, values in ratings.items()}
    if all(isinstance(values, pd.Series) for values in given.values()):
        columns: dict[str, Any] = {
            name: pd.Series(_floats(name, values), index=values.index) for name, values in given.items()
        }
    else:
        columns = dict(labels_in(given))
    return pd.DataFrame(columns).set_axis([str(name) for name in ratings], axis="columns")
