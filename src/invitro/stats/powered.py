"""Means and regression coefficients of a construct, from a few crowd labels and LLM labels of all texts.

n texts, drawn at random, have a crowd label y, N further texts have none, and all have an LLM label f. With x a text's
covariates (only 1 for a mean), there are three estimates of the coefficients theta of y on x::

    classical            argmin_theta  L_n(y)                                   crowd labels alone
    naive                argmin_theta  L_(n+N)(f)                               LLM labels used as crowd labels
    prediction-powered   argmin_theta  L_n(y) + lambda (L_N(f) - L_n(f))        both

where L_m(v) is the mean over m texts of (v - x'theta)^2 / 2. The last one is valid no matter how wrong the LLM is: its
errors on the n texts correct it on the N. lambda is tuned for the smallest variance and lies in [0, 1]; at 0 the LLM is
not used (Angelopoulos, Duchi, Zrnic 2023, "PPI++: Efficient Prediction-Powered Inference", arXiv 2311.01453).
Estimates, lambda and intervals for independent texts are those of the authors' library, ppi-python.

Texts are rarely independent: several by one author carry less information than as many by different authors. Intervals
that treat them as independent are too narrow, above all in the LLM's part, which includes all texts of an author.
Keeping one text per author would be valid, but would discard most LLM labels. So the error here sums an author's
contributions before squaring, labelled and unlabelled texts alike (Liang, Zeger 1986, "Longitudinal Data Analysis Using
Generalized Linear Models", Biometrika 73)::

    error^2 = [ H^-1 (G / (G - 1)  sum_a s_a s_a') H^-1 ],   s_a = sum of author a's scores,   H = mean of x x'

over G authors, with scores u / n of the labelled and v / N of the unlabelled texts, each centred over its own texts:
u = x (x'theta - y) - lambda x (x'theta - f), v = lambda x (x'theta - f). If every author wrote one text, this is the
library's error times G / (G - 1), and the library's interval is used.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from invitro.errors import InputError
from invitro.stats import Bools, Floats, Ints
from invitro.stats.intervals import LEVEL

Z = 1.959963984540054
LEAST_LABELS = 30
"""With fewer crowd labels, or fewer authors of them, normal intervals cannot be trusted."""
CLASSICAL, NAIVE, POWERED = "crowd labels alone", "LLM labels alone", "prediction-powered"


@dataclass(frozen=True)
class Coefficient:
    """A mean or regression coefficient with its 95 % interval.

    Args:
        method: `CLASSICAL`, `NAIVE` or `POWERED`.
        value: in the labels' units; a coefficient is per unit of the covariate.
        error: standard error over authors.
        low: lower end of the interval.
        high: upper end.
        iid_low: lower end of the interval that treats texts as independent.
        iid_high: its upper end.
        crowd_labels: number of texts whose crowd label was used.
        llm_labels: number of texts whose LLM label was used.
        power: lambda, the weight of the LLM's labels; NaN except for `POWERED`.
        effective: number of crowd labels that alone would be as precise: crowd_labels * (classical error / error)^2;
            NaN for `NAIVE`, whose error ignores its bias.
    """

    method: str
    value: float
    error: float
    low: float
    high: float
    iid_low: float
    iid_high: float
    crowd_labels: int
    llm_labels: int
    power: float = np.nan
    effective: float = np.nan


def problem() -> str | None:
    """Return what to install if prediction-powered intervals cannot be computed here, or None."""
    from importlib.util import find_spec

    if all(find_spec(name) for name in ("ppi_py", "numba", "statsmodels")):
        return None
    return 'study=inference needs ppi-python; install it with: pip install "invitro[inference]"'


def estimates(
    design: Floats, crowd: Floats, llm: Floats, gold: Bools, authors: Sequence[object] | npt.ArrayLike
) -> tuple[Coefficient, Coefficient, Coefficient]:
    """Return the classical, the naive and the prediction-powered estimate of the last column's coefficient.

    Args:
        design: (texts, columns), the first all ones; with one column the coefficient is the mean.
        crowd: (texts,), crowd labels; only those of `gold` are used.
        llm: (texts,), LLM labels.
        gold: (texts,), the texts whose crowd labels are used; they have to be drawn at random.
        authors: (texts,), the author of each text.

    Raises:
        InputError: too few gold texts or authors, no other text, or labels or a covariate that do not vary.
    """
    y, f, x = crowd[gold], llm[gold], np.ascontiguousarray(design[gold], dtype=np.float64)
    x_other, f_other = np.ascontiguousarray(design[~gold], dtype=np.float64), llm[~gold]
    codes = np.unique(np.asarray(authors), return_inverse=True)[1]
    _check(y, f, x, x_other, codes[gold])
    single = len(codes) == codes.max() + 1
    classical = _alone(CLASSICAL, x, y, codes[gold], single)
    naive = _alone(NAIVE, np.ascontiguousarray(design, dtype=np.float64), llm, codes, single)
    powered = _powered(x, y, f, x_other, f_other, np.concatenate([codes[gold], codes[~gold]]), single)
    worth = len(y) * (classical.error / powered.error) ** 2 if powered.error > 0 else np.nan
    return (
        replace(classical, crowd_labels=len(y), effective=float(len(y))),
        replace(naive, llm_labels=len(llm)),
        replace(powered, crowd_labels=len(y), llm_labels=len(llm), effective=worth),
    )


def of_all(design: Floats, labels: Floats, authors: Sequence[object] | npt.ArrayLike, method: str) -> Coefficient:
    """Return the classical estimate from a label of every text."""
    codes = np.unique(np.asarray(authors), return_inverse=True)[1]
    x = np.ascontiguousarray(design, dtype=np.float64)
    return replace(_alone(method, x, labels, codes, len(codes) == codes.max() + 1), crowd_labels=len(labels))


def _check(y: Floats, f: Floats, x: Floats, x_other: Floats, codes: Ints) -> None:
    if len(y) < LEAST_LABELS or len(np.unique(codes)) < LEAST_LABELS:
        raise InputError(
            f"inference.gold: expected at least {LEAST_LABELS} texts with a crowd label by {LEAST_LABELS} authors, "
            f"found {len(y)} by {len(np.unique(codes))}; intervals from fewer would not be valid"
        )
    if not len(x_other):
        raise InputError(f"inference.gold={len(y)}: uses all texts, so the LLM adds nothing; choose fewer")
    for name, values in {"crowd labels": y, "LLM labels": f}.items():
        if np.ptp(values) == 0:
            raise InputError(f"inference: the {name} of the {len(y)} drawn texts are all {values[0]:g}; nothing varies")
    if x.shape[1] > 1 and (np.ptp(x[:, -1]) == 0 or np.ptp(x_other[:, -1]) == 0):
        raise InputError("inference.covariate: is the same for all texts; choose one that varies")


def _alone(method: str, x: Floats, y: Floats, codes: Ints, single: bool) -> Coefficient:
    """Return the estimate from one label per text."""
    from ppi_py import classical_mean_ci, classical_ols_ci

    theta = np.linalg.lstsq(x, y, rcond=None)[0]
    scores = x * (x @ theta - y)[:, None] / len(y)
    error = _over_authors(scores, codes, np.linalg.inv(x.T @ x / len(y)))
    ends = classical_mean_ci(y, alpha=1 - LEVEL) if x.shape[1] == 1 else classical_ols_ci(x, y, alpha=1 - LEVEL)
    return _coefficient(method, theta[-1], error, ends, single)


def _powered(
    x: Floats, y: Floats, f: Floats, x_other: Floats, f_other: Floats, codes: Ints, single: bool
) -> Coefficient:
    """Return the prediction-powered estimate; `codes` are the labelled texts' authors, then the others'."""
    from ppi_py import ppi_mean_ci, ppi_mean_pointestimate, ppi_ols_ci, ppi_ols_pointestimate

    at = x.shape[1] - 1
    if at == 0:
        point, ends = partial(ppi_mean_pointestimate, y, f, f_other), ppi_mean_ci(y, f, f_other, alpha=1 - LEVEL)
    else:
        point = partial(ppi_ols_pointestimate, x, y, f, x_other, f_other, coord=at)
        ends = ppi_ols_ci(x, y, f, x_other, f_other, alpha=1 - LEVEL, coord=at)
    theta, without, whole = (np.atleast_1d(point(lam=power)) for power in (None, 0, 1))
    # The estimate is linear in lambda, which the library does not return.
    step = whole[at] - without[at]
    power = float((theta[at] - without[at]) / step) if step else 0.0
    labelled = x * (x @ theta - y)[:, None] - power * x * (x @ theta - f)[:, None]
    unlabelled = power * x_other * (x_other @ theta - f_other)[:, None]
    scores = np.concatenate(
        [(labelled - labelled.mean(axis=0)) / len(x), (unlabelled - unlabelled.mean(axis=0)) / len(x_other)]
    )
    every = np.concatenate([x, x_other])
    error = _over_authors(scores, codes, np.linalg.inv(every.T @ every / len(every)))
    return replace(_coefficient(POWERED, theta[at], error, ends, single), power=power)


def _over_authors(scores: Floats, codes: Ints, inverse: npt.NDArray[Any]) -> float:
    """Return the last coefficient's standard error; see the module for the equation."""
    numbered = np.unique(codes, return_inverse=True)[1]
    count = int(numbered.max()) + 1
    sums = np.stack([np.bincount(numbered, weights=column, minlength=count) for column in scores.T], axis=1)
    spread = inverse @ (sums.T @ sums * count / (count - 1)) @ inverse
    return float(np.sqrt(spread[-1, -1]))


def _coefficient(method: str, value: float, error: float, ends: Sequence[npt.ArrayLike], single: bool) -> Coefficient:
    low, high = (float(np.atleast_1d(end)[-1]) for end in ends)
    interval = (low, high) if single else (float(value - Z * error), float(value + Z * error))
    if single:
        error = (high - low) / (2 * Z)
    return Coefficient(method, float(value), error, *interval, low, high, crowd_labels=0, llm_labels=0)
