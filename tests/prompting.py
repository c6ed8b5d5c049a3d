"""Prompts, scales and a small corpus as the tests of labelling use them."""

import json
import sqlite3
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from omegaconf import OmegaConf
from support import ROOT

from invitro.data import Corpus
from invitro.engines.base import Readout
from invitro.labelling.prompts import Prompt
from invitro.labelling.replies import ReplyForm
from invitro.scales import Item, Scale

NAMES = ("sympathetic", "moved", "compassionate", "tender", "warm", "softhearted")
HERE = ROOT / "tests" / "labelling"


def prompt(choice: str, **changes) -> Prompt:
    """Return a shipped prompt."""
    values = yaml.safe_load((ROOT / "conf" / "prompt" / f"{choice}.yaml").read_text("utf-8"))
    return Prompt(**{key: value for key, value in values.items() if not key.startswith("_")} | changes)


def scale(name: str = "batson_empathy") -> Scale:
    """Return a shipped scale."""
    values: Any = OmegaConf.to_container(OmegaConf.load(ROOT / "conf" / "scale" / f"{name}.yaml"), resolve=True)
    items = tuple(Item(one["name"], one["statement"]) for one in values.pop("items"))
    return Scale(items=items, **{key: value for key, value in values.items() if not key.startswith("_")})


def form(readout: str = "text", of: str = "batson_empathy", **changes) -> ReplyForm:
    """Return the form of replies on a shipped scale."""
    return ReplyForm(scale(of), Readout(readout), **changes)


def a_corpus(n: int = 40) -> Corpus:
    """Return short texts by authors of two texts each, most of them rated."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "text_id": [f"t{i:02d}" for i in range(n)],
            "text": [f"story number {i}" for i in range(n)],
            "group_id": [f"a{i // 2}" for i in range(n)],
            "split": ["test" if i % 4 == 0 else "train" for i in range(n)],
            "crowd_label": np.where(np.arange(n) % 10 == 9, np.nan, rng.uniform(1, 7, n).round(2)),
            "gender": ["2" if i % 2 else None for i in range(n)],
        }
    )
    return Corpus("small", table, "CC0", "nobody")


def store_content(store: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Return everything in a label store but times and the order of arrival."""
    with sqlite3.connect(store) as db:
        db.row_factory = sqlite3.Row
        tables = {}
        for name in ("sets", "answers", "uses"):
            left_out = {"created", "answered", "checksum"} | ({"id"} if name == "answers" else set())
            rows = [dict(row) for row in db.execute(f"SELECT * FROM {name}")]
            tables[name] = sorted(
                tuple((k, repr(v)) for k, v in sorted(row.items()) if k not in left_out) for row in rows
            )
    return tables


def noted(log: Path) -> list[dict[str, Any]]:
    """Return what the scripted engine noted of each request, in order; a line being written does not count yet."""
    lines = log.read_text().splitlines(keepends=True) if log.is_file() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def asked(notes: Iterable[dict[str, Any]]) -> Counter[tuple[str, float]]:
    """Count how often each question was asked, by its key and temperature."""
    return Counter((note["key"], note["temperature"]) for note in notes)
