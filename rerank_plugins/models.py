"""The known models: where they are, how they are shaped, what was published about them.

Fifteen cross-encoders that are compared in one published table, and the one that ships with this
package. A card describes; it decides nothing: a scorer reads what it needs from the checkpoint's
own config, and these rows are what the tests hold it to.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Literal

__all__ = [
    "CARDS",
    "DEFAULT_MODEL",
    "EMBEDDED_MODEL",
    "PUBLISHED_SOURCE",
    "Head",
    "ModelCard",
    "Published",
    "Shape",
    "card_for",
]

DEFAULT_MODEL = "cross-encoder/ms-marco-TinyBERT-L2-v2"
EMBEDDED_MODEL = "embedded"

PUBLISHED_SOURCE = "https://www.sbert.net/docs/cross_encoder/pretrained_models.html#ms-marco"

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
        """One line that says how a score is made.

        >>> Head(labels=2, dense="tanh").rule
        'log-odds of label 1'
        """
        if self.labels == 2:
            return "log-odds of label 1"
        return "logit" if self.activation == "identity" else "sigmoid of the logit"


@dataclass(frozen=True, slots=True)
class Published:
    """The published figures, in the units of their source, `PUBLISHED_SOURCE`.

    ``ndcg_at_10`` on TREC Deep Learning 2019, ``rr_at_10`` on MS MARCO dev (both times 100), and
    ``docs_per_second`` on a V100.
    """

    ndcg_at_10: float
    rr_at_10: float
    docs_per_second: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """One model: its names, its shape, its head, its files, and what was published about it."""

    model: str
    shape: Shape
    head: Head
    aliases: tuple[str, ...] = ()
    weights: WeightsFormat = "safetensors"
    model_type: str = "bert"
    published: Published | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Every name under which the model is asked for, the present one first."""
        return (self.model, *self.aliases)

    @property
    def parameters(self) -> int:
        """The number of trained values, counted from the shape.

        >>> card_for(DEFAULT_MODEL).parameters
        4386049
        """
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

    def as_dict(self) -> dict[str, object]:
        """Return the card as plain data, for JSON."""
        return asdict(self) | {
            "head_rule": self.head.rule,
            "parameters": self.parameters,
            "published_source": PUBLISHED_SOURCE if self.published else None,
        }


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
        aliases=("cross-encoder/ms-marco-TinyBERT-L-2-v2",),
        shape=_bert(2, 128, 2, 512),
        head=_LOGIT,
        published=Published(69.84, 32.56, 9000),
    ),
    ModelCard(
        model="cross-encoder/ms-marco-MiniLM-L2-v2",
        aliases=("cross-encoder/ms-marco-MiniLM-L-2-v2",),
        shape=_bert(2, 384, 12, 1536),
        head=_LOGIT,
        published=Published(71.01, 34.85, 4100),
    ),
    ModelCard(
        model="cross-encoder/ms-marco-MiniLM-L4-v2",
        aliases=("cross-encoder/ms-marco-MiniLM-L-4-v2",),
        shape=_bert(4, 384, 12, 1536),
        head=_LOGIT,
        published=Published(73.04, 37.70, 2500),
    ),
    ModelCard(
        model="cross-encoder/ms-marco-MiniLM-L6-v2",
        aliases=("cross-encoder/ms-marco-MiniLM-L-6-v2",),
        shape=_bert(6, 384, 12, 1536),
        head=_LOGIT,
        published=Published(74.30, 39.01, 1800),
    ),
    ModelCard(
        model="cross-encoder/ms-marco-MiniLM-L12-v2",
        aliases=("cross-encoder/ms-marco-MiniLM-L-12-v2",),
        shape=_bert(12, 384, 12, 1536),
        head=_LOGIT,
        published=Published(74.31, 39.02, 960),
    ),
    ModelCard(
        model="cross-encoder/ms-marco-TinyBERT-L2",
        aliases=("cross-encoder/ms-marco-TinyBERT-L-2",),
        shape=_bert(2, 128, 2, 512),
        head=_SIGMOID,
        published=Published(67.43, 30.15, 9000),
    ),
    ModelCard(
        model="cross-encoder/ms-marco-TinyBERT-L4",
        aliases=("cross-encoder/ms-marco-TinyBERT-L-4",),
        shape=_bert(4, 312, 12, 1200),
        head=_SIGMOID,
        published=Published(68.09, 34.50, 2900),
    ),
    ModelCard(
        model="cross-encoder/ms-marco-TinyBERT-L6",
        aliases=("cross-encoder/ms-marco-TinyBERT-L-6",),
        shape=_bert(6, 768, 12, 3072),
        head=_SIGMOID,
        published=Published(69.57, 36.13, 680),
    ),
    ModelCard(
        model="cross-encoder/ms-marco-electra-base",
        shape=_electra(12, 768, 12, 3072),
        head=Head(labels=1, dense="gelu"),
        model_type="electra",
        published=Published(71.99, 36.41, 340),
    ),
    ModelCard(
        model="nboost/pt-tinybert-msmarco",
        shape=_bert(4, 312, 12, 1200),
        head=_TWO_LABELS,
        weights="pytorch_model.bin",
        published=Published(63.63, 28.80, 2900),
    ),
    ModelCard(
        model="nboost/pt-bert-base-uncased-msmarco",
        shape=_bert(12, 768, 12, 3072),
        head=_TWO_LABELS,
        weights="pytorch_model.bin",
        published=Published(70.94, 34.75, 340),
    ),
    ModelCard(
        model="nboost/pt-bert-large-msmarco",
        shape=_bert(24, 1024, 16, 4096),
        head=_TWO_LABELS,
        weights="pytorch_model.bin",
        published=Published(73.36, 36.48, 100),
    ),
    ModelCard(
        model="Capreolus/electra-base-msmarco",
        shape=_electra(12, 768, 12, 3072),
        head=Head(labels=2, dense="gelu"),
        model_type="electra",
        weights="pytorch_model.bin",
        published=Published(71.23, 36.89, 340),
    ),
    ModelCard(
        model="amberoad/bert-multilingual-passage-reranking-msmarco",
        shape=replace(_bert(12, 768, 12, 3072), vocabulary=105_879, lower_case=False),
        head=_TWO_LABELS,
        weights="pytorch_model.bin",
        published=Published(68.40, 35.54, 330),
    ),
    ModelCard(
        model="sebastian-hofstaetter/distilbert-cat-margin_mse-T2-msmarco",
        shape=_distilbert(6, 768, 12, 3072),
        head=Head(labels=1, dense=None, activation="identity"),
        # Its config names no activation; the code it was published with returns the logit.
        model_type="BERT_Cat",
        weights="pytorch_model.bin",
        published=Published(72.82, 37.88, 720),
    ),
    ModelCard(
        model=EMBEDDED_MODEL,
        shape=_bert(2, 128, 2, 512),
        head=_LOGIT,
    ),
)
"""The published table's rows in its own order, and the embedded model last."""

_BY_NAME = {name.casefold(): card for card in CARDS for name in card.names}


def card_for(model: str) -> ModelCard | None:
    """Return the card of a model by its id or an alias; None for a model without a card.

    >>> card_for("cross-encoder/ms-marco-MiniLM-L-6-v2").model
    'cross-encoder/ms-marco-MiniLM-L6-v2'
    >>> card_for("BAAI/bge-reranker-base") is None
    True
    """
    return _BY_NAME.get(model.casefold())
