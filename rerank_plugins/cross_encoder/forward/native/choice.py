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

    `RERANK_NATIVE` in the environment says: ``0``, never (the default); ``auto``, where it was
    measured to be faster; ``avx2``, ``avx512`` or ``amx``, that path wherever it can be used.
    ``processor`` has the features of the processor. Raises `InvalidArgumentError` for any other
    value.
    """
    wish = os.environ.get(VARIABLE, "0")
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
        opened = _opened(library(folder, path), path, features)
        if isinstance(opened, ctypes.CDLL):
            scales = layer_scales(weights) if dtype == "int8" else ()
            return NativeForward(opened, weights, scales), f"compiled ({path})"
        reasons.append(opened)
    return None, f"PyTorch ({'; '.join(reasons) or f'{wish} has no {dtype}'})"


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
