"""Labelling: an LLM scores texts on a psychometric scale; no answer that was paid for is lost."""
