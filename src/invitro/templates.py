"""Text from Jinja templates, which are stored beside the module that fills them in.

Python decides what to say and with which numbers; the template has the words. The functions of
`invitro.writing.words` are filters and functions of every template.
"""

import re
from functools import cache
from pathlib import Path
from typing import Any

from invitro.writing import words

FUNCTIONS = (
    words.number, words.plain, words.p_value, words.interval, words.estimate, words.share, words.count, words.listed,
    words.shortened, words.duration, words.capital, words.unbroken, words.missing, words.markdown_text,
)  # fmt: skip


def rendered(template: Path, **values: Any) -> str:
    """Fill in a template; a name that it uses without a given value is an error.

    A block's line leaves no empty line behind, and the text ends with one newline. If the name ends in
    ``.html.j2``, values are escaped.

    Args:
        template: the file, such as ``Path(__file__).with_name("card.md.j2")``; it may include others from its folder
            and import those of `invitro.writing`, such as ``tables.html.j2``.
        values: the template's variables, by name.
    """
    return str(_environment(template.parent).get_template(template.name).render(values)).rstrip("\n") + "\n"


def said(template: Path, macro: str, *values: Any, **named: Any) -> str:
    """Return what one macro of a template says, as one paragraph: its line breaks become spaces.

    Args:
        template: the file.
        macro: the macro's name.
        values: its arguments.
        named: its keyword arguments.
    """
    return _folded(_of_macro(template, macro, values, named))


def paragraphs(template: Path, macro: str, *values: Any, **named: Any) -> list[str]:
    """Return the paragraphs of one macro, which separates them with ``¶``. Arguments are those of `said`."""
    parts = _of_macro(template, macro, values, named).split("¶")
    return [folded for part in parts if (folded := _folded(part))]


def _of_macro(template: Path, macro: str, values: Any, named: Any) -> str:
    module = _environment(template.parent, trimmed=False).get_template(template.name).module
    return str(getattr(module, macro)(*values, **named))


def _folded(text: str) -> str:
    """Join lines and drop the spaces that the template's layout left; no-break spaces stay."""
    text = re.sub(r"[ \n]+", " ", text).strip()
    return re.sub(r" ([.,;:)]+)(?=[ ]|$)", r"\1", re.sub(r"\( ", "(", text))


@cache
def _environment(folder: Path, trimmed: bool = True) -> Any:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

    environment = Environment(
        loader=FileSystemLoader([folder, Path(__file__).with_name("writing")]),
        undefined=StrictUndefined,
        autoescape=select_autoescape(["html.j2"], default=False),
        trim_blocks=trimmed,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        extensions=["jinja2.ext.do"],
    )
    functions = {function.__name__: function for function in FUNCTIONS}
    environment.filters |= functions
    environment.globals |= functions
    return environment
