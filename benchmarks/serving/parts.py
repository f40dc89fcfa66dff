"""The measurements: throughput and latency over HTTP, overload, clients that leave, a long run."""

from __future__ import annotations

import random
import socket
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from benchmarks.load.clients import dealt_run, percentiles, workload
from benchmarks.serving.server import HealthWatch, Server, body, post, running, scores
from rerank_plugins import CrossEncoderScorer
from rerank_plugins.workloads import Call, Texts

IN_PROCESS, HTTP = "in process", "HTTP"
# Documents a request, clients, requests a round; the goal is for 100 documents and 8 clients.
CELLS = tuple(
    (n_documents, n_clients, max(n_clients, min(300, 6_000 // n_documents)))
    for n_documents in (1, 10, 100, 1_000)
    for n_clients in (1, 8, 64)
)
GOAL = (100, 8)
TOLERANCE = 1e-6
UNBOUNDED = ("--max-queued-pairs", "1000000", "--request-timeout", "120")

Asks = Callable[[int], Callable[[Call, bytes], object]]


def _contestants(scorer: CrossEncoderScorer, server: Server) -> dict[str, Asks]:
    def over_http(_: int) -> Callable[[Call, bytes], object]:
        connection = server.connect()

        def ask(call: Call, content: bytes) -> None:
            status, answer, _ = post(connection, content)
            if status != 200:
                raise SystemExit(f"the server answered {status}: {answer[:200]!r}")

        return ask

    return {IN_PROCESS: lambda _: lambda call, _: scorer.score(*call), HTTP: over_http}


def _check_parity(scorer: CrossEncoderScorer, server: Server) -> float:
    """Return the largest difference of a score; what gives other scores is not timed."""
    ((query, passages),) = Texts(9).calls(workload(1, 1_000))
    status, answer, _ = post(server.connect(), body((query, passages)))
    assert status == 200, answer
    pairs = zip(scorer.score(query, passages), scores(answer), strict=True)
    worst = max(abs(own - remote) for own, remote in pairs)
    if worst > TOLERANCE:
        raise SystemExit(f"the server's scores differ by {worst}: not timed")
    return worst


def throughput(
    model: str, repeats: int, scale: float, only: Sequence[list[int]] | None = None
) -> dict[str, Any]:
    """Time both contestants in turn, on new text for each, in every cell, or those of ``only``."""
    scorer = CrossEncoderScorer(model, device="cpu")
    scorer.warmup()
    texts, cells = Texts(1), []
    with running(model, *UNBOUNDED) as server:
        difference = _check_parity(scorer, server)
        contestants = _contestants(scorer, server)
        for n_documents, n_clients, n_requests in CELLS:
            if only is not None and [n_documents, n_clients] not in only:
                continue
            rounds = 4 * repeats if (n_documents, n_clients) == GOAL else repeats
            if n_documents * n_clients > 10_000:
                if scale < 1:
                    continue  # takes as long as all the others
                rounds = 1
            n_requests = max(n_clients, round(scale * n_requests))
            runs: dict[str, list[dict[str, Any]]] = {name: [] for name in contestants}
            for number in range(rounds + 1):
                order = list(contestants)
                random.Random(number).shuffle(order)
                for name in order:
                    calls = texts.calls(workload(n_requests, n_documents))
                    work = [(call, body(call)) for call in calls]
                    run = dealt_run(
                        contestants[name],
                        work,
                        n_clients=n_clients,
                        n_pairs=n_requests * n_documents,
                    )
                    if number:  # the first round warms up
                        runs[name].append(run)
            pairs = zip(runs[HTTP], runs[IN_PROCESS], strict=True)
            cells.append(
                {
                    "n_documents": n_documents,
                    "n_clients": n_clients,
                    "n_requests": n_requests,
                    "runs": runs,
                    "ratios": [there["docs_per_s"] / here["docs_per_s"] for there, here in pairs],
                }
            )
        latency = _latency(scorer, server, texts, round(150 * scale) + 1)
    scorer.close()
    return {"largest_difference": difference, "cells": cells, "latency": latency}


def _latency(
    scorer: CrossEncoderScorer, server: Server, texts: Texts, times: int
) -> list[dict[str, Any]]:
    """Time single requests beside single calls, in turn, with nothing else under way."""
    connection, found = server.connect(), []
    for n_documents in (1, 10, 100):
        here: list[float] = []
        there: list[float] = []
        for number in range(times):
            first, second = texts.calls(workload(2, n_documents))
            content = body(second)
            steps: list[tuple[list[float], Callable[[], object]]] = [
                (here, lambda call=first: scorer.score(*call)),  # type: ignore[misc]
                (there, lambda content=content: post(connection, content)),  # type: ignore[misc]
            ]
            for took, step in steps if number % 2 else reversed(steps):
                begin = time.perf_counter()
                step()
                took.append(time.perf_counter() - begin)
        added_ms = 1000 * (statistics.median(there) - statistics.median(here))
        found.append(
            {
                "n_documents": n_documents,
                "n_calls": times,
                IN_PROCESS: percentiles(here),
                HTTP: percentiles(there),
                "added_p50_ms": added_ms,
            }
        )
    return found


def overload(model: str, seconds: float, n_clients: int = 64) -> dict[str, Any]:
    """Let clients with 1,000 documents each ask a queue of 100 pairs, again and again."""
    bound = 100
    contents = [body(call) for call in Texts(2).calls(workload(4, 1_000))]
    with running(model, "--max-queued-pairs", str(bound)) as server:
        alone, _, _ = post(server.connect(), contents[0])
        idle_mib, statuses, took = server.rss_mib(), Counter[int](), []
        without_retry_after = 0
        end = time.perf_counter() + seconds

        def client(number: int) -> None:
            nonlocal without_retry_after
            connection = server.connect()
            while time.perf_counter() < end:
                begin = time.perf_counter()
                status, _, wait = post(connection, contents[number % len(contents)])
                statuses[status] += 1
                if status == 200:
                    took.append(time.perf_counter() - begin)
                else:
                    without_retry_after += wait is None
                    time.sleep(0.1)  # a tenth of what the server asks for

        with HealthWatch(server) as health:
            with ThreadPoolExecutor(n_clients) as pool:
                list(pool.map(client, range(n_clients)))
        return {
            "seconds": seconds,
            "n_clients": n_clients,
            "n_documents": 1_000,
            "max_queued_pairs": bound,
            "status_of_one_alone": alone,
            "statuses": dict(statuses),
            "refused_without_retry_after": without_retry_after,
            "accepted": percentiles(took) if took else None,
            "health": health.result(),
            "rss_mib_before": idle_mib,
            "counted": {
                str(status): server.metric(
                    "rerank_requests_total", route="/v1/rerank", status=str(status)
                )
                for status in (200, 429)
            },
        }


def disconnects(model: str, n_clients: int = 50) -> dict[str, Any]:
    """Let clients ask for 1,000 documents and leave after 50 ms; see their work go."""
    calls = Texts(3).calls(workload(n_clients, 1_000))
    contents = [body(call) for call in calls]
    with running(model, *UNBOUNDED) as server:
        one, _, _ = post(server.connect(), contents[0])
        tokens_of_one = server.metric("rerank_tokens_total")
        assert one == 200
        gate = threading.Barrier(n_clients)

        def leave(content: bytes) -> None:
            head = b"POST /v1/rerank HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n"
            with socket.create_connection(("127.0.0.1", server.port)) as connection:
                gate.wait()
                connection.sendall(head % len(content) + content)
                time.sleep(0.05)

        with HealthWatch(server) as health:
            with ThreadPoolExecutor(n_clients) as pool:
                list(pool.map(leave, contents))
            begin = time.perf_counter()
            while server.metric("rerank_inflight_requests") > 1 or server.metric(
                "rerank_queued_pairs"
            ):  # this request to /metrics is one itself
                time.sleep(0.02)
            empty_s = time.perf_counter() - begin
        return {
            "n_clients": n_clients,
            "n_documents": 1_000,
            "disconnects": server.metric("rerank_disconnects_total"),
            "queue_empty_after_s": empty_s,
            "share_of_tokens_computed": (server.metric("rerank_tokens_total") - tokens_of_one)
            / (n_clients * tokens_of_one),
            "health": health.result(),
        }


def soak(model: str, seconds: float, n_clients: int = 4) -> dict[str, Any]:
    """Keep clients busy with new text, bad requests and early leaves; sample a minute at a time."""
    sizes, samples = (1, 10, 20, 100), []
    with running(model) as server, HealthWatch(server) as health:
        begin, recent, statuses = time.perf_counter(), list[float](), Counter[int]()

        def client(number: int) -> None:
            texts, connection, chosen = Texts(100 + number), server.connect(), random.Random(number)
            while time.perf_counter() - begin < seconds:
                kind = chosen.random()
                (call,) = texts.calls(workload(1, chosen.choice(sizes)))
                if kind < 0.02:
                    connection.request("POST", "/v1/rerank", body(call))
                    connection.close()  # without reading the answer
                    continue
                content = b'{"query": "a", "documents": []}' if kind < 0.04 else body(call)
                start = time.perf_counter()
                status, _, _ = post(connection, content)
                statuses[status] += 1
                recent.append(time.perf_counter() - start)

        threads = [threading.Thread(target=client, args=(number,)) for number in range(n_clients)]
        for thread in threads:
            thread.start()
        while time.perf_counter() - begin < seconds:
            time.sleep(min(60.0, seconds / 10))
            took, recent[:] = list(recent), []
            samples.append(
                {
                    "s": time.perf_counter() - begin,
                    "rss_mib": server.rss_mib(),
                    "requests": len(took),
                    **(percentiles(took) if took else {}),
                }
            )
        for thread in threads:
            thread.join()
    growth = max(s["rss_mib"] for s in samples) / samples[0]["rss_mib"] - 1
    return {
        "seconds": seconds,
        "n_clients": n_clients,
        "statuses": dict(statuses),
        "samples": samples,
        "growth_after_first_sample": growth,
        "health": health.result(),
    }
