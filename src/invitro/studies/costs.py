"""What each configuration of a study costs, from its runs' records: time, and the LLM's labels, tokens and bill."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from invitro.stats.intervals import compared
from invitro.stats.moments import RESAMPLES
from invitro.studies.report.tables import CAPTIONS, Values, factor_cells
from invitro.studies.runs import Runs, score_split
from invitro.studies.study import matches
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
from invitro.training.record import read_metrics
from invitro.writing.tables import Cell, Column, ReportTable, cell_of, estimate_cell, number_cell, table_of
from invitro.writing.words import number, plain, said

if TYPE_CHECKING:
    from invitro.studies.study import Study
    from invitro.studies.summary import Summary

HOUR = 3600.0
LLM_COSTS = ("labels", "prompt_tokens", "completion_tokens", "dollars")


@dataclass(frozen=True)
class Cost:
    """What one run of a configuration costs, on average over its runs; NaN where a run's record does not say.

    A shared run counts with the cost of its training. Older records contain only the time.

    Args:
        hours: from start to end of a training, without the pass of a frozen encoder, whose features all runs share, and
            without what runs of a sweep on the same texts share.
        processor_hours: of all processor cores together, child processes included.
        device: what it was trained on, ``cpu`` or a GPU's name, the most frequent first; None where no record says.
        labels: texts whose LLM label was used in training or compared with the crowd label.
        prompt_tokens: that the LLM read for these labels.
        completion_tokens: that it generated.
        dollars: what its provider charged, in US dollars.
    """

    hours: float
    processor_hours: float
    device: str | None
    labels: float
    prompt_tokens: float
    completion_tokens: float
    dollars: float


def cost_of(runs: Runs, values: Mapping[str, Any]) -> Cost:
    """Return the cost of the configuration that has these values of the factors."""
    records = dict.fromkeys(str(runs.table.loc[row, "record"]) for row in rows_of(runs, values))
    metrics = [read_metrics(Path(record)) for record in records]
    costs: list[Mapping[str, Any]] = [one.get("cost") or {} for one in metrics]
    used: list[Mapping[str, Any]] = [one.get("llm") or {} for one in costs]
    devices = Counter(str(one["device"]) for one in costs if one.get("device"))
    return Cost(
        hours=(_mean([(one.get("train") or {}).get("seconds") for one in metrics]) - _shared(costs, "seconds")) / HOUR,
        processor_hours=(_mean([one.get("processor_seconds") for one in costs]) - _shared(costs, "processor_seconds"))
        / HOUR,
        device=", ".join(device for device, _ in devices.most_common()) or None,
        **{name: _mean([one.get(name) for one in used]) for name in LLM_COSTS},
    )


def _shared(costs: Sequence[Mapping[str, Any]], name: str) -> float:
    """Return what the frozen encoder's pass, and all that runs share, took in these records, mean over them."""
    return float(np.mean([(one.get("encoder") or {}).get(name, 0.0) for one in costs])) if costs else 0.0


def encoder_hours(runs: Runs) -> float:
    """Return the hours that frozen encoders' passes over texts took in all runs together."""
    metrics = [read_metrics(Path(str(record))) for record in runs.finished()["record"].unique()]
    return float(sum(((one.get("cost") or {}).get("encoder") or {}).get("seconds", 0.0) for one in metrics)) / HOUR


def _mean(values: Sequence[float | None]) -> float:
    """Return the mean; NaN where any is unknown, or there is none."""
    if not values or any(value is None for value in values):
        return float("nan")
    return float(np.mean([float(value) for value in values if value is not None]))


UNKNOWN = Cell("unknown")
GAINS = ("ccc", "rmse")


def costs_table(study: "Study", runs: "Runs", summary: "Summary") -> ReportTable:
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


def _increments(runs: "Runs", summary: "Summary") -> dict[str, dict[str, Cell]]:
    """Return by configuration what it costs and gains beyond the next cheaper one.

    Cheaper is what its LLM labels cost in dollars or, where that is unknown or equal, their number, and then the hours.
    """
    costs = [(row, cost_of(runs, row)) for row in records(summary.groups) if row.get("seeds", 0)]
    priced = not any(math.isnan(cost.dollars) for _, cost in costs)
    costs.sort(key=lambda one: (one[1].dollars if priced else 0.0, one[1].labels, one[1].hours))
    scored = score_split(runs, summary.split, RESAMPLES, 0)
    found = {}
    for (before, less), (row, more) in pairwise(costs):
        cells = {"more_than": cell_of(configuration(before, runs.factors))}
        for name, places in (("labels", 0), ("dollars", 4), ("hours", 4)):
            cells[f"more_{name}"] = _amount(getattr(more, name) - getattr(less, name), places)
        jobs, others = _paired(runs, row, before)
        pair = scored.pair(jobs, others) if scored is not None and jobs else None
        if pair is not None:
            gain = compared(pair[0]["ccc"], pair[1]["ccc"], "ccc")
            cells["more_ccc"] = estimate_cell(gain.difference, gain.low, gain.high, sign=True)
        found[configuration(row, runs.factors)] = cells
    return found


def _paired(runs: "Runs", a: Values, b: Values) -> tuple[list[int], list[int]]:
    """Return the jobs of two configurations that have a replicate in common, in the same order."""
    of: list[dict[Any, int]] = [
        {tuple(runs.table.loc[job, name] for name in runs.replicates): job for job in rows_of(runs, values)}
        for values in (a, b)
    ]
    common = [key for key in of[0] if key in of[1]]
    return [of[0][key] for key in common], [of[1][key] for key in common]


def _gain(summary: "Summary", runs: "Runs", row: Values, metric: str) -> tuple[float, float, float]:
    """Return a configuration's gain on `Summary.split` with its interval; NaN where nothing was compared.

    For RMSE, where lower is better, the sign of the difference is reversed.
    """
    wanted = {name: row[name] for name in runs.factors} | {"split": summary.split, "metric": metric}
    one: Any = next((one for one in records(summary.differences) if matches(one, wanted)), None)
    if one is None:
        return math.nan, math.nan, math.nan
    values = one["difference"], one["low"], one["high"]
    return (-values[0], -values[2], -values[1]) if metric in LOWER_IS_BETTER else values


def _spent(cost: Cost) -> dict[str, Cell]:
    """Return the cells of a run's cost; where no LLM was used its tokens and price are 0."""
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
    """Return gain per unit spent; nothing where the gain's interval includes 0, or what was spent is 0 or unknown."""
    value, low, high = gain
    return number_cell(value / spent if spent > 0 and (low > 0 or high < 0) else None, sign=True)
