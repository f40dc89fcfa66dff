"""Truncation and windows in the queue, and very long passages among short calls."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fake_model import (
    LONG,
    SPECIAL,
    FakeReplica,
    NumberEncoder,
    check,
    decision,
    fake_encoder,
    fake_queue,
    job,
    rows_of,
    settles,
)

from rerank_plugins.cross_encoder.pairs import PackedPairs, TokenIds
from rerank_plugins.cross_encoder.scheduling.plan import PART_CHARACTERS, Planner
from rerank_plugins.cross_encoder.scheduling.scoring_queue import ScoringQueue


def test_the_best_window_wins_and_the_earliest_of_equal_ones() -> None:
    # Windows of 4 passage tokens, 3 apart: [1 9 1 1] [1 1 9 1] [9 1 1 1] and equal ends.
    queue = fake_queue(max_batch_tokens=8)
    text = "1 9 1 1 1 9 1"
    call = job("0", [text, "2 2 2 2 2 2 2", "5"], max_length=1 + SPECIAL + 4, windows=True)
    queue.submit(call)
    outcome = call.result(LONG)
    # [1 9 1 1]: 2+27+4+5 = 38; [1 1 9 1]: 2+3+36+5 = 46
    assert outcome.decisions.tolist() == [46.0, 28.0, 10.0]
    assert outcome.window_starts.tolist() == [3, 0, 0]
    assert not outcome.truncated.any()
    queue.close()


def test_truncation_is_counted() -> None:
    queue = fake_queue()
    call = job("1 1", ["5 5 5", "5 5 5 5", "5 5 5 5 5"], max_length=2 + SPECIAL + 3)
    queue.submit(call)
    outcome = call.result(LONG)
    assert outcome.truncated.tolist() == [False, True, True]
    assert outcome.decisions.tolist() == [3 + 15 + 20 + 25] * 3
    assert queue.stats().truncated == 2
    queue.close()


class PartsEncoder(NumberEncoder):
    """Notes every text it reads; ``on_part`` is called after each long one."""

    def __init__(self, on_part: Callable[[int], object]) -> None:
        self.n_parts = 0
        self.longest = 0
        self._on_part = on_part

    def encode(self, texts: Sequence[str], limit: int | None = None) -> list[TokenIds]:
        self.longest = max([self.longest, *map(len, texts)])
        rows = super().encode(texts, limit)
        if any(len(text) > PART_CHARACTERS // 2 for text in texts):
            self.n_parts += 1
            self._on_part(self.n_parts)
        return rows


def test_a_new_call_goes_before_the_next_part_of_a_very_long_passage() -> None:
    n_parts_read: list[int] = []  # when the small call was computed
    n_windows: list[int] = []  # of the long one, in each batch

    def step(pairs: PackedPairs) -> None:
        rows = rows_of(pairs)
        if [7, 5] in rows:
            n_parts_read.append(texts.n_parts)
        n_windows.append(sum(row[0] == 0 for row in rows))

    def on_part(number: int) -> None:
        if number == 2:
            queue.submit(small)

    texts = PartsEncoder(on_part)
    planner = Planner(fake_encoder(texts), max_batch_tokens=4_000, n_workers=1)
    queue = ScoringQueue([FakeReplica(step)], planner, name="fake")
    words = [n % 10 for n in range(4 * PART_CHARACTERS // 2)]
    words[-3] = 10_000
    long = job("0", [" ".join(map(str, words)), "5"], max_length=1 + SPECIAL + 100, windows=True)
    small = job("7", ["5"])
    queue.submit(long)
    check(small)
    outcome = long.result(LONG)
    last = [0, *words[-100:]]
    assert outcome.decisions.tolist() == [float(decision(last)), 10.0]
    assert outcome.window_starts.tolist() == [len(words) - 100, 0]
    assert n_parts_read == [2]
    assert texts.n_parts >= 4
    assert texts.longest <= PART_CHARACTERS
    assert len(n_windows) > 100
    assert max(n_windows) <= 4_000 // 104
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


def test_a_call_that_is_cancelled_while_its_passage_is_read_stops_the_reading() -> None:
    def on_part(number: int) -> None:
        if number == 2:
            long.cancel()

    texts = PartsEncoder(on_part)
    planner = Planner(fake_encoder(texts), max_batch_tokens=4_000, n_workers=1)
    queue = ScoringQueue([FakeReplica()], planner, name="fake")
    long = job("0", ["1 " * (2 * PART_CHARACTERS)], max_length=104, windows=True)
    queue.submit(long)
    settles(lambda: long.cancelled)
    after = job("7", ["5"])
    queue.submit(after)
    check(after)
    assert texts.n_parts == 2
    settles(lambda: queue.stats().queued_pairs == 0)
    queue.close()
