"""From Hydra's configuration to plain arguments; besides the entry points the only module that imports Hydra.

Nothing heavy is imported at the top: ``--help``, ``--cfg job`` and tab completion come through here.
"""

import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from shutil import rmtree
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from invitro.errors import InputError, refuse_if_any

if TYPE_CHECKING:
    from invitro.application import Application
    from invitro.data import Reader

log = logging.getLogger(__name__)

# Cached by Hydra with the configuration: all jobs of a multirun see one value, two multiruns never the same.
OmegaConf.register_new_resolver("unique", lambda: uuid4().hex[:6], use_cache=True, replace=True)

REFUSED = 2
"""Exit status for input that cannot be used; 1 is for what went wrong on the way."""


class RememberPlace(Callback):
    """Remembers where a multirun's records go, for the last line that `command` prints."""

    sweep: Path | None = None

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Note the sweep's directory."""
        RememberPlace.sweep = Path(config.hydra.sweep.dir)


def command(main: Callable[[], None]) -> None:
    """Run an entry point; after a multirun, count its records and let the exit status tell of failures."""
    main()
    if RememberPlace.sweep is None:
        return
    from invitro.training.comparison import comparison
    from invitro.training.record import outcomes

    table = comparison(RememberPlace.sweep)
    if not table.empty:
        print(f"\nTest split:\n{table.to_string(index=False, na_rep='')}\n")
    found = outcomes(RememberPlace.sweep)
    for directory, error in found.failed:
        print(f"failed: {directory}: {error}", file=sys.stderr)
    print(f"{len(found.finished)} finished, {len(found.same)} had finished before, {len(found.failed)} failed")
    print(f"Records: {RememberPlace.sweep}")
    if found.failed:
        sys.exit(1)


def run_train(cfg: DictConfig) -> float | None:
    """Run one training and return its validation CCC; a job of a multirun records its own failure.

    A single run that is refused ends the process with the message and status `REFUSED`, and leaves no directory.
    """
    hydra = HydraConfig.get()
    directory, multirun = Path(hydra.runtime.output_dir), hydra.mode == RunMode.MULTIRUN
    try:
        metrics = _train(cfg, directory, sweep=Path(hydra.sweep.dir) if multirun else None)
    except InputError as error:
        if multirun:
            _failed(directory, error)
            return None
        _remove_if_empty(directory)
        print(f"{error}\nNothing was trained.", file=sys.stderr)
        sys.exit(REFUSED)
    except Exception as error:
        _failed(directory, error)
        if multirun:
            return None
        raise
    return float(metrics["val"]["ccc"]) if metrics["val"] else None


def run_predict(cfg: DictConfig) -> None:
    """Score one file and print the summary; input that cannot be used ends the process with status `REFUSED`."""
    missing = sorted(OmegaConf.missing_keys(cfg))
    try:
        refuse_if_any(f"{key}: expected a value, as in {key}=..., found none" for key in missing)
        job = _instantiated(cfg)
        from invitro.models.predict import predict

        summary = predict(job)
    except InputError as error:
        print(f"{error}\nNothing was scored.", file=sys.stderr)
        sys.exit(REFUSED)
    print(f"{summary}\nScores: {job.output}")


def _instantiated(node: DictConfig) -> Any:
    """Instantiate a node; what its class refuses is raised as the `InputError` that it is."""
    try:
        return instantiate(node, _convert_="all")
    except InstantiationException as error:
        if isinstance(error.__cause__, InputError):
            raise error.__cause__ from None
        raise


def _train(cfg: DictConfig, directory: Path, sweep: Path | None) -> Mapping[str, Any]:
    """Check, read, train; return the content of ``metrics.json``."""
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
    from invitro.training.plan import Place, Recipe
    from invitro.training.results import summary
    from invitro.training.run import fingerprint_of, train

    recipe = Recipe(
        plm=settings["plm"],
        fit=settings["fit"],
        optimizer=instantiate(cfg.optimizer, _convert_="all"),
        trainer=instantiate(cfg.trainer, _convert_="all"),
        settings=_plain(cfg.optimizer)
        | {key: cfg.trainer[key] for key in ("accelerator", "devices", "strategy", "precision")}
        | {"resume": cfg.resume},
        seed=cfg.seed,
    )
    run = fingerprint_of(prepared, recipe)
    if sweep is not None and not cfg.force:
        earlier = record.finished_run((Path(cfg.runs), sweep), run)
        if earlier is not None:
            log.info("finished already, not trained again (force=true would): %s", earlier)
            record.write_same_as(directory, earlier, run)
            return record.read_metrics(earlier)
    place = Place(
        directory=record.claim(directory, run, cfg.force, sibling=sweep is not None),
        cache=Path(cfg.cache) if cfg.cache else None,
        save_model=cfg.save_model,
        resume=Path(cfg.resume) if cfg.resume else None,
        keep_checkpoints=cfg.keep_checkpoints,
    )
    name = f"{cfg.plm.name.rpartition('/')[2]} {cfg.application.name} alpha={cfg.alpha} seed={cfg.seed}"
    tags = (settings["data"].name, cfg.application.name, cfg.llm.name, settings["scale"].name)
    info = RunInfo(place.directory, name, _plain(cfg), sweep.name if sweep else None, tags)
    logger = instantiate(cfg.logger, _convert_="all") if is_first_process() else NoLogger()
    result = train(prepared, recipe, place, logger, info)
    if is_first_process():
        print(summary(result.metrics))
        print(f"Record: {place.directory}")
    return result.metrics


def is_first_process() -> bool:
    """Whether this is the process that people look at, and not another of a distributed run."""
    return os.environ.get("LOCAL_RANK", "0") == "0" and os.environ.get("NODE_RANK", "0") == "0"


def _checked(cfg: DictConfig, multirun: bool) -> dict[str, Any]:
    """Instantiate what checks itself, and report everything that is wrong with the settings in one error."""
    from invitro.application import alpha_problem
    from invitro.data import DataFolder
    from invitro.training.settings import seed_problem

    problems = [problem for problem in (alpha_problem(cfg.alpha), seed_problem(cfg.seed)) if problem]
    settings: dict[str, Any] = {"folder": DataFolder(cfg.data.get("folder") or os.environ.get("INVITRO_DATA_DIR"))}
    for name in ("data", "scale", "application", "plm", "fit", "llm"):
        try:
            settings[name] = _instantiated(cfg[name])
        except InputError as error:
            problems += error.problems
    problems += _contradictions(cfg, multirun)
    refuse_if_any(problems)
    return settings


def _contradictions(cfg: DictConfig, multirun: bool) -> Iterator[str]:
    """Yield every pair of settings that cannot both be meant."""
    distributed = str(cfg.trainer.strategy) not in ("auto", "single_device")
    if multirun and distributed:
        yield (
            f"trainer.strategy={cfg.trainer.strategy} starts processes that would each repeat the whole multirun; "
            "use one device a job (trainer=auto), or run this configuration alone, without -m"
        )
    if distributed and cfg.plm.train == "head":
        yield "plm.train=head trains a small head in one process; choose trainer=auto, cpu or gpu"
    devices = cfg.trainer.devices
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


def _plain(cfg: DictConfig) -> dict[str, Any]:
    """Return a configuration as plain values, resolved."""
    plain = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def _failed(directory: Path, error: Exception) -> None:
    """Record a failure, and say so in one line."""
    from invitro.training.record import write_failure

    if is_first_process():
        write_failure(directory, error)
    log.error("failed: %s: %s (%s)", type(error).__name__, error, directory / "error.txt")


def _remove_if_empty(directory: Path) -> None:
    """Remove a run's directory when it holds nothing but what Hydra put there."""
    names = {path.name for path in directory.iterdir()} if directory.is_dir() else set()
    if names and all(name == ".hydra" or name.endswith(".log") for name in names):
        logging.shutdown()  # the job's log lies in there
        rmtree(directory)
