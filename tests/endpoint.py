"""A rerank API on the loopback address that answers what a test says."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

Answer = tuple[int, Any, dict[str, str]]


@contextmanager
def endpoint(
    answer: Callable[[int, str, dict[str, Any]], Answer], pages: Mapping[str, Any] = {}
) -> Iterator[tuple[str, list[Any]]]:
    """Serve ``answer(n, path, body)`` to the n-th POST; yield the address and the bodies so far.

    A status of 0 closes the connection without an answer. ``pages`` are what a GET finds.
    """
    bodies: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            page = pages.get(self.path)
            self._send(404 if page is None else 200, page or {"detail": "no such path"}, {})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            bodies.append(body)
            self._send(*answer(len(bodies), self.path, body))

        def _send(self, status: int, content: Any, headers: dict[str, str]) -> None:
            if status == 0:
                self.close_connection = True
                return
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            for name, value in {**headers, "content-length": str(len(data))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", bodies
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def rows(body: dict[str, Any], name: str = "relevance_score") -> list[dict[str, Any]]:
    """Return a row a document, worst first, with a score that grows with its length."""
    texts = body.get("documents") or body.get("texts")
    assert texts is not None
    return [{"index": i, name: 1 - 1 / (1 + len(texts[i]))} for i in reversed(range(len(texts)))]


PASSAGES = ["a", "bbb", "", "cc"]
EXPECTED = [1 - 1 / (1 + n) for n in (1, 3, 0, 2)]
