"""The canonical table: texts with crowd labels, checked on entry."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any
from unicodedata import category, normalize

import pandas as pd
import pandera.pandas as pa

from invitro.data.ratings import People
from invitro.errors import InputError, names_shown, refuse_if_any, shown
from invitro.scales import Scale, on_another_scale, which_scale

SPLITS = ("train", "val", "test", "unlabelled")
"""Where a text belongs; ``unlabelled`` texts can only serve as the pool for augmentation."""

CANONICAL_COLUMNS = ("text_id", "text", "group_id", "split", "crowd_label")
DEMOGRAPHICS = ("gender", "education", "race", "age", "income")
CODEBOOK = {
    "gender": {"1": "male", "2": "female", "5": "other"},
    "education": {
        "1": "less than a high school diploma",
        "2": "a high school diploma",
        "3": "technical or vocational school",
        "4": "some college without a degree",
        "5": "a two-year college degree",
        "6": "a four-year college degree",
        "7": "a postgraduate or professional degree",
    },
    "race": {
        "1": "White",
        "2": "Hispanic or Latino",
        "3": "Black or African American",
        "4": "Native American or American Indian",
        "5": "Asian or Pacific Islander",
        "6": "other",
    },
}
"""The meaning of demographic codes in the NewsEmp corpora and the simulator, in the order of display. From
hasan-rakibul/LLMPathy, src/plot/demographic_distribution.py at 381df7d."""
MOST_FAULTS = 10
AGES = (0, 30, 40, 50, 60, 200)
LEAST_IN_GROUP = 30
"""Groups with fewer texts are not shown: their numbers are uncertain and might reveal a person."""


@dataclass(frozen=True)
class Corpus:
    """Texts that people rated on one scale.

    Args:
        name: the corpus's key, such as ``newsemp18``.
        table: one row per text, with `CANONICAL_COLUMNS`, any of `DEMOGRAPHICS`, and any other columns of the source
            (the simulator adds ``truth`` and ``llm_label``). ``text_id`` is unique; ``crowd_label`` is float64 in the
            scale's units, NaN if nobody rated the text; ``split`` is one of `SPLITS`.
        licence: the terms under which the data may be used.
        citation: the publication to cite.
        label_corpora: the corpora whose LLM label sets cover these texts: itself, or the members of a combination,
            whose ids have the member's name as a prefix (``newsemp22:R_1``).
        has_truth: whether ``truth`` holds the true scores, as only the simulator knows them.
        sets_aside: whether ``application.pool=auto`` sets a share of the rated texts aside, as in the paper; a user's
            own table gives up human labels only on request.
        people: each person's answers, if the crowd labels come from several people or from items; the table then also
            has ``crowd_n`` (number of ratings) and ``crowd_sd`` (their SD, NaN with fewer than two).
        published_ids: for each of `label_corpora`, the source's names of the columns that identify a text and its
            author, each with the corresponding column of `table`.
    """

    name: str
    table: pd.DataFrame
    licence: str
    citation: str
    label_corpora: tuple[str, ...] = field(default=())
    has_truth: bool = False
    sets_aside: bool = True
    people: People | None = field(default=None, repr=False)
    published_ids: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.label_corpora:
            object.__setattr__(self, "label_corpora", (self.name,))

    @property
    def fingerprint(self) -> str:
        """Hash of what training can see: ids, texts, groups, splits and crowd labels, in any row order."""
        table = self.table.loc[:, list(CANONICAL_COLUMNS)].sort_values("text_id")
        return hashlib.sha256(table.to_csv(index=False).encode()).hexdigest()

    @property
    def single_ratings(self) -> pd.DataFrame | None:
        """Each person's rating of each text, see `People.single`; None if no text has two or more."""
        return None if self.people is None else self.people.single()

    def refuse_faults(self) -> None:
        """Refuse to learn from items that run against their scale.

        Raises:
            InputError: naming each such item, and what to change.
        """
        refuse_if_any(() if self.people is None else self.people.faults())

    def whole_ids(self, rows: pd.DataFrame) -> "pd.Series[str]":
        """Return the ids of rows of this corpus, prefixed with the corpus they come from as in a combination."""
        ids: pd.Series[str] = rows["text_id"]
        return f"{self.label_corpora[0]}:" + ids if len(self.label_corpora) == 1 else ids

    def of_split(self, *splits: str) -> pd.DataFrame:
        """Return the rows of the given splits, in the table's order."""
        return self.table.loc[self.table["split"].isin(splits)]


def is_blank(text: str) -> bool:
    r"""Whether a text has nothing to read: only white space, zero-width and control characters, or combining marks.

    Example:
        >>> is_blank("\u200b \ufeff"), is_blank("?")
        (True, False)
    """
    return all(category(character)[0] in "ZCM" for character in text)


def id_form(text_id: str) -> str:
    """Return the form in which ids are compared: composed (NFC), single blanks, no zero-width characters.

    Ids that differ only in this belong to one text or person, written by two programs.
    """
    if text_id.isascii():
        return " ".join(text_id.split())
    return " ".join("".join(sign for sign in normalize("NFC", text_id) if category(sign) != "Cf").split())


def canonical(
    table: pd.DataFrame,
    scale: Scale,
    source: str,
    published_splits: bool = True,
    names_in_file: Mapping[str, str] | None = None,
) -> pd.DataFrame:
    """Return `table` with typed canonical columns, or raise an error that lists all its faults.

    Args:
        table: at least ``text_id``, ``text`` and ``crowd_label``; a missing ``group_id`` becomes the text's own id, and
            a missing ``split`` becomes ``train``, or ``unlabelled`` if there is no crowd label. Its index counts
            the file's data rows from 0, including rows that were left out.
        scale: bounds of the crowd labels.
        source: the file (or corpus) named in errors.
        published_splits: whether the table must have ``split`` already.
        names_in_file: the file's own names for canonical columns, for the errors.

    Raises:
        InputError: empty table, missing column, duplicate id, missing text, label outside the scale, unknown split.
    """
    if table.empty:
        raise InputError(
            f"{source}: expected texts, found an empty table; check the file, or the filter before this step"
        )
    table = table.copy()
    if "group_id" not in table and "text_id" in table:
        table["group_id"] = table["text_id"]
    if "split" not in table and "crowd_label" in table and not published_splits:
        table["split"] = table["crowd_label"].notna().map({True: "train", False: "unlabelled"})
    expected = f"{scale.minimum:g} to {scale.maximum:g} ({scale.name})"
    bounds = pa.Check.in_range(scale.minimum, scale.maximum, error=expected)
    schema = pa.DataFrameSchema(
        {
            "text_id": pa.Column(str, unique=True),
            "text": pa.Column(str, pa.Check(lambda texts: ~texts.map(is_blank), error="a text that is not blank")),
            "group_id": pa.Column(str),
            "split": pa.Column(str, pa.Check.isin(SPLITS, error=f"one of {', '.join(SPLITS)}")),
            "crowd_label": pa.Column(float, bounds, nullable=True),
        }
    )
    try:
        checked = schema.validate(table, lazy=True)
    except pa.errors.SchemaErrors as errors:
        cases, lines = errors.failure_cases, []
        labels = table.get("crowd_label", pd.Series(dtype=float))
        if many := on_another_scale(labels, labels.index + 1, "rated rows", scale, None, which_scale(labels)):
            column = names_shown([(names_in_file or {}).get("crowd_label", "crowd_label")])
            lines = [f"{source}: column {column}: {many}"]
            cases = cases[(cases["column"] != "crowd_label") | (cases["check"] != expected)]
        raise InputError(*lines, *_explained(cases, table, source, names_in_file or {})) from None
    refuse_if_any(
        problem
        for name in ("text_id", "group_id")
        for problem in two_spellings(checked[name], f"{source}: column {name}")
    )
    return checked.reset_index(drop=True)


def two_spellings(ids: "pd.Series[str]", where: str) -> Iterator[str]:
    """Yield a problem if two different ids have one `id_form`; the index counts data rows from 0."""
    different = ids.drop_duplicates()
    forms = different.map(id_form)
    twice = forms[forms.duplicated()]
    if len(twice):
        first, second = forms.index[forms == twice.iloc[0]][:2]
        pair = " and ".join(ascii(names_shown([ids[row]])) for row in (first, second))
        yield (
            f"{where}: expected ids that differ in more than blanks and Unicode forms, found a pair that does not, in "
            f"data rows {first + 1} and {second + 1}: {pair}; write them the same way"
        )


def _explained(
    cases: pd.DataFrame, table: pd.DataFrame, source: str, names_in_file: Mapping[str, str]
) -> Sequence[str]:
    """Turn pandera's failure cases into lines with file, row, column, what was expected and what was found."""
    lines = []
    for case in cases.head(MOST_FAULTS).to_dict("records"):
        index, column, check = case["index"], case["column"] or case["failure_case"], str(case["check"])
        if check == "column_in_dataframe":
            present = names_shown(table.columns)
            lines.append(f"{source}: expected a column {case['failure_case']}; found {present}")
            continue
        row = "" if pd.isna(index) else f" data row {int(index) + 1}{_id_of(table, index)},"
        expected = {"field_uniqueness": "an id that occurs once", "not_nullable": "a value"}.get(check, check)
        actual = "nothing" if check == "not_nullable" else shown(case["failure_case"])
        in_file = f" ({names_in_file[column]} in the file)" if names_in_file.get(column, column) != column else ""
        fix = "; correct the row, or choose the scale of the ratings with scale=" if column == "crowd_label" else ""
        lines.append(f"{source}:{row} column {column}{in_file}: expected {expected}, found {actual}{fix}")
    if len(cases) > MOST_FAULTS:
        lines.append(f"{source}: and {len(cases) - MOST_FAULTS} more faults")
    return lines


def _id_of(table: pd.DataFrame, index: Any) -> str:
    text_id: Any = table.at[index, "text_id"] if "text_id" in table else None
    return "" if pd.isna(text_id) else f" (text_id {names_shown([text_id])})"


def banded(values: "pd.Series[Any]", attribute: str) -> "pd.Series[Any]":
    """Return the groups of an attribute: ages by decade, incomes in thirds of the texts, others unchanged."""
    if isinstance(values.dtype, pd.CategoricalDtype):
        return values
    numbers = pd.to_numeric(values, errors="coerce")
    if attribute == "age":
        names = [
            f"under {AGES[1]}",
            *(f"{low}–{high - 1}" for low, high in pairwise(AGES[1:-1])),
            f"{AGES[-2]} and over",
        ]
        return pd.Series(pd.cut(numbers, AGES, right=False, labels=names), index=values.index)
    if attribute == "income" and numbers.nunique() > 10:
        ranks = numbers.rank(pct=True)  # equal incomes stay together
        return pd.Series(pd.cut(ranks, [0, 1 / 3, 2 / 3, 1], labels=["low", "middle", "high"]), index=values.index)
    text = values.astype("str").str.removesuffix(".0")
    return text.where(values.notna())
