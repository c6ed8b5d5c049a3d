"""The datasheet of a label set: what was asked of whom, how, what came back and what it is fit for."""

import json
from pathlib import Path

from invitro.files import write_text
from invitro.labelling.reports import NOTHING_FOLLOWS, agreement_lines
from invitro.labels.agreement import Agreement
from invitro.labels.stored import StoredSet

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
