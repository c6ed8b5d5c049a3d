"""How numbers and lists are written: one way for every table, sentence, page and terminal."""

import math
import re
from collections.abc import Iterable
from typing import Any

import pandas as pd

MINUS, DASH, SPACE = "\N{MINUS SIGN}", "–", "\N{NO-BREAK SPACE}"


def missing(value: Any) -> bool:
    """Whether a value is None or NaN."""
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
    """Write an interval as ``[0.401, 0.512]``; nothing where there is none."""
    return "" if missing(low) or missing(high) else f"[{number(low, digits, sign)}, {number(high, digits, sign)}]"


def estimate(value: Any, low: Any, high: Any, digits: int = 3, sign: bool = False) -> str:
    """Write an estimate with its interval, where it has one: ``0.450 [0.401, 0.512]``."""
    return f"{number(value, digits, sign)} {interval(low, high, digits, sign)}".rstrip()


def share(value: Any) -> str:
    """Write a share from 0 to 1 as a percentage with one decimal."""
    return DASH if missing(value) else f"{100 * float(value):.1f}{SPACE}%"


def count(number_of: int, one: str, many: str = "") -> str:
    """Write ``1 run`` or ``5 runs``."""
    return f"{number_of:,} {one if number_of == 1 else many or one + 's'}"


def listed(parts: Iterable[str]) -> str:
    """Join parts as ``a``, ``a and b`` or ``a, b and c``."""
    *first, last = [*parts] or [""]
    return f"{', '.join(first)} and {last}" if first else last


def shortened(parts: Iterable[str], most: int) -> list[str]:
    """Return the first `most` parts and, where there are further ones, how many: ``3 more``."""
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
    """Capitalise the first letter and leave the others as they are."""
    return text[:1].upper() + text[1:]


def unbroken(text: str) -> str:
    """Keep a number and its per cent sign, and p and its value, on one line of a page."""
    text = re.sub(r"(?<=\d) %", f"{SPACE}%", text)
    return re.sub(r"p ([<=]) (?=\d)", f"p{SPACE}\\1{SPACE}", text)


def markdown_text(text: str) -> str:
    """Return text as Markdown prints it, also in a table; an underscore inside a word needs no escape."""
    return re.sub(
        r"[\\|*`<>]|\](?=[(\[:])|(?<!\w)_|_(?!\w)", lambda match: f"\\{match[0]}", re.sub(r"[\r\n]+", " ", text)
    )
