"""The file of a submission to a WASSA shared task: written, checked row by row, and read back."""

import io
import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from invitro.errors import refuse_if_any

MEMBER = "predictions_EMP.tsv"
COLUMNS = ("empathy", "distress")
EPOCH = (1980, 1, 1, 0, 0, 0)
"""The time of the archive's file, so that equal predictions make equal archives."""
SHOWN = 10
"""Rows, and faults, that are named; the others are counted."""
Floats = npt.NDArray[np.float64]


def write_archive(path: str | Path, values: Floats) -> None:
    """Write `values`, shape (texts, 2), as `MEMBER` in a ZIP file; equal values make equal bytes.

    Six decimals, uncompressed: a compressor's version would change the bytes, and the file is small.
    """
    lines = "".join("\t".join(f"{value:.6f}" for value in row) + "\n" for row in values.tolist())
    member = zipfile.ZipInfo(MEMBER, EPOCH)
    member.create_system, member.external_attr = 3, 0o644 << 16
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(member, lines.encode())


def read_submission(path: str | Path, rows: int) -> Floats:
    """Read a submission back, shape (rows, 2): empathy and distress.

    Raises:
        InputError: with `submission_problems`, if there are any.
    """
    refuse_if_any(submission_problems(path, rows))
    with zipfile.ZipFile(path) as archive:
        lines = archive.read(MEMBER).decode("utf-8").splitlines()
    return np.array([[float(cell) for cell in line.split("\t")] for line in lines], dtype=np.float64)


def submission_problems(path: str | Path, rows: int) -> list[str]:
    """Return what makes a file no valid submission for a test set of so many `rows`; nothing where it is one."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if names.count(MEMBER) != 1:
                return [f"{path}: expected {MEMBER} at its top, once; found {', '.join(names) or 'an empty archive'}"]
            content = archive.read(MEMBER)
    except FileNotFoundError:
        return [f"{path}: no such file"]
    except (zipfile.BadZipFile, OSError) as error:
        return [f"{path}: not readable as a ZIP file ({error})"]
    try:
        lines = io.StringIO(content.decode("utf-8"), newline=None).read().split("\n")
    except UnicodeDecodeError as error:
        return [f"{path}: {MEMBER}: expected UTF-8 ({error})"]
    lines = lines[:-1] if lines[-1] == "" else lines
    problems = [f"{path}: {MEMBER}, row {row}{told}" for row, line in enumerate(lines, 1) for told in _faults(line)]
    more = [f"{path}: and {len(problems) - SHOWN} more faults"] if len(problems) > SHOWN else []
    count = f"{path}: {MEMBER}: expected {rows} rows, one a text and no header, found {len(lines)}"
    return [*([count] if len(lines) != rows else []), *problems[:SHOWN], *more]


def _faults(line: str) -> list[str]:
    """Say what is wrong with a row."""
    cells: list[Any] = line.split("\t")
    if len(cells) != len(COLUMNS):
        return [f": expected {len(COLUMNS)} cells ({', '.join(COLUMNS)}) with a tab between, found {len(cells)}"]
    return [
        f", column {name}: expected a finite number, found {cell!r}"
        for name, cell in zip(COLUMNS, cells, strict=True)
        if not _is_finite(cell)
    ]


def _is_finite(cell: str) -> bool:
    try:
        return math.isfinite(float(cell))
    except ValueError:
        return False
