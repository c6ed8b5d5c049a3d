"""Results of a batch file, taken into the store: in any order, in parts, twice, and with errors in them."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from invitro.engines.batch import BatchLine, question_of, results_in
from invitro.labelling.job import CHUNK, LabelJob, answer_of_reply, note_uses
from invitro.labelling.replies import parse
from invitro.labelling.reports import JobReport
from invitro.labelling.texts import Text
from invitro.labels.answers import Status
from invitro.tables import pieces

log = logging.getLogger(__name__)


@dataclass
class Imported(JobReport):
    """What an import did.

    Args:
        path: the file.
        twice: results of questions whose answer was stored already.
        foreign: results of questions that are not this label set's.
        unreadable: lines that are no results.
    """

    path: Path = field(default_factory=Path)
    twice: int = 0
    foreign: int = 0
    unreadable: int = 0

    def lines(self) -> list[str]:
        """Return the report for people."""
        left = {
            "stored already": self.twice, "of other label sets": self.foreign, "unreadable": self.unreadable,
        }  # fmt: skip
        rest = ", ".join(f"{count} {what}" for what, count in left.items() if count)
        found = f"{self.usage.requests} results" + (f"; besides {rest}" if rest else "")
        first, *others = super().lines()
        return [first, f"  imported         {found}, from {self.path}", *others]


def import_results(job: LabelJob, texts: Iterable[Text], path: Path) -> Imported:
    """Store the answers in a results file that are this label set's; nothing is asked.

    What the store has stays, and only an error gives way to a later answer: the file may be imported again when it
    has grown.

    Args:
        job: the label set, with the settings that the batch file was written with.
        texts: all its texts.
        path: a file of results, one JSON object a line, each with the ``custom_id`` of its question.

    Raises:
        InputError: there is no such file.
    """
    results = results_in(path)
    set_id = job.store.open_set(job.info)
    for some in pieces(texts, CHUNK):
        note_uses(job.store, set_id, [use for text in some for _, use in job.questions(text)])
    report = Imported(job.store.sets(id=set_id)[0], path=path)
    for lines in pieces(results, CHUNK):
        report.unreadable += lines.count(None)
        _store(job, set_id, [one for one in lines if one is not None], report)
    report.stored = job.store.sets(id=set_id)[0]
    return report


def _store(job: LabelJob, set_id: str, results: list[BatchLine], report: Imported) -> None:
    """Store some results."""
    keys = list({one.key for one in results})
    ours, known = job.store.asked_by(set_id, keys), job.store.known(keys)
    answers = {}
    for one in results:
        earlier = known.get(one.key, {}).get(one.attempt)
        if one.key not in ours:
            report.foreign += 1
        elif (one.key, one.attempt) in answers or (earlier is not None and earlier.status != Status.ERROR):
            report.twice += 1
        else:
            reply = replace(one.reply(question_of(one)), batch=report.path.name)
            parsed = parse(reply, job.renderer.form)
            if parsed.status != Status.ERROR or earlier is None:
                answers[one.key, one.attempt] = answer_of_reply(job, reply, parsed)
                report.usage.add(reply, job.engine.price)
                report.retries += one.attempt > 0
                report.labels += parsed.status == Status.OK
            report.error = parsed.detail or report.error
    job.store.put(answers.values())
