"""Scorers to test with: one that counts words, one that fails, one that waits."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rerank_plugins.ranking import ScoreUnit


class FakeScorer:
    """Scores without a model, and remembers what it was asked in ``calls``.

    ``scores`` is a table of passages, or a function of one passage. Without it a score is the
    number of the query's different words that the passage holds, which is easy to work out:

    >>> scorer = FakeScorer()
    >>> scorer.score("sort a list", ["A list to sort.", "a river", "rivers"])
    [3.0, 1.0, 0.0]
    >>> scorer.calls
    [('score', 'sort a list', ['A list to sort.', 'a river', 'rivers'])]
    >>> FakeScorer({"north": 1.5, "south": -0.5}).score("where", ["south", "north"])
    [-0.5, 1.5]

    A passage that is not in the table is a KeyError.
    """

    model = "fake"
    score_unit: ScoreUnit = "logit"

    def __init__(self, scores: Mapping[str, float] | Callable[[str], float] | None = None) -> None:
        self.scores = scores
        self.calls: list[tuple[str, str, list[str]]] = []

    def score(self, query: str, passages: Sequence[str]) -> list[float]:
        return self._scored("score", query, passages)

    async def ascore(self, query: str, passages: Sequence[str]) -> list[float]:
        await asyncio.sleep(0)
        return self._scored("ascore", query, passages)

    def _scored(self, method: str, query: str, passages: Sequence[str]) -> list[float]:
        self.calls.append((method, query, list(passages)))
        if self.scores is None:
            words = _words(query)
            return [float(len(words & _words(passage))) for passage in passages]
        of = self.scores if callable(self.scores) else self.scores.__getitem__
        return [of(passage) for passage in passages]


class FailingScorer(FakeScorer):
    """Raises ``error`` whenever it is asked."""

    model = "failing"

    def __init__(self, error: BaseException) -> None:
        super().__init__({})
        self.error = error

    def _scored(self, method: str, query: str, passages: Sequence[str]) -> list[float]:
        self.calls.append((method, query, list(passages)))
        raise self.error


class WaitingScorer(FakeScorer):
    """Waits in ``ascore`` until ``go`` is set, and remembers whether it was cancelled there.

    Its ``score`` raises: a caller that blocks a thread on it is not asynchronous.
    """

    model = "waiting"

    def __init__(self, scores: Mapping[str, float] | Callable[[str], float] | None = None) -> None:
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


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower()))
