"""Texts that stand twice: what makes two texts the same, and the refusal of those that would leak into evaluation."""

import pandas as pd

from invitro.errors import InputError


def same_text(texts: "pd.Series[str]") -> "pd.Series[str]":
    """Return what decides whether two texts are the same: the text without white space at its ends."""
    return texts.str.strip()


def refuse_shared_texts(training: pd.DataFrame, evaluation: pd.DataFrame, source: str) -> None:
    """Refuse a text that a model could learn by heart and then be tested on.

    Args:
        training: ``text_id`` and ``text`` of all that is trained on: training texts and pool.
        evaluation: ``text_id`` and ``text`` of validation and test.
        source: the corpus or file named in the error.

    Raises:
        InputError: a text stands in both, with up to five pairs of ids.
    """
    learnt = training.assign(key=same_text(training["text"])).drop_duplicates("key").set_index("key")["text_id"]
    keys = same_text(evaluation["text"])
    shared = keys.isin(learnt.index)
    if shared.any():
        pairs = zip(keys[shared].map(learnt).head(5), evaluation["text_id"][shared].head(5), strict=True)
        more = f" and {int(shared.sum()) - 5} more" if shared.sum() > 5 else ""
        raise InputError(
            f"{source}: expected texts that stand in training (or its pool) or in validation and test, "
            f"found {int(shared.sum())} in both: {', '.join(f'{one} = {other}' for one, other in pairs)}{more}. "
            "Choose a split that keeps identical texts together (data/split=holdout, or data.split.grouped=true), "
            "remove one of each pair, or set allow_shared_texts=true"
        )
