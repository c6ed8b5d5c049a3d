"""What a labelling job did, how its labels agree with the crowd's, and what one would cost, for people."""

import json
from dataclasses import dataclass, field
from pathlib import Path

from invitro.engines.base import Usage
from invitro.files import write_text
from invitro.labels.answers import StoredSet
from invitro.stats.agreement import Agreement
from invitro.stats.intervals import NOT_MEASURABLE, told

NOTHING_FOLLOWS = (
    f"{NOT_MEASURABLE} with this model: the interval of its correlation with the crowd includes 0 or does not exist, "
    "and nothing follows from these labels about prompts, languages or bias"
)


@dataclass
class JobReport:
    """What a job did.

    Args:
        stored: the label set afterwards, with all its counts.
        usage: requests, tokens and cost of this job.
        labels: labels that this job added.
        retries: requests that were the second attempt.
        seconds: wall time.
        error: the last one of this job, where a question got no answer.
    """

    stored: StoredSet
    usage: Usage = field(default_factory=Usage)
    labels: int = 0
    retries: int = 0
    seconds: float = 0.0
    error: str = ""

    def lines(self) -> list[str]:
        """Return the report for people."""
        stored, used = self.stored, self.usage
        unusable = "; ".join(f"{count} {status}" for status, count in stored.unusable.items())
        speed = f", {used.completion_tokens / self.seconds:.1f} tokens/s" if self.seconds else ""
        return [
            f"  texts labelled   {stored.labelled} of {stored.texts}" + (f"; without: {unusable}" if unusable else ""),
            *([f"  last error       {self.error}"] if self.error else []),
            f"  this run         {self.labels} labels from {used.requests} requests, {self.retries} of them retries",
            f"  tokens           {used.prompt_tokens} prompt, {used.completion_tokens} completion{speed}",
            f"  cost             ${used.cost:.4f} (whole set ${stored.cost:.4f})",
            f"  wall time        {self.seconds:.1f} s",
        ]


def agreement_lines(found: Agreement | None) -> list[str]:
    """Return the agreement of LLM and crowd for people, figures with 95 % intervals; none where there is no crowd."""
    if found is None:
        return []
    figures = {
        "PCC": told(found.pcc),
        "CCC": told(found.ccc),
        "alpha": told(found.alpha),
        "RMSE": str(found.rmse),
        "mean bias": f"{found.bias} (positive: the LLM scores higher)",
        "texts": str(found.n),
    }
    heading = "  agreement with the crowd"
    return [
        heading if found.pcc.measurable else f"{heading}: {NOTHING_FOLLOWS}",
        *(f"    {name:<14} {figure}" for name, figure in figures.items()),
    ]


@dataclass(frozen=True)
class CostEstimate:
    """What a job would ask and what that would cost.

    Args:
        requests: questions without a usable stored answer; retries come on top.
        prompt_tokens: of all of them, as the engine's tokenizer counts.
        completion_tokens: of replies of the usual length.
        cost: US dollars.
        at_most: US dollars if each reply ran to ``max_tokens`` and was asked for twice.
        approximate: tokens were not counted by the model's tokenizer, but estimated from the length of the texts.
    """

    requests: int
    prompt_tokens: int
    completion_tokens: int
    cost: float
    at_most: float
    approximate: bool = False

    def lines(self) -> list[str]:
        """Return the estimate for people."""
        rough = (
            "  approximate      tokens are estimated from the length of the texts, not counted by the model's tokenizer"
        )
        return [
            *([rough] if self.approximate else []),
            f"  would ask        {self.requests} requests",
            f"  tokens           {self.prompt_tokens} prompt, about {self.completion_tokens} completion",
            f"  cost             about ${self.cost:.4f}, at most ${self.at_most:.4f}",
        ]


QUESTIONS = """# Label set {name}

{labelled} of {texts} texts of the corpus `{corpus}` have a score on the scale `{scale}` that a language model gave.
Nobody checked the scores one by one. They are no judgement of a person and no diagnosis.

## Made by
| | |
| --- | --- |
| id | `{id}` |
| begun | {created} |
| model | `{model}`{revision} as `llm={llm}` |
| prompt | `{prompt}`, template {template} |
| readout | {readout} |
| sampling | `{sampling}` |
| retry | once, at temperature {retry}, where a reply was of no use |
| samples a text | {samples} |
| engine | {engine} |
| invitro | {version} |

## Came back
| | |
| --- | --- |
| answers | {answers}, retries included |
| without a usable one | {unusable} |
| tokens | {prompt_tokens} prompt, {completion_tokens} completion |
| cost | ${cost:.4f} |
{agreement}
## Scale
{scale_text}

## The prompt as it was sent, with an empty text
{prompt_text}

## The texts
Licence: {licence}. {citation}
The label set holds ids, scores and the model's replies, which may quote the texts: the texts' terms hold for it too.
"""


def datasheet_path(store: Path, stored: StoredSet) -> Path:
    """Return where a label set's datasheet lies: in a folder beside the store."""
    return store.with_suffix("") / f"{stored.info.name.replace('/', '__')}__{stored.id}.md"


def write_datasheet(store: Path, stored: StoredSet, retry: float, agreement: Agreement | None) -> Path:
    """Write the datasheet of a label set, and return its path.

    Args:
        store: the label store.
        stored: the label set.
        retry: temperature of the second attempt.
        agreement: with the crowd; None where there is no crowd.
    """
    info, about = stored.info, stored.info.about
    rows = _agreement(agreement)
    form = json.loads(info.items)
    scale = about.get("scale", {})
    items = "".join(f"- `{item['name']}`: {item['statement']}\n" for item in scale.get("items", ()))
    scale_text = (
        f"{scale.get('instructions', '')}\n\n{items}\nScores asked for: {', '.join(form['names'])}, each "
        f"{form['low']:g} to {form['high']:g}; items are combined by {form['aggregation']}. {scale.get('source', '')}"
    )
    prompt = "\n\n".join(f"{one['role']}:\n\n{one['content']}" for one in about.get("messages", ()))
    text = QUESTIONS.format(
        name=info.name,
        id=stored.id,
        labelled=stored.labelled,
        texts=stored.texts,
        created=stored.created,
        corpus=info.corpus,
        scale=info.scale,
        model=info.model,
        revision=f", revision `{info.revision}`" if info.revision else "",
        llm=info.llm,
        prompt=info.prompt,
        template=info.template,
        readout=info.readout,
        sampling=info.sampling,
        retry=retry,
        samples=stored.samples,
        version=about.get("version", "unknown"),
        engine=", ".join(f"{name} {value}" for name, value in about.get("engine", {}).items()) or "unknown",
        answers=stored.answers,
        unusable=", ".join(f"{count} {status}" for status, count in stored.unusable.items()) or "none",
        prompt_tokens=stored.prompt_tokens,
        completion_tokens=stored.completion_tokens,
        cost=stored.cost,
        agreement="\n".join(rows),
        scale_text=scale_text.strip(),
        prompt_text="\n".join(f"    {line}".rstrip() for line in prompt.splitlines()),
        licence=about.get("licence", "unknown"),
        citation=about.get("citation", ""),
    )
    path = datasheet_path(store, stored)
    write_text(path, text)
    return path


def _agreement(found: Agreement | None) -> list[str]:
    """Return the lines on the agreement with the crowd."""
    if found is None:
        return [""]
    cells = (line.strip().partition("  ") for line in agreement_lines(found)[1:])
    rows = [f"| {name.strip()} | {value.strip()} |" for name, _, value in cells]
    remark = [] if found.pcc.measurable else [f"{NOTHING_FOLLOWS[0].upper()}{NOTHING_FOLLOWS[1:]}.", ""]
    return ["", "## Agreement with the crowd", *remark, "| | |", "| --- | --- |", *rows, ""]
