"""The shared cross-encoder: the only part of the package that touches torch."""

from rerank_plugins.cross_encoder.scorer import CrossEncoderScorer

__all__ = ["CrossEncoderScorer"]
