"""From a crowd label and an LLM label to one label: pure functions on arrays of shape (n,), one entry per text.

Labels are float64 in the scale's units. An LLM label or a spread of NaN is missing; such a text is never changed.
"""

from typing import NamedTuple

import numpy as np

from invitro.arrays import Bools, Floats


class Corrected(NamedTuple):
    """Labels of shape (n,) after correction, and which of them were replaced."""

    label: Floats
    replaced: Bools


class Fused(NamedTuple):
    """The training labels that a policy makes of n texts.

    Args:
        label: the training label.
        share: the LLM's share in it, from 0 (the crowd's label) to 1 (the LLM's).
        weight: the text's weight in the loss, from 0 to 1.
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

    Example:
        >>> label, replaced = correct(np.array([1.0, 1.0, 2.0]), np.array([5.0, 6.0, np.nan]), 4.0)
        >>> label.tolist(), replaced.tolist()
        ([1.0, 6.0, 2.0], [False, True, False])
    """
    replaced = beyond(crowd, llm, alpha)
    return Corrected(np.where(replaced, llm, crowd), replaced)


def thresholds(alpha: float | Floats, spread: Floats | None, alpha_per_spread: float) -> Floats:
    """Return each text's threshold, ``alpha + alpha_per_spread * spread``, shape (n,) or () without spreads.

    If the LLM is unsure (spread: the SD of its own answers, or of several LLMs), a crowd label has to be further
    off before it is corrected. The rule is the project's own. A missing spread makes the threshold NaN, which nothing
    exceeds.
    """
    if spread is None or not alpha_per_spread:
        return np.asarray(alpha, dtype=np.float64)
    return np.asarray(alpha + alpha_per_spread * spread, dtype=np.float64)


def beyond(crowd: Floats, llm: Floats, threshold: float | Floats) -> Bools:
    """Return where ``|crowd - llm| > threshold``, strictly; False if any of the three is NaN."""
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
        The threshold in the scale's units; inf if no text can be compared.

    Example:
        >>> quantile_alpha(np.array([1.0, 1.0, 3.0, 5.0]), np.array([5.0, 6.0, 3.0, 4.0]), 0.25)
        4.0
    """
    distance = np.abs(crowd - llm) - thresholds(0.0, spread, alpha_per_spread)
    distance = np.sort(distance[~np.isnan(distance)])
    if not len(distance):
        return float("inf")
    # The product of a share such as 0.07 and a count of 100 can miss the intended whole number.
    left = len(distance) - int(np.floor(share * len(distance) + 1e-9))
    return float(max(0.0, distance[left - 1])) if left else 0.0


def fuse(policy: str, crowd: Floats, llm: Floats, threshold: float | Floats, share: float | Floats = 1.0) -> Fused:
    """Act on the texts whose labels are more than a threshold apart.

    - ``replace``, ``blend`` and ``precision``: ``label = share * llm + (1 - share) * crowd``; a share of 1 is `correct`
      and gives exactly the LLM's label, a share of 0 exactly the crowd's.
    - ``distill``: ``label = llm`` for every text, beyond the threshold or not; one without an LLM label is left out.
    - ``drop``: the text is left out. Filtering out what two raters disagree on is the oldest way to clean labels; for
      classifiers: Brodley & Friedl (1999), "Identifying Mislabeled Training Data", JAIR 11.
    - ``weight``: the label stays, and every text has ``weight = 1 / (1 + ((crowd - llm) / threshold)^2)``, 1/2 at the
      threshold: the Cauchy weight function of robust regression (Holland & Welsch 1977, "Robust regression using
      iteratively reweighted least-squares", Communications in Statistics A6), of the raters' difference instead of a
      residual. A threshold of 0 gives texts that differ no weight, inf gives them full weight.

    Args:
        policy: see above.
        crowd: crowd labels of shape (n,).
        llm: LLM labels of shape (n,), NaN where there is none or the text must stay as it is.
        threshold: from 0 to inf, for all texts or each, the scale's units.
        share: the LLM's, from 0 to 1, for all texts or each; for the first three policies.

    Example:
        >>> crowd, llm = np.array([1.0, 1.0, 2.0]), np.array([3.0, 6.0, np.nan])
        >>> fuse("blend", crowd, llm, 4.0, share=0.25).label.tolist()
        [1.0, 2.25, 2.0]
        >>> fuse("weight", crowd, llm, 2.0).weight.round(3).tolist()
        [0.5, 0.138, 1.0]
    """
    if policy == "distill":
        there = ~np.isnan(llm)
        return Fused(llm, np.ones_like(llm), np.ones_like(llm), there)
    acted = beyond(crowd, llm, threshold)
    shares = np.where(acted, 0.0 if policy in ("drop", "weight") else share, 0.0)
    label = np.where(shares == 0, crowd, np.where(shares == 1, llm, shares * llm + (1 - shares) * crowd))
    weight = np.ones_like(label)
    if policy == "weight":
        squared, scale = np.square(crowd - llm), np.broadcast_to(np.square(threshold), label.shape)
        with np.errstate(invalid="ignore", divide="ignore"):
            # The same weight without dividing by the threshold: equal labels at a threshold of 0 would give 0 / 0.
            cauchy = np.where(np.isinf(scale) | (squared == 0), 1.0, scale / (scale + squared))
        weight = np.where(~np.isnan(squared) & ~np.isnan(scale), cauchy, 1.0)
    return Fused(label, shares, weight, ~acted if policy == "drop" else np.ones_like(acted))
