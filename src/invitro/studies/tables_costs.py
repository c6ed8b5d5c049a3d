"""The table that sets gains beside what they cost."""

import math
from typing import TYPE_CHECKING, Any

from invitro.studies.costs import Cost, cost_of
from invitro.studies.tables_parts import Cell, Column, Table, cell_of, table_of
from invitro.studies.wording import LOWER_IS_BETTER, METRICS, factor, interval, mark, matches, number, plain, records

if TYPE_CHECKING:
    from invitro.studies.runs import Runs
    from invitro.studies.study import Study
    from invitro.studies.summary import Summary

UNKNOWN = Cell("unknown")
GAINS = ("ccc", "rmse")
CAPTION = (
    "Gains on test over the baseline, with 95 % intervals; above 0 is better{rmse}. What one run cost, on "
    "average: the LLM's labels that it used or looked at, their tokens and bill (unknown for published label files, "
    "for labels of a column or a file, and for engines without a price), hours from start to end on the device, and "
    "hours of all processor cores together. Labels are paid once for all seeds. A run that was trained once and is "
    "shared counts with what that training cost."
)


def costs_table(study: "Study", runs: "Runs", summary: "Summary") -> Table:
    """Return one row a configuration: its gains over the baseline, and what a run of it cost."""
    shown = [metric for metric in GAINS if metric in study.metrics]
    columns = [
        *(Column(name, factor(name)) for name in runs.factors),
        *(Column(metric, METRICS[metric], "gain on test") for metric in shown),
        Column("labels", "texts", "LLM"),
        Column("prompt_tokens", "tokens read", "LLM"),
        Column("completion_tokens", "tokens written", "LLM"),
        Column("dollars", "US dollars", "LLM"),
        Column("device", "device", "a run"),
        Column("hours", "hours", "a run"),
        Column("processor_hours", "processor hours", "a run"),
        Column("per_hour", "an hour", "CCC gained"),
        Column("per_dollar", "a dollar", "CCC gained"),
    ]
    rows = []
    groups: list[Any] = [row for row in records(summary.groups) if row.get("seeds", 0)]
    for row in groups:
        cost = cost_of(runs, row)
        cells = {name: cell_of(row[name]) for name in runs.factors}
        if runs.factors and (told := mark(summary, row)):
            first = runs.factors[0]
            cells[first] = Cell(cells[first].text, cells[first].value, tag=told)
        gains = {metric: _gain(summary, runs, row, metric) for metric in GAINS}
        cells |= {metric: _gain_cell(gains[metric]) for metric in shown} | _spent(cost)
        ccc = gains["ccc"][0] if gains["ccc"] else math.nan
        cells["per_hour"] = _ratio(ccc, cost.hours)
        cells["per_dollar"] = _ratio(ccc, cost.dollars)
        rows.append(cells)
    return table_of("costs", CAPTION.format(rmse=", for RMSE too" if "rmse" in shown else ""), columns, rows)


def _gain(summary: "Summary", runs: "Runs", row: Any, metric: str) -> tuple[float, float, float] | None:
    """Return a configuration's gain on test with its interval; None for the baseline, and where nothing was compared.

    For RMSE, where less is better, that is the difference with the other sign.
    """
    wanted = {name: row[name] for name in runs.factors} | {"split": "test", "metric": metric}
    found = next((one for one in records(summary.differences) if matches(one, wanted)), None)
    if found is None:
        return None
    values = found["difference"], found["low"], found["high"]
    return (-values[0], -values[2], -values[1]) if metric in LOWER_IS_BETTER else values


def _gain_cell(gain: tuple[float, float, float] | None) -> Cell:
    if gain is None:
        return cell_of(None)
    value, low, high = gain
    return cell_of(value, f"{number(value, sign=True)} {interval(low, high, sign=True)}".strip())


def _spent(cost: Cost) -> dict[str, Cell]:
    """Return the cells of what a run cost; where no LLM was used its tokens and bill are 0."""
    cells = {name: _amount(getattr(cost, name), 0) for name in ("labels", "prompt_tokens", "completion_tokens")}
    return cells | {
        "dollars": _amount(cost.dollars, 4),
        "device": UNKNOWN if cost.device is None else Cell(cost.device, cost.device),
        "hours": _amount(cost.hours, 4),
        "processor_hours": _amount(cost.processor_hours, 4),
    }


def _amount(value: float, digits: int) -> Cell:
    """Write an amount so that a small one does not look like none."""
    if math.isnan(value):
        return UNKNOWN
    small = 0 < value < 10**-digits
    return cell_of(value, plain(float(f"{value:.1g}")) if small else number(value, digits))


def _ratio(gain: float, spent: float) -> Cell:
    """Return gain by what was spent; nothing where either is unknown, or nothing was spent."""
    if math.isnan(gain) or math.isnan(spent) or spent <= 0:
        return cell_of(None)
    return cell_of(gain / spent, number(gain / spent, sign=True))
