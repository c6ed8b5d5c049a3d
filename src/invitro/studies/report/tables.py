"""The tables of a study: one description of each for the page, for LaTeX and for Markdown."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from invitro.errors import called
from invitro.stats.moments import MEASURES
from invitro.studies.distributions import alignment
from invitro.studies.groups import COMPARED, GroupRow, GroupTable
from invitro.studies.study import matches
from invitro.studies.wording import (
    LOWER_IS_BETTER,
    METRIC_NAMES,
    SIGNIFICANT,
    SPLIT_NAMES,
    factor,
    mark,
    measured,
    published_for,
    records,
)
from invitro.writing.tables import (
    Cell,
    Column,
    ReportTable,
    cell_of,
    estimate_cell,
    interval_cell,
    number_cell,
    table_of,
)
from invitro.writing.words import count, missing, number, p_value, said, share

if TYPE_CHECKING:
    from invitro.studies.runs import Runs
    from invitro.studies.study import Study
    from invitro.studies.summary import Summary


CAPTIONS = Path(__file__).with_name("tables.j2")
Values = Mapping[str, Any]


def metrics_table(study: "Study", runs: "Runs", summary: "Summary", split: str) -> ReportTable:
    """Return one row per configuration with its metrics on `split`, a key of `wording.SPLIT_NAMES`.

    If the study chooses a value, the chosen configuration comes first and the baseline second. The paper's numbers,
    medians and peaks on its own test sets, are shown next to those on test.
    """
    groups: list[Any] = records(summary.groups)
    if summary.chosen:
        groups.sort(key=lambda row: ("chosen", "baseline", "").index(mark(summary, row)))
    published = [name for name in study.metrics if any(published_for(summary, row, name) for row in groups)]
    with_paper = published if split == "test" else []
    present = {
        name: any(row.get(name, 0) for row in groups) for name in ("failed", "replaced", "augmented", "given_up")
    }
    present["kept"] = present["given_up"]
    columns = [
        *(Column(name, factor(name)) for name in runs.factors),
        Column("seeds", "runs"),
        Column("failed", "failed", hidden=("paper",)),
        Column("size", "texts", "training", hidden=("paper",)),
        Column("kept", "kept", "crowd labels", hidden=("paper",)),
        Column("given_up", "given up", "crowd labels"),
        Column("replaced", "changed", "crowd labels" if present["given_up"] else "training"),
        Column("augmented", "added", "training"),
    ]
    columns = [column for column in columns if present.get(column.key, True)]
    single = all(row.get("seeds", 0) < 2 for row in groups)
    for metric in study.metrics:
        columns += [
            *([] if single else [Column(f"{metric}_median", "median (peak)", METRIC_NAMES[metric])]),
            Column(f"{metric}_mean", "value" if single else "mean ± sd", METRIC_NAMES[metric]),
            Column(f"{metric}_interval", "95 % interval", METRIC_NAMES[metric], hidden=("paper",)),
            *([Column(f"{metric}_paper", "paper", METRIC_NAMES[metric])] if metric in with_paper else []),
        ]
    rows = [_configuration(study, runs, summary, row, split, with_paper) for row in groups]
    for metric in study.metrics:
        for part in ("median", "mean"):
            for alike in _alike(rows, runs.factors):
                _mark_best(alike, f"{metric}_{part}", metric)
    paper = (
        summary.published.attrs.get("test_set", "its own data") if with_paper and summary.published is not None else ""
    )
    caption = said(
        CAPTIONS,
        "metrics",
        SPLIT_NAMES[split],
        "rmse" in study.metrics,
        present["replaced"],
        paper,
        present["given_up"],
        bool(set(UNLIKE) & set(runs.factors)),
        single,
    )
    return table_of(f"metrics_{split}", f"Metrics on {SPLIT_NAMES[split]}", columns, rows, caption)


def _configuration(
    study: "Study", runs: "Runs", summary: "Summary", row: Values, split: str, with_paper: Collection[str]
) -> dict[str, Cell]:
    """Return the cells of one configuration."""
    seeds, replaced = row.get("seeds", 0), row.get("replaced")
    cells = factor_cells(runs, row, mark(summary, row) if seeds else "no result") | {
        "seeds": cell_of(row.get("runs", seeds)),
        "failed": cell_of(row.get("failed", 0)),
        "size": number_cell(row.get("size"), 0),
        "kept": number_cell(row.get("kept"), 0),
        "given_up": number_cell(row.get("given_up"), 0),
        "replaced": cell_of(replaced, f"{number(replaced, 0)} ({share(row.get('replaced_share'))})"),
        "augmented": number_cell(row.get("augmented"), 0),
    }
    for metric in study.metrics:
        median, peak, mean, sd, low, high = (
            row.get(f"{split}_{metric}_{part}") for part in ("median", "peak", "mean", "sd", "low", "high")
        )
        cells[f"{metric}_median"] = _with_peak(median, None if seeds == 1 else peak)
        cells[f"{metric}_mean"] = cell_of(mean, number(mean) + ("" if missing(sd) else f" ± {number(sd)}"))
        cells[f"{metric}_interval"] = interval_cell(low, high)
        if metric in with_paper and (paper := published_for(summary, row, metric)):
            cells[f"{metric}_paper"] = _with_peak(paper["median"], paper["peak"])
    return cells


def factor_cells(runs: "Runs", row: Values, tag: str = "") -> dict[str, Cell]:
    """Return the cells that name a configuration, the first with its remark."""
    return {name: cell_of(row[name], tag="" if index else tag) for index, name in enumerate(runs.factors)}


def _with_peak(median: Any, peak: Any) -> Cell:
    return cell_of(median, number(median) + ("" if missing(peak) else f" ({number(peak)})"))


UNLIKE = ("scale", "data")
"""Factors whose values have metrics that cannot be ranked: those of other questionnaires, or of other texts."""


def _alike(rows: list[dict[str, Cell]], factors: Sequence[str]) -> list[list[dict[str, Cell]]]:
    """Divide rows so that only scores of one questionnaire on the same texts are ranked."""
    names = [name for name in factors if name in UNLIKE]
    parts: dict[tuple[Any, ...], list[dict[str, Cell]]] = {}
    for row in rows:
        parts.setdefault(tuple(row[name].value for name in names), []).append(row)
    return [*parts.values()]


def _mark_best(rows: list[dict[str, Cell]], key: str, metric: str) -> None:
    """Mark the best cells of a column; equal rounded values are equally good. A single row has no best."""
    values = {index: row[key].value for index, row in enumerate(rows)}
    written = {index: round(value, 3) for index, value in values.items() if isinstance(value, float)}
    if len(written) < 2:
        return
    best = min(written.values()) if metric in LOWER_IS_BETTER else max(written.values())
    for index, value in written.items():
        if value == best:
            rows[index][key] = replace(rows[index][key], best=True)


def differences_table(study: "Study", runs: "Runs", summary: "Summary") -> ReportTable | None:
    """Return every comparison with the baseline; None if there is none."""
    if summary.differences.empty:
        return None
    columns = [
        *(Column(name, factor(name)) for name in runs.factors),
        Column("split", "measured on"),
        Column("metric", "metric"),
        Column("difference", "difference"),
        Column("interval", "95 % interval"),
        Column("p", "p"),
        Column("p_holm", "p, Holm"),
        Column("effect", "effect size"),
        *([Column("left", "left when matched")] if "ccc" in study.metrics else []),
        Column("seeds", "seeds" if runs.folds else "runs"),
        Column("texts", "texts"),
        Column("authors", "authors"),
    ]
    compared: list[Any] = records(summary.differences)
    compared.sort(key=lambda row: ("chosen", "", "baseline").index(mark(summary, row)))
    rows = [
        factor_cells(runs, row, mark(summary, row))
        | {
            "split": cell_of(SPLIT_NAMES[row["split"]]),
            "metric": cell_of(METRIC_NAMES[row["metric"]]),
            "difference": number_cell(row["difference"], sign=True),
            "interval": interval_cell(row["low"], row["high"], sign=True),
            "p": cell_of(row["p"], p_value(row["p"])),
            "p_holm": cell_of(row["p_holm"], p_value(row["p_holm"])),
            "effect": number_cell(row["effect"], 2, sign=True),
            "seeds": cell_of(row["seeds"]),
            "texts": number_cell(row["texts"], 0),
            "authors": number_cell(row["authors"], 0),
            "left": estimate_cell(row["left"], row["left_low"], row["left_high"], sign=True),
        }
        for row in compared
    ]
    untested = bool(summary.differences["p"].isna().any())
    caption = said(
        CAPTIONS, "differences", *(name in study.metrics for name in ("rmse", "ccc")), bool(summary.chosen), untested,
        runs.folds,
    )  # fmt: skip
    return table_of("differences", "Differences from the baseline", columns, rows, caption)


def plateau_table(summary: "Summary", study: "Study") -> ReportTable | None:
    """Return the tests of no further gain; None if the study asks for none."""
    if not summary.plateau:
        return None
    columns = [
        *(
            Column(name, factor(name))
            for name in dict.fromkeys(name for test in summary.plateau for name in test.where)
        ),
        Column("metric", "metric"),
        Column("before", "gain before"),
        Column("after", "gain from there on"),
        Column("p", "p"),
        Column("most", "at most"),
        Column("verdict", "verdict"),
    ]
    rows = [
        {name: cell_of(value) for name, value in test.where.items()}
        | {
            "metric": cell_of(METRIC_NAMES[test.metric]),
            "before": estimate_cell(test.before.value, test.before.low, test.before.high, sign=True),
            "after": estimate_cell(test.after.value, test.after.low, test.after.high, sign=True),
            "p": cell_of(test.p, p_value(test.p)),
            "most": number_cell(test.most),
            "verdict": cell_of(test.verdict),
        }
        for test in summary.plateau
    ]
    first = summary.plateau[0]
    caption = said(CAPTIONS, "plateau", factor(str(study.axis)), first.start, first.end, first.margin)
    return table_of("plateau", "Is there a plateau?", columns, rows, caption)


def published_table(summary: "Summary", study: "Study", runs: "Runs") -> ReportTable | None:
    """Return all numbers of the paper's table, whether they have a counterpart here or not; None without any.

    If `runs` are experiments, each row gives the outcome of its experiment and the command that runs it.
    """
    if summary.published is None or summary.published.empty:
        return None
    by_experiment = "experiment" in runs.factors
    columns = [
        Column("label", "row of the paper"),
        *(Column(metric, METRIC_NAMES[metric]) for metric in study.metrics),
        *([Column("here", "here"), Column("command", "command")] if by_experiment else []),
    ]
    rows: dict[str, dict[str, Cell]] = {}
    for row in records(summary.published):
        cells = rows.setdefault(str(row["label"]), {"label": cell_of(row["label"])})
        cells[str(row["metric"])] = _with_peak(row["median"], row["peak"])
        if by_experiment and not missing(row.get("experiment")):
            cells["here"] = cell_of(_outcome(runs, row["experiment"]))
            cells["command"] = cell_of(f"{called('train')} experiment={row['experiment']}")
    caption = said(CAPTIONS, "published", summary.published.attrs)
    return table_of("published", "Published numbers", columns, rows.values(), caption)


def _outcome(runs: "Runs", experiment: str) -> str:
    """Return the outcome of an experiment's jobs, such as ``5 finished`` or ``not run: newsemp24``, and why."""
    of = runs.table.loc[runs.table["experiment"] == experiment]
    finished = int(of["outcome"].isin(("finished", "finished before")).sum())
    open_ = of.loc[~of["outcome"].isin(("finished", "finished before"))]
    why = [f"needs {str(error).partition(':')[0]}" if outcome == "skipped" else str(outcome)
           for outcome, error in zip(open_["outcome"], open_["error"], strict=True)]  # fmt: skip
    lacking = [f"{len(open_)} not run: {', '.join(dict.fromkeys(why))}"] if len(open_) else []
    return "; ".join([*([count(finished, "run")] if finished else []), *lacking]) or "not in this study"


def runs_table(study: "Study", runs: "Runs") -> ReportTable:
    """Return one row per job."""
    scores = [(split, metric) for split in SPLIT_NAMES for metric in study.metrics if f"{split}_{metric}" in runs.table]
    columns = [
        Column("job", "job"),
        *(Column(name, factor(name)) for name in (*runs.factors, *runs.replicates)),
        Column("outcome", "outcome"),
        Column("epochs", "epochs"),
        Column("seconds", "seconds"),
        *(Column(f"{split}_{metric}", METRIC_NAMES[metric], SPLIT_NAMES[split]) for split, metric in scores),
        Column("record", "record"),
    ]
    rows = [
        {name: cell_of(row[name]) for name in (*runs.factors, *runs.replicates)}
        | {"record": cell_of(_below(str(row["record"]), runs.root))}
        | {
            "job": cell_of(job),
            "outcome": cell_of(row["outcome"], tag="shared" if row["shared"] else ""),
            "epochs": cell_of(row.get("epochs")),
            "seconds": number_cell(row.get("seconds"), 1),
        }
        | {name: number_cell(row[name]) for name in (f"{split}_{metric}" for split, metric in scores)}
        for job, row in runs.table.iterrows()
    ]
    return table_of("runs", "All jobs", columns, rows, f"All {count(len(rows), 'job')}.")


def _below(path: str, root: Path) -> str:
    """Return a path relative to `root` if it is below it."""
    return str(Path(path).relative_to(root)) if Path(path).is_relative_to(root) else path


DISTANCES = {"wasserstein": "W", "ks": "D"}


def distances_table(study: "Study", runs: "Runs", summary: "Summary") -> ReportTable | None:
    """Return one row per configuration: distances of its training labels from those of validation and of test.

    If the truth is known, distances from the true test scores, and metrics against them. None without an axis, or if no
    label was replaced or added.
    """
    groups: list[Any] = records(summary.groups)
    if study.axis is None or not any((row.get("replaced") or 0) + (row.get("augmented") or 0) > 0 for row in groups):
        return None
    splits = [split for split in dict.fromkeys(("val", *summary.judged)) if measured(summary, study, split)]
    distances: dict[str, list[Any]] = {split: records(alignment(runs, summary, split)) for split in splits}
    last = splits[-1]
    columns = [
        *(Column(name, factor(name)) for name in runs.factors),
        Column("replaced", "changed"),
        *(
            Column(f"{split}_{measure}", sign, f"from {SPLIT_NAMES[split]}")
            for split in splits
            for measure, sign in DISTANCES.items()
        ),
        *(Column(metric, METRIC_NAMES[metric], f"on {SPLIT_NAMES[last]}") for metric in study.metrics),
    ]
    rows = []
    for row in groups:
        cells = factor_cells(runs, row)
        cells["replaced"] = cell_of(row.get("replaced_share"), share(row.get("replaced_share")))
        wanted = {name: row[name] for name in runs.factors}
        for split, aligned in distances.items():
            distance: Values = next((entry for entry in aligned if matches(entry, wanted)), {})
            cells |= {f"{split}_{measure}": number_cell(distance.get(f"after_{measure}")) for measure in DISTANCES}
        rows.append(cells | {metric: number_cell(row.get(f"{last}_{metric}_mean")) for metric in study.metrics})
    before = [
        " and ".join(
            f"{sign} {number(sum(row[f'before_{measure}'] for row in aligned) / len(aligned))}"
            for measure, sign in DISTANCES.items()
        )
        + f" from {SPLIT_NAMES[split]}"
        for split, aligned in distances.items()
        if aligned
    ]
    return table_of("distances", "Distances between labels", columns, rows, said(CAPTIONS, "distances", before))


GROUPS_TEMPLATE = Path(__file__).with_name("groups.j2")
NAMES = METRIC_NAMES | {"bias": "bias"}


class GroupSection(NamedTuple):
    """One comparison as the page and ``table.md`` show it: the table, the groups that differ, those left out."""

    table: ReportTable
    verdict: str
    left_out: str


def group_section(comparison: GroupTable) -> GroupSection:
    """Return a comparison as it is shown."""
    rows = comparison.found.rows
    tests = [(row, name) for row in rows for name in row.apart if not row.mirrored]
    different = [(row, name) for row, name in tests if row.apart[name].p_holm < SIGNIFICANT]
    different.sort(key=lambda pair: pair[0].apart[pair[1]].p_holm)
    several = len({row.series for row in rows}) > 1
    named = [
        said(GROUPS_TEMPLATE, "different", NAMES[name], f"{row.attribute} {row.group}", row.series if several else "",
             row.apart[name].difference, row.apart[name].p_holm)
        for row, name in different
    ]  # fmt: skip
    reasons: dict[str, dict[str, None]] = {}
    for suppressed in comparison.found.suppressed:
        reasons.setdefault(suppressed.why, {})[f"{suppressed.attribute} {suppressed.group}"] = None
    verdict = said(GROUPS_TEMPLATE, "verdict", len(tests), named, f"{SIGNIFICANT:g}")
    return GroupSection(_table(comparison, rows), verdict, said(GROUPS_TEMPLATE, "left_out", reasons))


def _table(comparison: GroupTable, rows: Sequence[GroupRow]) -> ReportTable:
    """Return one row per series and group."""
    columns = [
        Column("series", "LLM labels" if comparison.kind == "labels" else "configuration"),
        Column("attribute", "by"),
        *(Column(name, name) for name in ("group", "texts", "authors")),
        *(Column(name, f"{NAMES[name]} [95 %]") for name in MEASURES),
        *(
            Column(f"{name}_{part}", head, f"{NAMES[name]}, group minus rest")
            for name in COMPARED
            for part, head in (("apart", "difference"), ("p", "p"), ("holm", "p, Holm"))
        ),
    ]
    caption = said(
        GROUPS_TEMPLATE,
        "caption",
        comparison.kind,
        SPLIT_NAMES.get(comparison.split, ""),
        comparison.series,
        comparison.of,
        comparison.pooled,
    )
    return table_of(
        f"groups_{comparison.kind}",
        said(GROUPS_TEMPLATE, "heading", comparison.kind, SPLIT_NAMES.get(comparison.split, "")),
        columns,
        [_cells(row) for row in rows],
        caption,
    )


def _cells(row: GroupRow) -> dict[str, Cell]:
    # A group's code is a name, not a number.
    cells = {name: Cell(getattr(row, name), getattr(row, name)) for name in ("series", "attribute", "group")}
    cells |= {"texts": number_cell(row.texts, 0), "authors": number_cell(row.authors, 0)}
    for name, estimate in row.measures.items():
        cells[name] = estimate_cell(estimate.value, estimate.low, estimate.high, sign=name == "bias")
    for name, apart in row.apart.items():
        cells |= {
            f"{name}_apart": number_cell(apart.difference, sign=True),
            f"{name}_p": cell_of(apart.p, p_value(apart.p)),
            f"{name}_holm": cell_of(apart.p_holm, p_value(apart.p_holm)),
        }
    return cells
