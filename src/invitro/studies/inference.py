"""The mean of a construct over a corpus, and its regression on a covariate, estimated from few crowd labels and many
LLM labels; and the report of these estimates.
"""

import logging
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import altair as alt
import numpy as np
import pandas as pd
from annotated_types import Ge, MinLen

from invitro import __version__
from invitro.data import Corpus, DataFolder, Reader
from invitro.errors import InputError, refuse_if_any
from invitro.files import whole_or_absent, write_text
from invitro.labels import LabelSet, LabelSource
from invitro.scales import Scale
from invitro.settings import checked
from invitro.stats import Bools, Floats
from invitro.stats.powered import CLASSICAL, LEAST_LABELS, NAIVE, POWERED, Coefficient, estimates, of_all, problem
from invitro.studies.report.page import FIGURES, PAGE, page
from invitro.studies.report.sentences import Fact, terms
from invitro.studies.report.verdict import Judgement
from invitro.studies.study import Study
from invitro.studies.wording import factor, records
from invitro.writing import charts
from invitro.writing.charts import POINT, Figure, chart, figure, layered, named_axis, padded, tooltip, wrapped
from invitro.writing.tables import Cell, Column, ReportTable, cell_of, interval_cell, number_cell, table_of
from invitro.writing.words import count, paragraphs, plain, said

log = logging.getLogger(__name__)

TEXT_LENGTH = "words"
ALL_CROWD, TRUTH = "crowd labels of all texts", "the truth, all texts"
ESTIMATE_COLUMNS = ("estimand", *Coefficient.__dataclass_fields__, "authors")


@checked("inference")
@dataclass(frozen=True)
class Inference:
    """What is estimated, and from how many crowd labels.

    Args:
        gold: number of crowd labels that are used, of texts drawn at random, or all if there are fewer; None uses all,
            for corpora in which only some texts have one. These texts then have to be a random sample.
        covariate: what the construct is regressed on: ``words``, the text's length, or a numeric column of the corpus,
            such as ``age``. It is standardised: the coefficient is per standard deviation.

    Raises:
        InputError: naming every setting that is wrong.
    """

    gold: Annotated[int, Ge(LEAST_LABELS)] | None = 200
    covariate: Annotated[str, MinLen(1), f"{TEXT_LENGTH} or a column's name"] = TEXT_LENGTH

    def contradictions(self) -> list[str]:
        """Return which package is missing, if any."""
        return [lacking] if (lacking := problem()) else []


@dataclass(frozen=True)
class InferenceData:
    """The labels that estimates are made from.

    Args:
        corpus: the texts.
        labels: the LLM's label set.
        scale: of all labels.
        table: one row per text with an LLM label: ``text_id``, ``group_id``, ``crowd_label`` (NaN where there is none),
            ``llm_label``, ``covariate`` (NaN where it is unknown) and, if it is known, ``truth``.
        covariate: its name.
        without_llm: texts that were left out because they have no LLM label.
    """

    corpus: Corpus
    labels: LabelSet
    scale: Scale
    table: pd.DataFrame
    covariate: str
    without_llm: int


def inference_data(
    reader: Reader, scale: Scale, source: LabelSource, prompt: str, folder: DataFolder, covariate: str
) -> InferenceData:
    """Read a corpus and its LLM labels, as a training does; splits do not matter.

    Raises:
        InputError: files, ids or labels cannot be used, or the covariate is not a numeric column.
    """
    corpus = reader.read(scale)
    corpus.refuse_faults()
    labels = source.find(corpus.label_corpora, corpus.table, scale, prompt, folder)
    kept = ["text_id", "group_id", "crowd_label", *(["truth"] if corpus.has_truth else [])]
    table = corpus.table[kept].assign(
        llm_label=labels.of(corpus.table["text_id"]), covariate=_covariate(corpus, covariate)
    )
    scored = table["llm_label"].notna()
    without_llm = int((~scored).sum())
    return InferenceData(corpus, labels, scale, table.loc[scored].reset_index(drop=True), covariate, without_llm)


def _covariate(corpus: Corpus, name: str) -> "pd.Series[float]":
    if name == TEXT_LENGTH:
        return corpus.table["text"].map(lambda text: float(len(text.split())))
    numeric = {
        str(column): values
        for column in corpus.table
        if column not in ("text", "text_id", "group_id", "crowd_label", "llm_label", "truth")
        and (values := pd.to_numeric(corpus.table[column], errors="coerce")).notna().any()
    }
    if name not in numeric:
        raise InputError(
            f"inference.covariate={name}: expected {TEXT_LENGTH} or a numeric column of {corpus.name} "
            f"({', '.join(numeric) or 'it has none'})"
        )
    return numeric[name].astype("float64")


def drawn(table: pd.DataFrame, gold: int | None, seed: int) -> Bools:
    """Draw the texts whose crowd labels are used: `gold` of those with one, all equally likely, or all of them."""
    chosen = np.flatnonzero(table["crowd_label"].notna())
    if gold is not None and gold <= len(chosen):
        chosen = np.random.default_rng(seed).choice(chosen, gold, replace=False)
    elif gold is not None:
        log.warning("inference.gold=%d: all %s with both labels are used", gold, count(len(chosen), "text"))
    return np.isin(np.arange(len(table)), chosen)


def infer(data: InferenceData, settings: Inference, seed: int) -> pd.DataFrame:
    """Return one estimate per row, with the columns of `powered.Coefficient`, ``estimand`` and ``authors``.

    Two checks are added to the three estimates: the estimate from all crowd labels, if there are more than were drawn,
    and the truth, if it is known. The estimand is what the crowd would say on average in the population from which the
    corpus is a sample; if the crowd is biased, that is not the truth.

    Raises:
        InputError: too few labels, or labels or a covariate that do not vary.
    """
    gold = drawn(data.table, settings.gold, seed)
    covariate, ones = data.table["covariate"].to_numpy(dtype="float64"), np.ones((len(data.table), 1))
    parts = {
        "mean": (np.full(len(data.table), True), ones),
        f"coefficient of {data.covariate}": (
            ~np.isnan(covariate), np.hstack([ones, _standardised(covariate, data.covariate)[:, None]])
        ),
    }  # fmt: skip
    rows: list[Mapping[str, Any]] = []
    for name, (used, design) in parts.items():
        table, x = data.table.loc[used], design[used]
        crowd, llm = (table[column].to_numpy(dtype="float64") for column in ("crowd_label", "llm_label"))
        authors = table["group_id"].to_numpy()
        coefficients = list(estimates(x, crowd, llm, gold[used], authors))
        rated = ~np.isnan(crowd)
        if rated.sum() > gold[used].sum():
            coefficients.append(of_all(x[rated], crowd[rated], authors[rated], ALL_CROWD))
        common = {"estimand": name, "authors": len(np.unique(authors))}
        rows += [common | asdict(coefficient) for coefficient in coefficients]
        if "truth" in table:
            value = np.linalg.lstsq(x, table["truth"].to_numpy(dtype="float64"), rcond=None)[0][-1]
            rows.append(common | {"method": TRUTH, "value": float(value), "crowd_labels": 0, "llm_labels": 0})
    return pd.DataFrame(rows, columns=list(ESTIMATE_COLUMNS))


def _standardised(values: Floats, name: str) -> Floats:
    spread = float(np.nanstd(values))
    if not spread > 0:
        raise InputError(f"inference.covariate={name}: is the same for all texts; choose one that varies")
    return np.asarray((values - np.nanmean(values)) / spread, dtype=np.float64)


INFERENCE_TEMPLATE = Path(__file__).with_name("inference.j2")
METHODS = (CLASSICAL, NAIVE, POWERED, ALL_CROWD, TRUTH)
ESTIMATION_PACKAGES = ("ppi-python", "statsmodels", "numba", "numpy", "scipy", "pandas")


@dataclass(frozen=True)
class Estimated:
    """Estimates and where they come from.

    Args:
        rows: the estimates, with the columns of `inference.infer` and one for each setting that differs between jobs.
        factors: these settings.
        found: the data of each job.
        command: the command line.
    """

    rows: pd.DataFrame
    factors: tuple[str, ...]
    found: Sequence[InferenceData]
    command: str


def write_inference(study: Study, estimated: Estimated, directory: Path) -> Path:
    """Write the report into `directory`, and return the path of its page.

    Files: ``estimates.csv``, ``table.md``, ``table.tex``, ``figures/estimates.*`` and, last, ``report.html``; each is
    written whole or not at all.

    Raises:
        InputError: the chart libraries are missing.
    """
    refuse_if_any(filter(None, [charts.problem()]))
    table, drawn = estimates_table(estimated), _figure(estimated)
    charts.save(drawn.chart, directory / FIGURES / drawn.name)
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
        figures=[drawn],
        commands=[estimated.command],
        data=_data(estimated.found),
        environment=[
            Fact(*item) for item in (versions | {name: version(name) for name in ESTIMATION_PACKAGES}).items()
        ],
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
        Column("crowd_labels", "crowd", "labels used"),
        Column("llm_labels", "LLM", "labels used"),
        Column("effective", "worth"),
        Column("iid", "if texts were independent", hidden=("paper",)),
    ]
    rows: list[dict[str, Cell]] = [
        {name: cell_of(row[name]) for name in (*estimated.factors, "estimand", "method")}
        | {name: number_cell(row[name] or None, 0) for name in ("crowd_labels", "llm_labels")}
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
    """Report the estimates in a sentence or two per quantity."""
    estimands = []
    for _, part in estimated.rows.groupby([*estimated.factors, "estimand"], sort=False):
        by = {str(row["method"]): row for row in records(part)}
        name = ", ".join([*_job(estimated, by[POWERED]), str(by[POWERED]["estimand"])])
        estimands.append((name, by[POWERED], by[CLASSICAL], by[NAIVE], by.get(ALL_CROWD)))
    return said(INFERENCE_TEMPLATE, "answer", estimands)


def _job(estimated: Estimated, row: dict[str, Any]) -> list[str]:
    """Name the settings of a row's job."""
    return [f"{factor(name)} {plain(row[name])}" for name in estimated.factors]


def _data(jobs: Sequence[InferenceData]) -> list[Fact]:
    """Return corpora and label sets with their terms, what to cite, and how many texts were left out."""
    facts: dict[str, str] = {}
    for data in jobs:
        corpus, labels = data.corpus, data.labels
        texts, authors = len(data.table), int(data.table["group_id"].nunique())
        facts[f"terms of {corpus.name}"] = terms(corpus.licence, corpus.citation)
        facts[f"corpus {corpus.name}"] = said(
            INFERENCE_TEMPLATE, "corpus", texts, authors, data.without_llm, data.scale.name, corpus.fingerprint
        )
        licence = f"{labels.licence}; " if labels.licence else ""
        facts[f"LLM labels {labels.name}"] = f"{licence}from {labels.source}; hash {labels.fingerprint}"
    return [Fact(name, value) for name, value in facts.items()]


PANEL_WIDTH, ESTIMATE_HEIGHT, LONGEST = 140, 13, 24
"""Of a panel and of one line of a name, in points; and the letters of a name in one line."""


def _figure(estimated: Estimated) -> Figure:
    """Draw every estimate with its interval, one panel per quantity."""
    rows = [row | {"name": ", ".join([str(row["method"]), *_job(estimated, row)])} for row in records(estimated.rows)]
    names = list(dict.fromkeys(row["name"] for row in rows))
    series = [method for method in METHODS if any(row["method"] == method for row in rows)]
    height = ESTIMATE_HEIGHT * max(len(wrapped(name, LONGEST)) for name in names)
    panels = []
    for estimand in dict.fromkeys(row["estimand"] for row in rows):
        layers = _layers([row for row in rows if row["estimand"] == estimand], names, series, str(estimand))
        panels.append(layered(*layers, width=PANEL_WIDTH, height=height * len(names)))
    drawn = alt.vconcat(*panels, spacing=10).properties(description="Estimates with 95 % intervals")
    return figure(INFERENCE_TEMPLATE, "estimates", "Estimates", "figure", drawn)


def _layers(rows: list[dict[str, Any]], names: list[str], series: list[str], title: str) -> list[alt.Chart]:
    """Return a panel's intervals and points; rows are named, so no legend is needed."""
    y = alt.Y("name:N", scale=alt.Scale(domain=names), axis=named_axis(names, LONGEST))
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
