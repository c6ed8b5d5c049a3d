"""How numbers, lists and sentences are written: the same for every table, page and terminal; and progress.

Sentences are Jinja templates, stored next to the module that fills them in. Python decides what to say and with which
numbers; the template has the words. The functions of this module are filters and functions of every
template.
"""

import math
import os
import re
import sys
import time
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from tqdm import tqdm

MINUS, DASH, SPACE = "\N{MINUS SIGN}", "–", "\N{NO-BREAK SPACE}"


def missing(value: Any) -> bool:
    """Whether a value is None or NaN."""
    import pandas as pd  # late, to keep --help fast

    return value is None or (pd.api.types.is_scalar(value) and bool(pd.isna(value)))


def is_number(value: Any) -> bool:
    """Whether a value is a number, written as one or as text; true and false are not."""
    if isinstance(value, bool):
        return False
    try:
        return not math.isnan(float(value))
    except (TypeError, ValueError):
        return False


def number(value: Any, digits: int = 3, sign: bool = False) -> str:
    """Write a number with `digits` decimals and a true minus sign; a missing one as a dash.

    Example:
        >>> number(0.45123), number(0.1, sign=True), number(None)
        ('0.451', '+0.100', '–')
    """
    return DASH if missing(value) else f"{float(value):{'+' if sign else ''}z.{digits}f}".replace("-", MINUS)


def plain(value: Any) -> str:
    """Write a setting's value in as few digits as it needs: 4.0 as ``4``, infinity as ``∞``, missing as a dash."""
    if missing(value):
        return DASH
    return f"{float(value):g}".replace("-", MINUS).replace("inf", "∞") if is_number(value) else str(value)


def p_value(value: Any, equals: bool = False) -> str:
    """Write p with three decimals, small ones as ``< 0.001``; with `equals`, others as ``= 0.012``."""
    if missing(value):
        return DASH
    return "< 0.001" if value < 0.001 else f"{'= ' if equals else ''}{value:.3f}"


def interval(low: Any, high: Any, digits: int = 3, sign: bool = False) -> str:
    """Write an interval as ``[0.401, 0.512]``; a missing one as an empty string."""
    return "" if missing(low) or missing(high) else f"[{number(low, digits, sign)}, {number(high, digits, sign)}]"


def estimate(value: Any, low: Any, high: Any, digits: int = 3, sign: bool = False) -> str:
    """Write an estimate with its interval, if it has one: ``0.450 [0.401, 0.512]``."""
    return f"{number(value, digits, sign)} {interval(low, high, digits, sign)}".rstrip()


def share(value: Any) -> str:
    """Write a share from 0 to 1 as a percentage with one decimal."""
    return DASH if missing(value) else f"{100 * float(value):.1f}{SPACE}%"


def count(number_of: int, singular: str, plural: str = "") -> str:
    """Write ``1 run`` or ``5 runs``."""
    return f"{number_of:,} {singular if number_of == 1 else plural or singular + 's'}"


def listed(parts: Iterable[str]) -> str:
    """Join parts as ``a``, ``a and b`` or ``a, b and c``."""
    *first, last = [*parts] or [""]
    return f"{', '.join(first)} and {last}" if first else last


def shortened(parts: Iterable[str], most: int) -> list[str]:
    """Return the first `most` parts and, if there are others, how many: ``3 more``."""
    parts = list(parts)
    return parts if len(parts) <= most else [*parts[:most], f"{len(parts) - most} more"]


def duration(seconds: float) -> str:
    """Write a time as ``41 s``, ``12 min 5 s`` or ``3 h 12 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def capital(text: str) -> str:
    """Capitalise the first letter and leave the others unchanged."""
    return text[:1].upper() + text[1:]


def unbroken(text: str) -> str:
    """Keep a number and its per cent sign, and p and its value, on one line of a page."""
    text = re.sub(r"(?<=\d) %", f"{SPACE}%", text)
    return re.sub(r"p ([<=]) (?=\d)", f"p{SPACE}\\1{SPACE}", text)


def markdown_text(text: str) -> str:
    """Escape text for Markdown, also in a table; an underscore inside a word needs no escape."""
    return re.sub(
        r"[\\|*`<>]|\](?=[(\[:])|(?<!\w)_|_(?!\w)", lambda match: f"\\{match[0]}", re.sub(r"[\r\n]+", " ", text)
    )


FUNCTIONS = (
    number, plain, p_value, interval, estimate, share, count, listed,
    shortened, duration, capital, unbroken, missing, markdown_text,
)  # fmt: skip


def rendered(template: Path, **values: Any) -> str:
    """Fill in a template; a variable without a value is an error.

    Lines with only a block are removed, and the text ends with one newline. If the name ends in
    ``.html.j2``, values are escaped.

    Args:
        template: the file, such as ``Path(__file__).with_name("card.md.j2")``; it may include others from its folder
            and import those of `invitro.writing`, such as ``tables.html.j2``.
        values: the template's variables, by name.
    """
    return str(_environment(template.parent).get_template(template.name).render(values)).rstrip("\n") + "\n"


def said(template: Path, macro: str, *values: Any, **named: Any) -> str:
    """Return the text of one macro of a template as one paragraph: its line breaks become spaces.

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
    """Join lines and drop the spaces left by the template's layout; no-break spaces stay."""
    text = re.sub(r"[ \n]+", " ", text).strip()
    return re.sub(r" ([.,;:)]+)(?=[ ]|$)", r"\1", re.sub(r"\( ", "(", text))


@cache
def _environment(folder: Path, trimmed: bool = True) -> Any:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

    environment = Environment(
        loader=FileSystemLoader([folder, Path(__file__).parent]),
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


MINUTE = 60.0


def on_terminal(stream: TextIO) -> bool:
    """Whether `stream` is a terminal that a person watches; under SLURM, nohup and CI it is a file."""
    try:
        return stream.isatty()
    except ValueError:  # it is closed
        return False


def time_left(seconds: float, done: int, left: int) -> str:
    """Say how long the rest will take at the speed of the work done in `seconds`.

    Example:
        >>> time_left(60, 20, 50), time_left(60, 0, 50)
        ('2 min 30 s left', 'time left unknown')
    """
    if not done:
        return "time left unknown"
    return f"{duration(seconds / done * max(left, 0))} left"


class Progress:
    """Counts completed work; a context manager.

    Work done earlier is counted, but not in this run's speed: the time left is estimated only from work done now.

    Args:
        total: how many units there are, if known.
        unit: what is counted, such as ``label``.
        shown: whether there is a bar; None shows it on a terminal, and elsewhere prints one line per minute.
    """

    def __init__(self, total: int | None, unit: str, shown: bool | None = None) -> None:
        size = {}
        try:
            columns, rows = os.get_terminal_size(sys.stderr.fileno())
            # tqdm would give a terminal of unknown size no room.
            size = {} if columns and rows else {"ncols": 80, "nrows": 24}
        except (OSError, ValueError):
            pass  # no terminal
        terminal = on_terminal(sys.stderr)
        self._bar: Any = tqdm(total=total, unit=unit, disable=not (terminal if shown is None else shown), **size)
        self._lines = shown is None and not terminal
        self._total, self._unit = total, unit
        self._done = self._now = 0
        self._started = self._told = time.monotonic()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()

    @property
    def seconds(self) -> float:
        """How long the work has taken so far."""
        return time.monotonic() - self._started

    def known(self, count: int) -> None:
        """Count work done earlier or elsewhere."""
        self._done += count
        if count and not self._bar.disable:
            # All three, so that it counts neither in the mean nor in the recent speed.
            self._bar.initial += count
            self._bar.n += count
            self._bar.last_print_n += count

    def reached(self, count: int) -> None:
        """Count up to this number, including work done by others."""
        self.known(max(count - self._done, 0))

    def add(self, count: int, note: str = "") -> None:
        """Count work done now; `note` is shown next to it."""
        self._done, self._now = self._done + count, self._now + count
        if not self._bar.disable:
            self._bar.set_postfix_str(note, refresh=False)
        self._bar.update(count)
        if self._lines and time.monotonic() - self._told >= MINUTE:
            self._told = time.monotonic()
            of = "" if self._total is None else f" of {self._total}"
            left = "" if self._total is None else f", {time_left(self.seconds, self._now, self._total - self._done)}"
            print(f"{self._done}{of} {self._unit}s{left}{note and f', {note}'}", file=sys.stderr, flush=True)
