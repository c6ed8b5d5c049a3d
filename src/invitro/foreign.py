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

INSTALL = 'install its reader with pip install "invitro[files]"'
NO_RESULT = "a formula without a stored result"
LONGEST_CELL = 32_767
"""Characters that Excel keeps of a cell."""


def foreign(path: Path) -> Foreign:
    """Read a file or folder that `is_foreign`.

    Raises:
        InputError: it is damaged or has no table, or the library that reads it is not installed.
    """
    version = path.stat()
    return _foreign(path.absolute(), path, version.st_mtime_ns, version.st_size)


def is_foreign(path: Path) -> bool:
    """Whether `path` is a folder or, by its ending, a file of another program that can be read."""
    return path.is_dir() or path.suffix.lower() in READERS


def kind_of(path: Path, encoding: str | None = None) -> str:
    """Say how a table file is read: ``CSV with semicolons, UTF-16``, or ``SPSS``, with any notes."""
    if is_foreign(path):
        content = foreign(path)
        return "; ".join([content.kind, *content.notes])
    separators = {",": "", ";": " with semicolons", "\t": " with tabs"}
    parts = [path.suffix[1:].upper()]
    if path.suffix.lower() == ".csv":
        parts[0] += separators[separator_of(path, encoding)]
    if path.suffix.lower() != ".parquet" and (other := encoding_of(path, encoding)) != UTF_8:
        parts.append(other.upper())
    return ", ".join(parts)


@lru_cache(maxsize=2)
def _foreign(absolute: Path, path: Path, *version: int) -> Foreign:
    reader = _dataset if path.is_dir() else READERS[path.suffix.lower()]
    content = reader(path)
    refuse_twice(content.columns, f"{path}: expected column names that differ")
    return content


def _libraries(path: Path, *names: str) -> list[Any]:
    try:
        return [import_module(name) for name in names]
    except ImportError as error:
        raise InputError(f"{path}: {error.name} is not installed; {INSTALL}, or save the table as .csv") from None


def refuse_twice(names: Sequence[str], expected: str) -> None:
    """Refuse duplicate column names or keys."""
    if twice := [name for number, name in enumerate(names) if name in names[:number]]:
        raise InputError(f"{expected}, found {names_shown(dict.fromkeys(twice))} twice")


def damaged(path: Path, kind: str, error: Exception) -> InputError:
    """Return the error for a file that a library cannot read, without the library's message: it may quote a text."""
    problem = f"not readable as {kind} ({type(error).__name__})"
    return InputError(f"{path}: {problem}; is it complete, and was it written as {kind}?")


def _excel(path: Path) -> Foreign:
    """Read the first non-empty sheet, with the values that Excel stored; its first non-empty row names the columns."""
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
    except Exception as error:  # a damaged archive or sheet raises errors of any type
        raise damaged(path, "an Excel workbook", error) from None
    if not cells:
        raise InputError(f"{path}: expected a header and rows, found an empty workbook")
    (first, header), *body = cells
    names = ["" if cell is None else str(cell).strip() for cell in header]
    width = max((number for _, row in cells for number, cell in enumerate(row, 1) if cell is not None), default=0)
    names += [""] * (width - len(names))
    used = {number for _, row in body for number, cell in enumerate(row) if cell is not None}
    if nameless := [number for number in sorted(used) if not names[number]]:
        where = f"cell {openpyxl.utils.get_column_letter(nameless[0] + 1)}{first}"
        raise InputError(f"{path}: {where}: expected the column's name, found none; the first row names the columns")
    kept = [number for number, name in enumerate(names) if name]
    rows = [{names[n]: row[n] if n < len(row) else None for n in kept} for _, row in body]
    rows, notes = list(without_qualtrics_headers(rows)), list[str]()
    if len(stored.sheetnames) > 1:
        notes.append(f"the sheet {names_shown([name])}, the first of {len(stored.sheetnames)} with cells")
    if cut := sum(isinstance(cell, str) and len(cell) == LONGEST_CELL for row in rows for cell in row.values()):
        notes.append(f"{cut} cells have exactly {LONGEST_CELL} characters, at which Excel cuts texts off")
    return Foreign("Excel", tuple(names[n] for n in kept), tuple(rows), notes=tuple(notes))


def _cells(stored: Any, written: Any) -> Iterator[tuple[int, list[Any]]]:
    """Yield the number and the cells of each non-empty row of a sheet."""
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
                cell = Unusable(f"{NO_RESULT} in cell {where}; open the file in Excel and save it", NO_RESULT[2:])
            elif value is not None and value.data_type == "e":
                cell = Unusable(f"the error {cell} in cell {where}")
            elif isinstance(cell, str):
                cell = unescape(cell) or None  # Excel writes control characters as _x000D_
            row.append(cell)
        if any(cell is not None for cell in row):
            yield number, row


def _labelled_file(path: Path, kind: str, reader: str) -> Foreign:
    """Read a file whose values have labels; values that the file declares missing have that as their status."""
    (pyreadstat,) = _libraries(path, "pyreadstat")
    try:
        table, about = getattr(pyreadstat, reader)(
            str(path), user_missing=True, disable_datetime_conversion=False, output_format="dict"
        )
    except Exception as error:  # pyreadstat raises its own errors, and Python's for undecodable bytes
        raise damaged(path, kind, error) from None
    remarks: dict[str, str] = {}
    columns: dict[str, list[Any]] = {}
    for name, cells in table.items():
        codes = about.missing_user_values.get(name, [])
        ranges = [(bounds["lo"], bounds["hi"]) for bounds in about.missing_ranges.get(name, [])]
        labels = {value: str(label) for value, label in about.variable_value_labels.get(name, {}).items()}
        values = (value for value in {*cells, *labels} if not _is_nothing(value))
        missing = {value for value in values if value in codes or any(_within(value, *ends) for ends in ranges)}
        present = [None if _is_nothing(cell) or cell in missing else cell for cell in cells]
        scores, remark = scored(present, {value: label for value, label in labels.items() if value not in missing})
        columns[str(name)] = [
            declared_missing(cell) if cell in missing else score for cell, score in zip(cells, scores, strict=True)
        ]
        declared = sum(cell in missing for cell in cells)
        notes = [remark] if remark else []
        notes += [f"declared missing: {count(declared, 'value')}"] if declared else []
        if notes:
            remarks[str(name)] = ", ".join(notes)
    rows = tuple(dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True))
    return Foreign(kind, tuple(columns), rows, remarks)


def _within(cell: Any, low: Any, high: Any) -> bool:
    return isinstance(cell, str if isinstance(low, str) else int | float) and low <= cell <= high


def _is_nothing(cell: Any) -> bool:
    return cell is None or cell == "" or bool(cell != cell)  # NaN


def _r(path: Path) -> Foreign:
    """Read a data frame that R saved by ``saveRDS``; factors become their levels."""
    (pyreadr,) = _libraries(path, "pyreadr")
    try:
        objects = pyreadr.read_r(str(path))
        (frame,) = objects.values()
    except Exception as error:  # librdata's own errors; an object that is not a data frame yields no frame
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
        fix = "if each line is a separate object, as in doccano's exports, rename it to .jsonl"
        raise InputError(f"{path}: not readable as JSON (line {error.lineno}: {error.msg}); {fix}") from None
    except (ValueError, RecursionError) as error:
        raise damaged(path, "JSON", error) from None
    if not isinstance(content, list) or not all(isinstance(row, dict) for row in content):
        raise InputError(f"{path}: expected a list of objects, one per text, found a {type(content).__name__}")
    if content and all({"data", "annotations"} <= set(row) for row in content):
        return _label_studio(content)
    if content and all({"annotation_id", "annotator"} <= set(row) for row in content):
        ids = [row.get("id") for row in content]
        if len(set(map(str, ids))) < len(ids):
            fix = "export them as JSON, which keeps annotators apart"
            raise InputError(f"{path}: Label Studio's JSON-MIN with several annotations of one task; {fix}")
        rows = [{key: _only_choice(cell) for key, cell in row.items()} for row in content]
        return _of_rows("Label Studio JSON-MIN", rows)
    return _of_rows("JSON", [doccano(row) for row in content])


def _of_rows(
    kind: str, rows: list[TableRow], remarks: Mapping[str, str] | None = None, notes: Iterable[str] = ()
) -> Foreign:
    columns = tuple(dict.fromkeys(name for row in rows for name in row))
    whole = tuple({name: row.get(name) for name in columns} for row in rows)
    return Foreign(kind, columns, whole, remarks or {}, tuple(notes))


def _only_choice(cell: Any) -> Any:
    """Return the only choice of a list of choices; a number written as text stays text."""
    if isinstance(cell, dict) and set(cell) == {"choices"}:
        cell = cell["choices"]
    if not isinstance(cell, list):
        return cell
    if len(cell) > 1:
        return Unusable(f"{len(cell)} labels instead of one")
    return cell[0] if cell else None


def _label_studio(tasks: Sequence[TableRow]) -> Foreign:
    """Return one row per task: its data, and for each question the answer, or the mean of the annotators' numbers.

    With several annotators, each annotator's answers are also a column, ``<question> by <annotator>``. A skipped or
    cancelled answer is missing, with that as its status.
    """
    sheets = [[_sheet(number, annotation) for number, annotation in enumerate(task["annotations"])] for task in tasks]
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
            row[question] = _combined(list(given.values() or absent.values()))
            if len(raters) > 1:
                row |= {f"{question} by {rater}": value for rater, value in (absent | given).items()}
        rows.append(row)
    mean = f"the mean of {len(raters)} annotators, whose individual answers are in the columns NAME by ANNOTATOR"
    remarks = dict.fromkeys(questions, mean) if len(raters) > 1 else {}
    cancelled = sum(status == CANCELLED for of_task in sheets for _, status, _ in of_task)
    notes = [f"cancelled annotations are left out: {cancelled}"] if cancelled else []
    return _of_rows("Label Studio", rows, remarks, notes)


def _sheet(number: int, annotation: TableRow) -> tuple[str, str, dict[str, Any]]:
    """Return the annotator of an annotation, the status of its missing answers, and its answers by question."""
    by = annotation.get("completed_by", number)
    rater, answers = str(by.get("id", number) if isinstance(by, dict) else by), dict[str, Any]()
    if annotation.get("was_cancelled") or annotation.get("skipped"):  # as older versions wrote it
        return rater, CANCELLED, answers
    for question, value in filter(None, map(_answer, annotation.get("result", []))):
        twice = Unusable(f"two answers of annotator {rater} to {names_shown([question])}")
        answers[question] = twice if question in answers else value
    return rater, SKIPPED, answers


def _answer(result: TableRow) -> tuple[str, Any] | None:
    """Return the question and answer of a result; None if it marks a part of the text."""
    kind, value = str(result.get("type")), result.get("value", {})
    if kind not in ("rating", "number", "choices", "textarea") or not isinstance(value, dict):
        return None
    return str(result.get("from_name")), _only_choice(value.get("text" if kind == "textarea" else kind))


def _combined(answers: Sequence[Any]) -> Any:
    """Combine several annotators' answers: the answer on which all agree, or the mean of numbers."""
    if len(set(map(str, answers))) <= 1:
        return answers[0] if answers else None
    if unusable := [answer for answer in answers if isinstance(answer, Unusable)]:
        return unusable[0]
    try:
        numbers = [float(answer) for answer in answers]
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
        reason = "doccano's database id of a label, which is not a score; export with the labels' texts"
        others = {key: cell for key, cell in row.items() if key != "annotations"}
        return others | {"label": Unusable(reason) if row["annotations"] else None}
    if isinstance(row.get("label"), list) and "id" in row and ({"text", "data"} & set(row)):
        return row | {"label": _only_choice(row["label"])}
    return row


def _dataset(path: Path) -> Foreign:
    """Read a folder that ``datasets`` saved, or one of Parquet files; ``split`` names each row's split if several."""
    splits: dict[str, Path] = {path.name: path}
    divided = (path / "dataset_dict.json").is_file()
    if not divided and not (path / "state.json").is_file():
        return _parquet_folder(path)
    tables: list[tuple[str, pa.Table]] = []
    features: dict[str, Any] = {}
    try:
        if divided:
            names = json.loads((path / "dataset_dict.json").read_text("utf-8"))["splits"]
            splits = {name: path / name for name in names}
        for name, folder in splits.items():
            state = json.loads((folder / "state.json").read_text("utf-8"))
            if state.get("_indices_data_files"):
                raise InputError(f"{folder}: rows are chosen by indices; call flatten_indices() before saving it")
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
"""The reader of each kind of file of other programs, by its ending."""
