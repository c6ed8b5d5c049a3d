"""The one exception for users: bad input, with what to fix."""

from collections.abc import Iterable, Sequence


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
