"""Simulated studies whose true metrics are known.

A simulated study has one baseline and four other configurations, each trained with the same seeds and tested on the
same texts, by authors who wrote one to five each. The expectation of every configuration's metric over all seeds and
texts is known exactly, because predictions are linear in independent features::

    x_csi = offset_cs + gain_cs * (skill_cs * z_i + own_0 * e_i + own_1 * f_ci + sum_k u_csk * d_ki + noise * n_csi)

z is what labels depend on; e is an error that all configurations share, f an error of one configuration with every
seed, d an error of single seeds, and n an error of a single prediction. Labels are noisy, bounded and rounded as on a
questionnaire of six items from 1 to 7. offset, gain, skill and u vary over seeds, in part alike for all configurations
with the same seed. In a null study all configurations have the same distribution, so every true difference is 0.
"""

from dataclasses import dataclass, replace
from functools import cache
from typing import NamedTuple

import numpy as np

from invitro.stats import Floats
from invitro.stats.moments import MEASURES, of_sums

DIRECTIONS = 6
OWN = (0.75, 0.55)  # weights of e and f
NOISE = 0.35
SKILL = 1.0
GAIN = 0.55
ALIKE = 0.4  # share of a seed's luck that all configurations have


@dataclass(frozen=True)
class Regime:
    """One kind of study.

    Args:
        seeds: runs per configuration.
        texts: in the test split.
        unsteady: how far runs scatter over seeds; 1 is an SD of PCC of about 0.02.
        effect: added to the skill of all configurations but the baseline; 0 is the null.
        others: configurations besides the baseline.
    """

    seeds: int = 5
    texts: int = 400
    unsteady: float = 1.0
    effect: float = 0.0
    others: int = 4


class Law(NamedTuple):
    """What varies over seeds, each of shape (configurations, seeds) except u, (configurations, seeds, directions)."""

    offset: Floats
    gain: Floats
    skill: Floats
    u: Floats


class Simulated(NamedTuple):
    """A study: labels (texts,), predictions (configurations, seeds, texts), authors (texts,)."""

    labels: Floats
    predictions: Floats
    authors: Floats


def simulate(regime: Regime, rng: np.random.Generator) -> Simulated:
    """Draw seeds and texts."""
    authors = np.repeat(np.arange(regime.texts), rng.integers(1, 6, regime.texts))[: regime.texts]
    z, labels = _labels(authors, rng)
    law = _law(regime, regime.seeds, rng)
    arms = regime.others + 1

    def feature(*shape: int) -> Floats:
        """Draw a quantity that partly depends on the author."""
        by_author = rng.normal(size=(*shape, regime.texts))[..., authors]
        return np.sqrt(0.3) * by_author + np.sqrt(0.7) * rng.normal(size=(*shape, regime.texts))

    seen = law.skill[..., None] * z + OWN[0] * feature() + OWN[1] * feature(arms, 1)
    seen = seen + np.einsum("csk,ki->csi", law.u, feature(DIRECTIONS))
    seen = seen + NOISE * rng.normal(size=(arms, regime.seeds, regime.texts))
    return Simulated(labels, law.offset[..., None] + law.gain[..., None] * seen, authors)


def _labels(authors: Floats, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Return what the texts express, with unit variance, and how their authors filled in the questionnaire."""
    n = len(authors)
    z = np.sqrt(0.35) * rng.normal(size=n)[authors] + np.sqrt(0.65) * rng.normal(size=n)
    style = np.sqrt(0.4) * rng.normal(size=n)[authors] + np.sqrt(0.6) * rng.normal(size=n)
    felt = 3.4 + 1.7 * (0.75 * z + np.sqrt(1 - 0.75**2) * style)
    return z, np.round(np.clip(felt, 1, 7) * 6) / 6


def _law(regime: Regime, seeds: int, rng: np.random.Generator) -> Law:
    """Draw what varies over seeds."""

    def luck(*shape: int) -> Floats:
        shared = rng.normal(size=(1, seeds, *shape))
        return np.sqrt(ALIKE) * shared + np.sqrt(1 - ALIKE) * rng.normal(size=(regime.others + 1, seeds, *shape))

    scatter = regime.unsteady
    skill = SKILL + 0.05 * scatter * luck()
    skill[1:] += regime.effect
    return Law(
        3.5 + 0.12 * scatter * luck(), GAIN * np.exp(0.08 * scatter * luck()), skill, 0.1 * scatter * luck(DIRECTIONS)
    )


@cache
def truth(regime: Regime) -> dict[str, tuple[float, float]]:
    """Return by metric the expectation over all seeds and texts: of the baseline, and of any other configuration."""
    mean, variance, covariance = _population()
    law = _law(replace(regime, others=1), 400_000, np.random.default_rng(1))
    spread = law.skill**2 + sum(one**2 for one in OWN) + (law.u**2).sum(axis=-1) + NOISE**2
    x, xx = law.offset - mean, law.gain**2 * spread
    xy = law.gain * law.skill * covariance
    one, zero = np.ones_like(x), np.zeros_like(x)
    sums = np.stack([one, x, zero, xx + x**2, variance * one, xy], axis=-1)  # of a text, labels around their mean
    expected = {name: measure(of_sums(sums)).mean(axis=1) for name, measure in MEASURES.items()}
    if not regime.effect:  # one law for all: equal but for the draws of seeds
        expected = {name: np.full(2, values.mean()) for name, values in expected.items()}
    return {name: (float(values[0]), float(values[1])) for name, values in expected.items()}


@cache
def _population() -> tuple[float, float, float]:
    """Return mean and variance of labels, and their covariance with z, over very many texts."""
    parts = []
    for part in range(10):
        rng = np.random.default_rng([2, part])
        z, labels = _labels(np.arange(1_000_000), rng)
        parts.append((labels.mean(), (labels**2).mean(), (labels * z).mean()))
    mean, square, covariance = np.mean(parts, axis=0)
    return float(mean), float(square - mean**2), float(covariance)
