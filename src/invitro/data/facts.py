"""What a corpus is like: what is known before anything is trained, and what should make one look again."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any
from unicodedata import name as name_of_sign

import numpy as np
import pandas as pd

from invitro.data.corpus import CANONICAL_COLUMNS, SPLITS, Corpus
from invitro.data.reader import same_text
from invitro.scales import Scale
from invitro.stats import Floats
from invitro.writing.words import count, listed

FEW_TESTS, LEAST_COMPARED, NARROW = 30, 10, 0.3
"""Test texts, and texts with both labels, below which one is warned, or is not; and the narrowest share of a range."""
NO_LETTERS, UNTOLD = "no letters", "too short or mixed to tell"
SURE, MOST_LOOKED_AT = 0.99, 5000
"""Probability below which a text's language is not told, and the most texts whose language is looked at."""


@dataclass(frozen=True)
class CorpusFacts:
    """What is known of a corpus.

    Args:
        name: the corpus's.
        scale: of the crowd labels.
        splits: number of texts by split, without empty ones.
        crowd: the crowd labels that are there, (rated,), the scale's units.
        tested: those of the test texts.
        missing: number of texts without a value, by column, where any is missing.
        copies: texts that repeat an earlier one, but for case and blanks as `same_text` has it.
        authors: how many people wrote the texts.
        words: of each text, (texts,).
        scripts: number of texts by the script of most of their letters, the commonest first.
        languages: number of texts by language, see `languages_of`; empty where nobody looked, as it takes seconds.
    """

    name: str
    scale: Scale
    splits: Mapping[str, int]
    crowd: Floats
    tested: Floats
    missing: Mapping[str, int]
    copies: int
    authors: int
    words: Floats
    scripts: Mapping[str, int]
    languages: Mapping[str, int] = field(default_factory=dict)

    @property
    def texts(self) -> int:
        """How many there are."""
        return len(self.words)

    def named(self) -> dict[str, str]:
        """Return the facts by their names, for people."""
        facts = {"texts": f"{self.texts} ({listed(f'{number} {split}' for split, number in self.splits.items())})"}
        facts["authors"] = str(self.authors)
        facts["scale"] = f"{self.scale.name}, {self.scale.minimum:g} to {self.scale.maximum:g}"
        facts["crowd labels"] = _described(self.crowd, "no text has one")
        facts["missing"] = listed(f"{column} {number}" for column, number in self.missing.items()) or "nothing"
        facts["repeated texts"] = str(self.copies)
        least, median, most = np.quantile(self.words, [0, 0.5, 1])
        facts["words in a text"] = f"{least:g} to {most:g}, half of the texts up to {median:g}"
        facts["scripts"] = listed(f"{script} {number}" for script, number in self.scripts.items())
        if self.languages:
            seen = sum(self.languages.values())
            some = "" if seen == self.texts else f", of {seen} texts spread over the table"
            facts["languages"] = listed(f"{name} {number}" for name, number in self.languages.items()) + some
        return facts

    def line(self) -> str:
        """Return the facts as one line."""
        return "; ".join(f"{name}: {value}" for name, value in self.named().items() if name != "scale")

    def doubts(self) -> Iterator[str]:
        """Yield what makes test metrics uncertain or undefined, a line each."""
        values = np.unique(self.crowd)
        if len(values) == 2 and len(self.crowd) >= FEW_TESTS:
            low, high = values
            yield (
                f"all {len(self.crowd)} crowd labels are {low:g} or {high:g}, like those of two classes: PCC and RMSE "
                "are made for scores; for classes use a classifier and AUC"
            )
        told = {name: number for name, number in self.languages.items() if name != UNTOLD}
        if len(told) > 1:
            main = max(told, key=told.__getitem__)
            others = listed(f"{name} {number}" for name, number in told.items() if name != main)
            number = sum(told.values()) - told[main]
            yield (
                f"most texts are in one language ({main}), {count(number, 'text')} in another ({others}): does the "
                "encoder read these too?"
            )
        yield from doubts_of_tested(self.tested)


def doubts_of_tested(labels: Floats) -> Iterator[str]:
    """Yield what makes metrics on test texts with these crowd labels, (n,), uncertain or undefined, a line each."""
    if 0 < len(labels) < FEW_TESTS:
        yield f"test metrics rest on {count(len(labels), 'text')} only: too few to tell models apart"
    if len(labels) and np.ptp(labels) == 0:
        yield "all test texts have one crowd label, so that PCC and CCC are undefined"


def corpus_facts(corpus: Corpus, scale: Scale) -> CorpusFacts:
    """Return what is known of a corpus."""
    table = corpus.table
    sizes = table["split"].value_counts()
    # Whom a text was not given to is no gap, nor the spread of one rating; cells without an answer are counted with
    # the ratings.
    raters = corpus.people.raters if corpus.people is not None else ()
    others = [*(name for name in CANONICAL_COLUMNS if name != "crowd_label"), "crowd_sd", *raters]
    gaps = table.drop(columns=others, errors="ignore").isna().sum()
    scripts = Counter(map(script_of, table["text"]))
    tested = corpus.of_split("test")["crowd_label"]
    return CorpusFacts(
        name=corpus.name,
        scale=scale,
        splits={split: int(sizes[split]) for split in SPLITS if split in sizes},
        crowd=table["crowd_label"].dropna().to_numpy(dtype=np.float64),
        tested=tested.dropna().to_numpy(dtype=np.float64),
        missing={str(name): int(number) for name, number in gaps.items() if number},
        copies=int(same_text(table["text"]).duplicated().sum()),
        authors=int(table["group_id"].nunique()),
        words=np.array([len(text.split()) for text in table["text"]], dtype=np.float64),
        scripts=dict(scripts.most_common()),
    )


def script_of(text: str) -> str:
    """Return the script of most of a text's letters, as Unicode names it.

    Example:
        >>> script_of("I felt sorry."), script_of("Мне жаль, Anna."), script_of("12!")
        ('Latin', 'Cyrillic', 'no letters')
    """
    if text.isascii():
        return "Latin" if any(map(str.isalpha, text)) else NO_LETTERS
    found = Counter[str]()
    for sign, number in Counter(text).items():
        if sign.isalpha():
            found[_script(sign)] += number
    return found.most_common(1)[0][0] if found else NO_LETTERS


def languages_of(texts: Sequence[str]) -> dict[str, int]:
    """Count texts by language, the commonest first.

    A text's language is told by py3langid, a naive Bayes classifier over byte n-grams; where its probability is below
    `SURE`, as in a text of a few words, nothing is said. Of more than `MOST_LOOKED_AT` texts, so many are looked at,
    evenly spread.

    Returns:
        Number of texts by ISO 639 code, such as ``en``, or `UNTOLD`.

    Example:
        >>> languages_of(["The flood took everything they had, and nobody came to help them.", "ok"])
        {'en': 1, 'too short or mixed to tell': 1}
    """
    places = np.unique(np.linspace(0, len(texts) - 1, MOST_LOOKED_AT).round().astype(int)) if len(texts) else ()
    found = Counter(_identifier().classify(texts[place])[0] for place in places)
    untold = found.pop("und", 0) + found.pop("zxx", 0)  # undetermined, and no language at all
    return dict(found.most_common()) | ({UNTOLD: untold} if untold else {})


@cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True, min_confidence=SURE)


@cache
def _script(letter: str) -> str:
    """Return a letter's script: the first word of its name, such as ``LATIN SMALL LETTER A``."""
    first = name_of_sign(letter, "unnamed").partition(" ")[0].partition("-")[0]
    return first if first == "CJK" else first.capitalize()


@dataclass(frozen=True)
class LlmFacts:
    """LLM labels beside the crowd's, on the texts that have both.

    Args:
        name: of the label set.
        scale: of the labels.
        crowd: the crowd's labels, (n,).
        llm: the LLM's, (n,).
    """

    name: str
    scale: Scale
    crowd: Floats
    llm: Floats

    @property
    def r(self) -> float | None:
        """Pearson's correlation; None where crowd or LLM gave all texts one label, or there are fewer than two."""
        if len(self.crowd) < 2 or not np.ptp(self.crowd) or not np.ptp(self.llm):
            return None
        return float(np.corrcoef(self.crowd, self.llm)[0, 1])

    @property
    def bias(self) -> float | None:
        """The mean of LLM minus crowd, the scale's units; None without a text."""
        return float(np.mean(self.llm - self.crowd)) if len(self.crowd) else None

    def named(self) -> dict[str, str]:
        """Return the facts by their names, for people."""
        facts = {"LLM labels": self.name, "texts with both labels": str(len(self.crowd))}
        if len(self.crowd):
            r = "undefined: crowd or LLM gave all texts one label" if self.r is None else f"{self.r:.2f}"
            facts |= {"r of LLM and crowd": r, "bias (LLM minus crowd)": f"{self.bias:+.2f}"}
            facts |= {"crowd on these": _described(self.crowd), "LLM on these": _described(self.llm)}
        return facts

    def line(self) -> str:
        """Return the facts as one line."""
        return "; ".join(f"{name}: {value}" for name, value in self.named().items())

    def doubts(self) -> Iterator[str]:
        """Yield why these labels may be reversed, of other texts or on another scale, a line each."""
        low, high = self.scale.minimum, self.scale.maximum
        if len(self.llm) and (self.llm.min() < low or self.llm.max() > high):
            yield (
                f"{self.name}: LLM labels from {self.llm.min():g} to {self.llm.max():g} lie outside the scale, {low:g} "
                f"to {high:g}; training refuses them: bring them to the scale"
            )
        if len(self.crowd) < LEAST_COMPARED:
            return
        if self.r is None:
            yield (
                f"{self.name}: crowd or LLM gave all {len(self.crowd)} texts one label; nothing says whether they agree"
            )
        elif self.r <= 0:
            yield (
                f"{self.name}: LLM and crowd labels correlate by {self.r:.2f} on {len(self.crowd)} texts. Are they "
                "reversed, or of other texts? Correcting the crowd by them makes labels worse; application=none leaves "
                "them out"
            )
        if np.ptp(self.llm) < NARROW * min(high - low, float(np.ptp(self.crowd))):
            yield (
                f"{self.name}: LLM labels lie within {self.llm.min():g} to {self.llm.max():g} on a scale from {low:g} "
                f"to {high:g}; are they on another scale?"
            )


def llm_facts(name: str, scale: Scale, crowd: "pd.Series[float]", llm: "pd.Series[float]") -> LlmFacts:
    """Compare an LLM's labels with the crowd's.

    Args:
        name: of the label set.
        scale: of the labels.
        crowd: by text, NaN where nobody rated.
        llm: in the same order, NaN where there is none.
    """
    ours, theirs = np.asarray(crowd, dtype=np.float64), np.asarray(llm, dtype=np.float64)
    both = ~np.isnan(ours) & ~np.isnan(theirs)
    return LlmFacts(name, scale, ours[both], theirs[both])


def _described(labels: Floats, none: str = "none") -> str:
    """Say how many labels there are, their range, mean and SD."""
    if not len(labels):
        return none
    sd = f", SD {np.std(labels, ddof=1):.2f}" if len(labels) > 1 else ""
    return f"{len(labels)} from {labels.min():.4g} to {labels.max():.4g}, mean {labels.mean():.2f}{sd}"
