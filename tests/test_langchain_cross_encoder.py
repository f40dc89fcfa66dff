"""LangChain's cross-encoder interface, both ways."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest
from langchain_core.cross_encoders import BaseCrossEncoder
from langchain_core.documents import Document

from rerank_plugins.errors import (
    InvalidArgumentError,
    InvalidTypeError,
    NonFiniteScoreError,
    ScoringError,
)
from rerank_plugins.langchain import CrossEncoderRerank, SharedCrossEncoder
from rerank_plugins.testing import FakeScorer
from rerank_plugins.testing.contract import BEST_FIRST, QUERY, SCORES
from rerank_plugins.testing.langchain import CompressorTests

DOCUMENTS = CompressorTests.candidates(None, list(SCORES))  # type: ignore[arg-type]


def texts(documents: list[Document]) -> list[str]:
    return [document.page_content for document in documents]


class TestSharedCrossEncoder:
    class PairScorer(FakeScorer):
        def score_pairs(self, pairs: list[tuple[str, str]]) -> list[float]:
            self.calls.append(("score_pairs", "", [passage for _, passage in pairs]))
            return [SCORES[passage] + len(query) for query, passage in pairs]

    def test_pairs_of_many_queries_keep_their_places(self) -> None:
        scorer = FakeScorer(SCORES)
        pairs = [("q", "alpha"), ("r", "beta"), ("q", "gamma"), ("q", "alpha")]
        assert SharedCrossEncoder(scorer=scorer).score(pairs) == [0.5, 2.0, -1.5, 0.5]
        assert scorer.calls == [("score", "q", ["alpha", "gamma"]), ("score", "r", ["beta"])]

    def test_a_scorer_of_pairs_is_asked_once_for_distinct_pairs(self) -> None:
        scorer = self.PairScorer({})
        pairs = [("q", "alpha"), ("long", "alpha"), ("q", "alpha")]
        assert SharedCrossEncoder(scorer=scorer).score(pairs) == [1.5, 4.5, 1.5]
        assert scorer.calls == [("score_pairs", "", ["alpha", "alpha"])]

    def test_no_pairs_need_no_scorer(self) -> None:
        assert SharedCrossEncoder(model="no/such-model").score([]) == []

    def test_nan_is_an_error_that_names_the_passage(self) -> None:
        for kind in (FakeScorer, self.PairScorer):
            scorer = kind({"alpha": float("nan")})
            scorer.score_pairs = lambda pairs: [float("nan")] * len(pairs)  # type: ignore[attr-defined]
            with pytest.raises(NonFiniteScoreError, match="alpha"):
                SharedCrossEncoder(scorer=scorer).score([("q", "alpha")])

    @pytest.mark.parametrize("pairs", [[("q", None)], [(None, "p")]])
    def test_what_is_no_pair_of_strings_is_an_error(self, pairs: Any) -> None:
        with pytest.raises(InvalidTypeError, match="must be a string"):
            SharedCrossEncoder(scorer=FakeScorer(SCORES)).score(pairs)


class TheirCrossEncoder(BaseCrossEncoder):
    """A cross-encoder as LangChain's own are: arrays come back, two labels give rows."""

    model_name = "their/model"

    def __init__(self, rows: Any = None) -> None:
        self.rows = rows

    def score(self, text_pairs: list[tuple[str, str]]) -> Any:
        if self.rows is not None:
            return self.rows
        return np.array([SCORES[passage] for _, passage in text_pairs], dtype=np.float32)


class TestTheirCrossEncoderAsModel:
    def test_it_scores_sync_and_async(self) -> None:
        rerank = CrossEncoderRerank(model=TheirCrossEncoder(), top_n=4)
        assert rerank.model == "their/model"
        assert texts(rerank.compress_documents(DOCUMENTS, QUERY)) == BEST_FIRST
        assert texts(asyncio.run(rerank.acompress_documents(DOCUMENTS, QUERY))) == BEST_FIRST

    def test_a_row_of_two_labels_is_an_error_not_a_score(self) -> None:
        rerank = CrossEncoderRerank(model=TheirCrossEncoder(np.ones((4, 2))))
        with pytest.raises(ScoringError, match="one number was expected"):
            rerank.compress_documents(DOCUMENTS, QUERY)

    def test_too_few_scores_drop_no_document(self) -> None:
        rerank = CrossEncoderRerank(model=TheirCrossEncoder([1.0]))
        with pytest.raises(ScoringError, match="1 scores for 4"):
            rerank.compress_documents(DOCUMENTS, QUERY)

    def test_ours_is_taken_apart_and_shares_its_scorer(self) -> None:
        scorer = FakeScorer(SCORES)
        rerank = CrossEncoderRerank(model=SharedCrossEncoder(scorer=scorer))
        assert rerank.scorer is scorer
        named = CrossEncoderRerank(model=SharedCrossEncoder(model="some/model", device="cpu"))
        assert (named.scorer, named.model, named.device) == (None, "some/model", "cpu")

    def test_two_scorers_are_one_too_many(self) -> None:
        with pytest.raises(InvalidArgumentError, match="give one of them"):
            CrossEncoderRerank(model=TheirCrossEncoder(), scorer=FakeScorer(SCORES))
