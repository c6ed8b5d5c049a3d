"""Scoring texts with a trained model."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import torch
from tqdm import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from invitro.errors import InputError, not_boolean, refuse_if_any
from invitro.files import SUFFIXES, columns_of, read_rows, write_rows
from invitro.models.folder import KIND, load_model, read_meaning
from invitro.models.linear import read_linear
from invitro.models.loading import Loaded
from invitro.models.outputs import Floats, Outputs, Score, Scored, outputs_from
from invitro.models.tokens import length_batches, pad, tokenise


def score_texts(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    batch_size: int = 32,
    outputs: Outputs | None = None,
) -> Floats:
    """Return the scores that `scored_texts` gives, without their uncertainty: (texts,), float64."""
    return scored_texts(model, tokenizer, texts, batch_size, outputs).score


def scored_texts(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    batch_size: int = 32,
    outputs: Outputs | None = None,
) -> Scored:
    """Score texts in batches of similar length, on the model's device.

    Args:
        model: a regressor.
        tokenizer: its tokenizer.
        texts: the texts; longer ones than the model takes are cut.
        batch_size: texts a forward pass.
        outputs: what the model's outputs mean; None is one output, the score.

    Returns:
        Scores in the order of `texts` and in the units of the training labels.
    """
    outputs = outputs or Score()
    found = np.empty((2, len(texts)), dtype=np.float64)
    has_sd = len(outputs.names) > 1
    ids = tokenise(tokenizer, texts).ids
    was_training = model.training
    model.eval()
    with torch.inference_mode():
        for rows in length_batches([len(row) for row in ids], batch_size):
            batch = {name: value.to(model.device) for name, value in pad(tokenizer, [ids[row] for row in rows]).items()}
            read = outputs.read(model(**batch).logits.float())
            found[0, rows] = read.score.double().cpu().numpy()
            if read.sd is not None:
                found[1, rows] = read.sd.double().cpu().numpy()
    model.train(was_training)
    return Scored(found[0], found[1] if has_sd else None)


class Scorer(Protocol):
    """Scores texts."""

    def score(self, texts: Sequence[str], batch_size: int = 32) -> Scored:
        """Score texts in their order, in the scale's units."""


@dataclass(frozen=True)
class EncoderScorer:
    """A fine-tuned encoder and what its outputs mean."""

    loaded: Loaded
    outputs: Outputs

    def score(self, texts: Sequence[str], batch_size: int = 32) -> Scored:
        """Score texts in their order, in the scale's units."""
        return scored_texts(*self.loaded, texts, batch_size, self.outputs)


def load_scorer(folder: str | Path, device: str | torch.device = "cpu") -> tuple[Scorer, dict[str, Any], Outputs]:
    """Load the model in `folder`, what ``scale.json`` says, and what the outputs mean.

    Raises:
        InputError: the folder is missing, or is not one of a trained model.
    """
    meaning = read_meaning(folder)
    outputs = outputs_from(meaning)
    if meaning.get("model", KIND) != KIND:
        return read_linear(Path(folder), meaning, torch.device(device)), meaning, outputs
    loaded, meaning = load_model(folder, device)
    return EncoderScorer(loaded, outputs), meaning, outputs


@dataclass(frozen=True)
class Prediction:
    """What is scored, and how.

    Args:
        model: the folder ``model/`` of a run.
        input: a CSV, TSV, Parquet or JSONL file.
        output: the file to write, of any of these kinds.
        text: the column of the texts.
        score: the column to add; None is the construct's name, such as ``empathy``. Where the model predicts how far
            labels scatter, that standard deviation stands in a second one, such as ``empathy_sd``.
        clip: whether scores outside the scale are moved to its bounds.
        batch_size: texts a forward pass.
        chunk: rows in memory at a time.
        device: ``auto``, or a torch device.
        force: whether `output` may be replaced.

    Raises:
        InputError: naming everything that is wrong, before the model loads.
    """

    model: str
    input: str
    output: str
    text: str = "text"
    score: str | None = None
    clip: bool = False
    batch_size: int = 32
    chunk: int = 4096
    device: str = "auto"
    force: bool = False

    def __post_init__(self) -> None:
        problems = not_boolean(clip=self.clip, force=self.force)
        problems += [
            f"{name}: expected a whole number of at least 1, found {value!r}"
            for name, value in (("batch_size", self.batch_size), ("chunk", self.chunk))
            if not isinstance(value, int) or value < 1
        ]
        if Path(self.output).suffix.lower() not in SUFFIXES:
            problems.append(f"output={self.output}: expected a file ending in {', '.join(SUFFIXES)}")
        if Path(self.output).exists() and not self.force:
            problems.append(f"output={self.output}: exists already; choose another name, or replace it by force=true")
        if Path(self.output).resolve() == Path(self.input).resolve():
            problems.append(f"output={self.output} is the input; choose another name")
        if not Path(self.model).is_dir():
            problems.append(f"model={self.model}: no such folder; expected the folder model/ of a run directory")
        try:
            columns = columns_of(self.input)
        except InputError as error:
            problems += error.problems
        else:
            if self.text not in columns:
                found = ", ".join(columns) or "none"
                problems.append(
                    f"{self.input}: expected a column {self.text} with the texts; found {found}. Use text=COLUMN"
                )
            if self.score in columns:
                problems.append(f"{self.input}: has a column {self.score} already; choose another by score=COLUMN")
        refuse_if_any(problems)


@dataclass
class Summary:
    """What came out: rows, the numbers of those without a text (from 1), scores outside the scale, seconds."""

    rows: int = 0
    without_text: list[int] = field(default_factory=list)
    outside: int = 0
    clipped: bool = False
    seconds: float = 0.0

    def __str__(self) -> str:
        """Return the summary for the terminal."""
        lines = [f"{self.rows - len(self.without_text)} of {self.rows} rows scored in {self.seconds:.1f} s"]
        if self.without_text:
            shown = ", ".join(map(str, self.without_text[:10])) + (", ..." if len(self.without_text) > 10 else "")
            lines.append(f"{len(self.without_text)} rows have no text and an empty score: data rows {shown}")
        if self.outside:
            what = "were clipped to it" if self.clipped else "were kept (clip=true moves them to the bounds)"
            lines.append(f"{self.outside} scores lie outside the scale and {what}")
        return "\n".join(lines)


def predict(job: Prediction) -> Summary:
    """Score `job.input` into `job.output`, piece by piece; nothing is left behind when it fails on the way."""
    device = device_of(job.device)
    scorer, meaning, outputs = load_scorer(job.model, device)
    score = job.score or meaning["scale"]["construct"]
    names = [score, f"{score}_sd"] if len(outputs.names) > 1 else [score]
    for name in names:
        if name in columns_of(job.input):
            raise InputError(f"{job.input}: has a column {name} already; choose another by score=COLUMN")
    low, high = meaning["minimum"], meaning["maximum"]
    summary, started = Summary(clipped=job.clip), time.perf_counter()
    added = dict.fromkeys(names, pa.float64())
    with write_rows(job.output, added, like=job.input) as writer, tqdm(unit=" rows") as progress:
        for rows in read_rows(job.input, job.chunk):
            texts = [_text(row.get(job.text), job, summary.rows + index + 1) for index, row in enumerate(rows)]
            filled = [index for index, text in enumerate(texts) if text.strip()]
            values, sd = scorer.score([texts[index] for index in filled], job.batch_size)
            summary.outside += int(((values < low) | (values > high)).sum())
            columns = [values.clip(low, high) if job.clip else values, *([] if sd is None else [sd])]
            found = dict(zip(filled, zip(*(column.tolist() for column in columns), strict=True), strict=True))
            summary.without_text += [summary.rows + index + 1 for index in range(len(rows)) if index not in found]
            summary.rows += len(rows)
            empty = (None,) * len(names)
            for index, row in enumerate(rows):
                row |= zip(names, found.get(index, empty), strict=True)
            writer.write(rows)
            progress.update(len(rows))
    summary.seconds = time.perf_counter() - started
    return summary


def _text(value: object, job: Prediction, row: int) -> str:
    """Return a cell as text: nothing is empty, a number is written as people would; anything else is refused."""
    if value is None:
        return ""
    if isinstance(value, (str, int, float)):
        return str(value)
    raise InputError(
        f"{job.input}: data row {row}, column {job.text}: expected a text, found {type(value).__name__}; "
        "name the column of the texts by text=COLUMN"
    )


def device_of(wanted: str) -> torch.device:
    """Return the device to score on; one that is not there is refused."""
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(wanted)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(
            f"device={wanted}: not available here ({str(error).splitlines()[0]}); use auto or cpu"
        ) from error
    return device
