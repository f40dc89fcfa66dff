"""The forward pass of GPUs on CPU tensors: the same arithmetic, held against one pair at a time."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from random_bert import calm, random_pairs, random_weights, reference_logits
from torch import Tensor

from rerank_plugins.cross_encoder.forward.folding import FoldedWeights
from rerank_plugins.cross_encoder.forward.gpu import GpuForward
from rerank_plugins.cross_encoder.forward.packed import PackedForward, varlen_attention
from rerank_plugins.cross_encoder.forward.staging import BatchShape
from rerank_plugins.errors import InvalidArgumentError

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
TOLERANCES = [(torch.float32, 2e-5), (torch.float16, 4e-3), (torch.bfloat16, 3e-2)]


def varlen_attention_by_hand(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    query_offsets: Tensor,
    key_offsets: Tensor,
    longest_query: int,
    longest_key: int,
) -> Tensor:
    """Compute PyTorch's varlen_attn, pair by pair; what belongs to no pair is NaN."""
    out = torch.full_like(query, torch.nan)
    for start, stop in zip(query_offsets.tolist(), query_offsets.tolist()[1:], strict=False):
        assert stop - start <= longest_query
        own = slice(start, stop)
        heads = [part[own].transpose(0, 1) for part in (query, key, value)]
        mixed = F.scaled_dot_product_attention(heads[0], heads[1], heads[2])
        out[own] = mixed.transpose(0, 1)
    return out


SHAPES: list[dict[str, Any]] = [
    {},
    {"n_layers": 1},
    {"n_layers": 3, "hidden": 78, "n_heads": 3},  # head width 26, as in TinyBERT-L4
    {"n_types": 0},  # DistilBERT
    {"embedding": 20},  # ELECTRA small
    {"n_labels": 2, "activation": "relu"},
    {"outlier": 12.0},
]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_logits_equal_one_pair_at_a_time(shape: dict[str, Any]) -> None:
    weights = random_weights(**shape)
    pairs = random_pairs([17, 64, 3, 9, 9, 2], n_types=shape.get("n_types", 2))
    logits = GpuForward(weights, device=CPU, dtype=torch.float32)(pairs)
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, reference_logits(weights, pairs), atol=2e-5, rtol=1e-5)


@settings(max_examples=40, deadline=None)
@given(lengths=st.lists(st.integers(1, 64), min_size=1, max_size=12), seed=st.integers(0, 99))
def test_any_lengths_equal_one_pair_at_a_time(lengths: list[int], seed: int) -> None:
    weights = random_weights(seed=seed)
    pairs = random_pairs(lengths, seed=seed)
    logits = GpuForward(weights, device=CPU, dtype=torch.float32)(pairs)
    torch.testing.assert_close(logits, reference_logits(weights, pairs), atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("varlen", [False, True])
@pytest.mark.parametrize("outlier", [0.0, 12.0])
@pytest.mark.parametrize(("dtype", "tolerance"), TOLERANCES, ids=str)
def test_every_dtype_is_close_to_float32(
    dtype: torch.dtype, tolerance: float, outlier: float, varlen: bool
) -> None:
    weights = calm(random_weights(hidden=128, feed_forward=512, outlier=outlier))
    pairs = random_pairs([60, 33, 12])
    folded = FoldedWeights.of(weights, device=CPU, dtype=dtype)
    forward = PackedForward(folded, varlen_attention_by_hand if varlen else None)
    shape = BatchShape.of(pairs)
    logits = forward(shape.batch(shape.host(pairs, pinned=False)))
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, reference_logits(weights, pairs), atol=tolerance, rtol=0)


def test_pytorchs_attention_of_packed_pairs_is_not_asked_on_a_cpu() -> None:
    for dtype, _ in TOLERANCES:
        assert varlen_attention(FoldedWeights.of(random_weights(), device=CPU, dtype=dtype)) is None


def test_no_pairs_give_no_rows() -> None:
    forward = GpuForward(random_weights(n_labels=2), device=CPU, dtype=torch.float32)
    assert forward(random_pairs([])).shape == (0, 2)


def test_a_pair_longer_than_the_position_table_is_refused() -> None:
    forward = GpuForward(random_weights(max_positions=8), device=CPU, dtype=torch.float32)
    with pytest.raises(InvalidArgumentError, match=r"9 tokens.*positions for 8.*max_length=8"):
        forward(random_pairs([9, 4]))


def test_callers_in_many_threads_get_their_own_logits() -> None:
    weights = random_weights()
    forward = GpuForward(weights, device=CPU, dtype=torch.float32)
    batches = [random_pairs([seed + 2, 5, 30], seed=seed) for seed in range(24)]
    with ThreadPoolExecutor(8) as pool:
        for pairs, logits in zip(batches, pool.map(forward, batches), strict=True):
            expected = reference_logits(weights, pairs)
            torch.testing.assert_close(logits, expected, atol=2e-5, rtol=1e-5)


@settings(max_examples=40, deadline=None)
@given(lengths=st.lists(st.integers(1, 40), min_size=1, max_size=9), seed=st.integers(0, 99))
def test_a_rounded_batch_gives_the_same_logits(lengths: list[int], seed: int) -> None:
    weights = random_weights(seed=seed, max_positions=48)
    pairs = random_pairs(lengths, seed=seed)
    shape = BatchShape.of(pairs).rounded(max_positions=48)
    array = torch.full((shape.size,), -(2**30), dtype=torch.int32)  # as an unused buffer may be
    shape.write(pairs, array.numpy())
    folded = FoldedWeights.of(weights, device=CPU, dtype=torch.float32)
    expected = reference_logits(weights, pairs)
    for varlen in (None, varlen_attention_by_hand):
        logits = PackedForward(folded, varlen)(shape.batch(array))
        assert bool(logits.isfinite().all())
        torch.testing.assert_close(logits[: pairs.n_pairs], expected, atol=2e-5, rtol=1e-5)
