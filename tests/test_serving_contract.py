"""What the server promises beside its answers: cuts, faults, open paths, options, metrics."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

import httpx
import pytest
from live_server import ready, rerank, serving
from prometheus_client.parser import text_string_to_metric_families

from rerank_plugins import shared_scorer
from rerank_plugins.commands import serve
from rerank_plugins.errors import InvalidArgumentError
from rerank_plugins.options import ScorerOptions
from rerank_plugins.serving import ServerOptions
from rerank_plugins.serving.options import from_environment
from rerank_plugins.testing import FakeScorer

PASSAGE = "The list method sort() sorts a list in place, unbelievably fast."


@pytest.fixture(scope="module")
def real() -> Iterator[httpx.Client]:
    with serving(shared_scorer("embedded", device="cpu")) as client:
        yield ready(client)


@pytest.fixture(scope="module")
def plain() -> Iterator[httpx.Client]:
    with serving(FakeScorer(lambda passage: float(len(passage)))) as client:
        yield ready(client)


def test_max_tokens_per_doc_reads_the_beginning_alone(real: httpx.Client) -> None:
    # [CLS] sort [SEP] the list method sort ( [SEP], in BERT's words
    asked: dict[str, Any] = {"max_tokens_per_doc": 5, "return_documents": True}
    answer = rerank(real, "sort", [PASSAGE, "short"], raw_scores=True, return_windows=True, **asked)
    found = {row["index"]: row for row in answer["results"]}
    scorer = shared_scorer("embedded", device="cpu")
    wanted = scorer.score("sort", ["The list method sort(", "short"])
    assert [found[0]["relevance_score"], found[1]["relevance_score"]] == pytest.approx(wanted)
    assert answer["usage"]["total_tokens"] == (3 + 1 + 5) + (3 + 1 + 1)
    assert found[0]["document"] == {"text": PASSAGE}
    assert (found[0]["truncated"], found[1]["truncated"]) == (True, False)
    assert found[0]["window"] == {"start": 0, "end": len("The list method sort(")}
    assert answer["meta"]["warnings"] == ["documents cut: 0"]


@pytest.mark.parametrize("no_limit", [0, None, 4_096, 10**30])
def test_max_tokens_per_doc_that_is_none_changes_nothing(
    real: httpx.Client, no_limit: int | None
) -> None:
    answer = rerank(real, "sort", [PASSAGE], max_tokens_per_doc=no_limit)
    assert answer["results"] == rerank(real, "sort", [PASSAGE])["results"]
    assert answer["meta"]["warnings"] == []


def test_a_model_that_cannot_cut_says_so(plain: httpx.Client) -> None:
    answer = rerank(plain, "why", ["good"], max_tokens_per_doc=1)
    assert answer["meta"]["warnings"] == ["max_tokens_per_doc=1 was not applied by this model"]


def test_odd_texts_are_scored_as_they_are_here(real: httpx.Client) -> None:
    texts = ["\0", "", "  ", "a " * 50_000, "\U0001f600", "<script>", "\u202e"]
    answer = rerank(real, "\0why", texts, raw_scores=True)
    found = {row["index"]: row["relevance_score"] for row in answer["results"]}
    wanted = shared_scorer("embedded", device="cpu").score("\0why", texts)
    assert [found[index] for index in range(len(texts))] == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize(
    ("field", "value"), [("max_tokens_per_doc", -1), ("truncation_direction", "Left")]
)
def test_a_cut_that_is_not_there_is_refused_by_name(
    plain: httpx.Client, field: str, value: Any
) -> None:
    body = {"query": "why", "documents": ["good"], field: value}
    response = plain.post("/v1/rerank", json=body)
    assert (response.status_code, response.json()["error"]["param"]) == (400, field)


@pytest.mark.parametrize(
    ("extra", "tei"),
    [
        ({"texts": ["a"]}, True),
        ({"texts": ["documents"]}, True),
        ({"texts": ["a"], "documents": None}, True),
        ({"texts": ["a"], "truncation_direction": "Right"}, True),
        ({"documents": ["texts"]}, False),
        ({"documents": ["a"], "texts": ["a"]}, False),
    ],
)
def test_a_fault_has_the_shape_of_the_request(
    plain: httpx.Client, extra: dict[str, Any], tei: bool
) -> None:
    response = plain.post("/rerank", json={"query": "a", "top_n": -1, **extra})
    assert response.status_code == (422 if tei else 400)
    assert ("error_type" in response.json()) is tei


def test_a_large_body_is_told_in_both_numbers(plain: httpx.Client) -> None:
    response = plain.post("/v1/rerank", content=b" " * (17 * 2**20))
    assert response.status_code == 413
    assert f"{17 * 2**20} bytes" in response.json()["message"]
    assert str(16 * 2**20) in response.json()["message"]


def test_what_is_open_stays_open_beside_a_key() -> None:
    key = "schlüssel"
    with serving(FakeScorer({}), options=ServerOptions(api_key=(key,))) as client:
        ready(client)
        assert client.options("/v1/rerank").status_code == 405
        for path in ("/health", "/ready", "/livez", "/metrics"):
            assert client.head(path).status_code == 200
        assert client.get("/v1/models").status_code == 401
        sent = [(b"authorization", f"Bearer {key}".encode())]  # the bytes of a key file
        assert client.get("/v1/models", headers=sent).status_code == 200
        client.get("/a/secret/path", headers=sent)
        counted = samples(client)
        assert counted["rerank_requests_total", "/v1/models", "401"] == 1
        assert counted["rerank_requests_total", "other", "404"] == 1
        assert not [key for key in counted if "/a/secret/path" in key]


def test_every_counter_is_there_before_the_first_request() -> None:
    with serving(FakeScorer({"good": 1.0})) as client:
        ready(client)
        before = samples(client)
        assert before["rerank_requests_total", "/v1/rerank", "429"] == 0
        assert before["rerank_requests_total", "/score", "200"] == 0
        rerank(client, "why", ["good"])
        client.post("/v1/rerank", content=b"{")
        after = samples(client)
    changed = {
        key: after[key] - before[key]
        for key in after
        if key[0] == "rerank_requests_total" and key[1] == "/v1/rerank" and after[key]
    }
    assert changed == {
        ("rerank_requests_total", "/v1/rerank", "200"): 1,
        ("rerank_requests_total", "/v1/rerank", "400"): 1,
    }


def samples(client: httpx.Client) -> dict[tuple[str, ...], float]:
    """Return the values of ``/metrics``, which Prometheus' own parser must read."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(client.get("/metrics").text)
        for sample in family.samples
    }


def test_help_names_the_environment_variable_of_every_option() -> None:
    parser = argparse.ArgumentParser()
    serve.configure(parser)
    told = parser.format_help()
    options = {option.name for kind in (ScorerOptions, ServerOptions) for option in fields(kind)}
    assert [name for name in options if f"RERANK_{name.upper()})" not in told] == []


def test_the_environment_reaches_the_model() -> None:
    given = from_environment({"RERANK_MAX_LENGTH": "64", "RERANK_LONG_DOCUMENTS": "max"})
    (model,) = serve.served_models(ServerOptions(), given)
    scorer = model.load()
    assert (scorer.max_length, scorer.options.long_documents) == (64, "max")
    assert scorer.options.max_queued_pairs == 10_000
    scorer.close()
    with pytest.raises(InvalidArgumentError, match="'mox'"):
        serve.served_models(ServerOptions(), {"long_documents": "mox"})
