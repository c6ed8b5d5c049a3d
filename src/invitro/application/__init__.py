"""How LLM labels are used: pure functions from labels to labels."""

from invitro.application.policy import (
    UNBOUNDED_POLICIES,
    Application,
    alpha_problem,
    correct,
    seeded_share,
)
from invitro.application.training_labels import TrainingLabels, divide, training_labels

__all__ = [
    "UNBOUNDED_POLICIES",
    "Application",
    "TrainingLabels",
    "alpha_problem",
    "correct",
    "divide",
    "seeded_share",
    "training_labels",
]
