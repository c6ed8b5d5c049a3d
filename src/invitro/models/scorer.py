"""A trained model of whatever kind, as something that scores texts."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from invitro.models.folder import KIND, load_model, read_meaning
from invitro.models.linear import read_linear
from invitro.models.loading import Loaded
from invitro.models.outputs import Outputs, Scored, outputs_from
from invitro.models.scoring import scored_texts


class Scorer(Protocol):
    """Scores texts."""

    def score(self, texts: Sequence[str], batch_size: int = 32) -> Scored:
        """Score texts in their order, in the scale's units."""


@dataclass(frozen=True)
class EncoderScorer:
    """A fine-tuned encoder and what its outputs mean."""

    loaded: Loaded
    outputs: Outputs

    def score(self, texts: Sequence[str], batch_size: int = 32) -> Scored:
        """Score texts in their order, in the scale's units."""
        return scored_texts(*self.loaded, texts, batch_size, self.outputs)


def load_scorer(folder: str | Path, device: str | torch.device = "cpu") -> tuple[Scorer, dict[str, Any], Outputs]:
    """Load the model in `folder`, what ``scale.json`` says, and what the outputs mean.

    Raises:
        InputError: the folder is missing, or is not one of a trained model.
    """
    meaning = read_meaning(folder)
    outputs = outputs_from(meaning)
    if meaning.get("model", KIND) != KIND:
        return read_linear(Path(folder), meaning, torch.device(device)), meaning, outputs
    loaded, meaning = load_model(folder, device)
    return EncoderScorer(loaded, outputs), meaning, outputs
