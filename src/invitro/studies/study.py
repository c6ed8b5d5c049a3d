"""A study: the jobs it consists of, and how their results are read."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from invitro.settings import checked
from invitro.stats.moments import METRICS, Metric

Value = int | float | str

FOLD = "data.split.fold"
"""The key of cross-validation's test fold. Folds are replicates, unless a study makes them a factor."""


@checked("study")
@dataclass(frozen=True)
class Study:
    """What a study asks, which jobs answer it, and how the report presents them.

    Args:
        name: the choice in the group ``study``.
        title: the report's heading.
        question: what the study asks and how to read its answer, in a sentence or two.
        overrides: Hydra overrides of every job, such as ``application=both``.
        params: what is swept: key to Hydra's sweep expression, such as ``0.0,0.5,1.0`` or ``range(0,10)``.
        job: the entry point that runs the jobs, ``train`` for ``train.py``; or the path of your own script, whose jobs
            leave the same files.
        sweeper: for a sweeper other than Hydra's grid: its ``name``, and its settings by key.
        factors: the keys that define a configuration, a row of the tables; () is all swept keys but the replicates.
        replicates: the keys whose values are repetitions of a configuration.
        baseline: values of factors that pick the configuration the others are compared with; {} for none.
        choose: a factor whose value is chosen by the mean validation CCC, before anyone looks at test; within one
            standard error of the best, the value that keeps the most crowd labels.
        axis: a numeric factor, the horizontal axis of figures.
        plateau: the value of `axis` from which no further gain is expected; this is tested.
        paper: the table of published numbers that is shown next to the results.
        metrics: what is measured, any of ``pcc, ccc, rmse``.
        partial: whether jobs without data may be left out: they are reported as not run, and the others run.
        costs: whether the report shows the cost of gains.

    Raises:
        InputError: naming every setting that is wrong, or every one that contradicts another.
    """

    name: str
    title: str
    question: str
    overrides: tuple[str, ...] = ()
    params: Mapping[str, str] = field(default_factory=dict)
    job: str = "train"
    sweeper: Mapping[str, Any] = field(default_factory=dict)
    factors: tuple[str, ...] = ()
    replicates: tuple[str, ...] = ("seed",)
    baseline: Mapping[str, str] = field(default_factory=dict)
    choose: str | None = None
    axis: str | None = None
    plateau: float | None = None
    paper: str | None = None
    metrics: tuple[Metric, ...] = METRICS
    partial: bool = False
    costs: bool = False

    def __post_init__(self) -> None:
        for name in ("params", "baseline"):  # a configuration file may contain numbers
            values = {str(key): str(value) for key, value in getattr(self, name).items()}
            object.__setattr__(self, name, values)

    def contradictions(self) -> Iterator[str]:
        """Yield every contradiction between settings."""
        named = [("baseline", key) for key in self.baseline] + [("choose", self.choose), ("axis", self.axis)]
        for name, key in named:
            if self.factors and key is not None and key not in self.factors:
                yield f"study.{name}: expected one of the factors {', '.join(self.factors)}, found {key!r}"
        if self.plateau is not None and self.axis is None:
            yield "study.plateau is a value on study.axis, which is null"
        if self.sweeper and "name" not in self.sweeper:
            yield "study.sweeper: expected the sweeper's name, such as name: optuna"


def canonical(value: object) -> Value:
    """Return a factor's value in a single form, however it is written.

    ``4.0``, ``"4"`` and ``4`` are the number 4; True, ``"True"`` and ``"true"`` are the text true; None, NaN and
    ``"null"`` are null. Anything else is text, without enclosing quotes.
    """
    if value is None or value != value:
        return "null"
    text = str(value).strip()
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        return text[1:-1]
    if text.lower() in ("true", "false", "null"):  # as Hydra reads them
        return text.lower()
    try:
        number = float(text)
    except ValueError:
        return text
    return text if number != number else int(number) if number.is_integer() else number


def matches(values: Mapping[str, Any], wanted: Mapping[str, Any] | None) -> bool:
    """Return whether a configuration has all `wanted` values of factors; None matches nothing, {} everything.

    Example:
        >>> matches({"alpha": 4.0, "clean": "false"}, {"alpha": "4", "clean": False})
        True
    """
    if wanted is None:
        return False
    return all(name in values and canonical(values[name]) == canonical(value) for name, value in wanted.items())
