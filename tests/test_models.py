"""The list of known models against the published table and against the shapes of the models."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from model_shapes import CARDS, ModelCard
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    DistilBertConfig,
    DistilBertModel,
    ElectraConfig,
    ElectraForSequenceClassification,
)

from rerank_plugins.cli import main
from rerank_plugins.models import (
    DEFAULT_MODEL,
    EMBEDDED_MODELS,
    known_model,
    known_models,
)

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
    for row in PUBLISHED.splitlines():
        name, *figures = row.split()
        model = known_model(name)
        assert model is not None
        assert model.speed is not None
        quality = model.quality[:2]  # later ones are from elsewhere
        found = [figure.value for figure in quality] + [model.speed.docs_per_s]
        assert found == [float(figure) for figure in figures]
        assert [figure.measure for figure in quality] == ["nDCG@10", "RR@10"]


def test_one_measurement_of_many_models_can_be_compared() -> None:
    rows = {
        figure.value: model.model
        for model in known_models()
        for figure in model.quality
        if figure.data.startswith("MTEB")
    }
    # As printed at its source.
    assert [rows[value] for value in (60.91, 58.43, 55.26, 50.82, 48.9)] == [
        "cross-encoder/ettin-reranker-400m-v1",
        "Alibaba-NLP/gte-reranker-modernbert-base",
        "BAAI/bge-reranker-v2-m3",
        "cross-encoder/ms-marco-MiniLM-L6-v2",
        "BAAI/bge-reranker-base",
    ]


def test_new_and_old_spellings_are_one_model() -> None:
    for size in ("MiniLM-L{}2-v2", "MiniLM-L{}4-v2", "MiniLM-L{}12-v2", "TinyBERT-L{}6"):
        new, old = (
            known_model(f"cross-encoder/ms-marco-{size.format(dash)}") for dash in ("", "-")
        )
        assert new is not None
        assert new is old
    assert known_model(DEFAULT_MODEL.upper()) is known_model(DEFAULT_MODEL)
    assert known_model("someone/else") is None


def test_no_name_is_given_twice() -> None:
    names = [name for model in known_models() for name in model.names]
    assert len(names) == len(set(names))


def test_every_figure_has_its_source() -> None:
    for model in known_models():
        sources = [figure.source for figure in model.quality]
        sources += [model.speed.source] if model.speed else []
        for source in sources:
            assert source.startswith("rerank_" if model.model in EMBEDDED_MODELS else "https://")
        assert model.take_when


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.model)
def test_the_row_has_the_shape_of_the_model(card: ModelCard) -> None:
    model = known_model(card.model)
    assert model is not None
    assert (model.layers, model.hidden) == (card.shape.layers, card.shape.hidden)
    assert (model.parameters, model.score) == (counted(card), card.head.rule)
    assert card.shape.head_width * card.shape.heads == card.shape.hidden


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


def test_the_list_is_readable_at_80_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["models"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    text = " ".join(" ".join(lines).split())
    for model in known_models():
        # No id is folded: it stands at the beginning of a line, to be copied.
        assert any(line.split()[:1] == [model.model] for line in lines)
        assert model.take_when in text
    assert "nDCG@10 70.53 (anthropic_docs" in text


def test_json_holds_everything_that_is_known(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["model"] for row in rows] == [model.model for model in known_models()]
    assert all("source" in figure for row in rows for figure in row["quality"])
