"""Labelling: an LLM scores texts on a psychometric scale; not one answer that was paid for is lost."""

from invitro.engines.base import Price, Readout, Sampling
from invitro.labelling.forms import ReplyForm
from invitro.labelling.prompts import Prompt, Renderer
from invitro.labels.answers import Status

__all__ = ["Price", "Prompt", "Readout", "Renderer", "ReplyForm", "Sampling", "Status"]
