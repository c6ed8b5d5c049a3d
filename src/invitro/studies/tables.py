"""The tables of a study: one description of each for the page, for LaTeX and for Markdown."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pandas as pd

from invitro.studies.tables_parts import Cell, Column, Table, cell_of, table_of
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
