"""Shapes and heads of the published cross-encoders, for small checkpoints that are like them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from rerank_plugins.models import DEFAULT_MODEL, EMBEDDED_MODEL

Architecture = Literal["bert", "electra", "distilbert"]
WeightsFormat = Literal["safetensors", "pytorch_model.bin"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """The sizes that, with a `Head`, determine every tensor of a checkpoint.

    ``embedding`` differs from ``hidden`` only where ELECTRA projects. ``token_types`` is 0 where
    the architecture has none. ``lower_case`` says how the tokenizer reads.
    """

    architecture: Architecture
    layers: int
    hidden: int
    heads: int
    feed_forward: int
    embedding: int
    vocabulary: int = 30_522
    max_length: int = 512
    token_types: int = 2
    lower_case: bool = True

    @property
    def head_width(self) -> int:
        """What one attention head reads of the hidden state."""
        return self.hidden // self.heads


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """From the hidden state of ``[CLS]`` to a score.

    ``dense`` is the activation behind the hidden layer of the head (BERT's pooler is tanh), None
    where there is no such layer. With two labels the score is the log-odds of label 1. For one
    label, ``activation`` "identity" means that the logit is the score; None means that the model's
    config names no activation, and sentence-transformers then takes the sigmoid.
    """

    labels: Literal[1, 2]
    dense: Literal["tanh", "gelu", "relu"] | None
    activation: Literal["identity"] | None = None

    @property
    def rule(self) -> str:
        """One line that says how a score is made."""
        if self.labels == 2:
            return "log-odds of label 1"
        return "logit" if self.activation == "identity" else "sigmoid of the logit"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """One model: its shape, its head, and the form of its files."""

    model: str
    shape: Shape
    head: Head
    weights: WeightsFormat = "safetensors"
    model_type: str = "bert"

    @property
    def parameters(self) -> int:
        """The number of trained values, counted from the shape."""
        shape, hidden = self.shape, self.shape.hidden
        tables = shape.vocabulary + shape.max_length + shape.token_types
        embeddings = tables * shape.embedding + 2 * shape.embedding
        if shape.embedding != hidden:
            embeddings += _linear(shape.embedding, hidden)
        attention = 4 * _linear(hidden, hidden) + 2 * hidden
        feed_forward = (
            _linear(hidden, shape.feed_forward) + _linear(shape.feed_forward, hidden) + 2 * hidden
        )
        dense = _linear(hidden, hidden) if self.head.dense else 0
        classifier = _linear(hidden, self.head.labels)
        return embeddings + shape.layers * (attention + feed_forward) + dense + classifier


def _linear(inputs: int, outputs: int) -> int:
    return inputs * outputs + outputs


def _bert(layers: int, hidden: int, heads: int, feed_forward: int) -> Shape:
    return Shape(
        architecture="bert",
        layers=layers,
        hidden=hidden,
        heads=heads,
        feed_forward=feed_forward,
        embedding=hidden,
    )


def _electra(layers: int, hidden: int, heads: int, feed_forward: int) -> Shape:
    return replace(_bert(layers, hidden, heads, feed_forward), architecture="electra")


def _distilbert(layers: int, hidden: int, heads: int, feed_forward: int) -> Shape:
    shape = _bert(layers, hidden, heads, feed_forward)
    return replace(shape, architecture="distilbert", token_types=0)


_LOGIT = Head(labels=1, dense="tanh", activation="identity")
_SIGMOID = Head(labels=1, dense="tanh")
_TWO_LABELS = Head(labels=2, dense="tanh")

CARDS: tuple[ModelCard, ...] = (
    ModelCard(
        model=DEFAULT_MODEL,
        shape=_bert(2, 128, 2, 512),
        head=_LOGIT,
    ),
    ModelCard(
        model="cross-encoder/ms-marco-MiniLM-L2-v2",
        shape=_bert(2, 384, 12, 1536),
        head=_LOGIT,
    ),
    ModelCard(
        model="cross-encoder/ms-marco-MiniLM-L4-v2",
        shape=_bert(4, 384, 12, 1536),
        head=_LOGIT,
    ),
    ModelCard(
        model="cross-encoder/ms-marco-MiniLM-L6-v2",
        shape=_bert(6, 384, 12, 1536),
        head=_LOGIT,
    ),
    ModelCard(
        model="cross-encoder/ms-marco-MiniLM-L12-v2",
        shape=_bert(12, 384, 12, 1536),
        head=_LOGIT,
    ),
    ModelCard(
        model="cross-encoder/ms-marco-TinyBERT-L2",
        shape=_bert(2, 128, 2, 512),
        head=_SIGMOID,
    ),
    ModelCard(
        model="cross-encoder/ms-marco-TinyBERT-L4",
        shape=_bert(4, 312, 12, 1200),
        head=_SIGMOID,
    ),
    ModelCard(
        model="cross-encoder/ms-marco-TinyBERT-L6",
        shape=_bert(6, 768, 12, 3072),
        head=_SIGMOID,
    ),
    ModelCard(
        model="cross-encoder/ms-marco-electra-base",
        shape=_electra(12, 768, 12, 3072),
        head=Head(labels=1, dense="gelu"),
        model_type="electra",
    ),
    ModelCard(
        model="nboost/pt-tinybert-msmarco",
        shape=_bert(4, 312, 12, 1200),
        head=_TWO_LABELS,
        weights="pytorch_model.bin",
    ),
    ModelCard(
        model="nboost/pt-bert-base-uncased-msmarco",
        shape=_bert(12, 768, 12, 3072),
        head=_TWO_LABELS,
        weights="pytorch_model.bin",
    ),
    ModelCard(
        model="nboost/pt-bert-large-msmarco",
        shape=_bert(24, 1024, 16, 4096),
        head=_TWO_LABELS,
        weights="pytorch_model.bin",
    ),
    ModelCard(
        model="Capreolus/electra-base-msmarco",
        shape=_electra(12, 768, 12, 3072),
        head=Head(labels=2, dense="gelu"),
        model_type="electra",
        weights="pytorch_model.bin",
    ),
    ModelCard(
        model="amberoad/bert-multilingual-passage-reranking-msmarco",
        shape=replace(_bert(12, 768, 12, 3072), vocabulary=105_879, lower_case=False),
        head=_TWO_LABELS,
        weights="pytorch_model.bin",
    ),
    ModelCard(
        model="sebastian-hofstaetter/distilbert-cat-margin_mse-T2-msmarco",
        shape=_distilbert(6, 768, 12, 3072),
        head=Head(labels=1, dense=None, activation="identity"),
        # Its config names no activation; the code it was published with returns the logit.
        model_type="BERT_Cat",
        weights="pytorch_model.bin",
    ),
    ModelCard(
        model=EMBEDDED_MODEL,
        shape=_bert(2, 128, 2, 512),
        head=_LOGIT,
    ),
)
"""The published table's rows in its own order, and the embedded model last."""
