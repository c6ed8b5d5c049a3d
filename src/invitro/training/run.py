"""One run: from prepared labels to a trained model and its record."""

import logging
import pickle
import time
import warnings
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import torch
import transformers
from lightning.pytorch.callbacks import Callback, ModelCheckpoint

from invitro.errors import InputError
from invitro.models import PLM
from invitro.models.features import FeatureCache, check_head
from invitro.models.folder import save_model
from invitro.models.loading import Loaded, add_adapters, check_available, load_regressor, load_tokenizer
from invitro.training import record
from invitro.training.baseline import fitted
from invitro.training.callbacks import History, PatientStopping, SmallLossSelection, kept_of
from invitro.training.data import FeatureInputs, TextsDataModule, TokenInputs, mean_one
from invitro.training.loggers import LoggerChoice, RunInfo
from invitro.training.module import Regressor, first_bias, outputs_of
from invitro.training.prepare import Prepared, cleaned
from invitro.training.recipe import Fit, Place, Recipe, Result, Trained
from invitro.training.record import device_name, llm_use, processor_seconds
from invitro.training.results import flattened, result_of, write_record

log = logging.getLogger(__name__)


def fingerprint_of(prepared: Prepared, recipe: Recipe) -> str:
    """Hash what decides a run's result: training labels, evaluation rows, encoder, recipe, seed, version.

    The training labels stand for corpus, label set, application and alpha: what leads to the same labels is the same
    run (alpha beyond the largest difference is no correction). A baseline knows no epochs, optimiser or trainer.
    """
    plm, is_baseline = recipe.plm, not isinstance(recipe.plm, PLM)
    return record.fingerprint(
        labels=prepared.labels.fingerprint,
        evaluation=prepared.evaluation_fingerprint,
        scale=asdict(prepared.scale),
        plm=(plm.decisive if isinstance(plm, PLM) else asdict(plm)) | {"name": plm.fingerprint},
        fit={"clean": recipe.fit.clean} if is_baseline else recipe.fit.decisive,
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
    started, worked = time.perf_counter(), processor_seconds()
    quiet()
    run, before = fingerprint_of(prepared, recipe), len(prepared.labels.table)
    prepared = cleaned(prepared, recipe.fit.clean, recipe.seed)
    counts = {"cleaned": before - len(prepared.labels.table)} if recipe.fit.clean != "none" else {}
    L.seed_everything(recipe.seed, workers=True, verbose=False)
    baseline = None if isinstance(recipe.plm, PLM) else recipe.plm
    loaded = None if baseline is not None else _load(prepared, recipe)
    with logger.open(info) as opened:
        if loaded is not None:
            trained = _fine_tuned(prepared, recipe, place, loaded, opened.logger)
        elif baseline is not None:
            trained = fitted(prepared, baseline, recipe, place)
        seconds = time.perf_counter() - started
        cost = {
            "processor_seconds": round(processor_seconds() - worked, 3),
            "device": trained.device,
            "llm": llm_use(prepared),
        }
        result = result_of(prepared, trained.predicted, run, seconds, cost, **counts, **trained.counts)
        if trained.records:
            write_record(prepared, recipe, place, result, trained.save, info.config)
            opened.summarise(flattened(result.metrics))
    return result


def quiet() -> None:
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


def check_resume(checkpoint: Path, fit: Fit) -> None:
    """Refuse a checkpoint that is none, or that has trained all of ``fit.epochs`` already."""
    try:
        epoch = int(torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)["epoch"])
    except (RuntimeError, KeyError, OSError, pickle.UnpicklingError) as error:
        raise InputError(f"resume={checkpoint}: expected a checkpoint of a run, found {error}") from error
    if epoch + 1 >= fit.epochs:
        raise InputError(f"resume={checkpoint}: has {epoch + 1} epochs already; set fit.epochs above that")


def _load(prepared: Prepared, recipe: Recipe) -> Loaded:
    """Load encoder and tokenizer."""
    assert isinstance(recipe.plm, PLM)
    check_available(recipe.plm)
    table, outputs = prepared.labels.table, outputs_of(recipe.fit, prepared.scale)
    bias = first_bias(recipe.fit, outputs, table["label"].to_numpy(dtype="float64"), mean_one(table))
    loaded = Loaded(load_regressor(recipe.plm, bias), load_tokenizer(recipe.plm))
    if recipe.plm.train == "head":
        check_head(*loaded)
    return loaded


def _fine_tuned(prepared: Prepared, recipe: Recipe, place: Place, loaded: Loaded, logger: Any) -> Trained:
    """Fine-tune an encoder, all of it or its head."""
    assert isinstance(recipe.plm, PLM)
    adapters = add_adapters(loaded.model, recipe.plm) if recipe.plm.train == "lora" else None
    history = History(place.directory / "history.csv")
    trainer = _trainer(prepared, recipe, place, logger, history)
    module, data = _assemble(prepared, recipe, place, loaded, trainer)
    trainer.fit(module, data, ckpt_path=place.resume, weights_only=True)
    _take_best(recipe, trainer, module)
    trainer.test(module, data, verbose=False)
    if adapters is not None:
        adapters.merge_and_unload()
    counts = {"truncated": data.truncated, "epochs": len(history.rows)}
    if recipe.fit.keep < 1:
        counts["kept"] = kept_of(recipe.fit, len(prepared.labels.table))
    save = partial(save_model, loaded=loaded, scale=prepared.scale, outputs=module.outputs)
    return Trained(module.predicted, save, counts, trainer.is_global_zero, device_name(trainer.strategy.root_device))


def _trainer(prepared: Prepared, recipe: Recipe, place: Place, logger: Any, history: History) -> L.Trainer:
    """Return Lightning's trainer with the callbacks of a run."""
    fit = recipe.fit
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
    if fit.keep < 1:
        callbacks.append(SmallLossSelection(fit, len(prepared.labels.table)))
    return recipe.trainer(
        max_epochs=fit.epochs,
        gradient_clip_val=fit.clip,
        callbacks=callbacks,
        logger=logger or False,
        default_root_dir=place.directory,
        use_distributed_sampler=False,
    )


def _assemble(
    prepared: Prepared, recipe: Recipe, place: Place, loaded: Loaded, trainer: L.Trainer
) -> tuple[Regressor, TextsDataModule]:
    """Put module and data together."""
    assert isinstance(recipe.plm, PLM)
    fit, outputs = recipe.fit, outputs_of(recipe.fit, prepared.scale)
    if recipe.plm.train == "head":
        # Features are computed before Lightning moves the model to its device.
        loaded.model.to(trainer.strategy.root_device)  # type: ignore[arg-type]  # typed as what it wraps
        inputs: Any = FeatureInputs(FeatureCache(place.cache, *loaded))
    else:
        inputs = TokenInputs(loaded.tokenizer)
    module = Regressor(loaded.model, fit, recipe.optimizer, recipe.plm.train, outputs)
    return module, TextsDataModule(prepared, inputs, fit, recipe.seed)


def _take_best(recipe: Recipe, trainer: L.Trainer, module: Regressor) -> None:
    """Put the weights of the best validation CCC back, unless the last ones are wanted."""
    if recipe.fit.checkpoint == "last":
        return
    path = next(
        callback.best_model_path
        for callback in trainer.checkpoint_callbacks
        if isinstance(callback, ModelCheckpoint) and callback.monitor == "val_ccc"
    )
    state = torch.load(path, map_location=module.device, weights_only=True)["state_dict"]
    module.load_state_dict(state, strict=module.strict_loading)
