"""The compiled forward pass of `forward.cpp`, called through ctypes."""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from rerank_plugins.cross_encoder.forward.bert import BertWeights, Layer, LayerNorm, Linear
from rerank_plugins.cross_encoder.forward.int8 import LayerScales
from rerank_plugins.cross_encoder.pairs import PackedPairs
from rerank_plugins.errors import InvalidArgumentError

# As in forward.cpp.
_ACTIVATIONS = {"gelu": 1, "gelu_tanh": 2, "relu": 3, "silu": 4, "tanh": 5}
_BAD_LENGTH, _BAD_ID, _BAD_TYPE, _NO_MEMORY = 1, 2, 3, 4


class NativeForward:
    """Logits of packed pairs on the CPU; may be called by any thread.

    ``library`` is one of `build`'s, opened, for instructions that this processor has; that of int8
    takes the ``scales`` of `layer_scales`.
    """

    def __init__(
        self, library: ctypes.CDLL, weights: BertWeights, scales: Sequence[LayerScales] = ()
    ) -> None:
        self._library = library
        library.native_create.restype = ctypes.c_void_p
        weights = weights.to(torch.device("cpu"), torch.float32)
        arguments = _Arguments(weights, library.native_multiple())
        steps = [
            number
            for layer in scales
            for scale in (layer.hidden, layer.context, layer.middle, layer.inner)
            for number in (1 / scale.step, scale.zero)
        ]
        self._n_labels = weights.head.classifier.weight.shape[0]
        self._n_tokens = len(weights.embeddings.token)
        self._n_positions = len(weights.embeddings.position)
        sizes, eps = arguments.sizes, arguments.eps
        pointers = [tensor.data_ptr() for tensor in arguments.tensors]
        model = library.native_create(
            (ctypes.c_int64 * len(sizes))(*sizes),
            (ctypes.c_void_p * len(pointers))(*pointers),
            (ctypes.c_float * len(eps))(*eps),
            (ctypes.c_float * len(steps))(*steps),
        )
        if not model:
            raise MemoryError("no memory for the packed weights")
        self._model = ctypes.c_void_p(model)
        finalizer = weakref.finalize(self, library.native_destroy, self._model)
        finalizer.atexit = False  # other threads may be in a call even then
        self._kept = arguments.kept

    def __call__(self, pairs: PackedPairs) -> Tensor:
        """Return float32 logits (n_pairs, n_labels).

        Raises `InvalidArgumentError` for a pair or an id that the model has no embedding for.
        """
        logits = np.empty((pairs.n_pairs, self._n_labels), np.float32)
        if pairs.n_pairs == 0:
            return torch.from_numpy(logits)
        if not pairs.n_tokens == len(pairs.type_ids):
            raise InvalidArgumentError(
                f"there are {pairs.n_tokens} ids and {len(pairs.type_ids)} type ids; give one of "
                "each for a token"
            )
        arrays = [
            np.ascontiguousarray(array, np.int32)
            for array in (pairs.ids, pairs.type_ids, pairs.lengths)
        ]
        code = self._library.native_forward(
            self._model,
            *(ctypes.c_void_p(array.ctypes.data) for array in arrays),
            ctypes.c_int64(pairs.n_pairs),
            ctypes.c_int64(pairs.n_tokens),
            ctypes.c_void_p(logits.ctypes.data),
        )
        if code == _NO_MEMORY:
            raise MemoryError(f"no memory for the activations of {pairs.n_tokens} tokens")
        if code:
            raise InvalidArgumentError(self._refused(code, pairs))
        return torch.from_numpy(logits)

    def _refused(self, code: int, pairs: PackedPairs) -> str:
        lengths, n = pairs.lengths, self._n_positions
        if code == _BAD_TYPE:
            return (
                f"type ids go from {pairs.type_ids.min()} to {pairs.type_ids.max()}, and the model "
                "has fewer types: use the tokenizer that was saved with the model"
            )
        if code == _BAD_ID:
            wrong = pairs.ids.max() if pairs.ids.min() >= 0 else pairs.ids.min()
            return (
                f"a token has the id {wrong}, and the model has embeddings for {self._n_tokens}: "
                "use the tokenizer that was saved with the model"
            )
        if lengths.max() > n:
            return (
                f"a pair has {lengths.max()} tokens, and the model has positions for {n}: "
                f"truncate pairs to max_length={n} or less"
            )
        return (
            f"pairs have {lengths.min()} to {lengths.max()} tokens, {lengths.sum()} in all, and "
            f"there are {pairs.n_tokens}: each has at least one, and all of them are given"
        )


class _Arguments:
    """What `native_create` takes, in its order. ``kept`` are those that it does not copy.

    Sizes are padded with zeros to multiples of ``multiple``, the width of a tile.
    """

    def __init__(self, weights: BertWeights, multiple: int) -> None:
        self.tensors: list[Tensor] = []
        self.kept: list[Tensor] = []
        self.eps: list[float] = []
        self._multiple = multiple
        self._n_heads = weights.n_heads
        self._hidden = self._padded(weights.hidden_size)
        self._width = weights.hidden_size // weights.n_heads
        # In attention a tile is 32 wide on every path; all heads together are a product's inputs.
        self._padded_width = -(-self._width // 32) * 32
        if self._n_heads * self._padded_width % multiple:
            self._padded_width = self._padded(self._width)
        self._add_embeddings(weights)
        for layer in weights.layers[:-1]:
            self._add_layer(layer)
        last = weights.layers[-1]
        self._add_linear(self._by_head(last.query, self._width**-0.5))
        self._add(_wide(last.key.weight, None, self._hidden))
        self._add(_wide(last.value.weight, None, self._hidden))
        self._add(last.value.bias)
        self._add_linear(last.attention_output)
        self._add_rest(last)
        dense, classifier = weights.head.dense, weights.head.classifier
        if dense is not None:
            self._add_linear(dense)
        self._add_linear(classifier)
        embeddings = weights.embeddings
        self.sizes = [
            self._hidden,
            weights.n_heads,
            self._padded_width,
            self._padded(len(last.feed_forward.bias)),
            len(weights.layers),
            len(embeddings.token),
            len(embeddings.position),
            1 if embeddings.type is None else len(embeddings.type),
            self._padded(embeddings.token.shape[1]),
            len(classifier.bias),
            _ACTIVATIONS[weights.activation],
            _ACTIVATIONS[weights.head.activation] if dense is not None else 0,
            weights.hidden_size,
            self._width,
            embeddings.token.shape[1],
        ]

    def _padded(self, size: int) -> int:
        return -(-size // self._multiple) * self._multiple

    def _add(self, tensor: Tensor) -> None:
        self.tensors.append(tensor.contiguous())
        self.kept.append(self.tensors[-1])

    def _add_linear(self, linear: Linear) -> None:
        """Add (out, in) and (out,), both sizes padded; the weight is copied by the library."""
        n_outputs, n_inputs = (self._padded(size) for size in linear.weight.shape)
        self.tensors.append(_wide(linear.weight, n_outputs, n_inputs).contiguous())
        self._add(F.pad(linear.bias, (0, n_outputs - len(linear.bias))))

    def _add_norm(self, norm: LayerNorm) -> None:
        more = (0, self._padded(len(norm.bias)) - len(norm.bias))
        self._add(F.pad(norm.weight, more))
        self._add(F.pad(norm.bias, more))
        self.eps.append(norm.eps)

    def _add_embeddings(self, weights: BertWeights) -> None:
        embeddings = weights.embeddings
        places = embeddings.position[None]
        if embeddings.type is not None:
            places = embeddings.type[:, None] + places
        width = self._padded(embeddings.token.shape[1])
        self._add(_wide(embeddings.token, None, width))
        self._add(_wide(places.flatten(0, 1), None, width))
        self._add_norm(embeddings.norm)
        if embeddings.projection is not None:
            self._add_linear(embeddings.projection)

    def _add_layer(self, layer: Layer) -> None:
        parts = [
            self._by_head(layer.query, self._width**-0.5),
            self._by_head(layer.key),
            self._by_head(layer.value),
        ]
        self._add_linear(
            Linear(
                weight=torch.cat([part.weight for part in parts]),
                bias=torch.cat([part.bias for part in parts]),
            )
        )
        output = layer.attention_output
        by_head = output.weight.reshape(-1, self._n_heads, self._width)
        by_head = F.pad(by_head, (0, self._padded_width - self._width))
        self._add_linear(Linear(weight=by_head.flatten(1), bias=output.bias))
        self._add_rest(layer)

    def _add_rest(self, layer: Layer) -> None:
        self._add_norm(layer.attention_norm)
        self._add_linear(layer.feed_forward)
        self._add_linear(layer.feed_forward_output)
        self._add_norm(layer.feed_forward_norm)

    def _by_head(self, linear: Linear, scale: float = 1.0) -> Linear:
        """Return ``linear`` times ``scale``, each head's outputs padded."""
        n_heads, width = self._n_heads, self._width
        more = self._padded_width - width
        weight = linear.weight.reshape(n_heads, width, -1) * scale
        bias = linear.bias.reshape(n_heads, width) * scale
        return Linear(
            weight=F.pad(weight, (0, 0, 0, more)).flatten(0, 1),
            bias=F.pad(bias, (0, more)).flatten(),
        )


def _wide(matrix: Tensor, n_rows: int | None, n_columns: int) -> Tensor:
    """Return ``matrix`` with zeros after its rows and columns; itself where there are none."""
    more_rows = 0 if n_rows is None else n_rows - len(matrix)
    more_columns = n_columns - matrix.shape[1]
    return F.pad(matrix, (0, more_columns, 0, more_rows)) if more_rows or more_columns else matrix
