"""Triton kernels that work on rows: embeddings, a product with its norm, the feed-forward.

All sizes in CAPITALS are those of the block a program works on, and powers of two, as Triton wants
them; what is beyond the real size is masked. Weights are (out, in), rows are contiguous. Products
take the dtype they are given and add up in float32, in which norms and activations stay.

Without Triton this module can still be imported: `fused.unsupported` says so before a launch.
"""

# Parameters of a kernel are pointers and compile-time constants, which no Python type describes.
# ruff: noqa: ANN001, ANN201
# mypy: disable-error-code="no-untyped-def, no-untyped-call"

from __future__ import annotations

from collections.abc import Callable
from typing import Any

try:
    import triton
    import triton.language as tl
except ImportError:
    triton = None

INSTALLED = triton is not None


def kernel(*, per_call: tuple[str, ...] = ()) -> Callable[[Callable[..., Any]], Any]:
    """Build the function with Triton when it is first launched.

    ``per_call`` are the integers that differ from call to call: Triton would otherwise build the
    kernel again for the value 1 and for multiples of 16.
    """
    if triton is None:
        return lambda function: function
    return triton.jit(do_not_specialize=per_call)  # type: ignore[no-any-return]


@kernel()
def normed(values, weight, bias, eps, columns, width: tl.constexpr):
    """LayerNorm of values (ROWS, WIDTH) float32, which must be 0 from column ``width`` on."""
    inside = columns < width
    mean = tl.sum(values, 1) / width
    # Two passes over registers cost nothing, and E[x^2] - E[x]^2 would cancel.
    centred = tl.where(inside[None, :], values - mean[:, None], 0.0)
    variance = tl.sum(centred * centred, 1) / width
    scale = tl.load(weight + columns, mask=inside, other=0.0).to(tl.float32)
    shift = tl.load(bias + columns, mask=inside, other=0.0).to(tl.float32)
    return centred * tl.rsqrt(variance + eps)[:, None] * scale[None, :] + shift[None, :]


@kernel()
def activated(values, activation: tl.constexpr):
    """Return the activation of float32 values; each takes 0 to 0, so masked columns stay 0."""
    if activation == "gelu":
        result = 0.5 * values * (1.0 + tl.math.erf(values * 0.7071067811865476))
    elif activation == "gelu_tanh":
        # 0.5 * (1 + tanh(z)) = sigmoid(2 z)
        inner = values + 0.044715 * values * values * values
        result = values * tl.sigmoid(1.5957691216057308 * inner)
    elif activation == "relu":
        result = tl.maximum(values, 0.0)
    elif activation == "silu":
        result = values * tl.sigmoid(values)
    else:
        tl.static_assert(activation == "tanh")
        result = 2.0 * tl.sigmoid(2.0 * values) - 1.0
    return result


@kernel()
def embed_kernel(
    out,
    ids,
    type_ids,
    offsets,
    token,
    position,
    types,
    weight,
    bias,
    eps,
    width: tl.constexpr,
    has_types: tl.constexpr,
    ROWS: tl.constexpr,
    WIDTH: tl.constexpr,
):
    """LayerNorm of token + position + type embedding: (n_tokens, width).

    Program (pair, block): a token's position is its place in the pair, so nobody computes it.
    """
    start = tl.load(offsets + tl.program_id(0))
    end = tl.load(offsets + tl.program_id(0) + 1)
    place = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    rows = start + place
    columns = tl.arange(0, WIDTH)
    known = rows < end
    mask = known[:, None] & (columns < width)[None, :]
    # int64: a vocabulary times a width, and tokens times a width, may pass 2^31.
    token_id = tl.load(ids + rows, mask=known, other=0).to(tl.int64)
    source = token + token_id[:, None] * width + columns[None, :]
    values = tl.load(source, mask=mask, other=0.0).to(tl.float32)
    source = position + place[:, None] * width + columns[None, :]
    values += tl.load(source, mask=mask, other=0.0).to(tl.float32)
    if has_types:
        type_id = tl.load(type_ids + rows, mask=known, other=0)
        source = types + type_id[:, None] * width + columns[None, :]
        values += tl.load(source, mask=mask, other=0.0).to(tl.float32)
    values = normed(values, weight, bias, eps, columns, width)
    target = out + rows.to(tl.int64)[:, None] * width + columns[None, :]
    tl.store(target, values.to(out.dtype.element_ty), mask=mask)


@kernel(per_call=("n_rows",))
def linear_norm_kernel(
    out,
    inputs,
    weight,
    bias,
    residual,
    norm_weight,
    norm_bias,
    eps,
    n_rows,
    depth: tl.constexpr,
    width: tl.constexpr,
    ROWS: tl.constexpr,
    DEPTH: tl.constexpr,
    WIDTH: tl.constexpr,
):
    """``norm(residual + inputs @ weight.T + bias)``: inputs (n_rows, depth), out (n_rows, width).

    One program has whole rows of the result, so it can norm them before they leave the registers.
    """
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    columns = tl.arange(0, WIDTH)
    known, inside = rows < n_rows, columns < width
    row_starts = rows.to(tl.int64)[:, None]
    total = tl.zeros((ROWS, WIDTH), dtype=tl.float32)
    for first in range(0, depth, DEPTH):
        steps = first + tl.arange(0, DEPTH)
        left = tl.load(
            inputs + row_starts * depth + steps[None, :],
            mask=known[:, None] & (steps < depth)[None, :],
            other=0.0,
        )
        right = tl.load(
            weight + columns[None, :] * depth + steps[:, None],
            mask=inside[None, :] & (steps < depth)[:, None],
            other=0.0,
        )
        # ieee: a float32 product stays one, instead of tf32. 16-bit products do not change.
        total = tl.dot(left, right, total, input_precision="ieee")
    total += tl.load(bias + columns, mask=inside, other=0.0).to(tl.float32)[None, :]
    mask = known[:, None] & inside[None, :]
    places = row_starts * width + columns[None, :]
    total += tl.load(residual + places, mask=mask, other=0.0).to(tl.float32)
    total = normed(total, norm_weight, norm_bias, eps, columns, width)
    tl.store(out + places, total.to(out.dtype.element_ty), mask=mask)


@kernel(per_call=("n_rows",))
def add_norm_kernel(
    out,
    inputs,
    residual,
    norm_weight,
    norm_bias,
    eps,
    n_rows,
    width: tl.constexpr,
    ROWS: tl.constexpr,
    WIDTH: tl.constexpr,
):
    """``norm(residual + inputs)``: (n_rows, width) each."""
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    columns = tl.arange(0, WIDTH)
    mask = (rows < n_rows)[:, None] & (columns < width)[None, :]
    places = rows.to(tl.int64)[:, None] * width + columns[None, :]
    values = tl.load(inputs + places, mask=mask, other=0.0).to(tl.float32)
    values += tl.load(residual + places, mask=mask, other=0.0).to(tl.float32)
    values = normed(values, norm_weight, norm_bias, eps, columns, width)
    tl.store(out + places, values.to(out.dtype.element_ty), mask=mask)


@kernel(per_call=("n_rows",))
def feed_forward_kernel(
    out,
    hidden,
    weight_in,
    bias_in,
    weight_out,
    bias_out,
    norm_weight,
    norm_bias,
    eps,
    n_rows,
    width: tl.constexpr,
    inner: tl.constexpr,
    activation: tl.constexpr,
    ROWS: tl.constexpr,
    INNER: tl.constexpr,
    WIDTH: tl.constexpr,
):
    """Two products, the activation between, residual and norm: (n_rows, width) in and out.

    weight_in (inner, width), weight_out (width, inner). The inner states are made and used INNER
    columns at a time, so they never reach memory.
    """
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    columns = tl.arange(0, WIDTH)
    known, inside = rows < n_rows, columns < width
    mask = known[:, None] & inside[None, :]
    places = rows.to(tl.int64)[:, None] * width + columns[None, :]
    states = tl.load(hidden + places, mask=mask, other=0.0)
    total = tl.zeros((ROWS, WIDTH), dtype=tl.float32)
    for first in range(0, inner, INNER):
        steps = first + tl.arange(0, INNER)
        real = steps < inner
        up = tl.load(
            weight_in + steps[None, :] * width + columns[:, None],
            mask=real[None, :] & inside[:, None],
            other=0.0,
        )
        middle = tl.dot(states, up, input_precision="ieee")
        middle += tl.load(bias_in + steps, mask=real, other=0.0).to(tl.float32)[None, :]
        middle = activated(middle, activation)
        down = tl.load(
            weight_out + columns[None, :] * inner + steps[:, None],
            mask=inside[None, :] & real[:, None],
            other=0.0,
        )
        total = tl.dot(middle.to(states.dtype), down, total, input_precision="ieee")
    total += tl.load(bias_out + columns, mask=inside, other=0.0).to(tl.float32)[None, :]
    total += states.to(tl.float32)
    total = normed(total, norm_weight, norm_bias, eps, columns, width)
    tl.store(out + places, total.to(out.dtype.element_ty), mask=mask)
