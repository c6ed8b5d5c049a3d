"""Studies: many runs, and the table, tests, figures and report they end in."""

from invitro.studies.runs import Runs, read_runs
from invitro.studies.study import Study

__all__ = ["Runs", "Study", "read_runs"]
