"""Texts whose wording reveals a level, composed from the project's own phrases in `phrases/<language>.yaml`."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from random import Random
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml

from invitro.errors import InputError
from invitro.scales import Scale

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
    of the items' levels; constructs without phrases of their own get sentences about single items, each graded by the
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
            InputError: the phrases are not enough for so many different texts.
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
                    f"different texts, found {len(levels)}; ask for fewer"
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
        own = content["constructs"].get(self.scale.construct)
        kind = own or content["generic"]
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
                grade = _grade(level if own else levels[item], len(graded), rng.gauss(0.0, self.blur))
                named = {**plot, "statement": self.scale.items[item].statement}
                lead = rng.choice(content["leads"]) if rng.random() < LEAD_RATE else ""
                sentences.append(lead + self._filled(next(graded[grade]), named, rng, capital=not lead))
            else:
                sentences.append(self._filled(next(fillers), plot, rng))
            words += len(sentences[-1].split())
        if rng.random() < CLOSER_RATE and words < LONGEST_TEXT - 15:
            sentences.append(self._filled(rng.choice(setting["closers"]), plot, rng))
        return " ".join(sentences)

    def _filled(self, template: str, plot: Mapping[str, str], rng: Random, capital: bool = True) -> str:
        """Fill the slots and start with a capital; after a lead, only "I" and German after its colon keep it."""
        slots = phrases(self.language)["slots"]
        sentence = template.format(kin=rng.choice(slots["kin"]), when=rng.choice(slots["when"]), **plot)
        if capital:
            return sentence[0].upper() + sentence[1:]
        keep = sentence.startswith(("I ", '"')) or self.language == "de"
        return sentence if keep else sentence[0].lower() + sentence[1:]


def _grade(level: float, grades: int, noise: float) -> int:
    """Return the grade, 0 to `grades` - 1, in which a sentence is worded."""
    return int(min(max(grades * level + noise, 0.0), grades - 1.0))


def _without_end(templates: Sequence[str], rng: Random) -> Iterator[str]:
    """Yield all templates in random order, again and again."""
    while True:
        yield from rng.sample(templates, len(templates))
