"""Scorers to test with: one that remembers, one that fails, one that waits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal


class RecordingScorer:
    """Scores by a table (or a function) of passages, and remembers what it was asked.

    >>> scorer = RecordingScorer({"a": 1.0, "b": 2.0})
    >>> scorer.score("why", ["b", "a"])
    [2.0, 1.0]
    >>> scorer.calls
    [('score', 'why', ['b', 'a'])]
    """

    model = "recording"
    score_unit: Literal["logit"] = "logit"

    def __init__(self, scores: Mapping[str, float] | Callable[[str], float]) -> None:
        self.scores = scores
        self.calls: list[tuple[str, str, list[str]]] = []

    def score(self, query: str, passages: Sequence[str]) -> list[float]:
        return self._scored("score", query, passages)

    async def ascore(self, query: str, passages: Sequence[str]) -> list[float]:
        await asyncio.sleep(0)
        return self._scored("ascore", query, passages)

    def _scored(self, method: str, query: str, passages: Sequence[str]) -> list[float]:
        self.calls.append((method, query, list(passages)))
        of = self.scores if callable(self.scores) else self.scores.__getitem__
        return [of(passage) for passage in passages]


class FailingScorer(RecordingScorer):
    """Raises ``error`` whenever it is asked."""

    model = "failing"

    def __init__(self, error: BaseException) -> None:
        super().__init__({})
        self.error = error

    def _scored(self, method: str, query: str, passages: Sequence[str]) -> list[float]:
        self.calls.append((method, query, list(passages)))
        raise self.error


class WaitingScorer(RecordingScorer):
    """Waits in ``ascore`` until ``go`` is set, and remembers whether it was cancelled there.

    Its ``score`` raises: a caller that blocks a thread on it is not asynchronous.
    """

    model = "waiting"

    def __init__(self, scores: Mapping[str, float] | Callable[[str], float]) -> None:
        super().__init__(scores)
        self.asked = asyncio.Event()
        self.go = asyncio.Event()
        self.cancelled = False

    def score(self, query: str, passages: Sequence[str]) -> list[float]:
        raise AssertionError("score() was called where ascore() should be awaited")

    async def asked_by(self, task: asyncio.Task[Any]) -> None:
        """Wait until ``task`` waits here; if it ends without, raise what it raised."""
        asked = asyncio.create_task(self.asked.wait())
        await asyncio.wait({asked, task}, return_when=asyncio.FIRST_COMPLETED)
        if not asked.done():
            asked.cancel()
            await task
            raise AssertionError("the scorer's ascore() was not awaited")

    async def ascore(self, query: str, passages: Sequence[str]) -> list[float]:
        self.asked.set()
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        return self._scored("ascore", query, passages)
