"""Batches that are ready to run: what a forward pass reads, whose it is, and where scores go."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from rerank_plugins.cross_encoder.pairs import FloatArray, PackedPairs
from rerank_plugins.cross_encoder.scheduling.jobs import Job

Integers = npt.NDArray[np.int64]


class Group:
    """The rows of jobs that were planned together, in whose batches they are mixed.

    A job has the rows ``bounds[i]`` to ``bounds[i + 1]``, in its own order; ``pair_index`` and
    ``starts`` are theirs. One of several jobs gets its scores when all of its rows have one:
    batches bring a few rows of every job, and to hand over each of these would cost more.
    """

    def __init__(
        self, jobs: Sequence[Job], bounds: Sequence[int], pair_index: Integers, starts: Integers
    ) -> None:
        self.jobs = jobs
        n_rows = np.diff(bounds)
        self.owner = np.repeat(np.arange(len(jobs)), n_rows)
        self._bounds = bounds
        self._pair_index = pair_index
        self._starts = starts
        self._decisions = np.empty(len(starts))
        self._n_left = n_rows  # rows of each job without a score; -1: handed over
        self._lock = threading.Lock()

    def deliver(self, rows: Integers, decisions: FloatArray) -> None:
        """Take the decisions of ``rows``, and hand over what is complete."""
        if len(self.jobs) == 1:
            self.jobs[0].take(self._pair_index[rows], self._starts[rows], decisions)
            return
        with self._lock:
            self._decisions[rows] = decisions
            self._n_left -= np.bincount(self.owner[rows], minlength=len(self.jobs))
            scored = np.flatnonzero(self._n_left == 0)
            self._n_left[scored] = -1
        for place in scored.tolist():
            job, mine = self.jobs[place], slice(*self._bounds[place : place + 2])
            if not job.done:
                job.take(self._pair_index[mine], self._starts[mine], self._decisions[mine])


@dataclass(slots=True, order=True)
class Batch:
    """Some rows of a group. Orders by virtual time, then by age."""

    tag: float
    number: int
    pairs: PackedPairs = field(compare=False)
    group: Group = field(compare=False)
    rows: Integers = field(compare=False)

    def deliver(self, decisions: FloatArray) -> None:
        """Hand over each row's decision (n_pairs,)."""
        self.group.deliver(self.rows, decisions)

    def fail(self, error: BaseException) -> None:
        for job in self.waiting_jobs():
            job.fail(error)

    def waiting_jobs(self) -> list[Job]:
        """Return the jobs that still wait for a row of this batch."""
        jobs = [self.group.jobs[place] for place in np.unique(self._owner)]
        return [job for job in jobs if not job.done]

    def without_done(self) -> Batch:
        """Return the batch without the rows of finished or cancelled jobs."""
        done = np.array([job.done for job in self.group.jobs])
        return self.select(np.flatnonzero(~done[self._owner])) if done.any() else self

    def of(self, job: Job) -> Batch:
        """Return the rows of one job."""
        return self.select(np.flatnonzero(self._owner == self.group.jobs.index(job)))

    def halves(self) -> tuple[Batch, Batch]:
        """Return the first and the second half of the rows."""
        middle = self.pairs.n_pairs // 2
        return (
            self.select(np.arange(middle)),
            self.select(np.arange(middle, self.pairs.n_pairs)),
        )

    def select(self, places: Integers) -> Batch:
        """Return only the rows at these places, in ascending order."""
        pairs = self.pairs.select(places)
        return Batch(self.tag, self.number, pairs, self.group, self.rows[places])

    @property
    def _owner(self) -> Integers:
        return self.group.owner[self.rows]
