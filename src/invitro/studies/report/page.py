"""The report of a study: one self-contained page, figures and tables for a paper, every run as CSV."""

import base64
import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from invitro.errors import refuse_if_any
from invitro.files import whole_or_absent, write_text
from invitro.stats.intervals import interval_of
from invitro.stats.moments import resampled
from invitro.studies.costs import costs_table
from invitro.studies.groups import group_tables
from invitro.studies.report.sentences import conclusion, data_facts, environment_facts, failed_jobs, method
from invitro.studies.report.tables import (
    GroupSection,
    differences_table,
    distances_table,
    group_section,
    metrics_table,
    plateau_table,
    published_table,
    runs_table,
)
from invitro.studies.report.verdict import VERDICT, changed_by_llm, judgement
from invitro.studies.study import matches
from invitro.studies.wording import (
    METRIC_NAMES,
    SPLIT_NAMES,
    configuration,
    leading,
    llm_name,
    mark,
    measured,
    name_as_tested,
    records,
)
from invitro.writing import charts
from invitro.writing.charts import Figure
from invitro.writing.tables import Cell, Column, ReportTable, cell_of, estimate_cell, number_cell, table_of
from invitro.writing.words import number, rendered, said

if TYPE_CHECKING:
    from invitro.studies.health.runs import Finding
    from invitro.studies.runs import Runs
    from invitro.studies.study import Study
    from invitro.studies.summary import Summary
PAGE, FIGURES = "report.html", "figures"
ID = "text_id"
SPECIFIED = re.compile(r'(<script type="application/json"[^>]*>)([^<]*)')
"""A chart's specification in a page."""
HERE = Path(__file__).parent
LEVELS = ("warning", "note", "good")
FOREST = "differences"
"""The figure below the verdict."""
VALIDATION = ("metrics_val", "metrics_truth_val")
SETS = 12
"""How many sets of jobs with a shared result are listed; the others are counted."""


def write_report(
    study: "Study",
    runs: "Runs",
    summary: "Summary",
    findings: "Sequence[Finding]",
    figures: "Sequence[Figure]",
    directory: Path,
    show_ids: bool = True,
) -> Path:
    """Write a study's report into `directory`, replacing an earlier one, and return the path of its page.

    Files: ``figures/NAME.svg``, ``.pdf`` and ``.png``; ``table.tex``, ``table.md``, ``runs.csv``; and last
    ``report.html``: text, tables, charts and the code that draws them in one file, which fetches nothing. Each is
    written whole or not at all. An earlier report's figures that are no longer drawn are removed. Unless `show_ids`,
    neither figures nor page contain a text's id.

    Raises:
        InputError: the chart libraries are missing.
    """
    refuse_if_any(filter(None, [charts.problem()]))
    folder = Path(directory) / FIGURES
    written = [
        path for figure in figures for path in charts.save(figure.chart, folder / figure.name, None if show_ids else ID)
    ]
    groups = [group_section(comparison) for comparison in group_tables(study, runs, summary)]
    tables = study_tables(study, runs, summary)
    write_tables(study, runs, tables, groups, directory)
    aside = VALIDATION if summary.split == "test" else ()
    shared = runs.table.loc[runs.table["shared"].astype(bool)]
    html = page(
        study=study,
        judgement=judgement(study, runs, summary),
        overview=overview_table(study, runs, summary),
        conclusion=conclusion(study, runs, summary),
        figures=figures,
        findings=sorted(findings, key=lambda finding: LEVELS.index(finding.level)),
        tables=[table for table in tables if table.name not in aside],
        validation=[table for table in tables if table.name in aside],
        unpaired=summary.unpaired,
        published=published_table(summary, study, runs),
        groups=groups,
        failures=failed_jobs(runs, directory),
        shared=[list(part.index) for _, part in shared.groupby("record", sort=False)],
        runs=runs_table(study, runs),
        commands=runs.commands,
        environment=environment_facts(runs),
        data=data_facts(runs),
        method=method(study, runs, summary),
    )
    write_text(directory / PAGE, html if show_ids else without_ids(html))
    for path in folder.glob("*.*") if folder.is_dir() else ():
        if path not in written and path.suffix.removeprefix(".") in charts.FORMATS:
            path.unlink()
    return directory / PAGE


def study_tables(study: "Study", runs: "Runs", summary: "Summary") -> list[ReportTable]:
    """Return the tables of a study's results, in the order of the page: test first, validation last."""
    splits = [
        split for split in dict.fromkeys((*summary.judged, "val", "truth_val")) if measured(summary, study, split)
    ]
    metrics = {split: metrics_table(study, runs, summary, split) for split in splits}
    further = [
        differences_table(study, runs, summary),
        distances_table(study, runs, summary),
        plateau_table(summary, study),
        costs_table(study, runs, summary) if study.costs else None,
    ]
    first = [table for split, table in metrics.items() if split in summary.judged]
    last = [table for split, table in metrics.items() if split not in summary.judged]
    return [*first, *(table for table in further if table is not None), *last]


def write_tables(
    study: "Study",
    runs: "Runs",
    tables: Sequence[ReportTable],
    groups: Sequence[GroupSection],
    directory: Path,
) -> list[Path]:
    """Write ``table.tex`` (the first table of metrics), ``table.md`` (all tables) and ``runs.csv`` (every job).

    Each is written whole or not at all; those of an earlier report are replaced.
    """
    paths = [directory / name for name in ("table.tex", "table.md", "runs.csv")]
    first = next((table for table in tables if table.name.startswith("metrics_")), None)
    write_text(paths[0], first.latex(f"tab:{study.name}") if first else f"% {study.name}: no run has finished\n")
    write_text(paths[1], rendered(HERE / "tables.md.j2", study=study, tables=tables, groups=groups))
    with whole_or_absent(paths[2]) as temporary:
        runs.table.to_csv(temporary, index=False)
    return paths


def page(figures: "Sequence[Figure]", **parts: Any) -> str:
    """Return the page that has these `figures` and `parts`, the variables of ``report.html.j2``."""
    if parts.get("overview"):
        judged = parts["judgement"]
        parts["judgement"] = judged._replace(reasons=[*judged.reasons, *_llm_itself(parts["overview"])])
    style, script = ((HERE / name).read_text("utf-8") for name in ("report.css", "report.js"))
    folded = bool(parts.get("overview") and parts.get("runs"))
    drawn = [(figure, Markup(_in_script(charts.specification(figure.chart))), charts.FORMATS) for figure in figures]
    scripts = [code.replace("</script", "<\\/script") for code in ([charts.script()] if figures else []) + [script]]
    return rendered(
        HERE / "report.html.j2",
        policy=_policy(style, scripts),
        style=Markup(style),
        scripts=list(map(Markup, scripts)),
        first=[drawing for drawing in drawn if drawing[0].name == FOREST or not folded],
        figures=[drawing for drawing in drawn if drawing[0].name != FOREST and folded],
        sets_shown=SETS,
        **parts,
    )


def _in_script(specification: Any) -> str:
    """Return a chart's specification in a form that is safe between script tags."""
    return json.dumps(specification, allow_nan=False).replace("<", "\\u003c")


def without_ids(html: str) -> str:
    """Return a report's page without the texts' ids in its charts, so that it may leave the machine."""
    return SPECIFIED.sub(lambda match: match[1] + _in_script(charts.without_field(json.loads(match[2]), ID)), html)


def _policy(style: str, scripts: Sequence[str]) -> str:
    """Return a content security policy: nothing is fetched, and only the page's own code runs, known by its hash."""

    def hashes(parts: Sequence[str]) -> str:
        digests = (hashlib.sha256(part.encode()).digest() for part in parts)
        return " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)

    return (
        f"default-src 'none'; script-src {hashes(scripts)}; style-src {hashes([style])}; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )


MOST_ROWS = 6
"""Configurations in the short table; if there are more, only the leading ones."""
LLM_ITSELF, GUESSING, CEILING = "the LLM itself", "guessing the mean", "a perfect model"
LEAST_COVERED = 0.5
"""Share of the scored texts that must have an LLM label for the LLM itself to have a row."""


def overview_table(study: "Study", runs: "Runs", summary: "Summary") -> ReportTable | None:
    """Return one estimate per metric: of the baseline and the others, of the LLM itself, and of guessing the mean.

    None if nothing was measured. The LLM's labels, and the mean of the training labels, are scored on the texts that
    the models scored.
    """
    if not measured(summary, study, summary.split):
        return None
    rows = [row for row in records(summary.groups) if row["seeds"]]
    if summary.chosen or len(rows) > MOST_ROWS:
        rows = leading(study, summary, 2 if summary.chosen else MOST_ROWS)
    rows = [next((other for other in summary.nested if matches(other, {name: row[name] for name in runs.factors})), row)
            for row in rows]  # fmt: skip
    rows.sort(key=lambda row: ("baseline", "chosen", "").index(mark(summary, row)))
    shown = [_overview_row(study, runs, summary, row) for row in rows]
    corpora: dict[tuple[str, str], list[int]] = {}
    for job in map(int, map(str, runs.finished().drop_duplicates("record").index)):
        config = runs.config(job)
        corpora.setdefault(
            (str((config.get("scale") or {}).get("name")), str((config.get("data") or {}).get("name"))), []
        ).append(job)
    for (scale, corpus), jobs in corpora.items():
        where = [name for name, every in ((scale, 0), (corpus, 1)) if len({key[every] for key in corpora}) > 1]
        suffix = f" ({', '.join(where)})" if where else ""
        shown += _without_training(study, runs, jobs, summary.split, suffix)
    columns = [Column("scores", "scores from"), *(Column(metric, METRIC_NAMES[metric]) for metric in study.metrics)]
    llm, perfect = (any(row["scores"].text.startswith(name) for row in shown) for name in (LLM_ITSELF, CEILING))
    facts = SPLIT_NAMES[summary.split], "rmse" in study.metrics, llm, is_off(shown), perfect
    caption = said(VERDICT, "overview", *facts)
    return table_of("overview", "At a glance", columns, shown, caption)


def _overview_row(study: "Study", runs: "Runs", summary: "Summary", row: Mapping[str, Any]) -> dict[str, Cell]:
    tag, name = mark(summary, row), name_as_tested(summary, row, runs.factors)
    values = {factor: row[factor] for factor in runs.factors}
    if not changed_by_llm(runs, summary, values) and (tag == "baseline" or not runs.factors):
        setting = configuration(row, [factor for factor in runs.factors if factor != "application"])
        name = "crowd labels alone" if setting == "all runs" else f"crowd labels alone: {setting}"
    cells = {"scores": cell_of(name, tag=tag)}
    for metric in study.metrics:
        value, low, high = (row.get(f"{summary.split}_{metric}_{part}") for part in ("mean", "low", "high"))
        cells[metric] = estimate_cell(value, low, high)
    return cells


def _without_training(
    study: "Study", runs: "Runs", jobs: Sequence[int], split: str, where: str
) -> Iterator[dict[str, Cell]]:
    """Yield a row for each LLM's own labels, the mean of the training labels, and the ceiling set by reliability."""
    tables, llm = [], dict[str, pd.Series]()
    for job in jobs:
        table, labels, config = runs.predictions(job), runs.labels(job), runs.config(job)
        table = table.loc[(table["split"] == split) & table["crowd_label"].notna()]
        tables.append(table.assign(mean=labels["crowd_label"].mean()))
        if runs.label_sets(job):
            asked = config.get("llm") or {}
            name, column = llm_name(asked), asked.get("column")
            if (config.get("prompt") or {}).get(
                "name"
            ) and name != column:  # a column was labelled elsewhere, with another prompt
                name = f"{name}, prompt {config['prompt']['name']}"
            labelled = pd.concat([part for part in (labels, table) if "llm_label" in part])
            labelled = labelled.dropna(subset=["llm_label"]).drop_duplicates("text_id")
            llm_labels = pd.Series(labelled["llm_label"].to_numpy(dtype="float64"), pd.Index(labelled["text_id"]))
            llm[name] = llm_labels.combine_first(llm[name]) if name in llm else llm_labels
    texts = pd.concat(tables).drop_duplicates("text_id")
    for name, llm_labels in llm.items():
        scores = texts["text_id"].map(llm_labels)
        if scores.notna().mean() >= LEAST_COVERED:
            covered = "" if scores.notna().all() else f", {scores.notna().sum()} of {len(scores)} texts"
            yield scored_row(f"{LLM_ITSELF}: {name}{covered}{where}", texts, scores, study.metrics)
    error = [metric for metric in study.metrics if metric == "rmse"]
    unmeasured = {metric: cell for metric, cell in UNMEASURED.items() if metric in study.metrics}
    yield scored_row(f"{GUESSING}{where}", texts, texts["mean"], error) | unmeasured
    ceilings = [((runs.metrics(job).get("references") or {}).get("ceiling") or {}) for job in jobs]
    if split == "test" and all("reliability" in ceiling for ceiling in ceilings):
        shown = {
            metric: estimate_cell(
                *np.mean([np.array(ceiling[metric], dtype="float64") for ceiling in ceilings], axis=0)
            )
            for metric in ("reliability", *study.metrics)
        }
        name = f"{CEILING} (labels' reliability {number(shown['reliability'].value, 2)}){where}"
        yield {"scores": cell_of(name)} | {metric: shown[metric] for metric in study.metrics}


def is_off(shown: Sequence[Mapping[str, Cell]]) -> bool:
    """Whether, among the rows of a short table, the LLM's own RMSE is above that of guessing the mean."""
    llm, mean = (
        [float(row["rmse"].value or 0) for row in shown if "rmse" in row and row["scores"].text.startswith(name)]
        for name in (LLM_ITSELF, GUESSING)
    )
    return bool(llm and mean) and llm[0] > mean[0]


def _llm_itself(overview: ReportTable) -> Iterator[str]:
    """Compare how well the best LLM's own labels and the best model rank the texts; nothing if either is missing."""
    keys = [column.key for column in overview.columns]
    pccs: dict[bool, list[float]] = {True: [], False: []}
    for row in overview.rows if "pcc" in keys else ():
        name, value = row[0].text, row[keys.index("pcc")].value
        if isinstance(value, float) and not name.startswith((GUESSING, CEILING)):
            pccs[name.startswith(LLM_ITSELF)].append(value)
    if all(pccs.values()):
        yield said(VERDICT, "itself", max(pccs[True]), max(pccs[False]))


UNMEASURED = {"pcc": Cell("undefined"), "ccc": number_cell(0.0)}
"""Metrics of a constant."""


def scored_row(name: str, texts: pd.DataFrame, scores: "pd.Series[float]", metrics: Sequence[str]) -> dict[str, Cell]:
    """Return a row of the short table: how well `scores`, ignoring missing ones, agree with the texts' crowd labels."""
    scored = scores.notna().to_numpy()
    authors = (texts["group_id"] if "group_id" in texts else texts["text_id"]).to_numpy()
    draws = resampled(texts["crowd_label"].to_numpy()[scored], scores.to_numpy()[None, scored], authors[scored])
    cells = {metric: interval_of(draws[metric], metric) for metric in metrics}
    return {"scores": cell_of(name)} | {
        metric: estimate_cell(estimate.value, estimate.low, estimate.high) for metric, estimate in cells.items()
    }
