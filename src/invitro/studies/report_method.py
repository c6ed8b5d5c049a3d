"""How a report's numbers were computed, for its last section."""

from typing import TYPE_CHECKING

from invitro.studies.wording import LOWER_IS_BETTER, METRICS, factor, listed, measured, number

if TYPE_CHECKING:
    from invitro.studies.runs import Runs
    from invitro.studies.study import Study
    from invitro.studies.summary import Summary

DEFINED = {
    "pcc": "PCC is Pearson's correlation",
    "ccc": "CCC is Lin's concordance with population variances",
    "rmse": "RMSE is the root of the mean squared error in scale points",
}


def method(study: "Study", runs: "Runs", summary: "Summary") -> list[str]:
    """Return how the numbers were computed, a sentence or two each."""
    differ = listed(map(factor, runs.replicates)) or "nothing"
    gated = (
        "; those of the chosen configuration are a family of their own that is tested first, and the corrected p of "
        "the others is at least the largest of these."
    )
    told = [
        f"{listed(DEFINED[metric] for metric in study.metrics)}; each on a whole split, in float64, predictions not "
        "clipped.",
        f"A configuration's runs differ in nothing but {differ}. Median (peak) is over runs, the peak being the best "
        "run, as in the paper; a peak grows with the number of runs and is no estimate of what one run gives. "
        "Mean ± standard deviation (n - 1) is over runs.",
        "Intervals are 95 % intervals of the mean that count both runs and texts as samples: the variance between "
        "runs, and what runs have in common on draws of the texts (a bootstrap over authors, since texts by one author "
        "are no independent evidence), with the Behrens-Fisher distribution (Obuchowski and Rockette 1995). With one "
        "run the interval is over texts alone. Each interval is for itself; only p is corrected for their number.",
        f"Differences are paired by run and by text. Effect sizes are {_effects(study)}. p is two-sided, and corrected "
        "by Holm's method over all comparisons of one split" + (gated if summary.chosen else "."),
    ]
    if summary.chosen:
        told.append(
            "The choice was made on validation alone; the chosen configuration's test numbers were read afterwards."
        )
    if summary.plateau:
        told.append(
            "A plateau is tested along the least-squares line through all values from its start on: it is one where "
            f"the gain is below {number(summary.plateau[0].margin, 2)} with 95 % confidence. A gain that is not "
            "significant is no proof of a plateau."
        )
    if measured(summary, study, "truth_test"):
        told.append(
            "The corpus is simulated, so that the true scores are known: metrics against the truth show what noise in "
            "crowd labels hides. They say nothing about people."
        )
    return told


def _effects(study: "Study") -> str:
    """Say what effect sizes are, of the metrics that the study has."""
    correlations = listed(METRICS[metric] for metric in study.metrics if metric not in LOWER_IS_BETTER)
    told = [f"Cohen's q for {correlations} (0.1 small, 0.3 medium, 0.5 large)"] if correlations else []
    errors = [METRICS[metric] for metric in study.metrics if metric in LOWER_IS_BETTER]
    return listed([*told, *(f"the logarithm of the ratio for {name}" for name in errors)])
