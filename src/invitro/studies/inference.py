"""The mean of a construct over a corpus, and its regression on a covariate, from few crowd and many LLM labels."""

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import numpy as np
import pandas as pd
from annotated_types import Ge, MinLen

from invitro.arrays import Floats
from invitro.data import Corpus, DataFolder, Reader
from invitro.errors import InputError
from invitro.labels import LabelSet, LabelSource
from invitro.scales import Scale
from invitro.settings import checked
from invitro.stats.powered import LEAST_LABELS, Coefficient, estimates, of_all, problem
from invitro.writing.words import count

log = logging.getLogger(__name__)

TEXT_LENGTH = "words"
ALL_CROWD, TRUTH = "crowd labels of all texts", "the truth, all texts"
ESTIMATE_COLUMNS = ("estimand", *Coefficient.__dataclass_fields__, "authors")


@checked("inference")
@dataclass(frozen=True)
class Inference:
    """What is estimated, and from how many crowd labels.

    Args:
        gold: crowd labels that are used, of texts drawn at random, or all if there are fewer; None uses all of them,
            for corpora in which only some texts have one. These texts then have to be a random sample.
        covariate: what the construct is regressed on: ``words``, the text's length, or a column of the corpus that
            holds numbers, such as ``age``. It is standardised: the coefficient is per standard deviation.

    Raises:
        InputError: naming every setting that is wrong.
    """

    gold: Annotated[int, Ge(LEAST_LABELS)] | None = 200
    covariate: Annotated[str, MinLen(1), f"{TEXT_LENGTH} or a column's name"] = TEXT_LENGTH

    def contradictions(self) -> list[str]:
        """Return what is not installed."""
        return [lacking] if (lacking := problem()) else []


@dataclass(frozen=True)
class InferenceData:
    """The labels that estimates are made from.

    Args:
        corpus: the texts.
        labels: the LLM's label set.
        scale: of all labels.
        table: one row per text with an LLM label: ``text_id``, ``group_id``, ``crowd_label`` (NaN where there is none),
            ``llm_label``, ``covariate`` (NaN where it is unknown) and, where it is known, ``truth``.
        covariate: its name.
        without_llm: texts that were left out because they have no LLM label.
    """

    corpus: Corpus
    labels: LabelSet
    scale: Scale
    table: pd.DataFrame
    covariate: str
    without_llm: int


def inference_data(
    reader: Reader, scale: Scale, source: LabelSource, prompt: str, folder: DataFolder, covariate: str
) -> InferenceData:
    """Read a corpus and its LLM labels, as a training does; splits do not matter.

    Raises:
        InputError: files, ids or labels cannot be used, or the covariate is not a column of numbers.
    """
    corpus = reader.read(scale)
    corpus.refuse_faults()
    labels = source.find(corpus.label_corpora, corpus.table, scale, prompt, folder)
    kept = ["text_id", "group_id", "crowd_label", *(["truth"] if corpus.has_truth else [])]
    table = corpus.table[kept].assign(
        llm_label=labels.of(corpus.table["text_id"]), covariate=_covariate(corpus, covariate)
    )
    known = table["llm_label"].notna()
    return InferenceData(corpus, labels, scale, table.loc[known].reset_index(drop=True), covariate, int((~known).sum()))


def _covariate(corpus: Corpus, name: str) -> "pd.Series[float]":
    if name == TEXT_LENGTH:
        return corpus.table["text"].map(lambda text: float(len(text.split())))
    numeric = {
        str(column): values
        for column in corpus.table
        if column not in ("text", "text_id", "group_id", "crowd_label", "llm_label", "truth")
        and (values := pd.to_numeric(corpus.table[column], errors="coerce")).notna().any()
    }
    if name not in numeric:
        raise InputError(
            f"inference.covariate={name}: expected {TEXT_LENGTH} or a column of {corpus.name} that holds numbers "
            f"({', '.join(numeric) or 'there is none'})"
        )
    return numeric[name].astype("float64")


def drawn(table: pd.DataFrame, gold: int | None, seed: int) -> "np.ndarray[Any, np.dtype[np.bool_]]":
    """Draw the texts whose crowd labels are used: `gold` of those with one, all equally likely, or all there are."""
    rated = np.flatnonzero(table["crowd_label"].notna())
    if gold is not None and gold > len(rated):
        log.warning("inference.gold=%d: used are all %s with both labels", gold, count(len(rated), "text"))
    chosen = (
        rated if gold is None or gold > len(rated) else np.random.default_rng(seed).choice(rated, gold, replace=False)
    )
    used = np.zeros(len(table), dtype=bool)
    used[chosen] = True
    return used


def infer(data: InferenceData, settings: Inference, seed: int) -> pd.DataFrame:
    """Return one estimate per row, with the columns of `powered.Coefficient`, ``estimand`` and ``authors``.

    Two checks are added to the three estimates: the estimate from all crowd labels, where there are more than were
    drawn, and the truth, where it is known. The estimand is what the crowd would say on average in the population from
    which the corpus is a sample; where the crowd is biased, that is not the truth.

    Raises:
        InputError: too few labels, or labels or a covariate that do not vary.
    """
    gold = drawn(data.table, settings.gold, seed)
    known = data.table["covariate"].notna().to_numpy()
    ones = np.ones(len(data.table))
    parts = {
        "mean": (np.ones(len(data.table), dtype=bool), ones[:, None]),
        f"coefficient of {data.covariate}": (
            known,
            np.column_stack([ones, _standardised(data.table["covariate"].to_numpy(dtype="float64"), data.covariate)]),
        ),
    }
    rows: list[Mapping[str, Any]] = []
    for name, (used, design) in parts.items():
        table, x = data.table.loc[used], design[used]
        crowd, llm = (table[column].to_numpy(dtype="float64") for column in ("crowd_label", "llm_label"))
        authors = table["group_id"].to_numpy()
        every = list(estimates(x, crowd, llm, gold[used], authors))
        rated = ~np.isnan(crowd)
        if rated.sum() > gold[used].sum():
            every.append(of_all(x[rated], crowd[rated], authors[rated], ALL_CROWD))
        common = {"estimand": name, "authors": len(np.unique(authors))}
        rows += [common | asdict(one) for one in every]
        if "truth" in table:
            value = np.linalg.lstsq(x, table["truth"].to_numpy(dtype="float64"), rcond=None)[0][-1]
            rows.append(common | {"method": TRUTH, "value": float(value), "crowd": 0, "llm": 0})
    return pd.DataFrame(rows, columns=list(ESTIMATE_COLUMNS))


def _standardised(values: Floats, name: str) -> Floats:
    spread = float(np.nanstd(values))
    if not spread > 0:
        raise InputError(f"inference.covariate={name}: is the same for all texts; choose one that varies")
    return np.asarray((values - np.nanmean(values)) / spread, dtype=np.float64)
