"""How fast this machine does the parts of a forward pass alone: products, copies, attention.

Each is timed on as many threads as the scorer uses, one core each, at the same time; the best of
several, averaged over the threads.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F

from rerank_plugins.cross_encoder.forward.bert import Linear
from rerank_plugins.cross_encoder.forward.onednn import OneDnnLinear

Shape = tuple[int, int, int]  # rows, inner, columns
AttentionShape = tuple[int, int, int, int, int]  # pairs, heads, queries, keys, head width


def best_s(prepare: Callable[[], Callable[[], object]], *, n_threads: int, times: int) -> float:
    """Return the seconds of what ``prepare()`` returns, which each thread prepares for itself."""
    best = [float("inf")] * n_threads
    begun = threading.Barrier(n_threads)
    default = torch.get_num_threads()
    failures: list[Exception] = []

    def work(number: int) -> None:
        try:
            time_own(number)
        except Exception as failure:
            failures.append(failure)
            begun.abort()  # the others must not wait for this one

    def time_own(number: int) -> None:
        # The first look at the number sets it up for this thread; a later one would overwrite it.
        torch.get_num_threads()
        torch.set_num_threads(1)
        with torch.inference_mode():
            run = prepare()
            run()
            begun.wait()
            for _ in range(times):
                begin = time.perf_counter()
                run()
                best[number] = min(best[number], time.perf_counter() - begin)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(n_threads)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    torch.set_num_threads(default)
    if failures:
        raise failures[0]
    return sum(best) / n_threads


def product_s(
    shape: Shape, dtype: torch.dtype, *, n_threads: int, times: int, fused: str = ""
) -> float:
    """Return the seconds of one matrix product, with a packed weight as the forward pass has it.

    ``fused`` is what it does besides: ``"gelu"``, ``"residual"`` or nothing.
    """
    n_rows, inner, columns = shape

    def prepare() -> Callable[[], object]:
        linear = Linear(weight=torch.randn(columns, inner) * 0.05, bias=torch.zeros(columns))
        prepared = OneDnnLinear(linear, dtype, "gelu" if fused == "gelu" else None)
        rows = torch.randn(n_rows, inner).to(dtype)
        residual = torch.randn(n_rows, columns).to(dtype) if fused == "residual" else None
        return lambda: prepared(rows, residual)

    return best_s(prepare, n_threads=n_threads, times=times)


def attention_products_s(
    shape: AttentionShape, dtype: torch.dtype, *, n_threads: int, times: int
) -> float:
    """Return the seconds of attention's two products."""
    n_pairs, heads, queries, keys, width = shape

    def prepare() -> Callable[[], object]:
        query = torch.randn(n_pairs * heads, queries, width).to(dtype)
        key = torch.randn(n_pairs * heads, width, keys).to(dtype)
        value = torch.randn(n_pairs * heads, keys, width).to(dtype)
        weights = torch.empty(n_pairs * heads, queries, keys, dtype=dtype)
        context = torch.empty(n_pairs * heads, queries, width, dtype=dtype)

        def run() -> None:
            torch.bmm(query, key, out=weights)
            torch.bmm(weights, value, out=context)

        return run

    return best_s(prepare, n_threads=n_threads, times=times)


def attention_s(shape: AttentionShape, dtype: torch.dtype, *, n_threads: int, times: int) -> float:
    """Return the seconds of attention with its softmax, of contiguous inputs without a mask."""
    n_pairs, heads, queries, keys, width = shape

    def prepare() -> Callable[[], object]:
        query = torch.randn(n_pairs, heads, queries, width).to(dtype)
        key = torch.randn(n_pairs, heads, keys, width).to(dtype)
        value = torch.randn(n_pairs, heads, keys, width).to(dtype)
        return lambda: F.scaled_dot_product_attention(query, key, value)

    return best_s(prepare, n_threads=n_threads, times=times)


def norm_s(shape: Sequence[int], dtype: torch.dtype, *, n_threads: int, times: int) -> float:
    """Return the seconds of a layer norm over rows (count, hidden)."""

    def prepare() -> Callable[[], object]:
        rows = torch.randn(*shape).to(dtype)
        weight, bias = torch.ones(shape[-1]).to(dtype), torch.zeros(shape[-1]).to(dtype)
        return lambda: F.layer_norm(rows, shape[-1:], weight, bias, 1e-12)

    return best_s(prepare, n_threads=n_threads, times=times)


def embedding_s(
    shape: tuple[int, int, int], dtype: torch.dtype, *, n_threads: int, times: int
) -> float:
    """Return the seconds of adding up two rows of a table for each token.

    ``shape`` is the tokens, the rows of the table, the hidden size.
    """
    n_tokens, n_rows, hidden = shape

    def prepare() -> Callable[[], object]:
        table = torch.randn(n_rows, hidden).to(dtype)
        indices = torch.randint(n_rows, (n_tokens, 2), dtype=torch.int32)
        return lambda: F.embedding_bag(indices, table, mode="sum")

    return best_s(prepare, n_threads=n_threads, times=times)


def copy_bytes_per_s(n_bytes: int, *, n_threads: int, times: int) -> float:
    """Return bytes read and written a second and thread, copying ``n_bytes`` over and over."""

    def prepare() -> Callable[[], object]:
        source = torch.ones(n_bytes // 4)
        target = torch.empty_like(source)
        return lambda: target.copy_(source)

    return 2 * n_bytes / best_s(prepare, n_threads=n_threads, times=times)
