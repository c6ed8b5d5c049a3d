"""Which policy wins where, with the truth known: crowd faults and LLMs of the simulator against policies of fusion.

A cell is a crowd (one of the simulator's four faults at one rate, the other faults at 0, the default noise of honest
workers), an LLM and a seed. In each cell every policy makes training labels, and two things are measured against the
truth: the labels themselves (those kept, by weight), and the predictions of a ridge regression on TF-IDF that is
trained on them, on the test texts. Texts and truth depend on the seed alone, so all comparisons are paired.

The four regimes are the four faults at 20 %. For each of them and each LLM, the best fixed alpha of the paper's
correction and the best other policy are chosen by CCC on the first half of the seeds, and compared on the second half.
``application=auto``, whose search takes longer than all the others together, runs in the regimes and without faults.

``biased low`` and ``biased high`` are shifted as the published Llama and GPT labels of NewsEmp18 are against its crowd
(-0.58 and +0.91 points of 6); ``squeezed`` uses 0.7 of the range, ``precise`` and ``noisy`` have half and twice the
noise of a text.

Results: ``benchmarks/results/fusion.csv.gz``, one row per cell and policy, and ``fusion.json``, machine and time.
"""

import argparse
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import yaml
from machine import described
from scipy import stats

from invitro.application import Application, TrainingLabels, training_labels
from invitro.application.choosing import choose
from invitro.data import Holdout
from invitro.data.simulator.corpus import Simulator
from invitro.data.simulator.rating import FAULTS, CrowdRaters, LLMRater
from invitro.files import whole_or_absent, write_json
from invitro.raters.precision import fitted, word_counts
from invitro.scales import Item, Scale

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
Floats = npt.NDArray[np.float64]

RATES = (0.1, 0.2, 0.4)
REGIME = 0.2
LLMS: dict[str, dict[str, float]] = {
    "unbiased": {},
    "biased low": {"bias": -0.1},
    "biased high": {"bias": 0.15},
    "squeezed": {"gain": 0.7},
    "precise": {"text_noise": 0.09},
    "noisy": {"text_noise": 0.36},
}
ALPHAS = (4.5, 4.0, 3.5, 3.0, 2.0, 1.0, 0.0)
POLICIES: tuple[tuple[str, dict[str, Any], tuple[float, ...]], ...] = (
    ("replace", {}, ALPHAS),
    ("drop", {"policy": "drop"}, (4.0, 3.0, 2.0)),
    ("weight", {"policy": "weight"}, (2.0, 1.0)),
    ("blend 0.5", {"policy": "blend", "blend_weight": 0.5}, (2.0, 0.0)),
    ("blend 0.8", {"policy": "blend", "blend_weight": 0.8}, (0.0,)),
    ("precision", {"policy": "precision"}, (0.0,)),
    ("moment", {"calibration": "moment"}, (3.0, 2.0, 1.0, 0.0)),
    ("moment, precision", {"calibration": "moment", "policy": "precision"}, (0.0,)),
    ("moment, weight", {"calibration": "moment", "policy": "weight"}, (1.0,)),
    ("isotonic", {"calibration": "isotonic"}, (2.0, 0.0)),
    ("linear", {"calibration": "linear"}, (2.0, 0.0)),
)
CELL = ["fault", "rate", "llm"]
SETTING = ["policy", "alpha"]


def main() -> None:
    """Measure, print the results and write them to a file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10, help="how many; the first half is for choosing")
    parser.add_argument(
        "--first", type=int, default=100, help="first seed; the policies were developed on seeds 0 to 3"
    )
    parser.add_argument("--rates", type=float, nargs="+", default=RATES, help="of the faults; 0.2 gives the regimes")
    parser.add_argument("--llms", nargs="+", default=list(LLMS), choices=list(LLMS), metavar="LLM")
    parser.add_argument("--texts", type=int, default=2000)
    parser.add_argument("--no-auto", dest="auto", action="store_false", help="leave application=auto out")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--out", type=Path, default=RESULTS / "fusion.csv.gz")
    args = parser.parse_args()
    machine, started = described("numpy", "scipy", "scikit-learn", "pandas"), time.perf_counter()
    crowds = [("none", 0.0), *product(FAULTS, args.rates)]
    seeds = range(args.first, args.first + args.seeds)
    tasks = [(seed, *crowd, llm, args.texts, args.auto) for seed in seeds for crowd in crowds for llm in args.llms]
    with ProcessPoolExecutor(args.jobs) as pool:
        rows = [row for rows in pool.map(_cell, *zip(*tasks, strict=True), chunksize=len(args.llms)) for row in rows]
    seconds = time.perf_counter() - started
    found = pd.DataFrame(rows)
    with whole_or_absent(args.out) as temporary:
        found.round(5).to_csv(temporary, index=False, compression="gzip")
    facts = {"machine": machine, "seconds": round(seconds, 1), "cells": len(tasks), "jobs": args.jobs}
    settings = {
        "first": args.first,
        "seeds": args.seeds,
        "rates": list(args.rates),
        "llms": args.llms,
        "texts": args.texts,
    }
    write_json(args.out.with_name(args.out.name.partition(".")[0] + ".json"), facts | settings)
    print(f"{len(tasks)} cells, {len(found)} label sets and models in {seconds:.0f} s\n")
    _report(found)


def _report(found: pd.DataFrame) -> None:
    """Print the mean of every policy over the regimes, and compare the chosen policies with the paper's correction."""
    regimes = found[found["rate"] == REGIME]
    if regimes.empty:
        return
    columns = ["label_rmse", "label_ccc", "model_rmse", "model_ccc", "model_pcc"]
    means = regimes.groupby(["llm", *SETTING], sort=False, dropna=False)[columns].mean()
    print("Mean over the four regimes and all seeds\n" + means.round(3).to_string() + "\n")
    seeds = sorted(found["seed"].unique())
    if len(seeds) < 4:
        return
    print(f"Chosen by the model's CCC on seeds {seeds[0]} to {seeds[len(seeds) // 2 - 1]}, compared on the others:")
    print("paired differences from the paper's correction at its best alpha, with 95 % t intervals over seeds\n")
    compared = [row for _, cell in regimes.groupby(["fault", "llm"], sort=False) for row in _compared(cell, seeds)]
    print(pd.DataFrame(compared).to_string(index=False))


def _compared(cell: pd.DataFrame, seeds: list[int]) -> Iterator[dict[str, str]]:
    """Yield, for one regime and LLM: correction at its best alpha against the best other policy, and against auto."""
    choosing = cell["seed"].isin(seeds[: len(seeds) // 2])
    of = cell.set_index([*SETTING, "seed"]).sort_index()
    mean = cell[choosing].groupby(SETTING, dropna=False)["model_ccc"].mean()
    names = mean.index.get_level_values("policy")
    best = mean[names == "replace"].idxmax()
    other = mean[~np.isin(names, ["replace", "auto", "none", "truth"])].idxmax()
    tested = seeds[len(seeds) // 2 :]
    for policy, alpha in (other, ("auto", np.nan)):
        if policy not in names:
            continue
        row = {"fault": cell["fault"].iloc[0], "llm": cell["llm"].iloc[0], "replace": f"alpha={best[1]:g}"}
        row["other"] = policy if policy == "auto" else f"{policy} alpha={alpha:g}"
        for metric in ("model_rmse", "model_ccc"):
            theirs = np.array([_value(of, *best, seed, metric) for seed in tested])
            ours = np.array([_value(of, policy, alpha, seed, metric) for seed in tested])
            row[metric] = f"{theirs.mean():.3f} {_interval(ours - theirs)}"
        yield row


def _value(of: pd.DataFrame, policy: str, alpha: float, seed: int, metric: str) -> float:
    rows = of.xs((policy, seed), level=("policy", "seed"))[metric]
    return float(rows.iloc[0] if np.isnan(alpha) else rows.loc[alpha])


def _interval(differences: Floats) -> str:
    """Return the mean and its t interval."""
    half, mean = half_width(differences), differences.mean()
    return f"{mean:+.3f} [{mean - half:+.3f}, {mean + half:+.3f}]"


def half_width(differences: Floats) -> float:
    """Return half the width of the 95 % t interval of the mean of paired differences, shape (seeds,)."""
    return float(stats.t.ppf(0.975, len(differences) - 1) * differences.std(ddof=1) / np.sqrt(len(differences)))


def _cell(seed: int, fault: str, rate: float, llm: str, texts: int, auto: bool) -> list[dict[str, Any]]:
    """Measure all policies in one cell."""
    table = simulated(seed, fault, rate, llm, texts)
    training, test = (table.loc[table["split"] == split] for split in ("train", "test"))
    by_id = table.set_index("text_id")["llm_label"]
    where = {"fault": fault, "rate": rate, "llm": llm, "seed": seed}
    rows = []
    for policy, how, alpha in _policies(training, by_id, auto and rate in (0.0, REGIME)):
        labels = by_id if how.needs_llm_labels else None
        made = training_labels(training, training.iloc[:0], labels, how, alpha, bounds=_bounds())
        label, weight = made.table["label"].to_numpy(), made.table["weight"].to_numpy()
        truth = training.set_index("text_id")["truth"][made.table["text_id"]].to_numpy()
        scores = predicted(seed, texts, table, made.table["text_id"], label, weight, test)
        of_model = against(scores, test["truth"].to_numpy(), np.ones(len(test)))
        counts: dict[str, Any] = {"alpha": alpha, "replaced": made.replaced, "kept": len(made.table)}
        if policy == "auto":
            counts |= {
                "alpha": np.nan,
                "chosen": f"{how.policy if how.correction else 'none'} {how.calibration} {alpha:g}",
            }
        rows.append(where | {"policy": policy} | counts | against(label, truth, weight, "label_") | of_model)
    ids, truth = training["text_id"], training["truth"].to_numpy()
    scores = predicted(seed, texts, table, ids, truth, np.ones(len(truth)), test)
    of_model = against(scores, test["truth"].to_numpy(), np.ones(len(test)))
    rows.append(where | {"policy": "truth", "alpha": np.nan} | against(truth, truth, np.ones(len(truth)), "label_")
                | of_model)  # fmt: skip
    print(".", end="", flush=True, file=sys.stderr)
    return rows


def simulated(seed: int, fault: str, rate: float, llm: str, texts: int) -> pd.DataFrame:
    """Return the corpus of one cell."""
    crowd = CrowdRaters(**(dict.fromkeys(FAULTS, 0.0) | ({fault: rate} if rate else {})))
    simulator = Simulator(split=Holdout(), texts=texts, seed=seed, crowd=crowd, llm=LLMRater(**LLMS[llm]))
    return simulator.read(_scale()).table


def _policies(
    training: pd.DataFrame, by_id: "pd.Series[float]", auto: bool
) -> Iterator[tuple[str, Application, float]]:
    """Yield each policy's name, application and alpha."""
    yield "none", Application("none", False, False, pool="none"), np.inf
    for name, settings, alphas in POLICIES:
        for alpha in alphas:
            yield name, Application(name, True, False, pool="none", **settings), alpha
    if auto:
        none, how = training.iloc[:0], Application("auto", True, False, pool="none", policy="auto")

        def make(rows: pd.DataFrame, candidate: Application, alpha: float) -> TrainingLabels:
            return training_labels(rows, none, by_id, candidate, alpha, bounds=_bounds())

        choice = choose(training, none, make, how, _bounds())
        yield "auto", choice.application, choice.alpha


def predicted(
    seed: int,
    texts: int,
    table: pd.DataFrame,
    ids: "pd.Series[str]",
    label: Floats,
    weight: Floats,
    test: pd.DataFrame,
) -> Floats:
    """Train ridge regression on the labels and predict the test texts."""
    counts, position = counted(seed, texts, tuple(table["text"])), pd.Series(np.arange(len(table)), table["text_id"])
    model = fitted(counts[position[ids].to_numpy()], label, weight)
    return np.asarray(model.predict(counts[position[test["text_id"]].to_numpy()]))


@lru_cache(maxsize=2)
def counted(seed: int, texts: int, words: tuple[str, ...]) -> Any:
    """Count a seed's words once: its texts are the same for every crowd and LLM."""
    return word_counts(words)


def against(values: Floats, truth: Floats, weight: Floats, prefix: str = "model_") -> dict[str, float]:
    """Return RMSE, CCC and PCC, texts counting by weight."""
    x, y = np.average(values, weights=weight), np.average(truth, weights=weight)
    xx, yy, xy = (
        float(np.average(a * b, weights=weight))
        for a, b in ((values - x, values - x), (truth - y, truth - y), (values - x, truth - y))
    )
    rmse = np.sqrt(np.average((values - truth) ** 2, weights=weight))
    found = {"rmse": rmse, "ccc": 2 * xy / (xx + yy + (x - y) ** 2), "pcc": xy / np.sqrt(xx * yy)}
    return {prefix + name: float(value) for name, value in found.items()}


@lru_cache(maxsize=1)
def _scale() -> Scale:
    values = yaml.safe_load((ROOT / "conf" / "scale" / "batson_empathy.yaml").read_text("utf-8"))
    values = {key: value for key, value in values.items() if not key.startswith("_")}
    return Scale(items=tuple(Item(one["name"], one["statement"]) for one in values.pop("items")), **values)


def _bounds() -> tuple[float, float]:
    return _scale().minimum, _scale().maximum


if __name__ == "__main__":
    main()
