"""Which of a few languages a text is in: by script where that decides, otherwise by its commonest small words."""

import re
from collections.abc import Sequence

SCRIPTS = {"bn": ("\u0980", "\u09ff")}
"""Languages that their script gives away, with its first and last character."""

# Small words that are frequent in one of the languages and rare in the others.
SMALL_WORDS = {
    "en": "the and of to is was that it for with they this have are not but my be what were you who would",
    "de": "der die das und ist nicht ich zu es ein eine mit sie auf für war den dass auch wie hat wir von sich",
    "es": "el la los las de que y en un una es no se por con para su lo como más pero fue muy está me",
}
_WORDS = {language: frozenset(words.split()) for language, words in SMALL_WORDS.items()}
LANGUAGES = (*_WORDS, *SCRIPTS)


def language_of(text: str, among: Sequence[str]) -> str:
    """Return the language of `text`, one of `among`; the first of them where nothing decides.

    Args:
        text: at least a sentence; its first 2,000 characters are looked at.
        among: codes out of `LANGUAGES`.
    """
    head = text[:2000]
    for language, (first, last) in SCRIPTS.items():
        letters = sum(sign.isalpha() for sign in head)
        if language in among and sum(first <= sign <= last for sign in head) > letters / 2:
            return language
    words = re.findall(r"[^\W\d_]+", head.lower())
    counts = {language: sum(word in _WORDS[language] for word in words) for language in among if language in _WORDS}
    best = max(counts, key=lambda language: counts[language], default=among[0])
    return best if counts.get(best) else among[0]
