"""Measure one scorer under many callers: ``python -m benchmarks.load`` writes the raw results.

Clients are threads that call as fast as they are answered, 20 candidates a call, in this one
process. Contestants get the same new text in turn. With ``--soak-seconds`` the result also has
memory and latency over that time.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import random
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import torch
from rich.console import Console

from benchmarks.run import RESULTS, environment
from rerank_plugins import CrossEncoderScorer
from rerank_plugins.benchmark import Call, Texts, Workload
from rerank_plugins.cards import EMBEDDED_MODEL
from rerank_plugins.cross_encoder.checkpoint.hub import EMBEDDED_FOLDER
from rerank_plugins.errors import DeadlineExceededError

N_CLIENTS = 16
N_CANDIDATES = 20
CALLS_A_CLIENT = 6
BULK_PAIRS = 50_000
# The bulk call is taken back when this much of it has been watched.
WATCHED_S = 25.0
N_TASKS = 1_000
N_MIXED_CALLS = 10_000
TOLERANCE = 1e-5

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

    contestants: dict[str, Callable[[Sequence[Call]], dict[str, Any]]] = {
        "one bulk call": bulk,
        "16 clients, one scorer": lambda calls: client_run(lambda _: scorer.score, calls),
        "16 clients, sentence-transformers behind a lock": lambda calls: client_run(
            lambda _: locked, calls
        ),
        "16 clients, sentence-transformers one model each": lambda calls: client_run(
            lambda number: lambda query, passages: predict(peers[number], query, passages), calls
        ),
    }
    texts = Texts(1)
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in contestants}
    for repeat in range(repeats + 1):
        order = list(contestants)
        random.Random(repeat).shuffle(order)
        for name in order:
            # New text for each: passages seen before would be read from the token memo.
            run = contestants[name](texts.calls(workload(N_CLIENTS * CALLS_A_CLIENT)))
            if repeat:  # the first round warms up
                runs[name].append(run)
    own = "16 clients, one scorer"
    return {
        "n_clients": N_CLIENTS,
        "n_candidates": N_CANDIDATES,
        "calls_a_client": CALLS_A_CLIENT,
        "runs": runs,
        "ratios": {
            name: [
                mine["docs_per_s"] / other["docs_per_s"]
                for mine, other in zip(runs[own], runs[name], strict=True)
            ]
            for name in contestants
            if name != own
        },
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


async def _tasks(
    scorer: CrossEncoderScorer, calls: Sequence[Call], cancel: bool
) -> dict[str, float]:
    """Await all calls at once, every second one cancelled; return the loop's longest stall.

    ``busy_ms`` is the processor time that the loop's own thread spent in it: what remains is
    waiting for other threads and, on a shared machine, for other programs.
    """
    longest, running = (0.0, 0.0), True

    async def tick() -> None:
        nonlocal longest
        while running:
            begin, busy = time.perf_counter(), time.thread_time()
            await asyncio.sleep(0.001)
            stall = time.perf_counter() - begin - 0.001
            longest = max(longest, (stall, time.thread_time() - busy))

    ticker = asyncio.create_task(tick())
    await asyncio.sleep(0.05)
    tasks = [asyncio.create_task(scorer.ascore(*call)) for call in calls]
    if cancel:
        await asyncio.sleep(0.1)
        for task in tasks[::2]:
            task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    running = False
    await ticker
    return {"stall_ms": 1000 * longest[0], "busy_ms": 1000 * longest[1]}


def event_loop(scorer: CrossEncoderScorer, repeats: int) -> dict[str, Any]:
    """Measure the longest stall of a loop with a thousand calls, and what cancelling leaves.

    With and without ``gc.freeze()``: a full garbage collection reads every object of the imported
    packages, and holds the loop up whatever the loop does.
    """
    texts = Texts(3)
    runs = []
    for frozen in (False, True):
        gc.collect()
        if frozen:
            gc.freeze()
        for repeat in range(repeats):
            cancelled = repeat % 2 == 1
            calls = texts.calls(workload(N_TASKS, 5))
            longest = asyncio.run(_tasks(scorer, calls, cancelled))
            time.sleep(0.2)
            left = scorer.stats.queued_pairs
            runs.append(
                {"gc_frozen": frozen, "cancelled_half": cancelled, **longest, "pairs_left": left}
            )
    gc.unfreeze()
    scorer.score("still well", ["yes"])
    return {"n_tasks": N_TASKS, "n_candidates": 5, "runs": runs}


def mixed(scorer: CrossEncoderScorer) -> dict[str, Any]:
    """Compare calls from threads, with mixed ``max_length``, with the same calls one by one."""
    texts, generator = Texts(4), random.Random(4)
    lengths = ((0.0, 12), (1.0, 60))
    of = Workload(name="mixed", n_queries=100, n_candidates=2, lengths=lengths)
    calls = [(*call, size) for call in texts.calls(of) for size in (10, 16, 24, 64)]
    alone = [
        [scorer.score(query, [passage], max_length=size)[0] for passage in passages]
        for query, passages, size in calls
    ]

    def one(_: int) -> float:
        index = generator.randrange(len(calls))
        query, passages, size = calls[index]
        scores = scorer.score(query, passages, max_length=size)
        return max(abs(a - b) for a, b in zip(scores, alone[index], strict=True))

    with ThreadPoolExecutor(N_CLIENTS) as pool:
        differences = list(pool.map(one, range(N_MIXED_CALLS)))
    return {
        "n_calls": N_MIXED_CALLS,
        "wrong": sum(difference > TOLERANCE for difference in differences),
        "largest_difference": max(differences),
        "tolerance": TOLERANCE,
    }


def soak(scorer: CrossEncoderScorer, seconds: float) -> dict[str, Any]:
    """Keep four clients busy with new text; return memory and latency, sampled over time."""
    process, samples = psutil.Process(), []
    begin = time.perf_counter()
    recent: list[float] = []

    def client(seed: int) -> None:
        texts = Texts(seed)
        while time.perf_counter() - begin < seconds:
            for query, candidates in texts.calls(workload(1)):
                start = time.perf_counter()
                scorer.score(query, candidates)
                recent.append(time.perf_counter() - start)

    threads = [threading.Thread(target=client, args=(100 + number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    while time.perf_counter() - begin < seconds:
        time.sleep(min(5.0, seconds / 10))
        took, recent[:] = list(recent), []
        samples.append(
            {
                "s": time.perf_counter() - begin,
                "rss_mib": process.memory_info().rss / 2**20,
                "calls": len(took),
                "p50_ms": 1000 * statistics.median(took) if took else None,
            }
        )
    for thread in threads:
        thread.join()
    later = [sample["rss_mib"] for sample in samples if sample["s"] >= min(60.0, seconds / 5)]
    growth = max(later) / later[0] - 1 if later else None
    return {"seconds": seconds, "samples": samples, "growth_after_first_minute": growth}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=EMBEDDED_MODEL, help="a local folder, or 'embedded'")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--soak-seconds", type=float, default=0.0)
    parser.add_argument("--only", choices=("throughput", "fairness", "event_loop", "mixed", "soak"))
    parser.add_argument("--output", type=Path, default=RESULTS / "load_cpu.json")
    arguments = parser.parse_args()
    console = Console(stderr=True)
    scorer = CrossEncoderScorer(arguments.model, device="cpu")
    folder = str(EMBEDDED_FOLDER) if arguments.model == EMBEDDED_MODEL else arguments.model
    scorer.warmup()
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "throughput": lambda: throughput(scorer, arguments.repeats, folder),
        "fairness": lambda: fairness(scorer),
        "event_loop": lambda: event_loop(scorer, 4),
        "mixed": lambda: mixed(scorer),
    }
    if arguments.soak_seconds:
        parts["soak"] = lambda: soak(scorer, arguments.soak_seconds)
    result: dict[str, Any] = {
        "environment": environment(),
        "model": arguments.model,
        "dtype": scorer.dtype,
        "repeats": arguments.repeats,
    }
    for name, part in parts.items():
        if arguments.only in (None, name):
            console.print(f"{name} ...")
            result[name] = part()
            arguments.output.parent.mkdir(exist_ok=True)
            arguments.output.write_text(json.dumps(result, indent=1) + "\n")
    console.print(f"wrote {arguments.output}")


if __name__ == "__main__":
    main()
