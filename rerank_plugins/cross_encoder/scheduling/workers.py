"""The threads that tokenise and compute: one loop, and what happens when a batch fails."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch

from rerank_plugins.cross_encoder.pairs import FloatArray, PackedPairs
from rerank_plugins.cross_encoder.scheduling import forking
from rerank_plugins.cross_encoder.scheduling.failures import is_out_of_memory, tokenising_error
from rerank_plugins.cross_encoder.scheduling.job import Job
from rerank_plugins.cross_encoder.scheduling.merge import (
    Batch,
    PairRange,
    Planner,
    TokenisedBatches,
)
from rerank_plugins.cross_encoder.scheduling.threads import start, take_one_core
from rerank_plugins.errors import OutOfMemoryError, RerankError, ScoringError

if TYPE_CHECKING:
    from rerank_plugins.cross_encoder.scheduling.scoring_queue import ScoringQueue

logger = logging.getLogger(__name__)

# A thread that takes over and has not begun by then never will; so long a batch waits for it.
_HAND_OVER_S = 0.25


class Replica(Protocol):
    """One copy of the model on one device."""

    n_workers: int  # threads that may run batches on it at the same time
    launches_async: bool  # launch() returns before the device is done
    pads_to_longest: bool  # the forward pass fills up shorter pairs

    def launch(self, pairs: PackedPairs) -> object:
        """Start a forward pass."""

    def collect(self, launched: object) -> FloatArray:
        """Wait for it, and return one logit a pair (n_pairs,)."""


class Worker:
    """A thread that takes work from its queue until the queue is closed."""

    def __init__(self, queue: ScoringQueue, planner: Planner, replica: Replica, name: str) -> None:
        # Held while it tokenises or computes, in native code, and never while it settles a job,
        # whose callbacks may want any lock: a process that forks waits for it.
        self.running = threading.Lock()
        self._queue = queue
        self._planner = planner
        self._replica = replica
        self._name = name
        self._launched: deque[tuple[Batch, object]] = deque()
        self._spoilt = False  # memory ran out in its thread
        self._next_try = 0.0  # of a thread that takes over
        self.thread = threading.current_thread()  # until it is started

    def new_thread(self, begun: threading.Barrier) -> threading.Thread:
        """Return a new thread for this worker, which passes ``begun`` when it runs."""
        # A daemon: the interpreter's exit closes the queue, which ends a busy worker in order.
        return threading.Thread(target=self._work, args=(begun,), name=self._name, daemon=True)

    def join(self) -> None:
        """Wait for its thread to end, and for any that took over meanwhile."""
        joined: threading.Thread | None = None
        while joined is not self.thread and self.thread is not threading.current_thread():
            joined = self.thread
            joined.join()

    def _work(self, begun: threading.Barrier) -> None:
        if not take_one_core(begun):
            return
        self.thread = threading.current_thread()
        with torch.inference_mode():
            while self._goes_on():
                if self.thread is not threading.current_thread():
                    return
        self._queue.left(self)

    def _goes_on(self) -> bool:
        try:
            return self._step()
        except BaseException as error:
            # Only a lack of memory is known to happen between batches. Whatever else it is,
            # nobody may wait for ever.
            if is_out_of_memory(error):
                logger.warning("%s: out of memory between batches", self._queue.name)
                self._launched.clear()
                self._queue.run_dry(error)
                return True
            logger.exception("%s: a worker thread failed", self._queue.name)
            self._queue.break_off(error)
            return False

    def _step(self) -> bool:
        """Do one piece of work; return False once the queue is closed and nothing is left."""
        launched = self._launched
        work = self._queue.next_work(wait=not launched)
        if work is None and not launched:
            return False
        if isinstance(work, Batch):
            if self._may_hand_over(work) and self._hand_over():
                self._queue.put_back([work])
                return True
            batch = work.without_done()
            if batch.pairs.n_pairs:
                self._launch(batch)
        elif work is not None:
            self._tokenise(work)
        # A device that runs ahead gets its next batch before we wait for this one.
        while launched and (work is None or len(launched) > self._replica.launches_async):
            self._collect(*launched.popleft())
        return True

    def _may_hand_over(self, batch: Batch) -> bool:
        """Say whether to try: always before the last attempt at a pair, else once a second."""
        return self._spoilt and (batch.pairs.n_pairs == 1 or time.perf_counter() >= self._next_try)

    def _hand_over(self) -> bool:
        """Let a fresh thread take this one's place, and return whether there is one.

        oneDNN keeps scratch memory for each thread, and where that could not be had once, it
        fails in this thread for ever.
        """
        with self.running:
            self._spoilt = False
            try:
                start([self], timeout_s=_HAND_OVER_S)
            except (RuntimeError, MemoryError):
                # Memory is still short. This thread goes on, and tries again at the next batch.
                self._spoilt = True
                self._next_try = time.perf_counter() + 1
                return False
        forking.join_at_exit([self.thread])
        return True

    def _tokenise(self, ranges: Sequence[PairRange]) -> None:
        begin = time.perf_counter()
        with self.running:
            results, failures = self._tokenised(ranges)
        self._queue.tokenised(ranges, results, time.perf_counter() - begin)
        for job, error in failures:
            job.fail(tokenising_error(job.n_pairs, error))

    def _tokenised(
        self, ranges: Sequence[PairRange]
    ) -> tuple[list[TokenisedBatches], list[tuple[Job, BaseException]]]:
        """Return the batches of ``ranges``; if that fails, those of each alone, and whose fail."""
        try:
            return [self._planner.tokenise(ranges)], []
        except BaseException as failure:  # the tokenizers package also raises BaseException
            if len(ranges) == 1:
                return [], [(ranges[0].waiting.job, failure)]
        alone = [self._tokenised([piece]) for piece in ranges]
        return (
            [result for results, _ in alone for result in results],
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
                logits = self._replica.collect(result)
            if logits.shape != (batch.pairs.n_pairs,):
                raise ValueError(f"the model returned an array {logits.shape}")
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
        if pairs.n_pairs > 1 and not np.isfinite(logits).all():
            # Pairs share blocks of the arithmetic, where one pair's NaN reaches its neighbours.
            # Halved until it is alone, so that it fails only the call that it belongs to.
            self._queue.put_back(batch.halves())
            return
        batch.deliver(logits)

    def _recover(self, batch: Batch, error: BaseException) -> None:
        """Halve a batch that ran out of memory, or that failed with the pairs of several calls."""
        n_pairs, n_tokens = batch.pairs.n_pairs, batch.pairs.n_tokens
        failure: RerankError
        if is_out_of_memory(error):
            # The traceback holds the frames, and these hold the tensors that are to be freed.
            error.__traceback__ = None
            self._spoilt = not isinstance(error, torch.OutOfMemoryError)  # that one is a GPU's
            if n_pairs > 1:
                self._planner.shrink(n_tokens // 2)
                logger.warning(
                    "%s: out of memory at %d tokens; going on with batches of at most %d",
                    self._queue.name,
                    n_tokens,
                    self._planner.max_batch_tokens,
                )
                if torch.cuda.is_available():
                    torch.cuda.empty_cache()
                self._queue.counters.add(out_of_memory_retries=1)
                self._queue.put_back(batch.halves())
                return
            failure = OutOfMemoryError(
                f"one pair of {n_tokens} tokens does not fit into memory ({error}); "
                "use a smaller max_length, or another device"
            )
        elif n_pairs > 1 and len(batch.open_jobs()) > 1:
            self._queue.put_back(batch.halves())
            return
        else:
            failure = ScoringError(
                f"{self._queue.name} failed on a batch of {n_pairs} pairs, {n_tokens} tokens: "
                f"{type(error).__name__}: {error}"
            )
        failure.__cause__ = error
        batch.fail(failure)
