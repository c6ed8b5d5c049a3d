"""Training: one run from start to record.

Only what is light is imported here. `invitro.training.run.train` does the work and brings torch with it.
"""

from invitro.training.prepare import Prepared, prepare
from invitro.training.recipe import Fit

__all__ = ["Fit", "Prepared", "prepare"]
