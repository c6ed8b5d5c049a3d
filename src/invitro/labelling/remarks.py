"""What a user should know before a corpus is labelled, though it can be labelled all the same."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from invitro.labels.published import published_sets

if TYPE_CHECKING:
    from invitro.labelling.labeller import Labelling


def published_already(what: "Labelling", corpus: str) -> Iterator[str]:
    """Say that labels by this model with this prompt are published, where that is so."""
    wanted = (corpus, what.llm, what.prompt.name, what.scale.name)
    for one in published_sets():
        if (one.corpus, one.llm, one.prompt, one.scale) == wanted:
            yield (
                f"{one.name}: labels of this name are published already ({one.licence}); train.py and report=true find "
                "them without a question to any model. What is asked now makes another set, and train.py will want to "
                "know which: llm.set_id=published, or the id of the new one"
            )


def untranslated(what: "Labelling") -> Iterator[str]:
    """Say in which of the prompt's languages the scale has no words of its own, and is asked in the file's instead.

    The first language is the one that prompts and scales are written in.
    """
    without = [one for one in what.prompt.languages[1:] if one not in what.scale.translations]
    if without:
        yield (
            f"scale={what.scale.name} has no words in {', '.join(without)}: prompt={what.prompt.name} gives its task "
            "in the text's language there, and the questionnaire as the scale's file has it; translations of the scale "
            "change that"
        )
