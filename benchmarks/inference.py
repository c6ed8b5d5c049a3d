"""Coverage and width of intervals: crowd labels alone, LLM labels alone, prediction-powered.

    python benchmarks/inference.py [--draws 1000]

The population is a simulated corpus of 20,000 texts by 4,000 authors, whose mean and regression coefficient of the
crowd's labels are known. A draw is a corpus of 400 of its authors, with replacement, so about 2,000 texts in groups
of five; the crowd labels of 200 of these texts, drawn at random, are used. The covariate is correlated with the truth
and differs between texts of one author. Two LLMs: `unbiased` has neither a mean error nor one that depends on the
covariate (the simulator's LLM minus the regression of its errors on the covariate); `biased` is 0.9 points too high,
and 0.3 more for each standard deviation of the covariate. No model is trained. Writes
``benchmarks/results/inference.json``.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from invitro.files import write_json
from invitro.stats import Floats
from invitro.stats.powered import estimates

ROOT = Path(__file__).parents[1]
# numba looks for the package coverage and would find coverage.py in this folder.
sys.path[:] = [folder for folder in sys.path if Path(folder).resolve() != Path(__file__).resolve().parent]
RESULTS = Path(__file__).parent / "results" / "inference.json"
AUTHORS, GOLD = 400, 200
BIAS, SLOPE = 0.9, 0.3


def population(texts: int = 20_000) -> dict[str, Floats]:
    """Return the population: columns ``crowd, unbiased, biased, covariate`` and ``author``, each (texts,)."""
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = compose("inference", overrides=["data=simulated", f"data.texts={texts}", "data.llm.missing=0.0"])
    table = instantiate(cfg.data, _convert_="all").read(instantiate(cfg.scale, _convert_="all")).table
    rng = np.random.default_rng(0)
    truth = table["truth"].to_numpy()
    x = 0.4 * (truth - truth.mean()) / truth.std() + np.sqrt(1 - 0.4**2) * rng.normal(size=texts)
    x = (x - x.mean()) / x.std()
    crowd, llm = table["crowd_label"].to_numpy(), table["llm_label"].to_numpy()
    ones = np.column_stack([np.ones(texts), x])
    unbiased = llm - ones @ np.linalg.lstsq(ones, llm - crowd, rcond=None)[0]
    author = np.unique(table["group_id"], return_inverse=True)[1]
    return {
        "crowd": crowd, "unbiased": unbiased, "biased": unbiased + BIAS + SLOPE * x, "covariate": x, "author": author,
    }  # fmt: skip


def measured(people: dict[str, Floats], draws: int, seed: int = 1) -> list[dict[str, Any]]:
    """Return a row for each LLM, estimand and method: coverage, mean width, mean error of the estimate, worth."""
    order = np.argsort(people["author"], kind="stable")
    starts = np.searchsorted(people["author"][order], np.arange(people["author"].max() + 2))
    design = np.column_stack([np.ones(len(order)), people["covariate"]])
    truth = {
        "mean": people["crowd"].mean(),
        "coefficient": np.linalg.lstsq(design, people["crowd"], rcond=None)[0][1],
    }
    found: dict[tuple[str, str, str], list[tuple[float, ...]]] = {}
    rng = np.random.default_rng(seed)
    for _ in range(draws):
        authors = rng.integers(len(starts) - 1, size=AUTHORS)
        texts = [order[starts[author] : starts[author + 1]] for author in authors]
        codes = np.repeat(np.arange(AUTHORS), [len(part) for part in texts])
        rows = np.concatenate(texts)
        gold = np.zeros(len(rows), dtype=bool)
        gold[rng.choice(len(rows), GOLD, replace=False)] = True
        for llm in ("unbiased", "biased"):
            for estimand, columns in (("mean", 1), ("coefficient", 2)):
                every = estimates(design[rows, :columns], people["crowd"][rows], people[llm][rows], gold, codes)
                for one in every:
                    true = truth[estimand]
                    found.setdefault((llm, estimand, one.method), []).append(
                        (
                            one.low <= true <= one.high,
                            one.high - one.low,
                            one.value - true,
                            one.iid_low <= true <= one.iid_high,
                            one.effective,
                            one.power,
                        )
                    )
    rows_out = []
    for (llm, estimand, method), values in found.items():
        covered, width, missed, iid, worth, power = np.mean(values, axis=0)
        rows_out.append(
            {
                "llm": llm, "estimand": estimand, "method": method, "truth": float(truth[estimand]),
                "coverage": float(covered), "width": float(width), "bias": float(missed), "coverage_iid": float(iid),
                "worth": None if np.isnan(worth) else float(worth), "power": None if np.isnan(power) else float(power),
            }
        )  # fmt: skip
    return rows_out


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--draws", type=int, default=1000)
    draws = parser.parse_args().draws
    rows = measured(population(), draws)
    print(f"{'LLM':<9} {'estimand':<12} {'method':<20} coverage  if i.i.d.  width   bias  worth  lambda")
    for row in rows:
        worth, power = (f"{row[name]:.{digits}f}" if row[name] else "" for name, digits in (("worth", 0), ("power", 2)))
        print(
            f"{row['llm']:<9} {row['estimand']:<12} {row['method']:<20} {row['coverage']:8.3f}"
            f"  {row['coverage_iid']:9.3f}  {row['width']:5.3f} {row['bias']:6.3f}  {worth:>5}  {power:>6}"
        )
    write_json(RESULTS, {"draws": draws, "authors": AUTHORS, "gold": GOLD, "rows": rows})


if __name__ == "__main__":
    main()
