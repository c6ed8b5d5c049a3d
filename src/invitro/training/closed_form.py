"""A run whose model is fitted in closed form: a frozen encoder's regression, or a baseline; recorded like all runs."""

import logging
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from sklearn.pipeline import make_pipeline

from invitro.arrays import Floats
from invitro.models.closed_form import (
    Embeddings,
    FrozenRegression,
    counted,
    fitted_ridge,
    fitted_tfidf,
    save_frozen,
    save_linear,
)
from invitro.models.exact import Design, Observed
from invitro.models.features import Embedded, FeatureCache, FrozenEncoder
from invitro.models.outputs import Predictions
from invitro.models.settings import PLM, EmbeddingRidge, PredictedSpread, TfIdfRidge
from invitro.stats.moments import measure
from invitro.training.callbacks import write_history
from invitro.training.data import mean_one
from invitro.training.prepare import Prepared
from invitro.training.recipe import Place, Recipe, Trained
from invitro.training.results import device_name, processor_seconds

log = logging.getLogger(__name__)

MOST_SHARED = 2**30
"""Bytes that runs of a sweep may share, in each process: features, similarities and inverses."""


class ClosedForm(NamedTuple):
    """A fitted model: predictions of training, validation and test texts, and what the record needs."""

    predicted: list[Predictions]
    save: Any
    truncated: int = 0
    device: str = "cpu"
    encoder: Mapping[str, float] = {}


def fitted(prepared: Prepared, recipe: Recipe, place: Place) -> Trained:
    """Fit a model in closed form, and write its ``history.csv``.

    It has one row: mean squared errors, and validation metrics if there are such texts. As in every run, nothing is
    learned from validation texts.

    Args:
        prepared: the material.
        recipe: which regression, and the trainer whose device the encoder uses.
        place: where to write.

    Raises:
        InputError: the encoder cannot be loaded, or the training texts share no words.
    """
    started, plm = time.perf_counter(), recipe.plm
    table, val, test = prepared.labels.table, prepared.evaluation("val"), prepared.evaluation("test")
    texts = [part["text"].tolist() for part in (table, val, test)]
    seen = Observed(table["label"].to_numpy(dtype=np.float64), mean_one(table), _authors(prepared))
    if isinstance(plm, PLM):
        made = _frozen(plm, texts, seen, recipe, place)
    elif isinstance(plm, EmbeddingRidge):
        made = _embeddings(plm, texts, seen, recipe, place)
    else:
        made = _tfidf(plm, texts, seen)
    loss = float((np.square(made.predicted[0].score - seen.labels) * seen.weights).mean())
    row = {"epoch": 0, "step": 1, "train_loss": loss}
    if len(val):
        metrics = measure(made.predicted[1].score, val["crowd_label"])
        row |= {"val_loss": metrics["rmse"] ** 2} | {f"val_{name}": value for name, value in metrics.items()}
    row["seconds"] = time.perf_counter() - started
    write_history(place.directory / "history.csv", [row])
    counts = {"truncated": made.truncated, "epochs": 1}
    save = partial(made.save, scale=prepared.scale)
    return Trained(made.predicted[1:], save, counts, device=made.device, encoder=made.encoder)


class FrozenTexts:
    """The texts of a run as a frozen encoder sees them: all of a fit that does not depend on labels.

    Args:
        encoder: the encoder.
        texts: of training, validation and test.
        cache: see `FeatureCache`.
        kept: whether further labels of the same texts follow; similarities to the training texts then stay in memory.
    """

    def __init__(
        self, encoder: FrozenEncoder, texts: Sequence[Sequence[str]], cache: Path | None, kept: bool = False
    ) -> None:
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
"""Texts of the run before, for runs of a sweep that are on the same texts and follow one another; at most one entry."""


def _frozen(plm: PLM, texts: list[list[str]], seen: Observed, recipe: Recipe, place: Place) -> ClosedForm:
    encoder = _encoder(plm, recipe)
    key = (encoder.key, encoder.device, tuple(map(tuple, texts)))
    shape = max(map(len, texts)), encoder.config.num_hidden_layers + 1, encoder.config.hidden_size
    shared = place.siblings and Design.kept_bytes(*shape) <= MOST_SHARED
    known = _shared.get(key) if shared else None
    took: Mapping[str, float] = {"seconds": 0.0, "processor_seconds": 0.0}
    if known is None:
        _shared.clear()
        started, worked = time.perf_counter(), processor_seconds()
        known = FrozenTexts(encoder, texts, place.cache, kept=shared)
        took = known.took
        if shared:  # what the sweep's other runs on these texts need too is no cost of this one
            known.fit(seen, recipe.spread)
            took = _since(started, worked)
            encoder.release()
            _shared[key] = known
    model = known.fit(seen, recipe.spread)
    log.info("%s: %s, chosen by leaving out training authors", plm.name, model.description)
    fit = model.regression.fitted_scores(seen) if recipe.spread == "raw" else None
    predicted = [known.predict(model, 0) if fit is None else Predictions(fit)]
    predicted += [known.predict(model, part) for part in (1, 2)]
    cut = sum(int(part.cut.sum()) for part in known.parts)
    return ClosedForm(predicted, partial(save_frozen, model=model), cut, device_name(encoder.device), took)


def _embeddings(
    baseline: EmbeddingRidge, texts: list[list[str]], seen: Observed, recipe: Recipe, place: Place
) -> ClosedForm:
    encoder = _encoder(baseline.encoder, recipe)
    parts, took = _embedded(encoder, texts, place.cache)
    features = [part.features[:, -1].astype(np.float64) for part in parts]
    ridge = fitted_ridge(features[0], *seen, baseline)
    save = partial(save_linear, model=make_pipeline(Embeddings(encoder), ridge))
    cut = sum(int(part.cut.sum()) for part in parts)
    return ClosedForm(_scored(ridge, features), save, cut, device_name(encoder.device), took)


def _tfidf(baseline: TfIdfRidge, texts: list[list[str]], seen: Observed) -> ClosedForm:
    counter = fitted_tfidf(texts[0], baseline)
    features = [counter.transform(part) if part else np.empty((0, 0)) for part in texts]
    ridge = fitted_ridge(features[0], *seen, baseline)
    return ClosedForm(_scored(ridge, features), partial(save_linear, model=make_pipeline(counter, ridge)))


def _encoder(plm: PLM, recipe: Recipe) -> FrozenEncoder:
    """Return the encoder, on the trainer's device."""
    return FrozenEncoder(plm, recipe.trainer(logger=False, enable_checkpointing=False).strategy.root_device)


def _embedded(
    encoder: FrozenEncoder, texts: Sequence[Sequence[str]], cache: Path | None
) -> tuple[list[Embedded], Mapping[str, float]]:
    """Return the features of each split's texts, and the seconds that they took; cached ones take next to none."""
    started, worked = time.perf_counter(), processor_seconds()
    parts = [FeatureCache(cache, encoder).features(part) for part in texts]
    return parts, _since(started, worked)


def _since(started: float, worked: float) -> Mapping[str, float]:
    """Return the seconds since then, of the clock and of all processor cores."""
    took = {"seconds": time.perf_counter() - started, "processor_seconds": processor_seconds() - worked}
    return {name: round(seconds, 3) for name, seconds in took.items()}


def _scored(ridge: Any, features: Sequence[Any]) -> list[Predictions[Floats]]:
    return [Predictions(ridge.predict(part) if part.shape[0] else np.empty(0)) for part in features]


def _authors(prepared: Prepared) -> Any:
    """Return the author of each training text."""
    rows = pd.concat([prepared.training, prepared.pool])
    by_id = rows.drop_duplicates("text_id").set_index("text_id")["group_id"]
    return prepared.labels.table["text_id"].map(by_id).to_numpy()
