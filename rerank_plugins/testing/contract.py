"""What every reranker owes its callers, in words that fit both frameworks."""

from __future__ import annotations

import asyncio
import copy
import json
import math
import pickle
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from rerank_plugins.errors import require_extra
from rerank_plugins.testing.fakes import FailingScorer, FakeScorer, WaitingScorer

require_extra("pytest", extra="testing", purpose="RerankContract")

import numpy as np  # noqa: E402
import pytest  # noqa: E402

QUERY = "which letter"
# Best first: beta and delta tie, and beta came first.
SCORES = {"alpha": 0.5, "beta": 2.0, "gamma": -1.5, "delta": 2.0}
BEST_FIRST = ["beta", "delta", "alpha", "gamma"]

Rerank = Callable[..., list[Any]]


class RerankContract(ABC):
    """Subclassed once per framework; your tests subclass `CompressorTests` or `PostprocessorTests`.

    Say how your reranker is made around a scorer (wrap it as the client or the model that yours
    talks to) and which settings it has; tests of other settings are skipped::

        class TestMyCompressor(CompressorTests):
            supports = frozenset({"top_n"})

            def make(self, scorer, **settings):
                return MyCompressor(client=MyFakeClient(scorer.score), k=settings.get("top_n"))
    """

    supports: ClassVar[frozenset[str]] = frozenset(
        {"top_n", "score_threshold", "on_error", "keep_retrieval_score"}
    )

    @abstractmethod
    def make(self, scorer: Any, **settings: Any) -> Any:
        """Return the reranker under test, around ``scorer``."""

    @abstractmethod
    def candidates(self, texts: Sequence[str], ids: Sequence[str] | None = None) -> list[Any]:
        """Return the framework's objects, with ids, metadata and first-stage scores."""

    @abstractmethod
    def call(self, reranker: Any, candidates: Any, **keywords: Any) -> list[Any]:
        """Rerank ``candidates`` for `QUERY` through the framework's synchronous method."""

    @abstractmethod
    async def acall(self, reranker: Any, candidates: Any, **keywords: Any) -> list[Any]:
        """Rerank ``candidates`` for `QUERY` through the framework's asynchronous method."""

    @abstractmethod
    def text(self, kept: Any) -> str: ...

    @abstractmethod
    def score(self, kept: Any) -> Any: ...

    @abstractmethod
    def identity(self, kept: Any) -> str | None: ...

    @abstractmethod
    def metadata(self, kept: Any) -> dict[str, Any]: ...

    @abstractmethod
    def dumped(self, kept: Any) -> str:
        """Return ``kept`` as JSON, by the framework's own means."""

    @pytest.fixture(params=["sync", "async"])
    def rerank(self, request: pytest.FixtureRequest) -> Rerank:
        if request.param == "sync":
            return self.call
        return lambda *args, **keywords: asyncio.run(self.acall(*args, **keywords))

    def built(self, scorer: Any, **settings: Any) -> Any:
        """Return the reranker, or skip the test if it has no such setting."""
        missing = settings.keys() - self.supports
        if missing:
            pytest.skip(f"not supported: {', '.join(sorted(missing))}")
        return self.make(scorer, **settings)

    def keeping_all(self, scorer: Any, **settings: Any) -> Any:
        top_n = {"top_n": len(SCORES) * 2} if "top_n" in self.supports else {}
        return self.built(scorer, **top_n, **settings)

    def texts(self, kept: Sequence[Any]) -> list[str]:
        return [self.text(one) for one in kept]

    def test_best_first_and_ties_in_first_stage_order(self, rerank: Rerank) -> None:
        kept = rerank(self.keeping_all(FakeScorer(SCORES)), self.candidates(list(SCORES)))
        assert self.texts(kept) == BEST_FIRST
        assert [self.score(one) for one in kept] == [2.0, 2.0, 0.5, -1.5]

    def test_identical_passages_tie_even_if_the_scorer_wavers(self, rerank: Rerank) -> None:
        noise = iter([0.1, 0.3, 0.2, 0.4])
        scorer = FakeScorer(lambda passage: next(noise) if passage == "alpha" else 1.0)
        kept = rerank(self.keeping_all(scorer), self.candidates(["alpha", "beta", "alpha"]))
        assert self.texts(kept) == ["beta", "alpha", "alpha"]
        assert self.score(kept[1]) == self.score(kept[2]) == 0.1

    def test_what_was_given_is_not_changed(self, rerank: Rerank) -> None:
        given = self.candidates(list(SCORES))
        before = copy.deepcopy(given)
        inner = [self.metadata(one) for one in given]
        kept = rerank(self.keeping_all(FakeScorer(SCORES)), given)
        assert given == before
        assert all(self.metadata(one) is meta for one, meta in zip(given, inner, strict=True))
        assert not any(one is other for one in kept for other in given)

    def test_id_text_and_metadata_are_kept(self, rerank: Rerank) -> None:
        given = {self.identity(one): one for one in self.candidates(list(SCORES))}
        for one in rerank(self.keeping_all(FakeScorer(SCORES)), list(given.values())):
            original = given[self.identity(one)]
            assert self.text(one) == self.text(original)
            assert self.metadata(one)["source"] == self.metadata(original)["source"]

    def test_two_texts_under_one_id_keep_their_own_scores(self, rerank: Rerank) -> None:
        given = self.candidates(["gamma", "alpha"], ids=["same", "same"])
        kept = rerank(self.keeping_all(FakeScorer(SCORES)), given)
        assert [(self.text(one), self.score(one)) for one in kept] == [
            ("alpha", 0.5),
            ("gamma", -1.5),
        ]

    def test_scores_are_python_floats_and_dump_as_json(self, rerank: Rerank) -> None:
        scorer = FakeScorer(lambda passage: np.float32(SCORES[passage]))  # type: ignore[arg-type,return-value]
        for one in rerank(self.keeping_all(scorer), self.candidates(list(SCORES))):
            assert type(self.score(one)) is float
            assert json.loads(self.dumped(one))

    @pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
    def test_a_score_that_is_no_number_is_an_error(self, rerank: Rerank, bad: float) -> None:
        scorer = FakeScorer({**SCORES, "gamma": bad})
        with pytest.raises(ValueError, match="gamma"):
            rerank(self.keeping_all(scorer), self.candidates(list(SCORES)))

    def test_too_few_scores_are_an_error(self, rerank: Rerank) -> None:
        class Short(FakeScorer):
            def _scored(self, method: str, query: str, passages: Sequence[str]) -> list[float]:
                return super()._scored(method, query, passages)[:-1]

        with pytest.raises(Exception, match=r"3.*4"):
            rerank(self.keeping_all(Short(SCORES)), self.candidates(list(SCORES)))

    @pytest.mark.parametrize(("top_n", "left"), [(1, 1), (3, 3), (9, 4), (None, 4)])
    def test_top_n(self, rerank: Rerank, top_n: int | None, left: int) -> None:
        reranker = self.built(FakeScorer(SCORES), top_n=top_n)
        assert self.texts(rerank(reranker, self.candidates(list(SCORES)))) == BEST_FIRST[:left]

    @pytest.mark.parametrize("top_n", [0, -1])
    def test_top_n_below_one_is_an_error(self, rerank: Rerank, top_n: int) -> None:
        with pytest.raises(ValueError, match=rf"top_n.*{top_n}"):
            rerank(self.built(FakeScorer(SCORES), top_n=top_n), self.candidates(list(SCORES)))

    @pytest.mark.parametrize(("threshold", "left"), [(0.0, 3), (0.5, 3), (2.0, 2), (2.1, 0)])
    def test_threshold_keeps_what_reaches_it(
        self, rerank: Rerank, threshold: float, left: int
    ) -> None:
        reranker = self.keeping_all(FakeScorer(SCORES), score_threshold=threshold)
        assert self.texts(rerank(reranker, self.candidates(list(SCORES)))) == BEST_FIRST[:left]

    def test_nothing_in_nothing_out(self, rerank: Rerank) -> None:
        scorer = FakeScorer(SCORES)
        assert rerank(self.keeping_all(scorer), []) == []
        assert scorer.calls == []

    def test_a_single_and_a_blank_passage_are_scored(self, rerank: Rerank) -> None:
        for text in ("alpha", ""):
            kept = rerank(self.keeping_all(FakeScorer(lambda _: 0.25)), self.candidates([text]))
            assert [self.score(one) for one in kept] == [0.25]

    @pytest.mark.parametrize("given", ["alpha", [None], ["alpha"]])
    def test_what_is_no_candidate_is_an_error(self, rerank: Rerank, given: object) -> None:
        with pytest.raises((TypeError, ValueError)):
            rerank(self.keeping_all(FakeScorer(SCORES)), given)

    def test_a_failure_is_raised(self, rerank: Rerank) -> None:
        with pytest.raises(ConnectionError, match="no route"):
            rerank(
                self.keeping_all(FailingScorer(ConnectionError("no route"))),
                self.candidates(["alpha"]),
            )

    def test_a_failure_can_fall_back_to_the_first_stage_visibly(self, rerank: Rerank) -> None:
        scorer = FailingScorer(ConnectionError("no route"))
        reranker = self.built(scorer, on_error="first_stage", top_n=2)
        kept = rerank(reranker, self.candidates(list(SCORES)))
        assert self.texts(kept) == ["alpha", "beta"]
        assert {self.metadata(one)["rerank_error"] for one in kept} == {"ConnectionError: no route"}

    def test_a_wrong_argument_does_not_fall_back(self, rerank: Rerank) -> None:
        reranker = self.built(FakeScorer(SCORES), on_error="first_stage")
        with pytest.raises((TypeError, ValueError)):
            rerank(reranker, [None])

    def test_configuration_dumps_copies_and_pickles(self) -> None:
        reranker = self.keeping_all(FakeScorer(SCORES))
        assert isinstance(json.loads(reranker.model_dump_json()), dict)
        for again in (copy.deepcopy(reranker), pickle.loads(pickle.dumps(reranker))):
            assert self.texts(self.call(again, self.candidates(list(SCORES)))) == BEST_FIRST

    def test_async_awaits_the_scorer_and_leaves_the_loop_free(self) -> None:
        async def main() -> list[Any]:
            scorer = WaitingScorer(SCORES)
            reranker = self.keeping_all(scorer)
            task = asyncio.create_task(self.acall(reranker, self.candidates(list(SCORES))))
            await scorer.asked_by(task)
            scorer.go.set()
            return await task

        assert self.texts(asyncio.run(main())) == BEST_FIRST

    def test_concurrent_calls_get_their_own_results(self) -> None:
        async def main() -> list[list[Any]]:
            reranker = self.keeping_all(FakeScorer(lambda passage: float(len(passage))))
            calls = [self.acall(reranker, self.candidates(["x", "x" * n])) for n in range(2, 50)]
            return await asyncio.gather(*calls)

        for n, kept in enumerate(asyncio.run(main()), start=2):
            assert [self.score(one) for one in kept] == [float(n), 1.0]

    @pytest.mark.parametrize("settings", [{}, {"on_error": "first_stage"}])
    def test_cancellation_reaches_the_scorer(self, settings: dict[str, str]) -> None:
        async def main() -> bool:
            scorer = WaitingScorer(SCORES)
            reranker = self.keeping_all(scorer, **settings)
            task = asyncio.create_task(self.acall(reranker, self.candidates(["alpha"])))
            await scorer.asked_by(task)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            return scorer.cancelled

        assert asyncio.run(main())
