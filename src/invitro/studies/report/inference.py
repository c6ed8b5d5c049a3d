"""The report of estimates with guarantees: a page that needs nothing else, the figure, the tables, the numbers."""

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from invitro import __version__, charts
from invitro.errors import InputError
from invitro.files import whole_or_absent, write_text
from invitro.stats.powered import CLASSICAL, NAIVE, POWERED
from invitro.studies.inference import ALL_CROWD, TRUTH, InferenceData
from invitro.studies.report.facts import Fact
from invitro.studies.report.files import latex, markdown
from invitro.studies.report.page import FIGURES, PAGE, rendered
from invitro.studies.report.table import Cell, Column, Table, cell_of, table_of
from invitro.studies.wording import factor, interval, number, plain, records

if TYPE_CHECKING:
    import altair as alt

    from invitro.studies.figures.base import Figure
    from invitro.studies.study import Study

METHODS = (CLASSICAL, NAIVE, POWERED, ALL_CROWD, TRUTH)
PACKAGES = ("ppi-python", "statsmodels", "numba", "numpy", "scipy", "pandas")
METHOD = (
    "Crowd labels are used of texts drawn at random; the LLM labelled all texts. Estimated is what the crowd would say "
    "on average, in the population that the corpus is a sample of. A crowd that is biased itself is not mended.",
    "Prediction-powered: PPI++ with power tuning (Angelopoulos, Duchi, Zrnic 2023, arXiv 2311.01453), by ppi-python. "
    "Its intervals hold however wrong the LLM is; how narrow they are depends on how right it is.",
    "LLM labels alone: the interval leaves the LLM's bias out, and holds for what the LLM says, not for the crowd.",
    "Errors are over authors: what an author's texts contribute is added up before it is squared (Liang, Zeger 1986). "
    "The intervals in the last column take texts for independent, as ppi-python does; where they are narrower, "
    "that is what the assumption would hide.",
    "Worth: how many crowd labels alone would have been as exact.",
)


@dataclass(frozen=True)
class Estimated:
    """Estimates and where they come from.

    Args:
        rows: the estimates, with the columns of `inference.infer` and one for each setting that differs between jobs.
        factors: these settings.
        found: the material of each job.
        command: the line that was given.
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
    missing = charts.problem()
    if missing:
        raise InputError(missing)
    table, figure = estimates_table(estimated), _figure(estimated)
    charts.save(figure.chart, directory / FIGURES / figure.name)
    with whole_or_absent(directory / "estimates.csv") as temporary:
        estimated.rows.to_csv(temporary, index=False)
    write_text(directory / "table.tex", latex(table.printed(), f"tab:{study.name}"))
    text = [f"# {study.title}", study.question, f"`{estimated.command}`", markdown(table), table.caption]
    write_text(directory / "table.md", "\n\n".join(text) + "\n")
    page = rendered(
        study=study,
        found=answer(estimated),
        extra=[("Estimates", table)],
        figures=[figure],
        commands=[estimated.command],
        data=_data(estimated.found),
        environment=_environment(),
        method=list(METHOD),
    )
    write_text(directory / PAGE, page)
    return directory / PAGE


def estimates_table(estimated: Estimated) -> Table:
    """Return one row an estimate."""
    columns = [
        *(Column(name, factor(name)) for name in estimated.factors),
        Column("estimand", "estimand"),
        Column("method", "from"),
        Column("value", "estimate"),
        Column("interval", "95 % interval"),
        Column("width", "width", printed=False),
        Column("power", "lambda"),
        Column("crowd", "crowd", "labels used"),
        Column("llm", "LLM", "labels used"),
        Column("effective", "worth"),
        Column("iid", "if texts were independent", printed=False),
    ]
    rows = []
    for row in records(estimated.rows):
        cells = {name: cell_of(row[name]) for name in (*estimated.factors, "estimand", "method")}
        low, high, width = row["low"], row["high"], row["high"] - row["low"]
        cells |= {
            "value": cell_of(row["value"], number(row["value"])),
            "interval": cell_of(low, interval(low, high)),
            "width": cell_of(width, number(width)),
            "power": cell_of(row["power"], number(row["power"], 2)),
            "crowd": _used(row["crowd"]),
            "llm": _used(row["llm"]),
            "effective": cell_of(row["effective"], number(row["effective"], 0)),
            "iid": cell_of(row["iid_low"], interval(row["iid_low"], row["iid_high"])),
        }
        rows.append(cells)
    caption = (
        "Estimates with 95 % intervals, over authors; coefficients are scale points per standard deviation of the "
        "covariate. Lambda: the weight of the LLM's labels, 0 to 1. Worth: so many crowd labels would be as exact."
    )
    return table_of("estimates", caption, columns, rows)


def _used(count: Any) -> Cell:
    return cell_of(count if count else None, number(count, 0))


def answer(estimated: Estimated) -> str:
    """Say what the estimates are, in a sentence or two for each thing that was estimated."""
    told = []
    for _, part in estimated.rows.groupby([*estimated.factors, "estimand"], sort=False):
        by = {str(row["method"]): row for row in records(part)}
        powered, classical, naive = by[POWERED], by[CLASSICAL], by[NAIVE]
        where = "".join(f"{factor(name)} {plain(powered[name])}, " for name in estimated.factors)
        name = f"{where}{powered['estimand']}"
        sentence = (
            f"{name[0].upper()}{name[1:]}: {_with_interval(powered)} from {powered['crowd']:,} crowd labels and the "
            f"LLM's of {powered['llm']:,} texts; crowd labels alone give {_with_interval(classical)}, the LLM's alone "
            f"{_with_interval(naive)}. With the LLM the crowd labels are worth {number(powered['effective'], 0)}."
        )
        if ALL_CROWD in by:
            whole = by[ALL_CROWD]
            inside = powered["low"] <= whole["value"] <= powered["high"]
            sentence += (
                f" All {whole['crowd']:,} crowd labels give {number(whole['value'])}, which lies "
                f"{'inside' if inside else 'outside'} the prediction-powered interval."
            )
        told.append(sentence)
    return " ".join(told)


def _with_interval(row: Mapping[str, Any]) -> str:
    return f"{number(row['value'])} {interval(row['low'], row['high'])}"


def _data(found: Sequence[InferenceData]) -> list[Fact]:
    """Return corpora and label sets with their terms, whom to cite, and what was left out."""
    facts: dict[str, str] = {}
    for one in found:
        corpus, labels = one.corpus, one.labels
        facts[f"terms of {corpus.name}"] = ". ".join(
            part for part in (corpus.licence, f"Cite: {corpus.citation}" if corpus.citation else "") if part
        )
        facts[f"corpus {corpus.name}"] = (
            f"{len(one.table):,} texts with an LLM label by {one.table['group_id'].nunique():,} authors, "
            f"{one.without_llm:,} without one left out; scale {one.scale.name}; hash {corpus.fingerprint}"
        )
        licence = f"{labels.licence}; " if labels.licence else ""
        facts[f"LLM labels {labels.name}"] = f"{licence}from {labels.source}; hash {labels.fingerprint}"
    return [Fact(name, value) for name, value in facts.items()]


def _environment() -> list[Fact]:
    packages = [Fact(name, version(name)) for name in PACKAGES]
    return [Fact("invitro", __version__), Fact("python", platform.python_version()), *packages]


def _figure(estimated: Estimated) -> "Figure":
    """Draw every estimate with its interval, a panel for each thing that was estimated."""
    import altair as alt

    from invitro.studies.figures.base import Figure, layered

    rows = []
    for row in records(estimated.rows):
        job = ", ".join(f"{factor(name)} {plain(row[name])}" for name in estimated.factors)
        name = ", ".join(part for part in (str(row["method"]), job) if part)
        rows.append(row | {"name": name, "series": row["method"]})
    names = list(dict.fromkeys(row["name"] for row in rows))
    series = [method for method in METHODS if any(row["series"] == method for row in rows)]
    panels = []
    for estimand in dict.fromkeys(row["estimand"] for row in rows):
        of_it = [row for row in rows if row["estimand"] == estimand]
        panels.append(layered(*_layers(of_it, names, series, str(estimand)), width=WIDTH, height=13 * len(names)))
    drawn = alt.vconcat(*panels, spacing=10).properties(description="Estimates with 95 % intervals")
    caption = "Estimates with 95 % intervals over authors, in scale points; the truth, where it is known, has none."
    return Figure("estimates", "Estimates", caption, drawn)


WIDTH = 140


def _layers(rows: list[dict[str, Any]], names: list[str], series: list[str], title: str) -> "list[alt.Chart]":
    """Return a panel's intervals and points."""
    import altair as alt

    from invitro.studies.figures.base import POINT, chart, named_axis, padded, tooltip

    y = alt.Y("name:N", scale=alt.Scale(domain=names), axis=named_axis(names, 24))
    every = [row[key] for row in rows for key in ("value", "low", "high")]
    scale = alt.Scale(domain=padded(every), nice=False, zero=False)
    x = alt.X("value:Q", scale=scale, axis=alt.Axis(title=f"{title} (points)", tickCount=4, format=".2~f"))
    told = tooltip(
        ("name:N", "from", ""), ("value:Q", title, ".3f"), ("low:Q", "95 % from", ".3f"), ("high:Q", "95 % to", ".3f")
    )
    # Names stand at the rows: a legend would say them again.
    hue = alt.Color("series:N", scale=alt.Scale(domain=series, range=list(charts.COLOURS[: len(series)])), legend=None)
    form = alt.Shape("series:N", scale=alt.Scale(domain=series, range=list(charts.SHAPES[: len(series)])), legend=None)
    data = chart([{key: row[key] for key in ("name", "series", "value", "low", "high")} for row in rows])
    there = data.transform_filter("isValid(datum.low)")
    return [
        there.mark_rule(strokeWidth=1.4).encode(alt.X("low:Q", scale=scale), alt.X2("high:Q"), y, hue),
        data.mark_point(filled=True, size=POINT, opacity=1).encode(x, y, hue, form, tooltip=told),
    ]
