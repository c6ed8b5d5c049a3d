"""The table of distances: how far training labels lie from those that are predicted, beside the metrics."""

from typing import TYPE_CHECKING, Any

from invitro.studies.distributions import alignment
from invitro.studies.tables_parts import Cell, Column, Table, cell_of, table_of
from invitro.studies.wording import CHANGED, METRICS, SPLITS, factor, listed, matches, measured, number, records, share

if TYPE_CHECKING:
    from invitro.studies.runs import Runs
    from invitro.studies.study import Study
    from invitro.studies.summary import Summary

MEASURES = {"wasserstein": "W", "ks": "D"}


def distances_table(study: "Study", runs: "Runs", summary: "Summary") -> Table | None:
    """Return one row a configuration: distances of its training labels from the labels of validation and of test.

    Where the truth is known, distances from that of test, and metrics against it. None without an axis, or where no
    label was replaced or added.
    """
    groups: list[Any] = records(summary.groups)
    if study.axis is None or not any((row.get("replaced") or 0) + (row.get("augmented") or 0) > 0 for row in groups):
        return None
    splits = [split for split in ("val", "test", "truth_test") if measured(summary, study, split)]
    distances: dict[str, list[Any]] = {split: records(alignment(runs, summary, split)) for split in splits}
    after = "truth_test" if "truth_test" in splits else "test"
    columns = [
        *(Column(name, factor(name)) for name in runs.factors),
        Column("replaced", "changed"),
        *(
            Column(f"{split}_{measure}", sign, f"from {SPLITS[split]}")
            for split in splits
            for measure, sign in MEASURES.items()
        ),
        *(Column(metric, METRICS[metric], f"on {SPLITS[after]}") for metric in study.metrics),
    ]
    rows = []
    for row in groups:
        values = {name: row[name] for name in runs.factors}
        cells: dict[str, Cell] = {name: cell_of(value) for name, value in values.items()}
        cells["replaced"] = cell_of(row.get("replaced_share"), share(row.get("replaced_share")))
        for split, found in distances.items():
            own = next((one for one in found if matches(one, values)), None)
            for measure in MEASURES if own else ():
                value = own[f"after_{measure}"]  # type: ignore[index]
                cells[f"{split}_{measure}"] = cell_of(value, number(value))
        for metric in study.metrics:
            mean = row.get(f"{after}_{metric}_mean")
            cells[metric] = cell_of(mean, number(mean))
        rows.append(cells)
    return table_of("distances", _caption(distances), columns, rows)


def _caption(distances: dict[str, list[Any]]) -> str:
    """Say what the distances are, and what they were before correction."""
    before = listed(
        f"W {number(sum(row['before_wasserstein'] for row in found) / len(found))} and "
        f"D {number(sum(row['before_ks'] for row in found) / len(found))} from {SPLITS[split]}"
        for split, found in distances.items()
        if found
    )
    return (
        "Distance of the labels as trained on from those that are predicted: W, Wasserstein-1, in scale points; D, "
        f"Kolmogorov-Smirnov, from 0 to 1; means over runs. Before correction the crowd labels lay {before}. Beside "
        f"them, the means of the metrics. {CHANGED} Test labels of real corpora are as noisy as the crowd's "
        "labels in training: labels that lost their noise lie further from them too."
    )
