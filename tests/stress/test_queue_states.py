"""Any order of calls, cancellations, steps and failures: every call ends, with its own scores."""

from __future__ import annotations

import threading

import torch
from fake_model import FakeReplica, expected, fake_queue, job, settles
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from rerank_plugins.cross_encoder.pairs import PackedPairs
from rerank_plugins.cross_encoder.scheduling.job import Job
from rerank_plugins.errors import OverloadedError, RerankError, ScoringError

BOUND = 40
LONG = 60.0


class Stepper:
    """Lets a worker through one batch at a time, and decides what becomes of it."""

    def __init__(self) -> None:
        self.fates: list[BaseException | None] = []
        self.allowed = threading.Semaphore(0)
        self.free = False

    def __call__(self, pairs: PackedPairs) -> None:
        if not self.free:
            assert self.allowed.acquire(timeout=LONG)
        if self.fates:
            fate = self.fates.pop()
            if fate is not None:
                raise fate


class QueueMachine(RuleBasedStateMachine):
    jobs = Bundle("jobs")

    def __init__(self) -> None:
        super().__init__()
        self.step_by = Stepper()
        self.all: list[Job] = []
        self.failed = 0
        self.queue = fake_queue(
            FakeReplica(self.step_by, n_workers=2),
            FakeReplica(self.step_by, launches_async=True),
            max_batch_tokens=32,
            max_queued_pairs=BOUND,
        )

    @rule(
        target=jobs,
        query=st.integers(0, 3).map(str),
        passages=st.lists(st.integers(0, 30).map(str), max_size=60, unique=True),
        max_length=st.sampled_from([8, 64]),
    )
    def call(self, query: str, passages: list[str], max_length: int) -> Job:
        new = job(query, passages, max_length=max_length)
        try:
            self.queue.submit(new)
            self.all.append(new)
        except OverloadedError:
            new.cancel()
        return new

    @rule(which=consumes(jobs))
    def cancel(self, which: Job) -> None:
        which.cancel()

    @rule(count=st.integers(1, 5))
    def step(self, count: int) -> None:
        self.step_by.allowed.release(count)

    @rule(error=st.sampled_from([MemoryError(), RuntimeError("fake"), torch.OutOfMemoryError()]))
    def fail(self, error: BaseException) -> None:
        self.failed += 1
        self.step_by.fates.append(error)

    @invariant()
    def bounded(self) -> None:
        queued = self.queue.stats().queued_pairs
        assert 0 <= queued <= max([BOUND, *(each.n_pairs for each in self.all)])

    def teardown(self) -> None:
        self.step_by.free = True
        self.step_by.allowed.release(10_000)
        n_errors = 0
        for each in self.all:
            if each.cancelled:
                continue
            settles(lambda: each.done)  # noqa: B023 - called at once
            error = each.error
            if error is not None:
                assert isinstance(error, (ScoringError, MemoryError))
                n_errors += 1
            else:
                wanted = [expected(q, p) for q, p in zip(each.queries, each.passages, strict=True)]
                assert each.result().logits.tolist() == wanted
        assert n_errors <= self.failed
        self.queue.close()
        assert self.queue.stats().queued_pairs == 0
        for each in self.all:
            assert each.done
        try:
            self.queue.submit(job("1", ["1"]))
        except RerankError:
            return
        raise AssertionError("a closed queue took a call")


FEW = settings(max_examples=25, stateful_step_count=25, deadline=None)
TestQueue = QueueMachine.TestCase
TestQueue.settings = FEW
