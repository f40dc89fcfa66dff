"""A model folder's config, with what its other files say about the head."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rerank_plugins.cross_encoder.checkpoint.folder import read_json
from rerank_plugins.errors import UnsupportedModelError

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
