"""What bounds a connection: how many, how long a head, a body and an answer may take."""

from __future__ import annotations

import json
import socket
import time

import httpx
import pytest
from live_server import LONG, address, metric, ready, serving, wait_until

from rerank_plugins.serving import ServerOptions
from rerank_plugins.testing import FakeScorer


def test_a_slow_body_and_a_slow_head_end() -> None:
    with serving(FakeScorer({}), options=ServerOptions(read_timeout=2)) as client:
        slow_body = b"POST /v1/rerank HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\n{"
        begun = (slow_body, b"", b"GET /livez HTTP/1.1\r\nhost:")
        connections = [socket.create_connection(address(client), LONG) for _ in begun]
        for raw, data in zip(connections, begun, strict=True):
            raw.sendall(data)
        assert connections[0].recv(4_096).startswith(b"HTTP/1.1 408")
        assert closed(connections[1])
        assert closed(connections[2])
        for raw in connections:
            raw.close()


def test_a_connection_is_kept_between_requests_for_longer_than_a_head_may_take() -> None:
    request = b"GET /livez HTTP/1.1\r\nhost: a\r\n\r\n"
    with serving(FakeScorer({}), options=ServerOptions(read_timeout=0.5)) as client:
        raw = socket.create_connection(address(client), LONG)
        while not answered(raw, request):  # the first head may be late itself
            raw.close()
            raw = socket.create_connection(address(client), LONG)
        time.sleep(1.0)
        assert answered(raw, request)
        raw.close()


def answered(raw: socket.socket, request: bytes) -> bool:
    try:
        raw.sendall(request)
        return raw.recv(4_096).startswith(b"HTTP/1.1 200")
    except ConnectionError:
        return False


@pytest.mark.slow
def test_an_answer_that_nobody_reads_is_given_up() -> None:
    body = {"query": "why", "documents": ["x" * 15_000] * 1_000, "return_documents": True}
    content = json.dumps(body).encode()
    head = b"POST /v2/rerank HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n"
    scorer = FakeScorer(lambda passage: 1.0)
    options = ServerOptions(request_timeout=8, read_timeout=LONG)
    with serving(scorer, options=options) as client:
        ready(client)
        with socket.create_connection(address(client), LONG) as raw:
            raw.sendall(head % len(content) + content)
            scored = 'rerank_requests_total{route="/v2/rerank",status="200"}'
            wait_until(lambda: metric(client, scored) == 1)
            with pytest.raises(ConnectionError):
                send_for_ever(raw, b"GET /livez HTTP/1.1\r\nhost: a\r\n\r\n")


def test_a_head_without_an_end_is_bounded() -> None:
    with serving(FakeScorer({}), options=ServerOptions(read_timeout=LONG)) as client:
        with socket.create_connection(address(client), LONG) as raw:
            raw.sendall(b"GET /livez HTTP/1.1\r\n" + b"x-filler: abc\r\n" * 2_000)
            with pytest.raises(ConnectionError):
                send_for_ever(raw, b"x-filler: abc\r\n" * 2_000)
        with socket.create_connection(address(client), LONG) as raw:
            raw.sendall(b"GET /livez HTTP/1.1\r\nhost: a\r\n" + b"x: y\r\n" * 5_000 + b"\r\n")
            assert raw.recv(4_096).startswith(b"HTTP/1.1 200")
        body = b'{"query": "why", "documents": [' + b" " * 200_000 + b"]}"
        assert client.post("/v1/rerank", content=body).status_code == 400  # no head is a body


def send_for_ever(raw: socket.socket, data: bytes) -> None:
    while True:
        raw.sendall(data)


def closed(raw: socket.socket) -> bool:
    try:
        return raw.recv(4_096) == b""
    except ConnectionResetError:
        return True


def test_connections_are_bounded() -> None:
    options = ServerOptions(max_connections=5, read_timeout=30)
    with serving(FakeScorer({}), options=options) as client:
        idle = [socket.create_connection(address(client), LONG) for _ in range(50)]
        wait_until(lambda: sum(not still_open(raw) for raw in idle) >= 45)
        for raw in idle:
            raw.close()
        wait_until(lambda: answers(client))


def still_open(raw: socket.socket) -> bool:
    raw.setblocking(False)
    try:
        return raw.recv(1) != b""
    except BlockingIOError:
        return True
    except ConnectionResetError:
        return False


def answers(client: httpx.Client) -> bool:
    try:
        return client.get("/livez").status_code == 200
    except httpx.TransportError:
        return False
