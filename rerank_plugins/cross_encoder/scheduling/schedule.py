"""What a worker does next: tokenise pairs of waiting jobs, or run a batch. No threads, no locks.

Start-time fair queuing over tokens: every batch carries the virtual time at which its job
deserved to start, and the earliest runs next. Virtual time goes on with the tokens served, shared
among the open calls. So a new small call overtakes the later batches of a bulk call, and a stream
of small calls never starves a bulk call.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence

from rerank_plugins.cross_encoder.scheduling.job import Job, Waiting
from rerank_plugins.cross_encoder.scheduling.merge import (
    Batch,
    PairRange,
    Planner,
    TokenisedBatches,
)

# A call of more batches a worker than this is large. Small ones are tokenised when the last
# batches run, and no earlier: those that have come by then fill each other's batches.
LARGE_CALL = 2


class Schedule:
    """The jobs with pairs still to be tokenised, and the batches that are ready."""

    def __init__(self, planner: Planner) -> None:
        self._planner = planner
        self._waiting: dict[Job, Waiting] = {}
        self._ready: list[Batch] = []  # a heap
        self._tokenised_last = False
        self._now = 0.0  # virtual time, in tokens

    def add(self, job: Job) -> None:
        """Take a new job, which starts now."""
        self._waiting[job] = Waiting(job, self._now)

    def remove(self, job: Job) -> None:
        """Forget a job; what it has in batches is left out when these are run."""
        self._waiting.pop(job, None)

    def push(self, batches: Iterable[Batch]) -> None:
        for batch in batches:
            heapq.heappush(self._ready, batch)

    def clear(self) -> set[Job]:
        """Forget everything, and return the jobs that were waiting."""
        jobs = {job for batch in self._ready for job in batch.open_jobs()} | set(self._waiting)
        self._waiting.clear()
        self._ready.clear()
        return jobs

    def next_work(self, *, n_workers: int, n_open: int) -> Batch | list[PairRange] | None:
        """Return the pairs to tokenise or the batch to run; None if there is neither.

        ``n_open`` is the number of calls that share the workers.
        """
        free = self._free()
        if free and self._must_tokenise(free, n_workers):
            return self._next_ranges(free)
        if not self._ready:
            return None
        batch = heapq.heappop(self._ready)
        self._tokenised_last = False
        # One share more than there are calls: even the only call is then ahead of its share, so
        # that a new one overtakes it.
        self._now = max(self._now, batch.virtual_start) + batch.pairs.n_tokens / (n_open + 1)
        return batch

    def has_work(self) -> bool:
        """Say whether there is work for one worker more."""
        return bool(self._ready or self._free())

    def _free(self) -> list[Waiting]:
        """Return the jobs whose next pairs a worker may tokenise."""
        return [waiting for waiting in self._waiting.values() if not waiting.tokenising]

    def _must_tokenise(self, free: Sequence[Waiting], n_workers: int) -> bool:
        if not self._ready:
            return True
        going_on = any(waiting.n_tokenised for waiting in free)
        if going_on and len(free) == len(self._waiting) and len(self._ready) < n_workers:
            return True  # more of a large call, before the last ready batches are gone
        # At once for a new call, to let it overtake large ones; but never twice without computing.
        return (
            not self._tokenised_last
            and any(waiting.n_tokenised == 0 for waiting in free)
            and len(self._ready) > LARGE_CALL * n_workers * self._n_ready_jobs()
        )

    def _n_ready_jobs(self) -> int:
        merged = {id(batch.merged): batch.merged for batch in self._ready}
        return sum(len(each.waiting) for each in merged.values())

    def _next_ranges(self, free: Sequence[Waiting]) -> list[PairRange]:
        in_turn = sorted(free, key=lambda waiting: waiting.virtual_start)
        ranges = self._planner.next_ranges(in_turn, self._now)
        self._tokenised_last = True
        for piece in ranges:
            piece.waiting.tokenising = True
        return ranges

    def tokenised(self, ranges: Sequence[PairRange], results: Iterable[TokenisedBatches]) -> None:
        """Take what became of ``ranges``; those that are in no result could not be tokenised."""
        for piece in ranges:
            piece.waiting.tokenising = False
        ended = {piece.waiting.job for piece in ranges}
        for result in results:
            for tokens in result.ranges:
                waiting = tokens.waiting
                waiting.tokenised(tokens.truncated, tokens.n_sequences, tokens.n_tokens)
                waiting.virtual_start = max(waiting.virtual_start, self._now) + tokens.n_tokens
                if waiting.n_left:
                    ended.discard(waiting.job)
            self.push(result.batches)
        for job in ended:  # tokenised to the end, or not at all
            self._waiting.pop(job, None)
