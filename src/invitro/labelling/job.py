"""The labelling job: asks the questions that the store has no answer to, and stores every reply as it arrives; or
imports the results of a batch file: in any order, in parts, repeatedly, and with errors in them.
"""

import hashlib
import json
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from invitro.engines.base import Engine, EngineError, Reply, Request, Sampling, TokenChoice
from invitro.engines.batch import BatchLine, results_in
from invitro.errors import InputError
from invitro.labelling.prompts import Renderer
from invitro.labelling.replies import Parsed, ReplyForm, parse
from invitro.labelling.reports import CostEstimate, JobReport, advice, counted
from invitro.labelling.texts import Example, Text
from invitro.labels.answers import Answer, Attempt, Retry, SetInfo, Status, StoredSet, Use, next_attempt, text_hash
from invitro.labels.store import Claims, LabelStore
from invitro.tables import pieces
from invitro.writing.words import Progress, count

log = logging.getLogger(__name__)

RETRY_TEMPERATURE = 0.7
RETRY_SEED = 1_000_003
"""Added to the seed of a retry: at an unchanged temperature the same seed would give the same reply again."""
CHUNK = 32  # texts looked up in the store and claimed at a time
IN_A_ROW = 25  # replies without a label that point to the engine or the settings, not to single texts
KEPT = ("finish", "prompt_tokens", "completion_tokens", "revision", "batch")  # of a reply, stored unchanged
PAUSE = 2.0  # seconds between two checks of what other processes are asking


@dataclass(frozen=True)
class LabelJob:
    """One label set to fill.

    Args:
        store: where answers go.
        engine: the engine that answers.
        renderer: makes the messages.
        sampling: how to decode, with ``max_tokens``; sample k has the seed ``seed + k``.
        corpus: the corpus the texts belong to.
        llm: the name that the labels are stored under.
        about: anything else that the store keeps about the label set.
        examples: the examples to show with a text.
        samples: answers wanted per text; more than one needs a temperature, or all would be the same.
        retry: which questions answered before this job are asked again: those that ended in errors; also those without
            a usable answer, unless the provider's filter refused them; or those too.
        progress: whether to show a progress bar; None shows it on a terminal, and elsewhere one line per minute.
    """

    store: LabelStore
    engine: Engine
    renderer: Renderer
    sampling: Sampling
    corpus: str
    llm: str
    about: Mapping[str, Any] = field(default_factory=dict)
    examples: Callable[[Text], tuple[Example, ...]] = lambda text: ()
    samples: int = 1
    retry: Retry = "errors"
    progress: bool | None = None

    @cached_property
    def changes(self) -> dict[str, Any]:
        """The fields that the engine changes in every request: part of the question."""
        return dict(getattr(getattr(self.engine, "engine", self.engine), "body", {}))

    @cached_property
    def info(self) -> SetInfo:
        """The label set; the usual examples are part of its template."""
        form, prompt = self.renderer.form, self.renderer.prompt
        # Whole bounds are always written without decimals: this text is part of the set's identity.
        low, high = (int(bound) if float(bound).is_integer() else bound for bound in (form.low, form.high))
        items: dict[str, Any] = {"names": form.names, "low": low, "high": high, "aggregation": form.scale.aggregation}
        if form.scale.reversed_items and not form.overall:
            items["reversed"] = form.scale.reversed_items
        return SetInfo(
            corpus=self.corpus,
            llm=self.llm,
            model=self.engine.model,
            revision=self.engine.revision or "",
            prompt=prompt.name,
            template=self.renderer.hash(self.examples(Text("", ""))),
            scale=form.scale.name,
            items=json.dumps(items),
            readout=form.readout.value,
            sampling=json.dumps(vars(self.sampling) | ({"body": self.changes} if self.changes else {}), sort_keys=True),
            about=dict(self.about),
        )

    def questions(self, text: Text) -> Iterator[tuple[Request, Use]]:
        """Yield the question for each sample of a text.

        Its key hashes everything that determines the answer. A retry has the same key as the answer it replaces.
        """
        form, engine = self.renderer.form, self.engine
        messages, content = self.renderer.messages(text, self.examples(text)), text_hash(text.text)
        for sample in range(self.samples):
            sampling = self.sampling
            if sample and sampling.seed is not None:
                sampling = replace(sampling, seed=sampling.seed + sample)
            asked = [messages, engine.model, engine.revision or "", form.readout.value, vars(sampling), sample]
            asked += [self.changes] if self.changes else []
            key = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()
            request = Request(key, text.text_id, messages, sampling, form.constraint)
            yield request, Use(text.text_id, sample, key, content)


def run_job(job: LabelJob, texts: Iterable[Text]) -> JobReport:
    """Ask about every text that has no stored answer to exactly this question; store each reply as it arrives.

    Once all texts have been asked about, questions with unusable replies are asked once more, at temperature 0.7.
    Stored answers, usable or not, are not asked for again unless `LabelJob.retry` says so; questions that ended in an
    error are, since there was no answer. Other processes may work on the same store: they share the questions, and each
    waits for the last answers of the others. Texts are read one by one, and again if questions remain; memory does not
    grow with their number.

    Args:
        job: the label set, its engine and store.
        texts: an iterable that can be iterated over more than once.

    Raises:
        InputError: the engine refuses the very first question, for example because the server has no such model.
        EngineError: too many replies in a row without a label for the texts to be the cause, no answer to any text, or
            a refusal after some answers.
    """
    started = time.perf_counter()
    set_id = job.store.open_set(job.info)
    report = JobReport(job.store.sets(id=set_id)[0])
    with (
        Progress(len(texts) * job.samples if isinstance(texts, Sized) else None, "label", job.progress) as progress,
        Claims(job.store) as claims,
    ):
        asking = _Asking(job, set_id, report, progress, claims, job.store.latest())
        try:
            asking.ask(texts, again=False)
            if any(status != "pending" for status in job.store.sets(id=set_id)[0].unusable):
                asking.ask(texts, again=True)
        except InputError as error:  # from the engine or the store; after an answer, not the settings alone
            if not report.usage.requests:
                raise
            raise EngineError(f"{error}. All answers so far are stored and are not asked for again") from error
    report.seconds = time.perf_counter() - started
    report.stored = job.store.sets(id=set_id)[0]
    if report.error and set(report.stored.unusable) == {Status.ERROR.value} and not report.stored.labelled:
        raise EngineError(
            f"{job.info.llm}: none of {report.stored.texts} texts got an answer, the last error: {report.error}. "
            "Fix the cause and run the same command again"
        )
    return report


def estimate(job: LabelJob, texts: Iterable[Text]) -> CostEstimate:
    """Count and price what `run_job` would ask, without asking or storing anything."""
    form, engine = job.renderer.form, job.engine
    limits = [job.changes.get(name) for name in ("max_tokens", "max_completion_tokens")]
    limit = next((limit for limit in limits if limit), job.sampling.max_tokens or form.max_tokens)
    requests = prompt = length = 0
    for request in _open_questions(job, texts):
        requests += 1
        prompt += engine.count_tokens(request.messages)
        if not length:
            reply = {"role": "assistant", "content": form.example}
            length = max(1, engine.count_tokens((*request.messages, reply)) - engine.count_tokens(request.messages))
    completion = requests * min(length, limit)
    return CostEstimate(
        requests,
        prompt,
        completion,
        cost=engine.price.of(prompt, completion),
        at_most=2 * engine.price.of(prompt, requests * limit),
        approximate=getattr(engine, "approximate", False),
    )


def reparse(store: LabelStore, stored: StoredSet, form: ReplyForm) -> int:
    """Read a label set's stored replies again, without asking any model; return how many results changed."""
    request = Request("", "", (), Sampling())

    def again(answer: Answer) -> Answer:
        tokens = tuple(TokenChoice(token, others) for token, others in answer.tokens)
        return replace(answer, **vars(parse(Reply(request, answer.raw, answer.finish, None, tokens), form)))

    return store.reparse(again, stored.id)


@dataclass
class _Asked:
    """A question in flight: how many labels wait for it, and whether it ended in an error before."""

    labels: int
    failed_before: bool


@dataclass
class _Asking:
    """A running job; `before` is the number of the last answer stored before it began."""

    job: LabelJob
    set_id: str
    report: JobReport
    progress: Progress
    claims: Claims
    before: int
    in_flight: dict[str, _Asked] = field(default_factory=dict)
    elsewhere: int = 0
    barren: bool = False
    useless: Counter[str] = field(default_factory=Counter)

    def ask(self, texts: Iterable[Text], again: bool) -> None:
        """Make the first attempts, or the later ones, until none remains here or in another process."""
        self.barren = again and not self.job.store.sets(id=self.set_id)[0].labelled
        self._once(texts, again, first=True)
        if self.elsewhere:
            log.info("waiting for %s that other processes are asking for", count(self.elsewhere, "answer"))
        while self.elsewhere:
            time.sleep(PAUSE)
            self._once(texts, again, first=False)
        self._stop_if_useless()

    def _stop_if_useless(self) -> None:
        """Raise an error after too many replies in a row without a label."""
        if self.useless.total() >= IN_A_ROW:
            raise EngineError(
                f"{self.job.info.llm}: {counted(self.useless)} in a row, the last: {self.report.error}. All answers so "
                f"far are stored and are not asked for again. {advice(self.useless)}"
            )

    def _once(self, texts: Iterable[Text], again: bool, first: bool) -> None:
        """Go through the texts once: ask the open questions that nobody else is asking, and store the replies."""
        job, report, useless = self.job, self.report, self.useless
        for reply in job.engine.replies(self._requests(texts, again, first)):
            parsed = parse(reply, job.renderer.form)
            job.store.put([answer_of_reply(job, reply, parsed)])
            asked = self.in_flight.pop(reply.request.key)
            report.usage.add(reply, job.engine.price)
            report.retries += again
            usable = parsed.status == Status.OK
            report.labels += usable
            report.error = parsed.error or report.error
            # A question that failed in an earlier run too says nothing about the engine now, and second attempts are
            # at hard questions.
            telling = not asked.failed_before if parsed.status == Status.ERROR else not again or self.barren
            if usable or (parsed.status != Status.ERROR and not telling):
                useless.clear()
            elif telling:
                useless[parsed.status] += 1
            if not getattr(job.engine, "prepaid", False):
                self._stop_if_useless()
            settled = asked.labels if usable or again or reply.finish == "filter" else 0
            speed = report.usage.completion_tokens / max(self.progress.seconds, 1e-9)
            self.progress.add(settled, f"{speed:.0f} tokens/s, ${report.usage.cost:.2f}")

    def _requests(self, texts: Iterable[Text], again: bool, first: bool) -> Iterator[Request]:
        """Yield the questions to ask, recording in the store which text needs which answer.

        `in_flight` gets each key that is asked, and `elsewhere` the number of those that other processes are asking.
        """
        job, settled = self.job, 0
        self.elsewhere = 0

        def open_attempt(stored: Mapping[int, Attempt]) -> int | None:
            attempt = next_attempt(stored, job.retry, self.before)
            return attempt if attempt is not None and (attempt > 0) == again else None

        for chunk in pieces(texts, CHUNK):
            questions = [question for text in chunk for question in job.questions(text)]
            if first and not again:
                job.store.use(self.set_id, [use for _, use in questions])
            keys = [request.key for request, _ in questions]
            attempts = job.store.known(keys)
            wanted = {
                key for key in keys if key not in self.in_flight and open_attempt(attempts.get(key, {})) is not None
            }
            ours, theirs = self.claims.take(list(wanted), lambda stored: open_attempt(stored) is not None)
            self.elsewhere += len(theirs)
            requests: list[Request] = []
            settled_here = 0
            # All are in flight before the first is yielded, since a copy of a text asks the same question.
            for request, _ in questions:
                key, stored = request.key, attempts.get(request.key, {})
                if key in self.in_flight:
                    self.in_flight[key].labels += 1
                elif key in ours:
                    attempt = open_attempt(stored) or 0
                    requests.append(_retried(request, attempt) if attempt else request)
                    earlier = stored.get(attempt)
                    self.in_flight[key] = _Asked(1, earlier is not None and earlier.status == Status.ERROR)
                elif key not in theirs:
                    # An answer that will be replaced is not settled.
                    settled_here += next_attempt(stored, job.retry, self.before) is None
            settled += settled_here
            if first and not again:
                self.progress.known(settled_here)
            yield from requests
        if not first:
            self.progress.reached(settled)


def answer_of_reply(job: LabelJob, reply: Reply, parsed: Parsed) -> Answer:
    """Return a reply as the answer to store."""
    return Answer(
        key=reply.request.key,
        attempt=reply.request.attempt,
        raw=reply.text,
        tokens=tuple((choice.token, choice.alternatives) for choice in reply.tokens),
        cost=job.engine.price.of(reply.prompt_tokens, reply.completion_tokens),
        **{name: getattr(reply, name) for name in KEPT},
        **vars(parsed),
    )


def _open_questions(job: LabelJob, texts: Iterable[Text]) -> Iterator[Request]:
    """Yield the questions of the first attempt, each once, without storing anything."""
    seen: set[str] = set()
    for chunk in pieces(texts, CHUNK):
        questions = {request.key: request for text in chunk for request, _ in job.questions(text)}
        attempts = job.store.known(list(questions))
        for key, request in questions.items():
            if key not in seen and next_attempt(attempts.get(key, {}), job.retry) == 0:
                seen.add(key)
                yield request


def _retried(request: Request, attempt: int) -> Request:
    """Return the question as a later attempt asks it."""
    sampling = request.sampling
    seed = None if sampling.seed is None else sampling.seed + attempt * RETRY_SEED
    temperature = None if sampling.temperature is None else RETRY_TEMPERATURE
    return replace(request, sampling=replace(sampling, temperature=temperature, seed=seed), attempt=attempt)


@dataclass
class Imported(JobReport):
    """What an import did.

    Args:
        path: the file.
        twice: results of questions whose answer was stored already.
        foreign: results of questions that are not this label set's.
        unreadable: lines that are not results.
    """

    path: Path = field(default_factory=Path)
    twice: int = 0
    foreign: int = 0
    unreadable: int = 0

    def lines(self) -> list[str]:
        """Return the report as lines of text."""
        skipped = {"stored already": self.twice, "of other label sets": self.foreign, "unreadable": self.unreadable}
        besides = ", ".join(f"{count} {kind}" for kind, count in skipped.items() if count)
        imported = f"{self.usage.requests} results" + (f"; besides {besides}" if besides else "")
        first, *others = super().lines()
        return [first, f"  imported         {imported}, from {self.path}", *others]


def import_results(job: LabelJob, texts: Iterable[Text], path: Path) -> Imported:
    """Store the answers in a results file that are this label set's; nothing is asked.

    Stored answers stay, and only an error is replaced by a later answer, so a file that has grown can be imported
    again.

    Args:
        job: the label set, with the settings that the batch file was written with.
        texts: all its texts.
        path: a file of results, one JSON object per line, each with the ``custom_id`` of its question.

    Raises:
        InputError: there is no such file.
    """
    results = results_in(path)
    set_id = job.store.open_set(job.info)
    for chunk in pieces(texts, CHUNK):
        job.store.use(set_id, [use for text in chunk for _, use in job.questions(text)])
    report = Imported(job.store.sets(id=set_id)[0], path=path)
    for lines in pieces(results, CHUNK):
        report.unreadable += lines.count(None)
        _store(job, set_id, [line for line in lines if line is not None], report)
    report.stored = job.store.sets(id=set_id)[0]
    return report


def _store(job: LabelJob, set_id: str, results: list[BatchLine], report: Imported) -> None:
    """Store a chunk of results."""
    keys = list({result.key for result in results})
    ours, stored = job.store.asked_by(set_id, keys), job.store.known(keys)
    answers = {}
    for result in results:
        earlier = stored.get(result.key, {}).get(result.attempt)
        if result.key not in ours:
            report.foreign += 1
        elif (result.key, result.attempt) in answers or (earlier is not None and earlier.status != Status.ERROR):
            report.twice += 1
        else:
            reply = result.reply(report.path.name)
            parsed = parse(reply, job.renderer.form)
            if parsed.status != Status.ERROR or earlier is None:
                answers[result.key, result.attempt] = answer_of_reply(job, reply, parsed)
                report.usage.add(reply, job.engine.price)
                report.retries += result.attempt > 0
                report.labels += parsed.status == Status.OK
            report.error = parsed.error or report.error
    job.store.put(answers.values())
