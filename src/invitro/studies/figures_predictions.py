"""The figure of predictions against labels: where magnitudes are biased, points leave the line of identity."""

from typing import TYPE_CHECKING, Any

import altair as alt
import pandas as pd

from invitro.charts import COLOURS, COLUMN, SOFT
from invitro.studies.figures import Figure
from invitro.studies.figures_parts import LEFT, chart, layered, padded, thinned, tooltip, wrapped
from invitro.studies.resampling import resampled
from invitro.studies.wording import METRICS, configuration, leading, mark, number, records, rows_of

if TYPE_CHECKING:
    from invitro.studies.runs import Runs
    from invitro.studies.study import Study
    from invitro.studies.summary import Summary

MOST = 500
"""Texts that are drawn in a panel."""


def mean_predictions(runs: "Runs", rows: list[int], split: str = "test") -> pd.DataFrame:
    """Return one row a text with a crowd label: the columns of ``predictions.csv``, its prediction the mean over runs.

    Args:
        runs: of the study.
        rows: the runs of one configuration; of folds, each predicts its own texts.
        split: ``val`` or ``test``.
    """
    table = pd.concat([runs.predictions(row) for row in rows], ignore_index=True)
    table = table.loc[(table["split"] == split) & table["crowd_label"].notna()]
    means = table.groupby("text_id", sort=False)["prediction"].agg(["mean", "size"])
    first = table.drop_duplicates("text_id").set_index("text_id").drop(columns="prediction")
    return first.assign(prediction=means["mean"], runs=means["size"]).reset_index()


def predicted_against_labelled(study: "Study", runs: "Runs", summary: "Summary") -> list[Figure]:
    """Draw mean predictions against crowd labels for the two leading configurations, on test."""
    drawn = []
    for group in leading(study, summary):
        rows = rows_of(runs, group)
        table = mean_predictions(runs, rows) if rows else pd.DataFrame()
        if len(table):
            drawn.append((group, table))
    if not drawn:
        return []
    values = pd.concat([table[name] for _, table in drawn for name in ("crowd_label", "prediction")])
    low, high = padded([float(values.min()), float(values.max())], 0.03, 0.1)
    panels = [_panel(runs, summary, group, table, (low, high), place) for place, (group, table) in enumerate(drawn)]
    chart_ = alt.hconcat(*panels, spacing=10).properties(
        description="Scatter plots of predicted scores against crowd labels on test, with the line of identity"
    )
    texts = max(len(table) for _, table in drawn)
    caption = (
        "Predicted scores against crowd labels on the test texts; each prediction is the mean over a configuration's "
        "runs. Dashed: identity. Metrics above are those of the mean predictions, which vary less than a single run's."
    )
    if texts > MOST:
        caption += f" {MOST} of {texts:,} texts are drawn, evenly along the labels."
    return [Figure("predicted_against_labelled", "Predicted against labelled", caption, chart_)]


def _panel(
    runs: "Runs", summary: "Summary", group: dict[str, Any], table: pd.DataFrame, ends: tuple[float, float], place: int
) -> alt.LayerChart:
    """Draw one configuration's texts."""
    scores = resampled(table["crowd_label"], table[["prediction"]].T, resamples=1)
    told = ", ".join(f"{METRICS[name]} {number(scores[name].values[0], 2)}" for name in ("ccc", "rmse"))
    subtitle = f"{mark(summary, group)}: {told}" if mark(summary, group) else told
    size = (COLUMN - 10 - 2 * 24 - 12) / 2
    scale = alt.Scale(domain=list(ends), nice=False, zero=False)
    rows = thinned(table, MOST, "crowd_label")
    truth = [("truth:Q", "truth", ".2f")] if "truth" in rows else []
    kept = ["text_id", "crowd_label", "prediction", "runs", *(["truth"] if truth else [])]
    lines = tooltip(
        ("text_id:N", "text", ""), ("crowd_label:Q", "crowd label", ".2f"), ("prediction:Q", "predicted", ".2f"),
        *truth, ("runs:Q", "runs", "d"),
    )  # fmt: skip
    x = alt.X("crowd_label:Q", scale=scale, axis=alt.Axis(title="crowd label (points)", tickCount=6))
    title = "predicted (points)" if place == 0 else None
    y = alt.Y(
        "prediction:Q", scale=scale,
        axis=alt.Axis(title=title, tickCount=6, minExtent=LEFT - 20, maxExtent=LEFT - 20),
    )  # fmt: skip
    line = chart([{"at": ends[0]}, {"at": ends[1]}]).mark_line(color=SOFT, strokeDash=[3, 2], strokeWidth=0.8)
    look: Any = {"size": 9, "strokeWidth": 0.6, "opacity": 1, "color": COLOURS[1 if place else 0]}
    dots = chart(records(rows[kept])).mark_point(filled=False, **look)
    name = wrapped(configuration(group, runs.factors), 28)
    return layered(
        line.encode(alt.X("at:Q", scale=scale), alt.Y("at:Q", scale=scale)),
        dots.encode(x, y, tooltip=lines),
        width=size,
        height=size,
        title=alt.TitleParams(name, subtitle=subtitle),
    )
