"""Does a metric still grow from a value of the axis on? A test of no further gain, over seeds and texts."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import reduce
from operator import add
from typing import Any, Literal

import numpy as np

from invitro.errors import InputError
from invitro.studies.contrast import Interval, contrast
from invitro.studies.resampling import Scores

MARGIN = 0.02
"""A gain below this is none: of PCC and CCC, and of RMSE in scale points. Runs differ by as much from seed to seed."""

Verdict = Literal["plateau", "gain", "undecided"]


@dataclass(frozen=True)
class Plateau:
    """What a metric gains before `start` and after it.

    Args:
        metric: ``pcc``, ``ccc`` or ``rmse``; a gain is positive where the metric becomes better, for RMSE a fall.
        start: the value of the axis from which no further gain is expected.
        end: the largest value on the axis.
        before: the gain from the smallest value to `start`, or to the next value there is; NaN where `start` is the
            smallest.
        after: the gain from `start` to `end` along the least-squares line through all values from `start` on, with its
            95 % interval.
        p: two-sided, of the line being level.
        most: the gain after `start` is below this with 95 % confidence, one-sided.
        margin: a gain below this counts as none.
        verdict: ``plateau`` where `most` is below `margin`; otherwise ``gain`` where the interval of `after` is above
            0; otherwise ``undecided``: the runs are too few, or the texts, to say.
        seeds: runs at each value.
        texts: how many texts were scored.
        where: the values of the study's other factors.
    """

    metric: str
    start: float
    end: float
    before: Interval
    after: Interval
    p: float
    most: float
    margin: float
    verdict: Verdict
    seeds: int
    texts: int
    where: Mapping[str, Any] = field(default_factory=dict)


def plateau(
    scores: Mapping[float, Scores],
    metric: str,
    start: float,
    margin: float = MARGIN,
    where: Mapping[str, Any] | None = None,
) -> Plateau:
    """Test for no further gain from `start` on.

    The slope over the values from `start` on is a weighted sum of their metrics, seed by seed and draw by draw, with
    the weights of least squares. So it has the interval of any such contrast (see `invitro.studies.statistics`), which
    takes into account that runs at different values share their seeds and texts. A slope that is not significant is no
    proof of a plateau; that the gain is small is one: `most` against `margin` is a test for non-superiority, one half
    of Schuirmann's two one-sided tests (1987, J. Pharmacokinet. Biopharm. 15). A line is what a plateau is compared to,
    so that a rise which levels off late counts as a gain spread over all of the range.

    Args:
        scores: by value of the axis, of the same seeds, texts and draws.
        metric: ``pcc``, ``ccc`` or ``rmse``.
        start: a value of the axis.
        margin: the smallest gain that counts, in the metric's units.
        where: the values of other factors, passed on.

    Raises:
        InputError: fewer than two values from `start` on.
    """
    values = sorted(scores)
    after = [value for value in values if value >= start - 1e-9]
    if len(after) < 2:
        raise InputError(f"study.plateau={start:g}: expected two or more values of the axis from there, found {after}")
    x = np.asarray(after) - np.mean(after)
    weights = x / (x @ x) * (after[-1] - start)
    sign = -1.0 if metric == "rmse" else 1.0
    gain = contrast(_weighted(scores, dict(zip(after, sign * weights, strict=True))))
    first, reached = values[0], after[0]
    before = Interval(np.nan, np.nan, np.nan)
    if first < reached:
        before = contrast(_weighted(scores, {first: -sign, reached: sign})).interval()
    there, most = gain.interval(), gain.interval(0.9).high
    verdict: Verdict = "plateau" if most < margin else "gain" if there.low > 0 else "undecided"
    return Plateau(
        metric, float(start), float(after[-1]), before, there, gain.p, most, margin, verdict,
        scores[first].seeds, scores[first].texts, dict(where or {}),
    )  # fmt: skip


def _weighted(scores: Mapping[float, Scores], weights: Mapping[float, float]) -> Scores:
    return reduce(add, (scores[value] * float(weight) for value, weight in weights.items()))
