"""A user's own texts: any table file, with a column map."""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd

from invitro.data.corpus import CANONICAL_COLUMNS, DEMOGRAPHICS, Corpus, canonical, two_spellings
from invitro.data.ratings import (
    SCORE,
    Careless,
    CrowdLabel,
    Layout,
    People,
    item_columns,
    long_form,
    missing_codes,
    never_used,
)
from invitro.data.reader import SplitRule, without_unknown
from invitro.data.splits import Holdout
from invitro.errors import InputError, names_shown, refuse_if_any, shown
from invitro.foreign import foreign, is_foreign, kind_of
from invitro.formats import (
    CELL_STATUS,
    DECIMAL_COMMA,
    MISSING_CODE,
    NO_ANSWER,
    person_column,
    rows_named,
    survey_remarks,
)
from invitro.scales import Scale
from invitro.settings import checked
from invitro.tables import BLANK, as_text, numbers, read_table, require_columns
from invitro.writing.words import count

log = logging.getLogger(__name__)

IDS = ("ResponseId", "task_id")
"""What Qualtrics and Label Studio call a row's id."""
SPELLINGS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev", "development"),
    "test": ("test", "testing"),
    "unlabelled": ("unlabelled", "unlabeled", "pool"),
}
"""How a split column may name the splits, in lower case; a blank cell is ``unlabelled``."""
RATING_COLUMNS = {"raters": None, "rater": "rater_id", "rating": SCORE, "item": "item"}
"""The columns of several people's ratings, unless the configuration says otherwise."""
RATING = ("rater", "rating", "item")
TEXT, PERSON = "the text's id", "the author"
Columns = Annotated[Mapping[str, Any], "columns by what they hold"]
DEFAULT_COLUMNS = {"text_id": "text_id", "text": "text", "crowd_label": "crowd_label"}


@checked("data")
@dataclass(frozen=True)
class TableFile:
    """Reads a table file; its columns may have any names.

    Args:
        path: the file, whose suffix gives the format, or the folder of a saved dataset.
        columns: the file's column for each of ``text_id``, ``text``, ``group_id``, ``split``, ``crowd_label`` and the
            demographics; None (or no entry) if there is none. Without ``text_id`` the ids are a survey's or a labelling
            tool's (`IDS`), or else ``row1``, ``row2`` and so on in the file's order; without ``group_id`` each text is
            its author's only one; without ``crowd_label`` all texts are ``unlabelled``: a pool. For several people's
            ratings: ``raters`` lists the columns of their scores; or, in the file `ratings`, ``rater`` is the column of
            raters (``rater_id``), ``rating`` that of scores (``score``) and, if a row is one answer, ``item`` that of
            items.
        split: the rule for training, validation and test; `Published` uses the ``split`` column.
        name: the corpus's key.
        licence: the data's terms, for the record.
        citation: the publication to cite.
        ratings: a file of several people's ratings, or of their answers to the scale's items, or a DataFrame of them;
            None if there is none.
        crowd: how several ratings become the crowd label: ``mean``, ``median``, or ``raters``, the mean without
            the raters' biases, weighted by their precision; see `invitro.stats.crowd.fitted_crowd`.
        careless: ``keep`` or ``leave_out`` the raters that `invitro.stats.crowd.signs_of_carelessness` finds.
        encoding: of a text file that is neither UTF-8 nor has a byte order mark, such as ``cp1252``.

    If there is no ``crowd_label`` and the table has the columns of all items of the scale, each row is its author's
    answer sheet, and the crowd label is its score. Items whose column is set in the scale's file override
    ``crowd_label``.
    """

    path: Annotated[str | Path, "the name of one file"]
    columns: Columns = field(default_factory=lambda: dict(DEFAULT_COLUMNS))
    split: SplitRule = field(default_factory=Holdout)
    name: str = "table"
    licence: str = "the owner's terms"
    citation: str = ""
    ratings: str | Path | pd.DataFrame | None = field(default=None, repr=False)
    crowd: CrowdLabel = "mean"
    careless: Careless = "keep"
    encoding: str | None = None

    def contradictions(self) -> Iterator[str]:
        """Yield what is wrong with the columns."""
        keys = (*CANONICAL_COLUMNS, *DEMOGRAPHICS, *RATING_COLUMNS)
        expected = f"expected one of {', '.join(keys)}; other columns keep their own names"
        yield from (f"data.columns.{key}: {expected}" for key in self.columns if key not in keys)
        raters = self.columns.get("raters") or []
        if isinstance(raters, str) or len(set(raters)) != len(list(raters)):
            yield "data.columns.raters: expected a list of columns that differ, such as [anna,ben]"
        for key, column in self.columns.items():
            if key != "raters" and not (column is None or isinstance(column, str)):
                yield f"data.columns.{key}: expected the name of one column, found {column!r}"
        if not self.columns.get("text"):
            yield "data.columns.text: expected the name of the column that holds the texts, found none"

    def read(self, scale: Scale) -> Corpus:
        """Read the table with crowd labels on `scale`; columns that are not mapped keep their own names.

        Raises:
            InputError: the file or a mapped column is missing, or a row is faulty.
        """
        raw = read_table(self.path, plain=self._mapped_columns, encoding=self.encoding)
        corpus = self.of(raw, scale)
        names = {ours: column for ours, column in self._names_in(raw).items() if column in raw}
        scale = _with_answers(scale, names.get("crowd_label"))
        if self.ratings is None and (layout := self._layout(raw, names, scale)):
            names.pop("crowd_label", None)
            names |= _named(layout, scale)
        self._log_reading(str(self.path), raw, names)
        return corpus

    @property
    def _mapped_columns(self) -> list[str]:
        columns = [column for key, column in self.columns.items() if column and key not in RATING_COLUMNS]
        return [str(column) for column in (*columns, *(self.columns.get("raters") or ()))]

    def of(self, raw: pd.DataFrame, scale: Scale) -> Corpus:
        """Make a corpus from a table whose cells are text, as `read_table` returns it."""
        if raw.empty:
            raise InputError(f"{self.path}: expected texts, found an empty table")
        names_in_file = self._names_in(raw)
        if "group_id" not in names_in_file and (person := person_column(map(str, raw))) is not None:
            log.info("%s: the column %s names the author of each text (data.columns.group_id)", self.path, person)
            names_in_file["group_id"] = person
        for remark in survey_remarks(raw, names_in_file.get("group_id"), str(self.path)):
            log.warning("%s", remark)
        scale = _with_answers(scale, names_in_file.get("crowd_label"))
        layout = self._layout(raw, names_in_file, scale)
        if layout is not None:
            names_in_file.pop("crowd_label", None)
        fix = "Name the file's columns with data.columns.KEY=COLUMN, null for those it does not have"
        require_columns(raw, names_in_file.values(), self.path, fix)
        parts = [self._mapped(raw, names_in_file, scale), self._carried(raw, names_in_file, layout, scale)]
        table = pd.concat(parts, axis="columns")
        people = None
        if layout is not None:
            people = self._people(raw, table, layout, scale)
            labels = people.labels(self.crowd).reindex(table["text_id"]).set_axis(table.index)
            number = labels["crowd_n"].fillna(0).astype("int64")
            table = table.assign(crowd_label=labels["crowd_label"], crowd_n=number, crowd_sd=labels["crowd_sd"])
        table["split"] = table["split"].where(table["crowd_label"].notna(), "unlabelled")
        table = canonical(without_unknown(table), scale, str(self.path), names_in_file=names_in_file)
        if "crowd_label" in names_in_file or people is not None:
            self._warn_of_unlabelled(table)
            table["split"] = self.split.assign(table)
        ids = {str(column): ours for ours, column in names_in_file.items() if ours in ("text_id", "group_id")}
        return Corpus(
            self.name,
            table,
            self.licence,
            self.citation,
            sets_aside=False,
            people=people,
            published_ids={self.name: ids},
        )

    def _names_in(self, raw: pd.DataFrame) -> dict[str, str]:
        """Return the file's column for each canonical one; the ids of surveys and labelling tools are found by name."""
        names = {ours: str(column) for ours, column in self.columns.items() if column and ours not in RATING_COLUMNS}
        if names.get("text_id") == "text_id" and "text_id" not in raw:
            del names["text_id"]
            names |= dict([("text_id", name) for name in IDS if name in raw][:1])
        return names

    def _log_reading(self, source: str, raw: pd.DataFrame, names: Mapping[str, str]) -> None:
        """Log the format that a file was read as, what each column was read as, and how its values are read."""
        path = Path(source)
        remarks = foreign(path).remarks if is_foreign(path) else {}
        parts = []
        for ours, column in names.items():
            notes = [remarks[column]] if column in remarks else []
            if ours not in CANONICAL_COLUMNS[:-1] and raw[column].str.fullmatch(r"\s*" + DECIMAL_COMMA + r"\s*").any():
                notes.append("with decimal commas")
            what = ours if ours.endswith(f" {column}") else f"{ours} from {names_shown([column])}"
            parts.append(what + (f" ({'; '.join(notes)})" if notes else ""))
        if "text_id" not in names:
            parts.append("text_id from the order of rows")
        kind = kind_of(path, self.encoding)
        log.info("%s: read as %s; %s: %s", source, kind, count(len(raw), "row"), ", ".join(parts))

    def _layout(self, raw: pd.DataFrame, names_in_file: Mapping[str, str], scale: Scale) -> Layout | None:
        """Return where several ratings, or answers to items, are in the table; None if there are none.

        The columns of a file of ratings are checked when it is read.
        """
        raters = tuple(map(str, self.columns.get("raters") or ()))
        if self.ratings is not None or raters:
            return Layout("text_id", raters=raters)
        asked = names_in_file.get("crowd_label")
        if asked not in (None, DEFAULT_COLUMNS["crowd_label"]) and asked not in raw:
            return None  # a column that was named and is missing is refused, and no others replace it
        are_set = any(item.column for item in scale.items)
        if are_set or names_in_file.get("crowd_label") not in raw:
            columns = item_columns(scale)
            if all(column in raw for column in columns):
                return Layout("text_id", "rater")
            if are_set and "crowd_label" in names_in_file and names_in_file["crowd_label"] not in raw:
                require_columns(raw, columns, self.path, "They are set in the scale's file")
        return None

    def _people(self, raw: pd.DataFrame, table: pd.DataFrame, layout: Layout, scale: Scale) -> People:
        """Convert the ratings to the long form, and log what was read."""
        if self.ratings is None:
            source, columns = str(self.path), layout.raters or item_columns(scale)
            require_columns(raw, columns, source, "They are set by data.columns.raters or in the scale's file")
            frame = raw[list(columns)].assign(**{TEXT: table["text_id"], PERSON: table["group_id"].fillna("")})
            frame.attrs = raw.attrs
            layout = Layout(TEXT, None if layout.raters else PERSON, raters=layout.raters)
        else:
            source, frame = self._rating_rows(table, scale)
            layout = self._rating_layout(frame, layout.raters, scale, source)
        people = long_form(frame, layout, scale, source)
        if self.ratings is not None and not isinstance(self.ratings, pd.DataFrame):
            self._log_reading(source, frame, {"text_id": layout.text_id} | _named(layout, scale))
        refuse_if_any(two_spellings(pd.Series(people.raters), f"{source}: raters"))
        if self.careless == "leave_out":
            people = replace(people, left_out=tuple(people.careless))
        for line in people.lines():
            log.info("%s", line)
        for line in people.warnings():
            log.warning("%s", line)
        return people

    def _rating_rows(self, table: pd.DataFrame, scale: Scale) -> tuple[str, pd.DataFrame]:
        """Return the name of the ratings and their rows as text, without ratings of texts that are not in the table."""
        if isinstance(self.ratings, pd.DataFrame):
            source, frame = "ratings", as_text(self.ratings.reset_index(drop=True), source="ratings")
        else:
            names = [
                str(self.columns.get(key) or default) for key, default in RATING_COLUMNS.items() if key != "raters"
            ]
            plain = [*names, *(self.columns.get("raters") or ()), *item_columns(scale)]
            source = str(self.ratings)
            frame = read_table(source, plain=plain, encoding=self.encoding)
        text_id = str(self.columns.get("text_id") or "text_id")
        if text_id not in frame:  # the two files may call it differently
            frame = frame.rename(columns={"text_id": text_id})
        require_columns(frame, [text_id], source, "It is set by data.columns.text_id")
        wanted = frame[text_id].isin(table["text_id"]) | frame[text_id].isna()
        ids = pd.concat([table["text_id"], frame[text_id].dropna().drop_duplicates()], ignore_index=True)
        refuse_if_any(two_spellings(ids, f"{source}: text ids and those of {self.path}"))
        if not wanted.any():
            raise InputError(f"{source}: expected ratings of the texts of {self.path}, found none of their ids")
        if not wanted.all():
            unknown = frame.loc[~wanted, text_id]
            log.warning(
                "%s: left out: %s of %s not in %s",
                source, count(len(unknown), "rating"), count(unknown.nunique(), "text"), self.path,
            )  # fmt: skip
        rows = frame.loc[wanted]
        rows.attrs = frame.attrs
        return source, rows

    def _rating_layout(self, frame: pd.DataFrame, raters: tuple[str, ...], scale: Scale, source: str) -> Layout:
        """Return where ratings are in their file."""
        text_id = str(self.columns.get("text_id") or "text_id")
        if raters:
            return Layout(text_id, raters=raters)
        rater, rating, item = (str(self.columns.get(key) or RATING_COLUMNS[key]) for key in RATING)
        items = item_columns(scale)
        if all(column in frame for column in items) and (any(i.column for i in scale.items) or rating not in frame):
            return Layout(text_id, rater)
        by_item = rating in frame and item in frame and len(items) > 1
        if not by_item and rating not in frame:
            require_columns(
                frame, [rating], source, f"Set it with data.columns.rating, or add the items: {', '.join(items)}"
            )
        return Layout(text_id, rater, rating, item if by_item else None)

    def _warn_of_unlabelled(self, table: pd.DataFrame) -> None:
        rows = (np.flatnonzero(table["crowd_label"].isna()) + 1).tolist()
        if rows:
            examples = ", ".join(map(str, rows[:5])) + (", ..." if len(rows) > 5 else "")
            log.warning(
                "%s: %d of %s without a crowd label, unlabelled (data rows %s)",
                self.path, len(rows), count(len(table), "text"), examples,
            )  # fmt: skip

    def _mapped(self, raw: pd.DataFrame, names_in_file: Mapping[str, str], scale: Scale) -> pd.DataFrame:
        """Return the canonical columns, in their order."""
        table = pd.DataFrame(
            {ours: raw[names_in_file[ours]] for ours in (*CANONICAL_COLUMNS, *DEMOGRAPHICS) if ours in names_in_file}
        )
        if "text_id" not in names_in_file:
            table.insert(0, "text_id", [f"row{number}" for number in range(1, len(raw) + 1)])
        if "group_id" not in names_in_file:
            table["group_id"] = table["text_id"]
        labels = names_in_file.get("crowd_label")
        table["crowd_label"] = float("nan") if labels is None else self._labels(raw, labels, scale)
        wanted = self._splits(raw[names_in_file["split"]]) if "split" in names_in_file else "train"
        return table.assign(split=pd.Series(wanted, index=raw.index, dtype="str"))

    def _labels(self, raw: pd.DataFrame, name: str, scale: Scale) -> "pd.Series[float]":
        """Return crowd labels; codes that the file or the scale declares missing are NaN, and counted in the log."""
        statuses = raw.attrs.get(CELL_STATUS, {})
        status = pd.Series([statuses.get((row, name)) for row in raw.index], index=raw.index, dtype="object")
        codes = missing_codes(raw[name].astype("str"), scale)
        status = status.mask(codes, MISSING_CODE)
        for reason in NO_ANSWER:
            if (rows := status.eq(reason)).any():
                suffix = "with a missing code" if reason == MISSING_CODE else reason
                log.warning("%s: column %s: %s %s", self.path, names_shown([name]), rows_named(rows), suffix)
        scores = _scores(raw[name].mask(codes), self.path)
        if never := never_used(scores, scale.minimum, scale.maximum):
            log.info("%s: column %s: scale points never used: %s", self.path, names_shown([name]), ", ".join(never))
        return scores

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

    def _carried(
        self, raw: pd.DataFrame, names_in_file: Mapping[str, str], layout: Layout | None, scale: Scale
    ) -> pd.DataFrame:
        """Return the other columns; an unmapped one with a canonical name is left out, with a warning."""
        others = [name for name in raw.columns if name not in names_in_file.values()]
        left = [name for name in others if name in CANONICAL_COLUMNS or name in names_in_file]
        answers = () if layout is None else _named(layout, scale).values()
        for name in (name for name in left if name not in answers):
            log.warning("%s: the column %s is not used; data.columns.%s=%s would use it", self.path, name, name, name)
        return raw[[name for name in others if name not in left]]


def _with_answers(scale: Scale, column: str | None) -> Scale:
    """Return a scale of one item that maps words or codes to answers with `column` as its item's; others unchanged."""
    if column is None or not scale.answers or len(scale.items) > 1 or scale.items[0].column:
        return scale
    return replace(scale, items=(replace(scale.items[0], column=column),))


def _named(layout: Layout, scale: Scale) -> dict[str, str]:
    """Return the column of each rater or item, or the columns of rater, item and rating, by what they are."""
    if layout.raters:
        return {f"rater {column}": column for column in layout.raters}
    if layout.rating is None:
        return {f"item {item}": column for column, item in item_columns(scale).items()}
    columns = {"rater": layout.rater, "item": layout.item, "rating": layout.rating}
    return {what: column for what, column in columns.items() if column}


@checked("data")
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


MAP = "If they are ordered answers, map them in the scale's file (answers: {never: 1, often: 5})."
CLASSIFY = (
    "invitro measures scores on a scale; for classes train a classifier, such as scikit-learn's LogisticRegression or "
    "Transformers' AutoModelForSequenceClassification, and report AUC or F1"
)
FEWEST_OF_TWO = 10
"""This many labels or more that are all 0 or 1 are those of two classes."""


def _scores(column: "pd.Series[Any]", path: str | Path) -> "pd.Series[float]":
    """Read crowd labels; classes instead of scores are refused with what to use instead."""
    text = column.astype("str").str.strip().mask(column.isna()).dropna()
    text = text[~text.str.lower().isin(BLANK)]
    examples = names_shown(sorted(text.unique())[:3])
    if len(text) and not text.str.contains(r"\d").any():
        raise InputError(
            f"{path}: column {names_shown([column.name])} contains words ({examples}), not scores. {MAP} {CLASSIFY}"
        )
    scores = numbers(column, path)
    if set(scores.dropna()) == {0.0, 1.0} and len(text) >= FEWEST_OF_TWO:
        raise InputError(f"{path}: column {names_shown([column.name])} is 0 or 1 in all {len(text)} rows. {CLASSIFY}")
    return scores
