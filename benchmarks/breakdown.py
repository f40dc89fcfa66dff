"""Where a bulk call's time goes, step by step, and how fast each step could be at best.

A step's bound is the longer of two times on this machine: its matrix products alone, in their very
shapes, and its bytes at the rate of copying a hidden state. The sum of the bounds is what these
steps could reach; the floor is what the same arithmetic would take at the rate of a large product.
Between the two stands what PyTorch's own operations reach: each alone, in its very shapes.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

import torch

from benchmarks.environment import compiled_forward
from benchmarks.floor import Shape as ModelShape
from benchmarks.floor import matmul_flop_per_s
from benchmarks.products import (
    AttentionShape,
    Shape,
    attention_products_s,
    attention_s,
    copy_bytes_per_s,
    embedding_s,
    norm_s,
    product_s,
)
from benchmarks.session import Tell
from benchmarks.trace import LAST, PRODUCTS, ROWS, Trace, install
from rerank_plugins.workloads import BULK, Texts, Workload

# Attention has a shape for each group of pairs of one length; this many stand for all.
ATTENTION_SAMPLES = 6
LARGE_COPY = 64 * 2**20


@dataclass(slots=True, kw_only=True)
class Step:
    """Seconds are those of the call: one in ``n_threads`` of the threads' time."""

    name: str
    seconds: float
    flop: float = 0.0
    n_bytes: float = 0.0
    product_s: float = 0.0  # its products alone, in their shapes
    operation_s: float = 0.0  # PyTorch's operation alone: with softmax, activation, residual
    bytes_s: float = 0.0

    @property
    def bound_s(self) -> float:
        return max(self.product_s, self.bytes_s)

    @property
    def limit_s(self) -> float:
        """What it takes with PyTorch's operations; no less than its bound."""
        return max(self.operation_s, self.bound_s)

    def as_dict(self) -> dict[str, Any]:
        names = ("name", "seconds", "flop", "n_bytes", "product_s", "operation_s", "bytes_s")
        return {name: getattr(self, name) for name in (*names, "bound_s", "limit_s")}


class Bench:
    """Times parts alone; remembers those that it has timed."""

    def __init__(self, dtype: torch.dtype, *, n_threads: int, times: int) -> None:
        self._dtype, self._n_threads, self._times = dtype, n_threads, times
        self._known: dict[tuple[Shape, str], float] = {}

    def products_s(self, shapes: Counter[Shape], fused: str = "") -> float:
        """Return the threads' seconds of all these products, each alone."""
        return sum(count * self._product_s(shape, fused) for shape, count in shapes.items())

    def _product_s(self, shape: Shape, fused: str) -> float:
        if (shape, fused) not in self._known:
            self._known[shape, fused] = product_s(
                shape, self._dtype, n_threads=self._n_threads, times=self._times, fused=fused
            )
        return self._known[shape, fused]

    def attention_s(self, shapes: Counter[AttentionShape], *, products_only: bool) -> float:
        """Return the threads' seconds of attention, from the rate of a few of its shapes."""
        measured = attention_products_s if products_only else attention_s
        ordered = sorted(shapes, key=attention_flop)
        sample = ordered[:: max(1, len(ordered) // ATTENTION_SAMPLES)]
        took = sum(
            measured(shape, self._dtype, n_threads=self._n_threads, times=self._times)
            for shape in sample
        )
        flop = sum(count * attention_flop(shape) for shape, count in shapes.items())
        return took * flop / sum(map(attention_flop, sample))

    def norm_s_per_row(self, n_rows: int, hidden: int) -> float:
        took = norm_s((n_rows, hidden), self._dtype, n_threads=self._n_threads, times=self._times)
        return took / n_rows

    def embedding_s_per_row(self, n_rows: int, model: ModelShape) -> float:
        shape = (n_rows, model.vocabulary, model.hidden)
        took = embedding_s(shape, self._dtype, n_threads=self._n_threads, times=self._times)
        return took / n_rows

    def copy_bytes_per_s(self, n_bytes: int) -> float:
        return copy_bytes_per_s(n_bytes, n_threads=self._n_threads, times=self._times)


def attention_flop(shape: AttentionShape) -> int:
    n_pairs, heads, queries, keys, width = shape
    return 4 * n_pairs * heads * queries * keys * width


def breakdown(
    folder: str,
    dtype: str,
    *,
    tokens_per_word: float,
    tokens: float,
    repeats: int,
    times: int,
    tell: Tell,
    workload: Workload = BULK,
) -> dict[str, Any]:
    """Return the steps of the median of ``repeats`` bulk calls, with their bounds.

    ``tokens`` is the mean of a pair, for the floor; ``times`` is how often each part runs alone.
    """
    tell(f"steps of {dtype}")
    run, n_threads = _median_run(folder, dtype, tokens_per_word, repeats, workload)
    rates = [matmul_flop_per_s(getattr(torch, dtype))]
    tell(f"parts of {dtype} alone")
    model = ModelShape.of(folder)
    bench = Bench(getattr(torch, dtype), n_threads=n_threads, times=times)
    steps, copies = _bounded(run, model, bench, item=getattr(torch, dtype).itemsize)
    for step in steps:
        for name in ("seconds", "product_s", "operation_s", "bytes_s"):
            setattr(step, name, getattr(step, name) / n_threads)
    for name in ("tokenise", "plan, hand over, wait"):
        steps.append(Step(name=name, seconds=run[name] / n_threads))
    rates.append(matmul_flop_per_s(getattr(torch, dtype)))
    flop = model.flop_per_pair(tokens) * workload.n_pairs
    floor_s, bound_s = flop / max(rates), sum(step.bound_s for step in steps)
    limit_s = sum(step.limit_s for step in steps)
    return {
        "n_pairs": workload.n_pairs,
        "n_threads": n_threads,
        "wall_s": run["wall"],
        "floor_flop": flop,
        "matmul_flop_per_s": max(rates),
        **copies,
        "floor_s": floor_s,
        "bound_s": bound_s,
        "limit_s": limit_s,
        "achieved_over_floor": floor_s / run["wall"],
        "achieved_over_bound": bound_s / run["wall"],
        "bound_over_floor": floor_s / bound_s,
        "limit_over_floor": floor_s / limit_s,
        "steps": [step.as_dict() for step in steps],
    }


def _median_run(
    folder: str, dtype: str, tokens_per_word: float, repeats: int, workload: Workload
) -> tuple[dict[str, Any], int]:
    """Return the call of median duration: threads' seconds of each step, shapes, and counts."""
    from rerank_plugins import CrossEncoderScorer

    texts, runs = Texts(21, tokens_per_word=tokens_per_word), []
    with compiled_forward("0"):  # the steps are PyTorch's; the compiled pass is one call
        made = CrossEncoderScorer(folder, device="cpu", dtype=dtype)
    with made as scorer:
        scorer.warmup()
        replica: Any = scorer._loaded.replicas[0]
        trace = Trace()
        install(trace, replica)
        for repeat in range(repeats + 1):
            pairs = [(query, text) for query, row in texts.calls(workload) for text in row]
            trace.clear()
            before, begin = scorer.stats, time.perf_counter()
            scorer.score_pairs(pairs)
            wall, after = time.perf_counter() - begin, scorer.stats
            busy = after.tokenise_s + after.forward_s - before.tokenise_s - before.forward_s
            run = {
                "wall": wall,
                "seconds": trace.seconds,
                "products": trace.products,
                "attention": trace.attention,
                "rows": trace.rows,
                "tokenise": after.tokenise_s - before.tokenise_s,
                "plan, hand over, wait": replica.n_workers * wall - busy,
                "n_pairs": len(pairs),
                "batches": after.batches - before.batches,
            }
            if repeat:  # the first one warms up
                runs.append(run)
        n_threads = replica.n_workers
    return sorted(runs, key=lambda run: float(run["wall"]))[len(runs) // 2], n_threads


def _bounded(
    run: dict[str, Any], model: ModelShape, bench: Bench, *, item: int
) -> tuple[list[Step], dict[str, float]]:
    """Return the steps, in threads' seconds, and the rates of copying."""
    hidden, rows, seconds = model.hidden, run["rows"], run["seconds"]
    # As many bytes as a batch's hidden state has, in and out.
    batch_rows = rows["embeddings"] // run["batches"]
    state = item * hidden * batch_rows
    rate = bench.copy_bytes_per_s(state)
    large = bench.copy_bytes_per_s(LARGE_COPY)
    steps = []
    moved = {
        # Two rows of the table and their indices in, one row out.
        "embeddings": rows["embeddings"] * (3 * hidden * item + 8),
        "norms": rows["norms"] * 2 * hidden * item,
        ROWS: 0,
        LAST: rows[LAST] * hidden * item,
        "attention": rows["attention"] * 4 * hidden * item,
    }
    alone = {
        "norms": rows["norms"] * bench.norm_s_per_row(batch_rows, hidden),
        "embeddings": rows["embeddings"] * bench.embedding_s_per_row(batch_rows, model),
    }
    for name in (ROWS, "embeddings", "norms"):
        steps.append(
            Step(
                name=name,
                seconds=seconds[name],
                n_bytes=moved[name],
                operation_s=alone.get(name, 0.0),
            )
        )
    for name, (_, fused) in PRODUCTS.items():
        shapes: Counter[Shape] = run["products"][name]
        steps.append(
            Step(
                name=name,
                seconds=seconds[name],
                flop=sum(2 * n * r * i * c for (r, i, c), n in shapes.items()),
                n_bytes=sum(
                    n * item * (r * (i + c * (2 if fused == "residual" else 1)) + i * c)
                    for (r, i, c), n in shapes.items()
                ),
                product_s=bench.products_s(shapes),
                operation_s=bench.products_s(shapes, fused),
            )
        )
    attention = run["attention"]
    whole = bench.attention_s(attention, products_only=False)
    steps.append(
        Step(
            name="attention",
            seconds=seconds["attention"],
            flop=sum(count * attention_flop(shape) for shape, count in attention.items()),
            n_bytes=moved["attention"],
            # In one call the two products may be faster than each as such.
            product_s=min(whole, bench.attention_s(attention, products_only=True)),
            operation_s=whole,
        )
    )
    per_pair = 2 * (4 * hidden**2 + 2 * hidden * model.feed_forward)
    flop = run["n_pairs"] * per_pair + 4 * rows[LAST] * hidden
    # Of the last layer, its attention: the heads' queries of [CLS], in the hidden space.
    last: Counter[AttentionShape] = Counter()
    for (n_pairs, _, _, keys, _), count in attention.items():
        last[n_pairs, 1, model.heads, keys, hidden] += count
    steps.append(
        Step(
            name=LAST,
            seconds=seconds[LAST],
            flop=flop,
            n_bytes=moved[LAST],
            operation_s=bench.attention_s(last, products_only=False) / (model.layers - 1),
        )
    )
    for step in steps:
        step.bytes_s = step.n_bytes / rate
    copies = {"state_bytes": state, "copy_bytes_per_s": rate, "large_copy_bytes_per_s": large}
    return steps, copies
