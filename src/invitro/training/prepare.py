"""Everything that is read and decided before a model loads: corpus, pool, LLM labels, training labels."""

import hashlib
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from invitro.application import Application, TrainingLabels, training_labels
from invitro.application.choosing import Choice, choose, described
from invitro.application.training_labels import Kernel, divide, with_pool
from invitro.data import Corpus, DataFolder, Leaks, Reader, leaks, refuse_shared_texts
from invitro.data.facts import CorpusFacts, corpus_facts
from invitro.errors import InputError, refuse_if_any
from invitro.labels import LabelSet, LabelSource
from invitro.labels.source import LABEL_OF, SPENT, by_text, ratings_of
from invitro.raters.precision import label_issues
from invitro.scales import Scale
from invitro.tables import numbers
from invitro.writing.words import count

if TYPE_CHECKING:
    from invitro.models.features import Embedded

    Embed = Callable[[Sequence[str]], Embedded]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prepared:
    """The texts and labels of one run.

    Args:
        corpus: texts with crowd labels and splits.
        training: the rows that are trained on with their crowd labels.
        pool: the rows that augmentation may add.
        llm_label: LLM labels indexed by ``text_id``, NaN if missing; None if none are needed.
        label_sets: the label sets they come from.
        scale: the scale of all labels.
        application: how LLM labels are used; its policy is never ``auto``.
        alpha: correction's threshold, the scale's units.
        alpha_quantile: sets the threshold by the share of texts beyond it, instead of `alpha`.
        llm_spread: the LLM's spread indexed like its labels, if the label sets have one.
        spent: the cost of each text's LLM label, in columns `SPENT`, NaN if its label set does not record it.
        choice: how application and alpha were chosen, if ``application=auto`` chose them.
        ratings: each LLM's own labels, and `kernel`, how similar texts are: for ``posterior`` and ``auto``.
        unused: the name of LLM labels that are in the corpus's table but that the application does not need, and
            these labels, indexed by ``text_id``.
        kept: the training labels that remain after `cleaned`, and `wrong`, the number it left out.
    """

    corpus: Corpus
    training: pd.DataFrame
    pool: pd.DataFrame
    llm_label: "pd.Series[float] | None"
    label_sets: tuple[LabelSet, ...]
    scale: Scale
    application: Application
    alpha: float
    alpha_quantile: float | None = None
    llm_spread: "pd.Series[float] | None" = None
    spent: pd.DataFrame | None = None
    choice: Choice | None = None
    ratings: pd.DataFrame | None = None
    kernel: Kernel | None = None
    unused: "tuple[str, pd.Series[float]] | None" = None
    kept: TrainingLabels | None = None
    wrong: int = 0

    @cached_property
    def labels(self) -> TrainingLabels:
        """The training labels: the application, applied."""
        return self.kept or self.labels_by(self.training, self.application, self.alpha)

    def labels_by(self, training: pd.DataFrame, application: Application, alpha: float) -> TrainingLabels:
        """Return the training labels that another application makes from some of the training texts and the pool."""
        return training_labels(
            training,
            self.pool,
            self.llm_label,
            application,
            alpha,
            alpha_quantile=self.alpha_quantile,
            llm_spread=self.llm_spread,
            bounds=(self.scale.minimum, self.scale.maximum),
            ratings=self.ratings,
            kernel=self.kernel,
            people=self.corpus.single_ratings,
        )

    @property
    def applied(self) -> dict[str, Any]:
        """How LLM labels were used, in plain values for the record: settings, and the numbers they led to.

        JSON has no infinity: without an alpha nothing is corrected.
        """
        settings = {"name": self.application.name, **described(self.application, self.alpha), **self.labels.facts}
        return {key: value for key, value in settings.items() if value not in (None, np.inf)}

    @cached_property
    def crowd_labels(self) -> dict[str, int]:
        """What becomes of the crowd labels of the corpus's training texts, in numbers of texts.

        ``kept`` stay unchanged; ``given_up`` do not, because the text was set aside as the pool (``set_aside`` of
        them), or its label was replaced, fused or left out; ``added`` texts of the pool have an LLM label.
        An application that adds nothing gives up the pool's labels too, so that all see the same crowd labels.
        """
        labels, whole = self.labels.table, self.corpus.of_split("train")
        rated = whole.loc[whole["crowd_label"].notna(), "text_id"]
        kept = rated.isin(labels.loc[labels["origin"] == "crowd", "text_id"])
        return {
            "kept": int(kept.sum()),
            "given_up": int((~kept).sum()),
            "set_aside": int((~kept & rated.isin(self.pool["text_id"])).sum()),
            "added": self.labels.augmented if self.application.pool_labels == "llm" else 0,
        }

    @cached_property
    def facts(self) -> CorpusFacts:
        """Facts about the corpus."""
        return corpus_facts(self.corpus, self.scale)

    @cached_property
    def evaluation_fingerprint(self) -> str:
        """Hash of the rows that are predicted: ids, texts, crowd labels of validation and test."""
        rows = self.corpus.of_split("val", "test")[["text_id", "text", "split", "crowd_label"]]
        return hashlib.sha256(rows.to_csv(index=False).encode()).hexdigest()

    @property
    def description(self) -> str:
        """One line on the training labels, for people."""
        labels, crowd = self.labels, self.crowd_labels
        parts = [f"{count(len(labels.table), 'training text')}: {crowd['kept']} keep their crowd label"]
        if aside := crowd["set_aside"]:
            parts.append(f"{aside} of {crowd['kept'] + crowd['given_up']} crowd labels set aside as the pool")
        if self.choice is not None:
            settings = described(self.application, self.alpha).items()
            chosen = ", ".join(f"{key}={value}" for key, value in settings if value is not None)
            parts.append(f"chosen by cross-validation: {chosen}")
        if labels.by_group is not None:
            changes = (
                f"{row.group} {row.before:+.2f} to {row.after:+.2f}"
                for row in labels.by_group.dropna(subset=["before"]).itertuples()
            )
            parts.append(f"LLM minus crowd by {self.application.calibration_groups}: {', '.join(changes)}")
        if self.application.correction:
            parts.append(self._correction())
        if labels.augmented:
            whose = "LLM" if self.application.pool_labels == "llm" else "crowd"
            parts.append(f"{count(labels.augmented, 'text')} added from the pool with {whose} labels")
        if ratings := labels.facts.get("ratings"):
            parts.append(
                f"crowd labels have different numbers of ratings (typically {ratings:.1f}): a label with more ratings "
                "counts more and is changed less easily"
            )
        if self.label_sets:
            parts.append("LLM labels: " + ", ".join(label_set.name for label_set in self.label_sets))
        if self.llm_label is not None and self.llm_label.isna().any():
            parts.append(f"{int(self.llm_label.isna().sum())} of {len(self.llm_label)} texts have no LLM label")
        if labels.without_llm_label:
            parts.append(
                f"{labels.without_llm_label} of these are needed in training: labelled texts keep their crowd label, "
                "pool texts are left out"
            )
        if labels.left_out:
            parts.append(f"{count(labels.left_out, 'text')} without any label left out")
        parts += self._held_back()
        if self.kept is not None:
            parts.append(f"{count(self.wrong, 'text')} left out whose labels looked wrong to cleanlab")
        return "; ".join(parts) + "."

    def _held_back(self) -> Iterator[str]:
        """Say which texts are not trained on, besides those whose labels were given up."""
        splits = self.corpus.table["split"].value_counts()
        held = [
            f"{splits[split]} for {name}"
            for split, name in (("val", "validation"), ("test", "test"))
            if split in splits
        ]
        if held:
            yield f"held back: {' and '.join(held)}"
        unrated = self.corpus.of_split("unlabelled")["text_id"]
        if unused := int((~unrated.isin(self.labels.table["text_id"])).sum()):
            yield f"not used: {count(unused, 'unrated text')}"

    def _correction(self) -> str:
        """Say what correction did, and at which threshold."""
        labels, policy = self.labels, self.application.policy
        if policy == "posterior":
            reliability = labels.facts["crowd_reliability"]
            return f"labels are estimated from crowd and LLM together (the crowd's reliability is {reliability:.2f})"
        alpha = f"alpha={labels.facts['alpha']:g}"
        if policy == "weight":
            size = labels.facts.get("effective_size", len(labels.table))
            return f"weighted by agreement ({alpha}), equivalent to {size:.0f} texts of equal weight"
        if policy == "drop":
            return f"{count(labels.dropped, 'text')} dropped ({alpha})"
        share = f", the LLM's mean share in all labels {labels.facts['llm_share']:.2f}" if labels.fused else ""
        return f"{labels.replaced} crowd labels {'fused' if labels.fused else 'replaced'} ({alpha}{share})"

    @cached_property
    def leaks(self) -> Leaks:
        """What training and evaluation texts have in common."""
        rows = pd.concat([self.training, self.pool])
        return leaks(rows[rows["text_id"].isin(self.labels.table["text_id"])], self.corpus)


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
    alpha_quantile: float | None = None,
    embed: "Embed | None" = None,
    validated: bool = True,
) -> Prepared:
    """Read and join what a run needs. Only the policies ``auto`` and ``posterior`` embed texts, or load PyTorch.

    Args:
        reader: reads the corpus.
        scale: the questionnaire.
        application: how LLM labels are used.
        alpha: correction's threshold, 0 to inf, the scale's units.
        source: where LLM labels come from; read only if the application needs them.
        prompt: the prompt the labels were made with.
        folder: where data files are.
        pool_reader: reader of the corpus or table that the pool comes from, if it is not the corpus itself.
        allow_shared_texts: whether a text may be in both training or pool and validation or test.
        alpha_quantile: instead of `alpha`, the share of texts beyond it.
        embed: features of texts by the frozen encoder, which ``posterior`` needs; None if the model has no encoder:
            then ``auto`` counts words.
        validated: whether training needs validation texts; models in closed form do not.

    Raises:
        InputError: files, ids, labels or splits are wrong.
    """
    corpus = reader.read(scale)
    application = with_pool(application, corpus.table, corpus.sets_aside)
    corpus.refuse_faults()
    training, pool = divide(corpus.table, application)

    def look_up(of: Corpus) -> SetAndRows:
        labels, ids = source.find(of.label_corpora, of.table, scale, prompt, folder), of.table["text_id"]
        columns = by_text(labels, ids, with_spread=application.spread_setting is not None)
        spent = labels.labels.reindex(index=pd.Index(ids), columns=list(SPENT)).astype("float64")
        return labels, columns.join([ratings_of(labels, ids, source.name), spent])

    sources: list[SetAndRows] = []
    if application.needs_llm_labels and (application.compares or application.own_pool):
        sources.append(look_up(corpus))
    if pool_reader is not None:
        other = pool_reader.read(scale)
        pool = other.table.assign(
            text_id=f"{other.name}:" + other.table["text_id"], group_id=f"{other.name}:" + other.table["group_id"]
        )
        if application.needs_llm_labels:
            _refuse_common_ids(source, corpus, other)
            labels, rows = look_up(other)
            sources.append((labels, rows.rename(index=lambda text_id: f"{other.name}:{text_id}")))
    _refuse_evaluation(corpus, sources, validated)
    _refuse_unusable(pool, application, sources)
    if not allow_shared_texts:
        refuse_shared_texts(pd.concat([training, pool]), corpus.of_split("val", "test"), corpus.name)
    unused = None
    if not sources and (column := source.own_column(corpus.table, prompt)):
        values = numbers(corpus.table[column], corpus.name)
        unused = f"{corpus.name}/{column}", values.set_axis(corpus.table["text_id"])
    by_id = pd.concat([rows for _, rows in sources]) if sources else pd.DataFrame()
    prepared = Prepared(
        corpus=corpus,
        training=training,
        pool=pool,
        llm_label=by_id.get("llm_label"),
        label_sets=tuple(labels for labels, _ in sources),
        scale=scale,
        application=application,
        alpha=float(alpha),
        alpha_quantile=alpha_quantile,
        llm_spread=by_id.get("spread"),
        spent=by_id.get(list(SPENT)),
        unused=unused,
    )
    if application.policy not in ("auto", "posterior"):
        return prepared
    ratings = by_id.filter(regex=f"^{LABEL_OF}").rename(columns=lambda name: name.removeprefix(LABEL_OF))
    return _by_all_raters(replace(prepared, ratings=ratings), embed)


SetAndRows = tuple[LabelSet, pd.DataFrame]
"""A label set, and its labels, spreads, costs and each LLM's own ratings in the rows of a corpus, by ``text_id``."""


def _by_all_raters(prepared: Prepared, embed: "Embed | None") -> Prepared:
    """Add what the policies ``posterior`` and ``auto`` need: similarities of texts, and for ``auto`` the choice."""
    application, training = prepared.application, prepared.training
    added = prepared.pool if application.augmentation else prepared.pool.iloc[:0]
    student = None
    if embed is not None:
        from invitro.models.closed_form import similarities
        from invitro.models.exact import Observed

        rows, labels = pd.concat([training, added]), training["crowd_label"].to_numpy(dtype=np.float64)
        ids, texts = rows["text_id"].tolist(), rows["text"].tolist()
        # Layers and noise are fitted to the crowd labels of the training texts.
        seen = Observed(labels, np.ones(len(labels)), training["group_id"].to_numpy())
        similar = similarities(ids, texts, embed(texts), seen)
        prepared, student = replace(prepared, kernel=similar.of), similar.student()
    if application.policy == "posterior":
        return prepared
    bounds = (prepared.scale.minimum, prepared.scale.maximum)
    choice = choose(training, added, prepared.labels_by, application, bounds, student)
    return replace(prepared, choice=choice, application=choice.application, alpha=float(choice.alpha))


def _refuse_common_ids(source: LabelSource, corpus: Corpus, other: Corpus) -> None:
    """Refuse one file of labels for the texts of two corpora, if their ids do not distinguish them."""
    same = set(other.table["text_id"]) & set(corpus.table["text_id"])
    if source.labels and same:
        raise InputError(
            f"{source.labels}: labels both {corpus.name} and {other.name}, which have ids in common such as "
            f"{min(same)!r}; give the pool's texts different ids"
        )


def _refuse_evaluation(corpus: Corpus, sources: Sequence[SetAndRows], validated: bool) -> None:
    """Refuse a corpus without the validation texts that training needs, and LLMs that were shown its labels."""
    if validated and corpus.of_split("val").empty:
        raise InputError(
            f"{corpus.name}: has no validation texts with crowd labels, which early stopping and the choice of weights "
            "need; choose data/split=holdout"
        )
    for labels, _ in sources:
        labels.refuse_evaluated(corpus.whole_ids(corpus.of_split("val", "test")))


def _refuse_unusable(pool: pd.DataFrame, application: Application, sources: Sequence[SetAndRows]) -> None:
    """Refuse texts and labels with which the requested training is impossible."""
    problems = []
    if application.augmentation and pool.empty:
        problems.append(f"application.pool={application.pool}: the pool is empty, so nothing can be added")
    if sources and not any(by_id["llm_label"].notna().any() for _, by_id in sources):
        problems.append(f"{sources[0][0].name}: the LLM labels are all missing; check the label column")
    elif application.spread_setting and not any(by_id["spread"].notna().any() for _, by_id in sources):
        names = ", ".join(labels.name for labels, _ in sources)
        problems.append(
            f"{application.spread_setting} needs the LLM's spread, which {names} does not have; choose llm=ensemble, "
            "or labels of several samples or of readout=expected"
        )
    refuse_if_any(problems)


def cleaned(prepared: Prepared, how: str, seed: int) -> Prepared:
    """Leave out the training texts whose labels `how`, a choice of ``fit.clean``, finds wrong.

    Crowd and LLM labels are treated alike. This follows the application, whose `TrainingLabels.facts` stay unchanged.

    Raises:
        InputError: there are too few texts, or they share no words.
    """
    if how == "none":
        return prepared
    labels, table = prepared.labels, prepared.labels.table
    wrong = label_issues(table["text"].tolist(), table["label"].to_numpy(dtype=np.float64), seed)
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
    return replace(prepared, kept=kept, wrong=int(wrong.sum()))
