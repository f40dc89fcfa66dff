"""One caller's pairs, and the result that the caller waits for."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from rerank_plugins.cross_encoder.pairs import FloatArray, Int64Array
from rerank_plugins.errors import NonFiniteScoreError

BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class JobResult:
    """One value a pair, each (n_pairs,): logit, truncation, first token of the best window.

    And of the job: the tokens that the model read, the seconds until the first work on it.
    """

    logits: FloatArray
    truncated: BoolArray
    window_starts: Int64Array
    n_tokens: int = 0
    queue_s: float = 0.0

    @classmethod
    def empty(cls, n_pairs: int) -> JobResult:
        """Return one in which every logit loses against any other."""
        return cls(
            np.full(n_pairs, -np.inf), np.zeros(n_pairs, np.bool_), np.zeros(n_pairs, np.int64)
        )


class Job:
    """The pairs of one call, and its result or error, which another thread brings.

    It is settled once: whoever comes first counts. Nothing here waits for a lock, so a signal
    handler may settle the job that the interrupted code is about to wait for.

    A `concurrent.futures.Future` has a dozen objects that the garbage collector counts. Those of
    a thousand waiting calls bring on a full collection, which holds up an event loop.
    """

    def __init__(
        self,
        queries: Sequence[str],
        passages: Sequence[str],
        *,
        max_length: int,
        windows: bool,
        indices: Sequence[int] | None = None,
        argument: str = "passages",
    ) -> None:
        self.queries = queries
        self.passages = passages
        self.max_length = max_length
        self.windows = windows
        self.indices = indices  # of the pairs in the caller's argument; None: 0, 1, 2 ...
        self.argument = argument
        self.submitted = time.perf_counter()
        self._once = threading.Lock()  # taken, and never given back, by the one that settles it
        self._callbacks: list[Callable[[Job], object]] = []
        self._result: JobResult | None = None
        self._error: BaseException | None = None
        self._done = False

    @property
    def n_pairs(self) -> int:
        return len(self.passages)

    @property
    def done(self) -> bool:
        """Whether it has its result or its error, or was cancelled."""
        return self._done

    @property
    def cancelled(self) -> bool:
        return type(self._error) is CancelledError

    @property
    def error(self) -> BaseException | None:
        """What it failed with, once it is done and unless it was cancelled."""
        return None if self.cancelled else self._error

    def finish(self, result: JobResult) -> None:
        """Bring the result, unless it is done. Runs callbacks: hold no lock while calling."""
        self._settle(result, None)

    def fail(self, error: BaseException) -> None:
        """Bring an error, unless it is done. Runs callbacks: hold no lock while calling."""
        self._settle(None, error)

    def cancel(self) -> bool:
        """Give it up, and return whether it is given up; a result that is there stays."""
        self._settle(None, CancelledError())
        return self.cancelled

    def result(self, timeout_s: float | None = None) -> JobResult:
        """Wait for the result, or raise the error, `CancelledError`, or `TimeoutError`."""
        if not self._done:
            ended: queue.SimpleQueue[object] = queue.SimpleQueue()
            self.add_done_callback(ended.put)
            try:
                ended.get(timeout=timeout_s)
            except queue.Empty:
                raise TimeoutError from None
        error = self._error
        try:
            if error is not None:
                raise error
            return self._result  # type: ignore[return-value]
        finally:
            del self, error  # which the error would hold, through its traceback and this frame

    def add_done_callback(self, callback: Callable[[Job], object]) -> None:
        """Call ``callback`` with this job when it is done, in the thread that ends it."""
        self._callbacks.append(callback)
        if self._done:
            self._run_callbacks()

    def not_finite(self, pair: int, logit: float) -> NonFiniteScoreError:
        """Return the error for a pair, which it names by its index in the caller's argument."""
        index = pair if self.indices is None else self.indices[pair]
        return NonFiniteScoreError(
            f"the model returned {logit} for {self.argument}[{index}], the passage "
            f"{self.passages[pair][:80]!r}; check the model's weights, or use dtype='float32'"
        )

    def _settle(self, result: JobResult | None, error: BaseException | None) -> None:
        if not self._once.acquire(blocking=False):
            return
        self._result, self._error = result, error
        self._done = True
        self._run_callbacks()

    def _run_callbacks(self) -> None:
        # Two threads may get here at once; each callback is taken out by one of them.
        while self._callbacks:
            try:
                callback = self._callbacks.pop(0)
            except IndexError:
                return
            callback(self)


class Waiting:
    """How far a job is. The schedule owns it, and its fields are under the queue's lock.

    Scores are under a lock of their own, because several workers may bring some at once.
    """

    __slots__ = (
        "_lock",
        "_n_unscored",
        "_result",
        "job",
        "n_tokenised",
        "n_tokens",
        "queue_s",
        "tokenising",
        "virtual_start",
    )

    def __init__(self, job: Job, virtual_start: float) -> None:
        self.job = job
        self.virtual_start = virtual_start  # fair queuing: when its next pairs may start
        self.n_tokenised = 0  # pairs
        self.n_tokens = 0  # that they have
        self.queue_s = 0.0  # until the first work on the job
        self.tokenising = False  # a worker tokenises its next pairs
        self._n_unscored = 0  # sequences that were tokenised and have no score yet
        self._result: JobResult | None = None  # made with the first of them
        self._lock = threading.Lock()

    @property
    def n_left(self) -> int:
        """Pairs that are not tokenised yet."""
        return self.job.n_pairs - self.n_tokenised

    def tokenised(self, truncated: BoolArray, n_sequences: int, n_tokens: int) -> None:
        """Note that the next pairs, of which ``truncated`` (n_pairs,) are, became sequences."""
        n_pairs = len(truncated)
        with self._lock:
            if self._result is None:
                self._result = JobResult.empty(self.job.n_pairs)
            self._result.truncated[self.n_tokenised : self.n_tokenised + n_pairs] = truncated
            self.n_tokenised += n_pairs
            self.n_tokens += n_tokens
            self._n_unscored += n_sequences

    def deliver(self, pair_index: Int64Array, starts: Int64Array, logits: FloatArray) -> None:
        """Enter the logits of some sequences; the last of the job's finish it.

        All arguments are (n_sequences,): the sequence's pair, its first passage token, its logit.
        """
        job, result = self.job, self._result
        assert result is not None  # sequences are of pairs that were tokenised
        finite = np.isfinite(logits)
        if not finite.all():
            first = int(np.argmin(finite))
            job.fail(job.not_finite(int(pair_index[first]), float(logits[first])))
            return
        with self._lock:
            if job.windows:
                _keep_best(result, pair_index, starts, logits)
            else:  # one sequence a pair, from its start
                result.logits[pair_index] = logits
            self._n_unscored -= len(logits)
            finished = self._n_unscored == 0 and self.n_left == 0
        if finished:
            job.finish(replace(result, n_tokens=self.n_tokens, queue_s=self.queue_s))


def _keep_best(
    result: JobResult, pair_index: Int64Array, starts: Int64Array, logits: FloatArray
) -> None:
    """Enter the windows (n_windows,) that beat what their pairs have."""
    best, best_starts = result.logits, result.window_starts
    # Ascending, so that of the windows of one pair the best is written last; of equal ones the
    # earliest in the passage, whatever batch it came in.
    order = np.lexsort((-starts, logits))
    ahead = logits[order] - best[pair_index[order]]
    earlier = starts[order] < best_starts[pair_index[order]]
    winners = order[(ahead > 0) | ((ahead == 0) & earlier)]
    best[pair_index[winners]] = logits[winners]
    best_starts[pair_index[winners]] = starts[winners]
