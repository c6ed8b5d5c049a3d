"""The configuration reference, made from ``conf/``: every key with its type, default and meaning."""

import inspect
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, get_origin, get_type_hints

import yaml
from hydra.utils import get_object

from invitro.settings import expected

CONF = Path(__file__).parents[1] / "conf"
COMMANDS = ("train", "describe", "label", "sweep", "predict", "worth", "inference")
GROUPS = {
    "data": "the texts",
    "data/split": "which texts train, validate and test",
    "scale": "the questionnaire",
    "llm": "whose labels, and how that LLM is asked",
    "prompt": "how the LLM is asked",
    "engine": "other ways to ask, for label.py",
    "cluster": "several engines at once, for label.py",
    "application": "what is done with LLM labels",
    "plm": "the encoder, or a baseline instead of one",
    "trainer": "where and how it runs",
    "logger": "where a run's curves go",
    "study": "which jobs, and how their results are read",
}
LISTED = {
    "experiment": "settings that belong together; each changes keys that are listed above",
    "row": "rows of a study whose rows are not a grid",
}
TARGETS = {
    "application": "invitro.application.Application",
    "trainer": "lightning.Trainer",
    "train": "invitro.training.recipe.RunOptions",
    "label": "invitro.labelling.labeller.Options",
    "sweep": "invitro.commands.plans.SweepSettings",
}
"""What files without ``_target_`` become."""


@dataclass(frozen=True)
class Key:
    """A key of a file in ``conf/``, with its dotted name."""

    name: str
    kind: str
    default: str
    meaning: str


def keys_of(file: Path, target: str | None = None) -> list[Key]:
    """Return the keys of a file; `target` is the class that the file's top level becomes, if it does not say so."""
    text = file.read_text("utf-8")
    node = yaml.compose(text)
    return list(_keys(node, text.splitlines(), "", target)) if isinstance(node, yaml.MappingNode) else []


def _keys(node: yaml.MappingNode, lines: list[str], prefix: str, target: str | None) -> Iterator[Key]:
    values = {key.value: value for key, value in node.value}
    if "_target_" in values:
        target = values["_target_"].value
    for key, value in node.value:
        name = f"{prefix}{key.value}"
        if (key.value in ("defaults", "hydra") and not prefix) or key.value.startswith("_"):
            continue
        inside = isinstance(value, yaml.MappingNode) and not value.flow_style
        if inside and key.value not in ("params", "baseline", "translations", "codes", "sweeper"):
            yield from _keys(value, lines, f"{name}.", None if target is None else _class_of(target, key.value))
            continue
        kind, said = _documented(target, key.value)
        meaning = _comment(lines, key.start_mark.line, value) or said
        yield Key(name, kind or _kind(value), _default(value), meaning)


def _comment(lines: list[str], line: int, value: yaml.Node) -> str:
    """Return the comment behind a value, with the lines that go on below it, or the comments right above its key."""
    key = len(lines[line]) - len(lines[line].lstrip())
    end = lines[line][value.end_mark.column :] if value.end_mark.line == line else ""
    if beside := re.match(r"\s*#\s*(.+)", end):
        said = [beside[1]]
        column = lines[line].rindex("# " + beside[1])
        while line + 1 < len(lines) and re.match(rf" {{{column}}}#", lines[line + 1]):
            line += 1
            said.append(lines[line].strip("# "))
        return " ".join(said)
    above: list[str] = []
    while line > 0 and re.match(rf" {{{key}}}#", lines[line - 1]) and "@package" not in lines[line - 1]:
        line -= 1
        above.insert(0, lines[line].strip("# "))
    return "" if line == 0 else " ".join(above)  # comments at the top of a file are about the whole of it


def _default(value: yaml.Node) -> str:
    if isinstance(value, yaml.ScalarNode):
        text = " ".join(value.value.split())
        return "required" if text == "???" else f"`{text or chr(34) * 2}`" if len(text) < 60 else "a text"
    if not value.value:
        return "`[]`" if isinstance(value, yaml.SequenceNode) else "`{}`"
    if value.flow_style and (end := value.end_mark.index - value.start_mark.index) < 60:
        start = value.start_mark
        return f"`{start.buffer[start.pointer : start.pointer + end]}`"
    return f"{len(value.value)} entries"


def _kind(value: yaml.Node) -> str:
    kinds = {"int": "number", "float": "number", "bool": "true or false", "null": "text", "str": "text",
             "seq": "list", "map": "mapping"}  # fmt: skip
    return kinds[value.tag.rpartition(":")[2]]


def _class_of(target: str, name: str) -> str | None:
    """Return the dotted name of the class that a field of `target` holds, where it is one of ours."""
    kind, _ = _documented(target, name)
    found = re.search(r"\b(CrowdRaters|LLMRater)\b", kind)
    return f"invitro.data.simulator.rating.{found[1]}" if found else None


@cache
def _signature(target: str) -> tuple[dict[str, str], dict[str, str]]:
    """Return the annotation and the description of every argument of a class or function."""
    made: Any = get_object(target)
    kinds: dict[str, str] = {}
    said: dict[str, str] = {}
    for cls in reversed(getattr(made, "__mro__", (made,))):
        if cls is object:
            continue
        call = cls.__init__ if inspect.isclass(cls) else cls
        kinds |= {name: _in_words(kind) for name, kind in _annotations(cls, call).items()}
        said |= _arguments(f"{inspect.getdoc(cls) or ''}\n{inspect.getdoc(call) or ''}")
    return kinds, said


def _annotations(cls: Any, call: Any) -> dict[str, Any]:
    """Return annotations by name, as text where they name what is imported for type checking only."""
    try:
        return get_type_hints(cls if is_dataclass(cls) else call, include_extras=True)
    except (NameError, TypeError):
        pass
    try:
        return {name: one.annotation for name, one in inspect.signature(call).parameters.items()}
    except (TypeError, ValueError):
        return {}


def _documented(target: str | None, name: str) -> tuple[str, str]:
    if target is None:
        return "", ""
    kinds, said = _signature(target)
    return kinds.get(name, ""), said.get(name, "")


def _in_words(annotation: Any) -> str:
    """Return an annotation in the words of our error messages; text where it is not evaluated."""
    if annotation is inspect.Parameter.empty:
        return ""
    if isinstance(annotation, str):
        return re.sub(r"\b(?:[a-z_]\w*\.)+(?=\w)", "", annotation).replace(" | ", " or ").replace("'", "")
    if get_origin(annotation) in (dict, Mapping):
        return "a mapping"
    said = expected(annotation)
    return re.sub(r"\ba (?=\S)", "", said, count=1) if said.startswith("a ") and "[" not in said else said


def _arguments(docstring: str) -> dict[str, str]:
    """Return the descriptions in a docstring's section ``Args:``."""
    found: dict[str, str] = {}
    for section in re.findall(r"^Args:\n((?:[ \t]+.*\n?|\n)+)", docstring, re.M):
        indent = len(section) - len(section.lstrip())
        for names, text in re.findall(
            rf"^ {{{indent}}}(\*{{0,2}}[\w, ]+?)(?: \([^)]*\))?: ((?:.+\n?)(?:^ {{{indent + 1},}}.*\n?)*)",
            section,
            re.M,
        ):
            for name in names.split(", "):
                found[name] = " ".join(text.split())
    return found


def group_keys(group: str) -> list[Key]:
    """Return the keys of all choices of a group, each once, with the defaults of the choices."""
    every: dict[str, list[tuple[str, Key]]] = {}
    for file in _files(group):
        for key in keys_of(file, TARGETS.get(group)):
            every.setdefault(key.name, []).append((file.stem, key))
    return [
        Key(
            name,
            _by_choice([(choice, key.kind) for choice, key in found]),
            _by_choice([(choice, key.default) for choice, key in found]),
            _by_choice([(choice, key.meaning) for choice, key in found])
            if len({key.kind for _, key in found}) > 1
            else max((key.meaning for _, key in found), key=len),
        )
        for name, found in every.items()
    ]


def _by_choice(found: list[tuple[str, str]]) -> str:
    """Return what all choices say of a key, or what each of them says."""
    said: dict[str, list[str]] = {}
    for choice, text in found:
        said.setdefault(text, []).append(choice)
    if len(said) == 1:
        return next(iter(said))
    return "by choice" if len(said) > 4 else "; ".join(f"{text} ({', '.join(of)})" for text, of in said.items())


def _files(group: str) -> list[Path]:
    return sorted((CONF / group).glob("*.yaml"))


def about(file: Path) -> str:
    """Return what the comments at the top of a file say."""
    lines = []
    for line in file.read_text("utf-8").splitlines():
        if not line.startswith("#"):
            break
        if "@package" not in line:
            lines.append(line.lstrip("# "))
    return " ".join(lines)


def _table(keys: list[Key]) -> str:
    def cell(text: str) -> str:
        return text.replace("|", "\\|")

    rows = [f"| `{key.name}` | {cell(key.kind)} | {cell(key.default)} | {cell(key.meaning)} |" for key in keys]
    return "\n".join(["| key | type | default | meaning |", "| --- | --- | --- | --- |", *rows])


def page() -> str:
    """Return the page in Markdown."""
    parts = [
        "# Configuration reference\n\nMade from the files in `conf/`. A key is set by `key=value`, a choice by "
        "`group=choice`; `--help` shows the result. Keys of a group come after its name: `plm.lr=2e-5`."
    ]
    parts.append("## Commands")
    for name in COMMANDS:
        where = f"{name}.py" if (CONF.parent / f"{name}.py").is_file() else f"sweep.py study={name}"
        keys = [
            key
            for file in (name, *(("alpha", "store") if name == "train" else ()))
            for key in keys_of(CONF / f"{file}.yaml", TARGETS.get(name))
        ]
        parts.append(f"### {where}\n\n{about(CONF / f'{name}.yaml')}\n\n{_table(keys)}")
    for group, what in GROUPS.items():
        choices = "\n".join(f"- `{group}={file.stem}`: {about(file)}" for file in _files(group))
        parts.append(f"## {group}: {what}\n\n{choices}\n\n{_table(group_keys(group))}")
    for group, what in LISTED.items():
        files = sorted((CONF / group).rglob("*.yaml"))
        choices = "\n".join(
            f"- `{group}={file.relative_to(CONF / group).with_suffix('').as_posix()}`: {about(file)}" for file in files
        )
        parts.append(f"## {group}: {what}\n\n{choices}")
    return "\n\n".join(parts) + "\n"
