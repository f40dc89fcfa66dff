"""The failure policy and the marks, which both adapters share."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import pytest
from langchain_core.documents import Document

from rerank_plugins import interpolate, rank
from rerank_plugins.errors import (
    DeadlineExceededError,
    InvalidArgumentError,
    MissingExtraError,
    ScoringError,
)
from rerank_plugins.langchain import CrossEncoderRerank
from rerank_plugins.testing import FailingScorer, FakeScorer
from rerank_plugins.testing.contract import QUERY, SCORES
from rerank_plugins.testing.langchain import CompressorTests, RecordingCallbacks

DOCUMENTS = CompressorTests.candidates(None, list(SCORES))  # type: ignore[arg-type]


def texts(documents: list[Document]) -> list[str]:
    return [document.page_content for document in documents]


class TestFallback:
    def test_the_first_stage_comes_back_as_it_was(self) -> None:
        rerank = CrossEncoderRerank(
            scorer=FailingScorer(OSError("down")),
            on_error="first_stage",
            top_n=2,
            score_threshold=5.0,
            keep_retrieval_score=True,
        )
        kept = rerank.compress_documents(DOCUMENTS, QUERY)
        assert [d.metadata for d in kept] == [
            {**d.metadata, "retrieval_score": d.metadata["score"], "rerank_error": "OSError: down"}
            for d in DOCUMENTS[:2]
        ]

    @pytest.mark.parametrize("score", [float("nan"), "high"])
    def test_an_unusable_answer_falls_back_too(self, score: Any) -> None:
        scorer = FakeScorer(lambda _: score)
        rerank = CrossEncoderRerank(scorer=scorer, on_error="first_stage")
        kept = rerank.compress_documents(DOCUMENTS, QUERY)
        assert texts(kept) == texts(DOCUMENTS[:3])
        assert "Error: " in kept[0].metadata["rerank_error"]

    @pytest.mark.parametrize(
        "error", [InvalidArgumentError("bad dtype"), MissingExtraError("pip"), KeyboardInterrupt()]
    )
    def test_mistakes_and_interrupts_are_raised(self, error: BaseException) -> None:
        recorder = RecordingCallbacks()
        rerank = CrossEncoderRerank(scorer=FailingScorer(error), on_error="first_stage")
        with pytest.raises(type(error)):
            rerank.compress_documents(DOCUMENTS, QUERY, [recorder])
        assert recorder.ends == [error]

    def test_a_later_success_drops_the_mark(self) -> None:
        failed = Document("alpha", metadata={"rerank_error": "OSError: down", "page": 3})
        rerank = CrossEncoderRerank(scorer=FakeScorer(SCORES))
        [kept] = rerank.compress_documents([failed], QUERY)
        assert kept.metadata == {"page": 3, "relevance_score": 0.5}


class TruncatingScorer(FakeScorer):
    def truncated(self, query: str, passages: list[str]) -> list[bool]:
        return [len(passage) > 4 for passage in passages]


class TestMarkTruncated:
    def test_says_which_of_the_kept_passages_lost_text(self) -> None:
        rerank = CrossEncoderRerank(scorer=TruncatingScorer(SCORES), mark_truncated=True)
        kept = rerank.compress_documents(DOCUMENTS, QUERY)
        assert kept == asyncio.run(rerank.acompress_documents(DOCUMENTS, QUERY))
        assert [(d.page_content, d.metadata["truncated"]) for d in kept] == [
            ("beta", False),
            ("delta", True),
            ("alpha", True),
        ]

    def test_a_scorer_that_cannot_tell_is_refused_at_once(self) -> None:
        with pytest.raises(InvalidArgumentError, match="FakeScorer has not"):
            CrossEncoderRerank(scorer=FakeScorer(SCORES), mark_truncated=True)

    def test_a_wrong_number_of_flags_is_an_error(self) -> None:
        class Short(FakeScorer):
            def truncated(self, query: str, passages: list[str]) -> list[bool]:
                return []

        rerank = CrossEncoderRerank(scorer=Short(SCORES), mark_truncated=True)
        with pytest.raises(ScoringError, match="0 flags for 3"):
            rerank.compress_documents(DOCUMENTS, QUERY)


class TestWrongArguments:
    @pytest.mark.parametrize("value", [0, -1, 2.5, True, "3"])
    def test_a_copy_checks_what_it_changes(self, value: Any) -> None:
        rerank = CrossEncoderRerank(scorer=FakeScorer(SCORES))
        with pytest.raises(InvalidArgumentError, match=rf"top_n.*{value}"):
            rerank.model_copy(update={"top_n": value})
        with pytest.raises(InvalidArgumentError, match="score_threshold"):
            rerank.model_copy(update={"score_threshold": float("nan")})
        kept = rerank.model_copy(update={"top_n": 1, "score_threshold": 0.0})
        assert texts(kept.compress_documents(DOCUMENTS, QUERY)) == ["beta"]
        assert rerank.top_n == 3

    def test_without_first_stage_scores_the_order_counts_by_reciprocal_ranks(self) -> None:
        plain = [Document(text) for text in SCORES]
        rerank = CrossEncoderRerank(scorer=FakeScorer(SCORES), top_n=None, first_stage_weight=0.5)
        kept = rerank.compress_documents(plain, QUERY)
        assert kept == asyncio.run(rerank.acompress_documents(plain, QUERY))
        ranks = [1 / (60 + place) for place in range(1, len(plain) + 1)]
        by_hand = dict(zip(SCORES, interpolate(list(SCORES.values()), ranks, 0.5), strict=True))
        assert {one.page_content: one.metadata["relevance_score"] for one in kept} == by_hand

    @pytest.mark.parametrize("on_error", ["raise", "first_stage"])
    def test_nothing_runs_and_nothing_is_reported(self, on_error: Any) -> None:
        scorer, recorder = FakeScorer(SCORES), RecordingCallbacks()
        rerank = CrossEncoderRerank(scorer=scorer, on_error=on_error, first_stage_weight=0.5)
        unscored = [*DOCUMENTS, Document("epsilon")]
        with pytest.raises(InvalidArgumentError, match=r"documents\[4\] has no first-stage score"):
            rerank.compress_documents(unscored, QUERY, [recorder])
        with pytest.raises(InvalidArgumentError, match="query must be a string"):
            rerank.compress_documents(DOCUMENTS, 7, [recorder])  # type: ignore[arg-type]
        assert scorer.calls == []
        assert recorder.runs == {}


class TimedScorer(FakeScorer):
    """Takes a time limit, and fails as a scorer does whose limit passed."""

    limits: ClassVar[list[float | None]] = []

    def score(
        self, query: str, passages: Sequence[str], *, timeout_s: float | None = None
    ) -> list[float]:
        self.limits.append(timeout_s)
        if timeout_s == 0.0:
            raise DeadlineExceededError("too late")
        return super().score(query, passages)

    async def ascore(
        self, query: str, passages: Sequence[str], *, timeout_s: float | None = None
    ) -> list[float]:
        return self.score(query, passages, timeout_s=timeout_s)


class TestTimeLimit:
    def test_it_reaches_the_scorer(self) -> None:
        scorer = TimedScorer(SCORES)
        scorer.limits.clear()
        rerank = CrossEncoderRerank(scorer=scorer, timeout_s=np.float32(2.5))
        kept = rerank.compress_documents(DOCUMENTS, QUERY)
        assert kept == asyncio.run(rerank.acompress_documents(DOCUMENTS, QUERY))
        rank(scorer, QUERY, list(SCORES), timeout_s=3)
        rank(scorer, QUERY, list(SCORES))
        assert scorer.limits == [2.5, 2.5, 3.0, None]

    def test_late_scores_are_forgiven_where_asked(self) -> None:
        rerank = CrossEncoderRerank(scorer=TimedScorer(SCORES), timeout_s=0)
        with pytest.raises(DeadlineExceededError):
            rerank.compress_documents(DOCUMENTS, QUERY)
        forgiving = rerank.model_copy(update={"on_error": "first_stage"})
        kept = forgiving.compress_documents(DOCUMENTS, QUERY)
        assert kept[0].metadata["rerank_error"] == "DeadlineExceededError: too late"

    @pytest.mark.parametrize("wrong", [-1, float("nan"), "1", True])
    def test_a_wrong_one_is_refused(self, wrong: Any) -> None:
        with pytest.raises(InvalidArgumentError, match="timeout_s must be"):
            CrossEncoderRerank(timeout_s=wrong)

    def test_a_scorer_without_one_is_refused_at_once(self) -> None:
        with pytest.raises(InvalidArgumentError, match=r"takes timeout_s, and that of Fake"):
            CrossEncoderRerank(scorer=FakeScorer(SCORES), timeout_s=1.0)
        with pytest.raises(InvalidArgumentError, match="takes timeout_s"):
            rank(FakeScorer(SCORES), QUERY, ["alpha"], timeout_s=1.0)
