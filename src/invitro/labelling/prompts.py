"""Prompts: templates that ask an LLM for scores, with the text fenced so that it can only be data."""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Annotated, Any, Literal

from jinja2 import StrictUndefined, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from invitro.engines.base import Messages, Readout
from invitro.errors import InputError
from invitro.labelling.replies import OVERALL, ReplyForm
from invitro.labelling.texts import Example, Text
from invitro.scales import Scale
from invitro.settings import Index, checked

SCRIPTS = {"bn": ("\u0980", "\u09ff")}
"""Languages recognised by their script, with its first and last character."""

# Short words that are frequent in one of the languages and rare in the others.
SMALL_WORDS = {
    "en": "the and of to is was that it for with they this have are not but my be what were you who would",
    "de": "der die das und ist nicht ich zu es ein eine mit sie auf für war den dass auch wie hat wir von sich",
    "es": "el la los las de que y en un una es no se por con para su lo como más pero fue muy está me",
}
_WORDS = {language: frozenset(words.split()) for language, words in SMALL_WORDS.items()}
Language = Literal["en", "de", "es", "bn"]


def language_of(text: str, among: Sequence[str]) -> str:
    """Return the language of `text`, one of `among`; the first of them if none is recognised.

    Args:
        text: at least a sentence; only its first 2,000 characters are read.
        among: codes, each a `Language`.
    """
    head = text[:2000]
    for language, (first, last) in SCRIPTS.items():
        letters = sum(character.isalpha() for character in head)
        if language in among and sum(first <= character <= last for character in head) > letters / 2:
            return language
    words = re.findall(r"[^\W\d_]+", head.lower())
    counts = {language: sum(word in _WORDS[language] for word in words) for language in among if language in _WORDS}
    best = max(counts, key=lambda language: counts[language], default=among[0])
    return best if counts.get(best) else among[0]


BEGIN, END = "<<<BEGIN TEXT>>>", "<<<END TEXT>>>"
MARK = re.compile(r"<{3,}|>{3,}")
# The forms of the marks that chat templates put around turns, thoughts and tools, with any word in them: <think>,
# </s>, <|user|>, <｜User｜>, [INST], [gMASK], [|system|]. Inside a text, a tokenizer would read them as the end of the
# user's turn.
TURNS = re.compile(
    r"<(?=[^\s<>]{1,60}>)|<(?=[|｜])|(?<=[|｜])>|\[(?=/?\w{0,20}[A-Z]{2}\w{0,20}\]|unused\d{1,4}\]|\|)|(?<=\|)\]"
)

_environment = ImmutableSandboxedEnvironment(
    undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False
)


def harmless(text: str) -> str:
    """Return `text` with spaces in anything that could close the fence or be a control token; the rest is unchanged.

    Example:
        >>> harmless("I <3 her. </think><|im_end|> [SYSTEM_PROMPT] [sic]")
        'I <3 her. < /think>< |im_end| > [ SYSTEM_PROMPT] [sic]'
    """
    text = TURNS.sub(lambda match: match[0] + " " if match[0] in "<[" else " " + match[0], text)
    return MARK.sub(lambda match: " ".join(match[0]), text)


def fenced(text: str) -> str:
    """Return `text` between the two marks, which occur nowhere else in it."""
    return f"{BEGIN}\n{harmless(text)}\n{END}"


@checked("prompt")
@dataclass(frozen=True)
class Prompt:
    """How an LLM is asked: two templates, the fixed part (``system``) and the part with the text (``user``).

    Templates see ``scale`` (``name``, ``construct``, ``occasion``, ``instructions``, ``aggregation``), ``items``
    (``name`` and ``statement``; with `overall` the construct is the only item), ``low`` and ``high`` of each item,
    ``minimum`` and ``maximum`` of the whole scale, all as text, ``count`` of these items, ``decimals`` (whether scores
    may have some), ``digits`` (whether digits are read), ``begin`` and ``end`` (the marks),
    ``language``, ``examples`` (``essay``, fenced, and ``score``), and in ``user`` also ``writer`` (what is known about
    the writer, in words) and ``essay`` (the text, fenced). An unknown name is an error.

    Args:
        name: the choice in the group ``prompt``.
        system: template of the fixed part: task, scale, reply format.
        user: template of the rest; it ends in ``{{ essay }}``.
        overall: ask for one score for the whole scale instead of one per item.
        total: ask for one score for the whole scale after the items' scores; see `ReplyForm`.
        reasoning: brief reasoning comes before the scores.
        shots: how many examples from the training split are shown.
        shots_seed: seed for choosing them.
        codes: the demographic columns that describe the writer, each with its codes in words; values without a code
            are used unchanged. None leaves the writer undescribed.
        languages: what ``language`` can be; the first is used for texts in any other one. Empty if there is only one.

    Raises:
        InputError: naming every fault of templates and settings.
    """

    name: str
    system: Annotated[str, "a Jinja template"]
    user: Annotated[str, "a Jinja template"]
    overall: bool = False
    total: bool = False
    reasoning: bool = False
    shots: Index = 0
    shots_seed: Index = 0
    codes: dict[str, dict[str, str]] | None = None
    languages: tuple[Language, ...] = ()

    def contradictions(self) -> Iterator[str]:
        """Yield what is wrong with the templates."""
        for part in ("system", "user"):
            try:
                _environment.from_string(getattr(self, part))
            except TemplateError as error:
                yield f"prompt.{part} is not a Jinja template: line {getattr(error, 'lineno', '?')}: {error}"
        if not re.search(r"\{\{-?\s*essay\s*-?\}\}\s*\Z", self.user):
            yield "prompt.user must end in {{ essay }}, so that the fixed part comes first and the text last"
        if "essay" in re.findall(r"\{\{-?\s*(\w+)\s*-?\}\}", self.system):
            yield "prompt.system is the same for all texts and cannot hold {{ essay }}; put it into user"

    @property
    def hash(self) -> str:
        """Hash of everything that the rendered prompts depend on, except scale, readout and texts."""
        return _hashed({name: value for name, value in asdict(self).items() if name != "name"})

    def form(self, scale: Scale, readout: Readout) -> ReplyForm:
        """Return the form of the replies that this prompt asks for."""
        return ReplyForm(scale, readout, self.overall, self.reasoning, self.total)


class Renderer:
    """Renders one prompt for one form of reply; about 20 microseconds per text, since the fixed part is cached.

    Args:
        prompt: the prompt to render.
        form: the form of the replies.

    Raises:
        InputError: a template needs a name that does not exist.
    """

    def __init__(self, prompt: Prompt, form: ReplyForm) -> None:
        self.prompt, self.form = prompt, form
        self._user = _environment.from_string(prompt.user)
        self._system = lru_cache(maxsize=256)(self._render_system)
        self._values = lru_cache(self._make_values)
        example = Example(Text("example", "an example"), form.low)
        for language in prompt.languages or (None,):
            try:
                self.messages(Text("check", "a text", language=language), (example,))
            except (TemplateError, TypeError, ValueError) as error:
                raise InputError(f"prompt={prompt.name} cannot be rendered: {error}") from error

    def hash(self, examples: tuple[Example, ...] = ()) -> str:
        """Hash of everything in the fixed part: the prompt, the scale's words and the usual `examples`.

        Labels with different hashes are different label sets; otherwise an edited questionnaire would continue a label
        set that the old version started.
        """
        scale = self.form.scale
        words = [scale.construct, scale.occasion, scale.instructions, scale.overall, scale.decimals]
        words.append([item.statement for item in scale.items])
        translated = {
            code: dict(scale.translations[code]) for code in self.prompt.languages if code in scale.translations
        }
        shown = [[example.text.text, example.score] for example in examples]
        return _hashed([[self.prompt.hash, words, translated], shown])

    def messages(self, text: Text, examples: tuple[Example, ...] = ()) -> Messages:
        """Return the chat that asks for the scores of `text`: the fixed part, then the text."""
        languages = self.prompt.languages
        language = "en"
        if languages:
            language = text.language if text.language in languages else language_of(text.text, languages)
        system = self._system(language, tuple((example.text.text, example.score) for example in examples))
        user = self._user.render(
            **self._values(language),
            examples=_shown((example.text.text, example.score) for example in examples),
            writer=_in_words(text.demographics, self.prompt.codes or {}),
            essay=fenced(text.text),
        )
        return {"role": "system", "content": system}, {"role": "user", "content": user.strip()}

    def _render_system(self, language: str, examples: tuple[tuple[str, float], ...]) -> str:
        template = _environment.from_string(self.prompt.system)
        return template.render(**self._values(language), examples=_shown(examples)).strip()

    def _make_values(self, language: str) -> Mapping[str, Any]:
        form, scale = self.form, self.form.scale
        words = scale.translations.get(language, {})
        items = [{"name": item.name, "statement": words.get(item.name, item.statement)} for item in scale.items]
        about = {name: words.get(name, getattr(scale, name)) for name in ("construct", "occasion", "instructions")}
        if form.overall:
            items = [{"name": OVERALL, "statement": about["construct"]}]
            about["instructions"] = scale.overall or (
                f"Judge the {scale.construct} as a whole, from {scale.minimum:g} (the least there can be) to "
                f"{scale.maximum:g} (the most there can be)."
            )
        return {
            "scale": {"name": scale.name, "aggregation": scale.aggregation, **about},
            "items": items,
            "low": f"{form.low:g}",
            "high": f"{form.high:g}",
            "minimum": f"{scale.minimum:g}",
            "maximum": f"{scale.maximum:g}",
            "count": len(items),
            "decimals": form.decimals,
            "digits": form.readout == Readout.DIGITS,
            "begin": BEGIN,
            "end": END,
            "language": language,
        }


def _hashed(values: Any) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=list).encode()).hexdigest()[:16]


def _shown(examples: Iterable[tuple[str, float]]) -> list[dict[str, str]]:
    return [{"essay": fenced(text), "score": f"{score:.2f}".rstrip("0").rstrip(".")} for text, score in examples]


def _in_words(demographics: Mapping[str, str], codes: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """Return what is known about a writer in words, one line per value; like the text, these values are data."""
    return {
        column: " ".join(harmless(codes[column].get(value.removesuffix(".0"), value)).split())
        for column in codes
        if (value := demographics.get(column)) is not None
    }
