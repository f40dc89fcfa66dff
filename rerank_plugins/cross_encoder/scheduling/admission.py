"""How many pairs may wait in the queue, and the calls that wait for room in it."""

from __future__ import annotations

from collections import deque

from rerank_plugins.cross_encoder.scheduling.jobs import Job
from rerank_plugins.errors import OverloadedError


class Admission:
    """Counts the pairs of the calls let in; others wait in the lobby, in order of arrival.

    No lock: the queue's own guards it.
    """

    def __init__(self, name: str, *, max_queued_pairs: int | None, when_full: str) -> None:
        self.n_queued_pairs = 0
        self.lobby: deque[Job] = deque()
        self._name = name
        self._max_queued_pairs = max_queued_pairs
        self._when_full = when_full

    def check(self, job: Job) -> None:
        """Raise `OverloadedError` where ``job`` finds no room and may not wait for it."""
        if self._when_full == "raise" and self._full_with(job):
            raise OverloadedError(
                f"{self.n_queued_pairs} pairs wait for {self._name}, and {job.n_pairs} more "
                f"would pass max_queued_pairs={self._max_queued_pairs}; retry later, or use "
                "when_full='wait'"
            )

    def enter(self, job: Job) -> bool:
        """Let a job in, or else into the lobby; return whether it is in."""
        if self.lobby or self._full_with(job):
            self.lobby.append(job)
            return False
        self._let_in(job)
        return True

    def leave(self, job: Job) -> list[Job]:
        """Forget a job, and return those of the lobby that come in for it."""
        if job.admitted:
            self.n_queued_pairs -= job.n_pairs
        else:
            self.lobby.remove(job)
        entered = []
        while self.lobby and not self._full_with(self.lobby[0]):
            entered.append(self.lobby.popleft())
            self._let_in(entered[-1])
        return entered

    def _let_in(self, job: Job) -> None:
        job.admitted = True
        self.n_queued_pairs += job.n_pairs

    def _full_with(self, job: Job) -> bool:
        """Say whether ``job`` has to wait; one larger than the bound may go in alone."""
        bound, waiting = self._max_queued_pairs, self.n_queued_pairs
        return bound is not None and waiting > 0 and waiting + job.n_pairs > bound
