"""Scoring texts with a trained model."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from invitro.models.tokens import length_batches, pad, tokenise


def score_texts(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    batch_size: int = 32,
) -> npt.NDArray[np.float64]:
    """Score texts in batches of similar length, on the model's device.

    Args:
        model: a regressor with one output.
        tokenizer: its tokenizer.
        texts: the texts; longer ones than the model takes are cut.
        batch_size: texts a forward pass.

    Returns:
        Scores of shape (texts,), float64, in the order of `texts` and in the units of the training labels.
    """
    scores = np.empty(len(texts), dtype=np.float64)
    if not len(texts):
        return scores
    ids = tokenise(tokenizer, texts).ids
    was_training = model.training
    model.eval()
    with torch.inference_mode():
        for rows in length_batches([len(row) for row in ids], batch_size):
            batch = {name: value.to(model.device) for name, value in pad(tokenizer, [ids[row] for row in rows]).items()}
            scores[rows] = model(**batch).logits[:, 0].double().cpu().numpy()
    model.train(was_training)
    return scores
