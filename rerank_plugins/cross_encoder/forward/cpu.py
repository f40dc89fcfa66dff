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
from rerank_plugins.cross_encoder.forward.cpu_layout import Rows
from rerank_plugins.cross_encoder.forward.onednn import PackedLinear
from rerank_plugins.cross_encoder.pairs import PackedPairs
from rerank_plugins.errors import InvalidArgumentError


class EncoderForward:
    """Logits of packed pairs on the CPU; may be called by any thread."""

    def __init__(
        self,
        embeddings: EmbeddingRows,
        layers: Sequence[Callable[[Tensor, Rows], Tensor]],
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
            return torch.empty(0, self._head.classifier.weight.shape[0])
        rows = Rows.of(pairs)
        hidden = self._embeddings(pairs, rows)
        for layer in self._layers:
            hidden = layer(hidden, rows)
        return self._head(self._last_layer(hidden, rows))


class CpuForward(EncoderForward):
    """The forward pass in one dtype; holds prepared weights.

    ``dtype`` is that of whatever is done for every token. What is done once a pair (the last
    layer around its attention, and the head) stays float32.
    """

    def __init__(self, weights: BertWeights, *, dtype: torch.dtype) -> None:
        weights = weights.to(torch.device("cpu"), torch.float32)
        super().__init__(
            EmbeddingRows(weights.embeddings, dtype),
            [
                FullLayer(layer, weights.n_heads, weights.activation, dtype)
                for layer in weights.layers[:-1]
            ],
            ClsLayer(weights.layers[-1], weights.n_heads, weights.activation),
            weights.head,
        )


class EmbeddingRows:
    """Token, position and type embeddings, normed and projected: (count, hidden)."""

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
            self._projection = PackedLinear(embeddings.projection, dtype)

    def __call__(self, pairs: PackedPairs, rows: Rows) -> Tensor:
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
        indices = np.zeros((rows.count, 2), np.int32)
        indices[rows.token_rows, 0] = pairs.ids
        indices[rows.token_rows, 1] = (
            rows.positions + pairs.type_ids * self._type_stride + self._n_tokens
        )
        hidden = F.embedding_bag(torch.from_numpy(indices), self._table, mode="sum")
        hidden = self._norm(hidden)
        return hidden if self._projection is None else self._projection(hidden)


class FullLayer:
    """One encoder layer over all tokens."""

    def __init__(
        self, layer: Layer, n_heads: int, activation: ActivationName, dtype: torch.dtype
    ) -> None:
        self._n_heads = n_heads
        self._query_key_value = PackedLinear(query_key_value(layer), dtype)
        self._attention_output = PackedLinear(layer.attention_output, dtype)
        self._attention_norm = _norm(layer.attention_norm, dtype)
        self._feed_forward = PackedLinear(layer.feed_forward, dtype, activation)
        self._feed_forward_output = PackedLinear(layer.feed_forward_output, dtype)
        self._feed_forward_norm = _norm(layer.feed_forward_norm, dtype)

    def __call__(self, hidden: Tensor, rows: Rows) -> Tensor:
        return self.steps(hidden, rows)[-1]

    def steps(self, hidden: Tensor, rows: Rows) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the inputs of all products but the first, and the output."""
        context = attend(self._query_key_value(hidden), rows, self._n_heads)
        middle = self._attention_norm(self._attention_output(context, residual=hidden))
        inner = self._feed_forward(middle)
        output = self._feed_forward_norm(self._feed_forward_output(inner, residual=middle))
        return context, middle, inner, output


def query_key_value(layer: Layer) -> Linear:
    """Return the three projections as one."""
    parts = (layer.query, layer.key, layer.value)
    return Linear(
        weight=torch.cat([part.weight for part in parts]),
        bias=torch.cat([part.bias for part in parts]),
    )


def attend(mixed: Tensor, rows: Rows, n_heads: int) -> Tensor:
    """From queries, keys and values (count, 3 * hidden) to contexts (count, hidden)."""
    hidden_size = mixed.shape[1] // 3
    size = hidden_size // n_heads
    context = mixed.new_empty(rows.count, hidden_size)
    for group in rows.groups:
        result = F.scaled_dot_product_attention(
            group.view(mixed, group.stride, n_heads, size),
            group.view(mixed, group.width, n_heads, size, first=hidden_size),
            group.view(mixed, group.width, n_heads, size, first=2 * hidden_size),
            attn_mask=group.bias.to(mixed.dtype),
        )
        context[group.start : group.stop] = result.transpose(1, 2).reshape(-1, hidden_size)
    context[rows.groups[-1].stop :] = 0.0
    return context


# Up to this many entries, a product of two weights for every head is quicker to apply than the two.
FOLDED_ENTRIES = 65_536


class ClsLayer:
    """The last layer, for ``[CLS]`` alone, without a key or a value for any token.

    A head's score for a token x is (q Wk) x + q bk with q the query of [CLS]: the query is taken
    into the hidden space once a pair, and its bias term, equal for all tokens, drops out of the
    softmax. Likewise the softmax-weighted sum of values is Wv (sum of weighted x) + bv.
    """

    def __init__(self, layer: Layer, n_heads: int, activation: ActivationName) -> None:
        self._layer = layer
        self._n_heads = n_heads
        self._activation = ACTIVATIONS[activation]
        query, output = layer.query, layer.attention_output
        hidden_size = len(query.bias)
        size = hidden_size // n_heads
        self._scale = size**-0.5
        by_head = (n_heads, size, hidden_size)
        self._key, self._value = layer.key.weight.view(by_head), layer.value.weight.view(by_head)
        self._folded = n_heads * query.weight.numel() <= FOLDED_ENTRIES
        if self._folded:
            self._ask = Linear(
                weight=(self._key.mT @ query.weight.view(by_head)).flatten(0, 1),
                bias=(query.bias.view(n_heads, 1, size) @ self._key).flatten(),
            )
            columns = output.weight.view(hidden_size, n_heads, size).transpose(0, 1)
            self._answer = Linear(
                weight=(columns @ self._value).transpose(0, 1).flatten(1),
                bias=output(layer.value.bias),
            )

    def __call__(self, hidden: Tensor, rows: Rows) -> Tensor:
        layer, hidden_size = self._layer, hidden.shape[1]
        cls = hidden.index_select(0, rows.cls_rows).float()
        query = self._queries(cls).to(hidden.dtype)
        results, first = [], 0
        for group in rows.groups:
            tokens = group.view(hidden, group.width, 1, hidden_size)
            results.append(
                F.scaled_dot_product_attention(
                    query[first : first + group.n_pairs],
                    tokens,
                    tokens,
                    attn_mask=group.bias.to(hidden.dtype),
                    scale=self._scale,
                )
            )
            first += group.n_pairs
        cls = layer.attention_norm(self._outputs(torch.cat(results).float()) + cls)
        inner = self._activation(layer.feed_forward(cls))
        return layer.feed_forward_norm(layer.feed_forward_output(inner) + cls)

    def _queries(self, cls: Tensor) -> Tensor:
        """Return what each head looks for among hidden states: (n_pairs, 1, heads, hidden).

        A pair's heads stand where attention has its positions.
        """
        if self._folded:
            return self._ask(cls).view(len(cls), 1, self._n_heads, -1)
        query = self._layer.query(cls).view(len(cls), self._n_heads, -1).transpose(0, 1)
        return (query @ self._key).transpose(0, 1)[:, None]

    def _outputs(self, summed: Tensor) -> Tensor:
        """Return the attention's output (n_pairs, hidden) from what each head has summed up."""
        if self._folded:
            return self._answer(summed.flatten(1))
        context = (summed[:, 0].transpose(0, 1) @ self._value.mT).transpose(0, 1).flatten(1)
        return self._layer.attention_output(context + self._layer.value.bias)


def _norm(norm: LayerNorm, dtype: torch.dtype) -> LayerNorm:
    return LayerNorm(weight=norm.weight.to(dtype), bias=norm.bias.to(dtype), eps=norm.eps)
