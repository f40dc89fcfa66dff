"""BERT-shaped models with random weights, random pairs for them, and what these come to."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, get_args

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
from rerank_plugins.cross_encoder.pairs import PackedPairs

ALL_SHAPES: list[dict[str, Any]] = [
    {},
    {"n_layers": 1},
    {"n_layers": 4, "n_heads": 1},
    {"n_layers": 3, "hidden": 78, "n_heads": 3},  # head width 26, as in TinyBERT-L4
    {"hidden": 384, "n_heads": 12, "feed_forward": 1536},  # MiniLM
    {"n_types": 0},  # DistilBERT
    {"n_types": 1},
    {"embedding": 20},  # ELECTRA small
    {"n_labels": 2},
    *({"activation": name} for name in get_args(ActivationName)),
]


def random_weights(
    *,
    hidden: int = 32,
    n_heads: int = 2,
    n_layers: int = 2,
    feed_forward: int = 64,
    n_labels: int = 1,
    vocabulary: int = 50,
    max_positions: int = 64,
    n_types: int = 2,
    embedding: int | None = None,
    activation: ActivationName = "gelu",
    outlier: float = 0.0,
    seed: int = 0,
) -> BertWeights:
    """Return weights with hidden states of the size that training leaves.

    ``outlier`` is what one dimension of every norm adds, as in trained models, where it makes
    16-bit rounding count.
    """
    generator = torch.Generator().manual_seed(seed)
    embedding = embedding or hidden

    def normal(*shape: int, scale: float) -> torch.Tensor:
        return torch.randn(*shape, generator=generator) * scale

    def linear(out: int, into: int) -> Linear:
        return Linear(weight=normal(out, into, scale=into**-0.5), bias=normal(out, scale=0.1))

    def norm(width: int) -> LayerNorm:
        bias = normal(width, scale=0.1)
        bias[width // 3] += outlier
        return LayerNorm(weight=1 + normal(width, scale=0.1), bias=bias, eps=1e-12)

    return BertWeights(
        embeddings=Embeddings(
            token=normal(vocabulary, embedding, scale=0.5),
            position=normal(max_positions, embedding, scale=0.2),
            type=normal(n_types, embedding, scale=0.2) if n_types else None,
            norm=norm(embedding),
            projection=linear(hidden, embedding) if embedding != hidden else None,
        ),
        layers=tuple(
            Layer(
                query=linear(hidden, hidden),
                key=linear(hidden, hidden),
                value=linear(hidden, hidden),
                attention_output=linear(hidden, hidden),
                attention_norm=norm(hidden),
                feed_forward=linear(feed_forward, hidden),
                feed_forward_output=linear(hidden, feed_forward),
                feed_forward_norm=norm(hidden),
            )
            for _ in range(n_layers)
        ),
        head=Head(
            dense=linear(hidden, hidden), activation="tanh", classifier=linear(n_labels, hidden)
        ),
        n_heads=n_heads,
        activation=activation,
    )


def calm(weights: BertWeights) -> BertWeights:
    """Return weights whose logits are as sure as a trained model's, not ten times as touchy."""
    classifier = weights.head.classifier
    quiet = replace(classifier, weight=classifier.weight * 0.3)
    return replace(weights, head=replace(weights.head, classifier=quiet))


def random_pairs(
    lengths: list[int], *, vocabulary: int = 50, n_types: int = 2, seed: int = 0
) -> PackedPairs:
    """Return pairs of these lengths, longest first, with random ids."""
    rng = np.random.default_rng(seed)
    lengths = sorted(lengths, reverse=True)
    return PackedPairs(
        ids=rng.integers(0, vocabulary, sum(lengths), dtype=np.int32),
        type_ids=rng.integers(0, max(n_types, 1), sum(lengths), dtype=np.int32),
        lengths=np.array(lengths, dtype=np.int32),
    )


def reference_logits(weights: BertWeights, pairs: PackedPairs) -> Tensor:
    """Return logits (n_pairs, n_labels), one pair at a time, with nothing optimized.

    The plain arithmetic of the architecture: what every optimized forward pass is tested against.
    """
    rows, start = [], 0
    for length in pairs.lengths.tolist():
        piece = slice(start, start + length)
        start += length
        ids = torch.from_numpy(pairs.ids[piece]).long()
        types = torch.from_numpy(pairs.type_ids[piece]).long()
        embeddings = weights.embeddings
        hidden = embeddings.token[ids] + embeddings.position[:length]
        if embeddings.type is not None:
            hidden = hidden + embeddings.type[types]
        hidden = embeddings.norm(hidden)
        if embeddings.projection is not None:
            hidden = embeddings.projection(hidden)
        for layer in weights.layers:
            heads = [
                part(hidden).view(length, weights.n_heads, -1).transpose(0, 1)
                for part in (layer.query, layer.key, layer.value)
            ]
            mixed = (
                F.scaled_dot_product_attention(heads[0], heads[1], heads[2])
                .transpose(0, 1)
                .reshape(length, -1)
            )
            hidden = layer.attention_norm(hidden + layer.attention_output(mixed))
            inner = ACTIVATIONS[weights.activation](layer.feed_forward(hidden))
            hidden = layer.feed_forward_norm(hidden + layer.feed_forward_output(inner))
        rows.append(weights.head(hidden[:1]))
    n_labels = weights.head.classifier.weight.shape[0]
    return torch.cat(rows).float() if rows else torch.empty(0, n_labels)
