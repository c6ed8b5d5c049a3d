"""One run: from prepared labels to a trained model and its record, fine-tuned by Lightning or fitted in closed form."""

import logging
import pickle
import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import lightning as L
import numpy as np
import torch
import transformers
from lightning.pytorch.callbacks import Callback, ModelCheckpoint

from invitro.errors import InputError
from invitro.models.closed_form import (
    FrozenRegression,
    LinearModel,
    counted,
    fitted_ridge,
    fitted_tfidf,
    save_frozen,
    save_linear,
)
from invitro.models.encoder import Loaded, add_adapters, check_available, load_regressor, load_tokenizer
from invitro.models.exact import Design, Observed
from invitro.models.features import Embedded, FeatureCache, FrozenEncoder
from invitro.models.folder import save_model
from invitro.models.outputs import Predictions
from invitro.models.settings import PLM, Baseline, PredictedSpread, TfIdfRidge
from invitro.stats import Floats
from invitro.stats.moments import measure
from invitro.training import record
from invitro.training.callbacks import History, PatientStopping, SmallLossSelection, kept_of, write_history
from invitro.training.data import TextsDataModule, mean_one
from invitro.training.loggers import LoggerChoice, RunInfo, tracked
from invitro.training.module import Regressor, first_bias, outputs_of
from invitro.training.prepare import Prepared, cleaned
from invitro.training.recipe import Fit, Place, Recipe, Result, Trained
from invitro.training.results import device_name, flattened, llm_use, processor_seconds, result_of
from invitro.writing.words import on_terminal

log = logging.getLogger(__name__)

MOST_SHARED = 2**30
"""Bytes that runs of a sweep may share, in each process: features, similarities and inverses."""


def fingerprint_of(prepared: Prepared, recipe: Recipe) -> str:
    """Hash everything that determines a run's result: training labels, evaluation rows, encoder, recipe, seed, version.

    The training labels represent corpus, label set, application and alpha: settings that lead to the same labels are
    the same run (an alpha above the largest difference corrects nothing). A model in closed form has no epochs,
    optimiser or trainer, so these do not count, nor does the seed unless it draws the folds of `fit.clean`.
    """
    plm, frozen = recipe.plm, isinstance(recipe.plm, PLM) and recipe.plm.frozen
    closed = frozen or not isinstance(plm, PLM)
    spread = {} if recipe.spread == "raw" else {"spread": recipe.spread}
    return record.fingerprint(
        labels=prepared.labels.fingerprint,
        evaluation=prepared.evaluation_fingerprint,
        scale=asdict(prepared.scale),
        plm=(plm.decisive if isinstance(plm, PLM) else asdict(plm)) | {"name": plm.fingerprint},
        fit={"clean": recipe.fit.clean} | spread if closed else recipe.fit.decisive,
        settings={} if frozen else dict(recipe.settings),
        seed=recipe.seed if not closed or recipe.fit.clean != "none" else None,
    )


def train(prepared: Prepared, recipe: Recipe, place: Place, logger: LoggerChoice, info: RunInfo) -> Result:
    """Train and evaluate one model, and leave its record in ``place.directory``.

    The record's ``metrics.json`` is written last. An exception leaves no model folder and no ``metrics.json``; the
    caller decides how the failure is recorded.

    Args:
        prepared: texts, training labels and evaluation rows.
        recipe: the model and how it is trained.
        place: where to read and write.
        logger: where curves go.
        info: the run's description for the logger and ``config.yaml``.

    Returns:
        The content of ``metrics.json``, and the predictions.

    Raises:
        InputError: the encoder cannot be loaded, or does not fit ``plm.train``.
        TrainingError: predictions are not finite.
    """
    started, worked = time.perf_counter(), processor_seconds()
    quiet()
    run, texts = fingerprint_of(prepared, recipe), len(prepared.labels.table)
    prepared = cleaned(prepared, recipe.fit.clean, recipe.seed)
    counts = {"cleaned": texts - len(prepared.labels.table)} if recipe.fit.clean != "none" else {}
    L.seed_everything(recipe.seed, workers=True, verbose=False)
    plm = recipe.plm
    loaded = _load(plm, prepared, recipe.fit) if isinstance(plm, PLM) and not plm.frozen else None
    with tracked(logger, info) as (curves, final):
        if loaded is not None:
            trained = _fine_tuned(prepared, recipe, place, loaded, curves)
        else:
            trained = _fitted(prepared, recipe, place)
        seconds = time.perf_counter() - started
        cost = {
            "processor_seconds": round(processor_seconds() - worked, 3),
            "device": trained.device,
            "llm": llm_use(prepared),
            **({"encoder": dict(trained.encoder)} if trained.encoder else {}),
        }
        result = result_of(prepared, trained.predicted, run, seconds, cost, **counts, **trained.counts)
        if trained.records:
            record.write_record(prepared, recipe, place, result, trained.save, info.config)
            final.update(flattened(result.metrics))
    return result


def quiet() -> None:
    """Silence messages of Lightning and Transformers about themselves; their warnings about the run stay."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    logging.getLogger("huggingface_hub").propagate = False  # it has its own handler
    # Texts are in memory and collated in microseconds; workers would only copy them.
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*in eval mode at the start of training.*")
    warnings.filterwarnings("ignore", message=".*LeafSpec.*deprecated.*")
    warnings.filterwarnings("ignore", message="Checkpoint directory .* exists and is not empty")
    # torchmetrics synchronises the processes before the values are logged.
    warnings.filterwarnings("ignore", message=".*when logging on epoch level in distributed setting.*")
    warnings.filterwarnings("ignore", message=".*distributed.nn.functional.all_gather is deprecated.*")


def check_resume(checkpoint: Path, fit: Fit) -> None:
    """Refuse a file that is not a checkpoint, or one that has already trained all of ``fit.epochs``."""
    last = "name the file checkpoints/last.ckpt of the run to continue"
    try:
        state = _checkpoint_in(checkpoint)
        epoch = int(state["epoch"])
    except (RuntimeError, KeyError, TypeError, OSError, EOFError, pickle.UnpicklingError) as error:
        kind = "a file without epochs" if isinstance(error, KeyError) else f"another file ({type(error).__name__})"
        raise InputError(f"resume={checkpoint}: expected a checkpoint of a run, found {kind}; {last}") from error
    if not state.get("optimizer_states"):
        raise InputError(
            f"resume={checkpoint}: has only weights, so training cannot continue from it; name last.ckpt next to it"
        )
    if epoch + 1 >= fit.epochs:
        raise InputError(f"resume={checkpoint}: already has {epoch + 1} epochs; set fit.epochs above that")


def _checkpoint_in(file: Path) -> dict[str, Any]:
    """Return the contents of a checkpoint without running any code in it; tensors stay on the disk."""
    state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    return state


def _load(plm: PLM, prepared: Prepared, fit: Fit) -> Loaded:
    """Load encoder and tokenizer; the head starts from the training labels."""
    check_available(plm)
    table = prepared.labels.table
    bias = first_bias(fit, outputs_of(fit, prepared.scale), table["label"].to_numpy(dtype="float64"), mean_one(table))
    return Loaded(load_regressor(plm, bias), load_tokenizer(plm))


def _fine_tuned(prepared: Prepared, recipe: Recipe, place: Place, loaded: Loaded, logger: Any) -> Trained:
    """Fine-tune an encoder: all of it, or adapters."""
    assert isinstance(recipe.plm, PLM)
    plm, fit, (model, tokenizer) = recipe.plm, recipe.fit, loaded
    adapters = add_adapters(model, plm) if plm.train == "lora" else None
    watched = on_terminal(sys.stdout)
    history = History(place.directory / "history.csv", logged=not watched)
    best = _checkpoint(place, "best", monitor="val_ccc", mode="max")
    callbacks: list[Callback] = [history, _checkpoint(place, "last", every_n_epochs=1, save_on_train_epoch_end=True)]
    if fit.checkpoint == "best":
        callbacks.append(best)
    if fit.patience is not None:
        callbacks.append(PatientStopping(fit.start_epoch, fit.patience))
    if fit.keep < 1:
        callbacks.append(SmallLossSelection(fit, len(prepared.labels.table)))
    trainer = recipe.trainer(
        max_epochs=fit.epochs,
        gradient_clip_val=fit.clip,
        callbacks=callbacks,
        logger=logger or False,
        default_root_dir=place.directory,
        use_distributed_sampler=False,
        **({} if watched else {"enable_progress_bar": False}),
    )
    data = TextsDataModule(prepared, tokenizer, fit, recipe.seed)
    module = Regressor(model, fit, recipe.optimizer, outputs_of(fit, prepared.scale))
    if place.resume is not None:
        module.refuse_other(_checkpoint_in(place.resume)["state_dict"], f"resume={place.resume}")
    trainer.fit(module, data, ckpt_path=place.resume, weights_only=True)
    if fit.checkpoint == "best":
        state = torch.load(best.best_model_path, map_location=module.device, weights_only=True)["state_dict"]
        module.load_state_dict(state, strict=module.strict_loading)
    trainer.test(module, data, verbose=False)
    if adapters is not None:
        adapters.merge_and_unload()
    counts = {"truncated": data.truncated, "epochs": len(history.rows)}
    if fit.keep < 1:
        counts["kept"] = kept_of(fit, len(prepared.labels.table))
    save = partial(save_model, loaded=loaded, scale=prepared.scale, outputs=module.outputs)
    return Trained(module.predicted, save, counts, trainer.is_global_zero, device_name(trainer.strategy.root_device))


def _checkpoint(place: Place, name: str, **when: Any) -> ModelCheckpoint:
    """Return the callback that keeps one checkpoint; the best one has only weights."""
    folder, weights_only = place.directory / "checkpoints", name == "best"
    return ModelCheckpoint(folder, name, save_weights_only=weights_only, enable_version_counter=False, **when)


class ClosedForm(NamedTuple):
    """A fitted model: predictions of training, validation and test texts, and what the record needs."""

    predicted: list[Predictions]
    save: Any
    truncated: int = 0
    device: str = "cpu"
    encoder: Mapping[str, float] = {}


def _fitted(prepared: Prepared, recipe: Recipe, place: Place) -> Trained:
    """Fit a model in closed form, and write its ``history.csv``, which has one row.

    The row has mean squared errors, and validation metrics if there are validation texts. As in every run, nothing is
    learned from these.
    """
    started, plm = time.perf_counter(), recipe.plm
    table, val, test = prepared.labels.table, prepared.corpus.of_split("val"), prepared.corpus.of_split("test")
    texts = [part["text"].tolist() for part in (table, val, test)]
    seen = Observed(table["label"].to_numpy(dtype=np.float64), mean_one(table), table["group_id"].to_numpy())
    if isinstance(plm, PLM):
        model = _frozen(plm, texts, seen, recipe, place)
    else:
        model = _linear(plm, texts, seen, recipe, place)
    loss = float((np.square(model.predicted[0].score - seen.labels) * seen.weights).mean())
    row = {"epoch": 0, "step": 1, "train_loss": loss}
    if len(val):
        metrics = measure(model.predicted[1].score, val["crowd_label"])
        row |= {"val_loss": metrics["rmse"] ** 2} | {f"val_{name}": value for name, value in metrics.items()}
    row["seconds"] = time.perf_counter() - started
    write_history(place.directory / "history.csv", [row])
    counts = {"truncated": model.truncated, "epochs": 1}
    save = partial(model.save, scale=prepared.scale)
    return Trained(model.predicted[1:], save, counts, device=model.device, encoder=model.encoder)


class FrozenTexts:
    """The texts of a run as a frozen encoder sees them: the part of a fit that does not depend on labels.

    Args:
        encoder: the encoder.
        texts: of training, validation and test.
        cache: see `FeatureCache`.
        kept: whether runs with other labels of the same texts follow; similarities to the training texts then stay in
            memory.
    """

    def __init__(self, encoder: FrozenEncoder, texts: Sequence[Sequence[str]], cache: Path | None, kept: bool) -> None:
        self.encoder, self.texts = encoder, texts
        self.parts, self.took = _embedded(encoder, texts, cache)
        self.counter, words = counted(texts[0])
        self.design = Design(self.parts[0].features, words, kept)
        self._near: dict[tuple[int, int], tuple[Floats, Floats]] | None = {} if kept else None

    def fit(self, seen: Observed, spread: PredictedSpread) -> FrozenRegression:
        """Fit to the labels of the training texts."""
        return FrozenRegression(self.encoder, self.counter, self.design.fit(seen, spread))

    def predict(self, model: FrozenRegression, part: int) -> Predictions[Floats]:
        """Score training (0), validation (1) or test texts (2) by a model that was fitted here."""
        texts, features = self.texts[part], self.parts[part].features
        if self._near is None or not len(texts):
            return model.predict(texts, self.parts[part])
        key, kernel = (model.regression.kernel.first_layer, part), model.regression.kernel
        if key not in self._near:
            self._near[key] = kernel.to_training(features, self.counter and self.counter.transform(texts))
        return model.regression.predict_near(*self._near[key])


_shared: dict[tuple[str, torch.device, tuple[tuple[str, ...], ...]], FrozenTexts] = {}
"""Texts of the previous run, for successive runs of a sweep on the same texts; at most one entry."""


def _frozen(plm: PLM, texts: list[list[str]], seen: Observed, recipe: Recipe, place: Place) -> ClosedForm:
    encoder = _encoder(plm, recipe)
    key = (encoder.key, encoder.device, tuple(map(tuple, texts)))
    shape = max(map(len, texts)), encoder.config.num_hidden_layers + 1, encoder.config.hidden_size
    shared = place.siblings and Design.kept_bytes(*shape) <= MOST_SHARED
    frozen = _shared.get(key) if shared else None
    took: Mapping[str, float] = {"seconds": 0.0, "processor_seconds": 0.0}
    if frozen is None:
        _shared.clear()
        started, worked = time.perf_counter(), processor_seconds()
        frozen = FrozenTexts(encoder, texts, place.cache, kept=shared)
        took = frozen.took
        if shared:  # what the sweep's other runs on these texts need too is not this run's cost
            frozen.fit(seen, recipe.spread)
            took = _since(started, worked)
            encoder.release()
            _shared[key] = frozen
    model = frozen.fit(seen, recipe.spread)
    log.info("%s: %s, chosen by leaving out training authors", plm.name, model.description)
    fit = model.regression.fitted_scores(seen) if recipe.spread == "raw" else None
    predicted = [frozen.predict(model, 0) if fit is None else Predictions(fit)]
    predicted += [frozen.predict(model, part) for part in (1, 2)]
    cut = sum(int(part.cut.sum()) for part in frozen.parts)
    return ClosedForm(predicted, partial(save_frozen, model=model), cut, device_name(encoder.device), took)


def _linear(baseline: Baseline, texts: list[list[str]], seen: Observed, recipe: Recipe, place: Place) -> ClosedForm:
    cut, device = 0, "cpu"
    took: Mapping[str, float] = {}
    features: list[Any]
    if isinstance(baseline, TfIdfRidge):
        counter = fitted_tfidf(texts[0], baseline)
        features = [counter.transform(part) if part else np.empty((0, 0)) for part in texts]
    else:
        encoder = _encoder(baseline.encoder, recipe)
        parts, took = _embedded(encoder, texts, place.cache)
        features = [part.last_layer for part in parts]
        cut, device = sum(int(part.cut.sum()) for part in parts), device_name(encoder.device)
    ridge = fitted_ridge(features[0], *seen, baseline)
    model = LinearModel(counter if isinstance(baseline, TfIdfRidge) else encoder, ridge)
    predicted = [Predictions(ridge.predict(part) if part.shape[0] else np.empty(0)) for part in features]
    return ClosedForm(predicted, partial(save_linear, model=model), cut, device, took)


def _encoder(plm: PLM, recipe: Recipe) -> FrozenEncoder:
    """Return the encoder, on the trainer's device."""
    return FrozenEncoder(plm, recipe.trainer(logger=False, enable_checkpointing=False).strategy.root_device)


def _embedded(
    encoder: FrozenEncoder, texts: Sequence[Sequence[str]], cache: Path | None
) -> tuple[list[Embedded], Mapping[str, float]]:
    """Return the features of each split's texts, and the seconds they took; cached ones take almost none."""
    started, worked = time.perf_counter(), processor_seconds()
    parts = [FeatureCache(cache, encoder).features(part) for part in texts]
    return parts, _since(started, worked)


def _since(started: float, worked: float) -> Mapping[str, float]:
    """Return the seconds since then: wall-clock time, and time on all processor cores."""
    took = {"seconds": time.perf_counter() - started, "processor_seconds": processor_seconds() - worked}
    return {name: round(seconds, 3) for name, seconds in took.items()}
