"""The policies put to work on a table: calibration first, then what lies beyond alpha."""

import numpy as np
import pandas as pd

from invitro.application import fusion
from invitro.application.calibration import SHRINKAGE, calibrated
from invitro.application.fusion import Bools, Floats, Fused
from invitro.application.policy import Application
from invitro.application.precision import errors, precision_share, triad_reliability
from invitro.application.third_rater import out_of_fold, word_counts


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
        return fusion.replace(crowd, llm, nowhere), {}
    per_spread = application.alpha_per_spread
    allowed = ~nowhere
    if application.max_spread is not None and spread is not None:
        allowed = np.asarray(spread <= application.max_spread)
    if alpha_quantile is not None:
        compared = np.where(allowed, llm, np.nan)
        alpha = fusion.quantile_alpha(crowd, compared, alpha_quantile, spread, per_spread)
    threshold = fusion.thresholds(alpha, spread, per_spread)
    acted = allowed & fusion.beyond(crowd, llm, threshold)
    facts = {"alpha": float(alpha)}
    if application.policy == "weight":
        fused = fusion.weighted(crowd, llm, threshold, allowed)
    elif application.policy == "drop":
        fused = fusion.drop(crowd, llm, acted)
    elif application.policy == "precision":
        share, found = _precision(rows, llm, spread, acted, application)
        fused, facts = fusion.mixed(crowd, llm, share, acted), facts | found
    else:
        share = application.blend_weight if application.blend_weight is not None else 1.0
        fused = fusion.mixed(crowd, llm, share, acted)
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
