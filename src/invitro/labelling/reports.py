"""Reports in words: what labelling jobs did, how their labels agree with the crowd's, and what a job would cost."""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from invitro.engines.base import Usage
from invitro.files import write_text
from invitro.labels.answers import Status, StoredSet
from invitro.labels.drift import DriftPart
from invitro.stats.agreement import Agreement
from invitro.stats.intervals import NOT_MEASURABLE, told
from invitro.writing.words import count, rendered

JOB_REPORT, JOB_ERROR = "report.json", "error.txt"
"""A job's report in its directory, and its error in a multirun if it failed."""
DATASHEET = Path(__file__).with_name("datasheet.md.j2")
NOTHING_FOLLOWS = (
    f"{NOT_MEASURABLE} with this model: the interval of its correlation with the crowd includes 0 or does not exist, "
    "and nothing follows from these labels about prompts, languages or bias"
)


AGAIN = "then retry=unusable repeats the questions that are stored without a label"
ADVICE = {
    Status.ERROR: "Fix the cause and run the same command again",
    Status.TRUNCATED: "Raise sampling.max_tokens=; models that think first need thousands, as llm=gpt_reasoning has; "
    f"{AGAIN}",
    Status.REFUSED: f"The model or its provider refuses to rate such texts: choose another prompt= or llm=; {AGAIN}",
    Status.UNPARSEABLE: "The replies are in the store's table answers; choose another readout=, prompt= or llm=, "
    f"or have the server enforce the form with llm.engine.constraint=; {AGAIN}",
}
"""What to change after replies without a label; other statuses are treated as unparseable."""


def advice(useless: Mapping[str, int]) -> str:
    """Return what to change after replies without a label, given their counts by status."""
    return ADVICE.get(Status(max(useless, key=lambda status: useless[status])), ADVICE[Status.UNPARSEABLE])


def counted(useless: Counter[str]) -> str:
    """Say how many replies there were of each kind."""
    if set(useless) == {Status.ERROR}:
        return f"{useless.total()} errors"
    kinds = ", ".join(f"{count} {status}" for status, count in useless.most_common())
    return f"{useless.total()} replies without a label ({kinds})"


@dataclass
class JobReport:
    """What a job did.

    Args:
        stored: the label set afterwards, with all its counts.
        usage: requests, tokens and cost of this job.
        labels: how many labels this job added.
        retries: how many requests were second attempts.
        seconds: wall time.
        error: what was wrong with the last reply of this job that gave no label.
    """

    stored: StoredSet
    usage: Usage = field(default_factory=Usage)
    labels: int = 0
    retries: int = 0
    seconds: float = 0.0
    error: str = ""

    def lines(self) -> list[str]:
        """Return the report as lines of text."""
        stored, used = self.stored, self.usage
        unusable = "; ".join(f"{count} {status}" for status, count in stored.unusable.items())
        speed = f", {used.completion_tokens / self.seconds:.1f} tokens/s" if self.seconds else ""
        return [
            f"  texts labelled   {stored.labelled} of {stored.texts}" + (f"; without: {unusable}" if unusable else ""),
            *([f"  last problem     {self.error}"] if self.error else []),
            f"  this run         {count(self.labels, 'label')} from {count(used.requests, 'request')}, of these "
            f"{count(self.retries, 'retry', 'retries')}",
            f"  tokens           {used.prompt_tokens} prompt, {used.completion_tokens} completion{speed}",
            f"  cost             ${used.cost:.4f} (whole set ${stored.cost:.4f})"
            + (f"; without {used.uncounted} replies whose tokens the server did not count" if used.uncounted else ""),
            f"  wall time        {self.seconds:.1f} s",
        ]


def agreement_lines(crowd: Agreement | None) -> list[str]:
    """Return the agreement of LLM and crowd as lines of text with 95 % intervals; none if there is no crowd."""
    if crowd is None:
        return []
    heading = "  agreement with the crowd"
    return [
        heading if crowd.pcc.measurable else f"{heading}: {NOTHING_FOLLOWS}",
        *(f"    {name:<14} {figure}" for name, figure in _figures(crowd).items()),
    ]


def _figures(crowd: Agreement) -> dict[str, str]:
    """Return the figures of an agreement as text, by name."""
    return {
        "PCC": told(crowd.pcc),
        "CCC": told(crowd.ccc),
        "Krippendorff": told(crowd.krippendorff),
        "RMSE": str(crowd.rmse),
        "mean bias": f"{crowd.bias} (positive: the LLM scores higher)",
        "texts": str(crowd.n),
    }


LEAST_REPLIES, MOST_ALIKE = 30, 0.5
"""The fewest replies that say something about a model, and the largest share of them that may be alike."""


def alike_warning(name: str, scores: Sequence[float], times: int, replies: int) -> str | None:
    """Return a sentence if most replies give the items the same unequal scores, else None.

    Such a model fills in a form, for example by counting. One that gives all items of a text the same score
    may still say which texts differ.

    Args:
        name: the label set's name.
        scores: of the items, in the commonest reply.
        times: how many replies give these scores.
        replies: how many there are.

    Example:
        >>> (alike_warning("mine", (1, 2, 3), 40, 50) or "").partition(", whatever")[0]
        'mine: 80 % of the replies give the items the same scores, 1 2 3'
    """
    if replies < LEAST_REPLIES or times <= MOST_ALIKE * replies or len(set(scores)) < 2:
        return None
    share, shown = 100 * times / replies, " ".join(f"{score:g}" for score in scores)
    return (
        f"{name}: {share:.0f} % of the replies give the items the same scores, {shown}, whatever the text says; choose "
        "a readout= that asks by the items' names, text or expected, or another llm="
    )


@dataclass(frozen=True)
class CostEstimate:
    """What a job would ask, and what that would cost.

    Args:
        requests: questions without a usable stored answer; retries are extra.
        prompt_tokens: of all of them, as the engine's tokenizer counts them.
        completion_tokens: for replies of the usual length.
        cost: US dollars.
        at_most: US dollars if each reply reached ``max_tokens`` and was asked for twice.
        approximate: whether tokens were estimated from the length of the texts, not counted by the model's tokenizer.
    """

    requests: int
    prompt_tokens: int
    completion_tokens: int
    cost: float
    at_most: float
    approximate: bool = False

    def lines(self) -> list[str]:
        """Return the estimate as text."""
        rough = (
            "  approximate      tokens are estimated from the length of the texts, not counted by the model's tokenizer"
        )
        return [
            *([rough] if self.approximate else []),
            f"  would ask        {self.requests} requests",
            f"  tokens           {self.prompt_tokens} prompt, about {self.completion_tokens} completion",
            f"  cost             about ${self.cost:.4f}, at most ${self.at_most:.4f}",
        ]


def datasheet_path(store: Path, stored: StoredSet) -> Path:
    """Return the path of a label set's datasheet, in a folder next to the store."""
    name = re.sub(r"""[/\\:*?"<>|]""", "__", stored.info.name)  # characters that file systems forbid in names
    return store.with_suffix("") / f"{name}__{stored.id}.md"


def write_datasheet(
    store: Path,
    stored: StoredSet,
    retry: float,
    agreement: Agreement | None,
    parts: Sequence[tuple[DriftPart, Agreement | None]] = (),
    doubts: Sequence[str] = (),
) -> Path:
    """Write the datasheet of a label set, and return its path.

    Args:
        store: the label store.
        stored: the label set.
        retry: temperature of the second attempt.
        agreement: with the crowd; None if there is no crowd.
        parts: the parts of the set, each with its agreement with the crowd.
        doubts: reasons to doubt the labels, one sentence each.
    """
    info = stored.info
    path = datasheet_path(store, stored)
    text = rendered(
        DATASHEET,
        stored=stored,
        info=info,
        about=info.about,
        form=json.loads(info.items),
        scale={"instructions": "", "items": (), "source": "", "wording": ""} | info.about.get("scale", {}),
        retry=retry,
        figures=_figures(agreement) if agreement else {},
        parts=[(part, told(crowd.pcc) if crowd else "", told(crowd.ccc) if crowd else "") for part, crowd in parts],
        doubts=doubts,
        measurable=agreement is not None and agreement.pcc.measurable,
        nothing_follows=NOTHING_FOLLOWS,
    )
    write_text(path, text)
    return path


def multirun_lines(directory: Path) -> tuple[list[str], list[str]]:
    """Return a table of a multirun's label sets, from its jobs' reports, and a line for each job that failed."""
    jobs = [path for path in sorted(directory.iterdir(), key=lambda path: (len(path.name), path.name)) if path.is_dir()]
    reports = [job / JOB_REPORT for job in jobs if (job / JOB_REPORT).is_file()]
    rows = [row for report in reports for row in json.loads(report.read_text("utf-8"))]
    lines = []
    if rows:
        table = pd.DataFrame(rows).drop(columns="unusable", errors="ignore")
        lines += ["", table.to_string(index=False, na_rep=""), ""]
        if "set" in table:
            lines.append("report=true, with the same data and scale, compares them, and prompts on the same texts")
    failed = [job for job in jobs if (job / JOB_ERROR).is_file()]
    return lines, [f"failed: {job}: {(job / JOB_ERROR).read_text('utf-8').strip()}" for job in failed]
