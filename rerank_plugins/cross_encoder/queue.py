"""Many callers in, one stream of batches out: merging, fairness, failure, lifecycle.

Callers put a `Job` in and wait on its future. Worker threads, some for each device, take the
work: whoever finds no batch ready plans the next ones (tokenises and cuts), while the others go
on computing. There is no thread between a caller and a worker, so an idle scorer adds one
hand-over, and nothing ever waits for more work to come.

Fairness is start-time fair queuing over tokens: every batch carries the virtual time at which
its job deserved to start, and the earliest runs next. A new small call therefore overtakes the
later batches of a bulk call, and a bulk call is never starved by small ones.
"""

from __future__ import annotations

import atexit
import heapq
import logging
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Sequence
from typing import Protocol

import torch

from rerank_plugins.cross_encoder.batches import PackedPairs
from rerank_plugins.cross_encoder.head_rule import FloatArray
from rerank_plugins.cross_encoder.jobs import Batch, Job
from rerank_plugins.cross_encoder.pairs import Rows
from rerank_plugins.cross_encoder.plan import Planner, Slice
from rerank_plugins.cross_encoder.stats import Counters, Stats
from rerank_plugins.errors import (
    OutOfMemoryError,
    OverloadedError,
    RerankError,
    ScorerClosedError,
    ScoringError,
)

logger = logging.getLogger(__name__)


class Replica(Protocol):
    """One copy of the model on one device."""

    n_workers: int  # threads that may run batches on it at the same time
    runs_ahead: bool  # launch() returns before the device is done
    pads: bool  # the forward pass fills up shorter pairs

    def launch(self, pairs: PackedPairs) -> object:
        """Start a forward pass."""

    def collect(self, launched: object) -> FloatArray:
        """Wait for it, and return one decision a pair (n_pairs,)."""


class ScoringQueue:
    """The jobs that wait, the batches that are ready, and the threads that run them."""

    def __init__(
        self,
        replicas: Sequence[Replica],
        planner: Planner,
        *,
        name: str,
        max_queued_pairs: int | None = None,
        when_full: str = "wait",
    ) -> None:
        self.counters = Counters()
        self.name = name
        self._replicas = replicas
        self._planner = planner
        self._max_queued_pairs = max_queued_pairs
        self._when_full = when_full
        self._closed = False
        self._reset()
        _live_queues.add(self)

    def _reset(self) -> None:
        self._changed = threading.Condition()
        self._lobby: deque[Job] = deque()  # beyond max_queued_pairs, in order of arrival
        self._jobs: list[Job] = []  # with pairs still to be tokenised
        self._ready: list[Batch] = []  # a heap
        self._planning = False
        self._forking = False
        self._now = 0.0  # virtual time, in tokens
        self._n_queued_pairs = 0
        self._threads: list[threading.Thread] = []
        self._running: dict[threading.Lock, None] = {}  # one lock a worker, held while it computes

    @property
    def closed(self) -> bool:
        return self._closed

    @property
    def n_queued_pairs(self) -> int:
        """How many pairs of admitted, unfinished calls there are."""
        return self._n_queued_pairs

    def submit(self, job: Job) -> None:
        """Take a job. Its future holds the outcome; cancelling the future takes its pairs out."""
        with self._changed:
            self._check_open()
            self.counters.calls += 1
            self.counters.pairs += job.n_pairs
            if job.n_pairs == 0:
                job.finish()
                return
            full = (
                self._max_queued_pairs is not None
                and self._n_queued_pairs > 0
                and self._n_queued_pairs + job.n_pairs > self._max_queued_pairs
            )
            if full and self._when_full == "raise":
                raise OverloadedError(
                    f"{self._n_queued_pairs} pairs wait for {self.name}, and {job.n_pairs} more "
                    f"would pass max_queued_pairs={self._max_queued_pairs}; retry later, or use "
                    "when_full='wait'"
                )
            if full or self._lobby:
                self._lobby.append(job)
            else:
                self._admit(job)
            self._start_workers()
            self._changed.notify_all()
        job.future.add_done_callback(lambda _: self._settled(job))

    def stats(self) -> Stats:
        """Return the totals so far."""
        with self._changed:
            return self.counters.snapshot(
                queued_pairs=self._n_queued_pairs, max_batch_tokens=self._planner.max_batch_tokens
            )

    def _admit(self, job: Job) -> None:
        job.tag = self._now
        job.admitted = True
        self._n_queued_pairs += job.n_pairs
        self._jobs.append(job)

    def _settled(self, job: Job) -> None:
        """Forget a job that was finished, failed or cancelled, and let the next ones in."""
        with self._changed:
            if job.admitted:
                self._n_queued_pairs -= job.n_pairs
            if job in self._jobs:
                self._jobs.remove(job)
            if job in self._lobby:
                self._lobby.remove(job)
            while self._lobby and (
                self._n_queued_pairs == 0
                or self._max_queued_pairs is None
                or self._n_queued_pairs + self._lobby[0].n_pairs <= self._max_queued_pairs
            ):
                self._admit(self._lobby.popleft())
            self._changed.notify_all()

    # -- workers --------------------------------------------------------------------------------

    def _start_workers(self) -> None:
        if self._threads:
            return
        # A worker computes its own batch on one core. set_num_threads() acts on the calling
        # thread, and on every thread that asks for the first time later; the caller's setting is
        # put back once all workers have made theirs.
        n_threads = torch.get_num_threads()
        workers = [replica for replica in self._replicas for _ in range(replica.n_workers)]
        begun = threading.Barrier(len(workers) + 1)
        for number, replica in enumerate(workers):
            running = threading.Lock()
            self._running[running] = None
            thread = threading.Thread(
                target=self._work,
                args=(replica, running, begun),
                name=f"rerank-{self.name}-{number}",
                daemon=True,  # closed at exit by _close_all, which can stop a busy one in order
            )
            self._threads.append(thread)
            thread.start()
        begun.wait()
        torch.set_num_threads(n_threads)

    def _work(self, replica: Replica, running: threading.Lock, begun: threading.Barrier) -> None:
        torch.set_num_threads(1)
        begun.wait()
        launched: deque[tuple[Batch, object]] = deque()
        with torch.inference_mode():
            while True:
                work = self._next_work(wait=not launched)
                if work is None and not launched:
                    return
                with running:
                    if isinstance(work, Batch):
                        self._launch(replica, work, launched)
                    elif work is not None:
                        self._plan(work)
                    # A device that runs ahead gets its next batch before we wait for this one.
                    while launched and (work is None or len(launched) > replica.runs_ahead):
                        self._collect(replica, *launched.popleft())

    def _next_work(self, *, wait: bool) -> Batch | list[Slice] | None:
        """Return the batch to run or the slices to plan now; None if there is neither."""
        with self._changed:
            while True:
                if self._closed:
                    return None
                # Plan before the last ready batches are gone, and at once for a new call.
                due = len(self._ready) < len(self._threads) or self._has_new_job()
                if self._forking:
                    pass
                elif self._jobs and due and not self._planning:
                    self._planning = True
                    return self._slices()
                elif self._ready:
                    batch = heapq.heappop(self._ready)
                    self._now = max(self._now, batch.tag)
                    batch = batch.without_done()
                    if batch.pairs.n_pairs:
                        return batch
                    continue
                if not wait:
                    return None
                self._changed.wait()

    def _has_new_job(self) -> bool:
        return any(job.n_planned == 0 for job in self._jobs)

    def _slices(self) -> list[Slice]:
        """Return what to tokenise next: calls at the front of the line together."""
        self._jobs.sort(key=lambda job: job.tag)
        slices: list[Slice] = []
        n_pairs = 0
        for job in self._jobs:
            # A call that is ahead of its share waits until there is nothing else.
            if slices and (job.tag > self._now or n_pairs >= MERGED_PAIRS):
                break
            if job.n_planned == 0:
                self.counters.queue_wait_s += time.perf_counter() - job.submitted
            slices.append(Slice.next_of(job))
            n_pairs += slices[-1].n_pairs
        return slices

    def _plan(self, slices: Sequence[Slice]) -> None:
        begin = time.perf_counter()
        encoded: list[tuple[Slice, Rows]] = []
        for piece in slices:
            try:
                encoded.append((piece, self._planner.encode(piece)))
            except Exception as error:
                piece.job.fail(error)
        group = [(piece.job, rows) for piece, rows in encoded]
        batches = self._planner.batches(group, max(p.job.tag for p, _ in encoded)) if group else []
        with self._changed:
            self.counters.tokenise_s += time.perf_counter() - begin
            for piece, rows in encoded:
                job = piece.job
                n_tokens = int(rows.lengths.sum())
                job.planned(rows, piece.n_pairs)
                job.tag = max(job.tag, self._now) + n_tokens
                self.counters.tokens += n_tokens
                self.counters.truncated += int(rows.truncated.sum())
                if job.n_unplanned == 0 and job in self._jobs:
                    self._jobs.remove(job)
            for batch in batches:
                heapq.heappush(self._ready, batch)
            self._planning = False
            self._changed.notify_all()

    def _launch(
        self, replica: Replica, batch: Batch, launched: deque[tuple[Batch, object]]
    ) -> None:
        begin = time.perf_counter()
        try:
            launched.append((batch, replica.launch(batch.pairs)))
        except Exception as error:
            self._recover(batch, error)
        with self._changed:
            self.counters.forward_s += time.perf_counter() - begin

    def _collect(self, replica: Replica, batch: Batch, result: object) -> None:
        begin = time.perf_counter()
        try:
            decisions = replica.collect(result)
        except Exception as error:
            self._recover(batch, error)
            return
        with self._changed:
            self.counters.forward_s += time.perf_counter() - begin
            self.counters.batches += 1
            if replica.pads:
                cells = batch.pairs.n_pairs * batch.pairs.max_length
                self.counters.padding_tokens += cells - batch.pairs.n_tokens
            batch.deliver(decisions)

    def _recover(self, batch: Batch, error: Exception) -> None:
        """Halve a batch that ran out of memory; part the calls of one that failed otherwise."""
        n_pairs, n_tokens = batch.pairs.n_pairs, batch.pairs.n_tokens
        jobs = batch.waiting_jobs()
        parts: Sequence[Batch] = ()
        if is_out_of_memory(error):
            if n_pairs > 1:
                parts = batch.halves()
                self._planner.shrink(n_tokens // 2)
                logger.warning(
                    "%s: out of memory at %d tokens; going on with batches of at most %d",
                    self.name,
                    n_tokens,
                    self._planner.max_batch_tokens,
                )
            else:
                failure: RerankError = OutOfMemoryError(
                    f"one pair of {n_tokens} tokens does not fit into memory ({error}); "
                    "use a smaller max_length, or another device"
                )
        elif len(jobs) > 1:
            parts = [batch.of(job) for job in jobs]
        else:
            failure = ScoringError(
                f"{self.name} failed on a batch of {n_pairs} pairs, {n_tokens} tokens: "
                f"{type(error).__name__}: {error}"
            )
        if not parts:
            failure.__cause__ = error
            batch.fail(failure)
            return
        release_memory()
        with self._changed:
            self.counters.out_of_memory_retries += is_out_of_memory(error)
            for part in parts:
                heapq.heappush(self._ready, part)
            self._changed.notify_all()

    # -- lifecycle ------------------------------------------------------------------------------

    def close(self, *, join: bool = True) -> None:
        """Fail what waits with `ScorerClosedError`, let running batches end, stop the threads."""
        with self._changed:
            self._closed = True
            waiting = {*self._jobs, *self._lobby}
            waiting.update(job for batch in self._ready for job in batch.waiting_jobs())
            self._ready.clear()
            self._changed.notify_all()
        for job in waiting:
            job.fail(ScorerClosedError(f"{self.name} was closed while this call waited"))
        for thread in self._threads:
            if join and thread is not threading.current_thread():
                thread.join()

    def _check_open(self) -> None:
        if self._closed:
            raise ScorerClosedError(
                f"{self.name} is closed; make a new scorer, or ask shared_scorer() again"
            )

    def before_fork(self) -> None:
        """Wait until no worker is inside native code, whose locks a child could never open."""
        with self._changed:
            self._forking = True
        for running in self._running:
            running.acquire()
        self._changed.acquire()

    def after_fork_in_parent(self) -> None:
        self._forking = False
        self._changed.notify_all()
        self._changed.release()
        for running in self._running:
            running.release()

    def after_fork_in_child(self) -> None:
        """Start empty: the threads and the callers of the parent do not exist here."""
        self._reset()


# Calls are merged up to this many pairs a planning round: enough to fill the batches of every
# device, few enough that a call which arrives meanwhile is not kept waiting.
MERGED_PAIRS = 4096

_live_queues: weakref.WeakSet[ScoringQueue] = weakref.WeakSet()


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether an error means that memory ran out, on a GPU or on the CPU."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or (
        isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    )


def release_memory() -> None:
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def _before_fork() -> None:
    for queue in list(_live_queues):
        queue.before_fork()


def _after_fork_in_parent() -> None:
    for queue in list(_live_queues):
        queue.after_fork_in_parent()


def _after_fork_in_child() -> None:
    for queue in list(_live_queues):
        queue.after_fork_in_child()


@atexit.register
def _close_all() -> None:
    # Before the interpreter is torn down: a thread inside torch at that moment would crash.
    for queue in list(_live_queues):
        queue.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )
