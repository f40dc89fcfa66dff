"""Do the kernels compute here what plain PyTorch computes? Asked at load, and by the tests."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from rerank_plugins.cross_encoder.forward.packed import PackedBatch, PackedForward
from rerank_plugins.cross_encoder.forward.staging import BatchShape
from rerank_plugins.cross_encoder.forward.triton.fused import FusedForward
from rerank_plugins.cross_encoder.pairs import PackedPairs


def disagreement(fused: FusedForward, device: torch.device) -> str | None:
    """Build every kernel, run each once, and return what failed or differs; None is the hope.

    Triton compiles at the first launch and needs a C compiler for it; which kernels a GPU can run
    shows then, too.
    """
    weights = fused.weights
    n_positions = weights.embeddings.position.shape[0]
    lengths = np.array([min(length, n_positions) for length in (150, 64, 33, 2)], dtype=np.int32)
    tokens = np.arange(lengths.sum(), dtype=np.int32)
    pairs = PackedPairs(
        ids=tokens * 7_919 % np.int32(weights.embeddings.token.shape[0]),
        type_ids=np.zeros_like(tokens),
        lengths=lengths,
    )
    shape = BatchShape.of(pairs)
    # Twice what two orders of 16-bit rounding leave; a wrong kernel is off by whole units.
    tolerance = 32 * torch.finfo(weights.embeddings.token.dtype).eps
    try:
        batch = shape.batch(shape.host(pairs, pinned=False).to(device))
        for operation, got, expected in twins(fused, batch):
            if not torch.allclose(got, expected, rtol=tolerance, atol=tolerance, equal_nan=True):
                difference = (got - expected).abs().max().item()
                return f"{operation} differs from plain PyTorch by {difference:.3g}"
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # whatever Triton or the driver says: the plain path needs neither
        return f"{type(error).__name__}: {error}"
    return None


def twins(fused: FusedForward, batch: PackedBatch) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Yield (operation, with kernels, plain) for each operation of a layer, on the same inputs."""
    weights, plain = fused.weights, PackedForward(fused.weights)
    hidden = plain.embed(batch)
    yield "embed", fused.embed(batch), hidden
    for layer in weights.layers[:1]:
        query_key_value = layer.inputs(hidden)
        mixed = plain.attention(query_key_value, batch)
        yield "attention", fused.attention(query_key_value, batch), mixed
        arguments = mixed, layer.output, hidden, layer.attention_norm
        hidden = plain.linear_norm(*arguments)
        yield "linear_norm", fused.linear_norm(*arguments), hidden
        expected = plain.feed_forward(hidden, layer)
        yield "feed_forward", fused.feed_forward(hidden, layer), expected
        hidden = expected
    last = weights.last
    cls = hidden.index_select(0, batch.cls_rows)
    query = last.inputs(cls)
    mixed = plain.cls_attention(query, hidden, batch)
    yield "cls_attention", fused.cls_attention(query, hidden, batch), mixed
    arguments = mixed, last.output, cls, last.attention_norm
    cls = plain.linear_norm(*arguments)
    yield "linear_norm of [CLS]", fused.linear_norm(*arguments), cls
    expected = plain.feed_forward(cls, last)
    yield "feed_forward of [CLS]", fused.feed_forward(cls, last), expected
