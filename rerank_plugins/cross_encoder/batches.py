"""Lengths in, batches inside a token budget out. Integers only; no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class PackedPairs:
    """Pairs end to end, without padding: what one forward pass reads.

    ``ids`` and ``type_ids`` have one value a token (n_tokens,), ``lengths`` one a pair
    (n_pairs,), longest first.
    """

    ids: IntArray
    type_ids: IntArray
    lengths: IntArray

    @property
    def n_pairs(self) -> int:
        return len(self.lengths)

    @property
    def n_tokens(self) -> int:
        return len(self.ids)

    @property
    def max_length(self) -> int:
        return int(self.lengths[0]) if len(self.lengths) else 0


def token_batches(lengths: Sequence[int], *, max_batch_tokens: int) -> list[list[int]]:
    """Return lists of indices, longest first, each within ``max_batch_tokens`` when padded.

    A pair longer than the budget is a batch of its own. Longest pairs come first, so an
    out-of-memory error comes first too.

    >>> token_batches([3, 9, 4, 8], max_batch_tokens=18)
    [[1, 3], [2, 0]]
    """
    order = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    batches: list[list[int]] = []
    room = 0
    for index in order:
        if room == 0:
            batches.append([])
            room = max(1, max_batch_tokens // max(1, lengths[index]))
        batches[-1].append(index)
        room -= 1
    return batches
