"""The queue with a model that can be worked out by hand: who gets what, in which order."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from fake_model import (
    LONG,
    FakeReplica,
    Gate,
    NumberEncoder,
    Steps,
    check,
    fake_queue,
    job,
    passages,
    rows_of,
    settles,
    submit,
)

from rerank_plugins.cross_encoder.pairs import PackedPairs, TokenIds
from rerank_plugins.cross_encoder.scheduling.job import Job
from rerank_plugins.cross_encoder.scheduling.merge import RANGE_PAIRS
from rerank_plugins.errors import OverloadedError


@pytest.mark.parametrize("n_pairs", [0, 1, 2, 1000, 3000])
@pytest.mark.parametrize(
    "replicas",
    [
        lambda: [FakeReplica()],
        lambda: [FakeReplica(n_workers=3)],
        lambda: [FakeReplica(launches_async=True)],
        lambda: [FakeReplica(), FakeReplica(launches_async=True), FakeReplica(n_workers=2)],
    ],
    ids=["one", "three threads", "runs ahead", "several devices"],
)
def test_any_number_of_pairs_on_any_devices(
    n_pairs: int, replicas: Callable[[], list[FakeReplica]]
) -> None:
    queue = fake_queue(*replicas())
    one = job("7", passages(n_pairs))
    queue.submit(one)
    check(one)
    queue.close()


def test_waiting_calls_share_batches_and_get_their_own_scores() -> None:
    gate = Gate()
    replica = FakeReplica(gate)
    queue = fake_queue(replica, max_batch_tokens=1000)
    first = job("1", ["1"])
    queue.submit(first)
    assert gate.reached.acquire(timeout=LONG)
    calls = [job(str(n), passages(4, start=n)) for n in range(10)]
    submit(queue, *calls)
    gate.open()
    for call in [first, *calls]:
        check(call)
    assert [len(batch.lengths) for batch in replica.batches] == [1, 40]
    assert queue.stats().pairs == 41
    assert queue.stats().calls == 11
    queue.close()


def test_waiting_calls_keep_their_own_lengths_and_windows() -> None:
    def calls() -> list[Job]:
        texts = ["5 " * 9 + "7 " + "3 " * 9, "8", "1 2 3 4 5 6 7 8 9", ""]
        return [
            job(f"{query} 2", texts, max_length=max_length, windows=windows)
            for query, max_length in enumerate([9, 512, 12, 9, 6, 20])
            for windows in (False, True)
        ]

    def outcomes(calls: list[Job]) -> list[list[list[object]]]:
        found = [call.result(LONG) for call in calls]
        return [
            [each.logits.tolist(), each.truncated.tolist(), each.window_starts.tolist()]
            for each in found
        ]

    queue = fake_queue(max_batch_tokens=100)
    alone = []
    for call in calls():
        queue.submit(call)
        alone += outcomes([call])
    queue.close()

    gate = Gate()
    replica = FakeReplica(gate, n_workers=2)
    queue = fake_queue(replica, max_batch_tokens=100)
    queue.submit(job("1", ["1"]))
    assert gate.reached.acquire(timeout=LONG)
    together = calls()
    submit(queue, *together)
    gate.open()
    assert outcomes(together) == alone
    # One plan of the calls without windows and one of those with, so mixed batches.
    assert len(replica.batches) < len(together)
    queue.close()


def test_a_small_call_overtakes_a_bulk_call_and_both_end() -> None:
    steps = Steps()
    queue = fake_queue(FakeReplica(steps), max_batch_tokens=64)
    bulk = job("1", passages(400))
    queue.submit(bulk)
    assert steps.started.acquire(timeout=LONG)
    small = job("2", ["5"])
    queue.submit(small)
    for _ in range(1000):
        steps.go.release()
    check(small)
    check(bulk)
    assert "2" in steps.order[:3], (
        "the small call ran among the first after the one that was running"
    )
    assert len(steps.order) > 20
    queue.close()


def test_small_calls_that_come_while_another_runs_share_a_batch() -> None:
    steps = Steps()
    queue = fake_queue(FakeReplica(steps), max_batch_tokens=64)
    calls = [job("1", passages(20)), job("2", ["5"]), job("3", ["5"])]
    queue.submit(calls[0])
    assert steps.started.acquire(timeout=LONG)
    queue.submit(calls[1])
    steps.go.release()
    assert steps.started.acquire(timeout=LONG)
    queue.submit(calls[2])
    for _ in range(100):
        steps.go.release()
    for call in calls:
        check(call)
    assert "23" in steps.order
    queue.close()


def test_a_stream_of_small_calls_does_not_starve_a_bulk_call() -> None:
    """A fresh small call is put in before every batch, so there is always one waiting."""
    calls: list[Job] = []
    lengths: list[int] = []

    def step(pairs: PackedPairs) -> None:
        lengths.append(pairs.n_pairs)
        if not bulk.done and len(calls) < 5000:
            calls.append(job("2", ["5 5 5 5 5 5 5 5 5 5 5 5 5 5 5 5 5 5 5 5"] * 1))
            queue.submit(calls[-1])

    queue = fake_queue(FakeReplica(step), max_batch_tokens=64)
    bulk = job("1", passages(300))
    queue.submit(bulk)
    check(bulk)
    assert len(calls) < 5000
    for call in calls:
        check(call)
    queue.close()


def test_queued_pairs_return_to_zero() -> None:
    queue = fake_queue(FakeReplica(n_workers=2))
    calls = [job(str(n), passages(50)) for n in range(20)]
    submit(queue, *calls)
    for call in calls:
        check(call)
    settles(lambda: queue.stats().queued_pairs == 0)
    queue.close()


def test_a_full_queue_refuses_a_whole_call_and_takes_one_that_fits() -> None:
    gate = Gate()
    queue = fake_queue(FakeReplica(gate), max_queued_pairs=10)
    first = job("1", passages(8))
    queue.submit(first)
    with pytest.raises(OverloadedError, match=r"8 pairs wait for fake, and 3 more .*=10"):
        queue.submit(job("2", passages(3)))
    second = job("2", passages(2))
    queue.submit(second)
    assert queue.stats().queued_pairs == 10
    gate.open()
    check(first)
    check(second)
    assert queue.stats().calls == 2
    queue.close()


def test_an_empty_queue_takes_a_call_larger_than_the_bound() -> None:
    gate = Gate()
    queue = fake_queue(FakeReplica(gate), max_queued_pairs=10)
    large = job("1", passages(25))
    queue.submit(large)
    with pytest.raises(OverloadedError, match="25 pairs wait"):
        queue.submit(job("2", ["1"]))
    gate.open()
    check(large)
    settles(lambda: queue.stats().queued_pairs == 0)
    after = job("2", ["1"])
    queue.submit(after)
    check(after)
    queue.close()


def test_a_small_call_overtakes_a_bulk_call_under_a_bound_too() -> None:
    steps = Steps()
    queue = fake_queue(FakeReplica(steps), max_batch_tokens=64, max_queued_pairs=401)
    bulk, small = job("1", passages(400)), job("2", ["5"])
    queue.submit(bulk)
    assert steps.started.acquire(timeout=LONG)
    queue.submit(small)
    for _ in range(1000):
        steps.go.release()
    check(small)
    check(bulk)
    assert "2" in steps.order[:3]
    queue.close()


def test_a_cancelled_call_takes_its_pairs_out() -> None:
    gate = Gate()
    replica = FakeReplica(gate)
    queue = fake_queue(replica, max_queued_pairs=100)
    running = job("1", ["1"])
    queue.submit(running)
    assert gate.reached.acquire(timeout=LONG)
    waiting, next_one = job("2", passages(99)), job("3", passages(50))
    queue.submit(waiting)
    with pytest.raises(OverloadedError):
        queue.submit(next_one)
    assert waiting.cancel()
    assert queue.stats().queued_pairs == 1
    queue.submit(next_one)
    gate.open()
    check(running)
    check(next_one)
    assert {row[0] for batch in replica.batches for row in rows_of(batch)} == {1, 3}
    queue.close()


def test_a_long_call_is_tokenised_little_ahead_of_what_has_run() -> None:
    n_tokenised = n_run = most_ahead = 0

    class Counting(NumberEncoder):
        def encode(self, texts: Sequence[str], limit: int | None = None) -> list[TokenIds]:
            nonlocal n_tokenised
            n_tokenised += texts.count("5")
            return super().encode(texts, limit)

    def watch(pairs: PackedPairs) -> None:
        nonlocal n_run, most_ahead
        most_ahead = max(most_ahead, n_tokenised - n_run)
        n_run += pairs.n_pairs

    queue = fake_queue(FakeReplica(watch), texts=Counting(), max_batch_tokens=64)
    call = job("1", ["5"] * 20 * RANGE_PAIRS)
    queue.submit(call)
    check(call)
    assert n_tokenised == n_run == 20 * RANGE_PAIRS
    assert most_ahead <= 2 * RANGE_PAIRS
    queue.close()
