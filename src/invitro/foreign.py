"""Files of other programs as rows: Excel, SPSS, Stata, R, Label Studio, doccano, saved Hugging Face datasets."""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache, partial
from importlib import import_module
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from invitro.errors import InputError, names_shown
from invitro.formats import (
    CANCELLED,
    SKIPPED,
    UTF_8,
    Foreign,
    TableRow,
    Unusable,
    declared_missing,
    encoding_of,
    scored,
    separator_of,
    without_qualtrics_headers,
)
from invitro.writing.words import count

INSTALL = 'install what reads it by pip install "invitro[files]"'
NO_RESULT = "a formula without a stored result"
LONGEST_CELL = 32_767
"""Characters that Excel keeps of a cell."""


def foreign(path: Path) -> Foreign:
    """Read the file or folder `path`, whose kind `is_foreign`.

    Raises:
        InputError: it is damaged, holds no table, or the library that reads it is not installed.
    """
    version = path.stat()
    return _foreign(path.absolute(), path, version.st_mtime_ns, version.st_size)


def is_foreign(path: Path) -> bool:
    """Whether `path` is a folder, or ends as a file of another program that can be read."""
    return path.is_dir() or path.suffix.lower() in READERS


def kind_of(path: Path, encoding: str | None = None) -> str:
    """Say what a table file is read as: ``CSV with semicolons, UTF-16``, or ``SPSS``, with what is to be noted."""
    if is_foreign(path):
        found = foreign(path)
        return "; ".join([found.kind, *found.notes])
    named = {",": "", ";": " with semicolons", "\t": " with tabs"}
    parts = [path.suffix[1:].upper()]
    if path.suffix.lower() == ".csv":
        parts[0] += named[separator_of(path, encoding)]
    if path.suffix.lower() != ".parquet" and (other := encoding_of(path, encoding)) != UTF_8:
        parts.append(other.upper())
    return ", ".join(parts)


@lru_cache(maxsize=2)
def _foreign(absolute: Path, path: Path, *version: int) -> Foreign:
    reader = _dataset if path.is_dir() else READERS[path.suffix.lower()]
    found = reader(path)
    refuse_twice(found.columns, f"{path}: expected column names that differ")
    return found


def _libraries(path: Path, *names: str) -> list[Any]:
    try:
        return [import_module(name) for name in names]
    except ImportError as error:
        raise InputError(f"{path}: {error.name} is not installed; {INSTALL}, or save the table as .csv") from None


def refuse_twice(names: Sequence[str], expected: str) -> None:
    """Refuse column names or keys of which two are equal."""
    if twice := [name for number, name in enumerate(names) if name in names[:number]]:
        raise InputError(f"{expected}, found {names_shown(dict.fromkeys(twice))} twice")


def damaged(path: Path, kind: str, error: Exception) -> InputError:
    """Return the error for what a library cannot read; its own words may quote a text, so only its kind is told."""
    found = f"not readable as {kind} ({type(error).__name__})"
    return InputError(f"{path}: {found}; is it complete, and was it written as {kind}?")


def _excel(path: Path) -> Foreign:
    """Read the first sheet that has cells, values as Excel stored them; the first row with cells names the columns."""
    (openpyxl,) = _libraries(path, "openpyxl")
    try:
        stored = openpyxl.load_workbook(path, read_only=True, data_only=True)
        written = openpyxl.load_workbook(path, read_only=True)
        for name in stored.sheetnames:
            cells = list(_cells(stored[name], written[name]))
            if cells:
                break
    except InputError:
        raise
    except Exception as error:  # a damaged archive or sheet raises whatever its reader happens upon
        raise damaged(path, "an Excel workbook", error) from None
    if not cells:
        raise InputError(f"{path}: expected a header and rows, found an empty workbook")
    (first, header), *rest = cells
    names = ["" if cell is None else str(cell).strip() for cell in header]
    width = max((number for _, row in cells for number, cell in enumerate(row, 1) if cell is not None), default=0)
    names += [""] * (width - len(names))
    used = {number for _, row in rest for number, cell in enumerate(row) if cell is not None}
    if nameless := [number for number in sorted(used) if not names[number]]:
        where = f"cell {openpyxl.utils.get_column_letter(nameless[0] + 1)}{first}"
        raise InputError(f"{path}: {where}: expected the column's name, found none; the first row names the columns")
    kept = [number for number, name in enumerate(names) if name]
    rows = [{names[n]: row[n] if n < len(row) else None for n in kept} for _, row in rest]
    rows, notes = list(without_qualtrics_headers(rows)), list[str]()
    if len(stored.sheetnames) > 1:
        notes.append(f"the sheet {names_shown([name])}, the first of {len(stored.sheetnames)} with cells")
    if cut := sum(isinstance(cell, str) and len(cell) == LONGEST_CELL for row in rows for cell in row.values()):
        notes.append(f"{cut} cells hold exactly {LONGEST_CELL} characters, where Excel cuts a text off")
    return Foreign("Excel", tuple(names[n] for n in kept), tuple(rows), notes=tuple(notes))


def _cells(stored: Any, written: Any) -> Iterator[tuple[int, list[Any]]]:
    """Yield the number and the cells of each row of a sheet that is not empty."""
    from openpyxl.utils.escape import unescape

    for sheet in (stored, written):
        sheet.reset_dimensions()  # some programs write wrong ones
    for number, (values, formulas) in enumerate(zip_longest(stored.rows, written.rows, fillvalue=()), 1):
        row: list[Any] = []
        for value, formula in zip_longest(values, formulas):
            cell = None if value is None else value.value
            where = getattr(value, "coordinate", "")
            if cell is None and formula is not None and formula.data_type == "f":
                where = getattr(formula, "coordinate", where)
                cell = Unusable(f"{NO_RESULT} in cell {where}; open the file in Excel, save it", NO_RESULT[2:])
            elif value is not None and value.data_type == "e":
                cell = Unusable(f"the error {cell} in cell {where}")
            elif isinstance(cell, str):
                cell = unescape(cell) or None  # Excel writes control characters as _x000D_
            row.append(cell)
        if any(cell is not None for cell in row):
            yield number, row


def _labelled_file(path: Path, kind: str, reader: str) -> Foreign:
    """Read a file whose values have labels; a value that the file declares missing keeps that as its status."""
    (pyreadstat,) = _libraries(path, "pyreadstat")
    try:
        table, about = getattr(pyreadstat, reader)(
            str(path), user_missing=True, disable_datetime_conversion=False, output_format="dict"
        )
    except Exception as error:  # pyreadstat raises errors of its own, and Python's for what it cannot decode
        raise damaged(path, kind, error) from None
    remarks: dict[str, str] = {}
    columns: dict[str, list[Any]] = {}
    for name, cells in table.items():
        codes = about.missing_user_values.get(name, [])
        ranges = [(one["lo"], one["hi"]) for one in about.missing_ranges.get(name, [])]
        labels = {value: str(label) for value, label in about.variable_value_labels.get(name, {}).items()}
        values = (one for one in {*cells, *labels} if not _is_nothing(one))
        missing = {one for one in values if one in codes or any(_within(one, *ends) for ends in ranges)}
        present = [None if _is_nothing(cell) or cell in missing else cell for cell in cells]
        scores, remark = scored(present, {value: label for value, label in labels.items() if value not in missing})
        columns[str(name)] = [
            declared_missing(cell) if cell in missing else score for cell, score in zip(cells, scores, strict=True)
        ]
        declared = sum(cell in missing for cell in cells)
        said = [remark] if remark else []
        said += [f"declared missing: {count(declared, 'value')}"] if declared else []
        if said:
            remarks[str(name)] = ", ".join(said)
    rows = tuple(dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True))
    return Foreign(kind, tuple(columns), rows, remarks)


def _within(cell: Any, low: Any, high: Any) -> bool:
    return isinstance(cell, str if isinstance(low, str) else int | float) and low <= cell <= high


def _is_nothing(cell: Any) -> bool:
    return cell is None or cell == "" or bool(cell != cell)  # NaN


def _r(path: Path) -> Foreign:
    """Read a data frame that R saved by ``saveRDS``; a factor is its levels."""
    (pyreadr,) = _libraries(path, "pyreadr")
    try:
        objects = pyreadr.read_r(str(path))
        (frame,) = objects.values()
    except Exception as error:  # librdata's own errors; an object that is no data frame gives none
        fix = "save a data frame by saveRDS(as.data.frame(x), 'x.rds')"
        raise InputError(f"{path}: not readable as an R data frame ({type(error).__name__}); {fix}") from None
    factors = [str(name) for name in frame if str(frame[name].dtype) == "category"]
    rows = frame.astype("object").where(frame.notna(), None).to_dict("records")
    remarks = dict.fromkeys(factors, "the levels of the factor are the values")
    return Foreign("R", tuple(map(str, frame.columns)), tuple(rows), remarks)


def _json(path: Path) -> Foreign:
    """Read a JSON file: an export of Label Studio, or a list of objects."""
    try:
        content = json.loads(path.read_text("utf-8-sig"))
    except UnicodeDecodeError:
        raise InputError(f"{path}: not readable as UTF-8; save it as UTF-8") from None
    except json.JSONDecodeError as error:
        fix = "if each line is an object of its own, as in doccano's exports, rename it to .jsonl"
        raise InputError(f"{path}: not readable as JSON (line {error.lineno}: {error.msg}); {fix}") from None
    except (ValueError, RecursionError) as error:
        raise damaged(path, "JSON", error) from None
    if not isinstance(content, list) or not all(isinstance(one, dict) for one in content):
        raise InputError(f"{path}: expected a list of objects, one per text, found a {type(content).__name__}")
    if content and all({"data", "annotations"} <= set(one) for one in content):
        return _label_studio(content)
    if content and all({"annotation_id", "annotator"} <= set(one) for one in content):
        ids = [one.get("id") for one in content]
        if len(set(map(str, ids))) < len(ids):
            fix = "export them as JSON, which keeps annotators apart"
            raise InputError(f"{path}: Label Studio's JSON-MIN with several annotations of one task; {fix}")
        return _of_rows("Label Studio JSON-MIN", [{key: _one(cell) for key, cell in one.items()} for one in content])
    return _of_rows("JSON", [doccano(one) for one in content])


def _of_rows(
    kind: str, rows: list[TableRow], remarks: Mapping[str, str] | None = None, notes: Iterable[str] = ()
) -> Foreign:
    columns = tuple(dict.fromkeys(name for row in rows for name in row))
    whole = tuple({name: row.get(name) for name in columns} for row in rows)
    return Foreign(kind, columns, whole, remarks or {}, tuple(notes))


def _one(cell: Any) -> Any:
    """Return the only choice of a list of choices; a number that is written as text stays text."""
    if isinstance(cell, dict) and set(cell) == {"choices"}:
        cell = cell["choices"]
    if not isinstance(cell, list):
        return cell
    if len(cell) > 1:
        return Unusable(f"{len(cell)} labels, where one is the score")
    return cell[0] if cell else None


def _label_studio(tasks: Sequence[TableRow]) -> Foreign:
    """Return one row per task: its data, and for each question the answer, or the mean of the annotators' numbers.

    With several annotators each one's answers are a column too, ``<question> by <annotator>``. An answer that an
    annotator skipped or cancelled is none, and keeps that as its status.
    """
    sheets = [[_sheet(number, one) for number, one in enumerate(task["annotations"])] for task in tasks]
    questions = dict.fromkeys(question for of_task in sheets for *_, answers in of_task for question in answers)
    raters = dict.fromkeys(rater for of_task in sheets for rater, _, answers in of_task if answers)
    rows: list[TableRow] = []
    for task, of_task in zip(tasks, sheets, strict=True):
        row: TableRow = {"task_id": str(task.get("id", "")) or None} | dict(task["data"])
        for question in questions:
            given: dict[str, Any] = {}
            absent: dict[str, Any] = {}
            for rater, status, answers in of_task:
                if question not in answers:
                    absent[rater] = Unusable(f"an answer that was {status}", status)
                else:
                    twice = Unusable(f"two answers of annotator {rater} to {names_shown([question])}")
                    given[rater] = twice if rater in given else answers[question]
            row[question] = _together(list(given.values() or absent.values()))
            if len(raters) > 1:
                row |= {f"{question} by {rater}": value for rater, value in (absent | given).items()}
        rows.append(row)
    mean = f"the mean of {len(raters)} annotators, whose own answers are the columns NAME by ANNOTATOR"
    remarks = dict.fromkeys(questions, mean) if len(raters) > 1 else {}
    cancelled = sum(status == CANCELLED for of_task in sheets for _, status, _ in of_task)
    notes = [f"cancelled annotations are left out: {cancelled}"] if cancelled else []
    return _of_rows("Label Studio", rows, remarks, notes)


def _sheet(number: int, annotation: TableRow) -> tuple[str, str, dict[str, Any]]:
    """Return who made an annotation, why an answer is missing in it, and its answers by question."""
    by = annotation.get("completed_by", number)
    rater, answers = str(by.get("id", number) if isinstance(by, dict) else by), dict[str, Any]()
    if annotation.get("was_cancelled") or annotation.get("skipped"):  # as older versions wrote it
        return rater, CANCELLED, answers
    for question, value in filter(None, map(_answer, annotation.get("result", []))):
        twice = Unusable(f"two answers of annotator {rater} to {names_shown([question])}")
        answers[question] = twice if question in answers else value
    return rater, SKIPPED, answers


def _answer(result: TableRow) -> tuple[str, Any] | None:
    """Return question and answer of a result; None for what marks a part of the text."""
    kind, value = str(result.get("type")), result.get("value", {})
    if kind not in ("rating", "number", "choices", "textarea") or not isinstance(value, dict):
        return None
    return str(result.get("from_name")), _one(value.get("text" if kind == "textarea" else kind))


def _together(given: Sequence[Any]) -> Any:
    """Return one value of several annotators': what all say, or the mean of numbers."""
    if len(set(map(str, given))) <= 1:
        return given[0] if given else None
    if wrong := [one for one in given if isinstance(one, Unusable)]:
        return wrong[0]
    try:
        numbers = [float(one) for one in given]
    except (TypeError, ValueError):
        return Unusable("different words of several annotators, which have no mean")
    return sum(numbers) / len(numbers)


def doccano(row: TableRow) -> TableRow:
    """Return a row of a doccano export with its only label as a value; any other row unchanged.

    Example:
        >>> doccano({"id": 7, "text": "Poor dog.", "label": ["5"], "Comments": []})["label"]
        '5'
    """
    if "annotations" in row and {"id", "text"} <= set(row) and isinstance(row["annotations"], list):
        reason = "doccano's number of a label in its database, which is no score; export with the labels' texts"
        rest = {key: cell for key, cell in row.items() if key != "annotations"}
        return rest | {"label": Unusable(reason) if row["annotations"] else None}
    if isinstance(row.get("label"), list) and "id" in row and ({"text", "data"} & set(row)):
        return row | {"label": _one(row["label"])}
    return row


def _dataset(path: Path) -> Foreign:
    """Read a folder that ``datasets`` saved, or one of Parquet files; of several splits, ``split`` names each row's."""
    splits: dict[str, Path] = {path.name: path}
    divided = (path / "dataset_dict.json").is_file()
    if not divided and not (path / "state.json").is_file():
        return _parquet_folder(path)
    tables: list[tuple[str, pa.Table]] = []
    features: dict[str, Any] = {}
    try:
        if divided:
            named = json.loads((path / "dataset_dict.json").read_text("utf-8"))["splits"]
            splits = {name: path / name for name in named}
        for name, folder in splits.items():
            state = json.loads((folder / "state.json").read_text("utf-8"))
            if state.get("_indices_data_files"):
                raise InputError(f"{folder}: rows are chosen by indices; call flatten_indices() before it is saved")
            for file in state["_data_files"]:
                with pa.memory_map(str(folder / file["filename"])) as lines:
                    tables.append((name, pa.ipc.open_stream(lines).read_all()))
            info = folder / "dataset_info.json"
            features |= json.loads(info.read_text("utf-8")).get("features") or {} if info.is_file() else {}
    except InputError:
        raise
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
        raise damaged(path, "a saved dataset", error) from None
    return _of_tables(tables, features, len(splits) > 1)


def _parquet_folder(path: Path) -> Foreign:
    files = sorted(path.rglob("*.parquet"))
    if not files:
        expected = "expected a file, or the folder of a saved dataset (dataset_dict.json, state.json, or Parquet files)"
        raise InputError(f"{path}: {expected}, found another folder; name a file in it")
    try:
        tables = [(re.split(r"-\d+-of-", file.stem)[0], pq.read_table(file)) for file in files]
    except (OSError, ValueError, pa.ArrowException) as error:
        raise damaged(path, "Parquet", error) from None
    return _of_tables(tables, {}, len({name for name, _ in tables}) > 1)


def _of_tables(tables: Sequence[tuple[str, pa.Table]], features: Mapping[str, Any], divided: bool) -> Foreign:
    rows = [
        row | ({"split": name} if divided and "split" not in row else {})
        for name, table in tables
        for row in table.to_pylist()
    ]
    remarks = {}
    for name, feature in features.items():
        if isinstance(feature, dict) and feature.get("_type") == "ClassLabel" and feature.get("names"):
            codes = [None if row.get(name) in (None, -1) else row.get(name) for row in rows]
            values, remarks[name] = scored(codes, dict(enumerate(feature["names"])))
            for row, value in zip(rows, values, strict=True):
                row[name] = value
    return _of_rows("a Hugging Face dataset", rows, remarks)


READERS: dict[str, Callable[[Path], Foreign]] = {
    ".xlsx": _excel,
    ".xlsm": _excel,
    ".sav": partial(_labelled_file, kind="SPSS", reader="read_sav"),
    ".zsav": partial(_labelled_file, kind="SPSS", reader="read_sav"),
    ".dta": partial(_labelled_file, kind="Stata", reader="read_dta"),
    ".rds": _r,
    ".json": _json,
}
"""What reads a file of another program, by its ending."""
