"""What a regressor's outputs mean: from raw outputs to a score and, where the model has one, its uncertainty."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from invitro.errors import InputError

Floats = npt.NDArray[np.float64]


class Scored(NamedTuple):
    """Scores of texts and their predicted standard deviations, both (texts,), float64, in the scale's units.

    `sd` is None where the model predicts none. It is the spread of labels that the model expects for such a text: noise
    of raters included, its own ignorance of unfamiliar texts not.
    """

    score: Floats
    sd: Floats | None = None


class Read(NamedTuple):
    """The same for one batch of raw outputs: tensors of shape (batch,), `sd` None where there is none."""

    score: Tensor
    sd: Tensor | None = None


class Outputs(Protocol):
    """What the outputs of a model mean."""

    @property
    def names(self) -> list[str]:
        """One name an output."""

    def read(self, raw: Tensor) -> Read:
        """Turn raw outputs of shape (batch, outputs) into scores."""

    def meaning(self) -> dict[str, Any]:
        """Return what ``scale.json`` says of the outputs; `outputs_from` reads it."""

    def told(self) -> str:
        """Return a sentence on the outputs for the model card."""


@dataclass(frozen=True)
class Score:
    """One output, the score."""

    @property
    def names(self) -> list[str]:
        """One name an output."""
        return ["score"]

    def read(self, raw: Tensor) -> Read:
        """Return the output as it is."""
        return Read(raw[:, 0])

    def meaning(self) -> dict[str, Any]:
        """Return what ``scale.json`` says of the outputs."""
        return {"outputs": self.names}

    def told(self) -> str:
        """Return a sentence on the outputs for the model card."""
        return "One output: the score."


@dataclass(frozen=True)
class Gaussian:
    """Two outputs: the mean m of a Gaussian, which is the score, and the logarithm s of its variance.

    Kendall & Gal (2017), "What Uncertainties Do We Need in Bayesian Deep Learning for Computer Vision?", predict s, not
    the variance, so that it may take any value. `sd = exp(s / 2)`, with s cut at the bounds.

    Args:
        lowest: smallest s; below it a single well-predicted text would pull as hard as thousands of others.
        highest: largest s.
    """

    lowest: float
    highest: float

    @classmethod
    def over(cls, minimum: float, maximum: float) -> "Gaussian":
        """Return the outputs for a scale: standard deviations from a hundredth of its range to its whole range."""
        span = maximum - minimum
        return cls(2 * math.log(span / 100), 2 * math.log(span))

    @property
    def names(self) -> list[str]:
        """One name an output."""
        return ["mean", "log_variance"]

    def log_variance(self, raw: Tensor) -> Tensor:
        """Return s within its bounds, (batch,); outside of them it has no gradient."""
        return raw[:, 1].clamp(self.lowest, self.highest)

    def read(self, raw: Tensor) -> Read:
        """Return mean and standard deviation."""
        return Read(raw[:, 0], (self.log_variance(raw) / 2).exp())

    def meaning(self) -> dict[str, Any]:
        """Return what ``scale.json`` says of the outputs."""
        return {"outputs": self.names, "log_variance_bounds": [self.lowest, self.highest]}

    def told(self) -> str:
        """Return a sentence on the outputs for the model card."""
        return (
            "Two outputs: the score, and the logarithm of the variance that labels of such a text have. "
            "The standard deviation is exp(log_variance / 2)."
        )


@dataclass(frozen=True)
class Distribution:
    """One output a bin: softmax of the outputs is the distribution p of the label over the bins' centres c.

    ``score = sum_k p_k c_k`` and ``sd = sqrt(sum_k p_k (c_k - score)^2)``; Gao, Xing, Xie, Wu & Geng (2017), "Deep
    Label Distribution Learning with Label Ambiguity", arXiv 1611.01731.

    Args:
        bins: the centres, evenly from the scale's minimum to its maximum.
    """

    bins: tuple[float, ...]

    @classmethod
    def over(cls, minimum: float, maximum: float, count: int) -> "Distribution":
        """Return `count` bins whose outermost centres are the scale's bounds."""
        return cls(tuple(np.linspace(minimum, maximum, count).tolist()))

    @property
    def names(self) -> list[str]:
        """One name an output."""
        return [f"bin {centre:g}" for centre in self.bins]

    def read(self, raw: Tensor) -> Read:
        """Return the distribution's expectation and standard deviation."""
        share, centres = raw.float().softmax(dim=1), torch.tensor(self.bins, device=raw.device)
        score = share @ centres
        return Read(score, (share * (centres - score[:, None]) ** 2).sum(dim=1).sqrt())

    def meaning(self) -> dict[str, Any]:
        """Return what ``scale.json`` says of the outputs."""
        return {"outputs": ["distribution"], "bins": list(self.bins)}

    def told(self) -> str:
        """Return a sentence on the outputs for the model card."""
        return (
            f"{len(self.bins)} outputs: their softmax is the distribution of the label over the bins of `scale.json`. "
            "The score is its expectation, the uncertainty its standard deviation."
        )


def outputs_from(meaning: Mapping[str, Any]) -> Outputs:
    """Return the outputs that ``scale.json`` tells of.

    Raises:
        InputError: they are of no known kind; a newer version may have written them.
    """
    match meaning.get("outputs"):
        case ["score"]:
            return Score()
        case ["mean", "log_variance"]:
            return Gaussian(*meaning["log_variance_bounds"])
        case ["distribution"]:
            return Distribution(tuple(meaning["bins"]))
        case other:
            raise InputError(
                f"scale.json: outputs: expected [score], [mean, log_variance] or [distribution], found {other!r}; "
                "score with the version of invitro that wrote the model, or a newer one"
            )
