"""Templates are filled in strictly, HTML is escaped, and paragraphs are one line."""

from pathlib import Path

import pytest
from jinja2 import UndefinedError, nodes
from support import ROOT

from invitro.writing.words import _environment, _folded, paragraphs, rendered, said


def test_blocks_leave_no_lines_and_what_is_missing_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "list.md.j2").write_text("# {{ title }}\n{% for name in names %}\n- {{ name }}\n{% endfor %}\n\n\n")
    assert rendered(tmp_path / "list.md.j2", title="<b>", names=["a", "b"]) == "# <b>\n- a\n- b\n"
    with pytest.raises(UndefinedError, match="title"):
        rendered(tmp_path / "list.md.j2", names=[])


def test_html_is_escaped_and_may_include(tmp_path: Path) -> None:
    (tmp_path / "part.html.j2").write_text("<i>{{ text }}</i>")
    (tmp_path / "page.html.j2").write_text("{% include 'part.html.j2' %}")
    assert rendered(tmp_path / "page.html.j2", text="<b>") == "<i>&lt;b&gt;</i>\n"


def test_line_breaks_of_the_layout_are_spaces_and_no_break_spaces_stay() -> None:
    assert _folded("  one\n  two , three .\n\n 5\N{NO-BREAK SPACE}%") == "one two, three. 5\N{NO-BREAK SPACE}%"


def test_a_macro_says_a_paragraph_or_several(tmp_path: Path) -> None:
    source = "{% macro many(a, b) %}\nOne {{ a | number }}\nline.\n¶\n{% if b %}Two{% endif %}\n{{ b }}\n{% endmacro %}"
    (words := tmp_path / "words.j2").write_text(source)
    assert said(words, "many", 0.5, b="b") == "One 0.500 line. ¶ Two b"
    assert paragraphs(words, "many", a=0.5, b="b") == ["One 0.500 line.", "Two b"]
    assert paragraphs(words, "many", a=0.5, b="") == ["One 0.500 line."]
    with pytest.raises(UndefinedError, match="'b'"):
        said(words, "many", 0.5)


@pytest.mark.parametrize("path", sorted((ROOT / "src").rglob("*.j2")), ids=lambda path: path.name)
def test_every_template_can_be_read_and_has_what_it_calls(path: Path) -> None:
    environment = _environment(path.parent)
    tree = environment.parse(path.read_text("utf-8"))
    called = {call.node.name for call in tree.find_all(nodes.Call) if isinstance(call.node, nodes.Name)}
    imported = {name for found in tree.find_all(nodes.FromImport) for name in found.names}
    known = {macro.name for macro in tree.find_all(nodes.Macro)} | imported | set(environment.globals)
    assert called <= known
