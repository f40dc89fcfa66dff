"""How published architectures name the tensors and settings that `bert.py` has own names for."""

from __future__ import annotations

from dataclasses import dataclass

from rerank_plugins.cross_encoder.forward.bert import ActivationName

ACTIVATION_NAMES: dict[str, ActivationName] = {
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
class Names:
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


BERT = Names(
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
ELECTRA = Names(
    **{
        **{name: getattr(BERT, name) for name in Names.__slots__},
        "encoder": "electra.",
        "layers": "electra.encoder.layer.",
        "head_dense": "classifier.dense",
        "head_activation": "gelu",
        "classifier": "classifier.out_proj",
    }
)
DISTILBERT = Names(
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
BERT_CAT = Names(
    **{
        **{name: getattr(DISTILBERT, name) for name in Names.__slots__},
        "encoder": "bert_model.",
        "layers": "bert_model.transformer.layer.",
        "head_dense": None,
        "classifier": "_classification_layer",
    }
)
ARCHITECTURES = {
    "BertForSequenceClassification": BERT,
    "ElectraForSequenceClassification": ELECTRA,
    "DistilBertForSequenceClassification": DISTILBERT,
    "BERT_Cat": BERT_CAT,
}
