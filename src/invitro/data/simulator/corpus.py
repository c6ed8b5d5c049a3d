"""The simulator: texts whose true scores are known, rated by a crowd and an LLM, each with its own errors.

Their wording reveals a level; they are composed from the project's own phrases in `phrases/<language>.yaml`.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cache
from importlib.resources import files
from random import Random
from typing import Annotated, Any, ClassVar

import numpy as np
import numpy.typing as npt
import pandas as pd
import yaml
from annotated_types import Ge, Le
from scipy.special import ndtr

from invitro.data.corpus import DEMOGRAPHICS, Corpus, canonical
from invitro.data.ratings import Layout, People, item_columns, long_form
from invitro.data.reader import SplitRule
from invitro.data.simulator.rating import CrowdRaters, LLMRater, at_random
from invitro.errors import InputError, refuse_if_any
from invitro.scales import Scale
from invitro.settings import Count, Index, NotNegative, Share, checked
from invitro.stats import Floats, Ints

SHORTEST_TEXT, LONGEST_TEXT = 44, 163
"""Bounds of a text's length in words."""

LEAD_RATE = 0.2
CLOSER_RATE = 0.3
TRIES = 50


def languages() -> tuple[str, ...]:
    """Return the languages that have phrases, such as ``en``."""
    folder = files("invitro.data.simulator") / "phrases"
    return tuple(sorted(file.name.removesuffix(".yaml") for file in folder.iterdir() if file.name.endswith(".yaml")))


@cache
def phrases(language: str) -> Mapping[str, Any]:
    """Return the phrases of one language; the comment at the top of its file describes them."""
    file = files("invitro.data.simulator") / "phrases" / f"{language}.yaml"
    content: Mapping[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
    return content


@dataclass(frozen=True)
class Composer:
    """Writes texts about one construct in one language.

    A text has an opener, then signal sentences (at the rate `signal`) and fillers until it is long enough, and often a
    closer. A signal sentence comes from one of five grades::

        grade = clip(floor(5 * level + N(0, blur)), 0, 4)        level = (score - low) / (high - low)

    so that the wording of a text reveals its level, with noise, and more reliably in a long text. The level is the mean
    of the items' levels; constructs without their own phrases get sentences about single items, each graded by the
    level of its item. No text repeats a template before all others of its kind have been used.

    Args:
        scale: its construct chooses the phrases.
        language: one of `languages`.
        signal: share of sentences that carry a signal.
        blur: SD of a sentence's grade, in grades.
    """

    scale: Scale
    language: str = "en"
    signal: float = 0.5
    blur: float = 1.2

    def compose(self, levels: npt.NDArray[np.float64], stories: npt.NDArray[np.int64], seed: int) -> list[str]:
        """Write one text for each row of `levels`, no two alike.

        Args:
            levels: what the text says, item by item, 0 to 1, shape (texts, items).
            stories: the number of each text's story, shape (texts,).
            seed: seed of the choice of words.

        Raises:
            InputError: the phrases are not enough for this many different texts.
        """
        rng = Random(seed)
        plots = [self._plot(rng) for _ in range(int(stories.max(initial=-1)) + 1)]
        texts: dict[str, None] = {}
        for row, story in zip(levels.tolist(), stories.tolist(), strict=True):
            for _ in range(TRIES):
                text = self._text(row, plots[story], rng)
                if text not in texts:
                    break
            else:
                raise InputError(
                    f"data.texts: the {self.language} phrases for {self.scale.construct} suffice for {len(texts)} "
                    f"different texts, not for {len(levels)}; ask for fewer"
                )
            texts[text] = None
        return list(texts)

    def _plot(self, rng: Random) -> dict[str, str]:
        """Make up a story: where it happens, what it is, and who its people are."""
        place = rng.choice(phrases(self.language)["slots"]["place"])
        story = rng.choice(phrases(self.language)["stories"])
        who = story["who"]
        return {"place": place, "event": story["event"].format(place=place), "who": who, "whom": story.get("whom", who)}

    def _text(self, levels: Sequence[float], plot: Mapping[str, str], rng: Random) -> str:
        """Write one text."""
        content = phrases(self.language)
        specific = content["constructs"].get(self.scale.construct)
        kind = specific or content["generic"]
        setting = content["settings"][kind["setting"]]
        fillers = _without_end(setting["fillers"], rng)
        graded = [_without_end(grade, rng) for grade in kind["grades"]]
        wanted = min(SHORTEST_TEXT + rng.gammavariate(1.1, 25.0), LONGEST_TEXT - 28.0)
        level = sum(levels) / len(levels)

        sentences = [self._filled(rng.choice(setting["openers"]), plot, rng)]
        words, since = len(sentences[0].split()), 0.0
        while words < wanted:
            since += self.signal
            if rng.random() < since:
                since -= 1.0
                item = rng.randrange(len(levels))
                worded = len(graded) * (level if specific else levels[item]) + rng.gauss(0.0, self.blur)
                grade = int(min(max(worded, 0.0), len(graded) - 1.0))
                details = {**plot, "statement": self.scale.items[item].statement}
                lead = rng.choice(content["leads"]) if rng.random() < LEAD_RATE else ""
                sentences.append(lead + self._filled(next(graded[grade]), details, rng, capital=not lead))
            else:
                sentences.append(self._filled(next(fillers), plot, rng))
            words += len(sentences[-1].split())
        if rng.random() < CLOSER_RATE and words < LONGEST_TEXT - 15:
            sentences.append(self._filled(rng.choice(setting["closers"]), plot, rng))
        return " ".join(sentences)

    def _filled(self, template: str, plot: Mapping[str, str], rng: Random, capital: bool = True) -> str:
        """Fill the slots and start with a capital; after a lead, only "I", quotations and German keep it."""
        slots = phrases(self.language)["slots"]
        sentence = template.format(kin=rng.choice(slots["kin"]), when=rng.choice(slots["when"]), **plot)
        if capital:
            return sentence[0].upper() + sentence[1:]
        keep = sentence.startswith(("I ", '"')) or self.language == "de"
        return sentence if keep else sentence[0].lower() + sentence[1:]


def _without_end(templates: Sequence[str], rng: Random) -> Iterator[str]:
    """Yield all templates in random order, again and again."""
    while True:
        yield from rng.sample(templates, len(templates))


TEXTS_EACH = 5
LINE, PERSON_ID = "line-", "person-"
"""The prefixes of the ids of raters who answer by straight lines, and of all others."""

# Each step draws from its own stream, so a different crowd leaves truth, texts and LLM labels unchanged.
STREAMS = ("latent", "people", "wording", "text", "crowd", "llm", "raters")

Prompts = Annotated[
    Mapping[str, Mapping[str, Any]],
    "prompts, each with what differs from data.llm, such as {reasoned: {text_noise: 0.1}}",
]


@checked("data")
@dataclass(frozen=True)
class Simulator:
    """Simulates a corpus for any scale, in the regime of NewsEmp18 by default.

    The latent level of text i by author a about story s, and from it the true score of item j, are::

        z_i  = sqrt(author_share) * A_a + sqrt(story_share) * S_s + sqrt(1 - author_share - story_share) * R_i
        t_ij = low + (high - low) * Phi(level + spread * (loading * z_i + sqrt(1 - loading^2) * E_ij))

    with standard normal A, S, R, E and the normal distribution function Phi. ``truth`` is the scale's score of t. What
    the text says is s_ij = clip(t_ij + (high - low) * N_i(0, wording)); wording and LLM follow s, the crowd t.

    Args:
        split: the rule for training, validation and test.
        texts: number of texts.
        authors: number of people who wrote them, in equal parts; None is one per five texts.
        stories: number of stories they are about; None is one per five texts.
        language: the texts' language, ``en`` or ``de``; the same seed gives the same truth, people and ratings in both.
        seed: the same seed and settings give the same table, byte for byte.
        level: shifts all scores; 0 centres them on the middle of the scale, -1.5 makes high scores rare.
        spread: 1 spreads a single-item scale evenly over its range; less stays near the middle, more goes to the ends.
        author_share: share of the latent variance that authors explain.
        story_share: share that stories explain.
        loading: the loading of every item on the general factor, 0 to 1.
        wording: SD of what a text says around what its author felt, a share of the item's range.
        signal: share of a text's sentences that say anything about the construct.
        crowd: the people who give ``crowd_label``.
        raters: number of other people who rate the texts; None if each text is rated only by its author.
        ratings: number of them who rate each text; the crowd label is their mean.
        careless: share of the raters who answer every text by a straight line; their ids begin with `LINE`.
        lost: share of the ratings that are missing, so that texts have different numbers of them.
        llm: the LLM that gives ``llm_label``.
        prompts: for each prompt's name, the fields in which the LLM differs under it, such as
            ``{reasoned: {text_noise: 0.1}}``: it then gives ``llm_label_reasoned`` too. Each prompt has its own noise,
            as an LLM makes other errors if it is asked differently; ``{}`` is the same rater with new noise.

    Raises:
        InputError: naming every invalid setting.
    """

    split: SplitRule
    texts: Count = 2000
    authors: Count | None = None
    stories: Count | None = None
    language: str = "en"
    seed: Index = 0
    level: Annotated[float, Ge(-5), Le(5)] = -0.4
    spread: Annotated[float, Ge(0), Le(10)] = 1.4
    author_share: Share = 0.35
    story_share: Share = 0.15
    loading: Share = 0.9
    wording: NotNegative = 0.17
    signal: Share = 0.42
    crowd: CrowdRaters = field(default_factory=CrowdRaters)
    raters: Count | None = None
    ratings: Count = 3
    careless: Share = 0.0
    lost: Share = 0.0
    llm: LLMRater = field(default_factory=LLMRater)
    prompts: Prompts | None = None
    name: str = "simulated"
    licence: ClassVar[str] = "simulated: no person wrote or rated it, and no rights are reserved"
    citation: ClassVar[str] = "Simulated by invitro; there is nothing to cite but the software"

    def contradictions(self) -> Iterator[str]:
        """Yield settings that contradict each other."""
        for name in ("authors", "stories"):
            if (getattr(self, name) or 1) > self.texts:
                yield f"data.{name}: expected at most the number of texts ({self.texts}), found {getattr(self, name)}"
        if self.raters is None:
            for name in ("careless", "lost"):
                if value := getattr(self, name):
                    yield f"data.{name}={value:g} applies to raters other than the authors; set data.raters (say, 100)"
        elif self.ratings > self.raters:
            yield f"data.ratings: expected at most data.raters={self.raters}, found {self.ratings}"
        if self.language not in languages():
            yield f"data.language: expected one of {', '.join(languages())}, found {self.language!r}"
        if (total := self.author_share + self.story_share) > 1:
            yield f"data.author_share and data.story_share: expected at most 1 together, found {total:g}"
        allowed = [setting.name for setting in fields(LLMRater)]
        for prompt, changed in (self.prompts or {}).items():
            if unknown := [name for name in changed if name not in allowed]:
                yield f"data.prompts.{prompt}: expected any of {', '.join(allowed)}, found {', '.join(unknown)}"
                continue
            try:
                replace(self.llm, **changed)
            except InputError as error:
                yield from (problem.replace("data.llm", f"data.prompts.{prompt}", 1) for problem in error.problems)

    def read(self, scale: Scale) -> Corpus:
        """Simulate the corpus for `scale`.

        Besides the canonical columns and the demographics (text), the table has ``article_id`` (the story's number),
        ``truth`` (float64 in the scale's units, as are the next), ``llm_label`` and ``llm_<item>`` (NaN if the reply
        failed), ``llm_label_<prompt>`` for each of `prompts`, and ``fault`` (``none`` or one of `raters.FAULTS`; with
        several raters that of one of them). With `raters` the corpus has `Corpus.people`, ``crowd_n`` and ``crowd_sd``.

        Raises:
            InputError: the raters' settings do not suit the scale, or an item is called ``label``.
        """
        taken = {"label", *(f"label_{prompt}" for prompt in self.prompts or {})}
        refuse_if_any(
            f"{self.name}: scale {scale.name} calls an item '{item.name}', whose column would be llm_{item.name}"
            for item in scale.items
            if item.name in taken
        )
        author, story = self._authorship()
        truth = self._latent(author, story, scale)
        people = demographics(int(author.max()) + 1, self._stream("people")).iloc[author].reset_index(drop=True)
        drift = self.wording * self._stream("wording").normal(size=(len(truth), 1))
        said = np.clip((truth - scale.low) / (scale.high - scale.low) + drift, 0.0, 1.0)
        # Answers to reversed items run opposite to what the author felt.
        asked = scale.keyed(truth)
        answers = self.crowd.rate(asked, author, people, scale, self._stream("crowd"))
        read = scale.keyed(scale.low + (scale.high - scale.low) * said)
        llm = self.llm.score(read, scale, self._stream("llm"), people)
        words = int(self._stream("text").integers(2**63))

        digits = len(str(self.texts))
        group = pd.Series([f"sim-{number + 1:0{digits}}" for number in author])
        columns: dict[str, Any] = {
            "text_id": group + [f"_{number + 1:0{digits}}" for number in range(self.texts)],
            "text": Composer(scale, self.language, self.signal).compose(said, story, words),
            "group_id": group,
            "article_id": story + 1,
            "crowd_label": scale.score(answers.items),
            **{name: people[name].astype("str") for name in DEMOGRAPHICS},  # text, as every reader has it
            "truth": scale.score(asked),
            "fault": answers.fault,
            "llm_label": scale.score(llm),
            **{f"llm_{item.name}": llm[:, position] for position, item in enumerate(scale.items)},
            **{
                f"llm_label_{prompt}": scale.score(
                    replace(self.llm, **changed).score(read, scale, self._stream("llm", prompt), people)
                )
                for prompt, changed in (self.prompts or {}).items()
            },
        }
        several = None
        if self.raters is not None:
            several, columns["fault"] = self._several(asked, pd.Series(columns["text_id"]), scale)
            labels = several.labels().reindex(pd.Index(columns["text_id"]))
            columns |= {str(name): labels[name].to_numpy() for name in labels}
            columns["crowd_n"] = labels["crowd_n"].fillna(0).to_numpy(dtype=np.int64)
        table = canonical(pd.DataFrame(columns), scale, self.name, published_splits=False)
        table["split"] = self.split.assign(table)
        return Corpus(self.name, table, self.licence, self.citation, has_truth=True, people=several)

    def _several(self, asked: Floats, text_ids: "pd.Series[str]", scale: Scale) -> tuple[People, npt.NDArray[np.str_]]:
        """Have `ratings` of the `raters` answer every text; return their answers, and one fault per text."""
        assert self.raters is not None
        rng = self._stream("raters")
        everyone = np.tile(np.arange(self.raters), (len(asked), 1))
        rater = rng.permuted(everyone, axis=1)[:, : self.ratings].ravel()
        text = np.repeat(np.arange(len(asked)), self.ratings)
        people = demographics(self.raters, rng).iloc[rater].reset_index(drop=True)
        lined = rng.permutation(self.raters) < round(self.careless * self.raters)
        lines = at_random(len(text), 1, scale, rng)
        kept = rng.random(len(text)) >= self.lost
        answers = self.crowd.rate(asked[text], rater, people, scale, self._stream("crowd"))
        items = np.where(lined[rater][:, None], lines, answers.items)
        fault = np.where(lined[rater], "straight_lining", answers.fault)
        digits = len(str(self.raters))
        ids = np.array([f"{LINE if line else PERSON_ID}{n + 1:0{digits}}" for n, line in enumerate(lined)])
        sheets = pd.DataFrame(items, columns=list(item_columns(scale))).map("{:g}".format)
        sheets = sheets.assign(**{"text id": text_ids.to_numpy()[text], "rater": ids[rater]}).loc[kept]
        several = long_form(sheets.reset_index(drop=True), Layout("text id", "rater"), scale, self.name)
        worst = np.full(len(asked), "none", dtype=fault.dtype)
        wrong = kept & (fault != "none")
        worst[text[wrong]] = fault[wrong]
        return several, worst

    def _stream(self, step: str, prompt: str = "") -> np.random.Generator:
        """Return the random numbers of one step or prompt, independent of any other prompts."""
        return np.random.default_rng([self.seed, STREAMS.index(step), *prompt.encode()])

    def _authorship(self) -> tuple[Ints, Ints]:
        """Return each text's author and story: authors in blocks of equal size, stories shuffled over the texts."""
        authors = self.authors or math.ceil(self.texts / TEXTS_EACH)
        stories = self.stories or math.ceil(self.texts / TEXTS_EACH)
        number = np.arange(self.texts, dtype=np.int64)
        return number * authors // self.texts, self._stream("latent").permutation(number % stories)

    def _latent(self, author: Ints, story: Ints, scale: Scale) -> Floats:
        """Draw the true item scores, shape (texts, items), within the items' bounds."""
        rng = self._stream("latent").spawn(1)[0]
        unexplained = 1.0 - self.author_share - self.story_share
        z = math.sqrt(self.author_share) * rng.normal(size=int(author.max()) + 1)[author]
        z = z + math.sqrt(self.story_share) * rng.normal(size=int(story.max()) + 1)[story]
        z = z + math.sqrt(max(unexplained, 0.0)) * rng.normal(size=self.texts)
        specific = rng.normal(size=(self.texts, len(scale.items)))
        x = self.level + self.spread * (self.loading * z[:, None] + math.sqrt(1.0 - self.loading**2) * specific)
        return np.asarray(scale.low + (scale.high - scale.low) * ndtr(x), dtype=np.float64)


def demographics(authors: int, rng: np.random.Generator) -> pd.DataFrame:
    """Draw the authors' demographics in the codes of the news corpora, one row per author.

    ``gender`` 1, 2 or 5; ``education`` 1 to 7; ``race`` 1 to 6; ``age`` in years, 18 to 85; ``income`` per year, in
    steps of 500. They are independent of the truth: groups differ only if the raters' settings make them differ.
    """
    return pd.DataFrame(
        {
            "gender": rng.choice([1, 2, 5], size=authors, p=[0.48, 0.5, 0.02]),
            "education": rng.choice(np.arange(1, 8), size=authors, p=[0.02, 0.1, 0.22, 0.12, 0.34, 0.15, 0.05]),
            "race": rng.choice(np.arange(1, 7), size=authors, p=[0.72, 0.1, 0.07, 0.06, 0.01, 0.04]),
            "age": np.clip(18 + np.rint(rng.gamma(2.6, 7.5, size=authors)), 18, 85).astype(np.int64),
            "income": (500 * np.rint(rng.lognormal(10.7, 0.6, size=authors) / 500)).astype(np.int64),
        }
    )
