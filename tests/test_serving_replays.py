"""Requests of programs that cannot run here, and what each of them reads in the answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from live_server import ready, serving

from rerank_plugins.testing import FakeScorer

TEXTS = ["bad", "good", "fair"]
ORDER = [1, 2, 0]
Read = Callable[[Any], list[int]]


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with serving(FakeScorer({"bad": -3.0, "good": 2.0, "fair": 0.0})) as client:
        yield ready(client)


def results(answer: Any) -> list[int]:
    return [row["index"] for row in answer["results"] if 0.0 <= row["relevance_score"] <= 1.0]


def with_document(answer: Any) -> list[int]:
    assert all(row["document"]["text"] == TEXTS[row["index"]] for row in answer["results"])
    return results(answer)


def typed_as_go_reads_it(answer: Any) -> list[int]:
    assert isinstance(answer["model"], str)
    assert isinstance(answer["usage"]["total_tokens"], int)
    assert all(type(row["index"]) is int for row in answer["results"])
    assert all(type(row["relevance_score"]) is float for row in answer["results"])
    return results(answer)


def rows_without_another_field(answer: Any) -> list[int]:
    assert all(set(row) == {"index", "score"} for row in answer)
    return [row["index"] for row in answer]


def rows_with_text(answer: Any) -> list[int]:
    assert all(set(row) == {"index", "score", "text"} for row in answer)
    return [row["index"] for row in answer]


def data(answer: Any) -> list[int]:
    return [row["index"] for row in answer["data"] if row["relevance_score"] >= 0.0]


def min_max(answer: Any) -> list[int]:
    scores = [row["relevance_score"] for row in answer["results"]]
    assert max(scores) > min(scores)  # both divide by the difference
    return results(answer)


def every_index_once(answer: Any) -> list[int]:
    by_index = sorted(answer["results"], key=lambda row: int(row["index"]))
    assert [row["index"] for row in by_index] == [0, 1, 2]
    return sorted(range(3), key=lambda index: -float(by_index[index]["relevance_score"]))


DOCUMENTS = {"query": "why", "documents": TEXTS}
MODEL = {"model": FakeScorer.model}
REPLAYS: dict[str, tuple[str, dict[str, Any], Read]] = {
    "RAGFlow": ("/v1/rerank", {**MODEL, **DOCUMENTS, "top_n": 3}, min_max),
    "RAGFlow, bare base": ("/rerank", {**MODEL, **DOCUMENTS, "top_n": 3}, min_max),
    "RAGFlow, Xinference": (
        "/v1/rerank",
        {**MODEL, **DOCUMENTS, "return_documents": "true", "return_len": "true"},
        with_document,
    ),
    "RAGFlow, HuggingFace": (
        "/rerank",
        {"query": "why", "texts": TEXTS, "raw_scores": False, "truncate": True},
        rows_without_another_field,
    ),
    "Continue, TEI": (
        "/rerank",
        {
            "query": "why",
            "texts": TEXTS,
            "return_text": False,
            "raw_scores": False,
            "truncation_direction": "Right",
        },
        rows_without_another_field,
    ),
    "Continue, Voyage": ("/v1/rerank", {**MODEL, **DOCUMENTS}, data),
    "LibreChat, Jina": (
        "/v1/rerank",
        {**MODEL, **DOCUMENTS, "top_n": 3, "return_documents": True},
        with_document,
    ),
    "LibreChat, Cohere": ("/v2/rerank", {**MODEL, **DOCUMENTS, "top_n": 3}, results),
    "Weaviate, Jina": (
        "/v1/rerank",
        {**MODEL, **DOCUMENTS, "return_documents": False},
        typed_as_go_reads_it,
    ),
    "Weaviate, older": ("/v1/rerank", {**MODEL, **DOCUMENTS, "top_n": 0}, typed_as_go_reads_it),
    "Elasticsearch, Hugging Face": (
        "/rerank",
        {"query": "why", "texts": TEXTS, "return_text": True},
        rows_with_text,
    ),
    "Elasticsearch, Cohere": (
        "/v1/rerank",
        {**MODEL, **DOCUMENTS, "top_n": 3, "return_documents": True},
        with_document,
    ),
    "Dify": (
        "/v1/rerank",
        {**MODEL, **DOCUMENTS, "top_n": None, "return_documents": True},
        with_document,
    ),
    "Open WebUI": ("/v1/rerank", {**MODEL, **DOCUMENTS, "top_n": 3}, every_index_once),
    "LightRAG": ("/v1/rerank", {**MODEL, **DOCUMENTS, "top_n": 3}, results),
    "infinity_client": (
        "/rerank",
        {**MODEL, **DOCUMENTS, "return_documents": False, "raw_scores": False, "top_n": None},
        typed_as_go_reads_it,
    ),
    "xinference": ("/v1/rerank", {**MODEL, **DOCUMENTS, "max_chunks_per_doc": None}, results),
    "SiliconFlow": (
        "/v1/rerank",
        {**MODEL, **DOCUMENTS, "max_chunks_per_doc": 1024, "overlap_tokens": 80},
        results,
    ),
}


@pytest.mark.parametrize("name", REPLAYS)
def test_the_program_reads_the_order_in_the_answer(client: httpx.Client, name: str) -> None:
    path, body, read = REPLAYS[name]
    response = client.post(path, json=body)
    assert response.status_code == 200, response.text
    assert read(response.json()) == ORDER


@pytest.mark.parametrize(
    "body",
    [
        {"text_1": "why", "text_2": TEXTS},
        {"text_1": ["why"] * 3, "text_2": TEXTS},
        {"queries": "why", "items": TEXTS},
        {"data_1": "why", "data_2": TEXTS},
    ],
)
def test_vllms_scores_are_in_the_order_given(client: httpx.Client, body: dict[str, Any]) -> None:
    for path in ("/score", "/v1/score"):
        answer = client.post(path, json={**MODEL, "encoding_format": "float", **body}).json()
        assert answer["object"] == "list"
        assert [row["object"] for row in answer["data"]] == ["score"] * 3
        scores = [row["score"] for row in answer["data"]]
        assert sorted(range(3), key=lambda index: -scores[index]) == ORDER


def test_continue_finds_the_batch_size_that_it_may_send(client: httpx.Client) -> None:
    info = client.get("/info").json()
    assert "reranker" in info["model_type"]
    assert info["max_client_batch_size"] == 1_000


def test_gos_clients_read_the_fault_as_one_string(client: httpx.Client) -> None:
    response = client.post("/v1/rerank", json={"model": "other", **DOCUMENTS})
    assert response.status_code == 404
    told = response.json()
    assert isinstance(told["detail"], str)
    assert "other" in told["detail"]
    assert told["error"]["code"] == "model_not_found"
