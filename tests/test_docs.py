"""The site's promises that need no site: pages that are listed, and messages that exist."""

import re

import yaml
from support import ROOT

DOCS = ROOT / "docs"
MADE = {"changelog.md", *(f"{path.stem}.md" for path in (ROOT / "examples").glob("*.ipynb"))}


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
