"""A study's worth of records in the format that runs leave, with planted effects and without training.

Predictions are made from the texts' true scores: what a configuration's models get right (`Arm.skill`), how they are
biased, how they scatter over seeds. Labels and metrics are computed from these as a run computes them.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from invitro.application import Application, divide, training_labels
from invitro.stats.moments import measured

SEEDS = (0, 42, 100, 999, 1234)
APPLICATIONS = {
    name: (name in ("correction", "both"), name in ("augmentation", "both"))
    for name in ("none", "correction", "augmentation", "both")
}
HISTORY = ("epoch", "step", "train_loss", "val_loss", "val_pcc", "val_ccc", "val_rmse", "lr", "seconds")


@dataclass(frozen=True)
class Arm:
    """One configuration of a study.

    Args:
        overrides: what makes it, such as ``{"application": "both", "alpha": "4.0"}``.
        skill: correlation of its models' predictions with the true scores, before bias and gain.
        bias: added to every prediction, scale points.
        gain: predictions' spread as a share of the true scores'; 0 is a constant prediction.
        seed_sd: how far the skill of single runs scatters over seeds.
        epochs: each run's, one a seed, repeated when there are more seeds; of `limit`.
        limit: ``fit.epochs``.
        patience: ``fit.patience``.
        reversed_group: ``(column, value)``: in this group of authors the models are wrong way round.
        failed: seeds whose run failed.
        seeds: this configuration's own seeds; None is the study's.
        shared_with: number of the arm whose records this one's jobs point to.
        train_shift: added to the training texts' crowd labels, scale points.
    """

    overrides: Mapping[str, str]
    skill: float = 0.6
    bias: float = 0.0
    gain: float = 0.85
    seed_sd: float = 0.02
    epochs: Sequence[int] = (9, 11, 8, 10, 12)
    limit: int = 20
    patience: int | None = 2
    reversed_group: tuple[str, str] | None = None
    failed: Sequence[int] = ()
    seeds: Sequence[int] | None = None
    shared_with: int | None = None
    train_shift: float = 0.0


@dataclass(frozen=True)
class Texts:
    """The corpus: how many texts a split has, how many each author wrote, whether the truth is known."""

    train: int = 300
    val: int = 100
    test: int = 240
    each: int = 2
    truth: bool = True
    seed: int = 0
    groups: bool = True
    table: pd.DataFrame = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "table", self._table())

    def _table(self) -> pd.DataFrame:
        rng = np.random.default_rng(self.seed)
        split = np.repeat(["train", "val", "test"], [self.train, self.val, self.test])
        number = np.arange(len(split))
        # An author's texts stay within one split.
        author = np.concatenate([[f"{name}{i // self.each:04d}" for i in range(getattr(self, name))] for name in
                                 ("train", "val", "test")])  # fmt: skip
        _, code = np.unique(author, return_inverse=True)
        z = np.sqrt(0.4) * rng.normal(size=code.max() + 1)[code] + np.sqrt(0.6) * rng.normal(size=len(code))
        truth = np.clip(3.8 + 1.3 * z, 1, 7)
        crowd = np.clip(truth + rng.normal(0, 0.8, len(code)), 1, 7)
        careless = rng.random(len(code)) < 0.12
        people = {
            "gender": rng.choice(["1", "2"], code.max() + 1)[code],
            "education": rng.choice(list("24567"), code.max() + 1)[code],
            "race": rng.choice(["1", "2", "3"], code.max() + 1, p=[0.7, 0.2, 0.1])[code],
            "age": rng.integers(18, 75, code.max() + 1)[code].astype(str),
            "income": (1000 * rng.integers(15, 120, code.max() + 1))[code].astype(str),
        }
        return pd.DataFrame(
            {
                "text_id": [f"{i:04d}" for i in number],  # leading zeros: ids are text
                "text": [f"essay {i}" for i in number],
                "group_id": author,
                "split": split,
                "crowd_label": np.where(careless, rng.uniform(1, 7, len(code)), crowd),
                **people,
                "truth": truth,
                "llm_label": np.clip(truth + 0.2 + rng.normal(0, 0.6, len(code)), 1, 7).round(2),
            }
        )


def alpha_arms(alphas: Sequence[float] = (0.0, 1.5, 3.0, 4.0, 4.5, 6.0), peak: float = 4.0) -> list[Arm]:
    """Return arms whose skill is highest at `peak`, falls below it, and is that of the crowd's labels at 6."""
    skill = {alpha: 0.5 if alpha >= 6 else 0.72 - 0.04 * abs(alpha - peak) for alpha in alphas}
    return [Arm({"application": "correction", "alpha": f"{alpha:.1f}"}, skill=skill[alpha]) for alpha in alphas]


def application_arms() -> list[Arm]:
    """Return the four applications, of which correction and both help."""
    skill = {"none": 0.5, "correction": 0.62, "augmentation": 0.5, "both": 0.7}
    return [Arm({"application": name, "alpha": "4.0"}, skill=value) for name, value in skill.items()]


def write_records(
    folder: Path, arms: Sequence[Arm] | None = None, seeds: Sequence[int] = SEEDS, texts: Texts | None = None
) -> list[Path]:
    """Write one job a configuration and seed, as a multirun leaves them: ``folder/0``, ``folder/1``, ...

    Returns:
        The jobs' directories, arms in their order and seeds within each.
    """
    arms, texts = application_arms() if arms is None else list(arms), texts or Texts()
    places: dict[tuple[int, int], Path] = {}
    for number, arm in enumerate(arms):
        for position, seed in enumerate(seeds if arm.seeds is None else arm.seeds):
            directory = folder / str(len(places))
            directory.mkdir(parents=True)
            places[number, seed] = directory
            shared = None if arm.shared_with is None else places[arm.shared_with, seed]
            if seed in arm.failed:
                outcome = "failed"
                _write_failure(directory)
            elif shared is not None:
                outcome = "finished before"
            else:
                outcome = "finished"
                _write_run(directory, arm, number, seed, position, texts)
            job = {
                "record": "." if shared is None else f"../{shared.name}",
                "outcome": outcome,
                "overrides": {**arm.overrides, "seed": str(seed)},
                "launch": "a1b2c3",
            }
            _write_json(directory / "job.json", job)
    return list(places.values())


def _write_run(directory: Path, arm: Arm, number: int, seed: int, position: int, texts: Texts) -> None:
    table = texts.table
    rng = np.random.default_rng([texts.seed, number, seed])
    evaluation = table.loc[table["split"] != "train"].reset_index(drop=True)
    predictions = _predictions(evaluation, arm, number, rng, texts.seed)
    carried = ["gender", "education", "race", "age", "income"] + ["truth"] * texts.truth
    columns = ["text_id", "split", "crowd_label"]
    rows = evaluation[columns].assign(prediction=predictions).join(evaluation[["group_id", *carried]])
    rows = rows if texts.groups else rows.drop(columns="group_id")
    rows.to_csv(directory / "predictions.csv", index=False)
    application = _application(arm.overrides)
    labels = _labels(table, application, float(arm.overrides.get("alpha", 4.0)), arm.train_shift)
    people = table.set_index("text_id")[["group_id", *carried[:5]]]
    labels.record().join(people if texts.groups else people.drop(columns="group_id"), on="text_id").to_csv(
        directory / "labels.csv", index=False
    )
    epochs = arm.epochs[position % len(arm.epochs)]
    seconds = round(12.0 * epochs + float(rng.uniform(0, 3)), 3)
    config = _config(arm, seed, application)
    metrics: dict[str, Any] = {split: _measured(rows, split, "crowd_label") for split in ("val", "test")}
    if texts.truth:
        metrics["truth"] = {split: _measured(rows, split, "truth") for split in ("val", "test")}
    metrics["train"] = {
        "size": len(labels.table),
        "replaced": labels.replaced,
        "augmented": labels.augmented,
        "kept": int((labels.table["origin"] == "crowd").sum()),
        "given_up": int(((table["split"] == "train").sum()) - (labels.table["origin"] == "crowd").sum()),
        "set_aside": len(divide(table, application)[1]),
        "without_llm_label": 0,
        "truncated": 0,
        "epochs": epochs,
        "seconds": seconds,
    }
    metrics |= {"fingerprint": _hash(labels.fingerprint, arm.overrides, seed), "status": "finished"}
    _history(metrics["val"], epochs, len(labels.table)).to_csv(directory / "history.csv", index=False)
    (directory / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False), "utf-8")
    _write_json(directory / "environment.json", _environment(seed, seconds, texts))
    _write_json(directory / "metrics.json", metrics)


def _predictions(rows: pd.DataFrame, arm: Arm, number: int, rng: np.random.Generator, texts_seed: int) -> np.ndarray:
    """Return predictions whose correlation with the truth is `arm.skill`, give or take the seed's luck.

    Half of what a run gets wrong is wrong in all runs of all arms, a quarter in those of its arm, a quarter in itself.
    """
    n = len(rows)
    z = (rows["truth"].to_numpy() - 3.8) / 1.2
    if arm.reversed_group:
        column, value = arm.reversed_group
        z = np.where(rows[column] == value, -z, z)
    everyone = np.random.default_rng([texts_seed, 10_000]).normal(size=n)
    of_arm = np.random.default_rng([texts_seed, 10_001 + number]).normal(size=n)
    wrong = np.sqrt(0.5) * everyone + np.sqrt(0.25) * of_arm + np.sqrt(0.25) * rng.normal(size=n)
    skill = np.clip(arm.skill + arm.seed_sd * rng.normal(), -0.99, 0.99)
    return np.asarray(3.9 + arm.bias + arm.gain * 1.2 * (skill * z + np.sqrt(1 - skill**2) * wrong))


def _application(overrides: Mapping[str, str]) -> Application:
    name = overrides.get("application", "both")
    correction, augmentation = APPLICATIONS[name]
    return Application(name, correction, augmentation, portion=float(overrides.get("application.portion", 1.0)))


def _labels(table: pd.DataFrame, application: Application, alpha: float, shift: float) -> Any:

    moved = table.assign(
        crowd_label=np.clip(table["crowd_label"] + np.where(table["split"] == "train", shift, 0), 1, 7)
    )
    training, pool = divide(moved, application)
    return training_labels(training, pool, table.set_index("text_id")["llm_label"], application, alpha)


def _measured(rows: pd.DataFrame, split: str, column: str) -> dict[str, float] | None:
    chosen = rows.loc[rows["split"] == split]
    if chosen.empty:
        return None
    found = measured(chosen["prediction"], chosen[column])
    return {name: float(np.nan_to_num(found[name])) for name in ("ccc", "pcc", "rmse")}  # as runs record it


def _history(val: Mapping[str, float], epochs: int, size: int) -> pd.DataFrame:
    """Return epochs that rise to the validation metrics of the one that was kept, the last but two."""
    best = max(0, epochs - 3)
    rows = []
    for epoch in range(epochs):
        short = 0.9 ** max(best - epoch, 0) * 0.97 ** max(epoch - best, 0)
        rows.append(
            (epoch, (epoch + 1) * (size // 16 + 1), 2.5 / (epoch + 1), val["rmse"] ** 2 / short, val["pcc"] * short,
             val["ccc"] * short, val["rmse"] / short, 3e-5 * (1 - (epoch + 1) / epochs), 12.0)
        )  # fmt: skip
    return pd.DataFrame(rows, columns=list(HISTORY))


def _config(arm: Arm, seed: int, application: Application) -> dict[str, Any]:
    """Return the resolved configuration, as far as reports read it."""
    config: dict[str, Any] = {
        "launch": "a1b2c3",
        "seed": seed,
        "application": {
            "_target_": "invitro.application.Application",
            "pool": application.pool,
            "pool_share": application.pool_share,
            "pool_seed": application.pool_seed,
            "pool_labels": application.pool_labels,
            "portion": application.portion,
            "name": application.name,
            "correction": application.correction,
            "augmentation": application.augmentation,
        },
        "fit": {"epochs": arm.limit, "start_epoch": 5, "patience": arm.patience, "checkpoint": "best"},
        "data": {"_target_": "invitro.data.simulator.corpus.Simulator", "name": "simulated", "seed": 0},
        "scale": {"name": "batson_empathy", "construct": "empathy", "low": 1, "high": 7, "aggregation": "mean"},
        "llm": {"name": "simulated"},
        "prompt": {"name": "scale_aware"},
        "alpha": float(arm.overrides.get("alpha", 4.0)),
        "plm": {"name": "sentence-transformers/all-MiniLM-L6-v2", "train": "full", "lr": 3e-5},
    }
    for key, value in arm.overrides.items():
        section, _, name = key.partition(".")
        if name and isinstance(config.get(section), dict):
            config[section][name] = yaml.safe_load(value)
        elif section in ("data", "llm", "prompt", "plm", "scale"):
            config[section]["name"] = value
    return config


def _environment(seed: int, seconds: float, texts: Texts) -> dict[str, Any]:
    packages = {"torch": "2.13.0+cpu", "lightning": "2.6.6", "transformers": "5.19.0", "numpy": np.__version__}
    return {
        "invitro": "0.1.0",
        "python": "3.11.7",
        "packages": packages | {"pandas": pd.__version__},
        "commit": "0" * 40,
        "seed": seed,
        "hardware": {"platform": "Linux", "processor": "A CPU", "cores": 2, "threads": 1, "gpus": []},
        "seconds": seconds,
        "hashes": {"corpus": _hash(texts.seed), "simulated/simulated:llm_label": _hash("llm", texts.seed)},
    }


def _write_failure(directory: Path) -> None:
    error = "TrainingError: 3 of 340 predictions on val are not finite: training diverged"
    (directory / "error.txt").write_text(f"Traceback (most recent call last):\n  ...\n{error}\n", "utf-8")
    metrics = {"val": None, "test": None, "train": None, "fingerprint": None, "status": "failed", "error": error}
    _write_json(directory / "metrics.json", metrics)


def _hash(*facts: Any) -> str:
    return sha256(repr(facts).encode()).hexdigest()


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", "utf-8")
