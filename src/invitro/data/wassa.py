"""What the WASSA shared-task corpora have in common: three official parts, and labels that may lie in another file.

NewsEmp22, NewsEmp23 and NewsEmp24 need registration and must not be redistributed, so nothing here downloads.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from invitro.data.corpus import Corpus, checked
from invitro.data.reader import Split, without_unknown
from invitro.errors import InputError
from invitro.files import numbers, read_table, require_columns
from invitro.scales import Scale

log = logging.getLogger(__name__)

CONSTRUCTS = ("empathy", "distress")
SCALES = "scale=batson_empathy or scale=batson_distress"
LICENCE = "for registered participants of the shared task; redistribution is not allowed"
ROLES = {"train": "train", "dev": "val", "test": "test"}
"""Official part to split; texts without a crowd label are ``unlabelled`` in any part."""


@dataclass(frozen=True)
class Layout:
    """A corpus's own column names.

    Args:
        ids: the columns that make a text's id, joined by ``_``.
        group: the author.
        text: the essay.
        labels: the columns of empathy and distress, in files that have them.
    """

    ids: tuple[str, ...]
    group: str
    text: str
    labels: tuple[str, str] = CONSTRUCTS


def part(
    raw: pd.DataFrame,
    official: str,
    layout: Layout,
    labels: "pd.Series[float] | None",
    source: Path,
    scale: Scale,
) -> pd.DataFrame:
    """Bring one official part into canonical columns, and check it.

    Args:
        raw: the file's rows.
        official: ``train``, ``dev`` or ``test``, carried as ``official_split``.
        layout: the file's column names.
        labels: crowd label of each row, NaN where blank; None for a part without labels.
        source: the file named in errors.
        scale: bounds of the labels.

    Returns:
        The canonical columns, ``official_split`` and the file's other columns; rows without a text are left out.
    """
    require_columns(raw, [*layout.ids, layout.group, layout.text], source)
    table = raw.drop(columns=list(layout.labels), errors="ignore")
    table["text_id"] = raw[layout.ids[0]]
    for name in layout.ids[1:]:
        table["text_id"] = table["text_id"] + "_" + raw[name]
    table["group_id"] = raw[layout.group]
    table["crowd_label"] = float("nan") if labels is None else labels
    table["split"] = table["crowd_label"].notna().map({True: ROLES[official], False: "unlabelled"})
    table["official_split"] = official
    table = without_unknown(table.rename(columns={layout.text: "text"}))
    blank = table["text"].isna() | (table["text"].str.strip() == "")
    if blank.any():
        log.warning("%s: %d rows without a text are left out", source, int(blank.sum()))
    if labels is not None and (missing := int((labels.isna() & ~blank).sum())):
        log.warning("%s: %d texts have a blank crowd label and count as unlabelled", source, missing)
    renamed = list({layout.group, *layout.ids} - {"conversation_id"})
    return checked(table[~blank].drop(columns=renamed), scale, str(source))


def own_labels(raw: pd.DataFrame, layout: Layout, construct: str, source: Path) -> "pd.Series[float]":
    """Return the crowd labels of `construct` that stand in the part's own file."""
    column = layout.labels[CONSTRUCTS.index(construct)]
    require_columns(raw, [column], source)
    return numbers(raw[column], source)


def gold_labels(raw: pd.DataFrame, source: Path, gold: Path, construct: str) -> "pd.Series[float]":
    """Return the crowd labels of `raw` from a gold file, which has neither header nor ids: row by row.

    Args:
        raw: the rows of the features file `source`.
        source: the features file.
        gold: a TSV whose first columns are empathy and distress.
        construct: which of them.

    Raises:
        InputError: the files differ in their number of rows, or the gold file has too few columns.
    """
    labels = read_table(gold, header=None)
    if len(labels) != len(raw):
        raise InputError(
            f"{gold}: expected one line, without a header, for each of the {len(raw)} texts of {source.name}, found "
            f"{len(labels)} lines. The two are joined by row order, so both have to be as published"
        )
    if labels.shape[1] < len(CONSTRUCTS):
        raise InputError(f"{gold}: expected empathy and distress in the first two columns, found one column; use tabs")
    return numbers(labels.iloc[:, CONSTRUCTS.index(construct)].rename(construct), gold)


def corpus_with_gold(
    name: str, paths: Sequence[Path], layout: Layout, scale: Scale, split: Split, citation: str
) -> Corpus:
    """Read a corpus whose dev labels lie in a gold file and whose test has no labels.

    Args:
        name: the corpus's key.
        paths: the files for train, dev, dev's gold labels and test, in this order.
        layout: their column names.
        scale: whose construct is read.
        split: the rule for training, validation and test.
        citation: whom to cite.
    """
    train, dev, gold, test = paths
    rows = {path: read_table(path) for path in (train, dev, test)}
    parts = [
        part(rows[train], "train", layout, own_labels(rows[train], layout, scale.construct, train), train, scale),
        part(rows[dev], "dev", layout, gold_labels(rows[dev], dev, gold, scale.construct), dev, scale),
        part(rows[test], "test", layout, None, test, scale),
    ]
    return corpus(name, parts, scale, split, citation)


def corpus(name: str, parts: Sequence[pd.DataFrame], scale: Scale, split: Split, citation: str) -> Corpus:
    """Join checked parts, in the order train, dev, test, and assign `split`."""
    table = checked(pd.concat(parts, ignore_index=True), scale, f"{name} (its files together)")
    table["split"] = split.assign(table)
    return Corpus(name, table, LICENCE, citation)


def obtain(year: int) -> str:
    """Return how to get the files of that year's shared task."""
    return (
        f"It belongs to the WASSA {year} shared task on empathy in reactions to news stories, whose data may not be "
        f"passed on: register on the task's page, which the WASSA {year} workshop's site names, and download it there."
    )
