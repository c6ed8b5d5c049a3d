"""A run's record: the files in its directory, and how a finished run is found again."""

import hashlib
import json
import os
import platform
import subprocess
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from shutil import rmtree
from typing import TYPE_CHECKING, Any

import yaml

from invitro import __version__
from invitro.errors import InputError, error_text, traceback_text
from invitro.files import whole_or_absent, write_json, write_text

if TYPE_CHECKING:
    from invitro.models.folder import CardFacts
    from invitro.training.prepare import Prepared
    from invitro.training.recipe import Place, Recipe, Result


RECORDED_PACKAGES = (
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
RECORD_FILES = (
    METRICS_FILE,
    "predictions.csv",
    "labels.csv",
    "choice.csv",
    "calibration.csv",
    "history.csv",
    "environment.json",
    "config.yaml",
    "error.txt",
    "model",
)
"""All files of a run's record; ``metrics.json`` comes first: without it a run does not count as finished."""


def fingerprint(**facts: Any) -> str:
    """Hash everything that can change a run's result, and the package's version; facts are JSON values."""
    text = json.dumps(facts | {"invitro": __version__}, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def finished_run(roots: Iterable[Path], wanted: str, with_model: bool = False) -> Path | None:
    """Return a directory below `roots` whose run finished with the fingerprint `wanted`, or None.

    If the model is needed too, a record without ``model/`` does not count.
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
    """Return the directory for a new record, cleared of the files that an unfinished or failed run left.

    A finished record that is replaced is kept in ``.replaced`` until the new one is complete or has failed (`settle`).
    Checkpoints stay: a killed run is resumed from them.

    Args:
        directory: the one that is wanted.
        run: the new run's fingerprint.
        force: whether a finished record may be replaced.
        sibling: if another run's finished record is there, make a directory beside it instead of refusing.
    """
    settle(directory)
    finished = (directory / METRICS_FILE).is_file() and read_metrics(directory).get("status") == "finished"
    if finished and not force:
        if not sibling:
            raise InputError(
                f"{directory} holds the record of a finished run; choose another hydra.run.dir, "
                "or replace it with force=true"
            )
        directory, finished = directory.with_name(f"{directory.name}-{run[:8]}"), False
    directory.mkdir(parents=True, exist_ok=True)
    if finished:
        (directory / REPLACED).mkdir()
    for name in RECORD_FILES:
        path = directory / name
        if finished and path.exists():
            path.rename(directory / REPLACED / name)
        else:
            _remove(path)
    return directory


def settle(directory: Path) -> None:
    """Delete a record that was replaced; if no new one has finished, restore the old one."""
    old = directory / REPLACED
    if not old.is_dir():
        return
    if not (directory / METRICS_FILE).is_file() or read_metrics(directory).get("status") != "finished":
        for name in RECORD_FILES[::-1]:  # metrics.json last
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
                continue  # removed in the meantime, or not written by a run


def write_record(
    prepared: "Prepared",
    recipe: "Recipe",
    place: "Place",
    result: "Result",
    save: "Callable[[Path, CardFacts], None]",
    config: Mapping[str, Any],
) -> None:
    """Write the record, ``metrics.json`` last; `save` writes the folder of the trained model."""
    from invitro.training.results import labels_of, results_table

    directory, metrics = place.directory, result.metrics
    write_text(directory / "config.yaml", yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True))
    for name, table in (("predictions.csv", result.predictions), ("labels.csv", labels_of(prepared))):
        with whole_or_absent(directory / name) as temporary:
            table.to_csv(temporary, index=False)
    if prepared.choice is not None:
        with whole_or_absent(directory / "choice.csv") as temporary:
            prepared.choice.table.to_csv(temporary, index=False)
    if prepared.labels.by_group is not None:
        with whole_or_absent(directory / "calibration.csv") as temporary:
            prepared.labels.by_group.to_csv(temporary, index=False)
    hashes = {"corpus": prepared.corpus.fingerprint} | {one.name: one.fingerprint for one in prepared.label_sets}
    write_json(directory / "environment.json", environment(recipe.seed, metrics["train"]["seconds"], hashes))
    if place.save_model:
        from invitro.data.facts import script_of
        from invitro.models import PLM
        from invitro.models.folder import CardFacts

        texts = prepared.labels.table["text"].tolist()
        facts = CardFacts(
            base=recipe.plm.name if recipe.plm.licence else "",
            base_licence=recipe.plm.licence,
            corpus=prepared.corpus.name,
            corpus_licence=prepared.corpus.licence,
            citation=prepared.corpus.citation,
            labels=prepared.description,
            results=results_table(metrics) if metrics["val"] or metrics["test"] else None,
            scripts=dict(Counter(map(script_of, texts)).most_common()),
            texts=texts,
            doubts=(metrics["references"] or {}).get("doubts", ()),
            library="transformers" if isinstance(recipe.plm, PLM) and not recipe.plm.frozen else "invitro",
        )
        save(directory / "model", facts)
    if not place.keep_checkpoints:
        rmtree(directory / "checkpoints", ignore_errors=True)
    write_json(directory / METRICS_FILE, metrics)


def failure_directory(directory: Path) -> Path:
    """Return where a failure is recorded: `directory`, or a new one beside it when a finished record is there."""
    number, place = 0, directory
    while (place / METRICS_FILE).is_file() and read_metrics(place).get("status") == "finished":
        number += 1
        place = directory.with_name(f"{directory.name}-failed{number}")
    return place


def write_failure(directory: Path, error: BaseException, run: str | None = None) -> None:
    """Write ``error.txt`` with the traceback, and ``metrics.json`` with the status ``failed``."""
    write_text(directory / "error.txt", traceback_text(error))
    empty = {"val": None, "test": None, "train": None}
    write_json(
        directory / METRICS_FILE,
        empty | {"fingerprint": run, "status": "failed", "error": error_text(error)},
    )


def write_interrupted(directory: Path, checkpoint: Path | None, command: str) -> None:
    """Write ``metrics.json`` of a run that was stopped: the status, the last checkpoint and how to go on."""
    empty = {"val": None, "test": None, "train": None, "fingerprint": None, "status": "interrupted"}
    where = None if checkpoint is None else str(checkpoint)
    write_json(directory / METRICS_FILE, empty | {"checkpoint": where, "resume": command})


def environment(seed: int, seconds: float, hashes: Mapping[str, str | None]) -> dict[str, Any]:
    """Return versions, commit, hardware, wall time (seconds) and the hashes of the data and the label set."""
    import torch

    return {
        "invitro": __version__,
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in RECORDED_PACKAGES},
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
    """Return the commit of the checkout that this file lies in, marked if it has changes; None outside a checkout."""
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
