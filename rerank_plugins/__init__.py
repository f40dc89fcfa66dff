"""One shared cross-encoder as the second stage of LangChain and LlamaIndex retrieval.

Importing this package imports neither torch nor a framework: the scorer is loaded on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rerank_plugins.errors import RerankError
from rerank_plugins.interpolation import interpolate
from rerank_plugins.models import DEFAULT_MODEL, EMBEDDED_MODEL
from rerank_plugins.ranking import Ranked, Scorer, ScoreUnit, arank, rank
from rerank_plugins.registry import close_shared_scorers, shared_scorer

if TYPE_CHECKING:
    from rerank_plugins.cross_encoder import CrossEncoderScorer, Stats, Window

__version__ = "0.1.0"

__all__ = [
    "DEFAULT_MODEL",
    "EMBEDDED_MODEL",
    "CrossEncoderScorer",
    "Ranked",
    "RerankError",
    "ScoreUnit",
    "Scorer",
    "Stats",
    "Window",
    "arank",
    "close_shared_scorers",
    "interpolate",
    "rank",
    "shared_scorer",
]


def __getattr__(name: str) -> object:
    if name in ("CrossEncoderScorer", "Stats", "Window"):
        from rerank_plugins import cross_encoder

        return getattr(cross_encoder, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
