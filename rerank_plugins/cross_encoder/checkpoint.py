"""A Hugging Face folder in, plain data out: config, tokenizer, weights by our own names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from rerank_plugins.cross_encoder.bert import (
    BertWeights,
    Embeddings,
    Head,
    Layer,
    LayerNorm,
    Linear,
)
from rerank_plugins.cross_encoder.folder import read_json, read_tensors
from rerank_plugins.cross_encoder.foreign_names import (
    ACTIVATION_NAMES,
    ARCHITECTURES,
    BERT_CAT,
    DISTILBERT,
    Names,
)
from rerank_plugins.errors import ModelLoadError, UnsupportedModelError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TOKENIZER_FILES = (
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "spiece.model",
    "spm.model",
    "sentencepiece.bpe.model",
    "tokenizer.model",
)
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
    config: dict[str, Any] = read_json(folder / "config.json")
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
            for module in read_json(folder / "modules.json")
            if not module["type"].endswith("Transformer")
        ]
        if extra:
            raise UnsupportedModelError(
                f"{folder}/modules.json adds {', '.join(extra)} after the transformer; "
                "score this model with sentence-transformers' CrossEncoder"
            )
    if (folder / "config_sentence_transformers.json").is_file():
        name = read_json(folder / "config_sentence_transformers.json").get("activation_fn")
        if name is not None:
            config["sentence_transformers"] = {"activation_fn": name}
    return config


def has_tokenizer(folder: Path) -> bool:
    return any((folder / name).is_file() for name in TOKENIZER_FILES)


def load_tokenizer(
    folder: Path, config: Mapping[str, Any], *, trust_remote_code: bool
) -> PreTrainedTokenizerBase:
    """Return the folder's tokenizer, as transformers builds it."""
    from transformers import AutoTokenizer, BertTokenizer, PreTrainedTokenizerBase

    if not has_tokenizer(folder):  # transformers would make one up, with an empty vocabulary
        raise ModelLoadError(
            f"{folder} has no tokenizer: expected {' or '.join(TOKENIZER_FILES[:2])}; download the "
            "whole repository, or save the tokenizer there with save_pretrained()"
        )
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
    return (
        names.n_heads in config
        and config.get(names.activation) in ACTIVATION_NAMES
        and config.get("position_embedding_type", "absolute") in ("absolute", None)
        and not config.get("is_decoder", False)
        and not config.get("auto_map")
    )
