"""Drift inside a label set: whether labels of different origin mean the same.

Labels under one name may come from several files or batches, from days that are months apart, or from revisions of a
model that a provider changed without renaming it. For a part P of the texts, the other texts Q, and values v (labels,
or labels minus those of another rater)::

    D = mean_P(v) - mean_Q(v)
    error^2 = G / (G - 1) sum_a s_a^2
    s_a = sum_{i of a in P} (v_i - mean_P) / n_P - sum_{i of a in Q} (v_i - mean_Q) / n_Q

over G authors a, whose texts are not independent (Liang, Zeger 1986, "Longitudinal Data Analysis Using Generalized
Linear Models", Biometrika 73). The interval is Student's, with one degree of freedom fewer than the smaller side has
authors, and holds at 95 % for all parts of one origin together (Bonferroni).

The texts may differ between parts as well. If the crowd rated both sides, labels minus the crowd's decide.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from invitro.stats import Bools, Floats
from invitro.stats.intervals import LEAST_AUTHORS, LEVEL, Contrast, Interval
from invitro.writing.tables import Column, ReportTable, cell_of, estimate_cell, number_cell, table_of
from invitro.writing.words import capital, count

MOST_PARTS = 12
"""The most parts of an origin; beyond it, days become months and revisions models, and other origins are left out."""
ORIGINS = ("file", "batch", "revision", "day")
"""Columns of a label set that say where each label comes from, besides the corpus's split."""
DRIFT_NOTE = (
    "minus the others: the mean of this part's labels minus the other parts', with an interval over authors that "
    "holds at 95 % for all parts of one kind. The next column is the same for labels minus the crowd's, which decides "
    "if there is one: the texts may differ between parts, too."
)


@dataclass(frozen=True)
class DriftPart:
    """The labels of one part of a label set.

    Args:
        by: what divides the set: ``split`` or one of `ORIGINS`.
        part: the part's name.
        texts: ids of the texts with a label in it.
        mean: of its labels, the scale's units, as the next two.
        sd: their standard deviation (divisor n).
        apart: their mean minus that of the other parts' labels.
        controlled: the same for labels minus the crowd's, on the texts that both rated; undefined if there are none.
    """

    by: str
    part: str
    texts: "pd.Index[str]" = field(repr=False, compare=False)
    mean: float
    sd: float
    apart: Interval
    controlled: Interval

    @property
    def n(self) -> int:
        """Labels in it."""
        return len(self.texts)

    @property
    def rated(self) -> bool:
        """Whether the crowd rated enough texts, here and elsewhere, to separate drift from different texts."""
        return not np.isnan(self.controlled.low)

    @property
    def drifts(self) -> bool:
        """Whether the labels differ from the others by more than their interval."""
        return (self.controlled if self.rated else self.apart).measurable

    def __str__(self) -> str:
        controlled = (
            f", minus the crowd's by {_signed(self.controlled)}"
            if self.rated
            else "; no crowd labels show whether the texts differ, too"
        )
        return (
            f"{self.by} {self.part} ({count(self.n, 'text')}): mean {self.mean:.2f}, which differs from the "
            f"other parts' by {_signed(self.apart)}{controlled}"
        )


def origins_of(labels: pd.DataFrame, split: "pd.Series[str] | None" = None) -> pd.DataFrame:
    """Return where each label comes from, indexed as `labels`, one column for each origin that divides the set.

    Args:
        labels: of a `LabelSet`, with any of `ORIGINS`; ``answered`` (times, UTC) gives days.
        split: the part of the corpus that each text belongs to, by text id.
    """
    origins = {} if split is None else {"split": split.reindex(labels.index)}
    origins |= {name: labels[name] for name in ORIGINS if name in labels}
    if "answered" in labels:
        origins["day"] = labels["answered"].str[:10]
    labelled = labels["llm_label"].notna()
    kept: dict[str, pd.Series[str]] = {}
    divisions: list[list[int]] = []
    for name, values in origins.items():
        values = values.where(labelled & (values != ""))
        if values.nunique() > MOST_PARTS and name in ("day", "revision"):
            values = values.str[:7] if name == "day" else values.str.partition(" ")[0]
        division = pd.factorize(values)[0].tolist()
        if 1 < values.nunique() <= MOST_PARTS and division not in divisions:
            kept[name] = values
            divisions.append(division)
    return pd.DataFrame(kept, index=labels.index)


def split_of(table: pd.DataFrame, corpora: Sequence[str]) -> "pd.Series[str]":
    """Return the part of the corpora that each text of a canonical table belongs to, by text id.

    It is the official split if the corpus has one, else whether the crowd rated the text. With several corpora,
    whose names the ids begin with, the corpus's name comes first.
    """
    if "official_split" in table:
        part = table["official_split"].fillna("")
    else:
        part = table["crowd_label"].notna().map({True: "rated", False: "unrated"})
    if len(corpora) > 1:
        part = table["text_id"].str.partition(":")[0] + " " + part
    return part.set_axis(table["text_id"])


def drift_of(labels: pd.DataFrame, table: pd.DataFrame, corpora: Sequence[str]) -> Iterator[DriftPart]:
    """Compare the parts of a label set on the texts of a canonical table; see `drift`.

    Args:
        labels: of a `LabelSet`.
        table: the texts, with their crowd labels and authors.
        corpora: the corpora they belong to; see `split_of`.
    """
    if not {"crowd_label", "group_id"} <= set(table):  # ids alone: nothing is known about the texts
        return
    texts = table.set_index("text_id")
    labels = labels.loc[labels.index.isin(texts.index)]
    origins = origins_of(labels, split_of(table, corpora))
    yield from drift(labels["llm_label"], origins, texts["group_id"], texts["crowd_label"])


def drift(
    values: "pd.Series[float]",
    origins: pd.DataFrame,
    groups: "pd.Series[str]",
    crowd: "pd.Series[float] | None" = None,
) -> Iterator[DriftPart]:
    """Compare each part of a label set with the others, by each origin.

    Args:
        values: labels by text id, NaN where there is none.
        origins: as `origins_of` returns them.
        groups: the author of each text, by text id.
        crowd: the crowd's labels by text id, NaN where there is none.

    Example:
        >>> ids = [f"t{number:02d}" for number in range(40)]
        >>> labels = pd.Series([2.0, 3.0] * 10 + [5.0, 6.0] * 10, index=ids)
        >>> split = pd.DataFrame({"split": ["train"] * 20 + ["test"] * 20}, index=ids)
        >>> [(part.part, part.mean, part.drifts) for part in drift(labels, split, pd.Series(ids, index=ids))]
        [('train', 2.5, True), ('test', 5.5, True)]
    """
    labels = values.dropna()
    authors = groups.reindex(labels.index).to_numpy()
    scores: Floats = np.asarray(labels, dtype=np.float64)
    minus_crowd = scores - (np.nan if crowd is None else crowd.reindex(labels.index).to_numpy(dtype=np.float64))
    for by in map(str, origins):
        of_texts = origins[by].reindex(labels.index)
        parts, assigned = of_texts.dropna().unique(), of_texts.notna().to_numpy()
        for part in parts:
            inside = (of_texts == part).to_numpy()
            apart, controlled = (
                _difference(side, inside, assigned & ~inside, authors, 1 - (1 - LEVEL) / len(parts))
                for side in (scores, minus_crowd)
            )
            part_scores = scores[inside]
            mean, sd = float(part_scores.mean()), float(part_scores.std())
            yield DriftPart(by, str(part), labels.index[inside], mean, sd, apart, controlled)


def drift_warning(name: str, parts: Sequence[DriftPart]) -> str | None:
    """Return a sentence on the parts of a label set that drift, or None."""
    drifting = [capital(str(part)) for part in parts if part.drifts]
    if not drifting:
        return None
    return (
        f"{name}: labels drift inside this set. {'. '.join(drifting)}. Labels of such parts may not mean the same: do "
        "not mix them, or label all texts again in one run"
    )


def drift_table(parts: Sequence[tuple[str, DriftPart]], raters: Iterable[str]) -> ReportTable:
    """Return one row per part of a rater's labels, with a note for each of `raters` whose labels drift."""
    heads = {"rater": "rater", "by": "by", "part": "part", "n": "n", "mean": "mean", "sd": "SD"}
    heads |= {"apart": "minus the others", "controlled": "minus the crowd's, minus the others", "drifts": "drifts"}
    rows = []
    for rater, part in parts:
        cells = {"rater": cell_of(rater), "by": cell_of(part.by), "part": cell_of(part.part), "n": cell_of(part.n)}
        cells |= {"mean": number_cell(part.mean, 2), "sd": number_cell(part.sd, 2)}
        cells |= {"drifts": cell_of(part.drifts, "yes" if part.drifts else "no")}
        for name, interval in {"apart": part.apart, "controlled": part.controlled}.items():
            if not np.isnan(interval.value):
                cells[name] = estimate_cell(interval.value, interval.low, interval.high, 2, sign=True)
        rows.append(cells)
    notes = [drift_warning(rater, [part for name, part in parts if name == rater]) for rater in raters]
    title, columns = "Drift: means and spreads by part", [Column(key, head) for key, head in heads.items()]
    return table_of("drift", title, columns, rows, DRIFT_NOTE, *filter(None, notes))


def _difference(values: Floats, here: Bools, there: Bools, authors: npt.NDArray[Any], level: float) -> Interval:
    """Return D with its interval; see the module. NaN without values, no interval with few authors."""
    defined = ~np.isnan(values)
    here, there = here & defined, there & defined
    if not here.any() or not there.any():
        return Interval(np.nan, np.nan, np.nan)
    scores = np.zeros(len(values))
    for side, sign in ((here, 1.0), (there, -1.0)):
        scores[side] = sign * (values[side] - values[side].mean()) / side.sum()
    used = here | there
    codes = pd.factorize(authors[used])[0]
    n_authors = int(codes.max()) + 1
    fewest = min(len(set(authors[side])) for side in (here, there))
    value = float(values[here].mean() - values[there].mean())
    if fewest < LEAST_AUTHORS:
        return Interval(value, np.nan, np.nan)
    error = float(np.sqrt(np.square(np.bincount(codes, weights=scores[used])).sum() * n_authors / (n_authors - 1)))
    return Contrast(value, 0.0, error, 1, fewest).interval(level)


def _signed(interval: Interval) -> str:
    ends = "" if np.isnan(interval.low) else f" [{interval.low:+.2f}, {interval.high:+.2f}]"
    return f"{interval.value:+.2f}{ends}"
