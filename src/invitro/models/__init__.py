"""The PLM: loading it, tokens and batches, frozen features, the folder of a trained model, and scoring with it.

Only the settings are imported here; callers import the modules that need torch themselves.
"""

from invitro.models.settings import PLM, EmbeddingRidge, TfIdfRidge

__all__ = ["PLM", "EmbeddingRidge", "TfIdfRidge"]
