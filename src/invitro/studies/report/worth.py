"""The report on what an LLM's labels are worth: a self-contained page, the figure, the numbers, and the sentence."""

import platform
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import altair as alt
import pandas as pd

from invitro import __version__
from invitro.errors import called, command_line
from invitro.files import whole_or_absent, write_text
from invitro.stats.intervals import MARGIN
from invitro.studies.report.page import FIGURES, GUESSING, LLM_ITSELF, PAGE, UNMEASURED, is_off, page, scored_row
from invitro.studies.report.sentences import Fact, terms
from invitro.studies.report.verdict import VERDICT, Judgement, Step, VerdictKind
from invitro.studies.wording import METRIC_NAMES, records
from invitro.studies.worth import ALONE, HELPED, Exchange, WorthData
from invitro.writing import charts
from invitro.writing.charts import POINT, Figure, chart, colour, figure, layered, left_axis, shape, tooltip
from invitro.writing.tables import Column, ReportTable, cell_of, estimate_cell, number_cell, table_of
from invitro.writing.words import capital, paragraphs, said

if TYPE_CHECKING:
    from invitro.studies.study import Study
WORTH_TEMPLATE = Path(__file__).with_name("worth.j2")
WORTH_PACKAGES = ("scikit-learn", "scipy", "numpy", "torch", "transformers")
WORTH_WIDTH, WORTH_HEIGHT = 300, 150
"""Size of the figure's panel, in points: wider than a column, because it is also the first figure of the README."""


@dataclass(frozen=True)
class Weighed:
    """One set of LLM labels, and its worth.

    Args:
        data: the labels and their texts.
        exchange: their worth.
        settings: the overrides of this job, which ``train.py`` accepts too.
    """

    data: WorthData
    exchange: Exchange
    settings: tuple[str, ...] = ()


def worth_sentence(llm: str, exchange: Exchange) -> str:
    """Say what an LLM's labels are worth, with censored cases in words."""
    return capital(said(WORTH_TEMPLATE, "answer", exchange, llm))


def write_worth(study: "Study", weighed: Sequence[Weighed], command: str, directory: Path) -> Path:
    """Write the report into `directory`, and return the path of its page.

    Files: ``worth.csv``, ``table.md``, ``table.tex``, ``figures/worth_LLM.*`` and, last, ``report.html``; each is
    written whole or not at all.

    Raises:
        InputError: the chart libraries are missing.
    """
    figures = [worth_figure(label_set) for label_set in weighed]
    for drawn in figures:
        charts.save(drawn.chart, directory / FIGURES / drawn.name)
    table = worth_table(weighed)
    rows = pd.concat([_rows(label_set) for label_set in weighed], ignore_index=True)
    with whole_or_absent(directory / "worth.csv") as temporary:
        rows.to_csv(temporary, index=False)
    write_text(directory / "table.tex", table.latex(f"tab:{study.name}"))
    conclusion = " ".join(worth_sentence(label_set.data.llm, label_set.exchange) for label_set in weighed)
    text = [f"# {study.title}", conclusion, f"`{command}`", table.markdown(), table.caption]
    write_text(directory / "table.md", "\n\n".join(text) + "\n")
    versions = {"invitro": __version__, "python": platform.python_version()}
    written = page(
        study=study,
        judgement=worth_judgement(weighed),
        tables=[table],
        overview=worth_overview(weighed),
        figures=figures,
        commands=[command],
        data=_data(weighed),
        environment=[Fact(*fact) for fact in (versions | {name: version(name) for name in WORTH_PACKAGES}).items()],
        method=paragraphs(WORTH_TEMPLATE, "method", weighed[0].exchange.settings),
    )
    write_text(directory / PAGE, written)
    return directory / PAGE


def worth_judgement(weighed: Sequence[Weighed]) -> Judgement:
    """Judge whether an LLM's labels should be used, and for which texts.

    They help on rated texts if the interval of their gain over all ratings is above 0, and on unrated texts if they are
    worth at least the smallest number of ratings tried.
    """
    order = list(WORTH_KINDS)
    first = min(weighed, key=lambda label_set: order.index(_worth_kind(label_set.exchange)))
    kind = _worth_kind(first.exchange)
    facts = (first.data.llm, first.exchange, first.data)
    answers = [worth_sentence(label_set.data.llm, label_set.exchange) for label_set in weighed]
    return Judgement(
        kind=WORTH_KINDS[kind],
        headline=capital(said(WORTH_TEMPLATE, "headline", kind, *facts[:2], MARGIN)),
        reasons=[*answers[:-1], f"{answers[-1]} {said(WORTH_TEMPLATE, 'brackets')}"],
        rests=capital(said(WORTH_TEMPLATE, "rests", *facts)),
        held_back=said(WORTH_TEMPLATE, "held_back", *facts),
        steps=[*_worth_steps(first, kind)],
    )


WORTH_KINDS: dict[str, VerdictKind] = {"everywhere": "use", "unrated": "use", "unclear": "unclear", "not": "not"}
"""The texts for which an LLM's labels help, the most useful first, and the resulting verdict."""


def _worth_kind(exchange: Exchange) -> str:
    if exchange.added.low > 0:
        return "everywhere"
    if exchange.worth.low >= exchange.first:
        return "unrated"
    return "not" if exchange.worth.high < exchange.first else "unclear"


def _worth_steps(label_set: Weighed, kind: str) -> Iterator[Step]:
    """Yield the training to run next, and the study that compares uses of the labels for rated texts."""
    words = [*label_set.settings, "plm.train=frozen"]
    unrated = int(label_set.data.table["crowd_label"].isna().sum())
    policy = "application=none" if kind == "not" else "application=posterior"
    yield Step(said(WORTH_TEMPLATE, "step", kind, unrated), f"{called('train')} {command_line([*words, policy])}")
    if kind != "not":
        ways = ["study=cross_validation", "application=none,correction,posterior", "data.split.grouped=true"]
        yield Step(said(WORTH_TEMPLATE, "compare"), f"{called('sweep')} {command_line([*ways, *words])}")


def _rows(label_set: Weighed) -> pd.DataFrame:
    """Return a curve's rows with the exchange rate in further columns."""
    rate, added = label_set.exchange.worth, label_set.exchange.added
    facts = {"worth": rate.value, "worth_low": rate.low, "worth_high": rate.high}
    facts |= {"added": added.value, "added_low": added.low, "added_high": added.high}
    table = label_set.exchange.curve.assign(**facts)
    table.insert(0, "llm", label_set.data.llm)
    return table


def worth_table(weighed: Sequence[Weighed]) -> ReportTable:
    """Return one row per LLM, curve and number of ratings."""
    columns = [
        Column("llm", "LLM"),
        Column("labels", "trained on"),
        Column("ratings", "human ratings"),
        *(Column(metric, METRIC_NAMES[metric]) for metric in METRIC_NAMES),
    ]
    rows = [
        {"llm": cell_of(label_set.data.llm), "labels": cell_of(row["labels"])}
        | {"ratings": number_cell(row["ratings"], 0)}
        | {
            metric: estimate_cell(row[metric], row[f"{metric}_low"], row[f"{metric}_high"])
            for metric in METRIC_NAMES
        }
        for label_set in weighed
        for row in records(label_set.exchange.curve)
    ]  # fmt: skip
    return table_of("worth", "Learning curves", columns, rows, said(WORTH_TEMPLATE, "caption"))


PEOPLE = "model trained on all human ratings"


def worth_overview(weighed: Sequence[Weighed]) -> ReportTable:
    """Return the ends of the curves in short, with the LLM's own labels and the mean for every text."""
    shown = []
    for label_set in weighed:
        curve = label_set.exchange.curve
        alone, helped = (curve.loc[curve["labels"] == labels].sort_values("ratings") for labels in (ALONE, HELPED))
        suffix = f" ({label_set.data.llm})" if len(weighed) > 1 else ""
        for name, row in (
            (PEOPLE, alone.iloc[-1]),
            ("model trained on the LLM's labels", helped.iloc[0]),
            ("model trained on both", helped.iloc[-1]),
        ):
            cells = {part: estimate_cell(row[part], row[f"{part}_low"], row[f"{part}_high"]) for part in METRIC_NAMES}
            shown.append({"scores": cell_of(name + ("" if name == PEOPLE else suffix))} | cells)
        table = label_set.data.table.dropna(subset=["crowd_label"])
        both = table.dropna(subset=["llm_label"])
        shown.append(scored_row(LLM_ITSELF + suffix, both, both["llm_label"], [*METRIC_NAMES]))
    mean = pd.Series(table["crowd_label"].mean(), table.index)
    shown.append(scored_row(GUESSING, table, mean, ["rmse"]) | UNMEASURED)
    columns = [Column("scores", "scores from"), *(Column(metric, name) for metric, name in METRIC_NAMES.items())]
    caption = said(VERDICT, "overview", "held-out texts", True, True, is_off(shown), mean="all ratings")
    return table_of("overview", "At a glance", columns, shown, caption)


def _data(weighed: Sequence[Weighed]) -> list[Fact]:
    facts: dict[str, str] = {}
    for label_set in weighed:
        corpus, labels = label_set.data.corpus, label_set.data.labels
        facts[f"terms of {corpus.name}"] = terms(corpus.licence, corpus.citation)
        facts[f"corpus {corpus.name}"] = f"scale {label_set.data.scale.name}; hash {corpus.fingerprint}"
        facts["encoder"] = f"{label_set.data.plm}, frozen"
        licence = f"{labels.licence}; " if labels.licence else ""
        facts[f"LLM labels {labels.name}"] = f"{licence}from {labels.source}; hash {labels.fingerprint}"
    return [Fact(name, value) for name, value in facts.items()]


def worth_figure(label_set: Weighed) -> Figure:
    """Draw both curves over the number of human ratings (log scale, 0 shown apart), with the worth marked."""
    exchange, llm = label_set.exchange, label_set.data.llm
    drawn = layered(
        *_curves(exchange), *_mark(exchange), width=WORTH_WIDTH, height=WORTH_HEIGHT,
        description=f"PCC by the number of human ratings, with and without the labels of {llm}",
    )  # fmt: skip
    facts = (label_set.data.plm, llm, exchange.settings.draws, exchange.texts, exchange.authors)
    title = f"What the labels of {llm} are worth"
    return figure(WORTH_TEMPLATE, re.sub(r"\W+", "-", f"worth_{llm}"), title, "figure", drawn, *facts)


def _zero(exchange: Exchange) -> float:
    """Return the position of 0 on the logarithmic axis."""
    return exchange.first / 2


def _domains(exchange: Exchange) -> tuple[alt.Scale, alt.Scale, list[float]]:
    """Return the scales of both axes, and the ends of y."""
    curve = exchange.curve
    highest = max([*curve["pcc"].dropna(), *curve["pcc_high"].dropna(), 0.1])
    ends = [min([0.0, *curve["pcc_low"].dropna()]), 1.06 * highest]
    x = alt.Scale(type="log", domain=[_zero(exchange) / 1.15, exchange.everything * 1.12], nice=False)
    return x, alt.Scale(domain=ends, nice=False, zero=False), ends


def _curves(exchange: Exchange) -> list[alt.Chart]:
    series = [ALONE, HELPED]
    rows = [
        row | {"series": row["labels"], "x": row["ratings"] or _zero(exchange), "apart": row["ratings"] == 0}
        for row in records(exchange.curve)
    ]
    sizes = sorted({row["ratings"] for row in rows} - {0})
    labels = (
        f"datum.value < {exchange.first} ? '0' : "
        f"(datum.value > {sizes[-1] - 0.5} ? 'all ' : '') + format(datum.value, ',')"
    )
    x_scale, y_scale, _ = _domains(exchange)
    axis = alt.Axis(
        title="human ratings (log scale; 0 shown apart)",
        values=[_zero(exchange), *sizes],
        labelExpr=labels,
        labelOverlap=True,
    )
    x, y = alt.X("x:Q", scale=x_scale, axis=axis), alt.Y("pcc:Q", scale=y_scale, axis=left_axis("PCC", ".2~f", 6))
    ends = [("pcc_low:Q", "95 % from", ".3f"), ("pcc_high:Q", "95 % to", ".3f")]
    hint = tooltip(("series:N", "trained on", ""), ("ratings:Q", "human ratings", ","), ("pcc:Q", "PCC", ".3f"), *ends)
    data = chart(rows)
    joined = data.transform_filter("!datum.apart")
    return [
        joined.mark_area(opacity=0.16).encode(x, alt.Y("pcc_low:Q"), alt.Y2("pcc_high:Q"), colour(series)),
        data.transform_filter("datum.apart").mark_rule(strokeWidth=1.4).encode(
            x, alt.Y("pcc_low:Q"), alt.Y2("pcc_high:Q"), colour(series)
        ),
        joined.mark_line().encode(x, y, colour(series)),
        data.mark_point(filled=True, size=POINT, opacity=1).encode(x, y, colour(series), shape(series), tooltip=hint),
    ]  # fmt: skip


def _mark(exchange: Exchange) -> list[alt.Chart]:
    """Return the level of the labels alone, the point at which the other curve reaches it, and its interval."""
    x_scale, _, (bottom, top) = _domains(exchange)
    level = float(exchange.curve.loc[exchange.curve["ratings"] == 0, "pcc"].iloc[0])
    least, most = _zero(exchange), float(exchange.everything)

    def placed(value: float) -> float:
        return min(max(value, exchange.first), most) if value > 0 else exchange.first

    text = said(WORTH_TEMPLATE, "worth", exchange)
    at, near = placed(exchange.worth.value), bottom + 0.05 * (top - bottom)
    line: dict[str, Any] = {"color": charts.INK, "strokeDash": [3, 2], "strokeWidth": 0.8}
    x = alt.X("x:Q", scale=x_scale)
    right = at > (least * most) ** 0.5
    marks = [
        chart([{"x": least, "end": at, "y": level}]).mark_rule(**line).encode(x, alt.X2("end:Q"), alt.Y("y:Q")),
        chart([{"x": placed(exchange.worth.low), "end": placed(exchange.worth.high), "y": near}])
        .mark_rule(color=charts.INK, strokeWidth=2.5, opacity=0.45)
        .encode(x, alt.X2("end:Q"), alt.Y("y:Q")),
        chart([{"x": at, "y": near, "text": text}])
        .mark_text(align="right" if right else "left", dx=-4 if right else 4, dy=-8, fontSize=7.5, color=charts.INK)
        .encode(x, alt.Y("y:Q"), alt.Text("text:N")),
    ]
    if 0 < exchange.worth.value < float("inf"):
        marks.append(
            chart([{"x": at, "y": level, "end": bottom}]).mark_rule(**line).encode(x, alt.Y("y:Q"), alt.Y2("end:Q"))
        )
    return marks
