"""The one exception that is meant for people: bad input, told so that it can be mended."""

from collections.abc import Iterable


class InputError(ValueError):
    """The user's input cannot be used; the message says where, what was expected, what was found and the mend.

    Several independent problems are reported together, one a line.
    """

    def __init__(self, *problems: str) -> None:
        if not problems:
            raise TypeError("an InputError needs at least one problem")
        self.problems = problems
        super().__init__("\n".join(problems))


def not_boolean(**settings: object) -> list[str]:
    """Return a problem for every setting that is neither true nor false; a word such as ``no`` would count as true."""
    return [
        f"{name.replace('__', '.')}: expected true or false, found {value!r}"
        for name, value in settings.items()
        if not isinstance(value, bool)
    ]


def refuse_if_any(problems: Iterable[str]) -> None:
    """Raise one `InputError` that lists all `problems`; do nothing when there is none."""
    found = tuple(problems)
    if found:
        raise InputError(*found)
