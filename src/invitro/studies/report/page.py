"""The report of a study: one self-contained page, figures and tables for a paper, every run as CSV."""

import base64
import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from invitro.errors import refuse_if_any
from invitro.files import whole_or_absent, write_text
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
from invitro.studies.wording import measured
from invitro.writing import charts
from invitro.writing.tables import ReportTable
from invitro.writing.words import rendered

if TYPE_CHECKING:
    from invitro.studies.figures.base import Figure
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
SETS = 12
"""Sets of jobs with a common result that are listed; the others are counted."""


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
    neither figures nor page hold a text's id.

    Raises:
        InputError: the chart libraries are missing.
    """
    refuse_if_any(filter(None, [charts.problem()]))
    folder = Path(directory) / FIGURES
    written = [
        path for figure in figures for path in charts.save(figure.chart, folder / figure.name, None if show_ids else ID)
    ]
    groups = [group_section(one) for one in group_tables(study, runs, summary)]
    tables = study_tables(study, runs, summary)
    write_tables(study, runs, tables, groups, directory)
    shared = runs.table.loc[runs.table["shared"].astype(bool)]
    html = page(
        study=study,
        conclusion=conclusion(study, runs, summary),
        figures=figures,
        findings=sorted(findings, key=lambda one: LEVELS.index(one.level)),
        tables=tables,
        unpaired=summary.unpaired,
        published=published_table(summary, study),
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
    there = [split for split in dict.fromkeys((*summary.judged, "val", "truth_val")) if measured(summary, study, split)]
    metrics = {split: metrics_table(study, runs, summary, split) for split in there}
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
    style = _part("report.css")
    scripts = [charts.script(), _part("report.js")] if figures else [_part("report.js")]
    scripts = [script.replace("</script", "<\\/script") for script in scripts]
    return rendered(
        HERE / "report.html.j2",
        policy=_policy([style], scripts),
        style=Markup(style),
        scripts=[Markup(script) for script in scripts],
        figures=[(figure, Markup(_json(figure)), charts.FORMATS) for figure in figures],
        sets_shown=SETS,
        **parts,
    )


def _part(name: str) -> str:
    """Return a file of this package as text."""
    return (HERE / name).read_text("utf-8")


def _json(figure: "Figure") -> str:
    """Return a figure's specification so that it can stand between script tags."""
    return _in_script(charts.specification(figure.chart))


def _in_script(specification: Any) -> str:
    return json.dumps(specification, allow_nan=False).replace("<", "\\u003c")


def without_ids(html: str) -> str:
    """Return a report's page without the texts' ids in its charts, as it may leave the machine."""
    return SPECIFIED.sub(lambda found: found[1] + _in_script(charts.without_field(json.loads(found[2]), ID)), html)


def _policy(styles: Sequence[str], scripts: Sequence[str]) -> str:
    """Return a content security policy: nothing is fetched, and only the page's own code runs, known by its hash."""

    def hashes(parts: Sequence[str]) -> str:
        digests = (hashlib.sha256(part.encode()).digest() for part in parts)
        return " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)

    return (
        f"default-src 'none'; script-src {hashes(scripts)}; style-src {hashes(styles)}; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )
