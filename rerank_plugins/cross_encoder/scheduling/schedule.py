"""What a worker does next: plan slices of waiting jobs, or run a batch. No threads, no locks.

Start-time fair queuing over tokens: every batch carries the virtual time at which its job
deserved to start, and the earliest runs next. Virtual time goes on with the tokens served, shared
among the open calls. So a new small call overtakes the later batches of a bulk call, and a stream
of small calls never starves a bulk call.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence

from rerank_plugins.cross_encoder.scheduling.jobs import Job
from rerank_plugins.cross_encoder.scheduling.plan import Plan, Planner, Slice
from rerank_plugins.cross_encoder.scheduling.ready import Batch

# A call of more batches a worker than this is large. Small ones are planned when the last batches
# run, and no earlier: those that have come by then fill each other's batches.
LARGE_CALL = 2


class Schedule:
    """The jobs with pairs still to be tokenised, and the batches that are ready."""

    def __init__(self, planner: Planner) -> None:
        self._planner = planner
        self._jobs: dict[Job, None] = {}
        self._ready: list[Batch] = []  # a heap
        self._n_planning = 0
        self._planned_last = False
        self._now = 0.0  # virtual time, in tokens

    def add(self, job: Job) -> None:
        """Take a new job, which starts now."""
        job.tag = self._now
        self._jobs[job] = None

    def remove(self, job: Job) -> None:
        """Forget a job; what it has in batches is left out when these are run."""
        self._jobs.pop(job, None)

    def push(self, batches: Iterable[Batch]) -> None:
        for batch in batches:
            heapq.heappush(self._ready, batch)

    def clear(self) -> set[Job]:
        """Forget everything, and return the jobs that were waiting."""
        waiting = {job for batch in self._ready for job in batch.waiting_jobs()} | set(self._jobs)
        self._jobs.clear()
        self._ready.clear()
        return waiting

    def next_work(self, *, n_workers: int, n_open: int) -> Batch | list[Slice] | None:
        """Return the slices to plan or the batch to run; None if there is neither.

        ``n_open`` is the number of calls that share the workers.
        """
        if self._must_plan(n_workers):
            return self._next_slices()
        if not self._ready:
            return None
        batch = heapq.heappop(self._ready)
        self._planned_last = False
        # One share more than there are calls: even the only call is then ahead of its share, so
        # that a new one overtakes it.
        self._now = max(self._now, batch.tag) + batch.pairs.n_tokens / (n_open + 1)
        return batch

    def has_work(self, *, n_workers: int) -> bool:
        """Say whether there is work for one worker more."""
        return bool(self._ready) or self._must_plan(n_workers)

    def _must_plan(self, n_workers: int) -> bool:
        free = [job for job in self._jobs if not job.planning]
        if not free:
            return False
        if not self._ready:
            return True
        going_on = any(job.n_planned for job in free)
        if going_on and not self._n_planning and len(self._ready) < n_workers:
            return True  # more of a large call, before the last ready batches are gone
        # At once for a new call, to let it overtake large ones; but never twice without computing.
        return (
            not self._planned_last
            and any(job.n_planned == 0 for job in free)
            and len(self._ready) > LARGE_CALL * n_workers * self._n_ready_calls()
        )

    def _n_ready_calls(self) -> int:
        groups = {id(batch.group): batch.group for batch in self._ready}
        return sum(len(group.jobs) for group in groups.values())

    def _next_slices(self) -> list[Slice]:
        waiting = sorted((job for job in self._jobs if not job.planning), key=lambda job: job.tag)
        slices = self._planner.next_slices(waiting, self._now)
        self._n_planning += 1
        self._planned_last = True
        for piece in slices:
            piece.job.planning = True
        return slices

    def planned(self, slices: Sequence[Slice], plans: Iterable[Plan]) -> None:
        """Take the ``plans`` of ``slices``; those in none of them could not be tokenised."""
        self._n_planning -= 1
        n_tokens: dict[Job, int] = {}
        for plan in plans:
            n_tokens.update((part.job, part.n_tokens) for part in plan.parts)
            self.push(plan.batches)
        for piece in slices:
            job = piece.job
            job.planning = False
            if job in n_tokens:
                # At least 1: a new call goes before the next part of a very long passage.
                job.tag = max(job.tag, self._now) + max(1, n_tokens[job])
            if job not in n_tokens or job.n_unplanned == 0:
                self._jobs.pop(job, None)
