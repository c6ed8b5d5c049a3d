"""A real vLLM server on loopback, asked by the OpenAI-compatible engine (``make test-vllm``)."""

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from prompting import prompt, scale
from support import ROOT

from invitro.data import NewsEmp, Undivided
from invitro.data.simulator.corpus import Simulator
from invitro.engines.base import Readout
from invitro.engines.openai import OpenAICompatible
from invitro.labelling.labeller import Labelling, Options, label
from invitro.labels.store import LabelStore
from invitro.weights import WEIGHT_PACKAGES

pytestmark = pytest.mark.vllm

MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
TEXTS = 32
HEALTHY_WITHIN = 300  # seconds
QUIET = {
    "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1", "TORCHDYNAMO_DISABLE": "1", "VLLM_CPU_KVCACHE_SPACE": "2",
}  # fmt: skip


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start vLLM's server with SmolLM2, and return its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = tmp_path_factory.mktemp("server") / "log.txt"
    command = [
        sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(WEIGHT_PACKAGES[MODEL].folder()),
        "--served-model-name", MODEL, "--host", "127.0.0.1", "--port", str(port), "--dtype", "float32",
        "--max-model-len", "2048", "--enforce-eager",
    ]  # fmt: skip
    with log.open("wb") as out:
        process = subprocess.Popen(command, env=os.environ | QUIET, stdout=out, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + HEALTHY_WITHIN
        while not _healthy(port):
            assert process.poll() is None, f"the server ended: {log.read_text()[-3000:]}"
            assert time.monotonic() < deadline, f"the server is not ready: {log.read_text()[-3000:]}"
            time.sleep(0.5)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait(timeout=60)


def _healthy(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/health", timeout=2).status_code == 200
    except httpx.TransportError:
        return False


@pytest.mark.parametrize(
    ("readout", "constraint"),
    [
        (Readout.TEXT, "response_format"),
        (Readout.TEXT, "structured_outputs"),
        (Readout.DIGITS, "structured_outputs"),
        (Readout.EXPECTED, "structured_outputs"),
    ],
)
def test_every_essay_gets_a_valid_label(server: str, tmp_path: Path, readout: Readout, constraint: str) -> None:
    folder = os.environ.get("INVITRO_DATA_DIR")
    engine = OpenAICompatible(MODEL, server, constraint=constraint, tokenizer="server", concurrency=TEXTS)
    reader = NewsEmp(18, folder=folder, split=Undivided()) if folder else Simulator(texts=200, split=Undivided())
    options = Options(readout=readout, limit=TEXTS, progress=False)
    what = Labelling(scale(), prompt("scale_aware"), "gpt", engine, tmp_path / "store.sqlite", options)
    (done,) = label(reader.read(scale()), what)
    stored = done.report.stored
    if constraint == "response_format":
        # A schema bounds no white space: what runs on is told, and asked for again.
        assert stored.labelled + sum(stored.unusable.values()) == TEXTS
        assert stored.labelled >= TEXTS // 2
        assert done.report.usage.requests == TEXTS + done.report.retries
    else:
        assert stored.labelled == done.report.usage.requests == TEXTS
        with LabelStore(what.store) as store:
            assert all(re.fullmatch(what.form.constraint.regex, answer.raw) for answer in store.answers())
    assert done.labels.labels["llm_label"].dropna().between(1, 7).all()
    if readout == Readout.EXPECTED:
        assert (done.labels.labels["spread"] > 0).all()


def test_the_server_counts_as_the_engine_in_this_process_does(server: str) -> None:
    from invitro.engines.vllm import VLLM

    messages = ({"role": "system", "content": "Rate six feelings."}, {"role": "user", "content": "I am moved."})
    asked = OpenAICompatible(MODEL, server, tokenizer="server").count_tokens(messages)
    assert asked == VLLM(MODEL).count_tokens(messages) > 10


def test_label_py_asks_a_vllm_server(server: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [
            sys.executable, str(ROOT / "label.py"), "llm=gpt", f"llm.model={MODEL}", f"llm.engine.base_url={server}",
            "llm.engine.key_env=null", "llm.engine.constraint=structured_outputs", "llm.engine.tokenizer=server",
            "data=simulated", "data.texts=100", "limit=8", "readout=expected", "export=labels.tsv",
        ],
        cwd=tmp_path, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "texts labelled   8 of 8" in done.stdout
    rows = (tmp_path / "labels.tsv").read_text("utf-8").splitlines()
    assert len(rows) == 9
    assert rows[0].split("\t")[:3] == ["text_id", "llm_empathy", "spread"]


def test_vllm_run_batch_answers_a_batch_file(tmp_path: Path) -> None:
    base = [
        sys.executable, str(ROOT / "label.py"), "llm=vllm_server", f"llm.model={MODEL}", "engine=batch",
        "data=simulated", "data.texts=100", "limit=8", "readout=expected", "llm.engine.tokenizer=approximate",
    ]  # fmt: skip
    written = subprocess.run(base, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    told = re.search(r"8 questions are written to (\S+\.jsonl)", written.stderr)
    assert told is not None, written.stderr
    command = [
        sys.executable, "-m", "vllm.entrypoints.openai.run_batch", "-i", told[1], "-o", "results.jsonl",
        "--model", str(WEIGHT_PACKAGES[MODEL].folder()), "--served-model-name", MODEL, "--dtype", "float32",
        "--max-model-len", "2048", "--enforce-eager",
    ]  # fmt: skip
    ran = subprocess.run(
        command, cwd=tmp_path, env=os.environ | QUIET, capture_output=True, text=True, timeout=HEALTHY_WITHIN
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    done = subprocess.run(
        [*base, "import=results.jsonl", "export=labels.tsv"], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert "texts labelled   8 of 8" in done.stdout
    assert "imported         8 results, from results.jsonl" in done.stdout
    rows = [line.split("\t") for line in (tmp_path / "labels.tsv").read_text("utf-8").splitlines()]
    assert rows[0][:3] == ["text_id", "llm_empathy", "spread"]
    assert all(1 <= float(row[1]) <= 7 and float(row[2]) > 0 for row in rows[1:])
