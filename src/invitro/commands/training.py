"""``train.py``: one training, or the jobs of a multirun."""

import logging
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig

from invitro.commands.common import REFUSED, RememberPlace, is_first_process, plain, remove_if_fresh
from invitro.commands.settings import checked, prepared_for, with_baseline
from invitro.errors import InputError

if TYPE_CHECKING:
    from invitro.data import Reader
    from invitro.training.prepare import Prepared
    from invitro.training.recipe import Recipe

log = logging.getLogger(__name__)


def run_train(cfg: DictConfig) -> float | None:
    """Run one training and return its validation CCC; a job of a multirun records its own failure.

    A single run that is refused ends the process with the message and status `REFUSED`, and leaves no directory.
    """
    hydra = HydraConfig.get()
    directory, multirun = Path(hydra.runtime.output_dir), hydra.mode == RunMode.MULTIRUN
    if multirun and _is_left_out(cfg, directory):
        return None
    try:
        record, outcome, metrics = train_configured(cfg, directory, Path(hydra.sweep.dir) if multirun else None)
        if outcome == "finished" and is_first_process():
            _show_result(record, metrics)
    except Exception as error:
        if isinstance(error, InputError) and not multirun:
            remove_if_fresh(directory, {".hydra", f"{hydra.job.name}.log"})
            print(f"{error}\nNothing was trained.", file=sys.stderr)
            sys.exit(REFUSED)
        record, outcome, metrics = _failed(directory, error), "failed", None
        if not multirun:
            raise
    if multirun:
        _write_job(cfg, directory, record, outcome)
    return float(metrics["val"]["ccc"]) if metrics and metrics["val"] else None


def _is_left_out(cfg: DictConfig, directory: Path) -> bool:
    """Whether a job is not to be started: it is held back, or skipped after a failure, which is recorded."""
    from invitro.training.multirun import is_held, jobs

    hydra = HydraConfig.get()
    sweep = Path(hydra.sweep.dir)
    if is_held(sweep, hydra.overrides.task):
        return True
    failed = cfg.fail_fast and [job for job in jobs(sweep, cfg.launch) if job.outcome == "failed"]
    if failed:
        _write_job(cfg, directory, directory, "skipped", f"fail_fast=true, and {failed[0].directory} had failed")
    return bool(failed)


def _write_job(cfg: DictConfig, directory: Path, record: Path, outcome: str, error: str | None = None) -> None:
    """Write what became of this job of a multirun."""
    from invitro.training.multirun import write_job

    hydra = HydraConfig.get()
    choices = {str(group): str(name) for group, name in hydra.runtime.choices.items() if "hydra/" not in str(group)}
    write_job(directory, record, outcome, hydra.overrides.task, cfg.launch, error, choices)


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
    from invitro.training.multirun import OUTCOMES, comparison, jobs

    found = jobs(sweep, launch)
    if found:
        print(f"\nTest split:\n{comparison(found).to_string(index=False, na_rep='')}\n")
    count = {outcome: sum(job.outcome == outcome for job in found) for outcome in OUTCOMES}
    for job in found:
        if job.outcome == "failed":
            print(f"failed: {job.record / 'error.txt'}", file=sys.stderr)
    print(", ".join(f"{number} {outcome}" for outcome, number in count.items() if number or outcome != "skipped"))
    print(f"Records: {sweep}")
    return count["failed"] > 0


def _show_result(directory: Path, metrics: Mapping[str, Any]) -> None:
    """Print a run's metrics and where its record is."""
    from invitro.training.results import summary

    print(summary(metrics))
    print(f"Record: {directory}")


def train_configured(
    cfg: DictConfig, directory: Path, sweep: Path | None = None, reader: "Reader | None" = None
) -> tuple[Path, str, Mapping[str, Any]]:
    """Check, read, train; return the record's directory, the outcome, and the content of ``metrics.json``.

    In a multirun, what has finished already is not trained again, and what another process is training is waited for.

    Args:
        cfg: the configuration, without Hydra's own part.
        directory: the run's.
        sweep: the multirun's directory; None for a single run.
        reader: of the corpus, instead of the one that the configuration names.
    """
    cfg = with_baseline(cfg)
    settings = checked(cfg, sweep is not None)
    settings |= {} if reader is None else {"data": reader}
    prepared = prepared_for(cfg, settings)
    log.info("%s: %s", prepared.corpus.name, prepared.description)
    if sweep is not None:
        _take_gpu()
    from invitro.training import record
    from invitro.training.multirun import alone, kin
    from invitro.training.run import check_resume, fingerprint_of

    recipe = _recipe(cfg, settings)
    if cfg.resume:
        check_resume(Path(cfg.resume), recipe.fit)
    run = fingerprint_of(prepared, recipe)
    if sweep is None:
        return _train_now(cfg, settings, prepared, recipe, run, directory, None)
    with alone(Path(cfg.runs), run):
        earlier = None
        if not cfg.force:
            earlier = record.finished_run((Path(cfg.runs), kin(sweep)), run, with_model=cfg.save_model)
        if earlier is not None:
            log.info("finished already, not trained again (force=true would): %s", earlier)
            return earlier, "finished before", record.read_metrics(earlier)
        return _train_now(cfg, settings, prepared, recipe, run, directory, sweep)


def _train_now(
    cfg: DictConfig,
    settings: Mapping[str, Any],
    prepared: "Prepared",
    recipe: "Recipe",
    run: str,
    directory: Path,
    sweep: Path | None,
) -> tuple[Path, str, Mapping[str, Any]]:
    """Train the run `run`, leave its record in `directory` or beside it, and return what `train_configured` returns."""
    from invitro.training import record
    from invitro.training.loggers import NoLogger, RunInfo
    from invitro.training.recipe import Place
    from invitro.training.run import train

    first = is_first_process()
    place = Place(
        directory=record.claim(directory, run, cfg.force, sibling=sweep is not None) if first else directory,
        cache=Path(cfg.cache) if cfg.cache else None,
        save_model=cfg.save_model,
        resume=Path(cfg.resume) if cfg.resume else None,
        keep_checkpoints=cfg.keep_checkpoints,
    )
    name = " ".join([cfg.plm.name.rpartition("/")[2], cfg.application.name, *_threshold(cfg), f"seed={cfg.seed}"])
    tags = (settings["data"].name, cfg.application.name, cfg.llm.name, settings["scale"].name)
    group = cfg.group or (sweep.name if sweep else None)
    info = RunInfo(place.directory, name, plain(cfg), group, tags)
    try:
        result = train(prepared, recipe, place, settings["logger"] if first else NoLogger(), info)
    finally:
        record.settle(place.directory)
    return place.directory, "finished", result.metrics


def _threshold(cfg: DictConfig) -> list[str]:
    """Return correction's threshold for a run's name, as it was given; nothing where it is not used, or is chosen."""
    if not cfg.application.correction or cfg.application.policy == "auto":
        return []
    return [f"alpha={cfg.alpha}" if cfg.alpha_quantile is None else f"alpha_quantile={cfg.alpha_quantile}"]


def _take_gpu() -> None:
    """Give this process a GPU of its own, where the launcher runs jobs beside each other and leaves GPUs to them.

    SLURM and Ray give a job its GPUs themselves; jobs one after the other have no need.
    """
    from invitro.training.multirun import take_gpu, visible_gpus

    if HydraConfig.get().runtime.choices["hydra/launcher"] in ("joblib", "submitit_local"):
        gpu = take_gpu(visible_gpus())
        if gpu is not None:
            log.info("this job's GPU: %s", gpu)


def _recipe(cfg: DictConfig, settings: Mapping[str, Any]) -> "Recipe":
    """Return how the model is trained, after trying out what only PyTorch and Lightning can check."""
    import torch
    from lightning.fabric.utilities.exceptions import MisconfigurationException

    from invitro.models import PLM, EmbeddingRidge
    from invitro.models.loading import check_available
    from invitro.training.recipe import Recipe
    from invitro.training.run import quiet

    quiet()
    optimizer = instantiate(cfg.optimizer, _convert_="all")
    trainer = instantiate(cfg.trainer, _convert_="all")
    plm = settings["plm"]
    if not isinstance(plm, PLM):  # a baseline, which has no optimiser
        encoder = check_available(plm.encoder) if isinstance(plm, EmbeddingRidge) else None
        commit = getattr(encoder, "_commit_hash", None)
        return Recipe(plm, settings["fit"], optimizer, trainer, {"commit": commit}, cfg.seed)
    trials: dict[str, Callable[[], object]] = {
        "optimizer": lambda: optimizer([torch.nn.Parameter(torch.zeros(1))]),
        "trainer": lambda: trainer(logger=False, enable_checkpointing=False),
    }
    for name, trial in trials.items():
        try:
            trial()
        except (ValueError, TypeError, RuntimeError, MisconfigurationException) as error:
            raise InputError(f"{name}: these settings do not work here: {str(error).strip()}") from error
    commit = getattr(check_available(plm), "_commit_hash", None)
    display = ("enable_progress_bar", "enable_model_summary", "log_every_n_steps")
    decisive = {key: value for key, value in plain(cfg.trainer).items() if key not in display}
    return Recipe(
        plm=plm,
        fit=settings["fit"],
        optimizer=optimizer,
        trainer=trainer,
        settings=plain(cfg.optimizer) | decisive | {"resume": cfg.resume, "commit": commit, "gpus": _gpus(cfg)},
        seed=cfg.seed,
    )


def _gpus(cfg: DictConfig) -> int:
    """Return how many GPUs a run can use: of this machine's, as many as it asks for."""
    import torch

    there, wanted = torch.cuda.device_count(), cfg.trainer.devices
    return min(there, wanted) if isinstance(wanted, int) and wanted > 0 else there


def _failed(directory: Path, error: Exception) -> Path:
    """Record a failure, say so in one line, and return where; a finished record that is there stays."""
    from invitro.training.record import failure_directory, write_failure

    directory = failure_directory(directory)
    if is_first_process():
        write_failure(directory, error)
    log.error("failed: %s: %s (%s)", type(error).__name__, error, directory / "error.txt")
    return directory
