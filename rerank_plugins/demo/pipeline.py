"""Two stages in a row: what a question goes through in either framework."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

Framework = Literal["langchain", "llama-index"]
FRAMEWORKS: tuple[Framework, ...] = ("langchain", "llama-index")


@dataclass(frozen=True, slots=True)
class Hit:
    """A passage with the score that its stage gave it."""

    id: str
    score: float
    text: str


@dataclass(frozen=True, slots=True)
class Answer:
    """Both rankings of one question, best first, and the time each took."""

    query: str
    first_stage: tuple[Hit, ...]
    reranked: tuple[Hit, ...]
    retrieve_ms: float
    rerank_ms: float


class Pipeline(ABC):
    """FAISS over ``passages``, then the cross-encoder over the best ``top_k``, in one framework."""

    framework: ClassVar[Framework]

    def answer(self, query: str) -> Answer:
        """Return both rankings of all ``top_k`` candidates."""
        start = time.perf_counter()
        candidates = self._retrieve(query)
        retrieved = time.perf_counter()
        reranked = self._rerank(query, candidates)
        end = time.perf_counter()
        return Answer(
            query,
            tuple(self._retrieved_hit(candidate) for candidate in candidates),
            tuple(self._reranked_hit(candidate) for candidate in reranked),
            (retrieved - start) * 1e3,
            (end - retrieved) * 1e3,
        )

    @abstractmethod
    def _retrieve(self, query: str) -> list[Any]: ...

    @abstractmethod
    def _rerank(self, query: str, candidates: list[Any]) -> Sequence[Any]: ...

    @abstractmethod
    def _retrieved_hit(self, candidate: Any) -> Hit: ...

    @abstractmethod
    def _reranked_hit(self, candidate: Any) -> Hit: ...
