"""The labelling job: asks what the store does not know, and stores every reply when it arrives."""

import os
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any

from tqdm import tqdm

from invitro.engines.base import EngineError, Reply, Request, Sampling, TokenChoice, Usage
from invitro.errors import InputError
from invitro.files import pieces
from invitro.labelling.forms import ReplyForm
from invitro.labelling.questions import Job, is_wanted, of_text, retried
from invitro.labelling.replies import Parsed, parse
from invitro.labelling.reports import Estimate, JobReport
from invitro.labelling.texts import Text
from invitro.labels.answers import Answer, Status, StoredSet, Use
from invitro.labels.store import LabelStore


class Progress:
    """A bar that counts labels; a context manager.

    What earlier runs left is there from the start and says nothing about this run's speed: the time left follows from
    what is asked now.

    Args:
        total: labels wanted, where that is known.
        shown: whether there is a bar; None shows it on a terminal.
    """

    def __init__(self, total: int | None, shown: bool | None) -> None:
        disable = None if shown is None else not shown
        self._bar: Any = tqdm(total=total, unit="label", disable=disable, **_size())

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()

    def found(self, labels: int) -> None:
        """Count labels that nobody has to be asked for."""
        if labels and not self._bar.disable:
            # All three, so that they are taken for no work of this run, in its mean speed as in its recent one.
            self._bar.initial += labels
            self._bar.n += labels
            self._bar.last_print_n += labels

    def answered(self, labels: int, usage: Usage) -> None:
        """Count labels that an answer settled, usable or not, and show what this run has used so far."""
        if not self._bar.disable:
            seconds = self._bar.format_dict["elapsed"]
            speed = usage.completion_tokens / seconds if seconds else 0.0
            self._bar.set_postfix_str(f"{speed:.0f} tokens/s, ${usage.cost:.2f}", refresh=False)
        self._bar.update(labels)


def _size() -> dict[str, int]:
    """Return a size for the bar where the terminal tells none; tqdm then takes it for one without room."""
    try:
        columns, rows = os.get_terminal_size(sys.stderr.fileno())
    except (OSError, ValueError):  # no terminal
        return {}
    return {} if columns and rows else {"ncols": 80, "nrows": 24}


CHUNK = 128  # texts that are looked up in the store at a time
ERRORS_IN_A_ROW = 25  # then it is the engine that fails, and not one text


@dataclass
class _Asked:
    """A question in flight: how many labels wait for it, and whether it ended in an error before."""

    labels: int
    failed_before: bool


def run_job(job: Job, texts: Iterable[Text]) -> JobReport:
    """Ask for every text that has no stored answer to exactly this question; store each reply when it arrives.

    Replies that are of no use are asked for once more at temperature 0.7, after all texts had their turn. Answers that
    are stored are not asked for again, usable or not; what ended in an error is, since nothing was answered. Texts are
    taken one by one, twice when something has to be retried; memory does not grow with their number.

    Args:
        job: the label set, its engine and store.
        texts: can be iterated over more than once.

    Raises:
        InputError: the engine refuses the very first question, as a server does that has no such model.
        EngineError: so many errors in a row that it is not the texts', no answer to any text, or a refusal after there
            were answers.
    """
    started = time.perf_counter()
    set_id = job.store.open_set(job.info)
    report = JobReport(job.store.sets(id=set_id)[0])
    with Progress(len(texts) * job.samples if isinstance(texts, Sized) else None, job.progress) as progress:
        for attempt in (0, 1):
            if attempt == 0 or _has_unusable(job, set_id):
                _ask(job, set_id, texts, attempt, report, progress)
    report.seconds = time.perf_counter() - started
    report.stored = job.store.sets(id=set_id)[0]
    if report.error and set(report.stored.unusable) == {Status.ERROR.value} and not report.stored.labelled:
        raise EngineError(
            f"{job.info.llm}: not one of {report.stored.texts} texts got an answer, the last error: {report.error}. "
            "Mend the cause and run the same line"
        )
    return report


def estimate(job: Job, texts: Iterable[Text]) -> Estimate:
    """Count and price what `run_job` would ask, without asking or storing anything."""
    form, engine = job.renderer.form, job.engine
    requests = prompt = length = 0
    for request in _open_questions(job, texts):
        requests += 1
        prompt += engine.count_tokens(request.messages)
        if not length:
            reply = {"role": "assistant", "content": form.example}
            length = max(1, engine.count_tokens((*request.messages, reply)) - engine.count_tokens(request.messages))
    length = min(length, job.sampling.max_tokens)
    worst = 2 * engine.price.of(prompt, requests * job.sampling.max_tokens)
    cost = engine.price.of(prompt, requests * length)
    return Estimate(requests, prompt, requests * length, cost, worst, getattr(engine, "approximate", False))


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


def _ask(job: Job, set_id: str, texts: Iterable[Text], attempt: int, report: JobReport, progress: Progress) -> None:
    """Ask one attempt's questions and store the replies."""
    in_flight: dict[str, _Asked] = {}
    errors = 0
    for reply in _replies(job, _requests(job, set_id, texts, attempt, in_flight, progress), report):
        parsed = parse(reply, job.renderer.form)
        job.store.put([_answer(job, reply, parsed, attempt)])
        asked = in_flight.pop(reply.request.key)
        report.usage.add(reply, job.engine.price)
        report.retries += attempt
        report.error = parsed.detail if parsed.status == Status.ERROR else report.error
        usable = parsed.status == Status.OK
        report.labels += usable
        # What an earlier run could not get answered either says nothing about the engine of today.
        errors = 0 if parsed.status != Status.ERROR else errors + (not asked.failed_before)
        if errors == ERRORS_IN_A_ROW:
            raise EngineError(
                f"{job.info.llm}: {errors} errors in a row, the last: {parsed.detail}. All answers so far are stored "
                "and are not asked for again: mend the cause and run the same line"
            )
        progress.answered(asked.labels if usable or attempt else 0, report.usage)


def _replies(job: Job, requests: Iterable[Request], report: JobReport) -> Iterator[Reply]:
    """Yield the engine's replies; what it refuses after it has answered is no fault of the settings alone."""
    try:
        yield from job.engine.replies(requests)
    except InputError as error:
        if not report.usage.requests:
            raise
        raise EngineError(f"{error}. All answers so far are stored and are not asked for again") from error


def _answer(job: Job, reply: Reply, parsed: Parsed, attempt: int) -> Answer:
    """Return what the store is to keep of a reply."""
    return Answer(
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
        cost=job.engine.price.of(reply.prompt_tokens, reply.completion_tokens),
    )


def _has_unusable(job: Job, set_id: str) -> bool:
    return any(status != "pending" for status in job.store.sets(id=set_id)[0].unusable)


def _requests(
    job: Job, set_id: str, texts: Iterable[Text], attempt: int, in_flight: dict[str, _Asked], progress: Progress
) -> Iterator[Request]:
    """Yield what has to be asked in this attempt, noting in the store which text needs which answer.

    `in_flight` gets each key that is asked.
    """
    for some in pieces(texts, CHUNK):
        questions = [question for text in some for question in of_text(job, text)]
        _note(job, set_id, questions)
        known = job.store.known([request.key for request, _ in questions])
        wanted: dict[str, Request] = {}
        found = 0
        # All are in flight before the first is yielded, since a copy of a text asks the same question.
        for request, _ in questions:
            key, stored = request.key, known.get(request.key, {})
            if key in in_flight:
                in_flight[key].labels += 1
            elif is_wanted(stored, attempt):
                wanted[key] = request
                in_flight[key] = _Asked(1, stored.get(attempt) == Status.ERROR)
            else:
                # The first look counts what is settled; an answer that is to be replaced is not.
                found += attempt == 0 and not is_wanted(stored, 1)
        progress.found(found)
        for request in wanted.values():
            yield retried(request) if attempt else request


def _note(job: Job, set_id: str, questions: list[tuple[Request, Use]]) -> None:
    """Write down the uses that are not in the store as they are."""
    noted = job.store.used(set_id, [use.text_id for _, use in questions])
    fresh = [use for _, use in questions if noted.get((use.text_id, use.sample)) != (use.key, use.text_hash)]
    if fresh:
        job.store.use(set_id, fresh)


def _open_questions(job: Job, texts: Iterable[Text]) -> Iterator[Request]:
    """Yield what the first attempt would ask, each question once, writing nothing."""
    seen: set[str] = set()
    for some in pieces(texts, CHUNK):
        questions = {request.key: request for text in some for request, _ in of_text(job, text)}
        known = job.store.known(list(questions))
        for key, request in questions.items():
            if key not in seen and is_wanted(known.get(key, {}), 0):
                seen.add(key)
                yield request
