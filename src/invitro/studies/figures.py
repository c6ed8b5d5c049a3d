"""A study's figures: those whose data exist, each one specification for the page and for the paper."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from invitro import charts
from invitro.errors import InputError

if TYPE_CHECKING:
    import altair as alt

    from invitro.studies.runs import Runs
    from invitro.studies.study import Study
    from invitro.studies.summary import Summary


@dataclass(frozen=True)
class Figure:
    """One figure.

    Args:
        name: of its files, without a suffix.
        title: above it on the page.
        caption: what is drawn, whence, and what was left out; a paper can take it over.
        chart: its specification; ``description`` tells those who cannot see it what is drawn.
    """

    name: str
    title: str
    caption: str
    chart: "alt.TopLevelMixin"


def figures(study: "Study", runs: "Runs", summary: "Summary") -> list[Figure]:
    """Return the figures of a study in the order of the report; of a study without results, none.

    Raises:
        InputError: the chart libraries are missing.
    """
    missing = charts.problem()
    if missing:
        raise InputError(missing)
    from invitro.studies.figures_axis import alignment_over_axis, metrics_over_axis
    from invitro.studies.figures_dots import metrics_by_configuration
    from invitro.studies.figures_groups import residuals_by_group
    from invitro.studies.figures_labels import label_distributions
    from invitro.studies.figures_predictions import predicted_against_labelled
    from invitro.studies.figures_training import learning_curves

    if runs.finished().empty or summary.groups.empty:
        return []
    makers = (
        metrics_over_axis,
        metrics_by_configuration,
        label_distributions,
        alignment_over_axis,
        predicted_against_labelled,
        residuals_by_group,
        learning_curves,
    )
    return [figure for make in makers for figure in make(study, runs, summary)]
