"""The compiled forward pass as installing the package leaves it, for tests."""

from __future__ import annotations

import ctypes

import pytest

from rerank_plugins.cross_encoder.forward.bert import BertWeights
from rerank_plugins.cross_encoder.forward.int8 import layer_scales
from rerank_plugins.cross_encoder.forward.native.build import (
    FLAGS,
    FOLDER,
    build,
    digest,
    is_for_this_platform,
    library,
)
from rerank_plugins.cross_encoder.forward.native.choice import NEEDS, processor_features
from rerank_plugins.cross_encoder.forward.native.model import NativeForward

PATHS = tuple(FLAGS)


def skip_without(path: str) -> None:
    """Compile what is not there; skip where ``path`` cannot be compiled or cannot run."""
    if not is_for_this_platform():
        pytest.skip("the compiled forward pass is for Linux on x86-64")
    if missing := NEEDS[path] - processor_features():
        pytest.skip(f"this processor has no {', '.join(sorted(missing))}")
    if not _is_current(path):
        failures = build()
        if path in failures:
            pytest.skip(failures[path])
    if ctypes.CDLL(str(library(FOLDER, path))).native_permit():
        pytest.skip(f"the kernel permits no {path}")


def native(path: str, weights: BertWeights, like: BertWeights | None = None) -> NativeForward:
    """Return the forward pass; int8 has the scales of ``like``."""
    opened = ctypes.CDLL(str(library(FOLDER, path)))
    return NativeForward(opened, weights, layer_scales(like or weights) if "int8" in path else ())


def _is_current(path: str) -> bool:
    # Read, not opened: a name that was opened once stays the old library.
    file = library(FOLDER, path)
    return file.exists() and digest().encode() in file.read_bytes()
