"""What bounds a server: bodies, connections, time, the queue, and its own end."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from live_server import LONG, address, metric, ready, rerank, serving, wait_until

from rerank_plugins import CrossEncoderScorer
from rerank_plugins.serving import ServedModel, ServerOptions
from rerank_plugins.testing import FakeScorer

BODY = {"query": "why", "documents": ["good"]}


class Held(FakeScorer):
    """Answers when ``release`` is set; counts the calls that wait and those that were cancelled."""

    model = "held"

    def __init__(self) -> None:
        super().__init__(lambda passage: 1.0)
        self.release = threading.Event()
        self.waiting = 0
        self.cancelled = 0

    async def ascore(self, query: str, passages: Sequence[str]) -> list[float]:
        self.waiting += 1
        try:
            while not self.release.is_set():
                await asyncio.sleep(0.01)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.waiting -= 1
        return [1.0] * len(passages)


@pytest.fixture
def held() -> Iterator[Held]:
    scorer = Held()
    yield scorer
    scorer.release.set()


def test_a_large_body_is_refused_before_it_is_all_read() -> None:
    options = ServerOptions(max_body_bytes=10_000, max_held_bytes=10_000)
    with serving(FakeScorer({}), options=options) as client:
        response = client.post("/v1/rerank", content=b"x" * 10_001)
        assert response.status_code == 413
        assert "10000" in response.json()["message"]
        with socket.create_connection(address(client), LONG) as raw:
            raw.sendall(
                b"POST /v1/rerank HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n"
            )
            chunk = b"1000\r\n" + b"x" * 4_096 + b"\r\n"
            raw.sendall(chunk * 3)  # and no end
            assert raw.recv(4_096).startswith(b"HTTP/1.1 413")


def test_bodies_of_all_requests_together_are_bounded(held: Held) -> None:
    options = ServerOptions(max_body_bytes=1_000, max_held_bytes=1_500)
    with serving(held, options=options) as client, ThreadPoolExecutor(1) as pool:
        ready(client)
        large = {"query": "why", "documents": ["x" * 800]}
        first = pool.submit(lambda: client.post("/v1/rerank", json=large).status_code)
        wait_until(lambda: held.waiting == 1)
        refused = client.post("/v1/rerank", json=large)
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
        held.release.set()
        assert first.result(LONG) == 200
        assert client.post("/v1/rerank", json=large).status_code == 200


def test_clients_that_leave_take_their_work_along(held: Held) -> None:
    with serving(held) as client:
        ready(client)
        body = json.dumps(BODY).encode()
        head = b"POST /v1/rerank HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n" % len(body)
        raw = [socket.create_connection(address(client), LONG) for _ in range(20)]
        for each in raw:
            each.sendall(head + body)
        wait_until(lambda: held.waiting == 20)
        for each in raw:
            each.close()
        wait_until(lambda: held.cancelled == 20)
        wait_until(lambda: metric(client, "rerank_disconnects_total") == 20)


def test_a_request_that_takes_too_long_gets_504(held: Held) -> None:
    with serving(held, options=ServerOptions(request_timeout=0.2)) as client:
        ready(client)
        response = client.post("/v1/rerank", json=BODY)
        assert response.status_code == 504
        wait_until(lambda: held.cancelled == 1)


def test_a_full_queue_gets_429_and_health_goes_on() -> None:
    documents = [f"some words {n} " * 20 for n in range(200)]
    with CrossEncoderScorer("embedded", device="cpu", max_queued_pairs=100) as scorer:
        with serving(scorer) as client:
            ready(client)
            # One request always fits an empty queue, whatever its size.
            assert len(rerank(client, "why", documents)["results"]) == 200
            with ThreadPoolExecutor(16) as pool:
                body = {"query": "why", "documents": documents}
                statuses = list(pool.map(lambda _: client.post("/v1/rerank", json=body), range(64)))
                assert client.get("/health").status_code == 200
            assert {response.status_code for response in statuses} == {200, 429}
            assert all(r.headers["retry-after"] for r in statuses if r.status_code == 429)
            wait_until(lambda: metric(client, 'rerank_queued_pairs{model="embedded"}') == 0)
            n_refused = sum(response.status_code == 429 for response in statuses)
            assert metric(client, 'rerank_rejected_total{reason="overloaded"}') == n_refused


def test_probes_answer_while_a_model_loads() -> None:
    go = threading.Event()

    def load() -> FakeScorer:
        assert go.wait(LONG)
        return FakeScorer({"good": 1.0})

    with serving(ServedModel("slow", load)) as client:
        assert client.get("/livez").status_code == 200
        health = client.get("/health")
        assert (health.status_code, health.json()["status"]) == (503, "loading")
        response = client.post("/v1/rerank", json=BODY)
        assert response.status_code == 503
        assert response.headers["retry-after"]
        go.set()
        assert client.get("/v1/models").status_code == 200
        assert len(rerank(ready(client), "why", ["good"])["results"]) == 1


def test_a_closed_scorer_is_not_healthy() -> None:
    scorer = CrossEncoderScorer("embedded", device="cpu")
    with serving(scorer) as client:
        ready(client)
        scorer.close()
        assert client.get("/health").json()["status"] == "failed"
        assert client.post("/v1/rerank", json=BODY).status_code == 503


class Process:
    """``rerank-plugins serve`` in a process of its own."""

    def __init__(self, *arguments: str) -> None:
        root = Path(__file__).parents[1]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "rerank_plugins.cli", "serve", "--port", "0", *arguments],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(root), "WEB_CONCURRENCY": "4"},
        )
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if line.startswith("listening on "):
                self.client = httpx.Client(base_url=line.split()[-1], timeout=LONG)
                break
        # Read on, or the process waits for room in the pipe.
        self._reader = threading.Thread(target=self.process.stderr.read)
        self._reader.start()

    def __enter__(self) -> Process:
        ready(self.client)
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()
        self.process.kill()
        self.process.wait(LONG)
        self._reader.join(LONG)
        assert self.process.stderr is not None
        self.process.stderr.close()


@pytest.mark.slow
def test_sigterm_finishes_what_was_accepted_and_exits_with_0() -> None:
    with Process("--drain-delay", "0.5") as server:
        documents = [f"some words {n} " * 30 for n in range(500)]
        body = {"query": "why", "documents": documents}
        statuses: list[int] = []

        def ask() -> None:
            with httpx.Client(base_url=server.client.base_url, timeout=LONG) as client:
                statuses.append(client.post("/v1/rerank", json=body).status_code)

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        wait_until(lambda: metric(server.client, "rerank_inflight_requests") >= 8)
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: server.client.get("/ready").status_code == 503)
        late = server.client.post("/v1/rerank", json=BODY)  # within the drain delay
        assert late.status_code == 200
        for thread in threads:
            thread.join(LONG)
        assert statuses == [200] * 8
        assert server.process.wait(LONG) == 0


@pytest.mark.slow
def test_a_second_sigterm_ends_at_once() -> None:
    with Process("--drain-delay", "60") as server:
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: server.client.get("/ready").status_code == 503)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(LONG) == 128 + signal.SIGTERM


@pytest.mark.slow
def test_a_model_that_cannot_be_loaded_ends_the_server_with_1(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "rerank_plugins.cli", "serve", "--port", "0"]
    found = subprocess.run(
        [*command, "--model", str(tmp_path / "nothing")],
        capture_output=True,
        text=True,
        timeout=LONG,
        check=False,
    )
    assert found.returncode == 1
    assert "nothing" in found.stderr
    assert "Traceback" not in found.stderr
