"""Files in and out: tables by suffix, columns that must be there, writes that are whole or absent."""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import pandas as pd

from invitro.errors import InputError

SUFFIXES = (".csv", ".tsv", ".parquet", ".jsonl")
BLANK = ("", "unknown", "nan", "na", "n/a", "none")
"""How files write a missing number, in lower case."""


def suffix_of(path: Path) -> str:
    """Return the table suffix of `path`, one of `SUFFIXES`; anything else is refused."""
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        found = repr(suffix) if suffix else "no ending"
        raise InputError(f"{path}: expected a table file ending in {', '.join(SUFFIXES)}; found {found}")
    return suffix


def read_table(path: str | Path, **csv_options: Any) -> pd.DataFrame:
    """Read a table with all columns as text, so that ids such as ``007`` survive; missing cells are NA.

    CSV and TSV are UTF-8 with a header unless `csv_options` (those of `pandas.read_csv`) say otherwise.

    Raises:
        InputError: the file is missing, empty, of an unknown kind or not readable as what its suffix says.
    """
    path = Path(path)
    suffix = suffix_of(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file (looked in {path.parent.resolve()})")
    try:
        if suffix == ".parquet":
            frame = pd.read_parquet(path)
            # A named index is a column that pandas kept aside when the file was written; an unnamed one is row numbers.
            frame = frame.reset_index(drop=frame.index.names == [None])
        elif suffix == ".jsonl":
            frame = _read_jsonl(path)
        else:
            separator = "\t" if suffix == ".tsv" else ","
            options: dict[str, Any] = {"sep": separator, "dtype": str, "keep_default_na": False, "na_values": [""]}
            frame = pd.DataFrame(pd.read_csv(path, encoding="utf-8", **(options | csv_options)))
    except InputError:
        raise
    except (ValueError, OSError) as error:  # parser, Unicode and Arrow errors are ValueErrors
        raise InputError(f"{path}: not readable as a {suffix[1:].upper()} table: {str(error).strip()}") from error
    if not isinstance(frame.index, pd.RangeIndex):  # pandas takes surplus cells for an index and shifts all columns
        found = frame.shape[1] + frame.index.nlevels
        raise InputError(
            f"{path}: expected {frame.shape[1]} cells in a row, as in the header, found {found} in data row 1; "
            "check the separator, and put cells that contain it in quotes"
        )
    return frame if csv_options.get("header", 0) is None else _as_text(frame)


def _read_jsonl(path: Path) -> pd.DataFrame:
    """Read one JSON object a line; blank lines are skipped."""
    rows = []
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise InputError(
                    f"{path}: line {number}: expected a JSON object, found {line.strip()[:40]!r} ({error.msg})"
                ) from error
            if not isinstance(row, dict):
                raise InputError(f"{path}: line {number}: expected a JSON object, found {line.strip()[:40]!r}")
            rows.append(row)
    return pd.DataFrame(rows, dtype=object)  # or a missing value would round long integers in its column


def _as_text(frame: pd.DataFrame) -> pd.DataFrame:
    """Turn numbers into text as a person would write them, and empty cells into NA."""

    def text(value: Any) -> str | None:
        if pd.api.types.is_scalar(value) and (pd.isna(value) or value == ""):
            return None
        if isinstance(value, float) and value.is_integer():
            return str(int(value))
        return str(value)

    columns = {
        str(name): pd.Series([text(value) for value in column], index=frame.index, dtype="str")
        for name, column in frame.items()
    }
    return pd.DataFrame(columns, index=frame.index)


def require_columns(frame: pd.DataFrame, columns: Iterable[str], source: str | Path, mend: str = "") -> None:
    """Refuse `frame` when any of `columns` is missing, naming all that are and what there is instead."""
    missing = [name for name in columns if name not in frame.columns]
    if missing:
        found = ", ".join(map(str, frame.columns)) or "none"
        if len(frame.columns) == 1 and ";" in found:
            mend = "The columns seem to be separated by semicolons; save the file with commas, or tabs as .tsv"
        raise InputError(
            f"{source}: expected column{'s' * (len(missing) > 1)} {', '.join(missing)}; found {found}"
            + (f". {mend}" if mend else "")
        )


def numbers(column: "pd.Series[Any]", source: str | Path) -> "pd.Series[float]":
    """Read a column of text as float64, blanks and ``unknown`` as NaN; anything else is refused with its row."""
    text = column.astype("str").str.strip()
    blank = column.isna() | text.str.lower().isin(BLANK)
    values = pd.to_numeric(text.mask(blank), errors="coerce").astype("float64")
    wrong = values.isna() & ~blank
    if wrong.any():
        position = int(wrong.to_numpy().argmax())
        raise InputError(
            f"{source}: data row {position + 1}, column {column.name}: expected a number, found {text.iloc[position]!r}"
            + (f" (and {int(wrong.sum()) - 1} more rows)" if wrong.sum() > 1 else "")
        )
    return values


@contextmanager
def whole_or_absent(path: str | Path) -> Iterator[Path]:
    """Give a temporary path beside `path` and rename it to `path` at the end; an exception leaves nothing behind."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix, delete=False) as handle:
        temporary = Path(handle.name)
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write `text` as UTF-8, whole or not at all."""
    with whole_or_absent(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` as indented JSON, whole or not at all; NaN is refused, since JSON has none."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def sha256(path: str | Path) -> str:
    """Return the SHA-256 of a file's bytes, in hex; a file that has not changed is read once a process."""
    found = Path(path).stat()
    return _sha256(Path(path).absolute(), found.st_mtime_ns, found.st_size, found.st_ino)


@lru_cache(maxsize=256)
def _sha256(path: Path, *version: int) -> str:
    """Hash a file, as long as its time, size and inode are the same."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _umask() -> int:
    """Return the process's umask (which can only be read by setting it)."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
