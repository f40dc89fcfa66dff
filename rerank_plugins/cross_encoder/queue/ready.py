"""A batch that is ready to run: what one forward pass reads, and whose it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from rerank_plugins.cross_encoder.batches import PackedPairs
from rerank_plugins.cross_encoder.checkpoint.head_rule import FloatArray
from rerank_plugins.cross_encoder.queue.jobs import Job


@dataclass(slots=True, order=True)
class Batch:
    """Rows of one or several jobs. Orders by virtual time, then by age.

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
        if len(self.jobs) == 1:
            self.jobs[0].take(self.pair_index, self.starts, decisions)
            return
        for place in np.unique(self.owner):
            job = self.jobs[place]
            if not job.done:
                mine = self.owner == place
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
