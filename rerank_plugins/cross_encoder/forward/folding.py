"""Products of weights, made once when a model is loaded: fewer products for every batch.

Query, key and value of a layer are one product. The last layer is computed for ``[CLS]`` alone and
needs no key or value of any token. For a head with the query ``q`` of ``[CLS]``, a token ``x`` has
the attention score ``q . (Wk x + bk) = (Wk^T q) . x + constant``, and softmax drops the constant.
The attention weights ``p`` sum to one, so ``sum_t p_t (Wv x_t + bv) = Wv (sum_t p_t x_t) + bv``. A
head therefore reads nothing but the hidden states, with ``Wk^T Wq`` before and ``Wo Wv`` after it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rerank_plugins.cross_encoder.forward.bert import (
    ActivationName,
    BertWeights,
    Embeddings,
    Head,
    Layer,
    LayerNorm,
    Linear,
)


def query_key_value(layer: Layer) -> Linear:
    """Return the three projections as one: weight (3 * hidden, hidden), bias (3 * hidden,)."""
    parts = (layer.query, layer.key, layer.value)
    return Linear(
        weight=torch.cat([part.weight for part in parts]),
        bias=torch.cat([part.bias for part in parts]),
    )


def fold_cls(layer: Layer, n_heads: int) -> tuple[Linear, Linear]:
    """Return what stands before and after the attention of ``[CLS]``, in float64 on the CPU.

    The first has a query for each head, scaled: weight (n_heads * hidden, hidden). The second
    makes the attention's output of each head's mixed hidden states: weight
    (hidden, n_heads * hidden). In float64, so that they are rounded once, by the caller.
    """
    hidden = layer.query.weight.shape[1]

    def exact(tensor: Tensor) -> Tensor:
        return tensor.to("cpu", torch.float64)

    def by_head(tensor: Tensor) -> Tensor:  # (hidden, ...) to (n_heads, head width, ...)
        return exact(tensor).reshape(n_heads, -1, *tensor.shape[1:])

    key, value = by_head(layer.key.weight), by_head(layer.value.weight)
    scale = key.shape[1] ** -0.5
    queries = torch.einsum("ndh,ndi->nhi", key, by_head(layer.query.weight)) * scale
    query_bias = torch.einsum("ndh,nd->nh", key, by_head(layer.query.bias)) * scale
    output = exact(layer.attention_output.weight)
    outputs = torch.einsum("ndo,ndh->onh", by_head(output.t()), value)
    output_bias = output @ exact(layer.value.bias) + exact(layer.attention_output.bias)
    return (
        Linear(weight=queries.reshape(-1, hidden), bias=query_bias.flatten()),
        Linear(weight=outputs.reshape(len(output), -1), bias=output_bias),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class FoldedLayer:
    """A layer with one product before its attention and one after it.

    ``inputs`` and ``output`` are `query_key_value` and the attention's own output; in the last
    layer, the two of `fold_cls`.
    """

    inputs: Linear
    output: Linear
    attention_norm: LayerNorm
    feed_forward: Linear
    feed_forward_output: Linear
    feed_forward_norm: LayerNorm

    @classmethod
    def of(cls, layer: Layer, inputs: Linear, output: Linear) -> FoldedLayer:
        return cls(
            inputs=inputs,
            output=output,
            attention_norm=layer.attention_norm,
            feed_forward=layer.feed_forward,
            feed_forward_output=layer.feed_forward_output,
            feed_forward_norm=layer.feed_forward_norm,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class FoldedWeights:
    """A whole model, folded, on one device and in one dtype. ``layers`` leaves out the last one."""

    embeddings: Embeddings
    layers: tuple[FoldedLayer, ...]
    last: FoldedLayer
    head: Head
    n_heads: int
    activation: ActivationName

    @classmethod
    def of(cls, weights: BertWeights, *, device: torch.device, dtype: torch.dtype) -> FoldedWeights:
        moved = weights.to(device, dtype)
        # The dtype is changed first: Apple's GPUs hold no float64.
        inputs, output = (
            Linear(weight=part.weight.to(dtype).to(device), bias=part.bias.to(dtype).to(device))
            for part in fold_cls(weights.layers[-1], weights.n_heads)
        )
        return cls(
            embeddings=moved.embeddings,
            layers=tuple(
                FoldedLayer.of(layer, query_key_value(layer), layer.attention_output)
                for layer in moved.layers[:-1]
            ),
            last=FoldedLayer.of(moved.layers[-1], inputs, output),
            head=moved.head,
            n_heads=weights.n_heads,
            activation=weights.activation,
        )
