"""The one exception for users: bad input, with what to fix."""

import re
from collections.abc import Iterable, Sequence

LONGEST, MOST_NAMES = 40, 30
"""Characters of a value or a name in an error, and how many names it lists."""
NAME = re.compile(rf"[\w ()\[\]/:%#&+.-]{{0,{LONGEST - 1}}}[\w)\]%#]")
"""What a column is called, other than a sentence."""
NUMBER = re.compile(r"[+-]?\d+([.,]\d*)?")


class InputError(ValueError):
    """The user's input cannot be used; the message says where, what was expected, what was found and how to fix it.

    Several independent problems are reported together, one per line.
    """

    def __init__(self, *problems: str) -> None:
        if not problems:
            raise TypeError("an InputError needs at least one problem")
        self.problems = problems
        super().__init__("\n".join(problems))


def refuse_if_any(problems: Iterable[str]) -> None:
    """Raise one `InputError` that lists all `problems`; do nothing when there is none."""
    listed = tuple(problems)
    if listed:
        raise InputError(*listed)


def shown(value: object) -> str:
    """Return a value of the user's data as an error may show it: a word or a number, and never a piece of a text.

    Example:
        >>> shown("high"), shown(7.5), shown("I felt awful for them.")
        ("'high'", '7.5', 'a text of 22 characters')
    """
    if not isinstance(value, str):
        return str(value) if isinstance(value, float) else f"a {type(value).__name__}"
    is_word = len(value) <= LONGEST and len(value.split()) < 2 and value.isprintable()
    return repr(value) if is_word else f"a text of {len(value)} characters"


def names_shown(names: Iterable[object]) -> str:
    """Return column names as an error may show them; where a header is missing, the first row's texts are its names.

    Example:
        >>> names_shown(["id", "Empathy (1 to 7)"]), names_shown(["t1", "3.5", "I felt awful."])
        ('id, Empathy (1 to 7)', 't1, 3.5, a name of 13 characters')
    """
    texts = [str(name) for name in names]
    # A number or a sentence among the names: the first line may be a row, and only its words are shown.
    most = 4 if all(NAME.fullmatch(name) and not NUMBER.fullmatch(name) for name in texts) else 1
    listed = [
        name if NAME.fullmatch(name) and len(name.split()) <= most else f"a name of {len(name)} characters"
        for name in texts
    ]
    more = f" and {len(listed) - MOST_NAMES} more" if len(listed) > MOST_NAMES else ""
    return (", ".join(listed[:MOST_NAMES]) or "none") + more


def error_text(error: BaseException, secrets: Sequence[str] = ()) -> str:
    """Return an error's type and message, with secrets masked: how failures are recorded, logged and sent.

    Args:
        error: any exception.
        secrets: masked wherever they occur.
    """
    return without_secrets(f"{type(error).__name__}: {error}", secrets)


def without_secrets(text: str, secrets: Sequence[str]) -> str:
    """Return `text` with each of `secrets` masked; call it before truncating the text."""
    for secret in secrets:
        text = text.replace(secret, "***")
    return text
