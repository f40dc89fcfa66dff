"""The LangChain adapter: the contract, the drop-in keywords, and the places it is used in."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any, TypedDict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_classic.retrievers import ContextualCompressionRetriever
from langchain_classic.retrievers.document_compressors import (
    CrossEncoderReranker,
    DocumentCompressorPipeline,
)
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import Runnable, RunnableLambda, RunnablePassthrough
from langchain_tests.integration_tests import RetrieversIntegrationTests
from langgraph.graph import END, START, StateGraph

from rerank_plugins.errors import InvalidArgumentError, InvalidTypeError
from rerank_plugins.langchain import CrossEncoderRerank, RerankRetriever, SharedCrossEncoder
from rerank_plugins.testing import FakeScorer
from rerank_plugins.testing.contract import BEST_FIRST, QUERY, SCORES
from rerank_plugins.testing.langchain import CompressorTests, RecordingCallbacks

DOCUMENTS = CompressorTests.candidates(None, list(SCORES))  # type: ignore[arg-type]


class FirstStage(BaseRetriever):
    """Finds all documents for every query."""

    def _get_relevant_documents(
        self, query: str, *, run_manager: Any, k: int = 9
    ) -> list[Document]:
        return DOCUMENTS[:k]

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: Any, k: int = 9
    ) -> list[Document]:
        return DOCUMENTS[:k]


def texts(documents: list[Document]) -> list[str]:
    return [document.page_content for document in documents]


class TestContract(CompressorTests):
    def make(self, scorer: Any, **settings: Any) -> CrossEncoderRerank:
        return CrossEncoderRerank(scorer=scorer, **settings)


class TestRerankRetriever(RetrieversIntegrationTests):
    """LangChain's own tests of retrievers."""

    @property
    def retriever_constructor(self) -> Any:
        return lambda **settings: CrossEncoderRerank(scorer=FakeScorer(SCORES), **settings).over(
            FirstStage()
        )

    @property
    def retriever_query_example(self) -> str:
        return QUERY

    @property
    def num_results_arg_name(self) -> str:
        return "top_n"


@given(st.lists(st.tuples(st.text(max_size=3), st.integers(-3, 3)), max_size=8), st.integers(1, 9))
def test_order_is_that_of_a_stable_sort(found: list[tuple[str, int]], top_n: int) -> None:
    scores = dict(found)
    documents = [Document(text) for text, _ in found]
    rerank = CrossEncoderRerank(scorer=FakeScorer(scores), top_n=top_n)
    expected = sorted([text for text, _ in found], key=lambda text: -scores[text])[:top_n]
    assert texts(rerank.compress_documents(documents, QUERY)) == expected


def test_default_is_three_documents() -> None:
    rerank = CrossEncoderRerank(scorer=FakeScorer(SCORES))
    assert texts(rerank.compress_documents(DOCUMENTS, QUERY)) == BEST_FIRST[:3]


class TestFirstStageScores:
    def test_nothing_is_invented_for_a_document_without_one(self) -> None:
        rerank = CrossEncoderRerank(scorer=FakeScorer(SCORES), keep_retrieval_score=True)
        [kept] = rerank.compress_documents([Document("alpha")], QUERY)
        assert kept.metadata == {"relevance_score": 0.5}

    def test_the_key_can_be_named_even_an_older_relevance_score(self) -> None:
        rerank = CrossEncoderRerank(
            scorer=FakeScorer(SCORES),
            keep_retrieval_score=True,
            retrieval_score_key="relevance_score",
        )
        document = Document("alpha", metadata={"relevance_score": np.float32(0.25)})
        [kept] = rerank.compress_documents([document], QUERY)
        assert kept.metadata == {"relevance_score": 0.5, "retrieval_score": 0.25}
        assert type(kept.metadata["retrieval_score"]) is float

    @pytest.mark.parametrize("value", ["high", True, [1.0]])
    def test_a_value_that_is_no_number_is_named(self, value: object) -> None:
        rerank = CrossEncoderRerank(scorer=FakeScorer(SCORES), keep_retrieval_score=True)
        document = Document("alpha", metadata={"score": value})
        with pytest.raises(InvalidTypeError, match=r"documents\[0\]\.metadata\['score'\]"):
            rerank.compress_documents([document], QUERY)

    def test_interpolation_adds_them(self) -> None:
        # By hand: scores 1 and -1, first stage 10 and 20; z-scores 1, -1 and -1, 1.
        scorer = FakeScorer({"a": 1.0, "b": -1.0})
        documents = [Document("a", metadata={"bm25": 10}), Document("b", metadata={"bm25": 20})]
        rerank = CrossEncoderRerank(
            scorer=scorer, first_stage_weight=3.0, retrieval_score_key="bm25"
        )
        kept = rerank.compress_documents(documents, QUERY)
        assert [(d.page_content, d.metadata["relevance_score"]) for d in kept] == [
            ("b", 2.0),
            ("a", -2.0),
        ]

    def test_interpolation_names_the_document_without_one(self) -> None:
        rerank = CrossEncoderRerank(scorer=FakeScorer(SCORES), first_stage_weight=0.5)
        with pytest.raises(InvalidArgumentError, match=r"documents\[1\].*retrieval_score_key"):
            rerank.compress_documents([DOCUMENTS[0], Document("beta")], QUERY)


class TestInChains:
    @pytest.fixture(params=[False, True], ids=["sync", "async"])
    def awaited(self, request: pytest.FixtureRequest) -> bool:
        return bool(request.param)

    @pytest.fixture
    def invoke(self, awaited: bool) -> Callable[..., Any]:
        def call(runnable: Any, value: Any, *args: Any, **keywords: Any) -> Any:
            if awaited:
                return asyncio.run(runnable.ainvoke(value, *args, **keywords))
            return runnable.invoke(value, *args, **keywords)

        return call

    @pytest.fixture
    def rerank(self) -> CrossEncoderRerank:
        return CrossEncoderRerank(scorer=FakeScorer(SCORES), top_n=2)

    def test_contextual_compression_retriever(
        self, rerank: CrossEncoderRerank, invoke: Callable[..., Any]
    ) -> None:
        retriever = ContextualCompressionRetriever(
            base_compressor=rerank, base_retriever=FirstStage()
        )
        recorder = RecordingCallbacks()
        kept = invoke(retriever, QUERY, {"callbacks": [recorder]})
        assert texts(kept) == ["beta", "delta"]
        assert recorder.ends == [kept, DOCUMENTS, kept]
        outer, *inner = recorder.runs
        assert [recorder.runs[run]["parent"] for run in inner] == [outer, outer]

    def test_document_compressor_pipeline(
        self, rerank: CrossEncoderRerank, invoke: Callable[..., Any]
    ) -> None:
        first = CrossEncoderRerank(scorer=FakeScorer(lambda text: -SCORES[text]), top_n=3)
        pipeline = DocumentCompressorPipeline(transformers=[first, rerank])
        retriever = ContextualCompressionRetriever(
            base_compressor=pipeline, base_retriever=FirstStage()
        )
        assert texts(invoke(retriever, QUERY)) == ["beta", "alpha"]

    def test_cross_encoder_reranker(self, invoke: Callable[..., Any]) -> None:
        theirs = CrossEncoderReranker(model=SharedCrossEncoder(scorer=FakeScorer(SCORES)), top_n=3)
        retriever = ContextualCompressionRetriever(
            base_compressor=theirs, base_retriever=FirstStage()
        )
        assert texts(invoke(retriever, QUERY)) == BEST_FIRST[:3]
        assert json.loads(theirs.model_dump_json())["model"]["model"] == "fake"

    def test_lcel_chain_over_a_retriever(
        self, rerank: CrossEncoderRerank, invoke: Callable[..., Any], awaited: bool
    ) -> None:
        recorder = RecordingCallbacks()
        chain = {
            "context": rerank.over(FirstStage()) | texts,
            "question": RunnablePassthrough(),
        } | RunnableLambda(lambda inputs: f"{inputs['question']}: {inputs['context']}")
        answer = invoke(chain, QUERY, {"callbacks": [recorder]})
        assert answer == f"{QUERY}: ['beta', 'delta']"
        [(method, _, _)] = rerank.scorer.calls  # type: ignore[union-attr]
        assert method == ("ascore" if awaited else "score")
        assert len(recorder.ends) == 3

    def test_as_runnable(self, rerank: CrossEncoderRerank, invoke: Callable[..., Any]) -> None:
        recorder = RecordingCallbacks()
        chain = {
            "query": RunnablePassthrough(),
            "documents": FirstStage(),
        } | rerank.as_runnable()
        kept = invoke(chain, QUERY, {"callbacks": [recorder]})
        assert texts(kept) == ["beta", "delta"]
        assert recorder.ends == [DOCUMENTS, kept]
        renamed = rerank.as_runnable(query_key="question", documents_key="context")
        assert invoke(renamed, {"question": QUERY, "context": DOCUMENTS}) == kept
        node = rerank.as_runnable(output_key="documents")  # LangGraph updates its state by this
        assert invoke(node, {"query": QUERY, "documents": DOCUMENTS}) == {"documents": kept}
        with pytest.raises(InvalidArgumentError, match="lacks 'query'"):
            invoke(rerank.as_runnable(), {"question": QUERY, "documents": DOCUMENTS})

    def test_as_runnable_is_a_node_that_changes_one_key_of_a_state(
        self, rerank: CrossEncoderRerank, invoke: Callable[..., Any]
    ) -> None:
        class State(TypedDict):
            query: str
            documents: list[Document]

        graph = StateGraph(State)
        graph.add_node("rerank", rerank.as_runnable(output_key="documents"))
        graph.add_edge(START, "rerank")
        graph.add_edge("rerank", END)
        state = invoke(graph.compile(), {"query": QUERY, "documents": DOCUMENTS})
        assert state["query"] == QUERY
        assert texts(state["documents"]) == ["beta", "delta"]

    def test_a_lambda_in_a_chain_passes_its_callbacks_on(self, rerank: CrossEncoderRerank) -> None:
        recorder = RecordingCallbacks()
        chain: Runnable[str, list[Document]] = RunnableLambda(
            lambda query: rerank.compress_documents(DOCUMENTS, query)
        )
        kept = chain.invoke(QUERY, {"callbacks": [recorder]})
        assert recorder.ends == [kept]

    def test_retriever_hands_keywords_to_the_first_stage(
        self, rerank: CrossEncoderRerank, invoke: Callable[..., Any]
    ) -> None:
        retriever = rerank.over(FirstStage())
        assert isinstance(retriever, RerankRetriever)
        assert texts(invoke(retriever, QUERY, None, k=1)) == ["alpha"]
        assert texts(invoke(retriever, QUERY, None, top_n=None)) == BEST_FIRST
        assert [texts(found) for found in retriever.batch([QUERY, QUERY])] == [
            ["beta", "delta"]
        ] * 2
