"""A model folder's weights as transformers reads them, with an adapter where there is one."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from rerank_plugins.cross_encoder.checkpoint.folder import check_weights, read_object
from rerank_plugins.errors import ModelLoadError, UnsupportedModelError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Position tables of these begin after the padding index.
_OFFSET_POSITIONS = ("roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "mpnet", "longformer")


def load_automodel(folder: Path, *, trust_remote_code: bool) -> PreTrainedModel:
    """Return the float32 model of ``folder``; nothing of it is mapped to its files.

    Raises `ModelLoadError` for what cannot be read or has no head, and `UnsupportedModelError` for
    quantised weights and for an adapter where peft is not installed.
    """
    from transformers import AutoConfig, AutoModelForSequenceClassification

    adapter = (folder / "adapter_config.json").is_file()
    base = _adapter_base(folder) if adapter else folder
    if not adapter or Path(base).is_dir():
        check_weights(Path(base))
    try:
        config = AutoConfig.from_pretrained(base, trust_remote_code=trust_remote_code)
        names = getattr(config, "architectures", None) or []
        if not any(name.endswith("ForSequenceClassification") for name in names):
            config.num_labels = 1  # as sentence-transformers does
        model, report = AutoModelForSequenceClassification.from_pretrained(
            folder,
            config=config,
            trust_remote_code=trust_remote_code,
            output_loading_info=True,
            dtype=torch.float32,
        )
    except MemoryError:
        raise
    except Exception as error:  # each architecture fails in its own way over a wrong config
        raise ModelLoadError(
            f"{folder} cannot be loaded as a sequence-classification model: "
            f"{type(error).__name__}: {error}; compare its config.json with that of a "
            "cross-encoder which works, or download it afresh"
        ) from error
    if model.config.model_type == "nystromformer":
        raise UnsupportedModelError(
            f"{folder} has model_type 'nystromformer', whose landmarks need every text to have one "
            "length, so that a score would depend on padding; use another model"
        )
    if getattr(model.config, "attention_type", None) == "block_sparse":
        raise UnsupportedModelError(
            f"{folder} asks for attention_type='block_sparse', which transformers turns off for "
            "good at the first short text, so that a score would depend on earlier ones; set "
            "attention_type to 'original_full' in its config.json"
        )
    # transformers fills missing tensors with random numbers; random scores help nobody.
    missing = sorted(set(report["missing_keys"]) - (_adapter_keys(folder) if adapter else set()))
    if missing:
        raise ModelLoadError(
            f"{folder} has no tensor {missing[0]!r} ({len(missing)} missing); it may be an encoder "
            "without its classification head. Use a cross-encoder checkpoint"
        )
    _unmap(model)
    return model  # type: ignore[no-any-return]


def positions(config: Any) -> int:
    """Return how many tokens a transformers config allows; any number where it is silent."""
    n_positions = getattr(config, "max_position_embeddings", None)
    if n_positions is None or n_positions < 0:
        return sys.maxsize
    offset = config.pad_token_id + 1 if config.model_type in _OFFSET_POSITIONS else 0
    return int(n_positions) - offset


def _adapter_base(folder: Path) -> str | Path:
    path = folder / "adapter_config.json"
    settings = read_object(path)
    kind, base = settings.get("peft_type"), settings.get("base_model_name_or_path")
    if not isinstance(base, str) or not base:
        raise ModelLoadError(
            f"{path} names no base_model_name_or_path, so this adapter has no model to go with; "
            "merge it with merge_and_unload() and save the whole model"
        )
    try:
        import peft  # noqa: F401
    except ImportError as error:
        raise UnsupportedModelError(
            f"{path} asks for the {kind} adapter of this folder, which needs peft: pip install "
            "peft, or merge the adapter with merge_and_unload() and save the whole model"
        ) from error
    weights = [folder / f"adapter_model{ending}" for ending in (".safetensors", ".bin")]
    if not any(each.is_file() and each.stat().st_size for each in weights):
        raise ModelLoadError(
            f"{path} asks for an adapter, and there is no {weights[0].name} with its weights; "
            "download the whole repository"
        )
    return base


def _adapter_keys(folder: Path) -> set[str]:
    """Return the names of the tensors that the adapter replaces as a whole, as a head."""
    from safetensors import SafetensorError, safe_open

    path = folder / "adapter_model.safetensors"
    if not path.is_file():
        return set()
    try:
        with safe_open(path, framework="pt") as opened:
            return {name.removeprefix("base_model.model.") for name in opened.keys()}
    except (OSError, SafetensorError) as error:
        raise ModelLoadError(f"{path} cannot be read: {error}; download it afresh") from error


def _unmap(model: Any) -> None:
    """Copy every tensor: overwriting a file must neither change nor crash a loaded model."""
    copies: dict[int, torch.Tensor] = {}
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            key = tensor.data_ptr()
            if key not in copies or copies[key].shape != tensor.shape:
                copies[key] = tensor.detach().clone()
            tensor.data = copies[key]
