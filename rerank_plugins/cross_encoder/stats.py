"""What a scorer has done so far."""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(slots=True)
class Counters:
    """The running totals; changed under the queue's lock."""

    calls: int = 0
    pairs: int = 0
    tokens: int = 0
    padding_tokens: int = 0
    batches: int = 0
    truncated: int = 0
    queue_wait_s: float = 0.0
    tokenise_s: float = 0.0
    forward_s: float = 0.0
    cache_hits: int = 0
    out_of_memory_retries: int = 0

    def snapshot(self, *, queued_pairs: int, max_batch_tokens: int) -> Stats:
        return Stats(**asdict(self), queued_pairs=queued_pairs, max_batch_tokens=max_batch_tokens)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """A snapshot of a scorer's totals since it was made.

    Times are in seconds and add up over all worker threads. ``truncated`` counts pairs that lost
    tokens; ``cache_hits`` pairs that were answered without the model; ``queue_wait_s`` is the
    time from a call to the first work on it. ``queued_pairs`` and ``max_batch_tokens`` are of
    the moment: the latter falls when a batch ran out of memory.
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
    cache_hits: int
    out_of_memory_retries: int
    queued_pairs: int
    max_batch_tokens: int

    @property
    def padding_share(self) -> float:
        """The part of all tokens that went through the model which was padding, 0 to 1."""
        total = self.tokens + self.padding_tokens
        return self.padding_tokens / total if total else 0.0
