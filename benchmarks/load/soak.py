"""Memory and latency over a long time."""

from __future__ import annotations

import statistics
import threading
import time
from typing import Any

import psutil

from benchmarks.load.clients import workload
from rerank_plugins import CrossEncoderScorer
from rerank_plugins.workloads import Texts


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
