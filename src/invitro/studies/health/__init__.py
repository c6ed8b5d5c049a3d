"""All health checks of a study."""

from invitro.studies.health.predictions import prediction_checks
from invitro.studies.health.runs import (
    Finding,
    choice,
    comparison,
    configured,
    courses,
    early_stopping,
    equal_runs,
    few_runs,
    labels_changed,
    missing_runs,
    set_aside,
    shared_results,
    spread_over_runs,
    spreads,
)
from invitro.studies.runs import Runs
from invitro.studies.study import Study
from invitro.studies.summary import Summary
from invitro.studies.wording import repeated


def findings(study: Study, runs: Runs, summary: Summary) -> list[Finding]:
    """Run all checks that apply to the study; with a single alpha, for example, alphas are not compared.

    Args:
        study: the study's question and design.
        runs: the study's records.
        summary: a summary of the same runs.
    """
    kind, configurations = repeated(runs), configured(runs, summary)
    checks = [missing_runs(runs, summary.groups), comparison(study, summary, kind, runs.folds), shared_results(runs)]
    if configurations:
        checks += [
            few_runs(configurations, kind),
            choice(runs, summary),
            set_aside(configurations),
            labels_changed(summary.groups, runs.factors),
            None if runs.folds else spread_over_runs([*spreads(runs, summary, configurations)], kind, summary.split),
            equal_runs(configurations, runs, summary.split),
            early_stopping([*courses(runs)]),
            *prediction_checks(runs, summary, configurations),
        ]
    return [finding for finding in checks if finding is not None]
