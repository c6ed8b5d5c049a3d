"""The exception for bad user input, and the wording of messages: values, names, commands, secrets."""

import json
import os
import re
import shlex
import subprocess
import sys
import traceback
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from urllib.parse import quote

IN_ADDRESS = re.compile(r"://[^/\s@]+@")
LONGEST, MOST_NAMES = 40, 30
"""Characters of a value or a name in an error, and how many names it lists."""
NAME = re.compile(rf"[\w ()\[\]/:%#&+.-]{{0,{LONGEST - 1}}}[\w)\]%#]")
"""A column name, as opposed to a sentence."""
NUMBER = re.compile(r"[+-]?\d+([.,]\d*)?")


class InputError(ValueError):
    """The user's input cannot be used; the message says where, what was expected, what was found and how to fix it.

    Several independent problems are reported together, one per line.
    """

    def __init__(self, *problems: str) -> None:
        if not problems:
            raise TypeError("an InputError needs at least one problem")
        self.problems = tuple(map(without_secrets, problems))
        super().__init__("\n".join(self.problems))


def refuse_if_any(problems: Iterable[str]) -> None:
    """Raise one `InputError` that lists all `problems`; do nothing if there are none."""
    listed = tuple(problems)
    if listed:
        raise InputError(*listed)


def shown(value: object) -> str:
    """Format a value of the user's data for an error: a word or a number, never part of a text.

    Example:
        >>> shown("high"), shown(7.5), shown("I felt awful for them.")
        ("'high'", '7.5', 'a text of 22 characters')
    """
    if not isinstance(value, str):
        return str(value) if isinstance(value, float) else f"a {type(value).__name__}"
    is_word = len(value) <= LONGEST and len(value.split()) < 2 and value.isprintable()
    return repr(value) if is_word else f"a text of {len(value)} characters"


def names_shown(names: Iterable[object]) -> str:
    """Format column names for an error; if a file has no header, they may be the texts of its first row.

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


def meant(wanted: Iterable[str], names: Iterable[object]) -> str:
    """Suggest which of `names` were probably meant, for a message that lists them; empty if none is similar.

    Example:
        >>> meant(["gpt4"], ["story", "gpt4o"])
        '; did you mean gpt4o?'
    """
    lower = {str(name).lower(): name for name in names}
    near = [lower[match] for word in wanted for match in get_close_matches(word.lower(), lower, 1)]
    return f"; did you mean {names_shown(dict.fromkeys(near))}?" if near else ""


SHORTEST_SECRET = 8
"""Shorter values are not masked: local servers are given keys such as ``none``, which occur in ordinary texts."""
_secrets: set[str] = set()


def remember_secret(secret: str) -> None:
    """Mask `secret` from now on in every text that passes through `without_secrets`, also in its escaped forms."""
    for variant in (secret, secret.strip()):
        forms = {
            variant,
            repr(variant)[1:-1],
            repr(variant.encode("utf-8", "replace"))[2:-1],
            json.dumps(variant)[1:-1],
            quote(variant, ""),
        }
        _secrets.update(form for form in forms if len(form.strip()) >= SHORTEST_SECRET)


def without_secrets(text: str) -> str:
    """Return `text` with all secrets and the passwords in addresses masked; call it before truncating the text.

    Every exception text that is printed, stored or recorded passes through here.

    Example:
        >>> without_secrets("no answer from http://me:1234@proxy:80")
        'no answer from http://***@proxy:80'
    """
    for secret in sorted(_secrets, key=len, reverse=True):
        text = text.replace(secret, "***")
    return IN_ADDRESS.sub("://***@", text)


def error_text(error: BaseException) -> str:
    """Return an error's type and message without secrets, as failures are recorded, logged and sent."""
    return without_secrets(f"{type(error).__name__}: {error}")


def traceback_text(error: BaseException) -> str:
    """Return an error's whole traceback without secrets."""
    return without_secrets("".join(traceback.format_exception(error)))


PACKAGE = Path(__file__).resolve().parent


def conf_folder() -> Path:
    """Return the folder of the configuration: inside the installed package, or at the top of its repository.

    Raises:
        InputError: it is in neither place.
    """
    folders = (PACKAGE / "conf", PACKAGE.parents[1] / "conf")
    for folder in folders:
        if (folder / "train.yaml").is_file():
            return folder
    raise InputError(
        f"conf: expected the configuration in {folders[0]} or {folders[1]}, found neither; "
        "install invitro with pip install, or from its repository with pip install -e ."
    )


def called(entry_point: str) -> str:
    """Return the command that starts an entry point here, for messages: ``python train.py`` or ``invitro-train``.

    Args:
        entry_point: ``train``, ``describe``, ``label``, ``sweep`` or ``predict``.
    """
    by_command = (
        Path(sys.argv[0]).name.startswith("invitro-") or not (conf_folder().parent / f"{entry_point}.py").is_file()
    )
    return f"invitro-{entry_point}" if by_command else f"python {entry_point}.py"


def as_called(text: str) -> str:
    """Replace ``python train.py`` and the like in a text by the commands that start them here."""
    return re.sub(r"python (train|describe|label|sweep|predict)\.py", lambda match: called(match[1]), text)


def command_line(words: Iterable[str], posix: bool = os.name != "nt") -> str:
    """Join words to a shell command as a person would write it: Hydra's single quotes go inside double quotes.

    Args:
        words: program and arguments.
        posix: whether the line is for POSIX shells, so that `shlex.split` reads it back; if not, for those of Windows.

    Example:
        >>> print(command_line(["train.py", "runs='my runs'", "scale=gad7", "fit.loss='$'"]))
        train.py "runs='my runs'" scale=gad7 'fit.loss='"'"'$'"'"''
    """
    if not posix:
        return subprocess.list2cmdline(words)
    return " ".join(
        f'"{word}"' if "'" in word and not re.search(r'["$`\\!]', word) else shlex.quote(word) for word in words
    )


def quoted(value: object) -> str:
    """Quote a value for Hydra's command line; it may contain any characters."""
    # Backslashes are plain characters to Hydra, except before a quote.
    text = re.sub(r"(\\*)'", r"\1\1\'", str(value))
    trailing = len(text) - len(text.rstrip("\\"))
    return "'" + text + "\\" * trailing + "'"
