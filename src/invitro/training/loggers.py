"""Where a run's curves go: Weights & Biases, files, or nowhere. No text of the corpus and no secret is sent."""

import io
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, redirect_stdout
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from invitro.errors import InputError, command_line, error_text
from invitro.settings import Positive, checked

if TYPE_CHECKING:
    import pandas as pd
    from lightning.pytorch.loggers import Logger

log = logging.getLogger(__name__)

LONGEST_UPLOAD = 300.0
"""Seconds that W&B may take to upload the rest of a run at its end; its server may be gone by then."""


@dataclass(frozen=True)
class RunInfo:
    """The description of a run for its logger and record.

    Args:
        directory: the run's directory.
        name: readable, such as ``deberta both alpha=4.0 seed=0``.
        config: the resolved configuration as plain values, without secrets.
        group: the study or sweep the run belongs to.
        tags: words to filter by.
    """

    directory: Path
    name: str
    config: Mapping[str, Any]
    group: str | None
    tags: tuple[str, ...]


@dataclass
class OpenedLogger:
    """A logger of one run; `summarise` is called once at the end.

    Args:
        logger: Lightning's, which takes the curves.
        again: how to send the run again.
    """

    logger: "Logger | None"
    again: str = "train again with force=true"

    def summarise(self, values: Mapping[str, Any]) -> None:
        """Keep the final numbers."""
        if self.logger is not None:
            self.logger.log_metrics({name: value for name, value in values.items() if isinstance(value, float)})


@contextmanager
def tracked(logger: "LoggerChoice", run: RunInfo) -> "Iterator[tuple[Logger | None, dict[str, Any]]]":
    """Open a logger for a run whose record is on the disk at the end.

    Yields Lightning's logger, and a dictionary for the final numbers. Failures while these are sent, or while the
    logger closes, become one warning that says how to send the run again.
    """
    final: dict[str, Any] = {}
    with ExitStack() as stack:
        opened = stack.enter_context(logger.open(run))
        yield opened.logger, final
        failures: list[Exception] = []
        for end in (partial(opened.summarise, final), stack.close):
            try:
                end()
            except Exception as error:
                failures.append(error)
        if failures:
            why = " ".join(error_text(failures[0]).split())
            log.warning("the end of %s was not sent to the tracker (%s). Its record is complete. To send it: %s",
                        run.name, why, opened.again)  # fmt: skip


@dataclass(frozen=True)
class NoLogger:
    """Logs nothing; the record has everything."""

    @contextmanager
    def open(self, run: RunInfo) -> Iterator[OpenedLogger]:
        """Open nothing."""
        yield OpenedLogger(None)


@dataclass(frozen=True)
class CSV:
    """Lightning's CSV files in ``logs/`` of the run's directory."""

    @contextmanager
    def open(self, run: RunInfo) -> Iterator[OpenedLogger]:
        """Open the files."""
        from lightning.pytorch.loggers import CSVLogger

        logger = CSVLogger(run.directory, name="logs", version="")
        yield OpenedLogger(logger)
        logger.save()


@dataclass(frozen=True)
class TensorBoard:
    """TensorBoard's files in ``tensorboard/`` of the run's directory."""

    @contextmanager
    def open(self, run: RunInfo) -> Iterator[OpenedLogger]:
        """Open the files; raise an error if TensorBoard is not installed."""
        if find_spec("tensorboard") is None:
            raise InputError('logger=tensorboard needs the package tensorboard: pip install "invitro[tensorboard]"')
        from lightning.pytorch.loggers import TensorBoardLogger

        logger = TensorBoardLogger(run.directory, name="tensorboard", version="")
        yield OpenedLogger(logger)
        logger.finalize("success")


@checked("logger")
@dataclass(frozen=True)
class Trackio:
    """Trackio: curves on a local page, without an account. All runs are in its own folder.

    The folder is ``TRACKIO_DIR``, by default ``trackio`` in Hugging Face's cache, so that ``trackio show`` finds them.

    Args:
        project: the project's name.
    """

    project: str = "invitro"

    @contextmanager
    def open(self, run: RunInfo) -> Iterator[OpenedLogger]:
        """Open a run and close it; raise an error if Trackio is not installed."""
        if find_spec("trackio") is None:
            raise InputError('logger=trackio needs the package trackio: pip install "invitro[trackio]"')
        from lightning.pytorch.loggers import WandbLogger
        from trackio.run import Run
        from trackio.utils import TRACKIO_DIR

        class Local(Run):
            def _get_username(self) -> None:
                """Do not ask the hub for the name of a token's owner."""

        # A Run is local, whereas `trackio.init` would follow TRACKIO_SPACE_ID and open a page in a notebook.
        started: Any = Local(url=None, client=None, project=self.project, name=run.name, group=run.group,
                        config={**run.config, "tags": list(run.tags)})  # fmt: skip
        try:
            yield OpenedLogger(WandbLogger(experiment=started))  # which needs only wandb's `log`
        finally:
            with redirect_stdout(io.StringIO()):  # "Uploading logs": to the folder
                started.finish()
        log.info('Trackio has the curves in %s. To see them: trackio show --project "%s"', TRACKIO_DIR, self.project)


@checked("logger")
@dataclass(frozen=True)
class WandB:
    """Weights & Biases.

    Args:
        project: the project's name.
        entity: user or team; None is the default of the login.
        group: of runs that belong together; None is the study's name, or the sweep's directory in a multirun.
        job_type: kind of job.
        tags: words to filter by, besides those of the run.
        mode: ``auto`` is online if the user is logged in and the server answers, otherwise offline.
        timeout: seconds to wait for the server before going offline.
    """

    project: str = "invitro"
    entity: str | None = None
    group: str | None = None
    job_type: str = "train"
    tags: tuple[str, ...] = ()
    mode: Literal["auto", "online", "offline"] = "auto"
    timeout: Positive = 20.0

    @contextmanager
    def open(self, run: RunInfo) -> "Iterator[_WandB]":
        """Start a separate run and close it; after an exception it is marked as failed."""
        opened = self._start(run)
        try:
            yield opened
        except BaseException:
            opened.run.finish(exit_code=1)
            raise
        opened.run.finish(exit_code=0)
        if opened.offline:
            log.info("W&B was offline. To upload this run: %s", opened.again)

    def _start(self, run: RunInfo) -> "_WandB":
        import wandb

        mode = os.environ.get("WANDB_MODE") or self.mode
        try:
            if mode == "auto":
                mode = "online" if wandb.login(prompt=False) else "offline"
            return self._init(run, mode)
        except (wandb.Error, OSError) as error:
            if mode == "offline":
                raise
            log.warning("W&B did not answer (%s); this run is logged offline", error)
            return self._init(run, "offline")

    def _init(self, run: RunInfo, mode: Any) -> "_WandB":
        import wandb
        from lightning.pytorch.loggers import WandbLogger

        if mode == "offline":
            os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # it would look up a host even when offline
        started = wandb.init(
            project=self.project,
            entity=self.entity,
            name=run.name,
            group=self.group or run.group,
            job_type=self.job_type,
            tags=[*run.tags, *self.tags],
            config=dict(run.config),
            dir=run.directory,
            reinit="create_new",
            # No command line, console output, code or git state: they may contain secrets.
            settings=wandb.Settings(
                mode=mode, x_disable_meta=True, console="off", disable_git=True, disable_code=True,
                save_code=False, init_timeout=self.timeout, silent=True,
                finish_timeout=LONGEST_UPLOAD, finish_timeout_raises=True,
            ),
        )  # fmt: skip
        again = command_line(["wandb", "sync", str(Path(started.dir).parent)])
        return _WandB(WandbLogger(experiment=started), again, run=started, offline=mode == "offline")


@dataclass(kw_only=True)
class _WandB(OpenedLogger):
    run: Any
    offline: bool

    def summarise(self, values: Mapping[str, Any]) -> None:
        self.run.summary.update(dict(values))

    def attach(self, tables: "Mapping[str, pd.DataFrame]", images: Mapping[str, Path], files: Sequence[Path]) -> None:
        """Log tables and images under their names, and files as one artifact named after the run."""
        import wandb

        self.run.log(
            {name: wandb.Table(dataframe=table) for name, table in tables.items()}
            | {name: wandb.Image(str(path)) for name, path in images.items()}
        )
        artifact = wandb.Artifact("".join(sign if sign.isalnum() else "-" for sign in self.run.name), type="report")
        for path in files:
            artifact.add_file(str(path))
        self.run.log_artifact(artifact)


def default_entity() -> str | None:
    """Return the user or team of the W&B login; None without a login."""
    import wandb

    try:
        return str(wandb.Api().default_entity) if wandb.login(prompt=False) else None
    except (wandb.Error, OSError, ValueError) as error:
        log.warning("W&B did not answer (%s)", error)
        return None


LoggerChoice = NoLogger | CSV | TensorBoard | Trackio | WandB
