"""From a model's scores to the numbers of a run, and to its record on disk."""

from collections.abc import Callable, Mapping, Sequence
from math import inf
from pathlib import Path
from shutil import rmtree
from typing import Any

import numpy as np
import pandas as pd

from invitro.data import DEMOGRAPHICS
from invitro.files import write_json
from invitro.metrics import measure
from invitro.models import PLM
from invitro.models.folder import CardFacts
from invitro.models.outputs import Predictions
from invitro.training import record
from invitro.training.prepare import Prepared
from invitro.training.recipe import Place, Recipe, Result

Scores = Mapping[str, float]


class TrainingError(RuntimeError):
    """Training went wrong in a way that the numbers show, such as divergence."""


def result_of(
    prepared: Prepared,
    predicted: Sequence[Predictions],
    run: str,
    seconds: float,
    cost: Mapping[str, Any] | None = None,
    **train: int,
) -> Result:
    """Return what a run came to.

    Args:
        prepared: its material.
        predicted: what it predicts for val and test.
        run: its fingerprint.
        seconds: how long it took.
        cost: what it cost besides, for ``metrics.json``'s ``cost``.
        train: further numbers for ``metrics.json``'s ``train``.
    """
    predictions, labels = predictions_of(prepared, predicted), prepared.labels
    found = {
        "train": {
            "size": len(labels.table),
            "replaced": labels.replaced,
            "augmented": labels.augmented,
            "fused": labels.fused,
            "dropped": labels.dropped,
            "without_llm_label": labels.without_llm_label,
            **train,
            "seconds": round(seconds, 3),
        },
        # JSON has no infinity: an alpha that is not there corrects nothing.
        "application": {key: value for key, value in prepared.applied.items() if value not in (inf, -inf)},
        "cost": dict(cost or {}),
        "fingerprint": run,
        "status": "finished",
    }
    return Result(metrics_of(prepared, predictions) | found, predictions)


def predictions_of(prepared: Prepared, predicted: Sequence[Predictions]) -> pd.DataFrame:
    """Return the rows of ``predictions.csv``, each score in the scale's units, not clipped.

    Where the model predicts how far labels scatter, ``uncertainty`` is that standard deviation.
    """
    tables = []
    for split, (scores, sd) in zip(("val", "test"), predicted, strict=True):
        table = prepared.evaluation(split)
        finite = np.isfinite(scores) & (True if sd is None else np.isfinite(sd))
        if not finite.all():
            raise TrainingError(
                f"{int((~finite).sum())} of {len(scores)} predictions on {split} are not finite: training "
                "diverged; lower plm.lr, or set fit.clip=1.0"
            )
        truth = ("truth",) if prepared.corpus.has_truth else ()
        carried = [name for name in ("group_id", *DEMOGRAPHICS, *truth) if name in table]
        found = {"prediction": scores} | ({} if sd is None else {"uncertainty": sd})
        tables.append(table[["text_id", "split", "crowd_label"]].assign(**found).join(table[carried]))
    return pd.concat(tables, ignore_index=True)


def labels_of(prepared: Prepared) -> pd.DataFrame:
    """Return the rows of ``labels.csv``; where the corpus tells of its authors, each text's author and demographics."""
    rows, texts = prepared.labels.record(), pd.concat([prepared.training, prepared.pool])
    carried = [name for name in DEMOGRAPHICS if name in texts and texts[name].notna().any()]
    return rows.join(texts.set_index("text_id")[["group_id", *carried]], on="text_id") if carried else rows


def metrics_of(prepared: Prepared, predictions: pd.DataFrame) -> dict[str, Any]:
    """Return PCC, CCC and RMSE by split: against crowd labels and, where it is known, against the truth."""

    def against(column: str, split: str) -> Scores | None:
        rows = predictions.loc[(predictions["split"] == split) & predictions[column].notna()]
        return measure(rows["prediction"], rows[column]) if len(rows) else None

    metrics: dict[str, Any] = {split: against("crowd_label", split) for split in ("val", "test")}
    if prepared.corpus.has_truth:
        metrics["truth"] = {split: against("truth", split) for split in ("val", "test")}
    return metrics


def write_record(
    prepared: Prepared,
    recipe: Recipe,
    place: Place,
    result: Result,
    save: Callable[[Path, CardFacts], None],
    config: Mapping[str, Any],
) -> None:
    """Write the record, ``metrics.json`` last; `save` writes the folder of the trained model."""
    directory, metrics = place.directory, result.metrics
    record.write_config(directory, config)
    record.write_table(directory / "predictions.csv", result.predictions)
    record.write_table(directory / "labels.csv", labels_of(prepared))
    hashes = {"corpus": prepared.corpus.fingerprint} | {one.name: one.fingerprint for one in prepared.label_sets}
    write_json(directory / "environment.json", record.environment(recipe.seed, metrics["train"]["seconds"], hashes))
    if place.save_model:
        facts = CardFacts(
            base=recipe.plm.name if recipe.plm.licence else "",
            base_licence=recipe.plm.licence,
            corpus=prepared.corpus.name,
            corpus_licence=prepared.corpus.licence,
            citation=prepared.corpus.citation,
            labels=prepared.description,
            metrics={split: metrics[split] for split in ("val", "test")},
            library="transformers" if isinstance(recipe.plm, PLM) else "invitro",
        )
        save(directory / "model", facts)
    if not place.keep_checkpoints:
        rmtree(directory / "checkpoints", ignore_errors=True)
    write_json(directory / record.METRICS_FILE, metrics)


def summary(metrics: Mapping[str, Any]) -> str:
    """Return the run's numbers as a table for the terminal."""
    rows = {split: metrics[split] for split in ("val", "test")}
    rows |= {f"{split}, truth": scores for split, scores in metrics.get("truth", {}).items()}
    lines = [f"{'':<12} {'PCC':>7} {'CCC':>7} {'RMSE':>7}"]
    for name, scores in rows.items():
        cells = [f"{scores[key]:7.3f}" for key in ("pcc", "ccc", "rmse")] if scores else ["no crowd labels"]
        lines.append(f"{name:<12} {' '.join(cells)}")
    return "\n".join(lines)


def flattened(metrics: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested metrics as ``test/ccc``: value."""
    flat: dict[str, Any] = {}
    for name, value in metrics.items():
        if isinstance(value, Mapping):
            flat |= flattened(value, f"{prefix}{name}/")
        elif value is not None:
            flat[prefix + name] = value
    return flat
