"""The forward pass on a CPU, in float32 or bfloat16.

Tokens stay packed end to end, without padding, for everything that works on one token at a time;
only attention sees rectangles of pairs. The last layer is computed for ``[CLS]`` alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from rerank_plugins.cross_encoder.forward.bert import (
    ACTIVATIONS,
    ActivationName,
    BertWeights,
    Embeddings,
    Head,
    Layer,
    LayerNorm,
    Linear,
)
from rerank_plugins.cross_encoder.forward.cpu_layout import RowLayout
from rerank_plugins.cross_encoder.forward.folding import fold_cls, query_key_value
from rerank_plugins.cross_encoder.forward.onednn import OneDnnLinear
from rerank_plugins.cross_encoder.pairs import PackedPairs
from rerank_plugins.errors import InvalidArgumentError


class EncoderForward:
    """Logits of packed pairs on the CPU; may be called by any thread."""

    def __init__(
        self,
        embeddings: EmbeddingTable,
        layers: Sequence[Callable[[Tensor, RowLayout], Tensor]],
        last_layer: ClsLayer,
        head: Head,
    ) -> None:
        self._embeddings = embeddings
        self._layers = layers
        self._last_layer = last_layer
        self._head = head

    def __call__(self, pairs: PackedPairs) -> Tensor:
        """Return float32 logits (n_pairs, n_labels)."""
        if pairs.n_pairs == 0:
            return torch.empty(0, self._head.classifier.weight.shape[0], dtype=torch.float32)
        layout = RowLayout.of(pairs)
        hidden = self._embeddings(pairs, layout)
        for layer in self._layers:
            hidden = layer(hidden, layout)
        return self._head(self._last_layer(hidden, layout))


class CpuForward(EncoderForward):
    """The forward pass in one dtype; holds prepared weights.

    ``dtype`` is that of whatever is done for every token. What is done once a pair (the last
    layer around its attention, and the head) stays float32.
    """

    def __init__(self, weights: BertWeights, *, dtype: torch.dtype) -> None:
        weights = weights.to(torch.device("cpu"), torch.float32)
        super().__init__(
            EmbeddingTable(weights.embeddings, dtype),
            [
                FullLayer(layer, weights.n_heads, weights.activation, dtype)
                for layer in weights.layers[:-1]
            ],
            ClsLayer(weights.layers[-1], weights.n_heads, weights.activation),
            weights.head,
        )


class EmbeddingTable:
    """Token, position and type embeddings, normed and projected."""

    def __init__(self, embeddings: Embeddings, dtype: torch.dtype) -> None:
        # One table, so that one pass adds two rows of it: a token's, and that of its type and
        # position, added here.
        positions = embeddings.position[None]
        if embeddings.type is not None:
            positions = embeddings.type[:, None] + positions
        self._n_positions = positions.shape[1]
        self._type_stride = self._n_positions if len(positions) > 1 else 0
        self._n_tokens = len(embeddings.token)
        self._table = torch.cat([embeddings.token, positions.flatten(0, 1)]).to(dtype)
        self._norm = _norm(embeddings.norm, dtype)
        self._projection = None
        if embeddings.projection is not None:
            self._projection = OneDnnLinear(embeddings.projection, dtype)

    def __call__(self, pairs: PackedPairs, layout: RowLayout) -> Tensor:
        """Return hidden states (n_rows, hidden), in ``dtype``.

        Raises `InvalidArgumentError` for a pair or an id that the model has no embedding for.
        """
        # In one table, an index past the end of its own part would read another's.
        if pairs.max_length > self._n_positions:
            raise InvalidArgumentError(
                f"a pair has {pairs.max_length} tokens, and the model has positions for "
                f"{self._n_positions}: truncate pairs to max_length={self._n_positions} or less"
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


class FullLayer:
    """One encoder layer over all rows: (n_rows, hidden) in and out, in ``dtype``."""

    def __init__(
        self, layer: Layer, n_heads: int, activation: ActivationName, dtype: torch.dtype
    ) -> None:
        self._n_heads = n_heads
        self._query_key_value = OneDnnLinear(query_key_value(layer), dtype)
        self._attention_output = OneDnnLinear(layer.attention_output, dtype)
        self._attention_norm = _norm(layer.attention_norm, dtype)
        self._feed_forward = OneDnnLinear(layer.feed_forward, dtype, activation)
        self._feed_forward_output = OneDnnLinear(layer.feed_forward_output, dtype)
        self._feed_forward_norm = _norm(layer.feed_forward_norm, dtype)

    def __call__(self, hidden: Tensor, layout: RowLayout) -> Tensor:
        return self.steps(hidden, layout)[-1]

    def steps(self, hidden: Tensor, layout: RowLayout) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the inputs of all products but the first, and the output.

        All in ``dtype``: (n_rows, hidden), the third (n_rows, feed_forward).
        """
        context = attend(self._query_key_value(hidden), layout, self._n_heads)
        middle = self._attention_norm(self._attention_output(context, residual=hidden))
        inner = self._feed_forward(middle)
        output = self._feed_forward_norm(self._feed_forward_output(inner, residual=middle))
        return context, middle, inner, output


def attend(query_key_value: Tensor, layout: RowLayout, n_heads: int) -> Tensor:
    """Attend within each pair: (n_rows, 3 * hidden) to (n_rows, hidden), in the same dtype."""
    hidden_size = query_key_value.shape[1] // 3
    size = hidden_size // n_heads
    context = query_key_value.new_empty(layout.n_rows, hidden_size)
    for block in layout.blocks:
        result = F.scaled_dot_product_attention(
            block.view(query_key_value, block.stride, n_heads, size),
            block.view(query_key_value, block.width, n_heads, size, first=hidden_size),
            block.view(query_key_value, block.width, n_heads, size, first=2 * hidden_size),
            attn_mask=block.bias.to(query_key_value.dtype),
        )
        context[block.start : block.stop] = result.transpose(1, 2).reshape(-1, hidden_size)
    context[layout.blocks[-1].stop :] = 0.0
    return context


# Up to this many entries, a folded product (n_heads * hidden, hidden) is quicker than the two that
# it is made of.
FOLDED_ENTRIES = 65_536


class ClsLayer:
    """The last layer, for ``[CLS]`` alone, without keys or values of any token (see `folding`).

    In float32, except that attention reads the hidden states in their own dtype.
    """

    def __init__(self, layer: Layer, n_heads: int, activation: ActivationName) -> None:
        self._layer = layer
        self._n_heads = n_heads
        self._activation = ACTIVATIONS[activation]
        hidden_size = len(layer.query.bias)
        size = hidden_size // n_heads
        self._scale = size**-0.5
        by_head = (n_heads, size, hidden_size)
        self._key, self._value = layer.key.weight.view(by_head), layer.value.weight.view(by_head)
        self._is_folded = n_heads * layer.query.weight.numel() <= FOLDED_ENTRIES
        if self._is_folded:
            self._folded_query, self._folded_output = (
                Linear(weight=part.weight.float(), bias=part.bias.float())
                for part in fold_cls(layer, n_heads)
            )

    def __call__(self, hidden: Tensor, layout: RowLayout) -> Tensor:
        """Return the last hidden states of ``[CLS]`` (n_pairs, hidden), float32."""
        layer, hidden_size = self._layer, hidden.shape[1]
        cls = hidden.index_select(0, layout.cls_rows).float()
        queries = self._queries(cls).to(hidden.dtype)
        mixed, first = [], 0
        for block in layout.blocks:
            states = block.view(hidden, block.width, 1, hidden_size)
            mixed.append(
                F.scaled_dot_product_attention(
                    queries[first : first + block.n_pairs],
                    states,
                    states,
                    attn_mask=block.bias.to(hidden.dtype),
                    scale=1.0,
                )
            )
            first += block.n_pairs
        cls = layer.attention_norm(self._output(torch.cat(mixed).float()) + cls)
        inner = self._activation(layer.feed_forward(cls))
        return layer.feed_forward_norm(layer.feed_forward_output(inner) + cls)

    def _queries(self, cls: Tensor) -> Tensor:
        """Return each head's query for hidden states, scaled: (n_pairs, 1, n_heads, hidden).

        All heads read the same states, so they are positions of one head's query.
        """
        if self._is_folded:
            return self._folded_query(cls).view(len(cls), 1, self._n_heads, -1)
        query = (self._layer.query(cls) * self._scale).view(len(cls), self._n_heads, -1)
        by_head: Tensor = query.transpose(0, 1) @ self._key
        return by_head.transpose(0, 1)[:, None]

    def _output(self, mixed: Tensor) -> Tensor:
        """Return the attention's output (n_pairs, hidden).

        ``mixed`` is each head's weighted sum of hidden states (n_pairs, 1, n_heads, hidden).
        """
        if self._is_folded:
            return self._folded_output(mixed.flatten(1))
        by_head: Tensor = mixed[:, 0].transpose(0, 1) @ self._value.mT
        context = by_head.transpose(0, 1).flatten(1)
        return self._layer.attention_output(context + self._layer.value.bias)


def _norm(norm: LayerNorm, dtype: torch.dtype) -> LayerNorm:
    return LayerNorm(weight=norm.weight.to(dtype), bias=norm.bias.to(dtype), eps=norm.eps)
