"""How well scores measure groups of people: PCC, CCC, RMSE and bias by group, and whether a group differs.

A group and its rest (all other texts whose group is known) are measured on their own texts, on the same bootstrap draws
of whole authors. With several seeds a measure is its mean over them. Intervals (`invitro.stats.intervals`) are over
texts alone, with the number of the group's authors: they resample people, not models, so findings apply to the models
at hand.

A group is compared with the rest by its bias and its CCC, the latter on Fisher's scale z = artanh(CCC). The difference
is taken draw by draw, its error is the standard deviation over draws, and p follows from Student's t, whose degrees of
freedom are the number of authors on the smaller side minus one.
Permuting the group over authors would test whether both sides are alike in every respect, and so also reject if a group
has an equally good CCC but a wider range of labels. The bootstrap assumes only that authors are independent, and lets
the sides vary differently.

All comparisons in a table are one family for Holm's correction: every attribute, group, measure and series. If an
attribute has two groups, each is the other's rest, and their shared test counts once.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from invitro.data import DEMOGRAPHICS
from invitro.data.corpus import LEAST_IN_GROUP, banded
from invitro.errors import InputError
from invitro.stats import Bools, Floats, Ints
from invitro.stats.intervals import LEAST_AUTHORS, Interval, contrast, holm, interval_of
from invitro.stats.moments import MEASURES, RESAMPLES, Scores, resampled
from invitro.studies.runs import Runs, labelled
from invitro.studies.study import Study
from invitro.studies.summary import Summary
from invitro.studies.wording import configuration, leading, records, rows_of


def known_attributes(table: pd.DataFrame) -> list[str]:
    """Return the demographics for which a table has at least one value."""
    return [name for name in DEMOGRAPHICS if name in table and table[name].notna().any()]


def people_groups(table: pd.DataFrame) -> Iterator[tuple[str, dict[str, Ints]]]:
    """Yield each attribute, and the positions of the rows of each of its groups."""
    for attribute in known_attributes(table):
        names = banded(table[attribute], attribute)
        positions: dict[Any, Any] = names.groupby(names, observed=True).indices
        yield attribute, {str(name): rows for name, rows in positions.items()}


COMPARED = ("bias", "ccc")


@dataclass(frozen=True)
class Measured:
    """Scores, what they are measured against, and who wrote the texts.

    Args:
        series: a name, such as a configuration's.
        scores: shape (seeds, texts), NaN where a run did not score a text; in the scale's units.
        reference: what they are measured against, shape (texts,), in the scale's units.
        people: one row per text, with any of `invitro.data.DEMOGRAPHICS`.
        authors: of each text, shape (texts,).
        pooled: whether each text's score is the mean over the runs that have one, since they scored different texts.
    """

    series: str
    scores: Floats
    reference: Floats
    people: pd.DataFrame
    authors: npt.NDArray[Any]
    pooled: bool = False


@dataclass(frozen=True)
class Apart:
    """How far a group differs from the rest.

    Args:
        difference: the group's measure minus the rest's, in the measure's units.
        p: two-sided; NaN if nothing could be tested.
        p_holm: p after Holm's correction.
    """

    difference: float
    p: float
    p_holm: float = np.nan


@dataclass(frozen=True)
class GroupRow:
    """One group of one series: its size, `MEASURES` with their 95 % intervals, and `COMPARED` against the rest.

    `apart` is empty if there is no rest, or if it is too small to be shown.
    """

    series: str
    attribute: str
    group: str
    texts: int
    authors: int
    measures: dict[str, Interval]
    apart: dict[str, Apart]
    mirrored: bool = False
    """Whether the rest is the group in the row before, so both share one test."""


@dataclass(frozen=True)
class Suppressed:
    """A group that is not shown, and why."""

    series: str
    attribute: str
    group: str
    why: str


@dataclass(frozen=True)
class Fairness:
    """Measures by group."""

    rows: tuple[GroupRow, ...]
    suppressed: tuple[Suppressed, ...]


def fairness(measured: Sequence[Measured], least: int = LEAST_IN_GROUP, resamples: int = RESAMPLES) -> Fairness:
    """Measure every series by every group of people, and test all groups against their rest as one family.

    Args:
        measured: the series; those without demographics have no rows.
        least: the number of texts that a group needs to be shown, and the rest for a comparison; both also need
            `LEAST_AUTHORS` authors.
        resamples: draws of authors.

    Raises:
        InputError: shapes do not match, or a reference is missing.
    """
    rows: list[GroupRow] = []
    suppressed: list[Suppressed] = []
    for scored in measured:
        people, texts = len(scored.people), len(scored.reference)
        if people != texts:
            raise InputError(f"{scored.series}: expected people of {texts} texts, found {people}")
        sides = list(_sides(scored, least, suppressed))
        rows += _rows(scored, sides, resamples) if sides else []
    return Fairness(tuple(_corrected(rows)), tuple(suppressed))


@dataclass(frozen=True)
class _Side:
    """The texts of a group and those of the rest; `rest` is None if they are not compared."""

    attribute: str
    group: str
    members: Bools
    rest: Bools | None
    mirrored: bool


def _sides(measured: Measured, least: int, suppressed: list[Suppressed]) -> Iterator[_Side]:
    """Yield the groups that may be shown; add the others to `suppressed`."""
    scored = ~np.isnan(measured.scores).all(axis=0)

    def too_small(side: Bools) -> str:
        if side.sum() < least:
            return f"fewer than {least} texts"
        return f"fewer than {LEAST_AUTHORS} authors" if len(np.unique(measured.authors[side])) < LEAST_AUTHORS else ""

    for attribute, groups in people_groups(measured.people):
        masks = {name: np.isin(np.arange(len(measured.reference)), rows) & scored for name, rows in groups.items()}
        masks = {name: mask for name, mask in masks.items() if mask.any()}
        in_any = np.logical_or.reduce([*masks.values()])
        shown = 0
        for name, members in masks.items():
            if why := too_small(members):
                suppressed.append(Suppressed(measured.series, attribute, name, why))
                continue
            shown += 1
            rest = in_any & ~members
            yield _Side(attribute, name, members, None if too_small(rest) else rest, shown == 2 == len(masks))


def _rows(measured: Measured, sides: Sequence[_Side], resamples: int) -> Iterator[GroupRow]:
    """Measure all groups and rests of a series on the same draws, each as scores that are NaN for all other texts."""
    authors, seeds = measured.authors, len(measured.scores)
    masks = [mask for side in sides for mask in (side.members, side.members if side.rest is None else side.rest)]
    arms = np.concatenate([np.where(mask, measured.scores, np.nan) for mask in masks])
    scores = resampled(measured.reference, arms, authors, resamples)

    def of(arm: int, measure: str) -> Scores:
        rows = slice(arm * seeds, (arm + 1) * seeds)
        whole, count = scores[measure], len(np.unique(authors[masks[arm]]))
        return Scores(whole.values[rows], whole.draws[:, rows], count, int(masks[arm].sum()))

    for number, side in enumerate(sides):
        group, rest = 2 * number, 2 * number + 1
        measures = {name: interval_of(_mean(of(group, name)), name) for name in MEASURES}
        apart = {}
        if side.rest is not None:
            apart = {name: _apart(of(group, name), of(rest, name), name) for name in COMPARED}
        ccc = of(group, "ccc")
        yield GroupRow(
            measured.series, side.attribute, side.group, ccc.texts, ccc.authors, measures, apart, side.mirrored
        )  # fmt: skip


def _mean(scores: Scores) -> Scores:
    """Return the mean over seeds as the scores of a single seed."""
    return replace(scores, values=scores.values.mean(keepdims=True), draws=scores.draws.mean(axis=1, keepdims=True))


def _apart(group: Scores, rest: Scores, measure: str) -> Apart:
    """Compare a group with the rest; the smaller side determines the number of authors."""
    authors = min(group.authors, rest.authors)
    difference = float((group - rest).values.mean())
    if measure == "ccc":
        group, rest = _on_fishers_scale(group), _on_fishers_scale(rest)
    apart = _mean(group) - _mean(rest)
    if not np.isfinite(apart.values).all():
        return Apart(difference, np.nan)
    return Apart(difference, contrast(replace(apart, authors=authors)).p)


def _on_fishers_scale(scores: Scores) -> Scores:
    """Return artanh of all figures; NaN for 1 and -1, which are infinite on this scale."""

    def moved(values: Floats) -> Floats:
        return np.arctanh(values, out=np.full_like(values, np.nan), where=np.abs(values) < 1 - 1e-12)

    return replace(scores, values=moved(scores.values), draws=moved(scores.draws))


def _corrected(rows: Sequence[GroupRow]) -> Iterator[GroupRow]:
    """Correct all tests as one family; a test that two rows share counts once."""
    family = [(number, name) for number, row in enumerate(rows) for name in row.apart if not row.mirrored]
    corrected = dict(zip(family, holm([rows[number].apart[name].p for number, name in family]), strict=True))
    for number, row in enumerate(rows):
        p_of = {name: float(corrected[number - row.mirrored, name]) for name in row.apart}
        yield replace(row, apart={name: replace(apart, p_holm=p_of[name]) for name, apart in row.apart.items()})


MOST_SHOWN, LEADING = 4, 2
"""Up to `MOST_SHOWN` configurations or label sets are shown; if there are more configurations, only `LEADING` are."""

Kind = Literal["labels", "crowd", "truth"]


@dataclass(frozen=True)
class GroupTable:
    """Measures by group of one kind of scores.

    Args:
        kind: ``labels`` (crowd against LLM labels), or ``crowd`` and ``truth`` (predictions against crowd labels and
            against the simulator's truth).
        split: of the predictions: ``test``, or ``val`` if no run has test texts with labels.
        found: the measures, tested as one family.
        series: the number of configurations or label sets that are shown.
        of: their total number.
        pooled: whether some configuration's runs predicted different texts, as with folds, so that each text's
            prediction is the mean over the runs that have one.
    """

    kind: Kind
    found: Fairness
    series: int
    of: int
    split: str = ""
    pooled: bool = False


def group_tables(study: Study, runs: Runs, summary: Summary, resamples: int = RESAMPLES) -> list[GroupTable]:
    """Measure everything that the records allow by group; return [] for a corpus without demographics.

    If there are more than `MOST_SHOWN` configurations, the first two are measured, see `wording.leading`.
    """
    tables = []
    labels = label_pairs(runs)
    if labels:
        first = labels[:MOST_SHOWN]
        tables.append(GroupTable("labels", fairness(first, resamples=resamples), len(first), len(labels)))
    total = sum(bool(row.get("seeds", 1)) for row in records(summary.groups))
    shown = leading(study, summary, MOST_SHOWN if total <= MOST_SHOWN else LEADING)
    kinds: tuple[Kind, Kind] = ("crowd", "truth")
    for kind, split in zip(kinds, summary.judged, strict=True):
        pairs = [
            prediction_pairs(runs, jobs, configuration(group, runs.factors), split)
            for group in shown
            if (jobs := rows_of(runs, group))
        ]
        measured = [scores for scores in pairs if scores is not None]
        if measured:
            by_group, pooled = fairness(measured, resamples=resamples), any(scores.pooled for scores in measured)
            tables.append(GroupTable(kind, by_group, len(measured), total, summary.split, pooled))
    return [table for table in tables if table.found.rows or table.found.suppressed]


def label_pairs(runs: Runs) -> list[Measured]:
    """Return crowd labels as scores and LLM labels as reference, for every label set that the runs used.

    The pairs come from ``labels.csv``, each text once, over all runs that used the set. Runs that left texts out
    because of their labels (policy ``drop``, ``fit.clean``) are skipped: crowd and LLM agree on the texts they kept.
    """
    tables: dict[tuple[str, ...], list[pd.DataFrame]] = {}
    for number in runs.finished().drop_duplicates("record").index:
        train = runs.metrics(number).get("train") or {}
        if train.get("dropped") or train.get("cleaned"):
            continue
        labels = runs.labels(number)
        both = labels.loc[labels["crowd_label"].notna() & labels["llm_label"].notna()]
        if known_attributes(both):
            # A set's name and its hash: two versions of a file are two sets.
            hashes = runs.environment(number)["hashes"]
            key = tuple(f"{name} {value}" for name, value in sorted(hashes.items()) if name != "corpus")
            tables.setdefault(key, []).append(both)
    measured = []
    for key, parts in tables.items():
        table = pd.concat(parts, ignore_index=True).drop_duplicates(["text_id", "crowd_label", "llm_label"])
        name = ", ".join(label_set.rsplit(" ", 1)[0] for label_set in key) or "LLM labels"
        measured.append(_measured(name, table, table[["crowd_label"]].to_numpy(dtype="float64").T, "llm_label"))
    return measured


def prediction_pairs(runs: Runs, jobs: Sequence[int], name: str, split: str) -> Measured | None:
    """Return a configuration's predictions, one row per run, against the labels of a split, see `runs.labelled`.

    None if there are no labels or no demographics.
    """
    tables = [labelled(runs.predictions(job), split) for job in jobs]
    parts = [rows.drop_duplicates("text_id").set_index(["text_id", "label"], drop=False) for rows in tables]
    texts = pd.concat(parts)
    texts = texts.loc[~texts.index.duplicated()]
    if not known_attributes(texts):
        return None
    scores = np.stack([part["prediction"].reindex(texts.index).to_numpy(dtype="float64") for part in parts])
    pooled = bool(np.isnan(scores).any())
    if pooled:
        scores = np.nanmean(scores, axis=0, keepdims=True)
    return _measured(name, texts, scores, "label", pooled)


def _measured(name: str, table: pd.DataFrame, scores: Floats, reference: str, pooled: bool = False) -> Measured:
    authors = table["group_id"].astype("str").to_numpy() if "group_id" in table else np.arange(len(table))
    people = table[[column for column in DEMOGRAPHICS if column in table]].reset_index(drop=True)
    return Measured(name, scores, table[reference].to_numpy(dtype="float64"), people, authors, pooled)
