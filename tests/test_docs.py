"""The site's promises that need no site: pages that are listed, messages that exist, and keys that are explained."""

import re
import subprocess
import sys

import pytest
import yaml
from support import ROOT

DOCS = ROOT / "docs"
MADE = {"changelog.md", "configuration.md", *(f"{path.stem}.md" for path in (ROOT / "examples").glob("*.ipynb"))}


def test_every_page_is_listed() -> None:
    text = (ROOT / "mkdocs.yml").read_text("utf-8")
    listed = re.findall(r": (\w+\.md)$", text, re.M)
    assert sorted(listed) == sorted({path.name for path in DOCS.glob("*.md")} | MADE)
    assert yaml.safe_load(text)["strict"] is True


def test_messages_that_are_explained_are_those_of_the_program() -> None:
    messages = re.findall(r"^### `(.+)`$", (DOCS / "troubleshooting.md").read_text("utf-8"), re.M)
    assert len(messages) > 20
    source = "\n".join(path.read_text("utf-8") for path in (ROOT / "src").rglob("*.py"))
    joined = re.sub(r"\"\s*\n?\s*(?:\+ )?f?\"", "", source)
    assert [message for message in messages if message not in joined] == []


@pytest.mark.slow
def test_every_key_of_the_configuration_has_a_type_and_a_meaning() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import reference; print(reference.page())"], cwd=DOCS, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    rows = re.findall(r"^\| `([\w.]+)` \| (.*?) \| (.*?) \| (.*) \|$", done.stdout, re.M)
    assert [name for name, kind, default, meaning in rows if not (kind and default and meaning.strip())] == []
    shown = {name: (kind, default) for name, kind, default, _ in rows}
    assert len(shown) > 200
    assert shown["fit.epochs"] == ("whole number of at least 1", "`20`")
    assert shown["max_length"][0] == "whole number of at least 3"
    assert shown["careless"] == (
        "number from 0 to 1 (simulated); keep or leave_out (table)",
        "`0.0` (simulated); `keep` (table)",
    )
    choices = set(re.findall(r"^- `([\w/]+=[\w./]+)`: .{10,}", done.stdout, re.M))
    files = {path.relative_to(ROOT / "conf") for path in (ROOT / "conf").rglob("*.yaml")}
    groups = {path.with_suffix("").as_posix() for path in files if len(path.parts) > 1}
    assert {choice.replace("=", "/", 1) for choice in choices} == groups
