"""What each training text counts in the loss."""

import numpy as np
import numpy.typing as npt
import pandas as pd

from invitro.errors import InputError


def mean_one(table: pd.DataFrame) -> npt.NDArray[np.float64]:
    """Return the training texts' weights, divided by their mean over the whole training set; 1 where there are none.

    A batch's loss is then ``mean(w * l)``: an unbiased estimate of ``sum(w * l) / sum(w)`` over the training set, with
    steps as large as without weights. Dividing by each batch's own sum of weights instead would let a batch of light
    texts pull as hard as one of heavy texts, and with one text a batch weights would do nothing.

    Args:
        table: training labels, with or without a column ``weight``.

    Raises:
        InputError: weights that are negative, not finite, or all 0.
    """
    if "weight" not in table:
        return np.ones(len(table))
    weights = table["weight"].to_numpy(dtype=np.float64)
    wrong = ~np.isfinite(weights) | (weights < 0)
    if wrong.any():
        row = int(wrong.argmax())
        raise InputError(
            f"training text {table['text_id'].iloc[row]}: expected a weight of at least 0, found {weights[row]:g} "
            f"({int(wrong.sum())} such texts)"
        )
    if not weights.any():
        raise InputError(f"all {len(weights)} training texts have the weight 0, so that none would be learnt from")
    relative = weights / weights.max()  # exactly 1, all of them, where they are equal
    return np.asarray(relative / relative.mean())
