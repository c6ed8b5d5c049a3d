"""What every entry point needs from Hydra: the folders of records, mandatory values, instantiation."""

import logging
import os
import re
import signal
import sys
import threading
import time
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from shutil import rmtree, which
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from hydra.experimental.callback import Callback
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf, open_dict

from invitro.errors import InputError, conf_folder, meant, names_shown, refuse_if_any

if TYPE_CHECKING:
    from invitro.data import DataFolder
    from invitro.models import PLM
    from invitro.models.features import FeatureCache

# Cached by Hydra with the configuration: all jobs of a multirun see one value, two multiruns never the same.
OmegaConf.register_new_resolver("unique", lambda: uuid4().hex[:6], use_cache=True, replace=True)


REFUSED = 2
"""Exit status for input that cannot be used; 1 is for later failures."""


UNDIVIDED = {"_target_": "invitro.data.Undivided"}
"""The split of an undivided corpus, which may be too small to divide."""


class RememberPlace(Callback):
    """Refuses secrets before Hydra writes them; remembers where a multirun's records go, and its launch."""

    sweep: Path | None = None
    launch: str | None = None
    workers: bool = False  # whether jobs run in separate processes
    made: Sequence[Path] = ()  # parents of a run's folder that are made for it, the innermost first

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Refuse secrets by exiting, since Hydra turns exceptions in callbacks into warnings."""
        with refusing("Nothing was started."):
            refuse_if_any(secrets_in(config))
        RememberPlace.made = [folder for folder in Path(config.hydra.run.dir).parents if not folder.exists()]

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Refuse secrets, and SLURM if it is not installed; note the sweep's directory and the launch."""
        self.on_run_start(config)
        if "SlurmLauncher" in str(config.hydra.launcher.get("_target_")):
            with refusing("Nothing was started."):
                refuse_slurm_if_absent()
        RememberPlace.sweep = Path(config.hydra.sweep.dir)
        RememberPlace.launch = config.get("launch")
        RememberPlace.workers = config.hydra.runtime.choices.get("hydra/launcher") != "basic"


def refuse_slurm_if_absent() -> None:
    """Raise an `InputError` if SLURM cannot launch jobs."""
    if which("srun") is None:
        raise InputError(
            "hydra/launcher=submitit_slurm: there is no srun on this machine; start this on a SLURM cluster's login "
            "node, or use hydra/launcher=joblib hydra.launcher.n_jobs=2"
        )


SECRET_NAME = re.compile(r"(^|_)(api_?key|(access|auth|api|hf)_?token|token|password|passwd|secret|authorization)$")
"""Names of settings that contain a secret, in lower case with underscores."""
SECRET_VALUE = re.compile(  # API keys; a password in a URL or its parameters; an environment variable
    r"\bsk-[\w-]{16,}|\bhf_\w{20,}|\bAIza[\w-]{30,}|\bgh[pousr]_\w{30,}|\bAKIA\w{16}\b|\bBearer\s+\S{8,}"
    r"|://[^/\s@]*:[^/\s@]+@"
    r"|[?&]([\w-]*(key|token|secret|password)|sig)=[^&\s]"
    r"|\$\{oc\.env:\w*(KEY|TOKEN|SECRET|PASSWORD)"
)
ENVIRONMENT_NAME = re.compile(r"[A-Z_][A-Z0-9_]*|[A-Za-z_]\w{0,19}")
"""Names of environment variables; a long value with lower-case letters is more likely to be a key itself."""


def secrets_in(config: DictConfig | Sequence[str]) -> list[str]:
    """Return a problem for each setting that contains a secret; a configuration is written into records.

    Args:
        config: a composed configuration, whose overrides are checked too, or only overrides.
    """
    values: dict[str, Any] = {}
    if isinstance(config, DictConfig):
        whole = plain(config, resolve=False)
        words = whole.pop("hydra")["overrides"]["task"]
        values = dict(leaves(whole, ""))
    else:
        words = config
    for word in words:
        name, _, value = str(word).partition("=")
        values[name.lstrip("+~")] = value
    return [
        f"{name}: looks like a secret, and settings are written into records. Put it into an environment variable, and "
        "name that variable with llm.engine.key_env=NAME"
        for name, value in values.items()
        if _is_secret(name.rpartition(".")[2].lower().replace("-", "_"), value)
    ]


def leaves(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Yield the dotted name and the value of everything in a configuration."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    if inside is None:
        yield name, value
    else:
        for key, item in inside:
            yield from leaves(item, f"{name}.{key}" if name else str(key))


def _is_secret(name: str, value: Any) -> bool:
    if not isinstance(value, str) or value in ("", "null", "???"):
        return False
    if name == "key_env":
        return ENVIRONMENT_NAME.fullmatch(value) is None
    return SECRET_NAME.search(name) is not None or SECRET_VALUE.search(value) is not None


def with_own_labels_named(cfg: DictConfig) -> DictConfig:
    """Name the user's own LLM labels after their column or file, in `cfg` itself, which is returned.

    They were not made by the model of ``llm=``, whose default nobody chose.
    """
    llm = cfg.llm
    source = llm.get("column") or (llm.get("labels") and Path(llm.labels).name)
    if source and (llm.get("model") or llm.get("members")):
        with open_dict(cfg):
            llm.name, llm.model, llm.revision, llm.engine, llm.members = str(source), None, None, None, []
    return cfg


ARGUMENTS = re.compile(
    r"missing \d+ required [\w-]+ arguments?: (?P<lacking>.+)|unexpected keyword argument (?P<unknown>'\w+')"
)
"""Python's message about a call whose arguments do not fit the function."""


def instantiated(node: DictConfig) -> Any:
    """Instantiate a node; raise what its class refuses as an `InputError`."""
    try:
        return instantiate(node, _convert_="all")
    except InstantiationException as error:
        if isinstance(error.__cause__, InputError):
            raise error.__cause__ from None
        arguments = ARGUMENTS.search(str(error.__cause__)) if isinstance(error.__cause__, TypeError) else None
        if arguments is None:
            raise
        where = str(error).rpartition("full_key: ")[2].strip()
        problem = "expected a value for" if arguments["lacking"] else "there is no setting"
        raise InputError(f"{where}: {problem} {arguments['lacking'] or arguments['unknown']}") from None


@contextmanager
def noting(problems: list[str]) -> Iterator[None]:
    """Add refusals to `problems` instead of raising them, so that several are reported together."""
    try:
        yield
    except InputError as error:
        problems += [problem for problem in error.problems if problem not in problems]


@contextmanager
def refusing(unchanged: str) -> Iterator[None]:
    """End the process with status `REFUSED` if something is refused inside, and print what was therefore not done."""
    try:
        yield
    except InputError as error:
        print(f"{error}\n{unchanged}", file=sys.stderr)
        sys.exit(REFUSED)


def each_instantiated(cfg: Mapping[Any, Any], names: Iterable[str], problems: list[str]) -> dict[str, Any]:
    """Instantiate the nodes called `names`; those that are refused are left out and noted in `problems`."""
    instances = {}
    for name in names:
        with noting(problems):
            instances[name] = instantiated(cfg[name])
    return instances


def missing(cfg: DictConfig) -> list[str]:
    """Return a problem for every mandatory value that is missing."""
    return [f"{key}: expected a value, as in {key}=..., found none" for key in sorted(OmegaConf.missing_keys(cfg))]


def misnamed(cfg: DictConfig, multirun: bool = False) -> Iterator[str]:
    """Yield a problem for each named column that the table's file does not have; only its header is read.

    Columns that the reader finds itself, or that are in a file of ratings, are left to it. In a multirun, an LLM's
    column is left to the job that needs it, so that the others continue.
    """
    data, llm = plain(cfg.data), plain(cfg.llm)
    path, columns = Path(str(data.get("path"))), data.get("columns")
    if not str(data.get("_target_")).endswith(".TableFile") or not isinstance(columns, dict) or not path.exists():
        return
    from invitro.data.corpus import CANONICAL_COLUMNS, DEMOGRAPHICS
    from invitro.data.table import DEFAULT_COLUMNS
    from invitro.tables import columns_of

    raters = columns.get("raters") or []
    header, rated = columns_of(path, data.get("encoding")), bool(data.get("ratings") or raters)
    ours = {key: columns.get(key) for key in (*CANONICAL_COLUMNS, *DEMOGRAPHICS)}
    named = {f"data.columns.{key}": column for key, column in ours.items() if column and column not in header}
    for key in ("text_id", "crowd_label"):
        if DEFAULT_COLUMNS[key] == ours[key] or (key == "crowd_label" and rated):
            named.pop(f"data.columns.{key}", None)
    if isinstance(raters, list) and not data.get("ratings"):
        named |= {
            f"data.columns.raters[{position}]": rater for position, rater in enumerate(raters) if rater not in header
        }
    llm_column = None if multirun else llm.get("column")
    if (
        llm_column
        and not llm.get("by_prompt")
        and llm_column not in [*header, *(key for key, column in ours.items() if column)]
    ):
        named["llm.column"] = llm_column
    for key, column in named.items():
        similar = meant([str(column)], header)
        yield f"{path}: expected column {names_shown([column])} ({key}); found {names_shown(header)}{similar}"


def data_folder(cfg: DictConfig) -> "DataFolder":
    """Return the folder of the data files."""
    from invitro.data import DataFolder

    return DataFolder(cfg.data.get("folder") or os.environ.get("INVITRO_DATA_DIR"))


def feature_cache(folder: str | None, plm: "PLM", device: str = "auto") -> "FeatureCache":
    """Return a frozen encoder's features, cached in `folder` and computed on `device`, such as ``cuda:1``."""
    from invitro.models.features import FeatureCache, FrozenEncoder
    from invitro.models.scoring import device_of

    return FeatureCache(Path(folder) if folder else None, FrozenEncoder(plm, device_of(device)))


def command_of(entry_point: str) -> tuple[str, ...]:
    """Return the command line that starts an entry point in a separate process, without its arguments.

    Raises:
        InputError: there is neither its script nor its command.
    """
    script = conf_folder().parent / f"{entry_point}.py"
    if script.is_file():
        return sys.executable, str(script)
    with suppress(PackageNotFoundError):
        for file in files("invitro") or []:
            if file.stem == f"invitro-{entry_point}":
                return (str(Path(str(file.locate())).resolve()),)
    raise InputError(
        f"{entry_point}: expected an entry point or a script; there is no {script}, "
        f"and no command invitro-{entry_point}"
    )


def first_lines(group: Path) -> dict[str, str]:
    """Return the choices in the folder `group`, each with its description: the first line of its file."""
    return {file.stem: file.read_text("utf-8").partition("\n")[0].lstrip("# ") for file in sorted(group.glob("*.yaml"))}


def plain(cfg: DictConfig, resolve: bool = True) -> dict[str, Any]:
    """Return a configuration as plain values, resolved or as written."""
    values = OmegaConf.to_container(cfg, resolve=resolve)
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}


def remove_if_fresh(directory: Path) -> None:
    """Remove a run's directory, and the parents made for it, if it contains only Hydra's files for this run."""
    ours = {".hydra", f"{HydraConfig.get().job.name}.log"}
    if directory.is_dir() and {path.name for path in directory.iterdir()} <= ours:
        logging.shutdown()  # the job's log is in there
        rmtree(directory)
        with suppress(OSError):  # another run has started in one of them
            for folder in RememberPlace.made:
                folder.rmdir()


class Stopped(SystemExit):
    """SIGTERM or Ctrl-C; the exit status is 128 plus the signal's number, which Lightning would turn into 0."""


CHILDREN_STOP = 4.0
"""Seconds that child processes have to stop; the remaining ones are killed."""


@contextmanager
def stoppable(message: str | None = None) -> Iterator[None]:
    """Raise `Stopped` on SIGTERM and SIGINT at once; a signal that the process was started to ignore stays ignored.

    Jobs of a multirun that run in separate processes are stopped first. If interrupted library code swallows the
    exception, it is raised again.

    Args:
        message: printed when the process is stopped.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    raised: list[weakref.ref[Stopped]] = []
    left = threading.Event()

    def stop(number: int, frame: object) -> None:
        if RememberPlace.workers:
            stop_children()
        error = Stopped(128 + number)
        raised.append(weakref.ref(error, lambda _: swallowed(number)))
        try:
            raise error
        finally:
            del error  # otherwise its own traceback would keep it alive

    def swallowed(number: int) -> None:
        if not left.is_set():
            threading.Thread(target=again, args=(number,), daemon=True).start()

    def again(number: int) -> None:
        if not left.wait(0.1):
            # On Windows os.kill ends a process at once.
            signal.raise_signal(number) if os.name == "nt" else os.kill(os.getpid(), number)

    numbers = [number for number in (signal.SIGTERM, signal.SIGINT) if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield
    except Stopped:
        if message is not None:
            print(message, file=sys.stderr)
        raise
    finally:
        left.set()
        for number, handler in before.items():
            signal.signal(number, handler)


def stop_children() -> None:
    """Ask this process's children to stop, then kill those of them and of their descendants that are still running."""
    import psutil

    this, processes = psutil.Process(), []
    for child in this.children(recursive=True):
        words: list[str] = []
        with suppress(psutil.Error):  # a command line that cannot be read is not a tracker's
            words = child.cmdline()
        if not any("resource_tracker" in word for word in words):  # Python's own, which end with their parent
            processes.append(child)
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            if process.ppid() == this.pid:
                process.terminate()
    for process in psutil.wait_procs(processes, CHILDREN_STOP)[1]:
        with suppress(psutil.NoSuchProcess):
            process.kill()


def end_with(name: str) -> None:
    """Stop this process when another one ends, however that ends; its id is in the environment variable `name`."""
    number = os.environ.get(name, "")
    if not number.isdigit() or int(number) == os.getpid():
        return
    import psutil

    try:
        other = psutil.Process(int(number))
    except psutil.NoSuchProcess:
        return  # it is on another machine

    def watch() -> None:
        while other.is_running() and other.status() != psutil.STATUS_ZOMBIE:
            time.sleep(1.0)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def is_first_process() -> bool:
    """Whether this is the process whose output people read: the only one, or the first of a distributed run."""
    return not any(int(os.environ.get(name) or 0) for name in ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID"))
