"""Triton kernels for attention over pairs that lie end to end: `kernels.py` tells the conventions.

Both walk the keys of one pair block by block with a running maximum and sum (online softmax), in
base 2, since the hardware has only exp2; ``scale`` holds the log2(e) for it.
"""

# ruff: noqa: ANN001, ANN201
# mypy: disable-error-code="no-untyped-def, no-untyped-call"

from __future__ import annotations

from rerank_plugins.cross_encoder.forward.triton.kernels import kernel

try:
    import triton.language as tl
except ImportError:
    tl = None


@kernel()
def softmax_step(scores, best, total):
    """Take in one block of scores (ROWS, KEYS).

    Return its weights under the new maximum, the factor that brings older sums under it, and the
    new maximum and sum (ROWS,).
    """
    above = tl.maximum(best, tl.max(scores, 1))
    shrink = tl.exp2(best - above)
    weights = tl.exp2(scores - above[:, None])
    return weights, shrink, above, total * shrink + tl.sum(weights, 1)


@kernel()
def attention_kernel(
    out,
    query_key_value,
    offsets,
    scale,
    n_heads: tl.constexpr,
    width: tl.constexpr,
    ROWS: tl.constexpr,
    KEYS: tl.constexpr,
    WIDTH: tl.constexpr,
):
    """softmax(query key^T / sqrt(width)) value within each pair.

    query_key_value (n_tokens, 3 * n_heads * width), out (n_tokens, n_heads * width).
    Program (pair * n_heads + head, block of query rows). Each program with rows to work on sees
    at least one key, and every row's first block holds a real key, so no maximum is -inf.
    """
    pair = tl.program_id(0) // n_heads
    head = tl.program_id(0) % n_heads
    start = tl.load(offsets + pair)
    length = tl.load(offsets + pair + 1) - start
    if tl.program_id(1) * ROWS >= length:
        return
    columns = tl.arange(0, WIDTH)
    inside = columns < width
    rows = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    row_mask = (rows < length)[:, None] & inside[None, :]
    # int64 up to the pair's first token; within a pair int32 is enough.
    queries = query_key_value + start.to(tl.int64) * (3 * n_heads * width) + head * width
    states = queries + n_heads * width
    values = states + n_heads * width
    places = rows[:, None] * (3 * n_heads * width) + columns[None, :]
    query = tl.load(queries + places, mask=row_mask, other=0.0)
    best = tl.full((ROWS,), float("-inf"), dtype=tl.float32)
    total = tl.zeros((ROWS,), dtype=tl.float32)
    mixed = tl.zeros((ROWS, WIDTH), dtype=tl.float32)
    for first in range(0, length, KEYS):
        keys = first + tl.arange(0, KEYS)
        seen = keys < length
        key = tl.load(
            states + keys[None, :] * (3 * n_heads * width) + columns[:, None],
            mask=seen[None, :] & inside[:, None],
            other=0.0,
        )
        scores = tl.dot(query, key, input_precision="ieee") * scale
        scores = tl.where(seen[None, :], scores, float("-inf"))
        weights, shrink, best, total = softmax_step(scores, best, total)
        value = tl.load(
            values + keys[:, None] * (3 * n_heads * width) + columns[None, :],
            mask=seen[:, None] & inside[None, :],
            other=0.0,
        )
        mixed = tl.dot(
            weights.to(value.dtype), value, mixed * shrink[:, None], input_precision="ieee"
        )
    mixed = mixed / total[:, None]
    target = out + start.to(tl.int64) * (n_heads * width) + head * width
    places = rows[:, None] * (n_heads * width) + columns[None, :]
    tl.store(target + places, mixed.to(out.dtype.element_ty), mask=row_mask)


@kernel()
def cls_attention_kernel(
    out,
    query,
    hidden,
    offsets,
    scale,
    n_heads: tl.constexpr,
    width: tl.constexpr,
    HEADS: tl.constexpr,
    KEYS: tl.constexpr,
    WIDTH: tl.constexpr,
):
    """softmax(query hidden^T) hidden for the one ``[CLS]`` row of each pair.

    query and out (n_pairs, n_heads * width), hidden (n_tokens, width): the hidden states are keys
    and values of all heads, so one program has a whole pair and reads each state once, and the
    heads are the rows of its products (16 at least, which is Triton's least).
    """
    pair = tl.program_id(0)
    start = tl.load(offsets + pair)
    length = tl.load(offsets + pair + 1) - start
    heads = tl.arange(0, HEADS)
    columns = tl.arange(0, WIDTH)
    inside = columns < width
    mask = (heads < n_heads)[:, None] & inside[None, :]
    places = pair.to(tl.int64) * (n_heads * width) + heads[:, None] * width + columns[None, :]
    rows = tl.load(query + places, mask=mask, other=0.0)
    states = hidden + start.to(tl.int64) * width
    best = tl.full((HEADS,), float("-inf"), dtype=tl.float32)
    total = tl.zeros((HEADS,), dtype=tl.float32)
    mixed = tl.zeros((HEADS, WIDTH), dtype=tl.float32)
    for first in range(0, length, KEYS):
        keys = first + tl.arange(0, KEYS)
        seen = keys < length
        state = tl.load(
            states + keys[:, None] * width + columns[None, :],
            mask=seen[:, None] & inside[None, :],
            other=0.0,
        )
        scores = tl.dot(rows, tl.trans(state), input_precision="ieee") * scale
        scores = tl.where(seen[None, :], scores, float("-inf"))
        weights, shrink, best, total = softmax_step(scores, best, total)
        mixed = tl.dot(
            weights.to(state.dtype), state, mixed * shrink[:, None], input_precision="ieee"
        )
    # At least 1 wherever there is a token; an empty pair of a CUDA graph's batch gives zeros.
    mixed = mixed / tl.maximum(total, 1.0)[:, None]
    tl.store(out + places, mixed.to(out.dtype.element_ty), mask=mask)
