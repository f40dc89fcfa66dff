"""`RemoteScorer` when things go wrong: whatever comes ends in scores, or in an error by name."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from endpoint import EXPECTED, PASSAGES, Answer, endpoint, rows
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.documents import Document
from live_server import LONG, metric, ready, serving, wait_until
from llama_index.core.schema import NodeWithScore, TextNode

from rerank_plugins import shared_scorer
from rerank_plugins.errors import (
    DeadlineExceededError,
    InvalidArgumentError,
    RemoteError,
    RerankError,
    ScoringError,
)
from rerank_plugins.langchain import CrossEncoderRerank
from rerank_plugins.llama_index import CrossEncoderRerank as LlamaIndexRerank
from rerank_plugins.remote import RemoteScorer
from rerank_plugins.serving import ServedModel, ServerOptions
from rerank_plugins.testing import FakeScorer

AGAIN = {"retry-after-ms": "0"}
ENDS: dict[str, tuple[int, Any, type[RerankError] | None]] = {
    "scores": (200, None, None),
    "400": (400, {"message": "wrong"}, RemoteError),
    "401": (401, {}, RemoteError),
    "500": (500, b"a page", RemoteError),
    "301": (301, {}, RemoteError),
    "no JSON": (200, b"{", ScoringError),
    "no rows": (200, {}, ScoringError),
    "one row of four": (200, {"results": [{"index": 0, "relevance_score": 0.5}]}, ScoringError),
    "null": (200, {"results": [{"index": 0, "relevance_score": None}]}, ScoringError),
}


@settings(max_examples=25)
@given(
    dropped=st.integers(0, 1),
    faults=st.lists(st.sampled_from([408, 429, 502, 503, 504]), max_size=6),
    end=st.sampled_from(sorted(ENDS)),
    is_async=st.booleans(),
)
def test_faults_in_any_order_end_in_the_scores_or_in_the_last_ones_error(
    dropped: int, faults: list[int], end: str, is_async: bool
) -> None:
    status, content, error = ENDS[end]

    def answer(n: int, path: str, body: dict[str, Any]) -> Answer:
        if n <= dropped:
            return 0, None, {}
        if n - dropped <= len(faults):
            return faults[n - dropped - 1], {"message": "later"}, AGAIN
        return status, {"results": rows(body)} if content is None else content, {}

    with endpoint(answer) as (url, bodies):
        scorer = RemoteScorer(url, "m", api="cohere", timeout_s=LONG)

        def scores() -> list[float]:
            if is_async:
                return asyncio.run(scorer.ascore("why", PASSAGES))
            return scorer.score("why", PASSAGES)

        if error is None:
            assert scores() == EXPECTED
        else:
            with pytest.raises(error):
                scores()
        scorer.close()
    assert len(bodies) == dropped + len(faults) + 1
    assert all(body == bodies[0] for body in bodies)


@pytest.mark.parametrize(
    ("status", "told"),
    [(413, "too many"), (422, "batch size 4 > maximum allowed batch size 2")],
)
def test_a_request_that_is_refused_for_its_size_is_halved_once(status: int, told: str) -> None:
    def answer(n: int, path: str, body: dict[str, Any]) -> Answer:
        if len(body["documents"]) > 2:
            return status, {"error": told}, {}
        return 200, {"results": rows(body)}, {}

    with endpoint(answer) as (url, bodies):
        scorer = RemoteScorer(url, "m", api="cohere")
        assert scorer.score("why", PASSAGES) == EXPECTED
        assert [len(body["documents"]) for body in bodies] == [4, 2, 2]
        with pytest.raises(RemoteError) as caught:
            scorer.score("why", PASSAGES * 2)
        scorer.close()
    assert caught.value.status == status
    assert [len(body["documents"]) for body in bodies[3:]] == [8, 4]


def test_calls_are_split_as_the_server_says() -> None:
    passages = ["x" * n for n in range(1, 26)]
    options = ServerOptions(max_documents=10)
    with serving(FakeScorer(lambda passage: float(len(passage))), options=options) as client:
        scorer = RemoteScorer(str(ready(client).base_url), FakeScorer.model)
        assert scorer.score("why", passages) == [float(len(text)) for text in passages]
        scorer.close()
    info = {"model_type": {"reranker": {}}, "max_client_batch_size": 8}
    with endpoint(lambda n, path, body: (200, rows(body, "score"), {}), {"/info": info}) as (
        url,
        bodies,
    ):
        scorer = RemoteScorer(url, "m")
        assert scorer.score("why", passages) == [1 - 1 / (1 + len(text)) for text in passages]
        scorer.close()
    assert sorted(len(body["texts"]) for body in bodies) == [1, 8, 8, 8]


def test_a_server_that_loads_is_waited_for_and_its_unit_learned() -> None:
    go = threading.Event()

    def load() -> FakeScorer:
        assert go.wait(LONG)
        return FakeScorer({"good": 3.0})

    with serving(ServedModel("fake", load)) as client, ThreadPoolExecutor(1) as pool:
        for api in ("auto", "rerank_plugins"):
            scorer = RemoteScorer(str(client.base_url), "fake", api=api, timeout_s=LONG)
            scores = pool.submit(scorer.score, "why", ["good"])
            asked = 'rerank_requests_total{route="/v1/models",status="200"}'
            wait_until(lambda asked=asked: metric(client, asked) >= 1)
            go.set()
            assert scores.result(LONG) == [3.0]
            assert scorer.score_unit == "logit"
            scorer.close()


def test_what_cannot_be_sent_is_refused_before_anything_is_asked() -> None:
    with endpoint(lambda n, path, body: (200, {"results": rows(body)}, {})) as (url, bodies):
        scorer = RemoteScorer(url, "m", api="cohere")
        for query, passages in (("\ud800", ["a"]), ("why", ["a", "\udfff"])):
            with pytest.raises(InvalidArgumentError, match="lone surrogate"):
                scorer.score(query, passages)
            with pytest.raises(InvalidArgumentError, match="lone surrogate"):
                asyncio.run(scorer.ascore(query, passages))
        with pytest.raises(DeadlineExceededError):
            scorer.score("why", ["a"], timeout_s=0)
        scorer.close()
    assert bodies == []


@pytest.mark.parametrize("key", ["sk-secret\n", " sk-secret", "sk-\u00fcsecret"])
def test_a_key_that_no_header_holds_is_refused_without_showing_it(key: str) -> None:
    with pytest.raises(InvalidArgumentError, match="api_key") as caught:
        RemoteScorer("http://127.0.0.1:9", "m", api_key=key)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["http://user:secret@host", "http://host:99999", "http://", "ftp://host"]
)
def test_an_address_that_cannot_be_used_is_refused(url: str) -> None:
    with pytest.raises(InvalidArgumentError, match="base_url") as caught:
        RemoteScorer(url, "m")
    assert "secret" not in str(caught.value)


def test_an_answer_that_is_not_what_its_header_says_is_an_error_by_name() -> None:
    zipped = {"content-encoding": "gzip"}
    with endpoint(lambda n, path, body: (200, b"no gzip", zipped)) as (url, _):
        scorer = RemoteScorer(url, "m", api="cohere")
        with pytest.raises(RemoteError, match="cannot be decoded"):
            scorer.score("why", PASSAGES)
        scorer.close()


def texts_of(result: Any) -> list[str]:
    return [each.page_content if isinstance(each, Document) else each.text for each in result]


def through_both_adapters(scorer: Any, texts: list[str], **settings: Any) -> list[Any]:
    """Return what LangChain's adapter gives, and what LlamaIndex's gives."""
    chain = CrossEncoderRerank(scorer=scorer, top_n=len(texts), **settings)
    engine = LlamaIndexRerank(scorer=scorer, top_n=len(texts), **settings)
    nodes = [NodeWithScore(node=TextNode(text=text), score=0.5) for text in texts]
    query = "how do I sort a list?"
    return [
        chain.compress_documents([Document(text) for text in texts], query),
        engine.postprocess_nodes(nodes, query_str=query),
    ]


def test_first_stage_covers_a_server_that_is_not_there() -> None:
    scorer = RemoteScorer("http://127.0.0.1:9", "m", timeout_s=0.3)
    for result in through_both_adapters(scorer, ["b", "a", "c"], on_error="first_stage"):
        assert texts_of(result) == ["b", "a", "c"]
    with pytest.raises(RemoteError):
        through_both_adapters(scorer, ["b"])
    scorer.close()


def test_both_adapters_give_the_same_over_http_as_with_the_model_here() -> None:
    local = shared_scorer("embedded", device="cpu")
    texts = [f"{n} list.sort() sorts in place " * (n % 4 + 1) for n in range(40)]
    with serving(local) as client:
        remote = RemoteScorer(str(ready(client).base_url), "embedded")
        pairs = zip(
            through_both_adapters(local, texts), through_both_adapters(remote, texts), strict=True
        )
        for wanted, got in pairs:
            assert texts_of(got) == texts_of(wanted)
            assert scores_of(got) == pytest.approx(scores_of(wanted), abs=1e-6)
        remote.close()


def scores_of(result: Any) -> list[float]:
    return [
        each.metadata["relevance_score"] if isinstance(each, Document) else each.score
        for each in result
    ]
