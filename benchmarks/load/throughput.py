"""Throughput of many clients, and what a query waits while a bulk call runs."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

from benchmarks.load.clients import (
    N_CANDIDATES,
    N_CLIENTS,
    client_run,
    percentiles,
    workload,
)
from rerank_plugins import CrossEncoderScorer
from rerank_plugins.errors import DeadlineExceededError
from rerank_plugins.workloads import Call, Texts

OWN = "16 clients, one scorer"
BULK = "one bulk call"
LOCKED = "16 clients, sentence-transformers behind a lock"
ONE_EACH = "16 clients, sentence-transformers one model each"
CALLS_A_CLIENT = 6
BULK_PAIRS = 50_000
# The bulk call is taken back when this much of it has been watched.
WATCHED_S = 25.0


def throughput(scorer: CrossEncoderScorer, repeats: int, folder: str) -> dict[str, Any]:
    """Time clients on one scorer, the same pairs in one call, and sentence-transformers twice."""
    from sentence_transformers import CrossEncoder

    peers = [
        CrossEncoder(
            folder, device="cpu", max_length=512, model_kwargs={"torch_dtype": torch.float32}
        )
        for _ in range(N_CLIENTS)
    ]
    lock = threading.Lock()

    def predict(peer: CrossEncoder, query: str, passages: list[str]) -> list[float]:
        scores: list[float] = peer.predict(
            [(query, passage) for passage in passages], show_progress_bar=False
        ).tolist()
        return scores

    def locked(query: str, passages: list[str]) -> list[float]:
        with lock:
            return predict(peers[0], query, passages)

    def bulk(calls: Sequence[Call]) -> dict[str, Any]:
        pairs = [(query, passage) for query, passages in calls for passage in passages]
        begin = time.perf_counter()
        scorer.score_pairs(pairs)
        seconds = time.perf_counter() - begin
        return {"seconds": seconds, "docs_per_s": len(pairs) / seconds}

    def clients(calls: Sequence[Call]) -> dict[str, Any]:
        return client_run(lambda _: scorer.score, calls)

    texts = Texts(1)
    # A few per cent are looked for here: more and longer rounds, nothing slow between the two.
    beside_bulk = _rounds(
        texts, {BULK: bulk, OWN: clients}, n_rounds=4 * repeats, calls_a_client=2 * CALLS_A_CLIENT
    )
    beside_peers = _rounds(
        texts,
        {
            OWN: clients,
            LOCKED: lambda calls: client_run(lambda _: locked, calls),
            ONE_EACH: lambda calls: client_run(
                lambda number: lambda query, passages: predict(peers[number], query, passages),
                calls,
            ),
        },
        n_rounds=repeats,
        calls_a_client=CALLS_A_CLIENT,
    )
    return {
        "n_clients": N_CLIENTS,
        "n_candidates": N_CANDIDATES,
        "runs": beside_bulk | {name: beside_peers[name] for name in (LOCKED, ONE_EACH)},
        "ratios": _ratios(beside_bulk) | _ratios(beside_peers),
    }


def _rounds(
    texts: Texts,
    contestants: dict[str, Callable[[Sequence[Call]], dict[str, Any]]],
    *,
    n_rounds: int,
    calls_a_client: int,
) -> dict[str, list[dict[str, Any]]]:
    """Time all contestants in each round, in another order, on new text for each."""
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in contestants}
    for number in range(n_rounds + 1):
        order = list(contestants)
        random.Random(number).shuffle(order)
        for name in order:
            # New text for each: passages seen before would be read from the token memo.
            run = contestants[name](texts.calls(workload(N_CLIENTS * calls_a_client)))
            if number:  # the first round warms up
                runs[name].append(run)
    return runs


def _ratios(runs: dict[str, list[dict[str, Any]]]) -> dict[str, list[float]]:
    """Return how many times as fast the clients on one scorer are, round by round."""
    return {
        name: [
            mine["docs_per_s"] / other["docs_per_s"]
            for mine, other in zip(runs[OWN], runs[name], strict=True)
        ]
        for name in runs
        if name != OWN
    }


def fairness(scorer: CrossEncoderScorer) -> dict[str, Any]:
    """Time a query alone, and again while a bulk call runs."""
    texts = Texts(2)
    passages = texts.passages(workload(1, BULK_PAIRS))

    def queries(until: Callable[[], bool], pause_s: float) -> list[float]:
        took = []
        while not until():
            ((query, candidates),) = texts.calls(workload(1))
            begin = time.perf_counter()
            scorer.score(query, candidates)
            took.append(time.perf_counter() - begin)
            time.sleep(pause_s)
        return took

    idle: list[float] = []
    end = time.perf_counter() + 4
    idle = queries(lambda: time.perf_counter() > end, 0.01)
    finished = []

    def bulk() -> None:
        try:
            scorer.score("which of these", passages, timeout_s=WATCHED_S)
            finished.append(True)
        except DeadlineExceededError:
            finished.append(False)

    thread = threading.Thread(target=bulk)
    begin = time.perf_counter()
    thread.start()
    busy = queries(lambda: not thread.is_alive(), 0.02)
    seconds = time.perf_counter() - begin
    return {
        "bulk_pairs": BULK_PAIRS,
        "bulk_finished": finished[0],
        "watched_s": seconds,
        "idle": {"n_calls": len(idle), **percentiles(idle)},
        "during_bulk": {"n_calls": len(busy), **percentiles(busy)},
        "p99_over_idle_p50": percentiles(busy)["p99_ms"] / percentiles(idle)["p50_ms"],
    }
