"""Spans for score calls, as OpenInference names their attributes."""

from __future__ import annotations

import sys

import pytest
from live_server import ready, serving, wait_until
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from rerank_plugins import shared_scorer
from rerank_plugins.cross_encoder.tracing import MAX_CHARACTERS, MAX_DOCUMENTS, score_span

EXPORTER = InMemorySpanExporter()


@pytest.fixture(scope="module")
def provider() -> TracerProvider:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(EXPORTER))
    return provider


@pytest.fixture(autouse=True)
def _traced(provider: TracerProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    # A process can set its provider only once; this puts ours in for a test.
    monkeypatch.setattr(trace, "get_tracer", provider.get_tracer)
    EXPORTER.clear()


def only_span() -> ReadableSpan:
    (span,) = EXPORTER.get_finished_spans()
    return span


def test_a_call_is_a_reranker_span_with_the_best_document_first() -> None:
    with score_span("a/model", ["why"] * 3, ["a", "b", "c"]) as span:
        span.scores([0.5, 2.0, -1.0])
    assert dict(only_span().attributes or {}) == {
        "openinference.span.kind": "RERANKER",
        "reranker.model_name": "a/model",
        "reranker.query": "why",
        "rerank_plugins.n_pairs": 3,
        "reranker.input_documents.0.document.id": "0",
        "reranker.input_documents.0.document.content": "a",
        "reranker.input_documents.1.document.id": "1",
        "reranker.input_documents.1.document.content": "b",
        "reranker.input_documents.2.document.id": "2",
        "reranker.input_documents.2.document.content": "c",
        "reranker.output_documents.0.document.id": "1",
        "reranker.output_documents.0.document.content": "b",
        "reranker.output_documents.0.document.score": 2.0,
        "reranker.output_documents.1.document.id": "0",
        "reranker.output_documents.1.document.content": "a",
        "reranker.output_documents.1.document.score": 0.5,
        "reranker.output_documents.2.document.id": "2",
        "reranker.output_documents.2.document.content": "c",
        "reranker.output_documents.2.document.score": -1.0,
    }


def test_a_large_call_makes_a_small_span() -> None:
    passages = ["x" * 10_000 for _ in range(5_000)]
    with score_span("m", ["why " * 1_000] * 5_000, passages) as span:
        span.scores([0.0] * 5_000)
    attributes = only_span().attributes or {}
    assert len(attributes) == 4 + 5 * MAX_DOCUMENTS <= 128, "what a span holds by default"
    assert max(len(str(value)) for value in attributes.values()) == MAX_CHARACTERS


def test_pairs_of_several_queries_name_no_query() -> None:
    with score_span("m", ["one", "two"], ["a", "b"]) as span:
        span.scores([1.0, 2.0])
    assert "reranker.query" not in (only_span().attributes or {})


def test_an_error_ends_the_span_as_failed() -> None:
    with pytest.raises(ValueError, match="broken"), score_span("m", ["q"], ["a"]):
        raise ValueError("broken")
    assert not only_span().status.is_ok


def test_texts_and_scores_are_left_out_where_the_environment_asks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENINFERENCE_HIDE_INPUTS", "true")
    monkeypatch.setenv("OPENINFERENCE_HIDE_OUTPUTS", "TRUE")
    with score_span("m", ["secret"], ["hidden"]) as span:
        span.scores([1.0])
    assert set(only_span().attributes or {}) == {
        "openinference.span.kind",
        "reranker.model_name",
        "rerank_plugins.n_pairs",
    }


def test_hidden_texts_do_not_come_back_with_the_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENINFERENCE_HIDE_INPUTS", "true")
    with score_span("m", ["secret"], ["hidden"]) as span:
        span.scores([1.0])
    attributes = only_span().attributes or {}
    assert attributes["reranker.output_documents.0.document.score"] == 1.0
    assert not {"secret", "hidden"} & set(attributes.values())


def test_without_opentelemetry_nothing_is_imported_or_recorded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(sys.modules, "opentelemetry.trace")
    with score_span("m", ["q"], ["a"]) as span:
        span.scores([1.0])
    assert "opentelemetry.trace" not in sys.modules
    assert EXPORTER.get_finished_spans() == ()


def test_a_request_is_a_span_of_the_callers_trace_and_has_the_scorers_span_below_it() -> None:
    caller = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
    body = {"query": "why", "documents": ["because"]}
    with serving(shared_scorer("embedded", device="cpu")) as client:
        assert ready(client).post("/v1/rerank", json=body, headers=caller).status_code == 200
        client.get("/a/secret/path", headers=caller)
        # A span ends after its answer was sent.
        wait_until(lambda: {"POST /v1/rerank", "GET other"} <= set(finished()))
    spans = finished()
    request, other = spans["POST /v1/rerank"], spans["GET other"]
    (scored,) = [s for s in spans.values() if "reranker.model_name" in (s.attributes or {})]
    for span in (request, other):
        assert span.context.trace_id == 0x0AF7651916CD43DD8448EB211C80319C
        assert span.parent is not None
        assert span.parent.span_id == 0xB7AD6B7169203331
    assert (request.attributes or {})["http.response.status_code"] == 200
    assert (other.attributes or {})["http.response.status_code"] == 404
    assert scored.parent is not None
    assert scored.parent.span_id == request.context.span_id


def finished() -> dict[str, ReadableSpan]:
    return {span.name: span for span in EXPORTER.get_finished_spans()}
