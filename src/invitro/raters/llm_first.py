"""An LLM's labels of many texts first, then people's ratings of few: the raters' model in two steps, in seconds.

With Gaussian processes g and d of one kernel, an LLM's labels l and people's ratings y are::

    l_i = m + g(x_i) + e_i
    y_i = mu + b g(x_i) + d(x_i) + a (l_i - m - g(x_i)) + e'_i

d is what the LLM does not see, or sees wrongly. It is autoregressive co-kriging (Kennedy & O'Hagan 2000, "Predicting
the Output from a Complex Computer Code When Fast Approximations Are Available", Biometrika 87), with the LLM as the
fast approximation. g depends on the LLM's labels alone, so that its posterior is computed once for
any number of people's ratings, whose own fit then costs the cube of their number.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize

from invitro.stats import Floats, Ints

MOST_TUNED = 800
"""Ratings that b, and the variances of d and e', are estimated from; the fit itself uses all."""
PEOPLE_PRIORS = {"scale": (0.5, 0.5), "correction": (0.2, 0.5), "noise": (0.8, 0.5)}
"""Mean and SD of b times the SD of labels over that of ratings; median, and SD of the logarithm, of the SDs of d and e'
in units of the ratings' SD. With few ratings the LLM is followed, unless they say otherwise."""


@dataclass(frozen=True)
class LLMFirst:
    """What an LLM's labels say: the posterior of g.

    Args:
        labels: (texts,), the LLM's units; NaN where there is none.
        level: m.
        variance: of g, the units squared.
        gram: K, similarities of the texts, (texts, texts).
        coefficients: of the posterior mean, (texts,).
        inverse: of the covariance of labels, divided by `variance`, (texts, texts); 0 where there is no label.
    """

    labels: Floats
    level: float
    variance: float
    gram: Floats
    coefficients: Floats
    inverse: Floats

    @classmethod
    def fitted(cls, gram: Floats, labels: Floats, noise: float) -> Self:
        """Fit to the texts that have a label; `noise` is the variance of e in units of that of g."""
        known = np.flatnonzero(~np.isnan(labels))
        inverse, coefficients = np.zeros(gram.shape), np.zeros(len(gram))
        at = np.ix_(known, known)
        inverse[at] = np.linalg.inv(gram[at] + noise * np.eye(len(known)))
        rest = labels[known] - labels[known].mean()
        coefficients[known] = inverse[at] @ rest
        variance = float(rest @ coefficients[known] / len(known))
        return cls(labels, float(labels[known].mean()), variance, gram, coefficients, inverse)

    def predict(self, near: Floats) -> Floats:
        """Score new texts as the LLM would, with its own mean and spread: (new,).

        Args:
            near: similarities to the texts, (new, texts).
        """
        return np.asarray(self.level + near @ self.coefficients)

    def then_people(self, rows: Ints, ratings: Floats, near: Floats) -> Floats:
        """Score new texts as people would: (new,), the ratings' units.

        b, a and mu are the most likely ones, and so are the variances, with the priors `PEOPLE_PRIORS`.

        Args:
            rows: the texts that people rated, (n,), those first that the parameters are estimated from.
            ratings: of these texts, (n,).
            near: similarities of the new texts to all texts, (new, texts).
        """
        known = self.gram[:, rows] - self.gram @ (self.inverse @ self.gram[:, rows])
        step = _People(
            ratings=ratings,
            signal=self.gram[rows] @ self.coefficients,
            left=np.nan_to_num(self.labels[rows] - self.predict(self.gram[rows])),
            unsure=self.variance * known[rows],
            similar=self.gram[np.ix_(rows, rows)],
            label_spread=float(np.nanstd(self.labels)),
        )
        b, correction, noise = step.estimated()
        fixed, pull = step.solved(b, correction, noise)
        unsure = self.variance * (near[:, rows] - near @ (self.inverse @ self.gram[:, rows]))
        return np.asarray(
            fixed[0] + b * (near @ self.coefficients) + (b**2 * unsure + correction * near[:, rows]) @ pull
        )


@dataclass(frozen=True)
class _People:
    """The second step: ratings given what is known of g at their texts."""

    ratings: Floats
    signal: Floats
    left: Floats
    unsure: Floats
    similar: Floats
    label_spread: float

    def estimated(self) -> tuple[float, float, float]:
        """Return b, and the variances of d and e'."""
        few = slice(MOST_TUNED)
        some = _People(
            self.ratings[few], self.signal[few], self.left[few], self.unsure[few, few], self.similar[few, few],
            self.label_spread,
        )  # fmt: skip
        spread = float(some.ratings.std()) or 1.0
        unit = spread / (self.label_spread or 1.0)
        centre, width = (np.array([one[which] for one in PEOPLE_PRIORS.values()]) for which in (0, 1))

        def natural(at: Floats) -> tuple[float, float, float]:
            sds = spread * np.exp(at[1:])
            return float(at[0] * unit), float(sds[0] ** 2), float(sds[1] ** 2)

        start = np.array([centre[0], *np.log(centre[1:])])

        def loss(at: Floats) -> float:
            return some.minus_log_density(*natural(at)) + 0.5 * float(np.square((at - start) / width).sum())

        options = {"xatol": 0.01, "fatol": 0.01, "maxiter": 100}
        return natural(np.asarray(minimize(loss, start, method="Nelder-Mead", options=options).x))

    def _whitened(self, b: float, correction: float, noise: float) -> tuple[Floats, Floats, Floats, Floats]:
        """Return the Cholesky factor of the ratings' covariance, mu and a, what they leave, and its solution."""
        matrix = b**2 * self.unsure + correction * self.similar
        matrix[np.diag_indices(len(matrix))] += noise
        factor = np.asarray(cho_factor(matrix, lower=True, overwrite_a=True)[0])
        design = np.column_stack([np.ones(len(self.left)), self.left])
        rest = self.ratings - b * self.signal
        solved = cho_solve((factor, True), design)
        fixed = np.linalg.lstsq(design.T @ solved, solved.T @ rest, rcond=None)[0]
        rest = rest - design @ fixed
        return factor, fixed, rest, np.asarray(cho_solve((factor, True), rest))

    def minus_log_density(self, b: float, correction: float, noise: float) -> float:
        """Return the ratings' negative log likelihood, up to a constant."""
        factor, _, rest, pull = self._whitened(b, correction, noise)
        return float(0.5 * rest @ pull + np.log(np.diag(factor)).sum())

    def solved(self, b: float, correction: float, noise: float) -> tuple[Floats, Floats]:
        """Return mu and a, and the coefficients of the ratings."""
        _, fixed, _, pull = self._whitened(b, correction, noise)
        return fixed, pull
