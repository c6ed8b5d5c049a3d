"""The examples of CONTRIBUTING.md: what it says how to add works, added."""

import re
import shlex
from pathlib import Path

import pytest
import yaml
from support import ROOT, small_corpus

SECTION = (ROOT / "CONTRIBUTING.md").read_text("utf-8").partition("## How to add")[2]
PARTS = dict(re.findall(r"(?ms)^\*\*(.+?)\*\*(.+?)(?=^\*\*|\Z)", SECTION))


def test_there_is_an_example_of_each() -> None:
    assert [*PARTS] == ["A corpus", "A scale", "A policy", "An engine", "A study"]


def test_hooks_are_the_checks_of_make_lint() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text("utf-8"))["repos"][0]["hooks"]
    recipe = re.search(r"(?m)^lint:.*\n((?:\t.+\n)+)", (ROOT / "Makefile").read_text("utf-8"))
    assert recipe is not None
    assert [hook["entry"].removeprefix(".venv/bin/") for hook in hooks] == re.findall(r"\$\(BIN\)/(.+)", recipe[1])


@pytest.mark.slow
@pytest.mark.parametrize("part", PARTS)
def test_an_example_works(part: str, run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    small_corpus(120, authors=40).to_csv(tmp_path / "letters.csv", index=False)
    for name, text in re.findall(r"(?s)```(?:yaml|python)\n# (\S+)\n(.+?)```", PARTS[part]):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    (command,) = re.findall(r"```bash\n(.+?)\n```", PARTS[part])
    done = run(*shlex.split(command.partition("python ")[2]))
    assert done.returncode == 0, done.stderr
