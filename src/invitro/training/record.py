"""A run's record: the files in its directory, and how a finished run is found again."""

import hashlib
import json
import os
import platform
import subprocess
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.metadata import version
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


def is_finished(directory: Path) -> bool:
    """Whether the directory has the record of a finished run."""
    return (directory / METRICS_FILE).is_file() and read_metrics(directory).get("status") == "finished"


def claim(directory: Path, run: str, force: bool, sibling: bool) -> Path:
    """Return the directory for a new record, cleared of the files that an unfinished or failed run left.

    A finished record that is replaced is kept in ``.replaced`` until the new one is complete or has failed (`settle`).
    Checkpoints stay: a killed run is resumed from them.

    Args:
        directory: the requested one.
        run: the new run's fingerprint.
        force: whether a finished record may be replaced.
        sibling: if another run's finished record is there, make a directory next to it instead of refusing.
    """
    settle(directory)
    finished = is_finished(directory)
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
    if not is_finished(directory):
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
    tables = {
        "predictions.csv": result.predictions,
        "labels.csv": labels_of(prepared),
        "choice.csv": None if prepared.choice is None else prepared.choice.table,
        "calibration.csv": prepared.labels.by_group,
    }
    for name, table in tables.items():
        if table is not None:
            with whole_or_absent(directory / name) as temporary:
                table.to_csv(temporary, index=False)
    hashes = {"corpus": prepared.corpus.fingerprint} | {used.name: used.fingerprint for used in prepared.label_sets}
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
    """Return where a failure is recorded: `directory`, or a new one next to it if it has a finished record."""
    number, candidate = 0, directory
    while is_finished(candidate):
        number += 1
        candidate = directory.with_name(f"{directory.name}-failed{number}")
    return candidate


NO_RESULTS = {"val": None, "test": None, "train": None, "fingerprint": None}


def write_failure(directory: Path, error: BaseException) -> None:
    """Write ``error.txt`` with the traceback, and ``metrics.json`` with the status ``failed``."""
    write_text(directory / "error.txt", traceback_text(error))
    write_json(directory / METRICS_FILE, NO_RESULTS | {"status": "failed", "error": error_text(error)})


def write_interrupted(directory: Path, checkpoint: Path | None, command: str) -> None:
    """Write ``metrics.json`` of a run that was stopped: the status, the last checkpoint and how to continue."""
    last = None if checkpoint is None else str(checkpoint)
    write_json(directory / METRICS_FILE, NO_RESULTS | {"status": "interrupted", "checkpoint": last, "resume": command})


def environment(seed: int, seconds: float, hashes: Mapping[str, str | None]) -> dict[str, Any]:
    """Return versions, commit, hardware, wall time (seconds) and the hashes of the data and the label set."""
    import torch

    return {
        "invitro": __version__,
        "python": platform.python_version(),
        "packages": {name: version(name) for name in RECORDED_PACKAGES},
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


def _commit() -> str | None:
    """Return the commit of the checkout with this file, marked if it has changes; None outside a checkout."""
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
