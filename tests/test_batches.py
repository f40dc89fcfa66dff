"""Batches as arithmetic: every pair once, inside the budget, in equal shares."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from rerank_plugins.cross_encoder.pairs import PackedPairs
from rerank_plugins.cross_encoder.scheduling.merge import even_batches


@given(
    lengths=st.lists(st.integers(1, 600), max_size=200),
    budget=st.integers(1, 5_000),
    n_workers=st.integers(1, 8),
)
def test_every_pair_is_in_one_batch_inside_the_budget(
    lengths: list[int], budget: int, n_workers: int
) -> None:
    array = np.array(lengths, np.int64)
    batches = even_batches(array, max_batch_tokens=budget, n_workers=n_workers)
    assert sorted(int(index) for batch in batches for index in batch) == list(range(len(lengths)))
    for batch in batches:
        assert array[batch].sum() <= budget or len(batch) == 1
    flat = [lengths[index] for batch in batches for index in batch]
    assert flat == sorted(lengths, reverse=True)


@given(st.integers(2, 8), st.integers(40, 400))
def test_workers_get_equal_shares(n_workers: int, n_pairs: int) -> None:
    batches = even_batches(np.full(n_pairs, 100), max_batch_tokens=100_000, n_workers=n_workers)
    sizes = [len(batch) for batch in batches]
    if n_pairs * 100 >= n_workers * 256:
        assert len(batches) == n_workers
    assert max(sizes) - min(sizes) <= 1


def test_no_pairs_make_no_batch() -> None:
    assert even_batches(np.empty(0, np.int64), max_batch_tokens=10, n_workers=2) == []


def test_selected_pairs_keep_their_tokens() -> None:
    packed = PackedPairs(
        ids=np.array([1, 2, 3, 4, 5, 6], np.int32),
        type_ids=np.array([0, 0, 1, 0, 1, 0], np.int32),
        lengths=np.array([3, 2, 1], np.int32),
    )
    chosen = packed.select(np.array([0, 2]))
    assert chosen.ids.tolist() == [1, 2, 3, 6]
    assert chosen.type_ids.tolist() == [0, 0, 1, 0]
    assert chosen.lengths.tolist() == [3, 1]
    assert packed.select(np.array([], np.int64)).n_pairs == 0
