"""Labelling: an LLM scores texts on a psychometric scale; no paid answer is lost."""
