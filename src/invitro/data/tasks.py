"""The test sets of the WASSA shared tasks, row by row: the texts in the file's order, blank ones kept."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from invitro.data import newsemp22, newsemp23, newsemp24, wassa
from invitro.data.reader import DataFolder
from invitro.errors import InputError
from invitro.files import read_table, require_columns


@dataclass(frozen=True)
class TaskFile:
    """Where a test set lies: its file, its column of texts, the year of the task, how its CSV is written."""

    file: str
    text: str
    year: int
    dialect: Mapping[str, str] = field(default_factory=dict)


TASKS = {
    "newsemp22": TaskFile(newsemp22.FILES[3], newsemp22.LAYOUT.text, 2022),
    "newsemp23": TaskFile(newsemp23.FILES[3], newsemp23.LAYOUT.text, 2023),
    "newsemp24": TaskFile(newsemp24.FILES["test"], newsemp24.LAYOUT.text, 2024, newsemp24.DIALECT),
}
"""By corpus. The test sets of 2022 and 2023 have no labels; that of 2024 is published with them."""


@dataclass(frozen=True)
class TaskTexts:
    """The texts of a test set, one a row of `path`, in its order; a blank text is an empty one."""

    path: Path
    texts: tuple[str, ...]


def task_texts(corpus: str, folder: str | Path | None = None) -> TaskTexts:
    """Read the test set of `corpus`, a key of `TASKS`; `folder` is the data folder, see `DataFolder`.

    Raises:
        InputError: the corpus has no test set of a shared task, its file is missing, or has no texts.
    """
    if corpus not in TASKS:
        raise InputError(
            f"data={corpus}: is no corpus of a WASSA shared task; a submission is for one of {', '.join(TASKS)}"
        )
    about = TASKS[corpus]
    path = DataFolder(folder).need(corpus, about.file, wassa.obtain(about.year))
    raw = read_table(path, **about.dialect)
    require_columns(raw, [about.text], path)
    if raw.empty:
        raise InputError(f"{path}: expected texts, found a header only")
    return TaskTexts(path, tuple(raw[about.text].fillna("").astype("str").str.strip()))
