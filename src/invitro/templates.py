"""Text from Jinja templates that lie beside the module that fills them in."""

from functools import cache
from pathlib import Path
from typing import Any


def rendered(template: Path, **values: Any) -> str:
    """Fill in a template; a name that it uses and that is not given is an error.

    A block's line leaves no empty line behind, and the text ends with one newline. Where the name ends in
    ``.html.j2``, values are escaped.

    Args:
        template: the file, such as ``Path(__file__).with_name("card.md.j2")``; it may include others of its folder.
        values: what the template calls by name.
    """
    return str(_environment(template.parent).get_template(template.name).render(values)).rstrip("\n") + "\n"


@cache
def _environment(folder: Path) -> Any:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

    return Environment(
        loader=FileSystemLoader(folder),
        undefined=StrictUndefined,
        autoescape=select_autoescape(["html.j2"], default=False),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
