"""What clients send to the server, and what they read."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from live_server import ready, rerank, serving

from rerank_plugins import rank, shared_scorer
from rerank_plugins.errors import NonFiniteScoreError, OverloadedError
from rerank_plugins.serving import ServedModel, ServerOptions, create_app
from rerank_plugins.testing import FailingScorer, FakeScorer

SCORES = {"bad": -3.0, "good": 2.0, "fair": 0.0, "same": 0.0}
RERANK_PATHS = ["/v1/rerank", "/v2/rerank", "/rerank", "/v1/reranking", "/reranking"]


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with serving(FakeScorer(SCORES)) as client:
        yield ready(client)


@pytest.fixture(scope="module")
def real() -> Iterator[httpx.Client]:
    scorer = shared_scorer("embedded", device="cpu")
    with serving(scorer) as client:
        yield ready(client)


@pytest.mark.parametrize("path", RERANK_PATHS)
def test_every_path_answers_best_first_with_probabilities(client: httpx.Client, path: str) -> None:
    body = {"query": "why", "documents": ["bad", "good", "fair", "same"]}
    answer = client.post(path, json=body).json()
    assert [row["index"] for row in answer["results"]] == [1, 2, 3, 0]
    assert [row["relevance_score"] for row in answer["results"]] == pytest.approx(
        [1 / (1 + math.exp(-score)) for score in (2.0, 0.0, 0.0, -3.0)], abs=1e-15
    )
    assert all(set(row) == {"index", "relevance_score"} for row in answer["results"])
    assert answer["model"] == "fake"
    assert set(answer["usage"]) == {"prompt_tokens", "total_tokens"}
    assert ("data" in answer) == (path != "/v2/rerank")


def test_raw_scores_are_in_the_models_own_unit(client: httpx.Client) -> None:
    answer = rerank(client, "why", ["bad", "good"], raw_scores=True)
    assert [row["relevance_score"] for row in answer["results"]] == [2.0, -3.0]


@pytest.mark.parametrize(
    ("fields", "n_rows"),
    [
        ({"top_n": 1}, 1),
        ({"top_k": 2}, 2),
        ({"top_n": "2"}, 2),
        ({"top_n": 0}, 3),
        ({"top_n": 99}, 3),
        ({"top_n": None, "max_tokens_per_doc": None, "return_documents": None}, 3),
        ({"priority": 3, "unknown": {"a": 1}}, 3),
        ({"model": ""}, 3),
    ],
)
def test_nothing_is_said_in_many_ways(
    client: httpx.Client, fields: dict[str, Any], n_rows: int
) -> None:
    assert len(rerank(client, "why", ["bad", "good", "fair"], **fields)["results"]) == n_rows


def test_documents_may_be_objects_and_come_back_when_asked_for(client: httpx.Client) -> None:
    documents = [{"text": "bad"}, "good"]
    for asked in (True, "true"):
        rows = rerank(client, "why", documents, return_documents=asked)["results"]
        assert [row["document"] for row in rows] == [{"text": "good"}, {"text": "bad"}]
    assert "document" not in rerank(client, "why", documents)["results"][0]


def test_rank_fields_choose_what_of_an_object_is_read() -> None:
    scorer = FakeScorer(lambda passage: float(len(passage)))
    with serving(scorer) as client:
        ready(client)
        rerank(client, "why", [{"title": "T", "body": "B", "id": 3}], rank_fields=["title", "body"])
    assert scorer.calls[0][2] == ["title: T\nbody: B"]


def test_a_body_with_texts_is_answered_in_the_shape_of_tei(client: httpx.Client) -> None:
    body = {"query": "why", "texts": ["bad", "good"], "raw_scores": True}
    for path in ("/rerank", "/v1/rerank"):
        assert client.post(path, json=body).json() == [
            {"index": 1, "score": 2.0},
            {"index": 0, "score": -3.0},
        ]
    rows = client.post("/rerank", json={**body, "return_text": True}).json()
    assert [row["text"] for row in rows] == ["good", "bad"]


@pytest.mark.parametrize(
    "body",
    [
        {"text_1": "why", "text_2": ["bad", "good"]},
        {"queries": "why", "documents": ["bad", "good"]},
        {"data_1": ["why", "why"], "data_2": ["bad", "good"]},
    ],
)
def test_scores_come_in_the_order_of_the_texts(client: httpx.Client, body: dict[str, Any]) -> None:
    rows = client.post("/v1/score", json={**body, "raw_scores": True}).json()["data"]
    assert rows == [
        {"index": 0, "object": "score", "score": -3.0},
        {"index": 1, "object": "score", "score": 2.0},
    ]


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        (b"{", 400, None),
        (b"", 400, None),
        (b"[1]", 400, None),
        (b'"\\ud800"', 400, None),
        (b"[" * 100_000, 400, None),
        (b'{"documents": ["a"]}', 400, "query"),
        (b'{"query": " ", "documents": ["a"]}', 400, "query"),
        (b'{"query": "a"}', 400, "documents"),
        (b'{"query": "a", "documents": []}', 400, "documents"),
        (b'{"query": "a", "documents": [1]}', 400, "documents"),
        (b'{"query": "a", "documents": [{"body": "b"}]}', 400, "documents[0]"),
        (b'{"query": "a", "documents": ["b"], "top_n": -1}', 400, "top_n"),
        (b'{"query": "a", "documents": ["b"], "top_n": "many"}', 400, "top_n"),
        (b'{"query": "a", "documents": ["b"], "model": "gpt"}', 404, "model"),
        (json.dumps({"query": "a", "documents": ["b"] * 1_001}).encode(), 413, "documents"),
    ],
)
def test_a_fault_names_the_field_in_every_clients_place(
    client: httpx.Client, body: bytes, status: int, param: str | None
) -> None:
    headers = {"content-type": "application/json"}
    response = client.post("/v1/rerank", content=body, headers=headers)
    assert response.status_code == status
    told = response.json()
    assert told["error"]["param"] == param
    assert told["error"]["message"] == told["message"] == told["detail"]
    if param is not None:
        assert param in told["message"]


def test_tei_clients_get_teis_faults(client: httpx.Client) -> None:
    empty = client.post("/rerank", json={"query": "a", "texts": []})
    assert (empty.status_code, empty.json()["error_type"]) == (400, "Empty")
    wrong = client.post("/rerank", json={"query": "", "texts": ["a"]})
    assert (wrong.status_code, wrong.json()["error_type"]) == (422, "Validation")


def test_what_the_framework_refuses_has_the_same_shape(client: httpx.Client) -> None:
    for response, status in (
        (client.get("/nowhere"), 404),
        (client.get("/v1/rerank"), 405),
        (client.get("/../../etc/passwd"), 404),
    ):
        assert response.status_code == status
        assert isinstance(response.json()["detail"], str)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (OverloadedError("full of secret words"), 429),
        (NonFiniteScoreError("secret words"), 500),
        (ZeroDivisionError("secret words"), 500),
    ],
)
def test_errors_of_the_scorer_quote_no_document(
    error: Exception, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    with serving(FailingScorer(error)) as client:
        ready(client)
        body = {"query": "secret query", "documents": ["secret document"]}
        response = client.post("/v1/rerank", json=body)
    assert response.status_code == status
    assert "secret" not in response.text
    assert ("retry-after" in response.headers) == (status == 429)
    own = [r.getMessage() for r in caplog.records if r.name.startswith("rerank_plugins")]
    assert not any("secret" in line for line in own)


def test_request_ids_are_echoed_where_they_are_sane(client: httpx.Client) -> None:
    echoed = client.get("/livez", headers={"x-request-id": "abc-1.2:3"})
    assert echoed.headers["x-request-id"] == "abc-1.2:3"
    for wrong in (b"a" * 5_000, b"a b", "é".encode()):
        made = client.get("/livez", headers=[(b"x-request-id", wrong)]).headers["x-request-id"]
        assert len(made) == 32


def test_real_scores_are_equal_through_every_shape(real: httpx.Client) -> None:
    scorer = shared_scorer("embedded", device="cpu")
    passages = [f"{n} list.sort() sorts the items in place " * (n % 5 + 1) for n in range(200)]
    query = "how do I sort a list?"
    wanted = scorer.score(query, passages)
    answer = rerank(real, query, passages, raw_scores=True)
    assert [row["index"] for row in answer["results"]] == [
        row.index for row in rank(scorer, query, passages)
    ]
    tei = real.post("/rerank", json={"query": query, "texts": passages, "raw_scores": True}).json()
    both = real.post("/score", json={"text_1": query, "text_2": passages, "raw_scores": True})
    for rows, name in (
        (answer["results"], "relevance_score"),
        (tei, "score"),
        (both.json()["data"], "score"),
    ):
        got = [row[name] for row in sorted(rows, key=lambda row: int(row["index"]))]
        assert got == pytest.approx(wanted, abs=1e-6)


def test_a_long_document_is_read_to_the_models_length_and_said_so(real: httpx.Client) -> None:
    long = "a tuple is immutable " * 2_000
    answer = rerank(real, "what is a tuple?", ["short", long], return_windows=True)
    cut = next(row for row in answer["results"] if row["index"] == 1)
    assert cut["truncated"] is True
    assert 0 < cut["window"]["end"] < len(long)
    assert answer["meta"]["warnings"] == ["documents cut: 1"]
    body = {"query": "what is a tuple?", "documents": ["short", long], "truncate": False}
    refused = real.post("/v1/rerank", json=body)
    assert refused.status_code == 400
    assert "documents[1]" in refused.json()["message"]


def test_tokens_are_counted(real: httpx.Client) -> None:
    response = real.post("/v1/rerank", json={"query": "a b", "documents": ["c d e", "f"]})
    # [CLS] a b [SEP] c d e [SEP] and [CLS] a b [SEP] f [SEP]
    assert response.json()["usage"]["total_tokens"] == 8 + 6
    assert response.headers["x-compute-tokens"] == "14"


def test_several_models_are_chosen_by_name() -> None:
    one, other = FakeScorer({"a": 1.0}), FakeScorer({"a": 2.0})
    models = [ServedModel("one", lambda: one, ("uno",)), ServedModel("other", lambda: other)]
    with serving(*models) as client:
        ready(client)
        for name, score in (("one", 1.0), ("uno", 1.0), ("other", 2.0), (None, 1.0)):
            answer = rerank(client, "why", ["a"], model=name, raw_scores=True)
            assert answer["results"][0]["relevance_score"] == score
            assert answer["model"] == (name or "one")
        names = [row["id"] for row in client.get("/v1/models").json()["data"]]
        assert names == ["one", "uno", "other"]


def test_two_models_of_one_name_are_refused() -> None:
    scorer = FakeScorer({})
    with pytest.raises(ValueError, match="'same'"):
        create_app([ServedModel("same", lambda: scorer), ServedModel("same", lambda: scorer)])


def test_a_key_is_asked_for_where_there_is_one() -> None:
    options = ServerOptions(api_key=("k1", "k2"), cors_origin=("https://app.example",))
    with serving(FakeScorer(SCORES), options=options) as client:
        ready(client)
        body = {"query": "why", "documents": ["good"]}
        for headers, status in (
            ({}, 401),
            ({"authorization": "Bearer wrong"}, 401),
            ({"authorization": "Bearer k1"}, 200),
            ({"authorization": "bearer k2"}, 200),
            ({"x-api-key": "k2"}, 200),
        ):
            response = client.post("/v1/rerank", json=body, headers=headers)
            assert response.status_code == status
            assert ("www-authenticate" in response.headers) == (status == 401)
        for public in ("/health", "/livez", "/metrics", "/"):
            assert client.get(public).status_code == 200
        preflight = client.options(
            "/v1/rerank",
            headers={
                "origin": "https://app.example",
                "access-control-request-method": "POST",
                "access-control-request-headers": "authorization,content-type",
            },
        )
        assert preflight.status_code == 200
        assert "authorization" in preflight.headers["access-control-allow-headers"]
