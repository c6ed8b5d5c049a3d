"""Facts about a corpus that are known before training, and what should raise doubts."""

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
"""Fewer test texts give a warning; fewer texts with both labels give none; a smaller share of a range is narrow."""
NO_LETTERS, UNDECIDED = "no letters", "too short or mixed to tell"
SURE, MOST_IDENTIFIED = 0.99, 5000
"""The probability below which a text's language is undecided, and the most texts whose language is identified."""


@dataclass(frozen=True)
class CorpusFacts:
    """Facts about a corpus.

    Args:
        name: the corpus's name.
        scale: the scale of the crowd labels.
        splits: number of texts by split, without empty splits.
        crowd: the crowd labels of rated texts, (rated,), in the scale's units.
        tested: the crowd labels of rated test texts.
        missing: number of texts without a value, by column, for columns with gaps.
        copies: number of texts that are the same as an earlier one, see `same_text`.
        authors: number of people who wrote the texts.
        words: number of words of each text, (texts,).
        scripts: number of texts by the script of most of their letters, the commonest first.
        languages: number of texts by language, see `languages_of`; empty if not identified, which takes seconds.
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
        """Number of texts."""
        return len(self.words)

    def named(self) -> dict[str, str]:
        """Return the facts by name, for display."""
        facts = {"texts": f"{self.texts} ({listed(f'{number} {split}' for split, number in self.splits.items())})"}
        facts["authors"] = str(self.authors)
        facts["scale"] = f"{self.scale.name}, {self.scale.minimum:g} to {self.scale.maximum:g}"
        facts["crowd labels"] = _described(self.crowd, "no text has one")
        facts["missing"] = listed(f"{column} {number}" for column, number in self.missing.items()) or "nothing"
        facts["repeated texts"] = str(self.copies)
        least, median, most = np.quantile(self.words, [0, 0.5, 1])
        facts["words in a text"] = f"{least:g} to {most:g}, median {median:g}"
        facts["scripts"] = listed(f"{script} {number}" for script, number in self.scripts.items())
        if self.languages:
            seen = sum(self.languages.values())
            sample = "" if seen == self.texts else f", of {seen} texts spread over the table"
            facts["languages"] = listed(f"{name} {number}" for name, number in self.languages.items()) + sample
        return facts

    def line(self) -> str:
        """Return the facts as one line."""
        return "; ".join(f"{name}: {value}" for name, value in self.named().items() if name != "scale")

    def doubts(self) -> Iterator[str]:
        """Yield what makes test metrics uncertain or undefined, one line each."""
        values = np.unique(self.crowd)
        if len(values) == 2 and len(self.crowd) >= FEW_TESTS:
            low, high = values
            yield (
                f"all {len(self.crowd)} crowd labels are {low:g} or {high:g}, like those of two classes: PCC and RMSE "
                "are made for scores; for classes use a classifier and AUC"
            )
        identified = {name: number for name, number in self.languages.items() if name != UNDECIDED}
        if len(identified) > 1:
            main = max(identified, key=identified.__getitem__)
            others = listed(f"{name} {number}" for name, number in identified.items() if name != main)
            number = sum(identified.values()) - identified[main]
            yield (
                f"most texts are in one language ({main}), {count(number, 'text')} in another ({others}): can the "
                "encoder read these too?"
            )
        yield from doubts_of_tested(self.tested)


def doubts_of_tested(labels: Floats) -> Iterator[str]:
    """Yield what makes metrics on test texts with these crowd labels, (n,), uncertain or undefined, one line each."""
    if 0 < len(labels) < FEW_TESTS:
        yield f"test metrics rest on only {count(len(labels), 'text')}: too few to tell models apart"
    if len(labels) and np.ptp(labels) == 0:
        yield "all test texts have the same crowd label, so PCC and CCC are undefined"


def corpus_facts(corpus: Corpus, scale: Scale) -> CorpusFacts:
    """Return the facts about a corpus."""
    table = corpus.table
    sizes = table["split"].value_counts()
    # A rater who was not given a text is not a gap, and neither is the spread of a single rating; unanswered cells are
    # counted with the ratings.
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
    letters = Counter[str]()
    for sign, number in Counter(text).items():
        if sign.isalpha():
            letters[_script(sign)] += number
    return letters.most_common(1)[0][0] if letters else NO_LETTERS


def languages_of(texts: Sequence[str]) -> dict[str, int]:
    """Count texts by language, the commonest first.

    Languages are identified by py3langid, a naive Bayes classifier over byte n-grams; if its probability is below
    `SURE`, as for a text of a few words, the text is undecided. Of more than `MOST_IDENTIFIED` texts, this number is
    identified, evenly spread.

    Returns:
        Number of texts by ISO 639 code, such as ``en``, or `UNDECIDED`.

    Example:
        >>> languages_of(["The flood took everything they had, and nobody came to help them.", "ok"])
        {'en': 1, 'too short or mixed to tell': 1}
    """
    positions = np.unique(np.linspace(0, len(texts) - 1, MOST_IDENTIFIED).round().astype(int)) if len(texts) else ()
    languages = Counter(_identifier().classify(texts[position])[0] for position in positions)
    undecided = languages.pop("und", 0) + languages.pop("zxx", 0)  # undetermined, and no language at all
    return dict(languages.most_common()) | ({UNDECIDED: undecided} if undecided else {})


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
    """LLM labels and the crowd's on the texts that have both.

    Args:
        name: the label set's name.
        scale: the scale of the labels.
        crowd: the crowd's labels, (n,).
        llm: the LLM's labels, (n,).
    """

    name: str
    scale: Scale
    crowd: Floats
    llm: Floats

    @property
    def r(self) -> float | None:
        """Pearson's correlation; None if crowd or LLM gave all texts the same label, or there are fewer than two."""
        if len(self.crowd) < 2 or not np.ptp(self.crowd) or not np.ptp(self.llm):
            return None
        return float(np.corrcoef(self.crowd, self.llm)[0, 1])

    @property
    def bias(self) -> float | None:
        """The mean of LLM minus crowd, in the scale's units; None if there are no texts."""
        return float(np.mean(self.llm - self.crowd)) if len(self.crowd) else None

    def named(self) -> dict[str, str]:
        """Return the facts by name, for display."""
        facts = {"LLM labels": self.name, "texts with both labels": str(len(self.crowd))}
        if len(self.crowd):
            r = "undefined: crowd or LLM gave all texts the same label" if self.r is None else f"{self.r:.2f}"
            facts |= {"r of LLM and crowd": r, "bias (LLM minus crowd)": f"{self.bias:+.2f}"}
            facts |= {"crowd on these": _described(self.crowd), "LLM on these": _described(self.llm)}
        return facts

    def line(self) -> str:
        """Return the facts as one line."""
        return "; ".join(f"{name}: {value}" for name, value in self.named().items())

    def doubts(self) -> Iterator[str]:
        """Yield reasons why these labels may be reversed, of other texts or on another scale, one line each."""
        low, high = self.scale.minimum, self.scale.maximum
        if len(self.llm) and (self.llm.min() < low or self.llm.max() > high):
            yield (
                f"{self.name}: LLM labels from {self.llm.min():g} to {self.llm.max():g} lie outside the scale, {low:g} "
                f"to {high:g}; training refuses them: convert them to the scale"
            )
        if len(self.crowd) < LEAST_COMPARED:
            return
        if self.r is None:
            yield (
                f"{self.name}: crowd or LLM gave all {len(self.crowd)} texts the same label; whether they agree is "
                "unknown"
            )
        elif self.r <= 0:
            yield (
                f"{self.name}: LLM and crowd labels correlate at {self.r:.2f} on {len(self.crowd)} texts. Are they "
                "reversed, or of other texts? Correcting the crowd labels by them makes these worse; application=none "
                "leaves them out"
            )
        if np.ptp(self.llm) < NARROW * min(high - low, float(np.ptp(self.crowd))):
            yield (
                f"{self.name}: LLM labels lie within {self.llm.min():g} to {self.llm.max():g} on a scale from {low:g} "
                f"to {high:g}; are they on another scale?"
            )


def llm_facts(name: str, scale: Scale, crowd: "pd.Series[float]", llm: "pd.Series[float]") -> LlmFacts:
    """Compare an LLM's labels with the crowd's.

    Args:
        name: the label set's name.
        scale: the scale of the labels.
        crowd: the crowd label of each text, NaN if unrated.
        llm: the LLM's labels in the same order, NaN if missing.
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
