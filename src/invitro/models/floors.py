"""Floors: regressions that need no LLM, no training of an encoder and no GPU, as settings that check themselves."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from invitro.errors import InputError, refuse_if_any
from invitro.models.settings import PLM


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
