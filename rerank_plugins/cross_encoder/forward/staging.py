"""From `PackedPairs` on the host to one int32 array, and from that array to a `PackedBatch`.

One array means one host-to-device copy a batch. Its sections are offsets, ids and type ids.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from rerank_plugins.cross_encoder.forward.packed import PackedBatch
from rerank_plugins.cross_encoder.pairs import PackedPairs, TokenIds


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchShape:
    """The sizes that decide which memory a batch takes and which kernels run.

    >>> BatchShape(n_tokens=650, n_pairs=5, max_length=140).rounded(max_positions=512)
    BatchShape(n_tokens=768, n_pairs=8, max_length=256)
    """

    n_tokens: int
    n_pairs: int
    max_length: int

    @classmethod
    def of(cls, pairs: PackedPairs) -> BatchShape:
        return cls(n_tokens=pairs.n_tokens, n_pairs=pairs.n_pairs, max_length=pairs.max_length)

    def rounded(self, *, max_positions: int) -> BatchShape:
        """Return the shape of the CUDA graph that takes this one, so that few graphs serve all.

        Tokens go up to 2^n or 1.5 * 2^n (each costs a row of every product), pairs and lengths to
        2^n (an empty pair and an empty block cost next to nothing).
        """
        tokens = _power_of_two(max(self.n_tokens, 64))
        return BatchShape(
            n_tokens=tokens * 3 // 4 if self.n_tokens <= tokens * 3 // 4 else tokens,
            n_pairs=_power_of_two(self.n_pairs),
            max_length=min(_power_of_two(max(self.max_length, 32)), max_positions),
        )

    @property
    def n_padded(self) -> int:
        """How many tokens there are when every pair is padded for attention."""
        return self.n_pairs * self.max_length

    @property
    def size(self) -> int:
        """How many int32 the array has."""
        return self._types + self.n_tokens

    @property
    def _ids(self) -> int:
        return self.n_pairs + 1

    @property
    def _types(self) -> int:
        return self._ids + self.n_tokens

    def write(self, pairs: PackedPairs, array: TokenIds) -> None:
        """Fill ``array`` (size,) with pairs of at most this shape; the rest is empty pairs."""
        n_pairs, n_tokens = pairs.n_pairs, pairs.n_tokens
        array[0] = 0
        np.cumsum(pairs.lengths, out=array[1 : n_pairs + 1])
        array[n_pairs + 1 : self._ids] = n_tokens
        for start, values in ((self._ids, pairs.ids), (self._types, pairs.type_ids)):
            array[start : start + n_tokens] = values
            # Id 0 exists in every vocabulary; what an unused buffer holds may not.
            array[start + n_tokens : start + self.n_tokens] = 0

    def host(self, pairs: PackedPairs, *, pinned: bool) -> Tensor:
        """Return the array (size,) of ``pairs``, in memory that the device can copy from.

        PyTorch lends pinned memory again only after the copies that read it have finished, so a
        buffer may be dropped while its copy is under way.
        """
        host = torch.empty(self.size, dtype=torch.int32, pin_memory=pinned)
        self.write(pairs, host.numpy())
        return host

    def batch(self, array: Tensor) -> PackedBatch:
        """Return views of ``array`` (size,), on whichever device it is."""
        return PackedBatch(
            offsets=array[: self.n_pairs + 1],
            ids=array[self._ids : self._ids + self.n_tokens],
            type_ids=array[self._types : self._types + self.n_tokens],
            max_length=self.max_length,
        )


def even_lengths(pairs: PackedPairs) -> list[PackedPairs]:
    """Cut pairs, longest first, where the lengths have halved, if padding would double the tokens.

    >>> ones = np.ones(100, np.int32)
    >>> pairs = PackedPairs(ones, ones, np.array([80, 9, 8, 3], np.int32))
    >>> [part.lengths.tolist() for part in even_lengths(pairs)]
    [[80], [9, 8, 3]]
    """
    if pairs.n_pairs * pairs.max_length <= 2 * pairs.n_tokens:
        return [pairs]
    n_long = int((2 * pairs.lengths > pairs.max_length).sum())
    cut = int(pairs.lengths[:n_long].sum())
    rest = PackedPairs(pairs.ids[cut:], pairs.type_ids[cut:], pairs.lengths[n_long:])
    first = PackedPairs(pairs.ids[:cut], pairs.type_ids[:cut], pairs.lengths[:n_long])
    return [first, *even_lengths(rest)]


def _power_of_two(count: int) -> int:
    return 1 << max(0, count - 1).bit_length()
