"""Templates are filled in strictly, and HTML is escaped."""

from pathlib import Path

import pytest
from jinja2 import UndefinedError

from invitro.templates import rendered


def test_blocks_leave_no_lines_and_what_is_missing_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "list.md.j2").write_text("# {{ title }}\n{% for name in names %}\n- {{ name }}\n{% endfor %}\n\n\n")
    assert rendered(tmp_path / "list.md.j2", title="<b>", names=["a", "b"]) == "# <b>\n- a\n- b\n"
    with pytest.raises(UndefinedError, match="title"):
        rendered(tmp_path / "list.md.j2", names=[])


def test_html_is_escaped_and_may_include(tmp_path: Path) -> None:
    (tmp_path / "part.html.j2").write_text("<i>{{ text }}</i>")
    (tmp_path / "page.html.j2").write_text("{% include 'part.html.j2' %}")
    assert rendered(tmp_path / "page.html.j2", text="<b>") == "<i>&lt;b&gt;</i>\n"
