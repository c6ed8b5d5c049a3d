"""What labelling costs besides the model: milliseconds per text and memory, from a thousand to a million texts.

Texts are made one by one and labelled by the scripted engine into a store in a temporary directory, one text in twenty
with a reply that has to be requested again. Each number of texts is measured in a process of its own. Printed, and
written to ``benchmarks/results/labelling_memory.json``:

- ``overhead``: time per text of the job minus that of the engine and of making the texts (prompts, keys, parsing,
  store), wall time and processor time; on a busy machine the wall time includes other work.
- ``memory``: the process's highest resident memory during the job, and how much that is above its memory before.
- ``table``: the same after the labels were read into a table, as the report and ``export=`` need them. It grows
  with the corpus. The corpus itself is not included in these figures.
"""

import argparse
import json
import random
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml
from machine import described

from invitro.engines.base import Readout, Reply, Request, Sampling
from invitro.engines.scripted import Scripted
from invitro.labelling.job import LabelJob, run_job
from invitro.labelling.labeller import LOGPROBS
from invitro.labelling.prompts import Prompt, Renderer
from invitro.labelling.texts import Text
from invitro.labels.source import stored_labels
from invitro.labels.store import LabelStore
from invitro.scales import Item, Scale

ROOT = Path(__file__).parents[1]
WORDS = "the story of this family made me sad and I hope that they get help soon because nobody should live so"
LENGTH = 90
"""Words per text, about as many as in the essays of the news corpora."""


def main() -> None:
    """Measure, print and write to a file; with ``--one``, measure a single number of texts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, nargs="+", default=[1_000, 10_000, 100_000, 1_000_000])
    parser.add_argument("--readout", choices=list(Readout), default=Readout.DIGITS)
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "labelling_memory.json")
    args = parser.parse_args()
    if args.one:
        print(json.dumps(_measured(args.one, Readout(args.readout))))
        return
    machine, found = described(), []
    print(f"{'texts':>9} {'overhead':>12} {'processor':>12} {'job':>9} {'memory':>18} {'table':>18} {'store':>9}")
    for texts in args.texts:
        command = [sys.executable, __file__, "--one", str(texts), "--readout", args.readout]
        one = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
        found.append(one)
        memory, table = (
            f"{one[what]:.0f} (+{one[what] - one['before_mib']:.0f}) MiB" for what in ("job_mib", "table_mib")
        )
        times = f"{one['overhead_ms']:>9.3f} ms {one['processor_ms']:>9.3f} ms {one['seconds']:>7.1f} s"
        print(f"{texts:>9} {times} {memory:>18} {table:>18} {one['store_mib']:>5.0f} MiB", flush=True)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps({"machine": machine, "readout": args.readout, "found": found}, indent=2) + "\n")


class Watch:
    """Adds up the wall time and processor time of the code under ``with``, in seconds."""

    def __init__(self) -> None:
        self.clock = self.processor = 0.0

    def __enter__(self) -> None:
        self._started = time.perf_counter(), time.process_time()

    def __exit__(self, *error: object) -> None:
        clock, processor = self._started
        self.clock += time.perf_counter() - clock
        self.processor += time.process_time() - processor


class Texts:
    """A number of texts, made one by one on each iteration."""

    def __init__(self, count: int) -> None:
        self.count, self.watch, self._words = count, Watch(), WORDS.split()

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Text]:
        for number in range(self.count):
            with self.watch:
                words = " ".join(random.Random(number).choices(self._words, k=LENGTH))
            yield Text(f"t{number}", words, f"a{number // 5}")


class Timed(Scripted):
    """The scripted engine, timed."""

    watch = Watch()

    def _reply(self, request: Request) -> Reply:
        with self.watch:
            return super()._reply(request)


def _measured(count: int, readout: Readout) -> dict[str, Any]:
    """Label a number of texts, and return the time and memory it took."""
    prompt, scale = Prompt(**_yaml("prompt/scale_aware")), _scale()
    renderer = Renderer(prompt, prompt.form(scale, readout))
    sampling = Sampling(0.0, renderer.form.max_tokens, 0, LOGPROBS if readout == Readout.EXPECTED else 0)
    engine, texts = Timed(faults={"unparseable": 0.05}), Texts(count)
    with TemporaryDirectory() as folder, LabelStore(Path(folder) / "labels.sqlite") as store:
        before = _mib()
        whole = Watch()
        with whole:
            report = run_job(LabelJob(store, engine, renderer, sampling, "made", "scripted", progress=False), texts)
        after, kept = _mib(), sum(path.stat().st_size for path in Path(folder).iterdir()) / 2**20
        assert report.stored.texts == count
        assert report.stored.labelled + sum(report.stored.unusable.values()) == count
        assert len(stored_labels(store, report.stored, scale).labels) == count
        return {
            "texts": count,
            "requests": report.usage.requests,
            "seconds": report.seconds,
            "engine_seconds": engine.watch.clock,
            "texts_seconds": texts.watch.clock,
            "overhead_ms": 1000 * (whole.clock - engine.watch.clock - texts.watch.clock) / count,
            "processor_ms": 1000 * (whole.processor - engine.watch.processor - texts.watch.processor) / count,
            "before_mib": before,
            "job_mib": after,
            "table_mib": _mib(),
            "store_mib": kept,
        }


def _mib() -> float:
    """Return the process's highest resident memory so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def _scale() -> Scale:
    values = _yaml("scale/batson_empathy")
    return Scale(items=tuple(Item(one["name"], one["statement"]) for one in values.pop("items")), **values)


def _yaml(name: str) -> dict[str, Any]:
    values = yaml.safe_load((ROOT / "conf" / f"{name}.yaml").read_text("utf-8"))
    return {key: value for key, value in values.items() if not key.startswith("_")}


if __name__ == "__main__":
    main()
