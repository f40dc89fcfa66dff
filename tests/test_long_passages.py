"""Truncation and windows in the queue, and very long passages among short calls."""

from __future__ import annotations

from fake_model import (
    LONG,
    SPECIAL,
    FakeReplica,
    check,
    fake_queue,
    job,
    rows_of,
)

from rerank_plugins.cross_encoder.pairs import PackedPairs


def test_the_best_window_wins_and_the_earliest_of_equal_ones() -> None:
    # Windows of 4 passage tokens, 3 apart: [1 9 1 1] [1 1 9 1] [9 1 1 1] and equal ends.
    queue = fake_queue(max_batch_tokens=8)
    text = "1 9 1 1 1 9 1"
    call = job("0", [text, "2 2 2 2 2 2 2", "5"], max_length=1 + SPECIAL + 4, windows=True)
    queue.submit(call)
    outcome = call.result(LONG)
    # [1 9 1 1]: 2+27+4+5 = 38; [1 1 9 1]: 2+3+36+5 = 46
    assert outcome.logits.tolist() == [46.0, 28.0, 10.0]
    assert outcome.window_starts.tolist() == [3, 0, 0]
    assert not outcome.truncated.any()
    queue.close()


def test_truncation_is_counted() -> None:
    queue = fake_queue()
    call = job("1 1", ["5 5 5", "5 5 5 5", "5 5 5 5 5"], max_length=2 + SPECIAL + 3)
    queue.submit(call)
    outcome = call.result(LONG)
    assert outcome.truncated.tolist() == [False, True, True]
    assert outcome.logits.tolist() == [3 + 15 + 20 + 25] * 3
    assert queue.stats().truncated == 2
    queue.close()


def test_a_call_that_comes_between_the_windows_of_a_long_passage_overtakes_them() -> None:
    order: list[bool] = []

    def step(pairs: PackedPairs) -> None:
        order.append(any(row[0] == 7 for row in rows_of(pairs)))
        if len(order) == 3:
            queue.submit(small)

    queue = fake_queue(FakeReplica(step), max_batch_tokens=208)
    small = job("7", ["5"])
    long = job("0", ["1 " * 20_000], max_length=1 + SPECIAL + 100, windows=True)
    queue.submit(long)
    check(small)
    long.result(LONG)
    assert len(order) > 100
    assert order.index(True) <= 4
    queue.close()
