"""Which encoder is fine-tuned, and how much of it: settings that are checked before anything loads."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Ge, Lt, MinLen

from invitro.files import sha256
from invitro.settings import Count, Positive, checked
from invitro.weights import WEIGHT_PACKAGES, absent, packaged

LICENCES = {
    "FacebookAI/roberta-base": "MIT",
    "FacebookAI/xlm-roberta-base": "MIT",
    "microsoft/deberta-v3-base": "MIT",
} | {name: package.licence for name, package in WEIGHT_PACKAGES.items()}


Name = Annotated[str, MinLen(1), "a model's name or folder"]
TokenCount = Annotated[int, Ge(3)]
Dropout = Annotated[float, Ge(0), Lt(1)]
Penalties = Annotated[tuple[Positive, ...], MinLen(1), "one or more numbers above 0"]
Folds = Annotated[int, Ge(2)]
PredictedSpread = Literal["raw", "linear", "matched"]

FROZEN = ("frozen", "head")
"""Values of ``plm.train`` that leave the encoder unchanged; the second is an alias of the first."""


def in_closed_form(plm: Mapping[str, Any]) -> bool:
    """Whether the configuration `plm` describes a model fitted in one step: a baseline, or a frozen encoder.

    Example:
        >>> [in_closed_form(plm) for plm in ({"name": "tfidf"}, {"train": "head"}, {"train": "lora"})]
        [True, True, False]
    """
    return plm.get("train", FROZEN[0]) in FROZEN


@checked("plm")
@dataclass(frozen=True)
class PLM:
    """The pre-trained encoder.

    Args:
        name: a name on the model hub, or a folder.
        revision: the hub's revision; a commit makes a run reproducible.
        train: ``full`` fine-tunes everything; ``lora`` fine-tunes the head and low-rank adapters in the encoder, which
            saves memory on large encoders; ``frozen`` fits a regression in closed form on features of the frozen
            model, which may be a decoder; they are computed once. ``head`` is an alias.
        max_length: longest text in tokens, at least 3; longer ones are cut.
        dropout: of encoder and head during training, in [0, 1); None keeps the encoder's own.
        attention_dropout: of the attention weights only, in [0, 1); None means `dropout`. At 0, attention is one fused
            operation on a CPU too, which saves a third of a training step.
        lr: learning rate for this encoder; adapters need one about ten times as large.
        lora_rank: rank of the adapters, at least 1.
        lora_alpha: factor of the adapters times their rank, at least 1.
        layers: how many of the encoder's layers are kept when it is fine-tuned, from the first; None keeps all. Middle
            layers say more about a writer's feelings than the last ones, and every layer cut makes a step cheaper.
        pooling: what the head reads when the encoder is fine-tuned: ``first_token`` of the last layer, as in
            Transformers, or a learned ``mixture`` of all layers, each the mean over tokens.

    Raises:
        InputError: naming every setting that is out of range, a missing folder, or a missing package.
    """

    name: Name
    revision: str | None = None
    train: Literal["full", "lora", "frozen", "head"] = "full"
    max_length: TokenCount = 512
    dropout: Dropout | None = None
    attention_dropout: Dropout | None = None
    lr: Positive = 3e-5
    lora_rank: Count = 16
    lora_alpha: Count = 32
    layers: Count | None = None
    pooling: Literal["first_token", "mixture"] = "first_token"

    def contradictions(self) -> Iterator[str]:
        """Yield what is requested but missing: a folder, or the package that adapters need."""
        folder = Path(self.name).expanduser()
        # A name on the hub is `model` or `owner/model`.
        if (self.name.startswith((".", "/", "~")) or self.name.count("/") > 1) and not folder.is_dir():
            yield f"plm.name={self.name}: no such folder (looked for {folder.resolve()})"
        if self.train == "lora" and find_spec("peft") is None:
            yield 'plm.train=lora: needs a package that is not installed: pip install "invitro[lora]"'
        for name, value in (("layers", self.layers), ("pooling", self.pooling)):
            if self.frozen and value not in (None, "first_token"):
                yield f"plm.{name}={value}: with plm.train={self.train} layers are chosen on the training texts"

    @property
    def frozen(self) -> bool:
        """Whether the encoder stays unchanged."""
        return self.train in FROZEN

    @property
    def decisive(self) -> dict[str, Any]:
        """The settings that determine a run's result: those of adapters only if there are adapters, and so on."""
        if self.frozen:
            return {"train": FROZEN[0], "max_length": self.max_length}
        unused = [] if self.train == "lora" else ["lora_rank", "lora_alpha"]
        unused += ["layers"] if self.layers is None else []
        unused += ["pooling"] if self.pooling == "first_token" else []
        return {name: value for name, value in asdict(self).items() if name not in unused}

    @property
    def licence(self) -> str:
        """The weights' licence, if known, for the model card."""
        return LICENCES.get(self.name, "see the base model's own card")

    @property
    def fingerprint(self) -> str:
        """Identity of the weights: hashes of a folder's files, or the hub's name and revision."""
        folder = Path(self.source)
        if not folder.is_dir():
            return f"{self.name}@{self.revision or 'main'}"
        files = sorted(
            file for file in folder.glob("*") if file.suffix in (".json", ".safetensors", ".bin", ".model", ".txt")
        )
        return " ".join(f"{file.name}:{sha256(file)}" for file in files)

    @property
    def absent(self) -> str | None:
        """What to do if the encoder is not on this machine and the hub is unreachable; else None. Nothing is loaded."""
        advice = absent(self.name, self.revision)
        return advice and f"PLM {self.name}: not found. {advice} that holds it with plm.name="

    @property
    def source(self) -> str:
        """Where to load from: the folder, the packages' folder if they are installed, or the name on the hub."""
        if Path(self.name).expanduser().is_dir():
            return str(Path(self.name).expanduser())
        package = packaged(self.name, self.revision)
        return self.name if package is None else str(package.folder())


@checked("plm")
@dataclass(frozen=True)
class TfIdfRidge:
    """Ridge regression on TF-IDF of words and short word sequences.

    Args:
        name: shown in reports and stored in records.
        ngrams: longest sequence of words that is a term, at least 1.
        min_texts: how many training texts a term must occur in, at least 1.
        penalties: on the squared coefficients, above 0; one is chosen by cross-validation on the training texts.
        folds: of that cross-validation, at least 2.

    Raises:
        InputError: naming every setting that is out of range.
    """

    name: str = "tfidf"
    ngrams: Count = 2
    min_texts: Count = 2
    penalties: Penalties = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
    folds: Folds = 5

    @property
    def fingerprint(self) -> str:
        """Identity of its pre-trained weights; there are none."""
        return "TF-IDF ridge"

    @property
    def licence(self) -> str:
        """Licence of its pre-trained weights; there are none."""
        return ""


@checked("plm")
@dataclass(frozen=True)
class EmbeddingRidge:
    """Ridge regression on embeddings of the texts by a frozen encoder.

    Args:
        name: the encoder: a name on the model hub, or a folder.
        revision: the hub's revision.
        max_length: longest text in tokens, at least 3; longer ones are cut.
        penalties: on the squared coefficients of standardised features, above 0; one is chosen by cross-validation.
        folds: of that cross-validation, at least 2.

    Raises:
        InputError: naming every setting that is out of range, or a missing folder.
    """

    name: Name
    revision: str | None = None
    max_length: TokenCount = 512
    penalties: Penalties = (100.0, 300.0, 1000.0, 3000.0, 10000.0)
    folds: Folds = 5

    def contradictions(self) -> Iterator[str]:
        """Yield what is wrong with the encoder."""
        return self.encoder.contradictions()

    @property
    def encoder(self) -> PLM:
        """The frozen encoder."""
        return PLM(self.name, self.revision, max_length=self.max_length)

    @property
    def fingerprint(self) -> str:
        """Identity of the encoder's weights."""
        return self.encoder.fingerprint

    @property
    def licence(self) -> str:
        """The encoder's licence, if known, for the model card."""
        return self.encoder.licence


Baseline = TfIdfRidge | EmbeddingRidge
"""A model that needs no LLM, fitted in closed form."""
