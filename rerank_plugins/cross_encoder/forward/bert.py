"""BERT-shaped cross-encoders (BERT, TinyBERT, MiniLM, ELECTRA, DistilBERT): weights and shape.

The forward passes live beside this: `cpu` and `int8` for the CPU, `gpu` for CUDA and MPS. Every
one takes a `PackedPairs` and returns float32 logits (n_pairs, n_labels).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

ActivationName = Literal["gelu", "gelu_tanh", "relu", "silu", "tanh"]

ACTIVATIONS: dict[ActivationName, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_tanh": lambda hidden: F.gelu(hidden, approximate="tanh"),
    "relu": F.relu,
    "silu": F.silu,
    "tanh": torch.tanh,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Linear:
    """``x @ weight.T + bias``: weight (out, in), bias (out,)."""

    weight: Tensor
    bias: Tensor

    def __call__(self, hidden: Tensor) -> Tensor:
        return F.linear(hidden, self.weight, self.bias)


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerNorm:
    weight: Tensor
    bias: Tensor
    eps: float

    def __call__(self, hidden: Tensor) -> Tensor:
        return F.layer_norm(hidden, self.weight.shape, self.weight, self.bias, self.eps)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One encoder layer, post-norm as in BERT."""

    query: Linear
    key: Linear
    value: Linear
    attention_output: Linear
    attention_norm: LayerNorm
    feed_forward: Linear
    feed_forward_output: Linear
    feed_forward_norm: LayerNorm


@dataclass(frozen=True, slots=True, kw_only=True)
class Embeddings:
    """Token (vocabulary, e), position (max_positions, e), type (n_types, e) or None for DistilBERT.

    ``projection`` (ELECTRA with e != hidden) comes after the norm.
    """

    token: Tensor
    position: Tensor
    type: Tensor | None
    norm: LayerNorm
    projection: Linear | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """From the last hidden state of ``[CLS]`` (n_pairs, hidden) to logits (n_pairs, n_labels).

    BERT: ``dense`` is the pooler, tanh. ELECTRA: dense, gelu. DistilBERT: dense, relu. A
    checkpoint without a hidden head layer (BERT_Cat) has ``dense`` None.
    """

    dense: Linear | None
    activation: ActivationName
    classifier: Linear

    def __call__(self, cls: Tensor) -> Tensor:
        if self.dense is not None:
            cls = ACTIVATIONS[self.activation](self.dense(cls))
        return self.classifier(cls)


@dataclass(frozen=True, slots=True, kw_only=True)
class BertWeights:
    """A whole model as plain tensors, on one device and in one dtype."""

    embeddings: Embeddings
    layers: tuple[Layer, ...]
    head: Head
    n_heads: int
    activation: ActivationName

    @property
    def hidden_size(self) -> int:
        return self.layers[0].query.weight.shape[0]

    def to(self, device: torch.device, dtype: torch.dtype) -> BertWeights:
        """Return a copy whose tensors are on ``device`` in ``dtype``."""
        converted: BertWeights = _converted(self, device, dtype)
        return converted


def _converted(value: Any, device: torch.device, dtype: torch.dtype) -> Any:
    if isinstance(value, Tensor):
        return value.to(device=device, dtype=dtype).contiguous()
    if isinstance(value, tuple):
        return tuple(_converted(item, device, dtype) for item in value)
    if isinstance(value, (BertWeights, Embeddings, Layer, Linear, LayerNorm, Head)):
        changes = {
            field.name: _converted(getattr(value, field.name), device, dtype)
            for field in fields(value)
        }
        return replace(value, **changes)
    return value
