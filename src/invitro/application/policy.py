"""How LLM labels are used: the settings with their checks, and the formulas of the policies.

Formulas are pure functions on arrays of shape (n,), one entry per text, float64 in the scale's units. An LLM label or a
spread of NaN is missing; such a text is never changed.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple

import numpy as np
from annotated_types import Ge, Gt, Le, Lt
from pydantic import AllowInfNan

from invitro.settings import Index, NotNegative, Share, checked, refusal
from invitro.stats import Bools, Floats

AUTO_POOL, SET_ASIDE, UNLABELLED, NO_POOL = "auto", "set_aside", "unlabelled", "none"

UNBOUNDED_POLICIES = ("distill", "posterior", "auto")
"""Policies that act whatever alpha is."""
Policy = Literal["replace", "drop", "blend", "precision", "weight", "distill", "posterior", "auto"]
Calibration = Literal["none", "moment", "isotonic", "linear", "by_group"]
Within = Annotated[float, Gt(0), Lt(1)]
Alpha = Annotated[float, Ge(0), AllowInfNan(True), "a number from 0 to inf in the scale's units"]
Quantile = Annotated[float, Ge(0), Le(1), "a share of the texts from 0 to 1, such as 0.05"]


@checked("application")
@dataclass(frozen=True)
class Application:
    """How LLM labels are used: the settings of the configuration group ``application``.

    Correction acts on the texts whose crowd and LLM labels are more than alpha apart, strictly; `policy` says how:

    - ``replace``: the label becomes the LLM's (the paper)
    - ``drop``: the text is left out
    - ``blend``: the label becomes ``blend_weight * llm + (1 - blend_weight) * crowd``
    - ``precision``: the same, with the weight implied by the estimated errors of crowd and LLM
    - ``weight``: the label stays, and a text counts less the further apart crowd and LLM are; at a distance of alpha it
      counts half
    - ``distill``: every label is the LLM's, whatever alpha is; a text without one is left out
    - ``posterior``: every label is the true score as estimated from crowd and LLMs together by the model of raters in
      `invitro.raters.joint`, in the form of one crowd rating, whatever alpha is; with augmentation, the pool's too
    - ``auto``: policy, calibration and alpha are chosen by cross-validation on the training texts

    Args:
        name: the choice in the group, such as none, correction, both, blend; for people and records.
        correction: whether crowd labels that are more than alpha from the LLM's are corrected.
        augmentation: whether the pool's texts join training with LLM labels.
        pool: where the pool's texts come from: ``set_aside`` (a share of the training texts), ``unlabelled`` (the
            corpus's texts without crowd labels), ``none``, the name of another corpus, or a table file; ``auto`` lets
            `invitro.application.training_labels.with_pool` decide.
        pool_columns: for a table file: its columns, as ``data.columns`` names them.
        pool_share: for ``set_aside``: the share of the training texts, in (0, 1).
        pool_seed: seed of the set-aside share and of `portion`, 0 or more.
        pool_labels: ``llm``, or ``crowd`` for the upper reference: the pool's texts are ordinary training texts.
        portion: share of the pool that is used, in [0, 1]; a smaller portion is a subset of a larger one.
        pool_weight: the weight in the loss of a text that augmentation adds, in (0, 1]; crowd texts count 1.
        policy: see above.
        calibration: how LLM labels are mapped to the crowd's scale before anything else: ``none``, ``moment``,
            ``isotonic``, ``linear`` or ``by_group``; see `invitro.application.calibration`.
        calibration_groups: for ``by_group``: the corpus's column with the groups of people, such as ``gender``.
        shrinkage: for ``linear``: the weight, in texts, of the prior belief that the LLM needs no mapping; null is 20.
        blend_weight: for ``blend``: the LLM's share in the label, in [0, 1].
        crowd_reliability: for ``precision``: the share of the crowd labels' variance that is truth, in (0, 1), if it is
            known, for example from a retest; null estimates it from crowd, LLM and the texts themselves.
        spread_share: for ``precision``: how far the LLM's error follows its spread from text to text, from 0 (the
            same for all) to 1 (all of it); null is 0.
        max_spread: correction skips texts on which the LLM's spread is above this, in the scale's units.
        alpha_per_spread: added to alpha for each point of the LLM's spread: if the LLM is unsure, it corrects less.

    Raises:
        InputError: naming every setting that is out of range or contradicts another.
    """

    name: str
    correction: bool
    augmentation: bool
    pool: Annotated[str | None, "a word such as set_aside, another corpus or a table file"] = SET_ASIDE
    pool_columns: Annotated[Mapping[str, str | None] | None, "null or columns by name"] = None
    pool_share: Within = 0.3
    pool_seed: Index = 0
    pool_labels: Literal["llm", "crowd"] = "llm"
    portion: Share = 1.0
    pool_weight: Annotated[float, Gt(0), Le(1)] = 1.0
    policy: Policy = "replace"
    calibration: Calibration = "none"
    calibration_groups: Annotated[str | None, "null or a column of the corpus, such as gender"] = None
    shrinkage: NotNegative | None = None
    blend_weight: Share | None = None
    crowd_reliability: Within | None = None
    spread_share: Share | None = None
    max_spread: NotNegative | None = None
    alpha_per_spread: NotNegative = 0.0

    def contradictions(self) -> Iterator[str]:
        """Yield a problem for each setting that would have no effect or lacks another one it needs."""
        for name, setting, wanted in (
            ("shrinkage", "calibration", "linear"),
            ("calibration_groups", "calibration", "by_group"),
            ("blend_weight", "policy", "blend"),
            ("crowd_reliability", "policy", "precision"),
            ("spread_share", "policy", "precision"),
        ):
            if getattr(self, name) is not None and (value := getattr(self, setting)) != wanted:
                yield (
                    f"application.{name} belongs to application.{setting}={wanted}, but application.{setting}={value}; "
                    f"set it to null, or application.{setting}={wanted}"
                )
        if self.pool in (None, NO_POOL) and (self.augmentation or self.pool_labels == "crowd"):
            wanting = f"application={self.name}" if self.augmentation else "application.pool_labels=crowd"
            yield f"{wanting} needs texts to add, but application.pool=none; choose a pool such as set_aside"
        if self.calibration == "by_group" and self.calibration_groups is None:
            yield (
                "application.calibration=by_group needs the column with the groups of people: "
                "application.calibration_groups, such as gender"
            )
        if self.policy == "blend" and self.blend_weight is None:
            yield "application.policy=blend needs the LLM's share: application.blend_weight, from 0 to 1"
        if not self.correction:
            off = f"acts on crowd labels, but application={self.name} leaves them unchanged (correction=false)"
            if self.policy != "replace":
                yield f"application.policy={self.policy} {off}"
            if self.max_spread is not None:
                yield f"application.max_spread {off}"
            if self.alpha_per_spread:
                yield f"application.alpha_per_spread {off}"
        if self.calibration != "none" and not self.needs_llm_labels:
            yield f"application.calibration={self.calibration} maps LLM labels, but application={self.name} uses none"
        if self.policy == "auto" and self.calibration != "none":
            yield f"application.policy=auto chooses the calibration; drop application.calibration={self.calibration}"
        if self.policy == "posterior" and self.calibration != "none":
            yield (
                f"application.policy=posterior estimates each LLM's mean and scale itself; drop "
                f"application.calibration={self.calibration}"
            )
        if self.pool_labels == "crowd" and self.policy == "posterior":
            yield "application.policy=posterior labels the pool itself, but application.pool_labels=crowd"
        if self.pool_labels == "crowd" and self.policy == "auto":
            yield "application.policy=auto must not see the pool's crowd labels, but application.pool_labels=crowd"
        if self.pool_labels == "crowd" and self.pool_weight != 1:
            yield "application.pool_weight weighs LLM labels of the pool, but application.pool_labels=crowd"

    @property
    def needs_llm_labels(self) -> bool:
        """Whether any training label can depend on the LLM."""
        return self.correction or (self.augmentation and self.pool_labels == "llm")

    @property
    def compares(self) -> bool:
        """Whether LLM labels of the crowd's own texts are used, not only those of the pool."""
        return self.correction or (self.needs_llm_labels and self.calibration != "none")

    @property
    def own_pool(self) -> bool:
        """Whether the pool comes from the corpus itself, so nothing else has to be read."""
        return self.pool in (AUTO_POOL, SET_ASIDE, UNLABELLED, NO_POOL, None)

    @property
    def spread_setting(self) -> str | None:
        """The first setting that needs the LLM's spread, for errors; None if none does."""
        if self.max_spread is not None:
            return f"application.max_spread={self.max_spread:g}"
        for name in ("alpha_per_spread", "spread_share"):
            if value := getattr(self, name):
                return f"application.{name}={value:g}"
        return None


def alpha_problem(alpha: object) -> str | None:
    """Return what is wrong with a threshold (in the scale's units, 0 to inf), or None."""
    return refusal("alpha", alpha, Alpha)


def seeded_share(n: int, share: float, seed: int) -> Bools:
    """Choose ``round(share * n)`` of `n` rows at random; for one seed a smaller share is a subset of a larger one."""
    chosen = np.zeros(n, dtype=bool)
    chosen[np.random.default_rng(seed).permutation(n)[: round(share * n)]] = True
    return chosen


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
        llm: LLM labels of shape (n,), the scale's units, NaN if missing.
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
    away before it is corrected. The rule is specific to this project. A missing spread makes the threshold NaN,
    which nothing exceeds.
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
    """Return the smallest alpha of at least 0 that at most `share` of the compared texts exceed.

    With r_(1) <= ... <= r_(m) the sorted ``|crowd - llm| - alpha_per_spread * spread`` of the m texts that have all of
    these, it is ``max(0, r_(m - k))`` with ``k = floor(share * m)``, and 0 for k = m; ties can leave fewer than k texts
    beyond it.

    Args:
        crowd: crowd labels of shape (n,).
        llm: LLM labels of shape (n,), NaN if missing.
        share: from 0 (none is beyond) to 1 (all that differ are).
        spread: the LLM's spreads of shape (n,), if thresholds depend on them.
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
        llm: LLM labels of shape (n,), NaN if missing or if the text must stay unchanged.
        threshold: from 0 to inf, for all texts or for each, the scale's units.
        share: the LLM's, from 0 to 1, for all texts or for each; for the first three policies.

    Example:
        >>> crowd, llm = np.array([1.0, 1.0, 2.0]), np.array([3.0, 6.0, np.nan])
        >>> fuse("blend", crowd, llm, 4.0, share=0.25).label.tolist()
        [1.0, 2.25, 2.0]
        >>> fuse("weight", crowd, llm, 2.0).weight.round(3).tolist()
        [0.5, 0.138, 1.0]
    """
    if policy == "distill":
        labelled = ~np.isnan(llm)
        return Fused(llm, np.ones_like(llm), np.ones_like(llm), labelled)
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
