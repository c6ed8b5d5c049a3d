"""How fast invitro is, compared with other tools and with what the machine can do: ``make bench``.

Whatever is compared is measured in turn within one run and repeated; medians and ratios are reported. Results, with a
description of the machine: ``benchmarks/results/speed.json``.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from machine import described

RESULTS = Path(__file__).parent / "results" / "speed.json"
Measured = dict[str, list[float]]


def main() -> None:
    """Measure, print the results and write them to a file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=list(PARTS), choices=list(PARTS))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="a tenth of the work, to check that everything runs")
    args = parser.parse_args()
    machine = described("torch", "transformers", "lightning", "accelerate", "hydra-core")
    kept = json.loads(RESULTS.read_text("utf-8")) if RESULTS.is_file() else {}
    for part in args.only:
        started = time.perf_counter()
        found = PARTS[part](args.repeats, 0.1 if args.quick else 1.0)
        medians = {name: statistics.median(values) for name, values in found.items()}
        print(f"\n{part} ({time.perf_counter() - started:.0f} s)")
        for name, values in found.items():
            print(f"  {name:<42} {medians[name]:>9.3g}   ({', '.join(f'{value:.3g}' for value in values)})")
        for told, value in ratios(part, medians).items():
            print(f"  = {told}: {value:.2f}")
        kept[part] = {"machine": machine, "runs": found, "medians": medians, "ratios": ratios(part, medians)}
        if not args.quick:
            RESULTS.write_text(json.dumps(kept, indent=2) + "\n", "utf-8")


def ratios(part: str, medians: dict[str, float]) -> dict[str, float]:
    """Return the ratios between a part's medians."""
    found = {}
    for told, (of, over) in RATIOS.get(part, {}).items():
        peers = [value for name, value in medians.items() if name.startswith(over)]
        found[told] = medians[of] / max(peers)
    return found


RATIOS = {
    "training": {"times transformers.Trainer": ("invitro", "transformers.Trainer")},
    "prediction": {"times the pipeline at its best": ("invitro", "transformers.pipeline")},
    "frozen": {"times faster with shared features": ("each its own", "shared features")},
    "commands": {
        "times imports and load, to the first step": ("train.py to its first step", "imports and the model's load")
    },
    "memory": {"times what is needed": ("above the imports", "computed")},
    "tokens": {"times the tokenizer alone": ("data to tokens", "the tokenizer alone")},
}


def _training(repeats: int, share: float) -> Measured:
    from speed_parts import training

    return training.measure(repeats, quick=share < 1)


def _prediction(repeats: int, share: float) -> Measured:
    from speed_parts import prediction

    return prediction.measure(repeats, int(400 * share))


def _commands(repeats: int, share: float) -> Measured:
    from speed_parts import commands

    return commands.measure(max(1, int(5 * share)) if share < 1 else max(repeats, 5))


def _frozen(repeats: int, share: float) -> Measured:
    from speed_parts import frozen

    return frozen.measure(repeats if share == 1 else 1, quick=share < 1)


def _memory(repeats: int, share: float) -> Measured:
    from speed_parts import memory

    return memory.measure(max(1, int(repeats * share)))


def _tokens(repeats: int, share: float) -> Measured:
    from speed_parts import tokens

    return tokens.measure(1, int(1_000_000 * share))


PARTS: dict[str, Callable[[int, float], Measured]] = {
    "training": _training,
    "prediction": _prediction,
    "commands": _commands,
    "frozen": _frozen,
    "memory": _memory,
    "tokens": _tokens,
}

if __name__ == "__main__":
    main()
