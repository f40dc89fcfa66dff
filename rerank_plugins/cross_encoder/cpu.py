"""The forward pass on a CPU, in float32 or bfloat16.

Tokens stay packed end to end, without padding, for everything that works on one token at a time;
only attention sees rectangles of pairs. The last layer is computed for ``[CLS]`` alone.
"""

from __future__ import annotations

from dataclasses import dataclass

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


class CpuForward:
    """Logits of packed pairs on the CPU; holds prepared weights, and may be called by any thread.

    ``dtype`` is that of the weights and matrix products. Norms, softmax and the head accumulate
    in float32 in either case.
    """

    def __init__(self, weights: BertWeights, *, dtype: torch.dtype) -> None:
        cpu = torch.device("cpu")
        weights = weights.to(cpu, torch.float32)
        self._embeddings = _Embeddings(weights.embeddings, dtype)
        self._layers = [
            _FullLayer(layer, weights.n_heads, weights.activation, dtype)
            for layer in weights.layers[:-1]
        ]
        self._last_layer = _ClsLayer(weights.layers[-1], weights.n_heads, weights.activation, dtype)
        self._head = weights.head

    def __call__(self, pairs: PackedPairs) -> Tensor:
        """Return float32 logits (n_pairs, n_labels)."""
        if pairs.n_pairs == 0:
            return torch.empty(0, self._head.classifier.weight.shape[0])
        layout = _Layout.of(pairs)
        hidden = self._embeddings(pairs, layout)
        for layer in self._layers:
            hidden = layer(hidden, layout)
        return self._head(self._last_layer(hidden, layout).float())


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where the tokens of each pair lie, packed and in a rectangle (n_pairs, max_length).

    ``to_packed`` has the rectangle's cell of each token, ``to_padded`` the token of each cell
    (any token for padding) and ``bias`` (n_pairs, max_length) is minus infinity on padding; all
    three are None when every pair is equally long and the packed tokens are the rectangle.
    """

    n_pairs: int
    max_length: int
    cls_rows: Tensor
    positions: Tensor
    to_padded: Tensor | None
    to_packed: Tensor | None
    bias: Tensor | None

    @classmethod
    def of(cls, pairs: PackedPairs) -> _Layout:
        lengths = torch.from_numpy(pairs.lengths).long()
        n_pairs, max_length = pairs.n_pairs, pairs.max_length
        starts = lengths.cumsum(0) - lengths
        columns = torch.arange(max_length)
        if n_pairs * max_length == pairs.n_tokens:
            positions = columns.repeat(n_pairs)
            return cls(n_pairs, max_length, starts, positions, None, None, None)
        inside = columns < lengths[:, None]
        cells = inside.flatten().nonzero().flatten()
        to_padded = torch.where(inside, starts[:, None] + columns, starts[:, None]).flatten()
        bias = torch.zeros(inside.shape).masked_fill_(~inside, -torch.inf)
        return cls(n_pairs, max_length, starts, cells % max_length, to_padded, cells, bias)

    def padded(self, packed: Tensor) -> Tensor:
        """(n_tokens, width) -> (n_pairs, max_length, width)."""
        if self.to_padded is not None:
            packed = packed.index_select(0, self.to_padded)
        return packed.view(self.n_pairs, self.max_length, -1)

    def packed(self, padded: Tensor) -> Tensor:
        """(n_pairs, max_length, width) -> (n_tokens, width)."""
        flat = padded.reshape(self.n_pairs * self.max_length, -1)
        return flat if self.to_packed is None else flat.index_select(0, self.to_packed)


class _Embeddings:
    """Token, position and type embeddings, normed and projected: (n_tokens, hidden)."""

    def __init__(self, embeddings: Embeddings, dtype: torch.dtype) -> None:
        self._token = embeddings.token.to(dtype)
        places = embeddings.position[None]
        if embeddings.type is not None:
            places = embeddings.type[:, None] + places
        self._n_positions = places.shape[1]
        self._places = places.flatten(0, 1).to(dtype)
        self._n_types = places.shape[0]
        self._norm = _norm(embeddings.norm, dtype)
        self._projection = _linear(embeddings.projection, dtype) if embeddings.projection else None

    def __call__(self, pairs: PackedPairs, layout: _Layout) -> Tensor:
        places = layout.positions
        if self._n_types > 1:
            places = places + torch.from_numpy(pairs.type_ids).long().mul_(self._n_positions)
        hidden = F.embedding(torch.from_numpy(pairs.ids), self._token)
        hidden += F.embedding(places, self._places)
        hidden = self._norm(hidden)
        return hidden if self._projection is None else self._projection(hidden)


class _FullLayer:
    """One encoder layer over all tokens."""

    def __init__(
        self, layer: Layer, n_heads: int, activation: ActivationName, dtype: torch.dtype
    ) -> None:
        self._n_heads = n_heads
        parts = (layer.query, layer.key, layer.value)
        self._query_key_value = Linear(
            weight=torch.cat([part.weight for part in parts]).to(dtype),
            bias=torch.cat([part.bias for part in parts]).to(dtype),
        )
        self._rest = _AfterAttention(layer, activation, dtype)

    def __call__(self, hidden: Tensor, layout: _Layout) -> Tensor:
        mixed = layout.padded(self._query_key_value(hidden))
        query, key, value = mixed.view(
            layout.n_pairs, layout.max_length, 3, self._n_heads, -1
        ).permute(2, 0, 3, 1, 4)
        bias = None
        if layout.bias is not None:
            bias = layout.bias[:, None, None].to(hidden.dtype)
        context = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        context = layout.packed(context.transpose(1, 2).flatten(2))
        return self._rest(hidden, context)


class _ClsLayer:
    """The last layer, for ``[CLS]`` alone, without a key or a value for any token.

    A head's score for a token is (q Wk) x + q bk with q the query of [CLS]: the query is taken
    into the hidden space once a pair, and its bias term, equal for all tokens, drops out of the
    softmax. Likewise the softmax-weighted sum of values is Wv (sum of weighted x) + bv.
    """

    def __init__(
        self, layer: Layer, n_heads: int, activation: ActivationName, dtype: torch.dtype
    ) -> None:
        hidden_size = layer.query.weight.shape[1]
        width = hidden_size // n_heads
        self._query = Linear(
            weight=(layer.query.weight * width**-0.5).to(dtype),
            bias=(layer.query.bias * width**-0.5).to(dtype),
        )
        # (heads, width, hidden) and (heads, hidden, width)
        self._key = layer.key.weight.view(n_heads, width, hidden_size).to(dtype)
        value = layer.value.weight.view(n_heads, width, hidden_size)
        self._value = value.transpose(1, 2).contiguous().to(dtype)
        self._value_bias = layer.value.bias.to(dtype)
        self._rest = _AfterAttention(layer, activation, dtype)
        self._n_heads = n_heads

    def __call__(self, hidden: Tensor, layout: _Layout) -> Tensor:
        cls = hidden.index_select(0, layout.cls_rows)
        query = self._query(cls).view(layout.n_pairs, self._n_heads, -1)
        # (n_pairs, heads, hidden)
        query = torch.bmm(query.transpose(0, 1), self._key).transpose(0, 1)
        tokens = layout.padded(hidden)
        scores = torch.bmm(query, tokens.transpose(1, 2))
        if layout.bias is not None:
            scores += layout.bias[:, None]
        summed = torch.bmm(scores.softmax(-1), tokens)
        context = torch.bmm(summed.transpose(0, 1), self._value).transpose(0, 1).flatten(1)
        return self._rest(cls, context + self._value_bias)


class _AfterAttention:
    """Output projection, feed-forward, and the norms: token by token."""

    def __init__(self, layer: Layer, activation: ActivationName, dtype: torch.dtype) -> None:
        self._attention_output = _linear(layer.attention_output, dtype)
        self._attention_norm = _norm(layer.attention_norm, dtype)
        self._feed_forward = _linear(layer.feed_forward, dtype)
        self._feed_forward_output = _linear(layer.feed_forward_output, dtype)
        self._feed_forward_norm = _norm(layer.feed_forward_norm, dtype)
        self._activation = ACTIVATIONS[activation]

    def __call__(self, hidden: Tensor, context: Tensor) -> Tensor:
        hidden = self._attention_norm(self._attention_output(context).add_(hidden))
        inner = self._activation(self._feed_forward(hidden))
        return self._feed_forward_norm(self._feed_forward_output(inner).add_(hidden))


def _linear(linear: Linear, dtype: torch.dtype) -> Linear:
    return Linear(weight=linear.weight.to(dtype), bias=linear.bias.to(dtype))


def _norm(norm: LayerNorm, dtype: torch.dtype) -> LayerNorm:
    return LayerNorm(weight=norm.weight.to(dtype), bias=norm.bias.to(dtype), eps=norm.eps)
