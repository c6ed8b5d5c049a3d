"""The tables of a study: one description of each for the page, for LaTeX and for Markdown."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pandas as pd

from invitro.studies.costs import Cost, cost_of
from invitro.studies.distributions import alignment
from invitro.studies.report.table import Cell, Column, Table, cell_of, table_of
from invitro.studies.study import matches
from invitro.studies.wording import (
    CHANGED,
    LOWER_IS_BETTER,
    METRICS,
    SPLITS,
    count,
    factor,
    interval,
    listed,
    mark,
    measured,
    number,
    p_value,
    plain,
    published_for,
    records,
    share,
)

if TYPE_CHECKING:
    from invitro.studies.runs import Runs
    from invitro.studies.study import Study
    from invitro.studies.summary import Summary


Values = Mapping[str, Any]


def metrics_table(study: "Study", runs: "Runs", summary: "Summary", split: str) -> Table:
    """Return one row a configuration with what was measured on `split`, a key of `wording.SPLITS`.

    Where the study chooses a value, the chosen configuration comes first and the baseline second. The paper's numbers,
    medians and peaks on its own test sets, stand beside those on test.
    """
    groups: list[Any] = records(summary.groups)
    if summary.chosen:
        groups.sort(key=lambda row: {"chosen": 0, "baseline": 1, "": 2}[mark(summary, row)])
    published = [metric for metric in study.metrics if any(published_for(summary, row, metric) for row in groups)]
    beside = published if split == "test" else []
    shown = {name: any(row.get(name, 0) for row in groups) for name in ("failed", "replaced", "augmented")}
    columns = [
        *(Column(name, factor(name)) for name in runs.factors),
        Column("seeds", "runs"),
        *([Column("failed", "failed", printed=False)] if shown["failed"] else []),
        Column("size", "texts", "training", printed=False),
        *([Column("replaced", "changed", "training")] if shown["replaced"] else []),
        *([Column("augmented", "added", "training")] if shown["augmented"] else []),
    ]
    for metric in study.metrics:
        name = METRICS[metric]
        columns += [
            Column(f"{metric}_median", "median (peak)", name),
            Column(f"{metric}_mean", "mean ± sd", name),
            Column(f"{metric}_interval", "95 % interval", name, printed=False),
        ]
        columns += [Column(f"{metric}_paper", "paper", name)] if metric in beside else []
    rows = [_configuration(study, runs, summary, row, split, beside) for row in groups]
    for metric in study.metrics:
        for part in ("median", "mean"):
            _mark_best(rows, f"{metric}_{part}", metric)
    caption = (
        f"Metrics on {SPLITS[split]}. Median (peak) over runs, where the peak is the best run; mean ± standard "
        "deviation over runs, and the 95 % interval of the mean over runs and texts."
        + (" RMSE is in scale points." if "rmse" in study.metrics else "")
        + (f" {CHANGED}" if shown["replaced"] else "")
        + " Best in bold."
    )
    if beside:
        on = summary.published.attrs.get("test_set", "its own data") if summary.published is not None else ""
        caption += f" Paper: its median (peak), measured on {on}."
    return table_of(f"metrics_{split}", caption, columns, rows)


def _configuration(
    study: "Study", runs: "Runs", summary: "Summary", row: Values, split: str, beside: Iterable[str]
) -> dict[str, Cell]:
    """Return the cells of one configuration."""
    cells = {name: cell_of(row[name]) for name in runs.factors}
    if runs.factors:
        first = runs.factors[0]
        cells[first] = replace(cells[first], tag=mark(summary, row) if row.get("seeds", 0) else "no result")
    cells["seeds"] = cell_of(row.get("seeds", 0))
    cells["failed"] = cell_of(row.get("failed", 0))
    cells["size"] = cell_of(row.get("size"), number(row.get("size"), 0))
    cells["replaced"] = cell_of(
        row.get("replaced"), f"{number(row.get('replaced'), 0)} ({share(row.get('replaced_share'))})"
    )
    cells["augmented"] = cell_of(row.get("augmented"), number(row.get("augmented"), 0))
    for metric in study.metrics:
        median, peak, mean, sd, low, high = (
            row.get(f"{split}_{metric}_{part}") for part in ("median", "peak", "mean", "sd", "low", "high")
        )
        alone = row.get("seeds", 0) == 1
        cells[f"{metric}_median"] = cell_of(median, number(median) if alone else f"{number(median)} ({number(peak)})")
        cells[f"{metric}_mean"] = cell_of(mean, number(mean) if pd.isna(sd) else f"{number(mean)} ± {number(sd)}")
        cells[f"{metric}_interval"] = cell_of(low, interval(low, high))
        if metric in beside:
            paper = published_for(summary, row, metric)
            if paper is not None:
                text = number(paper["median"]) + ("" if pd.isna(paper["peak"]) else f" ({number(paper['peak'])})")
                cells[f"{metric}_paper"] = cell_of(paper["median"], text)
    return cells


def _mark_best(rows: list[dict[str, Cell]], key: str, metric: str) -> None:
    """Mark the best cells of a column; what is equal as it is written is equally good. One row has no best."""
    values = {place: row[key].value for place, row in enumerate(rows)}
    written = {place: round(value, 3) for place, value in values.items() if isinstance(value, float)}
    if len(written) < 2:
        return
    best = min(written.values()) if metric in LOWER_IS_BETTER else max(written.values())
    for place, value in written.items():
        if value == best:
            rows[place][key] = replace(rows[place][key], best=True)


def differences_table(study: "Study", runs: "Runs", summary: "Summary") -> Table | None:
    """Return every comparison with the baseline; None where there is none."""
    if summary.differences.empty:
        return None
    names = [name for name in runs.factors if name in summary.differences]
    columns = [
        *(Column(name, factor(name)) for name in names),
        Column("split", "measured on"),
        Column("metric", "metric"),
        Column("difference", "difference"),
        Column("interval", "95 % interval"),
        Column("p", "p"),
        Column("p_holm", "p, Holm"),
        Column("effect", "effect size"),
        Column("seeds", "runs"),
        Column("texts", "texts"),
    ]
    rows = []
    order = {"chosen": 0, "": 1, "baseline": 2}
    found: list[Any] = sorted(records(summary.differences), key=lambda row: order[mark(summary, row)])
    for row in found:
        cells = {name: cell_of(row[name]) for name in names}
        if names:
            cells[names[0]] = replace(cells[names[0]], tag=mark(summary, {str(k): v for k, v in row.items()}))
        cells |= {
            "split": Cell(SPLITS[row["split"]], SPLITS[row["split"]]),
            "metric": Cell(METRICS[row["metric"]], METRICS[row["metric"]]),
            "difference": cell_of(row["difference"], number(row["difference"], sign=True)),
            "interval": cell_of(row["low"], interval(row["low"], row["high"], sign=True)),
            "p": cell_of(row["p"], p_value(row["p"])),
            "p_holm": cell_of(row["p_holm"], p_value(row["p_holm"])),
            "effect": cell_of(row["effect"], number(row["effect"], 2, sign=True)),
            "seeds": cell_of(row["seeds"]),
            "texts": cell_of(row["texts"], number(row["texts"], 0)),
        }
        rows.append(cells)
    caption = (
        "Differences from the baseline (the configuration less the baseline"
        + ("; for RMSE, below 0 is better" if "rmse" in study.metrics else "")
        + "), paired by run and by text; p is two-sided, and Holm's correction is over all comparisons of one split."
    )
    if summary.chosen:
        caption += " Those of the chosen configuration are tested first, and gate the others."
    if summary.differences["p"].isna().any():
        caption += (
            " No p: the runs are the baseline's own, trained once and shared (difference 0), or there are too few "
            "authors or runs, or predictions that do not vary."
        )
    return table_of("differences", caption, columns, rows)


def plateau_table(summary: "Summary", study: "Study") -> Table | None:
    """Return the tests of no further gain; None where none was asked for."""
    if not summary.plateau:
        return None
    names = list(dict.fromkeys(name for one in summary.plateau for name in one.where))
    columns = [
        *(Column(name, factor(name)) for name in names),
        Column("metric", "metric"),
        Column("before", "gain before"),
        Column("after", "gain from there on"),
        Column("p", "p"),
        Column("most", "at most"),
        Column("verdict", "verdict"),
    ]
    rows = []
    for one in summary.plateau:
        gains = (one.before, one.after)
        told = [f"{number(gain.value, sign=True)} {interval(gain.low, gain.high, sign=True)}" for gain in gains]
        rows.append(
            {name: cell_of(value) for name, value in one.where.items()}
            | {
                "metric": Cell(METRICS[one.metric], METRICS[one.metric]),
                "before": cell_of(one.before.value, told[0]),
                "after": cell_of(one.after.value, told[1]),
                "p": cell_of(one.p, p_value(one.p)),
                "most": cell_of(one.most, number(one.most)),
                "verdict": Cell(one.verdict, one.verdict),
            }
        )
    first = summary.plateau[0]
    caption = (
        f"Gain up to {factor(str(study.axis))} {plain(first.start)} and along the line from there to "
        f"{plain(first.end)}, with 95 % intervals; above 0 is better for every metric. At most: the gain is below this "
        f"with 95 % confidence; below {number(first.margin, 2)} counts as a plateau."
    )
    return table_of("plateau", caption, columns, rows)


def published_table(summary: "Summary", study: "Study") -> Table | None:
    """Return all numbers of the paper's table, whether they have a counterpart here or not; None without any."""
    if summary.published is None or summary.published.empty:
        return None
    about, source = summary.published.attrs, ""
    if about:
        source = f"{about['source']}; measured on {about['test_set']}, seeds {listed(map(str, about['seeds']))}. "
    columns = [Column("label", "row of the paper"), *(Column(metric, METRICS[metric]) for metric in study.metrics)]
    rows: dict[str, dict[str, Cell]] = {}
    for row in records(summary.published):
        label = str(row["label"])
        cells = rows.setdefault(label, {"label": Cell(label, label)})
        peak = "" if pd.isna(row["peak"]) else f" ({number(row['peak'])})"
        cells[str(row["metric"])] = cell_of(row["median"], f"{number(row['median'])}{peak}")
    return table_of("published", f"{source}Median (peak).", columns, rows.values())


def runs_table(study: "Study", runs: "Runs") -> Table:
    """Return one row a job."""
    scores = [
        (split, metric) for split in SPLITS for metric in study.metrics if f"{split}_{metric}" in runs.table
    ]  # fmt: skip
    columns = [
        Column("job", "job"),
        *(Column(name, factor(name)) for name in (*runs.factors, *runs.replicates)),
        Column("outcome", "outcome"),
        Column("epochs", "epochs"),
        Column("seconds", "seconds"),
        *(Column(f"{split}_{metric}", METRICS[metric], SPLITS[split]) for split, metric in scores),
        Column("record", "record"),
    ]
    rows = []
    for job, row in runs.table.iterrows():
        cells = {name: cell_of(row[name]) for name in (*runs.factors, *runs.replicates)}
        cells |= {"job": cell_of(job), "epochs": cell_of(row.get("epochs")), "record": cell_of(row["record"])}
        cells["outcome"] = Cell(str(row["outcome"]), str(row["outcome"]), tag="shared" if row["shared"] else "")
        cells["seconds"] = cell_of(row.get("seconds"), number(row.get("seconds"), 1))
        for split, metric in scores:
            cells[f"{split}_{metric}"] = cell_of(row[f"{split}_{metric}"], number(row[f"{split}_{metric}"]))
        rows.append(cells)
    return table_of("runs", f"All {count(len(rows), 'job')}.", columns, rows)


MEASURES = {"wasserstein": "W", "ks": "D"}


def distances_table(study: "Study", runs: "Runs", summary: "Summary") -> Table | None:
    """Return one row a configuration: distances of its training labels from the labels of validation and of test.

    Where the truth is known, distances from that of test, and metrics against it. None without an axis, or where no
    label was replaced or added.
    """
    groups: list[Any] = records(summary.groups)
    if study.axis is None or not any((row.get("replaced") or 0) + (row.get("augmented") or 0) > 0 for row in groups):
        return None
    splits = [split for split in ("val", "test", "truth_test") if measured(summary, study, split)]
    distances: dict[str, list[Any]] = {split: records(alignment(runs, summary, split)) for split in splits}
    after = "truth_test" if "truth_test" in splits else "test"
    columns = [
        *(Column(name, factor(name)) for name in runs.factors),
        Column("replaced", "changed"),
        *(
            Column(f"{split}_{measure}", sign, f"from {SPLITS[split]}")
            for split in splits
            for measure, sign in MEASURES.items()
        ),
        *(Column(metric, METRICS[metric], f"on {SPLITS[after]}") for metric in study.metrics),
    ]
    rows = []
    for row in groups:
        values = {name: row[name] for name in runs.factors}
        cells: dict[str, Cell] = {name: cell_of(value) for name, value in values.items()}
        cells["replaced"] = cell_of(row.get("replaced_share"), share(row.get("replaced_share")))
        for split, found in distances.items():
            own = next((one for one in found if matches(one, values)), None)
            for measure in MEASURES if own else ():
                value = own[f"after_{measure}"]  # type: ignore[index]
                cells[f"{split}_{measure}"] = cell_of(value, number(value))
        for metric in study.metrics:
            mean = row.get(f"{after}_{metric}_mean")
            cells[metric] = cell_of(mean, number(mean))
        rows.append(cells)
    return table_of("distances", _caption(distances), columns, rows)


def _caption(distances: dict[str, list[Any]]) -> str:
    """Say what the distances are, and what they were before correction."""
    before = listed(
        f"W {number(sum(row['before_wasserstein'] for row in found) / len(found))} and "
        f"D {number(sum(row['before_ks'] for row in found) / len(found))} from {SPLITS[split]}"
        for split, found in distances.items()
        if found
    )
    return (
        "Distance of the labels as trained on from those that are predicted: W, Wasserstein-1, in scale points; D, "
        f"Kolmogorov-Smirnov, from 0 to 1; means over runs. Before correction the crowd labels lay {before}. Beside "
        f"them, the means of the metrics. {CHANGED} Test labels of real corpora are as noisy as the crowd's "
        "labels in training: labels that lost their noise lie further from them too."
    )


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
