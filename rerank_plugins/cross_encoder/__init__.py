"""The shared cross-encoder: the only part of the package that touches torch."""

from rerank_plugins.cross_encoder.scheduling.stats import Stats
from rerank_plugins.cross_encoder.scorer import CrossEncoderScorer, Window

__all__ = ["CrossEncoderScorer", "Stats", "Window"]
