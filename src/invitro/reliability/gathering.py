"""All scores of a corpus side by side: the crowd's and those of every label set, published or stored."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

import pandas as pd

from invitro.data import Corpus
from invitro.errors import InputError
from invitro.labelling.texts import parts
from invitro.labels.answers import Status, StoredSet, text_hash
from invitro.labels.drift import origins_of
from invitro.labels.labelset import Folder, published_sets
from invitro.labels.source import PUBLISHED_SET, LabelSource, stored_labels
from invitro.labels.store import LabelStore
from invitro.reliability.facets import Rater
from invitro.scales import Scale
from invitro.writing.words import count

OWN_COLUMN = "llm_label"
"""A column of LLM labels that a corpus may have, as the simulator's does."""
ScoreColumn: TypeAlias = "pd.Series[float]"


@dataclass(frozen=True)
class ScoreSource:
    """One label set of one corpus; fields that a column, a label file or a published set lacks are empty."""

    llm: str
    prompt: str
    variant: str
    scores: ScoreColumn
    model: str = ""
    revision: str = ""
    template: str = ""
    sampling: str = ""
    id: str = ""
    samples: tuple[ScoreColumn, ...] = ()
    origins: pd.DataFrame = field(default_factory=pd.DataFrame)
    items: pd.DataFrame | None = None

    @property
    def key(self) -> tuple[str, ...]:
        """What it shares with another member's set by the same rater."""
        return (self.llm, self.prompt, self.variant, self.model, self.revision, self.template, self.sampling)


def published_scores(corpus: str, scale: Scale, folder: Folder, remarks: list[str]) -> Iterator[ScoreSource]:
    """Yield the published sets; sets whose files are not available are left out with a remark."""
    for published in published_sets():
        if (published.corpus, published.scale) == (corpus, scale.name):
            try:
                labels = published.read(scale, folder).labels
            except InputError as error:
                remarks.append(f"Left out: published labels {published.name}: {error.problems[0]}")
                continue
            scores = labels["llm_label"]
            yield ScoreSource(published.llm, published.prompt, PUBLISHED_SET, scores, origins=origins_of(labels))


def stored_scores(
    corpus: str, rows: pd.DataFrame, scale: Scale, path: Path | None, remarks: list[str]
) -> Iterator[ScoreSource]:
    """Yield the stored sets that have labels, without labels of texts that have changed since."""
    if path is None or not path.is_file():
        return
    hashes = rows.set_index("text_id")["text"].map(text_hash)
    with LabelStore(path, read_only=True) as store:
        for stored in store.sets(corpus=corpus, scale=scale.name):
            if not stored.labelled:
                continue
            if not _same_scale(stored, scale):
                remarks.append(f"Left out: {stored}: the scale had different items or bounds then")
                continue
            table = stored_labels(store, stored, scale).labels
            then = table["text_hash"]
            now = hashes.reindex(then.index)
            changed = (now.notna() & (now != then)).to_numpy()
            if changed.any():
                left = count(int(changed.sum()), "label")
                remarks.append(f"Left out: {left} of {stored.info.name}: the texts have changed since")
            scores, items = table["llm_label"].mask(changed), _items(table, scale)
            items = None if items is None else items.loc[~changed]
            samples = _samples(store, stored, then.index, changed) if stored.samples > 1 else ()
            info = stored.info
            temperature = json.loads(info.sampling).get("temperature", 0.0)
            variant = info.readout + (f", temperature {temperature:g}" if temperature else "")
            yield ScoreSource(
                info.llm, info.prompt, variant, scores, info.model, info.revision, info.template, info.sampling,
                stored.id, samples, origins_of(table), items,
            )  # fmt: skip


def _items(table: pd.DataFrame, scale: Scale) -> pd.DataFrame | None:
    """Return an LLM's scores of the scale's items, from the columns ``llm_<item>`` of its labels; None without."""
    columns = {f"llm_{item.name}": item.name for item in scale.items if f"llm_{item.name}" in table}
    return table[list(columns)].rename(columns=columns).apply(pd.to_numeric, errors="coerce") if columns else None


def _same_scale(stored: StoredSet, scale: Scale) -> bool:
    """Whether a set's scores mean the same as scores on `scale` do now."""
    then = json.loads(stored.info.items)
    items, names = [item.name for item in scale.items], then["names"]
    overall = len(names) == 1 and names != items
    low, high = (scale.minimum, scale.maximum) if overall else (scale.low, scale.high)
    same = (then["low"], then["high"], then["aggregation"]) == (low, high, scale.aggregation)
    return same and (overall or (names[: len(items)] == items and then.get("reversed", []) == scale.reversed_items))


def _samples(store: LabelStore, stored: StoredSet, ids: "pd.Index[Any]", changed: Any) -> tuple[ScoreColumn, ...]:
    """Return each sample's scores by text, NaN if a text has no usable score."""
    rows = [
        (row["text_id"], row["sample"], row["score"] if row["status"] == Status.OK else None)
        for row in store.outcomes(stored.id)
    ]
    table = pd.DataFrame(rows, columns=["text_id", "sample", "score"]).pivot_table(
        index="text_id", columns="sample", values="score", dropna=False
    )
    table = table.reindex(ids)
    return tuple(table[number].astype("float64").mask(changed) for number in sorted(table.columns))


def own_scores(
    corpus: Corpus, table: pd.DataFrame, scale: Scale, own: LabelSource | None, folder: Folder
) -> Iterator[ScoreSource]:
    """Yield the labels of a file or column that the user named, and those in the corpus."""
    if OWN_COLUMN in table and (own is None or own.column != OWN_COLUMN):
        carried = LabelSource("simulated", column=OWN_COLUMN)
        yield from own_scores(corpus, table, scale, carried, folder)
    if own is not None:
        label_set = own.find(corpus.label_corpora, table, scale, "", folder)
        where = own.labels or f"column {own.column}"
        scores = label_set.of(table["text_id"]).set_axis(table["text_id"])
        rows = table.set_index("text_id") if own.column == OWN_COLUMN else label_set.labels
        yield ScoreSource(own.name, "", where, scores, items=_items(rows, scale))


CROWD = "crowd"
Named: TypeAlias = tuple[str, Rater, ScoreColumn, pd.DataFrame, pd.DataFrame | None]


class NoLabelsError(InputError):
    """There is no label set to compare."""


@dataclass(frozen=True)
class Gathered:
    """Everybody's scores, side by side.

    Args:
        ratings: one row per text, indexed by ``text_id``, one column per rater: the crowd first, if there is one.
        raters: who gave each column.
        groups: the author of each text.
        parts: each text's corpus and official split, such as ``newsemp24 test``.
        remarks: which labels could not be used, and why.
        origins: where each of a rater's labels comes from, by the rater's name; see `invitro.labels.drift.origins_of`.
        items: by LLM, its scores of single items, if any, one row per text.
    """

    ratings: pd.DataFrame
    raters: dict[str, Rater]
    groups: "pd.Series[str]"
    parts: "pd.Series[str]"
    remarks: tuple[str, ...]
    origins: Mapping[str, pd.DataFrame]
    items: Mapping[str, pd.DataFrame]


def gather(
    corpus: Corpus,
    table: pd.DataFrame,
    scale: Scale,
    store: Path | None,
    folder: Folder,
    own: LabelSource | None = None,
    wanted: Sequence[str] | None = None,
) -> Gathered:
    """Gather the scores of the texts of `table`.

    Args:
        corpus: the corpus of `table`.
        table: its table or some of its rows.
        scale: the scale of all scores.
        store: the label store; None, or a missing file, has no sets.
        folder: where the published files are.
        own: labels in the user's own file or column, if one is named.
        wanted: only raters whose name is one of these or begins with one, such as ``llama`` or ``gpt/plain``; the crowd
            is always kept.

    Raises:
        NoLabelsError: there is no label set.
        InputError: no label set matches `wanted`.
    """
    sources: list[ScoreSource] = []
    remarks: list[str] = []
    for name, rows, prefix in parts(corpus, table):
        read = [*published_scores(name, scale, folder, remarks), *stored_scores(name, rows, scale, store, remarks)]
        sources += [_prefixed(source, prefix) for source in read]
    sources += own_scores(corpus, table, scale, own, folder)
    named = list(_named(sources))
    if not named:
        raise NoLabelsError(*_nothing(corpus, scale, store), *remarks)
    if wanted is not None:
        named = list(_wanted(named, wanted))
    columns, raters, origins = {}, {}, {}
    if table["crowd_label"].notna().any():
        columns[CROWD], raters[CROWD] = table.set_index("text_id")["crowd_label"], Rater()
    for name, rater, scores, of_scores, _ in named:
        of_texts = scores.reindex(table["text_id"])
        if of_texts.notna().any():
            columns[name], raters[name] = of_texts, rater
            origins[name] = of_scores.reindex(of_texts.index)
    return Gathered(
        pd.DataFrame(columns, index=pd.Index(table["text_id"])),
        raters,
        table.set_index("text_id")["group_id"],
        _parts_of(corpus, table),
        tuple(remarks),
        origins,
        {name: items for name, *_, items in named if items is not None},
    )


def _parts_of(corpus: Corpus, table: pd.DataFrame) -> "pd.Series[str]":
    """Return each text's corpus, with its official split if there is one."""
    several = len(corpus.label_corpora) > 1
    part = table["text_id"].str.partition(":")[0] if several else table["text_id"].map(lambda _: corpus.name)
    if "official_split" in table:
        part = part + " " + table["official_split"].fillna("")
    return part.set_axis(table["text_id"])


def _wanted(named: Sequence[Named], wanted: Sequence[str]) -> Iterator[Named]:
    """Yield the sets whose name begins with one of `wanted`."""
    names = [name for name, *_ in named]
    unknown = [
        beginning
        for beginning in wanted
        if beginning != CROWD and not any(name.startswith(beginning) for name in names)
    ]
    if unknown:
        raise InputError(f"raters: expected names or beginnings of {', '.join(names)}; found {', '.join(unknown)}")
    yield from (labelling for labelling in named if any(labelling[0].startswith(beginning) for beginning in wanted))


def _prefixed(source: ScoreSource, prefix: str) -> ScoreSource:
    """Return a source with the combination's ids."""
    scores, *samples = (series.set_axis(prefix + series.index) for series in (source.scores, *source.samples))
    items = None if source.items is None else source.items.set_axis(prefix + source.items.index)
    origins = source.origins.set_axis(prefix + source.origins.index)
    return replace(source, scores=scores, samples=tuple(samples), items=items, origins=origins)


def _named(sources: Sequence[ScoreSource]) -> Iterator[Named]:
    """Yield name, rater, scores and their origins; a rater's sets for the members of a combination are merged."""
    joined: dict[tuple[str, ...], list[ScoreSource]] = {}
    for source in sources:
        joined.setdefault(source.key, []).append(source)
    raters = {key: _rater(sets[0], sources) for key, sets in joined.items()}
    alike: dict[str, list[tuple[str, ...]]] = {}
    for key, rater in raters.items():
        alike.setdefault(f"{rater.llm}/{rater.prompt}" if rater.prompt else str(rater.llm), []).append(key)
    for base, keys in alike.items():
        traits = [(str(raters[key].variant), raters[key].revision or "", joined[key][0].id[:6]) for key in keys]
        for key, words in zip(keys, told_apart(traits), strict=True):
            name, sets = f"{base} ({words})" if words else base, joined[key]
            items = [source.items for source in sets if source.items is not None]
            scores = pd.concat([source.scores for source in sets])
            origins = pd.concat([source.origins for source in sets])
            yield name, raters[key], scores, origins, pd.concat(items) if items else None
            for number in range(max(len(source.samples) for source in sets)):
                sample = [source.samples[number] for source in sets if number < len(source.samples)]
                rater = replace(raters[key], sample=number + 1)
                yield f"{name} #{number + 1}", rater, pd.concat(sample), pd.DataFrame(), None


def _rater(source: ScoreSource, among: Sequence[ScoreSource]) -> Rater:
    """Return who gave these scores; models of one name count as revisions, templates of one name as prompts."""
    models = {other.model for other in among if other.llm == source.llm and other.model}
    templates = {other.template for other in among if (other.llm, other.prompt) == (source.llm, source.prompt)} - {""}
    revision = (
        "@".join(word for word in (source.model, source.revision) if word) if len(models) > 1 else source.revision
    )
    prompt = f"{source.prompt}~{source.template[:6]}" if len(templates) > 1 and source.template else source.prompt
    return Rater(source.llm, prompt or None, revision or None, variant=source.variant)


def told_apart(traits: Sequence[tuple[str, ...]]) -> list[str]:
    """Return, for each of several things, as many of its first traits as it takes to distinguish them all."""
    words: list[list[str]] = [[] for _ in traits]
    for here in zip(*traits, strict=True):
        if len({tuple(said) for said in words}) < len(words) and len(set(here)) > 1:
            for said, trait in zip(words, here, strict=True):
                said += [trait] if trait else []
    return [", ".join(said) for said in words]


def _nothing(corpus: Corpus, scale: Scale, store: Path | None) -> Iterator[str]:
    """Say that there are no labels on this scale, and which other scales have some."""
    names = ", ".join(corpus.label_corpora)
    looked = f"none are in {store}" if store is not None and store.is_file() else f"there is no label store {store}"
    yield f"{names}: there are no LLM labels on scale={scale.name} to compare: none are published, and {looked}"
    others = [
        (published.scale, f"{published.llm}/{published.prompt} (published)")
        for published in published_sets()
        if published.corpus in corpus.label_corpora
    ]
    if store is not None and store.is_file():
        with LabelStore(store, read_only=True) as opened:
            stored = [
                stored_set
                for name in corpus.label_corpora
                for stored_set in opened.sets(corpus=name)
                if stored_set.labelled
            ]
        others += [(stored_set.info.scale, f"{stored_set.info.llm}/{stored_set.info.prompt}") for stored_set in stored]
    for other in dict.fromkeys(name for name, _ in others if name != scale.name):
        yield f"There are labels on scale={other}: {', '.join(dict.fromkeys(who for on, who in others if on == other))}"
