"""Studies: many runs, and the table, tests, figures and report made from them."""

from invitro.studies.runs import Runs, read_runs
from invitro.studies.study import Study

__all__ = ["Runs", "Study", "read_runs"]
