"""The model card."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from invitro.models.outputs import Outputs, Score
from invitro.scales import Scale


@dataclass(frozen=True)
class CardFacts:
    """What the model card tells; everything in it was set or measured by the run.

    Args:
        base: the encoder's name; empty where there is none.
        base_licence: its weights' licence.
        corpus: the corpus's name.
        corpus_licence: its terms.
        citation: whom to cite for the corpus.
        labels: one line on the training labels: sizes, what was replaced and added, by which LLM.
        metrics: ``{"val": {...}, "test": {...}}``, each PCC, CCC, RMSE or empty.
        library: what loads the folder.
    """

    base: str
    base_licence: str
    corpus: str
    corpus_licence: str
    citation: str
    labels: str
    metrics: Mapping[str, Mapping[str, float] | None]
    library: str = "transformers"


def model_card(scale: Scale, facts: CardFacts, outputs: Outputs | None = None, made_of: str = "") -> str:
    """Return the model card as Markdown with the hub's metadata header.

    Args:
        scale: what is scored.
        facts: what the run set and measured.
        outputs: what the model's outputs mean; None is one output, the score.
        made_of: a sentence on a model that is no fine-tuned encoder.
    """
    base = f"base_model: {json.dumps(facts.base)}\n" if facts.base else ""
    header = f"---\nlibrary_name: {facts.library}\npipeline_tag: text-classification\n{base}"
    header += f"tags: [regression, {json.dumps(scale.construct)}]\n---\n"
    rows = [
        f"| {split} | {scores['pcc']:.3f} | {scores['ccc']:.3f} | {scores['rmse']:.3f} |"
        for split, scores in facts.metrics.items()
        if scores
    ]
    table = "\n".join(["| split | PCC | CCC | RMSE |", "| --- | --- | --- | --- |", *rows]) if rows else "Not measured."
    base_licence = f"Base model {facts.base}: {facts.base_licence}. " if facts.base else ""
    return f"""{header}
# {scale.construct} from text ({scale.name})

Scores a text's {scale.construct} from {scale.minimum:g} to {scale.maximum:g}. The output is not clipped: a score
can lie slightly outside.

{" ".join(filter(None, (made_of, (outputs or Score()).told())))}

## Numbers of the run that trained it

{table}

PCC and CCC say how scores order and match the labels of the split; these labels are one person's each and noisy.

## Training data

Corpus {facts.corpus} ({facts.corpus_licence}). {facts.labels}
{f"Please cite: {facts.citation}." if facts.citation else ""}
Scale: {scale.source or scale.name}.

## Licence

{base_licence}What was learned from the corpus is subject to the corpus's terms too.

## Limits

It scores texts, not people: it was trained on texts like those of the corpus and says little about others. It is no
diagnostic instrument, and no decision about a person should rest on it. Labels by an LLM carry that LLM's biases;
compare groups of writers before you rely on differences between them.
"""
