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

    def client(number: int) -> list[float]:
        score, took = score_of(number), []
        for query, passages in calls[number::N_CLIENTS]:
            begin = time.perf_counter()
            score(query, passages)
            took.append(time.perf_counter() - begin)
        return took

    begin = time.perf_counter()
    with ThreadPoolExecutor(N_CLIENTS) as pool:
        latencies = [second for took in pool.map(client, range(N_CLIENTS)) for second in took]
    seconds = time.perf_counter() - begin
    n_pairs = sum(len(passages) for _, passages in calls)
    return {"seconds": seconds, "docs_per_s": n_pairs / seconds, **percentiles(latencies)}
