"""The prompt check for people: figures side by side, and what follows from them in words."""

from collections.abc import Callable, Iterator, Sequence

from invitro.labelling.check import Averaging, Check, Prompted
from invitro.labels.agreement import NOT_MEASURABLE, told

USABLE = 0.95
"""Share of usable replies that a prompt needs before a large bill is run up with it."""
NEAR_ENOUGH = 0.8
"""Share of replies whose items should come near their own overall score, for items and score to say the same."""


def lines(found: Check) -> list[str]:
    """Return the whole check as text: agreement first, then replies and bill, then the recommendation."""
    head = f"Prompt check: {found.llm} on {found.texts} of the {found.whole} texts of {found.corpus}"
    return [
        head,
        "",
        *_table(found),
        "",
        *_averagings(found),
        "",
        "Recommendation",
        *(f"  {one}" for one in advice(found)),
    ]


def advice(found: Check) -> list[str]:
    """Return what follows from the figures, and nothing that does not."""
    return [*_of_replies(found), *_of_prompts(found)]


def _of_replies(found: Check) -> Iterator[str]:
    """Say which prompts' replies are too often of no use."""
    for one in found.prompts.values():
        if not one.questions:
            yield f"{one.name}: no reply came back at all. Mend the engine first."
        elif one.after < USABLE:
            worst = max(one.faults, key=lambda status: one.faults[status], default="unknown")
            yield (
                f"{one.name}: {_share(one.after)} of the replies are of use after the retry, less than "
                f"{_share(USABLE)}; the commonest fault is {worst}. Do not label the corpus with it as it is: have the "
                "engine constrain its replies (llm.engine.constraint), try readout=digits, or allow more "
                "sampling.max_tokens."
            )


def _of_prompts(found: Check) -> Iterator[str]:
    """Say which prompt measures better, where that can be told."""
    overall, items = found.prompts["overall"], found.prompts["items"]
    pccs = [(one, one.crowd.pcc) for one in (overall, items) if one.crowd is not None]
    if len(pccs) < 2 or found.gained is None:
        yield (
            "There are too few crowd labels on these texts. Which prompt measures better is told by nothing here; what "
            "the replies are like and what they cost is."
        )
        return
    if not any(pcc.measurable for _, pcc in pccs):
        yield (
            f"{NOT_MEASURABLE.capitalize()} with this model: here neither {overall.name}'s nor {items.name}'s "
            "PCC with the crowd has an interval without 0. Nothing is concluded about prompts, and nothing speaks for "
            f"labelling the corpus with llm={found.llm}. Take another model, or more texts, such as limit=300."
        )
        return
    against = [one.name for one, pcc in pccs if pcc.high < 0]
    if against:
        yield (
            f"With {' and '.join(against)} the scores run against the crowd's. A model of which this is found is not "
            "to be trusted with another prompt on the same few texts. Take another one, or more texts: limit=300."
        )
        return
    yield _preferred(found, [one for one, pcc in pccs if pcc.low > 0])
    yield from _of_averaging(found)


def _of_averaging(found: Check) -> Iterator[str]:
    """Say where items and overall score are two different questions to the model."""
    inside = found.within_reply
    if inside is not None and inside.near < NEAR_ENOUGH:
        yield (
            f"In one reply the items come within {inside.within:g} of the overall score in {_share(inside.near)} of "
            "the texts only: to this model they are two different questions. Do not mix label sets of both kinds."
        )


def _preferred(found: Check, sure: Sequence[Prompted]) -> str:
    """Say which prompt to take, out of the difference of the two correlations and the two bills.

    Args:
        found: the check.
        sure: the prompts whose PCC with the crowd is above 0; one or both.
    """
    overall, items, gained = found.prompts["overall"], found.prompts["items"], found.gained
    by = f"the PCC of {items.name} less that of {overall.name} is {gained}"
    if gained is not None and gained.measurable and (better := items if gained.value > 0 else overall) in sure:
        return f"{_take(better)}: {by}. The corpus costs {_bill(found, better)} with it."
    if len(sure) == 1:
        return (
            f"Only the PCC of {sure[0].name} is above 0 for certain, but no difference between the prompts is shown: "
            f"{by}. {_take(sure[0])} ({_bill(found, sure[0])} for the corpus), or check more texts, such as "
            "limit=300."
        )
    cheaper, other = sorted((overall, items), key=lambda one: (one.cost, one.prompt_tokens + one.completion_tokens))
    return (
        f"No difference between the prompts is shown: {by}, which includes 0. prompt={cheaper.name} is the cheaper one "
        f"({_bill(found, cheaper)} against {_bill(found, other)} for the corpus); prompt={items.name} gives a score an "
        "item as well."
    )


def _take(one: Prompted) -> str:
    return f"Take prompt={one.name}" if one.after >= USABLE else f"Once its replies are of use, prompt={one.name}"


def _table(found: Check) -> list[str]:
    """Return the figures, one line each, one column a prompt."""
    figures: dict[str, Callable[[Prompted], str]] = {
        "PCC with the crowd": lambda one: told(one.crowd.pcc) if one.crowd else "",
        "CCC": lambda one: told(one.crowd.ccc) if one.crowd else "",
        "alpha": lambda one: told(one.crowd.alpha) if one.crowd else "",
        "RMSE": lambda one: str(one.crowd.rmse) if one.crowd else "",
        "mean bias": lambda one: str(one.crowd.bias) if one.crowd else "",
        "texts with a crowd label": lambda one: str(one.crowd.n) if one.crowd else "0",
        "usable at the first try": lambda one: _share(one.first),
        "usable after the retry": lambda one: _share(one.after),
        "faults at the first try": lambda one: ", ".join(f"{n} {what}" for what, n in one.faults.items()) or "none",
        "tokens a text": lambda one: f"{one.prompt_tokens / one.texts:.1f} + {one.completion_tokens / one.texts:.1f}",
        "cost of these texts": lambda one: f"${one.cost:.4f}",
        f"tokens of {found.whole} texts": lambda one: " + ".join(
            f"{found.of_whole(count, one.texts):.0f}" for count in (one.prompt_tokens, one.completion_tokens)
        ),
        f"cost of {found.whole} texts": lambda one: _bill(found, one),
        f"time for {found.whole} texts": lambda one: _time(found, one),
        "label set": lambda one: ", ".join(one.sets),
    }
    rows = [["", *(one.name for one in found.prompts.values())]]
    rows += [[name, *(figure(one) for one in found.prompts.values())] for name, figure in figures.items()]
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    return [
        "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]


def _averagings(found: Check) -> Iterator[str]:
    """Say how far item scores average to overall scores, and how the two prompts agree."""
    overall, items = found.prompts["overall"].name, found.prompts["items"].name
    if found.between is not None:
        pair = found.between
        yield (
            f"{overall} and {items} agree with each other: PCC {told(pair.pcc)}, CCC {told(pair.ccc)}, "
            f"alpha {told(pair.alpha)}, n={pair.n}"
        )
    for one, what in (
        (found.averaging, f"The item scores of {items} combine to the overall score of {overall}"),
        (found.within_reply, "In one reply that gives both, the item scores combine to the overall score"),
    ):
        if one is not None:
            yield f"{what} {_averaging(one)}"


def _averaging(one: Averaging) -> str:
    return (
        f"within {one.within:g} in {_share(one.near)} of {one.n} texts (mean distance {one.distance:.4f}, mean "
        f"difference {one.difference:+.4f}, PCC {told(one.pcc)})"
    )


def _share(value: float) -> str:
    return f"{100 * value:.1f} %"


def _bill(found: Check, one: Prompted) -> str:
    """Return the whole corpus's cost, reckoned from these texts, retries included."""
    return f"about ${found.of_whole(one.cost, one.texts):.2f}" if one.cost else "$0 at the engine's price"


def _time(found: Check, one: Prompted) -> str:
    """Return the whole corpus's wall time, reckoned from the requests of this run."""
    if not one.asked:
        return "unknown: all answers were stored already"
    requests = found.of_whole(one.questions, one.texts)
    return f"about {requests * one.seconds / one.asked / 60:.1f} min"
