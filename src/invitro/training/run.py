"""One run: from prepared labels to a trained model and its record."""

import logging
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from shutil import rmtree
from typing import Any

import lightning as L
import numpy as np
import numpy.typing as npt
import pandas as pd
import transformers
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from torch import Tensor
from torch.optim import Optimizer

from invitro.data import DEMOGRAPHICS
from invitro.files import write_json
from invitro.metrics import measure
from invitro.models import PLM
from invitro.models.features import FeatureCache, check_head
from invitro.models.folder import CardFacts, save_model
from invitro.models.loading import Loaded, check_available, load_regressor, load_tokenizer
from invitro.training import record
from invitro.training.callbacks import History, PatientStopping
from invitro.training.datamodule import TextsDataModule
from invitro.training.inputs import FeatureInputs, TokenInputs
from invitro.training.loggers import LoggerChoice, RunInfo
from invitro.training.module import Regressor
from invitro.training.prepare import Prepared
from invitro.training.settings import Fit

log = logging.getLogger(__name__)

Scores = Mapping[str, float]


class TrainingError(RuntimeError):
    """Training went wrong in a way that the numbers show, such as divergence."""


@dataclass(frozen=True)
class Recipe:
    """How a model is trained, whatever the data.

    Args:
        plm: the encoder.
        fit: the course of training.
        optimizer: makes the optimiser from the trained parameters.
        trainer: makes the Lightning trainer; precision, accelerator and strategy are its.
        settings: plain values of `optimizer` and `trainer`, for the fingerprint.
        seed: of weights, dropout and batches.
    """

    plm: PLM
    fit: Fit
    optimizer: Callable[[Iterable[Tensor]], Optimizer]
    trainer: Callable[..., L.Trainer]
    settings: Mapping[str, Any]
    seed: int


@dataclass(frozen=True)
class Place:
    """Where a run reads and writes.

    Args:
        directory: the run's directory.
        cache: for features of frozen encoders; None keeps none.
        save_model: whether ``model/`` is written.
        resume: a checkpoint to continue from.
        keep_checkpoints: whether ``checkpoints/`` stays after the run.
    """

    directory: Path
    cache: Path | None = None
    save_model: bool = True
    resume: Path | None = None
    keep_checkpoints: bool = False


@dataclass(frozen=True)
class Result:
    """What a run came to: the content of ``metrics.json``, and its predictions."""

    metrics: dict[str, Any]
    predictions: pd.DataFrame


def fingerprint_of(prepared: Prepared, recipe: Recipe) -> str:
    """Hash what decides a run's result: training labels, evaluation rows, encoder, recipe, seed, version.

    The training labels stand for corpus, label set, application and alpha: what leads to the same labels is the same
    run (alpha beyond the largest difference is no correction).
    """
    return record.fingerprint(
        labels=prepared.labels.fingerprint,
        evaluation=prepared.evaluation_fingerprint,
        scale=asdict(prepared.scale),
        plm=asdict(recipe.plm) | {"name": recipe.plm.fingerprint, "package": None},
        fit=asdict(recipe.fit),
        settings=dict(recipe.settings),
        seed=recipe.seed,
    )


def train(prepared: Prepared, recipe: Recipe, place: Place, logger: LoggerChoice, info: RunInfo) -> Result:
    """Train and evaluate one model, and leave its record in ``place.directory``.

    The record's ``metrics.json`` is written last. An exception leaves no model folder and no ``metrics.json``; the
    caller decides how the failure is recorded.

    Raises:
        InputError: the encoder cannot be loaded, or does not fit ``plm.train``.
        TrainingError: predictions are not finite.
    """
    started = time.perf_counter()
    _quiet()
    L.seed_everything(recipe.seed, workers=True, verbose=False)
    loaded = _load(prepared, recipe)
    with logger.open(info) as opened:
        module, data, trainer, history = _assemble(prepared, recipe, place, loaded, opened.logger)
        trainer.fit(module, data, ckpt_path=place.resume, weights_only=True)
        _take_best(recipe, trainer, module)
        trainer.test(module, data, verbose=False)
        seconds = time.perf_counter() - started
        predictions = _predictions(prepared, module.predicted)
        metrics = _metrics(prepared, predictions) | {
            "train": {
                "size": len(prepared.labels.table),
                "replaced": prepared.labels.replaced,
                "augmented": prepared.labels.augmented,
                "without_llm_label": prepared.labels.without_llm_label,
                "truncated": data.truncated,
                "epochs": len(history.rows),
                "seconds": round(seconds, 3),
            },
            "fingerprint": fingerprint_of(prepared, recipe),
            "status": "finished",
        }
        if trainer.is_global_zero:
            _write(prepared, recipe, place, loaded, metrics, predictions, info.config)
            opened.summarise(_flat(metrics))
    return Result(metrics, predictions)


def _quiet() -> None:
    """Silence what Lightning and Transformers tell about themselves; their warnings about the run stay."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    # Texts are in memory and collated in microseconds: workers would only copy them.
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*in eval mode at the start of training.*")
    warnings.filterwarnings("ignore", message=".*LeafSpec.*deprecated.*")
    # torchmetrics brings the processes together before the values are logged.
    warnings.filterwarnings("ignore", message=".*when logging on epoch level in distributed setting.*")
    warnings.filterwarnings("ignore", message=".*distributed.nn.functional.all_gather is deprecated.*")


def _load(prepared: Prepared, recipe: Recipe) -> Loaded:
    check_available(recipe.plm)
    mean = float(prepared.labels.table["label"].mean())
    return Loaded(load_regressor(recipe.plm, mean), load_tokenizer(recipe.plm))


def _assemble(
    prepared: Prepared, recipe: Recipe, place: Place, loaded: Loaded, logger: Any
) -> tuple[Regressor, TextsDataModule, L.Trainer, History]:
    """Put module, data and trainer together."""
    fit, head_only = recipe.fit, recipe.plm.train == "head"
    if head_only:
        check_head(*loaded)
        inputs: Any = FeatureInputs(FeatureCache(place.cache, *loaded))
    else:
        inputs = TokenInputs(loaded.tokenizer)
    history = History(place.directory / "history.csv")
    folder = place.directory / "checkpoints"
    callbacks: list[Callback] = [
        history,
        ModelCheckpoint(
            folder, filename="last", every_n_epochs=1, save_on_train_epoch_end=True, enable_version_counter=False
        ),
    ]
    if fit.checkpoint == "best":
        best = ModelCheckpoint(
            folder, filename="best", monitor="val_ccc", mode="max", save_weights_only=True, enable_version_counter=False
        )
        callbacks.append(best)
    if fit.patience is not None:
        callbacks.append(PatientStopping(fit.start_epoch, fit.patience))
    trainer = recipe.trainer(
        max_epochs=fit.epochs,
        gradient_clip_val=fit.clip,
        callbacks=callbacks,
        logger=logger or False,
        default_root_dir=place.directory,
        use_distributed_sampler=False,
    )
    module = Regressor(loaded.model, fit, recipe.optimizer, head_only)
    return module, TextsDataModule(prepared, inputs, fit, recipe.seed), trainer, history


def _take_best(recipe: Recipe, trainer: L.Trainer, module: Regressor) -> None:
    """Put the weights of the best validation CCC back, unless the last ones are wanted."""
    if recipe.fit.checkpoint == "last":
        return
    import torch

    path = next(
        callback.best_model_path
        for callback in trainer.checkpoint_callbacks
        if isinstance(callback, ModelCheckpoint) and callback.monitor == "val_ccc"
    )
    state = torch.load(path, map_location=module.device, weights_only=True)["state_dict"]
    module.load_state_dict(state, strict=not module.head_only)


def _predictions(prepared: Prepared, scores: list[npt.NDArray[np.float64]]) -> pd.DataFrame:
    """Return the rows of ``predictions.csv``, each score in the scale's units, not clipped."""
    tables = []
    for split, values in zip(("val", "test"), scores, strict=True):
        table = prepared.evaluation(split)
        if not np.isfinite(values).all():
            raise TrainingError(
                f"{int((~np.isfinite(values)).sum())} of {len(values)} predictions on {split} are not finite: training "
                "diverged; lower plm.lr, or set fit.clip=1.0"
            )
        carried = [name for name in ("group_id", *DEMOGRAPHICS, "truth") if name in table]
        tables.append(table[["text_id", "split", "crowd_label"]].assign(prediction=values).join(table[carried]))
    return pd.concat(tables, ignore_index=True)


def _metrics(prepared: Prepared, predictions: pd.DataFrame) -> dict[str, Any]:
    """Return PCC, CCC and RMSE by split: against crowd labels and, where it is known, against the truth."""

    def against(column: str, split: str) -> Scores | None:
        rows = predictions.loc[(predictions["split"] == split) & predictions[column].notna()]
        return measure(rows["prediction"], rows[column]) if len(rows) else None

    metrics: dict[str, Any] = {split: against("crowd_label", split) for split in ("val", "test")}
    if "truth" in predictions:
        metrics["truth"] = {split: against("truth", split) for split in ("val", "test")}
    return metrics


def _write(
    prepared: Prepared,
    recipe: Recipe,
    place: Place,
    loaded: Loaded,
    metrics: dict[str, Any],
    predictions: pd.DataFrame,
    config: Mapping[str, Any],
) -> None:
    """Write the record, ``metrics.json`` last."""
    directory = place.directory
    record.write_config(directory, config)
    record.write_table(directory / "predictions.csv", predictions)
    record.write_table(directory / "labels.csv", prepared.labels.record())
    hashes = {"corpus": prepared.corpus.fingerprint} | {one.name: one.fingerprint for one in prepared.label_sets}
    write_json(directory / "environment.json", record.environment(recipe.seed, metrics["train"]["seconds"], hashes))
    if place.save_model:
        facts = CardFacts(
            base=recipe.plm.name,
            base_licence=recipe.plm.licence,
            corpus=prepared.corpus.name,
            corpus_licence=prepared.corpus.licence,
            citation=prepared.corpus.citation,
            labels=prepared.description,
            metrics={split: metrics[split] for split in ("val", "test")},
        )
        save_model(directory / "model", loaded.model, loaded.tokenizer, prepared.scale, facts)
    if not place.keep_checkpoints:
        rmtree(directory / "checkpoints", ignore_errors=True)
    write_json(directory / record.METRICS, metrics)


def _flat(metrics: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested metrics as ``test/ccc``: value."""
    flat: dict[str, Any] = {}
    for name, value in metrics.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}/")
        elif value is not None:
            flat[prefix + name] = value
    return flat


def summary(metrics: Mapping[str, Any]) -> str:
    """Return the run's numbers as a table for the terminal."""
    rows = {split: metrics[split] for split in ("val", "test")}
    rows |= {f"{split}, truth": scores for split, scores in metrics.get("truth", {}).items()}
    lines = [f"{'':<12} {'PCC':>7} {'CCC':>7} {'RMSE':>7}"]
    for name, scores in rows.items():
        cells = [f"{scores[key]:7.3f}" for key in ("pcc", "ccc", "rmse")] if scores else ["no crowd labels"]
        lines.append(f"{name:<12} {' '.join(cells)}")
    return "\n".join(lines)
