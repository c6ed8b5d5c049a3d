"""Small language models that measure psychological constructs, with an LLM in the lab and not in production."""

__version__ = "0.1.0"
