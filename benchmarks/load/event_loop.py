"""What a thousand calls do to an event loop, and to calls with other settings beside them."""

from __future__ import annotations

import asyncio
import gc
import random
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from benchmarks.load.clients import N_CLIENTS, workload
from rerank_plugins import CrossEncoderScorer
from rerank_plugins.workloads import Call, Texts, Workload

N_TASKS = 1_000
N_MIXED_CALLS = 10_000
TOLERANCE = 1e-5


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
