"""The known models: where they are, how they are shaped, what was published about them."""

from __future__ import annotations

DEFAULT_MODEL = "cross-encoder/ms-marco-TinyBERT-L2-v2"
EMBEDDED_MODEL = "embedded"
