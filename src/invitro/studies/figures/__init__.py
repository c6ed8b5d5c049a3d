"""A study's figures: all whose data exist, each with one specification for both the page and the paper."""

from invitro.errors import InputError
from invitro.studies.figures.axis import alignment_over_axis, metrics_over_axis
from invitro.studies.figures.dots import differences_by_configuration, metrics_by_configuration
from invitro.studies.figures.runs import (
    label_distributions,
    learning_curves,
    predicted_against_labelled,
    residuals_by_group,
)
from invitro.studies.runs import Runs
from invitro.studies.study import Study
from invitro.studies.summary import Summary
from invitro.writing import charts
from invitro.writing.charts import Figure


def figures(study: Study, runs: Runs, summary: Summary) -> list[Figure]:
    """Return the figures of a study in the order of the report; none if the study has no results.

    Raises:
        InputError: the chart libraries are missing.
    """
    missing = charts.problem()
    if missing:
        raise InputError(missing)
    if runs.finished().empty or summary.groups.empty:
        return []
    makers = (
        differences_by_configuration,
        metrics_over_axis,
        metrics_by_configuration,
        label_distributions,
        alignment_over_axis,
        predicted_against_labelled,
        residuals_by_group,
        learning_curves,
    )
    return [figure for make in makers for figure in make(study, runs, summary)]
