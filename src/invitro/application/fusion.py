"""From a crowd label and an LLM label to one label: pure functions on arrays of shape (n,), one entry a text.

Labels are float64 in the scale's units. An LLM label or a spread of NaN is missing: such a text is never acted on.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from invitro.application.calibration import SHRINKAGE, calibrated
from invitro.application.policy import Application
from invitro.raters.precision import errors, precision_share, triad_reliability
from invitro.raters.word_counts import out_of_fold, word_counts

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


class Corrected(NamedTuple):
    """Labels of shape (n,) after correction, and where one was replaced."""

    label: Floats
    replaced: Bools


class Fused(NamedTuple):
    """What a policy makes of n texts.

    Args:
        label: the training label.
        share: the LLM's share in it, from 0 (the crowd's label) to 1 (the LLM's).
        weight: what the text counts in the loss, from 0 to 1.
        kept: whether the text stays in training.
    """

    label: Floats
    share: Floats
    weight: Floats
    kept: Bools


def correct(crowd: Floats, llm: Floats, alpha: float) -> Corrected:
    """Replace crowd labels that are more than `alpha` from the LLM's.

    ``label = llm where |crowd - llm| > alpha, strictly, else crowd`` (Hasan et al., arXiv 2501.00691, the section on
    noise correction). A missing LLM label (NaN) never replaces one. `alpha` = 0 replaces every label that differs,
    `alpha` = inf none.

    Args:
        crowd: crowd labels of shape (n,), the scale's units.
        llm: LLM labels of shape (n,), the scale's units, NaN where there is none.
        alpha: threshold from 0 to inf, the scale's units.
    """
    replaced = beyond(crowd, llm, alpha)
    return Corrected(replace(crowd, llm, replaced).label, replaced)


def thresholds(alpha: float, spread: Floats | None, alpha_per_spread: float) -> Floats:
    """Return each text's threshold, ``alpha + alpha_per_spread * spread``, shape (n,) or () without spreads.

    What the LLM is unsure of (spread: the SD of its own answers, or of several LLMs) has to be further off before it
    is acted on. The rule is the project's own. A missing spread makes the threshold NaN, which nothing exceeds.
    """
    if spread is None or not alpha_per_spread:
        return np.asarray(alpha, dtype=np.float64)
    return np.asarray(alpha + alpha_per_spread * spread, dtype=np.float64)


def beyond(crowd: Floats, llm: Floats, threshold: float | Floats) -> Bools:
    """Return where ``|crowd - llm| > threshold``, strictly; never where one of the three is NaN."""
    with np.errstate(invalid="ignore"):
        return np.asarray(np.abs(crowd - llm) > threshold)


def quantile_alpha(
    crowd: Floats, llm: Floats, share: float, spread: Floats | None = None, alpha_per_spread: float = 0.0
) -> float:
    """Return the smallest alpha of at least 0 beyond which at most `share` of the compared texts lie.

    With r_(1) <= ... <= r_(m) the sorted ``|crowd - llm| - alpha_per_spread * spread`` of the m texts that have all of
    these, it is ``max(0, r_(m - k))`` with ``k = floor(share * m)``, and 0 for k = m; ties can leave fewer than k texts
    beyond it.

    Args:
        crowd: crowd labels of shape (n,).
        llm: LLM labels of shape (n,), NaN where there is none.
        share: from 0 (none is beyond) to 1 (all that differ are).
        spread: the LLM's spreads of shape (n,), where thresholds scale with them.
        alpha_per_spread: see `thresholds`.

    Returns:
        The threshold in the scale's units; inf when no text can be compared.
    """
    distance = np.abs(crowd - llm) - (thresholds(0.0, spread, alpha_per_spread))
    distance = np.sort(distance[~np.isnan(distance)])
    if not len(distance):
        return float("inf")
    # The product of a share such as 0.07 and a count of 100 falls short of the whole number it means.
    left = len(distance) - int(np.floor(share * len(distance) + 1e-9))
    return float(max(0.0, distance[left - 1])) if left else 0.0


def mixed(crowd: Floats, llm: Floats, share: float | Floats, acted: Bools) -> Fused:
    """Return ``share * llm + (1 - share) * crowd`` where `acted`, and the crowd's label elsewhere.

    A share of 1 gives exactly the LLM's label, a share of 0 exactly the crowd's.

    Args:
        crowd: crowd labels of shape (n,).
        llm: LLM labels of shape (n,); not NaN where `acted`.
        share: the LLM's, from 0 to 1, for all texts or each.
        acted: where correction acts, shape (n,).
    """
    shares = np.where(acted, share, 0.0)
    label = np.where(shares == 0, crowd, np.where(shares == 1, llm, shares * llm + (1 - shares) * crowd))
    return Fused(label, shares, np.ones_like(label), np.ones(len(label), dtype=bool))


def replace(crowd: Floats, llm: Floats, acted: Bools) -> Fused:
    """Take the LLM's label where `acted` (Hasan et al., arXiv 2501.00691)."""
    return mixed(crowd, llm, 1.0, acted)


def drop(crowd: Floats, llm: Floats, acted: Bools) -> Fused:
    """Leave texts out where `acted`: ``kept = not acted``.

    Filtering what two raters disagree on is the oldest way to clean labels; for classifiers: Brodley & Friedl (1999),
    "Identifying Mislabeled Training Data", JAIR 11.
    """
    return mixed(crowd, llm, 0.0, acted)._replace(kept=~acted)


def weighted(crowd: Floats, llm: Floats, threshold: float | Floats, compared: Bools) -> Fused:
    """Keep labels and weigh texts by how far raters agree: ``weight = 1 / (1 + ((crowd - llm) / threshold)^2)``.

    The Cauchy weight function of robust regression (Holland & Welsch 1977, "Robust regression using iteratively
    reweighted least-squares", Communications in Statistics A6), taken of the raters' difference instead of a residual.
    At the threshold a text counts 1/2. A threshold of 0 leaves no weight to texts that differ, inf all of it.

    Args:
        crowd: crowd labels of shape (n,).
        llm: LLM labels of shape (n,), NaN where there is none.
        threshold: from 0 to inf, for all texts or each, the scale's units.
        compared: which texts may lose weight, shape (n,); the others count 1.
    """
    squared = np.square(crowd - llm)
    scale = np.broadcast_to(np.square(threshold), squared.shape)
    with np.errstate(invalid="ignore", divide="ignore"):
        # scale / (scale + squared), which is 0 / 0 where equal labels meet a threshold of 0.
        weight = np.where(np.isinf(scale) | (squared == 0), 1.0, scale / (scale + squared))
    usable = compared & ~np.isnan(squared) & ~np.isnan(scale)
    kept = mixed(crowd, llm, 0.0, np.zeros(len(squared), dtype=bool))
    return kept._replace(weight=np.where(usable, weight, 1.0))


def on_the_crowds_scale(
    rows: pd.DataFrame, llm: Floats, application: Application, bounds: tuple[float, float]
) -> Floats:
    """Return the LLM labels after calibration, shape (rows,)."""
    if application.calibration == "none" or not application.needs_llm_labels:
        return llm
    crowd, groups = rows["crowd_label"].to_numpy(), rows["group_id"].to_numpy()
    shrinkage = SHRINKAGE if application.shrinkage is None else application.shrinkage
    return calibrated(application.calibration, crowd, llm, groups, bounds, shrinkage)


def corrected(
    rows: pd.DataFrame,
    llm: Floats,
    spread: Floats | None,
    application: Application,
    alpha: float,
    alpha_quantile: float | None,
) -> tuple[Fused, dict[str, float]]:
    """Act on the texts beyond alpha; return what came of all rows, and the numbers that were found on the way."""
    crowd = rows["crowd_label"].to_numpy()
    nowhere = np.zeros(len(rows), dtype=bool)
    if not application.correction:
        return replace(crowd, llm, nowhere), {}
    per_spread = application.alpha_per_spread
    allowed = ~nowhere
    if application.max_spread is not None and spread is not None:
        allowed = np.asarray(spread <= application.max_spread)
    if alpha_quantile is not None:
        compared = np.where(allowed, llm, np.nan)
        alpha = quantile_alpha(crowd, compared, alpha_quantile, spread, per_spread)
    threshold = thresholds(alpha, spread, per_spread)
    acted = allowed & beyond(crowd, llm, threshold)
    facts = {"alpha": float(alpha)}
    if application.policy == "weight":
        fused = weighted(crowd, llm, threshold, allowed)
    elif application.policy == "drop":
        fused = drop(crowd, llm, acted)
    elif application.policy == "precision":
        share, found = _precision(rows, llm, spread, acted, application)
        fused, facts = mixed(crowd, llm, share, acted), facts | found
    else:
        share = application.blend_weight if application.blend_weight is not None else 1.0
        fused = mixed(crowd, llm, share, acted)
    rated = ~np.isnan(crowd)
    return fused, facts | {"llm_share": float(fused.share[rated].mean()) if rated.any() else 0.0}


def _precision(
    rows: pd.DataFrame, llm: Floats, spread: Floats | None, acted: Bools, application: Application
) -> tuple[float | Floats, dict[str, float]]:
    """Return the LLM's share in each label, and the errors behind it, estimated on all texts that both labelled."""
    if not acted.any():
        return 0.0, {}
    both = np.flatnonzero(rows["crowd_label"].notna().to_numpy() & ~np.isnan(llm))
    crowd, theirs = rows["crowd_label"].to_numpy()[both], llm[both]
    reliability = application.crowd_reliability
    if reliability is None:
        counts, groups = word_counts(rows["text"].iloc[both].tolist()), rows["group_id"].iloc[both]
        reliability = triad_reliability(crowd, theirs, out_of_fold(counts, crowd, groups, "application=precision"))
    found = errors(crowd, theirs, reliability)
    share = precision_share(found, spread, application.spread_share or 0.0)
    return share, {"crowd_reliability": reliability, "crowd_error": found.crowd, "llm_error": found.llm}
