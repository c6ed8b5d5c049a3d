"""Everything that is read and decided before a model loads: corpus, pool, LLM labels, training labels."""

import hashlib
from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from invitro.application import (
    Application,
    TrainingLabels,
    alpha_problem,
    divide,
    names_own_pool,
    training_labels,
)
from invitro.data import Corpus, DataFolder, Reader, refuse_shared_texts
from invitro.errors import InputError, refuse_if_any
from invitro.labels import LabelSet, LabelSource
from invitro.scales import Scale


@dataclass(frozen=True)
class Prepared:
    """The material of one run.

    Args:
        corpus: texts with crowd labels and splits.
        training: the rows that are trained on with their crowd labels.
        pool: the rows that augmentation may add.
        llm_label: LLM labels indexed by ``text_id``, NaN where there is none; None when none are needed.
        label_sets: the label sets that they come from.
        scale: the scale of all labels.
        application: what is done with LLM labels.
        alpha: correction's threshold, the scale's units.
    """

    corpus: Corpus
    training: pd.DataFrame
    pool: pd.DataFrame
    llm_label: "pd.Series[float] | None"
    label_sets: tuple[LabelSet, ...]
    scale: Scale
    application: Application
    alpha: float

    @cached_property
    def labels(self) -> TrainingLabels:
        """The training labels: the application, applied."""
        return training_labels(self.training, self.pool, self.llm_label, self.application, self.alpha)

    @property
    def evaluation_fingerprint(self) -> str:
        """Hash of the rows that are predicted: ids, texts, crowd labels of validation and test."""
        rows = self.corpus.of_split("val", "test")[["text_id", "text", "split", "crowd_label"]]
        return hashlib.sha256(rows.to_csv(index=False).encode()).hexdigest()

    @property
    def description(self) -> str:
        """One line on the training labels, for people."""
        labels, told = self.labels, []
        told.append(f"{len(labels.table)} training texts")
        if self.application.correction:
            told.append(f"{labels.replaced} crowd labels replaced (alpha={self.alpha:g})")
        if labels.augmented:
            told.append(f"{labels.augmented} texts added from the pool with {self.application.pool_labels} labels")
        if self.label_sets:
            told.append("LLM labels: " + ", ".join(one.name for one in self.label_sets))
        if self.llm_label is not None and self.llm_label.isna().any():
            told.append(f"{int(self.llm_label.isna().sum())} of {len(self.llm_label)} texts have no LLM label")
        if labels.without_llm_label:
            told.append(
                f"{labels.without_llm_label} of these are wanted in training: labelled texts keep their crowd label, "
                "pool texts are left out"
            )
        if labels.left_out:
            told.append(f"{labels.left_out} texts without any label left out")
        return "; ".join(told) + "."

    def evaluation(self, split: str) -> pd.DataFrame:
        """Return the rows of ``val`` or ``test``, exactly as the corpus has them."""
        return self.corpus.of_split(split)


def prepare(
    reader: Reader,
    scale: Scale,
    application: Application,
    alpha: float,
    source: LabelSource,
    prompt: str,
    folder: DataFolder,
    pool_reader: Reader | None = None,
    allow_shared_texts: bool = False,
) -> Prepared:
    """Read and join what a run needs; loads no model.

    Args:
        reader: of the corpus.
        scale: the questionnaire.
        application: what is done with LLM labels.
        alpha: correction's threshold, 0 to inf, the scale's units.
        source: whose LLM labels; looked for only when the application needs them.
        prompt: the prompt the labels were made with.
        folder: where data files lie.
        pool_reader: of the corpus or table that the pool comes from, when it is not the corpus itself.
        allow_shared_texts: whether a text may stand in training or pool and again in validation or test.

    Raises:
        InputError: whatever is wrong with alpha, files, ids, labels, splits.
    """
    problem = alpha_problem(alpha)
    if problem:
        raise InputError(problem)
    corpus = reader.read(scale)
    training, pool = divide(corpus.table, application)
    found: list[tuple[LabelSet, pd.Series[float]]] = []
    if application.needs_llm_labels and (application.correction or names_own_pool(application)):
        found.append(_look_up(source, corpus, scale, prompt, folder))
    if pool_reader is not None:
        other = pool_reader.read(scale)
        pool = other.table.assign(
            text_id=f"{other.name}:" + other.table["text_id"], group_id=f"{other.name}:" + other.table["group_id"]
        )
        if application.correction or (application.augmentation and application.pool_labels == "llm"):
            same = set(other.table["text_id"]) & set(corpus.table["text_id"])
            if source.labels and same:
                raise InputError(
                    f"{source.labels}: labels both {corpus.name} and {other.name}, which have ids in common such as "
                    f"{min(same)!r}; give the pool's texts ids of their own"
                )
            labels, by_id = _look_up(source, other, scale, prompt, folder)
            found.append((labels, by_id.rename(index=lambda text_id: f"{other.name}:{text_id}")))
    _check_usable(corpus, pool, application, [by_id for _, by_id in found])
    if not allow_shared_texts:
        refuse_shared_texts(pd.concat([training, pool]), corpus.of_split("val", "test"), corpus.name)
    return Prepared(
        corpus=corpus,
        training=training,
        pool=pool,
        llm_label=pd.concat([by_id for _, by_id in found]) if found else None,
        label_sets=tuple(labels for labels, _ in found),
        scale=scale,
        application=application,
        alpha=float(alpha),
    )


def _check_usable(
    corpus: Corpus, pool: pd.DataFrame, application: Application, llm_labels: "list[pd.Series[float]]"
) -> None:
    """Refuse material that would train on something else than was asked for, or could not be validated."""
    problems = []
    if corpus.of_split("val").empty:
        problems.append(
            f"{corpus.name}: has no validation texts with crowd labels, which early stopping and the choice of weights "
            "need; choose data/split=holdout"
        )
    if application.augmentation and pool.empty:
        problems.append(f"application.pool={application.pool}: the pool is empty, so that nothing can be added")
    if llm_labels and not any(labels.notna().any() for labels in llm_labels):
        problems.append(f"{corpus.name}: the LLM labels are all missing; check the label column")
    refuse_if_any(problems)


def _look_up(
    source: LabelSource, corpus: Corpus, scale: Scale, prompt: str, folder: DataFolder
) -> tuple[LabelSet, "pd.Series[float]"]:
    """Find the label set of a corpus, and its labels for the corpus's texts, indexed by ``text_id``."""
    labels = source.find(corpus.label_corpora, corpus.table, scale, prompt, folder)
    text_ids = corpus.table["text_id"]
    return labels, pd.Series(labels.of(text_ids).to_numpy(), index=pd.Index(text_ids), name="llm_label")
