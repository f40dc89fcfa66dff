"""Which configs are those of a cross-encoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rerank_plugins.errors import ModelLoadError, UnsupportedModelError

_BERT_CAT_CONFIG = {
    "n_heads": 12,
    "activation": "gelu",
    "sentence_transformers": {"activation_fn": "torch.nn.modules.linear.Identity"},
}


def check_config(folder: Path, config: dict[str, Any]) -> dict[str, Any]:
    """Return the config.json of ``folder`` with what BERT_Cat leaves out.

    Raises `UnsupportedModelError` for a model that is not an encoder with a classification head.
    """
    architectures = config.get("architectures") or []
    if not isinstance(architectures, list) or not all(isinstance(n, str) for n in architectures):
        raise ModelLoadError(
            f"{folder}/config.json has architectures {architectures!r}, where a list of names was "
            "expected; download the model afresh"
        )
    if "BERT_Cat" in (config.get("model_type"), *architectures):
        if config.get("bert_model") != "distilbert-base-uncased":
            raise UnsupportedModelError(
                f"{folder}: BERT_Cat over {config.get('bert_model')!r}; only "
                "'distilbert-base-uncased' is known. Score this model with its own code"
            )
        config = {**_BERT_CAT_CONFIG, **config, "architectures": ["BERT_Cat"]}
    if any(name.endswith(("ForCausalLM", "ForConditionalGeneration")) for name in architectures):
        raise UnsupportedModelError(
            f"{folder} holds {architectures[0]}, a generating model; this package scores encoders "
            "with a classification head. Use a sequence-classification checkpoint such as "
            "'BAAI/bge-reranker-v2-m3', or sentence-transformers' CrossEncoder for decoders"
        )
    return config
