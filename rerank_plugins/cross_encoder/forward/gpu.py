"""Pairs to logits on a GPU (CUDA or MPS): one copy to the device a batch, no waiting for it."""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from rerank_plugins.cross_encoder.forward.bert import BertWeights
from rerank_plugins.cross_encoder.forward.cuda_graphs import Graphs, capture_on
from rerank_plugins.cross_encoder.forward.folding import FoldedWeights
from rerank_plugins.cross_encoder.forward.packed import PackedForward, varlen_attention
from rerank_plugins.cross_encoder.forward.staging import BatchShape, even_lengths
from rerank_plugins.cross_encoder.pairs import PackedPairs
from rerank_plugins.errors import InvalidArgumentError

# A hundred candidates of two hundred tokens. Above this the device works longer than the host
# takes to launch the kernels, and rounding the shape up costs more than the launches.
GRAPH_MAX_TOKENS = 20_480


class GpuForward:
    """Pairs in, float32 logits (n_pairs, n_labels) out, on ``device`` and in stream order.

    Nothing in a call waits for the device, except the capture of a graph (see `Graphs`), so the
    next batch can be made while this one runs. Calls from several threads take turns; they must
    use the same CUDA stream, which they do unless someone chose another one.

    ``graph_max_tokens=0`` turns CUDA graphs off. On any other device (Apple's, or the CPU in
    tests) the same arithmetic runs without graphs.
    """

    def __init__(
        self,
        weights: BertWeights,
        *,
        device: torch.device,
        dtype: torch.dtype,
        graph_max_tokens: int = GRAPH_MAX_TOKENS,
    ) -> None:
        # "cuda" is the current device of this moment, not of each call.
        self._device = device = torch.empty(0, device=device).device
        self._lock = threading.Lock()
        self._graph_max_tokens = graph_max_tokens if device.type == "cuda" else 0
        self._max_positions = weights.embeddings.position.shape[0]
        self._n_labels = weights.head.classifier.weight.shape[0]
        with self._on_device(), torch.inference_mode():
            folded = FoldedWeights.of(weights, device=device, dtype=dtype)
            self._forward = PackedForward(folded, varlen_attention(folded))
            self._graphs = Graphs(capture_on(device, self._forward))

    def __call__(self, pairs: PackedPairs) -> Tensor:
        """Return logits (n_pairs, n_labels), which the device may still be computing.

        Raises `InvalidArgumentError` for a pair longer than the model's position table.
        """
        if pairs.n_pairs == 0:
            return torch.empty(0, self._n_labels, device=self._device, dtype=torch.float32)
        shape = BatchShape.of(pairs)
        if shape.max_length > self._max_positions:
            # Past the position table a CUDA kernel would read whatever comes next.
            raise InvalidArgumentError(
                f"a pair has {shape.max_length} tokens, and the model has positions for "
                f"{self._max_positions}: truncate pairs to max_length={self._max_positions} or less"
            )
        with self._lock, self._on_device(), torch.inference_mode():
            rounded = shape.rounded(max_positions=self._max_positions)
            replay = self._graphs.get(rounded) if self._graphable(rounded) else None
            if replay is not None:
                # A copy, since the next replay writes over the graph's own logits.
                return replay(rounded.host(pairs, pinned=True))[: shape.n_pairs].clone()
            logits = [self._launch(part) for part in even_lengths(pairs)]
            return logits[0] if len(logits) == 1 else torch.cat(logits)

    def _launch(self, pairs: PackedPairs) -> Tensor:
        shape = BatchShape.of(pairs)
        on_cuda = self._device.type == "cuda"
        host = shape.host(pairs, pinned=on_cuda)
        # Only pinned memory outlives its tensor until the copy is done.
        return self._forward(shape.batch(host.to(self._device, non_blocking=on_cuda)))

    def _graphable(self, shape: BatchShape) -> bool:
        # A graph keeps its memory, and one long pair among many short ones pads to a lot of it.
        limit = self._graph_max_tokens
        return shape.n_tokens <= limit and shape.n_padded <= 4 * limit

    def _on_device(self) -> AbstractContextManager[object]:
        # Graphs are captured on the current device, whatever their tensors say.
        return torch.cuda.device(self._device) if self._device.type == "cuda" else nullcontext()
