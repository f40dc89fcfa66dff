"""What a scorer has done so far."""

from __future__ import annotations

import threading
from dataclasses import dataclass, fields
from typing import Any


class Counters:
    """The totals of a `Stats` that the workers add to.

    Only they take the lock: a signal handler may interrupt a caller, and then waits for a worker.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._totals: dict[str, Any] = {name: 0.0 if name.endswith("_s") else 0 for name in _TOTALS}

    def add(self, **amounts: float) -> None:
        """Add to the totals named."""
        with self._lock:
            for name, amount in amounts.items():
                self._totals[name] += amount

    def snapshot(self, **others: Any) -> Stats:
        """Return the totals so far, and the ``others``, which the queue counts."""
        return Stats(**self._totals.copy(), **others)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """A snapshot of a scorer's totals since it was made.

    Times are in seconds and add up over all worker threads. ``pairs`` counts the distinct ones of
    each call; ``truncated`` those that lost tokens; ``queue_wait_s`` is the time from a call to
    the first work on it. ``queued_pairs`` and ``max_batch_tokens`` are of the moment: the latter
    falls when a batch ran out of memory. ``forward`` says what computes the forward pass, PyTorch
    or the compiled one, and why. A forked child starts at zero.
    """

    calls: int
    pairs: int
    tokens: int
    padding_tokens: int
    batches: int
    truncated: int
    queue_wait_s: float
    tokenise_s: float
    forward_s: float
    out_of_memory_retries: int
    queued_pairs: int
    max_batch_tokens: int
    forward: str = "PyTorch"

    @property
    def padding_share(self) -> float:
        """The part of all tokens that went through the model which was padding, 0 to 1."""
        total = self.tokens + self.padding_tokens
        return self.padding_tokens / total if total else 0.0


_OF_THE_QUEUE = ("calls", "pairs", "queued_pairs", "max_batch_tokens", "forward")
_TOTALS = [field.name for field in fields(Stats) if field.name not in _OF_THE_QUEUE]
