"""Models and studies: training, what labels are worth, loading, and whole studies."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from invitro.api.values import DescribedTexts, LabelWorth, Model, StudyResult, TrainedRun
from invitro.errors import InputError, refuse_if_any
from invitro.scales import Scale
from invitro.settings import Count, refusal
from invitro.stats.moments import RESAMPLES


def train(
    frame: pd.DataFrame,
    scale: str | Path | Scale,
    *,
    plm: str = "roberta",
    application: str = "both",
    alpha: float | None = None,
    columns: Mapping[str, str | Sequence[str]] | None = None,
    seed: int = 0,
    directory: str | Path | None = None,
    overrides: Sequence[str] = (),
) -> TrainedRun:
    """Train a small language model on crowd labels, corrected and augmented by an LLM's.

    It is one run of `train.py`, with the same checks and the same record, on a DataFrame instead of a file. Nothing is
    logged to a server unless ``logger=wandb`` is among the overrides.

    Parameters
    ----------
    frame
        One row per text, with columns ``text`` and ``crowd_label`` (in the scale's units; NaN if unrated), and,
        optionally: ``llm_label``, ``text_id`` (otherwise the index is the id), ``group_id`` (the author,
        whose texts stay in one split), ``split`` (``train``, ``val``, ``test``; otherwise a seeded holdout by author),
        and demographics.
    scale
        The questionnaire: a name, a file, or what `scale` returned.
    plm
        The encoder, or a baseline: a name in ``conf/plm/``.
    application
        How LLM labels are used: a name in ``conf/application/``, such as ``none``, ``correction``,
        ``augmentation`` or ``both``.
    alpha
        Correction's threshold, from 0 to inf, in the scale's units; None means two thirds of its range.
    columns
        The frame's names for the columns above, such as ``{"text": "essay", "crowd_label": "empathy"}``; with several
        people's ratings, ``{"text": "essay", "raters": ["anna", "ben"]}``, whose mean is the crowd label.
    seed
        Seed of weights, dropout and batches.
    directory
        Where the record is written; None makes a new folder in ``runs/train/``.
    overrides
        Any other setting of ``train.py``, as on its command line: ``["fit.epochs=5", "plm.lr=1e-5"]``.

    Returns
    -------
    TrainedRun
        Metrics, predictions, and where the record and the model are.

    Raises
    ------
    InputError
        A column is missing, a row or a setting is wrong, or the encoder is missing; all problems are reported at once.

    Examples
    --------
    >>> words = ["sad and moved", "bored by news"]
    >>> essays = pd.DataFrame({"text": [f"{words[n % 2]} {n}" for n in range(60)], "crowd_label": [6.0, 2.0] * 30})
    >>> run = train(essays, "batson_empathy", plm="tfidf", application="none")
    >>> sorted(run.metrics["test"])
    ['ccc', 'pcc', 'rmse']
    >>> run.predictions["split"].value_counts().to_dict()
    {'test': 12, 'val': 6}
    """
    from invitro.commands.direct import composed_for, run_folder
    from invitro.commands.training import train_configured

    threshold = "null" if alpha is None else alpha
    settings = [
        f"plm={plm}", f"application={application}", f"alpha={threshold}", f"seed={seed}", "logger=none", *overrides
    ]  # fmt: skip
    with composed_for(frame, "train", scale, columns, settings) as (cfg, reader):
        uses = cfg.application.correction or cfg.application.augmentation
        if uses and not (cfg.llm.column or cfg.llm.labels or any(word.startswith("llm=") for word in overrides)):
            raise InputError(
                f"application={cfg.application.name} needs an LLM's labels: expected a column llm_label, found "
                f"{', '.join(map(str, reader.rows))}; invitro.label makes them, and application='none' needs none"
            )
        record, _, metrics = train_configured(cfg, Path(directory or run_folder()), reader=reader)
    predictions = pd.read_csv(record / "predictions.csv", dtype={"text_id": "str", "group_id": "str"})
    model = record / "model"
    return TrainedRun(metrics, predictions, record, model if model.is_dir() else None)


def describe(
    frame: pd.DataFrame,
    scale: str | Path | Scale,
    *,
    plm: str = "tfidf",
    columns: Mapping[str, str | Sequence[str]] | None = None,
    directory: str | Path | None = None,
    overrides: Sequence[str] = (),
) -> DescribedTexts:
    """Look at texts and labels before training, as `describe.py` does.

    Parameters
    ----------
    frame
        As for `train`.
    scale
        The questionnaire: a name, a file, or what `scale` returned.
    plm
        The encoder for which cut texts are counted; ``tfidf`` cuts none.
    columns
        As for `train`.
    directory
        Where the page with plots is written; None writes none.
    overrides
        Any other setting of ``conf/train.yaml``.

    Returns
    -------
    DescribedTexts
        Facts, what to look at, and the page.

    Raises
    ------
    InputError
        A column is missing, a crowd label is outside the scale, or a setting is wrong.

    Examples
    --------
    >>> essays = pd.DataFrame({"text": [f"essay {n}" for n in range(60)], "crowd_label": [1.0, 3.0, 5.0] * 20})
    >>> essays["llm_label"] = 6 - essays["crowd_label"]
    >>> described = describe(essays, "batson_empathy")
    >>> described.facts["r of LLM and crowd"], described.facts["repeated texts"]
    ('-1.00', '0')
    """
    from invitro.commands.direct import composed_for
    from invitro.commands.predicting import describe_configured
    from invitro.studies.report.describe import write_description

    with composed_for(frame, "describe", scale, columns, [f"plm={plm}", *overrides]) as (cfg, reader):
        described = describe_configured(cfg, reader)
    page = None if directory is None else write_description(described, Path(directory))
    return DescribedTexts(described.named, tuple(described.doubts), page)


def worth(
    frame: pd.DataFrame,
    scale: str | Path | Scale,
    *,
    plm: str = "minilm",
    columns: Mapping[str, str | Sequence[str]] | None = None,
    draws: int = 3,
    folds: int = 10,
    seed: int = 0,
    resamples: int = RESAMPLES,
    overrides: Sequence[str] = (),
) -> LabelWorth:
    """Say how many human ratings an LLM's labels are worth.

    Two learning curves over the number of human ratings are tested on the same held-out authors: people's ratings
    alone, and with the LLM's labels of all training texts. The labels are worth as many ratings as the first curve
    needs to reach what the labels alone give. The model is a regression in closed form on a frozen encoder: minutes for
    thousands of texts, once they are embedded. It is one job of ``sweep.py study=worth``, without its report.

    Parameters
    ----------
    frame
        One row per text, with columns ``text``, ``crowd_label`` and ``llm_label`` (in the scale's units; NaN if
        missing), and, optionally, ``text_id`` and ``group_id`` (the author). At least 100 texts need each label.
    scale
        The questionnaire: a name, a file, or what `scale` returned.
    plm
        The frozen encoder: a name in ``conf/plm/``.
    columns
        The frame's names for the columns above, such as ``{"text": "essay", "crowd_label": "empathy"}``.
    draws
        How often human ratings are drawn at every size, at least 1.
    folds
        Folds of the cross-validation by author, at least 2.
    seed
        Seed of draws, folds and the bootstrap.
    resamples
        Bootstrap draws, at least 1.
    overrides
        Any other setting of ``conf/worth.yaml``: ``["worth.rating_price=0.5", "cache=null"]``.

    Returns
    -------
    LabelWorth
        The sentence, the number with its interval, and the curves.

    Raises
    ------
    InputError
        A column is missing, there are too few labels, or a setting is wrong.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> sad = rng.integers(0, 7, size=160)
    >>> essays = pd.DataFrame({"text": [f"sad {'very ' * n}{i}" for i, n in enumerate(sad)]})
    >>> essays["crowd_label"] = (1 + sad * 0.8 + rng.normal(size=160)).clip(1, 7)
    >>> essays["llm_label"] = 1.0 + sad * 0.8
    >>> result = worth(essays, "batson_empathy", folds=2, draws=1, resamples=50)
    >>> result.sentence.split(" are ")[0], result.curve["ratings"].tolist()
    ('The labels of the LLM', [50, 80, 0, 50, 80])
    """
    from invitro.commands.direct import composed_for
    from invitro.commands.studies import checked_worth, weigh
    from invitro.studies.report.worth import worth_sentence

    refuse_if_any(filter(None, [refusal("resamples", resamples, Count)]))
    settings = [
        f"plm={plm}", f"worth.draws={draws}", f"worth.folds={folds}", f"worth.seed={seed}", *overrides
    ]  # fmt: skip
    with composed_for(frame, "worth", scale, columns, settings, divided=False) as (cfg, reader):
        if not cfg.llm.column and not any(word.startswith(("llm=", "llm.")) for word in overrides):
            raise InputError(
                f"worth: expected LLM labels in a column llm_label, found {', '.join(map(str, reader.rows))}; "
                "invitro.label makes them"
            )
        cfg.llm.name = "the LLM" if cfg.llm.column else cfg.llm.name
        weighed = weigh(cfg, checked_worth(cfg), resamples, reader)
    exchange = weighed.exchange
    return LabelWorth(worth_sentence(weighed.data.llm, exchange), exchange.worth, exchange.added, exchange.curve)


def load(folder: str | Path, *, device: str = "auto") -> Model:
    """Load a trained model.

    Parameters
    ----------
    folder
        The folder ``model/`` of a run, or the run's directory.
    device
        ``auto`` (a GPU if there is one), ``cpu``, or a torch device such as ``cuda:1``.

    Returns
    -------
    Model
        Its ``predict`` scores texts.

    Raises
    ------
    InputError
        There is no trained model in the folder, or the device is not available.

    Examples
    --------
    >>> words = ["sad and moved", "bored by news"]
    >>> essays = pd.DataFrame({"text": [f"{words[n % 2]} {n}" for n in range(60)], "crowd_label": [6.0, 2.0] * 30})
    >>> run = train(essays, "batson_empathy", plm="tfidf", application="none")
    >>> scores = load(run.model).predict(["I felt awful for them.", "Just news."])
    >>> list(scores.columns), len(scores)
    (['score'], 2)
    """
    from invitro.models.scoring import device_of, load_scorer

    path = Path(folder)
    if not (path / "scale.json").is_file() and (path / "model" / "scale.json").is_file():
        path = path / "model"
    scorer = load_scorer(path, device_of(device))
    return Model(path, scorer.scale, scorer)


def next_texts(
    frame: pd.DataFrame,
    scale: str | Path | Scale,
    *,
    count: int = 50,
    plm: str | None = None,
    columns: Mapping[str, str | Sequence[str]] | None = None,
    overrides: Sequence[str] = (),
) -> pd.DataFrame:
    """Rank unrated texts by how much a human rating of each would say about all texts' scores.

    Crowd and LLM are fitted as raters of one true score, which depends on what texts say through a Gaussian process;
    the next text is the one whose rating removes most of the remaining variance, given those before it. After rating
    these texts, call it again. It is ``label.py next=`` for a DataFrame.

    Parameters
    ----------
    frame
        One row per text, with columns ``text``, ``crowd_label`` (NaN if unrated) and, optionally,
        ``llm_label``, ``text_id`` and ``group_id`` (the author). At most 6,000 texts.
    scale
        The questionnaire: a name, a file, or what `scale` returned.
    count
        How many texts to return, at least 1.
    plm
        The frozen encoder that says which texts are alike: a name in ``conf/plm/``; None compares their words.
    columns
        The frame's names for the columns above, such as ``{"text": "essay", "crowd_label": "empathy"}``.
    overrides
        Any other setting of ``label.py``, such as ``["cache=null"]``.

    Returns
    -------
    pandas.DataFrame
        The best first: ``rank``, ``tells`` (the share of the uncertainty about all texts' scores that this rating
        removes after those above it, 0 to 1), ``text_id``, ``text`` and the frame's other columns.

    Raises
    ------
    InputError
        A column is missing, all texts are rated, there are too many of them, or a setting is wrong.

    Examples
    --------
    >>> essays = pd.DataFrame({"text": ["so sad", "so sad", "so sad", "sunny day", "a sunny day"]})
    >>> essays["crowd_label"] = [6.0, 5.5, float("nan"), float("nan"), float("nan")]
    >>> next_texts(essays, "batson_empathy", count=1)["text"].tolist()
    ['sunny day']
    """
    from invitro.commands.direct import composed_for, scale_of
    from invitro.commands.predicting import rank_texts
    from invitro.tables import numbers

    refuse_if_any(filter(None, [refusal("count", count, Count)]))
    settings = [f"next={count}", *([] if plm is None else [f"plm={plm}"]), *overrides]
    questionnaire, llm_label = scale_of(scale), str((columns or {}).get("llm_label", "llm_label"))
    with composed_for(frame, "label", questionnaire, columns, settings, divided=False) as (cfg, reader):
        table = reader.read(questionnaire).table
        llm = table.iloc[:, :0]
        if llm_label in table:
            llm = numbers(table[llm_label], "frame").to_frame("the LLM")
        ranked = rank_texts(cfg, "frame", table, llm)
    return ranked.table.drop(columns=["split", "crowd_label"])


def study(name: str, *, overrides: Sequence[str] = ()) -> StudyResult:
    """Run a study: launch its missing jobs and make its report.

    It is `sweep.py` without a command line; jobs run in separate processes.

    Parameters
    ----------
    name
        A name in ``conf/study/``, such as ``demo``, ``alpha`` or ``applications``.
    overrides
        Settings of ``sweep.py`` and ``train.py``, as on the command line; several values make several jobs:
        ``["data=newsemp18", "plm=minilm", "seed=0,1,2"]``.

    Returns
    -------
    StudyResult
        The results, the differences from the baseline, and where the report is.

    Raises
    ------
    InputError
        A setting is wrong, or no job produced a result.
    """
    from invitro.commands.plans import INFERENCE, WORTH, request
    from invitro.commands.studies import estimate, launch_jobs, read_jobs, report_jobs, send_report

    asked = request([f"study={name}", *overrides])
    tables = {INFERENCE: "estimates.csv", WORTH: "worth.csv"}
    if asked.study.job in tables:  # estimates or curves, which have no differences
        report = estimate(asked)
        results = pd.read_csv(report.parent / tables[asked.study.job])
        return StudyResult(asked.root, report, results, pd.DataFrame(), failed=0)
    launch_jobs(asked)
    runs = read_jobs(asked)
    report, summary, drawn = report_jobs(asked, runs)
    send_report(asked, runs, summary, drawn, report)
    failed = int((runs.table["outcome"] == "failed").sum())
    return StudyResult(asked.root, report, summary.groups, summary.differences, failed)
