"""``train.py``: one training, or the jobs of a multirun."""

import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig, ListConfig, OmegaConf

from invitro.config.common import (
    REFUSED,
    RememberPlace,
    instantiated,
    is_first_process,
    missing,
    plain,
    remove_if_fresh,
)
from invitro.errors import InputError, not_boolean, refuse_if_any

if TYPE_CHECKING:
    from invitro.application import Application
    from invitro.data import Reader
    from invitro.training.plan import Recipe

log = logging.getLogger(__name__)

BOOLEANS = ("force", "save_model", "keep_checkpoints", "allow_shared_texts")


def run_train(cfg: DictConfig) -> float | None:
    """Run one training and return its validation CCC; a job of a multirun records its own failure.

    A single run that is refused ends the process with the message and status `REFUSED`, and leaves no directory.
    """
    hydra = HydraConfig.get()
    directory, multirun = Path(hydra.runtime.output_dir), hydra.mode == RunMode.MULTIRUN
    try:
        record, outcome, metrics = _train(cfg, directory, sweep=Path(hydra.sweep.dir) if multirun else None)
    except Exception as error:
        if isinstance(error, InputError) and not multirun:
            remove_if_fresh(directory, {".hydra", f"{hydra.job.name}.log"})
            print(f"{error}\nNothing was trained.", file=sys.stderr)
            sys.exit(REFUSED)
        record, outcome, metrics = _failed(directory, error), "failed", None
        if not multirun:
            raise
    if multirun:
        from invitro.training.record import write_job

        write_job(directory, record, outcome, hydra.overrides.task, cfg.launch)
    return float(metrics["val"]["ccc"]) if metrics and metrics["val"] else None


def train_command(main: Callable[[], None]) -> None:
    """Run an entry point; after a multirun, show its jobs side by side and let the exit status tell of failures.

    What is shown comes from the disk, so that it is shown however the launcher ended.
    """
    try:
        main()
    finally:
        failed = RememberPlace.sweep is not None and _show_jobs(RememberPlace.sweep, RememberPlace.launch)
    if failed:
        sys.exit(1)


def _show_jobs(sweep: Path, launch: str | None) -> bool:
    """Print the jobs of a multirun; return whether any failed."""
    from invitro.training.comparison import comparison
    from invitro.training.record import jobs

    found = jobs(sweep, launch)
    if found:
        print(f"\nTest split:\n{comparison(found).to_string(index=False, na_rep='')}\n")
    count = {
        outcome: sum(job.outcome == outcome for job in found) for outcome in ("finished", "finished before", "failed")
    }
    for job in found:
        if job.outcome == "failed":
            print(f"failed: {job.record / 'error.txt'}", file=sys.stderr)
    print(", ".join(f"{number} {outcome}" for outcome, number in count.items()))
    print(f"Records: {sweep}")
    return count["failed"] > 0


def _train(cfg: DictConfig, directory: Path, sweep: Path | None) -> tuple[Path, str, Mapping[str, Any]]:
    """Check, read, train; return the record's directory, the outcome, and the content of ``metrics.json``."""
    settings = _checked(cfg, sweep is not None)
    from invitro.training import prepare

    prepared = prepare(
        reader=settings["data"],
        scale=settings["scale"],
        application=settings["application"],
        alpha=cfg.alpha,
        source=settings["llm"],
        prompt=cfg.prompt.name,
        folder=settings["folder"],
        pool_reader=_pool_reader(cfg, settings["application"]),
        allow_shared_texts=cfg.allow_shared_texts,
    )
    log.info("%s: %s", prepared.corpus.name, prepared.description)
    from invitro.training import record
    from invitro.training.loggers import NoLogger, RunInfo
    from invitro.training.plan import Place
    from invitro.training.results import summary
    from invitro.training.run import check_resume, fingerprint_of, train

    recipe = _recipe(cfg, settings)
    if cfg.resume:
        check_resume(Path(cfg.resume), recipe.fit)
    run = fingerprint_of(prepared, recipe)
    if sweep is not None and not cfg.force:
        earlier = record.finished_run((Path(cfg.runs), sweep), run, with_model=cfg.save_model)
        if earlier is not None:
            log.info("finished already, not trained again (force=true would): %s", earlier)
            return earlier, "finished before", record.read_metrics(earlier)
    first = is_first_process()
    place = Place(
        directory=record.claim(directory, run, cfg.force, sibling=sweep is not None) if first else directory,
        cache=Path(cfg.cache) if cfg.cache else None,
        save_model=cfg.save_model,
        resume=Path(cfg.resume) if cfg.resume else None,
        keep_checkpoints=cfg.keep_checkpoints,
    )
    name = f"{cfg.plm.name.rpartition('/')[2]} {cfg.application.name} alpha={cfg.alpha} seed={cfg.seed}"
    tags = (settings["data"].name, cfg.application.name, cfg.llm.name, settings["scale"].name)
    info = RunInfo(place.directory, name, plain(cfg), sweep.name if sweep else None, tags)
    try:
        result = train(prepared, recipe, place, settings["logger"] if first else NoLogger(), info)
    finally:
        record.settle(place.directory)
    if first:
        print(summary(result.metrics))
        print(f"Record: {place.directory}")
    return place.directory, "finished", result.metrics


def _recipe(cfg: DictConfig, settings: Mapping[str, Any]) -> "Recipe":
    """Return how the model is trained, after trying out what only PyTorch and Lightning can check."""
    import torch
    from lightning.fabric.utilities.exceptions import MisconfigurationException

    from invitro.models.loading import check_available
    from invitro.training.plan import Recipe
    from invitro.training.run import quiet

    quiet()
    optimizer = instantiate(cfg.optimizer, _convert_="all")
    trainer = instantiate(cfg.trainer, _convert_="all")
    trials: dict[str, Callable[[], object]] = {
        "optimizer": lambda: optimizer([torch.nn.Parameter(torch.zeros(1))]),
        "trainer": lambda: trainer(logger=False, enable_checkpointing=False),
    }
    for name, trial in trials.items():
        try:
            trial()
        except (ValueError, TypeError, RuntimeError, MisconfigurationException) as error:
            raise InputError(f"{name}: these settings do not work here: {str(error).strip()}") from error
    commit = getattr(check_available(settings["plm"]), "_commit_hash", None)
    display = ("enable_progress_bar", "enable_model_summary", "log_every_n_steps")
    decisive = {key: value for key, value in plain(cfg.trainer).items() if key not in display}
    return Recipe(
        plm=settings["plm"],
        fit=settings["fit"],
        optimizer=optimizer,
        trainer=trainer,
        settings=plain(cfg.optimizer)
        | decisive
        | {"resume": cfg.resume, "commit": commit, "gpus": torch.cuda.device_count()},
        seed=cfg.seed,
    )


def _checked(cfg: DictConfig, multirun: bool) -> dict[str, Any]:
    """Instantiate what checks itself, and report everything that is wrong with the settings in one error."""
    from invitro.application import alpha_problem
    from invitro.data import DataFolder
    from invitro.training.settings import seed_problem

    problems = missing(cfg)
    refuse_if_any(problems)
    problems = [problem for problem in (alpha_problem(cfg.alpha), seed_problem(cfg.seed)) if problem]
    problems += not_boolean(**{name: cfg[name] for name in BOOLEANS})
    settings: dict[str, Any] = {"folder": DataFolder(cfg.data.get("folder") or os.environ.get("INVITRO_DATA_DIR"))}
    for name in ("data", "scale", "application", "plm", "fit", "llm", "logger"):
        try:
            settings[name] = instantiated(cfg[name])
        except InputError as error:
            problems += error.problems
    problems += _contradictions(cfg, multirun)
    refuse_if_any(problems)
    return settings


def _contradictions(cfg: DictConfig, multirun: bool) -> Iterator[str]:
    """Yield every pair of settings that cannot both be meant."""
    managed = {"max_epochs": "fit.epochs", "gradient_clip_val": "fit.clip", "logger": "logger", "callbacks": "fit.*"}
    for key in sorted(managed.keys() & cfg.trainer.keys()):
        yield f"trainer.{key} is decided by {managed[key]}; set that instead"
    devices, strategy = cfg.trainer.devices, str(cfg.trainer.strategy)
    several = (
        devices > 1 if isinstance(devices, int) else len(devices) > 1 if isinstance(devices, ListConfig) else False
    )
    distributed = several or strategy not in ("auto", "single_device")
    if multirun and distributed:
        yield (
            f"trainer.strategy={strategy} trainer.devices={devices} starts processes that would each repeat the whole "
            "multirun; use one device a job (trainer=auto), or run this configuration alone, without -m"
        )
    if distributed and cfg.plm.train == "head":
        yield "plm.train=head trains a small head in one process; choose trainer=auto, cpu or gpu"
    if distributed and cfg.fit.loss == "ccc":
        yield "fit.loss=ccc correlates within each process's share of a batch; choose trainer=auto, cpu or gpu"
    if distributed and isinstance(devices, int) and devices > 0 and cfg.fit.batch_size % devices:
        yield f"fit.batch_size={cfg.fit.batch_size} does not divide among trainer.devices={devices} processes"
    if cfg.resume and not Path(cfg.resume).is_file():
        yield f"resume={cfg.resume}: no such checkpoint"
    if cfg.resume and multirun:
        yield "resume= names one checkpoint, but -m runs several jobs; resume one run at a time"


def _pool_reader(cfg: DictConfig, application: "Application") -> "Reader | None":
    """Return the reader of augmentation's pool when it is another corpus or a table file, otherwise None."""
    from invitro.application import names_own_pool
    from invitro.data import Table, Undivided
    from invitro.files import SUFFIXES

    if names_own_pool(application):
        return None
    pool = application.pool
    if pool.endswith(SUFFIXES):
        return Table(path=pool, columns=dict(application.pool_columns or {}), split=Undivided(), name=Path(pool).stem)
    main = next(source.path for source in HydraConfig.get().runtime.config_sources if source.provider == "main")
    choices = sorted(file.stem for file in Path(main, "data").glob("*.yaml") if file.stem != "table")
    if pool not in choices:
        own = "set_aside, unlabelled, none"
        raise InputError(
            f"application.pool: expected {own}, a corpus ({', '.join(choices)}) or a table file "
            f"({', '.join(SUFFIXES)}), found {pool!r}"
        )
    corpus = OmegaConf.load(Path(main, "data", f"{pool}.yaml"))
    assert isinstance(corpus, DictConfig)
    corpus.pop("defaults")
    corpus.split = {"_target_": "invitro.data.Undivided"}
    if cfg.data.get("folder") and "folder" in corpus:
        corpus.folder = cfg.data.folder
    reader: Reader = instantiate(corpus, _convert_="all")
    return reader


def _failed(directory: Path, error: Exception) -> Path:
    """Record a failure, say so in one line, and return where; a finished record that is there stays."""
    from invitro.training.record import failure_directory, write_failure

    directory = failure_directory(directory)
    if is_first_process():
        write_failure(directory, error)
    log.error("failed: %s: %s (%s)", type(error).__name__, error, directory / "error.txt")
    return directory
