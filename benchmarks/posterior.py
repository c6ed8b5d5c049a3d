"""The raters' model (`invitro.raters.joint`) against every policy of `fusion.py`, with the truth known.

In each of the four regimes of `fusion.py` (a fault of the crowd at 20 %) and for each of its LLMs, crowd and LLM labels
of the training texts are fitted on the kernel of TF-IDF, and a ridge regression on TF-IDF is trained on the posterior
means with their weights, as for every other policy there. ``posterior`` are the posterior means, in the crowd's units
and with the spread that the truth has in them; ``posterior, matched`` are stretched to the SD of the crowd's labels.

Measured as in `fusion.py`, on the same seeds, texts and ratings; the other policies' results are read from
``benchmarks/results/fusion.csv.gz``. For every measure the best other policy and alpha are chosen by that measure on
the first half of the seeds; differences are paired over the second half, with 95 % t intervals.

Results: ``benchmarks/results/posterior.csv``, one row per regime, LLM, seed and kind of label.
"""

import argparse
import os
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from fusion import LLMS, REGIME, RESULTS, SETTING, against, counted, half_width, predicted, simulated

from invitro.data.simulator.rating import FAULTS
from invitro.files import whole_or_absent
from invitro.raters.joint import fit_raters

MEASURES = ("label_pcc", "label_ccc", "label_rmse", "model_pcc", "model_ccc", "model_rmse")


def main() -> None:
    """Measure, write the results and print where the model wins."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    args = parser.parse_args()
    others = pd.read_csv(RESULTS / "fusion.csv.gz").query("rate == @REGIME and policy not in ('truth', 'auto')")
    cells = list(product(sorted(others["seed"].unique().tolist()), FAULTS, LLMS))
    with ProcessPoolExecutor(args.jobs) as pool:
        found = pd.DataFrame([row for rows in pool.map(_cell, *zip(*cells, strict=True), chunksize=4) for row in rows])
    with whole_or_absent(RESULTS / "posterior.csv") as temporary:
        found.round(5).to_csv(temporary, index=False)
    report(found, others)


def report(found: pd.DataFrame, others: pd.DataFrame) -> None:
    """Print the differences from the best other policy, and in how many regimes an interval excludes 0."""
    rows = []
    for (kind, llm, fault), cell in found.groupby(["policy", "llm", "fault"], sort=False):
        rival = others[(others["llm"] == llm) & (others["fault"] == fault)]
        rows += [
            {"policy": kind, "llm": llm, "fault": fault, "measure": measure} | _difference(cell, rival, measure)
            for measure in MEASURES
        ]
    compared = pd.DataFrame(rows)
    for kind, part in compared.groupby("policy", sort=False):
        print(f"\n{kind} minus the best other policy")
        print(part.pivot(index=["llm", "fault"], columns="measure", values="told")[list(MEASURES)].to_string())
    counts = compared.groupby(["policy", "llm", "measure"], sort=False)["verdict"].value_counts().unstack(fill_value=0)
    print(f"\nRegimes of {len(FAULTS)}\n" + counts.to_string())


def _difference(cell: pd.DataFrame, rival: pd.DataFrame, measure: str) -> dict[str, str]:
    """Compare with the policy that is best in this measure on the first half of the seeds, on the second half."""
    seeds = sorted(cell["seed"])
    sign = -1 if measure.endswith("rmse") else 1
    mean = rival[rival["seed"].isin(seeds[: len(seeds) // 2])].groupby(SETTING)[measure].mean()
    best = (sign * mean).idxmax()
    theirs = rival.set_index([*SETTING, "seed"]).sort_index().loc[best][measure]
    tested = seeds[len(seeds) // 2 :]
    difference = (cell.set_index("seed")[measure] - theirs).loc[tested].to_numpy()
    centre, half = difference.mean(), half_width(difference)
    verdict = "better" if sign * centre > half else "worse" if sign * centre < -half else "neither"
    return {"told": f"{centre:+.3f} ± {half:.3f} ({best[0]} {best[1]:g})", "verdict": verdict}


def _cell(seed: int, fault: str, llm: str, texts: int = 2000) -> list[dict[str, Any]]:
    """Fit one regime and LLM, and measure labels and models against the truth."""
    table = simulated(seed, fault, REGIME, llm, texts)
    training, test = (table.loc[table["split"] == split] for split in ("train", "test"))
    counts = counted(seed, texts, tuple(table["text"]))[(table["split"] == "train").to_numpy()]
    kernel = (counts @ counts.T).toarray()
    kernel = kernel - kernel.mean(axis=0) - kernel.mean(axis=1)[:, None] + kernel.mean()
    ratings = training[["crowd_label", "llm_label"]].to_numpy()
    fit = fit_raters(ratings, kernel * len(kernel) / np.trace(kernel), [False, True], ["crowd", llm])
    truth = training["truth"].to_numpy()
    stretched = fit.level + (fit.label - fit.level) * ratings[:, 0].std() / fit.label.std()
    where = {"fault": fault, "llm": llm, "seed": seed}
    rows = []
    for policy, label in (("posterior", fit.label), ("posterior, matched", stretched)):
        scores = predicted(seed, texts, table, training["text_id"], label, fit.weight, test)
        of_model = against(scores, test["truth"].to_numpy(), np.ones(len(test)))
        rows.append(where | {"policy": policy} | against(label, truth, fit.weight, "label_") | of_model)
    return rows


if __name__ == "__main__":
    main()
