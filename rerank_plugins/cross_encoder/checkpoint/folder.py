"""The files of a model folder: JSON and tensors, read safely."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from rerank_plugins.errors import ModelLoadError


def read_json(path: Path) -> Any:
    """Return what a JSON file of a model folder holds; `ModelLoadError` where it cannot be read."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelLoadError(
            f"{path.parent} has no {path.name}; a model folder holds config.json, a tokenizer and "
            "weights, as save_pretrained() writes them"
        ) from error
    except (OSError, ValueError) as error:
        raise ModelLoadError(f"{path} cannot be read as JSON: {error}") from error


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """Return every tensor of the checkpoint, safetensors first, with today's LayerNorm names."""
    for index, single, read in (
        ("model.safetensors.index.json", "model.safetensors", _read_safetensors),
        ("pytorch_model.bin.index.json", "pytorch_model.bin", _read_bin),
    ):
        if (folder / index).is_file():
            files = sorted(set(read_json(folder / index)["weight_map"].values()))
        elif (folder / single).is_file():
            files = [single]
        else:
            continue
        tensors: dict[str, Tensor] = {}
        for file in files:
            try:
                tensors |= read(folder / file)
            except (OSError, SafetensorError, pickle.UnpicklingError, RuntimeError) as error:
                raise ModelLoadError(f"{folder / file} cannot be read: {error}") from error
        return {_modern(name): tensor for name, tensor in tensors.items()}
    raise ModelLoadError(
        f"{folder} has no weights: expected model.safetensors or pytorch_model.bin; download the "
        "whole repository, or give another folder"
    )


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    # Copied, not mapped: overwriting the file must neither change nor crash a loaded model.
    return load(path.read_bytes())


def _read_bin(path: Path) -> dict[str, Tensor]:
    # A .bin file is a pickle: weights_only refuses everything but tensors and plain containers.
    loaded = torch.load(path, map_location="cpu", weights_only=True)
    return {name: value for name, value in loaded.items() if isinstance(value, Tensor)}


def _modern(name: str) -> str:
    for old, new in ((".gamma", ".weight"), (".beta", ".bias")):
        if name.endswith(f"LayerNorm{old}"):
            return name.removesuffix(old) + new
    return name
