"""The contract of a scorer, whatever computes its scores."""

from __future__ import annotations

import asyncio
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

from rerank_plugins.errors import require_extra
from rerank_plugins.ranking import Scorer, rank

require_extra("pytest", extra="testing", purpose="ScorerTests")

import pytest  # noqa: E402

QUERY = "how do I sort a list?"
PASSAGES = [
    "list.sort() sorts the items of the list in place.",
    "The river Thames flows through London.",
    "A tuple is an immutable sequence, written in parentheses. " * 8,
    "Sorted.",
    "Größe, 数, \U0001f600 and other signs.",
]

Score = Callable[[str, Sequence[str]], list[float]]


class ScorerTests(ABC):
    """Subclass, and return your scorer from ``make``; it is made once a test.

    ``tolerance`` is how far two scores of one pair may lie apart: a model may round differently in
    another batch, but must not score it differently.
    """

    tolerance: ClassVar[float] = 1e-4

    @abstractmethod
    def make(self) -> Scorer:
        """Return the scorer under test."""

    def release(self, scorer: Any) -> None:  # noqa: B027
        """Close ``scorer``, where yours must be closed; called after each test."""

    @pytest.fixture
    def scorer(self) -> Iterator[Scorer]:
        scorer = self.make()
        yield scorer
        self.release(scorer)

    @pytest.fixture(params=["sync", "async"])
    def score(self, request: pytest.FixtureRequest, scorer: Scorer) -> Score:
        if request.param == "sync":
            return scorer.score
        return lambda query, passages: asyncio.run(scorer.ascore(query, passages))

    def near(self, scores: Sequence[float]) -> object:
        return pytest.approx(list(scores), abs=self.tolerance)

    def test_says_its_model_and_its_unit(self, scorer: Scorer) -> None:
        assert isinstance(scorer, Scorer)
        assert isinstance(scorer.model, str)
        assert scorer.model
        assert scorer.score_unit in ("logit", "probability")

    def test_one_finite_python_float_for_each_passage(self, scorer: Scorer, score: Score) -> None:
        scores = score(QUERY, PASSAGES)
        assert [type(one) for one in scores] == [float] * len(PASSAGES)
        assert all(math.isfinite(one) for one in scores)
        if scorer.score_unit == "probability":
            assert all(0 <= one <= 1 for one in scores)

    def test_scores_come_in_the_order_of_the_passages(self, score: Score) -> None:
        assert score(QUERY, PASSAGES[::-1]) == self.near(score(QUERY, PASSAGES)[::-1])

    def test_a_score_does_not_depend_on_the_other_passages(self, score: Score) -> None:
        alone = [score(QUERY, [passage])[0] for passage in PASSAGES]
        assert score(QUERY, PASSAGES) == self.near(alone)

    def test_no_passages_no_scores(self, score: Score) -> None:
        assert score(QUERY, []) == []

    def test_a_blank_passage_is_scored(self, score: Score) -> None:
        assert len(score(QUERY, ["", PASSAGES[0]])) == 2

    def test_passages_are_left_as_they_are(self, score: Score) -> None:
        given = list(PASSAGES)
        score(QUERY, given)
        assert given == PASSAGES

    def test_a_tuple_of_passages_is_read_too(self, score: Score) -> None:
        assert score(QUERY, tuple(PASSAGES)) == self.near(score(QUERY, PASSAGES))

    def test_threads_get_their_own_scores(self, scorer: Scorer) -> None:
        alone = [scorer.score(QUERY, [passage]) for passage in PASSAGES]
        with ThreadPoolExecutor(4) as pool:
            together = list(pool.map(lambda passage: scorer.score(QUERY, [passage]), PASSAGES * 4))
        for at, scores in enumerate(together):
            assert scores == self.near(alone[at % len(PASSAGES)])

    def test_tasks_get_their_own_scores(self, scorer: Scorer) -> None:
        async def main() -> list[list[float]]:
            calls = [scorer.ascore(QUERY, [passage]) for passage in PASSAGES * 4]
            return await asyncio.gather(*calls)

        together = asyncio.run(main())
        for at, scores in enumerate(together):
            assert scores == self.near(scorer.score(QUERY, [PASSAGES[at % len(PASSAGES)]]))

    def test_rank_takes_it(self, scorer: Scorer) -> None:
        rows = rank(scorer, QUERY, PASSAGES)
        assert sorted(row.index for row in rows) == list(range(len(PASSAGES)))
        assert [row.score for row in rows] == sorted((row.score for row in rows), reverse=True)
