"""Numbers that others published, to stand beside one's own in a column of their own; `paper.yaml` holds them."""

from collections.abc import Iterator, Mapping
from importlib.resources import files
from itertools import chain
from typing import Any

import pandas as pd
import yaml

from invitro.errors import InputError, refuse_if_any
from invitro.studies.resampling import METRICS

RANGES = {"pcc": (-1.0, 1.0), "ccc": (-1.0, 1.0), "rmse": (0.0, float("inf"))}
ROW = ("label", "experiment", "factors", *METRICS)


def published_numbers(table: str) -> pd.DataFrame:
    """Return one table of `paper.yaml`: one row a published row and metric.

    Columns: ``label``; ``experiment`` and the other factors that rows name (missing where a row names none);
    ``metric``; ``median`` and ``peak`` over the authors' seeds. ``attrs`` has ``source``, ``test_set`` and ``seeds``.

    Raises:
        InputError: there is no such table, or the file's numbers cannot be right.
    """
    tables: dict[str, Any] = yaml.safe_load(files("invitro.studies").joinpath("paper.yaml").read_text("utf-8"))
    if table not in tables:
        raise InputError(f"study.paper: expected one of {', '.join(tables)}, found {table!r}")
    return read_published(table, tables[table])


def read_published(name: str, table: Mapping[str, Any]) -> pd.DataFrame:
    """Return a table as `published_numbers` does, from the content of the file.

    Raises:
        InputError: naming every row with a missing or unknown key, a number outside its metric's range, or a peak that
            is worse than the median.
    """
    missing = [key for key in ("source", "test_set", "seeds", "rows") if not table.get(key)]
    refuse_if_any([f"paper.yaml: {name}: expected {key}, found none" for key in missing])
    refuse_if_any(chain.from_iterable(_problems(f"paper.yaml: {name}: row {n}", row) for n, row in _numbered(table)))
    rows = [
        {
            "label": row["label"],
            "experiment": row["experiment"],
            **row["factors"],
            "metric": metric,
            "median": float(row[metric][0]),
            "peak": float(row[metric][1]),
        }
        for _, row in _numbered(table)
        for metric in METRICS
    ]
    frame = pd.DataFrame(rows)
    last = ["metric", "median", "peak"]
    frame = frame[[column for column in frame.columns if column not in last] + last]
    frame.attrs = {"source": table["source"], "test_set": table["test_set"], "seeds": list(table["seeds"])}
    return frame


def _numbered(table: Mapping[str, Any]) -> Iterator[tuple[int, Any]]:
    return enumerate(table["rows"], start=1)


def _problems(place: str, row: Mapping[str, Any]) -> Iterator[str]:
    if set(row) != set(ROW):
        yield f"{place}: expected the keys {', '.join(ROW)}, found {', '.join(map(str, row))}"
        return
    for metric, (low, high) in RANGES.items():
        pair = row[metric]
        numbers = isinstance(pair, list) and all(isinstance(one, (int, float)) for one in pair)
        if not numbers or len(pair) != 2 or not all(low <= one <= high for one in pair):
            yield f"{place}, {row['label']}: {metric}: expected [median, peak] from {low:g} to {high:g}, found {pair!r}"
        elif (pair[1] < pair[0]) != (metric == "rmse") and pair[0] != pair[1]:
            yield f"{place}, {row['label']}: {metric}: the peak {pair[1]} is worse than the median {pair[0]}"
