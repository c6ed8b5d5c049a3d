"""A user's own texts: CSV, TSV, Parquet or JSONL with a column map."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from invitro.data.corpus import CANONICAL_COLUMNS, DEMOGRAPHICS, Corpus, canonical
from invitro.data.reader import SplitRule, without_unknown
from invitro.data.splits import Holdout
from invitro.errors import InputError, names_shown, refuse_if_any, shown
from invitro.scales import Scale
from invitro.tables import as_text, numbers, read_table, require_columns

log = logging.getLogger(__name__)

SPELLINGS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev", "development"),
    "test": ("test", "testing"),
    "unlabelled": ("unlabelled", "unlabeled", "pool"),
}
"""How a split column may name the splits, in lower case; a blank cell is ``unlabelled``."""
DEFAULT_COLUMNS = {"text_id": "text_id", "text": "text", "crowd_label": "crowd_label"}


@dataclass(frozen=True)
class TableFile:
    """Reads a table file; its columns may have any names.

    Args:
        path: the file; its suffix gives the format.
        columns: the file's column for each of ``text_id``, ``text``, ``group_id``, ``split``, ``crowd_label`` and the
            demographics; None (or no entry) if there is none. Without ``text_id`` the ids are ``row1``, ``row2``
            and so on in the file's order; without ``group_id`` each text is its author's only one; without
            ``crowd_label`` all texts are ``unlabelled``: a pool.
        split: the rule for training, validation and test; `Published` uses the ``split`` column.
        name: the corpus's key.
        licence: the data's terms, for the record.
        citation: whom to cite.
    """

    path: str | Path
    columns: Mapping[str, str | None] = field(default_factory=lambda: dict(DEFAULT_COLUMNS))
    split: SplitRule = field(default_factory=Holdout)
    name: str = "table"
    licence: str = "the owner's terms"
    citation: str = ""

    def __post_init__(self) -> None:
        known = (*CANONICAL_COLUMNS, *DEMOGRAPHICS)
        problems = [
            f"data.columns.{key}: expected one of {', '.join(known)}; other columns are carried under their own names"
            for key in self.columns
            if key not in known
        ]
        if not self.columns.get("text"):
            problems.append("data.columns.text: expected the name of the column that holds the texts, found none")
        refuse_if_any(problems)

    def read(self, scale: Scale) -> Corpus:
        """Read the table with crowd labels on `scale`; columns that are not mapped keep their own names.

        Raises:
            InputError: the file or a mapped column is missing, or a row has a fault.
        """
        return self.of(read_table(self.path, plain=self._mapped_columns), scale)

    @property
    def _mapped_columns(self) -> list[str]:
        return [column for column in self.columns.values() if column]

    def of(self, raw: pd.DataFrame, scale: Scale) -> Corpus:
        """Make a corpus from a table whose cells are text, as `read_table` returns it."""
        if raw.empty:
            raise InputError(f"{self.path}: expected texts, found an empty table")
        names_in_file = {ours: column for ours, column in self.columns.items() if column}
        fix = "Name the file's columns by data.columns.KEY=COLUMN, null for what it does not have"
        require_columns(raw, names_in_file.values(), self.path, fix)
        table = pd.concat([self._mapped(raw, names_in_file), self._carried(raw, names_in_file)], axis="columns")
        table = canonical(without_unknown(table), scale, str(self.path), names_in_file=names_in_file)
        if "crowd_label" in names_in_file:
            self._tell_unlabelled(table)
            table["split"] = self.split.assign(table)
        return Corpus(self.name, table, self.licence, self.citation, sets_aside=False)

    def _tell_unlabelled(self, table: pd.DataFrame) -> None:
        rows = (np.flatnonzero(table["crowd_label"].isna()) + 1).tolist()
        if rows:
            some = ", ".join(map(str, rows[:5])) + (", ..." if len(rows) > 5 else "")
            log.warning(
                "%s: %d of %d texts have no crowd label and count as unlabelled (data rows %s)",
                self.path, len(rows), len(table), some,
            )  # fmt: skip

    def _mapped(self, raw: pd.DataFrame, names_in_file: Mapping[str, str]) -> pd.DataFrame:
        """Return the canonical columns, in their order."""
        table = pd.DataFrame(
            {ours: raw[names_in_file[ours]] for ours in (*CANONICAL_COLUMNS, *DEMOGRAPHICS) if ours in names_in_file}
        )
        if "text_id" not in names_in_file:
            table.insert(0, "text_id", [f"row{number}" for number in range(1, len(raw) + 1)])
        if "group_id" not in names_in_file:
            table["group_id"] = table["text_id"]
        labelled = "crowd_label" in names_in_file
        table["crowd_label"] = numbers(raw[names_in_file["crowd_label"]], self.path) if labelled else float("nan")
        wanted = self._splits(raw[names_in_file["split"]]) if "split" in names_in_file else "train"
        table["split"] = pd.Series(wanted, index=raw.index, dtype="str").where(
            table["crowd_label"].notna(), "unlabelled"
        )
        return table

    def _splits(self, column: "pd.Series[str]") -> "pd.Series[str]":
        """Return the canonical name of each split, or raise an error for the first unknown one."""
        names = {spelling: split for split, spellings in SPELLINGS.items() for spelling in spellings}
        written = column.fillna("unlabelled").str.strip().str.lower().replace("", "unlabelled")
        splits = written.map(names)
        if splits.isna().any():
            row = int(splits.isna().to_numpy().argmax())
            where = f"{self.path}: data row {row + 1}, column {names_shown([column.name])}"
            raise InputError(f"{where}: expected one of {', '.join(names)}; found {shown(column.iloc[row])}")
        return splits

    def _carried(self, raw: pd.DataFrame, names_in_file: Mapping[str, str]) -> pd.DataFrame:
        """Return the other columns; one with a canonical name that is not mapped is left out, with a warning."""
        others = [name for name in raw.columns if name not in names_in_file.values()]
        left = [name for name in others if name in CANONICAL_COLUMNS or name in names_in_file]
        for name in left:
            log.warning("%s: the column %s is not used; data.columns.%s=%s would use it", self.path, name, name, name)
        return raw[[name for name in others if name not in left]]


@dataclass(frozen=True)
class Frame(TableFile):
    """Reads a DataFrame as `TableFile` reads a file; `path` is its name in errors.

    Args:
        rows: the DataFrame; its index is ignored.
    """

    rows: pd.DataFrame = field(default_factory=pd.DataFrame, repr=False)

    def read(self, scale: Scale) -> Corpus:
        """Read the rows with crowd labels on `scale`.

        Raises:
            InputError: as for `TableFile`.
        """
        return self.of(as_text(self.rows.reset_index(drop=True), self._mapped_columns, self.path), scale)
