"""Where scores of a corpus's texts come from: published files, the label store, and what the user names."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import pandas as pd

from invitro.data import Corpus
from invitro.errors import InputError
from invitro.labels.averages import stored_labels
from invitro.labels.published import Folder, published_sets
from invitro.labels.source import PUBLISHED, LabelSource
from invitro.labels.store import LabelStore
from invitro.labels.stored import OK, StoredSet, text_hash
from invitro.scales import Scale

OWN_COLUMN = "llm_label"
"""A column of LLM labels that a corpus may carry, as the simulator's does."""
Scores: TypeAlias = "pd.Series[float]"


@dataclass(frozen=True)
class ScoreSource:
    """One label set of one corpus; what a column, a label file or a published set does not know is empty."""

    llm: str
    prompt: str
    variant: str
    scores: Scores
    model: str = ""
    revision: str = ""
    template: str = ""
    sampling: str = ""
    id: str = ""
    samples: tuple[Scores, ...] = ()

    @property
    def key(self) -> tuple[str, ...]:
        """What it shares with another member's set by the same rater."""
        return (self.llm, self.prompt, self.variant, self.model, self.revision, self.template, self.sampling)


def published_scores(corpus: str, scale: Scale, folder: Folder, remarks: list[str]) -> Iterator[ScoreSource]:
    """Yield the published sets; one whose files cannot be had is told of and left out."""
    for one in published_sets():
        if (one.corpus, one.scale) == (corpus, scale.name):
            try:
                scores = one.read(scale, folder).labels["llm_label"]
            except InputError as error:
                remarks.append(f"Left out: published labels {one.name}: {error.problems[0]}")
                continue
            yield ScoreSource(one.llm, one.prompt, PUBLISHED, scores)


def stored_scores(
    corpus: str, rows: pd.DataFrame, scale: Scale, path: Path | None, remarks: list[str]
) -> Iterator[ScoreSource]:
    """Yield the stored sets with any label, without labels of texts that have changed since."""
    if path is None or not path.is_file():
        return
    hashes = rows.set_index("text_id")["text"].map(text_hash)
    with LabelStore(path, must_exist=True) as store:
        for stored in store.sets(corpus=corpus, scale=scale.name):
            if not stored.labelled:
                continue
            if not _same_scale(stored, scale):
                remarks.append(f"Left out: {stored}: the scale has had other items or bounds then")
                continue
            table = stored_labels(store, stored, scale).labels
            then = table["text_hash"]
            now = hashes.reindex(then.index)
            changed = (now.notna() & (now != then)).to_numpy()
            if changed.any():
                remarks.append(f"Left out: {changed.sum()} labels of {stored.info.name}: the texts have changed since")
            scores = table["llm_label"].mask(changed)
            samples = _samples(store, stored, then.index, changed) if stored.samples > 1 else ()
            yield _source(stored, scores, samples)


def _same_scale(stored: StoredSet, scale: Scale) -> bool:
    """Whether a set's scores mean what scores on `scale` mean now."""
    then = json.loads(stored.info.items)
    items, names = [item.name for item in scale.items], then["names"]
    overall = len(names) == 1 and names != items
    low, high = (scale.minimum, scale.maximum) if overall else (scale.low, scale.high)
    same = (then["low"], then["high"], then["aggregation"]) == (low, high, scale.aggregation)
    return same and (overall or names[: len(items)] == items)


def _samples(store: LabelStore, stored: StoredSet, ids: "pd.Index[Any]", changed: Any) -> tuple[Scores, ...]:
    """Return each sample's scores by text, NaN where a text has no usable one."""
    rows = [
        (row["text_id"], row["sample"], row["score"] if row["status"] == OK else None)
        for row in store.outcomes(stored.id)
    ]
    table = pd.DataFrame(rows, columns=["text_id", "sample", "score"]).pivot_table(
        index="text_id", columns="sample", values="score", dropna=False
    )
    table = table.reindex(ids)
    return tuple(table[number].astype("float64").mask(changed) for number in sorted(table.columns))


def _source(stored: StoredSet, scores: Scores, samples: tuple[Scores, ...]) -> ScoreSource:
    """Return a stored set with what tells it from others."""
    info = stored.info
    temperature = json.loads(info.sampling).get("temperature", 0.0)
    variant = info.readout + (f", temperature {temperature:g}" if temperature else "")
    return ScoreSource(
        info.llm, info.prompt, variant, scores, info.model, info.revision, info.template, info.sampling, stored.id,
        samples,
    )  # fmt: skip


def own_scores(
    corpus: Corpus, table: pd.DataFrame, scale: Scale, own: LabelSource | None, folder: Folder
) -> Iterator[ScoreSource]:
    """Yield the labels of a file or column that the user named, and those that the corpus carries."""
    if OWN_COLUMN in table and (own is None or own.column != OWN_COLUMN):
        carried = LabelSource("simulated", column=OWN_COLUMN)
        yield from own_scores(corpus, table, scale, carried, folder)
    if own is not None:
        found = own.find(corpus.label_corpora, table, scale, "", folder)
        where = own.labels or f"column {own.column}"
        yield ScoreSource(own.name, "", where, found.of(table["text_id"]).set_axis(table["text_id"]))
