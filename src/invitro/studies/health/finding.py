"""Findings of health checks, and how configurations are named in them."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd

from invitro.studies.wording import configuration, rows_of

if TYPE_CHECKING:
    from invitro.studies.runs import Runs
    from invitro.studies.summary import Summary

MOST_NAMED = 3
"""Configurations named in a finding; further ones are counted."""


@dataclass(frozen=True)
class Finding:
    """The result of a health check.

    Args:
        check: its name.
        level: ``warning`` where a result may mislead, ``note`` for what readers should know, ``good`` otherwise.
        what: the finding, with numbers.
        do: what to do about it; empty where there is nothing to do.
    """

    check: str
    level: Literal["warning", "note", "good"]
    what: str
    do: str = ""


def named(row: "pd.Series[Any]", factors: Sequence[str]) -> str:
    """Name the configuration of a row."""
    return configuration({str(name): row[name] for name in factors}, factors)


def few(names: Iterable[str]) -> str:
    """List names, `MOST_NAMED` at most."""
    names = list(names)
    more = [f"{len(names) - MOST_NAMED} more"] if len(names) > MOST_NAMED else []
    return "; ".join([*names[:MOST_NAMED], *more])


def named_rows(runs: "Runs", summary: "Summary") -> Iterator[tuple[str, list[int]]]:
    """Yield every configuration with a result: its name and its jobs."""
    for row in summary.groups.to_dict("records"):
        values = {str(name): value for name, value in row.items()}
        jobs = rows_of(runs, values)
        if jobs:
            yield configuration(values, runs.factors), jobs
