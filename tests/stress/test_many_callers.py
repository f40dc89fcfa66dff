"""Threads and tasks at once, cancellations, and a model that fails: everybody gets their own."""

from __future__ import annotations

import asyncio
import gc
import random
import threading
import time
from collections import Counter

import psutil
import torch
from fake_model import FakeReplica, expected, fake_queue, job

from rerank_plugins.cross_encoder.pairs import PackedPairs
from rerank_plugins.cross_encoder.scheduling.job import Job
from rerank_plugins.cross_encoder.scheduling.waiting import wait, wait_async
from rerank_plugins.errors import DeadlineExceededError, OutOfMemoryError, ScoringError

LONG = 120.0
N_FAILURES = 2_000


class Failing:
    """Fails every third batch or so until it has failed ``count`` times."""

    def __init__(self, count: int) -> None:
        self.left = count
        self._random = random.Random(1)
        self._lock = threading.Lock()

    def __call__(self, pairs: PackedPairs) -> None:
        with self._lock:
            if not self.left or self._random.random() < 0.6:
                return
            self.left -= 1
            kind = self._random.choice([RuntimeError, torch.OutOfMemoryError, MemoryError])
        raise kind("injected")


def new_job(generator: random.Random) -> Job:
    passages = [str(n) for n in generator.sample(range(500), generator.randint(1, 20))]
    return job(str(generator.randint(0, 9)), passages, max_length=generator.choice([8, 64]))


def check(each: Job, logits: list[float]) -> None:
    wanted = [expected(q, p) for q, p in zip(each.queries, each.passages, strict=True)]
    assert logits == wanted


def test_threads_and_tasks_with_cancellations_and_failures() -> None:  # noqa: C901
    failing = Failing(N_FAILURES)
    replicas = [FakeReplica(failing, n_workers=2), FakeReplica(failing, launches_async=True)]
    queue = fake_queue(*replicas, max_batch_tokens=200, max_queued_pairs=100_000)
    ends: Counter[str] = Counter()
    wrong: list[BaseException] = []

    def one(generator: random.Random) -> None:
        each = new_job(generator)
        queue.submit(each)
        try:
            outcome = wait(each, generator.choice([None, None, None, 0.0, 0.001, 30.0]))
            check(each, outcome.logits.tolist())
            ends["scores"] += 1
        except (ScoringError, OutOfMemoryError) as error:
            if "injected" not in str(error):
                raise
            ends["failures"] += 1
        except DeadlineExceededError:
            ends["deadlines"] += 1

    def client(seed: int) -> None:
        generator = random.Random(seed)
        try:
            while failing.left:
                one(generator)
            one(generator)
        except BaseException as error:
            wrong.append(error)

    async def task(seed: int) -> None:
        each = new_job(random.Random(seed))
        queue.submit(each)
        try:
            check(each, (await wait_async(each, None)).logits.tolist())
            ends["scores"] += 1
        except (ScoringError, OutOfMemoryError):
            ends["failures"] += 1

    async def tasks() -> None:
        running = [asyncio.create_task(task(seed)) for seed in range(1_000)]
        await asyncio.sleep(0.02)
        for each in running[::2]:
            each.cancel()
        for result in await asyncio.gather(*running, return_exceptions=True):
            assert result is None or isinstance(result, asyncio.CancelledError)

    threads = [threading.Thread(target=client, args=(seed,)) for seed in range(64)]
    for thread in threads:
        thread.start()
    asyncio.run(tasks())
    end = time.monotonic() + LONG
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    assert not any(thread.is_alive() for thread in threads), "somebody waits for ever"
    assert not wrong
    assert failing.left == 0
    assert ends["scores"] > 500
    queue.close()
    assert queue.stats().queued_pairs == 0


def test_memory_and_latency_stay_flat(stress_seconds: float) -> None:
    """A soak: after the first third neither memory nor the time of a call grows."""
    queue = fake_queue(FakeReplica(n_workers=2), max_batch_tokens=500)
    process, generator = psutil.Process(), random.Random(0)
    begin = time.monotonic()
    memory: list[int] = []
    while time.monotonic() - begin < stress_seconds:
        for _ in range(50):
            each = new_job(generator)
            queue.submit(each)
            check(each, wait(each, None).logits.tolist())
        gc.collect()
        memory.append(process.memory_info().rss)
    queue.close()
    third = memory[len(memory) // 3 :]
    # The allocator's own steps are a few MiB; a leak of these calls would be far more.
    assert max(third) - third[0] < max(0.02 * third[0], 8 * 2**20)
