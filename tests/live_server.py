"""A real server on the loopback address, in a thread, for tests to call."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import httpx
import uvicorn

from rerank_plugins.ranking import Scorer
from rerank_plugins.serving import ServedModel, ServerOptions, create_app
from rerank_plugins.serving.server import bounded_protocol

LONG = 60.0


@contextmanager
def serving(
    *scorers: Scorer | ServedModel, options: ServerOptions | None = None
) -> Iterator[httpx.Client]:
    """Serve ``scorers`` and yield a client of the server; it is gone at the end of the block."""
    options = options or ServerOptions()
    app = create_app([_served(scorer) for scorer in scorers], options)
    config = uvicorn.Config(
        app,
        port=0,
        log_config=None,
        http=bounded_protocol(options),
        ws="none",
        lifespan="on",
        timeout_keep_alive=int(LONG),  # or a test that is held up loses its connection
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_until(lambda: server.started)
        port = server.servers[0].sockets[0].getsockname()[1]
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=LONG) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join(LONG)
        assert not thread.is_alive()


def ready(client: httpx.Client) -> httpx.Client:
    """Wait until the models are loaded."""
    wait_until(lambda: client.get("/ready").status_code == 200)
    return client


def wait_until(holds: Any) -> None:
    end = time.monotonic() + LONG
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


def rerank(client: httpx.Client, query: str, documents: Sequence[Any], **fields: Any) -> Any:
    """Return the body of a rerank answer; the request must succeed."""
    body = {"query": query, "documents": list(documents), **fields}
    response = client.post("/v1/rerank", json=body)
    assert response.status_code == 200, response.text
    return response.json()


def metric(client: httpx.Client, name: str) -> float:
    """Return the value of one line of ``/metrics``, or 0."""
    for line in client.get("/metrics").text.splitlines():
        if line.startswith(name + " "):
            return float(line.rsplit(" ", 1)[1])
    return 0.0


def address(client: httpx.Client) -> tuple[str, int]:
    assert client.base_url.port is not None
    return client.base_url.host, client.base_url.port


def _served(scorer: Scorer | ServedModel) -> ServedModel:
    if isinstance(scorer, ServedModel):
        return scorer
    return ServedModel(scorer.model, lambda: scorer)
