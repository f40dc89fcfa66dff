"""Two stages in a row: what a question goes through in either framework."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from rerank_plugins.interpolation import interpolate
from rerank_plugins.ranking import Scorer

Framework = Literal["langchain", "llama-index"]
FRAMEWORKS: tuple[Framework, ...] = ("langchain", "llama-index")

FIRST_STAGE = "first stage"
FUSED = " + first stage"
# Half the say of the cross-encoder: what the documentation suggests, not what is best here.
FIRST_STAGE_WEIGHT = 0.5


@dataclass(frozen=True, slots=True)
class Found:
    """A passage with the score that a system gave it."""

    id: str
    title: str
    text: str
    score: float


@dataclass(frozen=True, slots=True)
class Answer:
    """The rankings of one question by each system, best first, and how long each took."""

    query: str
    rankings: Mapping[str, tuple[Found, ...]]
    ms: Mapping[str, float] = field(default_factory=dict)


class Pipeline(ABC):
    """FAISS, then each cross-encoder over the best ``top_k``, in one framework.

    ``scorers`` is ``{name: scorer}``. Each cross-encoder ranks alone, and with the first stage.
    """

    framework: ClassVar[Framework]

    def __init__(self, scorers: Mapping[str, Scorer]) -> None:
        self.scorers = scorers

    @property
    def systems(self) -> list[str]:
        """The names of all rankings of an answer."""
        names = [FIRST_STAGE]
        for name in self.scorers:
            names += [name, name + FUSED]
        return names

    def answer(self, query: str) -> Answer:
        """Return the rankings of all candidates by every system."""
        start = time.perf_counter()
        candidates = self._retrieve(query)
        retrieve_ms = (time.perf_counter() - start) * 1e3
        first = tuple(self._found(candidate) for candidate in candidates)
        rankings, ms = {FIRST_STAGE: first}, {FIRST_STAGE: retrieve_ms}
        for name in self.scorers:
            start = time.perf_counter()
            reranked = tuple(self._found(each) for each in self._rerank(name, query, candidates))
            ms[name] = retrieve_ms + (time.perf_counter() - start) * 1e3
            rankings[name] = reranked
            rankings[name + FUSED] = fused(first, reranked)
            ms[name + FUSED] = ms[name]
        return Answer(query, rankings, ms)

    @abstractmethod
    def _retrieve(self, query: str) -> list[Any]: ...

    @abstractmethod
    def _rerank(self, name: str, query: str, candidates: list[Any]) -> Sequence[Any]: ...

    @abstractmethod
    def _found(self, candidate: Any) -> Found: ...


def fused(first: Sequence[Found], reranked: Sequence[Found]) -> tuple[Found, ...]:
    """Return the ranking by both stages' scores, as ``first_stage_weight`` makes it.

    From the scores that are there: asking the model again would cost its time twice.
    """
    scores = {found.id: found.score for found in reranked}
    sums = interpolate(
        [scores[found.id] for found in first], [found.score for found in first], FIRST_STAGE_WEIGHT
    )
    order = sorted(range(len(first)), key=lambda index: -sums[index])
    return tuple(
        Found(first[index].id, first[index].title, first[index].text, sums[index])
        for index in order
    )
