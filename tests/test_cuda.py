"""The forward pass on a CUDA device: what the first machine with a GPU runs, with ``-m gpu``."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from random_bert import calm, random_pairs, random_weights, reference_logits
from torch import Tensor

from rerank_plugins.cross_encoder.forward.folding import FoldedWeights
from rerank_plugins.cross_encoder.forward.gpu import GpuForward
from rerank_plugins.cross_encoder.forward.packed import PackedForward, varlen_attention
from rerank_plugins.cross_encoder.forward.staging import BatchShape
from rerank_plugins.cross_encoder.pairs import PackedPairs

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def cuda() -> torch.device:
    return torch.device("cuda")


# Head widths 64, 32, 26 (which PyTorch's attention of packed pairs does not take), and 64.
MODELS: dict[str, dict[str, Any]] = {
    "tinybert-l2": {"hidden": 128, "n_heads": 2, "n_layers": 2, "feed_forward": 512},
    "minilm-l6": {"hidden": 384, "n_heads": 12, "n_layers": 6, "feed_forward": 1536},
    "tinybert-l4": {"hidden": 312, "n_heads": 12, "n_layers": 4, "feed_forward": 1200},
    "electra-base": {"hidden": 768, "n_heads": 12, "n_layers": 3, "feed_forward": 3072},
}
LENGTHS = [512, 300, 129, 128, 127, 65, 64, 63, 33, 17, 16, 15, 3, 2]


def _model(name: str, **changes: Any) -> Any:
    return random_weights(**{**MODELS[name], "max_positions": 512, "vocabulary": 500, **changes})


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float16, 2e-2), (torch.bfloat16, 1e-1)])
@pytest.mark.parametrize("outlier", [0.0, 12.0])
@pytest.mark.parametrize("name", MODELS)
def test_16_bits_on_a_gpu_are_close_to_float32(
    name: str, outlier: float, dtype: torch.dtype, tolerance: float, cuda: torch.device
) -> None:
    weights = calm(_model(name, outlier=outlier))
    forward = GpuForward(weights, device=cuda, dtype=dtype)
    pairs = random_pairs(LENGTHS, vocabulary=500)
    expected = reference_logits(weights, pairs)
    for _ in range(3):  # without a graph, captured, replayed
        torch.testing.assert_close(forward(pairs).cpu(), expected, atol=tolerance, rtol=0)


@pytest.mark.parametrize("name", MODELS)
def test_pytorchs_attention_of_packed_pairs_agrees_with_padding(
    name: str, cuda: torch.device
) -> None:
    weights = calm(_model(name))
    folded = FoldedWeights.of(weights, device=cuda, dtype=torch.float16)
    varlen = varlen_attention(folded)
    if varlen is None:
        pytest.skip("this PyTorch, this GPU or this head width has none")
    pairs = random_pairs(LENGTHS, vocabulary=500)
    shape = BatchShape.of(pairs).rounded(max_positions=512)
    with torch.inference_mode():
        batch = shape.batch(shape.host(pairs, pinned=True).to(cuda))
        logits = PackedForward(folded, varlen)(batch)
        padded = PackedForward(folded)(batch)
    torch.testing.assert_close(logits, padded, atol=1e-2, rtol=0)


def test_float32_on_a_gpu_equals_the_cpu(cuda: torch.device) -> None:
    weights = _model("tinybert-l2")
    pairs = random_pairs(LENGTHS, vocabulary=500)
    logits = GpuForward(weights, device=cuda, dtype=torch.float32)(pairs)
    expected = reference_logits(weights, pairs)
    torch.testing.assert_close(logits.cpu(), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.float16, 1e-2)])
def test_graphs_change_nothing(dtype: torch.dtype, tolerance: float, cuda: torch.device) -> None:
    weights = _model("tinybert-l2")
    with_graphs = GpuForward(weights, device=cuda, dtype=dtype)
    without = GpuForward(weights, device=cuda, dtype=dtype, graph_max_tokens=0)
    batches = [
        random_pairs([length, length // 2 + 1, 2], vocabulary=500, seed=seed)
        for seed, length in enumerate([300, 280, 290, 500, 300, 12, 20, 30, 310])
    ]
    expected = [without(pairs).cpu() for pairs in batches]
    for _ in range(3):
        # Read only after all have run: no batch may write over the logits or ids of another.
        logits = [with_graphs(pairs) for pairs in batches]
        for got, want in zip(logits, expected, strict=True):
            torch.testing.assert_close(got.cpu(), want, atol=tolerance, rtol=0)


def test_clearly_separated_pairs_keep_their_ranking(cuda: torch.device) -> None:
    weights = _model("tinybert-l2")
    pairs = random_pairs([100] * 200, vocabulary=500)
    expected = reference_logits(weights, pairs)[:, 0]
    logits = GpuForward(weights, device=cuda, dtype=torch.float16)(pairs)[:, 0].cpu()
    apart = expected[:, None] - expected[None, :] > 4e-2
    assert bool(apart.any())
    assert bool((logits[:, None] > logits[None, :])[apart].all())


def test_threads_that_share_a_gpu_get_their_own_logits(cuda: torch.device) -> None:
    weights = _model("tinybert-l2")
    forward = GpuForward(weights, device=cuda, dtype=torch.float16)
    batches = [random_pairs([seed + 2, 5, 30], vocabulary=500, seed=seed) for seed in range(24)]
    start = threading.Barrier(8)

    def logits(batches: list[PackedPairs]) -> list[Tensor]:
        start.wait()
        return [forward(pairs).cpu() for pairs in batches]

    with ThreadPoolExecutor(8) as pool:
        for rows in pool.map(logits, [batches] * 8):
            for pairs, row in zip(batches, rows, strict=True):
                expected = reference_logits(weights, pairs)
                torch.testing.assert_close(row, expected, atol=2e-2, rtol=0)


def test_too_large_a_batch_is_out_of_memory_and_the_next_one_runs(cuda: torch.device) -> None:
    weights = _model("tinybert-l2")
    forward = GpuForward(weights, device=cuda, dtype=torch.float16)
    small = random_pairs(LENGTHS, vocabulary=500)
    before = forward(small).cpu()
    torch.cuda.empty_cache()
    allowed = torch.cuda.memory_reserved(cuda) + 2**28
    try:
        _, total = torch.cuda.mem_get_info(cuda)
        torch.cuda.set_per_process_memory_fraction(allowed / total)
        with pytest.raises(torch.OutOfMemoryError):
            forward(random_pairs([500] * 4_000, vocabulary=500))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    torch.testing.assert_close(forward(small).cpu(), before, atol=1e-2, rtol=0)
