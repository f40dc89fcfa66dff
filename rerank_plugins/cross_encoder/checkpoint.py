"""A Hugging Face folder in, plain data out: the one file that knows foreign names."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from rerank_plugins.cross_encoder.bert import (
    ActivationName,
    BertWeights,
    Embeddings,
    Head,
    Layer,
    LayerNorm,
    Linear,
)
from rerank_plugins.errors import ModelLoadError, UnsupportedModelError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_ACTIVATIONS: dict[str, ActivationName] = {
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
    "tanh": "tanh",
}


@dataclass(frozen=True, slots=True)
class _Names:
    """How one architecture names the same tensors."""

    encoder: str  # prefix of the whole encoder
    layers: str  # prefix of the numbered layers
    query: str
    key: str
    value: str
    attention_output: str
    attention_norm: str
    feed_forward: str
    feed_forward_output: str
    feed_forward_norm: str
    head_dense: str | None
    head_activation: ActivationName
    classifier: str
    n_heads: str  # config key
    activation: str  # config key


_BERT = _Names(
    encoder="bert.",
    layers="bert.encoder.layer.",
    query="attention.self.query",
    key="attention.self.key",
    value="attention.self.value",
    attention_output="attention.output.dense",
    attention_norm="attention.output.LayerNorm",
    feed_forward="intermediate.dense",
    feed_forward_output="output.dense",
    feed_forward_norm="output.LayerNorm",
    head_dense="bert.pooler.dense",
    head_activation="tanh",
    classifier="classifier",
    n_heads="num_attention_heads",
    activation="hidden_act",
)
_ELECTRA = _Names(
    **{
        **{name: getattr(_BERT, name) for name in _Names.__slots__},
        "encoder": "electra.",
        "layers": "electra.encoder.layer.",
        "head_dense": "classifier.dense",
        "head_activation": "gelu",
        "classifier": "classifier.out_proj",
    }
)
_DISTILBERT = _Names(
    encoder="distilbert.",
    layers="distilbert.transformer.layer.",
    query="attention.q_lin",
    key="attention.k_lin",
    value="attention.v_lin",
    attention_output="attention.out_lin",
    attention_norm="sa_layer_norm",
    feed_forward="ffn.lin1",
    feed_forward_output="ffn.lin2",
    feed_forward_norm="output_layer_norm",
    head_dense="pre_classifier",
    head_activation="relu",
    classifier="classifier",
    n_heads="n_heads",
    activation="activation",
)
# A DistilBERT under another prefix with one linear layer on [CLS]; its config names the shape
# only as `bert_model: distilbert-base-uncased`, which has 12 heads and gelu.
_BERT_CAT = _Names(
    **{
        **{name: getattr(_DISTILBERT, name) for name in _Names.__slots__},
        "encoder": "bert_model.",
        "layers": "bert_model.transformer.layer.",
        "head_dense": None,
        "classifier": "_classification_layer",
    }
)
_ARCHITECTURES = {
    "BertForSequenceClassification": _BERT,
    "ElectraForSequenceClassification": _ELECTRA,
    "DistilBertForSequenceClassification": _DISTILBERT,
    "BERT_Cat": _BERT_CAT,
}
_BERT_CAT_CONFIG = {
    "n_heads": 12,
    "activation": "gelu",
    "sentence_transformers": {"activation_fn": "torch.nn.modules.linear.Identity"},
}


def read_config(folder: Path) -> dict[str, Any]:
    """Return the config of the model in ``folder``, with the activation where one place names it.

    Raises `ModelLoadError` for a folder without a readable config.json and
    `UnsupportedModelError` for a model that is not an encoder with a classification head.
    """
    config: dict[str, Any] = _read_json(folder / "config.json")
    if "BERT_Cat" in (config.get("model_type"), *(config.get("architectures") or ())):
        if config.get("bert_model") != "distilbert-base-uncased":
            raise UnsupportedModelError(
                f"{folder}: BERT_Cat over {config.get('bert_model')!r}; only "
                "'distilbert-base-uncased' is known. Score this model with its own code"
            )
        config = {**_BERT_CAT_CONFIG, **config, "architectures": ["BERT_Cat"]}
    architectures = config.get("architectures") or []
    if any(name.endswith(("ForCausalLM", "ForConditionalGeneration")) for name in architectures):
        raise UnsupportedModelError(
            f"{folder} holds {architectures[0]}, a generating model; this package scores encoders "
            "with a classification head. Use a sequence-classification checkpoint such as "
            "'BAAI/bge-reranker-v2-m3', or sentence-transformers' CrossEncoder for decoders"
        )
    if (folder / "modules.json").is_file():
        extra = [
            module["type"]
            for module in _read_json(folder / "modules.json")
            if not module["type"].endswith("Transformer")
        ]
        if extra:
            raise UnsupportedModelError(
                f"{folder}/modules.json adds {', '.join(extra)} after the transformer; "
                "score this model with sentence-transformers' CrossEncoder"
            )
    if (folder / "config_sentence_transformers.json").is_file():
        name = _read_json(folder / "config_sentence_transformers.json").get("activation_fn")
        if name is not None:
            config["sentence_transformers"] = {"activation_fn": name}
    return config


def load_tokenizer(
    folder: Path, config: Mapping[str, Any], *, trust_remote_code: bool
) -> PreTrainedTokenizerBase:
    """Return the folder's tokenizer, as transformers builds it."""
    from transformers import AutoTokenizer, BertTokenizer, PreTrainedTokenizerBase

    try:
        if config.get("architectures") == ["BERT_Cat"]:
            tokenizer = BertTokenizer.from_pretrained(folder)
        else:
            tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code)
    except (OSError, ValueError, ImportError, KeyError, TypeError) as error:
        raise ModelLoadError(f"{folder} holds no tokenizer that can be read: {error}") from error
    assert isinstance(tokenizer, PreTrainedTokenizerBase)
    if not tokenizer.is_fast:
        raise UnsupportedModelError(
            f"{type(tokenizer).__name__} of {folder} is a tokenizer in Python; this package needs "
            "one with a tokenizer.json (save it once with AutoTokenizer(..., use_fast=True))"
        )
    if tokenizer.truncation_side != "right":
        raise UnsupportedModelError(
            f"{folder} truncates on the {tokenizer.truncation_side}; passages are cut at their end "
            "here. Set truncation_side to 'right' in tokenizer_config.json"
        )
    return tokenizer


def bert_weights(folder: Path, config: Mapping[str, Any]) -> BertWeights | None:
    """Return the weights if this is a BERT-shaped model, None if it takes the general path.

    The checkpoint's own dtype is kept. Raises `ModelLoadError` for missing files or tensors.
    """
    architecture = (config.get("architectures") or [None])[0]
    names = _ARCHITECTURES.get(architecture or "")
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
            type=tensors.get(types) if names in (_DISTILBERT, _BERT_CAT) else take(types),
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
        activation=_ACTIVATIONS[config[names.activation]],
    )


def _is_plain(config: Mapping[str, Any], names: _Names) -> bool:
    """Say whether the forward pass written out here is the whole of what the config asks for."""
    return (
        names.n_heads in config
        and config.get(names.activation) in _ACTIVATIONS
        and config.get("position_embedding_type", "absolute") in ("absolute", None)
        and not config.get("is_decoder", False)
        and not config.get("auto_map")
    )


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """Return every tensor of the checkpoint, safetensors first, with today's LayerNorm names."""
    for index, single, read in (
        ("model.safetensors.index.json", "model.safetensors", load_file),
        ("pytorch_model.bin.index.json", "pytorch_model.bin", _read_bin),
    ):
        if (folder / index).is_file():
            files = sorted(set(_read_json(folder / index)["weight_map"].values()))
        elif (folder / single).is_file():
            files = [single]
        else:
            continue
        tensors: dict[str, Tensor] = {}
        for file in files:
            try:
                tensors |= read(folder / file)
            except (OSError, SafetensorError, pickle.UnpicklingError, RuntimeError) as error:
                raise ModelLoadError(f"{folder / file} cannot be read: {error}") from error
        return {_modern(name): tensor for name, tensor in tensors.items()}
    raise ModelLoadError(
        f"{folder} has no weights: expected model.safetensors or pytorch_model.bin; download the "
        "whole repository, or give another folder"
    )


def _read_bin(path: Path) -> dict[str, Tensor]:
    # A .bin file is a pickle: weights_only refuses everything but tensors and plain containers.
    loaded = torch.load(path, map_location="cpu", weights_only=True)
    return {name: value for name, value in loaded.items() if isinstance(value, Tensor)}


def _modern(name: str) -> str:
    for old, new in ((".gamma", ".weight"), (".beta", ".bias")):
        if name.endswith(f"LayerNorm{old}"):
            return name.removesuffix(old) + new
    return name


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelLoadError(
            f"{path.parent} has no {path.name}; a model folder holds config.json, a tokenizer and "
            "weights, as save_pretrained() writes them"
        ) from error
    except (OSError, ValueError) as error:
        raise ModelLoadError(f"{path} cannot be read as JSON: {error}") from error
