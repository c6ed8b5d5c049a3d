"""What a run leaves in its directory, and how a finished run is found again."""

import hashlib
import json
import os
import platform
import subprocess
import traceback
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from shutil import rmtree
from typing import TYPE_CHECKING, Any

import pandas as pd
import yaml

from invitro import __version__
from invitro.application import names_own_pool
from invitro.errors import InputError
from invitro.files import whole_or_absent, write_json, write_text
from invitro.labels.source import SPENT
from invitro.training.prepare import Prepared

if TYPE_CHECKING:
    import torch


def processor_seconds() -> float:
    """Return the seconds that processor cores have worked for this process and its children that have ended.

    A run's share is the difference between its end and its start. Of a distributed run only this process counts.
    """
    return sum(os.times()[:4])


def device_name(device: "torch.device") -> str:
    """Return the name of a GPU, and of other devices their kind, such as ``cpu``."""
    if device.type == "cuda":
        import torch

        return torch.cuda.get_device_name(device)
    return device.type


def llm_use(prepared: Prepared) -> dict[str, int | float | None]:
    """Return how many texts' LLM labels a run used or looked at, and what these labels cost.

    Correction looks at the LLM's label of every training text, whichever it replaces; augmentation uses those of the
    texts that it adds.

    Returns:
        ``labels``, and `SPENT`: None where unknown, as for published files and a corpus's own column, and for engines
        that count no tokens or have no price (the store has 0 then); 0 where no LLM was used.
    """
    ids = _used(prepared)
    if ids.empty:
        return {"labels": 0, **dict.fromkeys(SPENT, 0)}
    spent = _spent(ids, prepared)
    found: dict[str, int | float | None] = {"labels": len(ids)}
    for name in SPENT:
        total = float(spent[name].sum())
        known = spent[name].notna().all() and total > 0
        found[name] = None if not known else total if name == "dollars" else int(total)
    return found


def _used(prepared: Prepared) -> "pd.Series[str]":
    """Return the ids of the texts whose LLM label the application needed and found."""
    if prepared.llm_label is None:
        return pd.Series([], dtype="str")
    application, ids = prepared.application, []
    if application.compares:
        ids.append(prepared.training["text_id"])
    if application.augmentation and application.pool_labels == "llm":
        trained = prepared.labels.table["text_id"]
        ids.append(trained[trained.isin(prepared.pool["text_id"])])
    wanted = pd.concat(ids) if ids else pd.Series([], dtype="str")
    return wanted[wanted.map(prepared.llm_label).notna()].reset_index(drop=True)


def _spent(ids: "pd.Series[str]", prepared: Prepared) -> pd.DataFrame:
    """Return what each text's label cost, NaN where its label set does not tell."""
    found = pd.DataFrame(index=ids.index, columns=list(SPENT), dtype="float64")
    own = names_own_pool(prepared.application)
    for number, one in enumerate(prepared.label_sets):
        # The last set is that of a pool from elsewhere, whose ids have its name before them.
        foreign = not own and number == len(prepared.label_sets) - 1
        of_it = ids[ids.isin(prepared.pool["text_id"]) == foreign] if not own else ids
        keys = of_it.str.partition(":")[2] if foreign else of_it
        for name in SPENT:
            if name in one.labels:
                found.loc[of_it.index, name] = keys.map(one.labels[name])
    return found


PACKAGES = (
    "torch",
    "lightning",
    "transformers",
    "torchmetrics",
    "tokenizers",
    "hydra-core",
    "omegaconf",
    "numpy",
    "pandas",
)
METRICS_FILE, REPLACED = "metrics.json", ".replaced"
FILES = (
    METRICS_FILE,
    "predictions.csv",
    "labels.csv",
    "history.csv",
    "environment.json",
    "config.yaml",
    "error.txt",
    "model",
)
"""All of a record that belongs to one run; ``metrics.json`` first: without it nothing counts as finished."""


def fingerprint(**facts: Any) -> str:
    """Hash whatever can change a run's result, and the package's version; facts are what JSON can hold."""
    text = json.dumps(facts | {"invitro": __version__}, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def finished_run(roots: Iterable[Path], wanted: str, with_model: bool = False) -> Path | None:
    """Return a directory below `roots` whose run finished with the fingerprint `wanted`, or None.

    Where the model is wanted too, a record without ``model/`` does not count.
    """
    for root in roots:
        for directory, metrics in records(root):
            same = metrics.get("fingerprint") == wanted and metrics.get("status") == "finished"
            if same and ((directory / "model").is_dir() or not with_model):
                return directory
    return None


def read_metrics(directory: Path) -> dict[str, Any]:
    """Return the content of a record's ``metrics.json``."""
    metrics: dict[str, Any] = json.loads((directory / METRICS_FILE).read_text("utf-8"))
    return metrics


def claim(directory: Path, run: str, force: bool, sibling: bool) -> Path:
    """Return the directory for a new record, cleared of what an unfinished or failed run left.

    A finished record that is replaced is kept in ``.replaced`` until the new one is whole or has failed (`settle`).
    Checkpoints stay: a killed run is resumed from them.

    Args:
        directory: the one that is wanted.
        run: the new run's fingerprint.
        force: whether a finished record may be replaced.
        sibling: when another run's finished record is there: make a directory beside it, instead of refusing.
    """
    settle(directory)
    finished = (directory / METRICS_FILE).is_file() and read_metrics(directory).get("status") == "finished"
    if finished and not force:
        if not sibling:
            raise InputError(
                f"{directory} holds the record of a finished run; choose another hydra.run.dir, "
                "or replace it by force=true"
            )
        directory, finished = directory.with_name(f"{directory.name}-{run[:8]}"), False
    directory.mkdir(parents=True, exist_ok=True)
    if finished:
        (directory / REPLACED).mkdir()
    for name in FILES:
        path = directory / name
        if finished and path.exists():
            path.rename(directory / REPLACED / name)
        else:
            _remove(path)
    return directory


def settle(directory: Path) -> None:
    """Drop a record that was replaced; where no new one has finished, put the old one back."""
    old = directory / REPLACED
    if not old.is_dir():
        return
    if not (directory / METRICS_FILE).is_file() or read_metrics(directory).get("status") != "finished":
        for name in FILES[::-1]:  # metrics.json last
            if (old / name).exists():
                _remove(directory / name)
                (old / name).rename(directory / name)
    rmtree(old)


def _remove(path: Path) -> None:
    if path.is_dir():
        rmtree(path)
    else:
        path.unlink(missing_ok=True)


def records(root: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield every record below `root` as its directory and the content of ``metrics.json``."""
    for directory, folders, names in os.walk(root):
        folders[:] = sorted(
            folder for folder in folders if folder not in ("model", "wandb", "checkpoints", ".hydra", REPLACED)
        )
        if METRICS_FILE in names:
            try:
                yield Path(directory), json.loads(Path(directory, METRICS_FILE).read_text("utf-8"))
            except (OSError, json.JSONDecodeError):
                continue  # removed meanwhile, or not written by a run


def write_config(directory: Path, config: Mapping[str, Any]) -> None:
    """Write ``config.yaml``: the resolved configuration as plain values."""
    write_text(directory / "config.yaml", yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True))


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a table as CSV, whole or not at all."""
    with whole_or_absent(path) as temporary:
        table.to_csv(temporary, index=False)


def failure_directory(directory: Path) -> Path:
    """Return where a failure is recorded: `directory`, or a new one beside it when a finished record is there."""
    number, place = 0, directory
    while (place / METRICS_FILE).is_file() and read_metrics(place).get("status") == "finished":
        number += 1
        place = directory.with_name(f"{directory.name}-failed{number}")
    return place


def write_failure(directory: Path, error: BaseException, run: str | None = None) -> None:
    """Write ``error.txt`` with the traceback, and ``metrics.json`` with the status ``failed``."""
    write_text(directory / "error.txt", "".join(traceback.format_exception(error)))
    empty = {"val": None, "test": None, "train": None}
    write_json(
        directory / METRICS_FILE,
        empty | {"fingerprint": run, "status": "failed", "error": f"{type(error).__name__}: {error}"},
    )


def environment(seed: int, seconds: float, hashes: Mapping[str, str | None]) -> dict[str, Any]:
    """Return versions, commit, hardware, wall time (seconds) and the hashes of the data and the label set."""
    import torch

    return {
        "invitro": __version__,
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "commit": _commit(),
        "seed": seed,
        "hardware": {
            "platform": platform.platform(),
            "processor": _processor(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "gpus": [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())],
        },
        "seconds": seconds,
        "hashes": dict(hashes),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    """Return the commit of the checkout that this file lies in, marked when it has changes; None outside of one."""
    here = Path(__file__).parent
    try:
        commit = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            cwd=here, capture_output=True, text=True, timeout=10, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return commit.stdout.strip() or None


def _processor() -> str:
    """Return the processor's name, which `platform.processor` leaves empty on Linux."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text("utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()
