"""Labelling: an LLM scores texts on a psychometric scale; not one answer that was paid for is lost."""

from invitro.labelling.exchange import Price, Readout, Sampling
from invitro.labelling.forms import ReplyForm
from invitro.labelling.prompts import Prompt, Renderer
from invitro.labelling.replies import Status

__all__ = ["Price", "Prompt", "Readout", "Renderer", "ReplyForm", "Sampling", "Status"]
