"""A submission to a WASSA shared task: empathy and distress of every test text, in one ZIP file that is read back.

The task's scorer reads ``predictions_EMP.tsv`` from the archive: no header, one row per text in the order of the
published test file, tab-separated, empathy first and distress second. Its score is the mean of both Pearson
correlations.
"""

import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from invitro.data.newsemp import CONSTRUCTS, task_texts
from invitro.errors import InputError
from invitro.files import whole_or_absent
from invitro.models.folder import read_meaning
from invitro.settings import Count, checked
from invitro.stats import Floats
from invitro.writing.words import count

MEMBER = "predictions_EMP.tsv"
EPOCH = (1980, 1, 1, 0, 0, 0)
"""The time of the archive's file, so that equal predictions make equal archives."""
MOST_SHOWN = 10
"""How many rows are listed; the others are only counted."""


def write_archive(path: str | Path, values: Floats) -> None:
    """Write `values`, shape (texts, 2), as `MEMBER` in a ZIP file; equal values make equal bytes.

    Six decimals, uncompressed: the file is small, and compressed bytes would depend on the compressor's version.
    """
    lines = "".join("\t".join(f"{value:.6f}" for value in row) + "\n" for row in values.tolist())
    member = zipfile.ZipInfo(MEMBER, EPOCH)
    member.create_system, member.external_attr = 3, 0o644 << 16
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(member, lines.encode())


def read_submission(path: str | Path, rows: int) -> Floats:
    """Read a submission back, shape (rows, 2): empathy and distress.

    Raises:
        InputError: it does not contain two finite numbers, separated by a tab, for each of `rows` texts.
    """
    try:
        with zipfile.ZipFile(path) as archive, archive.open(MEMBER) as lines:
            values = np.loadtxt(lines, dtype=np.float64, comments=None, delimiter="\t", ndmin=2)
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: expected a ZIP file with numbers in {MEMBER} ({error})") from error
    if values.shape != (rows, len(CONSTRUCTS)) or not np.isfinite(values).all():
        raise InputError(
            f"{path}: {MEMBER}: expected finite numbers in {rows} rows and {len(CONSTRUCTS)} columns, found a table of "
            f"{' x '.join(map(str, values.shape))}"
        )
    return values


KEYS = {"empathy": "model", "distress": "distress_model"}


@checked("")
@dataclass(frozen=True)
class Submission:
    """The settings of a submission.

    Args:
        submission: the ZIP file to write.
        corpus: a key of `invitro.data.newsemp.TASKS`.
        folder: the data folder.
        model: the folder ``model/`` of a run that was trained on empathy; None if there is none.
        distress_model: the same for a run that was trained on distress.
        missing: what to do about a column without a model, or a blank text: ``refuse`` it, or fill in a ``constant``.
        clip: whether scores outside the scale are moved to its bounds.
        batch_size: texts per forward pass, at least 1.
        device: ``auto``, or a torch device.
        force: whether the file may be replaced.

    Raises:
        InputError: naming every problem, before a model loads.
    """

    submission: str
    corpus: str | None
    folder: str | Path | None = None
    model: str | None = None
    distress_model: str | None = None
    missing: Literal["refuse", "constant"] = "refuse"
    clip: bool = False
    batch_size: Count = 32
    device: str = "auto"
    force: bool = False

    @property
    def models(self) -> dict[str, str]:
        """The folder of each construct's model, if there is one."""
        folders = {"empathy": self.model, "distress": self.distress_model}
        return {name: folder for name, folder in folders.items() if folder is not None}

    def contradictions(self) -> Iterator[str]:
        """Yield what is wrong with the files."""
        path = Path(self.submission)
        if path.suffix.lower() != ".zip":
            yield f"submission={path}: expected a file ending in .zip, such as predictions.zip"
        elif path.exists() and not self.force:
            yield f"submission={path}: already exists; choose another name, or replace it with force=true"
        if self.corpus is None:
            yield "data: expected the corpus whose test set is scored, as in data=newsemp22, found none"
        if not self.models:
            yield "model and distress_model: expected at least one of them, found none"
        elif self.missing == "refuse":
            for name in CONSTRUCTS:
                if name not in self.models:
                    yield (
                        f"{KEYS[name]}: expected a model of {name}, found none; the column would have no prediction. "
                        "To submit anyway, with a constant that counts as a correlation of 0, set missing=constant"
                    )
        for name, folder in self.models.items():
            yield from _model_problems(name, folder)


def _model_problems(name: str, folder: str) -> list[str]:
    """Return what is wrong with the model of a column: it is not a model, or it scores another construct."""
    try:
        construct = read_meaning(folder)["scale"]["construct"]
    except InputError as error:
        return [problem.replace("model=", f"{KEYS[name]}=") for problem in error.problems]
    if construct == name:
        return []
    fix = f"; it belongs to {KEYS[construct]}=" if construct in KEYS else ""
    return [f"{KEYS[name]}={folder}: expected a model of {name}, found one of {construct}{fix}"]


@dataclass(frozen=True)
class Submitted:
    """What was written: rows, the file that sets their order, and warnings about values that are not predictions."""

    path: Path
    rows: int
    order: Path
    outside: int
    warnings: tuple[str, ...]

    def __str__(self) -> str:
        """Return the summary for the terminal."""
        lines = [f"{count(self.rows, 'row')} of {' and '.join(CONSTRUCTS)}, in the order of {self.order}"]
        if self.outside:
            lines.append(f"{self.outside} scores are outside the scale (clip=true moves them to its bounds)")
        return "\n".join(lines)


def submit(job: Submission) -> Submitted:
    """Score the test set and write the archive, complete or not at all.

    Raises:
        InputError: the test file is missing, a text is blank and `missing` refuses it, or a score is not finite.
    """
    assert job.corpus is not None
    tests = task_texts(job.corpus, job.folder)
    blank = [row for row, text in enumerate(tests.texts) if not text]
    if blank and job.missing == "refuse":
        raise InputError(
            f"{tests.path}: {_rows(blank)} without a text, so there is no prediction; to fill in the mean of "
            f"the other scores, set missing=constant"
        )
    columns = [
        _predicted(name, job, tests.texts, blank) if name in job.models else _constant(name, job, len(tests.texts))
        for name in CONSTRUCTS
    ]
    with whole_or_absent(job.submission) as temporary:
        write_archive(temporary, np.stack([column.values for column in columns], axis=1))
        read_submission(temporary, len(tests.texts))
    outside = sum(column.outside for column in columns)
    warnings = tuple(warning for column in columns for warning in column.warnings)
    return Submitted(Path(job.submission), len(tests.texts), tests.path, outside, warnings)


class _Column(NamedTuple):
    """A column, warnings about values that are not predictions, and how many scores are outside the scale."""

    values: Floats
    warnings: Sequence[str] = ()
    outside: int = 0


def _constant(name: str, job: Submission, rows: int) -> _Column:
    """Fill a column that has no model with the middle of the other's scale."""
    (other,) = job.models.values()
    scale = read_meaning(other)
    value = (scale["minimum"] + scale["maximum"]) / 2
    warning = (
        f"The column {name} holds {value:g} in all {rows} rows. It is NOT A PREDICTION: no model of {name} was given "
        f"({KEYS[name]}=), and its correlation counts as 0."
    )
    return _Column(np.full(rows, value), [warning])


def _predicted(name: str, job: Submission, texts: Sequence[str], blank: Sequence[int]) -> _Column:
    """Score the texts in their order; blank ones get the mean of the others."""
    from invitro.models.scoring import device_of, load_scorer, remarks

    scorer = load_scorer(job.models[name], device_of(job.device))
    filled = [row for row, text in enumerate(texts) if text]
    try:
        predicted, *doubtful = scorer.read([texts[row] for row in filled], job.batch_size)
    except InputError as error:
        raise InputError(f"{KEYS[name]}={job.models[name]}: {error}") from error
    scores = np.asarray(predicted.score, dtype=np.float64)
    low, high = scorer.scale.minimum, scorer.scale.maximum
    scores = scores.clip(low, high) if job.clip else scores
    middle = float(scores.mean()) if len(scores) else (low + high) / 2
    values = np.full(len(texts), middle)
    values[filled] = scores
    numbers = [[filled[index] + 1 for index in np.flatnonzero(flags)] for flags in doubtful]
    warnings = [f"The column {name}: {line}" for line in remarks(numbers)]
    if blank:
        warnings.append(
            f"The column {name} holds {middle:.3f} for {_rows(blank)} without a text: it is NOT A PREDICTION."
        )
    if len(scores) > 1 and np.ptp(scores) == 0:
        warnings.append(
            f"The column {name} holds the same number in all rows: {KEYS[name]} does not distinguish texts."
        )
    return _Column(values, warnings, int(((scores < low) | (scores > high)).sum()))


def _rows(rows: Sequence[int]) -> str:
    """Return the number of data rows and list the first few, counted from 1."""
    shown = ", ".join(str(row + 1) for row in rows[:MOST_SHOWN]) + (", ..." if len(rows) > MOST_SHOWN else "")
    return f"{len(rows)} row{'s' * (len(rows) > 1)} ({shown})"
