"""Scoring, essays per second: what ``predict.py`` calls against ``transformers.pipeline`` at its best batch size."""

import time
from typing import Any

import numpy as np
from speed_parts.material import essays, forward_flops, peak, plm

from invitro.models.encoder import load_regressor, load_tokenizer, tokenise
from invitro.models.scoring import score_texts
from invitro.training.run import quiet

BATCHES = (1, 8, 32, 64)


def measure(repeats: int, count: int) -> dict[str, list[float]]:
    """Return essays per second of each way, and useful tokens' share of the peak, one number per repeat."""
    from transformers import pipeline

    quiet()
    texts, model, tokenizer = essays(count), load_regressor(plm(), 4.0).eval(), load_tokenizer(plm())
    pipe: Any = pipeline("text-classification", model=model, tokenizer=tokenizer, function_to_apply="none")
    lengths = np.array([len(row) for row in tokenise(tokenizer, texts).ids])
    work = forward_flops(model, lengths)
    names = ["invitro", *(f"transformers.pipeline, batches of {size}" for size in BATCHES)]
    found: dict[str, list[float]] = {name: [] for name in [*names, "peak, GFLOP/s", "share of the peak"]}
    score_texts(model, tokenizer, texts[:32])
    for _ in range(repeats):
        started = time.perf_counter()
        scores = score_texts(model, tokenizer, texts).score
        found["invitro"].append(count / (time.perf_counter() - started))
        for size, name in zip(BATCHES, names[1:], strict=True):
            started = time.perf_counter()
            rows = pipe(texts, batch_size=size, truncation=True, max_length=512)
            found[name].append(count / (time.perf_counter() - started))
            np.testing.assert_allclose([row["score"] for row in rows], scores, atol=1e-3)
        top = peak()
        found["peak, GFLOP/s"].append(top / 1e9)
        found["share of the peak"].append(found["invitro"][-1] / count * work / top)
    return found
