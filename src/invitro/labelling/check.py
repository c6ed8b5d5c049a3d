"""The prompt check: one overall score against one score an item, on a few texts, before any large bill."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from invitro.data import Corpus
from invitro.labelling.forms import OVERALL
from invitro.labelling.labeller import Labelled, Labelling
from invitro.labelling.replies import Status
from invitro.labels.agreement import Agreement, Estimate, gain, pairwise
from invitro.labels.store import LabelStore
from invitro.scales import Scale

NEAR = 1 / 12
"""Share of the scale's range: what rounding to whole numbers does on a scale from 1 to 7."""


@dataclass(frozen=True)
class Prompted:
    """What one prompt did on the texts of the check; answers that were stored before count like new ones.

    Args:
        name: the prompt.
        sets: ids of its label sets, one a corpus.
        texts: texts that were asked about.
        questions: of them and their samples, those that were answered at all.
        first: share of these that were usable at the first try.
        after: share that were usable after the retry.
        faults: first tries that were of no use, by reason.
        prompt_tokens: of all attempts, as the next two.
        completion_tokens: likewise.
        cost: US dollars.
        seconds: wall time of what was asked now, for ``asked`` requests.
        asked: requests made now.
        crowd: agreement with the crowd, where there is one.
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
    """How far item scores, combined, are from an overall score, in scale points; difference is items less overall."""

    n: int
    difference: float
    distance: float
    near: float
    within: float
    pcc: Estimate


@dataclass(frozen=True)
class Check:
    """What the check found.

    Args:
        corpus: its name.
        llm: the model asked.
        texts: of the check.
        whole: texts of the whole corpus.
        prompts: by role: ``overall``, ``items`` and, where it was asked, ``both``.
        between: agreement of the overall score (a) with the items' (b), from two replies.
        averaging: of these two.
        within_reply: averaging within the replies of ``both``.
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
        """Return what the whole corpus takes, when `texts` took `amount`."""
        return amount * self.whole / texts if texts else 0.0


def check(corpus: Corpus, what: Mapping[str, Labelling], done: Mapping[str, Sequence[Labelled]]) -> Check:
    """Compare prompts on the texts that were labelled.

    Args:
        corpus: whose texts they are.
        what: by role: ``overall`` with a prompt that asks for one score, ``items`` with one that asks for each item,
            and perhaps ``both``.
        done: what `label` returned for each.
    """
    one = what["items"]
    scores = {role: _scores(labelled) for role, labelled in done.items()}
    texts = pd.concat([part.texts.assign(text_id=part.prefix + part.texts["text_id"]) for part in done["items"]])
    texts = texts.set_index("text_id")
    table = pd.DataFrame(
        {"crowd": texts["crowd_label"]} | {role: found["llm_label"] for role, found in scores.items()},
        index=texts.index,
    )
    groups = texts["group_id"]
    rated = table["crowd"].notna().sum() > 1
    with LabelStore(one.store, must_exist=True) as store:
        prompts = {
            role: _prompted(
                store, what[role].prompt.name, labelled, _pair(table[["crowd", role]], groups) if rated else None
            )
            for role, labelled in done.items()
        }
    both = scores.get("both")
    return Check(
        corpus=corpus.name,
        llm=one.llm,
        texts=len(texts),
        whole=len(corpus.table),
        prompts=prompts,
        between=_pair(table[["overall", "items"]], groups),
        averaging=averaging(table["overall"], table["items"], one.scale, groups),
        within_reply=None
        if both is None
        else averaging(both[f"llm_{OVERALL}"].reindex(texts.index), table["both"], one.scale, groups),
        gained=gain(table[["crowd", "overall", "items"]], groups) if rated else None,
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
    """Return the labels of all parts under the corpus's own ids."""
    return pd.concat([one.labels.labels.set_axis(one.prefix + one.labels.labels.index) for one in done])


def _prompted(store: LabelStore, name: str, done: Sequence[Labelled], crowd: Agreement | None) -> Prompted:
    """Count what the store holds about these texts."""
    attempts = pd.DataFrame(list(_attempts(store, done)), columns=COLUMNS)
    answered = attempts[attempts["status"] != Status.ERROR]
    first = answered[answered["attempt"] == 0]
    usable = answered[answered["status"] == Status.OK].drop_duplicates(["text_id", "sample"])
    faults = first.loc[first["status"] != Status.OK, "status"].value_counts()
    return Prompted(
        name=name,
        sets=tuple(one.report.stored.id for one in done),
        texts=sum(len(one.texts) for one in done),
        questions=len(first),
        first=float((first["status"] == Status.OK).mean()) if len(first) else 0.0,
        after=len(usable) / len(first) if len(first) else 0.0,
        faults={str(status): int(count) for status, count in faults.items()},
        prompt_tokens=int(attempts["prompt_tokens"].sum()),
        completion_tokens=int(attempts["completion_tokens"].sum()),
        cost=float(attempts["cost"].sum()),
        seconds=sum(one.report.seconds for one in done),
        asked=sum(one.report.usage.requests for one in done),
        crowd=crowd,
    )


COLUMNS = ["text_id", "sample", "attempt", "status", "prompt_tokens", "completion_tokens", "cost"]


def _attempts(store: LabelStore, done: Sequence[Labelled]) -> Iterator[tuple[Any, ...]]:
    """Yield the attempts at these texts, under the corpus's own ids."""
    for one in done:
        for row in store.attempts(one.report.stored.id, one.texts["text_id"].tolist()):
            yield (one.prefix + row["text_id"], *tuple(row)[1:])
