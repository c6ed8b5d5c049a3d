"""The notebooks of examples/: they run as they are, and end where their stored output says."""

import re
import shutil
import time
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from support import ROOT

EXAMPLES = ROOT / "examples"
ADDED = re.compile(r"The labels add (\S+) \[(\S+), (\S+)\] to PCC\. (.+)")
BOTH = "Use the LLM's labels, also for the texts that people rated."
UNRATED = "Use the LLM's labels for unrated texts; for the others these texts cannot tell."


def printed(notebook: nbformat.NotebookNode) -> str:
    outputs = [one for cell in notebook.cells for one in cell.get("outputs", [])]
    return "".join(one.text for one in outputs if one.get("name") == "stdout")


def executed(name: str, folder: Path) -> tuple[str, str]:
    """Run a notebook beside its data; return what it prints, and what its stored output has printed."""
    stored = nbformat.read(EXAMPLES / name, as_version=4)
    assert all(cell.outputs for cell in stored.cells if cell.cell_type == "code")
    for csv in EXAMPLES.glob("*.csv"):
        shutil.copy(csv, folder)
    fresh = nbformat.from_dict(stored)
    started = time.monotonic()
    NotebookClient(fresh, timeout=240, kernel_name="python3", resources={"metadata": {"path": str(folder)}}).execute()
    assert time.monotonic() - started < 240  # 20 to 40 s where nothing else runs
    return printed(fresh), printed(nbformat.read(EXAMPLES / name, as_version=4))


@pytest.mark.slow
def test_from_a_csv_to_a_decision(tmp_path: Path) -> None:
    fresh, stored = executed("should_i_use_an_llm.ipynb", tmp_path)
    for text in (fresh, stored):
        (found,) = ADDED.findall(text)
        added, low, high = map(float, found[:3])
        assert low < added < high
        assert found[3] == (BOTH if low > 0 else UNRATED)
        assert re.search(r"crowd, llm 400 0\.\d+ \[", text)
        assert re.search(r"reliability of one rating 0\.\d\d; highest PCC", text)
        assert re.search(r"The labels of the LLM are worth .* labels cost \$0\.64", text)
    assert ADDED.findall(fresh)[0][3] == ADDED.findall(stored)[0][3]


@pytest.mark.slow
def test_a_scale_of_my_own(tmp_path: Path) -> None:
    fresh, stored = executed("a_scale_of_my_own.ipynb", tmp_path)
    assert fresh == stored
    for part in (
        "scale.items: expected names that differ, found honest, honest, reliable",
        "scale.low: expected a number below scale.high=0, found 1",
        "1. honest: they tell the truth",
        "people, SmolLM2 156",
        "Do not use these labels: they do not agree with people. Ask a larger LLM.",
    ):
        assert part in fresh
    assert (tmp_path / "runs" / "train").is_dir()
