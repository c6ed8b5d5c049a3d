"""Which texts are for training, validation and test: as published, by seeded shares, or by folds."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import numpy.typing as npt
import pandas as pd
from annotated_types import Ge, Gt, Lt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from sklearn.model_selection import GroupKFold, GroupShuffleSplit
from sklearn.model_selection import KFold as PlainKFold

from invitro.data.corpus import SPLITS
from invitro.data.reader import same_text
from invitro.errors import InputError
from invitro.settings import Index, Seed, checked
from invitro.stats import Ints

FOLDS = 5
"""Folds of a cross-validation inside the training texts, unless a setting says otherwise."""
SplitShare = Annotated[float, Gt(0), Lt(1), "a share above 0 and below 1"]


@dataclass(frozen=True)
class Published:
    """The splits that the corpus came with; a text without a crowd label is always ``unlabelled``."""

    def assign(self, table: pd.DataFrame) -> "pd.Series[str]":
        """Return the table's own ``split`` column.

        Raises:
            InputError: the corpus has no published split, or nothing to train on.
        """
        split = table["split"].where(table["crowd_label"].notna(), "unlabelled").astype("str").rename("split")
        if not split.isin(["val", "test"]).any():
            raise InputError(
                "data.split: the corpus has no published validation or test texts with crowd labels "
                f"({_sizes(split)}); choose data/split=holdout or data/split=kfold"
            )
        if not (split == "train").any():
            raise InputError(f"data.split: the corpus has no published training texts ({_sizes(split)})")
        return split


@checked("data.split")
@dataclass(frozen=True)
class DevAsTest:
    """The published validation texts as the test, for shared tasks whose test labels were never published.

    Validation is a seeded share of the published training texts, and the published test texts stay ``unlabelled``: a
    pool. So a model is chosen on some texts and tested on others.

    Args:
        val: share of the training texts for validation, above 0 and below 1; of their authors when grouped.
        grouped: whether all texts of one ``group_id`` stay together, in training or in validation.
        seed: seed of the draw.
    """

    val: SplitShare = 0.1
    grouped: bool = True
    seed: Seed = 42

    def assign(self, table: pd.DataFrame) -> "pd.Series[str]":
        """Return the split of each row.

        Raises:
            InputError: the corpus has no published validation, a test with labels, or too few training texts.
        """
        published = Published().assign(table)
        if (published == "test").any():
            raise InputError(
                f"data/split=dev_as_test: the corpus has test texts with crowd labels ({_sizes(published)}); choose "
                "data/split=published"
            )
        rows = np.flatnonzero(published == "train")
        train, val = _share(rows, _clusters(table.iloc[rows], self.grouped), self.val, self.seed, self.grouped)
        return _named(table, train=train, val=val, test=np.flatnonzero(published == "val"))


@dataclass(frozen=True)
class Undivided:
    """No validation and no test: for a corpus that only serves as the pool for augmentation."""

    def assign(self, table: pd.DataFrame) -> "pd.Series[str]":
        """Return ``train`` for texts with a crowd label and ``unlabelled`` for the others."""
        return _named(table, train=_labelled(table))


@checked("data.split")
@dataclass(frozen=True)
class Holdout:
    """Seeded shares of the labelled texts for validation and test.

    Copies of a text stay together. If `grouped`, so do all texts of an author, and the shares are shares of authors.

    Args:
        val: share for validation, above 0.
        test: share for test, above 0; `val` and `test` must add up to less than 1.
        grouped: whether all texts of one ``group_id`` stay together.
        seed: seed of the draw; one seed gives the same split for the same table in the same order.
    """

    val: SplitShare = 0.1
    test: SplitShare = 0.2
    grouped: bool = True
    seed: Seed = 42

    def contradictions(self) -> Iterator[str]:
        """Yield settings that contradict each other."""
        if self.val + self.test >= 1:
            yield (
                "data.split.val and data.split.test: expected a sum below 1, so that there are texts for training, "
                f"found {self.val:g} + {self.test:g}"
            )

    def assign(self, table: pd.DataFrame) -> "pd.Series[str]":
        """Return the split of each row; raise an error for a table with too few texts or authors."""
        labelled = _labelled(table)
        clusters = _clusters(table.iloc[labelled], self.grouped)
        if (units := len(np.unique(clusters))) < len(("train", "val", "test")):
            raise _too_small("training, validation and test", labelled, units, self.grouped)
        others, test = _share(labelled, clusters, self.test, self.seed, self.grouped, leave=2)
        kept = np.isin(labelled, others)
        train, val = _share(others, clusters[kept], self.val / (1 - self.test), self.seed, self.grouped)
        return _named(table, train=train, val=val, test=test)


@checked("data.split")
@dataclass(frozen=True)
class KFold:
    """Cross-validation: the test texts are one fold, validation is a seeded share of the others.

    Ungrouped folds equal ``sklearn.model_selection.KFold`` over the labelled texts in the file's order, so that
    published folds can be reproduced (NewsEmp18: 10 folds, shuffled, seed 42). They keep neither an author's texts nor
    identical texts together; grouped folds keep both.

    Args:
        folds: how many folds, 2 or more.
        fold: which of them is the test fold, counted from 0.
        val: share of the texts outside the fold for validation, from 0 to below 1. Models in closed form need none.
        grouped: whether all texts of one ``group_id`` stay together, in the folds and in validation.
        shuffle: whether texts are assigned to folds at random instead of in the file's order.
        seed: seed of the shuffling and of the choice of validation texts.
    """

    folds: Annotated[int, Ge(2)] = 10
    fold: Index = 0
    val: Annotated[float, Ge(0), Lt(1), "a share from 0 to below 1"] = 0.1
    grouped: bool = False
    shuffle: bool = True
    seed: Seed = 42

    def contradictions(self) -> Iterator[str]:
        """Yield settings that contradict each other."""
        if self.fold >= self.folds:
            yield (
                f"data.split.fold: expected a whole number from 0 to {self.folds - 1}, since data.split.folds="
                f"{self.folds} are counted from 0, found {self.fold}"
            )

    def assign(self, table: pd.DataFrame) -> "pd.Series[str]":
        """Return the split of each row; raise an error for a table with fewer texts (or authors) than folds."""
        labelled = _labelled(table)
        clusters = _clusters(table.iloc[labelled], self.grouped)
        units = len(np.unique(clusters)) if self.grouped else len(labelled)
        if units < self.folds:
            raise _too_small(f"{self.folds} folds", labelled, units, self.grouped)
        options = {"n_splits": self.folds, "shuffle": self.shuffle, "random_state": self.seed if self.shuffle else None}
        if self.grouped:
            folds = GroupKFold(**options).split(labelled, groups=clusters)
        else:
            folds = PlainKFold(**options).split(labelled)
        others, test = list(folds)[self.fold]
        if self.val == 0:
            return _named(table, train=labelled[others], test=labelled[test])
        train, val = _share(labelled[others], clusters[others], self.val, self.seed, self.grouped)
        return _named(table, train=train, val=val, test=labelled[test])


def _labelled(table: pd.DataFrame) -> Ints:
    """Return the positions of the rows that have a crowd label, in the table's order."""
    return np.flatnonzero(table["crowd_label"].notna().to_numpy())


def _clusters(table: pd.DataFrame, grouped: bool) -> Ints:
    """Number the sets of rows that must stay together, from 0, in the order of their first rows.

    Rows with the same text are joined, and so are rows with the same author if `grouped`; the sets are the connected
    components, so a text shared by two authors joins all texts of both.
    """
    texts, _ = pd.factorize(same_text(table["text"]))
    if not grouped:
        return np.asarray(texts, dtype=np.intp)
    authors, _ = pd.factorize(table["group_id"])
    # A graph with a node for each author and each text, and an edge for each row.
    ties = coo_array((np.ones(len(table)), (authors, len(table) + texts)), shape=(2 * len(table),) * 2)
    _, components = connected_components(ties, directed=False)
    return np.asarray(pd.factorize(components[authors])[0], dtype=np.intp)


def _share(rows: Ints, clusters: Ints, share: float, seed: int, grouped: bool, leave: int = 1) -> tuple[Ints, Ints]:
    """Split `rows` into the others, at least `leave` clusters, and a seeded `share` of the clusters, at least one."""
    units = len(np.unique(clusters))
    taken = min(max(1, round(share * units)), units - leave)
    if taken < 1:
        raise _too_small("training and validation outside the test texts", rows, units, grouped)
    splitter = GroupShuffleSplit(n_splits=1, test_size=taken, random_state=seed)
    others, drawn = next(iter(splitter.split(rows, groups=clusters)))
    return rows[others], rows[drawn]


def _named(table: pd.DataFrame, **rows: Ints) -> "pd.Series[str]":
    """Return a split for each row of `table`: the keyword that lists its position, else ``unlabelled``."""
    names = np.full(len(table), "unlabelled", dtype=object)
    for name, positions in rows.items():
        names[positions] = name
    return pd.Series(names, index=table.index, name="split", dtype="str")


def _too_small(wanted: str, rows: Ints, units: int, grouped: bool) -> InputError:
    kind = "authors (group_id) or sets of authors with a text in common" if grouped else "different texts"
    other = ", or set data.split.grouped=false" if grouped else ""
    return InputError(
        f"data.split: the corpus is too small for {wanted}: it has {len(rows)} labelled texts, {units} {kind} "
        f"to divide. Use a larger corpus or fewer, larger parts{other}"
    )


def _sizes(split: "pd.Series[str]") -> str:
    counts = split.value_counts()
    return ", ".join(f"{counts.get(name, 0)} {name}" for name in SPLITS)


def author_folds(
    groups: npt.ArrayLike, needed_for: str, count: int = FOLDS, seed: int = 0
) -> Iterator[tuple[Ints, Ints]]:
    """Yield the rows to fit on and the rows left out, with each group entirely in one of them.

    Which groups share a fold depends on their names and `seed`, not on the order of the rows.

    Args:
        groups: the author of each text, shape (n,).
        needed_for: the setting that needs the folds, for the error.
        count: number of folds; the number of groups, if that is smaller.
        seed: seed of the folds.

    Raises:
        InputError: there are fewer than two groups.
    """
    names = np.asarray(groups)
    authors = len(np.unique(names))
    if authors < 2:
        raise InputError(
            f"{needed_for} is fitted out of fold, by authors (group_id): expected two or more, found {authors}"
        )
    yield from GroupKFold(min(count, authors), shuffle=True, random_state=seed).split(names, groups=names)
