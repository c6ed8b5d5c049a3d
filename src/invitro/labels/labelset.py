"""A label set: the LLM labels of one corpus by one model, prompt and scale."""

import hashlib
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
import yaml

from invitro.errors import InputError, refuse_if_any, shown
from invitro.scales import Scale, likely_bounds, on_another_scale
from invitro.tables import numbers, read_table, require_columns
from invitro.writing.words import count

log = logging.getLogger(__name__)


SAME_SPLIT = "label with the data/split= of this run, so that training texts are shown"


def shown_examples(labels: str, ids: Sequence[str], where: str, way_out: str) -> str:
    """Return the message that the prompts of `labels` showed labels of texts that `where` evaluates on."""
    texts = count(len(ids), "text")
    return (
        f"{labels}: its prompts showed the LLM the crowd labels of {texts} that {where} evaluates on, such as "
        f"{_sample(ids)}. Choose labels by a prompt without examples, such as prompt=scale_aware, or {way_out}"
    )


class ShownExamplesError(InputError):
    """Prompts showed the LLM the crowd labels of texts that a model is to be evaluated on.

    Args:
        problem: the message.
        labels: the label set.
        shown: ids of these texts.
    """

    def __init__(self, problem: str, labels: str, shown: Sequence[str]) -> None:
        super().__init__(problem)
        self.labels, self.shown = labels, tuple(shown)


@dataclass(frozen=True)
class LabelSet:
    """LLM labels by text id.

    Args:
        name: readable and unique, ``<corpus>/<llm>/<prompt>/<scale>``.
        labels: indexed by ``text_id`` (unique), with a column ``llm_label`` (float64, the scale's units, NaN if the
            LLM gave no usable score) and any other columns of the source, such as ``spread`` and one column per item.
        source: the file, store or column that the labels come from.
        licence: the terms under which they may be used.
        examples: ids of the rated texts that its prompts showed, as `invitro.data.Corpus.whole_ids` has them.
    """

    name: str
    labels: pd.DataFrame
    source: str
    licence: str = ""
    examples: frozenset[str] = frozenset()

    @property
    def fingerprint(self) -> str:
        """Hash of ids and labels, whatever the row order."""
        return hashlib.sha256(self.labels[["llm_label"]].sort_index().to_csv().encode()).hexdigest()

    def refuse_evaluated(self, ids: Iterable[str], where: str = "this split", way_out: str = SAME_SPLIT) -> None:
        """Refuse to evaluate a model on the texts `ids`, named like `examples`, if the LLM was shown the label of any.

        Args:
            ids: of the texts.
            where: what evaluates on them.
            way_out: the alternative to choosing other labels.

        Raises:
            ShownExamplesError: naming up to three of them.
        """
        if evaluated := sorted(self.examples.intersection(ids)):
            labels = f"{self.name} ({self.source})"
            raise ShownExamplesError(shown_examples(labels, evaluated, where, way_out), labels, evaluated)

    def of(self, text_ids: "pd.Series[str]") -> "pd.Series[float]":
        """Return the label of each id, by key, on the same index; NaN where there is none.

        Raises:
            InputError: no id of the label set occurs in `text_ids`.
        """
        labelled = text_ids.isin(self.labels.index)
        if len(text_ids) and not labelled.any():
            raise InputError(
                f"{self.source}: no id in common with the corpus; found ids such as {_sample(self.labels.index)}, "
                f"expected ids such as {_sample(text_ids)}. Check the id column of the label file"
            )
        foreign = int((~self.labels.index.isin(text_ids)).sum())
        if foreign:
            log.info("%s: left out: %s of texts that are not in use", self.name, count(foreign, "label"))
        return text_ids.map(self.labels["llm_label"]).astype("float64")


def label_set(name: str, table: pd.DataFrame, scale: Scale, source: str, licence: str = "") -> LabelSet:
    """Build a checked `LabelSet` from a table with ``text_id`` and ``llm_label``; other columns are kept.

    Raises:
        InputError: an id occurs twice or is missing, or a label is outside the scale; each with its data row.
    """
    ids, labels = table["text_id"], table["llm_label"]
    low, high = scale.minimum, scale.maximum
    faults = {"expected an id": ids.isna(), "expected an id that occurs once": ids.duplicated()}
    problems = []
    bounds = likely_bounds(labels)
    step = "" if bounds is None else f"{(high - low) / (bounds[1] - bounds[0]):.4g} * (label - {bounds[0]:g})"
    remedy = "Have the LLM answer on this scale, or convert its labels" + (f": {low:g} + {step}" if step else "")
    if mismatch := on_another_scale(labels, np.arange(len(labels)) + 1, "LLM labels", scale, None, remedy):
        problems.append(f"{source}: {mismatch}")
    else:
        expected = f"expected a label from {low:g} to {high:g} ({scale.name})"
        faults[expected] = pd.Series(scale.outside(labels.to_numpy()), index=labels.index)
    for expected, wrong in faults.items():
        if wrong.any():
            row = int(wrong.to_numpy().argmax())
            actual = f"found id {shown(ids.iloc[row])} with label {labels.iloc[row]:g}"
            more = f" (and {int(wrong.sum()) - 1} more)" if wrong.sum() > 1 else ""
            problems.append(f"{source}: data row {row + 1}: {expected}, {actual}{more}")
    refuse_if_any(problems)
    return LabelSet(name, table.set_index("text_id"), source, licence)


def joined(sets: Sequence[LabelSet], prefixes: Sequence[str]) -> LabelSet:
    """Join the label sets of a combination's members into one, prefixing each member's ids (``newsemp22:R_1``)."""
    if len(sets) == 1 and prefixes == [""]:
        return sets[0]
    tables = [
        member.labels.set_axis(prefix + member.labels.index) for member, prefix in zip(sets, prefixes, strict=True)
    ]
    return LabelSet(
        name="+".join(member.name for member in sets),
        labels=pd.concat(tables),
        source=", ".join(member.source for member in sets),
        licence="; ".join(dict.fromkeys(member.licence for member in sets if member.licence)),
        examples=frozenset().union(*(member.examples for member in sets)),
    )


def _sample(ids: Iterable[str]) -> str:
    return ", ".join(map(shown, list(ids)[:3])) or "none"


class Folder(Protocol):
    """A place for data files, such as `invitro.data.DataFolder`."""

    def need(self, corpus: str, file: str, obtain: str) -> Path:
        """Return the path of `file`, or raise an error."""

    def fetch(self, corpus: str, file: str, url: str, sha256: str, licence: str) -> Path:
        """Return the path of `file`, downloading it if needed."""


@dataclass(frozen=True)
class PublishedSet:
    """One entry of `published.yaml`.

    Args:
        corpus: the corpus that was labelled.
        llm: the model, as a choice in the group ``llm``.
        prompt: the prompt, as a choice in the group ``prompt``.
        scale: the scale, as a choice in the group ``scale``.
        ids: the columns that form a text's id, joined by ``_``.
        column: the column with the labels.
        files: ``(path below base_url, SHA-256 or None)``; together they form the set.
        base_url: where the files were published.
        licence: their terms.
    """

    corpus: str
    llm: str
    prompt: str
    scale: str
    ids: tuple[str, ...]
    column: str
    files: tuple[tuple[str, str | None], ...]
    base_url: str
    licence: str

    @property
    def name(self) -> str:
        """The label set's readable name."""
        return f"{self.corpus}/{self.llm}/{self.prompt}/{self.scale}"

    def read(self, scale: Scale, folder: Folder) -> LabelSet:
        """Read the files of this set, downloading them if that is allowed.

        Raises:
            InputError: a file is missing, has no such column, or contains a duplicate id or a label outside the scale.
        """
        tables = []
        for published, sha256 in self.files:
            url, file = f"{self.base_url}/{published}", Path(published).name
            path = (
                folder.fetch(self.corpus, file, url, sha256, self.licence)
                if sha256
                else folder.need(self.corpus, file, f"It is published at {url} ({self.licence}).")
            )
            tables.append(read_labels(path, self.ids, self.column).assign(file=file))
        source = ", ".join(published for published, _ in self.files)
        return label_set(self.name, pd.concat(tables, ignore_index=True), scale, source, self.licence)


def read_labels(path: str | Path, ids: Sequence[str], column: str) -> pd.DataFrame:
    """Read ``text_id`` and ``llm_label`` from a table file; blank labels are NaN, other columns are kept."""
    raw = read_table(path, plain=[*ids, column])
    require_columns(raw, [*ids, column], path, "Name the columns of id and label with llm.columns=")
    text_id = raw[ids[0]].str.cat(raw[list(ids[1:])], sep="_")
    carried = raw.drop(columns=[*ids, column]).drop(columns=["text_id", "llm_label"], errors="ignore")
    return carried.assign(text_id=text_id, llm_label=numbers(raw[column], path))


@cache
def published_sets() -> tuple[PublishedSet, ...]:
    """Return all entries of `published.yaml`."""
    catalogue: dict[str, Any] = yaml.safe_load(files("invitro.labels").joinpath("published.yaml").read_text("utf-8"))
    common = {name: catalogue[name] for name in ("base_url", "licence", "scale")}
    return tuple(
        PublishedSet(
            **common
            | entry
            | {
                "ids": tuple(entry["ids"]),
                "files": tuple((file["path"], file.get("sha256")) for file in entry["files"]),
            }
        )
        for entry in catalogue["sets"]
    )


def published(corpus: str, llm: str, prompt: str, scale: str) -> PublishedSet:
    """Return the one published set for these four, or raise an error that lists the candidates."""
    sets = published_sets()
    for candidate in sets:
        if (candidate.corpus, candidate.llm, candidate.prompt, candidate.scale) == (corpus, llm, prompt, scale):
            return candidate
    others = [candidate for candidate in sets if candidate.corpus == corpus]
    choices = "; ".join(f"llm={other.llm} prompt={other.prompt} scale={other.scale}" for other in others)
    raise InputError(
        f"No LLM labels by llm={llm} with prompt={prompt} on scale={scale} for the corpus {corpus}. "
        + (f"There are: {choices}. " if others else "No label file was published for it. ")
        + "Choose one of these, or name your own file with llm.labels=FILE, "
        "or a column of the corpus's own table with llm.column=NAME"
    )
