"""What is done with LLM labels: the paper's correction and augmentation, as pure functions from labels to labels."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from invitro.errors import not_boolean, refuse_if_any

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

SET_ASIDE, UNLABELLED, NO_POOL = "set_aside", "unlabelled", "none"


@dataclass(frozen=True)
class Application:
    """What is done with LLM labels, as the configuration group ``application`` says it.

    Args:
        name: none, correction, augmentation or both; for people and records.
        correction: whether crowd labels that are more than alpha from the LLM's are replaced.
        augmentation: whether the pool's texts join training with LLM labels.
        pool: where the pool's texts come from: ``set_aside`` (a share of the training texts), ``unlabelled`` (the
            corpus's texts without crowd labels), ``none``, the name of another corpus, or a table file.
        pool_columns: for a table file: its columns, as ``data.columns`` names them.
        pool_share: for ``set_aside``: the share of the training texts, in (0, 1).
        pool_seed: seed of the set-aside share and of `portion`.
        pool_labels: ``llm``, or ``crowd`` for the upper reference: the pool's texts are ordinary training texts.
        portion: share of the pool that is used, in [0, 1]; a smaller portion is a subset of a larger one.

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

    def __post_init__(self) -> None:
        problems = not_boolean(application__correction=self.correction, application__augmentation=self.augmentation)
        if self.pool is not None and not isinstance(self.pool, str):
            problems.append(f"application.pool: expected a word such as set_aside, or a file, found {self.pool!r}")
        if not (_is_number(self.pool_share) and 0 < self.pool_share < 1):
            problems.append(f"application.pool_share: expected a share between 0 and 1, found {self.pool_share!r}")
        if not (_is_number(self.portion) and 0 <= self.portion <= 1):
            problems.append(f"application.portion: expected a share from 0 to 1, found {self.portion!r}")
        if self.pool_labels not in ("llm", "crowd"):
            problems.append(f"application.pool_labels: expected llm or crowd, found {self.pool_labels!r}")
        if not isinstance(self.pool_seed, int) or isinstance(self.pool_seed, bool) or self.pool_seed < 0:
            problems.append(f"application.pool_seed: expected a whole number of at least 0, found {self.pool_seed!r}")
        if self.pool in (None, NO_POOL) and (self.augmentation or self.pool_labels == "crowd"):
            wanted = f"application={self.name}" if self.augmentation else "application.pool_labels=crowd"
            problems.append(f"{wanted} needs texts to add, but application.pool=none; choose a pool such as set_aside")
        refuse_if_any(problems)

    @property
    def needs_llm_labels(self) -> bool:
        """Whether any training label can depend on the LLM."""
        return self.correction or (self.augmentation and self.pool_labels == "llm")


def alpha_problem(alpha: object) -> str | None:
    """Return what is wrong with a threshold (in the scale's units, 0 to inf), or None."""
    if not _is_number(alpha) or np.isnan(alpha) or alpha < 0:  # type: ignore[operator, call-overload]
        return f"alpha: expected a number from 0 to inf in the scale's units, found {alpha!r}"
    return None


class Corrected(NamedTuple):
    """Labels of shape (n,) after correction, and where one was replaced."""

    label: Floats
    replaced: Bools


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
    with np.errstate(invalid="ignore"):
        replaced = np.abs(crowd - llm) > alpha
    return Corrected(np.where(replaced, llm, crowd), replaced)


def seeded_share(n: int, share: float, seed: int) -> Bools:
    """Choose ``round(share * n)`` of `n` rows at random; for one seed a smaller share is a subset of a larger one."""
    chosen = np.zeros(n, dtype=bool)
    chosen[np.random.default_rng(seed).permutation(n)[: round(share * n)]] = True
    return chosen


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
