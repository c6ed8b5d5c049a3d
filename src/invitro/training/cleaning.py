"""Leaving out training texts whose labels look wrong, by a library that needs no LLM."""

import logging
from dataclasses import dataclass, fields, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
import numpy.typing as npt

from invitro.application import TrainingLabels
from invitro.application.third_rater import PENALTY, word_counts
from invitro.errors import InputError
from invitro.training.prepare import Prepared

log = logging.getLogger(__name__)

FEWEST = 20
"""Training texts that the search needs: it leaves a fifth of them out and fits on four fifths of the rest."""


@dataclass(frozen=True)
class Cleaned(Prepared):
    """Prepared material of which some training texts were left out.

    Args:
        kept: the training labels that stay.
        wrong: how many texts were left out.
        by: the choice of ``fit.clean`` that found them.
    """

    kept: TrainingLabels | None = None
    wrong: int = 0
    by: str = "none"

    @cached_property
    def labels(self) -> TrainingLabels:
        """The training labels that stay."""
        assert self.kept is not None
        return self.kept

    @property
    def description(self) -> str:
        """One line on the training labels, for people."""
        return f"{super().description[:-1]}; {self.wrong} texts left out whose labels looked wrong to {self.by}."


def cleaned(prepared: Prepared, how: str, seed: int) -> Prepared:
    """Leave out the training texts whose labels `how`, a choice of ``fit.clean``, finds wrong.

    Crowd labels and LLM labels are looked at alike, after the application. What the application found
    (`TrainingLabels.facts`) stays as it was found.

    Raises:
        InputError: there are too few texts to look at, or they share no words.
    """
    if how == "none":
        return prepared
    labels = prepared.labels
    wrong = label_issues(labels.table["text"].tolist(), labels.table["label"].to_numpy(dtype=np.float64), seed)
    table = labels.table
    ours = table["text_id"].isin(prepared.training["text_id"])
    changed = table["crowd_label"].notna() & (table["origin"] != "crowd")
    log.info("fit.clean=%s: %d of %d training texts left out", how, int(wrong.sum()), len(wrong))
    kept = replace(
        labels,
        table=table.loc[~wrong].reset_index(drop=True),
        replaced=labels.replaced - int((wrong & changed).sum()),
        augmented=labels.augmented - int((wrong & ~ours).sum()),
        fused=labels.fused - int((wrong & (table["origin"] == "fused")).sum()),
    )
    as_it_was = {field.name: getattr(prepared, field.name) for field in fields(prepared)}
    return Cleaned(**as_it_was, kept=kept, wrong=int(wrong.sum()), by=how)


def label_issues(texts: list[str], labels: npt.NDArray[np.float64], seed: int) -> npt.NDArray[np.bool_]:
    """Return which labels, (texts,), cleanlab finds wrong.

    Its regression search (Zhou, Mueller, Kumar, Wang & Lei 2023, "Detecting Errors in Numerical Data via any Regression
    Model", arXiv 2305.16583) predicts every label out of fold, finds the share of labels without which the rest is
    predicted best, at most a fifth, and takes those away that are farthest from their prediction in units of the
    prediction's uncertainty. The model is ridge regression on TF-IDF of words and pairs of words.

    Args:
        texts: the training texts.
        labels: their labels, the scale's units.
        seed: of the folds; the result depends on nothing else.

    Raises:
        InputError: there are too few texts to look at, or they share no words.
    """
    from cleanlab.regression.learn import CleanLearning
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer

    if len(texts) < FEWEST:
        raise InputError(f"fit.clean=cleanlab: expected at least {FEWEST} training texts, found {len(texts)}")
    counts = word_counts(texts)
    # cleanlab makes a dense array of what it is given: row numbers are small, and the model looks the rows up.
    model = make_pipeline(FunctionTransformer(partial(_rows, counts)), Ridge(alpha=PENALTY, solver="sparse_cg"))
    state = np.random.get_state()  # cleanlab draws from NumPy's one generator
    try:
        found = CleanLearning(model, seed=seed).find_label_issues(np.arange(len(texts)), labels)
    finally:
        np.random.set_state(state)
    return np.asarray(found["is_label_issue"].to_numpy(dtype=bool))


def _rows(counts: Any, rows: npt.NDArray[np.intp]) -> Any:
    return counts[rows]
