from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_bert import random_pairs, random_weights
from torch import Tensor

from rerank_plugins.cross_encoder.forward.bert import reference_logits
from rerank_plugins.cross_encoder.forward.cuda_graphs import Graphs, Replay
from rerank_plugins.cross_encoder.forward.gpu import CudaForward
from rerank_plugins.cross_encoder.forward.packed import PackedForward, PackedWeights
from rerank_plugins.cross_encoder.forward.staging import BatchShape, even_lengths
from rerank_plugins.cross_encoder.pairs import PackedPairs
from rerank_plugins.errors import InvalidArgumentError

CPU = torch.device("cpu")


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    # Two threads on small products wait for each other for longer than they compute.
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


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
    logits = CudaForward(weights, device=CPU, dtype=torch.float32)(pairs)
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, reference_logits(weights, pairs), atol=2e-5, rtol=1e-5)


@settings(max_examples=40, deadline=None)
@given(lengths=st.lists(st.integers(1, 64), min_size=1, max_size=12), seed=st.integers(0, 99))
def test_any_lengths_equal_one_pair_at_a_time(lengths: list[int], seed: int) -> None:
    weights = random_weights(seed=seed)
    pairs = random_pairs(lengths, seed=seed)
    logits = CudaForward(weights, device=CPU, dtype=torch.float32)(pairs)
    torch.testing.assert_close(logits, reference_logits(weights, pairs), atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("outlier", [0.0, 12.0])
def test_float16_logits_are_close_to_float32(outlier: float) -> None:
    weights = random_weights(hidden=128, feed_forward=512, outlier=outlier)
    pairs = random_pairs([60, 33, 12])
    logits = CudaForward(weights, device=CPU, dtype=torch.float16)(pairs)
    torch.testing.assert_close(logits, reference_logits(weights, pairs), atol=2e-2, rtol=0)


def test_no_pairs_give_no_rows() -> None:
    forward = CudaForward(random_weights(n_labels=2), device=CPU, dtype=torch.float32)
    assert forward(random_pairs([])).shape == (0, 2)


def test_a_pair_longer_than_the_position_table_is_refused() -> None:
    forward = CudaForward(random_weights(max_positions=8), device=CPU, dtype=torch.float32)
    with pytest.raises(InvalidArgumentError, match=r"9 tokens.*positions for 8.*max_length=8"):
        forward(random_pairs([9, 4]))


def test_callers_in_many_threads_get_their_own_logits() -> None:
    weights = random_weights()
    forward = CudaForward(weights, device=CPU, dtype=torch.float32)
    batches = [random_pairs([seed + 2, 5, 30], seed=seed) for seed in range(24)]
    with ThreadPoolExecutor(8) as pool:
        for pairs, logits in zip(batches, pool.map(forward, batches), strict=True):
            expected = reference_logits(weights, pairs)
            torch.testing.assert_close(logits, expected, atol=2e-5, rtol=1e-5)


# Shapes of CUDA graphs: the same arithmetic, so that the CPU can tell whether padding leaks.


@settings(max_examples=40, deadline=None)
@given(lengths=st.lists(st.integers(1, 40), min_size=1, max_size=9), seed=st.integers(0, 99))
def test_a_rounded_batch_gives_the_same_logits(lengths: list[int], seed: int) -> None:
    weights = random_weights(seed=seed, max_positions=48)
    pairs = random_pairs(lengths, seed=seed)
    shape = BatchShape.of(pairs).rounded(max_positions=48)
    array = torch.full((shape.size,), -(2**30), dtype=torch.int32)  # as an unused buffer may be
    shape.write(pairs, array.numpy())
    forward = PackedForward(PackedWeights.of(weights, device=CPU, dtype=torch.float32))
    logits = forward(shape.batch(array))
    assert bool(logits.isfinite().all())
    expected = reference_logits(weights, pairs)
    torch.testing.assert_close(logits[: pairs.n_pairs], expected, atol=2e-5, rtol=1e-5)


@given(
    n_tokens=st.integers(1, 40_000), n_pairs=st.integers(1, 2_000), max_length=st.integers(1, 512)
)
def test_a_rounded_shape_holds_the_batch_and_wastes_less_than_half(
    n_tokens: int, n_pairs: int, max_length: int
) -> None:
    shape = BatchShape(n_tokens=n_tokens, n_pairs=n_pairs, max_length=max_length)
    rounded = shape.rounded(max_positions=512)
    assert n_tokens <= rounded.n_tokens <= max(64, n_tokens * 3 // 2)
    assert n_pairs <= rounded.n_pairs < 2 * n_pairs + 1
    assert max_length <= rounded.max_length <= max(32, 2 * max_length)
    assert rounded.rounded(max_positions=512) == rounded


@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=9), extra=st.integers(0, 30))
def test_the_array_gives_back_every_pair(lengths: list[int], extra: int) -> None:
    pairs = random_pairs(lengths)
    shape = BatchShape(n_tokens=pairs.n_tokens + extra, n_pairs=pairs.n_pairs + extra, max_length=9)
    batch = shape.batch(shape.host(pairs, pinned=False))
    starts = batch.offsets.tolist()
    cut = np.cumsum(pairs.lengths)[:-1]
    for index, (ids, types) in enumerate(
        zip(np.split(pairs.ids, cut), np.split(pairs.type_ids, cut), strict=True)
    ):
        piece = slice(starts[index], starts[index + 1])
        assert batch.ids[piece].tolist() == ids.tolist()
        assert batch.type_ids[piece].tolist() == types.tolist()
    assert starts[pairs.n_pairs :] == [pairs.n_tokens] * (extra + 1)
    assert batch.ids.data_ptr() % 16 == batch.offsets.data_ptr() % 16
    assert batch.type_ids.data_ptr() % 16 == batch.offsets.data_ptr() % 16


@given(lengths=st.lists(st.integers(1, 512), min_size=1, max_size=40))
def test_cut_at_halved_lengths_padding_less_than_doubles_the_tokens(lengths: list[int]) -> None:
    pairs = random_pairs(lengths)
    parts = even_lengths(pairs)
    for part in parts:
        assert part.n_pairs * part.max_length <= 2 * part.n_tokens
    for values in ("ids", "type_ids", "lengths"):
        together = np.concatenate([getattr(part, values) for part in parts])
        assert together.tolist() == getattr(pairs, values).tolist()


def _shape(n_tokens: int) -> BatchShape:
    return BatchShape(n_tokens=n_tokens, n_pairs=1, max_length=n_tokens)


def _recording(captured: list[int]) -> Callable[[BatchShape], Replay]:
    def capture(shape: BatchShape) -> Replay:
        captured.append(shape.n_tokens)
        return lambda host: host

    return capture


def test_a_shape_is_captured_when_it_comes_again() -> None:
    captured: list[int] = []
    graphs = Graphs(_recording(captured))
    assert graphs.get(_shape(64)) is None
    assert graphs.get(_shape(96)) is None
    assert captured == []
    replay = graphs.get(_shape(64))
    assert replay is not None
    assert graphs.get(_shape(64)) is replay
    assert captured == [64]


def test_graphs_are_bounded_and_the_one_used_longest_ago_goes() -> None:
    captured: list[int] = []
    graphs = Graphs(_recording(captured), max_graphs=2)
    for n_tokens in (1, 1, 2, 2, 1, 3, 3):
        graphs.get(_shape(n_tokens))
    assert len(graphs) == 2
    graphs.get(_shape(1))
    assert captured == [1, 2, 3]
    graphs.get(_shape(2))
    assert captured == [1, 2, 3, 2]


def test_a_failed_capture_is_logged_and_the_last_one(caplog: pytest.LogCaptureFixture) -> None:
    def capture(shape: BatchShape) -> Replay:
        raise torch.OutOfMemoryError("no room for a graph")

    graphs = Graphs(capture)
    assert [graphs.get(_shape(1)) for _ in range(4)] == [None] * 4
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "no room for a graph" in caplog.text


# On a GPU


@pytest.fixture(scope="module")
def cuda() -> torch.device:
    return torch.device("cuda")


# The shapes of TinyBERT-L2 and MiniLM-L6, and one that no row kernel takes.
MODELS: dict[str, dict[str, Any]] = {
    "tinybert-l2": {"hidden": 128, "n_heads": 2, "n_layers": 2, "feed_forward": 512},
    "minilm-l6": {"hidden": 384, "n_heads": 12, "n_layers": 6, "feed_forward": 1536},
    "tinybert-l4": {"hidden": 312, "n_heads": 12, "n_layers": 4, "feed_forward": 1200},
    "electra-base": {"hidden": 768, "n_heads": 12, "n_layers": 3, "feed_forward": 3072},
}
LENGTHS = [512, 300, 129, 128, 127, 65, 64, 63, 33, 17, 16, 15, 3, 2]


def _model(name: str, **changes: Any) -> Any:
    return random_weights(**{**MODELS[name], "max_positions": 512, "vocabulary": 500, **changes})


@pytest.mark.gpu
@pytest.mark.parametrize("outlier", [0.0, 12.0])
@pytest.mark.parametrize("name", MODELS)
def test_float16_on_a_gpu_is_close_to_float32(
    name: str, outlier: float, cuda: torch.device
) -> None:
    weights = _model(name, outlier=outlier)
    forward = CudaForward(weights, device=cuda, dtype=torch.float16)
    pairs = random_pairs(LENGTHS, vocabulary=500)
    expected = reference_logits(weights, pairs)
    for _ in range(3):  # without a graph, captured, replayed
        torch.testing.assert_close(forward(pairs).cpu(), expected, atol=2e-2, rtol=0)


@pytest.mark.gpu
def test_float32_on_a_gpu_equals_the_cpu(cuda: torch.device) -> None:
    weights = _model("tinybert-l2")
    pairs = random_pairs(LENGTHS, vocabulary=500)
    logits = CudaForward(weights, device=cuda, dtype=torch.float32)(pairs)
    expected = reference_logits(weights, pairs)
    torch.testing.assert_close(logits.cpu(), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.gpu
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.float16, 1e-2)])
def test_graphs_change_nothing(dtype: torch.dtype, tolerance: float, cuda: torch.device) -> None:
    weights = _model("tinybert-l2")
    with_graphs = CudaForward(weights, device=cuda, dtype=dtype)
    without = CudaForward(weights, device=cuda, dtype=dtype, graph_max_tokens=0)
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


@pytest.mark.gpu
def test_clearly_separated_pairs_keep_their_ranking(cuda: torch.device) -> None:
    weights = _model("tinybert-l2")
    pairs = random_pairs([100] * 200, vocabulary=500)
    expected = reference_logits(weights, pairs)[:, 0]
    logits = CudaForward(weights, device=cuda, dtype=torch.float16)(pairs)[:, 0].cpu()
    apart = expected[:, None] - expected[None, :] > 4e-2
    assert bool(apart.any())
    assert bool((logits[:, None] > logits[None, :])[apart].all())


@pytest.mark.gpu
def test_threads_that_share_a_gpu_get_their_own_logits(cuda: torch.device) -> None:
    weights = _model("tinybert-l2")
    forward = CudaForward(weights, device=cuda, dtype=torch.float16)
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


@pytest.mark.gpu
def test_too_large_a_batch_is_out_of_memory_and_the_next_one_runs(cuda: torch.device) -> None:
    weights = _model("tinybert-l2")
    forward = CudaForward(weights, device=cuda, dtype=torch.float16)
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
