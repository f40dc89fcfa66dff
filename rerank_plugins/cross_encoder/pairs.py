"""Pairs end to end, as a forward pass reads them, and the types of arrays. No torch."""

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
