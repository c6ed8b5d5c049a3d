"""What can be checked without building the site: pages are listed, messages exist, and keys are explained."""

import re
import shlex
import subprocess
import sys

import pytest
import yaml
from hydra import compose, initialize_config_dir
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
    groups = {path.with_suffix("").as_posix() for path in files if len(path.parts) > 1 and path.parts[0] != "hydra"}
    assert {choice.replace("=", "/", 1) for choice in choices} == groups


def test_lines_without_make_are_those_of_make() -> None:
    make = (ROOT / "Makefile").read_text("utf-8")
    start = (DOCS / "index.md").read_text("utf-8")
    for line in (
        re.search(r"^demo:.*\n\t\$\(BIN\)/(.+)$", make, re.M),
        re.search(r"^UNPINNED := (.+)$", make, re.M),
        re.search(r"^PYTEST := \S+ \$\(BIN\)/(.+)$", make, re.M),
    ):
        assert line is not None
        assert line[1] in start
    for recipe in re.findall(r"^\t\$\(PIP\) (-e '\.\[(?:demo,report|dev)\]')$", make, re.M):
        assert f"python -m pip install -c constraints.txt {recipe}".replace("'", '"') in start


def commands() -> list[str]:
    """Return every command of invitro on the site, also those in `exec` blocks, which run when the site is built."""
    blocks = [block for path in sorted(DOCS.glob("*.md"))
              for block in re.findall(r"^```bash[^\n]*\n(.*?)^```", path.read_text("utf-8"), re.M | re.S)]  # fmt: skip
    lines = (line for block in blocks for line in block.replace("\\\n", " ").splitlines())
    return [re.split(r"\s+#|\s+2>&1|\s+\| ", line)[0] for line in lines if re.match(r"invitro-\w+ ", line)]


@pytest.mark.slow
@pytest.mark.parametrize("command", [*dict.fromkeys(commands())])
def test_commands_compose(command: str) -> None:
    import invitro.commands  # noqa: F401  (registers the resolvers)

    script, *words = shlex.split(command)
    name = script.removeprefix("invitro-")
    words = [re.sub(r"=(?:range\()?([\w.]+),[^\[{]*$", r"=\1", word) for word in words if not word.startswith("-")]
    words = [word for word in words if word not in ("scale=concern",)]  # defined in a tutorial, which is run
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        if name == "sweep":
            keys = {"study", *compose("sweep")}
            compose("sweep", overrides=[word for word in words if word.partition("=")[0] in keys])
            name, words = "train", [word for word in words if word.partition("=")[0] not in keys]
        assert compose(name, overrides=words)


def test_there_are_commands_of_each_entry_point() -> None:
    assert {command.split()[0] for command in commands()} == {
        f"invitro-{name}" for name in ("train", "label", "sweep", "predict")
    }
