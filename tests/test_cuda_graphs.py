"""Which CUDA graphs are captured, and the array that a batch travels in; no GPU is needed."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from random_bert import random_pairs

from rerank_plugins.cross_encoder.forward.cuda_graphs import FIRST_PAUSE, Graphs, Replay
from rerank_plugins.cross_encoder.forward.staging import BatchShape, even_lengths


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


def test_after_a_failed_capture_the_next_try_comes_later_each_time(
    caplog: pytest.LogCaptureFixture,
) -> None:
    tries: list[int] = []
    replays: list[bool] = []

    def capture(shape: BatchShape) -> Replay:
        tries.append(len(replays))
        if len(tries) < 4:
            raise torch.OutOfMemoryError("no room for a graph")
        return lambda host: host

    graphs = Graphs(capture)
    for _ in range(20 * FIRST_PAUSE):
        replays.append(graphs.get(_shape(1)) is not None)
    pauses = [later - earlier - 1 for earlier, later in itertools.pairwise(tries)]
    assert pauses == [FIRST_PAUSE, 2 * FIRST_PAUSE, 4 * FIRST_PAUSE]
    assert replays == [False] * tries[-1] + [True] * (len(replays) - tries[-1])
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 3
    assert "no room for a graph" in caplog.text


def test_graphs_that_were_captured_are_used_after_another_failed() -> None:
    def capture(shape: BatchShape) -> Replay:
        if shape.n_tokens == 2:
            raise torch.OutOfMemoryError("no room for a graph")
        return lambda host: host

    graphs = Graphs(capture)
    for n_tokens in (1, 1, 2, 2):
        graphs.get(_shape(n_tokens))
    assert graphs.get(_shape(1)) is not None
    assert graphs.get(_shape(2)) is None
