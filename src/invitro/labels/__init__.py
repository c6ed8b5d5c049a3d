"""LLM labels: label sets and where they come from."""

from invitro.labels.labelset import LabelSet, joined, label_set
from invitro.labels.published import PublishedSet, published, published_sets
from invitro.labels.source import LabelSource

__all__ = ["LabelSet", "LabelSource", "PublishedSet", "joined", "label_set", "published", "published_sets"]
