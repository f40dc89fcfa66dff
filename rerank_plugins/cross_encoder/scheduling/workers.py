"""The threads that tokenise and compute: one loop, and what happens when a batch fails."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Protocol

import torch

from rerank_plugins.cross_encoder.pairs import FloatArray, PackedPairs
from rerank_plugins.cross_encoder.scheduling.cores import take_one_core
from rerank_plugins.cross_encoder.scheduling.jobs import Job
from rerank_plugins.cross_encoder.scheduling.memory import is_out_of_memory, release_memory
from rerank_plugins.cross_encoder.scheduling.plan import Plan, Planner, Slice
from rerank_plugins.cross_encoder.scheduling.ready import Batch
from rerank_plugins.cross_encoder.scheduling.stats import Counters
from rerank_plugins.errors import OutOfMemoryError, RerankError, ScoringError

logger = logging.getLogger(__name__)


class Replica(Protocol):
    """One copy of the model on one device."""

    n_workers: int  # threads that may run batches on it at the same time
    runs_ahead: bool  # launch() returns before the device is done
    pads_to_longest: bool  # the forward pass fills up shorter pairs

    def launch(self, pairs: PackedPairs) -> object:
        """Start a forward pass."""

    def collect(self, launched: object) -> FloatArray:
        """Wait for it, and return one decision a pair (n_pairs,)."""


class Source(Protocol):
    """Where work comes from and goes to."""

    name: str
    counters: Counters
    begun: threading.Barrier  # passed when all workers run

    def next_work(self, *, wait: bool) -> Batch | list[Slice] | None:
        """Return the batch to run or the slices to plan; None when closed, or not to ``wait``."""

    def planned(self, slices: Sequence[Slice], plans: Sequence[Plan], seconds: float) -> None:
        """Take the ``plans`` of ``slices``; those in none of them could not be tokenised."""

    def put_back(self, batches: Iterable[Batch]) -> None:
        """Take the parts of a batch that failed."""

    def break_off(self, error: BaseException) -> None:
        """Fail everything that waits, after an error that should not have happened."""

    def left(self, worker: Worker) -> None:
        """Take note that a worker has ended."""


class Worker:
    """A thread that takes work from its queue until the queue is closed."""

    def __init__(self, queue: Source, planner: Planner, replica: Replica, name: str) -> None:
        # Held while it tokenises or computes, in native code, and never while it settles a job,
        # whose callbacks may want any lock: a process that forks waits for it.
        self.running = threading.Lock()
        self._queue = queue
        self._planner = planner
        self._replica = replica
        self._launched: deque[tuple[Batch, object]] = deque()
        # A daemon: the interpreter's exit closes the queue, which ends a busy worker in order.
        self.thread = threading.Thread(target=self._work, name=name, daemon=True)

    def join(self) -> None:
        if self.thread is not threading.current_thread():
            self.thread.join()

    def _work(self) -> None:
        if not take_one_core(self._queue.begun):
            return
        try:
            with torch.inference_mode():
                while self._step():
                    pass
        except BaseException as error:
            # Nothing in the loop is known to raise. If it does, nobody may wait for ever.
            logger.exception("%s: a worker thread failed", self._queue.name)
            self._queue.break_off(error)
        finally:
            self._queue.left(self)

    def _step(self) -> bool:
        """Do one piece of work; return False once the queue is closed and nothing is left."""
        launched = self._launched
        work = self._queue.next_work(wait=not launched)
        if work is None and not launched:
            return False
        if isinstance(work, Batch):
            batch = work.without_done()
            if batch.pairs.n_pairs:
                self._launch(batch)
        elif work is not None:
            self._plan(work)
        # A device that runs ahead gets its next batch before we wait for this one.
        while launched and (work is None or len(launched) > self._replica.runs_ahead):
            self._collect(*launched.popleft())
        return True

    def _plan(self, slices: Sequence[Slice]) -> None:
        begin = time.perf_counter()
        with self.running:
            plans, failures = self._planned(slices)
        self._queue.planned(slices, plans, time.perf_counter() - begin)
        for job, error in failures:
            job.fail(_planning_error(job, error))

    def _planned(
        self, slices: Sequence[Slice]
    ) -> tuple[list[Plan], list[tuple[Job, BaseException]]]:
        """Return the plan of ``slices``; if that fails, those of each alone, and whose fail."""
        try:
            return [self._planner.plan(slices)], []
        except BaseException as failure:  # the tokenizers package also raises BaseException
            if len(slices) == 1:
                return [], [(slices[0].job, failure)]
        alone = [self._planned([piece]) for piece in slices]
        return (
            [plan for plans, _ in alone for plan in plans],
            [failure for _, failures in alone for failure in failures],
        )

    def _launch(self, batch: Batch) -> None:
        begin = time.perf_counter()
        failure: BaseException | None = None
        try:
            with self.running:
                self._launched.append((batch, self._replica.launch(batch.pairs)))
        except BaseException as error:
            failure = error
        self._queue.counters.add(forward_s=time.perf_counter() - begin)
        if failure is not None:
            self._recover(batch, failure)

    def _collect(self, batch: Batch, result: object) -> None:
        begin = time.perf_counter()
        failure: BaseException | None = None
        try:
            # A copy from the device for each batch, not for each call. A GPU's batch holds a call
            # of a thousand passages whole, and a larger call's next batch runs meanwhile. Waiting
            # for the last one would put errors of the device down to other calls' batches.
            with self.running:
                decisions = self._replica.collect(result)
            if decisions.shape != (batch.pairs.n_pairs,):
                raise ValueError(f"the model returned an array {decisions.shape}")
        except BaseException as error:
            failure = error
        seconds = time.perf_counter() - begin
        if failure is not None:
            self._queue.counters.add(forward_s=seconds)
            self._recover(batch, failure)
            return
        pairs = batch.pairs
        padding = 0
        if self._replica.pads_to_longest:
            padding = pairs.n_pairs * pairs.max_length - pairs.n_tokens
        self._queue.counters.add(forward_s=seconds, batches=1, padding_tokens=padding)
        batch.deliver(decisions)

    def _recover(self, batch: Batch, error: BaseException) -> None:
        """Halve a batch that ran out of memory; part the calls of one that failed otherwise."""
        n_pairs, n_tokens = batch.pairs.n_pairs, batch.pairs.n_tokens
        jobs = batch.waiting_jobs()
        if is_out_of_memory(error):
            # The traceback holds the frames, and these hold the tensors that are to be freed.
            error.__traceback__ = None
            if n_pairs > 1:
                self._planner.shrink(n_tokens // 2)
                logger.warning(
                    "%s: out of memory at %d tokens; going on with batches of at most %d",
                    self._queue.name,
                    n_tokens,
                    self._planner.max_batch_tokens,
                )
                release_memory()
                self._queue.counters.add(out_of_memory_retries=1)
                self._queue.put_back(batch.halves())
                return
            failure: RerankError = OutOfMemoryError(
                f"one pair of {n_tokens} tokens does not fit into memory ({error}); "
                "use a smaller max_length, or another device"
            )
        elif len(jobs) > 1:
            self._queue.put_back([batch.of(job) for job in jobs])
            return
        else:
            failure = ScoringError(
                f"{self._queue.name} failed on a batch of {n_pairs} pairs, {n_tokens} tokens: "
                f"{type(error).__name__}: {error}"
            )
        failure.__cause__ = error
        batch.fail(failure)


def _planning_error(job: Job, error: BaseException) -> BaseException:
    if isinstance(error, RerankError):
        return error
    if is_out_of_memory(error):
        failure: RerankError = OutOfMemoryError(
            f"the tokens of up to {job.n_pairs} pairs do not fit into memory ({error}); "
            "send fewer or shorter passages"
        )
    else:
        failure = ScoringError(
            f"the pairs could not be tokenised: {type(error).__name__}: {error}; "
            "score them one by one to find the text"
        )
    failure.__cause__ = error
    return failure
