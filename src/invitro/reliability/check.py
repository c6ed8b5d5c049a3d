"""The prompt check: one overall score against one score per item, on a few texts, before any large bill."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from invitro.data import Corpus
from invitro.labelling.labeller import Labelled, Labelling
from invitro.labelling.replies import OVERALL
from invitro.labels.answers import Status
from invitro.labels.store import LabelStore
from invitro.scales import Scale
from invitro.stats.agreement import Agreement, gain, pairwise
from invitro.stats.intervals import Estimate, told
from invitro.writing.tables import ReportTable, text_table
from invitro.writing.words import paragraphs, share

CHECK_TEMPLATE = Path(__file__).with_name("check.j2")
NEAR = 1 / 12
"""Share of the scale's range: the error of rounding to whole numbers on a scale from 1 to 7."""


@dataclass(frozen=True)
class Prompted:
    """One prompt's results on the texts of the check; answers stored earlier count like new ones.

    Args:
        name: the prompt.
        sets: ids of its label sets, one per corpus.
        texts: how many texts were asked about.
        questions: how many of them, counting samples, got any answer.
        first: share of these that were usable on the first try.
        after: share that were usable after the retry.
        faults: unusable first tries, by reason.
        prompt_tokens: over all attempts.
        completion_tokens: over all attempts.
        cost: of all attempts, in US dollars.
        seconds: wall time of this run's requests.
        asked: how many requests this run made.
        crowd: agreement with the crowd, if there is one.
    """

    name: str
    sets: tuple[str, ...]
    texts: int
    questions: int
    first: float
    after: float
    faults: dict[str, int]
    prompt_tokens: int
    completion_tokens: int
    cost: float
    seconds: float
    asked: int
    crowd: Agreement | None


@dataclass(frozen=True)
class Averaging:
    """How far combined item scores are from an overall score, in scale points; difference is items minus overall."""

    n: int
    difference: float
    distance: float
    near: float
    within: float
    pcc: Estimate


@dataclass(frozen=True)
class Check:
    """The results of the check.

    Args:
        corpus: its name.
        llm: the model that was asked.
        texts: how many texts were checked.
        whole: how many texts the whole corpus has.
        prompts: by role: ``overall``, ``items`` and, if it was asked, ``both``.
        between: agreement of the overall score (a) with the items' (b), from two replies.
        averaging: how close these two are.
        within_reply: the same within the replies of ``both``.
        gained: by how much the items' PCC with the crowd exceeds the overall score's.
    """

    corpus: str
    llm: str
    texts: int
    whole: int
    prompts: Mapping[str, Prompted]
    between: Agreement | None
    averaging: Averaging | None
    within_reply: Averaging | None
    gained: Estimate | None

    def of_whole(self, amount: float, texts: int) -> float:
        """Return the amount for the whole corpus, if `texts` needed `amount`."""
        return amount * self.whole / texts if texts else 0.0


def check(corpus: Corpus, what: Mapping[str, Labelling], done: Mapping[str, Sequence[Labelled]]) -> Check:
    """Compare prompts on the texts that were labelled.

    Args:
        corpus: the corpus of the texts.
        what: by role: ``overall`` with a prompt that asks for one score, ``items`` with one that asks for each item,
            and optionally ``both``.
        done: the results of `label`, by role.
    """
    labelling = what["items"]
    scores = {role: _scores(labelled) for role, labelled in done.items()}
    texts = pd.concat([part.texts.assign(text_id=part.prefix + part.texts["text_id"]) for part in done["items"]])
    texts = texts.set_index("text_id")
    table = pd.DataFrame(
        {"crowd": texts["crowd_label"]} | {role: labels["llm_label"] for role, labels in scores.items()},
        index=texts.index,
    )
    groups = texts["group_id"]
    answered = [role for role in scores if table[role].notna().any()]
    same = table[table[answered].notna().all(axis=1)]  # prompts are compared on the same texts
    rated = same["crowd"].notna().sum() > 1
    with LabelStore(labelling.store, read_only=True) as store:
        prompts = {
            role: _prompted(
                store, what[role].prompt.name, labelled, _pair(same[["crowd", role]], groups) if rated else None
            )
            for role, labelled in done.items()
        }
    both = scores.get("both")
    return Check(
        corpus=corpus.name,
        llm=labelling.llm,
        texts=len(texts),
        whole=len(corpus.table),
        prompts=prompts,
        between=_pair(table[["overall", "items"]], groups),
        averaging=averaging(table["overall"], table["items"], labelling.scale, groups),
        within_reply=None
        if both is None
        else averaging(both[f"llm_{OVERALL}"].reindex(texts.index), table["both"], labelling.scale, groups),
        gained=gain(same[["crowd", "overall", "items"]], groups) if rated else None,
    )


def averaging(overall: "pd.Series[float]", items: "pd.Series[float]", scale: Scale, groups: Any) -> Averaging | None:
    """Compare overall scores with combined item scores of the same texts; None with fewer than two such texts."""
    table = pd.DataFrame({"overall": overall, "items": items}).dropna()
    if len(table) < 2:
        return None
    within = NEAR * (scale.maximum - scale.minimum)
    difference = table["items"] - table["overall"]
    return Averaging(
        n=len(table),
        difference=float(difference.mean()),
        distance=float(difference.abs().mean()),
        near=float((difference.abs() <= within + 1e-9).mean()),
        within=within,
        pcc=pairwise(table, groups)[0].pcc,
    )


def _pair(table: pd.DataFrame, groups: "pd.Series[str]") -> Agreement | None:
    return pairwise(table, groups)[0] if table.notna().all(axis=1).sum() > 1 else None


def _scores(done: Sequence[Labelled]) -> pd.DataFrame:
    """Return the labels of all parts, by the corpus's own ids."""
    return pd.concat([part.labels.labels.set_axis(part.prefix + part.labels.labels.index) for part in done])


def _prompted(store: LabelStore, name: str, done: Sequence[Labelled], crowd: Agreement | None) -> Prompted:
    """Count the store's answers about these texts."""
    attempts = pd.DataFrame(list(_attempts(store, done)), columns=ATTEMPT_COLUMNS)
    answered = attempts[attempts["status"] != Status.ERROR]
    first = answered[answered["attempt"] == 0]
    usable = answered[answered["status"] == Status.OK].drop_duplicates(["text_id", "sample"])
    faults = first.loc[first["status"] != Status.OK, "status"].value_counts()
    return Prompted(
        name=name,
        sets=tuple(part.report.stored.id for part in done),
        texts=sum(len(part.texts) for part in done),
        questions=len(first),
        first=float((first["status"] == Status.OK).mean()) if len(first) else 0.0,
        after=len(usable) / len(first) if len(first) else 0.0,
        faults={str(status): int(count) for status, count in faults.items()},
        prompt_tokens=int(attempts["prompt_tokens"].sum()),
        completion_tokens=int(attempts["completion_tokens"].sum()),
        cost=float(attempts["cost"].sum()),
        seconds=sum(part.report.seconds for part in done),
        asked=sum(part.report.usage.requests for part in done),
        crowd=crowd,
    )


ATTEMPT_COLUMNS = ["text_id", "sample", "attempt", "status", "prompt_tokens", "completion_tokens", "cost"]


def _attempts(store: LabelStore, done: Sequence[Labelled]) -> Iterator[tuple[Any, ...]]:
    """Yield the attempts at these texts, by the corpus's own ids."""
    for part in done:
        for row in store.attempts(part.report.stored.id, part.texts["text_id"].tolist()):
            yield (part.prefix + row["text_id"], *tuple(row)[1:])


USABLE = 0.95
"""Share of usable replies that a prompt needs before it is worth a large bill."""
NEAR_ENOUGH = 0.8
"""Share of replies whose items must be close to their overall score for both to count as the same measure."""


def lines(result: Check) -> list[str]:
    """Return the whole check as text: agreement first, then replies and bill, then the recommendation."""
    first, second = result.prompts["overall"].name, result.prompts["items"].name
    between, pairs = result.between, (result.averaging, result.within_reply)
    agreed = (
        {name: told(getattr(between, name)) for name in ("pcc", "ccc", "krippendorff")} | {"n": between.n}
        if between
        else {}
    )
    averaged = [pair and vars(pair) | {"pcc": told(pair.pcc)} for pair in pairs]
    return [
        f"Prompt check: {result.llm} on {result.texts} of the {result.whole} texts of {result.corpus}",
        "",
        *(f"  {line}" for line in _table(result).terminal()),
        "",
        *paragraphs(CHECK_TEMPLATE, "averagings", agreed, first, second, *averaged),
        "",
        "Recommendation",
        *(f"  {line}" for line in advice(result)),
    ]


def advice(result: Check) -> list[str]:
    """Return what follows from the figures, and no more.

    A prompt is recommended if the difference of the two correlations is measurable, or if only its PCC is above 0. If
    neither separates the prompts, the cheaper one is named.
    """
    overall, items, gained = result.prompts["overall"], result.prompts["items"], result.gained
    replies = [
        {"name": prompt.name, "none": not prompt.questions, "after": prompt.after,
         "worst": max(prompt.faults, key=lambda status: prompt.faults[status], default="unknown")}
        for prompt in result.prompts.values()
        if not prompt.questions or prompt.after < USABLE
    ]  # fmt: skip
    pccs = [(prompt, prompt.crowd.pcc) for prompt in (overall, items) if prompt.crowd is not None]
    sure = [prompt for prompt, pcc in pccs if pcc.low > 0]
    against = [prompt.name for prompt, pcc in pccs if pcc.high < 0]
    better = items if gained is not None and gained.value > 0 else overall
    take, other = sorted(
        (overall, items), key=lambda prompt: (prompt.cost, prompt.prompt_tokens + prompt.completion_tokens)
    )
    if len(pccs) < 2 or gained is None:
        verdict = "unrated"
    elif not any(pcc.measurable for _, pcc in pccs):
        verdict = "unmeasurable"
    elif against:
        verdict = "against"
    elif gained.measurable and better in sure:
        verdict, take = "better", better
    elif len(sure) == 1:
        verdict, take = "one", sure[0]
    else:
        verdict = "cheaper"
    concluded = verdict in ("better", "one", "cheaper")
    inside = (
        result.within_reply if concluded and result.within_reply and result.within_reply.near < NEAR_ENOUGH else None
    )
    named = [
        {"name": prompt.name, "usable": prompt.after >= USABLE, "bill": _bill(result, prompt)}
        for prompt in (take, other)
    ]
    return paragraphs(
        CHECK_TEMPLATE, "advice", replies, USABLE, verdict, result.llm, overall.name, items.name, str(gained), *named,
        against, inside,
    )  # fmt: skip


def _table(result: Check) -> ReportTable:
    """Return the figures, one row each, one column per prompt."""
    figures: dict[str, Callable[[Prompted], str]] = {
        "PCC with the crowd": lambda prompt: told(prompt.crowd.pcc) if prompt.crowd else "",
        "CCC": lambda prompt: told(prompt.crowd.ccc) if prompt.crowd else "",
        "Krippendorff's alpha": lambda prompt: told(prompt.crowd.krippendorff) if prompt.crowd else "",
        "RMSE": lambda prompt: str(prompt.crowd.rmse) if prompt.crowd else "",
        "mean bias": lambda prompt: str(prompt.crowd.bias) if prompt.crowd else "",
        "texts with a crowd label": lambda prompt: str(prompt.crowd.n) if prompt.crowd else "0",
        "usable on the first try": lambda prompt: share(prompt.first),
        "usable after the retry": lambda prompt: share(prompt.after),
        "faults on the first try": lambda prompt: (
            ", ".join(f"{n} {what}" for what, n in prompt.faults.items()) or "none"
        ),
        "tokens per text": lambda prompt: (
            f"{prompt.prompt_tokens / prompt.texts:.1f} + {prompt.completion_tokens / prompt.texts:.1f}"
        ),
        "cost of these texts": lambda prompt: f"${prompt.cost:.4f}",
        f"tokens of {result.whole} texts": lambda prompt: " + ".join(
            f"{result.of_whole(count, prompt.texts):.0f}" for count in (prompt.prompt_tokens, prompt.completion_tokens)
        ),
        f"cost of {result.whole} texts": lambda prompt: _bill(result, prompt),
        f"time for {result.whole} texts": lambda prompt: _time(result, prompt),
        "label set": lambda prompt: ", ".join(prompt.sets),
    }
    prompts = result.prompts.values()
    rows = [{"": name} | {prompt.name: figure(prompt) for prompt in prompts} for name, figure in figures.items()]
    return text_table("check", "Prompt check", rows)


def _bill(result: Check, prompt: Prompted) -> str:
    """Return the cost of the whole corpus, extrapolated from these texts, retries included."""
    return f"about ${result.of_whole(prompt.cost, prompt.texts):.2f}" if prompt.cost else "$0 at the engine's price"


def _time(result: Check, prompt: Prompted) -> str:
    """Return the wall time for the whole corpus, extrapolated from this run's requests."""
    if not prompt.asked:
        return "unknown: all answers were stored already"
    requests = result.of_whole(prompt.questions, prompt.texts)
    return f"about {requests * prompt.seconds / prompt.asked / 60:.1f} min"
