"""The folder of a trained model: ordinary Hugging Face files, what its outputs mean, and a model card."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from shutil import rmtree
from tempfile import TemporaryDirectory
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from invitro.errors import InputError
from invitro.files import write_json, write_text
from invitro.models.loading import Loaded, load_tokenizer, load_trained
from invitro.models.settings import PLM
from invitro.scales import Scale


@dataclass(frozen=True)
class CardFacts:
    """What the model card tells; everything in it was set or measured by the run.

    Args:
        base: the encoder's name.
        base_licence: its weights' licence.
        corpus: the corpus's name.
        corpus_licence: its terms.
        citation: whom to cite for the corpus.
        labels: one line on the training labels: sizes, what was replaced and added, by which LLM.
        metrics: ``{"val": {...}, "test": {...}}``, each PCC, CCC, RMSE or empty.
    """

    base: str
    base_licence: str
    corpus: str
    corpus_licence: str
    citation: str
    labels: str
    metrics: Mapping[str, Mapping[str, float] | None]


def save_model(
    folder: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, scale: Scale, facts: CardFacts
) -> None:
    """Save a trained regressor so that `AutoModelForSequenceClassification.from_pretrained(folder)` loads it.

    The folder is written under another name and renamed: it is whole, or not there.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as temporary:
        _write_files(Path(temporary) / "model", model, tokenizer, scale, facts)
        if folder.exists():
            rmtree(folder)
        (Path(temporary) / "model").rename(folder)


def _write_files(
    folder: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, scale: Scale, facts: CardFacts
) -> None:
    folder.mkdir()
    model.config.label2id, model.config.id2label = {scale.construct: 0}, {0: scale.construct}
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    write_json(
        folder / "scale.json",
        {"outputs": ["score"], "minimum": scale.minimum, "maximum": scale.maximum, "scale": asdict(scale)},
    )
    write_text(folder / "README.md", model_card(scale, facts))


def load_model(folder: str | Path, device: str | torch.device = "cpu") -> tuple[Loaded, dict[str, Any]]:
    """Load a trained regressor with its tokenizer, and what ``scale.json`` says of its outputs.

    Raises:
        InputError: the folder is missing, or is not one that `save_model` wrote.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"model={folder}: no such folder; expected the folder model/ of a run directory")
    missing = [name for name in ("config.json", "scale.json") if not (folder / name).is_file()]
    if missing:
        inside = folder / "model"
        mend = f"did you mean model={inside}?" if inside.is_dir() else "name the folder model/ of a run directory"
        raise InputError(f"model={folder}: expected a trained model, found no {' and no '.join(missing)}; {mend}")
    plm = PLM(name=str(folder), max_length=2**20)
    tokenizer, model = load_tokenizer(plm), load_trained(plm)
    model.to(torch.device(device))  # type: ignore[arg-type]  # the annotation is that of what it wraps
    return Loaded(model.eval(), tokenizer), json.loads((folder / "scale.json").read_text("utf-8"))


def model_card(scale: Scale, facts: CardFacts) -> str:
    """Return the model card as Markdown with the hub's metadata header."""
    header = (
        f"---\nlibrary_name: transformers\npipeline_tag: text-classification\nbase_model: {json.dumps(facts.base)}\n"
    )
    header += f"tags: [regression, {json.dumps(scale.construct)}]\n---\n"
    rows = [
        f"| {split} | {scores['pcc']:.3f} | {scores['ccc']:.3f} | {scores['rmse']:.3f} |"
        for split, scores in facts.metrics.items()
        if scores
    ]
    table = "\n".join(["| split | PCC | CCC | RMSE |", "| --- | --- | --- | --- |", *rows]) if rows else "Not measured."
    return f"""{header}
# {scale.construct} from text ({scale.name})

Scores a text's {scale.construct} from {scale.minimum:g} to {scale.maximum:g}. The output is not clipped: a score
can lie slightly outside.

## Numbers of the run that trained it

{table}

PCC and CCC say how scores order and match the labels of the split; these labels are one person's each and noisy.

## Training data

Corpus {facts.corpus} ({facts.corpus_licence}). {facts.labels}
{f"Please cite: {facts.citation}." if facts.citation else ""}
Scale: {scale.source or scale.name}.

## Licence

Base model {facts.base}: {facts.base_licence}. What was learned from the corpus is subject to the corpus's terms too.

## Limits

It scores texts, not people: it was trained on texts like those of the corpus and says little about others. It is no
diagnostic instrument, and no decision about a person should rest on it. Labels by an LLM carry that LLM's biases;
compare groups of writers before you rely on differences between them.
"""
