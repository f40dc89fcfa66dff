"""The packed forward pass with Triton kernels in place of the plain operations.

Each operation is one kernel where the model's sizes suit the kernel, and the plain one where they
do not. Every kernel keeps within the 99 KiB of shared memory that compute capabilities 8.6 and 8.9
have (8.0 and 9.0 have more), and in the shapes of the published models none spills more than four
registers on 8.6 or 9.0: the tests ask the compiler. No timing has chosen among the block sizes.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from rerank_plugins.cross_encoder.forward.bert import LayerNorm, Linear
from rerank_plugins.cross_encoder.forward.packed import (
    PackedBatch,
    PackedForward,
    PackedLayer,
    PackedWeights,
)
from rerank_plugins.cross_encoder.forward.triton import attention_kernels, kernels

# The widest rows that a program can hold in registers, in float32.
MAX_ROW_WIDTH = 512
MAX_STATE_WIDTH = 1_024
MAX_HEAD_WIDTH = 128
# Each program of a product with its norm reads the whole weight from the L2 cache, for 32 or 64
# rows: 32 or 64 FLOP a byte. Up to half a megabyte (hidden 384 squared, or the feed-forward of
# hidden 256) that costs less than the trips through memory that it saves; above, by the same
# count, cuBLAS with its larger blocks is ahead.
MAX_WEIGHT = 2**18

# What a program holds that only moves and norms rows: 32 float32 a thread, of 4 warps.
_ELEMENTS = 4_096
_LOG2_E = math.log2(math.e)


def unsupported(device: torch.device, dtype: torch.dtype) -> str | None:
    """Return why the kernels cannot serve this device and dtype, or None."""
    if not kernels.INSTALLED:
        return "Triton is not installed: pip install triton"
    if device.type != "cuda" or torch.version.hip is not None:
        return f"the kernels are for CUDA, not for {device}"
    if torch.cuda.get_device_capability(device) < (8, 0):
        return f"{torch.cuda.get_device_name(device)} is older than compute capability 8.0"
    if dtype not in (torch.float16, torch.bfloat16):
        return f"the kernels are for float16 and bfloat16: cuBLAS is the faster one in {dtype}"
    return None


class FusedForward(PackedForward):
    """`PackedForward` in fewer launches, with fewer trips through memory.

    ``max_weight`` is the most elements of a weight that a program of a fused product reads.
    """

    pads = False

    def __init__(self, weights: PackedWeights, *, max_weight: int = MAX_WEIGHT) -> None:
        super().__init__(weights)
        self._max_weight = max_weight

    def embed(self, batch: PackedBatch) -> Tensor:
        embeddings = self.weights.embeddings
        width = embeddings.token.shape[1]
        columns = _block(width)
        rows = max(1, _ELEMENTS // columns)
        out = embeddings.token.new_empty(batch.n_tokens, width)
        _launch(kernels.embed_kernel, batch.n_pairs, _blocks(batch.max_length, rows))(
            out,
            batch.ids,
            batch.type_ids,
            batch.offsets,
            embeddings.token,
            embeddings.position,
            embeddings.token if embeddings.type is None else embeddings.type,
            embeddings.norm.weight,
            embeddings.norm.bias,
            embeddings.norm.eps,
            width=width,
            has_types=embeddings.type is not None,
            ROWS=rows,
            WIDTH=columns,
        )
        return out if embeddings.projection is None else embeddings.projection(out)

    def attention(self, query_key_value: Tensor, batch: PackedBatch) -> Tensor:
        n_heads = self.weights.n_heads
        hidden = query_key_value.shape[1] // 3
        width = hidden // n_heads
        if width > MAX_HEAD_WIDTH:
            return super().attention(query_key_value, batch)
        rows = 64  # one warp group's least on sm_90, and a typical pair is two blocks
        out = query_key_value.new_empty(batch.n_tokens, hidden)
        blocks = _blocks(batch.max_length, rows)
        _launch(attention_kernels.attention_kernel, batch.n_pairs * n_heads, blocks)(
            out,
            query_key_value,
            batch.offsets,
            _LOG2_E / math.sqrt(width),
            n_heads=n_heads,
            width=width,
            ROWS=rows,
            KEYS=64,
            WIDTH=_block(width),
            num_warps=4,
        )
        return out

    def cls_attention(self, query: Tensor, hidden: Tensor, batch: PackedBatch) -> Tensor:
        n_heads, width = self.weights.n_heads, hidden.shape[1]
        if width > MAX_STATE_WIDTH:
            return super().cls_attention(query, hidden, batch)
        columns = _block(width)
        out = torch.empty_like(query)
        _launch(attention_kernels.cls_attention_kernel, batch.n_pairs)(
            out,
            query,
            hidden,
            batch.offsets,
            _LOG2_E,
            n_heads=n_heads,
            width=width,
            HEADS=_block(n_heads),
            KEYS=max(16, min(64, 16_384 // columns)),  # 32 KiB of states in 16 bits
            WIDTH=columns,
            num_warps=4 if columns < 512 else 8,
        )
        return out

    def linear_norm(
        self, inputs: Tensor, linear: Linear, residual: Tensor, norm: LayerNorm
    ) -> Tensor:
        width, depth = linear.weight.shape
        columns = _block(width)
        if width > MAX_ROW_WIDTH or width * depth > self._max_weight:
            return self._add_norm(linear(inputs), residual, norm)
        # wgmma of sm_90 wants 64 rows; with 512 columns that many would spill.
        rows = 64 if columns <= 256 else 32
        out = torch.empty_like(residual)
        _launch(kernels.linear_norm_kernel, _blocks(len(inputs), rows))(
            out,
            inputs,
            linear.weight,
            linear.bias,
            residual,
            norm.weight,
            norm.bias,
            norm.eps,
            len(inputs),
            depth=depth,
            width=width,
            ROWS=rows,
            DEPTH=min(32, _block(depth)),
            WIDTH=columns,
            num_warps=4 if columns <= 128 else 8,
            num_stages=3,
        )
        return out

    def feed_forward(self, hidden: Tensor, layer: PackedLayer) -> Tensor:
        inner, width = layer.feed_forward.weight.shape
        columns = _block(width)
        if width > MAX_ROW_WIDTH or inner * width > self._max_weight:
            return super().feed_forward(hidden, layer)
        rows = 64 if columns <= 256 else 32
        out = torch.empty_like(hidden)
        _launch(kernels.feed_forward_kernel, _blocks(len(hidden), rows))(
            out,
            hidden,
            layer.feed_forward.weight,
            layer.feed_forward.bias,
            layer.feed_forward_output.weight,
            layer.feed_forward_output.bias,
            layer.feed_forward_norm.weight,
            layer.feed_forward_norm.bias,
            layer.feed_forward_norm.eps,
            len(hidden),
            width=width,
            inner=inner,
            activation=self.weights.activation,
            ROWS=rows,
            INNER=32,
            WIDTH=columns,
            num_warps=4 if columns <= 128 else 8,
            num_stages=3 if columns <= 128 else 2,
        )
        return out

    def _add_norm(self, inputs: Tensor, residual: Tensor, norm: LayerNorm) -> Tensor:
        width = residual.shape[1]
        columns = _block(width)
        rows = max(1, _ELEMENTS // columns)
        out = torch.empty_like(residual)
        _launch(kernels.add_norm_kernel, _blocks(len(inputs), rows))(
            out,
            inputs,
            residual,
            norm.weight,
            norm.bias,
            norm.eps,
            len(inputs),
            width=width,
            ROWS=rows,
            WIDTH=columns,
        )
        return out


def _launch(kernel: Any, *grid: int) -> Callable[..., object]:
    """Return what runs ``kernel`` on a grid of programs.

    A product and its sum are one operation, rounded once. Said here, because the default of Triton
    3.9 comes with a warning, and that of 3.10 will be another.
    """
    return functools.partial(kernel[grid], enable_fp_fusion=True)


def _block(size: int) -> int:
    """Return the power of two that holds ``size``; products need 16 at least."""
    return max(16, 1 << (size - 1).bit_length())


def _blocks(size: int, block: int) -> int:
    return -(-size // block)
