"""An LLM's labels of many texts first, then people's ratings of a few: the raters' model in two fast steps.

With Gaussian processes g and d that share a kernel, an LLM's labels l and people's ratings y are::

    l_i = m + g(x_i) + e_i
    y_i = mu + b g(x_i) + d(x_i) + a (l_i - m - g(x_i)) + e'_i

d is what the LLM misses or misjudges. The model is autoregressive co-kriging (Kennedy & O'Hagan 2000, "Predicting
the Output from a Complex Computer Code When Fast Approximations Are Available", Biometrika 87), with the LLM as the
fast approximation. The posterior of g is computed once,
from the LLM's labels alone; each later fit to n ratings by people then costs n^3.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize

from invitro.stats import Floats, Ints

MOST_TUNED = 800
"""Number of ratings from which b and the variances of d and e' are estimated; the fit itself uses all."""
PEOPLE_PRIORS = {"scale": (0.5, 0.5), "correction": (0.2, 0.5), "noise": (0.8, 0.5)}
"""Mean and SD of b times the SD of labels over that of ratings; median, and SD of the logarithm, of the SDs of d and e'
in units of the ratings' SD. With few ratings, the scores stay close to the LLM's unless the ratings say otherwise."""


@dataclass(frozen=True)
class LLMFirst:
    """The posterior of g given an LLM's labels.

    Args:
        labels: (texts,), the LLM's units; NaN if missing.
        level: m.
        variance: of g, the units squared.
        gram: K, similarities of the texts, (texts, texts).
        coefficients: of the posterior mean, (texts,).
        inverse: of the covariance of labels divided by `variance`, (texts, texts); 0 for texts without a label.
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
        labelled = np.flatnonzero(~np.isnan(labels))
        inverse, coefficients = np.zeros(gram.shape), np.zeros(len(gram))
        at = np.ix_(labelled, labelled)
        inverse[at] = np.linalg.inv(gram[at] + noise * np.eye(len(labelled)))
        level = float(labels[labelled].mean())
        centred = labels[labelled] - level
        coefficients[labelled] = inverse[at] @ centred
        variance = float(centred @ coefficients[labelled] / len(labelled))
        return cls(labels, level, variance, gram, coefficients, inverse)

    def predict(self, similarity: Floats) -> Floats:
        """Score new texts as the LLM would, with its own mean and spread: (new,).

        Args:
            similarity: to the texts, (new, texts).
        """
        return np.asarray(self.level + similarity @ self.coefficients)

    def then_people(self, rows: Ints, ratings: Floats, similarity: Floats) -> Floats:
        """Score new texts as people would: (new,), the ratings' units.

        b, a, mu and the variances are those of highest posterior density, with the priors `PEOPLE_PRIORS`.

        Args:
            rows: the texts that people rated, (n,); the parameters are estimated from the first ones.
            ratings: of these texts, (n,).
            similarity: of the new texts to all texts, (new, texts).
        """
        posterior = self.gram[:, rows] - self.gram @ (self.inverse @ self.gram[:, rows])
        step = _People(
            ratings=ratings,
            signal=self.gram[rows] @ self.coefficients,
            residual=np.nan_to_num(self.labels[rows] - self.predict(self.gram[rows])),
            uncertainty=self.variance * posterior[rows],
            similar=self.gram[np.ix_(rows, rows)],
            label_spread=float(np.nanstd(self.labels)),
        )
        b, correction, noise = step.estimated()
        fixed, pull = step.solved(b, correction, noise)
        uncertainty = self.variance * (similarity[:, rows] - similarity @ (self.inverse @ self.gram[:, rows]))
        covariance = b**2 * uncertainty + correction * similarity[:, rows]
        return np.asarray(fixed[0] + b * (similarity @ self.coefficients) + covariance @ pull)


@dataclass(frozen=True)
class _People:
    """The second step: ratings given the posterior of g at their texts."""

    ratings: Floats
    signal: Floats
    residual: Floats
    uncertainty: Floats
    similar: Floats
    label_spread: float

    def estimated(self) -> tuple[float, float, float]:
        """Return b, and the variances of d and e'."""
        first = slice(MOST_TUNED)
        subset = _People(
            self.ratings[first], self.signal[first], self.residual[first], self.uncertainty[first, first],
            self.similar[first, first], self.label_spread,
        )  # fmt: skip
        spread = float(subset.ratings.std()) or 1.0
        unit = spread / (self.label_spread or 1.0)
        centre, width = (np.array([prior[index] for prior in PEOPLE_PRIORS.values()]) for index in (0, 1))

        def natural(at: Floats) -> tuple[float, float, float]:
            sds = spread * np.exp(at[1:])
            return float(at[0] * unit), float(sds[0] ** 2), float(sds[1] ** 2)

        start = np.array([centre[0], *np.log(centre[1:])])

        def loss(at: Floats) -> float:
            return subset.minus_log_density(*natural(at)) + 0.5 * float(np.square((at - start) / width).sum())

        options = {"xatol": 0.01, "fatol": 0.01, "maxiter": 100}
        return natural(np.asarray(minimize(loss, start, method="Nelder-Mead", options=options).x))

    def _whitened(self, b: float, correction: float, noise: float) -> tuple[Floats, Floats, Floats, Floats]:
        """Return the Cholesky factor of the ratings' covariance, mu and a, the residuals, and their solution."""
        matrix = b**2 * self.uncertainty + correction * self.similar
        matrix[np.diag_indices(len(matrix))] += noise
        factor = np.asarray(cho_factor(matrix, lower=True, overwrite_a=True)[0])
        design = np.column_stack([np.ones(len(self.residual)), self.residual])
        unexplained = self.ratings - b * self.signal
        solved = cho_solve((factor, True), design)
        fixed = np.linalg.lstsq(design.T @ solved, solved.T @ unexplained, rcond=None)[0]
        unexplained = unexplained - design @ fixed
        return factor, fixed, unexplained, np.asarray(cho_solve((factor, True), unexplained))

    def minus_log_density(self, b: float, correction: float, noise: float) -> float:
        """Return the ratings' negative log likelihood, up to a constant."""
        factor, _, unexplained, pull = self._whitened(b, correction, noise)
        return float(0.5 * unexplained @ pull + np.log(np.diag(factor)).sum())

    def solved(self, b: float, correction: float, noise: float) -> tuple[Floats, Floats]:
        """Return mu and a, and the coefficients of the ratings."""
        _, fixed, _, pull = self._whitened(b, correction, noise)
        return fixed, pull
