"""The progress bar of a labelling job: labels, tokens a second, time left, cost so far."""

import os
import sys
from types import TracebackType
from typing import Any

from tqdm import tqdm

from invitro.labelling.exchange import Usage


class Progress:
    """A bar that counts labels; a context manager.

    What earlier runs left is there from the start and says nothing about this run's speed: the time left follows from
    what is asked now.

    Args:
        total: labels wanted, where that is known.
        shown: whether there is a bar; None shows it on a terminal.
    """

    def __init__(self, total: int | None, shown: bool | None) -> None:
        disable = None if shown is None else not shown
        self._bar: Any = tqdm(total=total, unit="label", disable=disable, **_size())

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()

    def found(self, labels: int) -> None:
        """Count labels that nobody has to be asked for."""
        if labels and not self._bar.disable:
            # All three, so that they are taken for no work of this run, in its mean speed as in its recent one.
            self._bar.initial += labels
            self._bar.n += labels
            self._bar.last_print_n += labels

    def answered(self, labels: int, usage: Usage) -> None:
        """Count labels that an answer settled, usable or not, and show what this run has used so far."""
        if not self._bar.disable:
            seconds = self._bar.format_dict["elapsed"]
            speed = usage.completion_tokens / seconds if seconds else 0.0
            self._bar.set_postfix_str(f"{speed:.0f} tokens/s, ${usage.cost:.2f}", refresh=False)
        self._bar.update(labels)


def _size() -> dict[str, int]:
    """Return a size for the bar where the terminal tells none; tqdm then takes it for one without room."""
    try:
        columns, rows = os.get_terminal_size(sys.stderr.fileno())
    except (OSError, ValueError):  # no terminal
        return {}
    return {} if columns and rows else {"ncols": 80, "nrows": 24}
