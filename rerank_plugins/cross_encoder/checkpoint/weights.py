"""A BERT-shaped model folder's weights, by our own names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from rerank_plugins.cross_encoder.checkpoint.folder import read_tensors
from rerank_plugins.cross_encoder.checkpoint.foreign_names import (
    ACTIVATION_NAMES,
    ARCHITECTURES,
    BERT_CAT,
    DISTILBERT,
    Names,
)
from rerank_plugins.cross_encoder.checkpoint.saved_keys import BERT_HARMLESS, BERT_NEUTRAL
from rerank_plugins.cross_encoder.forward.bert import (
    BertWeights,
    Embeddings,
    Head,
    Layer,
    LayerNorm,
    Linear,
)
from rerank_plugins.errors import ModelLoadError


def bert_weights(folder: Path, config: Mapping[str, Any]) -> BertWeights | None:
    """Return the weights if this is a BERT-shaped model, None if it takes the general path.

    The checkpoint's own dtype is kept. Raises `ModelLoadError` for missing files or tensors.
    """
    architecture = (config.get("architectures") or [None])[0]
    names = ARCHITECTURES.get(architecture or "")
    if names is None or not _is_plain(config, names):
        return None
    tensors = read_tensors(folder)

    def take(name: str) -> Tensor:
        tensor = tensors.get(name)
        if tensor is None:
            raise ModelLoadError(
                f"{folder} has no tensor {name!r}, which a {architecture} needs; it may be an "
                "encoder without its classification head. Use a cross-encoder checkpoint"
            )
        return tensor

    def linear(name: str) -> Linear:
        return Linear(weight=take(f"{name}.weight"), bias=take(f"{name}.bias"))

    def norm(name: str) -> LayerNorm:
        eps = float(config.get("layer_norm_eps", 1e-12))
        return LayerNorm(weight=take(f"{name}.weight"), bias=take(f"{name}.bias"), eps=eps)

    # The config's number counts: transformers leaves layers above it out too.
    n_layers = config.get("num_hidden_layers", config.get("n_layers"))
    if n_layers is None:
        n_layers = 0
        while f"{names.layers}{n_layers}.{names.query}.weight" in tensors:
            n_layers += 1
    if n_layers == 0:
        take(f"{names.layers}0.{names.query}.weight")
    layers = tuple(
        Layer(
            query=linear(f"{names.layers}{index}.{names.query}"),
            key=linear(f"{names.layers}{index}.{names.key}"),
            value=linear(f"{names.layers}{index}.{names.value}"),
            attention_output=linear(f"{names.layers}{index}.{names.attention_output}"),
            attention_norm=norm(f"{names.layers}{index}.{names.attention_norm}"),
            feed_forward=linear(f"{names.layers}{index}.{names.feed_forward}"),
            feed_forward_output=linear(f"{names.layers}{index}.{names.feed_forward_output}"),
            feed_forward_norm=norm(f"{names.layers}{index}.{names.feed_forward_norm}"),
        )
        for index in range(n_layers)
    )
    prefix = f"{names.encoder}embeddings"
    types = f"{prefix}.token_type_embeddings.weight"
    projection = f"{names.encoder}embeddings_project"
    return BertWeights(
        embeddings=Embeddings(
            token=take(f"{prefix}.word_embeddings.weight"),
            position=take(f"{prefix}.position_embeddings.weight"),
            type=tensors.get(types) if names in (DISTILBERT, BERT_CAT) else take(types),
            norm=norm(f"{prefix}.LayerNorm"),
            projection=linear(projection) if f"{projection}.weight" in tensors else None,
        ),
        layers=layers,
        head=Head(
            dense=linear(names.head_dense) if names.head_dense else None,
            activation=names.head_activation,
            classifier=linear(names.classifier),
        ),
        n_heads=int(config[names.n_heads]),
        activation=ACTIVATION_NAMES[config[names.activation]],
    )


def _is_plain(config: Mapping[str, Any], names: Names) -> bool:
    """Say whether the forward pass written out here is the whole of what the config asks for."""
    heads, eps = config.get(names.n_heads), config.get("layer_norm_eps", 1e-12)
    layers = config.get("num_hidden_layers", config.get("n_layers"))
    return (
        _is_count(heads)
        and (layers is None or _is_count(layers))
        and isinstance(eps, float)
        # Of DistilBERT's layers, transformers reads no epsilon from the config.
        and (names not in (DISTILBERT, BERT_CAT) or eps == 1e-12)
        and isinstance(config.get(names.activation), str)
        and config[names.activation] in ACTIVATION_NAMES
        and all(
            key in BERT_HARMLESS or (key in BERT_NEUTRAL and value in BERT_NEUTRAL[key])
            for key, value in config.items()
        )
    )


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
