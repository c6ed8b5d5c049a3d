"""From texts with crowd and LLM labels to the labels that a model is trained on."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from invitro.application.fusion import Bools, corrected, on_the_crowds_scale
from invitro.application.policy import NO_POOL, SET_ASIDE, UNLABELLED, Application, seeded_share
from invitro.errors import InputError

RECORD = ("text_id", "crowd_label", "llm_label", "label", "origin", "weight")
UNBOUNDED = (-np.inf, np.inf)


@dataclass(frozen=True)
class TrainingLabels:
    """The training set.

    Args:
        table: one row a text: ``text_id, text, crowd_label, llm_label, label, origin, weight``; ``origin`` is
            ``crowd``, ``llm`` or ``fused`` (some of both), and ``weight`` what the text counts in the loss, above 0 and
            at most 1. The pool's crowd labels are NaN unless the upper reference asked for them. Where LLM labels were
            calibrated, ``llm_calibrated`` stands beside them.
        replaced: texts of the crowd whose label is not the crowd's any more, fused ones included.
        augmented: texts that came from the pool.
        without_llm_label: texts for which an LLM label was wanted and missing; a crowd label stayed as it was, and a
            pool text was left out.
        left_out: texts with no label at all.
        fused: texts whose label is some of both.
        dropped: texts that correction left out of training.
        facts: numbers that the policy found, by name: ``alpha`` (the threshold in use, the scale's units),
            ``llm_share`` (mean share of the LLM in crowd texts' labels), ``crowd_reliability``, ``crowd_error`` and
            ``llm_error`` (mean squared, precision only), ``effective_size`` (Kish's, where weights differ).
    """

    table: pd.DataFrame
    replaced: int = 0
    augmented: int = 0
    without_llm_label: int = 0
    left_out: int = 0
    fused: int = 0
    dropped: int = 0
    facts: Mapping[str, float] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        """Hash of the rows in order: whatever led to the same labels and weights has the same fingerprint."""
        weighted = ["weight"] if (self.table["weight"] != 1).any() else []
        rows = self.table[["text_id", "text", "label", *weighted]]
        return hashlib.sha256(rows.to_csv(index=False).encode()).hexdigest()

    def record(self) -> pd.DataFrame:
        """Return the columns of ``labels.csv``."""
        return self.table.loc[:, [*RECORD, *({"llm_calibrated"} & set(self.table))]]


def divide(table: pd.DataFrame, application: Application) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Divide a corpus's texts into training texts and the pool that the corpus itself offers.

    Args:
        table: a canonical table.
        application: its `pool`; another corpus or a file offers no texts of this one, so that the pool is empty.

    Returns:
        The rows for training, and the pool's. A set-aside share leaves training whatever the application, so that all
        applications train on the same crowd labels.
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


def names_own_pool(application: Application) -> bool:
    """Whether the pool comes from the corpus itself, so that nothing else has to be read."""
    return application.pool in (SET_ASIDE, UNLABELLED, NO_POOL, None)


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
) -> TrainingLabels:
    """Apply correction and augmentation.

    LLM labels are calibrated first, so that alpha compares what is on one scale. Calibration and the errors behind
    ``precision`` are estimated on `training` alone.

    Args:
        training: canonical rows that people labelled.
        pool: canonical rows that augmentation may use.
        llm_label: LLM labels indexed by ``text_id``, NaN or absent where there is none; None when none are needed.
        application: what to do; its policy is not ``auto``.
        alpha: correction's threshold, the scale's units.
        alpha_quantile: sets alpha so that this share of the compared texts lies beyond it; see `fusion.quantile_alpha`.
        llm_spread: the LLM's spread indexed likewise, the scale's units.
        bounds: lowest and highest label of the scale.

    Raises:
        InputError: no training text is left, or too few to calibrate or to estimate errors on.
    """
    if application.policy == "auto":
        raise ValueError("policy auto has to be chosen before labels are made")
    pool = pool.loc[seeded_share(len(pool), application.portion, application.pool_seed + 1)]
    if application.pool_labels == "crowd":
        crowd, added = pd.concat([training, pool]), pool.iloc[:0]
    else:
        crowd, added = training, pool if application.augmentation else pool.iloc[:0]
    source = pd.concat([crowd, added.assign(crowd_label=np.nan)], ignore_index=True)
    from_pool = np.arange(len(source)) >= len(crowd)
    rows = source[["text_id", "text", "crowd_label"]].assign(llm_label=_by_id(source, llm_label))
    llm = on_the_crowds_scale(source, rows["llm_label"].to_numpy(), application, bounds)
    if application.spread_setting and llm_spread is None:
        raise ValueError(f"{application.spread_setting} needs llm_spread")
    spread = None if llm_spread is None else np.asarray(_by_id(source, llm_spread), dtype=np.float64)
    fused, facts = corrected(source, llm, spread, application, alpha, alpha_quantile)
    rows["label"] = np.where(from_pool, llm, fused.label)
    share = np.where(from_pool, 1.0, fused.share)
    rows["origin"] = np.select([share == 0, share == 1], ["crowd", "llm"], "fused")
    rows["weight"] = np.where(from_pool, application.pool_weight, fused.weight)
    if application.calibration != "none":
        rows["llm_calibrated"] = llm
    wanted = from_pool | application.correction
    without = int((wanted & rows["llm_label"].isna()).sum())
    labelled = rows["label"].notna().to_numpy()
    kept = labelled & fused.kept & (rows["weight"] > 0).to_numpy()
    _refuse_nothing(labelled, kept, application, alpha)
    if (weight := rows["weight"][kept]).nunique() > 1:
        facts["effective_size"] = float(weight.sum() ** 2 / (weight**2).sum())
    joined_pool = from_pool if application.pool_labels == "llm" else np.arange(len(rows)) >= len(training)
    return TrainingLabels(
        table=rows.loc[kept].reset_index(drop=True),
        replaced=int((~from_pool & kept & (share > 0)).sum()),
        augmented=int((joined_pool & kept).sum()),
        without_llm_label=without,
        left_out=int((~labelled).sum()),
        fused=int((kept & (rows["origin"] == "fused")).sum()),
        dropped=int((labelled & ~kept).sum()),
        facts=facts,
    )


def _by_id(rows: pd.DataFrame, values: "pd.Series[float] | None") -> "pd.Series[float]":
    found = np.nan if values is None else rows["text_id"].map(values)
    return pd.Series(found, index=rows.index, dtype="float64")


def _refuse_nothing(labelled: Bools, kept: Bools, application: Application, alpha: float) -> None:
    """Refuse to train on no text at all."""
    if not labelled.any():
        raise InputError("no training text has a label: check the corpus's training split and its crowd labels")
    if not kept.any():
        raise InputError(
            f"application={application.name} alpha={alpha:g}: all {int(labelled.sum())} training texts lie beyond "
            "alpha, so that none counts any more; choose a larger alpha"
        )
