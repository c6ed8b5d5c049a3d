"""The texts that are labelled, the examples that are shown with them, and the texts that people should rate next."""

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from invitro.data import DEMOGRAPHICS, Corpus, Undivided
from invitro.data.corpus import CANONICAL_COLUMNS
from invitro.data.reader import text_form
from invitro.data.table import Frame
from invitro.errors import InputError
from invitro.scales import Scale
from invitro.stats import Floats
from invitro.writing.words import count


def corpus_of(texts: Sequence[str] | pd.DataFrame, scale: Scale, name: str = "texts") -> Corpus:
    """Return plain texts as a corpus.

    Args:
        texts: strings, which get the ids ``row1``, ``row2`` and so on; or a frame with a column ``text`` and any other
            column of the canonical table, such as ``text_id``, ``group_id`` or ``crowd_label``.
        scale: the scale of the crowd labels, if there are any.
        name: the corpus's key, under which its labels are stored.

    Raises:
        InputError: a text is blank, an id occurs twice, a crowd label is outside `scale`, or there is no text at all.

    Example:
        >>> from invitro.scales import Item
        >>> mood = Scale("mood", "mood", (Item("good", "I feel good"),), 1, 7)
        >>> corpus_of(["I am fine.", "I cried."], mood).table[["text_id", "split"]].values.tolist()
        [['row1', 'unlabelled'], ['row2', 'unlabelled']]
    """
    table = texts if isinstance(texts, pd.DataFrame) else pd.DataFrame({"text": list(texts)}, dtype="str")
    columns = {column: column for column in (*CANONICAL_COLUMNS, *DEMOGRAPHICS) if column in table}
    return Frame(name, {"text": "text"} | columns, Undivided(), name, rows=table).read(scale)


def chosen(table: pd.DataFrame, limit: int | None = None, seed: int | None = None) -> pd.DataFrame:
    """Return `limit` rows of a canonical table, in its order.

    Args:
        table: the table of a corpus.
        limit: how many; None for all.
        seed: seed of a random draw that prefers texts with a crowd label, since their labels can be compared. None
            takes the first rows.
    """
    if limit is None or limit >= len(table):
        return table
    if seed is None:
        return table.head(limit)
    drawn = np.random.default_rng(seed).permutation(len(table))
    rated = table["crowd_label"].notna().to_numpy()[drawn]
    first = np.concatenate([drawn[rated], drawn[~rated]])[:limit]
    return table.iloc[np.sort(first)]


def parts(corpus: Corpus, table: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame, str]]:
    """Yield name, rows and id prefix of each corpus with its own label set; ids are without the prefix.

    Each member of a combination has its own label set, which other combinations share.

    Args:
        corpus: the corpus of `table`.
        table: its table or some of its rows.
    """
    if len(corpus.label_corpora) == 1:
        yield corpus.label_corpora[0], table, ""
        return
    for name in corpus.label_corpora:
        prefix = f"{name}:"
        rows = table.loc[table["text_id"].str.startswith(prefix)]
        if len(rows):
            yield name, rows.assign(text_id=rows["text_id"].str.removeprefix(prefix)), prefix


SPARE = 32
"""How many candidates to keep for each example, since not every text may be shown all of them."""


@dataclass(frozen=True)
class Text:
    """One text to label.

    Args:
        text_id: its id.
        text: what the person wrote.
        group_id: who wrote it.
        demographics: what is known about the writer, by column, as the corpus has it; unknown values are left out.
        language: a code such as ``de``, if the corpus gives it.
    """

    text_id: str
    text: str
    group_id: str = ""
    demographics: Mapping[str, str] = field(default_factory=dict)
    language: str | None = None


@dataclass(frozen=True)
class Example:
    """A rated text shown in a prompt, with its writer's score on the whole scale."""

    text: Text
    score: float


class CorpusTexts:
    """The texts of a canonical table, created one by one on each iteration.

    Args:
        table: the table of one corpus; all splits are labelled.
    """

    def __init__(self, table: pd.DataFrame) -> None:
        self._table = table

    def __len__(self) -> int:
        return len(self._table)

    def __iter__(self) -> Iterator[Text]:
        table = self._table.reindex(columns=["text_id", "text", "group_id", "language", *DEMOGRAPHICS])
        for text_id, text, group_id, language, *cells in table.itertuples(index=False, name=None):
            values = zip(DEMOGRAPHICS, cells, strict=True)
            about = {name: str(value).strip() for name, value in values if not _blank(value)}
            yield Text(str(text_id), str(text), str(group_id), about, None if _blank(language) else str(language))


class Shots:
    """Examples from a corpus's training split, spread over the range of its crowd labels.

    The labelled training texts are divided by label into as many strata as there are examples; each stratum gives one,
    chosen in an order set by `seed`. A text is never shown itself, a copy of itself or its writer's other texts: the
    stratum's next example is shown instead. All other texts see the same examples, so the fixed part stays fixed.

    Args:
        corpus: only its split ``train`` is used.
        count: how many examples.
        seed: seed for choosing them.

    Raises:
        InputError: there are fewer labelled training texts than examples.
    """

    def __init__(self, corpus: Corpus, count: int, seed: int = 0) -> None:
        training = corpus.of_split("train")
        training = training.loc[training["crowd_label"].notna()].sort_values(["crowd_label", "text_id"])
        if len(training) < count:
            raise InputError(
                f"{corpus.name}: the prompt shows {count} examples from the training split, found {len(training)} "
                "training texts with a crowd label; choose another prompt, or fewer with prompt.shots="
            )
        draw = random.Random(seed)
        self._strata: list[list[Example]] = []
        for number in range(count):
            rows = training.iloc[number * len(training) // count : (number + 1) * len(training) // count]
            drawn = rows.iloc[draw.sample(range(len(rows)), min(SPARE, len(rows)))]
            pairs = zip(CorpusTexts(drawn), drawn["crowd_label"], strict=True)
            self._strata.append([Example(text, float(label)) for text, label in pairs])

    def of(self, text: Text) -> tuple[Example, ...]:
        """Return the examples to show with `text`, from the lowest to the highest score."""
        return tuple(
            example
            for stratum in self._strata
            if (example := next((spare for spare in stratum if not _same(spare.text, text)), None))
        )

    def shown(self, texts: Iterable[Text]) -> pd.DataFrame:
        """Return ``text_id`` of each example that is shown with any of `texts`."""
        ids = {example.text.text_id for text in texts for example in self.of(text)}
        return pd.DataFrame({"text_id": sorted(ids)}, dtype="str")


def _same(shown: Text, text: Text) -> bool:
    """Whether one text gives the other away: it is the same text, a copy of it, or by the same writer."""
    same = shown.text_id == text.text_id or (shown.group_id == text.group_id != "")
    return same or text_form(shown.text) == text_form(text.text)


def _blank(value: Any) -> bool:
    return value is None or bool(pd.isna(value)) or not str(value).strip()


MOST_RANKED = 6000
"""The most texts that are ranked: three matrices of their similarities are in memory."""
PRIOR_VARIANCES = (0.25, 0.25, 0.25)
"""The model's priors, before any ratings: of what features explain, a text's own part, and people's noise."""
RANDOM_DRAWS = 5


@dataclass(frozen=True)
class NextTexts:
    """The texts whose rating by a person would be most informative.

    Args:
        table: the best first: ``rank`` (from 1), ``tells`` (the share of the uncertainty about all texts' scores, as
            far as features explain them, that this rating removes after those above it), and the corpus's columns.
        rated: texts that people have rated.
        unrated: texts to choose from.
        llms: whose labels count as further ratings.
        tells: the share that all of these ratings remove together, 0 to 1.
        at_random: the share that as many random texts would remove, mean of `RANDOM_DRAWS` draws.
    """

    table: pd.DataFrame
    rated: int
    unrated: int
    llms: tuple[str, ...]
    tells: float
    at_random: float

    def lines(self) -> list[str]:
        """Return the ranking as lines of text."""
        ratings = f"{count(self.rated, 'text')} rated" + (f"; LLM labels: {', '.join(self.llms)}" if self.llms else "")
        shown = self.table[["rank", "text_id", "tells"]].head(20)
        return [
            f"{len(self.table)} of {self.unrated} unrated texts to have people rate next ({ratings})",
            f"By the model of raters they remove {100 * self.tells:.1f} % of the uncertainty about all texts' scores; "
            f"as many random texts remove {100 * self.at_random:.1f} %",
            *shown.to_string(index=False, float_format=lambda value: f"{value:.4f}").splitlines(),
            *(["..."] if len(self.table) > len(shown) else []),
        ]


def next_texts(table: pd.DataFrame, llm: pd.DataFrame, kernel: Floats, count: int, name: str = "data") -> NextTexts:
    """Rank unrated texts by how much a human rating of each would tell about all of them; see `most_telling`.

    Crowd and LLMs are fitted as raters of one truth (`invitro.raters.joint`). With too few ratings for that, its prior
    variances are used, LLM labels are not, and the ranking spreads over the different kinds of texts.

    Args:
        table: a canonical table.
        llm: LLM labels, one column for each LLM, in the rows of `table`; NaN where there is none.
        kernel: similarities of the texts, (texts, texts), centred, with mean variance 1.
        count: how many texts to return.
        name: the corpus, for errors.

    Raises:
        InputError: all texts are rated, or there are too many.
    """
    from invitro.raters.joint import fit_raters, most_telling
    from invitro.raters.precision import LEAST_TEXTS

    crowd = table["crowd_label"].to_numpy(dtype=np.float64)
    rated, candidates = np.flatnonzero(~np.isnan(crowd)), np.flatnonzero(np.isnan(crowd))
    if not len(candidates):
        raise InputError(f"{name}: all {len(table)} texts are rated; add texts without a crowd label to choose from")
    if len(table) > MOST_RANKED:
        raise InputError(f"{name}: expected at most {MOST_RANKED} texts to rank, found {len(table)}; set limit=")
    if len(rated) >= LEAST_TEXTS:
        ratings = np.column_stack([crowd, llm.to_numpy(dtype=np.float64)])
        fit = fit_raters(ratings, kernel, [False, *[True] * llm.shape[1]], ["the crowd", *map(str, llm)])
        information = fit.information
        variances = (fit.explained**2, fit.own**2, fit.single_noise**2)
    else:
        llm, variances = llm.iloc[:, :0], PRIOR_VARIANCES
        information = np.zeros(kernel.shape)
        if len(rated):  # their values do not matter, only that they are known
            at = np.ix_(rated, rated)
            information[at] = np.linalg.inv(variances[0] * kernel[at] + sum(variances[1:]) * np.eye(len(rated)))
    chosen, gains = most_telling(kernel, information, variances, candidates, count)
    rng = np.random.default_rng(0)
    at_random = [
        most_telling(kernel, information, variances, rng.choice(candidates, len(chosen), replace=False), count)[1].sum()
        for _ in range(RANDOM_DRAWS)
    ]
    ranked = table.iloc[chosen].reset_index(drop=True)
    ranked = pd.concat([pd.DataFrame({"rank": np.arange(1, len(chosen) + 1), "tells": gains}), ranked], axis=1)
    return NextTexts(
        ranked, len(rated), len(candidates), tuple(map(str, llm)), float(gains.sum()), float(np.mean(at_random))
    )
