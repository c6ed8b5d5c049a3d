"""The report of estimates with guarantees: a self-contained page, the figure, the tables, the numbers."""

import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from invitro import __version__
from invitro.errors import refuse_if_any
from invitro.files import whole_or_absent, write_text
from invitro.stats.powered import CLASSICAL, NAIVE, POWERED
from invitro.studies.inference import ALL_CROWD, TRUTH, InferenceData
from invitro.studies.report.page import FIGURES, PAGE, page
from invitro.studies.report.sentences import Fact, terms
from invitro.studies.report.verdict import Judgement
from invitro.studies.wording import factor, records
from invitro.writing import charts
from invitro.writing.tables import Cell, Column, ReportTable, cell_of, interval_cell, number_cell, table_of
from invitro.writing.words import paragraphs, plain, said

if TYPE_CHECKING:
    import altair as alt

    from invitro.studies.figures.base import Figure
    from invitro.studies.study import Study

INFERENCE_TEMPLATE = Path(__file__).with_name("inference.j2")
METHODS = (CLASSICAL, NAIVE, POWERED, ALL_CROWD, TRUTH)
ESTIMATION_PACKAGES = ("ppi-python", "statsmodels", "numba", "numpy", "scipy", "pandas")


@dataclass(frozen=True)
class Estimated:
    """Estimates and where they come from.

    Args:
        rows: the estimates, with the columns of `inference.infer` and one for each setting that differs between jobs.
        factors: these settings.
        found: the material of each job.
        command: the command line.
    """

    rows: pd.DataFrame
    factors: tuple[str, ...]
    found: Sequence[InferenceData]
    command: str


def write_inference(study: "Study", estimated: Estimated, directory: Path) -> Path:
    """Write the report into `directory`, and return the path of its page.

    Files: ``estimates.csv``, ``table.md``, ``table.tex``, ``figures/estimates.*`` and, last, ``report.html``; each is
    written whole or not at all.

    Raises:
        InputError: the chart libraries are missing.
    """
    refuse_if_any(filter(None, [charts.problem()]))
    table, figure = estimates_table(estimated), _figure(estimated)
    charts.save(figure.chart, directory / FIGURES / figure.name)
    with whole_or_absent(directory / "estimates.csv") as temporary:
        estimated.rows.to_csv(temporary, index=False)
    write_text(directory / "table.tex", table.latex(f"tab:{study.name}"))
    text = [f"# {study.title}", study.question, f"`{estimated.command}`", table.markdown(), table.caption]
    write_text(directory / "table.md", "\n\n".join(text) + "\n")
    versions = {"invitro": __version__, "python": platform.python_version()}
    written = page(
        study=study,
        judgement=Judgement("none", study.title, [answer(estimated)]),
        tables=[table],
        figures=[figure],
        commands=[estimated.command],
        data=_data(estimated.found),
        environment=[Fact(*one) for one in (versions | {name: version(name) for name in ESTIMATION_PACKAGES}).items()],
        method=paragraphs(INFERENCE_TEMPLATE, "method"),
    )
    write_text(directory / PAGE, written)
    return directory / PAGE


def estimates_table(estimated: Estimated) -> ReportTable:
    """Return one row per estimate."""
    columns = [
        *(Column(name, factor(name)) for name in estimated.factors),
        Column("estimand", "estimand"),
        Column("method", "from"),
        Column("value", "estimate"),
        Column("interval", "95 % interval"),
        Column("width", "width", hidden=("paper",)),
        Column("power", "lambda"),
        Column("crowd", "crowd", "labels used"),
        Column("llm", "LLM", "labels used"),
        Column("effective", "worth"),
        Column("iid", "if texts were independent", hidden=("paper",)),
    ]
    rows: list[dict[str, Cell]] = [
        {name: cell_of(row[name]) for name in (*estimated.factors, "estimand", "method")}
        | {name: number_cell(row[name] or None, 0) for name in ("crowd", "llm")}
        | {
            "value": number_cell(row["value"]),
            "interval": interval_cell(row["low"], row["high"]),
            "width": number_cell(row["high"] - row["low"]),
            "power": number_cell(row["power"], 2),
            "effective": number_cell(row["effective"], 0),
            "iid": interval_cell(row["iid_low"], row["iid_high"]),
        }
        for row in records(estimated.rows)
    ]
    return table_of("estimates", "Estimates", columns, rows, said(INFERENCE_TEMPLATE, "caption"))


def answer(estimated: Estimated) -> str:
    """Report the estimates, in a sentence or two for each quantity."""
    estimands = []
    for _, part in estimated.rows.groupby([*estimated.factors, "estimand"], sort=False):
        by = {str(row["method"]): row for row in records(part)}
        name = ", ".join([*_job(estimated, by[POWERED]), str(by[POWERED]["estimand"])])
        estimands.append((name, by[POWERED], by[CLASSICAL], by[NAIVE], by.get(ALL_CROWD)))
    return said(INFERENCE_TEMPLATE, "answer", estimands)


def _job(estimated: Estimated, row: dict[str, Any]) -> list[str]:
    """Name the settings of the job that a row is of."""
    return [f"{factor(name)} {plain(row[name])}" for name in estimated.factors]


def _data(found: Sequence[InferenceData]) -> list[Fact]:
    """Return corpora and label sets with their terms, whom to cite, and what was left out."""
    facts: dict[str, str] = {}
    for one in found:
        corpus, labels = one.corpus, one.labels
        authors = int(one.table["group_id"].nunique())
        facts[f"terms of {corpus.name}"] = terms(corpus.licence, corpus.citation)
        facts[f"corpus {corpus.name}"] = said(
            INFERENCE_TEMPLATE, "corpus", len(one.table), authors, one.without_llm, one.scale.name, corpus.fingerprint
        )
        licence = f"{labels.licence}; " if labels.licence else ""
        facts[f"LLM labels {labels.name}"] = f"{licence}from {labels.source}; hash {labels.fingerprint}"
    return [Fact(name, value) for name, value in facts.items()]


PANEL_WIDTH, ESTIMATE_HEIGHT = 140, 13


def _figure(estimated: Estimated) -> "Figure":
    """Draw every estimate with its interval, a panel for each quantity."""
    import altair as alt

    from invitro.studies.figures.base import Figure, layered

    rows = [row | {"name": ", ".join([str(row["method"]), *_job(estimated, row)])} for row in records(estimated.rows)]
    names = list(dict.fromkeys(row["name"] for row in rows))
    series = [method for method in METHODS if any(row["method"] == method for row in rows)]
    panels = []
    for estimand in dict.fromkeys(row["estimand"] for row in rows):
        layers = _layers([row for row in rows if row["estimand"] == estimand], names, series, str(estimand))
        panels.append(layered(*layers, width=PANEL_WIDTH, height=ESTIMATE_HEIGHT * len(names)))
    drawn = alt.vconcat(*panels, spacing=10).properties(description="Estimates with 95 % intervals")
    return Figure("estimates", "Estimates", said(INFERENCE_TEMPLATE, "figure"), drawn)


def _layers(rows: list[dict[str, Any]], names: list[str], series: list[str], title: str) -> "list[alt.Chart]":
    """Return a panel's intervals and points; rows are named, so no legend is needed."""
    import altair as alt

    from invitro.studies.figures.base import POINT, chart, named_axis, padded, tooltip

    y = alt.Y("name:N", scale=alt.Scale(domain=names), axis=named_axis(names, 24))
    scale = alt.Scale(domain=padded([row[key] for row in rows for key in ("value", "low", "high")]), nice=False,
                      zero=False)  # fmt: skip
    x = alt.X("value:Q", scale=scale, axis=alt.Axis(title=f"{title} (points)", tickCount=4, format=".2~f"))
    ends = [("low:Q", "95 % from", ".3f"), ("high:Q", "95 % to", ".3f")]
    hue = alt.Color("method:N", scale=alt.Scale(domain=series, range=list(charts.COLOURS[: len(series)])), legend=None)
    form = alt.Shape("method:N", scale=alt.Scale(domain=series, range=list(charts.SHAPES[: len(series)])), legend=None)
    data = chart([{key: row[key] for key in ("name", "method", "value", "low", "high")} for row in rows])
    return [
        data.transform_filter("isValid(datum.low)").mark_rule(strokeWidth=1.4).encode(
            alt.X("low:Q", scale=scale), alt.X2("high:Q"), y, hue
        ),
        data.mark_point(filled=True, size=POINT, opacity=1).encode(
            x, y, hue, form, tooltip=tooltip(("name:N", "from", ""), ("value:Q", title, ".3f"), *ends)
        ),
    ]  # fmt: skip
