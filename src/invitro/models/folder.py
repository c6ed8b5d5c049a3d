"""The folder of a trained model: ordinary files of its library, ``scale.json``, and a model card."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from shutil import rmtree
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Required

import numpy as np
import torch
from annotated_types import Ge, MinLen
from pydantic import ConfigDict, StringConstraints, TypeAdapter
from safetensors.numpy import load_file, save_file
from typing_extensions import TypedDict

from invitro.data.reader import text_form
from invitro.errors import InputError, refuse_if_any
from invitro.files import sha256, write_json, write_text
from invitro.models.encoder import LayerMixture, Loaded, load_regressor, load_tokenizer
from invitro.models.outputs import Outputs, Score
from invitro.models.settings import PLM
from invitro.scales import Item, Scale
from invitro.stats import Ints
from invitro.writing.tables import ReportTable
from invitro.writing.words import rendered

MEANING, ENCODER_KIND, CHECKSUM = "scale.json", "transformers", "checksum"
TRAINED_ON = "trained_on.safetensors"
LOADED_KINDS = (".json", ".safetensors", ".bin", ".model", ".txt", ".jinja", ".py")
"""Suffixes of the files that a library may read when it loads a folder."""
MIXTURE = (
    "It reads a learned mixture of all its encoder's layers; `import invitro.models.encoder` before "
    "`AutoModelForSequenceClassification.from_pretrained` loads it, which `invitro.load` does."
)
COPY_AGAIN = "copy the folder again from where it was trained, or train again"


class Manifest(TypedDict, total=False):
    """The content of ``scale.json``: what the model is, what it scores, and the hash of every file next to it."""

    __pydantic_config__ = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)  # type: ignore[misc]
    scale: Required[dict[str, Any]]
    minimum: Required[float]
    maximum: Required[float]
    outputs: Required[list[str]]
    model: str
    log_variance_bounds: tuple[float, float]
    bins: Annotated[list[float], MinLen(2)]
    ngrams: Annotated[int, Ge(1)]
    files: dict[Annotated[str, MinLen(1)], Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]]
    scripts: dict[str, Annotated[int, Ge(1)]]
    checksum: str


MANIFEST = TypeAdapter(Manifest)


@dataclass(frozen=True)
class CardFacts:
    """The facts on the model card; each was set or measured by the run.

    Args:
        base: the encoder's name; empty if there is none.
        base_licence: its weights' licence.
        corpus: the corpus's name.
        corpus_licence: its terms.
        citation: the reference to cite for the corpus.
        labels: one line on the training labels: their numbers, what was replaced and added, and by which LLM.
        results: the run's metrics, and references to compare them with; None if nothing was measured.
        doubts: what makes the results uncertain, one line per doubt.
        scripts: number of training texts by script, see `invitro.data.facts.script_of`.
        texts: the training texts, whose hashes are saved in the folder; empty if they are not known.
        library: the library that can load the folder.
    """

    base: str
    base_licence: str
    corpus: str
    corpus_licence: str
    citation: str
    labels: str
    results: ReportTable | None = None
    doubts: Sequence[str] = ()
    scripts: Mapping[str, int] = field(default_factory=dict)
    texts: Sequence[str] = field(default=(), repr=False)
    library: str = "transformers"


def model_card(scale: Scale, facts: CardFacts, outputs: Outputs, made_of: str = "") -> str:
    """Return the model card as Markdown with the hub's metadata header.

    Args:
        scale: what is scored.
        facts: what the run set and measured.
        outputs: what the model's outputs mean.
        made_of: a sentence about a model that is not a fine-tuned encoder.
    """
    template = Path(__file__).with_name("card.md.j2")
    return rendered(template, scale=scale, facts=facts, outputs=outputs, made_of=made_of)


def save_model(folder: Path, facts: CardFacts, loaded: Loaded, scale: Scale, outputs: Outputs | None = None) -> None:
    """Save a trained regressor so that `AutoModelForSequenceClassification.from_pretrained(folder)` loads it.

    Args:
        folder: the folder to write.
        facts: for the model card.
        loaded: the model and its tokenizer.
        scale: what it scores.
        outputs: what its outputs mean; None means one output, the score.
    """
    outputs, (model, tokenizer) = outputs or Score(), loaded
    names = outputs.names
    labels = [scale.construct] if len(names) == 1 else [f"{scale.construct} {name}" for name in names]

    def write(target: Path) -> None:
        model.config.label2id = {label: number for number, label in enumerate(labels)}
        model.config.id2label = dict(enumerate(labels))
        model.save_pretrained(target)
        tokenizer.save_pretrained(target)

    made_of = MIXTURE if isinstance(model, LayerMixture) else ""
    write_folder(folder, write, {}, scale, facts, outputs, made_of)


def write_folder(
    folder: Path,
    write: Callable[[Path], None],
    kind: dict[str, Any],
    scale: Scale,
    facts: CardFacts,
    outputs: Outputs,
    made_of: str = "",
) -> None:
    """Write a model's folder under a temporary name and rename it, so that it is either complete or absent.

    Args:
        folder: the folder; an older one is replaced.
        write: writes the model's own files into an empty folder.
        kind: further entries of ``scale.json`` for a model that is not a fine-tuned encoder.
        scale: what the model scores.
        facts: see `model_card`.
        outputs: what the model's outputs mean.
        made_of: a sentence about a model that is not a fine-tuned encoder.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as temporary:
        target = Path(temporary) / "model"
        target.mkdir()
        write(target)
        if len(facts.texts):
            save_file({"hashes": np.unique(text_hashes(facts.texts))}, target / TRAINED_ON)
        meaning = outputs.meaning() | kind
        meaning |= {"minimum": scale.minimum, "maximum": scale.maximum, "scale": asdict(scale)}
        written = [path for path in sorted(target.rglob("*")) if path.is_file()]
        hashes = {path.relative_to(target).as_posix(): sha256(path) for path in written}
        write_json(target / MEANING, sealed(meaning | {"scripts": dict(facts.scripts), "files": hashes}))
        write_text(target / "README.md", model_card(scale, facts, outputs, made_of))
        if folder.exists():
            rmtree(folder)
        target.rename(folder)


def text_hashes(texts: Sequence[str]) -> Ints:
    """Return 64 bits of each text's BLAKE2 hash, (texts,); copies of a text, see `text_form`, have the same hash."""
    forms = (text_form(text).encode("utf-8", "surrogatepass") for text in texts)
    return np.frombuffer(b"".join(hashlib.blake2b(form, digest_size=8).digest() for form in forms), dtype=np.int64)


def read_hashes(folder: str | Path) -> Ints:
    """Return `text_hashes` of the texts that the model in a folder was trained on; empty if there are none."""
    file = Path(folder) / TRAINED_ON
    return np.asarray(load_file(file)["hashes"]) if file.is_file() else np.empty(0, dtype=np.int64)


def sealed(meaning: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of a ``scale.json`` with its own checksum, which reveals a damaged file."""
    content = {name: value for name, value in meaning.items() if name != CHECKSUM}
    text = json.dumps(content, sort_keys=True, ensure_ascii=False)
    return content | {CHECKSUM: hashlib.sha256(text.encode()).hexdigest()}


def read_meaning(folder: str | Path) -> dict[str, Any]:
    """Return the content of a trained model's ``scale.json``: kind of model, meaning of its outputs, scale, bounds.

    It lists the SHA-256 of every other file except the card, and all are checked. Folders of older versions have no
    hashes; there only ``scale.json`` is checked.

    Raises:
        InputError: the folder is missing or contains no trained model, or a file in it is missing or damaged.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"model={folder}: no such folder; expected the folder model/ of a run directory")
    meaning = _meaning(folder / MEANING) if (folder / MEANING).is_file() else {}
    needed = ("config.json", MEANING) if meaning.get("model", ENCODER_KIND) == ENCODER_KIND else (MEANING,)
    missing = [name for name in needed if not (folder / name).is_file()]
    if missing:
        inside = folder / "model"
        fix = f"did you mean model={inside}?" if inside.is_dir() else "name the folder model/ of a run directory"
        raise InputError(f"model={folder}: expected a trained model, found no {' and no '.join(missing)}; {fix}")
    files = meaning.get("files", {})
    refuse_if_any(
        f"model={folder}: {name}: was not saved with the model, and might change what is loaded; remove it"
        for name in _beside(folder)
        if files and name not in files
    )
    refuse_if_any(
        f"model={folder}: {name}: expected the file that was saved, found {difference}; {COPY_AGAIN}"
        for name, digest in files.items()
        if (difference := _difference(folder / name, digest))
    )
    return meaning


def _beside(folder: Path) -> Iterator[str]:
    """Yield the files next to ``scale.json`` that a library may read, relative to the folder."""
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        hidden = any(part.startswith(".") for part in relative.parts)
        if path.suffix in LOADED_KINDS and relative != Path(MEANING) and not hidden:
            yield relative.as_posix()


def _difference(path: Path, digest: str) -> str | None:
    """Return what is there instead of the file with this SHA-256, or None."""
    try:
        if not path.is_file():  # reading a pipe would block
            return "no file" if path.exists() else "none"
        return None if sha256(path) == digest else "different content"
    except OSError:
        return "one that cannot be read"


def _meaning(path: Path) -> dict[str, Any]:
    """Return the content of a ``scale.json``; refuse a damaged one."""
    damaged = InputError(f"model={path.parent}: {path.name} is damaged; {COPY_AGAIN}")
    try:
        content = path.read_bytes()
        meaning, whole = MANIFEST.validate_json(content), json.loads(content)
        scale = scale_of(meaning["scale"])
        equal = (meaning["minimum"], meaning["maximum"]) == (scale.minimum, scale.maximum)
    except InputError as error:
        raise InputError(*damaged.problems, *error.problems) from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise damaged from error
    if not equal or ((CHECKSUM in whole or "files" in whole) and sealed(whole) != whole):
        raise damaged
    return dict(whole)


def scale_of(meaning: Mapping[str, Any]) -> Scale:
    """Return the scale in ``scale.json``; entries that another version added are ignored."""
    entries = {field.name: meaning[field.name] for field in fields(Scale) if field.name in meaning}
    return Scale(**entries | {"items": tuple(Item(**item) for item in meaning["items"])})


def load_model(folder: str | Path, device: str | torch.device = "cpu") -> Loaded:
    """Load the fine-tuned encoder that `save_model` wrote, with its tokenizer.

    Raises:
        InputError: the folder is missing, or does not contain a fine-tuned encoder.
    """
    if (kind := read_meaning(folder).get("model", ENCODER_KIND)) != ENCODER_KIND:
        raise InputError(f"model={folder}: expected a fine-tuned encoder, found {kind}")
    plm = PLM(name=str(folder), max_length=2**20)
    tokenizer, model = load_tokenizer(plm), load_regressor(plm, None)
    model.to(torch.device(device))  # type: ignore[arg-type]  # annotated as the function that it wraps
    return Loaded(model.eval(), tokenizer)
