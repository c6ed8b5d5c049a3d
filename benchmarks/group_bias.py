"""What `application.calibration` does to an LLM's bias against a group, in the labels and in a model, on the simulator.

    python benchmarks/group_bias.py            five corpora of 2,000 texts

The LLM rates women (`gender` 2) too low by .15 of the scale's range on every item. 70 % of the texts, by author, train
ridge regression on words on the LLM's labels alone (``application=distill``); the rest tests it. Errors are against the
truth; the gap is between women and men in the mean error. Everything printed is also written to
``benchmarks/results/group_bias.json``.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from machine import described

from invitro.api import scale
from invitro.application.calibration import calibrated
from invitro.data import Undivided
from invitro.data.simulator.corpus import Simulator
from invitro.data.simulator.rating import LLMRater
from invitro.files import write_json
from invitro.raters.precision import fitted, word_counts
from invitro.stats.moments import measured

RESULTS = Path(__file__).parent / "results"
SEEDS, TEXTS, TRAINED, BIAS = 5, 2000, 0.7, -0.15
METHODS = ("none", "moment", "by_group")


def errors(seed: int, bias: float) -> list[dict[str, object]]:
    """Return gap and metrics of the labels and of the model, for each calibration, and of a model on crowd labels."""
    llm_rater = LLMRater(by_group={"gender": {2: bias}}) if bias else LLMRater()
    table = Simulator(Undivided(), texts=TEXTS, seed=seed, llm=llm_rater).read(scale("batson_empathy")).table
    table = table.dropna(subset=["llm_label"]).reset_index(drop=True)
    counts, truth, gender = word_counts(table["text"].tolist()), table["truth"].to_numpy(), table["gender"]
    authors = table["group_id"].unique()
    drawn = np.random.default_rng(seed).permutation(authors)[: int(TRAINED * len(authors))]
    train = table["group_id"].isin(drawn).to_numpy()
    crowd, llm = table["crowd_label"].to_numpy(), table["llm_label"].to_numpy()

    def row(kind: str, method: str, scores: np.ndarray, rows: np.ndarray) -> dict[str, object]:
        by_gender = pd.Series(scores - truth[rows]).groupby(gender[rows].to_numpy()).mean()
        gap = float(by_gender["2"] - by_gender["1"])
        return {"planted": bias, "seed": seed, "kind": kind, "calibration": method, "gap": gap} | measured(
            scores, truth[rows]
        )

    ids, inside = table["group_id"].to_numpy(), train & ~np.isnan(crowd)
    model = fitted(counts[inside], crowd[inside]).predict(counts[~train])
    found = [row("model on crowd labels", "", model, ~train)]
    for method in METHODS:
        people = gender[inside].reset_index(drop=True) if method == "by_group" else None
        mapped = calibrated(method, crowd[inside], llm[inside], ids[inside], (1, 7), people=people)
        found.append(row("labels", method, mapped, inside))
        model = fitted(counts[inside], mapped).predict(counts[~train])
        found.append(row("model on LLM labels", method, model, ~train))
    return found


def main() -> None:
    """Print means over corpora, with the standard error of the gap."""
    rows = pd.DataFrame([one for bias in (BIAS, 0.0) for seed in range(SEEDS) for one in errors(seed, bias)])
    groups = rows.groupby(["planted", "kind", "calibration"], sort=False)
    means = groups[["gap", "pcc", "ccc", "rmse"]].mean().assign(gap_se=groups["gap"].sem()).round(3).reset_index()
    print(means.to_string(index=False))
    write_json(RESULTS / "group_bias.json", {"machine": described(), "means": means.to_dict("records")})


if __name__ == "__main__":
    main()
