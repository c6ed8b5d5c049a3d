"""A run whose model is a baseline: fitted in closed form on the training labels, recorded like every other run."""

import time
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from sklearn.pipeline import make_pipeline

from invitro.metrics import measure
from invitro.models.features import FeatureCache
from invitro.models.linear import Embeddings, fitted_ridge, fitted_tfidf, save_linear
from invitro.models.loading import load_regressor, load_tokenizer
from invitro.models.outputs import Predictions
from invitro.models.settings import PLM, EmbeddingRidge, TfIdfRidge
from invitro.models.tokens import tokenise
from invitro.training.callbacks import write_history
from invitro.training.data import mean_one
from invitro.training.prepare import Prepared
from invitro.training.recipe import Place, Recipe, Trained
from invitro.training.results import device_name


def fitted(prepared: Prepared, recipe: Recipe, place: Place) -> Trained:
    """Fit a baseline, and write its ``history.csv``.

    It has one row: mean squared errors, and validation metrics. As in every run, nothing is learned from validation
    texts.

    Args:
        prepared: the material.
        recipe: which regression, the seed, and the trainer whose device the encoder uses.
        place: where to write.

    Raises:
        InputError: the encoder cannot be loaded, or the training texts share no words.
    """
    started, baseline = time.perf_counter(), recipe.plm
    assert not isinstance(baseline, PLM)
    table, val, test = prepared.labels.table, prepared.evaluation("val"), prepared.evaluation("test")
    texts = [part["text"].tolist() for part in (table, val, test)]
    start = _tfidf if isinstance(baseline, TfIdfRidge) else partial(_embeddings, recipe=recipe, place=place)
    transformer, features, truncated, device = start(baseline, texts)  # type: ignore[arg-type]
    labels, weights = table["label"].to_numpy(dtype=np.float64), mean_one(table)
    ridge = fitted_ridge(features[0], labels, weights, _authors(prepared), baseline, recipe.seed)
    scores = [ridge.predict(part) if part.shape[0] else np.empty(0) for part in features]
    loss = float((np.square(scores[0] - labels) * weights).mean())
    metrics = measure(scores[1], val["crowd_label"])
    row = {"epoch": 0, "step": 1, "train_loss": loss, "val_loss": metrics["rmse"] ** 2}
    row |= {f"val_{name}": value for name, value in metrics.items()} | {"seconds": time.perf_counter() - started}
    write_history(place.directory / "history.csv", [row])
    save = partial(save_linear, model=make_pipeline(transformer, ridge), scale=prepared.scale)
    counts = {"truncated": truncated, "epochs": 1}
    return Trained([Predictions(part) for part in scores[1:]], save, counts, device=device)


def _tfidf(baseline: TfIdfRidge, texts: list[list[str]]) -> tuple[Any, list[Any], int, str]:
    """Return the vectoriser, features of each split's texts, how many texts were cut, and the device."""
    counter = fitted_tfidf(texts[0], baseline)
    return counter, [counter.transform(part) if part else np.empty((0, 0)) for part in texts], 0, "cpu"


def _embeddings(
    baseline: EmbeddingRidge, texts: list[list[str]], recipe: Recipe, place: Place
) -> tuple[Any, list[Any], int, str]:
    """Return the encoder, features of each split's texts, how many texts were cut, and the device."""
    model, tokenizer = load_regressor(baseline.encoder, 0.0), load_tokenizer(baseline.encoder)
    device = recipe.trainer(logger=False, enable_checkpointing=False).strategy.root_device
    model.to(device).eval()  # type: ignore[arg-type]  # typed as what it wraps
    cache = FeatureCache(place.cache, model, tokenizer, baseline.pooling)
    features = [cache.features(part).double().numpy() for part in texts]
    truncated = sum(tokenise(tokenizer, part).truncated for part in texts)
    return Embeddings(model, tokenizer, baseline.pooling), features, truncated, device_name(device)


def _authors(prepared: Prepared) -> "pd.Series[str]":
    """Return the author of each training text."""
    rows = pd.concat([prepared.training, prepared.pool])
    by_id = rows.drop_duplicates("text_id").set_index("text_id")["group_id"]
    return prepared.labels.table["text_id"].map(by_id)
