"""Which texts a command is about: all of a corpus or some of them, member by member."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from invitro.data import Corpus


def chosen(table: pd.DataFrame, limit: int | None = None, seed: int | None = None) -> pd.DataFrame:
    """Return `limit` rows of a canonical table, in its order.

    Args:
        table: of a corpus.
        limit: how many; None for all.
        seed: of a random draw, in which texts with a crowd label come before those without: they can be compared with
            something. None takes the first rows.
    """
    if limit is None or limit >= len(table):
        return table
    if seed is None:
        return table.head(limit)
    drawn = np.random.default_rng(seed).permutation(len(table))
    rated = table["crowd_label"].notna().to_numpy()[drawn]
    first = np.concatenate([drawn[rated], drawn[~rated]])[:limit]
    return table.iloc[np.sort(first)]


def parts(corpus: Corpus, table: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame, str]]:
    """Yield name, rows and id prefix of each corpus whose label set is concerned; ids are the corpus's own.

    A combination's members are label sets of their own, which other combinations share.

    Args:
        corpus: that `table` is of.
        table: its table or some rows of it.
    """
    if len(corpus.label_corpora) == 1:
        yield corpus.label_corpora[0], table, ""
        return
    for name in corpus.label_corpora:
        prefix = f"{name}:"
        own = table.loc[table["text_id"].str.startswith(prefix)]
        if len(own):
            yield name, own.assign(text_id=own["text_id"].str.removeprefix(prefix)), prefix
