"""The functions for notebooks; `import invitro` exports them as `invitro.NAME`. Models and studies are in `models`."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from invitro.api.models import describe, load, next_texts, study, train, worth
from invitro.api.values import (
    LONG,
    MOST_PAIRED,
    Augmented,
    RaterAgreement,
    TextInput,
    labels_in,
    long_in,
    ratings_in,
    texts_in,
)
from invitro.application.policy import Corrected, alpha_problem
from invitro.application.policy import correct as corrected
from invitro.errors import InputError, quoted, refuse_if_any
from invitro.scales import Scale
from invitro.settings import Count, Index, refusal
from invitro.stats.agreement import pairwise
from invitro.stats.crowd import of_matrix, reliability
from invitro.stats.intervals import Estimate
from invitro.stats.items import raters_table
from invitro.stats.moments import RESAMPLES

__all__ = [
    "agreement",
    "augment",
    "correct",
    "describe",
    "label",
    "load",
    "next_texts",
    "scale",
    "study",
    "train",
    "worth",
]


def scale(name: str | Path | Scale) -> Scale:
    """Return a questionnaire.

    Parameters
    ----------
    name
        A name in ``conf/scale/``, such as ``batson_empathy``, ``gad7`` or ``phq9``, or a YAML file like those; a
        `Scale` is returned unchanged.

    Returns
    -------
    invitro.scales.Scale
        Its items, their bounds, and how they become one score.

    Raises
    ------
    InputError
        There is no such scale, or the file's definition is wrong.

    Examples
    --------
    >>> empathy = scale("batson_empathy")
    >>> [item.name for item in empathy.items]
    ['sympathetic', 'moved', 'compassionate', 'tender', 'warm', 'softhearted']
    >>> empathy.minimum, empathy.maximum
    (1.0, 7.0)
    """
    from invitro.commands.direct import scale_of

    return scale_of(name)


def label(
    texts: TextInput,
    scale: str | Path | Scale,
    *,
    llm: str,
    prompt: str = "scale_aware",
    readout: str = "text",
    store: str | Path | None = None,
    overrides: Sequence[str] = (),
) -> pd.DataFrame:
    """Let an LLM score texts on a scale, item by item.

    Every answer is stored as it arrives: after an interruption, or for texts that were labelled before, only the
    missing answers are requested. `label.py` does the same for whole corpora.

    Parameters
    ----------
    texts
        Shape (n,).
    scale
        The questionnaire: a name, a file, or what `scale` returned.
    llm
        The LLM: a name in ``conf/llm/``, such as ``gpt`` or ``llama``; ``scripted`` needs no model and draws
        scores from a hash of the text, for trial runs.
    prompt
        The prompt: a name in ``conf/prompt/``.
    readout
        How scores are read from replies: ``text`` (decimals), ``digits`` or ``expected`` (the mean of each item's
        distribution).
    store
        The SQLite file that keeps the answers; None means ``runs/labels.sqlite``.
    overrides
        Any other setting of ``label.py``, as on its command line: ``["sampling.temperature=0.7", "samples=3"]``.

    Returns
    -------
    pandas.DataFrame
        Indexed like `texts`, in their order: ``score`` in the scale's units, ``spread`` (its standard deviation, if
        the readout or several samples give one), one column per scored item, within the item's bounds, and
        ``status``: ``ok``, or why there is no score (such as ``refused`` or ``unparseable``); scores are then NaN.

    Raises
    ------
    InputError
        A text is blank, or a setting is wrong.
    invitro.engines.base.EngineError
        The LLM cannot be reached.

    Examples
    --------
    >>> labels = label(["My heart aches for them.", "Just news."], "batson_empathy", llm="scripted")
    >>> list(labels.columns)
    ['score', 'sympathetic', 'moved', 'compassionate', 'tender', 'warm', 'softhearted', 'status']
    >>> labels["status"].tolist()
    ['ok', 'ok']
    """
    from invitro.commands.direct import composed, scale_of
    from invitro.commands.labelling import labellings
    from invitro.labelling.labeller import label as label_corpus
    from invitro.labelling.labeller import scored
    from invitro.labelling.texts import corpus_of
    from invitro.labels.answers import text_hash

    given, questionnaire = texts_in(texts), scale_of(scale)
    # Texts are identified by their content: the same text is asked about once, however often it occurs.
    ids = given.map(text_hash)
    corpus = corpus_of(pd.DataFrame({"text_id": ids, "text": given}).drop_duplicates("text_id"), questionnaire)
    kept = [] if store is None else [f"store={quoted(store)}"]
    settings = [f"llm={llm}", f"prompt={prompt}", f"readout={readout}", *kept, *overrides]
    with composed("label", ["data=table", "data.path=texts", *settings], questionnaire) as cfg:
        labelling = labellings(cfg, {"items": cfg.prompt}, dry_run=False)["items"]
    try:
        (done,) = label_corpus(corpus, labelling)
    finally:
        labelling.engine.close()
    return scored(labelling, done).reindex(ids).set_axis(given.index)


def correct(crowd: npt.ArrayLike, llm: npt.ArrayLike, alpha: float) -> Corrected:
    """Replace crowd labels that are more than `alpha` from the LLM's.

    ``label = llm where |crowd - llm| > alpha, strictly, else crowd``: Hasan et al., "Labels Generated by Large Language
    Models Help Measure People's Empathy in Vitro" (arXiv 2501.00691), the section on noise correction.

    Parameters
    ----------
    crowd, llm
        Labels of shape (n,) in the scale's units; NaN if missing. A missing LLM label replaces nothing.
    alpha
        The threshold, from 0 to inf, in the scale's units. 0 replaces every label that differs, inf none.

    Returns
    -------
    Corrected
        ``label`` and ``replaced`` (True where the LLM's label is used), arrays of shape (n,).

    Raises
    ------
    InputError
        The arrays differ in length or index, contain something other than numbers, or `alpha` is out of range.

    Examples
    --------
    >>> fixed = correct([1.0, 6.0, 3.0], [6.5, 5.0, float("nan")], alpha=4.0)
    >>> fixed.label
    array([6.5, 6. , 3. ])
    >>> fixed.replaced
    array([ True, False, False])
    """
    problem = alpha_problem(alpha)
    if problem:
        raise InputError(problem)
    labels = labels_in({"crowd": crowd, "llm": llm})
    return corrected(labels["crowd"], labels["llm"], alpha)


def augment(crowd: npt.ArrayLike, llm: npt.ArrayLike) -> Augmented:
    """Give the LLM's label to unrated texts.

    ``label = crowd, or llm where crowd is NaN``: Hasan et al. (arXiv 2501.00691), the section on data augmentation.
    After `correct`, it gives the labels that ``application=both`` trains on.

    Parameters
    ----------
    crowd, llm
        Labels of shape (n,) in the scale's units; NaN if missing.

    Returns
    -------
    Augmented
        ``label`` (NaN if both are missing) and ``added`` (True where the LLM's label is used), arrays of shape (n,).

    Raises
    ------
    InputError
        The arrays differ in length or index, or contain something other than numbers.

    Examples
    --------
    >>> more = augment([2.0, float("nan")], [2.5, 4.0])
    >>> more.label
    array([2., 4.])
    >>> more.added
    array([False,  True])
    """
    rated, other = labels_in({"crowd": crowd, "llm": llm}).values()
    added = np.isnan(rated) & ~np.isnan(other)
    return Augmented(np.where(added, other, rated), added)


def agreement(
    ratings: Mapping[str, npt.ArrayLike] | pd.DataFrame,
    groups: npt.ArrayLike | None = None,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> RaterAgreement:
    """Measure how far raters agree: Krippendorff's alpha, PCC, CCC, RMSE and bias with 95 % intervals.

    Krippendorff's alpha (2011, "Computing Krippendorff's Alpha-Reliability"), interval level; CCC after Lin (1989),
    "A Concordance Correlation Coefficient to Evaluate Reproducibility", Biometrics 45, with population variances;
    bootstrap over texts, or over groups of texts.

    Parameters
    ----------
    ratings
        Scores of shape (n,) by rater, or a DataFrame with one column per rater; in the scale's units, NaN if a rater
        gave none. At least two raters. Series are joined by their index. Or the long form: a DataFrame with
        ``text_id``, ``rater_id`` and ``score``, one row per rating.
    groups
        Who wrote each text, shape (n,), for the long form in the order of the sorted ids; an author's texts are then
        drawn together. None: each text has its own author.
    resamples
        Bootstrap draws, at least 1.
    seed
        Seed of the draws.

    Returns
    -------
    RaterAgreement
        ``krippendorff`` of all raters, and ``pairs``; ``table`` is a DataFrame. ``crowd`` has ICC(1), ICC(k) and the
        spread of the raters' biases, ``raters`` a row per rater with the signs of carelessness. RMSE and bias are in
        the scale's units, all other figures in [-1, 1]; bias is positive if the second rater scores higher. There is
        no interval with fewer than 10 groups.

    Raises
    ------
    InputError
        Fewer than two raters, different lengths, something other than finite numbers, or no text that two raters
        scored.

    Examples
    --------
    >>> report = agreement({"crowd": [1.0, 4.0, 6.0, 2.0], "llm": [1.5, 4.5, 5.0, 3.0]})
    >>> round(report.pairs[0].ccc.value, 3)
    0.889
    >>> report.table[["a", "b", "n"]].to_dict("records")
    [{'a': 'crowd', 'b': 'llm', 'n': 4}]
    """
    if isinstance(ratings, pd.DataFrame) and set(LONG) <= set(ratings):
        scores, texts, raters = long_in(ratings)
        shown = np.full((scores.texts, scores.raters if scores.raters <= MOST_PAIRED else 0), np.nan)
        if shown.size:
            shown[scores.text, scores.rater] = scores.score
        table = pd.DataFrame(shown, index=texts, columns=raters[: shown.shape[1]])
    else:
        table = ratings_in(ratings)
        scores, raters = of_matrix(table.to_numpy(dtype=np.float64)), table.columns
    refuse_if_any(filter(None, [refusal("resamples", resamples, Count), refusal("seed", seed, Index)]))
    authors = None
    if groups is not None:
        authors = pd.Series(np.asarray(groups), dtype="object")
        if len(authors) != len(table):
            raise InputError(f"groups: expected one for each of {len(table)} texts, found {len(authors)}")
        authors.index = table.index
    if not (scores.number >= 2).any():
        raise InputError("ratings: expected texts that two raters scored, found none; do all have the same index?")
    codes = pd.factorize(table.index if authors is None else authors, sort=True)[0]
    crowd = reliability(scores, codes, resamples, seed)
    pairs = pairwise(table, authors, resamples, seed) if 0 < table.shape[1] <= MOST_PAIRED else ()
    by_rater = raters_table(scores)
    together = crowd.krippendorff.estimate or Estimate(np.nan, np.nan, np.nan, crowd.texts)
    return RaterAgreement(together, tuple(pairs), crowd, by_rater.set_axis(raters[by_rater.index].rename("rater")))
