"""LLM labels: label sets and where they come from."""

from invitro.labels.labelset import LabelSet, PublishedSet, joined, label_set, published, published_sets
from invitro.labels.source import LabelSource
from invitro.labels.store import LabelStore

__all__ = [
    "LabelSet", "LabelSource", "LabelStore", "PublishedSet", "joined", "label_set", "published", "published_sets",
]  # fmt: skip
