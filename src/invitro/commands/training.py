"""``train.py``: one training, or the jobs of a multirun."""

import logging
import os
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig

from invitro.commands.common import (
    REFUSED,
    RememberPlace,
    Stopped,
    end_with,
    is_first_process,
    plain,
    remove_if_fresh,
    stoppable,
)
from invitro.commands.settings import RunSettings, completed, run_settings
from invitro.errors import InputError, called, command_line, error_text, quoted

if TYPE_CHECKING:
    from invitro.data import Reader
    from invitro.training.loggers import RunInfo
    from invitro.training.prepare import Prepared
    from invitro.training.recipe import Recipe

log = logging.getLogger(__name__)

STARTER = "INVITRO_STARTER"
"""The environment variable with the id of the process with which a launcher, or a job of a multirun, ends."""
FINGERPRINT = "fingerprint"
"""The file next to a run's checkpoints that says which run they belong to."""
LOCAL_WORKERS = ("joblib", "submitit_local")
"""Launchers whose jobs are processes on this machine."""


def run_train(cfg: DictConfig) -> float | None:
    """Run one training and return its validation CCC; a job of a multirun records its own failure.

    A single run that is refused ends the process with the message and status `REFUSED`, and leaves no directory.
    """
    hydra = HydraConfig.get()
    directory, multirun = Path(hydra.runtime.output_dir), hydra.mode == RunMode.MULTIRUN
    if multirun and _is_left_out(cfg, directory):
        return None
    if multirun and hydra.runtime.choices["hydra/launcher"] in LOCAL_WORKERS:
        end_with(STARTER)
    try:
        with stoppable():
            record, outcome, metrics = train_configured(cfg, directory, Path(hydra.sweep.dir) if multirun else None)
        if outcome == "finished" and is_first_process():
            print(f"Record: {record}")
    except Stopped as stop:
        if is_first_process():
            message = _tell_stopped(directory)
            if multirun:
                _write_job(cfg, directory, directory, "interrupted", message)
            else:
                print(message, file=sys.stderr)
        if multirun and hydra.runtime.choices["hydra/launcher"] == "joblib":
            logging.shutdown()
            os._exit(int(str(stop.code)))  # joblib would start the next job in this process
        raise
    except Exception as error:
        if isinstance(error, InputError) and not multirun:
            remove_if_fresh(directory)
            print(f"{error}\nNothing was trained.", file=sys.stderr)
            sys.exit(REFUSED)
        record, outcome, metrics = _failed(directory, error), "failed", None
        if not multirun:
            raise
    if multirun:
        _write_job(cfg, directory, record, outcome)
    return float(metrics["val"]["ccc"]) if metrics and metrics["val"] else None


def _tell_stopped(directory: Path) -> str:
    """Record that a run was stopped, and return how to continue."""
    from invitro.training.record import METRICS_FILE, read_metrics, write_interrupted

    if (directory / METRICS_FILE).is_file() and read_metrics(directory).get("status") == "finished":
        return f"Stopped. The finished record in {directory} is kept"
    checkpoint = directory / "checkpoints" / "last.ckpt"
    again = [word for word in HydraConfig.get().overrides.task if not word.startswith("resume=")]
    resume = [f"resume={quoted(checkpoint)}"] if checkpoint.is_file() else []
    command = f"{called('train')} {command_line([*again, *resume])}"
    write_interrupted(directory, checkpoint if resume else None, command)
    return f"Stopped. {'To continue' if resume else 'To start from the beginning'}: {command}"


def _is_left_out(cfg: DictConfig, directory: Path) -> bool:
    """Whether a job must not start: it is held back, or is skipped after a failure, and recorded as skipped."""
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
    from invitro.training.multirun import write_job

    hydra = HydraConfig.get()
    choices = {str(group): str(name) for group, name in hydra.runtime.choices.items() if "hydra/" not in str(group)}
    write_job(directory, record, outcome, hydra.overrides.task, cfg.launch, error, choices)


def train_command(main: Callable[[], None]) -> None:
    """Run an entry point; after a multirun, show its jobs side by side and exit with status 1 if any failed.

    Results are read from disk, so they are shown however the launcher ended.
    """
    end_with(STARTER)
    of_a_study = STARTER in os.environ
    os.environ[STARTER] = str(os.getpid())
    try:
        with stoppable():
            main()
    except Stopped:
        if RememberPlace.sweep is not None and not of_a_study:
            print("Stopped. Run the same command again to continue.", file=sys.stderr)
        raise
    finally:
        failed = RememberPlace.sweep is not None and _show_jobs(RememberPlace.sweep, RememberPlace.launch)
    if failed:
        sys.exit(1)


def _show_jobs(sweep: Path, launch: str | None) -> bool:
    """Print the jobs of a multirun; return whether any failed."""
    from invitro.training.multirun import OUTCOMES, comparison, jobs, judged_on

    ended = jobs(sweep, launch)
    if ended:
        split = judged_on(ended)
        title = "Test split" if split == "test" else "Validation split (no job has a test with crowd labels)"
        print(f"\n{title}:\n{comparison(ended, split).to_string(index=False, na_rep='')}\n")
    count = Counter(job.outcome for job in ended)
    for job in ended:
        if job.outcome == "failed":
            print(f"failed: {job.record / 'error.txt'}", file=sys.stderr)
    print(", ".join(f"{count[outcome]} {outcome}" for outcome in OUTCOMES if count[outcome] or outcome in OUTCOMES[:3]))
    print(f"Records: {sweep}")
    return count["failed"] > 0


def train_configured(
    cfg: DictConfig, directory: Path, sweep: Path | None = None, reader: "Reader | None" = None
) -> tuple[Path, str, Mapping[str, Any]]:
    """Check the settings, prepare the data, and train, or find the record of an equal run.

    In a multirun, a finished run is not trained again, and a run that another process is training is waited for.

    Args:
        cfg: the configuration, without Hydra's own part.
        directory: the run's.
        sweep: the multirun's directory; None for a single run.
        reader: of the corpus, instead of the configured one.

    Returns:
        The record's directory, that of an earlier run if an equal one had finished; ``finished`` or
        ``finished before``; and the content of ``metrics.json``.
    """
    cfg = completed(cfg)
    settings = run_settings(cfg, sweep is not None)
    if reader is not None:
        settings = replace(settings, reader=reader)
    if sweep is not None:
        _take_gpu()

    log.info("%s", _first_line(cfg, settings))
    if settings.absent:
        settings.reader.read(settings.scale)  # problems of the texts are reported first: they are quicker to fix
        raise InputError(settings.absent)
    info, options = _run_info(cfg, settings, sweep, directory), settings.options
    prepared, recipe = _read(cfg, settings, info)
    from invitro.training import record
    from invitro.training.multirun import alone, kin
    from invitro.training.run import fingerprint_of

    run = fingerprint_of(prepared, recipe)
    if sweep is None:
        return _train(settings, prepared, recipe, run, info)
    with alone(Path(options.runs), run):
        roots = (Path(options.runs), kin(sweep))
        earlier = None if options.force else record.finished_run(roots, run, with_model=options.save_model)
        if earlier is not None:
            log.info("finished already, not trained again (force=true would): %s", earlier)
            return earlier, "finished before", record.read_metrics(earlier)
        return _train(settings, prepared, recipe, run, info, sibling=True)


def _read(cfg: DictConfig, settings: RunSettings, info: "RunInfo") -> "tuple[Prepared, Recipe]":
    """Return the training data and the recipe; if that fails, the logger records a failed run."""
    from invitro.training.results import compared, doubts
    from invitro.training.run import check_resume

    try:
        prepared = settings.prepared()
        log.info("%s: %s", prepared.corpus.name, prepared.facts.line())
        if (llm := compared(prepared)) is not None:
            log.info("%s", llm.line())
        log.info("%s: %s", prepared.corpus.name, prepared.description)
        for warning in doubts(prepared):
            log.warning("%s", warning)
        recipe = _recipe(cfg, settings)
        if settings.options.resume:
            check_resume(Path(settings.options.resume), recipe.fit)
    except Exception:
        if is_first_process():
            with settings.logger.open(info):
                raise
        raise
    return prepared, recipe


def _first_line(cfg: DictConfig, settings: RunSettings) -> str:
    """Describe the run: the corpus, the scale and its range, how LLM labels are used, and the threshold."""
    from invitro.application import UNBOUNDED_POLICIES

    scale, application = settings.scale, settings.application
    parts = [f"{settings.reader.name} on {scale.name}, {scale.minimum:g} to {scale.maximum:g}"]
    parts.append(f"application={application.name}")
    if application.correction and application.policy not in UNBOUNDED_POLICIES:
        default = " (two thirds of the scale's range)" * (cfg.alpha == scale.default_alpha)
        parts.append(
            f"alpha={cfg.alpha:g}{default}" if cfg.alpha_quantile is None else f"alpha_quantile={cfg.alpha_quantile:g}"
        )
    return ", ".join(parts)


def _train(
    settings: RunSettings, prepared: "Prepared", recipe: "Recipe", run: str, info: "RunInfo", sibling: bool = False
) -> tuple[Path, str, Mapping[str, Any]]:
    """Train the run with the fingerprint `run`.

    The record is in the run's directory, or next to it if `sibling` and it contains another run's record.
    """
    from invitro.files import write_text
    from invitro.training import record
    from invitro.training.loggers import NoLogger
    from invitro.training.recipe import Place
    from invitro.training.results import summary
    from invitro.training.run import train

    options, first, directory = settings.options, is_first_process(), info.directory
    resume = Path(options.resume) if options.resume else None
    if first:
        directory = record.claim(directory, run, options.force, sibling)
    if resume is None and not options.force:
        resume = _left(directory, run, recipe)
    if first:
        write_text(directory / "checkpoints" / FINGERPRINT, run)
    place = Place(
        directory=directory,
        cache=Path(options.cache) if options.cache else None,
        save_model=options.save_model,
        resume=resume,
        keep_checkpoints=options.keep_checkpoints,
        siblings=sibling,
    )
    try:
        result = train(
            prepared, recipe, place, settings.logger if first else NoLogger(), replace(info, directory=directory)
        )
    finally:
        record.settle(directory)
    if first:
        log.info("results\n%s", summary(result.metrics))
    return directory, "finished", result.metrics


def _left(directory: Path, run: str, recipe: "Recipe") -> Path | None:
    """Return the checkpoint that an interrupted process of the same run left in its directory, for a requeued job."""
    from invitro.training.run import check_resume

    checkpoint, mark = (directory / "checkpoints" / name for name in ("last.ckpt", FINGERPRINT))
    if not checkpoint.is_file() or not mark.is_file() or mark.read_text("utf-8") != run:
        return None
    try:
        check_resume(checkpoint, recipe.fit)
    except InputError as error:
        log.warning("starting from the beginning: %s", error)
        return None
    log.info("continuing from %s (force=true would start from the beginning)", checkpoint)
    return checkpoint


def _run_info(cfg: DictConfig, settings: RunSettings, sweep: Path | None, directory: Path) -> "RunInfo":
    """Return what a logger and the record say about the run besides its results."""
    from invitro.training.loggers import RunInfo

    threshold = []
    if cfg.application.correction and cfg.application.policy != "auto":
        quantile = cfg.alpha_quantile is not None
        threshold = [f"alpha_quantile={cfg.alpha_quantile}" if quantile else f"alpha={cfg.alpha}"]
    name = " ".join([cfg.plm.name.rpartition("/")[2], cfg.application.name, *threshold, f"seed={cfg.seed}"])
    tags = (settings.reader.name, cfg.application.name, cfg.llm.name, settings.scale.name)
    group = settings.options.group or (sweep.name if sweep else None)
    return RunInfo(directory, name, plain(cfg), group, tags)


def _take_gpu() -> None:
    """Give this process its own GPU if the launcher runs jobs in parallel without assigning GPUs.

    SLURM and Ray assign GPUs to jobs themselves; jobs that run one after another need no assignment.
    """
    from invitro.training.multirun import take_gpu, visible_gpus

    if HydraConfig.get().runtime.choices["hydra/launcher"] in LOCAL_WORKERS:
        gpu = take_gpu(visible_gpus())
        if gpu is not None:
            log.info("this job's GPU: %s", gpu)


def _recipe(cfg: DictConfig, settings: RunSettings) -> "Recipe":
    """Return how the model is trained, after trying out what only PyTorch and Lightning can check."""
    import torch
    from lightning.fabric.utilities.exceptions import MisconfigurationException

    from invitro.models import PLM
    from invitro.models.encoder import check_available
    from invitro.training.recipe import Recipe
    from invitro.training.run import quiet

    quiet()
    optimizer = instantiate(cfg.optimizer, _convert_="all")
    trainer = instantiate(cfg.trainer, _convert_="all")
    if cfg.trainer.accelerator == "auto" and not torch.cuda.is_available():
        trainer = partial(trainer, accelerator="cpu")  # Lightning would choose Apple's GPU
    plm, encoder = settings.plm, settings.encoder
    commit = None if encoder is None else getattr(check_available(encoder), "_commit_hash", None)
    if not isinstance(plm, PLM):  # a baseline, which has no optimiser
        return Recipe(plm, settings.fit, optimizer, trainer, {"commit": commit}, settings.options.seed)
    trials: dict[str, Callable[[], Any]] = {
        "optimizer": lambda: optimizer([torch.nn.Parameter(torch.zeros(1))]),
        "trainer": lambda: trainer(logger=False, enable_checkpointing=False),
    }
    for name, trial in trials.items():
        try:
            tried = trial()
        except (ValueError, TypeError, RuntimeError, MisconfigurationException) as error:
            raise InputError(f"{name}: these settings do not work here: {str(error).strip()}") from error
    if tried.strategy.root_device.type == "mps":  # the trainer, which is tried last
        raise InputError("trainer: Apple's GPUs do not compute in float64, as metrics do; choose trainer=cpu")
    visible, requested = torch.cuda.device_count(), cfg.trainer.devices
    gpus = min(visible, requested) if isinstance(requested, int) and requested > 0 else visible
    display = ("enable_progress_bar", "enable_model_summary", "log_every_n_steps")
    decisive = {key: value for key, value in plain(cfg.trainer).items() if key not in display}
    return Recipe(
        plm=plm,
        fit=settings.fit,
        optimizer=optimizer,
        trainer=trainer,
        settings=plain(cfg.optimizer) | decisive | {"resume": cfg.resume, "commit": commit, "gpus": gpus},
        seed=settings.options.seed,
        spread=settings.options.spread,
    )


def _failed(directory: Path, error: Exception) -> Path:
    """Record and report a failure, and return its folder; a finished record is kept."""
    from invitro.training.record import failure_directory, write_failure

    directory = failure_directory(directory)
    if is_first_process():
        write_failure(directory, error)
    log.error("failed: %s (%s)", error_text(error), directory / "error.txt")
    return directory
