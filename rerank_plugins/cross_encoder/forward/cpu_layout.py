"""Where the tokens of packed pairs stand among the rows of a CPU's hidden states."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from rerank_plugins.cross_encoder.pairs import Int64Array, PackedPairs


@dataclass(frozen=True, slots=True)
class LengthBlock:
    """Neighbouring pairs of nearly one length: ``stride`` rows each, from row ``start`` on.

    Attention reads ``width`` rows a pair, a multiple of 16, because its kernel takes up to 1.5
    times as long on the widths between. The rows after ``stride`` are the next pair's; ``bias``
    (n_pairs or 1, 1, 1, width) masks them, so that nothing is moved or copied.
    """

    start: int
    n_pairs: int
    stride: int
    width: int
    bias: Tensor

    @classmethod
    def of(cls, start: int, lengths: list[int]) -> LengthBlock:
        stride = lengths[0]
        width = -(-stride // 16) * 16
        bias = _mask(lengths, width) if lengths[-1] < stride else _mask_of_equals(stride, width)
        return cls(start, len(lengths), stride, width, bias)

    @property
    def stop(self) -> int:
        return self.start + self.n_pairs * self.stride

    def view(self, rows: Tensor, positions: int, heads: int, size: int, first: int = 0) -> Tensor:
        """View ``heads * size`` columns of ``rows``, from ``first`` on, as attention takes them.

        (n_rows, columns) -> (n_pairs, heads, positions, size), where pairs overlap if
        ``positions`` is more than the stride.
        """
        columns = rows.shape[1]
        return rows.as_strided(
            (self.n_pairs, heads, positions, size),
            (self.stride * columns, size, columns, 1),
            self.start * columns + first,
        )


@dataclass(frozen=True, slots=True)
class RowLayout:
    """Which row of a hidden state (n_rows, hidden) holds which token.

    Pairs stand end to end. The few rows without a token, between the pairs of a block and at
    the end, hold something finite that no token sees. ``positions`` (n_tokens,) is each token's
    within its pair, ``token_rows`` (n_tokens,) its row, ``cls_rows`` (n_pairs,), int64, that of
    each pair's ``[CLS]``.
    """

    n_rows: int
    positions: Int64Array
    token_rows: Int64Array
    cls_rows: Tensor
    blocks: list[LengthBlock]

    @classmethod
    def of(cls, pairs: PackedPairs) -> RowLayout:
        blocks: list[LengthBlock] = []
        cls_rows: list[int] = []
        row = 0
        for lengths in _neighbours(pairs.lengths.tolist()):
            block = LengthBlock.of(row, lengths)
            blocks.append(block)
            cls_rows += range(row, block.stop, block.stride)
            row = block.stop
        tokens = np.arange(pairs.n_tokens)
        starts = np.cumsum(pairs.lengths) - pairs.lengths
        positions = tokens - np.repeat(starts, pairs.lengths)
        token_rows = tokens
        if row > pairs.n_tokens:
            token_rows = positions + np.repeat(cls_rows, pairs.lengths)
        # A block's last view reaches up to 15 rows beyond its own.
        n_rows = max(block.stop - block.stride + block.width for block in blocks)
        return cls(_rounded(n_rows), positions, token_rows, torch.tensor(cls_rows), blocks)


def _mask(lengths: Sequence[int], width: int) -> Tensor:
    """Return what attention adds, float32 (n_pairs, 1, 1, width): 0 for tokens, -inf after."""
    outside = torch.arange(width) >= torch.tensor(lengths)[:, None]
    bias = torch.zeros(outside.shape, dtype=torch.float32).masked_fill_(outside, -torch.inf)
    return bias[:, None, None]


@functools.lru_cache(maxsize=512)
def _mask_of_equals(length: int, width: int) -> Tensor:
    # Of every call for one passage, and of most for a few: made once. Under inference_mode a
    # tensor that is remembered would stay an inference tensor, which reads the same.
    return _mask([length], width)


def _neighbours(lengths: list[int]) -> Iterator[list[int]]:
    """Cut descending ``lengths`` into runs, each to be brought to the length of its first.

    A run may waste 3% of its rows, and 16 more: one call of attention costs as much.

    >>> list(_neighbours([90, 90, 88, 60, 59, 1]))
    [[90, 90, 88], [60, 59], [1]]
    """
    first = rows = waste = 0
    for index, length in enumerate(lengths):
        rows += lengths[first]
        waste += lengths[first] - length
        if waste > 16 + 0.03 * rows:
            yield lengths[first:index]
            first, rows, waste = index, length, 0
    yield lengths[first:]


def _rounded(n_rows: int) -> int:
    """Round up to one of 16 sizes an octave, a multiple of 16.

    oneDNN builds and compiles a kernel for each shape it has not seen, at 0.5 to 10 ms: more
    than the product itself. Few distinct shapes are worth a few rows of padding.
    """
    step = max(16, 1 << max(0, n_rows.bit_length() - 5))
    return -(-n_rows // step) * step
