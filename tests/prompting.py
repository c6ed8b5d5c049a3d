"""Prompts, scales and texts as the tests of labelling use them."""

import yaml
from support import ROOT

from invitro.engines.base import Readout
from invitro.labelling import Prompt, ReplyForm
from invitro.scales import Item, Scale

NAMES = ("sympathetic", "moved", "compassionate", "tender", "warm", "softhearted")
HERE = ROOT / "tests" / "labelling"


def prompt(choice: str, **changes) -> Prompt:
    """Return a shipped prompt."""
    values = yaml.safe_load((ROOT / "conf" / "prompt" / f"{choice}.yaml").read_text("utf-8"))
    return Prompt(**{key: value for key, value in values.items() if not key.startswith("_")} | changes)


def scale(name: str = "batson_empathy") -> Scale:
    """Return a shipped scale."""
    values = yaml.safe_load((ROOT / "conf" / "scale" / f"{name}.yaml").read_text("utf-8"))
    items = tuple(Item(one["name"], one["statement"]) for one in values.pop("items"))
    return Scale(items=items, **{key: value for key, value in values.items() if not key.startswith("_")})


def form(readout: str = "text", of: str = "batson_empathy", **changes) -> ReplyForm:
    """Return the form of replies on a shipped scale."""
    return ReplyForm(scale(of), Readout(readout), **changes)
