"""Where a run's LLM labels come from: a column, the user's own file, the label store, or published files."""

import json
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import pandas as pd

from invitro.errors import InputError, called, refuse_if_any
from invitro.labels.answers import Status, StoredSet, text_hash
from invitro.labels.drift import drift_of, drift_warning
from invitro.labels.labelset import Folder, LabelSet, PublishedSet, joined, label_set, published, read_labels
from invitro.labels.store import LabelStore
from invitro.scales import Scale
from invitro.settings import checked
from invitro.tables import PIECE, numbers, pieces, require_columns
from invitro.writing.words import count

log = logging.getLogger(__name__)

NAN = math.nan
SPENT = ("prompt_tokens", "completion_tokens", "dollars")
ANSWERED = ("answered", "revision", "batch")


def stored_labels(store: LabelStore, stored: StoredSet, scale: Scale) -> LabelSet:
    """Return a stored set as a `LabelSet`.

    With n usable samples of scores y_k and spreads s_k (0 if the readout has none), a text's label and spread are::

        llm_label = mean(y_k)          spread = sqrt(mean(s_k^2) + mean((y_k - llm_label)^2))

    This is the standard deviation of a randomly drawn answer. A single sample without its own spread has none
    (NaN). A text without a usable answer keeps its row, with NaN.

    Columns: ``llm_label``, ``spread``, ``samples`` (usable ones), ``text_hash``, ``answered`` (UTC), ``revision`` and
    ``batch`` of the first usable answer, ``llm_<item>`` (item scores, also averaged) if items were scored, and `SPENT`:
    what a text's answers cost, retries included, as the engine reports it (0 if it counts no tokens or has no price).

    Raises:
        InputError: a label is outside `scale`, or the scale reverses other items now.
    """
    recorded = json.loads(stored.info.items)
    names = recorded["names"]
    if len(names) > 1 and (was := recorded.get("reversed", [])) != scale.reversed_items:
        raise InputError(
            f"{store.path}, label set {stored.id}: its scores were made with {', '.join(was) or 'no item'} reversed, "
            f"and {scale.name} now reverses {', '.join(scale.reversed_items) or 'none'}; label again"
        )
    columns = [f"llm_{name}" for name in names] if len(names) > 1 else []
    rows = _rows(store, stored.id, len(columns))
    # In chunks: as tuples of Python objects, all rows at once would take many times the table's size.
    tables = [_table(piece, columns) for piece in pieces(rows, PIECE)] or [_table([], columns)]
    spent = pd.DataFrame(map(tuple, store.spent(stored.id)), columns=["text_id", *SPENT])
    table = pd.concat(tables, ignore_index=True)
    for name in SPENT:
        table[name] = table["text_id"].map(spent.set_index("text_id")[name]).astype("float64")
    labels = label_set(stored.info.name, table, scale, f"{store.path}, label set {stored.id}")
    return replace(labels, examples=frozenset(stored.info.about.get("examples", ())))


def _table(rows: list[tuple[Any, ...]], columns: list[str]) -> pd.DataFrame:
    """Return rows as a typed table."""
    table = pd.DataFrame(rows, columns=["text_id", "llm_label", "spread", "samples", "text_hash", *ANSWERED, *columns])
    numbers = dict.fromkeys(["llm_label", "spread", *columns], "float64")
    texts = dict.fromkeys(["text_id", "text_hash", *ANSWERED], "str")
    return table.astype(texts | {"samples": "int64"} | numbers)


def _rows(store: LabelStore, set_id: str, items: int) -> Iterator[tuple[Any, ...]]:
    """Yield one row per text."""
    for text_id, samples in groupby(store.outcomes(set_id), key=itemgetter("text_id")):
        answers = list(samples)
        usable = [sample for sample in answers if sample["status"] == Status.OK]
        label, spread = _averaged([(sample["score"], sample["spread"]) for sample in usable])
        scores = [json.loads(sample["items"]) for sample in usable] if items else []
        means = [math.fsum(item) / len(usable) for item in zip(*scores, strict=True)] or [NAN] * items
        first = usable[0] if usable else answers[0]
        yield text_id, label, spread, len(usable), answers[0]["text_hash"], *(first[name] for name in ANSWERED), *means


def _averaged(samples: list[tuple[float, float | None]]) -> tuple[float, float]:
    """Return label and spread of a text's usable samples, each with score and spread."""
    n = len(samples)
    if not n:
        return NAN, NAN
    mean = math.fsum(score for score, _ in samples) / n
    if n == 1 and samples[0][1] is None:
        return mean, NAN
    within = math.fsum((spread or 0.0) ** 2 for _, spread in samples) / n
    between = math.fsum((score - mean) ** 2 for score, _ in samples) / n
    return mean, math.sqrt(within + between)


class MissingLabelsError(InputError):
    """There are no labels by `llms`, neither stored nor published."""

    def __init__(self, *problems: str, llms: Sequence[str] = ()) -> None:
        super().__init__(*problems)
        self.llms = tuple(llms)


PUBLISHED_SET = "published"
"""What `LabelSource.set_id` calls a published set."""


@checked("llm")
@dataclass(frozen=True)
class LabelSource:
    """Says which LLM's labels are wanted, and finds them.

    Args:
        name: the LLM, as a choice in the group ``llm``.
        model: the model behind the name; stored labels by another model are not used.
        revision: likewise, if one is named.
        labels: the user's own label file, used instead of stored or published labels.
        column: a column of the corpus's own table that holds the LLM labels; excludes `labels`.
        by_prompt: for `column`: whether to prefer the prompt's own column ``<column>_<prompt>``, if there is one.
        columns: for `labels`: ``text_id`` and ``llm_label`` name the file's columns.
        store: the label store, a file; None looks at published labels only.
        set_id: the id of a stored set, or its beginning, or ``published``, if several sets fit.
        members: an ensemble of these LLMs, each a choice of ``llm``: the mean if all of them have a label.
        engine: how the model is asked, as configuration; None if it cannot be asked.

    Raises:
        InputError: naming every setting of the wrong type; or both `labels` and `column` are given, or `columns` lacks
            one.
    """

    name: str
    model: str | None = None
    revision: str | None = None
    labels: str | None = None
    column: str | None = None
    by_prompt: bool = False
    columns: dict[str, str] = field(default_factory=lambda: {"text_id": "text_id", "llm_label": "llm_label"})
    store: str | None = None
    set_id: str | None = None
    members: Sequence[str] = ()
    engine: Any = None

    def contradictions(self) -> Iterator[str]:
        """Yield the settings that contradict each other."""
        if self.labels and self.column:
            yield (
                f"llm.labels={self.labels} and llm.column={self.column} exclude each other: "
                "labels come from a file or from a column of the corpus; set one of them to null"
            )
        if {"text_id", "llm_label"} - set(self.columns):
            yield f"llm.columns needs the keys text_id and llm_label, found {sorted(self.columns)}"

    def find(self, corpora: Sequence[str], table: pd.DataFrame, scale: Scale, prompt: str, folder: Folder) -> LabelSet:
        """Return the one label set that covers the texts of `table`; one whose labels drift is named in a warning.

        Args:
            corpora: the corpora the texts come from; if there are several, ids are prefixed with the corpus's name.
            table: a canonical table, including `column` if the labels are there.
            scale: the scale of the labels.
            prompt: the prompt they were made with, as a choice in the group ``prompt``.
            folder: where the data files are.

        Raises:
            InputError: there are no such labels, or several sets of them (the message lists the choice); or the
                labels cannot be used, for example because a text has changed since.
        """
        labels = self._read(corpora, table, scale, prompt, folder)
        if not self.members and (warning := drift_warning(labels.name, list(drift_of(labels.labels, table, corpora)))):
            log.warning(warning)
        return labels

    def own_column(self, table: pd.DataFrame, prompt: str) -> str | None:
        """Return the column of a canonical table with the LLM's labels; None if none is named or it is missing."""
        wanted = [f"{self.column}_{prompt}"] * self.by_prompt + [str(self.column)] if self.column else []
        return next((column for column in wanted if column in table), None)

    def _read(self, corpora: Sequence[str], table: pd.DataFrame, scale: Scale, prompt: str, folder: Folder) -> LabelSet:
        whole = "+".join(corpora)
        if self.column:
            column = self.own_column(table, prompt) or self.column
            require_columns(table, [column], f"corpus {whole}", "llm.column names a column of the corpus's table")
            table = table.assign(llm_label=numbers(table[column], whole))[["text_id", "llm_label"]]
            return label_set(f"{whole}/{column}", table, scale, f"column {column} of {whole}")
        if self.labels:
            table = read_labels(self.labels, [self.columns["text_id"]], self.columns["llm_label"])
            return label_set(f"{whole}/{self.labels}", table, scale, self.labels)
        if self.members:
            by_member: dict[str, LabelSet] = {}
            missing: list[MissingLabelsError] = []
            for name in self.members:
                try:
                    member = replace(self, name=name, model=None, members=())
                    by_member[name] = member.find(corpora, table, scale, prompt, folder)
                except MissingLabelsError as error:
                    missing.append(error)
            if missing:
                problems = [problem for error in missing for problem in error.problems]
                raise MissingLabelsError(*problems, llms=[llm for error in missing for llm in error.llms])
            return averaged(self.name, by_member)
        prefixes = [f"{corpus}:" for corpus in corpora] if len(corpora) > 1 else [""]
        try:
            sets = [self._of_corpus(corpus, scale, prompt, folder) for corpus in corpora]
        except MissingLabelsError as error:
            raise MissingLabelsError(*error.problems, *_hint(table), llms=error.llms) from error
        labels = joined(sets, prefixes)
        refuse_if_any(_changed(labels, table))
        return labels

    def _of_corpus(self, corpus: str, scale: Scale, prompt: str, folder: Folder) -> LabelSet:
        """Return the one set for a corpus, from the store or from published files."""
        candidates: dict[str, StoredSet | PublishedSet] = {
            stored.id: stored for stored in self._stored(corpus, scale, prompt)
        }
        unpublished: tuple[str, ...] = ()
        try:
            candidates[PUBLISHED_SET] = published(corpus, self.name, prompt, scale.name)
        except InputError as error:
            unpublished = error.problems
        chosen = [candidate for set_id, candidate in candidates.items() if set_id.startswith(self.set_id or "")]
        if not chosen and not self.set_id:
            raise MissingLabelsError(*unpublished, *self._how_to_make(corpus, scale, prompt), llms=[self.name])
        if len(chosen) != 1:
            what = f"{len(chosen)} label sets" if chosen else f"No label set {self.set_id}"
            names = [str(candidate) if isinstance(candidate, StoredSet) else f"{PUBLISHED_SET}  {candidate.name}"
                     for candidate in candidates.values()]  # fmt: skip
            lines = [f"  llm.set_id={name}" for name in names]
            raise InputError(
                f"{what} by llm={self.name} with prompt={prompt} on scale={scale.name} for the corpus {corpus}. "
                + "\n".join(["Choose one of these:", *lines] if lines else ["There are none."])
            )
        if isinstance(chosen[0], PublishedSet):
            return chosen[0].read(scale, folder)
        assert self.store is not None
        with LabelStore(self.store, read_only=True) as store:
            return stored_labels(store, chosen[0], scale)

    def _stored(self, corpus: str, scale: Scale, prompt: str) -> list[StoredSet]:
        """Return the matching stored sets that hold at least one label."""
        if self.store is None or not Path(self.store).is_file():
            return []
        wanted = {"corpus": corpus, "llm": self.name, "prompt": prompt, "scale": scale.name}
        wanted |= {name: value for name in ("model", "revision") if (value := getattr(self, name))}
        with LabelStore(self.store, read_only=True) as store:
            return [stored for stored in store.sets(**wanted) if stored.labelled]

    def _how_to_make(self, corpus: str, scale: Scale, prompt: str) -> Iterator[str]:
        """Say how to make the labels, if this LLM can be asked."""
        if self.engine is None:
            return
        words = [f"llm={self.name}"]
        words += [f"llm.{name}={value}" for name in ("model", "revision") if (value := getattr(self, name))]
        words += [f"prompt={prompt}", f"scale={scale.name}", f"data={corpus}", f"store={self.store}"]
        yield f"To make them, with the data.* settings of this command: {called('label')} {' '.join(words)}"


def by_text(labels: LabelSet, text_ids: "pd.Series[str]", with_spread: bool) -> pd.DataFrame:
    """Return ``llm_label`` and, if wanted, ``spread`` of texts, indexed by ``text_id``, NaN where there is none."""
    columns = {"llm_label": labels.of(text_ids)}
    if with_spread:
        spread = labels.labels.reindex(columns=["spread"])["spread"]
        columns["spread"] = text_ids.map(numbers(spread, labels.source))
    return pd.DataFrame(columns).astype("float64").set_axis(pd.Index(text_ids), axis=0)


LABEL_OF = "label of "
"""Prefix of an LLM's name in the column of its labels, in a table with several LLMs."""


def ratings_of(labels: LabelSet, text_ids: "pd.Series[str]", name: str) -> pd.DataFrame:
    """Return each LLM's labels of texts, indexed by ``text_id``, NaN where there is none, as columns `LABEL_OF` + LLM.

    Args:
        labels: by one LLM, or the mean of several.
        text_ids: ids of the texts.
        name: that LLM's, as a choice of ``llm``; with several LLMs, columns have the names of each.
    """
    members = [str(name) for name in labels.labels if str(name).startswith(LABEL_OF)]
    ratings = labels.labels[members or ["llm_label"]].rename(columns={"llm_label": f"{LABEL_OF}{name}"})
    return ratings.reindex(pd.Index(text_ids)).astype("float64")


def averaged(name: str, by_member: Mapping[str, LabelSet]) -> LabelSet:
    """Return the mean of several label sets where all have a label, NaN elsewhere.

    ``spread`` is the population standard deviation of the members' labels. A text that any member left
    unlabelled has no label: a mean over fewer members would not be comparable with the others. Each member's own
    labels are columns too; `ratings_of` finds them.
    """
    sets = list(by_member.values())
    each = pd.concat({llm: labels.labels["llm_label"] for llm, labels in by_member.items()}, axis=1)
    table = pd.DataFrame(
        {"llm_label": each.mean(axis=1, skipna=False), "spread": each.std(axis=1, ddof=0, skipna=False)}
    ).rename_axis("text_id")
    table = table.join(each.add_prefix(LABEL_OF))
    for column in SPENT:  # what all members cost together
        if all(column in labels.labels for labels in sets):
            table[column] = pd.concat([labels.labels[column] for labels in sets], axis=1).sum(axis=1, skipna=False)
    return LabelSet(
        name=f"{name}({', '.join(labels.name for labels in sets)})",
        labels=table,
        source=", ".join(labels.source for labels in sets),
        licence="; ".join(dict.fromkeys(labels.licence for labels in sets if labels.licence)),
        examples=frozenset().union(*(labels.examples for labels in sets)),
    )


def _changed(labels: LabelSet, table: pd.DataFrame) -> Iterator[str]:
    """Name texts that differ from the ones labelled under the same ids."""
    if "text_hash" not in labels.labels or "text" not in table:
        return
    labelled = table["text_id"].map(labels.labels["text_hash"])
    now = table["text"].map(text_hash)
    changed = table["text_id"][labelled.notna() & (labelled != now)]
    if len(changed):
        yield (
            f"{labels.source}: {count(len(changed), 'text')} changed since labels were made under the same ids, such "
            f"as {', '.join(changed.head(3))}. If the corpus has changed, run label.py again; if it is another corpus, "
            "give it its own name with data.name="
        )


def _hint(table: pd.DataFrame) -> list[str]:
    """Point to LLM labels in the corpus itself, as in the simulator's."""
    return ["The corpus has a column llm_label: choose llm=simulated to use it"] if "llm_label" in table else []
