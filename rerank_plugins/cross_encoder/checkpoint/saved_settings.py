"""What a model folder says beside its tensors: every key is done, harmless, or refused by name."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from rerank_plugins.cross_encoder.checkpoint.config import check_config
from rerank_plugins.cross_encoder.checkpoint.folder import inside, read_json, read_object
from rerank_plugins.cross_encoder.checkpoint.saved_keys import KEYS
from rerank_plugins.errors import ModelLoadError, UnsupportedModelError

_SENTENCE_BERT = (
    "sentence_bert_config.json",
    "sentence_roberta_config.json",
    "sentence_distilbert_config.json",
    "sentence_camembert_config.json",
    "sentence_albert_config.json",
    "sentence_xlm-roberta_config.json",
    "sentence_xlnet_config.json",
)
# Some position tables begin after the padding index, so that up to two rows are not for tokens.
MOST_OFFSET = 2
_WITH_ST = "score this model with sentence-transformers' CrossEncoder"


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedSettings:
    """``folder`` holds the config, tokenizer and weights; ``max_length`` is in tokens a pair.

    ``chat_template`` says whether a chat template of the tokenizer is used, ``message_format`` how
    its messages look (None: as the template itself shows), ``chat_kwargs`` what it is given.
    """

    folder: Path
    config: dict[str, Any]
    query_prompt: str = ""
    max_length: int | None = None
    lowercase: bool = False
    chat_template: bool = True
    message_format: str | None = None
    chat_kwargs: Mapping[str, Any] = field(default_factory=dict)

    @property
    def has_adapter(self) -> bool:
        return (self.folder / "adapter_config.json").is_file()

    def length_within(self, n_positions: int, tokenizer_length: int) -> int:
        """Return the tokens a pair: the saved number, else the tokenizer's, if there is room."""
        saved = self.max_length
        if saved is not None and saved > n_positions + MOST_OFFSET:
            raise UnsupportedModelError(
                f"{self.folder} sets max_seq_length or max_length to {saved}, and the model has "
                f"{n_positions} positions; set it to {n_positions} in sentence_bert_config.json"
            )
        return min(n_positions, tokenizer_length if saved is None else saved)


def read_settings(folder: Path) -> SavedSettings:
    """Return what ``folder`` says, as sentence-transformers reads it.

    Raises `ModelLoadError` for a file that cannot be read and `UnsupportedModelError`, with the
    key, its value and the remedy, for what cannot be done.
    """
    if not (folder / "modules.json").is_file():
        # Without modules.json, sentence-transformers reads none of its own files.
        return SavedSettings(folder=folder, config=_config(folder))
    saved = _object(folder / "config_sentence_transformers.json")
    subfolder = _one_transformer(folder)
    if saved.get("model_type", "SentenceTransformer") != "CrossEncoder":
        return SavedSettings(folder=folder, config=_config(folder))
    check_keys(folder / "config_sentence_transformers.json", saved, {"keep_in_fp32_modules": ()})
    config = _config(subfolder)
    if saved.get("activation_fn") is not None:
        config["sentence_transformers"] = {"activation_fn": saved["activation_fn"]}
    return SavedSettings(
        folder=subfolder,
        config=config,
        query_prompt=_default_prompt(folder / "config_sentence_transformers.json", saved),
        **_transformer_settings(subfolder),
    )


def check_keys(path: Path, saved: Mapping[str, Any], empty: Collection[str] = ()) -> None:
    """Refuse each key of ``saved`` that is not known, or is in ``empty`` and not empty."""
    known = {
        key.strip() for entry in KEYS if entry.file == path.name for key in entry.key.split(",")
    }
    for key, value in saved.items():
        if key in empty:
            if value:
                refuse(path, key, value, "remove it, or apply it and save the model again")
        elif key not in known:
            refuse(path, key, value, f"remove it if it changes no score, or {_WITH_ST}")


def refuse(path: Path, key: str, value: object, remedy: str) -> NoReturn:
    shown = repr(value) if len(repr(value)) <= 200 else f"{repr(value)[:200]}..."
    raise UnsupportedModelError(
        f"{path} sets {key} to {shown}, which cannot be done here; {remedy}"
    )


def _object(path: Path) -> dict[str, Any]:
    return read_object(path) if path.exists() else {}


def _config(folder: Path) -> dict[str, Any]:
    if not (folder / "config.json").exists() and (folder / "adapter_config.json").is_file():
        return {"adapter": True}  # the config is that of the base model
    config = read_object(folder / "config.json")
    path = folder / "config.json"
    quantized = config.get("quantization_config") or config.get("compression_config")
    if quantized:
        key = "quantization_config" if config.get("quantization_config") else "compression_config"
        refuse(path, key, quantized, "save the model again in float16, bfloat16 or float32")
    nested = config.get("sentence_transformers")
    if nested is not None and not isinstance(nested, dict):
        refuse(path, "sentence_transformers", nested, "it should be an object with activation_fn")
    for key, value in (nested or {}).items():
        if key not in ("activation_fn", "version"):
            refuse(path, f"sentence_transformers.{key}", value, f"remove it, or {_WITH_ST}")
    return check_config(folder, config)


def _one_transformer(folder: Path) -> Path:
    path = folder / "modules.json"
    modules = read_json(path)
    if not isinstance(modules, list) or not all(isinstance(each, dict) for each in modules):
        raise ModelLoadError(f"{path} should be a list of objects; download the model afresh")
    for module in modules:
        kind = module.get("type")
        if not isinstance(kind, str) or not (
            kind.startswith("sentence_transformers.") and kind.endswith(".Transformer")
        ):
            refuse(path, "type", kind, _WITH_ST)
        check_keys(path, module, ("kwargs",))
    if len(modules) != 1:
        refuse(path, "modules", len(modules), f"one Transformer was expected; {_WITH_ST}")
    name = modules[0].get("path", "")
    if not isinstance(name, str) or not (subfolder := inside(folder, name or ".")).is_dir():
        raise ModelLoadError(
            f"{path} names the sub-folder {name!r}, which is not a folder in {folder}; "
            "download the whole repository"
        )
    return subfolder if name else folder


def _default_prompt(path: Path, saved: Mapping[str, Any]) -> str:
    prompts, name = saved.get("prompts") or {}, saved.get("default_prompt_name")
    if not isinstance(prompts, dict):
        refuse(path, "prompts", prompts, "it should be an object of texts")
    if name is None:
        return ""
    if not isinstance(name, str) or name not in prompts:
        refuse(path, "default_prompt_name", name, f"name one of prompts: {', '.join(prompts)}")
    prompt = prompts[name] or ""
    if not isinstance(prompt, str):
        refuse(path, f"prompts.{name}", prompt, "it should be a text")
    return prompt


def _transformer_settings(folder: Path) -> dict[str, Any]:
    path = next(
        (folder / n for n in _SENTENCE_BERT if (folder / n).exists()), folder / _SENTENCE_BERT[0]
    )
    saved = _object(path)
    empty = {
        key: ()
        for key in (
            *("model_kwargs", "processor_kwargs", "config_kwargs", "model_args"),
            *("tokenizer_args", "config_args", "tokenizer_name_or_path"),
        )
    }
    check_keys(path.with_name(_SENTENCE_BERT[0]), saved, empty)
    task = saved.get("transformer_task", "sequence-classification")
    if task != "sequence-classification":
        refuse(path, "transformer_task", task, _WITH_ST)
    lowercase = saved.get("do_lower_case", False)
    if not isinstance(lowercase, bool):
        refuse(path, "do_lower_case", lowercase, "it should be true or false")
    processing = saved.get("processing_kwargs") or {}
    if not isinstance(processing, dict):
        refuse(path, "processing_kwargs", processing, "it should be an object")
    length = _processed_length(path, processing, saved.get("max_seq_length"))
    chat_kwargs = processing.get("chat_template", {})
    for key in ("restore_suffix", "truncation", "max_length", "padding", "tokenize", "return_dict"):
        if key in chat_kwargs:
            refuse(path, f"processing_kwargs.chat_template.{key}", chat_kwargs[key], _WITH_ST)
    message = _message_settings(path, saved.get("modality_config", {"text": {}}))
    style = (message or {}).get("format")
    return {
        "max_length": length,
        "lowercase": lowercase,
        "chat_template": message is not None,
        "message_format": None if style == "auto" else style,
        "chat_kwargs": chat_kwargs,
    }


def _processed_length(path: Path, processing: Mapping[str, Any], length: object) -> int | None:
    """Return the length in tokens that the tokenizer is called with, None for its own."""
    for group, values in processing.items():
        if group not in ("text", "common", "chat_template") or not isinstance(values, dict):
            refuse(path, f"processing_kwargs.{group}", values, f"remove it, or {_WITH_ST}")
        for key, value in values.items() if group != "chat_template" else ():
            if key == "max_length":
                length = value
            elif value not in _HARMLESS_PROCESSING.get(key, ()):
                refuse(path, f"processing_kwargs.{group}.{key}", value, f"remove it, or {_WITH_ST}")
    if length is None:
        return None
    if not isinstance(length, int) or isinstance(length, bool) or length < 1:
        refuse(path, "max_seq_length or max_length", length, "it should be a number of tokens")
    return length


def _message_settings(path: Path, modalities: object) -> dict[str, Any] | None:
    """Return how a chat template's messages look, or None where no template is used."""
    if not isinstance(modalities, dict) or not {"text", "message"} & modalities.keys():
        refuse(path, "modality_config", modalities, f"a model of texts was expected; {_WITH_ST}")
    message = modalities.get("message")
    if message is None:
        return None
    if not isinstance(message, dict):
        refuse(path, "modality_config.message", message, "it should be an object")
    if message.get("format") not in (None, "auto", "flat", "structured"):
        refuse(path, "modality_config.message.format", message["format"], "use flat or structured")
    return message


# What a tokenizer is called with anyway.
_HARMLESS_PROCESSING: dict[str, tuple[object, ...]] = {
    "truncation": (True, "longest_first"),
    "padding": (True, "longest"),
    "return_tensors": ("pt",),
}
