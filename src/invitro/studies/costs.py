"""What each configuration of a study costs, from its runs' records: time, and the LLM's labels, tokens and bill."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pandas as pd

from invitro.stats.intervals import compared
from invitro.stats.moments import RESAMPLES
from invitro.studies.report.tables import CAPTIONS, Values, factor_cells
from invitro.studies.runs import Runs, score_split
from invitro.studies.study import Study, matches
from invitro.studies.summary import Summary
from invitro.studies.wording import (
    LOWER_IS_BETTER,
    METRIC_NAMES,
    SPLIT_NAMES,
    configuration,
    factor,
    mark,
    records,
    rows_of,
)
from invitro.writing.tables import Cell, Column, ReportTable, cell_of, estimate_cell, number_cell, table_of
from invitro.writing.words import number, plain, said

HOUR = 3600.0
LLM_COSTS = ("labels", "prompt_tokens", "completion_tokens", "dollars")
COST_KEYS = ["train.seconds", "cost.processor_seconds", *(f"cost.llm.{name}" for name in LLM_COSTS)]
ENCODER_KEYS = ["cost.encoder.seconds", "cost.encoder.processor_seconds"]
"""Keys of ``metrics.json``; `ENCODER_KEYS` cover the frozen encoder's pass and all other work that runs share."""


@dataclass(frozen=True)
class Cost:
    """The mean cost of one run of a configuration; NaN if a run's record does not contain it.

    A shared run counts at the full cost of its training. Older records contain only the time.

    Args:
        hours: from start to end of training, without a frozen encoder's pass, whose features all runs share, and
            without other work that runs of a sweep on the same texts share.
        processor_hours: of all processor cores together, child processes included.
        device: used for training, ``cpu`` or a GPU's name, the most frequent first; None if no record names one.
        labels: texts whose LLM label was used in training or compared with the crowd label.
        prompt_tokens: tokens that the LLM read for these labels.
        completion_tokens: tokens that it generated.
        dollars: its provider's charge, in US dollars.
    """

    hours: float
    processor_hours: float
    device: str | None
    labels: float
    prompt_tokens: float
    completion_tokens: float
    dollars: float


def cost_of(runs: Runs, values: Mapping[str, Any]) -> Cost:
    """Return the cost of the configuration with these factor values."""
    table = _recorded(runs, rows_of(runs, values))
    means, shared = table[COST_KEYS].mean(skipna=False), table[ENCODER_KEYS].fillna(0.0).mean()
    devices = table["cost.device"].dropna().value_counts()
    return Cost(
        hours=(means["train.seconds"] - shared["cost.encoder.seconds"]) / HOUR,
        processor_hours=(means["cost.processor_seconds"] - shared["cost.encoder.processor_seconds"]) / HOUR,
        device=", ".join(devices.index) or None,
        **{name: means[f"cost.llm.{name}"] for name in LLM_COSTS},
    )


def encoder_hours(runs: Runs) -> float:
    """Return the hours that frozen encoders' passes over texts took in all runs together."""
    return float(_recorded(runs, runs.finished().index)["cost.encoder.seconds"].sum()) / HOUR


def _recorded(runs: Runs, rows: Iterable[int]) -> pd.DataFrame:
    """Return the costs in the records of these rows, each record once; NaN where a record lacks one."""
    unique = runs.table.loc[list(rows), "record"].drop_duplicates()
    table = pd.json_normalize([runs.metrics(row) for row in unique.index])
    return table.reindex(columns=[*COST_KEYS, *ENCODER_KEYS, "cost.device"]).astype(
        dict.fromkeys([*COST_KEYS, *ENCODER_KEYS], "float64")
    )


UNKNOWN = Cell("unknown")
GAINS = ("ccc", "rmse")


def costs_table(study: Study, runs: Runs, summary: Summary) -> ReportTable:
    """Return one row per configuration: its gains over the baseline, and the cost of one of its runs."""
    shown = [metric for metric in GAINS if metric in study.metrics]
    columns = [
        *(Column(name, factor(name)) for name in runs.factors),
        *(Column(metric, METRIC_NAMES[metric], f"gain on {SPLIT_NAMES[summary.split]}") for metric in shown),
        Column("labels", "texts", "LLM"),
        Column("prompt_tokens", "tokens read", "LLM"),
        Column("completion_tokens", "tokens written", "LLM"),
        Column("dollars", "US dollars", "LLM"),
        Column("device", "device", "per run"),
        Column("hours", "hours", "per run"),
        Column("processor_hours", "processor hours", "per run"),
        Column("per_hour", "per hour", "CCC gained"),
        Column("per_dollar", "per dollar", "CCC gained"),
        Column("more_than", "than", INCREMENT),
        Column("more_ccc", "CCC gained", INCREMENT),
        Column("more_labels", "LLM labels", INCREMENT),
        Column("more_dollars", "US dollars", INCREMENT),
        Column("more_hours", "hours", INCREMENT),
    ]
    steps = _increments(runs, summary)
    rows = []
    groups: list[Any] = [row for row in records(summary.groups) if row.get("seeds", 0)]
    for row in groups:
        cost, gains = cost_of(runs, row), {metric: _gain(summary, runs, row, metric) for metric in GAINS}
        cells = factor_cells(runs, row, mark(summary, row)) | _spent(cost)
        cells |= {metric: estimate_cell(*gains[metric], sign=True) for metric in shown}
        cells["per_hour"] = _ratio(gains["ccc"], cost.hours)
        cells["per_dollar"] = _ratio(gains["ccc"], cost.dollars)
        rows.append(cells | steps.get(configuration(row, runs.factors), {}))
    return table_of(
        "costs",
        "Gains and costs",
        columns,
        rows,
        said(CAPTIONS, "costs", "rmse" in shown, SPLIT_NAMES[summary.split], encoder_hours(runs)),
    )


INCREMENT = "more than the next cheaper"


def _increments(runs: Runs, summary: Summary) -> dict[str, dict[str, Cell]]:
    """Return each configuration's extra cost and gain over the next cheaper one, by its name.

    Configurations are ordered by the dollars that their LLM labels cost; if these are unknown or equal, by the number
    of labels, and then by hours.
    """
    costs = [(row, cost_of(runs, row)) for row in records(summary.groups) if row.get("seeds", 0)]
    priced = not any(math.isnan(cost.dollars) for _, cost in costs)
    costs.sort(key=lambda entry: (entry[1].dollars if priced else 0.0, entry[1].labels, entry[1].hours))
    scored = score_split(runs, summary.split, RESAMPLES)
    increments = {}
    for (before, less), (row, more) in pairwise(costs):
        cells = {"more_than": cell_of(configuration(before, runs.factors))}
        for name, places in (("labels", 0), ("dollars", 4), ("hours", 4)):
            cells[f"more_{name}"] = _amount(getattr(more, name) - getattr(less, name), places)
        arms = [runs.by_replicate(rows_of(runs, values)) for values in (row, before)]
        pair = None if scored is None else scored.pair(*arms)
        if pair is not None:
            gain = compared(pair[0]["ccc"], pair[1]["ccc"], "ccc")
            cells["more_ccc"] = estimate_cell(gain.difference, gain.low, gain.high, sign=True)
        increments[configuration(row, runs.factors)] = cells
    return increments


def _gain(summary: Summary, runs: Runs, row: Values, metric: str) -> tuple[float, float, float]:
    """Return a configuration's gain on `Summary.split` with its interval; NaN if nothing was compared.

    For RMSE, where lower is better, the sign of the difference is reversed.
    """
    wanted = {name: row[name] for name in runs.factors} | {"split": summary.split, "metric": metric}
    difference: Any = next((other for other in records(summary.differences) if matches(other, wanted)), None)
    if difference is None:
        return math.nan, math.nan, math.nan
    values = difference["difference"], difference["low"], difference["high"]
    return (-values[0], -values[2], -values[1]) if metric in LOWER_IS_BETTER else values


def _spent(cost: Cost) -> dict[str, Cell]:
    """Return the cells of a run's cost; tokens and price are 0 if no LLM was used."""
    digits = dict.fromkeys(("labels", "prompt_tokens", "completion_tokens"), 0)
    digits |= dict.fromkeys(("dollars", "hours", "processor_hours"), 4)
    cells = {name: _amount(getattr(cost, name), places) for name, places in digits.items()}
    return cells | {"device": UNKNOWN if cost.device is None else cell_of(cost.device)}


def _amount(value: float, digits: int) -> Cell:
    """Write an amount so that a small one does not look like zero."""
    if math.isnan(value):
        return UNKNOWN
    small = 0 < value < 10**-digits
    return cell_of(value, plain(float(f"{value:.1g}")) if small else number(value, digits))


def _ratio(gain: tuple[float, float, float], spent: float) -> Cell:
    """Return gain per unit spent; empty if the gain's interval includes 0, or if spending is 0 or unknown."""
    value, low, high = gain
    return number_cell(value / spent if spent > 0 and (low > 0 or high < 0) else None, sign=True)
