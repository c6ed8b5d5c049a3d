"""The LLM that rates simulated texts: with gain, noise and bias, towards all people or some.

Arrays of item scores have the shape (texts, items) and the units of the scale's items. Every SD and bias is a share of
the item's range ``high - low``, as in `invitro.data.simulator.crowd`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, get_args

import numpy as np
import pandas as pd
from annotated_types import Ge, Le

from invitro.arrays import Floats
from invitro.data.simulator.crowd import Demographic, bounds, members
from invitro.errors import InputError
from invitro.scales import Scale
from invitro.settings import Index, NotNegative, Share, checked

Bias = Annotated[float, Ge(-1), Le(1)]
GroupBiases = Annotated[
    Mapping[Demographic, Mapping[str | float, Bias]],
    f"groups by one of {', '.join(get_args(Demographic))}, with biases from -1 to 1, such as {{gender: {{2: -0.1}}}}",
]


@checked("data.llm")
@dataclass(frozen=True)
class LLMRater:
    """A language model that scores what a text says, s, item by item::

        l_ij = round(clip(mid + gain * (s_ij - mid) + (high - low) * (bias_j + g_i + n_i + e_ij)), decimals)

    with mid = (low + high) / 2, normal n and e of mean 0, and g_i the sum of the biases of the author's groups. A
    reply that fails leaves all items of its text missing.

    Args:
        bias: shift of every item, or of items by name (others 0); 0.1 is 0.6 points on a scale from 1 to 7.
        gain: how much of the scale it uses: below 1 it stays near the middle, above 1 it goes to extremes.
        text_noise: SD of n, the misreading of a text as a whole.
        item_noise: SD of e.
        missing: share of replies that fail, 0 to 1.
        decimals: digits after the point in its answers.
        by_group: a further bias towards people of a group, ``{gender: {2: -0.1}, age: {60-85: 0.05}}``; a group is a
            number or a range with both ends included.
    """

    bias: Annotated[Bias | Mapping[str, Bias], "a number from -1 to 1, or one for each of some items"] = 0.0
    gain: NotNegative = 1.0
    text_noise: NotNegative = 0.18
    item_noise: NotNegative = 0.06
    missing: Share = 0.0025
    decimals: Index = 1
    by_group: GroupBiases | None = None

    def contradictions(self) -> Iterator[str]:
        """Say what does not fit together."""
        for column, groups in (self.by_group or {}).items():
            for group in groups:
                if bounds(group) is None:
                    yield f"data.llm.by_group.{column}: expected a number or a range such as 18-29, found {group!r}"

    def score(self, said: Floats, scale: Scale, rng: np.random.Generator, people: pd.DataFrame | None = None) -> Floats:
        """Score every item of every text; `said` and the answer have shape (texts, items), failed replies are NaN.

        Args:
            said: what the texts say.
            scale: the bounds of the answers.
            rng: every draw is made at any settings.
            people: the texts' demographics, one row per text, with the columns of `by_group`; None if there are none.

        Raises:
            InputError: a bias names an item that the scale does not have.
        """
        names = [item.name for item in scale.items]
        unknown = [name for name in self.bias if name not in names] if isinstance(self.bias, Mapping) else []
        if unknown:
            raise InputError(
                f"data.llm.bias: expected items of {scale.name} ({', '.join(names)}), found {', '.join(unknown)}"
            )
        bias = [self.bias.get(name, 0.0) if isinstance(self.bias, Mapping) else self.bias for name in names]
        noise = self.text_noise * rng.normal(size=(len(said), 1)) + self.item_noise * rng.normal(size=said.shape)
        for column, groups in (self.by_group or {}).items():
            assert people is not None
            for group, further in groups.items():
                noise = noise + further * members(people[column], group)[:, None]
        middle = (scale.low + scale.high) / 2
        scores = middle + self.gain * (said - middle) + (scale.high - scale.low) * (np.asarray(bias) + noise)
        scores = np.round(np.clip(scores, scale.low, scale.high), self.decimals).clip(scale.low, scale.high)
        scores[rng.random(len(said)) < self.missing] = np.nan
        return np.asarray(scores, dtype=np.float64)
