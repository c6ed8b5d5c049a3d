"""From texts with crowd and LLM labels to the labels that a model is trained on."""

import hashlib
from dataclasses import dataclass

import numpy as np
import pandas as pd

from invitro.application.policy import NO_POOL, SET_ASIDE, UNLABELLED, Application, correct, seeded_share
from invitro.errors import InputError

RECORD = ("text_id", "crowd_label", "llm_label", "label", "origin")


@dataclass(frozen=True)
class TrainingLabels:
    """The training set.

    Args:
        table: one row a text: ``text_id, text, crowd_label, llm_label, label, origin``; ``origin`` is ``crowd`` or
            ``llm``. The pool's crowd labels are NaN unless the upper reference asked for them.
        replaced: crowd labels that correction replaced.
        augmented: texts that came from the pool.
        without_llm_label: texts for which an LLM label was wanted and missing; a crowd label stayed as it was, and a
            pool text was left out.
        left_out: texts with no label at all.
    """

    table: pd.DataFrame
    replaced: int = 0
    augmented: int = 0
    without_llm_label: int = 0
    left_out: int = 0

    @property
    def fingerprint(self) -> str:
        """Hash of the rows in order: whatever led to the same labels has the same fingerprint."""
        rows = self.table[["text_id", "text", "label"]]
        return hashlib.sha256(rows.to_csv(index=False).encode()).hexdigest()

    def record(self) -> pd.DataFrame:
        """Return the columns of ``labels.csv``."""
        return self.table.loc[:, list(RECORD)]


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
) -> TrainingLabels:
    """Apply correction and augmentation.

    Args:
        training: canonical rows that people labelled.
        pool: canonical rows that augmentation may use.
        llm_label: LLM labels indexed by ``text_id``, NaN or absent where there is none; None when none are needed.
        application: what to do.
        alpha: correction's threshold, the scale's units.

    Raises:
        InputError: no training text is left.
    """
    pool = pool.loc[seeded_share(len(pool), application.portion, application.pool_seed + 1)]
    if application.pool_labels == "crowd":
        crowd, added = pd.concat([training, pool]), pool.iloc[:0]
    else:
        crowd, added = training, pool if application.augmentation else pool.iloc[:0]
    rows = pd.concat(
        [
            _with_llm_label(crowd, llm_label),
            _with_llm_label(added.assign(crowd_label=np.nan), llm_label),
        ],
        ignore_index=True,
    )
    from_pool = np.arange(len(rows)) >= len(crowd)
    alpha = alpha if application.correction else np.inf
    label, replaced = correct(rows["crowd_label"].to_numpy(), rows["llm_label"].to_numpy(), alpha)
    rows["label"] = np.where(from_pool, rows["llm_label"], label)
    rows["origin"] = np.where(replaced | from_pool, "llm", "crowd")
    wanted = from_pool | application.correction
    without = int((wanted & rows["llm_label"].isna()).sum())
    labelled = rows["label"].notna().to_numpy()
    if not labelled.any():
        raise InputError("no training text has a label: check the corpus's training split and its crowd labels")
    joined_pool = from_pool if application.pool_labels == "llm" else np.arange(len(rows)) >= len(training)
    return TrainingLabels(
        table=rows.loc[labelled].reset_index(drop=True),
        replaced=int(replaced.sum()),
        augmented=int((joined_pool & labelled).sum()),
        without_llm_label=without,
        left_out=int((~labelled).sum()),
    )


def _with_llm_label(rows: pd.DataFrame, llm_label: "pd.Series[float] | None") -> pd.DataFrame:
    found = np.nan if llm_label is None else rows["text_id"].map(llm_label).astype("float64")
    return rows[["text_id", "text", "crowd_label"]].assign(llm_label=found)
