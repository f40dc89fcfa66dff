"""Which compiled forward pass a model takes on this processor, if any."""

from __future__ import annotations

import os
from pathlib import Path

from rerank_plugins.cross_encoder.forward.bert import BertWeights
from rerank_plugins.cross_encoder.forward.native.build import FOLDER
from rerank_plugins.cross_encoder.forward.native.model import NativeForward

_NEEDS = {
    "amx": {"amx_tile", "amx_bf16", "avx512_bf16", "avx512f", "avx512bw", "avx512vl", "avx512dq"},
    "avx512": {"avx512f", "avx512bw", "avx512vl", "avx512dq", "fma"},
    "avx2": {"avx2", "fma"},
}


def native_forward(weights: BertWeights, dtype: str, folder: Path = FOLDER) -> NativeForward | None:
    """Return the compiled forward pass, or None where PyTorch's is to be used."""
    if os.environ.get("RERANK_NATIVE") != "1" or not takes(weights):
        return None
    for path in ["amx"] if dtype == "bfloat16" else ["avx512", "avx2"]:
        library = folder / f"forward_{path}.so"
        if _NEEDS[path] <= processor_flags() and library.exists():
            return NativeForward(library, weights)
    return None


def takes(weights: BertWeights) -> bool:
    """Say whether the sizes are whole vectors and tiles."""
    embedding = weights.embeddings.token.shape[1]
    inner = len(weights.layers[0].feed_forward.bias)
    return not (weights.hidden_size % 32 or embedding % 32 or inner % 32)


def processor_flags() -> set[str]:
    """Return the features that Linux names; none elsewhere."""
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.exists():
        return set()
    lines = cpuinfo.read_text().splitlines()
    return set(next((line for line in lines if line.startswith("flags")), "").split())
