"""People's answers in one long form: text, rater, item, value, status and cell, whatever the file's layout.

A column per rater, a row per rating, a row per answer and a column per item all become the same rows before anything is
computed. So wide and long files, empty cells and absent rows, and any order of rows give the same numbers.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pandas as pd

from invitro.errors import InputError, names_shown, refuse_if_any, shown
from invitro.formats import CANCELLED, CELL_STATUS, MISSING_CODE, SKIPPED, with_decimal_points
from invitro.scales import Scale, on_another_scale, which_scale
from invitro.stats import Bools, Floats, Ints
from invitro.stats.crowd import Ratings, Reliability, Statistic, crowd_labels, reliability, spreads
from invitro.stats.items import (
    FEWEST_ITEMS,
    ItemAnalysis,
    analysed,
    raters_table,
    signs_of_carelessness,
    straight_lines,
)
from invitro.tables import BLANK, require_columns
from invitro.writing.words import count, listed, shortened

CrowdLabel = Literal["mean", "median", "raters"]
Careless = Literal["keep", "leave_out"]
ANSWER, BLANK_CELL, CODE, UNREADABLE = "answer", "blank", MISSING_CODE, "unreadable"
WITHOUT_RESULT = "formula without a stored result"
STATUSES = (ANSWER, BLANK_CELL, CODE, SKIPPED, CANCELLED, WITHOUT_RESULT, UNREADABLE)
"""What can be in a cell: an answer, or why there is none."""
SCORE = "score"
"""The item of a rating that is one score of the whole scale."""
LONG_FORM = ("text_id", "rater", "item", "value", "status", "row", "column")
MOST_CELLS = 10
MOST_POINTS = 12
"""Unused points are reported for scales with at most this many points."""
ITEM_REMEDIES = {
    "reversed already": ("The answers seem to be reversed already", "remove reversed: true from it"),
    "not reversed": ("It seems to be worded the other way", "give it reversed: true"),
}
"""The likely cause if an item runs against its scale, and what to change."""


@dataclass(frozen=True)
class People:
    """People's answers about texts.

    Args:
        long: one row per cell with `LONG_FORM`: ``value`` is float64, NaN unless ``status`` is ``answer``; ``row``
            counts the source's data rows from 1; ``column`` is the source's. ``item`` is `SCORE` for whole scores.
        scale: the scale of the answers.
        source: the file named in messages.
        left_out: raters whose ratings are not used.
    """

    long: pd.DataFrame = field(repr=False)
    scale: Scale
    source: str
    left_out: tuple[str, ...] = ()

    @cached_property
    def text_ids(self) -> "pd.Index[Any]":
        """Ids of all texts that occur, sorted."""
        ids: pd.Index[Any] = pd.Index(self.long["text_id"].cat.categories, dtype="str")
        return ids

    @cached_property
    def raters(self) -> "pd.Index[Any]":
        """Ids of all raters, sorted."""
        ids: pd.Index[Any] = pd.Index(self.long["rater"].cat.categories, dtype="str")
        return ids

    @property
    def has_items(self) -> bool:
        """Whether there are answers to single items."""
        return SCORE not in self.long["item"].cat.categories

    @cached_property
    def _sheets(self) -> tuple[Ints, Ints, Floats]:
        """Return text, rater and answers, (sheets, items or 1), of each sheet that has an answer, sorted by both.

        Two takes of a text by one rater are one sheet, with the mean of both for each item: their order is irrelevant.
        """
        rows = self.long.loc[(self.long["status"] == ANSWER).to_numpy()]
        text, rater, item = (rows[name].cat.codes.to_numpy().astype(np.intp) for name in ("text_id", "rater", "item"))
        keys, sheet = np.unique(text * max(len(self.raters), 1) + rater, return_inverse=True)
        width = len(self.scale.items) if self.has_items else 1
        cell = sheet * width + item
        # Sum in a fixed order, so that the order of rows does not even affect the rounding.
        order = np.lexsort([rows["value"].to_numpy(), cell])
        total = np.bincount(cell[order], weights=rows["value"].to_numpy()[order], minlength=len(keys) * width)
        times = np.bincount(cell, minlength=len(keys) * width)
        answers = np.divide(total, times, out=np.full(len(total), np.nan), where=times > 0).reshape(len(keys), width)
        return keys // max(len(self.raters), 1), keys % max(len(self.raters), 1), answers

    @cached_property
    def _scored(self) -> tuple[Ratings, Bools]:
        """Return the ratings, one per sheet that has a score, and which sheets those are."""
        text, rater, answers = self._sheets
        scores = self.scale.score(answers, self.scale.most_missing) if self.has_items else answers[:, 0]
        scored = ~np.isnan(scores)
        return Ratings(text[scored], rater[scored], scores[scored], len(self.text_ids), len(self.raters)), scored

    @cached_property
    def ratings(self) -> Ratings:
        """Each rater's score of each text they rated, without the raters left out."""
        return self._scored[0].of_raters(~self.raters.isin(list(self.left_out)))

    def single(self) -> pd.DataFrame | None:
        """Return the ratings of each text in the order of their raters, (texts, most ratings), by ``text_id``.

        Gaps are NaN; None if no text has two or more.
        """
        ratings = self.ratings
        number = ratings.number
        if number.max(initial=0) < 2:
            return None
        order = np.lexsort([ratings.rater, ratings.text])
        position = np.arange(len(order)) - (np.cumsum(number) - number)[ratings.text[order]]
        table = np.full((ratings.texts, int(number.max())), np.nan)
        table[ratings.text[order], position] = ratings.score[order]
        return pd.DataFrame(table, index=self.text_ids)

    @cached_property
    def _straight(self) -> Bools | None:
        """Return whether each scored sheet is a straight line; None with fewer items than make one."""
        if not self.has_items or len(self.scale.items) < FEWEST_ITEMS:
            return None
        return straight_lines(self._sheets[2])[self._scored[1]]

    @cached_property
    def table(self) -> pd.DataFrame:
        """The raters, see `invitro.stats.items.raters_table`, indexed by their ids."""
        table = raters_table(self._scored[0], self._straight)
        return table.set_axis(self.raters[table.index].rename("rater"))

    @cached_property
    def careless(self) -> dict[str, str]:
        """The ids of careless raters, each with the signs of carelessness."""
        signs_of = zip(self.raters, signs_of_carelessness(self._scored[0], self._straight), strict=True)
        return {rater: "; ".join(signs) for rater, signs in signs_of if signs}

    def labels(self, how: CrowdLabel = "mean") -> pd.DataFrame:
        """Return ``crowd_label``, ``crowd_n`` and ``crowd_sd`` by ``text_id``, for texts with a rating.

        Args:
            how: see `invitro.stats.crowd.crowd_labels`.
        """
        ratings = self.ratings
        labels = self.scale.clip(crowd_labels(ratings, how))
        columns = {"crowd_label": labels, "crowd_n": ratings.number, "crowd_sd": spreads(ratings)}
        return pd.DataFrame(columns, index=self.text_ids).loc[ratings.number > 0]

    def reliability(self, groups: "pd.Series[str] | None" = None, **draws: int) -> Reliability:
        """Measure how far people agree; `groups` has the author of each text by id, `draws` resamples and seed."""
        codes = None
        if groups is not None:
            authors = groups.reindex(self.text_ids)
            codes = pd.factorize(authors.where(authors.notna(), self.text_ids.to_series()), sort=True)[0]
        return reliability(self.ratings, codes, **draws)

    @cached_property
    def items(self) -> ItemAnalysis | None:
        """The scale's items in these answers; None if there are only scores."""
        if not self.has_items:
            return None
        reverse = np.array([item.reversed for item in self.scale.items])
        names = [item.name for item in self.scale.items]
        return analysed(self._sheets[2], names, reverse, self.scale.low, self.scale.high)

    def item_means(self) -> pd.DataFrame | None:
        """Return the mean answer to each item, as given, (texts, items), by ``text_id``; None if there are no items."""
        if not self.has_items:
            return None
        text, _, answers = self._sheets
        frame = pd.DataFrame(answers, columns=[item.name for item in self.scale.items])
        return frame.groupby(self.text_ids[text]).mean()

    def faults(self) -> Iterator[str]:
        """Yield a problem for each item that runs against its scale: its correlations, and what to change."""
        for item in self.items.items if self.items is not None else ():
            if item.runs:
                assert self.items is not None
                seems, change = ITEM_REMEDIES[item.runs]
                yield (
                    f"{self.source}: item {item.name} runs against {self.scale.name}: its correlation with the other "
                    f"items is {item.before.value or 0:.2f} as answered and {item.after.value or 0:.2f} after reversal "
                    f"({count(self.items.sheets, 'sheet')}). {seems}: {change} in the scale's file, or remove the item"
                )

    def warnings(self) -> Iterator[str]:
        """Yield what to check before using these answers."""
        if careless := [f"{rater} ({signs})" for rater, signs in self.careless.items()]:
            number = count(len(careless), "careless rater")
            decision = "left out" if self.left_out else "kept; data.careless=leave_out leaves them out"
            yield f"{self.source}: {number}, {decision}: {', '.join(shortened(careless, 10))}"
        yield from self.faults()

    def lines(self) -> Iterator[str]:
        """Yield a summary of what was read."""
        rows, number = self.long, self.ratings.number
        rated = number[number > 0]
        least, most = (int(rated.min()), int(rated.max())) if len(rated) else (0, 0)
        what = f"{count(len(self.scale.items), 'item')} of {self.scale.name}" if self.has_items else self.scale.name
        each = str(most) if least == most else f"{least} to {most}, on average {rated.mean():.1f}"
        people = len(np.unique(self.ratings.rater))
        yield (
            f"{self.source}: {count(len(self.ratings.score), 'rating')} ({what}) of {count(len(rated), 'text')} by "
            f"{count(people, 'person', 'people')}, {each} per text"
        )
        counts = rows["status"].value_counts()
        if missing := [f"{counts[status]:,} {status}" for status in STATUSES[1:] if counts.get(status, 0)]:
            yield f"{self.source}: of {count(len(rows), 'cell')} without an answer: {listed(missing)}"
        if short := len(self._scored[1]) - int(self._scored[1].sum()):
            yield (
                f"{self.source}: {count(short, 'answer sheet')} left out, with more than {self.scale.most_missing} of "
                f"{len(self.scale.items)} items missing (most_missing in the scale's file)"
            )
        answered = rows.loc[(rows["status"] == ANSWER).to_numpy(), ["text_id", "rater", "item"]]
        if takes := int(answered.duplicated().sum()):
            second = f"{count(takes, 'second take')} of the same text by the same rater"
            yield f"{self.source}: {second}, averaged with the first"
        if self._straight is not None and self._straight.any():
            texts = names_shown(shortened(self.text_ids[np.unique(self._scored[0].text[self._straight])], 5))
            lines = f"{self._straight.sum()} of {count(len(self._straight), 'answer sheet')}"
            yield f"{self.source}: {lines} with one answer to all items, before reversal (text_id {texts})"
        if self.items is not None and len(self.scale.items) > 1:
            yield (
                f"{self.source}: the items of {self.scale.name} together: "
                f"Cronbach's alpha {_brief(self.items.cronbach)}, McDonald's omega {_brief(self.items.omega)}"
            )
        low, high = (self.scale.low, self.scale.high) if self.has_items else (self.scale.minimum, self.scale.maximum)
        if never := never_used(self.long["value"], low, high):
            yield f"{self.source}: scale points never used: {', '.join(never)}"


def never_used(values: "pd.Series[float]", low: float, high: float) -> list[str]:
    """Return the points of a scale that nobody chose; none if answers are between points, or there are very many.

    Example:
        >>> never_used(pd.Series([1.0, 4.0, float("nan")]), 1, 5)
        ['2', '3', '5']
    """
    used, points = values.dropna().unique(), np.arange(low, high + 1)
    if not len(used) or (used != np.rint(used)).any() or len(points) > MOST_POINTS:
        return []
    return [f"{point:g}" for point in points if point not in used]


def _brief(statistic: Statistic) -> str:
    return str(statistic) if statistic.value is None else f"{statistic.value:.2f}"


@dataclass(frozen=True)
class Layout:
    """Where ratings are in a table.

    Args:
        text_id: its column of text ids.
        rater: its column of raters; None if `raters` are columns.
        rating: its column of scores or, with `item`, of answers; None if each item has a column.
        item: its column of items' names; None if a row is a rating.
        raters: columns that hold one rater's scores each.
    """

    text_id: str
    rater: str | None = None
    rating: str | None = None
    item: str | None = None
    raters: tuple[str, ...] = ()


def item_columns(scale: Scale) -> dict[str, str]:
    """Return the column of each item: as the scale's file says, or the item's name."""
    return {item.column or item.name: item.name for item in scale.items}


def long_form(frame: pd.DataFrame, layout: Layout, scale: Scale, source: str) -> People:
    """Convert a table of text cells to the long form.

    Args:
        frame: cells as text, see `invitro.tables.read_table`; its index counts data rows from 0. ``attrs`` may hold
            `CELL_STATUS`.
        layout: where ratings are in it.
        scale: bounds, items, missing codes and mapped answers.
        source: the file named in errors.

    Raises:
        InputError: a column or an id is missing; or answers are unreadable or impossible, listed with row and column.
    """
    columns = dict.fromkeys(layout.raters, "") or ({layout.rating: SCORE} if layout.rating else item_columns(scale))
    ids = [layout.text_id, *([layout.rater] if layout.rater else []), *([layout.item] if layout.item else [])]
    require_columns(frame, [*ids, *columns], source, "Name the file's columns with data.columns.KEY=COLUMN")
    refuse_if_any(_without_id(frame, ids, source))
    rows = frame.index.to_numpy() + 1
    parts = []
    for column, item in columns.items():
        part = {"text_id": frame[layout.text_id], "cell": frame[column], "row": rows, "column": column}
        part["rater"] = column if layout.raters else frame[layout.rater]
        part["item"] = SCORE if layout.raters else frame[layout.item] if layout.item else item
        parts.append(pd.DataFrame(part))
    cells = pd.concat(parts, ignore_index=True)
    items = [item.name for item in scale.items] if layout.item or not (layout.rating or layout.raters) else [SCORE]
    if unknown := sorted(set(cells["item"].unique()) - set(items)):
        raise InputError(
            f"{source}: column {names_shown([layout.item])}: expected items of {scale.name} ({', '.join(items)}), "
            f"found {names_shown(unknown)}"
        )
    bounds = (scale.low, scale.high) if items != [SCORE] else (scale.minimum, scale.maximum)
    value, status = _read(cells["cell"], scale, mapped=items != [SCORE] or len(scale.items) == 1)
    if statuses := frame.attrs.get(CELL_STATUS):
        where = pd.MultiIndex.from_arrays([cells["row"] - 1, cells["column"]])
        why_empty = pd.Series(statuses).reindex(where).to_numpy()
        empty = pd.notna(why_empty)
        value[empty], status[empty] = np.nan, why_empty[empty]
    _refuse(cells, value, status, bounds, scale, source)
    long = pd.DataFrame(
        {
            "text_id": pd.Categorical(cells["text_id"]),  # sorted by name, as are raters
            "rater": pd.Categorical(cells["rater"]),
            "item": pd.Categorical(cells["item"], categories=items),
            "value": value,
            "status": pd.Categorical(status, categories=list(STATUSES)),
            "row": cells["row"],
            "column": pd.Categorical(cells["column"]),
        }
    )
    return People(long, scale, source)


def _without_id(frame: pd.DataFrame, ids: Sequence[str], source: str) -> Iterator[str]:
    for name in ids:
        gone = np.flatnonzero(frame[name].isna() | (frame[name] == ""))
        if len(gone):
            more = f" (and {len(gone) - 1} more)" if len(gone) > 1 else ""
            where = f"{source}: data row {frame.index[gone[0]] + 1}, column {names_shown([name])}"
            yield f"{where}: expected an id, found nothing{more}"


def _read(cells: "pd.Series[Any]", scale: Scale, mapped: bool) -> tuple[Any, Any]:
    """Return the value and the status of every cell; each distinct cell is read once."""
    codes, distinct = pd.factorize(cells, use_na_sentinel=False)
    texts = pd.Series(distinct, dtype="object").map(lambda cell: "" if pd.isna(cell) else str(cell).strip())
    numbers = pd.to_numeric(with_decimal_points(texts), errors="coerce").astype("float64")
    is_code = missing_codes(texts, scale)
    blank = texts.str.lower().isin(BLANK) & ~is_code
    value = numbers.to_numpy().copy()
    if mapped and scale.answers:
        answers = {str(word).strip(): float(answer) for word, answer in scale.answers.items()}
        by_number = {number: answer for word, answer in answers.items() if (number := _number(word)) is not None}
        # If numbers are codes, an unmapped number is not an answer, even within the bounds.
        others = numbers.map(by_number) if by_number else numbers
        value = texts.map(answers).astype("float64").fillna(others).to_numpy(copy=True)
    status = np.select([is_code, blank, np.isnan(value)], [CODE, BLANK_CELL, UNREADABLE], ANSWER).astype(object)
    value[status != ANSWER] = np.nan
    return value[codes], status[codes]


def missing_codes(texts: "pd.Series[Any]", scale: Scale) -> "pd.Series[bool]":
    """Return which cells, as text, hold a code that the scale's file lists as missing."""
    codes = [str(code).strip() for code in scale.missing]
    as_numbers = [number for number in map(_number, codes) if number is not None]
    numbers = pd.to_numeric(with_decimal_points(texts.str.strip()), errors="coerce").astype("float64")
    return texts.str.strip().str.lower().isin([code.lower() for code in codes]) | numbers.isin(as_numbers)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _cell_shown(cell: Any, status: str) -> str:
    if pd.isna(cell):
        return WITHOUT_RESULT if status == WITHOUT_RESULT else "an unreadable cell, such as an Excel error"
    return shown(str(cell).strip())


def _refuse(cells: pd.DataFrame, value: Floats, status: Any, ends: Sequence[float], scale: Scale, source: str) -> None:
    """Refuse answers that are unreadable or impossible, each with row and column, or together if on another scale."""
    impossible = (value < ends[0]) | (value > ends[1])
    items = scale.name if SCORE not in set(cells["item"]) else None
    many = on_another_scale(value, cells["row"], "answers", scale, ends, which_scale(value, items))
    several = [f"{source}: columns {names_shown(cells['column'][impossible].unique())}: {many}"] * bool(many)
    wrong = np.flatnonzero(impossible * (not many) | np.isin(status, [UNREADABLE, WITHOUT_RESULT]))
    if not len(wrong):
        return refuse_if_any(several)
    wanted = f"an answer from {ends[0]:g} to {ends[1]:g} ({scale.name})"
    if scale.answers and impossible.sum() < len(wrong):
        words = [f"{word:g}" if isinstance(word, float) else word for word in scale.answers]
        mapped = f"one of {', '.join(shortened(words, 8))}"
        has_codes = any(_number(word) is not None for word in words)
        wanted = f"{mapped} ({scale.name})" if has_codes else f"{wanted} or {mapped}"
    problems = [
        f"{source}: data row {cells['row'].iat[at]}, column {names_shown([cells['column'].iat[at]])}: "
        f"expected {wanted}, found {_cell_shown(cells['cell'].iat[at], status[at])}"
        for at in wrong[:MOST_CELLS].tolist()
    ]
    more = f"{source}: and {len(wrong) - MOST_CELLS} more cells. " if len(wrong) > MOST_CELLS else ""
    problems.append(
        f"{more}Correct them; or, in the scale's file, list codes for missing answers (missing: [-99, NA]) and map "
        "words or codes to answers (answers: {often: 3})"
    )
    raise InputError(*several, *problems)
