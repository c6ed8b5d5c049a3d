"""The items of a scale in people's answers: do they belong together, and does each run the way the scale says?"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.optimize import minimize

from invitro.arrays import Bools, Floats
from invitro.stats.crowd import Statistic, undefined
from invitro.stats.intervals import Estimate
from invitro.stats.moments import ratio, without_rounding

LEAST_SHEETS = 10
"""Complete answer sheets below which nothing is said of items."""

LEAST_UNIQUE = 0.005
"""Least unique variance of a standardised item."""

Direction = Literal["", "reversed already", "not reversed"]


@dataclass(frozen=True)
class ItemCheck:
    """One item against the rest of its scale.

    Args:
        name: the item's.
        before: correlation with the sum of the other items, answers as they were given.
        after: the same once items that the scale reverses are reversed.
        runs: why the item runs against its scale: ``reversed already`` (the scale reverses it, though the answers are
            reversed already), ``not reversed`` (the scale should reverse it), or empty if it does not.
    """

    name: str
    before: Statistic
    after: Statistic
    runs: Direction = ""


@dataclass(frozen=True)
class ItemAnalysis:
    """All items of a scale.

    Args:
        cronbach: Cronbach's, after reversal.
        omega: McDonald's, after reversal.
        items: in the scale's order.
        sheets: how many complete answer sheets it rests on.
    """

    cronbach: Statistic
    omega: Statistic
    items: tuple[ItemCheck, ...]
    sheets: int


def analysed(answers: Floats, names: list[str], reversed_items: Bools, low: float, high: float) -> ItemAnalysis:
    """Look at a scale's items before and after reversal.

    Which way items run is the sign of their weight in the first principal component of the correlations after reversal,
    turned so that most items that are not reversed have a positive one. An item with a negative weight runs
    against its scale if its correlation with the rest, all items turned alike, is above 0 at the one-sided 5 % level.

    Args:
        answers: as given, (sheets, items), NaN where there is none; only complete sheets count.
        names: the items', (items,).
        reversed_items: which of them the scale reverses, (items,).
        low: lowest answer to an item.
        high: highest.
    """
    whole = answers[~np.isnan(answers).any(axis=1)]
    keyed = np.where(reversed_items, low + high - whole, whole)
    n, k = whole.shape
    reason = _nothing(n, k)
    if reason:
        none = undefined(reason)
        return ItemAnalysis(none, none, tuple(ItemCheck(name, none, none) for name in names), n)
    before, after = rest_correlations(whole), rest_correlations(keyed)
    runs = _runs(keyed, reversed_items)

    def stated(value: float, item: int) -> Statistic:
        flat = whole[:, item].min() == whole[:, item].max()
        why = "all answers are the same" if flat else "the other items' sum does not vary"
        return undefined(why) if np.isnan(value) else Statistic(Estimate(float(value), np.nan, np.nan, n))

    checks = (ItemCheck(name, stated(before[j], j), stated(after[j], j), runs[j]) for j, name in enumerate(names))
    return ItemAnalysis(cronbach_alpha(keyed), mcdonald_omega(keyed), tuple(checks), n)


def _nothing(sheets: int, items: int) -> str:
    if items < 2:
        return "the scale has one item"
    return f"{sheets} complete answer sheets; at least {LEAST_SHEETS} are needed" if sheets < LEAST_SHEETS else ""


def cronbach_alpha(answers: Floats) -> Statistic:
    """Return ``k / (k - 1) (1 - sum_j var_j / var(sum))`` of complete answers after reversal, (sheets, items).

    Cronbach (1951), "Coefficient Alpha and the Internal Structure of Tests", Psychometrika 16.

    Example:
        >>> cronbach_alpha(np.array([[1.0, 2], [2, 2], [3, 5], [5, 4]])).value.__round__(3)
        0.808
    """
    n, k = answers.shape
    if k < 2:
        return undefined("the scale has one item")
    if n < 2:
        return undefined("there are fewer than two complete answer sheets")
    centred = answers - answers.mean(axis=0)
    each, total = (centred**2).sum(), (centred.sum(axis=1) ** 2).sum()
    if without_rounding(np.asarray(total), np.asarray(k * each)) == 0:
        return undefined("the sum of the items does not vary")
    return Statistic(Estimate(float(k / (k - 1) * (1 - each / total)), np.nan, np.nan, n))


def mcdonald_omega(answers: Floats) -> Statistic:
    """Return omega of one factor, of complete answers after reversal, (sheets, items).

    ``(sum_j l_j)^2 / ((sum_j l_j)^2 + sum_j psi_j)`` with loadings l and unique variances psi of one factor, fitted by
    maximum likelihood: McDonald (1999), "Test Theory: A Unified Treatment", chapter 6, omega total for one factor.
    """
    n, k = answers.shape
    if k < 3:
        return undefined("one factor needs three items")
    if n < LEAST_SHEETS:
        return undefined(f"{n} complete answer sheets; at least {LEAST_SHEETS} are needed")
    spread = answers.std(axis=0)
    if (spread == 0).any():
        return undefined("an item has the same answer on all sheets")
    loadings, unique = _one_factor(np.asarray(np.corrcoef(answers.T)))
    loadings, unique = loadings * spread, unique * spread**2
    common = loadings.sum() ** 2
    return Statistic(Estimate(float(common / (common + unique.sum())), np.nan, np.nan, n))


def _one_factor(correlations: Floats) -> tuple[Floats, Floats]:
    """Fit one factor by maximum likelihood: loadings and unique variances, both (items,), of standardised items.

    Minimises ``log|S| + tr(R S^-1)`` with ``S = l l' + diag(psi)`` (Joreskog 1967, Psychometrika 32); psi stays above
    `LEAST_UNIQUE`, where a Heywood case ends.
    """
    k = len(correlations)

    def loss(theta: Floats) -> tuple[float, Floats]:
        loadings, unique = theta[:k], theta[k:]
        model = np.outer(loadings, loadings) + np.diag(unique)
        inverse = np.linalg.inv(model)
        slope = inverse @ (model - correlations) @ inverse
        value = np.linalg.slogdet(model)[1] + np.trace(correlations @ inverse)
        return float(value), np.concatenate([2 * slope @ loadings, np.diag(slope)])

    values, vectors = np.linalg.eigh(correlations)
    start = vectors[:, -1] * np.sqrt(max(values[-1] - 1, 0.1)) * np.sign(vectors[:, -1].sum() or 1)
    start = np.concatenate([start.clip(-0.9, 0.9), 1 - start.clip(-0.9, 0.9) ** 2])
    bounds = [(None, None)] * k + [(LEAST_UNIQUE, None)] * k
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"ftol": 1e-14, "maxiter": 500}).x
    return found[:k], found[k:]


def rest_correlations(answers: Floats) -> Floats:
    """Return each item's correlation with the sum of the others, (items,), NaN where one of both does not vary."""
    centred = answers - answers.mean(axis=0)
    rest = centred.sum(axis=1, keepdims=True) - centred
    size = (centred**2).sum()
    mine, others = (without_rounding((one**2).sum(axis=0), size) for one in (centred, rest))
    return np.clip(ratio((centred * rest).sum(axis=0), np.sqrt(mine * others)), -1, 1)


def _runs(keyed: Floats, reversed_items: Bools) -> list[Direction]:
    """Say of each item whether it runs against its scale."""
    varies = keyed.std(axis=0) > 0
    if varies.sum() < 2:
        return [""] * keyed.shape[1]
    weight = np.zeros(keyed.shape[1])
    weight[varies] = np.linalg.eigh(np.corrcoef(keyed[:, varies].T))[1][:, -1]
    plain = ~reversed_items & varies
    votes = np.sign(weight[plain]).sum() or weight[plain].sum() or np.sign(weight).sum() or weight.sum()
    turned = np.where(weight * np.sign(votes) < 0, -1.0, 1.0)
    together = np.nan_to_num(rest_correlations(keyed * turned))
    clear = np.arctanh(np.clip(together, -0.999999, 0.999999)) > 1.645 / np.sqrt(max(len(keyed) - 3, 1))
    return [
        "" if turn > 0 or not sure else "reversed already" if back else "not reversed"
        for turn, sure, back in zip(turned, clear, reversed_items, strict=True)
    ]
