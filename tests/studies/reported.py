"""Studies on records with known effects, summarised, for the tests of figures, report and browser."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from studies.records import Arm, Texts, write_records

from invitro.studies.figures import figures
from invitro.studies.runs import Runs, read_runs
from invitro.studies.study import Study
from invitro.studies.summary import Summary, summarise
from invitro.writing.charts import Figure

ALPHA = Study(
    "alpha",
    "The threshold of correction",
    "How far apart may crowd and LLM be?",
    factors=("alpha",),
    baseline={"alpha": "inf"},
    choose="alpha",
    axis="alpha",
)
APPLICATIONS = Study(
    "applications",
    "Do an LLM's labels improve the model?",
    "Does it help?",
    factors=("application",),
    baseline={"application": "none"},
)
PORTION = Study(
    "portion",
    "How many texts",
    "Does it still grow?",
    factors=("application.portion",),
    baseline={"application.portion": "0.0"},
    axis="application.portion",
    plateau=0.3,
)
TABLE_V = Study("table_v", "Table V", "As published?", factors=("experiment",), paper="table_v", partial=True)

ALPHAS = {"0.0": 0.45, "1.5": 0.6, "3.0": 0.7, "4.0": 0.75, "6.0": 0.5}
ARMS = {
    # alpha=6.0 replaces nothing, so that its jobs share the records of the baseline, which come first.
    "alpha": [
        Arm({"application": "correction", "alpha": "inf"}, skill=0.5),
        *(
            Arm(
                {"application": "correction", "alpha": alpha},
                skill=skill,
                failed=(42,) if alpha == "1.5" else (),
                shared_with=0 if alpha == "6.0" else None,
            )
            for alpha, skill in ALPHAS.items()
        ),
    ],
    "applications": [
        Arm({"application": name, "alpha": "4.0"}, skill=skill)
        for name, skill in {"none": 0.5, "correction": 0.6, "augmentation": 0.5, "both": 0.75}.items()
    ],
    "portion": [
        Arm({"application": "augmentation", "application.portion": portion}, skill=skill)
        for portion, skill in {"0.0": 0.5, "0.3": 0.7, "0.6": 0.7, "1.0": 0.7}.items()
    ],
    "table_v": [
        Arm({"experiment": "table_v/24_roberta_crowd"}, skill=0.5),
        Arm({"experiment": "table_v/24_roberta_llama"}, skill=0.6),
        Arm({"experiment": "table_v/24_roberta_gpt"}, failed=(0, 42, 100)),
    ],
}
STUDIES = {study.name: study for study in (ALPHA, APPLICATIONS, PORTION, TABLE_V)}


@dataclass
class Reported:
    """A study with its records, read and summarised."""

    study: Study
    runs: Runs

    @cached_property
    def summary(self) -> Summary:
        return summarise(self.study, self.runs, resamples=200)

    @cached_property
    def figures(self) -> list[Figure]:
        return figures(self.study, self.runs, self.summary)


def reported(name: str, folder: Path, arms: Sequence[Arm] | None = None, texts: Texts | None = None) -> Reported:
    """Write the records of the study `name` below `folder`, with three seeds, and read them."""
    write_records(folder, ARMS[name] if arms is None else arms, seeds=(0, 42, 100), texts=texts or Texts())
    study = STUDIES[name]
    return Reported(study, read_runs(folder, study.factors, study.replicates))
