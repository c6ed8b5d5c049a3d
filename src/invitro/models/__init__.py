"""The PLM: loading it, tokens and batches, frozen features, the folder of a trained model, scoring texts with it.

Only the settings are imported here; the modules that need torch are imported by whoever uses them.
"""

from invitro.models.settings import PLM, EmbeddingRidge, TfIdfRidge

__all__ = ["PLM", "EmbeddingRidge", "TfIdfRidge"]
