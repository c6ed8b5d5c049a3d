"""The settings of a training run, checked and instantiated."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict

from invitro.commands.common import (
    UNDIVIDED,
    data_folder,
    each_instantiated,
    feature_cache,
    instantiated,
    misnamed,
    missing,
    noting,
    with_own_labels_named,
)
from invitro.errors import InputError, called, conf_folder, refuse_if_any

if TYPE_CHECKING:
    from invitro.application import Application
    from invitro.data import DataFolder, Reader
    from invitro.labels import LabelSource
    from invitro.models import PLM, EmbeddingRidge, TfIdfRidge
    from invitro.models.features import Embedded
    from invitro.scales import Scale
    from invitro.training.loggers import LoggerChoice
    from invitro.training.prepare import Prepared
    from invitro.training.recipe import Fit, RunOptions


@dataclass(frozen=True)
class RunSettings:
    """All settings of a run, checked.

    Args:
        options: the settings at the top of ``train.yaml``.
        reader: of the corpus.
        scale: the questionnaire.
        application: how LLM labels are used.
        pool_reader: of the corpus or table that augmentation's pool comes from, if it is not the corpus itself.
        source: where the LLM labels come from.
        prompt: the prompt they were made with.
        folder: where data files are.
        plm: the encoder, or a baseline.
        fit: the course of training.
        logger: where curves are logged.
        device: where texts are embedded for the application itself, as for `invitro.models.scoring.device_of`.
    """

    options: "RunOptions"
    reader: "Reader"
    scale: "Scale"
    application: "Application"
    pool_reader: "Reader | None"
    source: "LabelSource"
    prompt: str
    folder: "DataFolder"
    plm: "PLM | TfIdfRidge | EmbeddingRidge"
    fit: "Fit"
    logger: "LoggerChoice"
    device: str

    def prepared(self, embedded: bool = True) -> "Prepared":
        """Read the corpus and the LLM labels, and make the training labels.

        Neither a model nor PyTorch is loaded, unless the application itself needs features of the texts.

        Args:
            embedded: if false, an application that needs such features is replaced by one that needs only the labels.
        """
        from invitro.models import PLM
        from invitro.training.prepare import prepare

        application = self.application
        if not embedded and application.policy in ("auto", "posterior"):
            application = replace(application, policy="replace")
        return prepare(
            reader=self.reader,
            scale=self.scale,
            application=application,
            alpha=self.options.alpha,
            source=self.source,
            prompt=self.prompt,
            folder=self.folder,
            pool_reader=self.pool_reader,
            allow_shared_texts=self.options.allow_shared_texts,
            alpha_quantile=self.options.alpha_quantile,
            embed=None if self.encoder is None else self.embed,
            validated=isinstance(self.plm, PLM) and not self.plm.frozen,
        )

    @property
    def encoder(self) -> "PLM | None":
        """The encoder that the model uses, frozen or not; None for a model that counts words."""
        from invitro.models import PLM, EmbeddingRidge

        if isinstance(self.plm, EmbeddingRidge):
            return self.plm.encoder
        return self.plm if isinstance(self.plm, PLM) else None

    @property
    def absent(self) -> str | None:
        """What to do if the encoder is not on this machine and cannot be downloaded; None otherwise."""
        return None if self.encoder is None else self.encoder.absent

    def embed(self, texts: Sequence[str]) -> "Embedded":
        """Return texts' features in the frozen encoder, from the cache or computed."""
        assert self.encoder is not None
        return feature_cache(self.options.cache, self.encoder, self.device).features(texts)


def run_settings(cfg: DictConfig, multirun: bool) -> RunSettings:
    """Return a run's settings.

    Raises:
        InputError: everything that is wrong with them, together.
    """
    refuse_if_any([*missing(cfg), *misnamed(cfg, multirun)])  # before PyTorch is imported
    from invitro.models import TfIdfRidge
    from invitro.training.recipe import RunOptions

    problems: list[str] = []
    names = ("data", "scale", "application", "llm", "plm", "fit", "logger")
    made: dict[str, Any] = {"options": None, "pool_reader": None}
    with noting(problems):
        made["options"] = RunOptions(**{field.name: cfg[field.name] for field in fields(RunOptions)})
    made |= each_instantiated(cfg, names, problems)
    if application := made.get("application"):
        with noting(problems):
            made["pool_reader"] = _pool_reader(cfg, application)
        if application.policy == "posterior" and isinstance(made.get("plm"), TfIdfRidge):
            problems.append(
                f"application=posterior needs an encoder's features; plm={cfg.plm.name} has none, plm=minilm has"
            )
    refuse_if_any([*problems, *_contradictions(cfg, multirun)])
    return RunSettings(
        reader=made.pop("data"),
        source=made.pop("llm"),
        prompt=cfg.prompt.name,
        folder=data_folder(cfg),
        device=_device(cfg),
        **made,
    )


def _device(cfg: DictConfig) -> str:
    """Return where texts are embedded for the application: on the trainer's one GPU, if it names one."""
    accelerator, devices = cfg.trainer.accelerator, cfg.trainer.devices
    if accelerator == "cpu":
        return "cpu"
    one_named = isinstance(devices, ListConfig) and len(devices) == 1
    return f"cuda:{devices[0]}" if accelerator in ("gpu", "cuda") and one_named else "auto"


def completed(cfg: DictConfig) -> DictConfig:
    """Return a copy of the configuration with the scale's default alpha, the baseline of ``baseline=``, and the user's
    own LLM labels under their name.

    The default is `Scale.default_alpha`, if ``alpha`` is not set. The baseline replaces ``plm``, so that a row of a
    study can be a baseline even if the command line sets an encoder and its settings for all rows.

    Raises:
        InputError: there is no such baseline.
    """
    cfg = with_own_labels_named(cfg.copy())
    if cfg.alpha is None:
        with suppress(InputError):  # a wrong scale is reported together with all other settings
            cfg.alpha = instantiated(cfg.scale).default_alpha
    if cfg.baseline is None:
        if not str(cfg.plm.get("_target_")).endswith(".PLM"):
            with open_dict(cfg):  # set by experiments for encoders; a baseline is not trained in steps
                cfg.plm.pop("lr", None)
                cfg.plm.pop("train", None)
        return cfg
    folder = conf_folder() / "plm"
    baselines = [file.stem for file in sorted(folder.glob("*.yaml")) if "train" not in OmegaConf.load(file)]
    if cfg.baseline not in baselines:
        raise InputError(f"baseline: expected one of {', '.join(baselines)} or null, found {cfg.baseline!r}")
    cfg.plm = OmegaConf.load(folder / f"{cfg.baseline}.yaml")
    return cfg


def _contradictions(cfg: DictConfig, multirun: bool) -> Iterator[str]:
    from invitro.models.settings import in_closed_form

    if "check" in cfg:
        yield (
            "check: prompts are compared by label.py, before a corpus is labelled: "
            f"{called('label')} experiment=prompt_check; train.py learns from existing labels"
        )
    managed = {"max_epochs": "fit.epochs", "gradient_clip_val": "fit.clip", "logger": "logger", "callbacks": "fit.*"}
    for key in sorted(managed.keys() & cfg.trainer.keys()):
        yield f"trainer.{key} is decided by {managed[key]}; set that instead"
    devices, strategy = cfg.trainer.devices, str(cfg.trainer.strategy)
    several = devices > 1 if isinstance(devices, int) else isinstance(devices, ListConfig) and len(devices) > 1
    distributed = several or strategy not in ("auto", "single_device")
    if multirun and distributed:
        yield (
            f"trainer.strategy={strategy} trainer.devices={devices} starts processes that would each repeat the whole "
            "multirun; use one device per job (trainer=auto), or run this configuration alone, without -m"
        )
    yield from _meaningless_in_closed_form(cfg, distributed)
    scaled = str(cfg.trainer.get("precision")) in ("16", "16-mixed") and not in_closed_form(cfg.plm)
    if scaled and cfg.fit.clip is not None and cfg.optimizer.get("fused"):
        yield (
            f"trainer.precision={cfg.trainer.precision}: a fused optimiser cannot clip float16's scaled gradients; add "
            "optimizer.fused=false, or choose trainer.precision=bf16-mixed"
        )
    if distributed and cfg.fit.loss == "ccc":
        yield "fit.loss=ccc correlates within each process's share of a batch; choose trainer=auto, cpu or gpu"
    if distributed and isinstance(devices, int) and devices > 0 and cfg.fit.batch_size % devices:
        yield f"fit.batch_size={cfg.fit.batch_size} does not divide among trainer.devices={devices} processes"
    given = {override.partition("=")[0].lstrip("+") for override in HydraConfig.get().overrides.task}
    if cfg.alpha_quantile is not None and "alpha" in given:
        yield (
            f"alpha={cfg.alpha} and alpha_quantile={cfg.alpha_quantile} exclude each other: the quantile finds alpha; "
            "set one of them"
        )
    if cfg.alpha_quantile is not None and cfg.application.policy == "auto":
        yield "application=auto chooses alpha itself; set alpha_quantile=null"
    if cfg.resume and not Path(cfg.resume).is_file():
        yield f"resume={cfg.resume}: no such checkpoint"
    if cfg.resume and multirun:
        yield "resume= names one checkpoint, but -m runs several jobs; resume one run at a time"


def _meaningless_in_closed_form(cfg: DictConfig, distributed: bool) -> Iterator[str]:
    """Yield settings that do not apply to a model fitted in one step: a baseline, or a frozen encoder."""
    from invitro.models.settings import FROZEN, in_closed_form

    if cfg.spread != "raw" and cfg.plm.get("train") not in FROZEN:
        yield (
            f"spread={cfg.spread}: it is found on left-out training texts, which only the exact student predicts; add "
            "plm.train=frozen, or leave spread=raw"
        )
    if not in_closed_form(cfg.plm):
        return
    fitted = f"{cfg.plm.name} is fitted in one step by ridge regression"
    if "train" in cfg.plm:
        fitted = f"plm.train={cfg.plm.train} is fitted in one step"
    if cfg.fit.loss != "mse":
        yield f"fit.loss={cfg.fit.loss}: {fitted} on squared errors; fine-tune an encoder, such as plm=minilm"
    if cfg.fit.keep != 1:
        yield f"fit.keep={cfg.fit.keep}: {fitted} and has no epochs to select between; fine-tune an encoder"
    if cfg.resume:
        yield f"resume={cfg.resume}: {fitted}; there is nothing to resume"
    if distributed:
        yield f"{fitted} and one process; choose trainer=auto, cpu or gpu"


Overrides = tuple[str, ...]
"""The overrides of one job."""
SPLIT_KEYS = ("data.split", "data/split")
ELSEWHERE = ("seed", "alpha", "plm", "baseline", "fit", "optimizer", "trainer", "logger")
"""Keys that do not decide which texts and labels are read."""


def decides_labels(override: str) -> bool:
    """Whether an override of a job can decide which label set it needs."""
    key = override.lstrip("+").partition("=")[0]
    if key.startswith("application."):
        return key.startswith("application.pool")
    return key.partition(".")[0] not in ELSEWHERE and not key.startswith((*SPLIT_KEYS, "launch", "group"))


def shown_in_splits(jobs: Iterable[Overrides], composed: Callable[[Overrides], DictConfig]) -> Iterator[str]:
    """Yield a line for each label set whose prompts showed texts that any of several splits evaluates on.

    Args:
        jobs: of a study.
        composed: returns a job's configuration.
    """
    from invitro.labels.labelset import ShownExamplesError, shown_examples

    by_labels: dict[Overrides, dict[Overrides, Overrides]] = {}
    for job in jobs:
        split = tuple(override for override in job if override.lstrip("+").startswith(SPLIT_KEYS))
        by_labels.setdefault(tuple(filter(decides_labels, job)), {}).setdefault(split, job)
    shown_by_labels: dict[str, dict[Overrides, Sequence[str]]] = {}
    for splits in by_labels.values():
        if len(splits) == 1 or not composed(next(iter(splits.values()))).prompt.get("shots"):
            continue
        for split, job in splits.items():
            try:
                run_settings(composed(job), multirun=True).prepared(embedded=False)
            except ShownExamplesError as error:
                shown_by_labels.setdefault(error.labels, {})[split] = error.shown
            except InputError:
                continue  # reported when all jobs' texts and labels are checked
    for labels, shown in shown_by_labels.items():
        ids = sorted({text_id for texts in shown.values() for text_id in texts})
        where = f"a split of this study ({len(shown)} of {max(map(len, by_labels.values()))})"
        yield shown_examples(labels, ids, where, "one split for label.py and all jobs, such as data/split=holdout")


def _pool_reader(cfg: DictConfig, application: "Application") -> "Reader | None":
    """Return the reader of augmentation's pool if it is another corpus or a table file, otherwise None."""
    from invitro.data import TableFile, Undivided
    from invitro.tables import READ

    if application.own_pool:
        return None
    pool = str(application.pool)
    if pool.lower().endswith(READ):
        return TableFile(
            path=pool, columns=dict(application.pool_columns or {}), split=Undivided(), name=Path(pool).stem
        )
    choices = sorted(file.stem for file in (conf_folder() / "data").glob("*.yaml") if file.stem != "table")
    if pool not in choices:
        kinds = "set_aside, unlabelled, none"
        raise InputError(
            f"application.pool: expected {kinds}, a corpus ({', '.join(choices)}) or a table file "
            f"({', '.join(READ)}), found {pool!r}"
        )
    corpus = OmegaConf.load(conf_folder() / "data" / f"{pool}.yaml")
    assert isinstance(corpus, DictConfig)
    corpus.pop("defaults")
    corpus.split = UNDIVIDED
    if cfg.data.get("folder") and "folder" in corpus:
        corpus.folder = cfg.data.folder
    reader: Reader = instantiated(corpus)
    return reader
