"""A label set: the LLM labels of one corpus by one model, prompt and scale."""

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from invitro.errors import InputError, refuse_if_any
from invitro.scales import Scale

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LabelSet:
    """LLM labels by text id.

    Args:
        name: readable and unique, ``<corpus>/<llm>/<prompt>/<scale>``.
        labels: indexed by ``text_id`` (unique), with a column ``llm_label`` (float64, the scale's units, NaN where the
            LLM gave no usable score) and any other columns of the source, such as ``spread`` and one column per item.
        source: the file, store or column that the labels come from.
        licence: the terms under which they may be used.
    """

    name: str
    labels: pd.DataFrame
    source: str
    licence: str = ""

    @property
    def fingerprint(self) -> str:
        """Hash of ids and labels, whatever the row order."""
        return hashlib.sha256(self.labels[["llm_label"]].sort_index().to_csv().encode()).hexdigest()

    def of(self, text_ids: "pd.Series[str]") -> "pd.Series[float]":
        """Return the label of each id, by key, on the same index; NaN where there is none.

        Raises:
            InputError: no id of the label set occurs in `text_ids`.
        """
        known = text_ids.isin(self.labels.index)
        if len(text_ids) and not known.any():
            raise InputError(
                f"{self.source}: no id in common with the corpus; found ids such as {_sample(self.labels.index)}, "
                f"expected ids such as {_sample(text_ids)}. Check the id column of the label file"
            )
        foreign = int((~self.labels.index.isin(text_ids)).sum())
        if foreign:
            log.info("%s: %d labels belong to no text in use and are left out", self.name, foreign)
        return text_ids.map(self.labels["llm_label"]).astype("float64")


def label_set(name: str, table: pd.DataFrame, scale: Scale, source: str, licence: str = "") -> LabelSet:
    """Build a checked `LabelSet` from a table with ``text_id`` and ``llm_label``; other columns are kept.

    Raises:
        InputError: an id occurs twice or is missing, or a label lies outside the scale; each with its data row.
    """
    ids, labels = table["text_id"], table["llm_label"]
    faults = {
        "expected an id": ids.isna(),
        "expected an id that occurs once": ids.duplicated(),
        f"expected a label from {scale.minimum:g} to {scale.maximum:g} ({scale.name})": pd.Series(
            scale.outside(labels.to_numpy()), index=labels.index
        ),
    }
    problems = []
    for expected, wrong in faults.items():
        if wrong.any():
            row = int(wrong.to_numpy().argmax())
            problems.append(
                f"{source}: data row {row + 1}: {expected}, found id {ids.iloc[row]!r} with label {labels.iloc[row]:g}"
                + (f" (and {int(wrong.sum()) - 1} more rows)" if wrong.sum() > 1 else "")
            )
    refuse_if_any(problems)
    return LabelSet(name, table.set_index("text_id"), source, licence)


def joined(sets: Sequence[LabelSet], prefixes: Sequence[str]) -> LabelSet:
    """Join the label sets of a combination's members into one, prefixing each member's ids (``newsemp22:R_1``)."""
    if len(sets) == 1 and prefixes == [""]:
        return sets[0]
    tables = [one.labels.set_axis(prefix + one.labels.index) for one, prefix in zip(sets, prefixes, strict=True)]
    return LabelSet(
        name="+".join(one.name for one in sets),
        labels=pd.concat(tables),
        source=", ".join(one.source for one in sets),
        licence="; ".join(dict.fromkeys(one.licence for one in sets if one.licence)),
    )


def _sample(ids: "pd.Series[str] | pd.Index[str]") -> str:
    return ", ".join(repr(text_id) for text_id in list(ids)[:3]) or "none"
