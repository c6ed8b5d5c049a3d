"""From a file to tokens: reading a Parquet file in pieces and tokenising them, against the tokenizer alone."""

import resource
import tempfile
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from speed_parts.material import essays, plm

from invitro.models.encoder import load_tokenizer, tokenise
from invitro.tables import read_rows

CHUNK = 4096


def memory() -> float:
    """Return the peak memory so far, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(repeats: int, count: int) -> dict[str, list[float]]:
    """Return seconds of both ways for `count` texts, and the MiB that the first adds from a tenth of them to all."""
    tokenizer, some = load_tokenizer(plm()), essays(CHUNK)
    found: dict[str, list[float]] = {"the tokenizer alone": [], "data to tokens": [], "memory added, MiB": []}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "texts.parquet"
        with pq.ParquetWriter(file, pa.schema([("text", pa.string())])) as writer:
            for start in range(0, count, CHUNK):
                writer.write_table(pa.table({"text": some[: min(CHUNK, count - start)]}))
        for _ in range(repeats):
            started, seen, early = time.perf_counter(), 0, 0.0
            for rows in read_rows(str(file), CHUNK):
                seen += len(tokenise(tokenizer, [row["text"] for row in rows]).ids)
                early = early or (memory() if seen >= count / 10 else 0.0)
            found["data to tokens"].append(time.perf_counter() - started)
            found["memory added, MiB"].append(memory() - early)
            assert seen == count
            started = time.perf_counter()
            for start in range(0, count, CHUNK):
                tokenizer(some[: min(CHUNK, count - start)], truncation=True, max_length=tokenizer.model_max_length)
            found["the tokenizer alone"].append(time.perf_counter() - started)
    return found
