"""All health checks of a study."""

from typing import TYPE_CHECKING, Any

from invitro.studies.health.predictions import prediction_checks
from invitro.studies.health.runs import (
    Finding,
    comparison,
    configured,
    courses,
    early_stopping,
    few_seeds,
    half_scale,
    missing_runs,
    replaced_too_much,
    shared_results,
    spread_over_seeds,
)

if TYPE_CHECKING:
    from invitro.studies.runs import Runs
    from invitro.studies.study import Study
    from invitro.studies.summary import Summary


def findings(study: "Study", runs: "Runs", summary: "Summary") -> list[Finding]:
    """Make all checks that apply to the study; with a single alpha, for example, alphas are not compared.

    Args:
        study: what is asked.
        runs: the records.
        summary: of the same runs.
    """
    table, groups = runs.table, summary.groups
    found: list[Finding | None] = [
        missing_runs(table, groups, runs.factors, runs.replicates),
        few_seeds(groups, runs.factors),
        comparison(study, summary),
        shared_results(table, runs.factors),
    ]
    if not runs.finished().empty:
        found += [
            replaced_too_much(groups, half_scale(_scale(runs)), runs.factors),
            spread_over_seeds(table, groups, runs.factors),
            early_stopping(courses(runs)),
            *prediction_checks(runs, summary, configured(runs, summary)),
        ]
    return [finding for finding in found if finding is not None]


def _scale(runs: "Runs") -> dict[str, Any]:
    return dict(runs.config(int(str(runs.finished().index[0]))).get("scale") or {})
