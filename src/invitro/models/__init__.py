"""The PLM: loading it, tokens and batches, frozen features, the folder of a trained model, scoring texts with it.

Only the settings are imported here; the modules that need torch are imported by whoever uses them.
"""

from invitro.models.floors import EmbeddingRidge, TfIdfRidge
from invitro.models.settings import PLM

__all__ = ["PLM", "EmbeddingRidge", "TfIdfRidge"]
