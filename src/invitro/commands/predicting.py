"""Commands that train nothing: ``predict.py`` scores a file, or a shared task's test set for a submission;
``describe.py`` describes a corpus.
"""

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from invitro.commands.common import feature_cache, instantiated, missing, plain, refusing, remove_if_fresh, stoppable
from invitro.commands.settings import RunSettings, completed, run_settings
from invitro.errors import InputError, refuse_if_any

if TYPE_CHECKING:
    import pandas as pd

    from invitro.data import Corpus, Reader
    from invitro.labelling.texts import NextTexts
    from invitro.studies.report.describe import Description

SUBMITTED = {"submission": None, "data": None, "distress_model": None, "missing": "refuse"}
"""Settings for submissions only, and their defaults."""


def run_predict(cfg: DictConfig) -> None:
    """Score one file and print the summary.

    Unusable input ends the process with status `REFUSED`, a disk that cannot be written to with status 1.
    """
    action = _score if cfg.submission is None else _submit
    try:
        with refusing("Nothing was scored."), stoppable("Stopped. Nothing was written; run the same command again"):
            action(cfg)
    except OSError as error:  # a full or protected disk
        print(f"Nothing was scored: {error.strerror}: {error.filename!r}", file=sys.stderr)
        sys.exit(1)


def _score(cfg: DictConfig) -> None:
    problems = [
        f"{name}: is for submissions only; name the file to write with submission=predictions.zip"
        for name, value in SUBMITTED.items()
        if cfg.get(name) != value
    ]
    if not OmegaConf.is_missing(cfg, "model") and cfg.model is None:
        problems.append("model: expected the folder model/ of a run, found null")
    refuse_if_any([*missing(cfg), *problems])
    job = instantiated(OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key not in SUBMITTED]))
    from invitro.models.scoring import predict

    print(f"{predict(job)}\nScores: {job.output}")


def _submit(cfg: DictConfig) -> None:
    """Score a shared task's test set; texts without a prediction are reported on stderr."""
    from invitro.models.submission import Submission, submit

    given = [name for name in ("input", "output", "score") if not OmegaConf.is_missing(cfg, name) and cfg[name]]
    refuse_if_any(f"{name}: is for files; a submission scores the test set of data=" for name in given)
    data = cfg.data or {}
    job = Submission(
        submission=cfg.submission,
        corpus=data.get("name"),
        folder=data.get("folder") or os.environ.get("INVITRO_DATA_DIR"),
        model=None if OmegaConf.is_missing(cfg, "model") else cfg.model,
        **{name: cfg[name] for name in ("distress_model", "missing", "clip", "batch_size", "device", "force")},
    )
    done = submit(job)
    print(done)
    for warning in done.warnings:
        print(f"WARNING: {warning}", file=sys.stderr)
    print(f"Submission: {done.path}")


def rank_texts(cfg: DictConfig, name: str, table: "pd.DataFrame", llm: "pd.DataFrame") -> "NextTexts":
    """Rank the unrated texts of a canonical table, see `invitro.labelling.texts.next_texts`.

    Args:
        cfg: the composed ``label.yaml``; ``plm`` says which texts are alike; without it, their words do.
        name: of the corpus.
        table: its texts.
        llm: LLM labels of the rows of `table`, one column per LLM.

    Raises:
        InputError: settings cannot be used, or there is nothing to rank.
    """
    from invitro.labelling.texts import next_texts
    from invitro.raters.precision import similarities_of, word_counts

    plm = instantiated(cfg.plm) if cfg.get("plm") else None
    order = table["crowd_label"].isna().to_numpy().argsort(kind="stable")  # rated texts first
    table, llm = table.iloc[order].reset_index(drop=True), llm.iloc[order].reset_index(drop=True)
    kernel = similarities_of(word_counts(table["text"].tolist())) if plm is None else _by_features(cfg, plm, table)
    return next_texts(table, llm, kernel, cfg.next, name)


def _by_features(cfg: DictConfig, plm: Any, table: "pd.DataFrame") -> Any:
    """Return similarities of a frozen encoder's features; with enough ratings, these choose its layers."""
    import numpy as np

    from invitro.models import PLM
    from invitro.models.closed_form import counted, similarities
    from invitro.models.exact import Observed
    from invitro.models.features import LayerKernel, first_layers
    from invitro.raters.precision import LEAST_TEXTS

    if not isinstance(plm, PLM):
        raise InputError(f"plm={cfg.plm.name}: expected an encoder, such as plm=minilm, or null for words")
    ids, texts = table["text_id"].tolist(), table["text"].tolist()
    embedded, rated = feature_cache(cfg.cache, plm).features(texts), table.loc[table["crowd_label"].notna()]
    if len(rated) >= LEAST_TEXTS:
        labels = rated["crowd_label"].to_numpy(dtype=np.float64)
        seen = Observed(labels, np.ones(len(labels)), rated["group_id"].to_numpy())
        return similarities(ids, texts, embedded, seen).gram
    _, words = counted(texts)
    start = first_layers(embedded.features.shape[1])[1:2] or [1]
    ((_, gram),) = LayerKernel.nested(embedded.features, words, start)
    return gram


def run_describe(cfg: DictConfig) -> None:
    """Describe one corpus: facts and what to look at on the terminal, and a page in the run's directory."""
    hydra = HydraConfig.get()
    directory = Path(hydra.runtime.output_dir)
    with refusing("Nothing was described."), stoppable():
        try:
            if hydra.mode == RunMode.MULTIRUN:
                raise InputError("-m: one corpus is described at a time; leave -m out")
            described = describe_configured(cfg)
            from invitro.studies.report.describe import write_description

            path = write_description(described, directory)
        except InputError:
            remove_if_fresh(directory)
            raise
    print("\n".join([*described.lines(), *(f"WARNING: {doubt}" for doubt in described.doubts), f"Page: {path}"]))


def describe_configured(cfg: DictConfig, reader: "Reader | None" = None) -> "Description":
    """Describe the corpus of a configuration.

    Args:
        cfg: as composed from ``describe.yaml``, without Hydra's own part.
        reader: of the corpus, instead of the configured one.
    """
    from invitro.data.facts import corpus_facts, languages_of, llm_facts
    from invitro.reliability.people import crowd_tables, shortened_table
    from invitro.studies.report.describe import Description
    from invitro.studies.wording import corpus_name

    settings = run_settings(completed(cfg), multirun=False)
    corpus = (reader or settings.reader).read(settings.scale)
    table, people = corpus.table, corpus.people
    facts = replace(
        corpus_facts(corpus, settings.scale),
        name=corpus_name(plain(cfg.data)),
        languages=languages_of(table["text"].tolist()),
    )
    labels = _labels(settings, corpus)
    llm = None if labels is None else llm_facts(labels[0], settings.scale, table["crowd_label"], labels[1])
    authors = table.set_index("text_id")["group_id"]
    tables = {} if people is None else crowd_tables(people, authors, {})
    of_people = () if people is None else (*people.faults(), *people.warnings())
    doubts = [*of_people, *facts.doubts(), *(() if llm is None else llm.doubts())]
    cut = _cut(settings, table["text"].tolist())
    return Description(facts, llm, cut, [shortened_table(crowd_table) for crowd_table in tables.values()], doubts)


def _labels(settings: RunSettings, corpus: "Corpus") -> "tuple[str, pd.Series[float]] | None":
    """Return the name of the LLM's labels and the label of each text, or None if there are no labels."""
    from invitro.labels.source import MissingLabelsError
    from invitro.tables import numbers

    source, table = settings.source, corpus.table
    if column := source.own_column(table, settings.prompt):
        return f"{corpus.name}/{column}", numbers(table[column], corpus.name)  # perhaps on another scale
    try:
        labels = source.find(corpus.label_corpora, table, settings.scale, settings.prompt, settings.folder)
    except MissingLabelsError:
        return None
    return labels.name, labels.of(table["text_id"])


def _cut(settings: RunSettings, texts: list[str]) -> str:
    """Say how many texts are too long for the encoder."""
    if settings.encoder is None:
        return "none: the model counts words"
    if settings.absent:
        return (
            f"not counted: {settings.encoder.name} is not on this machine; name an encoder that is, such as plm=minilm"
        )
    from invitro.models.encoder import load_tokenizer, tokenise

    tokenizer = load_tokenizer(settings.encoder)
    return f"{len(tokenise(tokenizer, texts).cut)}, cut at {tokenizer.model_max_length} tokens"
