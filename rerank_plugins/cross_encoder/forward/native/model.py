"""The compiled forward pass of `forward.cpp`, called through ctypes."""

from __future__ import annotations

import ctypes
import weakref
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from rerank_plugins.cross_encoder.forward.bert import BertWeights, LayerNorm, Linear
from rerank_plugins.cross_encoder.pairs import PackedPairs
from rerank_plugins.errors import InvalidArgumentError

_ACTIVATIONS = {"gelu": 1, "gelu_tanh": 2, "relu": 3, "silu": 4, "tanh": 5}


class NativeForward:
    """Logits of packed pairs on the CPU; may be called by any thread."""

    def __init__(self, library: Path, weights: BertWeights) -> None:
        self._library = ctypes.CDLL(str(library))
        self._library.native_create.restype = ctypes.c_void_p
        if self._library.native_permit():
            raise OSError("the kernel does not let this process use AMX")
        weights = weights.to(torch.device("cpu"), torch.float32)
        self._tensors, eps, sizes = _arguments(weights)
        self._n_labels = weights.head.classifier.weight.shape[0]
        self._sizes = sizes
        pointers = (ctypes.c_void_p * len(self._tensors))(*[t.data_ptr() for t in self._tensors])
        self._model = self._library.native_create(
            (ctypes.c_int64 * len(sizes))(*sizes), pointers, (ctypes.c_float * len(eps))(*eps)
        )
        if not self._model:
            raise MemoryError("no memory for the packed weights")
        weakref.finalize(self, self._library.native_destroy, ctypes.c_void_p(self._model))

    def __call__(self, pairs: PackedPairs) -> Tensor:
        """Return float32 logits (n_pairs, n_labels)."""
        logits = np.empty((pairs.n_pairs, self._n_labels), np.float32)
        if pairs.n_pairs == 0:
            return torch.from_numpy(logits)
        arrays = [
            np.ascontiguousarray(array, np.int32)
            for array in (pairs.ids, pairs.type_ids, pairs.lengths)
        ]
        if not len(arrays[0]) == len(arrays[1]):
            raise InvalidArgumentError("ids and type_ids must have one value a token")
        code = self._library.native_forward(
            ctypes.c_void_p(self._model),
            *(ctypes.c_void_p(array.ctypes.data) for array in arrays),
            ctypes.c_int64(pairs.n_pairs),
            ctypes.c_int64(pairs.n_tokens),
            ctypes.c_void_p(logits.ctypes.data),
        )
        if code == 3:
            raise MemoryError("no memory for a batch's activations")
        if code:
            what = "a length" if code == 1 else "a token or type id"
            raise InvalidArgumentError(f"{what} is outside what the model has embeddings for")
        return torch.from_numpy(logits)


def _arguments(weights: BertWeights) -> tuple[list[Tensor], list[float], list[int]]:
    embeddings, heads, hidden = weights.embeddings, weights.n_heads, weights.hidden_size
    width = hidden // heads
    padded = -(-width // 32) * 32
    types = embeddings.type
    if types is None:
        types = torch.zeros(1, embeddings.position.shape[1])
    tensors = [embeddings.token, types[:, None] + embeddings.position[None]]
    eps: list[float] = []

    def norm(part: LayerNorm) -> None:
        tensors.extend((part.weight, part.bias))
        eps.append(part.eps)

    def linear(part: Linear) -> None:
        tensors.extend((part.weight, part.bias))

    def by_head(part: Linear, scale: float = 1.0) -> Linear:
        weight = part.weight.view(heads, width, -1) * scale
        bias = part.bias.view(heads, width) * scale
        return Linear(
            weight=F.pad(weight, (0, 0, 0, padded - width)).flatten(0, 1),
            bias=F.pad(bias, (0, padded - width)).flatten(),
        )

    norm(embeddings.norm)
    if embeddings.projection is not None:
        linear(embeddings.projection)
    for layer in weights.layers[:-1]:
        parts = [by_head(layer.query, width**-0.5), by_head(layer.key), by_head(layer.value)]
        linear(
            Linear(
                weight=torch.cat([part.weight for part in parts]),
                bias=torch.cat([part.bias for part in parts]),
            )
        )
        output = layer.attention_output.weight.view(hidden, heads, width)
        linear(
            Linear(
                weight=F.pad(output, (0, padded - width)).flatten(1),
                bias=layer.attention_output.bias,
            )
        )
        norm(layer.attention_norm)
        linear(layer.feed_forward)
        linear(layer.feed_forward_output)
        norm(layer.feed_forward_norm)
    last = weights.layers[-1]
    linear(by_head(last.query, width**-0.5))
    tensors += [last.key.weight, last.value.weight, last.value.bias]
    linear(last.attention_output)
    norm(last.attention_norm)
    linear(last.feed_forward)
    linear(last.feed_forward_output)
    norm(last.feed_forward_norm)
    dense = weights.head.dense
    if dense is not None:
        linear(dense)
    labels = len(weights.head.classifier.bias)
    more = -labels % 32
    linear(
        Linear(
            weight=F.pad(weights.head.classifier.weight, (0, 0, 0, more)),
            bias=F.pad(weights.head.classifier.bias, (0, more)),
        )
    )
    sizes = [
        hidden,
        heads,
        padded,
        len(last.feed_forward.bias),
        len(weights.layers),
        len(embeddings.token),
        embeddings.position.shape[0],
        len(types),
        embeddings.token.shape[1],
        labels,
        _ACTIVATIONS[weights.activation],
        _ACTIVATIONS[weights.head.activation] if dense is not None else 0,
    ]
    return [tensor.contiguous() for tensor in tensors], eps, sizes
