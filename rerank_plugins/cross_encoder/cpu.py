"""The forward pass on a CPU, in float32 or bfloat16.

Tokens stay packed end to end, without padding, for everything that works on one token at a time;
only attention sees rectangles of pairs. The last layer is computed for ``[CLS]`` alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from rerank_plugins.cross_encoder.batches import PackedPairs
from rerank_plugins.cross_encoder.bert import (
    ACTIVATIONS,
    ActivationName,
    BertWeights,
    Embeddings,
    Layer,
    LayerNorm,
    Linear,
)
from rerank_plugins.errors import InvalidArgumentError

IntArray = npt.NDArray[np.int64]


class CpuForward:
    """Logits of packed pairs on the CPU; holds prepared weights, and may be called by any thread.

    ``dtype`` is that of whatever is done for every token. What is done once a pair (the last
    layer around its attention, and the head) stays float32.
    """

    def __init__(self, weights: BertWeights, *, dtype: torch.dtype) -> None:
        weights = weights.to(torch.device("cpu"), torch.float32)
        self._dtype = dtype
        self._embeddings = _Embeddings(weights.embeddings, dtype)
        self._layers = [
            _FullLayer(layer, weights.n_heads, weights.activation, dtype)
            for layer in weights.layers[:-1]
        ]
        self._last_layer = _ClsLayer(weights.layers[-1], weights.n_heads, weights.activation)
        self._head = weights.head

    def __call__(self, pairs: PackedPairs) -> Tensor:
        """Return float32 logits (n_pairs, n_labels)."""
        if pairs.n_pairs == 0:
            return torch.empty(0, self._head.classifier.weight.shape[0])
        layout = _Layout.of(pairs, self._dtype)
        hidden = self._embeddings(pairs, layout)
        for layer in self._layers:
            hidden = layer(hidden, layout)
        return self._head(self._last_layer(hidden, layout))


@dataclass(frozen=True, slots=True)
class _Group:
    """Neighbouring pairs of nearly one length: ``stride`` rows each, from row ``start`` on.

    Attention reads ``width`` rows a pair, a multiple of 16, because its kernel takes up to 1.5
    times as long on the widths between. The rows after ``stride`` are the next pair's; ``bias``
    (n_pairs or 1, 1, 1, width) masks them, so that nothing is moved or copied.
    """

    start: int
    n_pairs: int
    stride: int
    width: int
    bias: Tensor

    @classmethod
    def of(cls, start: int, lengths: list[int], dtype: torch.dtype) -> _Group:
        stride = lengths[0]
        width = -(-stride // 16) * 16
        distinct = torch.tensor(lengths if lengths[-1] < stride else [stride])
        outside = torch.arange(width) >= distinct[:, None]
        bias = torch.zeros(outside.shape, dtype=dtype).masked_fill_(outside, -torch.inf)
        return cls(start, len(lengths), stride, width, bias[:, None, None])

    @property
    def stop(self) -> int:
        return self.start + self.n_pairs * self.stride

    def view(self, rows: Tensor, positions: int, heads: int, size: int, first: int = 0) -> Tensor:
        """View ``heads * size`` columns of ``rows``, from ``first`` on, as attention takes them.

        (n_rows, columns) -> (n_pairs, heads, positions, size), where pairs overlap if
        ``positions`` is more than the stride.
        """
        columns = rows.shape[1]
        return rows.as_strided(
            (self.n_pairs, heads, positions, size),
            (self.stride * columns, size, columns, 1),
            self.start * columns + first,
        )


@dataclass(frozen=True, slots=True)
class _Layout:
    """Which of the ``n_rows`` rows of a hidden state holds which token.

    Pairs stand end to end. The few rows without a token, between the pairs of a group and at
    the end, hold something finite that no token sees.
    """

    n_rows: int
    positions: IntArray
    token_rows: IntArray
    cls_rows: IntArray
    groups: list[_Group]

    @classmethod
    def of(cls, pairs: PackedPairs, dtype: torch.dtype) -> _Layout:
        groups, row = [], 0
        for lengths in _neighbours(pairs.lengths.tolist()):
            groups.append(_Group.of(row, lengths, dtype))
            row = groups[-1].stop
        strides = np.repeat([group.stride for group in groups], [group.n_pairs for group in groups])
        cls_rows = np.cumsum(strides) - strides
        starts = np.cumsum(pairs.lengths) - pairs.lengths
        tokens = np.arange(pairs.n_tokens)
        positions = tokens - np.repeat(starts, pairs.lengths)
        token_rows = positions + np.repeat(cls_rows, pairs.lengths)
        # The last pair's view reaches up to 15 rows beyond its own.
        return cls(_rounded(row + 15), positions, token_rows, cls_rows, groups)


def _neighbours(lengths: list[int]) -> Iterator[list[int]]:
    """Cut descending ``lengths`` into runs, each to be brought to the length of its first.

    A run may waste 3% of its rows, and 16 more: one call of attention costs as much.

    >>> list(_neighbours([90, 90, 88, 60, 59, 1]))
    [[90, 90, 88], [60, 59], [1]]
    """
    first = rows = waste = 0
    for index, length in enumerate(lengths):
        rows += lengths[first]
        waste += lengths[first] - length
        if waste > 16 + 0.03 * rows:
            yield lengths[first:index]
            first, rows, waste = index, length, 0
    yield lengths[first:]


def _rounded(n_rows: int) -> int:
    """Round up to one of 32 sizes an octave, a multiple of 16.

    oneDNN builds and compiles a kernel for each shape it has not seen, at 0.5 to 10 ms: more
    than the product itself. Few distinct shapes are worth a few rows of padding.
    """
    step = max(16, 1 << max(0, n_rows.bit_length() - 6))
    return -(-n_rows // step) * step


class _Embeddings:
    """Token, position and type embeddings, normed and projected: (n_rows, hidden)."""

    def __init__(self, embeddings: Embeddings, dtype: torch.dtype) -> None:
        # One table, so that one pass adds two rows of it: a token's, and that of its type and
        # position, added here.
        places = embeddings.position[None]
        if embeddings.type is not None:
            places = embeddings.type[:, None] + places
        self._n_places = places.shape[1]
        self._type_stride = self._n_places if len(places) > 1 else 0
        self._n_tokens = len(embeddings.token)
        self._table = torch.cat([embeddings.token, places.flatten(0, 1)]).to(dtype)
        self._norm = _norm(embeddings.norm, dtype)
        self._projection = None
        if embeddings.projection is not None:
            self._projection = _PackedLinear(embeddings.projection, dtype)

    def __call__(self, pairs: PackedPairs, layout: _Layout) -> Tensor:
        # In one table, an index past the end of its own part would read another's.
        if pairs.max_length > self._n_places:
            raise InvalidArgumentError(
                f"a pair has {pairs.max_length} tokens, and the model has positions for "
                f"{self._n_places}: truncate pairs to max_length={self._n_places} or less"
            )
        if (largest := int(pairs.ids.max())) >= self._n_tokens:
            raise InvalidArgumentError(
                f"a token has the id {largest}, and the model has embeddings for "
                f"{self._n_tokens}: use the tokenizer that was saved with the model"
            )
        indices = np.zeros((layout.n_rows, 2), np.int32)
        indices[layout.token_rows, 0] = pairs.ids
        indices[layout.token_rows, 1] = (
            layout.positions + pairs.type_ids * self._type_stride + self._n_tokens
        )
        hidden = F.embedding_bag(torch.from_numpy(indices), self._table, mode="sum")
        hidden = self._norm(hidden)
        return hidden if self._projection is None else self._projection(hidden)


class _FullLayer:
    """One encoder layer over all tokens."""

    def __init__(
        self, layer: Layer, n_heads: int, activation: ActivationName, dtype: torch.dtype
    ) -> None:
        self._n_heads = n_heads
        parts = (layer.query, layer.key, layer.value)
        self._query_key_value = _PackedLinear(
            Linear(
                weight=torch.cat([part.weight for part in parts]),
                bias=torch.cat([part.bias for part in parts]),
            ),
            dtype,
        )
        self._attention_output = _PackedLinear(layer.attention_output, dtype)
        self._attention_norm = _norm(layer.attention_norm, dtype)
        self._feed_forward = _PackedLinear(layer.feed_forward, dtype, activation)
        self._feed_forward_output = _PackedLinear(layer.feed_forward_output, dtype)
        self._feed_forward_norm = _norm(layer.feed_forward_norm, dtype)

    def __call__(self, hidden: Tensor, layout: _Layout) -> Tensor:
        context = self._attention(self._query_key_value(hidden), layout)
        hidden = self._attention_norm(self._attention_output(context, residual=hidden))
        inner = self._feed_forward(hidden)
        return self._feed_forward_norm(self._feed_forward_output(inner, residual=hidden))

    def _attention(self, mixed: Tensor, layout: _Layout) -> Tensor:
        """(n_rows, 3 * hidden) -> (n_rows, hidden)."""
        heads, hidden_size = self._n_heads, mixed.shape[1] // 3
        size = hidden_size // heads
        context = mixed.new_empty(layout.n_rows, hidden_size)
        for group in layout.groups:
            result = F.scaled_dot_product_attention(
                group.view(mixed, group.stride, heads, size),
                group.view(mixed, group.width, heads, size, first=hidden_size),
                group.view(mixed, group.width, heads, size, first=2 * hidden_size),
                attn_mask=group.bias,
            )
            context[group.start : group.stop] = result.transpose(1, 2).reshape(-1, hidden_size)
        context[layout.groups[-1].stop :] = 0.0
        return context


class _ClsLayer:
    """The last layer, for ``[CLS]`` alone, without a key or a value for any token.

    A head's score for a token x is (q Wk) x + q bk with q the query of [CLS]: the query is taken
    into the hidden space once a pair, and its bias term, equal for all tokens, drops out of the
    softmax. Likewise the softmax-weighted sum of values is Wv (sum of weighted x) + bv.
    """

    def __init__(self, layer: Layer, n_heads: int, activation: ActivationName) -> None:
        self._layer = layer
        self._n_heads = n_heads
        self._activation = ACTIVATIONS[activation]

    def __call__(self, hidden: Tensor, layout: _Layout) -> Tensor:
        layer, heads, hidden_size = self._layer, self._n_heads, hidden.shape[1]
        cls = hidden.index_select(0, torch.from_numpy(layout.cls_rows)).float()
        query = layer.query(cls).view(len(cls), heads, -1).transpose(0, 1)
        query = query @ layer.key.weight.view(heads, -1, hidden_size)
        # (n_pairs, 1, heads, hidden): a pair's heads stand where attention has its positions.
        query = query.transpose(0, 1)[:, None].to(hidden.dtype)
        results, first = [], 0
        for group in layout.groups:
            tokens = group.view(hidden, group.width, 1, hidden_size)
            results.append(
                F.scaled_dot_product_attention(
                    query[first : first + group.n_pairs],
                    tokens,
                    tokens,
                    attn_mask=group.bias,
                    scale=(hidden_size // heads) ** -0.5,
                )
            )
            first += group.n_pairs
        summed = torch.cat(results)[:, 0].transpose(0, 1).float()
        value = layer.value.weight.view(heads, -1, hidden_size).transpose(1, 2)
        context = (summed @ value).transpose(0, 1).flatten(1) + layer.value.bias
        cls = layer.attention_norm(layer.attention_output(context) + cls)
        inner = self._activation(layer.feed_forward(cls))
        return layer.feed_forward_norm(layer.feed_forward_output(inner) + cls)


# The post-operations of oneDNN: name, algorithm.
_FUSED: dict[ActivationName, tuple[str, str]] = {
    "gelu": ("gelu", "none"),
    "gelu_tanh": ("gelu", "tanh"),
    "relu": ("relu", ""),
    "silu": ("swish", ""),
    "tanh": ("tanh", ""),
}


class _PackedLinear:
    """A linear layer over many rows, with its activation or a residual in the same pass.

    oneDNN takes the weight in its own blocked order, and applies what follows while the result
    is in the cache.
    """

    def __init__(
        self, linear: Linear, dtype: torch.dtype, activation: ActivationName | None = None
    ) -> None:
        self._bias = linear.bias.to(dtype)
        self._activation = ACTIVATIONS[activation] if activation else None
        self._packed = _onednn_takes(dtype)
        if self._packed:
            # The order is chosen for a number of rows; the one for 1024 does for all.
            self._weight = torch.ops.mkldnn._reorder_linear_weight(linear.weight.to(dtype), 1024)
            self._fused = _FUSED[activation] if activation else ("none", "")
        else:
            self._weight = linear.weight.to(dtype)

    def __call__(self, rows: Tensor, residual: Tensor | None = None) -> Tensor:
        if self._packed:
            linear = torch.ops.mkldnn._linear_pointwise
            result: Tensor
            if residual is not None:
                result = linear.binary(rows, residual, self._weight, self._bias, "add")
            else:
                name, algorithm = self._fused
                result = linear(rows, self._weight, self._bias, name, [], algorithm)
            return result
        result = F.linear(rows, self._weight, self._bias)
        if residual is not None:
            result += residual
        return result if self._activation is None else self._activation(result)


def _onednn_takes(dtype: torch.dtype) -> bool:
    """Say whether torch has oneDNN and may use it, and this processor its kernels for ``dtype``."""
    mkldnn = torch.backends.mkldnn
    if not (mkldnn.is_available() and mkldnn.enabled):  # type: ignore[no-untyped-call]
        return False
    return dtype == torch.float32 or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _norm(norm: LayerNorm, dtype: torch.dtype) -> LayerNorm:
    return LayerNorm(weight=norm.weight.to(dtype), bias=norm.bias.to(dtype), eps=norm.eps)
