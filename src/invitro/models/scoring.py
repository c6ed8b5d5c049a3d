"""Scoring texts with a trained model."""

from collections.abc import Sequence

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from invitro.models.outputs import Floats, Outputs, Score, Scored
from invitro.models.tokens import length_batches, pad, tokenise


def score_texts(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    batch_size: int = 32,
    outputs: Outputs | None = None,
) -> Floats:
    """Return the scores that `scored_texts` gives, without their uncertainty: (texts,), float64."""
    return scored_texts(model, tokenizer, texts, batch_size, outputs).score


def scored_texts(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    batch_size: int = 32,
    outputs: Outputs | None = None,
) -> Scored:
    """Score texts in batches of similar length, on the model's device.

    Args:
        model: a regressor.
        tokenizer: its tokenizer.
        texts: the texts; longer ones than the model takes are cut.
        batch_size: texts a forward pass.
        outputs: what the model's outputs mean; None is one output, the score.

    Returns:
        Scores in the order of `texts` and in the units of the training labels.
    """
    outputs = outputs or Score()
    found = np.empty((2, len(texts)), dtype=np.float64)
    has_sd = len(outputs.names) > 1
    ids = tokenise(tokenizer, texts).ids
    was_training = model.training
    model.eval()
    with torch.inference_mode():
        for rows in length_batches([len(row) for row in ids], batch_size):
            batch = {name: value.to(model.device) for name, value in pad(tokenizer, [ids[row] for row in rows]).items()}
            read = outputs.read(model(**batch).logits.float())
            found[0, rows] = read.score.double().cpu().numpy()
            if read.sd is not None:
                found[1, rows] = read.sd.double().cpu().numpy()
    model.train(was_training)
    return Scored(found[0], found[1] if has_sd else None)
