"""The labelling job: asks what the store does not know, and stores every reply when it arrives."""

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from dataclasses import dataclass, replace
from typing import Any

from tqdm import tqdm

from invitro.errors import InputError
from invitro.labelling.exchange import Engine, Readout, Reply, Request, Sampling, TokenChoice
from invitro.labelling.forms import ReplyForm
from invitro.labelling.prompts import Messages, Renderer
from invitro.labelling.replies import Status, parse
from invitro.labelling.reports import Estimate, JobReport
from invitro.labelling.texts import Example, Text
from invitro.labels.store import LabelStore
from invitro.labels.stored import Answer, SetInfo, StoredSet, Use, pieces, text_hash

RETRY_TEMPERATURE = 0.7
CHUNK = 128  # texts that are looked up in the store at a time
ERRORS_IN_A_ROW = 25  # then it is the engine that fails, and not one text


class EngineError(RuntimeError):
    """The engine answers nothing any more; what it answered before is stored."""


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
    corpus: str, llm: str, engine: Engine, renderer: Renderer, sampling: Sampling, about: dict[str, Any]
) -> SetInfo:
    """Say which label set it is that `engine` fills with `renderer`'s prompt."""
    form, prompt = renderer.form, renderer.prompt
    items = {"names": form.names, "low": form.low, "high": form.high, "aggregation": form.scale.aggregation}
    return SetInfo(
        corpus=corpus,
        llm=llm,
        model=engine.model,
        revision=engine.revision or "",
        prompt=prompt.name,
        template=prompt.hash,
        scale=form.scale.name,
        items=json.dumps(items),
        readout=form.readout.value,
        sampling=json.dumps(vars(sampling), sort_keys=True),
        about=about,
    )


def run_job(job: Job, texts: Iterable[Text]) -> JobReport:
    """Ask for every text that has no stored answer to exactly this question; store each reply when it arrives.

    Replies that are of no use are asked for once more at temperature 0.7, after all texts had their turn. Answers that
    are stored are not asked for again, usable or not; what ended in an error is, since nothing was answered. Texts are
    taken one by one, twice when something has to be retried; memory does not grow with their number.

    Args:
        job: the label set, its engine and store.
        texts: can be iterated over more than once.

    Raises:
        EngineError: so many errors in a row that it is not the texts'.
    """
    started = time.perf_counter()
    set_id = job.store.open_set(job.info)
    report = JobReport(job.store.sets(id=set_id)[0])
    total = len(texts) * job.samples if isinstance(texts, Sized) else None
    done = report.stored.texts * job.samples if total and report.stored.texts * job.samples <= total else 0
    with tqdm(
        total=total, initial=done, unit="label", disable=None if job.progress is None else not job.progress
    ) as bar:
        for attempt in (0, 1):
            if attempt == 0 or _has_unusable(job, set_id):
                _ask(job, set_id, texts, attempt, report, bar)
    report.seconds = time.perf_counter() - started
    report.stored = job.store.sets(id=set_id)[0]
    return report


def estimate(job: Job, texts: Iterable[Text]) -> Estimate:
    """Count and price what `run_job` would ask, without asking or storing anything."""
    form, engine = job.renderer.form, job.engine
    requests = prompt = length = 0
    for request in _questions(job, texts):
        requests += 1
        prompt += engine.count_tokens(request.messages)
        if not length:
            reply = {"role": "assistant", "content": form.example}
            length = max(1, engine.count_tokens((*request.messages, reply)) - engine.count_tokens(request.messages))
    length = min(length, job.sampling.max_tokens)
    worst = 2 * engine.price.of(prompt, requests * job.sampling.max_tokens)
    return Estimate(requests, prompt, requests * length, engine.price.of(prompt, requests * length), worst)


def reparse(store: LabelStore, stored: StoredSet, form: ReplyForm) -> int:
    """Read a label set's stored replies anew, without asking anybody; return how many came out otherwise."""
    request = Request("", "", (), Sampling())

    def again(answer: Answer) -> Answer:
        tokens = tuple(TokenChoice(token, others) for token, others in answer.tokens)
        parsed = parse(Reply(request, answer.raw, answer.finish, None, tokens), form)
        return replace(
            answer,
            status=parsed.status.value,
            items=parsed.items,
            score=parsed.score,
            spread=parsed.spread,
            error=parsed.detail or None,
        )

    return store.reparse(again, stored.id)


def _ask(job: Job, set_id: str, texts: Iterable[Text], attempt: int, report: JobReport, bar: Any) -> None:
    """Ask one attempt's questions and store the replies."""
    in_flight: dict[str, bool] = {}
    errors = 0
    for reply in job.engine.replies(_requests(job, set_id, texts, attempt, in_flight)):
        parsed = parse(reply, job.renderer.form)
        cost = job.engine.price.of(reply.prompt_tokens, reply.completion_tokens)
        answer = Answer(
            key=reply.request.key,
            attempt=attempt,
            status=parsed.status.value,
            raw=reply.text,
            finish=reply.finish,
            error=parsed.detail or None,
            items=parsed.items,
            score=parsed.score,
            spread=parsed.spread,
            tokens=tuple((choice.token, choice.alternatives) for choice in reply.tokens),
            prompt_tokens=reply.prompt_tokens,
            completion_tokens=reply.completion_tokens,
            cost=cost,
        )
        job.store.put([answer])
        failed_before = in_flight.pop(answer.key)
        report.usage.add(reply, job.engine.price)
        report.retries += attempt
        usable = parsed.status == Status.OK
        report.labels += usable
        # What an earlier run could not get answered either says nothing about the engine of today.
        errors = 0 if parsed.status != Status.ERROR else errors + (not failed_before)
        if errors == ERRORS_IN_A_ROW:
            raise EngineError(
                f"{job.info.llm}: {errors} errors in a row, the last: {parsed.detail}. All answers so far are stored "
                "and are not asked for again: mend the cause and run the same line"
            )
        bar.update(1 if usable or attempt else 0)
        bar.set_postfix_str(_postfix(report, bar), refresh=False)


def _postfix(report: JobReport, bar: Any) -> str:
    seconds = bar.format_dict["elapsed"] if not bar.disable else 0.0
    speed = report.usage.completion_tokens / seconds if seconds else 0.0
    return f"{speed:.0f} tokens/s, ${report.usage.cost:.2f}"


def _has_unusable(job: Job, set_id: str) -> bool:
    return any(status != "pending" for status in job.store.sets(id=set_id)[0].unusable)


def _requests(
    job: Job, set_id: str, texts: Iterable[Text], attempt: int, in_flight: dict[str, bool]
) -> Iterator[Request]:
    """Yield what has to be asked in this attempt, noting in the store which text needs which answer.

    `in_flight` gets each key that is asked, and whether it ended in an error before.
    """
    for some in pieces(texts, CHUNK):
        questions = [question for text in some for question in _of_text(job, text)]
        _note(job, set_id, questions)
        known = job.store.known([request.key for request, _ in questions])
        wanted = {
            request.key: request
            for request, _ in questions
            if request.key not in in_flight and _is_wanted(known.get(request.key, {}), attempt)
        }
        # Before the first is yielded, since a copy of a text asks the same question.
        in_flight.update({key: known.get(key, {}).get(attempt) == Status.ERROR for key in wanted})
        for request in wanted.values():
            retried = replace(request.sampling, temperature=RETRY_TEMPERATURE)
            yield replace(request, sampling=retried) if attempt else request


def _note(job: Job, set_id: str, questions: list[tuple[Request, Use]]) -> None:
    """Write down the uses that are not in the store as they are."""
    noted = job.store.used(set_id, [use.text_id for _, use in questions])
    fresh = [use for _, use in questions if noted.get((use.text_id, use.sample)) != (use.key, use.text_hash)]
    if fresh:
        job.store.use(set_id, fresh)


def _questions(job: Job, texts: Iterable[Text]) -> Iterator[Request]:
    """Yield what the first attempt would ask, each question once, writing nothing."""
    seen: set[str] = set()
    for some in pieces(texts, CHUNK):
        questions = {request.key: request for text in some for request, _ in _of_text(job, text)}
        known = job.store.known(list(questions))
        for key, request in questions.items():
            if key not in seen and _is_wanted(known.get(key, {}), 0):
                seen.add(key)
                yield request


def _is_wanted(known: dict[int, str], attempt: int) -> bool:
    """Whether this attempt at a question is still to be made, by the status of those that are stored."""
    if attempt == 0:
        return known.get(0, Status.ERROR) == Status.ERROR
    return known.get(0, Status.ERROR) not in (Status.OK, Status.ERROR) and known.get(1, Status.ERROR) == Status.ERROR


def _of_text(job: Job, text: Text) -> Iterator[tuple[Request, Use]]:
    """Yield one question a sample."""
    messages = job.renderer.messages(text, job.examples(text))
    form, content = job.renderer.form, text_hash(text.text)
    for sample in range(job.samples):
        seed = job.sampling.seed
        sampling = job.sampling if not sample else replace(job.sampling, seed=None if seed is None else seed + sample)
        key = request_key(messages, job.engine.model, job.engine.revision, form.readout, sampling, sample)
        yield Request(key, text.text_id, messages, sampling, form.constraint), Use(text.text_id, sample, key, content)
