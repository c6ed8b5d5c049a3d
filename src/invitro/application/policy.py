"""What is done with LLM labels, as settings that check themselves."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from invitro.errors import not_boolean, refuse_if_any

Bools = npt.NDArray[np.bool_]

SET_ASIDE, UNLABELLED, NO_POOL = "set_aside", "unlabelled", "none"
POLICIES = ("replace", "drop", "blend", "precision", "weight", "auto")
CALIBRATIONS = ("none", "moment", "isotonic", "linear")

Policy = Literal["replace", "drop", "blend", "precision", "weight", "auto"]
Calibration = Literal["none", "moment", "isotonic", "linear"]


@dataclass(frozen=True)
class Application:
    """What is done with LLM labels, as the configuration group ``application`` says it.

    Correction acts on the texts whose crowd and LLM labels are more than alpha apart, strictly; `policy` says how:

    - ``replace``: the label becomes the LLM's (the paper)
    - ``drop``: the text is left out
    - ``blend``: the label becomes ``blend_weight * llm + (1 - blend_weight) * crowd``
    - ``precision``: likewise, with the weight that estimated errors of crowd and LLM imply
    - ``weight``: the label stays, and the text counts the less the further crowd and LLM are apart; alpha is the
      distance at which it counts half
    - ``auto``: policy, calibration and alpha are chosen by cross-validation on the training texts

    Args:
        name: the choice in the group, such as none, correction, both, blend; for people and records.
        correction: whether crowd labels that are more than alpha from the LLM's are acted on.
        augmentation: whether the pool's texts join training with LLM labels.
        pool: where the pool's texts come from: ``set_aside`` (a share of the training texts), ``unlabelled`` (the
            corpus's texts without crowd labels), ``none``, the name of another corpus, or a table file.
        pool_columns: for a table file: its columns, as ``data.columns`` names them.
        pool_share: for ``set_aside``: the share of the training texts, in (0, 1).
        pool_seed: seed of the set-aside share and of `portion`.
        pool_labels: ``llm``, or ``crowd`` for the upper reference: the pool's texts are ordinary training texts.
        portion: share of the pool that is used, in [0, 1]; a smaller portion is a subset of a larger one.
        pool_weight: what a text that augmentation adds counts in the loss, in (0, 1]; crowd texts count 1.
        policy: see above.
        calibration: how LLM labels are brought to the crowd's scale before anything else: ``none``, ``moment``,
            ``isotonic`` or ``linear``; see `invitro.application.calibration`.
        shrinkage: for ``linear``: how many texts' worth of belief there is that the LLM needs no mapping; null is 20.
        blend_weight: for ``blend``: the LLM's share in the label, in [0, 1].
        crowd_reliability: for ``precision``: the share of the crowd labels' variance that is truth, in (0, 1), where it
            is known, from a retest for example; null estimates it from crowd, LLM and the texts themselves.
        spread_share: for ``precision``: how far the LLM's error goes with its spread from text to text, from 0 (the
            same for all) to 1 (all of it); null is 0.
        max_spread: correction leaves texts alone on which the LLM's spread is above this, in the scale's units.
        alpha_per_spread: is added to alpha for each point of the LLM's spread: what it is unsure of is corrected later.

    Raises:
        InputError: naming every setting that is out of range or contradicts another.
    """

    name: str
    correction: bool
    augmentation: bool
    pool: str = SET_ASIDE
    pool_columns: Mapping[str, str | None] | None = None
    pool_share: float = 0.3
    pool_seed: int = 0
    pool_labels: Literal["llm", "crowd"] = "llm"
    portion: float = 1.0
    pool_weight: float = 1.0
    policy: Policy = "replace"
    calibration: Calibration = "none"
    shrinkage: float | None = None
    blend_weight: float | None = None
    crowd_reliability: float | None = None
    spread_share: float | None = None
    max_spread: float | None = None
    alpha_per_spread: float = 0.0

    def __post_init__(self) -> None:
        problems = not_boolean(application__correction=self.correction, application__augmentation=self.augmentation)
        problems += [*self._pool_problems(), *self._range_problems()]
        refuse_if_any(problems or self._contradictions())

    def _pool_problems(self) -> Iterator[str]:
        if self.pool is not None and not isinstance(self.pool, str):
            yield f"application.pool: expected a word such as set_aside, or a file, found {self.pool!r}"
        if not (_is_number(self.pool_share) and 0 < self.pool_share < 1):
            yield f"application.pool_share: expected a share between 0 and 1, found {self.pool_share!r}"
        if not (_is_number(self.portion) and 0 <= self.portion <= 1):
            yield f"application.portion: expected a share from 0 to 1, found {self.portion!r}"
        if not (_is_number(self.pool_weight) and 0 < self.pool_weight <= 1):
            yield f"application.pool_weight: expected a weight above 0 and at most 1, found {self.pool_weight!r}"
        if self.pool_labels not in ("llm", "crowd"):
            yield f"application.pool_labels: expected llm or crowd, found {self.pool_labels!r}"
        if not isinstance(self.pool_seed, int) or isinstance(self.pool_seed, bool) or self.pool_seed < 0:
            yield f"application.pool_seed: expected a whole number of at least 0, found {self.pool_seed!r}"
        if self.pool in (None, NO_POOL) and (self.augmentation or self.pool_labels == "crowd"):
            wanted = f"application={self.name}" if self.augmentation else "application.pool_labels=crowd"
            yield f"{wanted} needs texts to add, but application.pool=none; choose a pool such as set_aside"

    def _range_problems(self) -> Iterator[str]:
        for name, known in (("policy", POLICIES), ("calibration", CALIBRATIONS)):
            if getattr(self, name) not in known:
                yield f"application.{name}: expected {', '.join(known)}, found {getattr(self, name)!r}"
        for name, low, high in (
            ("shrinkage", 0, np.inf), ("blend_weight", 0, 1), ("crowd_reliability", 0, 1), ("spread_share", 0, 1),
            ("max_spread", 0, np.inf), ("alpha_per_spread", 0, np.inf),
        ):  # fmt: skip
            value = getattr(self, name)
            if value is None and name != "alpha_per_spread":
                continue
            if not (_is_number(value) and low <= value <= high and np.isfinite(value)):
                bounds = f"from {low} to {high}" if np.isfinite(high) else f"of at least {low}"
                yield f"application.{name}: expected a number {bounds}, found {value!r}"
            elif name == "crowd_reliability" and value in (0, 1):
                yield f"application.crowd_reliability: expected a share between 0 and 1, found {value!r}"

    def _contradictions(self) -> Iterator[str]:
        """Yield settings that would have no effect, or that lack what they need."""
        belongs = {"shrinkage": ("calibration", "linear"), "blend_weight": ("policy", "blend")}
        belongs |= dict.fromkeys(("crowd_reliability", "spread_share"), ("policy", "precision"))
        for name, (setting, wanted) in belongs.items():
            if getattr(self, name) is not None and getattr(self, setting) != wanted:
                found = getattr(self, setting)
                yield (
                    f"application.{name} belongs to application.{setting}={wanted}, but application.{setting}={found}; "
                    f"set it to null, or application.{setting}={wanted}"
                )
        if self.policy == "blend" and self.blend_weight is None:
            yield "application.policy=blend needs the LLM's share: application.blend_weight, from 0 to 1"
        if not self.correction:
            off = f"acts on crowd labels, but application={self.name} leaves them as they are (correction=false)"
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
        if self.policy == "auto" and self.pool_labels == "crowd":
            yield "application.policy=auto needs the pool's crowd labels unseen, but application.pool_labels=crowd"
        if self.pool_weight != 1 and self.pool_labels == "crowd":
            yield "application.pool_weight weighs LLM labels of the pool, but application.pool_labels=crowd"

    @property
    def needs_llm_labels(self) -> bool:
        """Whether any training label can depend on the LLM."""
        return self.correction or (self.augmentation and self.pool_labels == "llm")

    @property
    def compares(self) -> bool:
        """Whether LLM labels of the crowd's own texts are looked at, and not those of the pool alone."""
        return self.correction or (self.needs_llm_labels and self.calibration != "none")

    @property
    def spread_setting(self) -> str | None:
        """The first setting that needs the LLM's spread, for errors; None when none does."""
        values = {name: getattr(self, name) for name in ("max_spread", "alpha_per_spread", "spread_share")}
        for name, value in values.items():
            if value or (name == "max_spread" and value is not None):
                return f"application.{name}={value:g}"
        return None


def alpha_problem(alpha: object) -> str | None:
    """Return what is wrong with a threshold (in the scale's units, 0 to inf), or None."""
    if not _is_number(alpha) or np.isnan(alpha) or alpha < 0:  # type: ignore[operator, call-overload]
        return f"alpha: expected a number from 0 to inf in the scale's units, found {alpha!r}"
    return None


def quantile_problem(alpha_quantile: object) -> str | None:
    """Return what is wrong with ``alpha_quantile`` (a share from 0 to 1, or None), or None."""
    if alpha_quantile is None or (_is_number(alpha_quantile) and 0 <= alpha_quantile <= 1):  # type: ignore[operator]
        return None
    return f"alpha_quantile: expected a share of the texts from 0 to 1, such as 0.05, found {alpha_quantile!r}"


def seeded_share(n: int, share: float, seed: int) -> Bools:
    """Choose ``round(share * n)`` of `n` rows at random; for one seed a smaller share is a subset of a larger one."""
    chosen = np.zeros(n, dtype=bool)
    chosen[np.random.default_rng(seed).permutation(n)[: round(share * n)]] = True
    return chosen


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
