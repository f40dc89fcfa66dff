"""One caller's pairs on their way through the queue."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from rerank_plugins.cross_encoder.pairs import FloatArray, TokenIds
from rerank_plugins.cross_encoder.scheduling.promise import Promise
from rerank_plugins.errors import NonFiniteScoreError


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a job ends with: decision, truncation and best window's start of each pair."""

    decisions: FloatArray
    truncated: npt.NDArray[np.bool_]
    window_starts: npt.NDArray[np.int64]

    @classmethod
    def empty(cls, n_pairs: int) -> Outcome:
        """Return one whose every decision any other beats."""
        return cls(
            np.full(n_pairs, -np.inf), np.zeros(n_pairs, np.bool_), np.zeros(n_pairs, np.int64)
        )


@dataclass(slots=True)
class Reading:
    """A very long passage of which the first ``n_characters`` have been tokenised."""

    n_characters: int = 0
    ids: list[TokenIds] = field(default_factory=list)


class Job(Promise[Outcome]):
    """The pairs of one call, how far they are, and the outcome that its caller waits for.

    A caller only waits, or cancels the job. ``planning`` and ``tag`` belong to
    the queue, which changes them under its own lock, and ``reading`` to the one worker that plans
    the job; what is scored is under the promise's lock, because several workers may bring scores
    at once.
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
        super().__init__()
        self.queries = queries
        self.passages = passages
        self.max_length = max_length
        self.windows = windows
        self.indices = indices  # of the pairs in the caller's argument; None: 0, 1, 2 ...
        self.argument = argument
        self.submitted = time.perf_counter()
        self.planning = False  # a worker tokenises its next slice
        self.tag = 0.0  # fair queuing: the virtual time at which its next slice may start
        self.n_planned = 0  # pairs that have been tokenised
        self.reading: Reading | None = None  # the next pair's passage, while it is read in parts
        self._n_waiting_rows = 0  # rows tokenised, not yet scored
        self._outcome: Outcome | None = None  # until the first of them are tokenised

    @property
    def n_pairs(self) -> int:
        return len(self.passages)

    @property
    def n_unplanned(self) -> int:
        return self.n_pairs - self.n_planned

    def place(self, index: int) -> int:
        """Return where pair ``index`` stands in the argument that the caller gave."""
        return index if self.indices is None else self.indices[index]

    def planned(self, truncated: npt.NDArray[np.bool_], n_rows: int) -> None:
        """Take note that the next pairs, one a flag of ``truncated``, became ``n_rows`` rows."""
        n_pairs = len(truncated)
        with self._lock:
            if self._outcome is None:
                self._outcome = Outcome.empty(self.n_pairs)
            self._outcome.truncated[self.n_planned : self.n_planned + n_pairs] = truncated
            self.n_planned += n_pairs
            if n_pairs:
                self.reading = None
            self._n_waiting_rows += n_rows

    def take(
        self,
        pair_index: npt.NDArray[np.int64],
        starts: npt.NDArray[np.int64],
        decisions: FloatArray,
    ) -> None:
        """Enter the decisions of some rows; the best row of a pair wins. The last one finishes."""
        finite = np.isfinite(decisions)
        if not finite.all():
            first = int(np.argmin(finite))
            self.fail(self._not_finite(int(pair_index[first]), float(decisions[first])))
            return
        outcome = self._outcome
        assert outcome is not None  # rows are of pairs that were planned
        with self._lock:
            if self.windows:
                _keep_best(outcome, pair_index, starts, decisions)
            else:  # one row a pair, from its start
                outcome.decisions[pair_index] = decisions
            self._n_waiting_rows -= len(decisions)
            finished = self._n_waiting_rows == 0 and self.n_unplanned == 0
        if finished:
            self.finish(outcome)

    def _not_finite(self, index: int, decision: float) -> NonFiniteScoreError:
        return NonFiniteScoreError(
            f"the model returned {decision} for {self.argument}[{self.place(index)}], the passage "
            f"{self.passages[index][:80]!r}; check the model's weights, or use dtype='float32'"
        )


def _keep_best(
    outcome: Outcome,
    pair_index: npt.NDArray[np.int64],
    starts: npt.NDArray[np.int64],
    decisions: FloatArray,
) -> None:
    """Enter the rows that beat what their pairs have."""
    best, best_starts = outcome.decisions, outcome.window_starts
    # Ascending, so that of the rows of one pair the best is written last; of equal ones the
    # earliest in the passage, whatever batch it came in.
    order = np.lexsort((-starts, decisions))
    ahead = decisions[order] - best[pair_index[order]]
    earlier = starts[order] < best_starts[pair_index[order]]
    winners = order[(ahead > 0) | ((ahead == 0) & earlier)]
    best[pair_index[winners]] = decisions[winners]
    best_starts[pair_index[winners]] = starts[winners]
