"""Everybody's scores of a corpus side by side: the crowd's, and those of every label set, published or stored."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeAlias

import pandas as pd

from invitro.data import Corpus
from invitro.errors import InputError
from invitro.labelling.parts import parts
from invitro.labelling.raters import Rater
from invitro.labelling.scores import Scores, ScoreSource, own_scores, published_scores, stored_scores
from invitro.labels.published import Folder, published_sets
from invitro.labels.source import LabelSource
from invitro.labels.store import LabelStore
from invitro.scales import Scale

CROWD = "crowd"
Named: TypeAlias = tuple[str, Rater, Scores]


class NoLabelsError(InputError):
    """There is no label set to compare."""


@dataclass(frozen=True)
class Gathered:
    """Scores side by side.

    Args:
        ratings: one row a text, indexed by ``text_id``, one column a rater: the crowd first, where there is one.
        raters: what is known of each column.
        groups: each text's author.
        parts: each text's corpus and official split, such as ``newsemp24 test``.
        remarks: which labels could not be taken, and why.
    """

    ratings: pd.DataFrame
    raters: dict[str, Rater]
    groups: "pd.Series[str]"
    parts: "pd.Series[str]"
    remarks: tuple[str, ...] = field(default=())


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
        corpus: that `table` is of.
        table: its table or some rows of it.
        scale: the scale of all scores.
        store: the label store; None, or a file that is not there, has no sets.
        folder: where published files lie.
        own: labels in a file or column of the user's, where such are named.
        wanted: only raters whose name is one of these or begins with one, as in ``llama`` or ``gpt/plain``; the crowd
            stays.

    Raises:
        NoLabelsError: there is no label set at all.
        InputError: there is none that is wanted.
    """
    sources: list[ScoreSource] = []
    remarks: list[str] = []
    for name, rows, prefix in parts(corpus, table):
        read = [*published_scores(name, scale, folder, remarks), *stored_scores(name, rows, scale, store, remarks)]
        sources += [_prefixed(one, prefix) for one in read]
    sources += own_scores(corpus, table, scale, own, folder)
    named = list(_named(sources))
    if not named:
        raise NoLabelsError(*_nothing(corpus, scale, store), *remarks)
    if wanted is not None:
        named = list(_wanted(named, wanted))
    columns, raters = {}, {}
    if table["crowd_label"].notna().any():
        columns[CROWD], raters[CROWD] = table.set_index("text_id")["crowd_label"], Rater()
    for name, rater, scores in named:
        of_texts = scores.reindex(table["text_id"])
        if of_texts.notna().any():
            columns[name], raters[name] = of_texts, rater
    return Gathered(
        pd.DataFrame(columns, index=pd.Index(table["text_id"])),
        raters,
        table.set_index("text_id")["group_id"],
        _parts_of(corpus, table),
        tuple(remarks),
    )


def _parts_of(corpus: Corpus, table: pd.DataFrame) -> "pd.Series[str]":
    """Return each text's corpus, with its official split where there is one."""
    several = len(corpus.label_corpora) > 1
    part = table["text_id"].str.partition(":")[0] if several else table["text_id"].map(lambda _: corpus.name)
    if "official_split" in table:
        part = part + " " + table["official_split"].fillna("")
    return part.set_axis(table["text_id"])


def _wanted(named: Sequence[Named], wanted: Sequence[str]) -> Iterator[Named]:
    """Yield those whose name begins with one of `wanted`."""
    names = [name for name, _, _ in named]
    unknown = [one for one in wanted if one != CROWD and not any(name.startswith(one) for name in names)]
    if unknown:
        raise InputError(f"raters: expected names or beginnings of {', '.join(names)}; found {', '.join(unknown)}")
    yield from (one for one in named if any(one[0].startswith(beginning) for beginning in wanted))


def _prefixed(one: ScoreSource, prefix: str) -> ScoreSource:
    """Return a source whose ids are those of the combination."""
    scores, *samples = (series.set_axis(prefix + series.index) for series in (one.scores, *one.samples))
    return replace(one, scores=scores, samples=tuple(samples))


def _named(sources: Sequence[ScoreSource]) -> Iterator[Named]:
    """Yield name, rater and scores; the sets of a combination's members by one rater are one rater's scores."""
    joined: dict[tuple[str, ...], list[ScoreSource]] = {}
    for one in sources:
        joined.setdefault(one.key, []).append(one)
    raters = {key: _rater(sets[0], sources) for key, sets in joined.items()}
    alike: dict[str, list[tuple[str, ...]]] = {}
    for key, rater in raters.items():
        alike.setdefault(f"{rater.llm}/{rater.prompt}" if rater.prompt else str(rater.llm), []).append(key)
    for base, keys in alike.items():
        traits = [(str(raters[key].variant), raters[key].revision or "", joined[key][0].id[:6]) for key in keys]
        for key, words in zip(keys, told_apart(traits), strict=True):
            name, sets = f"{base} ({words})" if words else base, joined[key]
            yield name, raters[key], pd.concat([one.scores for one in sets])
            for number in range(max(len(one.samples) for one in sets)):
                some = [one.samples[number] for one in sets if number < len(one.samples)]
                yield f"{name} #{number + 1}", replace(raters[key], sample=number + 1), pd.concat(some)


def _rater(one: ScoreSource, among: Sequence[ScoreSource]) -> Rater:
    """Return who gave these scores: models of one name are several revisions, templates of one name several prompts."""
    models = {other.model for other in among if other.llm == one.llm and other.model}
    templates = {other.template for other in among if (other.llm, other.prompt) == (one.llm, one.prompt)} - {""}
    revision = "@".join(word for word in (one.model, one.revision) if word) if len(models) > 1 else one.revision
    prompt = f"{one.prompt}~{one.template[:6]}" if len(templates) > 1 and one.template else one.prompt
    return Rater(one.llm, prompt or None, revision or None, variant=one.variant)


def told_apart(traits: Sequence[tuple[str, ...]]) -> list[str]:
    """Return for each of several things the first of its traits that together tell all of them apart."""
    words: list[list[str]] = [[] for _ in traits]
    for here in zip(*traits, strict=True):
        if len({tuple(said) for said in words}) < len(words) and len(set(here)) > 1:
            for said, trait in zip(words, here, strict=True):
                said += [trait] if trait else []
    return [", ".join(said) for said in words]


def _nothing(corpus: Corpus, scale: Scale, store: Path | None) -> Iterator[str]:
    """Say that there are no labels, and on which scales there are some."""
    names = ", ".join(corpus.label_corpora)
    looked = f"none are in {store}" if store is not None and store.is_file() else f"there is no label store {store}"
    yield f"{names}: there are no LLM labels on scale={scale.name} to compare: none are published, and {looked}"
    others = [
        (one.scale, f"{one.llm}/{one.prompt} (published)")
        for one in published_sets()
        if one.corpus in corpus.label_corpora
    ]
    if store is not None and store.is_file():
        with LabelStore(store, must_exist=True) as opened:
            stored = [one for name in corpus.label_corpora for one in opened.sets(corpus=name) if one.labelled]
        others += [(one.info.scale, f"{one.info.llm}/{one.info.prompt}") for one in stored]
    for other in dict.fromkeys(name for name, _ in others if name != scale.name):
        yield f"There are labels on scale={other}: {', '.join(dict.fromkeys(who for on, who in others if on == other))}"
