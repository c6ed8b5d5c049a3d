"""The page that describes a corpus before anything is trained on it."""

import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import altair as alt
import numpy as np

from invitro import __version__
from invitro.data.facts import SURE, CorpusFacts, LlmFacts
from invitro.files import write_text
from invitro.stats import Floats
from invitro.studies.report.page import FIGURES, PAGE, page
from invitro.studies.report.sentences import Fact
from invitro.studies.report.verdict import Judgement
from invitro.studies.study import Study
from invitro.writing import charts
from invitro.writing.charts import WIDTH, Figure, chart, layered, left_axis, tooltip
from invitro.writing.tables import ReportTable, text_table
from invitro.writing.words import count

BARS, MOST_DOTS = 24, 1000


@dataclass(frozen=True)
class Description:
    """A corpus, described.

    Args:
        corpus: its facts.
        llm: an LLM's labels and the crowd's; None if there are none.
        cut: how many texts the encoder truncates, and where, in words.
        people: the tables on raters and items, if several people rated a text.
        doubts: facts to look at, one line each.
    """

    corpus: CorpusFacts
    llm: LlmFacts | None
    cut: str
    people: Sequence[ReportTable]
    doubts: Sequence[str]

    @property
    def named(self) -> dict[str, str]:
        """All facts by name."""
        named = self.corpus.named() | {"longer than the encoder reads": self.cut}
        named |= self.llm.named() if self.llm is not None else {"LLM labels": "none"}
        return named

    @property
    def table(self) -> ReportTable:
        """All facts as a table."""
        return text_table("facts", "Facts", [{"fact": name, "value": value} for name, value in self.named.items()])

    def lines(self) -> list[str]:
        """Return the facts as lines for a terminal."""
        return self.table.terminal()[1:]


def write_description(described: Description, directory: Path) -> Path:
    """Write ``report.html``, ``table.md`` and the figures' files into `directory`; return the path of the page.

    Raises:
        InputError: the chart libraries are missing.
    """
    figures = list(_figures(described))
    for figure in figures:
        charts.save(figure.chart, directory / FIGURES / figure.name)
    facts, tables = described.corpus, [described.table, *described.people]
    text = [
        f"# {facts.name}",
        *(part for table in tables for part in (f"## {table.title}", table.markdown(), table.caption)),
    ]
    write_text(directory / "table.md", "\n\n".join(filter(None, text)) + "\n")
    headline = f"{count(len(described.doubts), 'fact')} to look at" if described.doubts else "Nothing stands out"
    written = page(
        kind="Corpus",
        latex=False,
        study=Study(facts.name, f"The corpus {facts.name}", "What is in it, before anything is trained?"),
        judgement=Judgement("none", headline, described.doubts),
        tables=tables,
        figures=figures,
        environment=[Fact("invitro", __version__), Fact("python", platform.python_version())],
        method=[
            "Repeated texts are equal except for case, whitespace and punctuation, as in the check for shared texts.",
            "A text's script is that of most of its letters, by their Unicode names; its language is that "
            f"identified by py3langid, if this is at least {100 * SURE:g} % sure.",
            "r is Pearson's correlation, and bias the mean of LLM minus crowd, on all texts that have both labels.",
        ],
    )
    write_text(directory / PAGE, written)
    return directory / PAGE


def _figures(described: Description) -> Iterator[Figure]:
    facts, llm = described.corpus, described.llm
    if len(facts.crowd):
        low, high = facts.scale.minimum, facts.scale.maximum
        bars = _bars(facts.crowd, low, high, "crowd label (points)", "Histogram of the crowd labels")
        yield Figure("crowd_labels", "Crowd labels", f"Crowd labels of {count(len(facts.crowd), 'text')}.", bars)
    most = float(facts.words.max()) + 1
    bars = _bars(facts.words, 0, most, "words in a text", "Histogram of the number of words in a text")
    yield Figure("lengths", "Lengths", f"Words in each of {facts.texts} texts.", bars)
    if llm is not None and len(llm.crowd):
        places = np.unique(np.linspace(0, len(llm.crowd) - 1, MOST_DOTS).round().astype(int))
        thinned = "" if len(places) == len(llm.crowd) else f"; {len(places)} of them are drawn"
        caption = f"LLM and crowd labels of {count(len(llm.crowd), 'text')}{thinned}. On the line both are equal."
        yield Figure("llm_and_crowd", "LLM and crowd", caption, _dots(llm, places))


def _bars(values: Floats, low: float, high: float, title: str, description: str) -> alt.Chart:
    """Draw a histogram."""
    counts, edges = np.histogram(values, BARS, (low, high))
    rows = [{"from": edges[at], "to": edges[at + 1], "texts": counts[at]} for at in range(BARS)]
    scale = alt.Scale(domain=[low, high], nice=False, zero=False)
    drawn: alt.Chart = (
        chart(rows)
        .mark_rect(fill=charts.COLOURS[0], stroke="white", strokeWidth=0.4)
        .encode(
            alt.X("from:Q", scale=scale, axis=alt.Axis(title=title, tickCount=6)),
            alt.X2("to:Q"),
            alt.Y("texts:Q", axis=left_axis("texts")),
            alt.Y2Datum(0),
            tooltip=tooltip(("from:Q", "from", ".2f"), ("to:Q", "to", ".2f"), ("texts:Q", "texts", "")),
        )
        .properties(width=WIDTH, height=80, description=description)
    )
    return drawn


def _dots(llm: LlmFacts, places: "np.typing.NDArray[np.int_]") -> alt.LayerChart:
    """Draw the LLM's labels against the crowd's, and the line on which both are equal."""
    both = np.concatenate([llm.crowd, llm.llm, [llm.scale.minimum, llm.scale.maximum]])
    low, high = float(both.min()), float(both.max())
    scale = alt.Scale(domain=[low, high], nice=False, zero=False)
    x = alt.X("crowd:Q", scale=scale, axis=alt.Axis(title="crowd label (points)", tickCount=6))
    y = alt.Y("llm:Q", scale=scale, axis=left_axis("LLM label (points)"))
    dots = chart([{"crowd": llm.crowd[at], "llm": llm.llm[at]} for at in places])
    line = chart([{"crowd": end, "llm": end} for end in (low, high)])
    hint = tooltip(("crowd:Q", "crowd", ".2f"), ("llm:Q", "LLM", ".2f"))
    return layered(
        line.mark_line(color=charts.SOFT, strokeDash=[3, 2], strokeWidth=0.8).encode(x, y),
        dots.mark_circle(color=charts.COLOURS[0], opacity=0.5, size=12).encode(x, y, tooltip=hint),
        width=WIDTH,
        height=140,
        description="LLM labels over crowd labels",
    )
