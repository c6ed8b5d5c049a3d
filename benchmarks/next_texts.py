"""Whether `label.py next=` needs fewer human ratings than random choice, on the simulator, where the truth is known.

    python benchmarks/next_texts.py                     30 simulations, people's ratings alone
    python benchmarks/next_texts.py --llm --seeds 10    with the LLM's labels of all texts as further ratings

600 texts can be rated, 300 by other authors are tested. Both ways begin with the same 20 texts at random; the ranking
is made anew at each size. The model is `invitro.raters.joint` on the texts' words. Errors are against the truth.
Everything printed is also written to ``benchmarks/results/next_texts*.json``.
"""

import argparse
from pathlib import Path

import numpy as np
from machine import described

from invitro.api import scale
from invitro.data import Undivided
from invitro.data.simulator.corpus import Simulator
from invitro.files import write_json
from invitro.labelling.texts import next_texts
from invitro.raters.joint import fit_raters
from invitro.raters.precision import similarities_of, word_counts
from invitro.stats.moments import measured

RESULTS = Path(__file__).parent / "results"
SIZES, POOL, TEXTS = (20, 50, 100, 200, 300), 600, 900


def errors(seed: int, ranked: bool, llm: bool) -> list[tuple[float, float]]:
    """Return RMSE and PCC against the truth of the test texts, at each size."""
    table = Simulator(Undivided(), texts=TEXTS, seed=seed).read(scale("batson_empathy")).table
    kernel = similarities_of(word_counts(table["text"].tolist()))
    truth, near = table["truth"].to_numpy()[POOL:], kernel[POOL:, :POOL]
    pool, labels = table.iloc[:POOL], table[["llm_label"]].iloc[:POOL, : int(llm)]
    order = np.random.default_rng(seed).permutation(POOL)
    known, found = list(order[: SIZES[0]]), []
    for size, larger in zip(SIZES, (*SIZES[1:], SIZES[-1]), strict=True):
        crowd = pool["crowd_label"].where(np.isin(np.arange(POOL), known))
        ratings = np.column_stack([crowd, labels])
        raters = fit_raters(ratings, kernel[:POOL, :POOL], [False, True][: 1 + llm], ["crowd", "llm"][: 1 + llm])
        of_texts = measured(raters.predict(near, np.diag(kernel)[POOL:])[0], truth)
        found.append((of_texts["rmse"], of_texts["pcc"]))
        if ranked and larger > size:
            ranking = next_texts(pool.assign(crowd_label=crowd), labels, kernel[:POOL, :POOL], larger - size)
            known += np.flatnonzero(pool["text_id"].isin(ranking.table["text_id"])).tolist()
        else:
            known = list(order[:larger])
    return found


def main() -> None:
    """Compare the two ways and print, for each size, the number of random ratings with the same error."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--llm", action="store_true")
    parser.add_argument("--seeds", type=int, default=30)
    given = parser.parse_args()
    at_random, ranked = (
        np.array([errors(seed, way, given.llm) for seed in range(given.seeds)]) for way in (False, True)
    )
    rows = []
    for which, (name, sign) in enumerate({"rmse": -1, "pcc": 1}.items()):
        one, other = at_random[:, :, which], ranked[:, :, which]
        gain, error = (other - one).mean(axis=0), (other - one).std(axis=0, ddof=1) / np.sqrt(given.seeds)
        same = np.interp(sign * other.mean(axis=0), sign * one.mean(axis=0), SIZES)
        for at, size in enumerate(SIZES):
            rows.append({"measure": name, "ratings": size, "random": one[:, at].mean(), "ranked": other[:, at].mean()})
            rows[-1] |= {"difference": gain[at], "standard_error": error[at], "random_for_the_same": same[at]}
            print({key: value if isinstance(value, str) else round(float(value), 4) for key, value in rows[-1].items()})
    name = "next_texts_llm.json" if given.llm else "next_texts.json"
    write_json(RESULTS / name, {"machine": described(), "seeds": given.seeds, "rows": rows})


if __name__ == "__main__":
    main()
