"""A server in a process of its own, as its clients and its operator see it."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

import psutil
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.load.clients import percentiles
from rerank_plugins.workloads import Call

WAIT_S = 120.0


class Server:
    """``rerank-plugins serve`` on a free port of the loopback address."""

    def __init__(self, model: str, *options: str) -> None:
        command = [sys.executable, "-m", "rerank_plugins.cli", "serve", "--port", "0", "--quiet"]
        self._log = tempfile.TemporaryFile("w+")
        self._process = subprocess.Popen(
            [*command, "--device", "cpu", "--model", model, *options], stderr=self._log
        )
        begin = time.perf_counter()
        while "listening on " not in (told := self._told()):
            if self._process.poll() is not None or time.perf_counter() - begin > WAIT_S:
                raise SystemExit(f"the server did not start: {told}")
            time.sleep(0.05)
        address = urlsplit(told.split("listening on ")[1].split()[0])
        assert address.port is not None
        self.port = address.port
        while self.get("/ready")[0] != 200:
            time.sleep(0.05)

    def _told(self) -> str:
        self._log.seek(0)
        return self._log.read()

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=WAIT_S)

    def get(self, path: str) -> tuple[int, bytes]:
        connection = self.connect()
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def metric(self, name: str, **labels: str) -> float:
        """Return the sum of a metric's samples that have ``labels``."""
        text = self.get("/metrics")[1].decode()
        return sum(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def rss_mib(self) -> float:
        return float(psutil.Process(self._process.pid).memory_info().rss / 2**20)

    def close(self) -> int:
        """End it as a service manager does; return its exit status."""
        self._process.terminate()
        status = self._process.wait(WAIT_S)
        self._log.close()
        return status


@contextmanager
def running(model: str, *options: str) -> Iterator[Server]:
    server = Server(model, *options)
    try:
        yield server
    finally:
        server.close()


class HealthWatch:
    """Asks /health every 100 ms in a thread of its own, and notes how long each answer took."""

    def __init__(self, server: Server) -> None:
        self._server, self._took, self._done = server, list[float](), threading.Event()
        self.rss_mib: list[float] = []
        self._thread = threading.Thread(target=self._watch)

    def _watch(self) -> None:
        while not self._done.wait(0.1):
            begin = time.perf_counter()
            status, _ = self._server.get("/health")
            self._took.append(time.perf_counter() - begin if status == 200 else WAIT_S)
            self.rss_mib.append(self._server.rss_mib())

    def __enter__(self) -> HealthWatch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def result(self) -> dict[str, Any]:
        return {
            "n": len(self._took),
            **percentiles(self._took),
            "max_ms": 1000 * max(self._took),
            "rss_mib_max": max(self.rss_mib),
        }


def body(call: Call) -> bytes:
    query, documents = call
    asked = {"query": query, "documents": documents, "raw_scores": True}
    return json.dumps(asked).encode()


def post(connection: http.client.HTTPConnection, content: bytes) -> tuple[int, bytes, str | None]:
    """Return status, body and Retry-After; a lost connection counts as status 0."""
    headers = {"content-type": "application/json"}
    try:
        connection.request("POST", "/v1/rerank", content, headers)
        response = connection.getresponse()
        return response.status, response.read(), response.headers.get("retry-after")
    except (OSError, http.client.HTTPException):
        with suppress(OSError):
            connection.close()
        return 0, b"", None


def scores(answer: bytes) -> list[float]:
    """Return the scores of a v1 answer in the order of the documents."""
    rows: Sequence[dict[str, Any]] = json.loads(answer)["results"]
    return [float(row["relevance_score"]) for row in sorted(rows, key=lambda row: row["index"])]


def environment_of_threads() -> dict[str, str | None]:
    """Return what bounds the threads of the server's process too."""
    return {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
