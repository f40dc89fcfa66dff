"""Small random checkpoints in the form that published models have: config, tokenizer, weights."""

from __future__ import annotations

import json
import string
from pathlib import Path
from typing import Any

import torch
from model_shapes import ModelCard
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertTokenizer,
    DistilBertConfig,
    DistilBertModel,
    ElectraConfig,
    ElectraForSequenceClassification,
    PreTrainedModel,
)

IDENTITY = "torch.nn.modules.linear.Identity"
WORDS = """the of and a to in is how do i what sort list river python file read line open number
string with for from on it as that be by this are or an not value function object returns error
paris london capital france england city water long short ing ed s er est ly un re""".split()


def vocabulary(*, lower_case: bool = True) -> list[str]:
    """Return a WordPiece vocabulary that spells every ASCII text and some accented letters."""
    letters = [*string.ascii_lowercase, *string.digits, *"éüñøßжд日本語"]
    if not lower_case:
        letters += [*string.ascii_uppercase, *"ÉÜÑ"]
    words = [word for word in WORDS if len(word) > 1]
    return [
        *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"),
        *letters,
        *string.punctuation,
        *words,
        *(f"##{piece}" for piece in [*letters, *words]),
    ]


def write_tokenizer(folder: Path, *, lower_case: bool = True, max_length: int = 512) -> None:
    """Write a BERT tokenizer as ``save_pretrained`` does."""
    names = vocabulary(lower_case=lower_case)
    tokenizer = BertTokenizer(
        vocab={token: index for index, token in enumerate(names)},
        do_lower_case=lower_case,
        model_max_length=max_length,
    )
    tokenizer.save_pretrained(folder)


def write_card(card: ModelCard, folder: Path) -> dict[str, torch.Tensor]:
    """Write a checkpoint of the card's architecture, head, config and file format; return tensors.

    Depth and width are cut to what a test can afford; heads, head rule and names are the card's.
    """
    torch.manual_seed(len(card.model))
    shape = card.shape
    hidden = shape.hidden if shape.hidden <= 384 else shape.heads * 8
    sizes: dict[str, Any] = {"vocab_size": len(vocabulary(lower_case=shape.lower_case))}
    layers, feed_forward = min(shape.layers, 3), 2 * hidden
    folder.mkdir(parents=True, exist_ok=True)
    if card.model_type == "BERT_Cat":
        distilbert = DistilBertConfig(
            **sizes, dim=hidden, n_layers=layers, n_heads=shape.heads, hidden_dim=feed_forward
        )
        tensors = {
            f"bert_model.{name}": tensor
            for name, tensor in _livened(DistilBertModel(distilbert)).state_dict().items()
        }
        tensors["_classification_layer.weight"] = torch.randn(1, hidden) / hidden**0.5
        tensors["_classification_layer.bias"] = torch.randn(1)
        config: dict[str, Any] = {
            "architectures": ["BERT_Cat"],
            "bert_model": "distilbert-base-uncased",
            "model_type": "BERT_Cat",
            "trainable": True,
        }
    else:
        electra = shape.architecture == "electra"
        make_config: Any = ElectraConfig if electra else BertConfig
        make_model: Any = (
            ElectraForSequenceClassification if electra else BertForSequenceClassification
        )
        settings = make_config(
            **sizes,
            **({"embedding_size": hidden} if electra else {}),
            hidden_size=hidden,
            num_hidden_layers=layers,
            num_attention_heads=shape.heads,
            intermediate_size=feed_forward,
            num_labels=card.head.labels,
            architectures=[make_model.__name__],
        )
        tensors = _livened(make_model(settings)).state_dict()
        config = settings.to_dict()
        if card.head.activation == "identity":
            config["sentence_transformers"] = {"activation_fn": IDENTITY}
    (folder / "config.json").write_text(json.dumps(config))
    if card.weights == "pytorch_model.bin":
        torch.save(old_names(tensors), folder / "pytorch_model.bin")
    else:
        write_safetensors(tensors, folder)
    write_tokenizer(folder, lower_case=shape.lower_case)
    return tensors


def write_model(model: PreTrainedModel, folder: Path, **config: object) -> Path:
    """Save a transformers model with a BERT tokenizer and extra config keys."""
    _livened(model)
    model.config.update(config)
    model.save_pretrained(folder)
    write_tokenizer(folder)
    return folder


def write_safetensors(tensors: dict[str, torch.Tensor], folder: Path) -> None:
    from safetensors.torch import save_file

    contiguous = {name: tensor.clone().contiguous() for name, tensor in tensors.items()}
    save_file(contiguous, folder / "model.safetensors", metadata={"format": "pt"})


def old_names(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the tensors with LayerNorm's former names, as checkpoints converted long ago have."""
    renamed = {}
    for name, tensor in tensors.items():
        old = name.replace("LayerNorm.weight", "LayerNorm.gamma")
        renamed[old.replace("LayerNorm.bias", "LayerNorm.beta")] = tensor
    return renamed


def _livened(model: PreTrainedModel) -> PreTrainedModel:
    """Give a freshly made model weights that let texts, biases and norms tell in its logits."""
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            if "embeddings" in name and tensor.ndim == 2:
                tensor.normal_(0.0, 0.5)
            elif tensor.ndim == 2:
                tensor.normal_(0.0, 1.5 / tensor.shape[1] ** 0.5)
            elif "norm" in name.lower() and name.endswith("weight"):
                tensor.uniform_(0.5, 1.5)
            else:
                tensor.normal_(0.0, 0.1)
    return model
