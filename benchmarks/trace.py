"""The steps of the scorer's own forward pass, timed in its own worker threads while it scores."""

from __future__ import annotations

import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any

from benchmarks.products import AttentionShape, Shape

# Of a full layer: the attribute, and what is fused into the product.
PRODUCTS = {
    "query, key, value": ("_query_key_value", ""),
    "attention output": ("_attention_output", "residual"),
    "feed-forward": ("_feed_forward", "gelu"),
    "feed-forward output": ("_feed_forward_output", "residual"),
}
LAST = "last layer for [CLS], head"
ROWS = "where tokens stand"


class Trace:
    """Seconds of each step over all threads, without those of the steps inside it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open = threading.local()
        self.clear()

    def clear(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.products: dict[str, Counter[Shape]] = defaultdict(Counter)
        self.attention: Counter[AttentionShape] = Counter()
        self.rows: dict[str, int] = defaultdict(int)

    def wrap(
        self,
        name: str,
        function: Callable[..., Any],
        note: Callable[[tuple[Any, ...], Any], None] | None = None,
    ) -> Callable[..., Any]:
        """Return ``function`` timed as the step ``name``; ``note(arguments, result)`` looks on."""

        def timed(*arguments: Any, **named: Any) -> Any:
            outer = getattr(self._open, "inside", 0.0)
            self._open.inside = 0.0
            begin = time.perf_counter()
            result = function(*arguments, **named)
            took = time.perf_counter() - begin
            with self._lock:
                self.seconds[name] += took - self._open.inside
                if note is not None:
                    note(arguments, result)
            self._open.inside = outer + took
            return result

        return timed

    def note_product(self, name: str) -> Callable[[tuple[Any, ...], Any], None]:
        def note(arguments: tuple[Any, ...], result: Any) -> None:
            self.products[name][(*arguments[0].shape, result.shape[1])] += 1

        return note

    def note_rows(self, name: str) -> Callable[[tuple[Any, ...], Any], None]:
        def note(arguments: tuple[Any, ...], result: Any) -> None:
            self.rows[name] += len(arguments[0])

        return note


def install(trace: Trace, replica: Any) -> None:
    """Put ``trace`` around every step of a replica's forward pass, for good."""
    forward = replica.forward
    n_heads = forward._last_layer._n_heads

    def note_attention(arguments: tuple[Any, ...], result: Any) -> None:
        hidden, rows = arguments
        width = hidden.shape[1] // n_heads
        for group in rows.blocks:
            trace.attention[(group.n_pairs, n_heads, group.stride, group.width, width)] += 1
        trace.rows["attention"] += rows.n_rows

    def note_embeddings(arguments: tuple[Any, ...], result: Any) -> None:
        trace.rows["embeddings"] += len(result)

    embeddings = forward._embeddings
    embeddings._norm = trace.wrap("norms", embeddings._norm, trace.note_rows("norms"))
    forward._embeddings = trace.wrap("embeddings", embeddings, note_embeddings)
    for index, layer in enumerate(forward._layers):
        for name, (attribute, _) in PRODUCTS.items():
            product = getattr(layer, attribute)
            setattr(layer, attribute, trace.wrap(name, product, trace.note_product(name)))
        for attribute in ("_attention_norm", "_feed_forward_norm"):
            norm = getattr(layer, attribute)
            setattr(layer, attribute, trace.wrap("norms", norm, trace.note_rows("norms")))
        forward._layers[index] = trace.wrap("attention", layer, note_attention)
    forward._last_layer = trace.wrap(LAST, forward._last_layer, trace.note_rows(LAST))
    forward._head = trace.wrap(LAST, forward._head)
    replica.forward = trace.wrap(ROWS, forward)
