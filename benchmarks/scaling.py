"""How labelling and sweeping scale, from a thousand to a billion texts and from one to a thousand GPUs: a simulation.

Nothing is measured here: throughputs, failures and prices are inputs, below, each with its source. Texts
are handed out in chunks to engines of several GPUs each; an engine loads its model, works, occasionally fails, loses
its current chunk and starts again; answers are committed by one writer, one after the other, as the label store
does. A sweep's jobs are handed out to single GPUs in the same way, without a writer.

The output: hours, GPU-hours, dollars, and the speed-up against what the same number of GPUs would do without
start-up, failures, idle engines at the end and a busy writer. Results: ``benchmarks/results/scaling.csv``.
"""

import argparse
import heapq
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import pandas as pd

RESULTS = Path(__file__).parent / "results" / "scaling.csv"
TEXTS = (1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9)
GPUS = (1, 4, 16, 64, 256, 1000)
CHUNKS = 4000
"""Most events per simulation: with more texts than fit into 4,000 chunks, chunks are larger."""


@dataclass(frozen=True)
class Inputs:
    """Inputs of the simulation. Each can be set on the command line, as in ``--engine-gpus 8``.

    Args:
        engine_gpus: GPUs per engine; 70 billion weights of 2 bytes fill four GPUs of 80 GB with room for the cache.
        engine_rate: texts per second and engine, readout ``digits``: 137 tokens of 1.4e11 FLOP at 4 x 4e14 FLOP/s.
        chunk: texts handed out at a time (the Ray engine's block).
        startup: seconds until an engine answers: start of the process, weights from disk, warm-up.
        mtbf: hours between two failures of one engine (a GPU, a node, a preemption).
        commit: seconds the label store needs for a text outside the engine; ``benchmarks/labelling_memory.py`` measured
            0.35 to 0.70 ms.
        shards: label stores that are written at the same time, and merged afterwards.
        jobs: runs of a sweep: 13 alphas, five seeds.
        epochs: passes of a run.
        train_rate: texts per second when an encoder of 86 million weights is fine-tuned on a GPU: 1e11 FLOP per text
            at 1e14 FLOP/s.
        job_startup: seconds until a run's first step.
        job_mtbf: hours between two failures of a GPU that trains.
        most_trained: most texts that a run learns from; the rest are only scored.
        price: dollars per GPU-hour.
        jitter: standard deviation of the logarithm of a chunk's time.
    """

    engine_gpus: int = 4
    engine_rate: float = 80.0
    chunk: int = 1024
    startup: float = 240.0
    mtbf: float = 200.0
    commit: float = 0.0005
    shards: int = 1
    jobs: int = 65
    epochs: int = 10
    train_rate: float = 1000.0
    job_startup: float = 30.0
    job_mtbf: float = 500.0
    most_trained: float = 1e6
    price: float = 2.5
    jitter: float = 0.1


@dataclass(frozen=True)
class Outcome:
    """The result of a simulated job: wall seconds, seconds for which workers were held, failures, work done twice."""

    seconds: float
    held: float
    failures: int
    repeated: int


def simulate(
    work: list[float], workers: int, startup: float, mtbf: float, commit: list[float], shards: int, seed: int
) -> Outcome:
    """Hand out pieces of work to workers that fail, and commit each finished piece.

    Args:
        work: seconds of a worker's time per piece.
        workers: how many there are; those without work stop at once.
        startup: seconds before a worker's first piece, and after each failure.
        mtbf: mean seconds between failures of a worker (exponential).
        commit: seconds of a writer's time per piece. A worker hands its piece over and continues.
        shards: writers; a piece goes to the one that is free first.
        seed: of the failures.
    """
    rng = np.random.default_rng(seed)
    waiting, failures, repeated = list(range(len(work)))[::-1], 0, 0
    workers = min(workers, len(work))
    free = [(startup, worker) for worker in range(workers)]  # when each worker can take its next piece
    heapq.heapify(free)
    fails = rng.exponential(mtbf, size=workers)
    handed: list[tuple[float, int]] = []
    ended = np.zeros(workers)
    while waiting:
        now, worker = heapq.heappop(free)
        piece = waiting.pop()
        done = now + work[piece]
        if fails[worker] < done:  # it failed on the way, or while it started: what it had is handed out again
            waiting.append(piece)
            failures, repeated = failures + 1, repeated + 1
            back = max(float(fails[worker]), now) + startup
            fails[worker] = back + rng.exponential(mtbf)
            heapq.heappush(free, (back, worker))
            continue
        handed.append((done, piece))
        ended[worker] = done
        heapq.heappush(free, (done, worker))
    writers = [0.0] * shards
    for done, piece in sorted(handed):
        heapq.heapreplace(writers, max(writers[0], done) + commit[piece])
    seconds = max(*writers, float(ended.max()))
    return Outcome(seconds, float(ended.sum()), failures, repeated)


def labelling(texts: int, gpus: int, given: Inputs, seed: int = 0) -> Outcome:
    """Simulate the labelling of `texts` on `gpus`; with fewer GPUs than an engine needs it is slower."""
    engines = max(1, gpus // given.engine_gpus)
    rate = given.engine_rate * min(1.0, gpus / given.engine_gpus)
    size = max(given.chunk, -(-texts // CHUNKS)) if texts > given.chunk * engines else max(1, -(-texts // engines))
    sizes = [min(size, texts - start) for start in range(0, texts, size)]
    rng = np.random.default_rng([seed, 1])
    work = [count / rate * slow for count, slow in zip(sizes, rng.lognormal(0, given.jitter, len(sizes)), strict=True)]
    commit = [count * given.commit for count in sizes]
    return simulate(work, engines, given.startup, given.mtbf * 3600, commit, given.shards, seed)


def sweep(texts: int, gpus: int, given: Inputs, seed: int = 0) -> Outcome:
    """Simulate a sweep over `texts`, one GPU per run."""
    learnt = min(texts, int(given.most_trained))
    seconds = learnt * given.epochs / given.train_rate + (texts - learnt) / (3 * given.train_rate) / given.jobs
    rng = np.random.default_rng([seed, 2])
    work = [given.job_startup + seconds * slow for slow in rng.lognormal(0, given.jitter, given.jobs)]
    return simulate(work, gpus, 0.0, given.job_mtbf * 3600, [0.0] * given.jobs, 1, seed)


def rows(given: Inputs, seeds: int) -> Iterator[dict[str, float | str]]:
    """Yield one row per stage, number of texts and number of GPUs: medians over `seeds` simulations."""
    for stage, job in (("labelling", labelling), ("sweep", sweep)):
        for texts in map(int, TEXTS):
            if stage == "labelling":
                ideal = texts / given.engine_rate * given.engine_gpus
            else:
                learnt = min(texts, int(given.most_trained))
                ideal = given.jobs * learnt * given.epochs / given.train_rate + (texts - learnt) / 3 / given.train_rate
            for gpus in GPUS:
                found = [job(texts, gpus, given, seed) for seed in range(seeds)]
                seconds = float(np.median([one.seconds for one in found]))
                workers = gpus if stage == "sweep" else max(1, gpus // given.engine_gpus)
                held = min(workers, given.jobs if stage == "sweep" else workers) * seconds * gpus / workers / 3600
                yield {
                    "stage": stage,
                    "texts": texts,
                    "gpus": gpus,
                    "hours": seconds / 3600,
                    "gpu_hours": held,
                    "dollars": held * given.price,
                    "speedup": ideal / seconds,
                    "efficiency": ideal / seconds / gpus,
                    "failures": float(np.median([one.failures for one in found])),
                }


def main() -> None:
    """Simulate, print the results and write them to a file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for one in fields(Inputs):
        parser.add_argument(f"--{one.name.replace('_', '-')}", type=type(one.default), default=one.default)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = vars(parser.parse_args())
    seeds, out = args.pop("seeds"), args.pop("out")
    table = pd.DataFrame(rows(Inputs(**args), seeds))
    table.round(4).to_csv(out, index=False)
    for stage, part in table.groupby("stage", sort=False):
        for value in ("hours", "efficiency", "dollars"):
            print(f"\n{stage}: {value}")
            print(part.pivot(index="texts", columns="gpus", values=value).map(lambda one: f"{one:.3g}").to_string())


if __name__ == "__main__":
    main()
