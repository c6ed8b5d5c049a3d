"""What a run cost: processor time, the device, and the LLM's labels with their tokens and bill."""

import os
from typing import TYPE_CHECKING

import pandas as pd

from invitro.application import names_own_pool
from invitro.labels.averages import SPENT
from invitro.training.prepare import Prepared

if TYPE_CHECKING:
    import torch


def processor_seconds() -> float:
    """Return the seconds that processor cores have worked for this process and its children that have ended.

    A run's share is the difference between its end and its start. Of a distributed run only this process counts.
    """
    return sum(os.times()[:4])


def device_name(device: "torch.device") -> str:
    """Return the name of a GPU, and of other devices their kind, such as ``cpu``."""
    if device.type == "cuda":
        import torch

        return torch.cuda.get_device_name(device)
    return device.type


def llm_use(prepared: Prepared) -> dict[str, int | float | None]:
    """Return how many texts' LLM labels a run used or looked at, and what these labels cost.

    Correction looks at the LLM's label of every training text, whichever it replaces; augmentation uses those of the
    texts that it adds.

    Returns:
        ``labels``, and `SPENT`: None where unknown, as for published files and a corpus's own column, and for engines
        that count no tokens or have no price (the store has 0 then); 0 where no LLM was used.
    """
    ids = _used(prepared)
    if ids.empty:
        return {"labels": 0, **dict.fromkeys(SPENT, 0)}
    spent = _spent(ids, prepared)
    found: dict[str, int | float | None] = {"labels": len(ids)}
    for name in SPENT:
        total = float(spent[name].sum())
        known = spent[name].notna().all() and total > 0
        found[name] = None if not known else total if name == "dollars" else int(total)
    return found


def _used(prepared: Prepared) -> "pd.Series[str]":
    """Return the ids of the texts whose LLM label the application needed and found."""
    if prepared.llm_label is None:
        return pd.Series([], dtype="str")
    application, ids = prepared.application, []
    if application.compares:
        ids.append(prepared.training["text_id"])
    if application.augmentation and application.pool_labels == "llm":
        trained = prepared.labels.table["text_id"]
        ids.append(trained[trained.isin(prepared.pool["text_id"])])
    wanted = pd.concat(ids) if ids else pd.Series([], dtype="str")
    return wanted[wanted.map(prepared.llm_label).notna()].reset_index(drop=True)


def _spent(ids: "pd.Series[str]", prepared: Prepared) -> pd.DataFrame:
    """Return what each text's label cost, NaN where its label set does not tell."""
    found = pd.DataFrame(index=ids.index, columns=list(SPENT), dtype="float64")
    own = names_own_pool(prepared.application)
    for number, one in enumerate(prepared.label_sets):
        # The last set is that of a pool from elsewhere, whose ids have its name before them.
        foreign = not own and number == len(prepared.label_sets) - 1
        of_it = ids[ids.isin(prepared.pool["text_id"]) == foreign] if not own else ids
        keys = of_it.str.partition(":")[2] if foreign else of_it
        for name in SPENT:
            if name in one.labels:
                found.loc[of_it.index, name] = keys.map(one.labels[name])
    return found
