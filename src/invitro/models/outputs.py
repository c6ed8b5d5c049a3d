"""What a regressor's outputs mean: from raw outputs to a score and, if the model predicts it, its uncertainty."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple

import numpy as np
import torch
from torch import Tensor
from typing_extensions import TypeVar

from invitro.errors import InputError
from invitro.stats import Floats

Array = TypeVar("Array", Floats, Tensor, default=Floats)


class Predictions(NamedTuple, Generic[Array]):
    """Scores of texts and their predicted standard deviations, both (texts,), in the scale's units.

    `sd` is None if the model does not predict it. It is the spread of labels that the model expects for such a text: it
    includes the raters' noise and, only in closed-form models, the uncertainty about unfamiliar texts.
    """

    score: Array
    sd: Array | None = None


class Outputs(ABC):
    """What the outputs of a model mean."""

    @property
    @abstractmethod
    def names(self) -> list[str]:
        """One name per output."""

    @abstractmethod
    def read(self, raw: Tensor) -> Predictions[Tensor]:
        """Turn raw outputs of shape (batch, outputs) into scores."""

    def meaning(self) -> dict[str, Any]:
        """Return what ``scale.json`` records about the outputs; `outputs_from` reads it."""
        return {"outputs": self.names}

    @abstractmethod
    def sentence(self) -> str:
        """Describe the outputs for the model card."""


@dataclass(frozen=True)
class Score(Outputs):
    """One output, the score."""

    @property
    def names(self) -> list[str]:
        return ["score"]

    def read(self, raw: Tensor) -> Predictions[Tensor]:
        return Predictions(raw[:, 0])

    def sentence(self) -> str:
        return "One output: the score."


@dataclass(frozen=True)
class ScoreAndSpread(Outputs):
    """Two outputs: the score, and the standard deviation of labels of such a text around it."""

    @property
    def names(self) -> list[str]:
        return ["score", "sd"]

    def read(self, raw: Tensor) -> Predictions[Tensor]:
        return Predictions(raw[:, 0], raw[:, 1])

    def sentence(self) -> str:
        return (
            "Two outputs: the score, and the standard deviation of labels of such a text around it, which combines the "
            "raters' noise and the model's own uncertainty."
        )


@dataclass(frozen=True)
class Gaussian(Outputs):
    """Two outputs: the mean m of a Gaussian, which is the score, and the logarithm s of its variance.

    Kendall & Gal (2017), "What Uncertainties Do We Need in Bayesian Deep Learning for Computer Vision?", predict s
    because, unlike a variance, it can take any value. ``sd = exp(s / 2)``, with s clipped to the bounds.

    Args:
        lowest: smallest s; below it, a single well-predicted text would weigh as much as thousands of others.
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
        return ["mean", "log_variance"]

    def log_variance(self, raw: Tensor) -> Tensor:
        """Return s clipped to its bounds, (batch,); outside them the gradient is 0."""
        return raw[:, 1].clamp(self.lowest, self.highest)

    def read(self, raw: Tensor) -> Predictions[Tensor]:
        return Predictions(raw[:, 0], (self.log_variance(raw) / 2).exp())

    def meaning(self) -> dict[str, Any]:
        return super().meaning() | {"log_variance_bounds": [self.lowest, self.highest]}

    def sentence(self) -> str:
        return (
            "Two outputs: the score, and the logarithm of the variance of labels of such a text. "
            "The standard deviation is exp(log_variance / 2)."
        )


@dataclass(frozen=True)
class Distribution(Outputs):
    """One output per bin: the softmax p of the outputs is the distribution of the label over the bins' centres c.

    ``score = sum_k p_k c_k`` and ``sd = sqrt(sum_k p_k (c_k - score)^2)``; Gao, Xing, Xie, Wu & Geng (2017), "Deep
    Label Distribution Learning with Label Ambiguity", arXiv 1611.01731.

    Args:
        bins: the centres, evenly spaced from the scale's minimum to its maximum.
    """

    bins: tuple[float, ...]

    @classmethod
    def over(cls, minimum: float, maximum: float, count: int) -> "Distribution":
        """Return `count` bins whose outermost centres are the scale's bounds."""
        return cls(tuple(np.linspace(minimum, maximum, count).tolist()))

    @property
    def names(self) -> list[str]:
        return [f"bin {centre:g}" for centre in self.bins]

    def read(self, raw: Tensor) -> Predictions[Tensor]:
        share, centres = raw.float().softmax(dim=1), torch.tensor(self.bins, dtype=torch.float32, device=raw.device)
        score = share @ centres
        return Predictions(score, (share * (centres - score[:, None]) ** 2).sum(dim=1).sqrt())

    def meaning(self) -> dict[str, Any]:
        return {"outputs": ["distribution"], "bins": list(self.bins)}

    def sentence(self) -> str:
        return (
            f"{len(self.bins)} outputs: their softmax is the distribution of the label over the bins of `scale.json`. "
            "The score is its mean, the uncertainty its standard deviation."
        )


def outputs_from(meaning: Mapping[str, Any]) -> Outputs:
    """Return the outputs that ``scale.json`` describes.

    Raises:
        InputError: their kind is unknown; a newer version may have written them.
    """
    match meaning.get("outputs"):
        case ["score"]:
            return Score()
        case ["score", "sd"]:
            return ScoreAndSpread()
        case ["mean", "log_variance"]:
            return Gaussian(*meaning["log_variance_bounds"])
        case ["distribution"]:
            return Distribution(tuple(meaning["bins"]))
        case other:
            raise InputError(
                "scale.json: outputs: expected [score], [score, sd], [mean, log_variance] or [distribution], found "
                f"{other!r}; score with the version of invitro that wrote the model, or a newer one"
            )
