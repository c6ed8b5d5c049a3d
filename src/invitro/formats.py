"""File formats: the encoding and separator of text files, and how codes with labels become scores.

Ids stay as written, a missing value keeps its reason, and a code becomes a score only if its label is that number. A
cell that cannot be used is `Unusable`, and is refused if its column is needed.
"""

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import pandas as pd

from invitro.errors import InputError
from invitro.writing.words import count, listed, shortened

TableRow = dict[str, Any]
CELL_STATUS = "cell_status"
"""Key of `DataFrame.attrs` under which a reader says why a cell is empty: ``{(row, column): status}``, rows from 0."""

EXPORTS = {
    ".xls .xlsb .ods": "save it as .xlsx in Excel or LibreOffice",
    ".numbers": "export it from Numbers to Excel (.xlsx) or CSV",
    ".por .sps .spv": "save the data in SPSS as .sav",
    ".sas7bdat .xpt": "write it as CSV in SAS: proc export data=NAME outfile='NAME.csv' dbms=csv; run;",
    ".rdata .rda": "save the data frame in R with saveRDS(x, 'x.rds')",
    ".qsf": "this is the survey's definition; export its answers from Qualtrics as CSV (Data & Analysis, Export)",
    ".mat": "write it as CSV in MATLAB: writetable(T, 'NAME.csv')",
    ".feather .arrow .pkl .pickle .h5": "write it in pandas with to_parquet",
    ".txt .dat": "if it is a table, rename it to .csv or .tsv",
    ".ndjson": "rename it to .jsonl",
    ".zip .gz .7z": "unpack it and name the file in it",
    ".docx .doc .odt .pdf .rtf": "put the texts into a table, one row each, and save it as .csv or .xlsx",
}
"""How to convert unsupported formats to supported ones, by file ending."""
MARKS = {b"\xff\xfe\x00\x00": "utf-32", b"\x00\x00\xfe\xff": "utf-32", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
"""Byte order marks, the longest first; without one a file is UTF-8."""
PERSON_COLUMNS = ("prolific_pid", "prolific_id", "participant_id", "participant id", "worker_id", "workerid", "mturkid")
"""Columns in which survey tools store the participant, in lower case."""
PREVIEWS = ("survey preview", "survey test", "spam", "1", "2", "8", "9", "17")
"""Values of Qualtrics' column Status for answers that no participant gave, in lower case."""
NUMBER_LABEL = re.compile(r"\s*\(?([+-]?\d+(?:[.,]\d+)?)\)?(?![\d.,]|\s*(?:[-–]|to|bis)\s*\d)")
MISSING_CODE, SKIPPED, CANCELLED = "missing code", "skipped", "cancelled"
NO_ANSWER = (MISSING_CODE, SKIPPED, CANCELLED)
"""Statuses of cells that are empty by design, according to their file or scale: not errors."""
DECIMAL_COMMA, DECIMAL_POINT = r"[+-]?\d+,\d+", r"[+-]?\d*\.\d+"
UTF_8 = "utf-8-sig"
"""The encoding of text files that declare no other; they may begin with a byte order mark."""
LONGEST_BEGINNING = 65_536
"""Characters at the beginning of a CSV file that are searched for its separator."""


@dataclass(frozen=True)
class Unusable:
    """A cell with content that is not a value: the reason, for errors, and its status as a rating."""

    reason: str
    status: str = "unreadable"


def declared_missing(code: Any) -> Unusable:
    """Return the cell for a code that its file declares to be a missing answer."""
    return Unusable(f"the code {code:g}" if isinstance(code, float) else f"the code {code}", MISSING_CODE)


@dataclass(frozen=True)
class Foreign:
    """A file written by another program.

    Args:
        kind: the format it is read as, such as ``SPSS``.
        columns: the columns' names, in the file's order.
        rows: one dictionary per row.
        remarks: how a column was read, by its name.
        notes: remarks on the whole file.
    """

    kind: str
    columns: tuple[str, ...]
    rows: tuple[TableRow, ...]
    remarks: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def how_to_export(path: Path) -> str:
    """Return how to convert an unsupported file to a table."""
    remedies = {ending: how for endings, how in EXPORTS.items() for ending in endings.split()}
    return remedies.get(path.suffix.lower(), "export it as .csv or .xlsx")


def scored(cells: Sequence[Any], labels: Mapping[Any, str]) -> tuple[list[Any], str]:
    """Convert codes to scores, by their labels if these are numbers; also return how they were read.

    Args:
        cells: codes; None is an empty cell.
        labels: the label of each code.

    Example:
        >>> scored([18, 19, None], {18: "1", 19: "2"})
        ([1.0, 2.0, None], 'value labels, which are numbers, are the values')
        >>> scored([1, 7], {1: "not at all", 7: "very much"})
        ([1, 7], 'codes are the values, since their labels are words')
    """
    matches = {code: NUMBER_LABEL.match(label) for code, label in labels.items()}
    means = {code: float(match[1].replace(",", ".")) for code, match in matches.items() if match}
    whole = [code for code, match in matches.items() if match and match.end() == len(labels[code].rstrip())]
    if not labels:
        return list(cells), ""
    if all(mean == code for code, mean in means.items()):
        return list(cells), "codes are the values, since their labels are words" if len(means) < len(labels) else ""
    if whole and len(means) == len(labels):
        unlabelled = {cell for cell in cells if cell is not None and cell not in means}
        unknown = {cell: Unusable(f"the code {cell:g}, which has no label") for cell in unlabelled}
        scores = {None: None, **means, **unknown}
        return [scores[cell] for cell in cells], "value labels, which are numbers, are the values"
    wrong = {
        code: Unusable(f"the code {code:g}, whose label begins with {mean:g}; make codes and labels agree")
        for code, mean in means.items()
        if mean != code
    }
    return [wrong.get(cell, cell) for cell in cells], "codes are the values, unless their labels contradict them"


def with_decimal_points(cells: "pd.Series[str]") -> "pd.Series[str]":
    """Replace the decimal commas of numbers, as text, by points, unless a number of the series already has a point.

    Example:
        >>> with_decimal_points(pd.Series(["3,5", "4", "NA"])).tolist()
        ['3.5', '4', 'NA']
    """
    commas = cells.str.fullmatch(DECIMAL_COMMA)
    if not commas.any() or cells.str.fullmatch(DECIMAL_POINT).any():
        return cells
    return cells.where(~commas, cells.str.replace(",", ".", regex=False))


@contextmanager
def opened(path: Path, newline: str | None, encoding: str | None = None) -> Iterator[TextIO]:
    """Open a text file in the encoding that `encoding_of` finds.

    Raises:
        InputError: its bytes are not in that encoding, there is no such encoding, or the disk fails.
    """
    try:
        with path.open(encoding=encoding_of(path, encoding), newline=newline) as lines:
            yield lines
    except UnicodeError:  # also UTF-16 that ends inside a character
        raise InputError(f"{path}: {_other_encoding(path, encoding)}") from None
    except LookupError:
        raise InputError(f"encoding: expected a name such as cp1252 or utf-16, found {encoding!r}") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error


def encoding_of(path: Path, asked: str | None = None) -> str:
    """Return a text file's encoding: that of its byte order mark, else UTF-8 if it is valid, else the one `asked`."""
    mark = mark_of(path)
    if mark or not asked:
        return mark or UTF_8
    content = path.read_bytes()
    if content.isascii():
        return asked
    try:
        content.decode()
    except UnicodeDecodeError:
        return asked
    return UTF_8


def mark_of(path: Path) -> str | None:
    """Return the encoding that a file's byte order mark declares, other than UTF-8, or None."""
    with path.open("rb") as file:
        beginning = file.read(4)
    return next((encoding for mark, encoding in MARKS.items() if beginning.startswith(mark)), None)


def _other_encoding(path: Path, encoding: str | None) -> str:
    """Say where a file cannot be decoded, what its encoding seems to be, and what to do."""
    if encoding or mark_of(path):
        return f"not readable as {(encoding or mark_of(path) or '').upper()}; is it complete, and is that its encoding?"
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                return (
                    f"line {number}: not readable as UTF-8: byte 0x{line[error.start]:02x}, perhaps Windows-1252. "
                    "Save it as UTF-8 (in Excel: CSV UTF-8), or set its encoding with data.encoding=cp1252 "
                    "(predict.py: encoding=cp1252)"
                )
    return "not readable as UTF-8: it ends inside a character"


def separator_of(path: Path, encoding: str | None = None) -> str:
    """Return the cell separator of a table: a tab in .tsv, the one that `separator_in` finds in .csv."""
    if path.suffix.lower() == ".tsv":
        return "\t"
    with opened(path, newline="", encoding=encoding) as lines:
        return separator_in(lines.read(LONGEST_BEGINNING))


def separator_in(beginning: str) -> str:
    r"""Return the cell separator of a CSV file: a comma, or a semicolon or a tab if commas do not give a table.

    Example:
        >>> separator_in("id;Wie sehr, von 1 bis 7\nt1;3,5\n"), separator_in("id,text\nt1,so; and so\n")
        (';', ',')
    """
    if not {";", "\t"} & set(beginning.partition("\n")[0]):
        return ","
    columns = {}
    for separator in ",;\t":
        try:
            rows = csv.reader(io.StringIO(beginning), delimiter=separator)
            widths = [len(row) for row in islice(rows, 20) if row]
        except csv.Error:
            continue
        # The last row may be cut off where the beginning ends.
        if widths[0] > 1 and len(set(widths[: max(1, len(widths) - 1)])) == 1:
            columns[separator] = widths[0]
    # By chance each row can have as many commas, such as decimal ones, as the header.
    return max(columns, key=lambda separator: (columns[separator], separator != ",")) if columns else ","


def are_rows(raw: Sequence[str], cells: Sequence[str], delimiter: str) -> bool:
    """Whether each line of one record looks like a whole row, as when a quotation mark has swallowed rows.

    Each line then has as many separators as the record. A text of several lines can have as many commas by chance; so
    another column must also look alike in all lines and hold a digit, as ids and ratings do (``t019``, ``t020``).
    """
    rows = [line.split(delimiter) for line in raw]
    if len(cells) == 1 or any(len(row) != len(cells) for row in rows):
        return False
    others = [number for number, cell in enumerate(cells) if "\n" not in cell and "\r" not in cell]
    shapes = [{_shape(row[number]) for row in rows} for number in others]
    return delimiter == "\t" or any(len(shape) == 1 and "0" in min(shape) for shape in shapes)


def _shape(cell: str) -> str:
    """Return a cell with every word as ``a`` and every number as ``0``."""
    return re.sub(r"[^\W\d_]+", "a", re.sub(r"\d+(\.\d+)?", "0", cell.strip()))


def without_qualtrics_headers(rows: Iterable[TableRow]) -> Iterator[TableRow]:
    """Yield rows without the second and third header rows, by which a Qualtrics export is recognised."""
    iterator = iter(rows)
    first = list(islice(iterator, 2))
    cells = [cell for cell in first[-1].values() if cell] if len(first) == 2 else []
    if not cells or not all(isinstance(cell, str) and cell.lstrip().startswith('{"ImportId"') for cell in cells):
        yield from first
    yield from iterator


def survey_remarks(frame: pd.DataFrame, person: str | None, source: str) -> Iterator[str]:
    """Count the rows that a survey tool's export marks as previews or unfinished, and second takes by one person.

    If most people have several rows, each was asked for several texts, and these are not second takes.

    Args:
        frame: cells as text.
        person: the participant's column; None if there is none.
        source: the file named in messages.
    """
    columns: Mapping[str, str] = {str(name).strip().lower(): str(name) for name in frame}
    if "status" in columns and "finished" in columns:  # as Qualtrics writes them
        preview = frame[columns["status"]].str.strip().str.lower().isin(PREVIEWS)
        unfinished = frame[columns["finished"]].str.strip().str.lower().isin(["0", "false"])
        if preview.any():
            yield f"{source}: {rows_named(preview)} of a survey preview, a test or spam"
        if unfinished.any():
            yield f"{source}: {rows_named(unfinished)} unfinished"
    if person is not None:
        again = frame[person].notna() & frame[person].duplicated()
        rows = frame[person].value_counts()
        if again.any() and (rows > 1).mean() < 0.5:
            repeats = f"{rows_named(again)} with the {person} of an earlier row"
            yield f"{source}: {repeats}; a person's rows stay in one split"


def rows_named(wrong: "pd.Series[bool]") -> str:
    """Return the marked rows of a table, counted from 1: ``2 rows (4 and 5)``."""
    numbers = [str(number + 1) for number in np.flatnonzero(wrong)]
    return f"{count(len(numbers), 'row')} ({listed(shortened(numbers, 5))})"


def person_column(columns: Iterable[str]) -> str | None:
    """Return the column in which a survey tool stores the participant, or None."""
    return next((name for name in columns if name.strip().lower() in PERSON_COLUMNS), None)
