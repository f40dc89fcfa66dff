"""Pairs end to end, without padding, in plain PyTorch: any width, any dtype, any device.

This is the general path on CUDA, and the plain twin that each Triton kernel is tested against:
`fused.py` overrides the five operations of `PackedForward` and nothing else.

The last layer is computed for ``[CLS]`` alone, and without keys or values: with
``k_t = Wk x_t + bk`` the logits of a head are ``q . k_t = (Wk^T q) . x_t + constant``, and softmax
drops the constant; the weights sum to one, so ``sum_t p_t v_t = Wv (sum_t p_t x_t) + bv``. Both
products of weights are made once, at load, so a head reads the hidden states and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

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


@dataclass(frozen=True, kw_only=True)
class PackedBatch:
    """Pairs on the device. Made anew for each forward pass, since it remembers its padding.

    ``ids`` and ``type_ids`` (n_tokens,), ``offsets`` (n_pairs + 1,), all int32: the tokens of pair
    i are ``offsets[i]:offsets[i + 1]``. A batch of a CUDA graph is larger than what it holds: the
    last pairs are empty, and tokens from ``offsets[-1]`` on belong to no pair.
    """

    ids: Tensor
    type_ids: Tensor
    offsets: Tensor
    max_length: int

    @property
    def n_pairs(self) -> int:
        return self.offsets.shape[0] - 1

    @property
    def n_tokens(self) -> int:
        return self.ids.shape[0]

    @cached_property
    def cls_rows(self) -> Tensor:
        """The row of each pair's ``[CLS]`` (n_pairs,); for an empty pair, of some token."""
        return self.offsets[:-1].clamp(max=self.n_tokens - 1)

    @cached_property
    def padding(self) -> Padding:
        offsets, device = self.offsets, self.offsets.device
        tokens = torch.arange(self.n_tokens, device=device, dtype=torch.int32)
        pair = torch.searchsorted(offsets, tokens, right=True) - 1
        pair = pair.clamp(max=self.n_pairs - 1)
        position = (tokens - offsets[pair]).clamp(max=self.max_length - 1)
        steps = torch.arange(self.max_length, device=device, dtype=torch.int32)
        lengths = offsets[1:] - offsets[:-1]
        # An empty pair attends to one row of another: finite, and never read.
        visible = steps < lengths.clamp(min=1)[:, None]
        return Padding(
            position=position,
            rows=(offsets[:-1, None] + steps).clamp(max=self.n_tokens - 1),
            slots=pair * self.max_length + position,
            visible=visible[:, None, None, :],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Padding:
    """Where each token is when every pair is padded to ``max_length``.

    ``position`` (n_tokens,) within its pair; ``rows`` (n_pairs, max_length), the token in each
    padded slot; ``slots`` (n_tokens,), the padded slot of each token; ``visible``
    (n_pairs, 1, 1, max_length), whether a slot holds a token of the pair.
    """

    position: Tensor
    rows: Tensor
    slots: Tensor
    visible: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedLayer:
    """A layer whose first products are one.

    ``inputs`` gives query, key and value (3 * hidden, hidden); in the last layer, each head's
    query times ``Wk``, scaled (n_heads * hidden, hidden), and then ``output`` holds each head's
    ``Wo Wv`` (hidden, n_heads * hidden).
    """

    inputs: Linear
    output: Linear
    attention_norm: LayerNorm
    feed_forward: Linear
    feed_forward_output: Linear
    feed_forward_norm: LayerNorm


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedWeights:
    """A model as the packed forward passes read it. ``layers`` leaves out the last one."""

    embeddings: Embeddings
    layers: tuple[PackedLayer, ...]
    last: PackedLayer
    head: Head
    n_heads: int
    activation: ActivationName

    @classmethod
    def of(cls, weights: BertWeights, *, device: torch.device, dtype: torch.dtype) -> PackedWeights:
        moved = weights.to(device, dtype)
        # First the dtype: Apple's GPUs hold no float64.
        inputs, output = (
            Linear(weight=part.weight.to(dtype).to(device), bias=part.bias.to(dtype).to(device))
            for part in _cls_products(weights.layers[-1], weights.n_heads)
        )
        return cls(
            embeddings=moved.embeddings,
            layers=tuple(
                _packed(layer, _query_key_value(layer), layer.attention_output)
                for layer in moved.layers[:-1]
            ),
            last=_packed(moved.layers[-1], inputs, output),
            head=moved.head,
            n_heads=weights.n_heads,
            activation=weights.activation,
        )


class PackedForward:
    """A batch in, float32 logits (n_pairs, n_labels) out, on the batch's device.

    ``pads``: attention fills up shorter pairs, so a batch's lengths had better be alike.
    """

    pads = True

    def __init__(self, weights: PackedWeights) -> None:
        self.weights = weights

    def __call__(self, batch: PackedBatch) -> Tensor:
        weights = self.weights
        hidden = self.embed(batch)
        for layer in weights.layers:
            mixed = self.attention(layer.inputs(hidden), batch)
            hidden = self.linear_norm(mixed, layer.output, hidden, layer.attention_norm)
            hidden = self.feed_forward(hidden, layer)
        last = weights.last
        cls = hidden.index_select(0, batch.cls_rows)
        mixed = self.cls_attention(last.inputs(cls), hidden, batch)
        cls = self.linear_norm(mixed, last.output, cls, last.attention_norm)
        cls = self.feed_forward(cls, last)
        return weights.head(cls).float()

    def embed(self, batch: PackedBatch) -> Tensor:
        """Return hidden states (n_tokens, hidden) before the first layer."""
        embeddings = self.weights.embeddings
        hidden = F.embedding(batch.ids, embeddings.token)
        hidden = hidden + F.embedding(batch.padding.position, embeddings.position)
        if embeddings.type is not None:
            hidden = hidden + F.embedding(batch.type_ids, embeddings.type)
        hidden = embeddings.norm(hidden)
        return hidden if embeddings.projection is None else embeddings.projection(hidden)

    def attention(self, query_key_value: Tensor, batch: PackedBatch) -> Tensor:
        """Attend within each pair: (n_tokens, 3 * hidden) in, (n_tokens, hidden) out."""
        padding = batch.padding
        padded = query_key_value[padding.rows]
        heads = padded.view(*padding.rows.shape, 3, self.weights.n_heads, -1)
        query, key, value = heads.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=padding.visible)
        return mixed.transpose(1, 2).flatten(2).flatten(0, 1).index_select(0, padding.slots)

    def cls_attention(self, query: Tensor, hidden: Tensor, batch: PackedBatch) -> Tensor:
        """Return each head's weighted sum of hidden states (n_pairs, n_heads * hidden).

        ``query`` (n_pairs, n_heads * hidden) is scaled and holds ``Wk`` already.
        """
        padding = batch.padding
        states = hidden[padding.rows].unsqueeze(1)
        # The heads share keys and values, so they are the rows of one head's query.
        rows = query.view(batch.n_pairs, 1, self.weights.n_heads, -1)
        mixed = F.scaled_dot_product_attention(
            rows, states, states, attn_mask=padding.visible, scale=1.0
        )
        return mixed.flatten(1)

    def linear_norm(
        self, inputs: Tensor, linear: Linear, residual: Tensor, norm: LayerNorm
    ) -> Tensor:
        """``norm(residual + linear(inputs))``: (n_rows, hidden)."""
        return norm(residual + linear(inputs))

    def feed_forward(self, hidden: Tensor, layer: PackedLayer) -> Tensor:
        """Return the second half of a layer, row by row: (n_rows, hidden) in and out."""
        inner = ACTIVATIONS[self.weights.activation](layer.feed_forward(hidden))
        return self.linear_norm(inner, layer.feed_forward_output, hidden, layer.feed_forward_norm)


def _packed(layer: Layer, inputs: Linear, output: Linear) -> PackedLayer:
    return PackedLayer(
        inputs=inputs,
        output=output,
        attention_norm=layer.attention_norm,
        feed_forward=layer.feed_forward,
        feed_forward_output=layer.feed_forward_output,
        feed_forward_norm=layer.feed_forward_norm,
    )


def _query_key_value(layer: Layer) -> Linear:
    parts = (layer.query, layer.key, layer.value)
    return Linear(
        weight=torch.cat([part.weight for part in parts]),
        bias=torch.cat([part.bias for part in parts]),
    )


def _cls_products(layer: Layer, n_heads: int) -> tuple[Linear, Linear]:
    """Return the last layer's two products of weights, in float64, so that they round once."""
    hidden = layer.query.weight.shape[1]

    def exact(tensor: Tensor) -> Tensor:
        return tensor.to("cpu", torch.float64)

    def by_head(tensor: Tensor) -> Tensor:  # (hidden, ...) to (n_heads, head width, ...)
        return exact(tensor).reshape(n_heads, -1, *tensor.shape[1:])

    key, value = by_head(layer.key.weight), by_head(layer.value.weight)
    scale = key.shape[1] ** -0.5
    to_query = torch.einsum("ndh,ndi->nhi", key, by_head(layer.query.weight)) * scale
    query_bias = torch.einsum("ndh,nd->nh", key, by_head(layer.query.bias)) * scale
    output = exact(layer.attention_output.weight)
    to_output = torch.einsum("ndo,ndh->onh", by_head(output.t()), value)
    output_bias = output @ exact(layer.value.bias) + exact(layer.attention_output.bias)
    return (
        Linear(weight=to_query.reshape(-1, hidden), bias=query_bias.flatten()),
        Linear(weight=to_output.reshape(len(output), -1), bias=output_bias),
    )
