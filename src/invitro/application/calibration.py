"""LLM labels mapped to the crowd's scale. The mapping is fitted on texts with both labels.

Arrays have the shape (n,), one entry per text, and the scale's units. With crowd labels C and LLM labels L:

- ``moment``: ``mean(C) + sd(C) / sd(L) * (L - mean(L))``: the mapped labels have the crowd's mean and SD. Linear
  equating of test scores (Kolen & Brennan, "Test Equating, Scaling, and Linking"). The labels keep their spread, so
  that a model trained on them uses the scale as the crowd does; noise in C inflates the SD that is matched.
- ``linear``: least squares of C on L, shrunk towards the identity::

      a, b = argmin  sum_i (C_i - L_i - a - b (L_i - mean(L)))^2  +  m (a^2 + b^2 var(L))
           = n / (n + m) * (mean(C) - mean(L)),   n / (n + m) * (cov(C, L) / var(L) - 1)

  and L becomes ``L + a + b (L - mean(L))``: ridge regression (Hoerl & Kennard 1970, Technometrics 12) of the difference
  on L, as if m further texts had shown that the LLM needs no mapping. It predicts C best, but narrows the labels.
- ``isotonic``: the non-decreasing step function nearest to C in squared error, by pooling adjacent violators, linear in
  between and constant outside; a common calibrator of scores (Zadrozny & Elkan 2002, "Transforming Classifier Scores
  into Accurate Multiclass Probability Estimates", KDD). It bends where the LLM and people use the ends of the scale
  differently, and narrows labels as ``linear`` does.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from sklearn.isotonic import IsotonicRegression

from invitro.arrays import Floats
from invitro.data.splits import author_folds
from invitro.errors import InputError
from invitro.raters.precision import LEAST_TEXTS

SHRINKAGE = 20.0


def fitted_mapping(
    method: str,
    crowd: Floats,
    llm: Floats,
    bounds: tuple[float, float] = (-np.inf, np.inf),
    shrinkage: float = SHRINKAGE,
) -> Callable[[Floats], Floats]:
    """Fit a mapping from LLM labels to the crowd's scale.

    Args:
        method: ``moment``, ``linear`` or ``isotonic``.
        crowd: crowd labels of shape (n,), n at least `LEAST_TEXTS`, no NaN.
        llm: LLM labels of shape (n,), no NaN.
        bounds: lowest and highest label; mapped labels are clipped to them.
        shrinkage: the m of ``linear``, 0 or more, in texts.

    Returns:
        A function from any number of LLM labels to as many mapped ones; a missing one (NaN) stays missing. LLM labels
        that do not vary are only shifted.

    Raises:
        InputError: there are too few texts.

    Example:
        >>> crowd, llm = np.tile([2.0, 6.0], 5), np.tile([1.0, 3.0], 5)
        >>> fitted_mapping("moment", crowd, llm)(np.array([1.0, 2.0, np.nan])).tolist()
        [2.0, 4.0, nan]
    """
    if len(crowd) < LEAST_TEXTS:
        raise InputError(
            f"application.calibration={method}: expected at least {LEAST_TEXTS} training texts with a crowd and an LLM "
            f"label to fit on, found {len(crowd)}; use application.calibration=none"
        )
    if method == "isotonic":
        model = IsotonicRegression(y_min=bounds[0], y_max=bounds[1], out_of_bounds="clip").fit(llm, crowd)
        return lambda labels: np.where(np.isnan(labels), np.nan, model.predict(np.nan_to_num(labels)))
    shift, centre, varies = float(crowd.mean() - llm.mean()), float(llm.mean()), float(llm.std()) > 0
    if method == "moment":
        slope = float(crowd.std() / llm.std()) if varies else 1.0
    elif method == "linear":
        share = len(crowd) / (len(crowd) + shrinkage)
        least_squares = float(np.mean((crowd - crowd.mean()) * (llm - centre)) / llm.var()) if varies else 1.0
        shift, slope = share * shift, 1 + share * (least_squares - 1)
    else:
        raise ValueError(f"expected moment, linear or isotonic, found {method!r}")
    return lambda labels: np.clip(centre + shift + slope * (labels - centre), *bounds)


def calibrated(
    method: str,
    crowd: Floats,
    llm: Floats,
    groups: npt.NDArray[np.str_],
    bounds: tuple[float, float] = (-np.inf, np.inf),
    shrinkage: float | None = None,
) -> Floats:
    """Return LLM labels on the crowd's scale, each mapped without its author's crowd labels.

    Texts with a crowd label are mapped out of fold, by a mapping that is fitted on other authors' texts: a text's own
    crowd label does not affect the LLM label that it is compared with. Texts without one, such as the pool's, are
    mapped by the fit on all.

    Args:
        method: ``none`` returns `llm` as it is; otherwise see `fitted_mapping`.
        crowd: crowd labels of shape (n,), NaN where there is none.
        llm: LLM labels of shape (n,), NaN where there is none.
        groups: authors of shape (n,).
        bounds: see `fitted_mapping`.
        shrinkage: see `fitted_mapping`; None is `SHRINKAGE`.

    Raises:
        InputError: too few texts or authors have both labels.
    """
    if method == "none":
        return llm
    shrinkage = SHRINKAGE if shrinkage is None else shrinkage
    both = np.flatnonzero(~np.isnan(crowd) & ~np.isnan(llm))
    everything = fitted_mapping(method, crowd[both], llm[both], bounds, shrinkage)
    mapped = np.where(np.isnan(crowd), everything(llm), np.nan)
    for rest, left_out in author_folds(groups[both], f"application.calibration={method}"):
        mapping = fitted_mapping(method, crowd[both[rest]], llm[both[rest]], bounds, shrinkage)
        mapped[both[left_out]] = mapping(llm[both[left_out]])
    return mapped
