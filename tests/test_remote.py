"""`RemoteScorer`: what it sends, how it reads any answer, and what it does when there is none."""

from __future__ import annotations

import asyncio
import math
import os
import pickle
import traceback
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from endpoint import EXPECTED, PASSAGES, Answer, endpoint, rows
from live_server import ready, serving

from rerank_plugins import Scorer, rank, shared_scorer
from rerank_plugins.errors import (
    DeadlineExceededError,
    InvalidArgumentError,
    OverloadedError,
    RemoteError,
    ScoringError,
)
from rerank_plugins.remote import RemoteScorer, RerankApi
from rerank_plugins.serving import ServerOptions
from rerank_plugins.testing import FakeScorer


@pytest.mark.parametrize(
    ("api", "path", "fields"),
    [
        ("cohere", "/v1/rerank", {"model", "query", "documents", "top_n"}),
        ("auto", "/v1/rerank", {"model", "query", "documents", "top_n"}),
        ("voyage", "/v1/rerank", {"model", "query", "documents", "top_k"}),
        ("tei", "/rerank", {"query", "texts", "truncate", "raw_scores"}),
    ],
)
@pytest.mark.parametrize("version", ["", "/v1", "/v1/"])
def test_each_api_is_asked_in_its_own_words(
    api: str, path: str, fields: set[str], version: str
) -> None:
    paths = []

    def answer(n: int, asked: str, body: dict[str, Any]) -> Answer:
        paths.append(asked)
        return 200, rows(body, "score") if api == "tei" else {"results": rows(body)}, {}

    with endpoint(answer) as (url, bodies):
        base = url if api == "tei" else url + version
        scorer = RemoteScorer(base, "some-model", api=api)
        assert scorer.score("why", PASSAGES) == EXPECTED
        assert asyncio.run(scorer.ascore("why", PASSAGES)) == EXPECTED
        scorer.close()
    assert set(paths) == {path}
    assert all(set(body) == fields for body in bodies)


@pytest.mark.parametrize(
    "shaped",
    [
        lambda body: {"results": rows(body)},
        lambda body: {"data": rows(body)},
        lambda body: {"data": rows(body, "score")},
        lambda body: rows(body, "score"),
        lambda body: {"rankings": rows(body, "logit")},
        lambda body: {"scores": EXPECTED},
    ],
)
def test_any_known_answer_is_read(shaped: Callable[[dict[str, Any]], Any]) -> None:
    with endpoint(lambda n, path, body: (200, shaped(body), {})) as (url, _):
        scorer = RemoteScorer(url, "m", api="cohere")
        assert scorer.score("why", PASSAGES) == EXPECTED
        scorer.close()


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"results": [{"index": 0, "relevance_score": 0.5}]}, r"no score for passages\[1\]"),
        ({"results": [{"index": 0, "relevance_score": 0.5}] * 2}, r"two scores for passages\[0\]"),
        ({"results": [{"index": 7, "relevance_score": 0.5}]}, "index 7"),
        ({"results": [{"index": None, "relevance_score": 0.5}]}, "index None"),
        ({"results": [{"index": 0, "relevance_score": None}]}, r"score None for passages\[0\]"),
        ({"results": [{"index": 0, "relevance_score": math.nan}]}, r"score nan for passages\[0\]"),
        ({"results": [{"index": 0, "relevance_score": 3.5}]}, "score_unit='logit'"),
        ({"answer": []}, "no list of rows"),
        (b"<html>", "no JSON"),
        (b"[" * 100_000, "no JSON"),
    ],
)
def test_an_answer_that_does_not_fit_is_an_error_by_name(answer: Any, said: str) -> None:
    with endpoint(lambda n, path, body: (200, answer, {})) as (url, _):
        scorer = RemoteScorer(url, "m", api="cohere")
        with pytest.raises(ScoringError, match=said):
            scorer.score("why", ["a", "b"])
        scorer.close()


def test_long_calls_are_split_and_put_together_again() -> None:
    passages = ["x" * n for n in range(25)]
    with endpoint(lambda n, path, body: (200, {"results": rows(body)}, {})) as (url, bodies):
        scorer = RemoteScorer(url, "m", api="cohere", batch_size=10)
        expected = [1 - 1 / (1 + n) for n in range(25)]
        assert scorer.score("why", passages) == expected
        assert asyncio.run(scorer.ascore("why", passages)) == expected
        scorer.close()
    assert sorted(len(body["documents"]) for body in bodies) == [5, 5, 10, 10, 10, 10]


def test_what_passes_is_tried_again() -> None:
    faults = [(429, {"retry-after-ms": "10"}), (503, {"retry-after": "0"}), (502, {})]

    def answer(n: int, path: str, body: dict[str, Any]) -> Answer:
        if n <= len(faults):
            return faults[n - 1][0], {"message": "later"}, faults[n - 1][1]
        return 200, {"results": rows(body)}, {}

    with endpoint(answer) as (url, bodies):
        scorer = RemoteScorer(url, "m", api="cohere")
        assert scorer.score("why", PASSAGES) == EXPECTED
        scorer.close()
    assert len(bodies) == 4


@pytest.mark.parametrize("status", [400, 401, 404, 422, 500])
def test_what_does_not_pass_is_told_at_once(status: int) -> None:
    fault = {"message": "it says why"}
    with endpoint(lambda n, path, body: (status, fault, {})) as (url, bodies):
        scorer = RemoteScorer(url, "m", api="cohere")
        with pytest.raises(RemoteError, match="it says why") as caught:
            scorer.score("why", PASSAGES)
        scorer.close()
    assert caught.value.status == status
    assert len(bodies) == 1


def test_the_deadline_holds_over_all_tries() -> None:
    with endpoint(lambda n, path, body: (429, {}, {"retry-after": "1"})) as (url, _):
        scorer = RemoteScorer(url, "m", api="cohere", timeout_s=0.2)
        with pytest.raises(OverloadedError):
            scorer.score("why", PASSAGES)
        with pytest.raises((DeadlineExceededError, OverloadedError)):
            asyncio.run(scorer.ascore("why", PASSAGES, timeout_s=0.01))
        scorer.close()
    unreachable = RemoteScorer("http://127.0.0.1:9", "m", timeout_s=0.2)
    with pytest.raises(RemoteError, match="cannot be reached"):
        unreachable.score("why", PASSAGES)
    unreachable.close()


def test_an_api_of_ones_own_is_a_body() -> None:
    def body(model: str, query: str, passages: Sequence[str]) -> dict[str, Any]:
        return {"query": {"text": query}, "documents": list(passages)}

    api = RerankApi(body, path="/v1/ranking")
    with endpoint(lambda n, path, body: (200, {"rankings": rows(body, "logit")}, {})) as (
        url,
        sent,
    ):
        scorer = RemoteScorer(url, "m", api=api, score_unit="logit", extra_body={"truncate": "END"})
        assert scorer.score("why", PASSAGES) == EXPECTED
        scorer.close()
    assert sent[0]["query"] == {"text": "why"}
    assert sent[0]["truncate"] == "END"


def test_the_key_is_sent_and_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    key = "sk-very-secret"
    with endpoint(lambda n, path, body: (401, {"message": f"bad key {key}"}, {})) as (url, _):
        scorer = RemoteScorer(url, "m", api="cohere", api_key=key)
        with pytest.raises(RemoteError) as caught:
            scorer.score("why", PASSAGES)
        scorer.close()
    shown = "".join(traceback.format_exception(caught.value))
    assert key not in shown + repr(scorer)
    assert key.encode() not in pickle.dumps(scorer)
    monkeypatch.setenv("RERANK_API_KEY", key)  # how a pickle gets it back
    with serving(FakeScorer({"a": 1.0}), options=ServerOptions(api_key=(key,))) as client:
        ready(client)
        again = pickle.loads(pickle.dumps(RemoteScorer(str(client.base_url), "fake")))
        assert again.score("why", ["a"]) == [1.0]
        again.close()


def test_our_own_server_gives_the_local_scores_in_the_local_unit() -> None:
    local = shared_scorer("embedded", device="cpu")
    passages = [f"{n} list.sort() sorts in place " * (n % 7 + 1) for n in range(300)]
    query = "how do I sort a list?"
    with serving(local) as client:
        ready(client)
        remote = RemoteScorer(str(client.base_url), "embedded", batch_size=128)
        assert isinstance(remote, Scorer)
        assert remote.score_unit == local.score_unit
        assert remote.score(query, passages) == pytest.approx(
            local.score(query, passages), abs=4e-6
        )
        got, wanted = rank(remote, query, passages), rank(local, query, passages)
        assert [row.index for row in got] == [row.index for row in wanted]
        remote.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_forked_child_asks_over_connections_of_its_own() -> None:
    with endpoint(lambda n, path, body: (200, {"results": rows(body)}, {})) as (url, bodies):
        scorer = RemoteScorer(url, "m", api="cohere")
        scorer.score("why", PASSAGES)
        child = os.fork()
        if child == 0:
            os._exit(0 if scorer.score("why", PASSAGES) == EXPECTED else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert scorer.score("why", PASSAGES) == EXPECTED
        scorer.close()
    assert len(bodies) == 3


@pytest.mark.parametrize(
    "wrong",
    [
        {"base_url": "host:8000"},
        {"api": "coheer"},
        {"timeout_s": 0},
        {"batch_size": 0},
        {"max_concurrency": 0},
    ],
)
def test_wrong_arguments_are_told_when_it_is_made(wrong: dict[str, Any]) -> None:
    arguments = {"base_url": "http://127.0.0.1:9", "model": "m", **wrong}
    with pytest.raises(InvalidArgumentError, match=next(iter(wrong))):
        RemoteScorer(**arguments)
