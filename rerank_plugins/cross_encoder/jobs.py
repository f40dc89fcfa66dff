"""One caller's pairs on their way through the queue."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from rerank_plugins.cross_encoder.batches import PackedPairs
from rerank_plugins.cross_encoder.head_rule import FloatArray
from rerank_plugins.cross_encoder.pairs import Rows
from rerank_plugins.errors import NonFiniteScoreError


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a job's future holds, one value a pair: decisions, truncation, the best window's start."""

    decisions: FloatArray
    truncated: npt.NDArray[np.bool_]
    window_starts: npt.NDArray[np.int64]


class Job:
    """The pairs of one call, how far they are, and the future its caller waits on.

    The queue changes a job only under its own lock; a caller only waits, or cancels the future.
    """

    def __init__(
        self,
        queries: Sequence[str],
        passages: Sequence[str],
        *,
        max_length: int,
        windows: bool,
    ) -> None:
        self.queries = queries
        self.passages = passages
        self.max_length = max_length
        self.windows = windows
        self.future: Future[Outcome] = Future()
        self.submitted = time.perf_counter()
        self.admitted = False  # counts against the queue's bound
        self.n_planned = 0  # pairs that have been tokenised
        self.n_waiting_rows = 0  # rows tokenised, not yet scored
        self.tag = 0.0  # fair queuing: the virtual time at which its next slice may start
        n_pairs = len(passages)
        self._decisions = np.full(n_pairs, -np.inf)
        self._truncated = np.zeros(n_pairs, np.bool_)
        self._window_starts = np.zeros(n_pairs, np.int64)

    @property
    def n_pairs(self) -> int:
        return len(self.passages)

    @property
    def n_unplanned(self) -> int:
        return self.n_pairs - self.n_planned

    @property
    def done(self) -> bool:
        return self.future.done()

    def planned(self, rows: Rows, count: int) -> None:
        """Take note that the next ``count`` pairs became ``rows`` (pair_index already absolute)."""
        self._truncated[self.n_planned : self.n_planned + count] = rows.truncated
        self.n_planned += count
        self.n_waiting_rows += len(rows.tails)

    def take(
        self,
        pair_index: npt.NDArray[np.int64],
        starts: npt.NDArray[np.int64],
        decisions: FloatArray,
    ) -> None:
        """Enter the decisions of some rows; the best row of a pair wins. The last one finishes."""
        broken = np.flatnonzero(~np.isfinite(decisions))
        if broken.size:
            index = int(pair_index[broken[0]])
            self.fail(
                NonFiniteScoreError(
                    f"the model returned {decisions[broken[0]]} for passages[{index}]: "
                    f"{self.passages[index][:80]!r}; check the model's weights, or use "
                    "dtype='float32'"
                )
            )
            return
        # Ascending, so that of two rows of one pair in this batch the better is written last.
        order = np.argsort(decisions, kind="stable")
        better = order[decisions[order] > self._decisions[pair_index[order]]]
        winners = pair_index[better]
        self._decisions[winners] = decisions[better]
        self._window_starts[winners] = starts[better]
        self.n_waiting_rows -= len(decisions)
        if self.n_waiting_rows == 0 and self.n_unplanned == 0:
            self.finish()

    def finish(self) -> None:
        _settle(self.future, Outcome(self._decisions, self._truncated, self._window_starts))

    def fail(self, error: BaseException) -> None:
        _settle(self.future, error)


def _settle(future: Future[Outcome], outcome: Outcome | BaseException) -> None:
    try:
        if isinstance(outcome, BaseException):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)
    except InvalidStateError:
        pass  # the caller cancelled between our look and this line; nobody waits any more


@dataclass(slots=True, order=True)
class Batch:
    """What one forward pass reads, and whose it is. Orders by virtual time, then by age.

    ``owner[i]`` is the place in ``jobs`` of row i's job, ``pair_index[i]`` its pair there.
    """

    tag: float
    number: int
    pairs: PackedPairs = field(compare=False)
    jobs: Sequence[Job] = field(compare=False)
    owner: npt.NDArray[np.int64] = field(compare=False)
    pair_index: npt.NDArray[np.int64] = field(compare=False)
    starts: npt.NDArray[np.int64] = field(compare=False)

    def deliver(self, decisions: FloatArray) -> None:
        """Hand each row's decision (n_pairs,) to its job, unless that is done already."""
        for place, job in enumerate(self.jobs):
            mine = self.owner == place
            if mine.any() and not job.done:
                job.take(self.pair_index[mine], self.starts[mine], decisions[mine])

    def fail(self, error: BaseException) -> None:
        for job in self.waiting_jobs():
            job.fail(error)

    def waiting_jobs(self) -> list[Job]:
        """Return the jobs that still wait for a row of this batch."""
        return [self.jobs[place] for place in np.unique(self.owner) if not self.jobs[place].done]

    def without_done(self) -> Batch:
        """Return the batch without the rows of finished or cancelled jobs."""
        done = np.array([job.done for job in self.jobs])
        return self.select(np.flatnonzero(~done[self.owner])) if done.any() else self

    def of(self, job: Job) -> Batch:
        """Return the rows of one job."""
        return self.select(np.flatnonzero(self.owner == self.jobs.index(job)))

    def halves(self) -> tuple[Batch, Batch]:
        """Return the first and the second half of the rows."""
        middle = self.pairs.n_pairs // 2
        return (
            self.select(np.arange(middle)),
            self.select(np.arange(middle, self.pairs.n_pairs)),
        )

    def select(self, rows: npt.NDArray[np.int64]) -> Batch:
        """Return only these rows, in ascending order."""
        return Batch(
            self.tag,
            self.number,
            self.pairs.select(rows),
            self.jobs,
            self.owner[rows],
            self.pair_index[rows],
            self.starts[rows],
        )
