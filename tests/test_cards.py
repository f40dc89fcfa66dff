"""The model cards against the published table and against transformers' own architectures."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    DistilBertConfig,
    DistilBertModel,
    ElectraConfig,
    ElectraForSequenceClassification,
)

from rerank_plugins.models import CARDS, DEFAULT_MODEL, EMBEDDED_MODEL, ModelCard, card_for

# As printed at the source, under the names that it used: model, nDCG@10, MRR@10, docs/s.
PUBLISHED = """\
cross-encoder/ms-marco-TinyBERT-L-2-v2 69.84 32.56 9000
cross-encoder/ms-marco-MiniLM-L-2-v2 71.01 34.85 4100
cross-encoder/ms-marco-MiniLM-L-4-v2 73.04 37.70 2500
cross-encoder/ms-marco-MiniLM-L-6-v2 74.30 39.01 1800
cross-encoder/ms-marco-MiniLM-L-12-v2 74.31 39.02 960
cross-encoder/ms-marco-TinyBERT-L-2 67.43 30.15 9000
cross-encoder/ms-marco-TinyBERT-L-4 68.09 34.50 2900
cross-encoder/ms-marco-TinyBERT-L-6 69.57 36.13 680
cross-encoder/ms-marco-electra-base 71.99 36.41 340
nboost/pt-tinybert-msmarco 63.63 28.80 2900
nboost/pt-bert-base-uncased-msmarco 70.94 34.75 340
nboost/pt-bert-large-msmarco 73.36 36.48 100
Capreolus/electra-base-msmarco 71.23 36.89 340
amberoad/bert-multilingual-passage-reranking-msmarco 68.40 35.54 330
sebastian-hofstaetter/distilbert-cat-margin_mse-T2-msmarco 72.82 37.88 720
"""


def test_every_published_row_is_found_under_its_printed_name() -> None:
    found = []
    for row in PUBLISHED.splitlines():
        name, *figures = row.split()
        card = card_for(name)
        assert card is not None
        assert card.published is not None
        published = card.published
        assert [published.ndcg_at_10, published.rr_at_10, published.docs_per_second] == [
            float(figure) for figure in figures
        ]
        found.append(card)
    assert [*found, card_for(EMBEDDED_MODEL)] == list(CARDS)


def test_new_and_old_spellings_are_one_model() -> None:
    for size in ("MiniLM-L{}2-v2", "MiniLM-L{}4-v2", "MiniLM-L{}12-v2", "TinyBERT-L{}6"):
        new, old = (card_for(f"cross-encoder/ms-marco-{size.format(dash)}") for dash in ("", "-"))
        assert new is not None
        assert new is old
    assert card_for(DEFAULT_MODEL.upper()) is card_for(DEFAULT_MODEL)
    assert card_for("someone/else") is None


def test_no_name_is_given_twice() -> None:
    names = [name for card in CARDS for name in card.names]
    assert len(names) == len(set(names))


def counted(card: ModelCard) -> int:
    shape = card.shape
    sizes: dict[str, Any] = {
        "vocab_size": shape.vocabulary,
        "max_position_embeddings": shape.max_length,
    }
    bert = sizes | {
        "hidden_size": shape.hidden,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "intermediate_size": shape.feed_forward,
        "type_vocab_size": shape.token_types,
        "num_labels": card.head.labels,
    }
    with torch.device("meta"):  # shapes without memory
        model: torch.nn.Module
        if shape.architecture == "bert":
            model = BertForSequenceClassification(BertConfig(**bert))
        elif shape.architecture == "electra":
            config = ElectraConfig(**bert, embedding_size=shape.embedding)
            model = ElectraForSequenceClassification(config)
        else:
            distilbert = DistilBertConfig(
                **sizes,
                dim=shape.hidden,
                n_layers=shape.layers,
                n_heads=shape.heads,
                hidden_dim=shape.feed_forward,
            )
            head = torch.nn.Linear(shape.hidden, card.head.labels)
            model = torch.nn.ModuleList([DistilBertModel(distilbert), head])
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.model)
def test_the_shape_makes_the_model_that_transformers_makes(card: ModelCard) -> None:
    assert card.parameters == counted(card)


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.model)
def test_heads_divide_the_hidden_state(card: ModelCard) -> None:
    assert card.shape.head_width * card.shape.heads == card.shape.hidden


def test_a_card_is_plain_data() -> None:
    data = json.loads(json.dumps([card.as_dict() for card in CARDS]))
    assert [row["model"] for row in data] == [card.model for card in CARDS]
    assert {row["head_rule"] for row in data} == {
        "logit",
        "sigmoid of the logit",
        "log-odds of label 1",
    }
    assert data[-1]["published"] is None
