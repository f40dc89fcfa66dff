"""What the table's models compute, by transformers and by arithmetic written out here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from model_shapes import ModelCard
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertTokenizer,
    DistilBertConfig,
    DistilBertModel,
)

Pairs = Sequence[tuple[str, str]]


def transformers_logits(folder: Path, pairs: Pairs) -> torch.Tensor:
    """Return what transformers itself computes, one pair at a time, in float32."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder).train(False)
    return _logits(tokenizer, pairs, lambda inputs: model(**inputs).logits)


def bert_cat_logits(folder: Path, tensors: dict[str, torch.Tensor], pairs: Pairs) -> torch.Tensor:
    """Return the published arithmetic of BERT_Cat: a linear layer on DistilBERT's [CLS]."""
    hidden = tensors["_classification_layer.weight"].shape[1]
    config = DistilBertConfig(
        vocab_size=len(tensors["bert_model.embeddings.word_embeddings.weight"]),
        dim=hidden,
        n_heads=12,
        n_layers=3,
        hidden_dim=2 * hidden,
    )
    encoder = DistilBertModel(config).train(False)
    prefix = "bert_model."
    encoder.load_state_dict(
        {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
    )
    weight, bias = tensors["_classification_layer.weight"], tensors["_classification_layer.bias"]

    def head(inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        inputs.pop("token_type_ids", None)
        cls = encoder(**inputs).last_hidden_state[:, 0]
        logits: torch.Tensor = cls @ weight.T + bias
        return logits

    return _logits(BertTokenizer.from_pretrained(folder), pairs, head)


def _logits(tokenizer: Any, pairs: Pairs, forward: Any) -> torch.Tensor:
    rows = []
    with torch.no_grad():
        for query, passage in pairs:
            # As a batch of one: alone, an empty passage would count as none at all.
            inputs = tokenizer(
                [query], [passage], truncation="longest_first", max_length=512, return_tensors="pt"
            )
            rows.append(forward(dict(inputs)))
    return torch.cat(rows).double()


def published_scores(card: ModelCard, logits: torch.Tensor) -> list[float]:
    """Apply the head rule as the table states it, written out here."""
    if card.head.labels == 2:
        return (logits[:, 1] - logits[:, 0]).tolist()
    if card.head.activation == "identity":
        return logits[:, 0].tolist()
    return torch.sigmoid(logits[:, 0]).tolist()
