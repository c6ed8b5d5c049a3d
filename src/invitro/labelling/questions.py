"""What a labelling job asks: its label set, the question to each text, and which questions are still open."""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from invitro.engines.base import Engine, Readout, Request, Sampling
from invitro.errors import InputError
from invitro.labelling.prompts import Messages, Renderer
from invitro.labelling.texts import Example, Text
from invitro.labels.answers import SetInfo, Status, Use, text_hash
from invitro.labels.store import LabelStore

RETRY_TEMPERATURE = 0.7
RETRY_SEED = 1_000_003
"""Added to the seed of a retry: at an unchanged temperature the same seed would give the same reply again."""


@dataclass(frozen=True)
class Job:
    """One label set to fill.

    Args:
        store: where answers go.
        engine: who answers.
        renderer: makes the messages.
        info: the label set.
        sampling: how to decode; sample k has the seed ``seed + k``.
        examples: those to show with a text.
        samples: answers wanted a text.
        progress: whether a bar is shown; None shows it on a terminal.

    Raises:
        InputError: several samples without a temperature, which would all be the same.
    """

    store: LabelStore
    engine: Engine
    renderer: Renderer
    info: SetInfo
    sampling: Sampling
    examples: Callable[[Text], tuple[Example, ...]] = lambda text: ()
    samples: int = 1
    progress: bool | None = None

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise InputError(f"samples: expected 1 or more, found {self.samples}")
        if self.samples > 1 and self.sampling.temperature <= 0:
            raise InputError(
                f"samples={self.samples} at sampling.temperature=0 would be the same answer each time; "
                "set sampling.temperature, such as 0.7"
            )


def request_key(
    messages: Messages, model: str, revision: str | None, readout: Readout, sampling: Sampling, sample: int
) -> str:
    """Hash everything that decides an answer; the retry shares the key of the answer that it is to replace."""
    asked = [messages, model, revision or "", readout.value, vars(sampling), sample]
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


def set_info(
    corpus: str,
    llm: str,
    engine: Engine,
    renderer: Renderer,
    sampling: Sampling,
    about: dict[str, Any],
    examples: tuple[Example, ...] = (),
) -> SetInfo:
    """Say which label set it is that `engine` fills with `renderer`'s prompt and the `examples` commonly shown."""
    form, prompt = renderer.form, renderer.prompt
    items = {"names": form.names, "low": form.low, "high": form.high, "aggregation": form.scale.aggregation}
    return SetInfo(
        corpus=corpus,
        llm=llm,
        model=engine.model,
        revision=engine.revision or "",
        prompt=prompt.name,
        template=renderer.hash(examples),
        scale=form.scale.name,
        items=json.dumps(items),
        readout=form.readout.value,
        sampling=json.dumps(vars(sampling), sort_keys=True),
        about=about,
    )


def of_text(job: Job, text: Text) -> Iterator[tuple[Request, Use]]:
    """Yield one question a sample."""
    messages = job.renderer.messages(text, job.examples(text))
    form, content = job.renderer.form, text_hash(text.text)
    for sample in range(job.samples):
        seed = job.sampling.seed
        sampling = job.sampling if not sample else replace(job.sampling, seed=None if seed is None else seed + sample)
        key = request_key(messages, job.engine.model, job.engine.revision, form.readout, sampling, sample)
        yield Request(key, text.text_id, messages, sampling, form.constraint), Use(text.text_id, sample, key, content)


def retried(request: Request) -> Request:
    """Return a question as it is asked the second time."""
    seed = request.sampling.seed
    again = None if seed is None else seed + RETRY_SEED
    return replace(request, sampling=replace(request.sampling, temperature=RETRY_TEMPERATURE, seed=again))


def is_wanted(known: dict[int, str], attempt: int) -> bool:
    """Whether this attempt at a question is still to be made, by the status of those that are stored."""
    if attempt == 0:
        return known.get(0, Status.ERROR) == Status.ERROR
    return known.get(0, Status.ERROR) not in (Status.OK, Status.ERROR) and known.get(1, Status.ERROR) == Status.ERROR
