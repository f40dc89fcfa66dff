"""Which forward pass a BERT-shaped model takes on this machine's processor."""

from __future__ import annotations

import ctypes
import functools
import os
from pathlib import Path

from rerank_plugins.cross_encoder.forward.bert import BertWeights
from rerank_plugins.cross_encoder.forward.int8 import layer_scales
from rerank_plugins.cross_encoder.forward.native.build import (
    FLAGS,
    FOLDER,
    digest,
    is_for_this_platform,
    library,
)
from rerank_plugins.cross_encoder.forward.native.model import NativeForward
from rerank_plugins.errors import InvalidArgumentError

VARIABLE = "RERANK_NATIVE"
_AVX512 = frozenset({"avx512f", "avx512bw", "avx512vl", "avx512dq", "fma"})
_AMX = _AVX512 | {"avx512_bf16", "amx_tile", "amx_bf16"}
NEEDS = {
    "avx2": frozenset({"avx2", "fma"}),
    "avx512": _AVX512,
    "amx": _AMX,
    "amx_int8": _AMX | {"amx_int8"},
}
_PATHS = {"float32": ("avx512", "avx2"), "bfloat16": ("amx",), "int8": ("amx_int8",)}


def native_forward(
    weights: BertWeights,
    dtype: str,
    *,
    folder: Path = FOLDER,
    processor: frozenset[str] | None = None,
) -> tuple[NativeForward | None, str]:
    """Return the compiled forward pass, or None where PyTorch's is to be used; and which and why.

    `RERANK_NATIVE` in the environment says: ``auto`` (the default), where it was measured to be
    faster; ``0``, never; ``avx2``, ``avx512`` or ``amx``, that path wherever it can be used.
    ``processor`` has the features of the processor. Raises `InvalidArgumentError` for any other
    value.
    """
    wish = os.environ.get(VARIABLE, "auto")
    if wish not in ("0", "auto", *FLAGS):
        raise InvalidArgumentError(
            f"{VARIABLE}={wish!r} in the environment: set it to 0, auto or {', '.join(FLAGS)}"
        )
    if wish == "0":
        return None, f"PyTorch ({VARIABLE} is 0)"
    if not is_for_this_platform():
        return None, "PyTorch (the compiled forward pass is for Linux on x86-64)"
    features = processor_features() if processor is None else processor
    reasons = []
    for path in _PATHS.get(dtype, ()):
        if wish not in ("auto", path):
            continue
        if wish == "auto" and (slower := _slower(path, weights)):
            reasons.append(slower)
            continue
        opened = _opened(library(folder, path), path, features)
        if isinstance(opened, ctypes.CDLL):
            scales = layer_scales(weights) if dtype == "int8" else ()
            return NativeForward(opened, weights, scales), f"compiled ({path})"
        reasons.append(opened)
    return None, f"PyTorch ({'; '.join(reasons) or f'{wish} has no {dtype}'})"


def _slower(path: str, weights: BertWeights) -> str | None:
    """Return why PyTorch is preferred where both can be used; None where it is not.

    Measured on a Xeon with AMX, 1 to 40 pairs a batch of 104 tokens, times PyTorch's speed in the
    same dtype: hidden size 128: 1.6 to 2.5 (avx512), 2.4 to 4.4 (amx), 3.2 to 6.6 (amx_int8); 384:
    1.07 to 1.30, 1.25 to 1.84, 2.3 to 2.7; 312, which is padded: 0.95 to 1.3, 1.25 to 2.1, 2.1 to
    2.8; 768: 1.02 to 1.13, 0.91 to 1.5, 1.4 to 1.7. The avx2 path: 0.7 to 1.7.
    """
    hidden = weights.hidden_size
    if path == "avx2":
        return "avx2: no faster"
    if hidden > (768 if path == "amx_int8" else 384):
        return f"{path}: no faster at hidden size {hidden}"
    if path == "avx512" and hidden % 32:
        return f"avx512: no faster at hidden size {hidden}, which is no multiple of 32"
    return None


@functools.cache
def processor_features() -> frozenset[str]:
    """Return the features that Linux names; none elsewhere."""
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.exists():
        return frozenset()
    lines = cpuinfo.read_text().splitlines()
    return frozenset(next((line for line in lines if line.startswith("flags")), "").split())


def _opened(file: Path, path: str, features: frozenset[str]) -> ctypes.CDLL | str:
    """Return the library, ready for use, or why there is none."""
    if missing := NEEDS[path] - features:
        return f"{path}: the processor has no {', '.join(sorted(missing))}"
    if not file.exists():
        return f"{path}: it was not compiled when the package was installed"
    try:
        opened = ctypes.CDLL(str(file))
    except OSError as error:
        return f"{path}: {error}"
    opened.native_source.restype = ctypes.c_char_p
    if opened.native_source() != digest().encode():
        return f"{path}: {file} was compiled from another version; install the package again"
    if opened.native_permit():
        return f"{path}: the kernel does not let this process use it"
    return opened
