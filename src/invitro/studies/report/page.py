"""The report of a study: one page that needs nothing else, figures and tables for a paper, every run as CSV."""

import base64
import hashlib
import json
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from invitro import charts
from invitro.errors import InputError
from invitro.files import write_text
from invitro.studies.groups import group_tables
from invitro.studies.report.facts import data_facts, environment_facts, failures
from invitro.studies.report.files import write_tables
from invitro.studies.report.groups import GroupSection, group_section
from invitro.studies.report.tables import (
    costs_table,
    differences_table,
    distances_table,
    metrics_table,
    plateau_table,
    published_table,
    runs_table,
)
from invitro.studies.report.words import found, method
from invitro.studies.wording import SPLITS, count, listed, measured, unbroken

if TYPE_CHECKING:
    from invitro.studies.figures.base import Figure
    from invitro.studies.health.checks import Finding
    from invitro.studies.runs import Runs
    from invitro.studies.study import Study
    from invitro.studies.summary import Summary

PAGE, FIGURES = "report.html", "figures"
PARTS = files("invitro.studies.report")
ABSENT = (
    "findings", "tables", "further", "extra", "differences", "unpaired", "plateau", "published", "failures", "shared",
    "runs", "distances", "groups",
)  # fmt: skip
"""Parts of a page that it may be without."""


def write_report(
    study: "Study",
    runs: "Runs",
    summary: "Summary",
    findings: "Sequence[Finding]",
    figures: "Sequence[Figure]",
    directory: Path,
) -> Path:
    """Write a study's report into `directory`, replacing an earlier one, and return the path of its page.

    Files: ``figures/NAME.svg``, ``.pdf`` and ``.png``; ``table.tex``, ``table.md``, ``runs.csv``; and last
    ``report.html``: text, tables, charts and the code that draws them in one file, which fetches nothing. Each is
    written whole or not at all. Figures of an earlier report that there are no more are removed.

    Raises:
        InputError: the chart libraries are missing.
    """
    missing = charts.problem()
    if missing:
        raise InputError(missing)
    directory = Path(directory)
    written = [path for figure in figures for path in charts.save(figure.chart, directory / FIGURES / figure.name)]
    groups = [group_section(one) for one in group_tables(study, runs, summary)]
    write_tables(study, runs, summary, directory, groups)
    write_text(directory / PAGE, page(study, runs, summary, findings, figures, directory, groups))
    for path in (directory / FIGURES).glob("*.*") if (directory / FIGURES).is_dir() else ():
        if path not in written and path.suffix.removeprefix(".") in charts.FORMATS:
            path.unlink()
    return directory / PAGE


def page(
    study: "Study",
    runs: "Runs",
    summary: "Summary",
    findings: "Sequence[Finding]",
    figures: "Sequence[Figure]",
    directory: Path,
    groups: "Sequence[GroupSection]" = (),
) -> str:
    """Return the page; links lead from `directory`, and `groups` are the tables by group of people."""
    splits = [split for split in ("test", "truth_test", "val", "truth_val") if measured(summary, study, split)]
    return rendered(
        figures=figures,
        study=study,
        found=found(study, runs, summary),
        findings=sorted(findings, key=lambda one: ("warning", "note", "good").index(one.level)),
        tables=[(SPLITS[split], metrics_table(study, runs, summary, split)) for split in splits if "test" in split],
        further=[(SPLITS[split], metrics_table(study, runs, summary, split)) for split in splits if "val" in split],
        differences=differences_table(study, runs, summary),
        unpaired=summary.unpaired,
        plateau=plateau_table(summary, study),
        distances=distances_table(study, runs, summary),
        published=published_table(summary, study),
        extra=[("Gains and costs", costs_table(study, runs, summary))] if study.costs else [],
        groups=groups,
        failures=failures(runs, directory),
        shared=_shared(runs),
        runs=runs_table(study, runs),
        commands=runs.commands,
        environment=environment_facts(runs),
        data=data_facts(runs),
        method=method(study, runs, summary),
    )


def rendered(figures: "Sequence[Figure]", **parts: Any) -> str:
    """Return the page that has these `figures` and `parts`, the template's variables; `ABSENT` are left out.

    ``extra`` are further tables with their headings.
    """
    from jinja2 import Environment, StrictUndefined

    style = _part("report.css")
    scripts = [charts.script(), _part("report.js")] if figures else [_part("report.js")]
    scripts = [script.replace("</script", "<\\/script") for script in scripts]
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["unbroken"] = unbroken
    template = environment.from_string(_part("report.html.j2"))
    return template.render(
        policy=_policy([style], scripts),
        style=Markup(style),
        scripts=[Markup(script) for script in scripts],
        figures=[(figure, Markup(_json(figure)), charts.FORMATS) for figure in figures],
        **dict.fromkeys(ABSENT) | parts,
    )


def _part(name: str) -> str:
    """Return a file of this package as text."""
    return PARTS.joinpath(name).read_text("utf-8")


def _json(figure: "Figure") -> str:
    """Return a figure's specification so that it can stand between script tags."""
    return json.dumps(charts.specification(figure.chart), allow_nan=False).replace("<", "\\u003c")


def _policy(styles: Sequence[str], scripts: Sequence[str]) -> str:
    """Return a content security policy: nothing is fetched, and no code runs but the page's own, known by its hash."""

    def hashes(parts: Sequence[str]) -> str:
        digests = (hashlib.sha256(part.encode()).digest() for part in parts)
        return " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)

    return (
        f"default-src 'none'; script-src {hashes(scripts)}; style-src {hashes(styles)}; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )


def _shared(runs: "Runs") -> str:
    """Tell which jobs share a result; an empty string where none do."""
    table = runs.table.loc[runs.table["shared"].astype(bool)]
    if table.empty:
        return ""
    sets = [listed(f"job {job}" for job in part.index) for _, part in table.groupby("record", sort=False)]
    shown = "; ".join(sets[:12]) + (f"; and {len(sets) - 12} more sets" if len(sets) > 12 else "")
    return (
        f"{count(len(table), 'job')} equal another job in training labels, settings and seed, and were trained once: "
        f"{shown}. Their numbers are equal by construction, and no evidence for each other."
    )
