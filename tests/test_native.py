"""The compiled forward pass against plain arithmetic, on every path that this processor has."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from random_bert import calm, random_pairs, random_weights

from rerank_plugins.cross_encoder.forward.bert import reference_logits
from rerank_plugins.cross_encoder.forward.native.build import FLAGS, build
from rerank_plugins.cross_encoder.forward.native.choice import (
    _NEEDS,
    native_forward,
    processor_flags,
)
from rerank_plugins.cross_encoder.forward.native.model import NativeForward
from rerank_plugins.errors import InvalidArgumentError

pytestmark = pytest.mark.skipif(not shutil.which("g++"), reason="no compiler")
SHAPES: list[dict[str, Any]] = [
    {},
    {"n_layers": 1},
    {"n_heads": 1, "n_layers": 4},
    {"hidden": 384, "n_heads": 12, "feed_forward": 1536},
    {"hidden": 96, "n_heads": 4},
    {"n_types": 0},
    {"hidden": 96, "embedding": 64},
    {"n_labels": 2},
    *({"activation": name} for name in ("gelu_tanh", "relu", "silu", "tanh")),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    built = tmp_path_factory.mktemp("native")
    build(built)
    return built


@pytest.fixture(params=FLAGS)
def path(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if not _NEEDS[name] <= processor_flags():
        pytest.skip(f"this processor has no {name}")
    return name


def _library(folder: Path, path: str) -> Path:
    return folder / f"forward_{path}.so"


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_logits_equal_plain_arithmetic_and_no_pair_depends_on_its_batch(
    folder: Path, path: str, shape: dict[str, Any]
) -> None:
    weights = calm(random_weights(**shape))
    lengths = [*np.random.default_rng(0).integers(1, 65, 30).tolist(), 64, 17, 32, 33, 1]
    pairs = random_pairs(lengths, n_types=shape.get("n_types", 2))
    forward = NativeForward(_library(folder, path), weights)
    logits = forward(pairs)
    atol = 1e-2 if path == "amx" else 2e-6
    torch.testing.assert_close(logits, reference_logits(weights, pairs), atol=atol, rtol=0)
    alone = [forward(pairs.select(np.array([row]))) for row in range(pairs.n_pairs)]
    assert torch.equal(logits, torch.cat(alone))


def test_ids_and_lengths_out_of_range_are_refused(folder: Path, path: str) -> None:
    forward = NativeForward(_library(folder, path), random_weights(vocabulary=10, max_positions=8))
    for wrong in (10, -1, 2**31 - 1):
        pairs = random_pairs([5, 4], vocabulary=10)
        pairs.ids[3] = wrong
        with pytest.raises(InvalidArgumentError, match="token or type id"):
            forward(pairs)
    with pytest.raises(InvalidArgumentError, match="length"):
        forward(random_pairs([9], vocabulary=10))
    pairs = random_pairs([5, 4], vocabulary=10)
    pairs.lengths[0] = 6
    with pytest.raises(InvalidArgumentError, match="length"):
        forward(pairs)


def test_nan_in_one_pair_stays_there(folder: Path, path: str) -> None:
    weights = random_weights()
    weights.embeddings.token[7] = float("nan")
    pairs = random_pairs([40, 33, 20], vocabulary=7)
    forward = NativeForward(_library(folder, path), weights)
    quiet = forward(pairs)
    pairs.ids[45] = 7
    logits = forward(pairs)
    assert logits[1].isnan().all()
    assert torch.equal(logits[[0, 2]], quiet[[0, 2]])


def test_it_is_used_only_when_asked_for_and_built(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = random_weights()
    monkeypatch.delenv("RERANK_NATIVE", raising=False)
    assert native_forward(weights, "float32", folder) is None
    monkeypatch.setenv("RERANK_NATIVE", "1")
    assert native_forward(weights, "float32", tmp_path) is None
    assert native_forward(random_weights(hidden=78, n_heads=3), "float32", folder) is None
