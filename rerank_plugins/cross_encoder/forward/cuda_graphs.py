"""CUDA graphs: a small batch is one launch instead of one a kernel."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor

from rerank_plugins.cross_encoder.forward.packed import PackedBatch
from rerank_plugins.cross_encoder.forward.staging import BatchShape

logger = logging.getLogger(__name__)

# PyTorch allows one capture at a time in a process.
_CAPTURE = threading.Lock()
# How many batches run without a new graph after a capture has failed.
FIRST_PAUSE = 256

# What was captured: the array of a batch (shape.size,) in, logits out. The logits belong to the
# graph: the next replay writes over them.
Replay: TypeAlias = Callable[[Tensor], Tensor]


class Graphs:
    """The graphs of the shapes used last.

    A shape is captured when it comes for the second time: a capture waits for the device and
    costs many forward passes, which a shape that comes once never earns back. When a capture
    fails, which may be for want of memory at that moment, the reason is logged and nothing is
    captured during the next batches: twice as many after each failure in turn.
    """

    def __init__(
        self, capture: Callable[[BatchShape], Replay], *, max_graphs: int = 32, max_seen: int = 512
    ) -> None:
        self._capture = capture
        self._max_graphs = max_graphs
        self._max_seen = max_seen
        self._seen: OrderedDict[BatchShape, None] = OrderedDict()
        self._replays: OrderedDict[BatchShape, Replay] = OrderedDict()
        self._n_failures = 0
        self._n_skipped = 0  # batches until a capture is tried again

    def __len__(self) -> int:
        return len(self._replays)

    def get(self, shape: BatchShape) -> Replay | None:
        """Return the graph of ``shape``, captured now if it is due; None means run without."""
        if shape in self._replays:
            self._replays.move_to_end(shape)
            return self._replays[shape]
        if self._n_skipped:
            self._n_skipped -= 1
            return None
        if shape not in self._seen:
            self._seen[shape] = None
            if len(self._seen) > self._max_seen:
                self._seen.popitem(last=False)
            return None
        try:
            self._replays[shape] = self._capture(shape)
        except RuntimeError as error:  # torch.OutOfMemoryError is one, too
            self._n_skipped = FIRST_PAUSE << self._n_failures
            self._n_failures += 1
            logger.warning(
                "capturing a CUDA graph for %s failed; none is captured in the next %d batches: %s",
                shape,
                self._n_skipped,
                error,
            )
            return None
        self._n_failures = 0
        if len(self._replays) > self._max_graphs:
            # Only here, where the capture has just waited for the device: no replay is under way.
            # The new graph keeps their shared memory pool alive.
            self._replays.popitem(last=False)
        return self._replays[shape]


@dataclass(frozen=True, slots=True)
class _CapturedGraph:
    graph: torch.cuda.CUDAGraph
    array: Tensor
    logits: Tensor

    def __call__(self, host: Tensor) -> Tensor:
        self.array.copy_(host, non_blocking=True)
        self.graph.replay()
        return self.logits


def capture_on(
    device: torch.device, forward: Callable[[PackedBatch], Tensor]
) -> Callable[[BatchShape], Replay]:
    """Return a function that captures ``forward`` for a shape, on a stream of its own.

    The graphs share one memory pool, so they may only be replayed one after another.
    """
    stream: torch.cuda.Stream | None = None
    pool: Any = None

    def capture(shape: BatchShape) -> Replay:
        nonlocal stream, pool
        if stream is None:
            stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
            pool = torch.cuda.graph_pool_handle()
        current = torch.cuda.current_stream(device)
        array = torch.zeros(shape.size, dtype=torch.int32, device=device)
        with _CAPTURE:
            # Once without capturing, on the same stream: kernels are loaded and cuBLAS takes its
            # workspace for this stream, neither of which may happen while capturing.
            stream.wait_stream(current)
            with torch.cuda.stream(stream):
                forward(shape.batch(array))
            graph = torch.cuda.CUDAGraph()
            # The outer block gives the stream back even when ending the capture fails.
            # thread_local: what other threads do with the device cannot spoil this capture.
            with (
                torch.cuda.stream(current),
                torch.cuda.graph(
                    graph, pool=pool, stream=stream, capture_error_mode="thread_local"
                ),
            ):
                logits = forward(shape.batch(array))
        return _CapturedGraph(graph, array, logits)

    return capture
