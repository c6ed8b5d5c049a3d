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
- ``by_group``: ``moment``, and then a shift for each group g of people, for an LLM that rates some groups too high or
  too low. With r_g the mean over the A_g authors of a group of their mean difference C - L' that ``moment`` leaves, and
  s^2 the variance of authors within groups::

      shift_g = tau^2 / (tau^2 + s^2 / A_g) * r_g
      tau^2 = max(0, (Q - (k - 1)) / (sum w - sum w^2 / sum w)),   w_g = A_g / s^2,   Q = sum_g w_g (r_g - mean)^2

  The variance tau^2 of the k groups' biases is estimated from the groups themselves (DerSimonian & Laird 1986,
  "Meta-analysis in Clinical Trials", Controlled Clinical Trials 7), so that groups that differ by no more than chance
  are all mapped like the whole, and a small group is drawn towards the whole more than a large one (empirical Bayes:
  Efron & Morris 1975, JASA 70). The crowd's labels define what counts as unbiased: if the people of a group rate
  themselves differently from what they write, this mapping follows them.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.isotonic import IsotonicRegression

from invitro.data.corpus import LEAST_IN_GROUP
from invitro.data.splits import author_folds
from invitro.errors import InputError
from invitro.raters.precision import LEAST_TEXTS
from invitro.stats import Floats, Ints
from invitro.stats.intervals import LEAST_AUTHORS, Contrast

SHRINKAGE = 20.0
UNBOUNDED = (-np.inf, np.inf)


def fitted_mapping(
    method: str,
    crowd: Floats,
    llm: Floats,
    bounds: tuple[float, float] = UNBOUNDED,
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
        A function from LLM labels to the same number of mapped ones; a missing one (NaN) stays missing. LLM labels that
        do not vary are only shifted.

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
    else:
        share = len(crowd) / (len(crowd) + shrinkage)
        least_squares = float(np.mean((crowd - crowd.mean()) * (llm - centre)) / llm.var()) if varies else 1.0
        shift, slope = share * shift, 1 + share * (least_squares - 1)
    return lambda labels: np.clip(centre + shift + slope * (labels - centre), *bounds)


def calibrated(
    method: str,
    crowd: Floats,
    llm: Floats,
    groups: npt.NDArray[np.str_],
    bounds: tuple[float, float] = UNBOUNDED,
    shrinkage: float | None = None,
    people: "pd.Series[str] | None" = None,
) -> Floats:
    """Return LLM labels on the crowd's scale, each mapped without its author's crowd labels.

    Texts with a crowd label are mapped out of fold, by a mapping that is fitted on other authors' texts: a text's own
    crowd label does not affect the LLM label that it is compared with. Texts without one, such as the pool's, are
    mapped by the fit on all.

    Args:
        method: ``none`` returns `llm` unchanged; otherwise see `fitted_mapping`.
        crowd: crowd labels of shape (n,), NaN if missing.
        llm: LLM labels of shape (n,), NaN if missing.
        groups: authors of shape (n,).
        bounds: see `fitted_mapping`.
        shrinkage: see `fitted_mapping`; None is `SHRINKAGE`.
        people: for ``by_group``: the group of each text's author, (n,), missing if not known.

    Raises:
        InputError: too few texts or authors have both labels.
    """
    if method == "none":
        return llm
    shrinkage = SHRINKAGE if shrinkage is None else shrinkage
    both = np.flatnonzero(~np.isnan(crowd) & ~np.isnan(llm))

    def mapped_by(rows: Ints, of: Ints) -> Floats:
        """Map the labels of some texts by a mapping fitted to others."""
        mapping = fitted_mapping("moment" if people is not None else method, crowd[rows], llm[rows], bounds, shrinkage)
        if people is None:
            return np.asarray(mapping(llm[of]))
        shifts = group_shifts(crowd[rows] - mapping(llm[rows]), people.iloc[rows], groups[rows])["shift"]
        shift = np.array([shifts.get(group, 0.0) for group in people.iloc[of]])
        return np.asarray(np.clip(mapping(llm[of]) + shift, *bounds))

    mapped, unrated = np.full(len(llm), np.nan), np.flatnonzero(np.isnan(crowd))
    if len(unrated):
        mapped[unrated] = mapped_by(both, unrated)
    for others, left_out in author_folds(groups[both], f"application.calibration={method}"):
        mapped[both[left_out]] = mapped_by(both[others], both[left_out])
    return mapped


def group_shifts(left: Floats, people: "pd.Series[str]", authors: npt.NDArray[np.str_]) -> pd.DataFrame:
    """Return how far each group's labels are shifted after the mapping of the whole; see the module.

    Args:
        left: crowd label minus mapped LLM label, (n,), the scale's units.
        people: the group of each text's author, (n,), missing if not known.
        authors: (n,).

    Returns:
        By group: ``texts``, ``authors``, ``difference`` (r_g), ``share`` (of it that is applied, 0 to 1) and ``shift``.

    Example:
        >>> people = pd.Series(["x"] * 40 + ["y"] * 40)
        >>> left = np.tile([1.1, 0.9], 40) * np.repeat([1, -1], 40)
        >>> group_shifts(left, people, np.arange(80).astype(str))["shift"].round(2).tolist()
        [1.0, -1.0]
    """
    table = pd.DataFrame({"left": left, "group": people.to_numpy(), "author": authors}).dropna()
    if table.empty:
        return pd.DataFrame(columns=["texts", "authors", "difference", "share", "shift"], dtype="float64")
    of_author = table.groupby(["group", "author"], sort=True)["left"].mean().reset_index()
    by_group = of_author.groupby("group")["left"]
    shifts = pd.DataFrame(
        {"texts": table["group"].value_counts(), "authors": by_group.size(), "difference": by_group.mean()}
    )
    k, free = len(shifts), len(of_author) - len(shifts)
    within = float((of_author["left"] - by_group.transform("mean")).pow(2).sum() / free) if free else np.inf
    weight = shifts["authors"] / within if within > 0 else shifts["authors"] * 1e12
    mean = float(np.average(shifts["difference"], weights=shifts["authors"]))
    surplus = float((weight * (shifts["difference"] - mean) ** 2).sum()) - (k - 1)
    scale = float(weight.sum() - (weight**2).sum() / weight.sum()) if weight.sum() > 0 else 0.0
    between = max(0.0, surplus / scale) if k > 1 and scale > 0 else 0.0
    shifts["share"] = between / (between + 1 / weight) if between else 0.0
    shifts["shift"] = shifts["share"] * shifts["difference"]
    return shifts.sort_index()


def by_group_report(
    crowd: Floats, llm: Floats, mapped: Floats, people: "pd.Series[str]", authors: npt.NDArray[np.str_]
) -> pd.DataFrame:
    """Report what calibration changes for each group, on the texts with both labels.

    Args:
        crowd: labels, (n,), NaN if missing.
        llm: labels, (n,).
        mapped: the LLM's labels after `calibrated`, (n,): each mapped without its author's crowd labels.
        people: the group of each text's author, (n,).
        authors: (n,).

    Returns:
        By group: ``texts``, ``authors``, the mean of LLM minus crowd ``before`` and ``after`` with 95 % intervals over
        authors (``_low``, ``_high``; NaN with fewer than `LEAST_AUTHORS`), the mean ``shift``, and a ``remark`` on
        groups that are too small. Groups with fewer than `LEAST_IN_GROUP` texts have only their name and the remark.
    """
    rows = []
    compared = ~np.isnan(crowd) & ~np.isnan(llm) & people.notna().to_numpy()
    for group in sorted(people[compared].unique()):
        members = compared & (people == group).to_numpy()
        codes = pd.factorize(authors[members])[0]
        count = int(codes.max()) + 1
        if members.sum() < LEAST_IN_GROUP:
            rows.append({"group": group, "remark": f"fewer than {LEAST_IN_GROUP} texts: not shown"})
            continue
        row = {"group": group, "texts": int(members.sum()), "authors": count}
        for name, labels in {"before": llm, "after": mapped}.items():
            difference = labels[members] - crowd[members]
            sums = np.bincount(codes, weights=difference - difference.mean())
            error = np.sqrt(np.square(sums).sum() * count / max(count - 1, 1)) / len(difference)
            few = count < LEAST_AUTHORS
            interval = Contrast(float(difference.mean()), 0.0, np.nan if few else float(error), 1, count).interval()
            row |= {name: interval.value, f"{name}_low": interval.low, f"{name}_high": interval.high}
        row["shift"] = float((mapped - llm)[members].mean())
        row["remark"] = f"fewer than {LEAST_AUTHORS} authors: no interval" if count < LEAST_AUTHORS else ""
        rows.append(row)
    edges = [f"{name}{edge}" for name in ("before", "after") for edge in ("", "_low", "_high")]
    columns = ["group", "texts", "authors", *edges, "shift", "remark"]
    return pd.DataFrame(rows, columns=columns).astype({"texts": "Int64", "authors": "Int64"})
