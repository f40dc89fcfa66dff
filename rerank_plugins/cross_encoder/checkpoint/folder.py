"""The files of a model folder: JSON and tensors, read safely."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load
from torch import Tensor

from rerank_plugins.errors import ModelLoadError, UnsupportedModelError

# No JSON file of a model is larger, save its tokenizer, which transformers reads.
MAX_JSON_BYTES = 64 * 1024 * 1024
# Numbers of positions, which old checkpoints keep beside the weights, and counters of training.
_INTEGER_BUFFERS = ("position_ids", "token_type_ids", "num_batches_tracked")


def inside(folder: Path, name: str) -> Path:
    """Return the path of ``name`` in ``folder``; `ModelLoadError` where it leads out of it.

    The Hub's cache keeps a snapshot's files as links into its own ``blobs``: these are inside.
    """
    try:
        parts = Path(name).parts
        root, path = folder.resolve(), (folder / name).resolve()
    except (OSError, ValueError, RuntimeError) as error:  # a NUL, or links in a circle
        raise ModelLoadError(f"{folder} names {name!r}, which is no path: {error}") from error
    snapshots = next((each for each in root.parents if each.name == "snapshots"), None)
    homes = [root] if snapshots is None else [root, snapshots.parent / "blobs"]
    if (
        Path(name).is_absolute()
        or ".." in parts
        or not any(path == home or home in path.parents for home in homes)
    ):
        raise ModelLoadError(
            f"{folder} names {name!r}, which lies outside of it; a model's files must be in its "
            "own folder. Put the file there, or download the model afresh"
        )
    return folder / name


def check_plain_file(path: Path) -> None:
    """Raise `ModelLoadError` for a path that is not a plain file: a FIFO or a device never ends."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:
        raise ModelLoadError(
            f"{path} cannot be read: {error}; download the whole repository"
        ) from error
    if not stat.S_ISREG(mode):
        raise ModelLoadError(f"{path} is not a plain file; download the model afresh")


# Ends the name of the scales of a matrix that is stored as int8 rows; see `_whole`.
ROW_SCALE = ".row_scale"


def read_json(path: Path) -> Any:
    """Return what a JSON file of a model folder holds; `ModelLoadError` where it cannot be read."""
    if not path.exists():
        raise ModelLoadError(
            f"{path.parent} has no {path.name}; a model folder holds config.json, a tokenizer and "
            "weights, as save_pretrained() writes them"
        )
    check_plain_file(path)
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise ValueError(f"{path.stat().st_size} bytes are more than {MAX_JSON_BYTES}")
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelLoadError(
            f"{path} cannot be read as JSON: {error}; download the model afresh"
        ) from error


def read_object(path: Path) -> dict[str, Any]:
    """Return the object that a JSON file holds; `ModelLoadError` where it is something else."""
    value = read_json(path)
    if not isinstance(value, dict):
        raise ModelLoadError(
            f"{path} should hold a JSON object, not {type(value).__name__}; "
            "download the model afresh"
        )
    return value


def weight_files(folder: Path) -> list[Path]:
    """Return the plain files that hold the weights, safetensors first."""
    for index, single in (
        ("model.safetensors.index.json", "model.safetensors"),
        ("pytorch_model.bin.index.json", "pytorch_model.bin"),
    ):
        if (folder / single).exists() and not (folder / index).exists():
            names = [single]
        elif (folder / index).exists():
            weight_map = read_object(folder / index).get("weight_map")
            if not isinstance(weight_map, dict) or not weight_map:
                raise ModelLoadError(f"{folder / index} has no weight_map; download it afresh")
            names = list(weight_map.values())
            ending = Path(single).suffix
            for name in names:
                if (
                    not isinstance(name, str)
                    or not name.endswith(ending)
                    or Path(name).name != name
                ):
                    raise ModelLoadError(
                        f"{folder / index} names {name!r} as a file of weights; expected the name "
                        f"of a {ending} file in {folder}. Download the model afresh"
                    )
        else:
            continue
        files = (
            [folder / names[0]]
            if names == [single]
            else [inside(folder, name) for name in sorted(set(names))]
        )
        for file in files:
            check_plain_file(file)
        return files
    raise ModelLoadError(
        f"{folder} has no weights: expected model.safetensors or pytorch_model.bin; download the "
        "whole repository, or give another folder"
    )


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """Return every tensor of the checkpoint, with today's LayerNorm names.

    Raises `ModelLoadError`, and `UnsupportedModelError` for quantised weights.
    """
    tensors: dict[str, Tensor] = {}
    for file in weight_files(folder):
        tensors |= _read(file)
    return {_modern(name): tensor for name, tensor in tensors.items()}


def check_weights(folder: Path) -> None:
    """Check the files of weights as `read_tensors` does, where transformers is to read them."""
    for file in weight_files(folder):
        if file.suffix == ".safetensors":
            try:
                with safe_open(file, framework="pt") as opened:
                    for name in opened.keys():
                        tensor = opened.get_slice(name)
                        _check_dtype(file, name, _SAFETENSORS_DTYPES.get(tensor.get_dtype()))
            except (OSError, SafetensorError, ValueError) as error:
                raise _unreadable(file, error) from error
        else:
            _read(file, device="meta")


_SAFETENSORS_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
}


def _read(file: Path, device: str = "cpu") -> dict[str, Tensor]:
    try:
        if file.suffix == ".safetensors":
            # Copied, not mapped: overwriting the file must neither change nor crash a loaded model.
            loaded = load(file.read_bytes())
        else:
            # A pickle: weights_only refuses everything but tensors and plain containers.
            loaded = torch.load(file, map_location=device, weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # what a damaged pickle or archive raises is not documented
        raise _unreadable(file, error) from error
    if not isinstance(loaded, dict):
        raise ModelLoadError(
            f"{file} holds a {type(loaded).__name__}, where tensors by name were expected; "
            "download the model afresh"
        )
    stored = {
        name: value
        for name, value in loaded.items()
        if isinstance(value, Tensor) and isinstance(name, str)
    }
    tensors = _whole(stored, file)
    for name, tensor in tensors.items():
        _check_dtype(file, name, tensor.dtype)
    return tensors


def _unreadable(file: Path, error: Exception) -> ModelLoadError:
    return ModelLoadError(f"{file} cannot be read: {error}; download the model afresh")


def _check_dtype(file: Path, name: str, dtype: torch.dtype | None) -> None:
    if dtype is not None and dtype.is_floating_point and dtype.itemsize >= 2:
        return
    if name.endswith(_INTEGER_BUFFERS):
        return
    raise UnsupportedModelError(
        f"{file} holds {name} as {dtype or 'a type of few bits'}: quantised weights cannot be "
        "scored here. Save the model again in float16, bfloat16 or float32"
    )


def _whole(tensors: dict[str, Tensor], file: Path) -> dict[str, Tensor]:
    """Return the tensors with those stored as int8 rows multiplied by their rows' scales.

    A matrix ``x`` (rows, columns) of int8 comes with ``x.row_scale`` (rows,) of float32.
    """
    whole = {name: tensor for name, tensor in tensors.items() if not name.endswith(ROW_SCALE)}
    for name in tensors.keys() - whole.keys():
        matrix = name.removesuffix(ROW_SCALE)
        if matrix not in tensors:
            raise ModelLoadError(
                f"{file} has scales for a tensor {matrix!r} that it does not have; "
                "download the model afresh"
            )
        whole[matrix] = tensors[matrix].float() * tensors[name][:, None]
    return whole


def _modern(name: str) -> str:
    for old, new in ((".gamma", ".weight"), (".beta", ".bias")):
        if name.endswith(f"LayerNorm{old}"):
            return name.removesuffix(old) + new
    return name
