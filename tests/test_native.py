"""The compiled forward pass against plain arithmetic, on every path that this processor has."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from native_libraries import PATHS, native, skip_without
from random_bert import ALL_SHAPES, calm, random_pairs, random_weights, reference_logits

from rerank_plugins.cross_encoder.forward.cpu import CpuForward
from rerank_plugins.cross_encoder.forward.int8 import QuantizedForward
from rerank_plugins.cross_encoder.pairs import PackedPairs
from rerank_plugins.errors import InvalidArgumentError

# Slow: compiling takes some seconds.
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]
SHAPES: list[dict[str, Any]] = [
    *ALL_SHAPES,
    {"hidden": 320, "n_heads": 2},  # head width 160
    {"hidden": 90, "n_heads": 3, "feed_forward": 100, "embedding": 50},
]
TOLERANCE = {"avx2": 3e-6, "avx512": 3e-6, "amx": 1e-2, "amx_int8": 6e-2}


@pytest.fixture(params=PATHS)
def path(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    skip_without(name)
    return name


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_logits_equal_plain_arithmetic_and_no_pair_depends_on_its_batch(
    path: str, shape: dict[str, Any]
) -> None:
    weights = calm(random_weights(**shape))
    lengths = [*np.random.default_rng(0).integers(1, 65, 30).tolist(), 64, 17, 32, 33, 1]
    pairs = random_pairs(lengths, n_types=shape.get("n_types", 2))
    forward = native(path, weights)
    logits = forward(pairs)
    expected = reference_logits(weights, pairs)
    torch.testing.assert_close(logits, expected, atol=TOLERANCE[path], rtol=0)
    alone = [forward(pairs.select(np.array([row]))) for row in range(pairs.n_pairs)]
    assert torch.equal(logits, torch.cat(alone))


@pytest.mark.parametrize("lengths", [[700], [700, 1], [513, 512, 1, 1], [1], []], ids=str)
def test_long_and_short_pairs_and_none(path: str, lengths: list[int]) -> None:
    weights = calm(random_weights(max_positions=700, n_labels=2))
    pairs = random_pairs(lengths)
    logits = native(path, weights)(pairs)
    assert logits.shape == (len(lengths), 2)
    expected = reference_logits(weights, pairs)
    torch.testing.assert_close(logits, expected, atol=TOLERANCE[path], rtol=0)


@pytest.mark.parametrize("outlier", [0.0, 12.0])
@pytest.mark.parametrize(
    "shape", [{"hidden": 128, "feed_forward": 512}, {"hidden": 384, "n_heads": 12, "n_layers": 4}]
)
def test_fewer_bits_are_no_further_off_than_pytorchs(
    path: str, shape: dict[str, Any], outlier: float
) -> None:
    if not path.startswith("amx"):
        pytest.skip("float32")
    weights = calm(random_weights(**shape, outlier=outlier))
    pairs = random_pairs([7, 20, 33, 64] * 20)
    expected = CpuForward(weights, dtype=torch.float32)(pairs)
    peer = (
        QuantizedForward(weights)
        if path == "amx_int8"
        else CpuForward(weights, dtype=torch.bfloat16)
    )
    theirs = peer(pairs) - expected
    ours = native(path, weights)(pairs) - expected
    assert ours.square().mean().sqrt() <= 1.1 * theirs.square().mean().sqrt()


def test_what_the_model_has_no_embedding_for_is_refused(path: str) -> None:
    forward = native(path, random_weights(vocabulary=10, max_positions=8))
    for wrong in (10, -1, 2**31 - 1):
        pairs = random_pairs([5, 4], vocabulary=10)
        pairs.ids[3] = wrong
        with pytest.raises(InvalidArgumentError, match=rf"id {wrong}.*embeddings for 10.*tokeni"):
            forward(pairs)
    for wrong in (2, -1):
        pairs = random_pairs([5, 4], vocabulary=10)
        pairs.type_ids[3] = wrong
        with pytest.raises(InvalidArgumentError, match=rf"type ids.*{wrong}.*fewer types"):
            forward(pairs)
    with pytest.raises(InvalidArgumentError, match=r"9 tokens.*positions for 8.*max_length=8"):
        forward(random_pairs([9, 1], vocabulary=10))
    for lengths in ([6, 4], [5, 3], [9, 0], [10, -1]):
        pairs = random_pairs([5, 4], vocabulary=10)
        pairs.lengths[:] = lengths
        with pytest.raises(InvalidArgumentError, match="tokens"):
            forward(pairs)
    pairs = random_pairs([5, 4], vocabulary=10)
    with pytest.raises(InvalidArgumentError, match="9 ids and 8 type ids"):
        forward(PackedPairs(pairs.ids, pairs.type_ids[:-1], pairs.lengths))


def test_arrays_of_any_stride_and_alignment_are_read(path: str) -> None:
    weights, pairs = random_weights(), random_pairs([30, 20, 7])
    forward = native(path, weights)
    ids, types = (np.repeat(array, 2)[::2] for array in (pairs.ids, pairs.type_ids))
    assert torch.equal(forward(PackedPairs(ids, types, pairs.lengths)), forward(pairs))


@pytest.mark.parametrize("bits", [0x7FC00000, -1])
def test_nan_in_one_pair_stays_there(path: str, bits: int) -> None:
    weights = random_weights()
    weights.embeddings.token[7] = torch.tensor(bits, dtype=torch.int32).view(torch.float32)
    pairs = random_pairs([40, 33, 20], vocabulary=7)
    forward = native(path, weights, like=random_weights())
    quiet = forward(pairs)
    pairs.ids[45] = 7
    logits = forward(pairs)
    assert logits[1].isnan().all()
    assert torch.equal(logits[[0, 2]], quiet[[0, 2]])


def test_callers_in_many_threads_get_their_own_logits(path: str) -> None:
    forward = native(path, random_weights(hidden=128, n_heads=4))
    batches = [random_pairs([seed + 2, 5, 30], seed=seed) for seed in range(24)]
    alone = [forward(pairs) for pairs in batches]
    with ThreadPoolExecutor(8) as pool:
        for expected, logits in zip(alone * 8, pool.map(forward, batches * 8), strict=True):
            assert torch.equal(logits, expected)


# Python 3.12 and later warn of any fork beside threads, which this is about.
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_computes_the_same(path: str) -> None:
    forward, pairs = native(path, random_weights()), random_pairs([30, 20, 7])
    expected = forward(pairs).numpy()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if np.array_equal(forward(pairs).numpy(), expected) else 2
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
