"""A run whose model is a floor: fitted in closed form on the training labels, recorded as every other run."""

import time
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from invitro.files import whole_or_absent
from invitro.metrics import measure
from invitro.models.features import FeatureCache
from invitro.models.folder import CardFacts, model_card, write_folder
from invitro.models.linear import EmbeddingModel, Linear, TfIdfModel
from invitro.models.loading import load_regressor, load_tokenizer
from invitro.models.outputs import Floats, Scored
from invitro.models.settings import Baseline, EmbeddingRidge, TfIdfRidge
from invitro.models.tokens import tokenise
from invitro.raters.word_counts import folds
from invitro.scales import Scale
from invitro.training.callbacks import COLUMNS
from invitro.training.data import mean_one
from invitro.training.prepare import Prepared
from invitro.training.recipe import Place, Recipe, Trained
from invitro.training.record import device_name


class Start(NamedTuple):
    """A model without coefficients, the features of each split's texts, how many texts were cut, the device."""

    model: Linear
    features: list[Any]
    truncated: int
    device: str = "cpu"


class Solution(NamedTuple):
    """Coefficients, (features,), and the intercept."""

    coefficients: Floats
    intercept: float


def fitted(prepared: Prepared, floor: Baseline, recipe: Recipe, place: Place) -> Trained:
    """Fit a floor, and write its ``history.csv``.

    That has one row: mean squared errors, and validation metrics. Validation texts are not learnt from, as in every
    other run.

    Args:
        prepared: the material.
        floor: which regression.
        recipe: seed, and the trainer whose device the encoder uses.
        place: where to.

    Raises:
        InputError: the encoder cannot be loaded, or the training texts share no words.
    """
    started = time.perf_counter()
    table, val, test = prepared.labels.table, prepared.evaluation("val"), prepared.evaluation("test")
    start = _start(floor, recipe, place, [part["text"].tolist() for part in (table, val, test)])
    labels, weights = table["label"].to_numpy(dtype=np.float64), mean_one(table)
    dense = isinstance(floor, EmbeddingRidge)
    solution = ridge(start.features[0], labels, weights, _authors(prepared), floor, recipe.seed, dense)
    scores = [np.asarray(part @ solution.coefficients + solution.intercept) for part in start.features]
    loss = float((np.square(scores[0] - labels) * weights).mean())
    _write_history(place.directory / "history.csv", loss, scores[1], val, time.perf_counter() - started)
    model = start.model.with_coefficients(solution.coefficients, solution.intercept)
    save, counts = partial(_save, model=model, scale=prepared.scale), {"truncated": start.truncated, "epochs": 1}
    return Trained([Scored(one) for one in scores[1:]], save, counts, device=start.device)


def ridge(
    features: Any,
    labels: Floats,
    weights: Floats,
    groups: npt.ArrayLike,
    floor: Baseline,
    seed: int,
    dense: bool,
) -> Solution:
    """Return coefficients and intercept that minimise ``sum_i w_i (y_i - x_i b - a)^2 + penalty * |b|^2``.

    The penalty has the smallest weighted squared error on texts of left-out authors.

    Args:
        features: of the training texts, (texts, features); sparse unless `dense`.
        labels: (texts,), the scale's units.
        weights: what each text counts, with the mean 1, (texts,).
        groups: authors, (texts,); an author's texts are left out together, unless there is only one author.
        floor: penalties and folds.
        seed: of the folds.
        dense: whether features are standardised, as they have to be where their units differ; coefficients are those
            of the features as they came.
    """
    from sklearn.linear_model import Ridge

    def solve(rows: Any, penalty: float) -> Solution:
        x, w = features[rows], weights[rows]
        scale = np.sqrt(np.average(np.square(x - np.average(x, axis=0, weights=w)), axis=0, weights=w)) if dense else 1
        scale = np.where(np.asarray(scale) > 0, scale, 1.0)
        solver = {"solver": "cholesky"} if dense else {"solver": "sparse_cg", "tol": 1e-6}
        model = Ridge(alpha=penalty, **solver).fit(x / scale if dense else x, labels[rows], sample_weight=w)
        return Solution(model.coef_ / scale if dense else model.coef_, float(model.intercept_))

    names = np.asarray(groups)
    if len(np.unique(names)) < 2:
        names = np.arange(len(labels))
    parts = list(folds(names, "plm.folds", floor.folds, seed))
    errors = []
    for penalty in floor.penalties:
        error = 0.0
        for rest, left_out in parts:
            found = solve(rest, penalty)
            missed = features[left_out] @ found.coefficients + found.intercept - labels[left_out]
            error += float((weights[left_out] * np.square(missed)).sum())
        errors.append(error)
    return solve(np.arange(len(labels)), floor.penalties[int(np.argmin(errors))])


def _start(floor: Baseline, recipe: Recipe, place: Place, texts: list[list[str]]) -> Start:
    """Return the model without coefficients, and features of the texts of each split, training first."""
    if isinstance(floor, TfIdfRidge):
        counting = TfIdfModel.of_texts(texts[0], floor)
        empty = np.empty((0, len(counting.idf)))
        return Start(counting, [counting.features(part) if part else empty for part in texts], 0)
    model, tokenizer = load_regressor(floor.encoder, 0.0), load_tokenizer(floor.encoder)
    device = recipe.trainer(logger=False, enable_checkpointing=False).strategy.root_device
    model.to(device).eval()  # type: ignore[arg-type]  # typed as what it wraps
    cache = FeatureCache(place.cache, model, tokenizer, floor.pooling)
    features = [cache.features(part).double().numpy() for part in texts]
    embedding = EmbeddingModel(model, tokenizer, floor.pooling, np.zeros(features[0].shape[1]))
    truncated = sum(tokenise(tokenizer, part).truncated for part in texts)
    return Start(embedding, features, truncated, device_name(device))


def _authors(prepared: Prepared) -> "pd.Series[str]":
    """Return the author of each training text."""
    rows = pd.concat([prepared.training, prepared.pool])
    by_id = rows.drop_duplicates("text_id").set_index("text_id")["group_id"]
    return prepared.labels.table["text_id"].map(by_id)


def _write_history(path: Path, loss: float, scores: Floats, val: pd.DataFrame, seconds: float) -> None:
    numbers = measure(scores, val["crowd_label"])
    row = {"epoch": 0, "step": 1, "train_loss": loss, "val_loss": numbers["rmse"] ** 2, "seconds": seconds}
    row |= {f"val_{name}": value for name, value in numbers.items()}
    with whole_or_absent(path) as temporary:
        pd.DataFrame([row], columns=list(COLUMNS)).to_csv(temporary, index=False)


def _save(folder: Path, facts: CardFacts, model: Linear, scale: Scale) -> None:
    card = model_card(scale, facts, made_of=model.made_of)
    write_folder(folder, model.write, model.meaning, scale, card)
