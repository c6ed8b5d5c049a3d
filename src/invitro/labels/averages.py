"""From stored answers to a label set: the usable samples of each text, averaged."""

import json
import math
from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter
from typing import Any

import pandas as pd

from invitro.labels.labelset import LabelSet, label_set
from invitro.labels.store import LabelStore
from invitro.labels.stored import OK, StoredSet, pieces
from invitro.scales import Scale

NAN = math.nan
SPENT = ("prompt_tokens", "completion_tokens", "dollars")
PIECE = 10_000
"""Rows that are held as Python objects at a time."""


def stored_labels(store: LabelStore, stored: StoredSet, scale: Scale) -> LabelSet:
    """Return a stored set as a `LabelSet`.

    With n usable samples of scores y_k and spreads s_k (0 where the readout has none), a text's label and spread are::

        llm_label = mean(y_k)          spread = sqrt(mean(s_k^2) + mean((y_k - llm_label)^2))

    which is the standard deviation of an answer that is drawn at random. One sample without a spread of its own has
    none (NaN). A text without a usable answer keeps its row, with NaN.

    Columns: ``llm_label``, ``spread``, ``samples`` (usable ones), ``text_hash``, ``llm_<item>`` (item scores,
    averaged too) where items were scored, and `SPENT`: what a text's answers cost, retries included, as the engine
    told it (0 where it counts no tokens or has no price).

    Raises:
        InputError: a label lies outside `scale`.
    """
    names = json.loads(stored.info.items)["names"]
    columns = [f"llm_{name}" for name in names] if len(names) > 1 else []
    rows = _rows(store, stored.id, len(columns))
    # Piece by piece: all rows at once would be tuples of Python objects, many times the table's size.
    tables = [_table(piece, columns) for piece in pieces(rows, PIECE)] or [_table([], columns)]
    spent = pd.DataFrame(map(tuple, store.spent(stored.id)), columns=["text_id", *SPENT])
    table = pd.concat(tables, ignore_index=True)
    for name in SPENT:
        table[name] = table["text_id"].map(spent.set_index("text_id")[name]).astype("float64")
    return label_set(stored.info.name, table, scale, f"{store.path}, label set {stored.id}")


def _table(rows: list[tuple[Any, ...]], columns: list[str]) -> pd.DataFrame:
    """Return rows as a typed table."""
    table = pd.DataFrame(rows, columns=["text_id", "llm_label", "spread", "samples", "text_hash", *columns])
    numbers = dict.fromkeys(["llm_label", "spread", *columns], "float64")
    return table.astype({"text_id": "str", "text_hash": "str", "samples": "int64"} | numbers)


def _rows(store: LabelStore, set_id: str, items: int) -> Iterator[tuple[Any, ...]]:
    """Yield one row a text."""
    for text_id, samples in groupby(store.outcomes(set_id), key=itemgetter("text_id")):
        every = list(samples)
        usable = [sample for sample in every if sample["status"] == OK]
        label, spread = _averaged([(one["score"], one["spread"]) for one in usable])
        scores = [json.loads(one["items"]) for one in usable] if items else []
        means = [math.fsum(item) / len(usable) for item in zip(*scores, strict=True)] or [NAN] * items
        yield text_id, label, spread, len(usable), every[0]["text_hash"], *means


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
