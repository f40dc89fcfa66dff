"""Many callers in, one stream of batches out: merging, bounds, forking.

Callers put a `Job` in and wait for its outcome. Worker threads, some for each device, take the
work that the `Schedule` gives them: whoever finds too few batches ready plans the next ones
(tokenises and cuts), while the others go on computing. There is no thread between a caller and a
worker, so an idle scorer adds one hand-over, and nothing ever waits for more work to come.

The queue's lock is held for bookkeeping alone. Nothing is computed, and no job is settled
(which runs the callbacks of others), while it is held.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Sequence

from rerank_plugins.cross_encoder.scheduling import forking
from rerank_plugins.cross_encoder.scheduling.job import Job, JobResult
from rerank_plugins.cross_encoder.scheduling.merge import (
    Batch,
    PairRange,
    Planner,
    TokenisedBatches,
)
from rerank_plugins.cross_encoder.scheduling.schedule import Schedule
from rerank_plugins.cross_encoder.scheduling.stats import Counters, Stats
from rerank_plugins.cross_encoder.scheduling.threads import start
from rerank_plugins.cross_encoder.scheduling.workers import Replica, Worker
from rerank_plugins.errors import (
    DeviceError,
    OutOfMemoryError,
    OverloadedError,
    ScorerClosedError,
    ScoringError,
)


class ScoringQueue:
    """The open calls, and the threads that work on them.

    ``survives_fork`` says whether the replicas may be used in a forked child, which is not so
    for a GPU.

    A signal handler may call any method, also while the code that it interrupts holds the lock:
    the lock can be taken again, each change leaves the books in order for the next, and whoever
    waits inside another's hold does so with ``self._changed.wait``, which lets go of it.
    """

    def __init__(
        self,
        replicas: Sequence[Replica],
        planner: Planner,
        *,
        name: str,
        max_queued_pairs: int | None = None,
        survives_fork: bool = True,
    ) -> None:
        self.name = name
        self._replicas = replicas
        self._planner = planner
        self._max_queued_pairs = max_queued_pairs
        self._survives_fork = survives_fork
        self._closed = False
        self._orphaned = False  # in a forked child, on a device that did not come along
        self._start_empty()
        forking.register(self)

    def _start_empty(self) -> None:
        self.counters = Counters()
        self._changed = threading.Condition()
        self._schedule = Schedule(self._planner)
        self._open: dict[Job, None] = {}  # every unfinished job
        self._n_queued_pairs = 0  # of the unfinished jobs
        self._n_calls = 0
        self._n_pairs = 0
        self._workers: list[Worker] = []
        self._starting = False
        self._resting: list[Worker] = []  # while the process forks
        self._forking = 0  # the thread that forks
        self._n_interrupts = 0  # calls of signal handlers that wait inside another's hold

    @property
    def closed(self) -> bool:
        return self._closed

    @property
    def forking(self) -> bool:
        """Whether the process forks, or is about to: whoever asks now waits until it has."""
        return bool(self._forking)

    def submit(self, job: Job) -> None:
        """Take a job, which will hold the result; cancelling it takes its pairs out.

        Raises `OverloadedError`, `ScorerClosedError` and `DeviceError`.
        """
        interrupts = self._held_here()
        with self._changed:
            while self._forking:
                if self._forking == threading.get_ident():
                    raise ScoringError(
                        f"{self.name} was called by a signal handler while its thread forks; "
                        "call it again when the fork is done"
                    )
                self._changed.wait()
            self.check_usable()
            n_pairs = job.n_pairs
            if n_pairs:
                self._take(job)
            self._n_calls += 1
            self._n_pairs += n_pairs
        if job.n_pairs == 0:
            job.finish(JobResult.empty(0))
            return
        job.add_done_callback(self._settled)
        if interrupts:
            # Called by a signal handler: the workers need the lock that the code below us holds.
            with self._changed:
                self._n_interrupts += 1
                while not job.done:
                    self._changed.wait()
                self._n_interrupts -= 1

    def _take(self, job: Job) -> None:
        self._check_room(job)
        if not self._workers and not self._starting:
            self._start_workers()
        n_pairs = job.n_pairs
        self._open[job] = None
        self._n_queued_pairs += n_pairs
        self._schedule.add(job)
        self._changed.notify()
        if self._closed:  # by a signal handler, since it was checked
            del self._open[job]
            self._n_queued_pairs -= n_pairs
            self._schedule.remove(job)
            self.check_usable()

    def _check_room(self, job: Job) -> None:
        bound, n_queued = self._max_queued_pairs, self._n_queued_pairs
        # An empty queue takes any job, also one larger than the bound: it could never come in.
        if bound is not None and n_queued and n_queued + job.n_pairs > bound:
            raise OverloadedError(
                f"{n_queued} pairs wait for {self.name}, and {job.n_pairs} more "
                f"would pass max_queued_pairs={bound}; retry later, or raise max_queued_pairs"
            )

    def _held_here(self) -> bool:
        """Say whether this thread holds the lock, which only code under a signal handler does."""
        try:
            self._changed.notify(0)
        except RuntimeError:  # "cannot notify on un-acquired lock"
            return False
        return True

    def _settled(self, job: Job) -> None:
        """Forget a job that was finished, failed or cancelled."""
        n_pairs = job.n_pairs
        with self._changed:
            if job not in self._open:
                return  # of the time before a fork
            del self._open[job]
            self._n_queued_pairs -= n_pairs
            self._schedule.remove(job)
            if self._n_interrupts:
                self._changed.notify_all()

    def stats(self) -> Stats:
        """Return the totals so far."""
        return self.counters.snapshot(
            calls=self._n_calls,
            pairs=self._n_pairs,
            queued_pairs=self._n_queued_pairs,
            max_batch_tokens=self._planner.max_batch_tokens,
        )

    # -- for the workers ------------------------------------------------------------------------

    def _start_workers(self) -> None:
        replicas = [replica for replica in self._replicas for _ in range(replica.n_workers)]
        names = [f"rerank-{self.name}-{number}" for number in range(len(replicas))]
        started = [
            Worker(self, self._planner, replica, name)
            for replica, name in zip(replicas, names, strict=True)
        ]
        self._starting = True
        try:
            start(started)
        except RuntimeError as error:
            raise ScoringError(
                f"the threads of {self.name} cannot be started: {error}; "
                "the interpreter is ending, or the process has too many threads"
            ) from error
        finally:
            self._starting = False
        self._workers = started
        forking.join_at_exit(worker.thread for worker in started)

    def next_work(self, *, wait: bool) -> Batch | list[PairRange] | None:
        """Return the batch to run or the pairs to tokenise now; None if there is neither."""
        with self._changed:
            while not self._closed:
                work = None
                if not self._forking:
                    work = self._schedule.next_work(
                        n_workers=len(self._workers), n_open=len(self._open)
                    )
                if isinstance(work, list):
                    now = time.perf_counter()
                    begun = [each.waiting for each in work if each.start == 0]
                    for waiting in begun:
                        waiting.queue_s = now - waiting.job.submitted
                    self.counters.add(queue_wait_s=sum(waiting.queue_s for waiting in begun))
                if work is not None:
                    # One wakes the next: a worker that wakes for nothing holds up the others.
                    if self._schedule.has_work():
                        self._changed.notify()
                    return work
                if not wait:
                    return None
                self._changed.wait()
            return None

    def tokenised(
        self, ranges: Sequence[PairRange], results: Sequence[TokenisedBatches], seconds: float
    ) -> None:
        """Take what became of ``ranges``; those that are in no result could not be tokenised."""
        tokens = [each for result in results for each in result.ranges]
        self.counters.add(
            tokenise_s=seconds,
            tokens=sum(each.n_tokens for each in tokens),
            truncated=sum(int(each.truncated.sum()) for each in tokens),
        )
        with self._changed:
            self._schedule.tokenised(ranges, results)
            n_batches = sum(len(result.batches) for result in results)
            self._changed.notify(max(0, n_batches - 1))  # this worker runs one itself

    def put_back(self, batches: Iterable[Batch]) -> None:
        """Take the parts of a batch that failed."""
        with self._changed:
            self._schedule.push(batches)
            self._changed.notify_all()

    def run_dry(self, error: BaseException) -> None:
        """Fail everything that waits, because memory ran out in the middle of bookkeeping."""
        with self._changed:
            self._schedule.clear()
            waiting = list(self._open)
        for job in waiting:
            failure = OutOfMemoryError(
                f"{self.name} ran out of memory ({error!r}); send fewer or shorter passages"
            )
            failure.__cause__ = error
            job.fail(failure)

    def break_off(self, error: BaseException) -> None:
        """Close after an error that should not have happened, failing everything that waits."""
        with self._changed:
            self._closed = True
            self._schedule.clear()
            waiting = list(self._open)
            self._changed.notify_all()
        for job in waiting:
            failure = ScoringError(f"a worker of {self.name} failed: {error!r}; make a new scorer")
            failure.__cause__ = error
            job.fail(failure)

    def left(self, worker: Worker) -> None:
        """Take note that a worker has ended; after the last one nobody may wait any more."""
        with self._changed:
            self._workers.remove(worker)
            rest = [] if self._workers else list(self._open)
            self._changed.notify_all()
        self._fail_closed(rest)

    # -- lifecycle ------------------------------------------------------------------------------

    def close(self, *, join: bool = True) -> None:
        """Fail what waits with `ScorerClosedError`, let running batches end, stop the threads."""
        interrupts = self._held_here()
        with self._changed:
            while self._forking:
                if self._forking == threading.get_ident():  # under a signal handler
                    join = False
                    break
                self._changed.wait()
            self._closed = True
            waiting = self._schedule.clear()
            threads = list(self._workers)
            self._changed.notify_all()
        self._fail_closed(waiting)
        if interrupts:
            with self._changed:
                while join and self._workers:
                    self._changed.wait()
        elif join:
            for worker in threads:
                worker.join()

    def _fail_closed(self, jobs: Iterable[Job]) -> None:
        for job in jobs:
            job.fail(ScorerClosedError(f"{self.name} was closed while this call waited"))

    def check_usable(self) -> None:
        if self._closed:
            raise ScorerClosedError(
                f"{self.name} is closed; make a new scorer, or ask shared_scorer() again"
            )
        if self._orphaned:
            raise DeviceError(
                f"{self.name} was loaded onto a GPU before this process was forked, and a GPU "
                "cannot be used across a fork; start processes with "
                "multiprocessing.get_context('spawn'), or load the model after the fork"
            )

    def before_fork(self) -> None:
        """Wait until no worker is inside native code, whose locks a child could never open."""
        with self._changed:
            self._forking = threading.get_ident()
            self._resting = list(self._workers)
        for worker in self._resting:
            worker.running.acquire()
        self._changed.acquire()

    def after_fork_in_parent(self) -> None:
        self._forking = 0
        self._changed.notify_all()
        self._changed.release()
        for worker in self._resting:
            worker.running.release()

    def after_fork_in_child(self) -> None:
        """Start empty: the threads and the callers of the parent do not exist here."""
        self._orphaned = not self._survives_fork
        self._start_empty()
