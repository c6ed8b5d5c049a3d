"""``sweep.py study=inference`` and ``study=worth``: studies that are made in this process, in seconds or minutes."""

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from hydra import compose
from hydra.errors import HydraException
from omegaconf import DictConfig

from invitro.commands.common import instantiated, missing, noting, with_own_labels_named
from invitro.commands.typed import configured, explained
from invitro.errors import InputError, conf_folder, refuse_if_any
from invitro.training.multirun import STUDY, as_mapping

if TYPE_CHECKING:
    from invitro.commands.plans import SweepRequest
    from invitro.data import Reader
    from invitro.studies.inference import Inference
    from invitro.studies.report.worth import Weighed


def infer_command(asked: "SweepRequest") -> Path:
    """Make the estimates of every job of a study, and return the path of the report.

    The settings of all jobs are checked before the first corpus is read.

    Raises:
        InputError: settings, data or labels that cannot be used; launchers, which have nothing to launch.
    """
    if asked.plan is None or asked.plan.jobs is None:
        raise InputError("report_only=true: estimates leave no runs; the study's command makes its report in seconds")
    refuse_if_any(f"{one}: estimates are made in this process; leave it out" for one in asked.plan.hydra)
    from invitro.data import DataFolder
    from invitro.files import write_json
    from invitro.studies.inference import infer, inference_data
    from invitro.studies.report.inference import Estimated, write_inference

    jobs = asked.plan.jobs
    configurations = composed_jobs("inference", jobs, asked.folders)
    settings = [_checked(cfg) for cfg in configurations]
    overrides = [as_mapping(job) for job in jobs]
    factors = tuple(key for key in overrides[0] if len({one.get(key) for one in overrides}) > 1)
    tables, inputs = [], []
    for values, cfg, one in zip(overrides, configurations, settings, strict=True):
        data = inference_data(
            reader=instantiated(cfg.data),
            scale=instantiated(cfg.scale),
            source=instantiated(cfg.llm),
            prompt=cfg.prompt.name,
            folder=DataFolder(cfg.data.get("folder") or os.environ.get("INVITRO_DATA_DIR")),
            covariate=one.covariate,
        )
        rows = infer(data, one, cfg.seed).assign(**{name: values.get(name) for name in factors})
        tables.append(rows[[*factors, *rows.columns.difference(list(factors), sort=False)]])
        inputs.append(data)
    write_json(asked.root / STUDY, asdict(asked.study))
    estimated = Estimated(pd.concat(tables, ignore_index=True), factors, inputs, asked.plan.asked)
    return write_inference(asked.study, estimated, asked.report)


def composed_jobs(name: str, jobs: Sequence[Sequence[str]], folders: Sequence[Path]) -> list[DictConfig]:
    """Compose the main configuration `name` for every job of a study; `folders` are the user's own configuration."""
    with configured(name, conf_folder(), folders):
        try:
            return [with_own_labels_named(compose(name, overrides=list(job))) for job in jobs]
        except HydraException as error:
            raise explained(error, name) from error


def _checked(cfg: DictConfig) -> "Inference":
    """Return what is to be estimated, or report everything that is wrong with the settings in one error."""
    from invitro.training.recipe import Seeded

    refuse_if_any(missing(cfg))
    problems: list[str] = []
    settings = {}
    makers: dict[str, Callable[[], Any]] = {"seed": partial(Seeded, cfg.seed)}
    makers |= {name: partial(instantiated, cfg[name]) for name in ("data", "scale", "llm", "inference")}
    for name, make in makers.items():
        try:
            settings[name] = make()
        except InputError as error:
            problems += error.problems
    refuse_if_any(problems)
    inference: Inference = settings["inference"]
    return inference


def worth_command(asked: "SweepRequest") -> Path:
    """Weigh the labels of every job of a study, print a sentence for each, and return the path of the report.

    The settings of all jobs are checked before the first corpus is read.

    Raises:
        InputError: settings, data or labels that cannot be used; launchers, which have nothing to launch.
    """
    if asked.plan is None or asked.plan.jobs is None:
        raise InputError("report_only=true: learning curves leave no runs; the study's command makes its report")
    refuse_if_any(f"{one}: learning curves are made in this process; leave it out" for one in asked.plan.hydra)
    from invitro.files import write_json
    from invitro.studies.report.worth import worth_sentence, write_worth

    configurations = composed_jobs("worth", asked.plan.jobs, asked.folders)
    checked = [checked_worth(cfg) for cfg in configurations]
    twice = [name for name in {cfg.llm.name for cfg in configurations} if len(configurations) > 1]
    refuse_if_any(
        f"llm={name}: expected one job for each LLM; give studies of other settings their own command"
        for name in sorted(twice)
        if sum(cfg.llm.name == name for cfg in configurations) > 1
    )
    weighed = []
    for cfg, settings, job in zip(configurations, checked, asked.plan.jobs, strict=True):
        weighed.append(replace(weigh(cfg, settings, asked.settings.resamples), settings=_for_training(job)))
        print(worth_sentence(weighed[-1].data.llm, weighed[-1].exchange), flush=True)
    write_json(asked.root / STUDY, asdict(asked.study))
    return write_worth(asked.study, weighed, asked.plan.asked, asked.report)


def _for_training(job: Sequence[str]) -> tuple[str, ...]:
    """Return a job's settings as ``train.py`` takes them; its encoder is another one unless it is named."""
    own = tuple(one for one in job if not one.lstrip("+").startswith("worth."))
    return own if any(one.startswith("plm=") for one in own) else ("plm=minilm", *own)


def weigh(cfg: DictConfig, settings: dict[str, Any], resamples: int, reader: "Reader | None" = None) -> "Weighed":
    """Read a corpus and its LLM labels, and make the curves.

    Args:
        cfg: the composed ``worth.yaml``.
        settings: what `checked_worth` returned for it.
        resamples: draws of the bootstrap.
        reader: of the corpus, instead of the configuration's.

    Raises:
        InputError: files, ids or labels cannot be used, or there are too few.
    """
    from invitro.data import DataFolder
    from invitro.models.features import FeatureCache, FrozenEncoder
    from invitro.models.scoring import device_of
    from invitro.studies.report.worth import Weighed
    from invitro.studies.wording import corpus_name, llm_name
    from invitro.studies.worth import WorthData, curves, exchange

    scale, plm = settings["scale"], settings["plm"]
    corpus = (reader or settings["data"]).read(scale)
    corpus.refuse_faults()
    folder = DataFolder(cfg.data.get("folder") or os.environ.get("INVITRO_DATA_DIR"))
    labels = settings["llm"].find(corpus.label_corpora, corpus.table, scale, cfg.prompt.name, folder)
    labels.refuse_evaluated(
        corpus.whole_ids(corpus.table.loc[corpus.table["crowd_label"].notna()]),
        "one of the folds of a learning curve",
        "weigh them by training runs: sweep.py study=applications data/split=holdout",
    )
    table = corpus.table.assign(llm_label=labels.of(corpus.table["text_id"]).to_numpy())
    table = table.loc[table[["crowd_label", "llm_label"]].notna().any(axis=1)].reset_index(drop=True)
    cache = FeatureCache(None if cfg.cache is None else Path(cfg.cache), FrozenEncoder(plm, device_of("auto")))
    named = replace(corpus, name=corpus_name(cfg.data))
    data = WorthData(named, labels, scale, table, llm_name(cfg.llm), plm.name)
    return Weighed(data, exchange(curves(table, cache, settings["worth"]), settings["worth"], resamples))


def checked_worth(cfg: DictConfig) -> dict[str, Any]:
    """Return the instantiated settings by name, or report everything that is wrong with them in one error."""
    from invitro.models import PLM

    refuse_if_any(missing(cfg))
    problems: list[str] = []
    settings: dict[str, Any] = {}
    for name in ("data", "scale", "llm", "plm", "worth"):
        with noting(problems):
            settings[name] = instantiated(cfg[name])
    refuse_if_any(problems)
    if not isinstance(settings["plm"], PLM):
        raise InputError(f"plm={cfg.plm.name}: expected an encoder, such as plm=minilm or plm=mpnet, not a baseline")
    return settings
