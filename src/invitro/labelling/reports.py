"""What a labelling job did, and what one would cost, for people."""

from dataclasses import dataclass, field

from invitro.labelling.exchange import Usage
from invitro.labels.stored import StoredSet


@dataclass
class JobReport:
    """What a job did.

    Args:
        stored: the label set afterwards, with all its counts.
        usage: requests, tokens and cost of this job.
        labels: labels that this job added.
        retries: requests that were the second attempt.
        seconds: wall time.
    """

    stored: StoredSet
    usage: Usage = field(default_factory=Usage)
    labels: int = 0
    retries: int = 0
    seconds: float = 0.0

    def lines(self) -> list[str]:
        """Return the report for people."""
        stored, used = self.stored, self.usage
        unusable = "; ".join(f"{count} {status}" for status, count in stored.unusable.items())
        speed = f", {used.completion_tokens / self.seconds:.1f} tokens/s" if self.seconds else ""
        return [
            f"Label set {stored.id}  {stored.info.name}",
            f"  texts labelled   {stored.labelled} of {stored.texts}" + (f"; without: {unusable}" if unusable else ""),
            f"  this run         {self.labels} labels from {used.requests} requests, {self.retries} of them retries",
            f"  tokens           {used.prompt_tokens} prompt, {used.completion_tokens} completion{speed}",
            f"  cost             ${used.cost:.4f} (whole set ${stored.cost:.4f})",
            f"  wall time        {self.seconds:.1f} s",
        ]


@dataclass(frozen=True)
class Estimate:
    """What a job would ask and cost.

    Args:
        requests: questions without a usable stored answer; retries come on top.
        prompt_tokens: of all of them, as the engine's tokenizer counts.
        completion_tokens: of replies of common length.
        cost: US dollars.
        at_most: US dollars if each reply ran to ``max_tokens`` and was asked for twice.
    """

    requests: int
    prompt_tokens: int
    completion_tokens: int
    cost: float
    at_most: float

    def lines(self) -> list[str]:
        """Return the estimate for people."""
        return [
            f"  would ask        {self.requests} requests",
            f"  tokens           {self.prompt_tokens} prompt, about {self.completion_tokens} completion",
            f"  cost             about ${self.cost:.4f}, at most ${self.at_most:.4f}",
        ]
