"""Scoring texts with a trained model: from a model folder to scores."""

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from invitro.data.corpus import is_blank
from invitro.data.facts import NO_LETTERS, script_of
from invitro.errors import InputError, meant, names_shown, refuse_if_any
from invitro.files import write_rows
from invitro.formats import TableRow, Unusable
from invitro.models.encoder import Loaded, Tokenised, length_batches, pad, tokenise
from invitro.models.folder import (
    COPY_AGAIN,
    ENCODER_KIND,
    load_model,
    read_hashes,
    read_meaning,
    scale_of,
    text_hashes,
)
from invitro.models.outputs import Outputs, Predictions, Score, outputs_from
from invitro.scales import Scale
from invitro.settings import Count, checked
from invitro.stats import Bools, Floats, Ints
from invitro.tables import SUFFIXES, columns_of, read_rows, text_of
from invitro.writing.words import Progress, count, shortened

if TYPE_CHECKING:
    from invitro.models.closed_form import FrozenRegression, LinearModel


def score_texts(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    batch_size: int = 32,
) -> Predictions:
    """Score texts in batches of similar length, on the model's device.

    Args:
        model: a regressor with one output.
        tokenizer: its tokenizer.
        texts: the texts; those longer than the model accepts are cut.
        batch_size: texts per forward pass.

    Returns:
        Scores in the order of `texts` and in the units of the training labels.
    """
    return score_tokens(model, tokenizer, tokenise(tokenizer, texts), batch_size, Score())


def score_tokens(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, tokens: Tokenised, batch_size: int, outputs: Outputs
) -> Predictions:
    """Score texts that are already tokenised, see `score_texts`."""
    score, sd = np.empty((2, len(tokens.ids)), dtype=np.float64)
    was_training = model.training
    model.eval()
    with torch.inference_mode():
        for rows in length_batches([len(ids) for ids in tokens.ids], batch_size):
            batch = pad(tokenizer, [tokens.ids[row] for row in rows])
            batch = {name: value.to(model.device) for name, value in batch.items()}
            read = outputs.read(model(**batch).logits.float())
            score[rows] = read.score.cpu().double().numpy()
            if read.sd is not None:
                sd[rows] = read.sd.cpu().double().numpy()
    model.train(was_training)
    return Predictions(score, sd if len(outputs.names) > 1 else None)


LEAST_KNOWN, RARE = 0.2, 0.01
"""Least known share of a text that a model can read, and share of training texts below which a script is rare."""


class Read(NamedTuple):
    """Scores of texts, and which of them say little about how well the model measures; all (texts,).

    Args:
        predictions: the scores.
        cut: longer than the model reads.
        unknown: less than `LEAST_KNOWN` of the text consists of words or tokens of its vocabulary.
        foreign: in a script of which it saw few training texts, if any.
        learnt: among its training texts, so that the scores are fitted to their labels.
    """

    predictions: Predictions
    cut: Bools
    unknown: Bools
    foreign: Bools
    learnt: Bools


@dataclass(frozen=True)
class Scorer:
    """A trained model of any kind.

    Args:
        model: a fine-tuned encoder with its tokenizer, a regression on a frozen one, or a linear model.
        scale: what it scores.
        outputs: what its outputs mean.
        scripts: number of its training texts by script; empty for folders of older versions.
        trained_on: `text_hashes` of its training texts; empty for folders of older versions.
    """

    model: "Loaded | FrozenRegression | LinearModel"
    scale: Scale
    outputs: Outputs
    scripts: Mapping[str, int] = field(default_factory=dict)
    trained_on: Ints = field(default_factory=lambda: np.empty(0, dtype=np.int64), repr=False)

    def score(self, texts: Sequence[str], batch_size: int = 32) -> Predictions:
        """Score texts in their order, in the scale's units; scores can be slightly outside the scale.

        Raises:
            InputError: a score is not finite.
        """
        return self.read(texts, batch_size).predictions

    def read(self, texts: Sequence[str], batch_size: int = 32) -> Read:
        """Score texts, see `score`, and say which of them the model cannot read well or was trained on."""
        predicted, cut, known_share = self._scored(texts, batch_size)
        wrong = int((~np.isfinite(predicted.score)).sum())
        if wrong:
            raise InputError(
                f"{wrong} of {len(texts)} scores are not finite: the model's weights are damaged; {COPY_AGAIN}"
            )
        usual = {script for script, number in self.scripts.items() if number >= RARE * sum(self.scripts.values())}
        foreign = [bool(usual) and script_of(text) not in {*usual, NO_LETTERS} for text in texts]
        learnt = np.isin(text_hashes(texts), self.trained_on)
        return Read(predicted, cut, known_share < LEAST_KNOWN, np.array(foreign, dtype=np.bool_), learnt)

    def _scored(self, texts: Sequence[str], batch_size: int) -> tuple[Predictions, Bools, Floats]:
        """Return scores, which texts were cut, and the share of each text's tokens that the model knows."""
        if isinstance(self.model, Loaded):
            model, tokenizer = self.model
            tokens, cut = tokenise(tokenizer, texts), np.zeros(len(texts), dtype=np.bool_)
            cut[tokens.cut] = True
            return score_tokens(model, tokenizer, tokens, batch_size, self.outputs), cut, tokens.known
        return self.model.read(texts, batch_size)


def load_scorer(folder: str | Path, device: str | torch.device = "cpu") -> Scorer:
    """Load the model in `folder`, the folder ``model/`` of a run.

    Raises:
        InputError: the folder is missing, or does not contain a trained model.
    """
    meaning = read_meaning(folder)
    try:
        return _loaded(folder, meaning, device)
    except (InputError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # libraries raise anything for a damaged file, tokenizers even a plain Exception
        problem = f"cannot be loaded ({type(error).__name__}); is it damaged?"
        raise InputError(f"model={folder}: {problem} {COPY_AGAIN}") from error


def _loaded(folder: str | Path, meaning: dict[str, Any], device: str | torch.device) -> Scorer:
    scale, outputs = scale_of(meaning["scale"]), outputs_from(meaning)
    kind = meaning.get("model", ENCODER_KIND)
    training_texts = meaning.get("scripts", {}), read_hashes(folder)
    if kind == ENCODER_KIND:
        return Scorer(load_model(folder, device), scale, outputs, *training_texts)
    from invitro.models import closed_form

    loaders: dict[str, Callable[..., closed_form.FrozenRegression | closed_form.LinearModel]] = {
        closed_form.KIND: closed_form.load_frozen,
        closed_form.TFIDF_KIND: closed_form.load_linear,
        closed_form.RIDGE_KIND: closed_form.load_linear,
    }
    if kind not in loaders:
        raise InputError(
            f"model={folder}: scale.json: model: expected one of {', '.join((ENCODER_KIND, *loaders))}, found "
            f"{kind!r}; score with the version of invitro that wrote the model, or a newer one"
        )
    return Scorer(loaders[kind](Path(folder), meaning, torch.device(device)), scale, outputs, *training_texts)


@checked("")
@dataclass(frozen=True)
class ScoringJob:
    """Settings of scoring a file.

    Args:
        model: the folder ``model/`` of a run.
        input: any table file that `invitro.tables` reads.
        output: the file to write: CSV, TSV, Parquet or JSONL.
        text: the column of the texts.
        score: the column to add; None is the construct's name, such as ``empathy``. If the model predicts the
            standard deviation of labels, this is a second column, such as ``empathy_sd``.
        clip: whether scores outside the scale are moved to its bounds.
        batch_size: texts per forward pass, at least 1.
        chunk: rows in memory at a time, at least 1.
        device: ``auto``, or a torch device.
        force: whether `output` may be replaced.
        escape_formulas: whether CSV and TSV cells that begin like a formula are prefixed with an apostrophe.
        encoding: of a CSV, TSV or JSONL input that is not UTF-8 and has no byte order mark, such as ``cp1252``.

    Raises:
        InputError: naming every problem, before the model loads.
    """

    model: str
    input: str
    output: str
    text: str = "text"
    score: str | None = None
    clip: bool = False
    batch_size: Count = 32
    chunk: Count = 4096
    device: str = "auto"
    force: bool = False
    escape_formulas: bool = False
    encoding: str | None = None

    def contradictions(self) -> Iterator[str]:
        """Yield what is wrong with the files."""
        output = Path(self.output)
        if output.suffix.lower() not in SUFFIXES:
            yield f"output={output}: expected a file ending in {', '.join(SUFFIXES)}"
        if output.exists() and not self.force:
            yield f"output={output}: already exists; choose another name, or replace it with force=true"
        if output.resolve() == Path(self.input).resolve():
            yield f"output={output} is the input; choose another name"
        if not Path(self.model).is_dir():
            yield f"model={self.model}: no such folder; expected the folder model/ of a run directory"
        try:
            columns = columns_of(self.input, self.encoding)
        except InputError as error:
            yield from error.problems
            return
        if self.text not in columns:
            names = f"{names_shown(columns)}{meant([self.text], columns)}"
            yield f"{self.input}: expected a column {self.text} with the texts; found {names}. Use text=COLUMN"
        if self.score in columns:
            yield f"{self.input}: already has a column {self.score}; choose another with score=COLUMN"

    def rows(self) -> Iterator[tuple[list[TableRow], list[str]]]:
        """Yield the rows of the input, `chunk` at a time, and their texts; a missing text is empty.

        Raises:
            InputError: see `read_rows`; or a text is a list, an object, true, false or a value that cannot be written.
        """
        number = 0
        for rows in read_rows(self.input, self.chunk, encoding=self.encoding):
            texts = []
            for row in rows:
                number += 1
                try:
                    texts.append(text_of(row.get(self.text)) or "")
                except InputError as error:
                    raise InputError(f"{self.input}: data row {number}, column {self.text}: {error}") from None
            usable = [{key: None if isinstance(cell, Unusable) else cell for key, cell in row.items()} for row in rows]
            yield usable, texts


@dataclass
class ScoredFile:
    """The result of scoring a file.

    Args:
        rows: number of rows.
        without_text: data rows without a text, counted from 1.
        cut: data rows of texts that are too long, see `Read`.
        unknown: data rows of texts with few known words, see `Read`.
        foreign: data rows of texts in a rare script, see `Read`.
        learnt: data rows of texts that the model was trained on.
        outside: number of scores outside the scale.
        clipped: whether these were moved to the bounds.
        seconds: duration of the scoring.
    """

    rows: int = 0
    without_text: list[int] = field(default_factory=list)
    cut: list[int] = field(default_factory=list)
    unknown: list[int] = field(default_factory=list)
    foreign: list[int] = field(default_factory=list)
    learnt: list[int] = field(default_factory=list)
    outside: int = 0
    clipped: bool = False
    seconds: float = 0.0

    def __str__(self) -> str:
        """Return a summary for the terminal."""
        lines = [f"{self.rows - len(self.without_text)} of {count(self.rows, 'row')} scored in {self.seconds:.1f} s"]
        if self.without_text:
            rows_have = count(len(self.without_text), "row without a text has", "rows without a text have")
            lines.append(
                f"{rows_have} an empty score: data rows {', '.join(shortened(map(str, self.without_text), 10))}"
            )
        lines += remarks((self.cut, self.unknown, self.foreign, self.learnt))
        if self.outside:
            handling = "were clipped to it" if self.clipped else "were kept (clip=true moves them to the bounds)"
            lines.append(f"outside the scale: {count(self.outside, 'score')}, which {handling}")
        return "\n".join(lines)


def remarks(places: Sequence[Sequence[int]], named: str = "data row") -> Iterator[str]:
    """Yield a line per reason for which scores are doubtful.

    Args:
        places: the numbers of the texts, from 1, for each reason in the order of `Read`.
        named: what a number counts.
    """
    cut, unknown, foreign, learnt = places
    reasons = {
        "longer than the model reads, of which only the beginning is scored": cut,
        "with hardly any words that the model knows": unknown,
        "in another script than the training texts": foreign,
        "that the model was trained on, with scores fitted to their labels": learnt,
    }
    for reason, rows in reasons.items():
        if rows:
            shown = ", ".join(shortened(map(str, rows), 10))
            yield f"{count(len(rows), 'text')} {reason}: {named}{'s' * (len(rows) > 1)} {shown}"


def predict(job: ScoringJob) -> ScoredFile:
    """Score `job.input` into `job.output`, chunk by chunk; a failure leaves no output behind.

    The whole input is read once before the model loads, so that an error in its last row wastes no scoring.
    """
    meaning = read_meaning(job.model)
    scale = scale_of(meaning["scale"])
    score = job.score or scale.construct
    names = [score, f"{score}_sd"] if len(outputs_from(meaning).names) > 1 else [score]
    columns = columns_of(job.input, job.encoding)
    refuse_if_any(
        f"{job.input}: already has a column {name}; choose another with score=COLUMN"
        for name in names
        if name in columns
    )
    total = sum(len(rows) for rows, _ in job.rows())
    scorer = load_scorer(job.model, device_of(job.device))
    done, started = ScoredFile(clipped=job.clip), time.perf_counter()
    types = dict.fromkeys(names, pa.float64())
    with (
        write_rows(job.output, types, job.input, job.escape_formulas, job.encoding) as write,
        Progress(total, "row") as progress,
    ):
        for rows, texts in job.rows():
            filled = [index for index, text in enumerate(texts) if not is_blank(text)]
            (scores, sd), *doubtful = scorer.read([texts[index] for index in filled], job.batch_size)
            for name, flags in zip(Read._fields[1:], doubtful, strict=True):
                getattr(done, name).extend(done.rows + 1 + filled[index] for index in np.flatnonzero(flags))
            done.outside += int(scale.outside(scores).sum())
            added = [scale.clip(scores) if job.clip else scores, *([] if sd is None else [sd])]
            for name, column in zip(names, added, strict=True):
                values = dict(zip(filled, column.tolist(), strict=True))
                for index, row in enumerate(rows):
                    row[name] = values.get(index)
            done.without_text += [number for number, text in enumerate(texts, done.rows + 1) if is_blank(text)]
            done.rows += len(rows)
            write(rows)
            progress.add(len(rows))
    done.seconds = time.perf_counter() - started
    return done


def device_of(wanted: str) -> torch.device:
    """Return the device to score on; refuse one that is not available."""
    if wanted == "auto":
        if not torch.cuda.is_available():
            return torch.device("cpu")
        # Each of the processes that train one model has its own GPU.
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    try:
        device = torch.device(wanted)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(
            f"device={wanted}: not available here ({str(error).splitlines()[0]}); use auto or cpu"
        ) from error
    return device
