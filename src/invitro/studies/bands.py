"""Groups of people: which demographics a table tells of, how their values are banded, how small a group may be."""

from itertools import pairwise
from typing import Any

import pandas as pd

from invitro.data import DEMOGRAPHICS

LEAST = 30
"""Groups with fewer texts are not shown: their numbers say little, and might tell of a person."""
AGES = (0, 30, 40, 50, 60, 200)


def known_attributes(table: pd.DataFrame) -> list[str]:
    """Return the demographics that a table has any value of."""
    return [name for name in DEMOGRAPHICS if name in table and table[name].notna().any()]


def banded(values: "pd.Series[Any]", attribute: str) -> "pd.Series[Any]":
    """Return the groups of an attribute: ages by decade, incomes in thirds of the texts, codes as they are."""
    numbers = pd.to_numeric(values, errors="coerce")
    if attribute == "age":
        names = [
            f"under {AGES[1]}",
            *(f"{low}–{high - 1}" for low, high in pairwise(AGES[1:-1])),
            f"{AGES[-2]} and over",
        ]
        return pd.Series(pd.cut(numbers, AGES, right=False, labels=names), index=values.index)
    if attribute == "income" and numbers.nunique() > 10:
        places = numbers.rank(pct=True)  # equal incomes stay together
        return pd.Series(pd.cut(places, [0, 1 / 3, 2 / 3, 1], labels=["low", "middle", "high"]), index=values.index)
    text = values.astype("str").str.removesuffix(".0")
    return text.where(values.notna())
