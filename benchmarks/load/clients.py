"""What all the measurements of load share: clients, their calls, and latencies."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from rerank_plugins.workloads import Call, Workload

N_CLIENTS = 16
N_CANDIDATES = 20

Score = Callable[[str, list[str]], Sequence[float]]


def workload(n_queries: int, n_candidates: int = N_CANDIDATES) -> Workload:
    return Workload(name="load", n_queries=n_queries, n_candidates=n_candidates)


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    ordered = sorted(seconds)
    last = len(ordered) - 1
    return {
        f"p{round(100 * share)}_ms": 1000 * ordered[min(last, int(share * len(ordered)))]
        for share in (0.5, 0.99)
    }


def client_run(score_of: Callable[[int], Score], calls: Sequence[Call]) -> dict[str, Any]:
    """Time ``calls``, dealt to the clients; ``score_of(client)`` is what that client calls."""
    n_pairs = sum(len(passages) for _, passages in calls)
    return dealt_run(score_of, calls, n_clients=N_CLIENTS, n_pairs=n_pairs)


def dealt_run(
    ask_of: Callable[[int], Callable[..., object]],
    work: Sequence[tuple[Any, ...]],
    *,
    n_clients: int,
    n_pairs: int,
) -> dict[str, Any]:
    """Time ``work`` of ``n_pairs``, dealt to the clients: the arguments of what each one calls."""

    def client(number: int) -> list[float]:
        ask, took = ask_of(number), []
        for arguments in work[number::n_clients]:
            begin = time.perf_counter()
            ask(*arguments)
            took.append(time.perf_counter() - begin)
        return took

    begin = time.perf_counter()
    with ThreadPoolExecutor(n_clients) as pool:
        latencies = [second for took in pool.map(client, range(n_clients)) for second in took]
    seconds = time.perf_counter() - begin
    return {"seconds": seconds, "docs_per_s": n_pairs / seconds, **percentiles(latencies)}
