"""Lengths in, batches inside a token budget out. Integers only; no torch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

TokenIds = npt.NDArray[np.int32]
Int64Array = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class PackedPairs:
    """Pairs end to end, without padding: what one forward pass reads.

    ``ids`` and ``type_ids`` have one value a token (n_tokens,), ``lengths`` one a pair
    (n_pairs,), longest first.
    """

    ids: TokenIds
    type_ids: TokenIds
    lengths: TokenIds

    @property
    def n_pairs(self) -> int:
        return len(self.lengths)

    @property
    def n_tokens(self) -> int:
        return len(self.ids)

    @property
    def max_length(self) -> int:
        return int(self.lengths[0]) if len(self.lengths) else 0

    def equal_lengths(self) -> list[PackedPairs]:
        """Return the pairs in their order, cut into runs of one length each.

        >>> ids = np.arange(8, dtype=np.int32)
        >>> pairs = PackedPairs(ids, ids, np.array([3, 2, 2, 1], np.int32))
        >>> [part.ids.tolist() for part in pairs.equal_lengths()]
        [[0, 1, 2], [3, 4, 5, 6], [7]]
        """
        cuts = np.flatnonzero(np.diff(self.lengths)) + 1
        ends = np.cumsum(self.lengths)[cuts - 1]
        parts = (np.split(self.ids, ends), np.split(self.type_ids, ends))
        return [
            PackedPairs(ids, type_ids, lengths)
            for ids, type_ids, lengths in zip(*parts, np.split(self.lengths, cuts), strict=True)
        ]

    def select(self, indices: Int64Array) -> PackedPairs:
        """Return only the pairs at ``indices`` (n_kept,), in ascending order of these."""
        kept = np.zeros(self.n_pairs, np.bool_)
        kept[indices] = True
        tokens = np.repeat(kept, self.lengths)
        return PackedPairs(self.ids[tokens], self.type_ids[tokens], self.lengths[kept])


# Below this many tokens a second worker costs more in hand-over than it saves in arithmetic.
SMALLEST_SHARE = 256


def even_batches(lengths: Int64Array, *, max_batch_tokens: int, n_workers: int) -> list[Int64Array]:
    """Return arrays of indices, longest first, of about equal numbers of tokens.

    No batch holds more than ``max_batch_tokens``, save one whose single pair is longer. There are
    as many batches as the budget asks for, rounded up so that ``n_workers`` finish together.
    Longest pairs come first, so an out-of-memory error comes first too.

    >>> even_batches(np.array([300, 900, 400, 800]), max_batch_tokens=1800, n_workers=2)
    [array([1]), array([3, 2, 0])]
    """
    n_pairs, n_tokens = len(lengths), int(lengths.sum())
    if n_pairs == 0:
        return []
    n_batches = -(-n_tokens // max_batch_tokens)
    if n_tokens >= n_workers * SMALLEST_SHARE:
        n_batches = -(-n_batches // n_workers) * n_workers
    n_batches = min(n_batches, n_pairs)
    order = np.argsort(-lengths, kind="stable")
    if n_batches == 1:
        return [order]
    # Deal neighbours in length to the same batch: a batch ends where its share of tokens does.
    # The last pair of a batch may pass that mark, so aim low enough for the budget to hold.
    target = n_tokens / n_batches
    batches: list[Int64Array] = []
    start = 0
    ends = np.cumsum(lengths[order])
    while start < n_pairs:
        done = int(ends[start - 1]) if start else 0
        left = n_batches - len(batches)
        share = (n_tokens - done) / left if left > 0 else target
        within = min(max(share, 1.0), float(max_batch_tokens))
        stop = int(np.searchsorted(ends, done + within + 0.5, side="right"))
        stop = max(stop, start + 1)
        batches.append(order[start:stop])
        start = stop
    return batches
