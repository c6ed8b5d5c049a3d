"""Figures over a study's axis: metrics with intervals and the share replaced, and the distances between labels."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from invitro.studies.distributions import alignment
from invitro.studies.figures import Figure
from invitro.studies.figures_panels import Panel, stacked, unit
from invitro.studies.figures_parts import Row
from invitro.studies.wording import (
    METRICS,
    SPLITS,
    configuration,
    factor,
    matches,
    measured,
    plain,
    position,
    records,
)

if TYPE_CHECKING:
    from invitro.studies.runs import Runs
    from invitro.studies.study import Study
    from invitro.studies.summary import Summary


def metrics_over_axis(study: "Study", runs: "Runs", summary: "Summary") -> list[Figure]:
    """Draw metrics over the axis: on validation where something is chosen there, then on test, then for the truth."""
    points = _points(study, runs, summary)
    if points is None:
        return []
    figures: list[Figure] = []
    for split in (*(("val",) if study.choose else ()), "test", "truth_test"):
        if not measured(summary, study, split):
            continue
        panels = [
            Panel(
                METRICS[metric] + (" (points)" if metric == "rmse" else ""),
                [
                    _row(point, *(point[f"{split}_{metric}_{part}"] for part in ("mean", "low", "high")))
                    for point in points
                ],
                _baseline(summary, f"{split}_{metric}_mean"),
            )
            for metric in study.metrics
        ]
        replaced = [_row(point, 100 * point["replaced_share"]) for point in points]
        if not figures and any(row["value"] for row in replaced):
            panels.append(Panel("Changed (%)", replaced, None, 30, ".1f", 3, zero=True))
        name = factor(str(study.axis))
        figures.append(
            Figure(
                f"metrics_over_{name}_{split}",
                f"Metrics over {name}: {SPLITS[split]}",
                _caption(study, summary, split, len(panels) > len(study.metrics)),
                stacked(study, summary, panels, f"Metrics over {name} on {SPLITS[split]}", "baseline"),
            )
        )
    return figures


def alignment_over_axis(study: "Study", runs: "Runs", summary: "Summary") -> list[Figure]:
    """Draw how far training labels lie from validation's over the axis, where correction changed any."""
    points = _points(study, runs, summary)
    if points is None or not any(point["replaced_share"] for point in points):
        return []
    table = alignment(runs, summary)
    rows: list[Any] = records(table)
    found = {point["key"]: row for point in points for row in rows if matches(row, point["factors"])}
    panels = [
        Panel(
            title,
            [_row(point, found[point["key"]][f"after_{measure}"]) for point in points if point["key"] in found],
            float(table[f"before_{measure}"].mean()),
            zero=True,
        )
        for measure, title in (("wasserstein", "Wasserstein (points)"), ("ks", "KS distance D"))
    ]
    name = factor(str(study.axis))
    caption = (
        f"Distance of the training labels from validation's crowd labels over {name}: Wasserstein-1, the mean shift of "
        "a label in scale points, and the Kolmogorov-Smirnov distance D, the largest gap between the distribution "
        "functions. Solid: labels as trained on; dashed: the crowd labels before correction. Lower is better aligned."
    )
    drawn = stacked(study, summary, panels, "Distance of training labels from validation labels", "before correction")
    return [Figure(f"alignment_over_{name}", f"Distribution alignment over {name}", caption, drawn)]


def _points(study: "Study", runs: "Runs", summary: "Summary") -> list[Row] | None:
    """Return configurations with a number on the axis, ordered; None unless there are two such numbers or more.

    A baseline that names no value of the axis, or an infinite one, is a line and no point.
    """
    if study.axis is None or study.axis not in summary.groups:
        return None
    others = [name for name in runs.factors if name != study.axis]
    beside = bool(summary.baseline) and study.axis not in (summary.baseline or {})
    points: list[Row] = []
    for number, row in enumerate(records(summary.groups)):
        at = position(row[study.axis])
        if at is not None and not (beside and matches(row, summary.baseline)):
            series = configuration(row, others) if others else "all"
            own = {"x": unit(study) * at, "series": series, "key": number}
            points.append(row | own | {"factors": {name: row[name] for name in runs.factors}})
    points.sort(key=lambda row: (row["series"], row["x"]))
    return points if len({point["x"] for point in points}) > 1 else None


def _row(point: Mapping[str, Any], value: Any, low: Any = None, high: Any = None) -> Row:
    """Return what a panel draws of one configuration."""
    seeds = point.get("seeds")
    return {"x": point["x"], "series": point["series"], "value": value, "low": low, "high": high, "seeds": seeds}


def _measured(point: Mapping[str, Any], column: str) -> Row:
    """Return the row of a metric, with its interval."""
    return _row(point, *(point[f"{column}_{part}"] for part in ("mean", "low", "high")))


def _baseline(summary: "Summary", column: str) -> float | None:
    """Return a column's value in the baseline's row, or None."""
    for row in records(summary.groups):
        if matches(row, summary.baseline):
            return float(row[column])
    return None


def _caption(study: "Study", summary: "Summary", split: str, replaced: bool) -> str:
    name = factor(str(study.axis))
    parts = [f"Metrics over {name} on {SPLITS[split]}: mean over seeds, with the 95 % interval over seeds and texts."]
    if summary.baseline:
        parts.append(
            f"Dashed: the baseline ({', '.join(f'{factor(k)} {plain(v)}' for k, v in summary.baseline.items())})."
        )
    chosen = (summary.chosen or {}).get(str(study.axis))
    if chosen is not None:
        told = f"{name} = {plain(chosen)} was chosen by mean validation CCC"
        parts.append(f"Dotted: {told}." if split == "val" else f"Dotted: {told}, before these numbers were looked at.")
    if study.plateau is not None:
        parts.append("Dotted: where the test of no further gain begins.")
    if replaced:
        parts.append("Below: the share of crowd labels in training that were replaced by the LLM's or fused with them.")
    return " ".join(parts)
