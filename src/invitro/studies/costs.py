"""What each configuration of a study costs, from its runs' records: time, and the LLM's labels, tokens and bill."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from invitro.studies.runs import Runs
from invitro.studies.wording import rows_of
from invitro.training.record import read_metrics

HOUR = 3600.0
LLM_COSTS = ("labels", "prompt_tokens", "completion_tokens", "dollars")


@dataclass(frozen=True)
class Cost:
    """What one run of a configuration costs, on average over its runs; NaN where a run's record does not say.

    A shared run counts with the cost of its training. Older records contain only the time.

    Args:
        hours: from start to end of a training.
        processor_hours: of all processor cores together, child processes included.
        device: what it was trained on, ``cpu`` or a GPU's name, the most frequent first; None where no record says.
        labels: texts whose LLM label was used in training or compared with the crowd label.
        prompt_tokens: that the LLM read for these labels.
        completion_tokens: that it generated.
        dollars: what its provider charged, in US dollars.
    """

    hours: float
    processor_hours: float
    device: str | None
    labels: float
    prompt_tokens: float
    completion_tokens: float
    dollars: float


def cost_of(runs: Runs, values: Mapping[str, Any]) -> Cost:
    """Return the cost of the configuration that has these values of the factors."""
    records = dict.fromkeys(str(runs.table.loc[row, "record"]) for row in rows_of(runs, values))
    metrics = [read_metrics(Path(record)) for record in records]
    costs: list[Mapping[str, Any]] = [one.get("cost") or {} for one in metrics]
    used: list[Mapping[str, Any]] = [one.get("llm") or {} for one in costs]
    devices = Counter(str(one["device"]) for one in costs if one.get("device"))
    return Cost(
        hours=_mean([(one.get("train") or {}).get("seconds") for one in metrics]) / HOUR,
        processor_hours=_mean([one.get("processor_seconds") for one in costs]) / HOUR,
        device=", ".join(device for device, _ in devices.most_common()) or None,
        **{name: _mean([one.get(name) for one in used]) for name in LLM_COSTS},
    )


def _mean(values: Sequence[float | None]) -> float:
    """Return the mean; NaN where any is unknown, or there is none."""
    if not values or any(value is None for value in values):
        return float("nan")
    return float(np.mean([float(value) for value in values if value is not None]))
