"""Small language models that measure psychological constructs, with an LLM in the lab and not in production.

The functions for notebooks are in `invitro.api`, which is imported on first use, so that importing invitro costs
nothing.

Example:
    >>> import invitro
    >>> labels = invitro.label(["My heart aches for them.", "Just news."], "batson_empathy", llm="scripted")
    >>> fixed = invitro.correct([2.0, 1.5], labels["score"], alpha=4.0)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from invitro.api import agreement, augment, correct, describe, label, load, next_texts, scale, study, train, worth
    from invitro.errors import InputError

__version__ = "0.1.0"
__all__ = [
    "InputError",
    "agreement",
    "augment",
    "correct",
    "describe",
    "label",
    "load",
    "next_texts",
    "scale",
    "study",
    "train",
    "worth",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module("invitro.errors" if name == "InputError" else "invitro.api"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
