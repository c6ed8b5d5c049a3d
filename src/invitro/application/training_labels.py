"""From texts with crowd and LLM labels to the labels that a model is trained on."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
import pandas as pd

from invitro.application.calibration import UNBOUNDED, by_group_report, calibrated
from invitro.application.policy import (
    AUTO_POOL,
    NO_POOL,
    SET_ASIDE,
    UNLABELLED,
    Application,
    Fused,
    beyond,
    fuse,
    quantile_alpha,
    seeded_share,
    thresholds,
)
from invitro.data.corpus import DEMOGRAPHICS, banded
from invitro.errors import InputError
from invitro.raters.precision import (
    LEAST_TEXTS,
    mean_squared_errors,
    out_of_fold,
    precision_share,
    triad_reliability,
    word_counts,
)
from invitro.stats import Bools, Floats

RECORD = ("text_id", "crowd_label", "llm_label", "label", "origin", "weight")

Kernel = Callable[[Sequence[str]], Floats]
"""Similarities of texts, (texts, texts), by their ids: centred, with mean variance 1."""


@dataclass(frozen=True)
class TrainingLabels:
    """The training set.

    Args:
        table: one row per text: ``text_id, text, group_id, crowd_label, llm_label, label, origin, weight``; ``origin``
            is ``crowd``, ``llm`` or ``fused`` (a mixture), and ``weight`` is the text's in the loss, above 0 and at
            most 1. The pool's crowd labels are NaN unless the upper reference asked for them. If LLM labels were
            calibrated, there is also a column ``llm_calibrated``.
        replaced: number of texts whose label is no longer the crowd's, fused ones included.
        augmented: number of texts that came from the pool.
        without_llm_label: number of texts whose LLM label was needed but missing; a crowd label stayed
            unchanged, and a pool text was left out.
        left_out: number of texts with no label at all.
        fused: number of texts whose label is a mixture.
        dropped: number of texts that correction left out of training.
        facts: results of the policy by name: ``alpha`` (the threshold in use, the scale's units), ``llm_share`` (mean
            share of the LLM in crowd texts' labels), ``crowd_reliability`` (precision and posterior), ``crowd_error``
            and ``llm_error`` (mean squared, precision only), ``ratings`` (the harmonic mean of the numbers of ratings
            behind the crowd labels, if they differ), ``effective_size`` (``sum(w)^2 / sum(w^2)``, Kish 1965,
            "Survey Sampling", if weights differ).
        by_group: what calibration by group changes, see `invitro.application.calibration.by_group_report`.
    """

    table: pd.DataFrame
    replaced: int
    augmented: int
    without_llm_label: int
    left_out: int
    fused: int
    dropped: int
    facts: Mapping[str, float]
    by_group: pd.DataFrame | None

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the rows in order: equal labels and weights have equal fingerprints, however they were made."""
        weight = ["weight"] if (self.table["weight"] != 1).any() else []
        rows = self.table[["text_id", "text", "label", *weight]]
        return hashlib.sha256(rows.to_csv(index=False).encode()).hexdigest()

    def record(self) -> pd.DataFrame:
        """Return the content of ``labels.csv``."""
        return self.table.loc[:, [*RECORD, *(name for name in ("llm_calibrated", "crowd_n") if name in self.table)]]


def with_pool(application: Application, table: pd.DataFrame, sets_aside: bool) -> Application:
    """Return the application with the pool that ``application.pool=auto`` means.

    A published corpus sets a share aside, as the paper does. A user's own table gives up no human label: its pool
    is its unrated texts. If it has none, nothing is added, and ``both`` only corrects.

    Args:
        application: any; a pool other than ``auto`` stays.
        table: a canonical table.
        sets_aside: whether the corpus sets a share aside by default.

    Raises:
        InputError: augmentation without correction, and every text is rated.
    """
    if application.pool != AUTO_POOL:
        return application
    if sets_aside or application.pool_labels == "crowd":
        return replace(application, pool=SET_ASIDE)
    if (table["split"] == "unlabelled").any():
        return replace(application, pool=UNLABELLED)
    if application.augmentation and not application.correction:
        raise InputError(
            f"application={application.name} adds unrated texts, but here every text is rated; choose "
            "application=correction, application.pool=FILE with further texts, or application.pool=set_aside, which "
            f"gives up the crowd labels of {application.pool_share:.0%} of the training texts"
        )
    return replace(application, pool=NO_POOL, augmentation=False)


def divide(table: pd.DataFrame, application: Application) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Divide a corpus's texts into training texts and the pool that the corpus itself provides.

    Args:
        table: a canonical table.
        application: its `pool`; if that is another corpus or a file, the pool returned here is empty.

    Returns:
        The rows for training, and the pool's. A set-aside share leaves training under every application, so that all
        applications train on the same crowd labels.

    Raises:
        InputError: a set-aside share that takes all texts or none, or an unlabelled pool that is empty.
    """
    training = table.loc[(table["split"] == "train") & table["crowd_label"].notna()]
    if application.pool == SET_ASIDE:
        chosen = seeded_share(len(training), application.pool_share, application.pool_seed)
        if len(training) and not 0 < chosen.sum() < len(training):
            raise InputError(
                f"application.pool_share={application.pool_share:g} of {len(training)} training texts sets "
                f"{int(chosen.sum())} aside and leaves {int((~chosen).sum())}; choose a share that leaves texts in "
                "both, or application.pool=none"
            )
        return training.loc[~chosen], training.loc[chosen]
    if application.pool == UNLABELLED:
        pool = table.loc[table["split"] == "unlabelled"]
        if pool.empty and application.augmentation:
            raise InputError(
                "application.pool=unlabelled: this corpus has no texts without crowd labels; "
                "choose application.pool=set_aside, another corpus, or a table file"
            )
        return training, pool
    return training, table.iloc[:0]


def training_labels(
    training: pd.DataFrame,
    pool: pd.DataFrame,
    llm_label: "pd.Series[float] | None",
    application: Application,
    alpha: float,
    *,
    alpha_quantile: float | None = None,
    llm_spread: "pd.Series[float] | None" = None,
    bounds: tuple[float, float] = UNBOUNDED,
    ratings: pd.DataFrame | None = None,
    kernel: Kernel | None = None,
    people: pd.DataFrame | None = None,
) -> TrainingLabels:
    """Apply correction and augmentation.

    If texts have different numbers of ratings (``crowd_n``), a crowd label with more ratings is changed less easily,
    leaves the LLM a smaller share, and counts more, see `_trust`.

    LLM labels are calibrated first, so that alpha compares labels on one scale. Calibration and the errors behind
    ``precision`` are estimated on the texts that are trained on with crowd labels.

    Args:
        training: canonical rows with crowd labels.
        pool: canonical rows that augmentation may use.
        llm_label: LLM labels indexed by ``text_id``, NaN or absent if missing; None if none are needed.
        application: what to do; its policy is not ``auto``.
        alpha: correction's threshold, the scale's units.
        alpha_quantile: sets alpha so that this share of the compared texts is beyond it; see `quantile_alpha`.
        llm_spread: the LLM's spread indexed in the same way, the scale's units.
        bounds: lowest and highest label of the scale.
        ratings: each LLM's labels, one column per LLM, indexed by ``text_id``; for ``posterior``.
        kernel: how similar texts are; for ``posterior``.
        people: single ratings of texts, one column per rating, indexed by ``text_id``; for ``posterior``. None if each
            text has one.

    Raises:
        InputError: no training text is left, or too few to calibrate or to estimate errors on.
    """
    if application.policy == "auto":
        raise ValueError("policy auto has to be chosen before labels are made")
    if application.spread_setting and llm_spread is None:
        raise ValueError(f"{application.spread_setting} needs llm_spread")
    rows, from_pool = _rows(training, pool, application)
    added = from_pool & (application.pool_labels == "llm")
    crowd, wanted = rows["crowd_label"].to_numpy(), _by_id(rows, llm_label)
    llm, by_group = wanted, None
    if application.needs_llm_labels:
        groups = rows["group_id"].to_numpy()
        members = _members(rows, application.calibration_groups)
        llm = calibrated(application.calibration, crowd, wanted, groups, bounds, application.shrinkage, members)
        if members is not None:
            by_group = by_group_report(crowd, wanted, llm, members, groups)
    if application.policy == "posterior":
        if ratings is None or kernel is None:
            raise ValueError("application=posterior needs ratings and kernel")
        fused, facts = _posterior(rows, ratings, kernel, people)
    else:
        fused, facts = _corrected(rows, llm, _by_id(rows, llm_spread), application, alpha, alpha_quantile)
        fused = fused._replace(label=np.where(added, llm, fused.label))
    share = np.where(added, 1.0, fused.share)
    trust = _trust(rows)
    if trust is not None:
        facts["ratings"] = trust.typical
    weight = np.where(added, application.pool_weight, 1.0) * fused.weight
    if trust is not None and application.policy != "posterior":  # whose labels are already equally reliable
        weight *= np.where(share == 1, 1.0, trust.weight)  # an LLM's label has no ratings
    table = rows[["text_id", "text", "group_id", "crowd_label"]].assign(
        llm_label=wanted,
        label=fused.label,
        origin=np.select([share == 0, share == 1], ["crowd", "llm"], "fused"),
        weight=weight,
    )
    if "crowd_n" in rows:
        table["crowd_n"] = rows["crowd_n"].where(rows["crowd_label"].notna(), 0).fillna(0).astype("int64")
    if application.calibration != "none":
        table["llm_calibrated"] = llm
    labelled = table["label"].notna().to_numpy()
    kept = labelled & fused.kept & (weight > 0)
    _refuse_nothing(labelled, kept, application, alpha)
    counted = table["weight"][kept]
    if counted.nunique() > 1:
        facts["effective_size"] = float(counted.sum() ** 2 / (counted**2).sum())
    return TrainingLabels(
        table=table.loc[kept].reset_index(drop=True),
        replaced=int((~added & kept & (share != 0)).sum()),
        augmented=int((from_pool & kept).sum()),
        without_llm_label=int(((added | application.correction) & np.isnan(wanted)).sum()),
        left_out=int((~labelled).sum()),
        fused=int((kept & (table["origin"] == "fused")).sum()),
        dropped=int((labelled & ~kept).sum()),
        facts=facts,
        by_group=by_group,
    )


def _members(rows: pd.DataFrame, column: str | None) -> "pd.Series[str] | None":
    """Return the group of each text's author if calibration is by group; demographics are in bands."""
    if column is None:
        return None
    if column not in rows or rows[column].isna().all():
        available = [name for name in DEMOGRAPHICS if name in rows and rows[name].notna().any()]
        raise InputError(
            f"application.calibration_groups={column}: expected a column of the corpus with the groups of people, such "
            f"as {', '.join(available) or 'gender'}; found none of this name with values"
        )
    return banded(rows[column], column).astype("object").map(str, na_action="ignore")


def _rows(training: pd.DataFrame, pool: pd.DataFrame, application: Application) -> tuple[pd.DataFrame, Bools]:
    """Return the training texts with the used share of the pool, and which rows are the pool's, (rows,).

    The pool's crowd labels are hidden, unless the upper reference trains on them.
    """
    pool = pool.loc[seeded_share(len(pool), application.portion, application.pool_seed + 1)]
    if application.pool_labels == "llm":
        pool = (pool if application.augmentation else pool.iloc[:0]).assign(crowd_label=np.nan)
    rows = pd.concat([training, pool], ignore_index=True)
    return rows, np.arange(len(rows)) >= len(training)


def _by_id(rows: pd.DataFrame, values: "pd.Series[float] | None") -> Floats:
    """Return values of the rows' texts, NaN if missing."""
    return np.asarray(rows["text_id"].map({} if values is None else values), dtype=np.float64)


def _corrected(
    rows: pd.DataFrame,
    llm: Floats,
    spread: Floats,
    application: Application,
    alpha: float,
    alpha_quantile: float | None,
) -> tuple[Fused, dict[str, float]]:
    """Act on the texts beyond alpha; return the result for all rows, and the policy's facts."""
    crowd, per_spread = rows["crowd_label"].to_numpy(), application.alpha_per_spread
    if not application.correction:
        return fuse("replace", crowd, llm, np.inf), {}
    # If the LLM is too unsure, its label counts as missing.
    comparable = llm if application.max_spread is None else np.where(spread <= application.max_spread, llm, np.nan)
    trust = _trust(rows)
    surer: float | Floats = 1.0 if trust is None else np.sqrt(trust.relative)
    if alpha_quantile is not None:
        alpha = quantile_alpha(crowd / surer, comparable / surer, alpha_quantile, spread / surer, per_spread)
    threshold, facts = thresholds(alpha * surer, spread, per_spread), {"alpha": float(alpha)}
    share: float | Floats = 1.0 if application.blend_weight is None else application.blend_weight
    if application.policy == "precision" and beyond(crowd, comparable, threshold).any():
        share, estimates = _precision(rows, llm, spread, application)
        facts |= estimates
    if trust is not None:
        share = share / (share + (1 - share) * trust.relative)
    fused = fuse(application.policy, crowd, comparable, threshold, share)
    rated = ~np.isnan(crowd)
    return fused, facts | {"llm_share": float(fused.share[rated].mean()) if rated.any() else 0.0}


class _Trust(NamedTuple):
    """What the numbers of ratings say about crowd labels, see `_trust`.

    Args:
        relative: m_i / h, the number of ratings as a multiple of `typical`, (rows,); 1 without a crowd label.
        weight: in the loss, (rows,), above 0 and at most 1.
        typical: h.
    """

    relative: Floats
    weight: Floats
    typical: float


def _trust(rows: pd.DataFrame) -> _Trust | None:
    """Return how far to trust each crowd label given its number of ratings; None if the numbers do not differ.

    The error variance of a mean of m_i ratings is v / m_i, and h, the harmonic mean of all m_i, has the error variance
    of labels on average. So alpha, an LLM's share w and estimated errors apply unchanged if m_i = h, and otherwise::

        alpha_i = alpha sqrt(m_i / h)                          as many standard errors of the label
        w_i     = w / (w + (1 - w) m_i / h)                    w / (1 - w) is the ratio of error variances
        weight  = r(m_i) / r(max m),  r(m) = T / (T + v / m)   the label's reliability (Spearman 1910, Brown 1910)

    v is the variance of ratings within texts, T that of labels minus ``v / h``. Without two ratings of one text v is
    unknown, and the weights are 1.
    """
    if "crowd_n" not in rows:
        return None
    rated = rows["crowd_label"].notna().to_numpy() & (rows["crowd_n"] > 0).to_numpy()
    number = rows["crowd_n"].to_numpy(dtype=np.float64)[rated]
    if not len(number) or number.min() == number.max():
        return None
    typical = float(1 / np.mean(1 / number))
    relative, weight = np.ones(len(rows)), np.ones(len(rows))
    relative[rated] = number / typical
    squares = np.nan_to_num(rows["crowd_sd"].to_numpy(dtype=np.float64)[rated]) ** 2
    within = float(((number - 1) * squares).sum() / (number - 1).sum())
    if within > 0:
        texts = max(float(rows["crowd_label"].to_numpy()[rated].var()) - within / typical, 0.0)
        most = number.max()
        weight[rated] = number * (texts * most + within) / (most * (texts * number + within))
    return _Trust(relative, weight, typical)


MOST_GAPS = 2000
"""Gaps in the table of ratings up to which single ratings enter the model of raters: its time is cubic in them."""


def _single_ratings(rows: pd.DataFrame, people: pd.DataFrame | None, llms: Floats) -> Floats:
    """Return people's ratings, (rows, columns): each text's first ratings, and the mean of the others as the last.

    There are as many columns as possible with few gaps and ratings of enough texts; a single one is the crowd label.
    """
    crowd = rows["crowd_label"].to_numpy(dtype=np.float64)[:, None]
    if people is None:
        return crowd
    single = people.reindex(rows["text_id"]).astype("float64")
    single[np.isnan(crowd[:, 0])] = np.nan
    for columns in range(single.shape[1], 1, -1):
        last = single.iloc[:, columns - 1 :].mean(axis=1)
        ratings = np.column_stack([single.iloc[:, : columns - 1], last])
        enough = last.count() >= LEAST_TEXTS and last.std(ddof=0) > 0
        if enough and np.isnan(np.column_stack([ratings, llms])).sum() <= MOST_GAPS:
            return ratings
    return crowd


def _posterior(
    rows: pd.DataFrame, ratings: pd.DataFrame, kernel: Kernel, people: pd.DataFrame | None
) -> tuple[Fused, dict[str, float]]:
    """Return true scores as estimated from crowd and LLMs, in the form of crowd ratings, and the crowd's reliability.

    The LLMs' share in a label differs from text to text and is not known: it is NaN.
    """
    from invitro.raters.joint import fit_raters

    by_llms = ratings.reindex(rows["text_id"]).to_numpy(dtype=np.float64)
    by_people = _single_ratings(rows, people, by_llms)
    llms = [*[False] * by_people.shape[1], *[True] * ratings.shape[1]]
    names = ["the crowd", *(f"person {number}" for number in range(2, by_people.shape[1] + 1)), *map(str, ratings)]
    model = fit_raters(np.column_stack([by_people, by_llms]), kernel(rows["text_id"].tolist()), llms, names)
    unknown = np.full(len(rows), np.nan)
    facts = {"crowd_reliability": model.reliability.value}
    return Fused(model.single, unknown, np.ones(len(rows)), np.ones(len(rows), dtype=bool)), facts


def _precision(
    rows: pd.DataFrame, llm: Floats, spread: Floats, application: Application
) -> tuple[float | Floats, dict[str, float]]:
    """Return the LLM's share in each label, and the errors behind it, estimated on all texts with both labels."""
    both = rows["crowd_label"].notna().to_numpy() & ~np.isnan(llm)
    rated, crowd, reliability = rows[both], rows["crowd_label"].to_numpy()[both], application.crowd_reliability
    if reliability is None:
        counts = word_counts(rated["text"].tolist())
        from_words = out_of_fold(counts, crowd, rated["group_id"], "application=precision")
        reliability = triad_reliability(crowd, llm[both], from_words)
    errors = mean_squared_errors(crowd, llm[both], reliability)
    share = precision_share(errors, spread, application.spread_share or 0.0)
    return share, {"crowd_reliability": reliability, "crowd_error": errors.crowd, "llm_error": errors.llm}


def _refuse_nothing(labelled: Bools, kept: Bools, application: Application, alpha: float) -> None:
    """Refuse to train without any text."""
    if not labelled.any():
        raise InputError("no training text has a label: check the corpus's training split and its crowd labels")
    if not kept.any():
        raise InputError(
            f"application={application.name} alpha={alpha:g}: all {int(labelled.sum())} training texts are beyond "
            "alpha, so none is left to train on; choose a larger alpha"
        )
